//! The memory that this process may use, and a share of it for buffers.

use std::fs;
use std::path::{Component, Path};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Bytes for buffers, shared by all that need large ones. Nobody waits for room: who comes while it is taken works
/// with small buffers. Cheap to clone; the clones share the same bytes.
#[derive(Clone, Debug)]
pub struct Buffers(Arc<AtomicUsize>);

/// Room for the buffers of one transfer; given back when it is dropped.
#[derive(Debug)]
pub struct Room {
    bytes: usize,

    /// Whose it is, where it is counted.
    of: Option<Buffers>,
}

// === impl Buffers ===

impl Buffers {
    /// A quarter of the memory of this process's control group; without a limit, as much as is asked for. Reads some
    /// files of the system.
    pub fn of_this_process() -> Buffers {
        let bytes = memory().map(|limit| limit / 4);
        if let Some(bytes) = bytes {
            tracing::info!(bytes, "the control group's memory bounds the buffers to a quarter of it");
        }
        Buffers::new(bytes.map_or(usize::MAX, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)))
    }

    /// So many bytes.
    pub fn new(bytes: usize) -> Buffers {
        Buffers(Arc::new(AtomicUsize::new(bytes)))
    }

    /// Bytes that nobody has taken.
    pub fn left(&self) -> usize {
        self.0.load(Relaxed)
    }

    /// Room for `most` bytes, or for [`LEAST`] where there is not as much left.
    pub fn take(&self, most: usize) -> Room {
        let taken =
            most > LEAST && self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(most)).is_ok();
        match taken {
            true => Room { bytes: most, of: Some(self.clone()) },
            false => Room { bytes: most.min(LEAST), of: None },
        }
    }
}

// === impl Room ===

impl Room {
    /// How much there is.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(of) = &self.of {
            of.0.fetch_add(self.bytes, Relaxed);
        }
    }
}

/// Bytes of memory that the control group of this process allows, with those above it; none where nothing is bounded,
/// or nothing is known.
pub fn memory() -> Option<u64> {
    memory_of(&fs::read_to_string("/proc/self/cgroup").ok()?, Path::new("/sys/fs/cgroup"))
}

/// Of the groups that `groups` (cgroups(7): `/proc/[pid]/cgroup`) names, in the hierarchies at `root`. A container may
/// see its own group at the root, and be told a path that it does not see: what is not there is passed over.
fn memory_of(groups: &str, root: &Path) -> Option<u64> {
    let limits = groups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let (hierarchy, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => return Vec::new(),
        };
        // `..` is how a group outside of the namespace is told.
        let inside = Path::new(path).components().all(|part| !matches!(part, Component::ParentDir));
        let groups = Path::new(if inside { path } else { "/" }).ancestors();
        let within = |group: &Path| hierarchy.join(group.strip_prefix("/").unwrap_or(group)).join(file);
        groups.filter_map(|group| fs::read_to_string(within(group)).ok()?.trim().parse().ok()).collect()
    });
    limits.filter(|&limit| limit < UNLIMITED).min()
}

/// The least room that is given, in bytes: two pieces that a large file can be moved by.
pub const LEAST: usize = 32 * 1024;

/// What the older control groups say where there is no limit is about 2^63.
const UNLIMITED: u64 = 1 << 60;

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn the_least_of_a_group_and_those_above_it_counts() {
        let files =
            [("memory.max", "max\n"), ("pods/memory.max", "1000\n"), ("pods/one/memory.max", "2000\n")];
        let root = tree(&files);
        assert_eq!(memory_of("0::/pods/one\n", root.path()), Some(1000));
        assert_eq!(memory_of("0::/", root.path()), None);
        assert_eq!(memory_of("0::/pods/elsewhere", root.path()), Some(1000));
        assert_eq!(memory_of("0::/../pods", root.path()), None);
    }

    #[test]
    fn a_container_of_version_1_sees_its_group_at_the_root() {
        let root = tree(&[("memory/memory.limit_in_bytes", "67108864\n"), ("memory.max", "1")]);
        let groups = "5:devices:/kubepods/pod1\n4:memory,cpu:/kubepods/pod1\n1:name=systemd:/\n";
        assert_eq!(memory_of(groups, root.path()), Some(64 << 20));
        let unlimited = tree(&[("memory/memory.limit_in_bytes", "9223372036854771712\n")]);
        assert_eq!(memory_of(groups, unlimited.path()), None);
        assert_eq!(memory_of("no group at all", unlimited.path()), None);
    }

    #[test]
    fn who_comes_while_the_room_is_taken_gets_little_of_it() {
        let buffers = Buffers::new(1000 * 1024);
        let first = buffers.take(600 * 1024);
        let second = buffers.take(600 * 1024);
        assert_eq!((first.bytes(), second.bytes()), (600 * 1024, LEAST));
        assert_eq!(buffers.take(5).bytes(), 5);
        drop(second);
        assert_eq!(buffers.left(), 400 * 1024);
        drop(first);
        assert_eq!(buffers.take(600 * 1024).bytes(), 600 * 1024);
        assert_eq!(buffers.left(), 1000 * 1024);
    }
}
