//! Two thousand sites, pulled by one sync-puller.
//!
//! Their buffers are all in here, at addresses of their own behind one port:
//! two thousand receivers would be measured instead.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    fs,
    net::{IpAddr, Ipv4Addr},
    ops::Range,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};

use crate::{
    files,
    row::{Bound, Row, Stage},
    server::{Server, program},
};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "sites",
            what: "2 000 sites of 5 files of 4 kB, emptied",
            bound: Bound::Seconds(30.0),
            measure: empty,
        },
        Row {
            name: "sites-memory",
            what: "resident memory with 2 000 idle sites",
            bound: Bound::Megabytes(200.0),
            measure: |_, programs| Ok(idle(programs)?.megabytes),
        },
        Row {
            name: "sites-cpu",
            what: "of one core, with 2 000 idle sites every 10 s",
            bound: Bound::Percent(5.0),
            measure: |_, programs| Ok(idle(programs)?.percent),
        },
    ]
}

fn empty(stage: &Stage, programs: &Path) -> anyhow::Result<f64> {
    let files = SITES * stage.files(FILES);
    let buffers = Buffers::start(files)?;
    let folder = stage.folder()?;
    let began = Instant::now();
    let status = buffers.puller(programs, folder.path())?.arg("--once").status()?;
    let seconds = began.elapsed().as_secs_f64();
    ensure!(status.success(), "tentacle-sync-puller ended with {status}");
    files::check(&folder.path().join("incoming"), 0..files)?;
    ensure!(buffers.left() == 0, "{} files are still at their sites", buffers.left());
    Ok(seconds)
}

/// What idle sites cost.
struct Idle {
    megabytes: f64,
    percent: f64,
}

fn idle(programs: &Path) -> anyhow::Result<Idle> {
    let buffers = Buffers::start(0)?;
    let folder = tempfile::tempdir()?;
    let own = (Ipv4Addr::LOCALHOST, buffers.port).into();
    let mut puller = Server::spawn_only(&mut buffers.puller(programs, folder.path())?, own)?;
    let listed = |rounds: usize| buffers.shared.listings.load(Relaxed) >= rounds * SITES;
    // Once to know them, once as ever after.
    puller.until(Duration::from_secs(60), || listed(2))?;
    let (before, began) = (puller.processor_seconds()?, Instant::now());
    sleep(WATCHED);
    let percent = (puller.processor_seconds()? - before) / began.elapsed().as_secs_f64() * 100.0;
    ensure!(listed(4), "the sites were not listed while they were watched");
    Ok(Idle { megabytes: puller.memory("VmRSS")?, percent })
}

/// All buffers.
struct Buffers {
    shared: Arc<Shared>,
    port: u16,
    _runtime: Runtime,
}

struct Shared {
    /// By address: the numbers of the files that are there.
    files: Mutex<HashMap<IpAddr, BTreeMap<String, usize>>>,
    listings: AtomicUsize,
}

impl Buffers {
    /// Spreads so many files over the sites.
    fn start(files: usize) -> anyhow::Result<Self> {
        let each = files / SITES;
        let of = |site: usize| -> Range<usize> { site * each..(site + 1) * each };
        let held = |site| of(site).map(|at| (files::name(at), at)).collect();
        let files = (0..SITES).map(|site| (address(site), held(site))).collect();
        let shared = Arc::new(Shared { files: Mutex::new(files), listings: AtomicUsize::new(0) });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
        let port = listener.local_addr()?.port();
        let serving = Arc::clone(&shared);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                // A session that breaks keeps its files: the row tells.
                tokio::spawn(async move { shared.serve(stream).await });
            }
        });
        Ok(Self { shared, port, _runtime: runtime })
    }

    /// A puller of all of them.
    fn puller(&self, programs: &Path, folder: &Path) -> anyhow::Result<Command> {
        let (config, incoming) = (folder.join("sources.yaml"), folder.join("incoming"));
        fs::create_dir(&incoming)?;
        let mut sources = String::from("sources:\n");
        for site in 0..SITES {
            writeln!(sources, "  - address: {}:{}", address(site), self.port)?;
        }
        fs::write(&config, sources)?;
        let mut puller = program(programs, "tentacle-sync-puller")?;
        puller.arg("--config").arg(config).arg("--incoming-dir").arg(incoming);
        puller.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(puller)
    }

    fn left(&self) -> usize {
        self.shared.files.lock().unwrap_or_else(PoisonError::into_inner).values().map(BTreeMap::len).sum()
    }
}

impl Shared {
    async fn serve(&self, stream: TcpStream) -> anyhow::Result<()> {
        stream.set_nodelay(true)?;
        let site = stream.local_addr()?.ip();
        let (mut stream, mut line) = (BufReader::new(stream), String::new());
        // It leaves with its reader's next command.
        let mut offered = None;
        loop {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            if let Some(name) = offered.take() {
                self.with(site, |files| files.remove(&name));
            }
            match line.trim_end().split_once(' ').unwrap_or((line.trim_end(), "")) {
                ("FEATURES", _) => stream.write_all(b"FEATURES OK two-phase-mv\n").await?,
                ("LS", _) => {
                    let names = self.with(site, |files| {
                        files.keys().fold(String::from(".\n..\n"), |list, name| list + name + "\n")
                    });
                    answer(&mut stream, "LS", names.as_bytes()).await?;
                    self.listings.fetch_add(1, Relaxed);
                }
                (verb @ ("MV" | "RECV"), name) => {
                    let name = name.trim_matches(['<', '>']).to_owned();
                    match self.with(site, |files| files.get(&name).copied()) {
                        Some(at) => {
                            answer(&mut stream, verb, &files::contents(at)).await?;
                            offered = (verb == "MV").then_some(name);
                        }
                        None if verb == "MV" => stream.write_all(b"MV ERR\n").await?,
                        None => stream.write_all(b"RECV ERR (file does not exist)\n").await?,
                    }
                }
                ("QUIT", _) => return Ok(()),
                _ => bail!("{line:?}: is not known here"),
            }
        }
    }

    fn with<T>(&self, site: IpAddr, work: impl FnOnce(&mut BTreeMap<String, usize>) -> T) -> T {
        work(self.files.lock().unwrap_or_else(PoisonError::into_inner).entry(site).or_default())
    }
}

/// Announces a body, and sends it when it is wanted.
async fn answer(stream: &mut BufReader<TcpStream>, verb: &str, body: &[u8]) -> anyhow::Result<()> {
    stream.write_all(format!("{verb} SIZE {}\n", body.len()).as_bytes()).await?;
    let mut agreed = vec![0; format!("{verb} OK\n").len()];
    stream.read_exact(&mut agreed).await?;
    ensure!(
        agreed == format!("{verb} OK\n").as_bytes(),
        "{:?}: is no agreement",
        String::from_utf8_lossy(&agreed)
    );
    Ok(stream.write_all(body).await?)
}

fn address(site: usize) -> IpAddr {
    let [.., high, low] = (site as u32 + 1).to_be_bytes();
    Ipv4Addr::new(127, 1, high, low).into()
}

const SITES: usize = 2000;

/// At each site.
const FILES: usize = 5;

/// Three rounds.
const WATCHED: Duration = Duration::from_secs(30);
