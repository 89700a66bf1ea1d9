//! How long a function with a long queue keeps its shard from other work when it is removed.
//!
//! The real shard, driven as its thread drives it. So many accepted calls wait for a function; it is removed, and they
//! become dead letters of its name, batch by batch. What other functions of the shard feel is the longest step, not the
//! whole. Nothing is measured here of threads, HTTP or the disk: what is written is safe at once.
//!
//! `cargo bench --bench removal` takes a few seconds and prints a table; the test suite runs it on little.

#![allow(clippy::print_stdout, reason = "the table is what it is for")]

mod support;

use std::time::{Duration, Instant};

use shard_core::{Input, JournalEvent};
use support::{once, shard::Rig};

/// The server's: another one may take tens of milliseconds to give a million small pieces back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Queues in a row, of which the median is printed.
const ROUNDS: usize = 5;

/// What a removal took.
#[derive(Clone, Copy)]
struct Removal {
    steps: usize,
    longest: Duration,
    whole: Duration,
}

fn main() {
    let waiting = if once() { &[1, 1_000][..] } else { &[1, 1_000, 1_000_000] };
    println!("| calls that wait | steps | longest step | all of it |\n|---|---|---|---|");
    for waiting in waiting.iter().copied() {
        let mut rounds: Vec<Removal> = (0..ROUNDS).map(|_| remove(waiting)).collect();
        rounds.sort_by_key(|round| round.longest);
        let longest = format!("{:?} (at most {:?})", rounds[ROUNDS / 2].longest, rounds[ROUNDS - 1].longest);
        rounds.sort_by_key(|round| round.whole);
        let Removal { steps, whole, .. } = rounds[ROUNDS / 2];
        println!("| {waiting} | {steps} | {longest} | {whole:?} |");
    }
}

/// Removes a function for which so many calls wait.
fn remove(waiting: u32) -> Removal {
    let mut rig = Rig::with_waiting(waiting);
    let mut removal = Removal { steps: 0, longest: Duration::ZERO, whole: Duration::ZERO };
    let mut next = Some(rig.removal());
    while let Some(input) = next {
        let started = Instant::now();
        rig.handle(input);
        let took = started.elapsed();
        removal.steps += 1;
        removal.longest = removal.longest.max(took);
        removal.whole += took;
        next = match rig.perform() {
            Some(through) => Some(Input::Journal(JournalEvent::Safe { through })),
            None => Some(Input::Turn).filter(|_| rig.has_ready()),
        };
    }
    assert_eq!(rig.dead_letters(), waiting as usize, "what waited");
    removal
}
