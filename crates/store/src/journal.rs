//! What a server asks of its journal, and nothing of how one works: another one can take the place of the log.
//!
//! A shard needs little: its end takes records in their order and says how far it has come ([`Store`]). The server needs a
//! little more: what was there before, how it is, and an end. [`FileJournal`] is the log on a file system, [`Ephemeral`]
//! keeps nothing.

use std::path::Path;

use shard_core::{Entry, ExecutionId, Input, JournalEvent, ReadFailure, Recovery, Seating, Ticket};

use super::{
    StoreError,
    function::Functions,
    index::Index,
    recovery::{self, Progress, Taken},
    writer::{Figures, Report, Writer},
};

/// Takes the records of one shard, on that shard's thread.
pub trait Store {
    /// Takes the next record. Never blocks. Returns what is known at once; else [`JournalEvent::Safe`] or
    /// [`JournalEvent::Failed`] reaches the shard later, at least once for all records up to a number.
    fn append(&mut self, number: u64, entry: Entry) -> Option<Input>;

    /// Asks how an execution ended, as its newest record says that was told to be written. Never blocks. Returns what is known
    /// at once; else [`JournalEvent::Read`] reaches the shard later, once.
    fn read_result(&mut self, id: ExecutionId, ticket: Ticket) -> Option<Input>;
}

/// Keeps the records of all shards, and gives back what they add up to.
pub trait Journal: Send + Sync {
    /// Whether what is in it is there for the next server. Otherwise a server recovers nothing, and leaves nothing to the next one.
    fn is_durable(&self) -> bool;

    /// The end of one shard. It takes records from the start; they are written once [`Journal::recover`] has gone on behind
    /// what is there.
    fn shard(&self, shard: u16) -> Box<dyn Store>;

    /// Reads what is there, and goes on behind it: what each shard takes back of the partitions that it seats, in the order of the
    /// shards; no shard at all, if nothing is ever kept. Of results, each shard's holds so many bytes at most, if there is a bound; the
    /// others can be read ([`Store::read_result`]). Waits for the disk, or whatever is in its place. Called until it succeeds or its
    /// error is not passing
    /// ([`StoreError::is_passing`]), then never again.
    ///
    /// # Errors
    /// When what is there cannot be had, or is not what was written.
    fn recover(
        &self,
        seating: Seating,
        results_bytes_max: Option<u64>,
        progress: &Progress,
    ) -> Result<Vec<Recovery>, StoreError>;

    /// What it has done since the start, and how it is.
    fn figures(&self) -> Figures;

    /// Why it takes nothing at the moment, for a person.
    fn trouble(&self) -> Option<String>;

    /// Writes what is pending, and ends. Called when no shard appends anything any more.
    fn close(&self);
}

/// Takes every record for safe and forgets it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ephemeral;

impl Store for Ephemeral {
    fn append(&mut self, number: u64, _entry: Entry) -> Option<Input> {
        Some(Input::Journal(JournalEvent::Safe { through: number }))
    }

    fn read_result(&mut self, id: ExecutionId, ticket: Ticket) -> Option<Input> {
        Some(Input::Journal(JournalEvent::Read { ticket, id, result: Err(ReadFailure::Missing) }))
    }
}

impl Journal for Ephemeral {
    fn is_durable(&self) -> bool {
        false
    }

    fn shard(&self, _shard: u16) -> Box<dyn Store> {
        Box::new(Ephemeral)
    }

    fn recover(
        &self,
        _seating: Seating,
        _results_bytes_max: Option<u64>,
        _progress: &Progress,
    ) -> Result<Vec<Recovery>, StoreError> {
        Ok(Vec::new())
    }

    fn figures(&self) -> Figures {
        Figures::default()
    }

    fn trouble(&self) -> Option<String> {
        None
    }

    fn close(&self) {}
}

/// The log in a data directory. [`Journal::close`] it, or what is pending is lost.
pub struct FileJournal {
    directory: Taken,
    writer: Writer,
}

impl FileJournal {
    /// Takes a data directory for a server with so many shards; `report` tells one of them what became of its records.
    ///
    /// # Errors
    /// When it is in use, cannot be written, or has another format.
    pub fn take(
        data_dir: &Path,
        functions: &'static dyn Functions,
        shards: u16,
        report: Report,
    ) -> Result<FileJournal, StoreError> {
        let directory = recovery::take(data_dir, functions)?;
        let writer = Writer::new(shards, report, functions);
        Ok(FileJournal { directory, writer })
    }
}

impl Journal for FileJournal {
    fn is_durable(&self) -> bool {
        true
    }

    fn shard(&self, shard: u16) -> Box<dyn Store> {
        Box::new(self.writer.shard(shard))
    }

