//! A line is a command, a reply, both or neither; and what is read from it
//! writes a line that says the same.

use bytes::Bytes;
use protocol::{Command, Reply};

pub fn run(input: &[u8]) {
    // The framing gives no newline.
    for line in input.split(|&byte| byte == b'\n').map(Bytes::copy_from_slice) {
        if let Some(command) = Command::parse(&line) {
            let again = written(|out| command.write(out));
            // A number can be written in several ways; a size alone is one.
            assert!(again == line || matches!(command, Command::Send { .. }), "{line:?} became {again:?}");
            assert_eq!(Command::parse(&again), Some(command));
        }
        if let Some(reply) = Reply::parse(&line) {
            let again = written(|out| reply.write(out));
            assert_eq!(Reply::parse(&again), Some(reply));
        }
    }
}

fn written(write: impl Fn(&mut Vec<u8>)) -> Bytes {
    let mut line = Vec::new();
    write(&mut line);
    assert_eq!(line.pop(), Some(b'\n'));
    assert!(!line.contains(&b'\n'), "{line:?} is more than a line");
    line.into()
}
