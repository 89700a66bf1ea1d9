//! A disk that hangs, and one that fails after a rename.

use std::{
    io,
    path::Path,
    sync::mpsc::{Receiver, Sender, channel},
};

use parking_lot::Condvar;
use shard_core::{
    ExecutionId, FunctionSpec, JournalEvent, Name, Output, Payload, Policy, Recovery, Target,
    journal::{End, EndResult},
};

use super::*;
use crate::{
    Store,
    codec::tests::{Plain, codec, owned},
    directory::Directory,
    disk,
    files::{File, Files, OsFiles},
    head::{self, Head},
    index::Index,
    recovery::{self, Progress},
    segment::tests::Scratch,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A disk on which nothing comes to an end while it is held.
#[derive(Debug, Default)]
struct Disk {
    held: Mutex<bool>,
    released: Condvar,
    arrived: Mutex<Option<Sender<()>>>,
}

impl Disk {
    fn hold(&self) -> Receiver<()> {
        let (sender, receiver) = channel();
        *self.arrived.lock() = Some(sender);
        *self.held.lock() = true;
        receiver
    }

    fn release(&self) {
        *self.held.lock() = false;
        self.released.notify_all();
    }

    fn pass(&self) {
        let mut held = self.held.lock();
        if *held && let Some(arrived) = self.arrived.lock().take() {
            let _ = arrived.send(());
        }
        while *held {
            self.released.wait(&mut held);
        }
    }
}

#[derive(Debug, Clone)]
struct Held(Arc<Disk>);

struct HeldFile(Box<dyn File>, Arc<Disk>);

impl Files for Held {
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        Ok(Box::new(HeldFile(OsFiles.create(path)?, Arc::clone(&self.0))))
    }
    fn open(&self, path: &Path, write: bool) -> io::Result<Box<dyn File>> {
        Ok(Box::new(HeldFile(OsFiles.open(path, write)?, Arc::clone(&self.0))))
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

impl File for HeldFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(bytes, offset)
    }
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }
    fn set_len(&mut self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.1.pass();
        self.0.sync()
    }
}

fn id(number: u8) -> ExecutionId {
    ExecutionId::new([number; 16], name().owner_hash())
}

fn name() -> Name {
    Name::new("f").expect("a name")
}

fn accepted(number: u8) -> Record {
    Record::Accepted {
        id: id(number),
        function: name(),
        created_ms: 1,
        payload: Payload::json("1"),
        extra: None,
        callback_url: None,
    }
}

fn ended(number: u8, bytes: usize) -> Record {
    let result = EndResult::Output(Output { body: vec![b'1'; bytes].into(), ..Output::null() });
    let end = End { result, dispatched_ms: 1, finished_ms: 2, cold_start: false, init_ms: None };
    Record::Ended { id: id(number), end: Box::new(end), dead: false }
}

/// What a shard is told.
#[derive(Debug, PartialEq)]
enum Told {
    Written(u64),
    Failed(u64),
    NotTaken(u64),
}

fn said(input: Input) -> Told {
    match input {
        Input::Journal(JournalEvent::Safe { through }) => Told::Written(through),
        Input::Journal(JournalEvent::Failed { through }) => Told::Failed(through),
        Input::Journal(JournalEvent::NotTaken { number }) => Told::NotTaken(number),
        other => panic!("{other:?}"),
    }
}

/// A writer on a disk that can be held, and what it tells the one shard.
fn writer(scratch: &Scratch, disk: &Arc<Disk>) -> (Writer, Receiver<Input>) {
    let files = Arc::new(Held(Arc::clone(disk)));
    let directory = Arc::new(Directory::of(files, scratch.0.clone()));
    let opened = recovery::prepare(directory, codec()).expect("a store");
    let (sender, receiver) = channel();
    let writer = Writer::new(1, Arc::new(move |_, input| drop(sender.send(input))), &Plain);
    opened.start(&writer, Index::default()).expect("started");
    (writer, receiver)
}

fn told(receiver: &Receiver<Input>) -> Told {
    said(receiver.recv_timeout(PATIENCE).expect("it is told"))
}

