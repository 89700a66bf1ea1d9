//! The data directory: who may use it, and which format it has.
//!
//! ```text
//! DATA-DIR/LOCK            held by the server that uses it
//! DATA-DIR/store/FORMAT    the format of what is beside it
//! DATA-DIR/store/HEAD      which segment is the newest
//! DATA-DIR/store/*.log     segments of the log
//! ```
//!
//! Files are readable by their owner only: a function's environment may hold secrets.

use std::{
    fs::{self, DirBuilder, OpenOptions, TryLockError},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    StoreError,
    files::{self, Files, OsFiles},
    head::{self, Head},
};

/// The format that this version writes. It reads the one before as well.
pub(super) const FORMAT: u32 = 2;

const FORMAT_FILE: &str = "FORMAT";
const FORMAT_NAME: &str = "nanofaas-store";

/// Whether another process has taken a data directory. It may be taken, or given back, right after the answer.
#[must_use]
pub fn is_in_use(data_dir: &Path) -> bool {
    let lock = fs::File::open(data_dir.join("LOCK"));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// A data directory that nobody else uses. The lock is given back when this is dropped, or when the process ends.
#[derive(Debug)]
pub(super) struct Directory {
    /// Where the log is.
    pub(super) store: PathBuf,
    pub(super) files: Arc<dyn Files>,
    _lock: Option<fs::File>,
}

impl Directory {
    /// Takes a data directory. `create`: makes it, if it is not there.
    ///
    /// # Errors
    /// When it is in use or cannot be written.
    pub(super) fn open(data_dir: &Path, create: bool) -> Result<Directory, StoreError> {
        let store = data_dir.join("store");
        if !create && !store.is_dir() {
            return Err(StoreError::Empty { data_dir: data_dir.to_owned() });
        }
        let failed = |source| StoreError::Unwritable { data_dir: data_dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&store).map_err(failed)?;
        let lock =
            files::private(OpenOptions::new().create(true)).open(data_dir.join("LOCK")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::InUse { data_dir: data_dir.to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        // The names of the directories themselves.
        let parent = data_dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        for directory in [Some(data_dir), parent].into_iter().flatten() {
            // Not every parent may be read, and not every file system can do this.
            let _ = OsFiles.sync_directory(directory);
        }
        Ok(Directory { store, files: Arc::new(OsFiles), _lock: Some(lock) })
    }

    /// A directory of another file system, which nobody else uses.
    pub(super) fn of(files: Arc<dyn Files>, store: PathBuf) -> Directory {
        Directory { store, files, _lock: None }
    }

    /// The format of what is there; a store without anything is made one of the newest.
    ///
    /// # Errors
    /// When it is one that this version does not know, or cannot be read.
    pub(super) fn format(&self) -> Result<u32, StoreError> {
        let path = self.store.join(FORMAT_FILE);
        match files::read(&*self.files, &path, 100) {
            Ok(text) => {
                let known = (1..=FORMAT).find(|format| text.trim_ascii() == name(*format).as_bytes());
                let found = || String::from_utf8_lossy(text.trim_ascii()).chars().take(40).collect();
                known.ok_or_else(|| StoreError::Format { path: path.clone(), found: found() })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if !head::list(&*self.files, &self.store)?.is_empty() {
                    return Err(StoreError::Format { path, found: "none".to_owned() });
                }
                self.set_format(&Head::default())?;
                Ok(FORMAT)
            }
            Err(source) => Err(StoreError::Read { path, source }),
        }
    }

    /// From here on the store has this version's format, which needs a `HEAD`.
    pub(super) fn set_format(&self, head: &Head) -> Result<(), StoreError> {
        let failed = |source| StoreError::Unwritable { data_dir: self.store.clone(), source };
        head.write(&*self.files, &self.store).map_err(failed)?;
        let text = format!("{}\n", name(FORMAT));
        files::replace(&*self.files, &self.store.join(FORMAT_FILE), text.as_bytes()).map_err(failed)
    }
}

fn name(format: u32) -> String {
    format!("{FORMAT_NAME} {format}")
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
