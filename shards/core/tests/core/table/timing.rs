//! Deadlines: of callers, of attempts, of back-offs.

use crate::script::check;

#[test]
fn a_function_is_told_how_long_the_caller_that_waits_longest_still_waits() {
    check(
        "
        0 r register f timeout=1000 -> open F, r: registered
        0 a invoke f timeout=100 key=k -> dispatch a#1 to F for 100 key=k
        10 b invoke f timeout=600 key=k
        100 turn -> a: timeout a function 100
        200 answer a#1 fail -> note retry a#1 FAILED, dispatch a#2 to F for 410
        300 c enqueue f key=k -> c: accepted a
        400 answer a#2 fail -> note retry a#2 FAILED, dispatch a#3 to F for 1000
        500 answer a#3 ok -> note 0+100 of 500 ms, b: success a
        ",
    );
}

#[test]
fn a_caller_that_leaves_a_run_lets_it_go_on() {
    check(
        "
        0 r register f -> open F, r: registered
        0 a invoke f -> dispatch a#1 to F for 1000
        10 leave a
        20 answer a#1 ok out=1 -> note 0+20 of 20 ms
        30 g get a -> g: a success attempt=1 output=1 created=0 dispatched=0 finished=20
        show totals -> functions=1 executions=1 finished=1 retained=1 timers=1
        ",
    );
}

#[test]
fn retries_that_nobody_waits_for_end_with_the_deadline_that_their_caller_had() {
    check(
        "
        0 r register f attempts=9 -> open F, r: registered
        0 a invoke f timeout=500 -> dispatch a#1 to F for 500
        10 leave a
        20 answer a#1 fail -> note retry a#1 FAILED, dispatch a#2 to F for 480
        30 answer a#2 fail after=2000 -> note retry a#2 FAILED
        30 b invoke f -> dispatch b#1 to F for 1000
        500 turn
        500 g get a -> g: a timeout attempt=2 error=TIMEOUT last=FAILED created=0 finished=500
        show f -> running=1 invocations=2 dispatches=3 retries=2
        ",
    );
}
