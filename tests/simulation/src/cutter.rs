//! A machine in the network that passes connections on, and cuts some.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    net::Ipv4Addr,
    rc::Rc,
};

use fastrand::Rng;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    select,
    task::spawn_local,
};
use turmoil::net::{TcpListener, TcpStream};

use crate::{
    ledger::Ledger,
    plan::{Cuts, How, Side, Way},
};

/// What all connections share.
pub(crate) struct Cutter {
    pub(crate) ledger: Rc<RefCell<Ledger>>,
    pub(crate) cuts: RefCell<Cuts>,
    /// Whether the puller is to take its source for one of the peers'.
    closing: bool,
    /// How often the other side of a connection had something to say.
    pub(crate) turns: Cell<u64>,
    chance: RefCell<Rng>,
    /// Bytes that went over, of all connections of a side, each way.
    went: RefCell<[[u64; 2]; 3]>,
}

/// Where connections of one side go to.
#[derive(Clone, Copy)]
pub(crate) struct Lane {
    pub(crate) side: Side,
    pub(crate) port: u16,
    pub(crate) to: Ipv4Addr,
}

/// What happens to one connection.
#[derive(Clone, Copy, Debug)]
struct Cut {
    way: Way,
    after: u64,
    /// The message that is lost by it, in place of a byte.
    turn: Option<u32>,
    how: How,
}

impl Cutter {
    pub(crate) fn new(ledger: Rc<RefCell<Ledger>>, cuts: Cuts, closing: bool, seed: u64) -> Rc<Self> {
        let chance = RefCell::new(Rng::with_seed(seed ^ 0xc077e2));
        Rc::new(Self {
            ledger,
            cuts: RefCell::new(cuts),
            closing,
            turns: Cell::new(0),
            chance,
            went: RefCell::default(),
        })
    }

    /// From now on all connections pass.
    pub(crate) fn calm(&self) {
        let mut cuts = self.cuts.borrow_mut();
        if let Cuts::Some(part) = &mut *cuts {
            *part = 0.0;
        }
    }

    /// Passes on what comes to the lane.
    pub(crate) async fn serve(self: Rc<Self>, lane: Lane) -> std::io::Result<Infallible> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, lane.port)).await?;
        loop {
            let (client, _) = listener.accept().await?;
            let cutter = Rc::clone(&self);
            spawn_local(async move { cutter.pass(client, lane).await });
        }
    }

    async fn pass(&self, mut client: TcpStream, lane: Lane) {
        self.ledger.borrow_mut().sessions += 1;
        let Ok(mut server) = TcpStream::connect((lane.to, PORT)).await else { return };
        let cut = self.fate();
        let (mut up, mut down) = ([0; 16_384], [0; 16_384]);
        let (mut up_open, mut down_open) = (true, true);
        let (mut went, mut turns, mut last) = ([0, 0], 0, None);
        while up_open || down_open {
            let rooms =
                [self.room(lane, cut, went, Way::ToServer), self.room(lane, cut, went, Way::ToClient)];
            if let Some(way) =
                [Way::ToServer, Way::ToClient].into_iter().find(|way| rooms[*way as usize] == 0)
            {
                return self.cut(lane, way, cut, client, server).await;
            }
            let (way, read) = select! {
                biased;
                read = client.read(&mut up[..rooms[0]]), if up_open => (Way::ToServer, read),
                read = server.read(&mut down[..rooms[1]]), if down_open => (Way::ToClient, read),
            };
            let Ok(count) = read else { return };
            if self.closing && lane.side == Side::Puller && up[..count].starts_with(b"FEATURES") {
                return;
            }
            if count > 0 && last != Some(way) {
                last = Some(way);
                turns += 1;
                self.turns.set(self.turns.get() + 1);
                if cut.is_some_and(|cut| cut.turn == Some(turns)) {
                    return self.cut(lane, way, cut, client, server).await;
                }
            }
            let (to, bytes, open) = match way {
                Way::ToServer => (&mut server, &up[..count], &mut up_open),
                Way::ToClient => (&mut client, &down[..count], &mut down_open),
            };
            *open = count > 0;
            let passed = if *open { to.write_all(bytes).await } else { to.shutdown().await };
            if passed.is_err() {
                return;
            }
            self.count(lane, &mut went, way, count);
        }
    }

    /// What the next connection will suffer.
    fn fate(&self) -> Option<Cut> {
        let (cuts, mut chance) = (self.cuts.borrow(), self.chance.borrow_mut());
        let Cuts::Some(part) = *cuts else { return None };
        if chance.f64() >= part {
            return None;
        }
        // As often in a line of few bytes as in a body of many.
        let most = 10.0_f64.powf(chance.f64() * 6.0);
        let after = (most * chance.f64()) as u64;
        let way = if chance.bool() { Way::ToServer } else { Way::ToClient };
        let how = [How::Closed, How::Closed, How::Silent, How::Half][chance.usize(..4)];
        let turn = if chance.bool() { Some(chance.u32(1..24)) } else { None };
        Some(Cut { way, after, turn, how })
    }

    /// Bytes that may pass this way, until it is looked again; none where the
    /// connection is to be cut.
    fn room(&self, lane: Lane, cut: Option<Cut>, went: [u64; 2], way: Way) -> usize {
        let left = match (&*self.cuts.borrow(), cut) {
            (Cuts::At { side, way: at, byte, .. }, _) if *side == lane.side && *at == way => {
                byte.checked_sub(self.went.borrow()[lane.side as usize][way as usize])
            }
            (_, Some(cut)) if cut.way == way && cut.turn.is_none() => Some(cut.after - went[way as usize]),
            _ => None,
        };
        left.map_or(16_384, |left| left.min(16_384) as usize)
    }

    fn count(&self, lane: Lane, went: &mut [u64; 2], way: Way, count: usize) {
        went[way as usize] += count as u64;
        self.went.borrow_mut()[lane.side as usize][way as usize] += count as u64;
    }

    async fn cut(&self, lane: Lane, way: Way, cut: Option<Cut>, client: TcpStream, server: TcpStream) {
        let once = match &*self.cuts.borrow() {
            Cuts::At { how, .. } => Some(*how),
            Cuts::Some(_) => None,
        };
        if once.is_some() {
            *self.cuts.borrow_mut() = Cuts::Some(0.0);
        }
        let how = once.or(cut.map(|cut| cut.how)).unwrap_or(How::Closed);
        {
            let mut ledger = self.ledger.borrow_mut();
            ledger.cuts += 1;
            ledger.say(format_args!(
                "cut {:?} {way:?} {how:?} {:?}",
                lane.side,
                cut.map(|cut| (cut.after, cut.turn))
            ));
        }
        let kept = match (how, way) {
            (How::Closed, _) => return,
            (How::Silent, _) => (Some(client), Some(server)),
            (How::Half, Way::ToServer) => {
                drop(server);
                (Some(client), None)
            }
            (How::Half, Way::ToClient) => {
                drop(client);
                (None, Some(server))
            }
        };
        // Nothing is read, and nothing said.
        std::future::pending::<()>().await;
        drop(kept);
    }
}

/// Of all servers.
pub(crate) const PORT: u16 = 41121;
