//! Whatever pieces a session arrives in, a server hears the same.

use protocol::{Command, Connection, Reply};

use super::pieces::{Cuts, Pieces, block_on, deadline};

/// What a server hears.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Command(Option<Command>),
    Answer(Option<Reply>),
    Body(Vec<u8>),
    End(String),
}

pub fn run(input: &[u8]) {
    let whole = block_on(heard(input, Cuts::Whole, 4096));
    for (cuts, room) in Cuts::of(input).into_iter().zip([1, 7, 300]) {
        assert_eq!(block_on(heard(input, cuts, room)), whole, "{cuts:?}, {room} bytes of room");
    }
}

/// Hears a session, with a body's buffer of `room` bytes.
async fn heard(input: &[u8], cuts: Cuts, room: usize) -> Vec<Heard> {
    let mut connection = Connection::new(Pieces::new(input, cuts), deadline()).with_max_line(700);
    let mut heard = Vec::new();
    loop {
        let command = match connection.read_command().await {
            Ok(command) => command,
            Err(error) => {
                heard.push(Heard::End(error.to_string()));
                return heard;
            }
        };
        let next = match &command {
            Some(Command::Send { size, .. }) if (1..=MAX_BODY).contains(size) => {
                connection.begin_body(*size);
                let mut body = Vec::new();
                let mut piece = Vec::with_capacity(room);
                let end = loop {
                    match connection.read_body(&mut piece).await {
                        Ok(0) => break None,
                        Ok(_) => {
                            assert!(piece.len() <= room.max(piece.capacity()));
                            body.append(&mut piece);
                        }
                        Err(error) => break Some(error),
                    }
                };
                assert!(body.len() as u64 <= *size && body.len() <= input.len());
                match end {
                    Some(error) => {
                        heard.extend([
                            Heard::Command(command),
                            Heard::Body(body),
                            Heard::End(error.to_string()),
                        ]);
                        return heard;
                    }
                    None => Some(Heard::Body(body)),
                }
            }
            Some(Command::Receive { .. } | Command::List { .. } | Command::Move { .. }) => {
                match connection.read_reply_line().await {
                    Ok(line) => Some(Heard::Answer(Reply::parse(&line))),
                    Err(error) => Some(Heard::End(error.to_string())),
                }
            }
            _ => None,
        };
        let is_over = matches!(next, Some(Heard::End(_)));
        heard.push(Heard::Command(command));
        heard.extend(next);
        if is_over {
            return heard;
        }
    }
}

const MAX_BODY: u64 = 100_000;