#[test]
fn a_commit_that_hangs_has_failed_until_it_is_done() {
    let scratch = Scratch::new("hangs");
    let disk = Arc::new(Disk::default());
    let (writer, reports) = writer(&scratch, &disk);
    let mut shard = writer.shard(0);
    let mut append = |number, record| shard.append(number, owned(record)).map(said);
    assert_eq!(append(1, accepted(1)), None);
    assert_eq!(told(&reports), Told::Written(1));

    let arrived = disk.hold();
    assert_eq!(append(2, accepted(2)), None);
    arrived.recv_timeout(PATIENCE).expect("it hangs");
    // Behind it.
    assert_eq!(append(3, accepted(3)), None);
    assert_eq!(told(&reports), Told::Failed(3));
    assert!(writer.figures().is_failing);
    assert!(writer.trouble().is_some_and(|text| text.contains("more than 5 s")), "{:?}", writer.trouble());
    assert_eq!(append(4, accepted(4)), Some(Told::NotTaken(4)));
    // What follows from the failure, and what became of the first one.
    assert_eq!(append(5, Record::Forgotten { id: id(2) }), None);
    assert_eq!(append(6, Record::Forgotten { id: id(3) }), None);
    assert_eq!(append(7, ended(1, 3)), None);
    let removed = append(8, Record::Removed { name: name() });
    assert_eq!(removed, Some(Told::Failed(8)));
    // What does not fit into the lane waits beside it, and it is bounded.
    let refused = (9..200).filter(|number| append(*number, ended(9, 1 << 20)).is_some()).count();
    assert!((60..70).contains(&refused), "{refused} of 191");
    // What decides which number the next attempt has is taken all the same.
    assert_eq!(append(200, Record::Attempted { id: id(1), attempt: 7 }), None);
    assert_eq!(append(201, Record::Replayed { id: id(9), at_ms: 0 }), Some(Told::NotTaken(201)));

    disk.release();
    loop {
        match told(&reports) {
            Told::Written(through) if through >= 200 => break,
            // What has gathered is a lot: the machine may take too long for it once more.
            Told::Written(_) | Told::Failed(_) => {}
            other @ Told::NotTaken(_) => panic!("{other:?}"),
        }
    }
    while writer.figures().is_failing {
        thread::yield_now();
    }
    assert_eq!(writer.trouble(), None);
    assert!(writer.figures().written_bytes > 120 << 20, "{:?}", writer.figures());
    assert_eq!(append(202, accepted(5)), None);
    while told(&reports) != (Told::Written(202)) {}
    writer.stop();

    let directory = Arc::new(scratch.directory());
    let opened = recovery::prepare(directory, codec()).expect("whole");
    let recovered = opened
        .read(shard_core::Seating::of(1), None, &Progress::default(), &Index::default())
        .expect("whole");
    let ids: Vec<ExecutionId> = recovered
        .into_iter()
        .flat_map(Recovery::into_stored)
        .filter_map(|stored| match stored {
            shard_core::Stored::Partition { .. } => None,
            shard_core::Stored::Execution(execution) => Some(execution.id),
            shard_core::Stored::Function(_) => None,
        })
        .collect();
    assert_eq!(ids, [id(1), id(5)]);
}

#[test]
fn a_time_without_commits_is_found_once_and_begins_with_a_commit() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let mut quiet = Quiet::default();
    assert!(!quiet.begins(0, at(10_000)), "nothing was written yet");
    assert!(!quiet.begins(1, at(10_250)));
    assert!(!quiet.begins(1, at(11_249)));
    assert!(!quiet.begins(2, at(11_250)), "another one came");
    assert!(!quiet.begins(2, at(12_249)));
    assert!(quiet.begins(2, at(12_250)));
    assert!(!quiet.begins(2, at(20_000)), "that was said");
    assert!(!quiet.begins(3, at(20_250)));
    assert!(quiet.begins(3, at(21_250)));
}

