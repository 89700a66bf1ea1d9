//! A file system that is played. It keeps two states: what programs see, and what is on the disk. A sync takes the one into
//! the other; without one a power failure keeps any part of it: sectors and lengths of files one by one, and changes of the
//! directory in any selection.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

use nanofaas_store::files::{File, Files};
use shard_sim::random::Random;

/// Bytes that the disk writes as a whole.
pub(crate) const SECTOR: usize = 512;

/// What goes wrong, in thousandths.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// Writes, syncs, renames that fail.
    pub(crate) fails: u32,
    /// Bytes that there is room for.
    pub(crate) room: Option<usize>,
    /// Syncs of files that do nothing.
    pub(crate) file_syncs_lost: bool,
    /// Syncs of the directory that do nothing.
    pub(crate) directory_syncs_lost: bool,
    /// Syncs of files before they get their name that do nothing.
    pub(crate) new_file_syncs_lost: bool,
    /// Reads in which a bit flips.
    pub(crate) flips: u32,
}

#[derive(Debug, Clone, Default)]
struct Inode {
    seen: Vec<u8>,
    on_disk: Vec<u8>,
    /// Sectors that differ, as far as the system knows.
    dirty: BTreeSet<usize>,
    is_new: bool,
}

#[derive(Debug, Clone)]
enum Change {
    Name(String, usize),
    Rename(String, String, usize),
    Remove(String),
}

#[derive(Debug, Clone)]
struct State {
    inodes: Vec<Inode>,
    seen: BTreeMap<String, usize>,
    on_disk: BTreeMap<String, usize>,
    changes: Vec<Change>,
    random: Random,
    faults: Faults,
    keys: u64,
}

/// See the module. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct PlayedFiles(Arc<Mutex<State>>);

