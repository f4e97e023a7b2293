//! A Tentacle server as the peers' is, that tests can make misbehave: it
//! forgets a file with its last byte, and closes on what it does not know.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// The server; it ends with the test's process.
#[derive(Clone, Default)]
pub(crate) struct Peer(Arc<State>);

#[derive(Default)]
struct State {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    faults: Mutex<BTreeMap<String, Fault>>,
    /// Lines that a listing holds beside the files.
    extra: Mutex<Vec<String>>,
    password: Mutex<Option<String>>,
    commands: Mutex<Vec<String>>,
}

/// How a file misbehaves.
#[derive(Clone, PartialEq)]
pub(crate) enum Fault {
    /// Listed, and refused.
    Refused,
    /// More is announced than comes.
    Short,
    /// More comes than is announced.
    Long,
    /// Nothing comes after the announcement, and nothing closes.
    Silent,
    /// The connection ends behind the announcement.
    CloseAfterSize,
    /// The connection ends when the last byte is out: with `MV`, the file is
    /// gone by then.
    CloseAfterMove,
    /// Another content stands there after the first `RECV`.
    Overwritten(Vec<u8>),
}

impl Peer {
    /// Listens on a port of its own; the address to pull from.
    pub(crate) fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let peer = self.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let peer = peer.clone();
                thread::spawn(move || peer.serve(stream.unwrap()));
            }
        });
        address
    }

    pub(crate) fn with_password(self, digest: &str) -> Self {
        *self.0.password.lock().unwrap() = Some(digest.to_owned());
        self
    }

    pub(crate) fn put(&self, name: &str, content: impl Into<Vec<u8>>) {
        self.0.files.lock().unwrap().insert(name.to_owned(), content.into());
    }

    pub(crate) fn put_faulty(&self, name: &str, content: impl Into<Vec<u8>>, fault: Fault) {
        self.put(name, content);
        self.0.faults.lock().unwrap().insert(name.to_owned(), fault);
    }

    pub(crate) fn list_too(&self, line: &str) {
        self.0.extra.lock().unwrap().push(line.to_owned());
    }

    pub(crate) fn mend(&self, name: &str) {
        self.0.faults.lock().unwrap().remove(name);
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.0.files.lock().unwrap().keys().cloned().collect()
    }

    /// The commands so far, without bodies.
    pub(crate) fn commands(&self) -> Vec<String> {
        self.0.commands.lock().unwrap().clone()
    }

    fn serve(&self, stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        let mut welcome = self.0.password.lock().unwrap().is_none();
        let mut line = String::new();
        loop {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let command = line.trim_end().to_owned();
            self.0.commands.lock().unwrap().push(command.clone());
            let (verb, name) =
                command.split_once(" <").map_or((&command[..], ""), |(v, n)| (v, n.trim_end_matches('>')));
            let goes_on = match verb {
                _ if !welcome => {
                    let password = self.0.password.lock().unwrap().clone();
                    welcome = command.strip_prefix("PASS ") == password.as_deref();
                    welcome && stream.write_all(b"PASS OK\n").is_ok()
                }
                "LS" => self.list(name, &mut reader, &mut stream),
                "RECV" | "MV" => self.hand_out(verb, name, &mut reader, &mut stream),
                _ => false,
            };
            if !goes_on {
                return;
            }
        }
    }

    fn list(&self, argument: &str, reader: &mut BufReader<TcpStream>, stream: &mut TcpStream) -> bool {
        let folder = argument.strip_prefix('.').map(|ending| format!(".{ending}"));
        let mut list = ".\n..\n".to_owned();
        for name in self.names() {
            let in_folder = [".conf", ".md5"].iter().find(|ending| name.ends_with(**ending)).copied();
            if in_folder == folder.as_deref() {
                list += &format!("{name}\n");
            }
        }
        if folder.is_none() {
            list += &self.0.extra.lock().unwrap().iter().map(|line| format!("{line}\n")).collect::<String>();
        }
        let _ = writeln!(stream, "LS SIZE {}", list.len());
        let mut answer = String::new();
        let _ = reader.read_line(&mut answer);
        stream.write_all(list.as_bytes()).is_ok()
    }

    fn hand_out(
        &self,
        verb: &str,
        name: &str,
        reader: &mut BufReader<TcpStream>,
        stream: &mut TcpStream,
    ) -> bool {
        let content = self.0.files.lock().unwrap().get(name).cloned();
        let fault = self.0.faults.lock().unwrap().get(name).cloned();
        let Some(content) = content.filter(|_| fault != Some(Fault::Refused)) else {
            let why = if verb == "RECV" { " (file does not exist)" } else { "" };
            return writeln!(stream, "{verb} ERR{why}").is_ok();
        };
        let _ = match &fault {
            Some(Fault::Short) => writeln!(stream, "{verb} SIZE {}", content.len() + 5),
            Some(Fault::Long) => writeln!(stream, "{verb} SIZE {}", content.len() - 2),
            _ => writeln!(stream, "{verb} SIZE {}", content.len()),
        };
        let mut answer = String::new();
        let _ = reader.read_line(&mut answer);
        if answer != format!("{verb} OK\n") {
            return true;
        }
        if fault == Some(Fault::CloseAfterSize) {
            return false;
        }
        if fault == Some(Fault::Silent) {
            let _ = reader.read(&mut [0]);
            return false;
        }
        let _ = stream.write_all(&content);
        match &fault {
            Some(Fault::Overwritten(newer)) if verb == "RECV" => {
                self.put(name, newer.clone());
                self.mend(name);
            }
            Some(Fault::Short) => return false,
            Some(Fault::Long) => {}
            _ if verb == "MV" => {
                self.0.files.lock().unwrap().remove(name);
            }
            _ => {}
        }
        !(verb == "MV" && fault == Some(Fault::CloseAfterMove))
    }
}
