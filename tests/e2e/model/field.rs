//! A receiver, its clients, and the model beside it.

use std::{
    collections::BTreeMap,
    mem,
    net::IpAddr,
    ops::Add,
    thread,
    time::{Duration, Instant},
};

use protocol::{
    PasswordDigest,
    archive::{Unpacker, pack},
};
use tempfile::TempDir;
use tests::{PATIENCE, Receiver, files_below, left_aside};

use crate::{
    model::{FILTERS, Lease, Mistake, Model, folder, is_argument, is_name},
    step::{Ask, Body, Case, GoesOn, MAX_SIZE, Step, Turn},
    wire::Wire,
};

pub(crate) struct Field {
    receiver: Option<Receiver>,
    model: Model,
    clients: [State; 3],
    /// Names that were offered to who left without a word: the receiver learns
    /// of that in a moment.
    fading: Vec<Vec<u8>>,
    overwrite: bool,
    password: bool,
    counted: Counted,
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

/// Where a client stands.
#[derive(Default)]
enum State {
    #[default]
    Gone,
    /// A command is due.
    Idle(Wire, Option<Lease>),
    /// The receiver waits for a body, of which so much is sent.
    Sending(Wire, Offer, usize),
    /// The receiver waits to hear whether its body is wanted.
    Offered(Wire, Announced),
}

struct Offer {
    verb: &'static str,
    name: Vec<u8>,
    bytes: Vec<u8>,
    /// What is stored of it, if anything is.
    content: Option<Vec<u8>>,
}

struct Announced {
    verb: &'static str,
    size: usize,
    holds: Holds,
    lease: Option<Lease>,
}

enum Holds {
    Content(Vec<u8>),
    Packed(Vec<u8>),
    Names(Vec<Vec<u8>>),
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

    fn turn(&mut self, turn: &Turn) -> Result<(), String> {
        let who = turn.who;
        match mem::take(&mut self.clients[who]) {
            State::Gone => {
                if let Some(wire) = self.arrive(who, matches!(turn.ask, Ask::WrongPassword))? {
                    self.ask(who, wire, None, turn)?;
                }
                Ok(())
            }
            State::Idle(wire, lease) => self.ask(who, wire, lease, turn),
            State::Sending(wire, offer, sent) => self.send_on(who, wire, offer, sent, turn.goes_on),
            State::Offered(wire, announced) => self.answer(who, wire, announced, turn.goes_on),
        }
    }

    /// Connects; none where the receiver has had enough.
    fn arrive(&mut self, who: usize, is_stranger: bool) -> Result<Option<Wire>, String> {
        let mut wire = Wire::connect(self.receiver.as_ref().unwrap().address())?;
        self.counted.sessions += 1;
        if !self.password {
            self.tell(format!("{who}: connects"));
            return Ok(Some(wire));
        }
        let password = if is_stranger { "wrong" } else { "secret" };
        let digest = PasswordDigest::of(password.as_bytes()).to_hex();
        self.say(who, &mut wire, &[b"PASS ", &digest[..]].concat())?;
        if is_stranger {
            wire.closed()?;
            return Ok(None);
        }
        self.hear(&mut wire, "PASS OK")?;
        Ok(Some(wire))
    }

    fn ask(&mut self, who: usize, mut wire: Wire, lease: Option<Lease>, turn: &Turn) -> Result<(), String> {
        match &turn.ask {
            Ask::Send { name, body, at_once } => {
                self.model.settle(lease);
                self.offer(who, wire, name, body, *at_once)
            }
            Ask::Receive { name, packed } => {
                self.model.settle(lease);
                self.receive(who, wire, name, *packed)
            }
            Ask::List(argument) => {
                self.model.settle(lease);
                self.list(who, wire, argument)
            }
            Ask::Move(name) => self.take(who, wire, lease, name, turn.goes_on),
            Ask::Features => {
                self.model.settle(lease);
                self.say(who, &mut wire, b"FEATURES")?;
                self.hear(&mut wire, "FEATURES OK two-phase-mv")?;
                self.clients[who] = State::Idle(wire, None);
                Ok(())
            }
            Ask::WrongPassword => {
                self.model.settle(lease);
                self.say(who, &mut wire, b"PASS 0123")?;
                wire.closed()
            }
            Ask::Quit => {
                self.model.settle(lease);
                self.say(who, &mut wire, b"QUIT")?;
                wire.closed()
            }
            Ask::Line(line) => {
                // Who says what nobody understands has not shown anything.
                self.fade(lease);
                self.say(who, &mut wire, line)?;
                wire.closed()
            }
            Ask::Leave => {
                self.tell(format!("{who}: leaves"));
                self.fade(lease);
                wire.reset();
                Ok(())
            }
        }
    }

