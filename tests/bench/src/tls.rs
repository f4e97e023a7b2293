//! The same over TLS, beside plain TCP.

use std::{net::SocketAddr, path::Path, process::Command, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use rustls::{ClientConfig, ClientConnection, StreamOwned, client::Resumption};
use tempfile::TempDir;
use tokio::net::TcpStream;
use transport::tls::{Authorities, ServerCheck, client_config};

use crate::{
    files, large,
    row::{Bound, Row, Stage},
    server::Server,
    small,
    wire::{self, Wire},
};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "tls-one",
            what: "as one, over TLS, a full handshake each",
            bound: Bound::BesidePlain(small::one_file_a_connection),
            measure: |stage, programs| one_file_a_connection(stage, programs, Resumption::disabled()),
        },
        Row {
            name: "tls-resumed",
            what: "as one, over TLS, resumed handshakes",
            bound: Bound::BesidePlain(small::one_file_a_connection),
            measure: |stage, programs| {
                one_file_a_connection(stage, programs, Resumption::in_memory_sessions(256))
            },
        },
        Row {
            name: "tls-send",
            what: "SEND of 500 MiB over TLS",
            bound: Bound::TimesPlain(0.7, |stage, programs| Ok(large::there_and_back(stage, programs)?.send)),
            measure: |stage, programs| Ok(there_and_back(stage, programs)?.send),
        },
        Row {
            name: "tls-receive",
            what: "RECV of 500 MiB over TLS, durable at the client",
            bound: Bound::TimesPlain(0.7, |stage, programs| {
                Ok(large::there_and_back(stage, programs)?.receive)
            }),
            measure: |stage, programs| Ok(there_and_back(stage, programs)?.receive),
        },
    ]
}

fn one_file_a_connection(stage: &Stage, programs: &Path, resumption: Resumption) -> anyhow::Result<f64> {
    let spool = stage.folder()?;
    let certificate = Certificate::make(stage)?;
    let server = Server::start(programs, spool.path(), &certificate.options())?;
    let mut config = ClientConfig::clone(&*certificate.trusting()?);
    config.resumption = resumption;
    let config = Arc::new(config);
    small::send_to(&server, stage, spool.path(), &|server, numbers| {
        for at in numbers {
            let mut wire = connect(server, &config)?;
            wire.send(&files::name(at), &files::contents(at))?;
            wire.quit()?;
        }
        Ok(())
    })
}

fn there_and_back(stage: &Stage, programs: &Path) -> anyhow::Result<large::Large> {
    let certificate = Certificate::make(stage)?;
    let config = certificate.trusting()?;
    let send = |server: &Server| large::send(connect(server.address, &config)?);
    large::measure(stage, programs, &certificate.options(), send, async |server| {
        let stream = TcpStream::connect(server).await?;
        let host = server.ip().to_string();
        Ok(transport::tls::connect(stream, Arc::clone(&config), &host, Duration::from_secs(10)).await?)
    })
}

type Encrypted = StreamOwned<ClientConnection, std::net::TcpStream>;

fn connect(server: SocketAddr, config: &Arc<ClientConfig>) -> anyhow::Result<Wire<Encrypted>> {
    let mut tls = ClientConnection::new(Arc::clone(config), server.ip().into())?;
    tls.set_buffer_limit(Some(256 * 1024));
    Ok(Wire::over(StreamOwned::new(tls, wire::dial(server)?)))
}

/// A server's certificate for this machine, and the authority that it is of.
struct Certificate {
    folder: TempDir,
    /// Certificate and key.
    paths: [String; 2],
}

impl Certificate {
    fn make(stage: &Stage) -> anyhow::Result<Self> {
        let folder = stage.folder()?;
        for command in COMMANDS {
            let made = Command::new("openssl").args(command.split(' ')).current_dir(folder.path()).output();
            let made = made.context("openssl cannot be run")?;
            ensure!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
        }
        let paths = ["cert.pem", "key.pem"];
        let paths = paths.map(|name| folder.path().join(name).to_string_lossy().into_owned());
        Ok(Self { folder, paths })
    }

    /// Of a server that shows it.
    fn options(&self) -> [&str; 4] {
        ["-e", &self.paths[0], "-k", &self.paths[1]]
    }

    /// Of a client that checks it.
    fn trusting(&self) -> anyhow::Result<Arc<ClientConfig>> {
        let authorities = Some(Authorities::load(&self.folder.path().join("ca.pem").into())?);
        Ok(client_config(ServerCheck { authorities, ..ServerCheck::default() }, None))
    }
}

const COMMANDS: [&str; 3] = [
    "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ca",
    "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.csr -subj /CN=bench -addext subjectAltName=IP:127.0.0.1",
    "x509 -req -in cert.csr -CA ca.pem -CAkey ca.key -CAcreateserial -copy_extensions copy -out cert.pem -days 2",
];
