//! Replicas that end with the calls that are on their way to them or run in them.

use crate::script::check;

#[test]
fn what_was_not_run_is_no_attempt_and_waits_at_its_place() {
    check(
        "
        0 r register f backend slots=2 attempts=1 -> provision f
        0 provisioned f ok A -> open A, r: registered
        1 a invoke f key=k -> dispatch a#1 to A for 1000 key=k
        2 b enqueue f -> b: accepted b, dispatch b#1 to A for 1000
        3 c invoke f
        4 d enqueue f -> d: accepted d
        5 answer b#1 refused -> note not run b#1
        6 g get b -> g: b queued attempt=0 created=2
        7 answer a#1 refused -> note not run a#1
        105 turn -> dispatch a#1 to A for 896 key=k, dispatch b#1 to A for 1000
        106 answer b#1 ok -> note 100+1 of 104 ms, dispatch c#1 to A for 897
        107 answer a#1 ok -> note 98+2 of 106 ms, a: success a, dispatch d#1 to A for 1000
        show f -> running=2 invocations=4 enqueued=2 dispatches=6 successes=2 warm=2
        ",
    );
}

#[test]
fn a_replica_that_ended_is_closed_before_the_next_call_goes_out() {
    check(
        "
        0 r register f backend slots=3 attempts=3 -> provision f
        0 provisioned f ok A B -> open A, open B, r: registered
        1 a invoke f -> dispatch a#1 to B for 1000
        1 b invoke f -> dispatch b#1 to A for 1000
        2 answer a#1 crash -> note retry a#1 FUNCTION_CRASHED
        2 c invoke f -> dispatch c#1 to A for 1000
        3 d invoke f -> dispatch d#1 to A for 1000
        4 answer b#1 ok -> note 0+3 of 3 ms, b: success b
        5 endpoints f 2 A -> close B
        6 e invoke f -> dispatch e#1 to A for 1000
        7 endpoints f 2 A B -> open B
        show f -> queued=1 running=3 invocations=5 dispatches=5 successes=1 retries=1 warm=1 crashes=1
        ",
    );
}

#[test]
fn calls_wait_for_a_replica_within_their_deadlines() {
    check(
        "
        0 r register f backend slots=2 attempts=1 -> provision f
        0 provisioned f ok A -> open A, r: registered
        0 a invoke f timeout=300 -> dispatch a#1 to A for 300
        0 b enqueue f max-age=200 -> b: accepted b, dispatch b#1 to A for 1000
        1 answer a#1 refused -> note not run a#1
        1 answer b#1 refused -> note not run b#1
        2 endpoints f 1 -> close A
        3 c invoke f
        101 turn
        200 turn
        300 turn -> a: timeout a replica 300
        301 g get b -> g: b error attempt=0 error=EXPIRED created=0 finished=200
        400 endpoints f 1 A -> open A, dispatch c#1 to A for 603
        show totals -> functions=1 executions=3 finished=1 attempts=1 timers=3 dead=1
        ",
    );
}

#[test]
fn what_was_not_run_and_is_too_late_is_not_given_back() {
    check(
        "
        0 r register f backend slots=3 attempts=1 -> provision f
        0 provisioned f ok A -> open A, r: registered
        0 a enqueue f max-age=5 -> a: accepted a, dispatch a#1 to A for 1000
        0 b enqueue f -> b: accepted b, dispatch b#1 to A for 1000
        6 answer a#1 refused -> note 0+6 of 6 ms
        7 x remove f -> teardown f
        8 answer b#1 refused -> note 0+8 of 8 ms
        9 torn-down f ok -> x: removed, close A, note gone
        10 g get a -> g: a error attempt=1 error=EXPIRED created=0 dispatched=0 finished=6
        ",
    );
}