    fn offer(
        &mut self,
        who: usize,
        mut wire: Wire,
        name: &[u8],
        body: &Body,
        at_once: bool,
    ) -> Result<(), String> {
        let (verb, bytes, content) = match body {
            Body::Plain { size, fill } => ("SEND", filled(*size, *fill), Some(filled(*size, *fill))),
            Body::Packed { size, fill } => {
                let content = filled(*size, *fill);
                ("ZSEND", packed(name, &content), Some(content).filter(|content| !content.is_empty()))
            }
            Body::NoArchive => ("ZSEND", b"PK, says who?".to_vec(), None),
            Body::TooBig(_) => ("SEND", Vec::new(), None),
        };
        let size = match body {
            Body::TooBig(size) => (*size).to_owned(),
            _ => bytes.len().to_string(),
        };
        let refusal = if !is_name(name) {
            Some("invalid file name")
        } else if matches!(body, Body::TooBig(_)) {
            Some("file is too big")
        } else if !self.model.takes(name) {
            Some("file already exists")
        } else {
            None
        };
        self.say(who, &mut wire, &[verb.as_bytes(), b" <", name, b"> SIZE ", size.as_bytes()].concat())?;
        let sent = if at_once && refusal.is_none() { bytes.len() } else { 0 };
        if sent > 0 {
            self.tell(format!("{who}: the body's {sent} bytes at once"));
            wire.send(&bytes)?;
        }
        match refusal {
            Some(why) => {
                self.hear(&mut wire, &format!("{verb} ERR ({why})"))?;
                self.clients[who] = State::Idle(wire, None);
            }
            None => {
                self.hear(&mut wire, &format!("{verb} OK"))?;
                let offer = Offer { verb, name: name.to_vec(), bytes, content };
                if sent > 0 {
                    return self.send_on(who, wire, offer, sent, GoesOn::Whole);
                }
                self.clients[who] = State::Sending(wire, offer, 0);
            }
        }
        Ok(())
    }

    fn send_on(
        &mut self,
        who: usize,
        mut wire: Wire,
        offer: Offer,
        sent: usize,
        goes_on: GoesOn,
    ) -> Result<(), String> {
        let rest = &offer.bytes[sent..];
        match goes_on {
            GoesOn::Whole | GoesOn::Declines | GoesOn::Mumbles => {
                if !rest.is_empty() {
                    self.tell(format!("{who}: the body's {} bytes to its end", rest.len()));
                    wire.send(rest)?;
                }
                self.counted.commands += 1;
                let verb = offer.verb;
                let answer = match offer.content {
                    None => format!("{verb} ERR"),
                    Some(_) if !self.model.takes(&offer.name) => format!("{verb} ERR (file already exists)"),
                    Some(content) => {
                        self.model.store(&offer.name, content);
                        format!("{verb} OK")
                    }
                };
                self.hear(&mut wire, &answer)?;
                self.clients[who] = State::Idle(wire, None);
            }
            GoesOn::Part => {
                let part = rest.len() / 2;
                self.tell(format!("{who}: {part} bytes of the body"));
                wire.send(&rest[..part])?;
                self.clients[who] = State::Sending(wire, offer, sent + part);
            }
            GoesOn::Ends => {
                self.tell(format!("{who}: says that nothing more comes of the body"));
                wire.finish_writing();
                wire.closed()?;
            }
            GoesOn::Leaves => {
                self.tell(format!("{who}: leaves in the middle of the body"));
                wire.reset();
            }
        }
        Ok(())
    }

