//! Calls are accepted, joined to an earlier one, or refused; callers leave or cancel.

use crate::script::check;

#[test]
fn the_servers_limit_comes_first_then_the_lookup_then_the_functions_limit() {
    check(
        "
        0 r register f rate=1 slots=9 -> open F, r: registered
        0 calls 4
        0 a invoke nope -> a: refused FunctionNotFound
        0 a invoke f -> dispatch a#1 to F for 1000
        0 b invoke f -> b: refused RateLimited function 1 retry=1
        0 b invoke f key=k -> b: refused RateLimited function 1 retry=1
        0 b invoke nope -> b: refused RateLimited server 1000 retry=1
        show totals -> functions=1 executions=1 attempts=1 timers=2
        ",
    );
}

#[test]
fn windows_are_seconds_that_a_clock_which_is_set_does_not_move() {
    check(
        "
        0 r register f rate=2 slots=9 timeout=5000 -> open F, r: registered
        500 a invoke f -> dispatch a#1 to F for 5000
        999 b invoke f -> dispatch b#1 to F for 5000
        999 c invoke f -> c: refused RateLimited function 2 retry=1
        1000 c invoke f -> dispatch c#1 to F for 5000
        1000 clock -3600000
        1001 d invoke f -> dispatch d#1 to F for 5000
        1002 e invoke f -> e: refused RateLimited function 2 retry=1
        2000 e invoke f -> dispatch e#1 to F for 5000
        2001 clock 3600000
        2001 g invoke f -> dispatch g#1 to F for 5000
        2002 clock 7200000
        2002 h invoke f -> h: refused RateLimited function 2 retry=1
        3000 h invoke f -> dispatch h#1 to F for 5000
        ",
    );
}

#[test]
fn leased_calls_are_void_after_their_second() {
    check(
        "
        0 r register f local slots=9 -> r: registered
        0 calls 2
        10 a invoke f -> dispatch a#1 to local for 1000
        999 answer a#1 ok -> note 0+989 of 989 ms, a: success a
        1000 b invoke f -> b: refused RateLimited server 1000 retry=1
        1000 calls 1
        1000 b invoke f -> dispatch b#1 to local for 1000
        1000 c invoke f -> c: refused RateLimited server 1000 retry=1
        ",
    );
}

#[test]
fn a_full_queue_refuses_and_leaves_no_trace() {
    check(
        "
        0 r register f slots=1 queue=2 -> open F, r: registered
        0 a invoke f -> dispatch a#1 to F for 1000
        400 answer a#1 ok -> note 0+400 of 400 ms, a: success a
        400 b invoke f -> dispatch b#1 to F for 1000
        400 c invoke f
        400 d enqueue f -> d: accepted d
        400 e invoke f key=k -> e: refused QueueFull depth=2 wait=1200 retry=1
        400 e enqueue f -> e: refused QueueFull depth=2 wait=1200 retry=1
        400 g get e -> g: refused ExecutionNotFound
        show totals -> functions=1 executions=4 finished=1 retained=4 attempts=1 timers=4 accepted=1
        show f -> queued=2 running=1 invocations=4 enqueued=1 dispatches=2 successes=1 rejections=2 warm=1
        ",
    );
}

#[test]
fn payloads_that_wait_count_against_the_leased_bytes() {
    check(
        "
        limits chunk=10
        0 r register f queue=9 -> open F, r: registered
        0 bytes 10
        0 a invoke f body=0123456789 -> dispatch a#1 to F for 1000 body=0123456789
        0 b invoke f body=0123456
        0 c invoke f body=0123 -> c: refused Overloaded limits.queued-bytes retry=1
        0 d enqueue f body=012 -> d: accepted d
        show totals -> functions=1 executions=3 attempts=1 timers=3 bytes=10 accepted=1
        show wanted 1 -> 10
        0 leave b
        show wanted 7 -> 0
        show wanted 8 -> 10
        5 answer a#1 ok -> note 0+5 of 5 ms, a: success a, dispatch d#1 to F for 1000 body=012
        show totals -> functions=1 executions=2 finished=1 retained=4 attempts=1 timers=2 accepted=1
        ",
    );
}

