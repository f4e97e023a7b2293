//! What a process holds.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use serde_json::Value;
use tests::Process;

/// Of one process, at rest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vitals {
    /// Bytes that are its own and resident (`RssAnon` of proc(5)).
    pub(crate) memory: u64,
    /// Open descriptors.
    pub(crate) descriptors: usize,
    /// Tasks of its runtime.
    pub(crate) tasks: u64,
}

impl Vitals {
    pub(crate) fn of(process: &Process) -> Self {
        let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        let memory = line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024;
        let descriptors = fs::read_dir(format!("/proc/{}/fd", process.id())).unwrap().count();
        Self { memory, descriptors, tasks: tasks(process) }
    }

    /// Whether it holds no more than before. Memory may differ by pages that
    /// are not full.
    pub(crate) fn are_back_at(&self, before: &Self) -> bool {
        self.descriptors <= before.descriptors
            && self.tasks <= before.tasks
            && self.memory <= before.memory + before.memory / 8 + (1 << 20)
    }
}

fn tasks(process: &Process) -> u64 {
    let line = process.wait_for_line("where HTTP is answered", |line| line.contains("answering HTTP"));
    let line: Value = serde_json::from_str(&line).unwrap();
    let address: SocketAddr = line["address"].as_str().unwrap().parse().unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    let tasks = page.lines().find_map(|line| line.strip_prefix("tokio_alive_tasks")).unwrap();
    tasks.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64
}

/// Has the allocator of the GNU C Library give back what is freed, so that a
/// process's memory is what it holds. Else each thread keeps seven blocks of
/// each small size, and each of eight arenas a CPU what lies at its top: it
/// takes half an hour until they have, and hides what is not given back.
pub(crate) const NOTHING_KEPT: (&str, &str) = (
    "GLIBC_TUNABLES",
    "glibc.malloc.tcache_count=0:glibc.malloc.arena_max=1:glibc.malloc.trim_threshold=131072:glibc.malloc.mmap_threshold=131072",
);
