//! The disk itself: its calls, counted, and its ends.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use fastrand::Rng;
use rustix::io::Errno;
use spool::{Disk, Identity, Space, Status};

use crate::{
    fault::{Call, Fault},
    tree::{Content, Id, Names, Node, Place, Tree},
};

/// A disk in memory. The clones are the same disk.
#[derive(Clone, Debug)]
pub struct CrashingDisk(Arc<Machine>);

/// An open file. Of no more use after the disk went down.
#[derive(Debug)]
pub struct Handle {
    id: Id,
    life: usize,
}

#[derive(Debug)]
struct Machine {
    state: Mutex<State>,
    goes_on: Condvar,
}

#[derive(Debug)]
struct State {
    tree: Tree,
    /// How often it was started.
    life: usize,
    is_down: bool,
    /// Since the start.
    calls: Vec<(Call, PathBuf)>,
    fault: Option<(Which, Fault)>,
    /// Calls before it goes down.
    left: Option<usize>,
    hangs: bool,
}

/// The call that goes wrong.
#[derive(Debug)]
enum Which {
    /// By its number since the start.
    Number(usize),
    /// The next of this kind.
    Next(Call, PathBuf),
}

impl CrashingDisk {
    /// One with an empty folder at `root`, which is safe.
    pub fn new(root: &Path) -> Self {
        let mut tree = Tree::new();
        make_folders(&mut tree, root).expect("an empty disk has room");
        for folder in root.ancestors() {
            let id = tree.find(folder).expect("it was just made");
            tree.flush_folder(id);
        }
        let state =
            State { tree, life: 0, is_down: false, calls: Vec::new(), fault: None, left: None, hangs: false };
        Self(Arc::new(Machine { state: Mutex::new(state), goes_on: Condvar::new() }))
    }

    /// Lets so many more calls through. It is down then: every call fails.
    pub fn goes_down_after(&self, calls: usize) {
        self.state().left = Some(calls);
    }

    /// Takes it down now.
    pub fn goes_down(&self) {
        self.state().is_down = true;
    }

    /// Starts it again after a power cut: what comes through of what was not
    /// flushed is a matter of chance.
    pub fn restarts_after_power_cut(&self, chance: &mut Rng) {
        self.state().tree.power_cut(chance);
        self.restarts();
    }

    /// Starts it again after a power cut that left nothing but what was
    /// flushed.
    pub fn restarts_with_what_was_flushed(&self) {
        self.state().tree.power_cut_at_worst();
        self.restarts();
    }

    /// Starts it again after the process alone was killed: everything is as
    /// it was seen, and no more of it is safe than before.
    pub fn restarts(&self) {
        let mut state = self.state();
        state.life += 1;
        (state.is_down, state.left, state.fault) = (false, None, None);
        state.calls.clear();
    }

    /// Has the call of this number go wrong, counted since the start.
    pub fn fails_at(&self, call: usize, fault: Fault) {
        self.state().fault = Some((Which::Number(call), fault));
    }

    /// Has the next call of this kind and path go wrong.
    pub fn fails_next(&self, call: Call, path: &Path, fault: Fault) {
        self.state().fault = Some((Which::Next(call, path.to_owned()), fault));
    }

    /// Ends what hangs.
    pub fn go_on(&self) {
        self.state().hangs = false;
        self.0.goes_on.notify_all();
    }

    /// Whether a call hangs.
    pub fn hangs(&self) -> bool {
        self.state().hangs
    }

    /// The calls since the start, each with its path; empty for those on an
    /// open file.
    pub fn calls(&self) -> Vec<(Call, PathBuf)> {
        self.state().calls.clone()
    }

    /// Whether it was taken down.
    pub fn is_down(&self) -> bool {
        self.state().is_down
    }

