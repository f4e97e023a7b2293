//! A receiver, its clients, and the model beside it.

use std::{collections::BTreeMap, mem, net::IpAddr, ops::Add};

use tempfile::TempDir;
use tests::{Receiver, files_below, left_aside};

use crate::{
    client::State,
    model::{FILTERS, Mistake, Model, folder},
    step::{Case, MAX_SIZE, Step},
};

pub(crate) struct Field {
    pub(crate) receiver: Option<Receiver>,
    pub(crate) model: Model,
    pub(crate) clients: [State; 3],
    /// Names that were offered to who left without a word: the receiver learns
    /// of that in a moment.
    pub(crate) fading: Vec<Vec<u8>>,
    overwrite: bool,
    pub(crate) password: bool,
    pub(crate) counted: Counted,
    told: Vec<String>,
    /// Last, so that it outlives the receiver.
    spool: TempDir,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    pub(crate) sessions: u64,
    pub(crate) commands: u64,
    pub(crate) restarts: u64,
}

impl Field {
    pub(crate) fn new(case: &Case, mistake: Option<Mistake>) -> Self {
        let mut field = Self {
            receiver: None,
            model: Model::new(case.overwrite, mistake),
            clients: Default::default(),
            fading: Vec::new(),
            overwrite: case.overwrite,
            password: case.password,
            counted: Counted::default(),
            told: Vec::new(),
            spool: TempDir::new().unwrap(),
        };
        let words = [(case.overwrite, " -o"), (case.password, " -x secret")];
        let words = words.map(|(is_on, word)| if is_on { word } else { "" }).concat();
        field.tell(format!("tentacle-receiver -I -m {MAX_SIZE}{words} -i {FILTERS}"));
        field.start(None);
        field
    }

    /// Does all of it, and says where the receiver and the model differ.
    pub(crate) fn play(&mut self, steps: &[Step]) -> Result<(), String> {
        for step in steps {
            match step {
                Step::Turn(turn) => self.turn(turn)?,
                Step::Restart => self.restart()?,
                Step::Kill => self.kill()?,
            }
            self.compare_files()?;
        }
        self.restart()?;
        self.compare_files()
    }

    pub(crate) fn end(self) -> (Counted, Vec<String>) {
        (self.counted, self.told)
    }

    /// As it is asked to: who waits is let go, and who is busy has left.
    fn restart(&mut self) -> Result<(), String> {
        self.tell("the receiver is restarted".to_owned());
        let idle = self.part(|state| matches!(state, State::Idle(_, None)));
        let receiver = self.receiver.take().unwrap();
        let address = receiver.address().ip();
        let status = receiver.stop();
        if !status.success() {
            return Err(format!("it ends with {status}"));
        }
        for state in idle {
            if let State::Idle(wire, _) = state {
                wire.closed()?;
            }
        }
        self.start(Some(address));
        self.compare_aside()
    }

    fn kill(&mut self) -> Result<(), String> {
        self.tell("the receiver is killed, and started again".to_owned());
        let receiver = self.receiver.take().unwrap();
        let address = receiver.address().ip();
        receiver.kill();
        self.part(|_| false);
        self.start(Some(address));
        self.compare_aside()
    }

    /// All clients leave; those that `stays` says so of are given back.
    fn part(&mut self, stays: impl Fn(&State) -> bool) -> Vec<State> {
        let clients = mem::take(&mut self.clients);
        let (stay, leave): (Vec<_>, Vec<_>) = clients.into_iter().partition(stays);
        for state in leave {
            let (wire, lease) = match state {
                State::Gone => continue,
                State::Idle(wire, lease) => (wire, lease),
                State::Sending(wire, ..) => (wire, None),
                State::Offered(wire, announced) => (wire, announced.lease),
            };
            self.model.give_back(lease);
            wire.reset();
        }
        self.fading.clear();
        stay
    }

    fn start(&mut self, address: Option<IpAddr>) {
        let builder = Receiver::builder().program("tentacle-receiver").spool(self.spool.path());
        let builder =
            builder.args(["-I", "--drain-timeout", "2", "-i", FILTERS, "-m", &MAX_SIZE.to_string()]);
        let builder = builder.args(self.overwrite.then_some("-o"));
        let builder = builder.args(if self.password { vec!["-x", "secret"] } else { Vec::new() });
        // Who is in the middle of something is waited for, however slow this machine is.
        let builder = builder.args(["-t", "30"]);
        let builder = match address {
            Some(address) => {
                self.counted.restarts += 1;
                builder.address(address)
            }
            None => builder,
        };
        self.receiver = Some(builder.start());
    }

    fn compare_files(&self) -> Result<(), String> {
        let path = |name: &[u8]| format!("{}{}", folder(name), String::from_utf8_lossy(name));
        let model = self.model.files.iter().map(|(name, file)| (path(name), file.content.clone()));
        let model: BTreeMap<_, _> = model.collect();
        let spool = files_below(self.spool.path());
        if spool == model {
            return Ok(());
        }
        let shown = |files: &BTreeMap<String, Vec<u8>>| -> Vec<String> {
            let shown = |(name, content): (&String, &Vec<u8>)| {
                format!("{name:?} of {} bytes of {:?}", content.len(), content.first())
            };
            files.iter().map(shown).collect()
        };
        Err(format!("in the spool: {:?}\nin the model: {:?}", shown(&spool), shown(&model)))
    }

    /// Of what was being written, nothing is left after a start.
    fn compare_aside(&self) -> Result<(), String> {
        for folder in ["", "conf", "md5"] {
            let aside = left_aside(&self.spool.path().join(folder));
            if !aside.is_empty() {
                return Err(format!("left aside in the spool: {aside:?}"));
            }
        }
        Ok(())
    }

    pub(crate) fn tell(&mut self, line: String) {
        self.told.push(line);
    }
}

impl Add for Counted {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self {
            sessions: self.sessions + more.sessions,
            commands: self.commands + more.commands,
            restarts: self.restarts + more.restarts,
        }
    }
}
