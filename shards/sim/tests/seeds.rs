//! Fixed seeds, and every seed that ever failed. Each is run twice: nothing but the seed may decide what happens.

use std::thread;

use shard_sim::{Options, Outcome, Stats, run};

/// Seeds that are always run.
const FIXED: std::ops::Range<u64> = 1..65;
/// Steps of a shard until faults stop.
const EVENTS: u64 = 700;

#[test]
fn fixed_seeds() {
    let outcomes = all(FIXED.map(|seed| Options::new(seed, EVENTS)).collect());
    // Rules that no run gets to would not be tested.
    let mut seen = Stats::default();
    outcomes.iter().for_each(|outcome| seen.add(&outcome.stats));
    let unseen: Vec<_> = seen.all().into_iter().filter(|(_, count)| *count == 0).collect();
    assert!(unseen.is_empty(), "no run ever saw {unseen:?}");
}

#[test]
fn seeds_that_failed_once() {
    let runs = include_str!("../seeds.txt").lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let options = runs.map(|line| {
        let mut numbers = line.split_whitespace().map_while(|word| word.parse().ok());
        let (Some(seed), Some(events)): (Option<u64>, Option<u64>) = (numbers.next(), numbers.next()) else {
            panic!("not a seed and a number of events: {line}");
        };
        // Long runs are checked less often: what is audited from outside is audited after every step all the same.
        Options { check_every: (events / 1000).max(1), ..Options::new(seed, events) }
    });
    all(options.collect());
}

/// Runs all, on as many threads as there are cores, each twice.
fn all(options: Vec<Options>) -> Vec<Outcome> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let part = options.len().div_ceil(threads).max(1);
    thread::scope(|scope| {
        let parts =
            options.chunks(part).map(|part| scope.spawn(|| part.iter().map(twice).collect::<Vec<_>>()));
        let parts: Vec<_> = parts.collect();
        parts.into_iter().flat_map(|part| part.join().expect("all runs are well")).collect()
    })
}

fn twice(options: &Options) -> Outcome {
    let Options { seed, events, .. } = options;
    let outcome = run(options);
    if let Some(failure) = &outcome.failure {
        let last = failure.last_steps.join("\n");
        panic!(
            "{last}\n\nshard-sim --seed {seed} --events {events}: step {}: {}",
            outcome.steps, failure.what
        );
    }
    // How often the state is checked must change nothing.
    let again = run(&Options { check_every: u64::MAX, ..options.clone() });
    assert_eq!((again.hash, again.steps), (outcome.hash, outcome.steps), "seed {seed} gave another run");
    outcome
}