    /// Every file below a folder, as processes see it.
    pub fn files_below(&self, folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let (state, mut files) = (self.state(), BTreeMap::new());
        let mut folders = vec![PathBuf::new()];
        while let Some(below) = folders.pop() {
            let found = state.tree.find(&folder.join(&below));
            let Ok(names) = found.and_then(|id| state.tree.folder(id)) else { continue };
            for (name, id) in &names.seen {
                match state.tree.file(*id) {
                    Some(content) => _ = files.insert(below.join(name), content.seen.clone()),
                    None => folders.push(below.join(name)),
                }
            }
        }
        files
    }

    /// Somebody else removes a file or a folder with all that is in it.
    pub fn vanishes(&self, path: &Path) {
        let mut state = self.state();
        if let Ok(place) = state.tree.place(path) {
            state.tree.change(vec![(place, None)]);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a call; the fault that it meets, if it does not end it.
    fn enter(&self, call: Call, path: &Path) -> Result<(MutexGuard<'_, State>, Option<Fault>), io::Error> {
        let mut state = self.state();
        if state.left == Some(0) {
            state.is_down = true;
        }
        if state.is_down {
            return Err(Errno::IO.into());
        }
        state.left = state.left.map(|left| left - 1);
        let number = state.calls.len();
        state.calls.push((call, path.to_owned()));
        let is_meant = |(which, _): &mut (Which, Fault)| match which {
            Which::Number(wanted) => *wanted == number,
            Which::Next(wanted, at) => *wanted == call && at == path,
        };
        let fault = state.fault.take_if(is_meant).map(|(_, fault)| fault);
        if let Some(Fault::Hangs(_)) = fault {
            state.hangs = true;
            let hangs = |state: &mut State| state.hangs;
            state = self.0.goes_on.wait_while(state, hangs).unwrap_or_else(PoisonError::into_inner);
            if state.is_down {
                return Err(Errno::IO.into());
            }
        }
        Ok((state, fault.filter(|fault| fault.error().is_some())))
    }

    /// Begins a call that has nothing to leave half done.
    fn begin(&self, call: Call, path: &Path) -> io::Result<MutexGuard<'_, State>> {
        let (state, fault) = self.enter(call, path)?;
        ended(fault)?;
        Ok(state)
    }
}

impl State {
    fn check(&self, file: &Handle) -> io::Result<()> {
        if file.life == self.life { Ok(()) } else { Err(Errno::IO.into()) }
    }

    fn is_empty_folder(&self, id: Id) -> bool {
        self.tree.folder(id).is_ok_and(|names| names.seen.is_empty())
    }

    fn rename(&mut self, from: Place, to: Place) -> io::Result<()> {
        let id = self.tree.at(&from).ok_or(Errno::NOENT)?;
        let is_file = self.tree.file(id).is_some();
        match self.tree.at(&to) {
            Some(there) if is_file && self.tree.file(there).is_none() => Err(Errno::ISDIR.into()),
            Some(there) if !is_file && self.tree.file(there).is_some() => Err(Errno::NOTDIR.into()),
            Some(there) if !is_file && !self.is_empty_folder(there) => Err(Errno::NOTEMPTY.into()),
            _ => {
                self.tree.change(vec![(from, None), (to, Some(id))]);
                Ok(())
            }
        }
    }

    fn status(&self, id: Id) -> Status {
        let file = self.tree.file(id);
        Status {
            size: file.map_or(0, |content| content.seen.len() as u64),
            identity: Identity::new(0, id as u64),
            is_file: file.is_some(),
            // Its clock stands still.
            modified: Some(SystemTime::UNIX_EPOCH),
        }
    }
}

impl Disk for CrashingDisk {
    type File = Handle;

    fn create(&self, path: &Path) -> io::Result<Handle> {
        let mut state = self.begin(Call::Create, path)?;
        let place = state.tree.place(path)?;
        if state.tree.at(&place).is_some() {
            return Err(Errno::EXIST.into());
        }
        let id = state.tree.add(place, Node::File(Content::default()));
        Ok(Handle { id, life: state.life })
    }