#[test]
fn a_retry_may_owe_bytes_which_the_next_lease_pays() {
    check(
        "
        limits chunk=10
        0 r register f queue=9 -> open F, r: registered
        0 bytes 5
        0 a invoke f body=0123456789 -> dispatch a#1 to F for 1000 body=0123456789
        1 answer a#1 fail after=500 -> note retry a#1 FAILED
        show totals -> functions=1 executions=1 timers=2 bytes=10
        show wanted 0 -> 10
        2 b invoke f body=1 -> dispatch b#1 to F for 1000 body=1
        2 c invoke f -> c: refused Overloaded limits.queued-bytes retry=1
        ",
    );
}

#[test]
fn a_payload_counts_once_however_it_waits() {
    check(
        "
        0 r register f queue=9 -> open F, r: registered
        0 a invoke f body=0123456789 -> dispatch a#1 to F for 1000 body=0123456789
        1 answer a#1 fail after=10 -> note retry a#1 FAILED
        2 b invoke f -> dispatch b#1 to F for 1000
        20 turn
        show totals -> functions=1 executions=2 attempts=1 timers=3 bytes=10
        21 leave a
        show totals -> functions=1 executions=1 attempts=1 timers=2
        ",
    );
}

#[test]
fn lent_bytes_go_back_first_and_admit_nobody() {
    check(
        "
        limits chunk=10
        0 r register f queue=9 -> open F, r: registered
        0 bytes 5
        0 a invoke f body=0123456789 -> dispatch a#1 to F for 1000 body=0123456789
        1 answer a#1 fail after=500 -> note retry a#1 FAILED
        1 lend 5
        show wanted 0 -> 0
        501 turn -> dispatch a#2 to F for 499 body=0123456789, return 5 bytes
        show wanted 5 -> 0
        show wanted 6 -> 10
        ",
    );
}

#[test]
fn lent_bytes_that_become_free_as_a_call_comes_do_not_admit_it() {
    check(
        "
        limits chunk=10
        0 r register f queue=9 -> open F, r: registered
        0 bytes 5
        0 a invoke f body=0123456789 timeout=100 -> dispatch a#1 to F for 100 body=0123456789
        1 answer a#1 fail after=500 -> note retry a#1 FAILED
        1 lend 5
        100 b enqueue f body=012345 -> a: timeout a queue 100, b: refused Overloaded limits.queued-bytes retry=1, return 5 bytes
        101 c enqueue f body=01234 -> c: accepted c, dispatch c#1 to F for 1000 body=01234
        ",
    );
}

#[test]
fn spare_bytes_go_back_when_the_queue_is_empty_again() {
    check(
        "
        limits chunk=10
        0 r register f queue=9 -> open F, r: registered
        0 a invoke f body=0 -> dispatch a#1 to F for 1000 body=0
        0 b invoke f body=0123456789
        0 c invoke f body=0123456789
        0 d invoke f body=0123456789
        show wanted 1 -> 10
        0 leave b
        0 leave c -> return 10 bytes
        0 leave d -> return 10 bytes
        show wanted 10 -> 0
        ",
    );
}

#[test]
fn calls_with_one_key_share_one_execution() {
    check(
        "
        0 r register f queue=1 -> open F, r: registered
        0 a invoke f key=k digest=1 -> dispatch a#1 to F for 1000 key=k
        1 b invoke f key=k digest=1 timeout=300
        1 c invoke f key=k digest=2 -> c: refused KeyReused
        1 d invoke f key=other digest=1
        2 e enqueue f key=k digest=1 -> e: accepted a
        301 turn -> b: timeout a function 300
        400 answer a#1 ok out=7 -> note 0+400 of 400 ms, dispatch d#1 to F for 601 key=other, a: success a 7
        401 h invoke f key=k digest=1 -> h: success a 7
        401 i enqueue f key=k digest=1 -> i: accepted a
        401 j invoke f key=k digest=2 -> j: refused KeyReused
        show f -> running=1 invocations=2 dispatches=2 successes=1 timeouts=1 warm=1
        ",
    );
}

