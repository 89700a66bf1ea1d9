//! Makes a run that fails small: requests are left out while it fails in the same way (Zeller, Hildebrandt: "Simplifying
//! and Isolating Failure-Inducing Input").

use std::{collections::BTreeSet, ops::ControlFlow};

use crate::{Options, run};

/// Leaves out what is not needed for the failure. `progress` is given the smallest run so far and how many requests are left
/// of it, from the first on; what it says decides whether that is small enough.
pub fn shrink(options: &Options, mut progress: impl FnMut(&Options, usize) -> ControlFlow<()>) -> Options {
    let outcome = run(options);
    let Some(failure) = outcome.failure else { return options.clone() };
    let kind = kind_of(&failure.what);
    // What would follow after the failure is not needed.
    let mut best = Options {
        events: outcome.steps + 1,
        requests_max: outcome.requests,
        steps_shown: 0,
        hashed: false,
        ..options.clone()
    };
    let mut left: Vec<u64> = (0..outcome.requests).filter(|number| !best.skip.contains(number)).collect();
    let as_asked =
        |best: &Options| Options { steps_shown: options.steps_shown, hashed: options.hashed, ..best.clone() };
    if progress(&as_asked(&best), left.len()).is_break() {
        return as_asked(&best);
    }
    let mut part = left.len().div_ceil(2);
    while part > 0 {
        let mut from = 0;
        while from < left.len() {
            let to = (from + part).min(left.len());
            let skip: BTreeSet<u64> =
                best.skip.iter().copied().chain(left[from..to].iter().copied()).collect();
            let attempt = Options { skip, ..best.clone() };
            if run(&attempt).failure.is_some_and(|failure| kind_of(&failure.what) == kind) {
                best = attempt;
                left.drain(from..to);
                if progress(&as_asked(&best), left.len()).is_break() {
                    return as_asked(&best);
                }
            } else {
                from = to;
            }
        }
        part /= 2;
    }
    as_asked(&best)
}

/// The words of a failure without what differs from run to run: names, numbers and ids.
fn kind_of(what: &str) -> String {
    let words = what.split(' ').filter(|word| !word.contains(|letter: char| letter.is_ascii_digit()));
    words.collect::<Vec<_>>().join(" ")
}
