//! Attempts end, executions are retried or end.

use crate::script::check;

#[test]
fn the_first_completion_of_an_attempt_wins() {
    check(
        "
        0 r register f slots=3 -> open F, r: registered
        0 a invoke f -> dispatch a#1 to F for 1000
        0 b invoke f -> dispatch b#1 to F for 1000
        0 c invoke f -> dispatch c#1 to F for 1000
        5 k callback a ok out=called -> note 0+5 of 5 ms, a: success a called, k: applied
        6 answer a#1 ok out=answered -> note late a
        7 answer b#1 ok out=answered -> note 0+7 of 7 ms, b: success b answered
        8 k callback b ok out=called -> note late b, k: ignored
        9 k callback c ok out=called -> note 0+9 of 9 ms, c: success c called, k: applied
        10 k callback c fail -> note late c, k: ignored
        11 answer c#1 fail -> note late c
        show f -> invocations=3 dispatches=3 successes=3 warm=3 late=4
        12 g get a -> g: a success attempt=1 output=called created=0 dispatched=0 finished=5
        ",
    );
}

#[test]
fn a_callback_that_overtakes_its_promise_is_not_late() {
    check(
        "
        0 r register f -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        5 k callback a ok attempt=1 -> note 0+5 of 5 ms, k: applied
        6 answer a#1 promise
        show f -> invocations=1 dispatches=1 successes=1 warm=1
        show totals -> functions=1 executions=1 finished=1 retained=4 timers=1
        ",
    );
}

#[test]
fn a_removed_function_sees_its_last_attempt_time_out() {
    check(
        "
        0 r register f attempts=3 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        1 x remove f -> x: removed, close F, note gone
        show totals -> functions=1 executions=1 attempts=1 timers=1
        1000 turn -> abort a#1
        1000 g get a -> g: a error attempt=1 error=FUNCTION_TIMEOUT created=0 dispatched=0 finished=1000
        show totals -> executions=1 finished=1 retained=95 timers=1
        ",
    );
}

#[test]
fn an_orphan_counts_even_when_its_caller_gave_up_first() {
    check(
        "
        0 r register f -> open F, r: registered
        0 a invoke f -> dispatch a#1 to F for 1000
        5 answer a#1 promise
        1000 turn -> a: timeout a function 1000
        show f -> invocations=1 dispatches=1 timeouts=1 orphans=1
        ",
    );
}

#[test]
fn exchanges_that_go_on_after_their_callback_are_bounded() {
    check(
        "
        0 r register f -> open F, r: registered
        0 a invoke f -> dispatch a#1 to F for 1000
        1 k callback a ok -> note 0+1 of 1 ms, a: success a, k: applied
        2 b invoke f -> dispatch b#1 to F for 1000
        3 k callback b ok -> abort b#1, note 0+1 of 1 ms, b: success b, k: applied
        4 answer b#1 ok
        5 answer a#1 ok -> note late a
        6 c invoke f -> dispatch c#1 to F for 1000
        7 k callback c ok -> note 0+1 of 1 ms, c: success c, k: applied
        1006 turn -> abort c#1
        show totals -> functions=1 executions=3 finished=3 retained=12 timers=1
        ",
    );
}