    fn receive(&mut self, who: usize, mut wire: Wire, name: &[u8], packed: bool) -> Result<(), String> {
        let verb = if packed { "ZRECV" } else { "RECV" };
        self.say(who, &mut wire, &[verb.as_bytes(), b" <", name, b">"].concat())?;
        let content = self.model.files.get(name).map(|file| file.content.clone());
        let (size, holds) = match content {
            None => {
                let missing = "file does not exist";
                let why = if is_name(name) { missing } else { "file has an invalid file name" };
                self.hear(&mut wire, &format!("{verb} ERR ({why})"))?;
                self.clients[who] = State::Idle(wire, None);
                return Ok(());
            }
            Some(content) if packed => (self.hear_size(&mut wire, verb)?, Holds::Packed(content)),
            Some(content) => {
                self.hear(&mut wire, &format!("{verb} SIZE {}", content.len()))?;
                (content.len(), Holds::Content(content))
            }
        };
        self.clients[who] = State::Offered(wire, Announced { verb, size, holds, lease: None });
        Ok(())
    }

    fn list(&mut self, who: usize, mut wire: Wire, argument: &[u8]) -> Result<(), String> {
        self.say(who, &mut wire, &[b"LS <", argument, b">"].concat())?;
        if !is_argument(argument) {
            self.hear(&mut wire, "LS ERR")?;
            self.clients[who] = State::Idle(wire, None);
            return Ok(());
        }
        let size = self.hear_size(&mut wire, "LS")?;
        let names = self.model.files.keys().filter(|name| folder(name) == folder(argument));
        let holds = Holds::Names(names.cloned().collect());
        self.clients[who] = State::Offered(wire, Announced { verb: "LS", size, holds, lease: None });
        Ok(())
    }

    fn take(
        &mut self,
        who: usize,
        mut wire: Wire,
        last: Option<Lease>,
        name: &[u8],
        goes_on: GoesOn,
    ) -> Result<(), String> {
        // The last file leaves beside the announcement of this one.
        let is_beside = last.as_ref().is_some_and(|last| last.name != name);
        self.model.settle(last);
        let lease = if is_name(name) { self.model.lease(name) } else { None };
        let Some(lease) = lease else {
            self.say(who, &mut wire, &[b"MV <", name, b">"].concat())?;
            self.hear(&mut wire, "MV ERR")?;
            self.clients[who] = State::Idle(wire, None);
            return Ok(());
        };
        let content = self.model.files[name].content.clone();
        let wanted = format!("MV SIZE {}", content.len());
        let until = Instant::now() + PATIENCE;
        loop {
            self.say(who, &mut wire, &[b"MV <", name, b">"].concat())?;
            let answer = wire.line()?;
            self.tell(format!("   {answer}"));
            if answer == wanted {
                break;
            }
            let may_wait = self.fading.iter().any(|fading| fading == name) && Instant::now() < until;
            if answer != "MV ERR" || !may_wait {
                return Err(format!("and the model says {wanted}"));
            }
            thread::sleep(Duration::from_millis(2));
        }
        self.fading.retain(|fading| fading != name);
        let (size, holds) = (content.len(), Holds::Content(content));
        let announced = Announced { verb: "MV", size, holds, lease: Some(lease) };
        if !is_beside {
            self.clients[who] = State::Offered(wire, announced);
            return Ok(());
        }
        // What comes after the announcement shows that the last one is gone.
        let goes_on = if goes_on == GoesOn::Whole { goes_on } else { GoesOn::Declines };
        self.answer(who, wire, announced, goes_on)?;
        if goes_on == GoesOn::Declines
            && let State::Idle(wire, None) = &mut self.clients[who]
        {
            wire.send(b"FEATURES\n")?;
            wire.line()?;
        }
        Ok(())
    }