#[test]
fn a_key_gives_the_stored_failure_and_the_stored_timeout_too() {
    check(
        "
        0 r register f attempts=1 -> open F, r: registered
        0 a invoke f key=k -> dispatch a#1 to F for 1000 key=k
        1 answer a#1 fail -> note 0+1 of 1 ms, a: error a FAILED
        2 b invoke f key=k -> b: error a FAILED
        3 c invoke f key=l timeout=10 -> dispatch c#1 to F for 10 key=l
        13 turn -> c: timeout c function 10
        14 d invoke f key=l -> d: timeout c function 10
        14 e enqueue f key=l -> e: accepted c
        ",
    );
}

#[test]
fn keys_belong_to_their_function() {
    check(
        "
        0 r register f -> open F, r: registered
        0 r register g -> open G, r: registered
        0 a invoke f key=k -> dispatch a#1 to F for 1000 key=k
        0 b invoke g key=k -> dispatch b#1 to G for 1000 key=k
        ",
    );
}

#[test]
fn a_retry_never_carries_the_key_again() {
    check(
        "
        0 r register f -> open F, r: registered
        0 a invoke f key=k trace=t -> dispatch a#1 to F for 1000 key=k trace=t
        1 answer a#1 fail -> note retry a#1 FAILED, dispatch a#2 to F for 999 trace=t
        2 b invoke f key=k
        3 answer a#2 ok -> note 0+2 of 3 ms, b: success a, a: success a
        ",
    );
}

#[test]
fn callers_that_join_have_deadlines_of_their_own() {
    check(
        "
        0 r register f timeout=1000 -> open F, r: registered
        0 z enqueue f -> z: accepted z, dispatch z#1 to F for 1000
        0 a invoke f key=k timeout=100
        50 b invoke f key=k timeout=100
        100 turn -> a: timeout a queue 100
        120 c invoke f key=k timeout=10
        130 turn -> c: timeout a queue 10
        150 turn -> b: timeout a queue 100
        160 d invoke f key=k -> d: timeout a queue 100
        show f -> running=1 invocations=2 enqueued=1 dispatches=1 timeouts=3
        ",
    );
}

#[test]
fn callers_of_one_execution_are_bounded() {
    check(
        "
        limits waiters=2
        0 r register f -> open F, r: registered
        0 a invoke f key=k -> dispatch a#1 to F for 1000 key=k
        0 b invoke f key=k
        0 c invoke f key=k -> c: refused Overloaded callers that wait for one execution retry=1
        ",
    );
}

#[test]
fn a_caller_that_leaves_the_queue_frees_its_place_unless_others_wait() {
    check(
        "
        0 r register f queue=1 -> open F, r: registered
        0 a invoke f -> dispatch a#1 to F for 1000
        0 b invoke f key=k
        0 c invoke f key=k
        0 leave b
        0 d invoke f -> d: refused QueueFull depth=1 wait=unknown retry=1
        0 leave c
        0 d invoke f
        0 g get b -> g: refused ExecutionNotFound
        0 leave d
        0 leave d
        0 e invoke f key=k
        5 answer a#1 ok -> note 0+5 of 5 ms, a: success a, dispatch e#1 to F for 995 key=k
        show totals -> functions=1 executions=2 finished=1 retained=4 attempts=1 timers=3 keys=1
        ",
    );
}

#[test]
fn what_was_accepted_stays_when_those_who_joined_leave() {
    check(
        "
        0 r register f -> open F, r: registered
        0 a invoke f -> dispatch a#1 to F for 1000
        0 b invoke f key=k
        1 c enqueue f key=k -> c: accepted b
        1 leave b
        5 answer a#1 ok -> note 0+5 of 5 ms, a: success a, dispatch b#1 to F for 1000 key=k
        ",
    );
}

#[test]
fn only_what_waits_can_be_cancelled() {
    check(
        "
        0 r register f -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        0 b enqueue f key=k -> b: accepted b
        0 c invoke f key=k
        1 x cancel b -> c: error b CANCELLED, x: b error attempt=0 error=CANCELLED created=0 finished=1
        1 x cancel b -> x: refused NotCancellable error
        1 x cancel a -> x: refused NotCancellable running
        1 x cancel nobody -> x: refused ExecutionNotFound
        2 answer a#1 fail after=100 -> note retry a#1 FAILED
        3 x cancel a -> x: a error attempt=1 error=CANCELLED last=FAILED created=0 finished=3
        200 turn
        show f -> invocations=2 enqueued=2 dispatches=1 errors=2 retries=1
        ",
    );
}

