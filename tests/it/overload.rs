//! The scenarios of `benches/overload` for a moment each: that they run and say something. What they must say is
//! measured there, on a quiet machine.

#[path = "../../benches/overload/load.rs"]
#[allow(dead_code, reason = "the benchmark reads more of it")]
mod load;
#[path = "../../benches/overload/scenarios.rs"]
#[allow(dead_code, reason = "the benchmark reads more of it")]
mod scenarios;

use std::time::Duration;

use scenarios::{Fairness, Goodput, Obedience};

#[test]
fn callers_are_refused_under_overload_and_come_back() {
    let obeyed = Obedience { overload: 3.0, duration: Duration::from_secs(6) }.run();
    let outcomes = &obeyed.outcomes;
    assert!(outcomes.succeeded > 100 && outcomes.refused > 100, "{outcomes:?}");
    assert!(outcomes.came_back > 0 && outcomes.retry_after_s_max > 2, "{outcomes:?}");
    assert_eq!(obeyed.rows().len(), 1);
}

#[test]
fn results_go_on_under_overload() {
    // A busy machine cannot even send ten times as much, and what is sent late is answered after the end.
    let rates = Goodput { overloads: &[1.0, 4.0], duration: Duration::from_secs(3) }.run();
    assert!(rates.iter().all(|rate| *rate > 20.0), "{rates:?}");
}

#[test]
fn a_seldom_called_function_is_served_beside_a_flooded_one() {
    let rounds = Fairness { rounds: 1, calls: 50 }.run();
    assert!(rounds.iter().all(|(_, beside)| *beside < Duration::from_secs(5)), "{rounds:?}");
}

#[test]
fn a_blocked_queue_does_not_keep_the_server_busy() {
    let share = scenarios::idle(true, Duration::from_secs(1));
    assert!(share < 0.5, "{share} of a core");
}