    /// Says whether what was announced is wanted.
    fn answer(
        &mut self,
        who: usize,
        mut wire: Wire,
        announced: Announced,
        goes_on: GoesOn,
    ) -> Result<(), String> {
        let Announced { verb, size, holds, lease } = announced;
        match goes_on {
            GoesOn::Whole | GoesOn::Part => {
                self.say(who, &mut wire, format!("{verb} OK").as_bytes())?;
                let body = wire.body(size)?;
                self.tell(format!("   {size} bytes"));
                holds.check(&body)?;
                self.clients[who] = State::Idle(wire, lease);
            }
            GoesOn::Declines | GoesOn::Mumbles => {
                let word = if goes_on == GoesOn::Declines { " ERR" } else { "?" };
                self.say(who, &mut wire, format!("{verb}{word}").as_bytes())?;
                self.fade(lease);
                self.clients[who] = State::Idle(wire, None);
            }
            GoesOn::Ends => {
                self.tell(format!("{who}: says that nothing more comes"));
                self.fade(lease);
                wire.finish_writing();
                wire.closed()?;
            }
            GoesOn::Leaves => {
                self.tell(format!("{who}: leaves"));
                self.fade(lease);
                wire.reset();
            }
        }
        Ok(())
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

    /// A reader leaves a file that it was offered, and the receiver learns of
    /// it in a moment.
    fn fade(&mut self, lease: Option<Lease>) {
        self.fading.extend(lease.as_ref().map(|lease| lease.name.clone()));
        self.model.give_back(lease);
    }

    fn say(&mut self, who: usize, wire: &mut Wire, line: &[u8]) -> Result<(), String> {
        self.tell(format!("{who}: {}", line[..line.len().min(300)].escape_ascii()));
        self.counted.commands += 1;
        wire.send(&[line, b"\n"].concat())
    }

    fn hear(&mut self, wire: &mut Wire, wanted: &str) -> Result<(), String> {
        let answer = wire.line().map_err(|why| format!("{why}, and the model says {wanted}"))?;
        self.tell(format!("   {answer}"));
        if answer == wanted { Ok(()) } else { Err(format!("and the model says {wanted}")) }
    }

    fn hear_size(&mut self, wire: &mut Wire, verb: &str) -> Result<usize, String> {
        let answer = wire.line().map_err(|why| format!("{why}, and the model says {verb} SIZE"))?;
        self.tell(format!("   {answer}"));
        let size = answer.strip_prefix(&format!("{verb} SIZE ")).and_then(|size| size.parse().ok());
        size.ok_or_else(|| format!("and the model says {verb} SIZE"))
    }

    fn tell(&mut self, line: String) {
        self.told.push(line);
    }
}

impl Holds {
    fn check(&self, body: &[u8]) -> Result<(), String> {
        match self {
            Self::Content(content) if body == content => Ok(()),
            Self::Packed(content) if unpacked(body).as_ref() == Ok(content) => Ok(()),
            Self::Names(names) => {
                let mut listed: Vec<_> = body.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
                // The folders of filters stand in the root from their first
                // file on.
                listed.retain(|name| !matches!(&name[..], b"conf" | b"md5"));
                listed.sort();
                let mut wanted = names.clone();
                wanted.extend([b"".to_vec(), b".".to_vec(), b"..".to_vec()]);
                wanted.sort();
                if listed == wanted { Ok(()) } else { Err(format!("and the model lists {names:?}")) }
            }
            _ => Err("and the model has another content".to_owned()),
        }
    }
}

fn filled(size: usize, fill: u8) -> Vec<u8> {
    // Different at each place, so that no piece is taken for another.
    (0..size).map(|at| (at as u64).wrapping_mul(2_654_435_761).to_be_bytes()[5] ^ fill).collect()
}

fn packed(name: &[u8], mut content: &[u8]) -> Vec<u8> {
    let mut archive = Vec::new();
    pack(name, &mut content, &mut archive).unwrap();
    archive
}

fn unpacked(archive: &[u8]) -> Result<Vec<u8>, String> {
    let (mut unpacker, mut content) = (Unpacker::new(MAX_SIZE as u64), Vec::new());
    unpacker.write(archive, &mut content).map_err(|error| error.to_string())?;
    unpacker.finish().map_err(|error| error.to_string())?;
    Ok(content)
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
