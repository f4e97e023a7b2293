//! What can go wrong with a call.

use std::io;

use rustix::io::Errno;

/// The calls of the seam, but for those that cannot fail.
#[allow(missing_docs, reason = "they are the methods of `spool::Disk`")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Call {
    Create,
    Open,
    Write,
    Read,
    FlushData,
    FlushFolder,
    Rename,
    RenameNew,
    Remove,
    MakeFolder,
    List,
    Status,
    StatusOf,
    Space,
}

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// With this error, and nothing done. After a flush of data, what it was
    /// to bring to the disk never comes there, whatever a later one says: the
    /// system has marked it as clean.
    Fails(Errno),
    /// With this error, half of a write done; as [`Fault::Fails`] elsewhere.
    FallsShort(Errno),
    /// It waits until [`CrashingDisk::go_on`]; then it fails with this error,
    /// if there is one.
    ///
    /// [`CrashingDisk::go_on`]: crate::CrashingDisk::go_on
    Hangs(Option<Errno>),
}

impl Call {
    /// The errors that this call may meet on a disk that is full, broken or
    /// used by too many.
    pub fn faults(self) -> Vec<Fault> {
        let codes: &[Errno] = match self {
            Self::Create => &[Errno::NOSPC, Errno::IO, Errno::DQUOT, Errno::MFILE],
            Self::Open => &[Errno::IO, Errno::MFILE],
            Self::Write | Self::FlushData | Self::MakeFolder => &[Errno::NOSPC, Errno::IO, Errno::DQUOT],
            Self::Rename | Self::RenameNew => &[Errno::NOSPC, Errno::IO, Errno::DQUOT, Errno::NOENT],
            Self::FlushFolder | Self::List => &[Errno::IO, Errno::MFILE, Errno::NOENT],
            Self::Read | Self::Remove | Self::Status | Self::StatusOf | Self::Space => &[Errno::IO],
        };
        let mut faults: Vec<_> = codes.iter().map(|&code| Fault::Fails(code)).collect();
        if self == Self::Write {
            faults.extend(codes.iter().map(|&code| Fault::FallsShort(code)));
        }
        faults
    }
}

impl Fault {
    /// What the call ends with.
    pub(crate) fn error(self) -> Option<io::Error> {
        match self {
            Self::Fails(code) | Self::FallsShort(code) => Some(code.into()),
            Self::Hangs(code) => code.map(io::Error::from),
        }
    }
}
