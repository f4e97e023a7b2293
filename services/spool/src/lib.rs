//! A durable folder of files: a name is there whole or not at all, and never
//! lost after it was promised.
//!
//! A file is written aside as a [`Draft`] under a name that nobody can ask
//! for, flushed, renamed, and its folder flushed; then [`Draft::commit`]
//! returns, which is the promise. Files that finish together share the
//! folder's flush. A [`Lease`] offers a file to one reader at a time and
//! removes it, durably, once the reader has it.
//!
//! Everything that touches the disk runs on tokio's blocking threads, never
//! on a runtime thread, and goes through the [`Disk`] seam.

pub mod blocking;
mod commit;
mod disk;
mod draft;
mod expire;
mod folder;
mod lock;
mod metrics;
mod name;
mod quota;
mod read;
mod spool;

pub use crate::{
    commit::CommitError,
    disk::{Disk, Identity, RealDisk, Space, Status},
    draft::Draft,
    expire::Expired,
    folder::{Census, Folder},
    name::{EntryName, EntryNameError, RESERVED},
    quota::{Claim, Limits, OverQuota, Quota},
    read::{Lease, Reader},
    spool::{Spool, SpoolError},
};
