//! A distance between two programs of one machine: what is written on one side
//! arrives on the other a while later, at any rate.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Instant, sleep_until},
};

/// Listens, and passes each connection on to `server` with `delay` each way.
/// Returns its address; it ends with the runtime.
pub(crate) async fn start(server: SocketAddr, delay: Duration) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            tokio::spawn(pass(near, server, delay));
        }
    });
    Ok(address)
}

async fn pass(near: TcpStream, server: SocketAddr, delay: Duration) -> io::Result<()> {
    // What a connection costs at a distance before its first byte.
    tokio::time::sleep(2 * delay).await;
    let far = TcpStream::connect(server).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
    tokio::spawn(one_way(from_near, to_far, delay));
    tokio::spawn(one_way(from_far, to_near, delay));
    Ok(())
}

async fn one_way(
    mut from: impl AsyncRead + Unpin,
    to: impl AsyncWrite + Unpin + Send + 'static,
    delay: Duration,
) {
    let (pieces, under_way) = mpsc::channel(PIECES);
    tokio::spawn(deliver(under_way, to));
    let mut buffer = vec![0; PIECE];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if pieces.send((Instant::now() + delay, buffer[..count].to_vec())).await.is_err() {
            return;
        }
    }
}

async fn deliver(mut pieces: mpsc::Receiver<(Instant, Vec<u8>)>, mut to: impl AsyncWrite + Unpin) {
    while let Some((due, piece)) = pieces.recv().await {
        sleep_until(due).await;
        if to.write_all(&piece).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

/// Bytes of a piece, and pieces under way: far more than pass within a delay.
const PIECE: usize = 64 * 1024;
const PIECES: usize = 1024;
