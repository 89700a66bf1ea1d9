//! For tests: a disk that does what it is told, and records that are small.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use shard_core::{
    ExecutionId, Name, Output, Payload, Record,
    journal::{End, EndResult},
};

use super::files::{File, Files, OsFiles};

type Hook = Box<dyn Fn() + Send>;

/// The machine's file system, which fails when it is told to. Clones are the same one.
#[derive(Clone, Default)]
pub(super) struct Disk(Arc<State>);

#[derive(Default)]
struct State {
    fails: AtomicBool,
    /// With a permission that is missing, not with a disk that is full.
    is_final: AtomicBool,
    /// How long a file may become; 0: as long as it likes.
    room: AtomicU64,
    /// Files that were created.
    created: AtomicU64,
    on_create: Mutex<Option<Hook>>,
    on_open: Mutex<Option<Hook>>,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Disk")
    }
}

impl Disk {
    /// From now on nothing can be created or written; or it can again.
    pub(super) fn fail(&self, fails: bool) {
        self.0.fails.store(fails, Ordering::Release);
    }

    /// The same, for a reason that does not pass.
    pub(super) fn forbid(&self) {
        self.0.is_final.store(true, Ordering::Release);
        self.fail(true);
    }

    /// Nothing is written behind this place of a file.
    pub(super) fn limit(&self, bytes: u64) {
        self.0.room.store(bytes, Ordering::Release);
    }

    /// How many files were created so far.
    pub(super) fn created(&self) -> u64 {
        self.0.created.load(Ordering::Acquire)
    }

    /// Calls this when the next file is created.
    pub(super) fn on_create(&self, hook: impl Fn() + Send + 'static) {
        *self.0.on_create.lock() = Some(Box::new(hook));
    }

    /// Calls this when the next file is opened, before it is.
    pub(super) fn on_open(&self, hook: impl Fn() + Send + 'static) {
        *self.0.on_open.lock() = Some(Box::new(hook));
    }

    fn check(&self) -> io::Result<()> {
        match self.0.fails.load(Ordering::Acquire) {
            true if self.0.is_final.load(Ordering::Acquire) => Err(io::ErrorKind::PermissionDenied.into()),
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

impl Files for Disk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let hook = self.0.on_create.lock().take();
        if let Some(hook) = hook {
            hook();
        }
        self.check()?;
        self.0.created.fetch_add(1, Ordering::AcqRel);
        Ok(Box::new(Open(OsFiles.create(path)?, self.clone())))
    }
    fn open(&self, path: &Path, write: bool) -> io::Result<Box<dyn File>> {
        let hook = self.0.on_open.lock().take();
        if let Some(hook) = hook {
            hook();
        }
        Ok(Box::new(Open(OsFiles.open(path, write)?, self.clone())))
    }
    fn list(&self, directory: &Path) -> io::Result<Vec<(String, u64)>> {
        OsFiles.list(directory)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsFiles.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        OsFiles.remove(path)
    }
    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        OsFiles.sync_directory(directory)
    }
    fn key(&self) -> io::Result<[u8; 16]> {
        OsFiles.key()
    }
}

struct Open(Box<dyn File>, Disk);

impl File for Open {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(bytes, offset)
    }
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.1.check()?;
        let room = self.1.0.room.load(Ordering::Acquire);
        if room > 0 && offset + bytes.len() as u64 > room {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.write_at(bytes, offset)
    }
    fn set_len(&mut self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.1.check()?;
        self.0.sync()
    }
}

pub(super) fn name() -> Name {
    // One letter is a name; and only tests ask.
    Name::new("f").expect("a name")
}

pub(super) fn id(number: u8) -> ExecutionId {
    ExecutionId::new([number; 16], name().owner_hash())
}

pub(super) fn accepted(number: u8) -> Record {
    Record::Accepted {
        id: id(number),
        function: name(),
        created_ms: 1,
        payload: Payload::json("1"),
        extra: None,
        callback_url: None,
    }
}

/// A fact: it is kept when it cannot be written.
pub(super) fn ended(number: u8) -> Record {
    let result = EndResult::Output(Output::null());
    let end = End { result, dispatched_ms: 1, finished_ms: 2, cold_start: false, init_ms: None };
    Record::Ended { id: id(number), end: Box::new(end), dead: false }
}
