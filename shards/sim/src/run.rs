//! One run, from options to outcome.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
};

use crate::{auditor::Stats, sabotage::Sabotage, storage::Storage, swarm::Swarm, world::World};

/// What to run. The same options give the same run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Decides everything.
    pub seed: u64,
    /// Steps of shards until faults stop.
    pub events: u64,
    /// Steps from one check of a shard's whole state to the next; 1: after every step. Does not change the run.
    pub check_every: u64,
    /// How the world is broken, to see whether that is noticed.
    pub sabotage: Option<Sabotage>,
    /// Requests that are made at most.
    pub requests_max: u64,
    /// Requests that are left out, by number.
    pub skip: BTreeSet<u64>,
    /// Whether everything that happens goes into the hash. It costs as much as the run itself; does not change it.
    pub hashed: bool,
    /// Steps that are kept as text when a run fails. Does not change the run.
    pub steps_shown: u64,
}

impl Options {
    /// Everything that a seed brings.
    pub fn new(seed: u64, events: u64) -> Options {
        Options {
            seed,
            events,
            check_every: 1,
            sabotage: None,
            requests_max: u64::MAX,
            skip: BTreeSet::new(),
            hashed: true,
            steps_shown: 20,
        }
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// Of everything that happened, when that is asked for.
    pub hash: u64,
    /// Steps of shards.
    pub steps: u64,
    /// Requests made, those that were left out included.
    pub requests: u64,
    /// Virtual time, in microseconds.
    pub time_us: u64,
    /// What happened how often.
    pub stats: Stats,
    /// What was not as it has to be.
    pub failure: Option<Failure>,
}

/// Something that was not as it has to be.
#[derive(Debug)]
pub struct Failure {
    /// What, in words.
    pub what: String,
    /// The last steps, oldest first.
    pub last_steps: Vec<String>,
}

/// Makes a store for a run.
pub(crate) type MakeStorage<'a> = &'a dyn Fn(&Swarm) -> Box<dyn Storage>;

/// Runs a world to its end, or to the first thing that is not as it has to be.
pub fn run(options: &Options) -> Outcome {
    outcome(options, None)
}

/// The same with a store in the place of the disks that are played.
pub fn run_on(options: &Options, storage: &dyn Fn(&Swarm) -> Box<dyn Storage>) -> Outcome {
    outcome(options, Some(storage))
}

fn outcome(options: &Options, storage: Option<MakeStorage<'_>>) -> Outcome {
    let (world, failure) = attempt(options, u64::MAX, storage);
    let (steps, hash) = (world.trace().steps(), world.trace().hash());
    let failure = failure.map(|what| {
        // Once more, now that it is known which steps are worth keeping as text.
        let (again, _) = attempt(options, (steps + 1).saturating_sub(options.steps_shown), storage);
        Failure { what, last_steps: again.into_text() }
    });
    let (requests, time_us, stats) = (world.requests(), world.now_us(), world.stats().clone());
    Outcome { hash, steps, requests, time_us, stats, failure }
}

fn attempt(options: &Options, text_from: u64, storage: Option<MakeStorage<'_>>) -> (World, Option<String>) {
    let mut world = World::new(options, text_from, storage);
    // The world is read afterwards, never run on.
    let result = catch_unwind(AssertUnwindSafe(|| world.run()));
    let failure = match result {
        Ok(Ok(())) => None,
        Ok(Err(what)) => Some(what),
        Err(panic) => Some(format!("panic: {}", panic_text(&*panic))),
    };
    (world, failure)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words")
}
