//! An agent: sends its files with the client, again and again until each has
//! its receipt.

use std::{
    cell::{Cell, RefCell},
    fs,
    path::PathBuf,
    rc::Rc,
    time::Duration,
};

use client::TransferError;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    hosts::{Control, layers},
    ledger::Ledger,
    plan::{AgentPlan, Plan, Wrong},
};

/// What it has on its disk.
pub(crate) struct Agent {
    pub(crate) number: usize,
    pub(crate) plan: AgentPlan,
    pub(crate) folder: PathBuf,
    pub(crate) ledger: Rc<RefCell<Ledger>>,
    /// Jobs that are done.
    done: Cell<usize>,
    /// Files of the job under way that have their receipt.
    has_receipt: RefCell<Vec<String>>,
    server: String,
    arguments: Vec<String>,
    patience: Duration,
    wrong: Option<Wrong>,
}

impl Agent {
    pub(crate) fn new(
        number: usize,
        plan: &Plan,
        folder: PathBuf,
        server: String,
        ledger: Rc<RefCell<Ledger>>,
    ) -> Rc<Self> {
        fs::create_dir(&folder).unwrap();
        let own = plan.agents[number].clone();
        let mut arguments = vec!["-a".into(), server.clone(), "-q".into()];
        arguments.extend(["-t".into(), plan.patience.to_string(), "-r".into(), "0".into()]);
        arguments.extend(plan.password.iter().flat_map(|password| ["-x".into(), (*password).into()]));
        arguments.extend(own.zip.then(|| "-z".into()));
        let patience = Duration::from_secs(plan.patience);
        let (done, has_receipt) = Default::default();
        Rc::new(Self {
            number,
            plan: own,
            folder,
            ledger,
            done,
            has_receipt,
            server,
            arguments,
            patience,
            wrong: plan.wrong,
        })
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done.get() == self.plan.jobs.len()
    }

    /// Goes on where it was, when it is started again.
    pub(crate) async fn run(self: Rc<Self>, control: Rc<Control>) {
        while let Some(job) = self.plan.jobs.get(self.done.get()) {
            sleep(job.after).await;
            loop {
                let left: Vec<_> =
                    job.files.iter().filter(|(name, _)| !self.has_receipt.borrow().contains(name)).collect();
                if left.is_empty() {
                    break;
                }
                self.send(&left, &control).await;
                sleep(PAUSE).await;
            }
            self.has_receipt.borrow_mut().clear();
            self.done.set(self.done.get() + 1);
        }
    }

    /// Sends all of these over one connection.
    async fn send(&self, files: &[&(String, usize)], control: &Control) {
        let mut sendings = Vec::new();
        let mut arguments = self.arguments.clone();
        for (name, size) in files {
            // One job may name a file twice.
            if sendings.iter().any(|(_, other): &(usize, &String)| *other == name) {
                continue;
            }
            let (id, content) = self.ledger.borrow_mut().begin(name, *size);
            let path = self.folder.join(name);
            fs::write(&path, content).unwrap();
            arguments.push(path.to_str().unwrap().to_owned());
            sendings.push((id, name));
        }
        let program = client::options::program("tentacle_client");
        let options = client::Options::from_layers(&layers(&program, &arguments)).unwrap();
        let (began, jumps) = (Instant::now(), control.jumps());
        // A connection, the password, each file's offer, body and receipt, and
        // the good-bye; a body has a second more for each 4 kB.
        let waits = 3 + 3 * u32::try_from(sendings.len()).unwrap();
        let bytes: usize = files.iter().map(|(_, size)| size).sum();
        let bound = self.patience * waits + Duration::from_secs(bytes as u64 / 4096) + SLACK;
        self.ledger.borrow_mut().say(format_args!("agent {} sends {sendings:?}", self.number));
        let sending = async {
            match self.wrong {
                Some(Wrong::Waits) => std::future::pending().await,
                _ => client::run(&options).await,
            }
        };
        let sent = timeout(bound, sending).await;
        let took = began.elapsed();
        if (sent.is_err() || took > bound) && jumps == control.jumps() {
            let why = format!(
                "nobody waits past its deadline: agent {} waited {took:?} for {}, of {bound:?}",
                self.number, self.server
            );
            self.ledger.borrow_mut().violate(why);
        }
        let Ok(sent) = sent else { return };
        // Files before the one that an error names were transferred.
        let whole = match &sent {
            Ok(()) => sendings.len(),
            Err(TransferError::NotSent { name, .. }) => {
                sendings.iter().position(|(_, sending)| *sending == &name.to_string()).unwrap()
            }
            Err(_) => 0,
        };
        for (id, name) in &sendings[..whole] {
            self.ledger.borrow_mut().receipt(*id);
            self.has_receipt.borrow_mut().push((*name).clone());
        }
        if let Err(error) = sent {
            self.ledger.borrow_mut().say(format_args!("agent {}: {error}", self.number));
        }
    }
}

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(700);

/// What the steps of the simulation add.
const SLACK: Duration = Duration::from_secs(1);
