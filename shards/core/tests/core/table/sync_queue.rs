//! Synchronous calls are refused early.

use crate::script::check;

#[test]
fn with_the_sync_queue_off_callers_wait_to_their_own_deadlines() {
    check(
        "
        0 r register f slots=1 -> open F, r: registered
        0 a invoke f timeout=9000 -> dispatch a#1 to F for 1000
        0 b invoke f timeout=900
        900 turn -> b: timeout b queue 900
        show f -> running=1 invocations=2 dispatches=1 timeouts=1
        ",
    );
}

#[test]
fn at_most_so_many_wait() {
    check(
        "
        0 r register f slots=1 -> open F, r: registered
        0 sync depth=2 retry=2
        0 a invoke f -> note sync 0 ms, dispatch a#1 to F for 1000
        0 b invoke f
        0 x enqueue f -> x: accepted x
        0 c invoke f
        0 d invoke f -> d: refused SyncQueue depth depth=2 wait=unknown retry=2
        0 y enqueue f -> y: accepted y
        show f -> queued=4 running=1 invocations=5 enqueued=2 dispatches=1 sync-queued=2 sync-admitted=3 sync-depth=1
        5 answer a#1 ok -> note 0+5 of 5 ms, a: success a, note sync 5 ms, dispatch b#1 to F for 995
        5 d invoke f
        6 e invoke f -> e: refused SyncQueue depth depth=2 wait=20 retry=2
        ",
    );
}

#[test]
fn the_function_s_own_queue_size_holds_as_well() {
    check(
        "
        0 r register f slots=1 queue=1 -> open F, r: registered
        0 sync retry=3
        0 a invoke f -> note sync 0 ms, dispatch a#1 to F for 1000
        0 b invoke f
        0 c invoke f -> c: refused QueueFull depth=1 wait=unknown retry=3
        show f -> queued=1 running=1 invocations=2 dispatches=1 rejections=1 sync-queued=1 sync-admitted=2
        ",
    );
}

#[test]
fn without_any_history_calls_are_admitted() {
    check(
        "
        0 r register f slots=1 -> open F, r: registered
        0 sync wait=1
        0 a invoke f -> note sync 0 ms, dispatch a#1 to F for 1000
        500 b invoke f
        500 c invoke f
        500 d invoke f
        show f -> queued=3 running=1 invocations=4 dispatches=1 sync-queued=3 sync-admitted=4
        ",
    );
}

#[test]
fn with_few_samples_the_wait_is_what_is_ahead_times_service_time_by_slots() {
    // 200 ms per call and two slots: 100 ms for each call ahead. What would wait 300 ms may; 400 ms is too long.
    check(
        "
        0 r register f slots=2 -> open F, r: registered
        0 sync wait=300 retry=1
        0 a invoke f -> note sync 0 ms, dispatch a#1 to F for 1000
        200 answer a#1 ok -> note 0+200 of 200 ms, a: success a
        200 b invoke f -> note sync 0 ms, dispatch b#1 to F for 1000
        200 c invoke f -> note sync 0 ms, dispatch c#1 to F for 1000
        200 d invoke f
        200 e invoke f
        200 g invoke f
        200 h invoke f
        200 i invoke f -> i: refused SyncQueue est_wait depth=4 wait=400 retry=1
        show f -> queued=4 running=2 invocations=7 dispatches=3 successes=1 warm=1 sync-queued=4 sync-admitted=7 sync-wait=1
        ",
    );
}

#[test]
fn with_enough_samples_the_wait_is_what_is_ahead_by_the_observed_rate() {
    // Three calls drained in ten seconds: six ahead are twenty seconds.
    check(
        "
        0 r register f slots=1 timeout=100000 queue=20 -> open F, r: registered
        0 sync samples=3 wait=20000 retry=2
        0 a invoke f -> note sync 0 ms, dispatch a#1 to F for 100000
        0 b invoke f
        0 c invoke f
        0 d invoke f
        3000 answer a#1 ok -> note 0+3000 of 3000 ms, a: success a, note sync 3000 ms, dispatch b#1 to F for 97000
        6000 answer b#1 ok -> note 3000+3000 of 6000 ms, b: success b, note sync 6000 ms, dispatch c#1 to F for 94000
        10000 answer c#1 ok -> note 6000+4000 of 10000 ms, c: success c, note sync 10000 ms, dispatch d#1 to F for 90000
        10000 e invoke f
        10000 g invoke f
        10000 h invoke f
        10000 i invoke f
        10000 j invoke f
        10000 k invoke f
        10000 l invoke f
        10000 m invoke f -> m: refused SyncQueue est_wait depth=7 wait=23333 retry=4
        10000 n invoke f -> n: refused SyncQueue est_wait depth=7 wait=23333 retry=7
        10000 sync samples=3 wait=19000 retry=2
        10000 o invoke f -> o: refused SyncQueue est_wait depth=7 wait=23333 retry=10
        10000 sync samples=3 wait=23334 retry=2
        10000 o invoke f
        ",
    );
}

