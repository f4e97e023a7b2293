//! The asking side of a session: one method a verb.

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use crate::{
    FileName,
    command::{Command, Form, Verb},
    connection::{Connection, ConnectionError, Deadline},
    password::PasswordDigest,
    reply::{Features, Refusal, Reply},
};

/// A session with a server.
///
/// After [`ClientError::Refused`] the session goes on; after any other error
/// it is over. A body that [`Client::receive`] or [`Client::take`] announced
/// is either accepted and read to its end, or declined, before the next verb.
#[derive(Debug)]
pub struct Client<S> {
    connection: Connection<S>,
}

/// What a server answered, or failed to.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server said no; the session goes on.
    #[error("the server refuses: {0}")]
    Refused(Refusal),
    /// The server said something that does not fit.
    #[error("the server answered {answer:?} to {question}")]
    Unexpected {
        /// What was asked, in the wire's words.
        question: &'static str,
        /// The start of its line.
        answer: String,
    },
    /// The file that is sent ended before its announced size, or could not be read.
    #[error("cannot read the file that is being sent: {0}")]
    Source(std::io::Error),
    /// More than the caller is ready to hold.
    #[error("the server announces a list of {size} bytes, over the bound of {bound}")]
    ListTooLong {
        /// What was announced.
        size: u64,
        /// The caller's bound.
        bound: u64,
    },
    /// The connection failed.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Speaks over `stream`, which is connected.
    pub fn new(stream: S, deadline: Deadline) -> Self {
        Self { connection: Connection::new(stream, deadline) }
    }

    /// `PASS`: must come first where the server has a password. A server
    /// closes on a wrong one, and on any where it has none.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn authenticate(&mut self, digest: &PasswordDigest) -> Result<(), ClientError> {
        let hex = digest.to_hex();
        self.connection.write_command(&Command::Pass(Bytes::copy_from_slice(hex.as_ref()))).await?;
        match self.reply("PASS").await {
            Ok(Reply::PassOk) => Ok(()),
            Ok(other) => Err(unexpected("PASS", &other)),
            // Whoever has the digest can use it as the password: not even one
            // that is echoed may come into a message.
            Err(ClientError::Unexpected { question, answer }) => {
                let answer = answer.replace(&*String::from_utf8_lossy(hex.as_ref()), "…");
                Err(ClientError::Unexpected { question, answer })
            }
            Err(error) => Err(error),
        }
    }

    /// `FEATURES`: what the server can do beyond the peers' protocol. A
    /// peer's server closes: [`ConnectionError::Closed`].
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn features(&mut self) -> Result<Features, ClientError> {
        self.connection.write_command(&Command::Features).await?;
        match self.reply("FEATURES").await? {
            Reply::Features(features) => Ok(features),
            other => Err(unexpected("FEATURES", &other)),
        }
    }

    /// `SEND` or `ZSEND`: offers `size` bytes and, once the server agrees,
    /// sends them from `body`. When it returns, the server has the file.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn send(
        &mut self,
        name: &FileName,
        size: u64,
        form: Form,
        body: &mut (impl AsyncRead + Unpin),
    ) -> Result<(), ClientError> {
        self.offer(name, size, form).await?;
        let mut buffer = Vec::with_capacity(piece_size(size));
        let mut left = size;
        while left > 0 {
            buffer.clear();
            let mut part = (&mut *body).take(left.min(buffer.capacity() as u64));
            let count = part.read_buf(&mut buffer).await.map_err(ClientError::Source)?;
            if count == 0 {
                return Err(ClientError::Source(std::io::ErrorKind::UnexpectedEof.into()));
            }
            self.send_piece(&buffer).await?;
            left -= count as u64;
        }
        self.sent(form).await
    }

    /// The first half of [`Client::send`], for a caller that has the bytes
    /// piece by piece: exactly `size` bytes by [`Client::send_piece`], then
    /// [`Client::sent`].
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn offer(&mut self, name: &FileName, size: u64, form: Form) -> Result<(), ClientError> {
        let name = Bytes::copy_from_slice(name.as_bytes());
        self.connection.write_command(&Command::Send { name, size, form }).await?;
        self.expect_ok(Verb::send(form)).await?;
        self.connection.begin_writing(size);
        Ok(())
    }

    /// A piece of the body that was offered.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn send_piece(&mut self, piece: &[u8]) -> Result<(), ClientError> {
        Ok(self.connection.write_body(piece).await?)
    }

    /// Waits for the receipt of the body that was offered and sent.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn sent(&mut self, form: Form) -> Result<(), ClientError> {
        self.expect_ok(Verb::send(form)).await
    }

    /// `RECV` or `ZRECV`: asks for a file, which stays; returns its size.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn receive(&mut self, name: &FileName, form: Form) -> Result<u64, ClientError> {
        let verb = Verb::receive(form);
        let name = Bytes::copy_from_slice(name.as_bytes());
        self.announced(verb, &Command::Receive { name, form }).await
    }

    /// `MV`: asks for a file, which leaves the server; returns its size.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn take(&mut self, name: &FileName) -> Result<u64, ClientError> {
        let name = Bytes::copy_from_slice(name.as_bytes());
        self.announced(Verb::Mv, &Command::Move { name }).await
    }

    /// `LS`: the names in the folder that the server's filters pick for
    /// `filter`, without `.` and `..`. At most `bound` bytes.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn list(&mut self, filter: &[u8], bound: u64) -> Result<Vec<Bytes>, ClientError> {
        let filter = Bytes::copy_from_slice(filter);
        let size = self.announced(Verb::Ls, &Command::List { filter }).await?;
        if size > bound {
            return Err(ClientError::ListTooLong { size, bound });
        }
        self.accept(Verb::Ls, size).await?;
        // What comes decides how much is held, not what was announced.
        let mut list = Vec::with_capacity(piece_size(size));
        while self.read_body(&mut list).await? > 0 {
            if list.len() == list.capacity() {
                list.reserve(list.len());
            }
        }
        let list = Bytes::from(list);
        let lines = list.split(|&byte| byte == b'\n');
        let names = lines.filter(|name| !matches!(*name, b"" | b"." | b".."));
        Ok(names.map(|name| list.slice_ref(name)).collect())
    }

    /// Agrees to the body of `size` bytes that `verb` announced.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn accept(&mut self, verb: Verb, size: u64) -> Result<(), ClientError> {
        self.connection.write_reply(&Reply::Ok(verb)).await?;
        self.connection.begin_body(size);
        Ok(())
    }

    /// Declines the body that `verb` announced; a file stays on the server.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn decline(&mut self, verb: Verb) -> Result<(), ClientError> {
        Ok(self.connection.write_reply(&Reply::Refused(verb, Refusal::Unsaid)).await?)
    }

    /// Appends what comes next of the body, at most the buffer's spare
    /// capacity; 0 at the body's end.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn read_body(&mut self, buffer: &mut Vec<u8>) -> Result<usize, ClientError> {
        Ok(self.connection.read_body(buffer).await?)
    }

    /// What has come unasked, for whoever goes on with the stream.
    pub fn into_unread(self) -> Bytes {
        self.connection.into_unread()
    }

    /// `QUIT`: the server closes.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn quit(mut self) -> Result<(), ClientError> {
        self.connection.write_command(&Command::Quit).await?;
        self.connection.shutdown().await.map_err(ConnectionError::Io)?;
        Ok(())
    }

    async fn announced(&mut self, verb: Verb, command: &Command) -> Result<u64, ClientError> {
        self.connection.write_command(command).await?;
        match self.reply(verb.as_str()).await? {
            Reply::Size(of, size) if of == verb => Ok(size),
            Reply::Refused(of, why) if of == verb => Err(ClientError::Refused(why)),
            other => Err(unexpected(verb.as_str(), &other)),
        }
    }

    async fn expect_ok(&mut self, verb: Verb) -> Result<(), ClientError> {
        match self.reply(verb.as_str()).await? {
            Reply::Ok(of) if of == verb => Ok(()),
            Reply::Refused(of, why) if of == verb => Err(ClientError::Refused(why)),
            other => Err(unexpected(verb.as_str(), &other)),
        }
    }

    async fn reply(&mut self, question: &'static str) -> Result<Reply, ClientError> {
        let line = self.connection.read_reply_line().await?;
        Reply::parse(&line).ok_or_else(|| ClientError::Unexpected { question, answer: shown(&line) })
    }
}

/// Bytes of a buffer for a body of `size`: the whole of a small one, else a
/// piece that costs little memory beside the file, and few calls: each is
/// handed from thread to thread, which costs more than a copy of 256 KiB.
pub fn piece_size(size: u64) -> usize {
    const LARGE: u64 = 256 * 1024;
    const LARGEST: u64 = 1024 * 1024;
    // The bounds make it fit.
    size.clamp(1, (size / 16).clamp(LARGE, LARGEST)) as usize
}

fn unexpected(question: &'static str, reply: &Reply) -> ClientError {
    let mut line = Vec::new();
    reply.write(&mut line);
    ClientError::Unexpected { question, answer: shown(line.trim_ascii_end()) }
}

fn shown(line: &[u8]) -> String {
    String::from_utf8_lossy(&line[..line.len().min(100)]).into_owned()
}
