//! Carrying a session's bytes in both directions.

use std::{
    cell::RefCell,
    future::poll_fn,
    io::{self, ErrorKind},
    net::Shutdown,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use socket2::SockRef;
use tokio::{
    io::Interest,
    net::TcpStream,
    time::{Instant, sleep_until},
};
use transport::Stream;

use crate::{
    inspect::{Foreign, Speaker},
    pipe::Pipe,
    relay::Direction,
    watch::{Eye, Watch},
};

/// What went over, and how it ended.
#[derive(Debug)]
pub(crate) struct Carried {
    /// Bytes from the client.
    pub(crate) sent: u64,
    /// Bytes to the client.
    pub(crate) received: u64,
    pub(crate) end: Result<(), Broken>,
}

/// Why a session did not end by itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("the client's connection failed: {0}")]
    Client(io::Error),
    #[error("the server's connection failed: {0}")]
    Server(io::Error),
    #[error("no byte in either direction for {} s", .0.as_secs_f32())]
    Idle(Duration),
    #[error("it is not plain Tentacle (--strict): {0}")]
    Foreign(#[from] Foreign),
}

/// Carries what each side sends to the other, until both have ended; each
/// direction ends by itself. `head` is what has come from the client already.
/// A side that fails ends both, and so does silence of both for `idle`. With
/// `watch`, what passes is seen, and may end it.
pub(crate) async fn carry(
    client: &mut Stream,
    head: Bytes,
    server: &mut Stream,
    idle: Duration,
    watch: Option<&Watch>,
) -> Carried {
    let (sent, received) = (AtomicU64::new(0), AtomicU64::new(0));
    let up = Way { count: &sent, eye: Eye { from: Speaker::Client, watch } };
    let down = Way { count: &received, eye: Eye { from: Speaker::Server, watch } };
    let both = async {
        match (&mut *client, &mut *server) {
            (Stream::Plain(client), Stream::Plain(server)) => plain(client, head, server, up, down).await,
            // Apart, so that plain sessions need no room for it.
            (client, server) => Box::pin(copied(client, head, server, up, down)).await,
        }
    };
    let end = tokio::select! {
        end = both => end,
        () = silence(&sent, &received, idle) => Err(Broken::Idle(idle)),
    };
    if end.is_err() {
        // Who waits for the rest must not take this for its end.
        for side in [client, server] {
            let _ = SockRef::from(&*side).set_linger(Some(Duration::ZERO));
        }
    }
    Carried { sent: sent.into_inner(), received: received.into_inner(), end }
}

async fn plain(
    client: &TcpStream,
    head: Bytes,
    server: &TcpStream,
    up: Way<'_>,
    down: Way<'_>,
) -> Result<(), Broken> {
    tokio::try_join!(async { direction(client, head, server, up).await.map_err(Side::of_client) }, async {
        direction(server, Bytes::new(), client, down).await.map_err(Side::of_server)
    },)
    .map(|_| ())
}

/// The same where a side is encrypted.
async fn copied(
    client: &mut Stream,
    head: Bytes,
    server: &mut Stream,
    up: Way<'_>,
    down: Way<'_>,
) -> Result<(), Broken> {
    up.eye.see(&head)?;
    let (mut upwards, mut downwards) = (Direction::new(head), Direction::default());
    poll_fn(|context| {
        let up = upwards.poll(context, client, server, up).map_err(Side::of_client)?;
        let down = downwards.poll(context, server, client, down).map_err(Side::of_server)?;
        if up.is_ready() && down.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

/// Waits until nothing has gone over for `idle`.
async fn silence(sent: &AtomicU64, received: &AtomicU64, idle: Duration) {
    // Looked at now and then: the path of bytes needs no clock for it.
    let step = idle / LOOKS;
    let (mut before, mut quiet) = (0, 0);
    let mut at = Instant::now();
    while quiet < LOOKS {
        at += step;
        sleep_until(at).await;
        let now = sent.load(Relaxed).wrapping_add(received.load(Relaxed));
        quiet = if now == before { quiet + 1 } else { 0 };
        before = now;
    }
}

/// What goes with one direction.
#[derive(Clone, Copy)]
pub(crate) struct Way<'a> {
    /// Bytes that went over.
    pub(crate) count: &'a AtomicU64,
    pub(crate) eye: Eye<'a>,
}

/// Which side of a direction failed.
#[derive(Debug)]
pub(crate) enum Side {
    From(io::Error),
    To(io::Error),
    /// None did: it is not to go on.
    Foreign(Foreign),
}

impl Side {
    /// Of the direction from the client.
    fn of_client(self) -> Broken {
        match self {
            Self::From(error) => Broken::Client(error),
            Self::To(error) => Broken::Server(error),
            Self::Foreign(why) => why.into(),
        }
    }

    /// Of that from the server.
    fn of_server(self) -> Broken {
        match self {
            Self::From(error) => Broken::Server(error),
            Self::To(error) => Broken::Client(error),
            Self::Foreign(why) => why.into(),
        }
    }
}

async fn direction(from: &TcpStream, head: Bytes, to: &TcpStream, way: Way<'_>) -> Result<(), Side> {
    way.eye.see(&head).map_err(Side::Foreign)?;
    write(&head, to, way.count).await?;
    drop(head);
    loop {
        from.readable().await.map_err(Side::From)?;
        match step(from, to, way)? {
            Step::Again => {}
            Step::Rest(rest) => write(&rest, to, way.count).await?,
            Step::Much => bulk(from, to, way).await?,
            Step::End => {
                way.eye.ended();
                // Who has gone already has nothing more to learn.
                let _ = SockRef::from(to).shutdown(Shutdown::Write);
                return Ok(());
            }
        }
    }
}

async fn write(mut rest: &[u8], to: &TcpStream, count: &AtomicU64) -> Result<(), Side> {
    while !rest.is_empty() {
        to.writable().await.map_err(Side::To)?;
        if let Some(written) = unless_blocked(to.try_write(rest)).map_err(Side::To)? {
            count.fetch_add(written as u64, Relaxed);
            rest = &rest[written..];
        }
    }
    Ok(())
}

enum Step {
    /// What came went out, or nothing had come.
    Again,
    /// What the other side did not take at once.
    Rest(Vec<u8>),
    /// It went out, and more is there that nobody needs to see.
    Much,
    End,
}

/// Moves what has come by a copy: for little, that costs less than a pipe. The
/// buffer is the thread's, so that a session that waits holds none.
fn step(from: &TcpStream, to: &TcpStream, Way { count, eye }: Way<'_>) -> Result<Step, Side> {
    thread_local! {
        static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; LITTLE].into());
    }
    BUFFER.with_borrow_mut(|buffer| {
        let Some(read) = unless_blocked(from.try_read(buffer)).map_err(Side::From)? else {
            return Ok(Step::Again);
        };
        if read == 0 {
            return Ok(Step::End);
        }
        eye.see(&buffer[..read]).map_err(Side::Foreign)?;
        let written = unless_blocked(to.try_write(&buffer[..read])).map_err(Side::To)?.unwrap_or(0);
        count.fetch_add(written as u64, Relaxed);
        Ok(match written {
            _ if written < read => Step::Rest(buffer[written..read].to_vec()),
            LITTLE if eye.ahead() > LITTLE as u64 => Step::Much,
            _ => Step::Again,
        })
    })
}

/// Moves what comes through a pipe, for as long as much comes at once and
/// nobody needs to see it.
async fn bulk(from: &TcpStream, to: &TcpStream, Way { count, eye }: Way<'_>) -> Result<(), Side> {
    loop {
        let most = eye.ahead();
        if most == 0 {
            return Ok(());
        }
        from.readable().await.map_err(Side::From)?;
        // Taken anew each time: who waits holds none. Where there is none, it
        // goes on by copies.
        let Ok(mut pipe) = Pipe::take() else { return Ok(()) };
        let filled = from.try_io(Interest::READABLE, || pipe.fill(from, most));
        let Some(filled) = unless_blocked(filled).map_err(Side::From)? else { continue };
        eye.moved(filled).map_err(Side::Foreign)?;
        while pipe.held() > 0 {
            match unless_blocked(to.try_io(Interest::WRITABLE, || pipe.drain(to))).map_err(Side::To)? {
                Some(moved) => _ = count.fetch_add(moved as u64, Relaxed),
                None => to.writable().await.map_err(Side::To)?,
            }
        }
        // The end is for the next step to see.
        if filled < LITTLE {
            return Ok(());
        }
        // Others of the thread have their turn.
        tokio::task::consume_budget().await;
    }
}

fn unless_blocked<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Bytes that are moved by a copy.
const LITTLE: usize = 16 * 1024;

/// Looks at a session within its deadline.
const LOOKS: u32 = 8;
