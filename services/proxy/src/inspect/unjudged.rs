//! What a side has sent and nobody could judge yet.

use std::mem;

use bytes::Bytes;

use super::{Foreign, MAX_LINE};

/// Bytes of which nobody can tell yet whether they are lines or a body; and
/// before them those that were judged since somebody asked for them.
#[derive(Default)]
pub(super) struct Unjudged {
    bytes: Vec<u8>,
    /// How many of them were judged: to drop each line from the front would
    /// move all that come behind it.
    judged: usize,
    /// How many of the others were searched for a newline.
    searched: usize,
}

// === impl Unjudged ===

impl Unjudged {
    /// Bytes to be judged.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.judged
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next line without its newline, if it is there and its start passes.
    pub(super) fn line(
        &mut self,
        start_passes: fn(&[u8]) -> Result<(), Foreign>,
    ) -> Result<Option<Bytes>, Foreign> {
        let run = &self.bytes[self.judged..];
        let newline = run[self.searched..].iter().position(|&byte| byte == b'\n');
        let newline = newline.map(|at| self.searched + at);
        start_passes(&run[..newline.unwrap_or(run.len())])?;
        if newline.unwrap_or(run.len()) >= MAX_LINE {
            return Err(Foreign::LongLine);
        }
        let Some(newline) = newline else {
            self.searched = run.len();
            return Ok(None);
        };
        let line = Bytes::copy_from_slice(&run[..newline]);
        self.take(newline as u64 + 1);
        Ok(Some(line))
    }

    /// Judges at most `most` bytes, as those of a body, and gives a look at them.
    pub(super) fn take(&mut self, most: u64) -> &[u8] {
        let count = self.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        self.judged += count;
        self.searched = 0;
        &self.bytes[self.judged - count..self.judged]
    }

    /// Gives away what was judged.
    pub(super) fn take_judged(&mut self) -> Vec<u8> {
        if self.judged == 0 {
            return Vec::new();
        }
        // A session that waits holds nothing.
        let rest = self.bytes.split_off(mem::take(&mut self.judged));
        mem::replace(&mut self.bytes, rest)
    }
}
