//! The real store under the worlds of the simulator: codec, segments, group commit, recovery and compaction on a file system
//! that tears, reorders what was not synced, fails, fills up and hangs. The simulator's auditor judges what shards tell their
//! callers and what they are given back after a crash; besides, each crash is followed by a look at a copy of the files that was
//! damaged in one place.
//!
//! `STORE_SEEDS=1000..2000 STORE_EVENTS=20000 cargo test --release -p nanofaas-store --test store worlds` runs others than the fixed ones;
//! `STORE_STEPS=5000` shows more of the steps before a failure.

mod files;
mod results;
mod storage;

use std::{env, thread};

use shard_sim::{Options, Outcome, run_on};

use crate::storage::{Planted, RealStore};

/// Seeds that are always run.
const SEEDS: std::ops::Range<u64> = 1..49;
/// Steps of a shard until faults stop.
const EVENTS: u64 = 1500;

fn run(seed: u64, events: u64, planted: Option<Planted>) -> Outcome {
    let steps_shown = number("STORE_STEPS").unwrap_or(20);
    let options = Options { hashed: false, check_every: 500, steps_shown, ..Options::new(seed, events) };
    run_on(&options, &|swarm| Box::new(RealStore::new(seed, swarm.shards, planted)))
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

/// `1..5` from the environment.
fn range(text: &str) -> Option<std::ops::Range<u64>> {
    let (first, end) = text.split_once("..")?;
    Some(first.parse().ok()?..end.parse().ok()?)
}

#[test]
fn worlds_with_the_real_store_hold() {
    let seeds = env::var("STORE_SEEDS").ok().and_then(|text| range(&text)).unwrap_or(SEEDS);
    let events = number("STORE_EVENTS").unwrap_or(EVENTS);
    let threads = thread::available_parallelism().map_or(1, usize::from) as u64;
    let (steps, crashes) = thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|part| {
                let seeds = seeds.clone();
                scope.spawn(move || {
                    let (mut steps, mut crashes) = (0, 0);
                    for seed in seeds.filter(|seed| seed % threads == part) {
                        let outcome = run(seed, events, None);
                        if let Some(failure) = outcome.failure {
                            let last = failure.last_steps.join("\n");
                            panic!("{last}\n\nSTORE_SEEDS={seed}..{}: {}", seed + 1, failure.what);
                        }
                        steps += outcome.steps;
                        crashes += outcome.stats.crashes;
                    }
                    (steps, crashes)
                })
            })
            .collect();
        let sums = parts.into_iter().map(|part| part.join().expect("all runs are well"));
        sums.fold((0, 0), |(a, b), (c, d)| (a + c, b + d))
    });
    println!("seeds {seeds:?}, {events} events each: {steps} steps, {crashes} crashes");
    assert!(crashes > 0, "no run crashed");
}

#[test]
fn every_broken_store_is_noticed() {
    for planted in Planted::ALL {
        let noticed = (1..200).find_map(|seed| Some((seed, run(seed, EVENTS, Some(planted)).failure?.what)));
        let (seed, what) = noticed.unwrap_or_else(|| panic!("{planted:?} is not noticed"));
        println!("{planted:?}: seed {seed}: {what}");
    }
}