    fn recover(
        &self,
        seating: Seating,
        results_bytes_max: Option<u64>,
        progress: &Progress,
    ) -> Result<Vec<Recovery>, StoreError> {
        let opened = self.directory.open()?;
        // Before anything is written: what a newer version wrote is not changed.
        let index = Index::default();
        let recovered = opened.read(seating, results_bytes_max, progress, &index)?;
        opened.mend()?;
        opened.start(&self.writer, index)?;
        Ok(recovered)
    }

    fn figures(&self) -> Figures {
        self.writer.figures()
    }

    fn trouble(&self) -> Option<String> {
        self.writer.trouble()
    }

    fn close(&self) {
        self.writer.stop();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        fs,
        path::PathBuf,
        sync::{Arc, mpsc::channel},
        time::Duration,
    };

    use shard_core::{Epoch, ExecutionId, Name, Payload, Record, Stored};

    use super::*;
    use crate::{
        codec::tests::Plain,
        directory::Directory,
        files::OsFiles,
        head::Head,
        segment::{
            Mark,
            tests::{Scratch, write},
        },
    };

    fn accepted() -> Entry {
        let function = Name::new("f").expect("a name");
        let record = Record::Accepted {
            id: ExecutionId::new([7; 16], function.owner_hash()),
            function,
            created_ms: 1,
            payload: Payload::json("1"),
            extra: None,
            callback_url: None,
        };
        Entry::of(Epoch(1), record)
    }

    /// What a server does with a journal: recovers, appends, waits until that is safe, ends. Returns what it found.
    fn serve(journal: &dyn Journal, safe: impl Fn() -> Input) -> usize {
        let mut shard = journal.shard(0);
        let at_once = shard.append(1, accepted());
        let recovered = journal.recover(Seating::of(1), None, &Progress::default()).expect("it is whole");
        let said = at_once.unwrap_or_else(safe);
        assert!(matches!(said, Input::Journal(JournalEvent::Safe { through: 1 })), "{said:?}");
        assert_eq!(journal.trouble(), None);
        journal.close();
        let found = recovered.into_iter().flat_map(Recovery::into_stored);
        found.filter(|stored| matches!(stored, Stored::Execution(_))).count()
    }

    #[test]
    fn every_journal_takes_records_and_what_is_durable_comes_back() {
        let scratch = Scratch::new("journal");
        for start in 0..2 {
            let (sender, receiver) = channel();
            let report: Report = Arc::new(move |_, input| drop(sender.send(input)));
            let journal = FileJournal::take(&scratch.0, &Plain, 1, report).expect("a directory");
            let safe = || receiver.recv_timeout(Duration::from_secs(60)).expect("it is told");
            assert!(journal.is_durable());
            assert_eq!(serve(&journal, safe), start, "what the server before kept");
            assert!(journal.figures().commits > 0);
        }
        for _ in 0..2 {
            assert!(!Ephemeral.is_durable());
            assert_eq!(serve(&Ephemeral, || panic!("it is known at once")), 0);
            assert_eq!(Ephemeral.figures(), Figures::default());
        }
    }

    #[test]
    fn what_a_newer_version_wrote_is_refused_before_anything_is_changed() {
        let scratch = Scratch::new("journal-newer");
        let store = scratch.0.join("store");
        let contents = || -> BTreeMap<PathBuf, Vec<u8>> {
            let files = fs::read_dir(&store).expect("a directory").map(|file| file.expect("readable").path());
            files.map(|path| (path.clone(), fs::read(&path).expect("readable"))).collect()
        };
        // A record of a kind that this version does not know is in the first file; the last commit of the second is whole or torn.
        for missing_bytes in [0, 1] {
            fs::create_dir_all(&store).expect("writable");
            let (_, before) = write(&store, 1, Mark::default(), &[&[2, 0, 0, 0, 18, 1]]);
            let (newest, _) = write(&store, 2, before, &[b""]);
            let file = fs::File::options().write(true).open(&newest.path).expect("it is there");
            file.set_len(newest.bytes - missing_bytes).expect("writable");
            // What a compaction did not come to an end with.
            fs::write(store.join("0000000001-0000000002.log.new"), "half").expect("writable");
            let head = Head { newest: 2, mark: Mark::default(), closed: false };
            let directory = Directory::of(Arc::new(OsFiles), store.clone());
            directory.set_format(&head).expect("writable");
            let found = contents();
            let journal = FileJournal::take(&scratch.0, &Plain, 1, Arc::new(|_, _| {})).expect("a directory");
            for _ in 0..2 {
                let refused = journal.recover(Seating::of(1), None, &Progress::default());
                assert!(matches!(refused, Err(StoreError::Newer { .. })), "{:?}", refused.err());
            }
            journal.close();
            assert!(contents() == found, "{missing_bytes}: {:?}", contents().keys());
            fs::remove_dir_all(&store).expect("writable");
        }
    }
}
