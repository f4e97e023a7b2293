//! A world from its beginning until all is quiet, and what must hold meanwhile.

use std::{
    cell::RefCell,
    fs,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use turmoil::Sim;

use crate::{
    agent::Agent,
    cutter::{Cutter, Lane, PORT},
    files::{self, Snapshot},
    hosts::{self, Control, DRAIN, ONWARD, TO_SOURCE, address},
    ledger::Ledger,
    old,
    plan::{Fault, Host, Plan, Side, Source, TICK, Wrong},
};

pub(crate) struct World<'a> {
    plan: &'a Plan,
    sim: Sim<'static>,
    ledger: Rc<RefCell<Ledger>>,
    cutter: Rc<Cutter>,
    agents: Vec<Rc<Agent>>,
    hosts: Vec<(Host, Rc<Control>)>,
    spool: PathBuf,
    incoming: PathBuf,
    /// What is undone later.
    due: Vec<(Duration, Undo)>,
    steps: u32,
    /// Whether what is to be broken on purpose was.
    wronged: bool,
}

#[derive(Clone, Copy, Debug)]
enum Undo {
    Start(Host),
    Join(Host, Host),
    JoinOneWay(Host, Host),
    Release(Host, Host),
}

impl<'a> World<'a> {
    pub(crate) fn new(plan: &'a Plan, folder: &Path) -> Self {
        let (spool, incoming) = (folder.join("spool"), folder.join("incoming"));
        for folder in [&spool, &incoming] {
            fs::create_dir(folder).unwrap();
        }
        let sim = turmoil::Builder::new()
            .rng_seed(plan.seed)
            .tick_duration(TICK)
            .max_message_latency(plan.delay)
            .simulation_duration(Duration::from_secs(1_000_000))
            .build();
        let ledger: Rc<RefCell<Ledger>> = Rc::default();
        ledger.borrow_mut().may_repeat = plan.forward;
        let cutter =
            Cutter::new(Rc::clone(&ledger), plan.cuts.clone(), plan.source == Source::Closing, plan.seed);
        let mut world = Self {
            plan,
            sim,
            ledger,
            cutter,
            agents: Vec::new(),
            hosts: Vec::new(),
            spool,
            incoming,
            due: Vec::new(),
            steps: 0,
            wronged: false,
        };
        world.people(folder);
        world
    }

    /// Puts everybody in their places.
    fn people(&mut self, folder: &Path) {
        let server = if self.plan.proxy.is_some() { Host::Proxy } else { Host::Receiver };
        let lanes = [
            Lane { side: Side::Agents, port: PORT, to: address(server) },
            Lane { side: Side::Puller, port: TO_SOURCE, to: address(Host::Receiver) },
            Lane { side: Side::Onward, port: ONWARD, to: address(Host::Centre) },
        ];
        // The plan outlives the simulation, which does not know that.
        let plan = Rc::new(self.plan.clone());
        let cutter = Rc::clone(&self.cutter);
        self.host(Host::Cutter, move |_| {
            let [agents, puller, onward] = lanes.map(|lane| Rc::clone(&cutter).serve(lane));
            async move {
                tokio::try_join!(agents, puller, onward)?;
                Ok(())
            }
        });
        let (own, spool) = (Rc::clone(&plan), self.spool.clone());
        self.host(Host::Receiver, move |control| {
            let (plan, spool) = (Rc::clone(&own), spool.clone());
            async move {
                match plan.source {
                    Source::Ours | Source::Closing => hosts::receiver(&plan, &spool, &control).await,
                    Source::Old => old::serve(&spool).await,
                }
            }
        });
        if let Some(inspecting) = plan.proxy {
            let own = Rc::clone(&plan);
            self.host(Host::Proxy, move |control| {
                let plan = Rc::clone(&own);
                async move { hosts::proxy(&plan, inspecting, &control).await }
            });
        }
        if plan.forward {
            let (own, centre) = (Rc::clone(&plan), self.incoming.clone());
            self.host(Host::Centre, move |control| {
                let (plan, centre) = (Rc::clone(&own), centre.clone());
                async move { hosts::receiver(&plan, &centre, &control).await }
            });
        }
        let (own, incoming) = (Rc::clone(&plan), self.incoming.clone());
        self.host(Host::Puller, move |control| {
            let (plan, incoming) = (Rc::clone(&own), incoming.clone());
            async move { hosts::puller(&plan, &incoming, &control).await }
        });
        let to = format!("{}:{PORT}", address(Host::Cutter));
        for number in 0..plan.agents.len() {
            let place = folder.join(format!("agent{number}"));
            let agent = Agent::new(number, &plan, place, to.clone(), Rc::clone(&self.ledger));
            self.agents.push(Rc::clone(&agent));
            self.host(Host::Agent(number), move |control| {
                let agent = Rc::clone(&agent);
                async move {
                    agent.run(control).await;
                    Ok(())
                }
            });
        }
    }

