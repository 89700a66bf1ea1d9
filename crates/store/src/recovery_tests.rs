//! What is served again is on disk first, and what is dropped is kept beside it.

use std::fs;

use parking_lot::Mutex;

use super::*;
use crate::{
    files::{File, OsFiles},
    segment::{Mark, tests::Scratch},
};

/// A file system that takes note of what is written and synced, and can fail to write.
#[derive(Debug, Default)]
struct Watched {
    seen: Arc<Mutex<Vec<Seen>>>,
    fails: Option<io::ErrorKind>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// From here to there.
    Written(u64, u64),
    Synced,
}

struct WatchedFile {
    file: Box<dyn File>,
    seen: Arc<Mutex<Vec<Seen>>>,
    fails: Option<io::ErrorKind>,
}

impl Watched {
    fn watch(&self, file: Box<dyn File>) -> Box<dyn File> {
        Box::new(WatchedFile { file, seen: Arc::clone(&self.seen), fails: self.fails })
    }
}

impl Files for Watched {
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        OsFiles.create(path).map(|file| self.watch(file))
    }
    fn open(&self, path: &Path, write: bool) -> io::Result<Box<dyn File>> {
        OsFiles.open(path, write).map(|file| self.watch(file))
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

impl File for WatchedFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(bytes, offset)
    }
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Some(kind) = self.fails {
            return Err(kind.into());
        }
        self.seen.lock().push(Seen::Written(offset, offset + bytes.len() as u64));
        self.file.write_at(bytes, offset)
    }
    fn set_len(&mut self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.seen.lock().push(Seen::Synced);
        self.file.sync()
    }
}

/// A file of two and a half pieces, and what stands in it.
fn file(scratch: &Scratch) -> (Segment, Vec<u8>) {
    let bytes: Vec<u8> = (0..5u32 << 19).map(|place| (place % 251) as u8).collect();
    let path = scratch.0.join("segment");
    fs::write(&path, &bytes).expect("writable");
    let segment = Segment {
        path,
        first: 1,
        last: 1,
        bytes: bytes.len() as u64,
        expected: Expected::Anything,
        unlinked: false,
    };
    (segment, bytes)
}

#[test]
fn what_may_not_be_on_disk_is_written_once_more_and_synced() {
    let scratch = Scratch::new("secure");
    let (segment, bytes) = file(&scratch);
    let end = bytes.len() as u64 - 10;
    let known = |bytes| Mark { bytes, frames: 0, tag: 0 };
    for (expected, from) in [
        (Expected::Anything, 0),
        (Expected::AtLeast(known(1000)), 1000),
        (Expected::AtLeast(known(end)), end),
        (Expected::Exactly(known(u64::MAX)), end),
    ] {
        let files = Watched::default();
        secure(&files, &Segment { expected, ..segment.clone() }, end).expect("the disk works");
        let mut seen = files.seen.lock().clone();
        assert_eq!(seen.pop(), Some(Seen::Synced));
        assert!(seen.len() <= 3, "{} pieces", seen.len());
        let at = seen.iter().fold(from, |at, seen| match seen {
            Seen::Written(begin, written) if *begin == at => *written,
            other => panic!("{other:?} at {at}"),
        });
        assert_eq!(at, end);
        assert_eq!(fs::read(&segment.path).expect("readable"), bytes);
    }
}

#[test]
fn what_is_on_a_full_disk_is_served_as_it_is() {
    let scratch = Scratch::new("secure-full");
    let (segment, bytes) = file(&scratch);
    for (kind, served) in [
        (io::ErrorKind::StorageFull, true),
        (io::ErrorKind::QuotaExceeded, true),
        (io::ErrorKind::FileTooLarge, true),
        (io::ErrorKind::Other, false),
    ] {
        let files = Watched { fails: Some(kind), ..Watched::default() };
        assert_eq!(secure(&files, &segment, bytes.len() as u64).is_ok(), served, "{kind:?}");
        assert_eq!(*files.seen.lock() == [Seen::Synced], served, "{kind:?}");
    }
}

#[test]
fn what_is_dropped_is_kept_whole_beside_it() {
    let scratch = Scratch::new("keep");
    let (segment, bytes) = file(&scratch);
    let copy = scratch.0.join("copy");
    for offset in [0, 7, bytes.len()] {
        let files = Watched::default();
        keep(&files, &segment.path, offset as u64, &copy).expect("the disk works");
        assert_eq!(fs::read(&copy).expect("readable"), bytes[offset..]);
        assert_eq!(files.seen.lock().last(), Some(&Seen::Synced));
    }
}

#[test]
fn a_person_is_told_how_far_it_has_come() {
    let progress = Progress::default();
    let store = |of: &AtomicU64, number| of.store(number, Ordering::Relaxed);
    store(&progress.log_bytes, 5 << 20);
    store(&progress.read_bytes, (4 << 20) - 1);
    assert_eq!(progress.text(), "recovering, 3 of 5 MiB read");
    store(&progress.all, 1_234_567);
    for (restored, text) in
        [(0, "0"), (999, "999"), (1000, "1 000"), (123_456, "123 456"), (1_000_007, "1 000 007")]
    {
        store(&progress.restored, restored);
        assert_eq!(progress.text(), format!("recovering, {text} of 1 234 567"));
    }
    progress.set_obstacle(Some("no disk".to_owned()));
    assert_eq!(progress.text(), "recovering, trying again: no disk");
}
