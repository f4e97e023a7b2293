//! One large file in each direction.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::ensure;
use protocol::{Client, Deadline, FileName, Form, NameRules, Verb, piece_size};
use spool::{EntryName, Folder};
use tokio::net::TcpStream;
use transport::Stream;

use crate::{
    files::LARGE,
    row::{Bound, Row, Stage},
    server::Server,
    wire::Wire,
};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "large-send",
            what: "SEND of 500 MiB",
            bound: Bound::TimesDd(0.85),
            measure: |stage, programs| Ok(there_and_back(stage, programs)?.send),
        },
        Row {
            name: "large-receive",
            what: "RECV of 500 MiB, durable at the client",
            bound: Bound::TimesDd(0.85),
            measure: |stage, programs| Ok(there_and_back(stage, programs)?.receive),
        },
        Row {
            name: "large-memory",
            what: "most resident memory, 500 MiB each way",
            bound: Bound::Megabytes(20.0),
            measure: |stage, programs| Ok(there_and_back(stage, programs)?.memory),
        },
    ]
}

/// What one large file tells.
pub(crate) struct Large {
    /// MB a second.
    pub(crate) send: f64,
    pub(crate) receive: f64,
    /// MB.
    pub(crate) memory: f64,
}

pub(crate) fn there_and_back(stage: &Stage, programs: &Path) -> anyhow::Result<Large> {
    let send = |server: &Server| send(Wire::connect(server.address)?);
    measure(stage, programs, &[], send, async |server| Ok(TcpStream::connect(server).await?.into()))
}

/// The same over whatever connections are handed in.
pub(crate) fn measure(
    stage: &Stage,
    programs: &Path,
    options: &[&str],
    send: impl Fn(&Server) -> anyhow::Result<()>,
    connect: impl AsyncFn(SocketAddr) -> anyhow::Result<Stream>,
) -> anyhow::Result<Large> {
    let folder = stage.folder()?;
    let spool = folder.path().join("spool");
    let incoming = folder.path().join("incoming");
    std::fs::create_dir(&incoming)?;
    crate::disk::settle(folder.path())?;
    let server = Server::start(programs, &spool, &[&["-m", "600000000"], options].concat())?;
    // As the client has it: its socket and its timer are its own thread's.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;

    let began = Instant::now();
    send(&server)?;
    let send = began.elapsed().as_secs_f64();
    crate::disk::settle(folder.path())?;
    let began = Instant::now();
    runtime.block_on(async { receive(connect(server.address).await?, &incoming).await })?;
    let receive = began.elapsed().as_secs_f64();

    let found = std::fs::metadata(incoming.join(NAME))?.len();
    ensure!(found == LARGE, "{found} bytes came back of {LARGE}");
    let megabytes = LARGE as f64 / 1e6;
    Ok(Large { send: megabytes / send, receive: megabytes / receive, memory: server.memory("VmHWM")? })
}

/// By a thread of its own and the wire as it is, zeros as `dd` has them
/// from `/dev/zero`: the least that a client costs.
pub(crate) fn send<S: Read + Write>(mut wire: Wire<S>) -> anyhow::Result<()> {
    wire.send_zeros(NAME, LARGE)?;
    wire.quit()
}

async fn receive(stream: Stream, into: &Path) -> anyhow::Result<()> {
    let mut client = Client::new(stream, Deadline::new(Duration::from_secs(60), 0));
    let size = client.receive(&name()?, Form::Plain).await?;
    client.accept(Verb::Recv, size).await?;
    let mut draft = Folder::shared(into, "").draft();
    let mut piece = Vec::with_capacity(piece_size(size));
    while client.read_body(&mut piece).await? > 0 {
        if piece.len() == piece.capacity() {
            piece = draft.write(piece).await?;
        }
    }
    draft.commit(piece, &EntryName::new(NAME.as_bytes())?, false).await?;
    Ok(client.quit().await?)
}

fn name() -> anyhow::Result<FileName> {
    Ok(NameRules::default().check(NAME.as_bytes())?)
}

const NAME: &str = "large.data";
