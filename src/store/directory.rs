//! The data directory: who may use it, and which format it has.
//!
//! ```text
//! DATA-DIR/LOCK            held by the server that uses it
//! DATA-DIR/store/FORMAT    the format of what is beside it
//! DATA-DIR/store/*.log     segments of the log
//! ```
//!
//! Files are readable by their owner only: a function's environment may hold secrets.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::{StoreError, segment};

/// The one format that this version reads and writes.
pub(super) const FORMAT: u32 = 1;

const FORMAT_FILE: &str = "FORMAT";
const FORMAT_NAME: &str = "nanofaas-store";

/// A data directory that nobody else uses. The lock is given back when this is dropped, or when the process ends.
#[derive(Debug)]
pub(super) struct Directory {
    /// Where the log is.
    pub(super) store: PathBuf,
    _lock: File,
}

impl Directory {
    /// Takes a data directory. `create`: makes it, if it is not there.
    ///
    /// # Errors
    /// When it is in use, cannot be written, or has another format.
    pub(super) fn open(data_dir: &Path, create: bool) -> Result<Directory, StoreError> {
        let store = data_dir.join("store");
        if !create && !store.is_dir() {
            return Err(StoreError::Empty { data_dir: data_dir.to_owned() });
        }
        let failed = |source| StoreError::Unwritable { data_dir: data_dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&store).map_err(failed)?;
        let lock = private(File::options().create(true)).open(data_dir.join("LOCK")).map_err(failed)?;
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
            let _ = segment::sync_directory(directory);
        }
        check_format(&store, &failed)?;
        Ok(Directory { store, _lock: lock })
    }
}

/// For files that nobody else may read.
pub(super) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options.read(true).write(true).mode(0o600)
}

fn check_format(store: &Path, failed: &dyn Fn(io::Error) -> StoreError) -> Result<(), StoreError> {
    let path = store.join(FORMAT_FILE);
    let known = format!("{FORMAT_NAME} {FORMAT}");
    match std::fs::read(&path) {
        Ok(text) if text.trim_ascii() == known.as_bytes() => Ok(()),
        Ok(text) => {
            let found = String::from_utf8_lossy(text.trim_ascii()).chars().take(40).collect();
            Err(StoreError::Format { path, found })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if !segment::list(store)?.is_empty() {
                return Err(StoreError::Format { path, found: "none".to_owned() });
            }
            // Under another name first: half a format would be an unknown one.
            let new = store.join("FORMAT.new");
            let write = || {
                let mut file = private(File::options().create(true).truncate(true)).open(&new)?;
                file.write_all(format!("{known}\n").as_bytes())?;
                file.sync_all()?;
                std::fs::rename(&new, &path)?;
                segment::sync_directory(store)
            };
            write().map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}
