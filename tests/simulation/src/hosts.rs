//! The services, each on a host of its own.

use std::{cell::Cell, error::Error, net::Ipv4Addr, path::Path, sync::Arc, time::Duration};

use runtime::{
    drain::Drain,
    options::{Given, Layers, Program},
};
use tokio::{sync::Notify, task::spawn_local, time};
use tokio_util::task::TaskTracker;

use crate::{
    cutter::PORT,
    plan::{Host, Inspecting, Plan},
};

/// What is done to a host from outside.
#[derive(Default)]
pub(crate) struct Control {
    drain: Arc<Notify>,
    jump: Notify,
    by: Cell<Duration>,
    jumps: Cell<u32>,
    /// Sessions of the service that runs there.
    sessions: Cell<Option<TaskTracker>>,
}

impl Control {
    /// A drain that starts when it is told to, for a service that begins.
    fn drain(&self) -> Drain {
        let asked = Arc::clone(&self.drain);
        let drain = Drain::when(async move { asked.notified().await });
        self.sessions.set(Some(drain.tracker()));
        drain
    }

    /// Tells the service to end.
    pub(crate) fn end(&self) {
        self.drain.notify_waiters();
    }

    /// Has the host's clock go ahead.
    pub(crate) fn jump(&self, by: Duration) {
        self.by.set(self.by.get() + by);
        self.jump.notify_one();
    }

    /// How often its clock has.
    pub(crate) fn jumps(&self) -> u32 {
        self.jumps.get()
    }

    /// Whether a service runs and how many tasks it has to wait for.
    pub(crate) fn sessions(&self) -> usize {
        let sessions = self.sessions.take();
        let count = sessions.as_ref().map_or(0, TaskTracker::len);
        self.sessions.set(sessions);
        count
    }

    /// Moves the clock when it is told to; never ends.
    pub(crate) async fn keep_time(&self) {
        loop {
            self.jump.notified().await;
            // Here, and not where it was told to: something may have begun
            // in between.
            self.jumps.set(self.jumps.get() + 1);
            time::advance(self.by.take()).await;
        }
    }
}

/// A clock that is moved as its host is told, beside what runs there.
pub(crate) fn keep_time(control: &std::rc::Rc<Control>) {
    let control = std::rc::Rc::clone(control);
    spawn_local(async move { control.keep_time().await });
}

pub(crate) async fn receiver(plan: &Plan, folder: &Path, control: &Control) -> Result<(), Box<dyn Error>> {
    let mut arguments = service(plan);
    arguments.extend(["-s".into(), folder.to_str().unwrap().into(), "-I".into()]);
    arguments.extend(plan.password.iter().flat_map(|password| ["-x".into(), (*password).into()]));
    arguments.extend(plan.overwrite.then(|| "-o".into()));
    let options =
        receiver::Options::from_layers(&layers(&receiver::options::program("receiver"), &arguments))?;
    Ok(receiver::run_until(control.drain(), options, None).await?)
}

pub(crate) async fn proxy(
    plan: &Plan,
    inspecting: Inspecting,
    control: &Control,
) -> Result<(), Box<dyn Error>> {
    let mut arguments = service(plan);
    arguments.extend(["-b".into(), address(Host::Receiver).to_string(), "-g".into(), PORT.to_string()]);
    if matches!(inspecting, Inspecting::Yes) {
        arguments.push("--inspect".into());
    }
    let options = proxy::Options::from_layers(&layers(&proxy::options::program("proxy"), &arguments))?;
    Ok(proxy::run_until(control.drain(), options, None).await?)
}

pub(crate) async fn puller(plan: &Plan, folder: &Path, control: &Control) -> Result<(), Box<dyn Error>> {
    let source = format!("{}:{TO_SOURCE}", address(Host::Cutter));
    let mut arguments = vec!["--sync-address".into(), source];
    if plan.forward {
        arguments.extend(["--forward-to".into(), format!("{}:{ONWARD}", address(Host::Cutter))]);
        let password = plan.password.iter();
        arguments.extend(password.flat_map(|password| ["--forward-password".into(), (*password).into()]));
    } else {
        arguments.extend(["--incoming-dir".into(), folder.to_str().unwrap().to_owned()]);
    }
    arguments.extend(["--sync-mode".into(), plan.mode.into(), "--interval".into(), "1".into()]);
    arguments.extend([
        "--sync-timeout".into(),
        plan.patience.to_string(),
        "--sync-retries".into(),
        "0".into(),
    ]);
    arguments.extend(["--connections".into(), plan.connections.to_string()]);
    arguments.extend(["--drain-timeout".into(), DRAIN.as_secs().to_string()]);
    arguments.extend(plan.password.iter().flat_map(|password| ["--password".into(), (*password).into()]));
    let program = sync_puller::options::program("puller");
    let options = sync_puller::Options::from_layers(&layers(&program, &arguments))?;
    sync_puller::run_until(control.drain(), options).await?;
    Ok(())
}

fn service(plan: &Plan) -> Vec<String> {
    let (port, patience, drain) = (PORT.to_string(), plan.patience.to_string(), DRAIN.as_secs().to_string());
    ["-p", &port, "-t", &patience, "-r", "0", "--drain-timeout", &drain].map(String::from).into()
}

/// What arguments say, and nothing else.
pub(crate) fn layers(program: &Program, arguments: &[String]) -> Layers {
    match program.parse(arguments.iter().map(Into::into), []).unwrap() {
        Given::Layers(layers) => layers,
        Given::Text(text) => panic!("{text}"),
    }
}

/// Where a host is.
pub(crate) fn address(host: Host) -> Ipv4Addr {
    let last = match host {
        Host::Receiver => 10,
        Host::Proxy => 20,
        Host::Cutter => 30,
        Host::Puller => 40,
        Host::Centre => 45,
        Host::Agent(number) => 50 + u8::try_from(number).unwrap(),
    };
    Ipv4Addr::new(192, 168, 9, last)
}

/// Where the puller's source is, on the machine that passes connections on.
pub(crate) const TO_SOURCE: u16 = 41122;

/// Where the server at the centre is.
pub(crate) const ONWARD: u16 = 41123;

/// How long a drain may take.
pub(crate) const DRAIN: Duration = Duration::from_secs(5);
