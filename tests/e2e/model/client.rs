//! What a client says, and what the model says that it hears.

use std::{
    mem, thread,
    time::{Duration, Instant},
};

use protocol::PasswordDigest;
use tests::PATIENCE;

use crate::{
    bodies::{Holds, filled, packed},
    field::Field,
    model::{Lease, folder, is_argument, is_name},
    step::{Ask, Body, GoesOn, Turn},
    wire::Wire,
};

/// Where a client stands.
#[derive(Default)]
pub(crate) enum State {
    #[default]
    Gone,
    /// A command is due.
    Idle(Wire, Option<Lease>),
    /// The receiver waits for a body, of which so much is sent.
    Sending(Wire, Offer, usize),
    /// The receiver waits to hear whether its body is wanted.
    Offered(Wire, Announced),
}

pub(crate) struct Offer {
    verb: &'static str,
    name: Vec<u8>,
    bytes: Vec<u8>,
    /// What is stored of it, if anything is.
    content: Option<Vec<u8>>,
}

pub(crate) struct Announced {
    verb: &'static str,
    size: usize,
    holds: Holds,
    pub(crate) lease: Option<Lease>,
}

impl Field {
    pub(crate) fn turn(&mut self, turn: &Turn) -> Result<(), String> {
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
}