#[test]
fn a_drain_refuses_what_comes_and_in_the_end_who_waits() {
    check(
        "
        0 r register f -> open F, r: registered
        0 a invoke f -> dispatch a#1 to F for 1000
        0 b invoke f key=k
        0 c invoke f key=k
        0 d enqueue f -> d: accepted d
        1 drain
        1 e invoke f -> e: refused ShuttingDown
        1 e enqueue f -> e: refused ShuttingDown
        2 drain finally -> c: refused ShuttingDown, b: refused ShuttingDown
        3 answer a#1 fail -> note 0+3 of 3 ms, a: error a FAILED, dispatch d#1 to F for 1000
        4 answer d#1 fail -> note retry d#1 FAILED, dispatch d#2 to F for 1000
        5 answer d#2 ok -> note 0+1 of 5 ms
        5 g get d -> g: d success attempt=2 output=null last=FAILED created=0 dispatched=4 finished=5
        show totals -> functions=1 executions=2 finished=2 retained=34 timers=1
        ",
    );
}

#[test]
fn bytes_that_were_lent_go_back_once() {
    check(
        "
        0 bytes 500
        1 lend 100
        2 turn -> return 100 bytes
        3 turn
        ",
    );
    check(
        "
        0 bytes 1500
        1 lend 400
        2 turn -> return 400 bytes
        3 turn
        ",
    );
}

#[test]
fn a_wait_is_estimated_by_an_average_that_follows() {
    check(
        "
        0 r register f slots=1 queue=1 -> open F, r: registered
        0 a invoke f -> dispatch a#1 to F for 1000
        80 answer a#1 ok -> note 0+80 of 80 ms, a: success a
        80 b invoke f -> dispatch b#1 to F for 1000
        96 answer b#1 ok -> note 0+16 of 16 ms, b: success b
        96 c invoke f -> dispatch c#1 to F for 1000
        96 d invoke f
        97 e invoke f -> e: refused QueueFull depth=1 wait=144 retry=1
        ",
    );
}

#[test]
fn callers_that_leave_take_nobody_with_them() {
    let all = |line: &dyn Fn(u32) -> String| (0..60).map(line).collect::<Vec<_>>().join("\n");
    let come = all(&|caller| format!("2 c{caller} invoke f"));
    let leave = all(&|caller| format!("4 leave c{caller}"));
    check(&format!(
        "
        0 r register f slots=1 queue=200 -> open F, r: registered
        0 z invoke f -> dispatch z#1 to F for 1000
        1 a enqueue f -> a: accepted a
        {come}
        3 b invoke f
        {leave}
        5 answer z#1 ok -> note 0+5 of 5 ms, z: success z, dispatch a#1 to F for 1000
        6 answer a#1 ok -> note 4+1 of 5 ms, dispatch b#1 to F for 997
        7 answer b#1 ok -> note 3+1 of 4 ms, b: success b
        "
    ));
}

#[test]
fn what_has_to_be_leased_is_known() {
    check(
        "
        show wants-calls -> true
        0 calls 1
        show wants-calls -> false
        0 r register f slots=1 -> open F, r: registered
        0 a invoke f -> dispatch a#1 to F for 1000
        show wants-calls -> true
        1 calls 1
        show wants-calls -> false
        1000 turn -> a: timeout a function 1000, abort a#1
        show wants-calls -> true
        ",
    );
    check(
        "
        0 bytes 9
        0 r register f slots=1 attempts=2 -> open F, r: registered
        0 calls 9
        0 a invoke f body=55555 -> dispatch a#1 to F for 1000 body=55555
        1 b invoke f body=999999999
        show owed -> 0
        2 answer a#1 fail after=50 -> dispatch b#1 to F for 999 body=999999999, note retry a#1 FAILED
        show owed -> 0
        3 answer b#1 fail after=50 -> note retry b#1 FAILED
        show owed -> 5
        ",
    );
}
