//! Bytes that may be an archive unpack to one content or to none, whatever
//! pieces they come in, and never to more than the limit; and what is packed
//! comes out again.

use protocol::archive::{ArchiveError, Measured, Unpacker, pack};

use super::pieces::Cuts;

pub fn run(input: &[u8]) {
    // What begins otherwise is no archive from its first bytes on.
    if input.starts_with(b"PK") {
        unpack(input);
    } else {
        pack_and_unpack(input);
    }
}

fn unpack(input: &[u8]) {
    let whole = unpacked(input, Cuts::Whole, LIMIT);
    for cuts in Cuts::of(input) {
        let pieces = unpacked(input, cuts, LIMIT);
        match (&whole, &pieces) {
            (Ok(whole), Ok(pieces)) => assert!(whole == pieces, "{cuts:?}: another content"),
            (Err(_), Err(_)) => {}
            _ => panic!("{cuts:?}: {:?}, and whole {:?}", pieces.map(drop), whole.map(drop)),
        }
    }
}

/// The first byte says how often the rest is repeated.
fn pack_and_unpack(input: &[u8]) {
    let Some((&times, content)) = input.split_first() else { return };
    let content = content.repeat(usize::from(times).min(MAX_CONTENT / input.len()).max(1));
    let name = &input[..input.len().min(30)];

    let mut archive = Vec::new();
    let size = pack(name, &mut &*content, &mut archive).expect("nothing fails in memory");
    assert_eq!(size, archive.len() as u64);

    // What is announced is what is sent, whether it is kept or packed again.
    let measured = Measured::of(name, &*content, archive.len()).expect("nothing fails in memory");
    assert_eq!(measured.size(), size);
    assert!(measured.kept() == Some(&*archive), "what is kept differs");
    let mut again = Vec::new();
    Measured::pieces(size, name, &*content, |piece| {
        again.extend(piece);
        Ok(())
    })
    .expect("nothing has changed");
    assert!(again == archive, "the second pass differs");

    let [_, cuts, _] = Cuts::of(input);
    let out = unpacked(&archive, cuts, content.len() as u64).expect("an archive of ours unpacks");
    assert!(out == content, "{cuts:?}: another content");
}

fn unpacked(archive: &[u8], mut cuts: Cuts, limit: u64) -> Result<Vec<u8>, ArchiveError> {
    let (mut unpacker, mut out) = (Unpacker::new(limit), Vec::new());
    let mut rest = archive;
    let mut result = Ok(());
    while !rest.is_empty() && result.is_ok() {
        let (piece, more) = rest.split_at(cuts.next().min(rest.len()));
        result = unpacker.write(piece, &mut out);
        assert!(out.len() as u64 <= limit, "{} bytes, of {limit}", out.len());
        rest = more;
    }
    if let Err(error) = result {
        assert!(
            unpacker.write(b"", &mut out).is_err() && unpacker.finish().is_err(),
            "{error}, and it goes on"
        );
        return Err(error);
    }
    assert_eq!(unpacker.finish()?, out.len() as u64);
    Ok(out)
}

const LIMIT: u64 = 70_000;

/// Bytes that are packed.
const MAX_CONTENT: usize = 10_000;