#[test]
fn two_replicas_may_end_during_a_call_and_no_third() {
    check(
        "
        0 r register f backend attempts=9 slots=2 -> provision f
        0 provisioned f ok A B -> open A, open B, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to B for 1000
        1 answer a#1 crash -> note retry a#1 FUNCTION_CRASHED
        100 turn
        101 turn -> probe B
        102 probed B ok
        999 turn
        1001 turn -> dispatch a#2 to A for 1000
        1002 answer a#2 crash -> note 0+1 of 1002 ms
        1003 d dead f -> d: letters [a#2 FUNCTION_CRASHED at 1002 of 0]
        1004 x replay f a -> x: accepted a, dispatch a#3 to B for 1000
        1005 answer a#3 crash -> note retry a#3 FUNCTION_CRASHED
        show f -> queued=1 invocations=1 enqueued=1 dispatches=3 errors=1 retries=2 warm=1 crashes=3 dead=1
        ",
    );
}

#[test]
fn what_goes_out_without_a_place_has_one_to_come_back_to() {
    check(
        "
        0 scheduler off
        0 r register f backend slots=1 queue=1 attempts=1 -> provision f
        0 provisioned f ok A -> open A, r: registered
        1 a invoke f key=k -> dispatch a#1 to A for 1000 key=k
        1 b enqueue f key=k -> b: accepted a
        2 answer a#1 refused -> note not run a#1
        103 c invoke f key=l -> dispatch c#1 to A for 1000 key=l
        103 d enqueue f key=l -> d: accepted c
        104 answer c#1 refused -> note not run c#1
        205 e invoke f -> e: refused QueueFull depth=2 wait=3 retry=1
        206 x cancel c -> c: error c CANCELLED, x: c error attempt=0 error=CANCELLED created=103 finished=206
        207 e invoke f -> dispatch e#1 to A for 1000
        ",
    );
}

#[test]
fn a_crash_does_not_make_more_attempts_than_there_are() {
    check(
        "
        0 r register f backend attempts=3 sync=1 -> provision f
        0 provisioned f ok A -> open A, r: registered
        0 a invoke f -> dispatch a#1 to A for 1000
        1 answer a#1 crash -> note 0+1 of 1 ms, a: error a FUNCTION_CRASHED
        ",
    );
}

#[test]
fn what_ended_a_replica_does_not_go_to_the_last_one() {
    check(
        "
        0 r register f backend attempts=9 slots=2 timeout=10000 -> provision f
        0 provisioned f ok A B -> open A, open B, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to B for 10000
        1 answer a#1 crash -> note retry a#1 FUNCTION_CRASHED
        2 endpoints f 2 A -> close B
        1001 turn
        1002 b invoke f -> dispatch b#1 to A for 10000
        2001 turn
        2500 endpoints f 2 A B -> open B
        3001 turn -> dispatch a#2 to B for 10000
        ",
    );
}

#[test]
fn nor_when_it_has_waited_for_the_record_of_that() {
    check(
        "
        0 r register f backend attempts=9 slots=2 timeout=10000 -> provision f
        0 provisioned f ok A B -> open A, open B, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to B for 10000
        1 store waits
        1 answer a#1 crash -> note retry a#1 FUNCTION_CRASHED, write requeued a FUNCTION_CRASHED
        2 endpoints f 2 A -> close B
        1001 turn
        1500 store safe
        2000 endpoints f 2 A B -> open B
        2500 turn -> dispatch a#2 to A for 10000, write attempted a#2
        ",
    );
}

#[test]
fn nor_when_another_failure_is_tried_again_at_once() {
    check(
        "
        0 r register f backend attempts=9 slots=2 timeout=10000 -> provision f
        0 provisioned f ok A B -> open A, open B, r: registered
        0 a invoke f -> dispatch a#1 to B for 10000
        1 answer a#1 crash -> note retry a#1 FUNCTION_CRASHED
        101 turn -> probe B
        102 probed B ok
        1001 turn -> dispatch a#2 to A for 8999
        1002 endpoints f 2 A -> close B
        1003 answer a#2 fail -> note retry a#2 FAILED
        1004 b invoke f -> dispatch b#1 to A for 10000
        2002 endpoints f 2 A B -> open B
        2003 turn -> dispatch a#3 to B for 7997
        ",
    );
}

#[test]
fn it_goes_there_all_the_same_when_no_other_one_starts() {
    check(
        "
        0 r register f backend attempts=9 slots=2 timeout=10000 -> provision f
        0 provisioned f ok A B -> open A, open B, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to B for 10000
        1 answer a#1 crash -> note retry a#1 FUNCTION_CRASHED
        2 endpoints f 2 A -> close B
        59900 turn
        60100 turn
        60900 turn -> dispatch a#2 to A for 10000
        ",
    );
}

#[test]
fn where_no_other_replica_is_wanted_the_last_one_is_all_there_is() {
    check(
        "
        0 r register f backend attempts=9 -> provision f
        0 provisioned f ok A -> open A, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to A for 1000
        1 answer a#1 crash -> note retry a#1 FUNCTION_CRASHED
        1001 turn -> dispatch a#2 to A for 1000
        ",
    );
}

#[test]
fn a_fixed_address_that_refuses_a_call_failed_an_attempt() {
    check(
        "
        0 r register f attempts=2 -> open F, r: registered
        0 a invoke f -> dispatch a#1 to F for 1000
        1 answer a#1 refused -> note retry a#1 UNREACHABLE, dispatch a#2 to F for 999
        2 answer a#2 crash -> note 0+1 of 2 ms, a: error a UNREACHABLE
        show f -> invocations=1 dispatches=2 errors=1 retries=1 warm=1
        ",
    );
}

#[test]
fn a_replica_that_ends_after_a_callback_is_closed_all_the_same() {
    check(
        "
        0 r register f backend slots=2 -> provision f
        0 provisioned f ok A -> open A, r: registered
        0 a invoke f -> dispatch a#1 to A for 1000
        1 k callback a ok -> note 0+1 of 1 ms, a: success a, k: applied
        2 answer a#1 crash -> note late a
        3 b invoke f
        102 turn -> dispatch b#1 to A for 901
        ",
    );
}

#[test]
fn crashes_are_counted_over_a_restart() {
    check(
        "
        0 r register f backend attempts=9 -> provision f
        0 provisioned f ok A -> open A, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to A for 1000
        1 answer a#1 refused -> note not run a#1
        101 turn -> dispatch a#1 to A for 1000
        102 answer a#1 crash -> note retry a#1 FUNCTION_CRASHED
        103 crash -> provision f
        104 provisioned f ok A -> open A, dispatch a#3 to A for 1000
        105 answer a#3 crash -> note 1+1 of 105 ms
        106 g get a -> g: a error attempt=3 error=FUNCTION_CRASHED last=FUNCTION_CRASHED created=0 dispatched=104 finished=105
        ",
    );
}

#[test]
fn what_was_not_run_is_before_what_came_after_it_and_behind_what_came_before() {
    check(
        "
        0 r register f backend slots=2 -> provision f
        0 provisioned f ok A -> open A, r: registered
        1 a enqueue f -> a: accepted a, dispatch a#1 to A for 1000
        2 b enqueue f -> b: accepted b, dispatch b#1 to A for 1000
        3 c enqueue f -> c: accepted c
        4 answer a#1 refused -> note not run a#1
        5 answer b#1 refused -> note not run b#1
        105 turn -> dispatch a#1 to A for 1000, dispatch b#1 to A for 1000
        106 answer a#1 ok -> note 101+1 of 105 ms, dispatch c#1 to A for 1000
        ",
    );
    check(
        "
        0 r register f backend slots=2 -> provision f
        0 provisioned f ok A -> open A, r: registered
        1 a enqueue f -> a: accepted a, dispatch a#1 to A for 1000
        2 b enqueue f -> b: accepted b, dispatch b#1 to A for 1000
        3 c enqueue f -> c: accepted c
        4 answer b#1 refused -> note not run b#1
        5 answer a#1 refused -> note not run a#1
        105 turn -> dispatch a#1 to A for 1000, dispatch b#1 to A for 1000
        106 answer a#1 ok -> note 100+1 of 105 ms, dispatch c#1 to A for 1000
        ",
    );
}

#[test]
fn what_was_not_run_does_not_wait_in_a_server_that_goes_away() {
    check(
        "
        0 r register f backend slots=1 -> provision f
        0 provisioned f ok A -> open A, r: registered
        1 a invoke f key=k -> dispatch a#1 to A for 1000 key=k
        2 drain finally
        3 answer a#1 refused -> note 0+2 of 2 ms, a: error a UNREACHABLE
        ",
    );
}

#[test]
fn a_crash_before_another_failure_is_counted_over_a_restart() {
    check(
        "
        0 r register f backend attempts=9 -> provision f
        0 provisioned f ok A -> open A, r: registered
        0 a invoke f key=k timeout=9000 -> dispatch a#1 to A for 1000 key=k
        1 answer a#1 crash -> note retry a#1 FUNCTION_CRASHED
        1001 turn -> dispatch a#2 to A for 1000
        1002 answer a#2 fail -> note retry a#2 FAILED, dispatch a#3 to A for 1000
        1003 store waits
        1003 b enqueue f key=k -> write requeued a FUNCTION_CRASHED, write requeued a FAILED, write attempted a#3, write accepted a of f
        1004 store fails -> b: refused StoreUnavailable
        1005 c enqueue f key=k -> write requeued a FUNCTION_CRASHED, write requeued a FAILED, write attempted a#3, write accepted a of f
        1006 store safe -> c: accepted a
        1007 crash -> provision f, write started 1
        1007 store safe
        1008 provisioned f ok A -> open A, dispatch a#4 to A for 1000, write attempted a#4
        1009 answer a#4 crash -> note 1+1 of 1009 ms, write ended a error dead
        1010 store safe
        1010 x replay f a -> write replayed a
        1011 store safe -> x: accepted a
        1109 turn -> dispatch a#5 to A for 1000, write attempted a#5
        1110 answer a#5 crash -> note retry a#5 FUNCTION_CRASHED, write requeued a FUNCTION_CRASHED
        ",
    );
}
