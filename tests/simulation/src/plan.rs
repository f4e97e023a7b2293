//! What a world is made of, and what goes wrong in it: all drawn from a
//! number.

use std::time::Duration;

use fastrand::Rng;

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) agents: Vec<AgentPlan>,
    /// Whether agents send through a proxy; and whether that reads along.
    pub(crate) proxy: Option<Inspecting>,
    pub(crate) password: Option<&'static str>,
    /// Whether the receiver replaces a file by one of its name.
    pub(crate) overwrite: bool,
    pub(crate) mode: &'static str,
    /// What agents send to and the puller empties.
    pub(crate) source: Source,
    /// Whether the puller sends files on to a server, instead of into a
    /// folder: then one may come twice, which is said of it.
    pub(crate) forward: bool,
    /// Of the puller, at once.
    pub(crate) connections: u32,
    /// How long services and clients wait, in seconds.
    pub(crate) patience: u64,
    /// What a message takes, at most.
    pub(crate) delay: Duration,
    /// Steps between two looks of the consumer.
    pub(crate) consumes_every: u32,
    pub(crate) cuts: Cuts,
    pub(crate) faults: Vec<(Duration, Fault)>,
    /// When so many messages have gone over.
    pub(crate) faults_between: Vec<(u64, Fault)>,
    /// When nothing goes wrong any more.
    pub(crate) calm_from: Duration,
    /// What is broken on purpose.
    pub(crate) wrong: Option<Wrong>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Inspecting {
    No,
    Yes,
}

#[derive(Clone, Debug)]
pub(crate) struct AgentPlan {
    pub(crate) zip: bool,
    pub(crate) jobs: Vec<Job>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The receiver.
    Ours,
    /// The same, which the puller takes for one of the peers'.
    Closing,
    /// A server as the peers' are.
    Old,
}

/// Files that are sent over one connection, so long after those before.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) after: Duration,
    pub(crate) files: Vec<(String, usize)>,
}

/// What connections suffer on their way.
#[derive(Clone, Debug)]
pub(crate) enum Cuts {
    /// One of so many, at any byte.
    Some(f64),
    /// One alone, after so many bytes of all connections together.
    At { side: Side, way: Way, byte: u64, how: How },
}

/// Which connections: those that agents open, or the puller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Agents,
    Puller,
    /// Those that it opens to the server at the centre.
    Onward,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    ToServer,
    ToClient,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// Both ends see the connection closed, or reset where it holds more.
    Closed,
    /// Neither end sees anything, ever.
    Silent,
    /// The end that listens sees it closed, the one that speaks nothing.
    Half,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Agent(usize),
    Cutter,
    Proxy,
    Receiver,
    Puller,
    /// The server that the puller sends files on to.
    Centre,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// The process is killed, and started again.
    Kill { host: Host, down: Duration },
    /// The machine is gone, without a word to anybody, and comes back.
    Vanish { host: Host, down: Duration },
    /// The process is told to end, and started again.
    Drain { host: Host, down: Duration },
    /// Nothing passes between two.
    Part { between: (Host, Host), lasts: Duration },
    /// Nothing passes from the one to the other.
    PartOneWay { from: Host, to: Host, lasts: Duration },
    /// What passes between two is held back, and comes later.
    Hold { between: (Host, Host), lasts: Duration },
    /// The clock of a host goes ahead at once.
    Jump { host: Host, by: Duration },
}

/// Ways to break a promise on purpose, that the world must see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// A file is gone after its receipt.
    Loses,
    /// What the consumer has read comes again.
    Repeats,
    /// A part of a file stands in the spool.
    Tears,
    /// A client waits for ever.
    Waits,
}