#[test]
fn a_function_that_cannot_be_written_down_is_refused_alone() {
    let scratch = Scratch::new("unwritable-function");
    let (writer, reports) = writer(&scratch, &Arc::default());
    let mut shard = writer.shard(0);
    let mut append = |number, record| shard.append(number, owned(record)).map(said);
    let spec = FunctionSpec {
        name: name(),
        policy: Policy::default(),
        target: Target::Local,
        scaling: None,
        document: "{".into(),
    };
    assert_eq!(append(1, Record::Registered { spec: Box::new(spec) }), Some(Told::NotTaken(1)));
    assert_eq!(append(2, accepted(1)), None);
    assert_eq!(told(&reports), Told::Written(2));
    writer.stop();
}

/// A log on a disk that does what it is told, not begun yet.
fn log(scratch: &Scratch, disk: &disk::Disk) -> Log {
    let directory = Arc::new(Directory::of(Arc::new(disk.clone()), scratch.0.clone()));
    recovery::prepare(directory, codec()).expect("a store").log(Index::default())
}

fn telling() -> (Writer, Receiver<Input>) {
    let (sender, receiver) = channel();
    (Writer::new(1, Arc::new(move |_, input| drop(sender.send(input))), &Plain), receiver)
}

#[test]
fn a_writer_that_starts_on_a_full_disk_writes_when_there_is_room() {
    let scratch = Scratch::new("starts-full");
    let disk = disk::Disk::default();
    let log = log(&scratch, &disk);
    disk.fail(true);
    let (writer, reports) = telling();
    writer.start(log).expect("it can be over");
    assert!(writer.figures().is_failing);
    let trouble = writer.trouble().expect("something is wrong");
    assert!(trouble.contains("refuses what must be safe") && trouble.contains(".log"), "{trouble}");
    let mut shard = writer.shard(0);
    assert_eq!(shard.append(1, owned(accepted(1))).map(said), Some(Told::NotTaken(1)));
    assert_eq!(shard.append(2, owned(ended(9, 1))).map(said), None);
    assert_eq!(told(&reports), Told::Failed(2));
    disk.fail(false);
    // Nothing else comes, and it is tried until it succeeds.
    loop {
        match told(&reports) {
            Told::Failed(2) => {}
            other => break assert_eq!(other, Told::Written(2)),
        }
    }
    assert!(!writer.figures().is_failing);
    assert_eq!(writer.trouble(), None);
    // The same with nothing to write: an acceptance is not kept.
    disk.fail(true);
    assert_eq!(shard.append(3, owned(accepted(3))).map(said), None);
    assert_eq!(told(&reports), Told::Failed(3));
    disk.fail(false);
    let began = Instant::now();
    while writer.figures().is_failing {
        assert!(began.elapsed() < PATIENCE, "nobody tries");
        thread::yield_now();
    }
    assert_eq!(shard.append(4, owned(accepted(4))).map(said), None);
    assert_eq!(told(&reports), Told::Written(4));
    writer.stop();
    let head = Head::read(&OsFiles, &scratch.0).expect("whole");
    assert!(head.closed && head.mark.frames >= 2, "{head:?}");
}

#[test]
fn a_writer_does_not_start_on_a_disk_that_will_not_take_anything() {
    let scratch = Scratch::new("starts-forbidden");
    let disk = disk::Disk::default();
    let log = log(&scratch, &disk);
    disk.forbid();
    match telling().0.start(log) {
        Err(StoreError::Unwritable { data_dir, .. }) => assert_eq!(data_dir, scratch.0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_log_is_compacted_while_it_is_written() {
    let scratch = Scratch::new("compacted");
    let disk = disk::Disk::default();
    let mut log = log(&scratch, &disk);
    log.set_segment_bytes(1);
    let (writer, reports) = telling();
    writer.start(log).expect("started");
    let mut shard = writer.shard(0);
    let mut write = |number| {
        assert_eq!(shard.append(number, owned(accepted(number as u8))).map(said), None);
        assert_eq!(told(&reports), Told::Written(number));
    };
    (1..=20).for_each(&mut write);
    writer.stop();
    let segments = head::list(&OsFiles, &scratch.0).expect("readable");
    let last = segments.first().expect("a segment").last;
    assert!(last >= 16, "{last}");
}
