//! With the background scheduler off, accepted executions run when they are asked to.

use crate::script::check;

#[test]
fn one_execution_at_a_time_and_the_answer_comes_after_its_attempt() {
    check(
        "
        0 scheduler off
        0 r register f slots=2 attempts=2 -> open F, r: registered
        0 a enqueue f -> a: accepted a
        0 b enqueue f -> b: accepted b
        1 s invoke f -> dispatch s#1 to F for 1000
        2 x drain-once f -> dispatch a#1 to F for 1000
        3 y drain-once f -> y: drained false
        4 answer a#1 fail -> note retry a#1 FAILED, x: drained true
        show f -> queued=2 running=1 invocations=3 enqueued=2 dispatches=2 retries=1
        5 y drain-once f -> dispatch b#1 to F for 1000
        6 answer b#1 promise
        7 k callback b ok -> note 5+2 of 7 ms, k: applied, y: drained true
        8 x drain-once f -> dispatch a#2 to F for 1000
        1008 turn -> s: timeout s function 1000, abort s#1, abort a#2, note 4+1000 of 1008 ms, x: drained true
        1009 x drain-once f -> x: drained false
        1009 x drain-once g -> x: refused FunctionNotFound
        ",
    );
}

#[test]
fn what_leaves_the_backlog_leaves_no_trace() {
    check(
        "
        0 scheduler off
        0 r register f slots=1 queue=3 -> open F, r: registered
        0 a enqueue f -> a: accepted a
        0 b enqueue f max-age=5 -> b: accepted b
        0 c enqueue f -> c: accepted c
        1 x cancel a -> x: a error attempt=0 error=CANCELLED created=0 finished=1
        5 turn
        6 x remove f -> x: removed, close F, note gone
        7 g get c -> g: c error attempt=0 error=FUNCTION_REMOVED created=0 finished=6
        ",
    );
}

#[test]
fn what_was_held_back_runs_when_the_scheduler_comes_on() {
    check(
        "
        0 scheduler off
        0 r register f slots=1 -> open F, r: registered
        0 a enqueue f -> a: accepted a
        0 b enqueue f -> b: accepted b
        1 scheduler on -> dispatch a#1 to F for 1000
        2 answer a#1 ok -> note 1+1 of 2 ms, dispatch b#1 to F for 1000
        3 x cancel b -> x: refused NotCancellable running
        ",
    );
}

#[test]
fn what_is_tried_again_waits_behind_what_waits_to_be_drained() {
    check(
        "
        0 scheduler off
        0 r register f slots=1 -> open F, r: registered
        0 a enqueue f max-age=5 -> a: accepted a
        0 b enqueue f -> b: accepted b
        5 turn
        6 x replay f a -> x: accepted a
        7 y drain-once f -> dispatch b#1 to F for 1000
        8 answer b#1 ok -> note 7+1 of 8 ms, y: drained true
        9 y drain-once f -> dispatch a#1 to F for 1000
        ",
    );
}

#[test]
fn what_is_held_back_stays_so_whatever_is_configured() {
    check(
        "
        0 r register f -> open F, r: registered
        0 hold
        1 a enqueue f -> a: accepted a
        2 scheduler on
        3 autoscaler off
        ",
    );
}

#[test]
fn nothing_runs_before_it_is_written_down_that_there_is_another_server() {
    check(
        "
        0 scheduler off
        0 r register f -> open F, r: registered
        0 a enqueue f -> a: accepted a
        1 store waits
        2 crash -> open F, write started 1
        3 scheduler on
        4 store safe -> dispatch a#2 to F for 1000, write attempted a#2
        ",
    );
    check(
        "
        0 r register f -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        1 store waits
        2 crash -> open F, write started 1
        3 hold
        4 store safe
        ",
    );
}