impl Plan {
    pub(crate) fn drawn(seed: u64) -> Self {
        let mut chance = Rng::with_seed(seed);
        let c = &mut chance;
        let calm_from = seconds(c, 10.0, 30.0);
        let proxy = pick(c, &[None, Some(Inspecting::No), Some(Inspecting::Yes)]);
        let overlap = c.f64() < 0.3;
        let source = pick(c, &[Source::Ours, Source::Ours, Source::Ours, Source::Closing, Source::Old]);
        let mut agents: Vec<_> = (0..c.usize(1..4)).map(|number| agent(c, number, overlap)).collect();
        if source == Source::Old {
            // It knows no archives.
            agents.iter_mut().for_each(|agent| agent.zip = false);
        }
        let mut hosts = vec![Host::Receiver, Host::Receiver, Host::Puller, Host::Puller];
        hosts.extend((0..agents.len()).map(Host::Agent));
        let mut links = vec![(Host::Cutter, Host::Receiver), (Host::Puller, Host::Cutter)];
        links.extend((0..agents.len()).map(|number| (Host::Agent(number), Host::Cutter)));
        if proxy.is_some() {
            hosts.push(Host::Proxy);
            links.extend([(Host::Cutter, Host::Proxy), (Host::Proxy, Host::Receiver)]);
        }
        let forward = c.f64() < 0.2;
        if forward {
            hosts.extend([Host::Centre; 2]);
            links.push((Host::Cutter, Host::Centre));
        }
        let most = pick(c, &[0, 2, 5, 9]);
        let mut faults: Vec<_> =
            (0..c.usize(0..=most)).map(|_| (calm_from.mul_f64(c.f64()), fault(c, &hosts, &links))).collect();
        faults.sort_by_key(|(at, _)| *at);
        let mut faults_between: Vec<_> =
            (0..c.usize(0..4)).map(|_| (c.u64(1..300), fault(c, &hosts, &links))).collect();
        faults_between.sort_by_key(|(at, _)| *at);
        Self {
            seed,
            agents,
            proxy,
            password: pick(c, &[None, None, Some("a secret")]),
            overwrite: c.f64() < 0.25 && source != Source::Old,
            // `fast` is for sources that keep a file until it has come.
            mode: match source {
                Source::Ours => pick(c, &["auto", "auto", "safe", "fast"]),
                Source::Closing | Source::Old => pick(c, &["auto", "safe"]),
            },
            source,
            forward,
            connections: c.u32(1..4),
            patience: c.u64(1..4),
            delay: pick(c, &[0, 10, 50, 200].map(Duration::from_millis)),
            consumes_every: c.u32(1..60),
            cuts: Cuts::Some(pick(c, &[0.0, 0.1, 0.3, 0.6])),
            faults,
            faults_between,
            calm_from,
            wrong: None,
        }
    }

    /// Two small files over one connection, and nothing else.
    pub(crate) fn small(kind: &str) -> Self {
        let files = vec![("a.data".to_owned(), 30), ("b.data".to_owned(), 9)];
        let plain = Self {
            seed: 1,
            agents: vec![AgentPlan { zip: false, jobs: vec![Job { after: Duration::ZERO, files }] }],
            proxy: None,
            password: Some("a secret"),
            overwrite: false,
            mode: "auto",
            source: Source::Ours,
            forward: false,
            connections: 1,
            patience: 1,
            delay: Duration::ZERO,
            consumes_every: 1,
            cuts: Cuts::Some(0.0),
            faults: Vec::new(),
            faults_between: Vec::new(),
            calm_from: Duration::from_secs(1),
            wrong: None,
        };
        match kind {
            "plain" => plain,
            "zip" => Self {
                agents: plain.agents.iter().map(|agent| AgentPlan { zip: true, ..agent.clone() }).collect(),
                ..plain
            },
            "proxy" => Self { proxy: Some(Inspecting::Yes), ..plain },
            "safe" => Self { mode: "safe", ..plain },
            "closing" => Self { source: Source::Closing, ..plain },
            "old" => Self { source: Source::Old, ..plain },
            "onward" => Self { forward: true, ..plain },
            _ => panic!("{kind}: plain, zip, proxy, safe, closing, old or onward"),
        }
    }

    /// One cut.
    #[must_use]
    pub(crate) fn cut(self, side: &str, way: &str, byte: u64, how: &str) -> Self {
        let side = match side {
            "agents" => Side::Agents,
            "puller" => Side::Puller,
            "onward" => Side::Onward,
            _ => panic!("{side}: agents, puller or onward"),
        };
        let way = match way {
            "up" => Way::ToServer,
            "down" => Way::ToClient,
            _ => panic!("{way}: up or down"),
        };
        let how = match how {
            "closed" => How::Closed,
            "silent" => How::Silent,
            "half" => How::Half,
            _ => panic!("{how}: closed, silent or half"),
        };
        Self { cuts: Cuts::At { side, way, byte, how }, ..self }
    }

