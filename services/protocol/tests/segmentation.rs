//! Whatever pieces a session arrives in, it says the same.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use proptest::{collection::vec, prelude::*};
use protocol::{Command, Connection, ConnectionError, Deadline, Form};
use tokio::io::AsyncWriteExt as _;

/// What a client sends: a command, with the body of `SEND` behind it.
#[derive(Clone, Debug)]
enum Said {
    Send(Vec<u8>),
    Move(Vec<u8>),
    Quit,
    Unknown(Vec<u8>),
}

impl Said {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Send(body) => {
                let size = body.len() as u64;
                Command::Send { name: "a.data".into(), size, form: Form::Plain }.write(out);
                out.extend_from_slice(body);
            }
            Self::Move(name) => Command::Move { name: name.clone().into() }.write(out),
            Self::Quit => Command::Quit.write(out),
            Self::Unknown(line) => {
                out.push(b'x');
                out.extend_from_slice(line);
                out.push(b'\n');
            }
        }
    }
}

fn said() -> impl Strategy<Value = Said> {
    let line = || vec(any::<u8>().prop_filter("no newline", |byte| *byte != b'\n'), 0..300);
    prop_oneof![
        vec(any::<u8>(), 0..2000).prop_map(Said::Send),
        line().prop_map(Said::Move),
        Just(Said::Quit),
        line().prop_map(Said::Unknown),
    ]
}

/// Reads a session, with a body's buffer of `room` bytes.
async fn heard(bytes: &[u8], cuts: &[usize], room: usize) -> Vec<Said> {
    let (near, mut far) = tokio::io::duplex(1 << 20);
    let mut connection = Connection::new(near, Deadline::new(Duration::from_secs(60), 0));
    let writing = async move {
        let mut rest = bytes;
        for &cut in cuts {
            let (piece, more) = rest.split_at(cut.min(rest.len()));
            far.write_all(piece).await.unwrap();
            // The other side reads what is there before the next piece comes.
            tokio::task::yield_now().await;
            rest = more;
        }
        far.write_all(rest).await.unwrap();
    };
    let reading = async {
        let mut heard = Vec::new();
        loop {
            match connection.read_command().await {
                Ok(Some(Command::Send { size, .. })) => {
                    connection.begin_body(size);
                    let (mut body, mut piece) = (Vec::new(), Vec::with_capacity(room));
                    while connection.read_body(&mut piece).await.unwrap() > 0 {
                        body.append(&mut piece);
                    }
                    heard.push(Said::Send(body));
                }
                Ok(Some(Command::Move { name })) => heard.push(Said::Move(name.to_vec())),
                Ok(Some(Command::Quit)) => heard.push(Said::Quit),
                Ok(Some(other)) => panic!("{other:?}"),
                Ok(None) => heard.push(Said::Unknown(Vec::new())),
                Err(ConnectionError::Closed) => return heard,
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::join!(writing, reading).1
}

proptest! {
    #[test]
    fn pieces_make_no_difference(
        session in vec(said(), 0..12),
        cuts in vec(0..40usize, 0..200),
        room in 1..500usize,
    ) {
        let mut bytes = Vec::new();
        session.iter().for_each(|said| said.write(&mut bytes));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let heard = runtime.block_on(heard(&bytes, &cuts, room));
        prop_assert_eq!(heard.len(), session.len());
        for (heard, said) in heard.iter().zip(&session) {
            match (heard, said) {
                (Said::Send(heard), Said::Send(said)) | (Said::Move(heard), Said::Move(said)) => {
                    prop_assert_eq!(heard, said);
                }
                (Said::Quit, Said::Quit) | (Said::Unknown(_), Said::Unknown(_)) => {}
                (heard, said) => prop_assert!(false, "{heard:?} for {said:?}"),
            }
        }
    }
}
