//! A socket that is read ahead while much comes.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

use crate::net::TcpStream;

/// A socket for a reader that asks for little at a time, as TLS does: 4 kB a
/// system call would be much of the work on a large body.
///
/// A buffer is held only while much comes: an idle connection costs nothing
/// here.
#[derive(Debug)]
pub struct ReadAhead {
    stream: TcpStream,
    /// What came and was not asked for yet.
    ahead: BytesMut,
    /// Whether the last read left more to be read, as far as is known.
    more: bool,
}

impl ReadAhead {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, ahead: BytesMut::new(), more: false }
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        &self.stream
    }
}

impl AsyncRead for ReadAhead {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let stream = Pin::new(&mut this.stream);
        if this.ahead.is_empty() && !this.more {
            ready!(stream.poll_read(context, buffer))?;
            this.more = buffer.remaining() == 0;
            return Poll::Ready(Ok(()));
        }
        if this.ahead.is_empty() {
            this.ahead.reserve(AHEAD);
            let Poll::Ready(read) = poll_read_buf(stream, context, &mut this.ahead) else {
                this.ahead = BytesMut::new();
                return Poll::Pending;
            };
            this.more = read? >= ENOUGH;
        }
        let count = buffer.remaining().min(this.ahead.len());
        buffer.put_slice(&this.ahead[..count]);
        this.ahead.advance(count);
        if this.ahead.is_empty() && !this.more {
            this.ahead = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ReadAhead {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

/// Bytes that are read ahead at once.
const AHEAD: usize = 64 * 1024;

/// Bytes of a read after which it is worth it to read ahead again.
const ENOUGH: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    async fn pair() -> (ReadAhead, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (ReadAhead::new(listener.accept().await.unwrap().0), far)
    }

    #[tokio::test]
    async fn what_comes_is_read_in_order_however_little_is_asked_for() {
        let (mut near, mut far) = pair().await;
        let sent: Vec<u8> = (0..3_000_000_u32).map(|at| (at / 7) as u8).collect();
        let copy = sent.clone();
        let sending = tokio::spawn(async move {
            far.write_all(&copy).await.unwrap();
            far
        });
        let mut read = Vec::new();
        for ask in [1, 5, 4096, 16_000, 100_000].into_iter().cycle() {
            let mut piece = vec![0; ask.min(sent.len() - read.len())];
            near.read_exact(&mut piece).await.unwrap();
            read.extend(piece);
            if read.len() == sent.len() {
                break;
            }
        }
        assert!(read == sent);
        drop(sending.await.unwrap());
        assert_eq!(near.read(&mut [0; 10]).await.unwrap(), 0, "the end is seen");
    }

    #[tokio::test]
    async fn an_idle_connection_holds_no_buffer() {
        let (mut near, mut far) = pair().await;
        let mut piece = vec![0; 4096];
        far.write_all(&vec![1; 200_000]).await.unwrap();
        for _ in 0..40 {
            near.read_exact(&mut piece).await.unwrap();
        }
        let mut rest = vec![0; 200_000 - 40 * 4096];
        near.read_exact(&mut rest).await.unwrap();
        let mut byte = [0];
        tokio::select! {
            biased;
            read = near.read(&mut byte) => panic!("nothing was sent, and {read:?} is read"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(near.ahead.capacity(), 0);
    }
}
