//! Where records go that have to survive a crash. The engine alone: it knows records of the core and files, and nothing of HTTP
//! or of what clients write.
//!
//! A shard waits for its records to be safe before it promises anything. The server knows a [`Journal`], which can be another
//! than those that are here: [`Ephemeral`] takes a record for safe at once and forgets it; [`FileJournal`] is one log of segments,
//! written by one thread for all shards: what has come while one commit was on its way to the disk goes with the next one.
//!
//! - `codec`, `encoding`: a record as bytes; [`function`]: a function in it; `unreadable`: what is neither; `fence`: whose records count
//! - [`files`]: what is asked of a file system
//! - `segment`, `torn`: the files of the log, and what is wrong with them; `format1`: those of earlier versions; `checksum`
//! - `head`: which segment is the newest, and where each has to end
//! - `directory`: the data directory, its lock and its format
//! - `journal`: what a server asks of one
//! - `writer`: the shards' end of it, and what happens when the disk fails or hangs; `committer`: the thread that commits; `log`:
//!   the segment that it writes
//! - `recovery`: from the log to what its records add up to, for each shard
//! - `compaction`: makes one segment of many, without what is forgotten
//! - `index`: where results stand in the log; `lookup`: reads one of them back; `reads`: for shards that want it
//! - [`fuzzing`]: what must hold of anything that is read from the log
//! - [`simulation`]: all of it without threads, on any file system
//! - [`inspect`]: what `nanofaas store` shows and mends

mod checksum;
mod codec;
mod committer;
mod compaction;
mod directory;
#[cfg(test)]
mod disk;
mod encoding;
mod fence;
pub mod files;
mod format1;
pub mod function;
#[doc(hidden)]
pub mod fuzzing;
mod head;
mod index;
pub mod inspect;
mod journal;
mod log;
mod lookup;
mod reads;
mod recovery;
mod segment;
#[doc(hidden)]
pub mod simulation;
mod torn;
mod unreadable;
mod writer;

use std::{io, path::PathBuf};

pub use self::{
    directory::is_in_use,
    journal::{Ephemeral, FileJournal, Journal, Store},
    recovery::Progress,
    writer::{Figures, Report},
};

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the lock.
    #[error(
        "data directory {} is in use by another server; stop that one, or choose another directory with --data-dir",
        data_dir.display()
    )]
    InUse {
        /// The directory.
        data_dir: PathBuf,
    },
    /// It cannot be written.
    #[error(
        "data directory {} cannot be written: {source}; choose another with --data-dir, or keep everything in memory \
         with --ephemeral",
        data_dir.display()
    )]
    Unwritable {
        /// The directory.
        data_dir: PathBuf,
        /// The operating system's word for it.
        source: io::Error,
    },
    /// There is no store in it.
    #[error("there is no store in data directory {}; name another one with --data-dir", data_dir.display())]
    Empty {
        /// The directory.
        data_dir: PathBuf,
    },
    /// It was written by another version.
    #[error(
        "{} has format '{found}', and this version knows 'nanofaas-store {}' and earlier ones only; nothing was changed: use the version \
         that wrote it, or another --data-dir",
        path.display(),
        directory::FORMAT
    )]
    Format {
        /// The file that says so.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// A file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's word for it.
        source: io::Error,
    },
    /// A part of the log is gone.
    #[error("{} is missing from the log; bring it back from a backup", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A part of the log is not what was written.
    #[error(
        "{} is corrupt at offset {offset}: {what} is not what was written; bring the file back from a backup, or look at \
         it with `nanofaas store verify` and drop what is broken with `nanofaas store repair`",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A part of the log says what this version does not know.
    #[error(
        "{} was written by a newer version: {what} at offset {offset} is nothing that this version knows; use that version \
         again, or another --data-dir",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Where in it the commit is.
        offset: u64,
        /// What it says.
        what: String,
    },
    /// The thread that writes cannot be had.
    #[error("cannot start the thread of the store: {0}")]
    Thread(io::Error),
}

impl StoreError {
    /// Whether it may be over when it is tried again: a disk that failed to read or write something.
    pub fn is_passing(&self) -> bool {
        match self {
            StoreError::Unwritable { source, .. } | StoreError::Read { source, .. } => !is_final(source),
            _ => false,
        }
    }
}

/// Whether it will not get better by itself: a directory that must not be written, or is not there.
fn is_final(error: &io::Error) -> bool {
    use io::ErrorKind::{
        InvalidInput, NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem, Unsupported,
    };
    matches!(
        error.kind(),
        InvalidInput | NotADirectory | NotFound | PermissionDenied | ReadOnlyFilesystem | Unsupported
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_failing_disk_is_tried_again() {
        use io::ErrorKind::{
            InvalidInput, NotADirectory, NotFound, Other, PermissionDenied, ReadOnlyFilesystem, StorageFull,
            TimedOut, Unsupported,
        };
        for (kind, is_passing) in [
            (StorageFull, true),
            (Other, true),
            (TimedOut, true),
            (InvalidInput, false),
            (NotADirectory, false),
            (NotFound, false),
            (PermissionDenied, false),
            (ReadOnlyFilesystem, false),
            (Unsupported, false),
        ] {
            let unwritable = StoreError::Unwritable { data_dir: PathBuf::new(), source: kind.into() };
            let unreadable = StoreError::Read { path: PathBuf::new(), source: kind.into() };
            assert_eq!(
                (unwritable.is_passing(), unreadable.is_passing()),
                (is_passing, is_passing),
                "{kind:?}"
            );
        }
        let corrupt = StoreError::Corrupt { path: PathBuf::new(), offset: 0, what: "it" };
        assert!(!corrupt.is_passing() && !StoreError::Missing { path: PathBuf::new() }.is_passing());
    }
}
