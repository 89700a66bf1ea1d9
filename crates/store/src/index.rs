//! Where the newest end of each execution stands in the log, so that its result need not be in memory.
//!
//! The committer notes what a frame says when that is on disk, and before a shard hears of it; recovery notes it while it
//! reads; a compaction says where it has copied ends to, before it removes the files that they were in. An end of any kind
//! counts, for to tell whether there is a body in it costs more than its place. One that is forgotten or replayed has none.
//!
//! There are as many entries as executions that have ended and are kept. An entry is an id and a place, 28 bytes, with a byte of
//! the hash table, which is between 7/16 and 7/8 full: 33 to 66 bytes. While a compaction comes to its end, it has 40 bytes more
//! for each end that it has copied.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
};

use parking_lot::Mutex;
use shard_core::ExecutionId;

use super::{
    codec::{self, Subject, kind},
    fence::Fence,
    segment::Segment,
};

/// Tables that share the entries: one that grows keeps whoever waits for it for so much less time.
const TABLES: usize = 64;
/// Entries that a compaction moves before it lets others in.
const MOVES_AT_ONCE: usize = 1024;
/// Places of a table that are never given back.
const CAPACITY_MIN: usize = 64;

/// A record in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Location {
    file: FileNumber,
    /// Its frame's place in the file. No file has more than 256 TiB.
    frame: [u8; 6],
    /// Its place among the records of that frame.
    record: u32,
}

impl Location {
    pub(super) fn new(file: FileNumber, frame: u64, record: u32) -> Location {
        let [a, b, c, d, e, f, ..] = frame.to_le_bytes();
        Location { file, frame: [a, b, c, d, e, f], record }
    }

    /// Where its frame begins.
    pub(super) fn frame(&self) -> u64 {
        let [a, b, c, d, e, f] = self.frame;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }

    /// Where it begins in the records of its frame.
    pub(super) fn record(&self) -> usize {
        self.record as usize
    }
}

/// Stands for a file as long as that is a part of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileNumber(u16);

/// An end that was copied into another file, which had no number yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Copied {
    pub(super) id: ExecutionId,
    pub(super) from: Location,
    /// But for its file.
    pub(super) to: Location,
}

/// Takes random bits of an id as its hash: ids are made by the server, never by a caller.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        // Its length comes first, and is overwritten by the id.
        self.0 = bytes.first_chunk().map_or(self.0, |bits| u64::from_le_bytes(*bits));
    }
}

type Table = HashMap<ExecutionId, Location, BuildHasherDefault<IdHasher>>;

/// What an index says.
#[derive(Clone)]
pub(super) struct Ends {
    tables: Vec<Table>,
    /// By their numbers. `None`: that one is free.
    files: Vec<Option<Arc<Segment>>>,
    /// Entries of all tables.
    count: usize,
    fence: Fence,
}

impl Ends {
    fn table(&mut self, id: ExecutionId) -> &mut Table {
        // A byte that is random, and no part of the hash.
        let [.., byte, _, _] = id.bytes();
        &mut self.tables[usize::from(byte) % TABLES]
    }

    fn insert(&mut self, id: ExecutionId, location: Location) {
        self.count += usize::from(self.table(id).insert(id, location).is_none());
    }

    fn remove(&mut self, id: ExecutionId) {
        let table = self.table(id);
        if table.remove(&id).is_none() {
            return;
        }
        if table.capacity() > CAPACITY_MIN && table.len() < table.capacity() / 8 {
            table.shrink_to(table.len() * 2);
        }
        self.count -= 1;
    }
}

/// See the module.
pub(super) struct Index(Mutex<Ends>);

impl Default for Index {
    fn default() -> Index {
        Index(Mutex::new(Ends {
            tables: vec![Table::default(); TABLES],
            files: Vec::new(),
            count: 0,
            fence: Fence::default(),
        }))
    }
}