    fn host<F, R>(&mut self, host: Host, software: F)
    where
        F: Fn(Rc<Control>) -> R + 'static,
        R: Future<Output = turmoil::Result> + 'static,
    {
        let control: Rc<Control> = Rc::default();
        self.hosts.push((host, Rc::clone(&control)));
        self.sim.host(address(host), move || {
            let work = software(Rc::clone(&control));
            let control = Rc::clone(&control);
            async move {
                hosts::keep_time(&control);
                work.await
            }
        });
    }

    /// Runs it to its end: what happened, and what was violated.
    pub(crate) fn run(mut self) -> (Rc<RefCell<Ledger>>, Result<(), String>) {
        let ended = self.live().and_then(|()| self.end());
        (self.ledger, ended)
    }

    /// Until everybody is done, and nothing is under way.
    fn live(&mut self) -> Result<(), String> {
        let mut faults = self.plan.faults.iter().copied().peekable();
        let mut between = self.plan.faults_between.iter().copied().peekable();
        let quiet_by = self.plan.calm_from + QUIET_WITHIN;
        while !self.is_quiet() {
            let now = self.sim.elapsed();
            while let Some((_, fault)) = faults.next_if(|(at, _)| *at <= now) {
                self.suffer(fault);
            }
            let calm = now >= self.plan.calm_from;
            while let Some((_, fault)) = between.next_if(|(at, _)| !calm && *at <= self.cutter.turns.get()) {
                self.suffer(fault);
            }
            if calm {
                self.cutter.calm();
            }
            let (due, later): (Vec<_>, Vec<_>) = self.due.drain(..).partition(|(at, _)| calm || *at <= now);
            self.due = later;
            due.into_iter().for_each(|(_, undo)| self.undo(undo));
            if now > quiet_by {
                let agents = self.agents.iter().filter(|agent| !agent.is_done()).count();
                return Err(format!(
                    "quiet in the end: {QUIET_WITHIN:?} after the last fault, {agents} agents are not done; spool {:?}, incoming {:?}, aside {:?}",
                    files::visible(&self.spool),
                    files::visible(&self.incoming),
                    files::left_aside(&self.incoming),
                ));
            }
            self.step()?;
        }
        self.ledger.borrow_mut().settle(self.plan.overwrite);
        self.look()
    }

    /// Whether there is nothing left to be done.
    fn is_quiet(&self) -> bool {
        self.agents.iter().all(|agent| agent.is_done())
            && self.sim.elapsed() >= self.plan.calm_from
            && self.due.is_empty()
            && files::visible(&self.spool).is_empty()
            && files::visible(&self.incoming).is_empty()
            && files::left_aside(&self.incoming).is_empty()
    }

    fn step(&mut self) -> Result<(), String> {
        self.ledger.borrow_mut().now = self.sim.elapsed();
        self.sim.step().map_err(|error| format!("a service has ended: {error}"))?;
        self.steps += 1;
        self.wrong();
        for path in files::visible(&self.spool) {
            self.ledger.borrow_mut().stands(&path);
        }
        if self.steps.is_multiple_of(self.plan.consumes_every) {
            self.consume();
        }
        self.look()
    }

    fn look(&self) -> Result<(), String> {
        self.ledger.borrow().violated().map_or(Ok(()), Err)
    }

    /// Reads what has come, and removes it.
    fn consume(&self) {
        for path in files::visible(&self.incoming) {
            let bytes = fs::read(&path).unwrap();
            self.ledger.borrow_mut().consumed(&path, &bytes);
            fs::remove_file(&path).unwrap();
        }
    }

    /// Breaks a promise once, where that was asked for.
    fn wrong(&mut self) {
        if self.wronged {
            return;
        }
        let (spooled, came) = (files::visible(&self.spool), files::visible(&self.incoming));
        match (self.plan.wrong, spooled.first(), came.first()) {
            (Some(Wrong::Loses), Some(file), _) if self.ledger.borrow().is_promised(file) => {
                fs::remove_file(file).unwrap();
            }
            (Some(Wrong::Tears), Some(file), _) => {
                let bytes = fs::read(file).unwrap();
                fs::write(file, &bytes[..bytes.len() - 1]).unwrap();
            }
            (Some(Wrong::Repeats), _, Some(file)) => {
                let bytes = fs::read(file).unwrap();
                self.consume();
                fs::write(file, bytes).unwrap();
            }
            _ => return,
        }
        self.wronged = true;
    }

