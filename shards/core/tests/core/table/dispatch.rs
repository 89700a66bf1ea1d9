//! Slots are taken and attempts sent.

use crate::script::check;

#[test]
fn callers_and_accepted_executions_wait_in_one_queue_in_order() {
    check(
        "
        0 r register f slots=1 -> open F, r: registered
        0 a invoke f -> dispatch a#1 to F for 1000
        1 b enqueue f -> b: accepted b
        2 c invoke f
        3 d enqueue f -> d: accepted d
        5 answer a#1 ok -> note 0+5 of 5 ms, a: success a, dispatch b#1 to F for 1000
        6 answer b#1 ok -> note 4+1 of 5 ms, dispatch c#1 to F for 996
        7 answer c#1 ok -> note 4+1 of 5 ms, c: success c, dispatch d#1 to F for 1000
        ",
    );
}

#[test]
fn at_most_the_concurrency_is_in_flight() {
    check(
        "
        0 r register f slots=2 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        0 b enqueue f -> b: accepted b, dispatch b#1 to F for 1000
        0 c enqueue f -> c: accepted c
        show f -> queued=1 running=2 invocations=3 enqueued=3 dispatches=2
        5 answer a#1 promise
        6 answer b#1 refuse -> note 0+6 of 6 ms, dispatch c#1 to F for 1000
        show f -> running=2 invocations=3 enqueued=3 dispatches=3 errors=1 warm=1 dead=1
        ",
    );
}

#[test]
fn a_slot_is_given_back_once() {
    check(
        "
        0 r register f slots=1 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        0 b enqueue f -> b: accepted b
        0 c enqueue f -> c: accepted c
        5 k callback a ok -> note 0+5 of 5 ms, k: applied, dispatch b#1 to F for 1000
        6 answer a#1 ok -> note late a
        6 answer a#1 ok
        7 k callback a ok -> note late a, k: ignored
        show f -> queued=1 running=1 invocations=3 enqueued=3 dispatches=2 successes=1 warm=1 late=2
        ",
    );
}

#[test]
fn ready_functions_take_turns_in_bounded_batches() {
    check(
        "
        limits batch=3 turn=1
        0 r register f backend slots=9 -> provision f
        0 r register g backend slots=9 -> provision g
        0 provisioned f ok -> r: registered
        0 provisioned g ok -> r: registered
        0 a enqueue f -> a: accepted a
        0 b enqueue f -> b: accepted b
        0 c enqueue f -> c: accepted c
        0 d enqueue f -> d: accepted d
        0 e enqueue f -> e: accepted e
        0 x enqueue g -> x: accepted x
        0 endpoints f 1 p -> open p, dispatch a#1 to p for 1000, dispatch b#1 to p for 1000, dispatch c#1 to p for 1000
        show ready -> true
        0 endpoints g 1 q -> open q, dispatch d#1 to p for 1000, dispatch x#1 to q for 1000, dispatch e#1 to p for 1000
        show ready -> false
        ",
    );
}

#[test]
fn a_function_without_a_free_slot_never_delays_another() {
    check(
        "
        0 r register f -> open F, r: registered
        0 r register g -> open G, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        0 b enqueue f -> b: accepted b
        0 c enqueue g -> c: accepted c, dispatch c#1 to G for 1000
        show ready -> false
        ",
    );
}

#[test]
fn calls_wait_for_the_first_endpoint() {
    check(
        "
        0 r register f backend slots=2 -> provision f
        0 provisioned f ok -> r: registered
        0 a invoke f timeout=50
        5 endpoints f 1 p -> open p, dispatch a#1 to p for 45
        6 endpoints f 0 -> close p
        7 b invoke f timeout=10
        8 answer a#1 ok -> note 5+3 of 8 ms, a: success a
        17 turn -> b: timeout b replica 10
        ",
    );
}

#[test]
fn the_less_busy_of_two_endpoints_is_chosen() {
    check(
        "
        0 r register f backend slots=9 -> provision f
        0 provisioned f ok p q -> open p, open q, r: registered
        0 a invoke f -> dispatch a#1 to q for 1000
        0 b invoke f -> dispatch b#1 to p for 1000
        0 c invoke f -> dispatch c#1 to p for 1000
        0 d invoke f -> dispatch d#1 to q for 1000
        1 answer b#1 ok -> note 0+1 of 1 ms, b: success b
        1 e invoke f -> dispatch e#1 to p for 1000
        ",
    );
}

#[test]
fn a_replica_at_the_address_of_another_has_connections_of_its_own() {
    check(
        "
        0 r register f backend slots=2 -> provision f
        0 provisioned f ok p -> open p, r: registered
        0 a invoke f -> dispatch a#1 to p for 1000
        1 endpoints f 1 p
        2 endpoints f 1 p.2 -> close p, open p
        3 b invoke f -> dispatch b#1 to p for 1000
        4 answer a#1 ok -> note 0+4 of 4 ms, a: success a
        5 endpoints f 2 p.3 p.2 -> open p
        6 endpoints f 1 p.3 -> close p
        7 answer b#1 ok -> note 0+4 of 4 ms, b: success b
        8 endpoints f 1 q p.3 q -> open q
        9 endpoints f 1 p -> close p, close q, open p
        10 endpoints f 0 -> close p
        ",
    );
}

#[test]
fn attempts_to_a_closed_endpoint_come_home() {
    check(
        "
        0 r register f backend slots=2 -> provision f
        0 provisioned f ok p -> open p, r: registered
        0 a invoke f -> dispatch a#1 to p for 1000
        0 b invoke f -> dispatch b#1 to p for 1000
        1 endpoints f 1 q -> close p, open q
        2 answer a#1 ok -> note 0+2 of 2 ms, a: success a
        3 endpoints f 2 q p q p -> open p
        4 answer b#1 fail -> note retry b#1 FAILED, dispatch b#2 to p for 996
        5 answer b#2 ok -> note 0+1 of 5 ms, b: success b
        show f -> invocations=2 dispatches=3 successes=2 retries=1 warm=2
        ",
    );
}

#[test]
fn what_could_be_dispatched_is_known() {
    check(
        "
        limits batch=1 turn=1
        0 r register f backend slots=2 -> provision f
        0 s register g -> open G, s: registered
        0 provisioned f ok -> r: registered
        1 a enqueue f -> a: accepted a
        1 b enqueue f -> b: accepted b
        show startable ->
        2 endpoints f 1 A -> open A, dispatch a#1 to A for 1000
        show startable -> f after 1
        3 turn -> dispatch b#1 to A for 1000
        show startable ->
        ",
    );
}
