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

#[test]
fn a_wait_ends_at_the_callers_deadline_wherever_the_execution_is() {
    check(
        "
        0 r register f timeout=1000 -> open F, r: registered
        0 a invoke f timeout=300 -> dispatch a#1 to F for 300
        0 connecting a#1
        0 b invoke f timeout=400
        299 turn
        300 turn -> a: timeout a dispatch 300
        400 turn -> b: timeout b queue 400
        401 g get a -> g: a timeout attempt=1 error=TIMEOUT created=0 dispatched=0 finished=300
        401 g get b -> g: b timeout attempt=0 error=TIMEOUT created=0 finished=400
        show f -> running=1 invocations=2 dispatches=1 timeouts=2
        ",
    );
}

#[test]
fn the_slot_of_a_caller_that_gave_up_is_held_until_the_answer_or_the_timeout() {
    check(
        "
        0 r register f timeout=1000 -> open F, r: registered
        0 a invoke f timeout=100 -> dispatch a#1 to F for 100
        0 b invoke f timeout=2500
        100 turn -> a: timeout a function 100
        500 answer a#1 ok -> note late a, dispatch b#1 to F for 1000
        500 c invoke f timeout=100
        600 turn -> c: timeout c queue 100
        1500 turn -> abort b#1, note retry b#1 FUNCTION_TIMEOUT, dispatch b#2 to F for 1000
        2500 turn -> b: timeout b function 2500, abort b#2
        2501 answer b#2 ok
        show f -> invocations=3 dispatches=3 retries=1 timeouts=3 late=1
        ",
    );
}

#[test]
fn when_both_end_together_the_deadline_wins() {
    check(
        "
        0 r register f timeout=1000 -> open F, r: registered
        0 a invoke f -> dispatch a#1 to F for 1000
        1000 answer a#1 ok -> a: timeout a function 1000, abort a#1
        1000 g get a -> g: a timeout attempt=1 error=TIMEOUT created=0 dispatched=0 finished=1000
        ",
    );
}

#[test]
fn with_a_longer_deadline_the_attempt_fails_and_is_retried() {
    check(
        "
        0 r register f timeout=1000 attempts=2 -> open F, r: registered
        0 a invoke f timeout=60000 -> dispatch a#1 to F for 1000
        1000 turn -> abort a#1, note retry a#1 FUNCTION_TIMEOUT, dispatch a#2 to F for 1000
        2000 turn -> abort a#2, note 0+1000 of 2000 ms, a: error a FUNCTION_TIMEOUT
        2000 answer a#1 ok
        ",
    );
}

#[test]
fn what_was_accepted_has_no_deadline_but_its_attempts() {
    check(
        "
        0 r register f timeout=1000 attempts=1 -> open F, r: registered
        0 a enqueue f timeout=5 -> a: accepted a, dispatch a#1 to F for 1000
        0 b enqueue f timeout=5 -> b: accepted b
        1000 turn -> abort a#1, note 0+1000 of 1000 ms, dispatch b#1 to F for 1000
        ",
    );
}

#[test]
fn a_caller_that_joined_does_not_end_what_was_accepted() {
    check(
        "
        0 r register f timeout=1000 -> open F, r: registered
        0 a enqueue f key=k -> a: accepted a, dispatch a#1 to F for 1000 key=k
        0 b invoke f key=k timeout=50
        50 turn -> b: timeout a function 50
        60 answer a#1 ok -> note 0+60 of 60 ms
        60 g get a -> g: a success attempt=1 output=null created=0 dispatched=0 finished=60
        ",
    );
}

#[test]
fn the_wait_before_a_retry_is_what_the_function_asks_for_up_to_a_bound() {
    check(
        "
        0 r register f timeout=200000 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 200000
        0 answer a#1 fail after=2000 -> note retry a#1 FAILED
        1999 turn
        2000 turn -> dispatch a#2 to F for 200000
        2000 answer a#2 fail after=900000 -> note retry a#2 FAILED
        61999 turn
        62000 turn -> dispatch a#3 to F for 200000
        ",
    );
}

#[test]
fn a_backoff_is_at_most_its_ceiling_which_doubles() {
    check(
        "
        0 r register f timeout=200000 backoff=100 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 200000
        0 answer a#1 fail -> note retry a#1 FAILED
        show f -> queued=1 invocations=1 enqueued=1 dispatches=1 retries=1
        100 turn -> dispatch a#2 to F for 200000
        100 answer a#2 fail -> note retry a#2 FAILED
        300 turn -> dispatch a#3 to F for 200000
        ",
    );
}

#[test]
fn a_backoff_goes_to_the_tail_when_it_is_over() {
    check(
        "
        0 r register f -> open F, r: registered
        0 a invoke f -> dispatch a#1 to F for 1000
        1 answer a#1 fail after=50 -> note retry a#1 FAILED
        2 b invoke f -> dispatch b#1 to F for 1000
        3 c invoke f
        60 answer b#1 ok -> note 0+58 of 58 ms, b: success b, dispatch c#1 to F for 943
        61 answer c#1 ok -> note 57+1 of 58 ms, c: success c, dispatch a#2 to F for 939
        ",
    );
}

#[test]
fn time_that_goes_back_stands_still() {
    check(
        "
        100 r register f -> open F, r: registered
        100 a invoke f -> dispatch a#1 to F for 1000
        50 answer a#1 ok -> note 0+0 of 0 ms, a: success a
        ",
    );
}