impl Index {
    /// The number of a file of the log. `None`: there are more than anybody can have.
    pub(super) fn file(&self, segment: &Segment) -> Option<FileNumber> {
        let state = &mut *self.0.lock();
        let is_it = |file: &Arc<Segment>| (file.first, file.last) == (segment.first, segment.last);
        let place = match state.files.iter().position(|file| file.as_ref().is_some_and(is_it)) {
            Some(place) => place,
            None => {
                let free = state.files.iter().position(Option::is_none).unwrap_or(state.files.len());
                if free == state.files.len() {
                    state.files.push(None);
                }
                state.files[free] = Some(Arc::new(segment.clone()));
                free
            }
        };
        u16::try_from(place).ok().map(FileNumber)
    }

    /// Notes what the records of a frame say. Without a number for its file, nothing can be read back from it.
    pub(super) fn note(&self, file: Option<FileNumber>, frame: u64, records: &[u8]) {
        let (mut state, mut next) = (None, 0);
        for record in codec::split(records).flatten() {
            let place = next;
            next += 4 + record.len();
            let Some(kind) = codec::kind_of(record) else { continue };
            let ends = says_end(kind);
            if ends.is_none() && kind != kind::BEGUN {
                continue;
            }
            let Ok(head) = codec::head(record) else { continue };
            let state = state.get_or_insert_with(|| self.0.lock());
            if state.fence.holds_off(&head) {
                continue;
            }
            let (Some(ends), Subject::Execution(id)) = (ends, head.subject) else { continue };
            match file {
                // No frame is longer than 4 GiB.
                Some(file) if ends => state.insert(id, Location::new(file, frame, place as u32)),
                _ => state.remove(id),
            }
        }
    }

    /// Where the newest end of an execution stands, and in which file that is.
    pub(super) fn find(&self, id: ExecutionId) -> Option<(Location, Arc<Segment>)> {
        let state = &mut *self.0.lock();
        let location = state.table(id).get(&id).copied()?;
        let file = state.files.get(usize::from(location.file.0))?.as_ref()?;
        Some((location, Arc::clone(file)))
    }

    /// This end is not copied into another file: its execution is forgotten.
    pub(super) fn dropped(&self, id: ExecutionId, from: Location) {
        let state = &mut *self.0.lock();
        if state.table(id).get(&id) == Some(&from) {
            state.remove(id);
        }
    }

    /// This file has taken the place of those before it, with these ends. Whatever became of one of them in the meantime counts.
    pub(super) fn replaced(&self, by: &Segment, copied: &[Copied]) {
        let file = self.file(by);
        for copied in copied.chunks(MOVES_AT_ONCE) {
            let state = &mut *self.0.lock();
            for Copied { id, from, to } in copied {
                match (state.table(*id).get_mut(id), file) {
                    (Some(location), Some(file)) if location == from => *location = Location { file, ..*to },
                    (Some(location), None) if location == from => state.remove(*id),
                    _ => {}
                }
            }
        }
        let is_gone = |file: &mut Arc<Segment>| {
            file.first >= by.first && file.last <= by.last && (file.first, file.last) != (by.first, by.last)
        };
        for file in &mut self.0.lock().files {
            file.take_if(is_gone);
        }
    }

    /// Entries.
    pub(super) fn len(&self) -> usize {
        self.0.lock().count
    }

    /// What it says; simulations have it say that later.
    pub(super) fn state(&self) -> Ends {
        self.0.lock().clone()
    }

    /// The other way round.
    pub(super) fn set_state(&self, state: Ends) {
        *self.0.lock() = state;
    }
}

/// Whether an execution has an end after a record of this kind. `None`: as before.
pub(super) fn says_end(kind: u8) -> Option<bool> {
    match kind {
        kind::ENDED | kind::KEPT => Some(true),
        kind::FORGOTTEN | kind::REPLAYED => Some(false),
        _ => None,
    }
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