    /// One end of a process, after so many steps.
    #[must_use]
    pub(crate) fn kill(self, host: &str, step: u32, how: &str) -> Self {
        let host = match host {
            "agent" => Host::Agent(0),
            "proxy" => Host::Proxy,
            "receiver" => Host::Receiver,
            "puller" => Host::Puller,
            "centre" => Host::Centre,
            _ => panic!("{host}: agent, proxy, receiver, puller or centre"),
        };
        let (at, down) = (TICK * step, TICK * 5);
        let fault = match how {
            "killed" => Fault::Kill { host, down },
            "vanished" => Fault::Vanish { host, down },
            _ => panic!("{how}: killed or vanished"),
        };
        Self { faults: vec![(at, fault)], calm_from: at + down + TICK, ..self }
    }
}

impl Wrong {
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "loses" => Self::Loses,
            "repeats" => Self::Repeats,
            "tears" => Self::Tears,
            "waits" => Self::Waits,
            _ => panic!("{name}: loses, repeats, tears or waits"),
        }
    }
}

fn agent(c: &mut Rng, number: usize, overlap: bool) -> AgentPlan {
    let mut count = 0;
    let mut job = |c: &mut Rng| Job {
        after: seconds(c, 0.0, 8.0),
        files: (0..c.usize(1..4))
            .map(|_| {
                count += 1;
                // Some names are those of other agents too.
                let name = match overlap && c.bool() {
                    true => format!("common.{}.data", c.u8(0..2)),
                    false => format!("agent{number}.{count}.data"),
                };
                (name, size(c))
            })
            .collect(),
    };
    AgentPlan { zip: c.bool(), jobs: (0..c.usize(1..4)).map(|_| job(c)).collect() }
}

/// Small as a rule, and sometimes of several pieces.
fn size(c: &mut Rng) -> usize {
    match c.u8(0..8) {
        0 => c.usize(100_000..700_000),
        1 | 2 => c.usize(8_000..100_000),
        3 => c.usize(4..20),
        _ => c.usize(20..8_000),
    }
}

fn fault(c: &mut Rng, hosts: &[Host], links: &[(Host, Host)]) -> Fault {
    let (host, between) = (pick(c, hosts), pick(c, links));
    match c.u8(0..12) {
        0..=2 => Fault::Kill { host, down: seconds(c, 0.0, 6.0) },
        3 | 4 => Fault::Vanish { host, down: seconds(c, 0.0, 6.0) },
        5 | 6 => Fault::Drain { host: service(c, hosts), down: seconds(c, 0.0, 3.0) },
        7 => Fault::Part { between, lasts: seconds(c, 0.1, 8.0) },
        8 => {
            let (from, to) = if c.bool() { between } else { (between.1, between.0) };
            Fault::PartOneWay { from, to, lasts: seconds(c, 0.1, 8.0) }
        }
        9 => Fault::Hold { between, lasts: seconds(c, 0.1, 8.0) },
        _ => {
            let (minute, most) = (Duration::from_secs(60), c.f64() * 5.0);
            Fault::Jump { host, by: minute.mul_f64(10.0_f64.powf(most - 2.0)) }
        }
    }
}

/// An agent's client has nothing that could be drained.
fn service(c: &mut Rng, hosts: &[Host]) -> Host {
    let services: Vec<_> = hosts.iter().copied().filter(|host| !matches!(host, Host::Agent(_))).collect();
    pick(c, &services)
}

fn pick<T: Copy>(c: &mut Rng, all: &[T]) -> T {
    all[c.usize(..all.len())]
}

fn seconds(c: &mut Rng, least: f64, most: f64) -> Duration {
    Duration::from_secs_f64(least + (most - least) * c.f64())
}

/// What passes between two steps.
pub(crate) const TICK: Duration = Duration::from_millis(20);
