//! Who is answered what, and that a disk that hangs keeps nobody.

use std::{
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use shard_core::Output;

use super::*;
use crate::{
    Store,
    codec::tests::{Plain, codec, owned},
    directory::Directory,
    disk::{Disk, accepted, ended, id},
    index::Index,
    recovery,
    segment::tests::Scratch,
    writer::{ShardStore, Writer},
};

const PATIENCE: Duration = Duration::from_secs(60);

fn request(number: u8) -> Request {
    Request { shard: 0, ticket: Ticket(u64::from(number)), id: id(number) }
}

type Given = Result<Option<Box<End>>, Unread>;
type Answered = (u64, Result<EndResult, ReadFailure>);

/// Which read it is an answer to, and what it says.
fn answered(input: &Input) -> Answered {
    match input {
        Input::Journal(JournalEvent::Read { ticket, result, .. }) => (ticket.0, result.clone()),
        other => panic!("{other:?}"),
    }
}

fn output() -> Result<EndResult, ReadFailure> {
    Ok(EndResult::Output(Output::null()))
}

const UNREADABLE: Result<EndResult, ReadFailure> = Err(ReadFailure::Unreadable);

/// A thread whose disk gives these back, one after the other, and what it answers.
fn reading(reads: &Arc<Reads>) -> (Sender<Given>, Receiver<u64>, Receiver<Answered>) {
    let (gives, disk) = channel();
    let (arrives, arrived) = channel();
    let (tells, told) = channel();
    let reads = Arc::clone(reads);
    thread::spawn(move || {
        let read = |id: ExecutionId| {
            let _ = arrives.send(u64::from(id.bytes()[0]));
            disk.recv().expect("it is told what to give")
        };
        reads.run(read, |request: Request, result| drop(tells.send((request.ticket.0, result))));
    });
    (gives, arrived, told)
}

fn end() -> Option<Box<End>> {
    let result = EndResult::Output(Output::null());
    Some(Box::new(End { result, dispatched_ms: 1, finished_ms: 2, cold_start: false, init_ms: None }))
}

fn damaged() -> Unread {
    Unread { offset: 7, error: StoreError::Corrupt { path: "a file".into(), offset: 7, what: "it" } }
}

#[test]
fn everybody_is_answered_in_turn_and_nobody_waits_beyond_the_bound() {
    let reads = Arc::new(Reads::default());
    let (gives, arrived, told) = reading(&reads);
    assert!(reads.take(request(1)));
    assert_eq!(arrived.recv_timeout(PATIENCE), Ok(1));
    (0..WAITING_MAX).for_each(|number| assert!(reads.take(request(2 + (number % 200) as u8)), "{number}"));
    assert!(!reads.take(request(250)) && !reads.take(request(251)));
    for given in [Ok(end()), Ok(None), Err(damaged()), Err(damaged())] {
        gives.send(given).expect("it waits");
    }
    let next = || told.recv_timeout(PATIENCE).expect("it is told");
    assert_eq!(next(), (1, output()));
    assert_eq!(next(), (2, Err(ReadFailure::Missing)));
    assert_eq!([next(), next()], [(3, UNREADABLE), (4, UNREADABLE)]);
    assert!(reads.take(request(252)));
    let counted = [&reads.done, &reads.failed, &reads.refused].map(|count| count.load(Ordering::Relaxed));
    assert_eq!(counted, [4, 2, 2]);
    // It ends, and those that wait are known; what is being read is one of them.
    while reads.queue.lock().current.is_none() {
        thread::yield_now();
    }
    let left = reads.close();
    assert_eq!((left.len(), left[0], left[left.len() - 1]), (WAITING_MAX - 2, request(5), request(252)));
    assert!(!reads.take(request(6)));
    // The thread ends with the read that it has.
    gives.send(Ok(end())).expect("it waits");
    assert!(told.recv_timeout(PATIENCE).is_err(), "that was answered already");
}

#[test]
fn a_read_that_hangs_has_failed_with_all_behind_it_until_the_disk_answers() {
    let reads = Arc::new(Reads::default());
    let (gives, arrived, told) = reading(&reads);
    assert_eq!(reads.give_up_overdue(|_| true), []);
    [1, 2, 3].into_iter().for_each(|number| assert!(reads.take(request(number))));
    assert_eq!(arrived.recv_timeout(PATIENCE), Ok(1));
    assert_eq!(reads.give_up_overdue(|_| false), []);
    assert_eq!(reads.give_up_overdue(|_| true), [1, 2, 3].map(request));
    assert_eq!(reads.give_up_overdue(|_| true), []);
    assert!(!reads.take(request(4)));
    gives.send(Ok(end())).expect("it waits");
    while !reads.take(request(5)) {
        thread::yield_now();
    }
    gives.send(Ok(end())).expect("it waits");
    // The first one was told that it failed.
    assert_eq!(told.recv_timeout(PATIENCE), Ok((5, output())));
    assert!(reads.close().is_empty());
    assert!(told.recv_timeout(PATIENCE).is_err(), "the thread has ended");
}

/// A writer, its shard, and what that is told.
fn writer(scratch: &Path, disk: &Disk) -> (Writer, ShardStore, Receiver<Input>) {
    let directory = Directory::of(Arc::new(disk.clone()), scratch.to_owned());
    let opened = recovery::prepare(Arc::new(directory), codec()).expect("a store");
    let (sender, receiver) = channel();
    let writer = Writer::new(1, Arc::new(move |_, input| drop(sender.send(input))), &Plain);
    let index = Index::default();
    opened.read(shard_core::Seating::of(1), None, &recovery::Progress::default(), &index).expect("whole");
    opened.start(&writer, index).expect("started");
    let shard = writer.shard(0);
    (writer, shard, receiver)
}

#[test]
fn a_shard_reads_what_was_written_before_and_since() {
    let scratch = Scratch::new("reads");
    for start in 1..=2u8 {
        let (writer, mut shard, told) = writer(&scratch.0, &Disk::default());
        let next = || told.recv_timeout(PATIENCE).expect("it is told");
        assert!(
            shard.append(1, owned(accepted(start))).is_none()
                && shard.append(2, owned(ended(start))).is_none()
        );
        while !matches!(next(), Input::Journal(JournalEvent::Safe { through: 2 })) {}
        for number in 1..=3 {
            assert!(shard.read_result(id(number), Ticket(u64::from(number))).is_none());
            let expected = if number <= start { output() } else { Err(ReadFailure::Missing) };
            assert_eq!(answered(&next()), (u64::from(number), expected));
        }
        let figures = writer.figures();
        assert_eq!((figures.results, figures.reads), (u64::from(start), 3));
        writer.stop();
        assert_eq!(shard.read_result(id(1), Ticket(9)).as_ref().map(answered), Some((9, UNREADABLE)));
    }
}

/// Files are opened no more until what is returned second is dropped; who tries is announced by the first.
fn hang_on_open(disk: &Disk) -> (Receiver<()>, Sender<()>) {
    let (arrives, arrived) = channel();
    let (release, released) = channel::<()>();
    disk.on_open(move || {
        let _ = arrives.send(());
        let _ = released.recv();
    });
    (arrived, release)
}

#[test]
fn a_disk_that_hangs_on_reads_keeps_neither_the_writer_nor_the_end() {
    let scratch = Scratch::new("reads-hang");
    let disk = Disk::default();
    let (writer, mut shard, told) = writer(&scratch.0, &disk);
    let next = || told.recv_timeout(PATIENCE).expect("it is told");
    assert!(shard.append(1, owned(ended(1))).is_none());
    assert!(matches!(next(), Input::Journal(JournalEvent::Safe { through: 1 })));
    let (arrived, release) = hang_on_open(&disk);
    assert!(shard.read_result(id(1), Ticket(1)).is_none());
    arrived.recv_timeout(PATIENCE).expect("it hangs");
    assert!(shard.read_result(id(1), Ticket(2)).is_none());
    // Commits go on.
    assert!(shard.append(2, owned(ended(2))).is_none());
    assert!(matches!(next(), Input::Journal(JournalEvent::Safe { through: 2 })));
    // After a while nobody waits for it.
    assert_eq!([next(), next()].map(|input| answered(&input)), [(1, UNREADABLE), (2, UNREADABLE)]);
    assert_eq!(shard.read_result(id(1), Ticket(3)).as_ref().map(answered), Some((3, UNREADABLE)));
    assert_eq!((writer.figures().read_errors, writer.figures().reads_refused), (2, 1));
    // And neither does the end, with the read on its way.
    writer.stop();
    drop(release);
}

#[test]
fn a_server_that_ends_answers_whoever_waits_for_a_read() {
    let scratch = Scratch::new("reads-end");
    let disk = Disk::default();
    let (writer, mut shard, told) = writer(&scratch.0, &disk);
    let next = || told.recv_timeout(PATIENCE).expect("it is told");
    assert!(shard.append(1, owned(ended(1))).is_none());
    assert!(matches!(next(), Input::Journal(JournalEvent::Safe { through: 1 })));
    let (arrived, release) = hang_on_open(&disk);
    [1, 2, 3].into_iter().for_each(|ticket| assert!(shard.read_result(id(1), Ticket(ticket)).is_none()));
    arrived.recv_timeout(PATIENCE).expect("it hangs");
    writer.stop();
    assert_eq!([next(), next(), next()].map(|input| answered(&input).0), [1, 2, 3]);
    drop(release);
}