#[test]
fn estimates_can_be_switched_off() {
    check(
        "
        0 r register f slots=1 -> open F, r: registered
        0 sync wait=1 depth=3 depth-only
        0 a invoke f -> note sync 0 ms, dispatch a#1 to F for 1000
        500 answer a#1 ok -> note 0+500 of 500 ms, a: success a
        500 b invoke f -> note sync 0 ms, dispatch b#1 to F for 1000
        500 c invoke f
        500 d invoke f
        500 e invoke f
        500 g invoke f -> g: refused SyncQueue depth depth=3 wait=1500 retry=1
        500 h invoke f -> h: refused SyncQueue depth depth=3 wait=1500 retry=1
        500 i invoke f -> i: refused SyncQueue depth depth=3 wait=1500 retry=2
        ",
    );
}

#[test]
fn who_waited_too_long_is_refused_and_leaves_nothing() {
    check(
        "
        0 r register f slots=1 -> open F, r: registered
        0 sync queue-wait=250 retry=1
        0 a invoke f -> note sync 0 ms, dispatch a#1 to F for 1000
        10 b invoke f key=k
        20 c invoke f key=k
        30 d invoke f timeout=200
        230 turn -> d: timeout d queue 200
        260 turn -> c: refused SyncQueue timeout depth=1 wait=unknown retry=1, b: refused SyncQueue timeout depth=1 wait=unknown retry=1
        260 r get b -> r: refused ExecutionNotFound
        show f -> running=1 invocations=3 dispatches=1 timeouts=1 sync-admitted=3 sync-timeout=1 sync-timeouts=1
        270 b invoke f key=k
        280 answer a#1 ok -> note 0+280 of 280 ms, a: success a, note sync 10 ms, dispatch b#1 to F for 990 key=k
        ",
    );
}

#[test]
fn a_deadline_that_passes_together_with_the_longest_wait_wins() {
    check(
        "
        0 r register f slots=1 -> open F, r: registered
        0 sync queue-wait=250
        0 a invoke f -> note sync 0 ms, dispatch a#1 to F for 1000
        0 b invoke f timeout=250
        250 turn -> b: timeout b queue 250
        ",
    );
}

#[test]
fn what_was_accepted_waits_on_also_when_it_was_a_synchronous_call() {
    check(
        "
        0 r register f slots=1 -> open F, r: registered
        0 sync queue-wait=100 depth=1
        0 a invoke f -> note sync 0 ms, dispatch a#1 to F for 1000
        0 b invoke f key=k
        50 c enqueue f key=k -> c: accepted b
        60 d enqueue f -> d: accepted d
        show f -> queued=2 running=1 invocations=3 enqueued=1 dispatches=1 sync-admitted=2
        200 turn
        300 answer a#1 ok -> note 0+300 of 300 ms, a: success a, dispatch b#1 to F for 1000 key=k
        ",
    );
}

#[test]
fn who_waits_for_a_first_replica_waits_for_no_slot() {
    check(
        "
        0 r register f backend slots=1 timeout=9000 -> provision f
        0 provisioned f ok p -> open p, r: registered
        0 sync queue-wait=100 wait=1
        0 a invoke f -> note sync 0 ms, dispatch a#1 to p for 9000
        50 answer a#1 ok -> note 0+50 of 50 ms, a: success a
        50 endpoints f 0 -> close p
        60 b invoke f
        70 c invoke f
        80 d invoke f
        2000 turn
        2000 endpoints f 1 q -> open q, note sync 1940 ms, dispatch b#1 to q for 7060
        2050 e invoke f -> e: refused SyncQueue est_wait depth=2 wait=100 retry=1
        2060 endpoints f 0 -> close q
        2150 turn
        2160 endpoints f 1 p -> open p
        2259 turn
        2260 turn -> c: refused SyncQueue timeout depth=2 wait=100 retry=1, d: refused SyncQueue timeout depth=1 wait=50 retry=1
        ",
    );
}

