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
        show f -> invocations=1 enqueued=1 dispatches=1 successes=1 warm=1
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
        show totals -> functions=1 executions=1 attempts=1 timers=1 accepted=1
        1000 turn -> abort a#1
        1000 g get a -> g: a error attempt=1 error=FUNCTION_TIMEOUT created=0 dispatched=0 finished=1000
        show totals -> executions=1 dead=1
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

#[test]
fn an_answer_for_an_execution_that_is_gone_is_late() {
    check(
        "
        0 r register f -> open F, r: registered
        0 a invoke f -> dispatch a#1 to F for 1000
        1 k callback a fail after=100 -> note retry a#1 FAILED, k: applied
        2 leave a
        3 answer a#1 ok -> note late a
        3 k callback a ok -> k: refused ExecutionNotFound
        show f -> invocations=1 dispatches=1 retries=1 late=1
        ",
    );
}

#[test]
fn attempts_count_from_1_to_the_last_one() {
    check(
        "
        0 r register f attempts=3 -> open F, r: registered
        0 a invoke f -> dispatch a#1 to F for 1000
        1 answer a#1 fail -> note retry a#1 FAILED, dispatch a#2 to F for 999
        2 answer a#2 fail -> note retry a#2 FAILED, dispatch a#3 to F for 998
        3 answer a#3 fail -> note 0+1 of 3 ms, a: error a FAILED
        4 g get a -> g: a error attempt=3 error=FAILED last=FAILED created=0 dispatched=2 finished=3
        show f -> invocations=1 dispatches=3 errors=1 retries=2 warm=1
        ",
    );
}

#[test]
fn one_attempt_means_no_retry_and_neither_does_a_failure_that_asks_for_none() {
    check(
        "
        0 r register f attempts=1 -> open F, r: registered
        0 r register g -> open G, r: registered
        0 a invoke f -> dispatch a#1 to F for 1000
        0 b invoke g -> dispatch b#1 to G for 1000
        1 answer a#1 fail -> note 0+1 of 1 ms, a: error a FAILED
        1 answer b#1 refuse -> note 0+1 of 1 ms, b: error b FAILED
        ",
    );
}

