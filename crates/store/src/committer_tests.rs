//! What goes into a commit, what shards are told of it, and when a segment or a compaction begins.

use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use shard_core::Record;

use super::*;
use crate::{
    Store,
    codec::{
        self, RecordHead, Subject, kind,
        tests::{codec, owned},
    },
    directory::Directory,
    disk::{Disk, accepted, ended, id},
    files::{Files, OsFiles},
    head::{self, Head},
    index::Index,
    recovery,
    segment::{self, ReadEnd, tests::Scratch},
    writer::ShardStore,
};

const ROOMY: usize = 1 << 20;

/// A server's end of a log, one step at a time.
struct Server {
    committer: Committer,
    shared: Arc<Shared>,
    disk: Disk,
    scratch: Arc<Scratch>,
    told: Arc<Mutex<Vec<String>>>,
    numbers: Vec<u64>,
}

impl Server {
    /// A commit takes so many bytes of several lanes.
    fn new(name: &str, shards: u16, bytes_max: usize) -> Server {
        Server::behind(Arc::new(Scratch::new(name)), shards, bytes_max)
    }

    fn behind(scratch: Arc<Scratch>, shards: u16, bytes_max: usize) -> Server {
        let disk = Disk::default();
        let directory = Arc::new(Directory::of(Arc::new(disk.clone()), scratch.0.clone()));
        let opened = recovery::prepare(directory, codec()).expect("a store");
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let tells = Arc::clone(&told);
        let report = move |shard, input| tells.lock().push(format!("{shard} {}", said(&input)));
        let mut shared = Shared::new(shards, Arc::new(report), codec());
        shared.bounds = (bytes_max, bytes_max);
        let shared = Arc::new(shared);
        let mut log = opened.log(Index::default());
        log.begin().expect("it can be written");
        let committer = Committer::new(Arc::clone(&shared), log);
        let numbers = vec![0; usize::from(shards)];
        Server { committer, shared, disk, scratch, told, numbers }
    }

    /// The next record of a shard.
    fn take(&mut self, shard: u16, record: Record) -> Option<String> {
        let number = self.numbers.get_mut(usize::from(shard)).expect("a shard");
        *number += 1;
        let mut store = ShardStore { shard, shared: Arc::clone(&self.shared) };
        store.append(*number, owned(record)).as_ref().map(said)
    }

    fn lane_bytes(&self, shard: usize) -> usize {
        self.shared.lanes.get(shard).expect("a lane").lock().records.len()
    }

    fn gather(&mut self) {
        self.committer.gather(Instant::now());
    }

    /// What shards are told.
    fn write(&mut self) -> Vec<String> {
        self.committer.write(self.committer.is_failing());
        self.told()
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.lock())
    }

    fn commit(&mut self) -> Vec<String> {
        self.gather();
        self.write()
    }

    fn head(&self) -> Head {
        Head::read(&OsFiles, &self.scratch.0).expect("readable")
    }

    /// First and last number of each segment, and its length.
    fn segments(&self) -> Vec<(u64, u64, u64)> {
        let segments = head::list(&OsFiles, &self.scratch.0).expect("readable");
        segments.iter().map(|segment| (segment.first, segment.last, segment.bytes)).collect()
    }

    fn bytes(&self) -> u64 {
        self.segments().iter().map(|(_, _, bytes)| bytes).sum()
    }

    /// All records on disk, as the next start finds them, by kind and execution.
    fn written(&self) -> Vec<(u8, u8)> {
        let directory = Arc::new(Directory::of(Arc::new(OsFiles), self.scratch.0.clone()));
        let opened = recovery::prepare(directory, codec()).expect("whole");
        let mut all = Vec::new();
        for segment in &opened.segments {
            let end = segment::read(&OsFiles, segment, |_, frame| {
                for record in codec::split(&frame) {
                    let record = record.expect("a record");
                    let Ok(RecordHead { kind, subject: Subject::Execution(of), .. }) = codec::head(record)
                    else {
                        panic!("another")
                    };
                    all.push((kind, (0..=u8::MAX).find(|number| id(*number) == of).expect("known")));
                }
                Ok(())
            });
            assert!(matches!(end, Ok(ReadEnd::Whole(_))), "{end:?}");
        }
        all
    }

    /// Something that finds out whether it is watched: whether it can be given up.
    fn give_up_when_a_file_is_created(&self) -> Arc<AtomicU64> {
        let given_up = Arc::new(AtomicU64::new(0));
        let (shared, counter) = (Arc::clone(&self.shared), Arc::clone(&given_up));
        self.disk.on_create(move || {
            shared.give_up_overdue(|_| true, std::path::Path::new("a file"));
            counter.fetch_add(u64::from(shared.failing.load(Ordering::Relaxed)), Ordering::Relaxed);
        });
        given_up
    }
}

