//! What is sent, and what comes is compared with.

use protocol::archive::{Unpacker, pack};

use crate::step::MAX_SIZE;

/// What a body that was announced has to be.
pub(crate) enum Holds {
    Content(Vec<u8>),
    Packed(Vec<u8>),
    /// In any order.
    Names(Vec<Vec<u8>>),
}

impl Holds {
    pub(crate) fn check(&self, body: &[u8]) -> Result<(), String> {
        match self {
            Self::Content(content) if body == content => Ok(()),
            Self::Packed(content) if unpacked(body).as_ref() == Ok(content) => Ok(()),
            Self::Names(names) => {
                let mut listed: Vec<_> = body.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
                // The folders of filters stand in the root from their first
                // file on.
                listed.retain(|name| !matches!(&name[..], b"conf" | b"md5"));
                listed.sort();
                let mut wanted = names.clone();
                wanted.extend([b"".to_vec(), b".".to_vec(), b"..".to_vec()]);
                wanted.sort();
                if listed == wanted { Ok(()) } else { Err(format!("and the model lists {names:?}")) }
            }
            _ => Err("and the model has another content".to_owned()),
        }
    }
}

pub(crate) fn filled(size: usize, fill: u8) -> Vec<u8> {
    // Different at each place, so that no piece is taken for another.
    (0..size).map(|at| (at as u64).wrapping_mul(2_654_435_761).to_be_bytes()[5] ^ fill).collect()
}

pub(crate) fn packed(name: &[u8], mut content: &[u8]) -> Vec<u8> {
    let mut archive = Vec::new();
    pack(name, &mut content, &mut archive).unwrap();
    archive
}

fn unpacked(archive: &[u8]) -> Result<Vec<u8>, String> {
    let (mut unpacker, mut content) = (Unpacker::new(MAX_SIZE as u64), Vec::new());
    unpacker.write(archive, &mut content).map_err(|error| error.to_string())?;
    unpacker.finish().map_err(|error| error.to_string())?;
    Ok(content)
}
