//! A socket that is read ahead while much comes.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_util::io::poll_read_buf;

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
