//! The test of the test: worlds that are broken on purpose are found to be, by what can be seen from outside, within a
//! few seeds on which the sound world is well.

use shard_sim::{
    Options, run,
    sabotage::{CoreSabotage, Sabotage},
};

/// Seeds tried for each.
const SEEDS: std::ops::Range<u64> = 1..385;
/// Steps of a shard until faults stop.
const EVENTS: u64 = 700;

/// A seed, and steps until faults stop, for what few runs get to.
fn rare(sabotage: Sabotage) -> Option<(u64, u64)> {
    match sabotage {
        Sabotage::Core(CoreSabotage::DeliveryStays) => Some((60002337, 2500)),
        Sabotage::Core(CoreSabotage::OldKeyStands) => Some((70010341, 10700)),
        Sabotage::Core(CoreSabotage::RefusedAddressStays) => Some((70000239, 5000)),
        Sabotage::Core(CoreSabotage::OldDeliveryCounts) => Some((5801, 700)),
        Sabotage::Core(CoreSabotage::OutputDroppedUnsafe) => Some((1743, 4000)),
        Sabotage::Core(CoreSabotage::AnotherResultRead) => Some((428, 700)),
        Sabotage::Core(CoreSabotage::ReplayLeavesKey) => Some((515, 1500)),
        _ => None,
    }
}

#[test]
fn every_broken_world_is_noticed() {
    let sabotages = Sabotage::all();
    let unnoticed: Vec<String> = std::thread::scope(|scope| {
        let half = sabotages.len().div_ceil(2);
        let parts = sabotages.chunks(half).map(|part| {
            scope.spawn(|| {
                part.iter().filter(|sabotage| !is_noticed(**sabotage)).map(Sabotage::to_string).collect()
            })
        });
        let parts: Vec<_> = parts.collect();
        parts.into_iter().flat_map(|part| part.join().unwrap_or_else(|_| vec!["panic".to_owned()])).collect()
    });
    assert!(unnoticed.is_empty(), "nothing was wrong with {unnoticed:?}");
    assert!(sabotages.len() >= 12);
}

/// Whether the auditor notices. The shard's own invariants are left out: they are another net.
fn is_noticed(sabotage: Sabotage) -> bool {
    let is_noticed = |sabotage, seed, events| {
        let options =
            Options { check_every: u64::MAX, sabotage, steps_shown: 0, ..Options::new(seed, events) };
        run(&options).failure.is_some()
    };
    match rare(sabotage) {
        Some((seed, events)) => is_noticed(Some(sabotage), seed, events) && !is_noticed(None, seed, events),
        None => SEEDS.into_iter().any(|seed| is_noticed(Some(sabotage), seed, EVENTS)),
    }
}
