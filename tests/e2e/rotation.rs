//! Certificates and passwords that change while the service runs, as
//! Kubernetes changes a mounted secret: by swapping a link.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use protocol::{Client, Deadline, Form, NameRules};
use tempfile::TempDir;
use tests::{Key, Pki, Process, Receiver, eventually, program_command, run};
use transport::tls::{Authorities, ServerCheck, client_config};

/// A mounted secret: files that are links through `..data` to the folder of
/// the day.
struct Secret {
    folder: TempDir,
    days: AtomicUsize,
}

impl Secret {
    fn new() -> Self {
        let secret = Self { folder: TempDir::new().unwrap(), days: AtomicUsize::new(0) };
        let ca = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -subj /CN=ca -days 90";
        secret.openssl(ca, secret.folder.path());
        secret.swap(90);
        for name in ["cert.pem", "key.pem", "password"] {
            symlink(Path::new("..data").join(name), secret.path(name)).unwrap();
        }
        secret
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn openssl(&self, command: &str, folder: &Path) {
        let done = Command::new("openssl").args(command.split(' ')).current_dir(folder).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// Makes the folder of the next day, and has the link lead there. The
    /// certificate's serial number is the day's.
    fn swap(&self, valid_days: u32) -> usize {
        let (day, name, folder) = self.make(valid_days);
        self.lead_to(&name);
        drop(folder);
        day
    }

    fn make(&self, valid_days: u32) -> (usize, String, PathBuf) {
        let day = self.days.fetch_add(1, Relaxed) + 1;
        let name = format!("..day{day}");
        let folder = self.path(&name);
        fs::create_dir(&folder).unwrap();
        self.openssl(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out web.csr -subj /CN=server -addext subjectAltName=DNS:server",
            &folder,
        );
        self.openssl(
            &format!("x509 -req -in web.csr -CA ../ca.pem -CAkey ../ca.key -set_serial {day} -copy_extensions copy -out cert.pem -days {valid_days}"),
            &folder,
        );
        fs::write(folder.join("password"), format!("password{day}\n")).unwrap();
        (day, name, folder)
    }

    fn lead_to(&self, name: &str) {
        let new = self.path("..data_tmp");
        symlink(name, &new).unwrap();
        fs::rename(new, self.path("..data")).unwrap();
    }

    fn server(&self, more: &[&str]) -> Receiver {
        let files = ["-e".into(), self.path("cert.pem"), "-k".into(), self.path("key.pem")];
        Receiver::builder().args(files).args(more).start()
    }
}

/// The serial number of the certificate that a new connection is shown.
fn shown(server: &Receiver) -> usize {
    let script = format!(
        "openssl s_client -connect {} </dev/null 2>/dev/null | openssl x509 -noout -serial",
        server.address()
    );
    let ended = Command::new("sh").args(["-c", &script]).stderr(Stdio::null()).output().unwrap();
    let text = String::from_utf8(ended.stdout).unwrap();
    usize::from_str_radix(text.trim().trim_start_matches("serial="), 16).unwrap_or(0)
}

#[test]
fn a_new_certificate_is_shown_within_two_seconds_and_running_connections_go_on() {
    let secret = Secret::new();
    let server = secret.server(&[]);
    assert_eq!(shown(&server), 1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (address, config) = (server.address(), trusting(&secret));
    let mut running = runtime.block_on(connect(address, Arc::clone(&config))).unwrap();
    let day = secret.swap(90);
    let began = Instant::now();
    eventually("the new certificate is shown", || shown(&server) == day);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    runtime.block_on(store(&mut running, "a.data")).unwrap();
    assert_eq!(server.files()["a.data"], b"hello");
}

#[test]
fn a_broken_new_file_keeps_the_old_one_in_use() {
    let secret = Secret::new();
    let server = secret.server(&[]);
    let (_, name, folder) = secret.make(90);
    fs::write(folder.join("key.pem"), "no key\n").unwrap();
    secret.lead_to(&name);
    let line = server.wait_for_log("the old one stays in use");
    assert!(line["level"] == "ERROR" && line["error"].as_str().unwrap().contains("holds no key"), "{line}");
    assert_eq!(shown(&server), 1);
    let day = secret.swap(90);
    eventually("a good one is taken after it", || shown(&server) == day);
}

#[test]
fn what_expires_soon_is_said_when_it_is_read() {
    let secret = Secret::new();
    let server = secret.server(&[]);
    secret.swap(20);
    let line = server.wait_for_log("certificate expires soon");
    assert!(line["file"].as_str().unwrap().ends_with("cert.pem"), "{line}");
    assert!(line["days"] == 19 || line["days"] == 20, "{line}");
    assert_eq!(line["subject"], "CN=server");
}

#[test]
fn what_all_sources_share_is_said_once() {
    let secret = Secret::new();
    secret.openssl(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout old.key -out old.pem -subj /CN=old -days 20",
        secret.folder.path(),
    );
    let bundle = ["old.pem", "cert.pem"].map(|name| fs::read_to_string(secret.path(name)).unwrap());
    fs::write(secret.path("bundle.pem"), bundle.concat()).unwrap();
    let mut puller = program_command("tentacle-sync-puller");
    puller.args(["--once", "--sync-timeout", "1", "--sync-retries", "0", "--sync-address"]);
    puller.args(["127.0.0.1:1,127.0.0.1:2,127.0.0.1:3", "--sync-ca"]).arg(secret.path("bundle.pem"));
    puller.arg("--incoming-dir").arg(secret.folder.path());
    let said = run(puller).stderr;
    assert_eq!(said.matches("certificate expires soon").count(), 1, "{said}");
    assert_eq!(said.matches("certificate 2 can vouch for nobody").count(), 1, "{said}");
}

#[test]
fn a_server_whose_certificate_ran_out_is_refused_though_its_sessions_are_resumed() {
    let pki = Pki::empty();
    pki.self_signed("ca", Key::P256, "ca");
    pki.v1("server", Key::P256, "server", "ca");
    let date = Command::new("date").args(["-u", "-d", "5 seconds", "+%Y%m%d%H%M%SZ"]).output().unwrap();
    pki.openssl(&format!(
        "ca -batch -notext -config config -cert ca.pem -keyfile ca.key -in server.csr -out server.pem \
         -startdate 20200101000000Z -enddate {}",
        String::from_utf8(date.stdout).unwrap()
    ));
    let server = Receiver::builder().args(pki.identity("server")).args(["-I"]).start();
    let mut puller = program_command("tentacle-sync-puller");
    puller.args(["--sync-address", &server.address().to_string(), "--sync-ca", &pki.certificate("ca")]);
    puller.args(["--interval", "1", "--incoming-dir"]).arg(pki.folder());
    let puller = Process::spawn(puller);
    puller.wait_for_line("its first round", |line| line.contains("the source is known now"));
    puller.wait_for_line("the end of the certificate", |line| line.contains("expired on"));
}

#[test]
fn a_password_in_a_file_is_read_again() {
    let secret = Secret::new();
    let file = secret.path("password");
    let server = Receiver::builder().args(["--password-file".into(), file]).start();
    let send = |password: &str| {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("a.data"), "hello").unwrap();
        let mut client = program_command("tentacle_client");
        client.args(["-a", &server.address().ip().to_string(), "-x", password]);
        run({
            client.arg(folder.path().join("a.data"));
            client
        })
        .status
        .success()
    };
    assert!(send("password1"));
    secret.swap(90);
    server.wait_for_log("password read again");
    fs::remove_file(server.spool().join("a.data")).unwrap();
    assert!(send("password2") && !send("password1"));
}

#[test]
fn clients_of_an_authority_that_is_gone_are_refused() {
    let (old, new) = (Secret::new(), Secret::new());
    let trusted = old.path("trusted.pem");
    fs::copy(old.path("ca.pem"), &trusted).unwrap();
    let server = old.server(&["-f", trusted.to_str().unwrap()]);
    let send = |client: &Secret, name: &str| {
        fs::write(client.path(name), "hello").unwrap();
        let mut command = program_command("tentacle_client");
        command.args(["-a", &server.address().ip().to_string(), "-e"]).arg(client.path("cert.pem"));
        command.arg("-k").arg(client.path("key.pem")).arg(client.path(name));
        run(command).status.success()
    };
    assert!(send(&old, "a.data") && !send(&new, "b.data"));
    let next = old.path("next.pem");
    fs::copy(new.path("ca.pem"), &next).unwrap();
    fs::rename(next, &trusted).unwrap();
    server.wait_for_log("certificate read again");
    assert!(send(&new, "b.data") && !send(&old, "c.data"));
}

/// How long: `TENTACLE_ROTATION_SECONDS`.
#[test]
fn no_transfer_fails_while_certificates_change() {
    let secret = Secret::new();
    let server = secret.server(&[]);
    let seconds =
        std::env::var("TENTACLE_ROTATION_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(8);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (address, config) = (server.address(), trusting(&secret));
    let over = AtomicBool::new(false);
    let swaps = std::thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            let mut swaps = 0;
            while !over.load(Relaxed) {
                std::thread::sleep(SWAP_EVERY);
                secret.swap(90);
                swaps += 1;
            }
            swaps
        });
        let ended = runtime.block_on(async {
            let (began, mut sent, mut ends) = (Instant::now(), 0, tokio::task::JoinSet::new());
            let mut tick = tokio::time::interval(Duration::from_secs(1) / RATE);
            while began.elapsed() < Duration::from_secs(seconds) {
                tick.tick().await;
                let config = Arc::clone(&config);
                let name = format!("{sent}.data");
                ends.spawn(async move {
                    let mut client = connect(address, config).await?;
                    store(&mut client, &name).await?;
                    client.quit().await.map_err(|error| error.to_string())
                });
                sent += 1;
            }
            (sent, began.elapsed(), ends.join_all().await)
        });
        over.store(true, Relaxed);
        let (sent, took, ends) = ended;
        let failures: Vec<_> = ends.into_iter().filter_map(Result::err).collect();
        println!(
            "{sent} transfers in {:.1} s ({:.0} a second), {} failures",
            took.as_secs_f64(),
            sent as f64 / took.as_secs_f64(),
            failures.len()
        );
        assert!(failures.is_empty(), "{:?}", &failures[..failures.len().min(5)]);
        assert_eq!(server.files().len(), sent);
        assert!(sent as u64 >= seconds * u64::from(RATE) * 9 / 10, "the rate was not reached: {sent}");
        swapping.join().unwrap()
    });
    println!("{swaps} swaps");
    let read = server.log().iter().filter(|line| line["message"] == "certificate read again").count();
    assert!(read >= 1 && read <= swaps, "{read} of {swaps}");
}

fn trusting(secret: &Secret) -> Arc<rustls::ClientConfig> {
    let authorities = Some(Authorities::load(&secret.path("ca.pem").into()).unwrap());
    client_config(ServerCheck { authorities, ..ServerCheck::default() }, None)
}

async fn connect(
    address: std::net::SocketAddr,
    config: Arc<rustls::ClientConfig>,
) -> Result<Client<transport::Stream>, String> {
    let patience = Duration::from_secs(10);
    let stream = tokio::net::TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let stream = transport::tls::connect(stream, config, "server", patience).await;
    Ok(Client::new(stream.map_err(|error| error.to_string())?, Deadline::new(patience, 0)))
}

async fn store(client: &mut Client<transport::Stream>, name: &str) -> Result<(), String> {
    let name = NameRules::default().check(name.as_bytes()).unwrap();
    client.send(&name, 5, Form::Plain, &mut &b"hello"[..]).await.map_err(|error| error.to_string())
}

/// Transfers a second.
const RATE: u32 = 200;

const SWAP_EVERY: Duration = Duration::from_secs(3);
