//! What the store asks of a file system, and all that it knows of one.
//!
//! [`OsFiles`] is the machine's. A simulated one (`simulation`) loses what was not synced, fails, fills up and hangs. What
//! may be relied on is what POSIX promises: bytes are on disk once [`File::sync`] has returned, names once
//! [`Files::sync_directory`] has, and a rename shows the one file or the other.

use std::{
    fmt::Debug,
    fs::{self, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

/// A file system.
pub trait Files: Debug + Send + Sync {
    /// An empty file, in the place of one that is there. Only its owner can read it: a function's environment may hold
    /// secrets.
    ///
    /// # Errors
    /// As the operating system says.
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>>;

    /// A file that is there; read only, unless it is to be written.
    ///
    /// # Errors
    /// As the operating system says.
    fn open(&self, path: &Path, write: bool) -> io::Result<Box<dyn File>>;

    /// The files in a directory with their lengths, in any order.
    ///
    /// # Errors
    /// As the operating system says.
    fn list(&self, directory: &Path) -> io::Result<Vec<(String, u64)>>;

    /// Gives a file another name, in the place of one that has it.
    ///
    /// # Errors
    /// As the operating system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// As the operating system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Has the names in a directory on disk.
    ///
    /// # Errors
    /// As the operating system says.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;

    /// Bytes that nobody can guess: the key of a file.
    ///
    /// # Errors
    /// When there are none.
    fn key(&self) -> io::Result<[u8; 16]>;
}

/// An open file.
pub trait File: Send {
    /// Reads at a place: fewer bytes than asked for, and 0 at its end.
    ///
    /// # Errors
    /// As the operating system says.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of it at a place.
    ///
    /// # Errors
    /// As the operating system says; how much was written is not known then.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts it, or extends it with zeros.
    ///
    /// # Errors
    /// As the operating system says.
    fn set_len(&mut self, bytes: u64) -> io::Result<()>;

    /// Has its bytes and its length on disk.
    ///
    /// # Errors
    /// As the operating system says; what is on disk is not known then.
    fn sync(&mut self) -> io::Result<()>;
}

/// Reads a file from the front.
pub(super) struct Reader<'a> {
    pub(super) file: &'a dyn File,
    pub(super) offset: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(bytes, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

/// A whole small file.
pub(super) fn read(files: &dyn Files, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = files.open(path, false)?;
    let mut bytes = Vec::new();
    Reader { file: &*file, offset: 0 }.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Puts a small file in its place, whole or not at all, and on disk when this returns.
pub(super) fn replace(files: &dyn Files, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_added_extension("new");
    let mut file = files.create(&new)?;
    file.write_at(bytes, 0)?;
    file.sync()?;
    drop(file);
    files.rename(&new, path)?;
    path.parent().map_or(Ok(()), |directory| files.sync_directory(directory))
}

/// The machine's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsFiles;

impl Files for OsFiles {
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let file = private(OpenOptions::new().create(true).truncate(true)).open(path)?;
        Ok(Box::new(file))
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<Box<dyn File>> {
        Ok(Box::new(OpenOptions::new().read(true).write(write).open(path)?))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            // The store's own names are all of this kind.
            if let Some(name) = entry.file_name().to_str() {
                files.push((name.to_owned(), entry.metadata()?.len()));
            }
        }
        Ok(files)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        fs::File::open(directory)?.sync_all()
    }

    fn key(&self) -> io::Result<[u8; 16]> {
        let mut key = [0; 16];
        getrandom::fill(&mut key).map_err(io::Error::other)?;
        Ok(key)
    }
}

impl File for fs::File {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match FileExt::read_at(self, bytes, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn set_len(&mut self, bytes: u64) -> io::Result<()> {
        fs::File::set_len(self, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        // What is needed to read the bytes back, such as the length, is part of it.
        self.sync_data()
    }
}

/// For files that nobody else may read.
pub(super) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options.read(true).write(true).mode(0o600)
}