fn said(input: &Input) -> String {
    match input {
        Input::Journal(JournalEvent::Safe { through }) => format!("written {through}"),
        Input::Journal(JournalEvent::Failed { through }) => format!("failed {through}"),
        Input::Journal(JournalEvent::NotTaken { number }) => format!("refused {number}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_commit_takes_what_fits_and_each_begins_with_another_lane() {
    // The fourth has nothing, and is told nothing.
    let mut server = Server::new("turns", 4, ROOMY);
    server.take(0, accepted(1));
    let one = server.lane_bytes(0);
    assert_eq!(server.commit(), ["0 written 1"]);
    // Two records of different lanes fit exactly.
    let mut server = Server::new("turns", 4, FRAME_HEADER_BYTES + 2 * one);
    for shard in 0..3 {
        server.take(shard, accepted(1));
    }
    assert_eq!(server.commit(), ["1 written 1", "2 written 1"]);
    for shard in 0..3 {
        server.take(shard, accepted(2));
    }
    // Lane 0 has two of them now.
    assert_eq!(server.commit(), ["1 written 2", "2 written 2"]);
    assert_eq!(server.commit(), ["0 written 2"], "one lane always fits");
    for shard in 0..3 {
        server.take(shard, accepted(3));
    }
    assert_eq!(server.commit(), ["0 written 3", "1 written 3"]);
    assert_eq!(server.commit(), ["2 written 3"]);
    assert_eq!(server.commit(), [""; 0]);
}

#[test]
fn what_a_failed_commit_had_no_room_for_fails_with_it_and_what_came_later_does_not() {
    let mut server = Server::new("left", 3, ROOMY);
    server.take(1, accepted(1));
    let one = server.lane_bytes(1);
    server.take(1, ended(9));
    let both = server.lane_bytes(1);
    let mut server = Server::new("left", 3, FRAME_HEADER_BYTES + both + one);
    for shard in [1, 2] {
        server.take(shard, accepted(shard as u8));
        server.take(shard, ended(10 + shard as u8));
    }
    server.gather();
    server.take(0, accepted(3));
    server.take(1, ended(14));
    server.disk.fail(true);
    assert_eq!(server.write(), ["1 failed 2", "2 failed 2"]);
    assert_eq!(server.take(2, accepted(5)).as_deref(), Some("refused 3"));
    server.disk.fail(false);
    let mut told = Vec::new();
    while server.committer.is_failing() || server.committer.is_pending() {
        told.extend(server.commit());
    }
    told.sort();
    told.dedup();
    assert_eq!(told.iter().filter(|told| told.contains("failed")).count(), 0, "{told:?}");
    for last in ["0 written 1", "1 written 3", "2 written 2"] {
        assert!(told.iter().any(|told| told == last), "{last} of {told:?}");
    }
    let mut written = server.written();
    written.sort_unstable();
    let mut expected = vec![(kind::ACCEPTED, 3), (kind::ENDED, 11), (kind::ENDED, 12), (kind::ENDED, 14)];
    expected.sort_unstable();
    assert_eq!(written, expected);
}

#[test]
fn what_failed_is_written_with_the_next_commit_of_which_its_shard_is_told() {
    let mut server = Server::new("behind", 3, ROOMY);
    server.take(0, accepted(1));
    server.take(0, ended(2));
    server.disk.fail(true);
    assert_eq!(server.commit(), ["0 failed 2"]);
    assert_eq!(server.commit(), ["0 failed 2"], "again, and it is kept");
    server.disk.fail(false);
    assert_eq!(server.commit(), ["0 written 2"], "nothing else has come, from anybody");
    assert!(!server.committer.is_failing());
    server.take(1, accepted(3));
    assert_eq!(server.commit(), ["1 written 1"], "that was said");
    assert_eq!(server.written(), [(kind::ENDED, 2), (kind::ACCEPTED, 3)]);
}

#[test]
fn a_disk_with_a_few_bytes_left_does_not_count_as_a_good_one() {
    let mut server = Server::new("probe", 1, ROOMY);
    server.take(0, ended(1));
    server.disk.fail(true);
    assert_eq!(server.commit(), ["0 failed 1"]);
    server.disk.fail(false);
    server.disk.limit(10_000);
    assert_eq!(server.commit(), ["0 failed 1"]);
    assert!(server.committer.is_failing());
    server.disk.limit(100_000);
    assert_eq!(server.commit(), ["0 written 1"]);
    // What was tried stands nowhere.
    assert_eq!(server.written(), [(kind::ENDED, 1)]);
    assert!(server.bytes() < 10_000);
}

#[test]
fn more_than_a_frame_may_hold_is_not_written() {
    let mut server = Server::new("too-much", 1, ROOMY);
    // No memory is used as long as nobody looks.
    let mut frame = vec![0; segment::FRAME_BYTES_MAX as usize + 1];
    let error = server.committer.log.append(&mut frame, false).expect_err("too much");
    assert!(error.to_string().contains("more is pending"), "{error}");
    assert_eq!(server.written(), []);
}

#[test]
fn head_is_told_how_far_the_log_goes_once_per_rest() {
    let mut server = Server::new("rest", 1, ROOMY);
    let begun = server.head();
    server.take(0, accepted(1));
    server.commit();
    assert_eq!(server.head(), begun, "not with each commit");
    let given_up = server.give_up_when_a_file_is_created();
    server.committer.rest();
    assert_eq!(given_up.load(Ordering::Relaxed), 1, "a disk that hangs there is noticed");
    server.shared.works();
    let rested = server.head();
    assert_eq!((rested.newest, rested.mark.bytes, rested.closed), (1, server.bytes(), false));
    let created = server.disk.created();
    server.committer.rest();
    assert_eq!(server.disk.created(), created, "there is nothing new");
    server.take(0, accepted(2));
    server.commit();
    server.committer.close();
    let closed = server.head();
    assert_eq!((closed.newest, closed.mark.bytes, closed.closed), (1, server.bytes(), true));
    assert!(closed.mark.bytes > rested.mark.bytes);
}

#[test]
fn a_segment_that_is_long_enough_is_followed_by_another() {
    let mut server = Server::new("segments", 1, ROOMY);
    for number in 1..=3 {
        server.take(0, accepted(number));
        server.commit();
    }
    assert_eq!(server.segments().len(), 1, "it is not long enough yet");
    // As long as it will be.
    server.committer.log.set_segment_bytes(server.bytes() * 4 / 3);
    server.take(0, accepted(4));
    server.commit();
    let grown = server.bytes() == server.segments()[0].2;
    server.committer.log.set_segment_bytes(server.bytes());
    let given_up = server.give_up_when_a_file_is_created();
    server.take(0, accepted(5));
    assert_eq!(server.commit(), ["0 written 5"]);
    assert!(grown);
    assert_eq!(given_up.load(Ordering::Relaxed), 1, "a disk that hangs there is noticed");
    server.shared.works();
    assert_eq!(server.segments().len(), 2);
    assert!(server.committer.log.path().ends_with(segment::file_name(2, 2)));
    assert_eq!(server.shared.bytes.load(Ordering::Relaxed), server.bytes());
    assert_eq!(server.committer.log.bytes(), server.bytes());
    // When there cannot be one, the last one grows.
    server.committer.log.set_segment_bytes(1);
    server.disk.on_create({
        let disk = server.disk.clone();
        move || disk.fail(true)
    });
    // `HEAD` first, which has to name the new one.
    assert_eq!(
        {
            server.take(0, ended(6));
            server.commit()
        },
        ["0 failed 6"]
    );
    server.disk.fail(false);
    assert_eq!(server.commit(), ["0 written 6"]);
    server.take(0, accepted(7));
    server.commit();
    let numbers: Vec<(u64, u64)> = server.segments().iter().map(|segment| (segment.0, segment.1)).collect();
    assert_eq!(numbers, [(1, 1), (2, 2), (3, 3), (4, 4)]);
    assert_eq!(server.committer.log.bytes(), server.bytes());
    server.committer.close();
    assert_eq!(server.head().newest, 3, "the last one was not written to");
    let kinds = [1, 2, 3, 4, 5].map(|number| (kind::ACCEPTED, number));
    assert_eq!(server.written(), [&kinds[..], &[(kind::ENDED, 6), (kind::ACCEPTED, 7)]].concat());
}

#[test]
fn a_segment_that_cannot_be_followed_grows() {
    let mut server = Server::new("grows", 1, ROOMY);
    server.committer.log.set_segment_bytes(1);
    server.take(0, accepted(1));
    server.gather();
    server.disk.on_create({
        let disk = server.disk.clone();
        move || disk.fail(true)
    });
    assert_eq!(server.write(), ["0 written 1"], "it is on disk");
    assert_eq!(server.segments().len(), 1);
    server.disk.fail(false);
    server.take(0, accepted(2));
    assert_eq!(server.commit(), ["0 written 2"]);
    assert_eq!(server.segments().len(), 2);
    server.committer.close();
    assert_eq!(server.written(), [(kind::ACCEPTED, 1), (kind::ACCEPTED, 2)]);
}

#[test]
fn a_compaction_begins_with_the_first_commit_and_with_each_segment_that_ends() {
    let scratch = Arc::new(Scratch::new("begins"));
    let numbers = |server: &Server| -> Vec<(u64, u64)> {
        server.segments().iter().map(|segment| (segment.0, segment.1)).collect()
    };
    let mut server = Server::behind(Arc::clone(&scratch), 1, ROOMY);
    for number in 1..=16 {
        // The last one does not end.
        server.committer.log.set_segment_bytes(if number < 16 { 1 } else { 1 << 20 });
        server.take(0, accepted(number));
        server.commit();
    }
    server.committer.close();
    assert_eq!(server.segments().len(), 16, "one too few has ended");

    let mut server = Server::behind(Arc::clone(&scratch), 1, ROOMY);
    server.take(0, accepted(17));
    server.commit();
    server.committer.log.compactor.wait();
    assert_eq!(numbers(&server), [(1, 16), (17, 17)], "what earlier servers left");
    assert_eq!(server.committer.log.bytes(), server.bytes());

    server.committer.log.set_segment_bytes(1);
    for number in 18..=40 {
        server.take(0, accepted(number));
        server.commit();
        server.committer.log.compactor.wait();
    }
    assert_eq!(numbers(&server)[0], (1, 31), "sixteen with what was compacted before");
    // Not with a commit that ends none.
    server.committer.log.set_segment_bytes(1 << 20);
    let before = numbers(&server);
    server.take(0, accepted(41));
    server.commit();
    server.committer.close();
    assert_eq!(numbers(&server), before);
    assert_eq!(server.written().len(), 41);
    assert!(server.disk.list(&scratch.0).expect("readable").iter().all(|(name, _)| !name.ends_with(".new")));
}

#[test]
fn commits_are_apart_and_a_failing_disk_is_left_alone_for_longer() {
    let ms = Duration::from_millis;
    for (failing, stopping, since, pause) in [
        (false, false, ms(0), COMMIT_INTERVAL),
        (false, false, ms(1), ms(1)),
        (false, false, ms(2), ms(0)),
        (false, false, ms(100), ms(0)),
        (false, true, ms(0), COMMIT_INTERVAL),
        (true, false, ms(0), RETRY_INTERVAL),
        (true, false, ms(1000), RETRY_INTERVAL),
        (true, true, ms(0), COMMIT_INTERVAL),
        (true, true, ms(1000), ms(0)),
    ] {
        assert_eq!(super::pause(failing, stopping, since), pause, "{failing} {stopping} {since:?}");
    }
}

#[test]
fn a_file_that_was_exchanged_or_cut_while_the_server_ran_is_not_compacted() {
    let accept = |server: &mut Server, numbers: std::ops::RangeInclusive<u8>| {
        for number in numbers {
            server.take(0, accepted(number));
            server.commit();
            server.committer.log.compactor.wait();
        }
    };
    let with_segments = |name: &str| {
        let mut server = Server::new(name, 1, ROOMY);
        server.committer.log.set_segment_bytes(1);
        accept(&mut server, 1..=5);
        server
    };
    // As long as it, and whole: only what comes behind it knows another end.
    let other = with_segments("exchanged-other");
    let name = segment::file_name(3, 3);
    let foreign = std::fs::read(other.scratch.0.join(&name)).expect("readable");
    for (place, bytes) in [("exchanged", &foreign[..]), ("cut", &foreign[..segment::HEADER_BYTES as usize])] {
        let mut server = with_segments(place);
        let path = server.scratch.0.join(&name);
        assert_eq!(std::fs::metadata(&path).expect("it is there").len(), foreign.len() as u64);
        std::fs::write(&path, bytes).expect("writable");
        accept(&mut server, 6..=20);
        let numbers: Vec<(u64, u64)> =
            server.segments().iter().map(|(first, last, _)| (*first, *last)).collect();
        assert_eq!(numbers, (1..=21).map(|number| (number, number)).collect::<Vec<_>>(), "{place}");
        assert_eq!(std::fs::read(&path).expect("readable"), bytes, "{place}");
    }
}