    fn open(&self, path: &Path) -> io::Result<Handle> {
        let state = self.begin(Call::Open, path)?;
        let id = state.tree.find(path)?;
        if state.tree.file(id).is_none() {
            return Err(Errno::NOENT.into());
        }
        Ok(Handle { id, life: state.life })
    }

    fn write(&self, file: &Handle, piece: &[u8]) -> io::Result<()> {
        let (mut state, fault) = self.enter(Call::Write, Path::new(""))?;
        state.check(file)?;
        let accepted = match fault {
            None => piece.len(),
            Some(Fault::FallsShort(_)) => piece.len() / 2,
            Some(_) => 0,
        };
        state.tree.file_mut(file.id)?.seen.extend_from_slice(&piece[..accepted]);
        ended(fault)
    }

    fn read(&self, file: &Handle, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.begin(Call::Read, Path::new(""))?;
        state.check(file)?;
        let content = state.tree.file(file.id).ok_or(Errno::ISDIR)?;
        let rest = content.seen.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn begin_flush(&self, _: &Handle, _: u64, _: u64) {}

    fn flush_data(&self, file: &Handle) -> io::Result<()> {
        let (mut state, fault) = self.enter(Call::FlushData, Path::new(""))?;
        state.check(file)?;
        let content = state.tree.file_mut(file.id)?;
        match fault {
            None => content.flush(),
            Some(_) => content.lose(),
        }
        ended(fault)
    }

    fn flush_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.begin(Call::FlushFolder, folder)?;
        let id = state.tree.find(folder)?;
        state.tree.flush_folder(id);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.begin(Call::Rename, to)?;
        let (from, to) = (state.tree.place(from)?, state.tree.place(to)?);
        state.rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.begin(Call::RenameNew, to)?;
        let (from, to) = (state.tree.place(from)?, state.tree.place(to)?);
        if state.tree.at(&from).is_some() && state.tree.at(&to).is_some() {
            return Err(Errno::EXIST.into());
        }
        state.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.begin(Call::Remove, path)?;
        let place = state.tree.place(path)?;
        let id = state.tree.at(&place).ok_or(Errno::NOENT)?;
        if state.tree.file(id).is_none() {
            return Err(Errno::ISDIR.into());
        }
        state.tree.change(vec![(place, None)]);
        Ok(())
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        make_folders(&mut self.begin(Call::MakeFolder, path)?.tree, path)
    }

    fn list(&self, folder: &Path, each: &mut dyn FnMut(&OsStr)) -> io::Result<()> {
        let names: Vec<_> = {
            let state = self.begin(Call::List, folder)?;
            state.tree.folder(state.tree.find(folder)?)?.seen.keys().cloned().collect()
        };
        names.iter().for_each(|name| each(name));
        Ok(())
    }

    fn status(&self, path: &Path) -> io::Result<Status> {
        let state = self.begin(Call::Status, path)?;
        let id = state.tree.find(path)?;
        Ok(state.status(id))
    }

    fn status_of(&self, file: &Handle) -> io::Result<Status> {
        let state = self.begin(Call::StatusOf, Path::new(""))?;
        state.check(file)?;
        Ok(state.status(file.id))
    }

    fn space(&self, folder: &Path) -> io::Result<Space> {
        drop(self.begin(Call::Space, folder)?);
        Ok(Space { total: 1 << 40, available: 1 << 40 })
    }
}

fn ended(fault: Option<Fault>) -> io::Result<()> {
    fault.and_then(Fault::error).map_or(Ok(()), Err)
}

fn make_folders(tree: &mut Tree, path: &Path) -> io::Result<()> {
    let mut above: Vec<_> = path.ancestors().filter(|part| part.file_name().is_some()).collect();
    above.reverse();
    for part in above {
        let place = tree.place(part)?;
        match tree.at(&place) {
            Some(id) => _ = tree.folder(id)?,
            None => _ = tree.add(place, Node::Folder(Names::default())),
        }
    }
    Ok(())
}
