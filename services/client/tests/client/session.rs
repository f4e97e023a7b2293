//! One run of the built client against a server that keeps to a script.

use std::{
    collections::BTreeMap,
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use protocol::archive::Unpacker;
use tempfile::TempDir;

/// What the server does next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Reads these bytes, and no others.
    ClientSends(Vec<u8>),
    /// Reads `ZSEND <name> SIZE n`.
    ClientOffersArchive(Vec<u8>),
    /// Reads an archive of the size that was offered, which holds this.
    ClientSendsArchiveOf(Vec<u8>),
    /// Writes.
    ServerSends(Vec<u8>),
    /// Reads the end.
    ClientCloses,
    /// Lets go of the connection.
    ServerCloses,
    /// Says nothing until the client leaves.
    ServerIsSilent,
    /// Writes until the client leaves.
    ServerSendsForEver(Vec<u8>),
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
    /// Where it ran.
    pub(crate) folder: TempDir,
}

/// A client that is to run in a folder of its own.
#[derive(Debug)]
pub(crate) struct Session {
    folder: TempDir,
    environment: Vec<(&'static str, String)>,
}

impl Session {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), environment: Vec::new() }
    }

    pub(crate) fn with_file(self, name: &str, content: &[u8]) -> Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    pub(crate) fn with_variable(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs the client, which finds nobody.
    pub(crate) fn run(self, arguments: &[&str]) -> Ended {
        self.run_as(env!("CARGO_BIN_EXE_tentacle_client"), arguments)
    }

    /// Runs the client against a server that takes one connection; `PORT` in
    /// an argument stands for the server's.
    pub(crate) fn run_against(self, steps: Vec<Step>, arguments: &[&str]) -> Ended {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let arguments: Vec<_> = arguments.iter().map(|argument| argument.replace("PORT", &port)).collect();
        let server = thread::spawn(move || serve(&listener, steps));
        let ended = self.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        if let Err(why) = server.join().unwrap() {
            panic!("{why}; the client: {ended:?}");
        }
        ended
    }

    fn run_as(self, program: &str, arguments: &[&str]) -> Ended {
        let mut command = Command::new(program);
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TENTACLE_"))
        {
            command.env_remove(name);
        }
        let started = Instant::now();
        let output = command
            .args(arguments)
            .envs(self.environment)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        Ended {
            status: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            took: started.elapsed(),
            folder: self.folder,
        }
    }
}

impl Ended {
    /// Everything in the folder, by its path.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        collect(self.folder.path(), "", &mut files);
        files
    }

    /// Checks that it failed with one line that says so, and nothing else.
    #[track_caller]
    pub(crate) fn says(&self, parts: &[&str]) {
        assert_eq!(self.status, 1, "{self:?}");
        assert_eq!((self.stdout.as_str(), self.stderr.lines().count()), ("", 1), "{self:?}");
        assert!(self.stderr.starts_with("tentacle_client: error: "), "{self:?}");
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not in {:?}", self.stderr);
        }
    }

    /// Checks that it went well, in silence.
    #[track_caller]
    pub(crate) fn is_silent_success(&self) {
        assert_eq!((self.status, self.stdout.as_str(), self.stderr.as_str()), (0, "", ""), "{self:?}");
    }
}

fn collect(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        match entry.file_type().unwrap().is_dir() {
            true => collect(&entry.path(), &format!("{name}/"), files),
            false => drop(files.insert(name, fs::read(entry.path()).unwrap())),
        }
    }
}

fn serve(listener: &TcpListener, steps: Vec<Step>) -> Result<(), String> {
    let mut stream = accept(listener)?;
    stream.set_read_timeout(Some(LONG)).unwrap();
    let mut offered = 0;
    for step in steps {
        match step {
            Step::ClientSends(wanted) => {
                let sent = read(&mut stream, wanted.len())?;
                if sent != wanted {
                    return Err(format!("{:?} instead of {:?}", shown(&sent), shown(&wanted)));
                }
            }
            Step::ClientOffersArchive(name) => {
                let line = read_line(&mut stream)?;
                let start = format!("ZSEND <{}> SIZE ", shown(&name));
                let size = line.strip_prefix(&start).and_then(|size| size.parse().ok());
                offered = size.ok_or_else(|| format!("{line:?} instead of {start:?} and a size"))?;
            }
            Step::ClientSendsArchiveOf(content) => {
                let archive = read(&mut stream, offered)?;
                let (mut unpacker, mut unpacked) = (Unpacker::new(u64::MAX), Vec::new());
                unpacker.write(&archive, &mut unpacked).map_err(|error| error.to_string())?;
                unpacker.finish().map_err(|error| error.to_string())?;
                if unpacked != content {
                    return Err("the archive holds something else".to_owned());
                }
            }
            Step::ServerSends(bytes) => stream.write_all(&bytes).map_err(|error| error.to_string())?,
            Step::ClientCloses | Step::ServerIsSilent => {
                let mut rest = Vec::new();
                let read = stream.read_to_end(&mut rest);
                if !rest.is_empty()
                    || matches!(&read, Err(error) if error.kind() != ErrorKind::ConnectionReset)
                {
                    return Err(format!("{:?} ({read:?}) instead of the end", shown(&rest)));
                }
            }
            Step::ServerSendsForEver(bytes) => while stream.write_all(&bytes).is_ok() {},
            Step::ServerCloses => return Ok(()),
        }
    }
    Ok(())
}

fn accept(listener: &TcpListener) -> Result<TcpStream, String> {
    listener.set_nonblocking(true).unwrap();
    let started = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).unwrap();
                return Ok(stream);
            }
            Err(_) if started.elapsed() < LONG => thread::sleep(Duration::from_millis(2)),
            Err(_) => return Err("nobody connected".to_owned()),
        }
    }
}

fn read(stream: &mut TcpStream, count: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    stream
        .take(count as u64)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("{error} after {:?}, where {count} bytes were to come", shown(&bytes)))?;
    Ok(bytes)
}

fn read_line(stream: &mut TcpStream) -> Result<String, String> {
    let mut line = String::new();
    loop {
        match read(stream, 1)?.first() {
            Some(b'\n') => return Ok(line),
            Some(&byte) => line.push(char::from(byte)),
            None => return Err(format!("the end after {line:?}")),
        }
    }
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A guard against a test that hangs: nothing waits as long where all is well.
const LONG: Duration = Duration::from_secs(30);