    fn suffer(&mut self, fault: Fault) {
        self.ledger.borrow_mut().say(format_args!("{fault:?}"));
        let now = self.sim.elapsed();
        match fault {
            Fault::Kill { host, down } => self.kill(host, now + down),
            Fault::Vanish { host, down } => {
                for other in self.others(host) {
                    self.sim.partition(address(host), address(other));
                    self.due.push((now + down, Undo::Join(host, other)));
                }
                self.kill(host, now + down);
            }
            Fault::Drain { host, down } => {
                self.control(host).end();
                self.due.push((now + DRAIN + down, Undo::Start(host)));
            }
            Fault::Part { between: (a, b), lasts } => {
                self.ledger.borrow_mut().partitions += 1;
                self.sim.partition(address(a), address(b));
                self.due.push((now + lasts, Undo::Join(a, b)));
            }
            Fault::PartOneWay { from, to, lasts } => {
                self.ledger.borrow_mut().partitions += 1;
                self.sim.partition_oneway(address(from), address(to));
                self.due.push((now + lasts, Undo::JoinOneWay(from, to)));
            }
            Fault::Hold { between: (a, b), lasts } => {
                self.ledger.borrow_mut().partitions += 1;
                self.sim.hold(address(a), address(b));
                self.due.push((now + lasts, Undo::Release(a, b)));
            }
            Fault::Jump { host, by } => {
                self.ledger.borrow_mut().jumps += 1;
                self.control(host).jump(by);
            }
        }
    }

    /// Ends a host's process at once. What it would have cleaned up, had it
    /// been told, stays.
    fn kill(&mut self, host: Host, back: Duration) {
        let folder = match host {
            Host::Receiver => Some(&self.spool),
            Host::Puller if !self.plan.forward => Some(&self.incoming),
            Host::Centre => Some(&self.incoming),
            _ => None,
        };
        let left = folder.map(|folder| Snapshot::of(folder));
        self.sim.crash(address(host));
        if let Some(left) = left {
            left.restore();
        }
        self.due.push((back, Undo::Start(host)));
    }

    fn undo(&mut self, undo: Undo) {
        self.ledger.borrow_mut().say(format_args!("{undo:?}"));
        match undo {
            Undo::Start(host) => {
                self.ledger.borrow_mut().restarts += 1;
                self.sim.bounce(address(host));
            }
            Undo::Join(a, b) => self.sim.repair(address(a), address(b)),
            Undo::JoinOneWay(a, b) => self.sim.repair_oneway(address(a), address(b)),
            Undo::Release(a, b) => self.sim.release(address(a), address(b)),
        }
    }

    /// When all is quiet: nothing is held for ever, and a drain has an end.
    fn end(&mut self) -> Result<(), String> {
        // What was cut off in silence is given up at its deadline.
        let patience = Duration::from_secs(self.plan.patience);
        let until = self.sim.elapsed() + patience * 4;
        let mut services = vec![Host::Puller, Host::Proxy, Host::Centre];
        services.extend((self.plan.source != Source::Old).then_some(Host::Receiver));
        while self.sessions(Host::Receiver) + self.sessions(Host::Centre) > 0
            || self.sessions(Host::Proxy) > 1
        {
            if self.sim.elapsed() > until {
                return Err(format!(
                    "nobody waits past its deadline: {} sessions of the receiver, {} of the one at the centre and {} of the proxy wait on",
                    self.sessions(Host::Receiver),
                    self.sessions(Host::Centre),
                    self.sessions(Host::Proxy),
                ));
            }
            self.step()?;
        }
        let aside = files::left_aside(&self.spool);
        if !aside.is_empty() {
            return Err(format!("nothing is left behind: {aside:?}"));
        }
        for &host in &services {
            if self.hosts.iter().any(|(there, _)| *there == host) {
                self.control(host).end();
            }
        }
        let until = self.sim.elapsed() + DRAIN + patience * 2;
        while services.iter().any(|host| self.is_running(*host)) {
            if self.sim.elapsed() > until {
                return Err("a drain has an end: a service goes on".to_owned());
            }
            self.step()?;
        }
        Ok(())
    }

    fn others(&self, host: Host) -> Vec<Host> {
        self.hosts.iter().map(|(other, _)| *other).filter(|other| *other != host).collect()
    }

    fn control(&self, host: Host) -> &Control {
        &self.hosts.iter().find(|(there, _)| *there == host).unwrap().1
    }

    fn sessions(&self, host: Host) -> usize {
        self.hosts.iter().find(|(there, _)| *there == host).map_or(0, |(_, control)| control.sessions())
    }

    fn is_running(&mut self, host: Host) -> bool {
        self.hosts.iter().any(|(there, _)| *there == host) && self.sim.is_host_running(address(host))
    }
}

/// A source that failed again and again is left alone for up to 5 minutes.
const QUIET_WITHIN: Duration = Duration::from_secs(700);