#[test]
fn retries_were_admitted_before() {
    check(
        "
        0 r register f slots=1 -> open F, r: registered
        0 sync queue-wait=100 depth=1
        0 a invoke f -> note sync 0 ms, dispatch a#1 to F for 1000
        0 b invoke f
        10 answer a#1 fail -> note sync 10 ms, dispatch b#1 to F for 990, note retry a#1 FAILED
        show f -> queued=1 running=1 invocations=2 dispatches=2 retries=1 sync-admitted=2
        300 answer b#1 ok -> note 10+290 of 300 ms, b: success b, dispatch a#2 to F for 700
        ",
    );
}

#[test]
fn it_is_switched_on_and_off_while_calls_wait() {
    check(
        "
        0 r register f slots=1 timeout=9000 -> open F, r: registered
        0 a invoke f -> dispatch a#1 to F for 9000
        0 b invoke f
        100 c invoke f
        200 d enqueue f -> d: accepted d
        1000 sync queue-wait=1050
        show f -> queued=3 running=1 invocations=4 enqueued=1 dispatches=1 sync-queued=2
        1050 turn -> b: refused SyncQueue timeout depth=2 wait=unknown retry=1
        1060 sync off
        show f -> queued=2 running=1 invocations=4 enqueued=1 dispatches=1 sync-timeout=1 sync-timeouts=1
        1150 turn
        1200 sync queue-wait=500
        1200 turn -> c: refused SyncQueue timeout depth=1 wait=unknown retry=1
        ",
    );
}

#[test]
fn callers_that_leave_and_functions_that_go_leave_nothing_behind() {
    check(
        "
        0 r register f slots=1 -> open F, r: registered
        0 sync queue-wait=100
        0 a invoke f -> note sync 0 ms, dispatch a#1 to F for 1000
        0 b invoke f
        0 c invoke f
        10 leave b
        show f -> queued=1 running=1 invocations=3 dispatches=1 sync-queued=1 sync-admitted=3
        20 r remove f -> c: error c FUNCTION_REMOVED, r: removed, close F, note gone
        200 turn
        show totals -> functions=1 executions=2 finished=1 retained=71 attempts=1 timers=3
        ",
    );
}

#[test]
fn refused_callers_are_spread_over_the_seconds_that_the_queue_needs() {
    // One call takes 500 ms: two are told the same second.
    check(
        "
        0 r register f slots=1 -> open F, r: registered
        0 sync depth=1 retry=1
        0 a invoke f -> note sync 0 ms, dispatch a#1 to F for 1000
        500 answer a#1 ok -> note 0+500 of 500 ms, a: success a
        500 b invoke f -> note sync 0 ms, dispatch b#1 to F for 1000
        500 c invoke f
        500 d invoke f -> d: refused SyncQueue depth depth=1 wait=500 retry=1
        500 e invoke f -> e: refused SyncQueue depth depth=1 wait=500 retry=1
        500 g invoke f -> g: refused SyncQueue depth depth=1 wait=500 retry=2
        500 h invoke f -> h: refused SyncQueue depth depth=1 wait=500 retry=2
        500 i invoke f -> i: refused SyncQueue depth depth=1 wait=500 retry=3
        ",
    );
}

#[test]
fn waits_for_a_slot_begin_when_an_address_is_tried_again() {
    check(
        "
        0 sync queue-wait=50
        0 r register f backend slots=1 -> provision f
        0 provisioned f ok A -> open A, r: registered
        1 a invoke f -> note sync 0 ms, dispatch a#1 to A for 1000
        2 answer a#1 refused -> note not run a#1
        3 b invoke f
        102 turn -> note sync 100 ms, dispatch a#1 to A for 899
        151 turn
        152 turn -> b: refused SyncQueue timeout depth=1 wait=1 retry=1
        ",
    );
}

#[test]
fn who_finds_the_queue_full_is_told_how_long_it_takes() {
    check(
        "
        0 sync retry=1
        0 r register f slots=1 queue=1 timeout=100000 -> open F, r: registered
        0 a invoke f -> note sync 0 ms, dispatch a#1 to F for 100000
        4000 answer a#1 ok -> note 0+4000 of 4000 ms, a: success a
        4000 b invoke f -> note sync 0 ms, dispatch b#1 to F for 100000
        4001 c invoke f
        4002 d invoke f -> d: refused QueueFull depth=1 wait=8000 retry=4
        ",
    );
}
