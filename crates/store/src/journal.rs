//! What a server asks of its journal, and nothing of how one works: another one can take the place of the log.
//!
//! A shard needs little: its end takes records in their order and says how far it has come ([`Store`]). The server needs a
//! little more: what was there before, how it is, and an end. [`FileJournal`] is the log on a file system, [`Ephemeral`]
//! keeps nothing.

use std::{path::Path, sync::OnceLock};

use shard_core::{Input, Record, Recovery};

use super::{
    StoreError,
    function::Functions,
    recovery::{self, Opened, Progress, Taken},
    writer::{Figures, Report, Writer},
};

/// Takes the records of one shard, on that shard's thread.
pub trait Store {
    /// Takes the next record. Never blocks. Returns what is known at once; else [`Input::Journaled`] or
    /// [`Input::JournalFailed`] reaches the shard later, at least once for all records up to a number.
    fn append(&mut self, number: u64, record: Record) -> Option<Input>;
}

/// Keeps the records of all shards, and gives back what they add up to.
pub trait Journal: Send + Sync {
    /// Whether what is in it is there for the next server. Otherwise a server recovers nothing, and leaves nothing to the next one.
    fn is_durable(&self) -> bool;

    /// The end of one shard. It takes records from the start; they are written once [`Journal::recover`] has gone on behind
    /// what is there.
    fn shard(&self, shard: u16) -> Box<dyn Store>;

    /// Goes on behind what is there, and reads it: what each shard takes back, in their order; no shard at all, if nothing is
    /// ever kept. Waits for the disk, or whatever is in its place. Called until it succeeds or its error is not passing
    /// ([`StoreError::is_passing`]), then never again.
    ///
    /// # Errors
    /// When what is there cannot be had, or is not what was written.
    fn recover(&self, shards: u16, progress: &Progress) -> Result<Vec<Recovery>, StoreError>;

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
    fn append(&mut self, number: u64, _record: Record) -> Option<Input> {
        Some(Input::Journaled { through: number })
    }
}

impl Journal for Ephemeral {
    fn is_durable(&self) -> bool {
        false
    }

    fn shard(&self, _shard: u16) -> Box<dyn Store> {
        Box::new(Ephemeral)
    }

    fn recover(&self, _shards: u16, _progress: &Progress) -> Result<Vec<Recovery>, StoreError> {
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
    /// What is there, once its end was found and is being written behind.
    opened: OnceLock<Opened>,
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
        Ok(FileJournal { directory, writer, opened: OnceLock::new() })
    }

    /// Starts writing behind what is there, unless that was done.
    fn open(&self) -> Result<&Opened, StoreError> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let opened = self.directory.open()?;
        opened.start(&self.writer)?;
        Ok(self.opened.get_or_init(|| opened))
    }
}

impl Journal for FileJournal {
    fn is_durable(&self) -> bool {
        true
    }

    fn shard(&self, shard: u16) -> Box<dyn Store> {
        Box::new(self.writer.shard(shard))
    }

    fn recover(&self, shards: u16, progress: &Progress) -> Result<Vec<Recovery>, StoreError> {
        let recovered = self.open()?.read(shards, progress)?;
        self.writer.log_was_read();
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
    use std::sync::{Arc, mpsc::channel};
    use std::time::Duration;

    use shard_core::{ExecutionId, Name, Payload, Stored};

    use super::*;
    use crate::{codec::tests::Plain, segment::tests::Scratch};

    fn accepted() -> Record {
        let function = Name::new("f").expect("a name");
        Record::Accepted {
            id: ExecutionId::new([7; 16], function.owner_hash()),
            function,
            created_ms: 1,
            payload: Payload::json("1"),
            extra: None,
            callback_url: None,
        }
    }

    /// What a server does with a journal: recovers, appends, waits until that is safe, ends. Returns what it found.
    fn serve(journal: &dyn Journal, safe: impl Fn() -> Input) -> usize {
        let mut shard = journal.shard(0);
        let at_once = shard.append(1, accepted());
        let recovered = journal.recover(1, &Progress::default()).expect("it is whole");
        let said = at_once.unwrap_or_else(safe);
        assert!(matches!(said, Input::Journaled { through: 1 }), "{said:?}");
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
}
