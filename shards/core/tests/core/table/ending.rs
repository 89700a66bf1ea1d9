//! How executions end is told, and taken back by nothing, when it is written down.

use crate::script::check;

#[test]
fn how_an_execution_ended_is_told_when_that_is_safe() {
    check(
        "
        0 r register f slots=2 attempts=1 -> open F, r: registered
        0 store waits
        0 s invoke f key=k timeout=500 -> dispatch s#1 to F for 500 key=k
        1 a enqueue f key=k url=u -> write attempted s#1, write accepted s of f
        2 store safe -> a: accepted s
        3 g get s wait=100
        4 answer s#1 ok out=7 -> note 0+4 of 4 ms, write ended s success
        5 t invoke f key=k
        6 b enqueue f key=k -> b: accepted s
        7 h get s -> h: s running attempt=1 created=0 dispatched=0 delivery=pending
        8 k callback s ok attempt=1 -> note late s, k: ignored
        9 x cancel s -> x: refused NotCancellable running
        show f -> invocations=1 dispatches=1 successes=1 warm=1 late=1
        10 store safe -> t: success s 7, s: success s 7, deliver s success to u, g: s success attempt=1 output=7 created=0 dispatched=0 finished=4 delivery=pending
        ",
    );
}

#[test]
fn nobody_waits_for_ever_for_a_disk_that_fails() {
    check(
        "
        0 r register f slots=2 attempts=1 -> open F, r: registered
        0 a enqueue f key=k -> a: accepted a, dispatch a#1 to F for 1000 key=k
        1 store waits
        1 s invoke f key=k timeout=50
        2 g get a wait=30
        3 answer a#1 ok out=7 -> note 0+3 of 3 ms, write ended a success
        4 store fails
        32 turn -> g: a running attempt=1 created=0 dispatched=0
        51 turn -> s: timeout a function 50
        60 g get a wait=100
        61 end-watches -> g: a running attempt=1 created=0 dispatched=0
        70 store safe
        70 g get a -> g: a success attempt=1 output=7 created=0 dispatched=0 finished=3
        ",
    );
}

#[test]
fn while_the_disk_fails_no_more_is_kept_back_than_the_store_could_keep() {
    check(
        "
        limits concealed=10
        0 r register f slots=3 attempts=1 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        0 b enqueue f -> b: accepted b, dispatch b#1 to F for 1000
        0 store waits
        1 answer a#1 ok out=12345678 -> note 0+1 of 1 ms, write ended a success
        2 store fails
        2 g get a -> g: a running attempt=1 created=0 dispatched=0
        3 answer b#1 ok out=12345678 -> note 0+3 of 3 ms, write ended b success
        4 store fails
        4 g get a -> g: a success attempt=1 output=12345678 created=0 dispatched=0 finished=1
        4 g get b -> g: b running attempt=1 created=0 dispatched=0
        5 store safe
        5 g get b -> g: b success attempt=1 output=12345678 created=0 dispatched=0 finished=3
        ",
    );
}

#[test]
fn a_cancellation_is_answered_when_it_is_safe() {
    check(
        "
        0 r register f slots=1 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        0 b enqueue f -> b: accepted b
        0 c enqueue f -> c: accepted c
        0 store waits
        1 x cancel b -> write ended b error
        2 y cancel b
        2 g get b -> g: b queued attempt=0 created=0
        3 store safe -> x: b error attempt=0 error=CANCELLED created=0 finished=1, y: b error attempt=0 error=CANCELLED created=0 finished=1
        4 y cancel b -> y: refused NotCancellable error
        5 x cancel c -> write ended c error
        6 store fails -> x: refused StoreUnavailable
        7 x cancel c -> x: refused StoreUnavailable
        8 answer a#1 ok -> note 0+8 of 8 ms, write ended a success
        9 store safe
        9 g get c -> g: c error attempt=0 error=CANCELLED created=0 finished=5
        10 crash -> open F
        10 g get b -> g: b error attempt=0 error=CANCELLED created=0 finished=1
        ",
    );
}

#[test]
fn a_purge_is_answered_when_it_is_safe() {
    check(
        "
        0 r register f slots=1 attempts=1 -> open F, r: registered
        0 a enqueue f url=u -> a: accepted a, dispatch a#1 to F for 1000
        1 answer a#1 fail -> note 0+1 of 1 ms, deliver a error to u
        2 delivered a
        2 store waits
        3 x purge f a -> write purged a
        3 y purge f a -> write purged a
        3 z replay f a -> z: refused DeadLetterNotFound
        4 store fails -> x: refused StoreUnavailable, write ended a error dead, write delivered a delivered, y: refused StoreUnavailable
        5 store safe
        5 d dead f -> d: letters [a#1 FAILED at 1 of 0]
        6 x purge f a -> write purged a
        6 y purge f a -> write purged a
        7 store safe -> x: removed, y: removed
        7 y purge f a -> y: refused DeadLetterNotFound
        8 crash -> open F
        8 d dead f -> d: letters []
        ",
    );
}

#[test]
fn a_purge_that_may_have_been_written_is_taken_back_with_its_payload() {
    check(
        "
        0 r register f slots=1 attempts=1 -> open F, r: registered
        0 a enqueue f body=5 -> a: accepted a, dispatch a#1 to F for 1000 body=5
        1 answer a#1 fail -> note 0+1 of 1 ms
        2 store waits
        2 x purge f a -> write purged a
        3 store fails keeping -> write ended a error dead, x: refused StoreUnavailable
        4 store safe
        5 crash -> open F
        5 store waits
        5 x replay f a -> write started 1, write replayed a
        6 store safe -> x: accepted a, dispatch a#2 to F for 1000 body=5, write attempted a#2
        ",
    );
}

#[test]
fn a_retry_waits_until_nobody_else_can_use_its_number() {
    check(
        "
        0 r register f slots=1 attempts=3 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        0 store waits
        1 answer a#1 fail -> note retry a#1 FAILED, write requeued a FAILED
        show f -> queued=1 invocations=1 enqueued=1 dispatches=1 retries=1
        2 store safe -> dispatch a#2 to F for 1000, write attempted a#2
        3 answer a#2 fail after=5 -> note retry a#2 FAILED, write requeued a FAILED
        8 turn
        9 store fails
        10 store safe -> dispatch a#3 to F for 1000, write attempted a#3
        11 crash -> open F, write started 1
        12 store safe -> dispatch a#4 to F for 1000, write attempted a#4
        ",
    );
}

#[test]
fn a_purge_that_is_safe_is_not_taken_back_by_one_that_is_not() {
    check(
        "
        0 r register f slots=1 attempts=1 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        1 answer a#1 fail -> note 0+1 of 1 ms
        2 store waits
        2 x purge f a -> write purged a
        3 y purge f a -> write purged a
        4 store fails but 1 -> x: refused StoreUnavailable
        5 store safe -> y: removed
        6 crash -> open F
        6 d dead f -> d: letters []
        ",
    );
}