impl PlayedFiles {
    pub(crate) fn new(random: Random) -> PlayedFiles {
        PlayedFiles(Arc::new(Mutex::new(State {
            inodes: Vec::new(),
            seen: BTreeMap::new(),
            on_disk: BTreeMap::new(),
            changes: Vec::new(),
            random,
            faults: Faults::default(),
            keys: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic")
    }

    /// Returns what went wrong before.
    pub(crate) fn set_faults(&self, faults: Faults) -> Faults {
        std::mem::replace(&mut self.state().faults, faults)
    }

    /// Another one with the same files.
    pub(crate) fn copy(&self) -> PlayedFiles {
        PlayedFiles(Arc::new(Mutex::new(self.state().clone())))
    }

    /// Names of all files, with their bytes.
    pub(crate) fn all(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.state();
        state.seen.iter().map(|(name, inode)| (name.clone(), state.inodes[*inode].seen.clone())).collect()
    }

    /// Puts other bytes into a file, on the disk as well; `None` removes it.
    pub(crate) fn damage(&self, name: &str, bytes: Option<Vec<u8>>) {
        let mut state = self.state();
        match bytes {
            Some(bytes) => {
                let inode = state.seen[name];
                state.inodes[inode] =
                    Inode { seen: bytes.clone(), on_disk: bytes, dirty: BTreeSet::new(), is_new: false };
            }
            None => {
                state.seen.remove(name);
                state.on_disk.remove(name);
            }
        }
    }

    /// The power goes away.
    pub(crate) fn lose_power(&self) {
        let mut state = self.state();
        let state = &mut *state;
        for change in std::mem::take(&mut state.changes) {
            if state.random.chance(500) {
                apply(&mut state.on_disk, change);
            }
        }
        for inode in &mut state.inodes {
            inode.flush(&mut state.random, 500);
            inode.seen = inode.on_disk.clone();
            inode.dirty.clear();
        }
        state.seen = state.on_disk.clone();
    }
}

fn apply(names: &mut BTreeMap<String, usize>, change: Change) {
    match change {
        Change::Name(name, inode) => {
            names.insert(name, inode);
        }
        Change::Rename(from, to, inode) => {
            names.remove(&from);
            names.insert(to, inode);
        }
        Change::Remove(name) => {
            names.remove(&name);
        }
    }
}

impl Inode {
    fn touch(&mut self, from: usize, to: usize) {
        self.dirty.extend(from / SECTOR..to.div_ceil(SECTOR));
    }

    /// Takes some of what is seen to the disk.
    fn flush(&mut self, random: &mut Random, per_mille: u32) {
        let length = match random.below(3) {
            _ if per_mille == 1000 => self.seen.len(),
            0 => self.seen.len(),
            1 => self.on_disk.len(),
            _ => {
                let (a, b) = (self.seen.len() as u64, self.on_disk.len() as u64);
                // Data goes to the disk in sectors: a length in the middle of one is that of a write.
                let between = random.between(a.min(b), a.max(b)) as usize / SECTOR * SECTOR;
                between.max(a.min(b) as usize)
            }
        };
        self.on_disk.resize(length, 0);
        for sector in &self.dirty {
            if per_mille < 1000 && !random.chance(per_mille) {
                continue;
            }
            let (from, to) = (sector * SECTOR, (sector * SECTOR + SECTOR).min(length).min(self.seen.len()));
            if from < to {
                self.on_disk[from..to].copy_from_slice(&self.seen[from..to]);
            }
        }
    }
}

impl State {
    fn fail(&mut self) -> io::Result<()> {
        if self.random.chance(self.faults.fails) { Err(io::Error::other("it fails")) } else { Ok(()) }
    }

    fn used(&self) -> usize {
        let inodes: BTreeSet<usize> = self.seen.values().copied().collect();
        inodes.into_iter().map(|inode| self.inodes[inode].seen.len()).sum()
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().and_then(|name| name.to_str()).expect("names are text").to_owned()
}

impl Files for PlayedFiles {
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let mut state = self.state();
        state.fail()?;
        let name = name_of(path);
        // A file that is truncated is another one: what the old one held may be anywhere.
        let inode = state.inodes.len();
        state.inodes.push(Inode { is_new: name.ends_with(".new"), ..Inode::default() });
        state.seen.insert(name.clone(), inode);
        state.changes.push(Change::Name(name, inode));
        Ok(Box::new(PlayedFile { files: self.clone(), inode }))
    }

    fn open(&self, path: &Path, _write: bool) -> io::Result<Box<dyn File>> {
        let state = self.state();
        let inode = state.seen.get(&name_of(path)).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(PlayedFile { files: self.clone(), inode }))
    }

    fn list(&self, _directory: &Path) -> io::Result<Vec<(String, u64)>> {
        let state = self.state();
        Ok(state
            .seen
            .iter()
            .map(|(name, inode)| (name.clone(), state.inodes[*inode].seen.len() as u64))
            .collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.fail()?;
        let inode = state.seen.remove(&name_of(from)).ok_or(io::ErrorKind::NotFound)?;
        state.seen.insert(name_of(to), inode);
        state.inodes[inode].is_new = false;
        state.changes.push(Change::Rename(name_of(from), name_of(to), inode));
        // It may have been done all the same.
        state.fail()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.fail()?;
        state.seen.remove(&name_of(path)).ok_or(io::ErrorKind::NotFound)?;
        state.changes.push(Change::Remove(name_of(path)));
        Ok(())
    }

    fn sync_directory(&self, _directory: &Path) -> io::Result<()> {
        let mut state = self.state();
        if state.faults.directory_syncs_lost {
            return Ok(());
        }
        state.fail()?;
        for change in std::mem::take(&mut state.changes) {
            apply(&mut state.on_disk, change);
        }
        Ok(())
    }

    fn key(&self) -> io::Result<[u8; 16]> {
        let mut state = self.state();
        state.keys += 1;
        let [a, b] = [state.random.bits(), state.random.bits()];
        let mut key = [0; 16];
        key[..8].copy_from_slice(&a.to_le_bytes());
        key[8..].copy_from_slice(&b.to_le_bytes());
        Ok(key)
    }
}

struct PlayedFile {
    files: PlayedFiles,
    inode: usize,
}

impl File for PlayedFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = &mut *self.files.state();
        let rest = state.inodes[self.inode].seen.get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(bytes.len());
        bytes[..length].copy_from_slice(&rest[..length]);
        if length > 0 && state.random.chance(state.faults.flips) {
            bytes[state.random.below(length as u64) as usize] ^= 1 << state.random.below(8);
        }
        Ok(length)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.files.state();
        let state = &mut *state;
        let mut length = bytes.len();
        let is_full = state.faults.room.is_some_and(|room| state.used() + bytes.len() > room);
        let fails = state.fail().is_err();
        if is_full || fails {
            length = state.random.below(bytes.len() as u64 + 1) as usize;
        }
        let inode = &mut state.inodes[self.inode];
        let (from, to) = (offset as usize, offset as usize + length);
        if to > inode.seen.len() {
            inode.touch(inode.seen.len(), to);
            inode.seen.resize(to, 0);
        }
        inode.seen[from..to].copy_from_slice(&bytes[..length]);
        inode.touch(from, to);
        match (is_full, fails) {
            (true, _) => Err(io::ErrorKind::StorageFull.into()),
            (_, true) => Err(io::Error::other("it fails")),
            _ => Ok(()),
        }
    }

    fn set_len(&mut self, bytes: u64) -> io::Result<()> {
        let mut state = self.files.state();
        state.fail()?;
        let inode = &mut state.inodes[self.inode];
        inode.touch(inode.seen.len().min(bytes as usize), inode.seen.len().max(bytes as usize));
        inode.seen.resize(bytes as usize, 0);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.files.state();
        let state = &mut *state;
        let is_new = state.inodes[self.inode].is_new;
        if state.faults.file_syncs_lost || (is_new && state.faults.new_file_syncs_lost) {
            return Ok(());
        }
        let failed = state.fail();
        let inode = &mut state.inodes[self.inode];
        inode.flush(&mut state.random, if failed.is_err() { 500 } else { 1000 });
        // After a failure the system takes what it could not write for written.
        inode.dirty.clear();
        failed
    }
}
