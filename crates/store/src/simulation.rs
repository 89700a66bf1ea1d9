//! The store without its threads: one step at a time, on a file system that somebody else provides. Simulations drive it
//! (`tests/store`); not part of the library's interface.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use parking_lot::Mutex;
use shard_core::{Entry, Epoch, ExecutionId, Input, journal::End};

use super::{
    Store, StoreError,
    codec::{self, Codec, Decoded, RecordHead, Subject, kind},
    committer::Committer,
    directory::Directory,
    files::Files,
    function::Functions,
    index::Index,
    lookup::Lookup,
    recovery,
    segment::{self, ReadEnd},
    unreadable::Unreadable,
    writer::{ShardStore, Shared},
};

type Told = Vec<(u16, Input)>;

/// See the module.
pub struct Stepped {
    committer: Committer,
    shards: Vec<ShardStore>,
    shared: Arc<Shared>,
    told: Arc<Mutex<Told>>,
    lookup: Lookup,
    broken: Option<BrokenIndex>,
}

/// What is broken on purpose where results are read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokenIndex {
    /// A compaction does not say where it has copied ends to.
    NotMoved,
    /// A frame is noted before it is on disk.
    NotedEarly,
    /// What is in a frame is believed.
    Unchecked,
}

impl Stepped {
    /// Opens what is there, with everything in it. Segments end when they have so many bytes, and a shard's lane is full when it
    /// has so many.
    ///
    /// # Errors
    /// When it does not open.
    pub fn open(
        files: Arc<dyn Files>,
        store: PathBuf,
        functions: &'static dyn Functions,
        shards: u16,
        segment_bytes: u64,
        lane_bytes: usize,
    ) -> Result<(Stepped, Vec<Entry>), StoreError> {
        let codec = Codec::new(functions);
        let directory = Arc::new(Directory::of(files, store));
        let opened = recovery::open(Arc::clone(&directory), codec)?;
        let mut entries = Vec::new();
        let index = Index::default();
        for segment in &opened.segments {
            let end = segment::read(&*directory.files, segment, |offset, frame| {
                index.note(index.file(segment), offset, &frame);
                for record in codec::split(&frame) {
                    let record = record.ok_or(Unreadable::Broken).and_then(|record| codec.decode(record));
                    match record.map_err(|why| why.in_frame(segment, offset))? {
                        Decoded::Owned(entry) => entries.push(entry),
                        Decoded::Old(record) => entries.push(Entry::of(Epoch::default(), record)),
                        Decoded::OldStart(_) => {}
                    }
                }
                Ok(())
            })?;
            if let ReadEnd::Damaged(damage, _) = end {
                return Err(damage.corrupt(segment));
            }
        }
        opened.mend()?;
        let told: Arc<Mutex<Told>> = Arc::default();
        let tells = Arc::clone(&told);
        let report = Arc::new(move |shard, input| tells.lock().push((shard, input)));
        let mut shared = Shared::new(shards, report, codec);
        shared.bounds = (lane_bytes / 2, lane_bytes);
        let shared = Arc::new(shared);
        let mut log = opened.log(index);
        log.set_segment_bytes(segment_bytes);
        // A thread would go on behind a crash.
        log.compactor.waits_for_orders = true;
        if let Err(error) = log.begin() {
            shared.fails(&error, log.path());
        }
        let shards = (0..shards).map(|shard| ShardStore { shard, shared: Arc::clone(&shared) }).collect();
        let lookup = log.lookup(codec);
        let committer = Committer::new(Arc::clone(&shared), log);
        Ok((Stepped { committer, shards, shared, told, lookup, broken: None }, entries))
    }

    /// Breaks it.
    pub fn sabotage(&mut self, broken: Option<BrokenIndex>) {
        self.broken = broken;
    }

    /// How an execution ended, read back from the log.
    ///
    /// # Errors
    /// When it cannot be read: where, and why.
    pub fn end_of(&self, id: ExecutionId) -> Result<Option<Box<End>>, (u64, StoreError)> {
        if self.broken == Some(BrokenIndex::Unchecked) {
            return Ok(self.lookup.unchecked_end_of(id));
        }
        self.lookup.end_of(id).map_err(|unread| (unread.offset, unread.error))
    }

    /// Takes the next record of a shard.
    pub fn append(&mut self, shard: u16, number: u64, entry: Entry) -> Option<Input> {
        self.shards.get_mut(usize::from(shard))?.append(number, entry)
    }

    /// Whether there is something to write, or a failure to get over.
    pub fn is_busy(&self) -> bool {
        self.committer.is_failing() || self.committer.is_pending()
    }

    /// Whether the last commit failed.
    pub fn is_failing(&self) -> bool {
        self.committer.is_failing()
    }

    /// Takes what is pending into a commit.
    pub fn gather(&mut self) {
        self.committer.gather(Instant::now());
    }

    /// Counts the commit as failed, until it is done. What shards are told.
    pub fn give_up(&mut self) -> Told {
        self.shared.give_up_overdue(|_| true, self.committer.log.path());
        std::mem::take(&mut self.told.lock())
    }

    /// Writes the commit. What shards are told.
    pub fn write(&mut self) -> Told {
        let probing = self.shared.failing.load(Ordering::Relaxed);
        if self.broken == Some(BrokenIndex::NotedEarly) {
            let Committer { log, frame, .. } = &mut self.committer;
            log.note(log.offset(), frame);
        }
        self.committer.write(probing);
        std::mem::take(&mut self.told.lock())
    }

    /// Nothing happens for a while.
    pub fn rest(&mut self) {
        self.committer.rest();
    }

    /// Nothing comes any more.
    pub fn close(&mut self) {
        self.committer.close();
    }

    /// Makes one segment of those that are written no more. Returns the executions that are gone with it. `loses`: one that is
    /// not forgotten with them.
    pub fn compact(&mut self, loses: bool) -> Vec<ExecutionId> {
        let mut dropped = Vec::new();
        let mut left = usize::from(loses);
        let before = (self.broken == Some(BrokenIndex::NotMoved)).then(|| self.committer.log.index.state());
        self.committer.log.compactor.run(|record, obsolete| {
            if obsolete
                && let Ok(RecordHead { kind: kind::FORGOTTEN, subject: Subject::Execution(id), .. }) =
                    codec::head(record)
            {
                dropped.push(id);
            }
            let is_lost = !obsolete && codec::is_acceptance(record) && left > 0;
            left -= usize::from(is_lost);
            !is_lost
        });
        before.into_iter().for_each(|state| self.committer.log.index.set_state(state));
        dropped
    }
}
