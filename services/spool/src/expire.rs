//! Removing files for their age.

use std::{io, os::unix::ffi::OsStrExt as _, time::SystemTime};

use crate::{
    disk::{Disk, Status},
    folder::{Folder, Held},
    name::EntryName,
};

/// What was removed for its age.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the oldest came.
    pub oldest: Option<SystemTime>,
    /// Whether there were more than were asked for.
    pub has_more: bool,
}

impl<D: Disk> Folder<D> {
    /// Removes files that came before `before`, at most `most`, and makes that
    /// survive a power cut: none that is offered to a reader, and none that
    /// was replaced meanwhile. Blocks.
    ///
    /// Beside what was removed stands the disk's error, where one came up:
    /// others were removed nevertheless.
    pub fn expire(&self, before: SystemTime, most: usize) -> (Expired, io::Result<()>) {
        let is_old = |found: &Status| found.is_file && found.modified.is_some_and(|came| came < before);
        let (state, mut old, mut done) = (&self.0, Vec::new(), Ok(()));
        let listed = state.list(&mut |name| {
            let Ok(name) = EntryName::new(name.as_bytes()) else { return };
            if old.len() > most {
                return;
            }
            match state.disk.status(&name.within(&state.path)) {
                Ok(found) if is_old(&found) => old.push(name),
                // One that is gone meanwhile is none.
                Err(error) if error.kind() != io::ErrorKind::NotFound => done = Err(error),
                _ => {}
            }
        });
        done = listed.and(done);
        let mut expired = Expired { has_more: old.len() > most, ..Expired::default() };
        for name in old.into_iter().take(most) {
            if !self.leases().insert(name.clone()) {
                continue;
            }
            let held = Held { folder: self.clone(), name };
            match state.remove_where(&held.name, is_old) {
                Ok(None) => {}
                Ok(Some(found)) => {
                    expired.files += 1;
                    expired.bytes += found.size;
                    expired.oldest = [expired.oldest, found.modified].into_iter().flatten().min();
                }
                Err(error) => {
                    done = Err(error);
                    break;
                }
            }
        }
        // Even where one could not be removed: others were.
        if expired.files > 0 {
            done = done.and(state.flush());
        }
        (expired, done)
    }
}