#[test]
fn a_synchronous_call_has_attempts_of_its_own_until_it_is_accepted() {
    check(
        "
        0 r register f attempts=3 sync=1 slots=2 -> open F, r: registered
        0 a invoke f -> dispatch a#1 to F for 1000
        0 b invoke f key=k -> dispatch b#1 to F for 1000 key=k
        1 answer a#1 fail -> note 0+1 of 1 ms, a: error a FAILED
        1 c enqueue f key=k -> c: accepted b
        2 answer b#1 fail -> note retry b#1 FAILED, dispatch b#2 to F for 1000
        3 answer b#2 fail -> note retry b#2 FAILED, dispatch b#3 to F for 1000
        4 answer b#3 fail -> note 0+1 of 4 ms, b: error b FAILED
        5 d dead f -> d: letters [b#3 FAILED at 4 of 0]
        5 e invoke f -> dispatch e#1 to F for 1000
        6 answer e#1 promise
        1005 turn -> e: timeout e function 1000
        show f -> invocations=3 dispatches=5 errors=2 retries=2 timeouts=1 warm=2 orphans=1 dead=1
        ",
    );
}

#[test]
fn a_retry_goes_to_the_tail_and_clears_what_the_attempt_left() {
    check(
        "
        0 r register f -> open F, r: registered
        0 a invoke f -> dispatch a#1 to F for 1000
        0 b invoke f
        5 answer a#1 fail cold=3 -> dispatch b#1 to F for 995, note retry a#1 FAILED
        6 g get a -> g: a queued attempt=1 last=FAILED created=0
        7 answer b#1 ok cold=4 -> note 5+2 of 7 ms, b: success b, dispatch a#2 to F for 993
        7 g get b -> g: b success attempt=1 output=null cold=4 created=0 dispatched=5 finished=7
        8 answer a#2 ok -> note 2+1 of 8 ms, a: success a
        8 g get a -> g: a success attempt=2 output=null last=FAILED created=0 dispatched=7 finished=8
        show f -> invocations=2 dispatches=3 successes=2 retries=1 cold=1 warm=1
        ",
    );
}

#[test]
fn a_retry_without_a_place_in_the_queue_ends_with_the_failure() {
    check(
        "
        0 r register f slots=1 queue=1 -> open F, r: registered
        0 a invoke f -> dispatch a#1 to F for 1000
        0 b invoke f
        1 answer a#1 fail after=50 -> dispatch b#1 to F for 999, note retry a#1 FAILED
        2 answer b#1 fail after=50 -> note 1+1 of 2 ms, b: error b FAILED
        2 c invoke f -> dispatch c#1 to F for 1000
        2 d invoke f -> d: refused QueueFull depth=1 wait=2 retry=1
        3 answer c#1 fail after=50 -> note 0+1 of 1 ms, c: error c FAILED
        51 turn -> dispatch a#2 to F for 949
        show f -> running=1 invocations=3 dispatches=4 errors=2 retries=1 rejections=3 warm=2
        ",
    );
}

#[test]
fn callbacks_of_another_attempt_are_ignored() {
    check(
        "
        0 r register f -> open F, r: registered
        0 a invoke f -> dispatch a#1 to F for 1000
        1 answer a#1 fail -> note retry a#1 FAILED, dispatch a#2 to F for 999
        2 k callback a ok attempt=1 -> note late a, k: ignored
        2 k callback a ok attempt=3 -> note late a, k: ignored
        3 k callback a ok attempt=2 -> note 0+2 of 3 ms, a: success a, k: applied
        4 k callback nobody ok -> k: refused ExecutionNotFound
        4 k callback a promise -> note late a, k: ignored
        ",
    );
}

#[test]
fn a_callback_for_an_execution_that_waits_is_ignored() {
    check(
        "
        0 r register f -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        0 b enqueue f -> b: accepted b
        1 k callback b ok -> note late b, k: ignored
        2 answer a#1 fail after=100 -> dispatch b#1 to F for 1000, note retry a#1 FAILED
        3 k callback a ok -> note late a, k: ignored
        3 k callback a ok attempt=1 -> note late a, k: ignored
        ",
    );
}

#[test]
fn a_promise_keeps_the_attempt_running_until_its_callback() {
    check(
        "
        0 r register f -> open F, r: registered
        0 a invoke f -> dispatch a#1 to F for 1000
        1 answer a#1 promise cold=7
        500 g get a -> g: a running attempt=1 cold=7 created=0 dispatched=0
        show f -> running=1 invocations=1 dispatches=1
        900 k callback a ok attempt=1 -> note 0+900 of 900 ms, a: success a, k: applied
        901 g get a -> g: a success attempt=1 output=null cold=7 created=0 dispatched=0 finished=900
        show f -> invocations=1 dispatches=1 successes=1 cold=1
        ",
    );
}

#[test]
fn a_failure_callback_is_retried_like_a_failed_answer() {
    check(
        "
        0 r register f attempts=2 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        1 answer a#1 promise
        2 k callback a fail -> note retry a#1 FAILED, k: applied, dispatch a#2 to F for 1000
        3 answer a#2 promise
        4 k callback a fail -> note 0+2 of 4 ms, k: applied
        5 g get a -> g: a error attempt=2 error=FAILED last=FAILED created=0 dispatched=2 finished=4
        ",
    );
}

#[test]
fn orphans_are_retried_and_the_last_one_ends_as_timeout() {
    check(
        "
        0 r register f attempts=2 timeout=100 -> open F, r: registered
        0 a invoke f timeout=5000 -> dispatch a#1 to F for 100
        1 answer a#1 promise
        100 turn -> note retry a#1 FUNCTION_TIMEOUT, dispatch a#2 to F for 100
        101 answer a#2 promise
        200 turn -> a: timeout a function 100
        201 g get a -> g: a timeout attempt=2 error=TIMEOUT last=FUNCTION_TIMEOUT created=0 dispatched=100 finished=200
        202 k callback a ok -> note late a, k: ignored
        show f -> invocations=1 dispatches=2 retries=1 orphans=2 late=1
        ",
    );
}

#[test]
fn an_output_that_only_claims_to_be_json_is_counted() {
    check(
        "
        0 r register f -> open F, r: registered
        0 a invoke f -> dispatch a#1 to F for 1000
        1 answer a#1 ok bad -> note 0+1 of 1 ms, a: success a
        show f -> invocations=1 dispatches=1 successes=1 warm=1 bad=1
        ",
    );
}
