//! Interleavings: the real pump, mailboxes and reply slabs of several threads on one, in an order that a seed decides.
//!
//! [`executor`] polls one ready task at a time, chosen at random; [`world`] has the shards, what performs their effects,
//! and clients that call, wait, lose patience and cancel. Time is tokio's paused clock: it moves when nothing is ready.
//!
//! `NANOFAAS_SEEDS=FROM..TO cargo test -p shard-runtime interleavings` runs other seeds than the fixed ones.

mod executor;
mod world;

use world::{Swarm, World};

/// Seeds of the test suite.
const SEEDS: std::ops::Range<u64> = 0..300;

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("NANOFAAS_SEEDS") else { return SEEDS };
    let (from, to) = text.split_once("..").expect("FROM..TO");
    from.parse().expect("a number")..to.parse().expect("a number")
}

#[test]
fn interleavings_answer_every_call_once_and_leave_nothing_behind() {
    let mut sum = world::Counts::default();
    for seed in seeds() {
        // Shown with a failure: the seed to run again.
        println!("seed {seed}");
        sum += World::run(seed, &Swarm::of(seed)).counts;
    }
    // The test of the test: everything that may happen does.
    assert!(sum.succeeded > 0 && sum.crossed > 0 && sum.left > 0 && sum.refused > 0, "{sum:?}");
    assert!(sum.busy > 0 && sum.cancelled > 0 && sum.timed_out > 0 && sum.accepted > 0, "{sum:?}");
}

#[test]
fn a_seed_decides_everything() {
    for seed in 0..5 {
        let swarm = Swarm::of(seed);
        assert_eq!(World::run(seed, &swarm), World::run(seed, &swarm), "seed {seed}");
    }
    assert_ne!(World::run(1, &Swarm::of(1)).trace, World::run(2, &Swarm::of(1)).trace);
}
