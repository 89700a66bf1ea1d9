//! What was safe is there again after a crash.

use crate::script::check;

#[test]
fn what_had_not_ended_is_queued_again_in_its_order() {
    check(
        "
        0 r register f slots=1 attempts=2 -> open F, r: registered
        0 a enqueue f body=1 -> a: accepted a, dispatch a#1 to F for 1000 body=1
        1 b enqueue f body=2 -> b: accepted b
        2 c enqueue f body=3 -> c: accepted c
        3 answer a#1 fail -> dispatch b#1 to F for 1000 body=2, note retry a#1 FAILED
        4 crash -> open F, dispatch b#2 to F for 1000 body=2
        5 answer b#2 ok -> note 0+1 of 4 ms, dispatch c#2 to F for 1000 body=3
        6 answer c#2 ok -> note 1+1 of 4 ms, dispatch a#3 to F for 1000 body=1
        7 answer a#3 fail -> note 2+1 of 7 ms
        8 g get a -> g: a error attempt=3 error=FAILED last=FAILED created=0 dispatched=6 finished=7
        ",
    );
}

#[test]
fn an_interrupted_attempt_uses_no_retry_up_and_its_number_is_not_used_again() {
    check(
        "
        0 r register f attempts=2 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        1 crash -> open F, dispatch a#2 to F for 1000
        2 crash -> open F, dispatch a#3 to F for 1000
        3 p callback a ok attempt=1 -> note late a, p: ignored
        4 answer a#3 fail -> note retry a#3 FAILED, dispatch a#4 to F for 1000
        5 crash -> open F, dispatch a#5 to F for 1000
        6 answer a#5 fail -> note 0+1 of 6 ms
        7 d dead f -> d: letters [a#5 FAILED at 6 of 0]
        ",
    );
}

#[test]
fn what_was_not_safe_is_gone() {
    check(
        "
        0 r register f -> open F, r: registered
        0 store waits
        0 a enqueue f -> write accepted a of f
        1 crash -> open F
        1 g get a -> g: refused ExecutionNotFound
        2 s register g -> write started 1, write registered g
        3 crash -> open F
        3 g function g -> g: refused FunctionNotFound
        4 x remove f -> write started 1, write removed f
        5 crash -> open F
        5 g function f -> g: function
        ",
    );
}

#[test]
fn what_had_ended_keeps_its_result_for_the_rest_of_its_time() {
    check(
        "
        limits accepted-ttl=1000 sweep=100
        0 r register f local -> r: registered
        0 a enqueue f body=7 -> a: accepted a, dispatch a#1 to local for 1000 body=7
        5 answer a#1 ok out=9 -> note 0+5 of 5 ms
        400 crash
        400 g get a -> g: a success attempt=1 output=9 created=0 dispatched=0 finished=5
        show f
        1004 g get a -> g: a success attempt=1 output=9 created=0 dispatched=0 finished=5
        1200 g get a -> g: refused ExecutionNotFound
        1300 crash
        1300 g get a -> g: refused ExecutionNotFound
        show totals -> functions=1
        ",
    );
}

#[test]
fn a_result_whose_time_is_over_is_not_taken_back() {
    check(
        "
        limits accepted-ttl=1000
        0 r register f local -> r: registered
        0 a enqueue f key=k -> a: accepted a, dispatch a#1 to local for 1000 key=k
        5 answer a#1 ok -> note 0+5 of 5 ms
        0 store waits
        2000 crash -> write started 1, write forgotten a
        2000 b enqueue f key=k -> write accepted b of f
        ",
    );
}

#[test]
fn dead_letters_are_there_and_can_be_tried_again() {
    check(
        "
        0 r register f attempts=1 -> open F, r: registered
        0 a enqueue f body=1 -> a: accepted a, dispatch a#1 to F for 1000 body=1
        1 answer a#1 fail -> note 0+1 of 1 ms
        2 b enqueue f body=2 -> b: accepted b, dispatch b#1 to F for 1000 body=2
        3 answer b#1 fail -> note 0+1 of 1 ms
        4 x purge f a -> x: removed
        5 crash -> open F
        5 d dead f -> d: letters [b#1 FAILED at 3 of 1]
        6 x replay f b -> x: accepted b, dispatch b#2 to F for 1000 body=2
        7 crash -> open F, dispatch b#3 to F for 1000 body=2
        7 g get b -> g: b running attempt=3 last=FAILED created=2 dispatched=7
        8 answer b#3 fail -> note 0+1 of 6 ms
        9 crash -> open F
        9 d dead f -> d: letters [b#3 FAILED at 8 of 1]
        ",
    );
}

#[test]
fn keys_of_asynchronous_calls_are_bound_again() {
    check(
        "
        0 r register f slots=1 -> open F, r: registered
        0 a enqueue f key=k digest=1 -> a: accepted a, dispatch a#1 to F for 1000 key=k
        0 b enqueue f key=l -> b: accepted b
        0 s invoke f key=m
        1 crash -> open F, dispatch a#2 to F for 1000
        2 c enqueue f key=k digest=1 -> c: accepted a
        2 c enqueue f key=k digest=2 -> c: refused KeyReused
        2 c enqueue f key=l -> c: accepted b
        3 answer a#2 ok out=5 -> note 0+2 of 3 ms, dispatch b#2 to F for 1000 key=l
        4 crash -> open F, dispatch b#3 to F for 1000
        4 c invoke f key=k digest=1 -> c: success a 5
        4 s invoke f key=m
        ",
    );
}

#[test]
fn functions_are_there_and_their_replicas_are_started_again() {
    check(
        "
        0 r register f backend -> provision f
        0 provisioned f ok p -> open p, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to p for 1000
        1 crash -> provision f
        1 g function f -> g: function
        1 g replicas f -> g: replicas 0/0
        1 b invoke f
        1 t scale f 2
        2 provisioned f broken -> note f not reconciled: broken, scale f 2
        3 scaled f gone -> t: refused Backend gone
        5002 turn -> b: timeout b replica 1000, provision f
        5003 provisioned f ok q -> open q, dispatch a#2 to q for 1000
        5003 g replicas f -> g: replicas 1/1
        5004 x remove f -> teardown f
        5005 torn-down f ok -> x: removed, close q, note gone
        5006 crash
        5006 g function f -> g: refused FunctionNotFound
        ",
    );
}

#[test]
fn a_function_whose_replicas_do_not_start_can_be_removed() {
    check(
        "
        0 r register f backend -> provision f
        0 provisioned f ok p -> open p, r: registered
        1 crash -> provision f
        2 x remove f
        3 provisioned f broken -> note f not reconciled: broken, teardown f
        4 torn-down f ok -> x: removed, note gone
        show totals
        show next -> None
        ",
    );
}

#[test]
fn what_a_removed_function_left_behind_ends_with_it() {
    check(
        "
        0 r register f slots=1 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        0 x remove f -> x: removed, close F, note gone
        1 r register f -> open F, r: registered
        1 b enqueue f -> b: accepted b, dispatch b#1 to F for 1000
        2 crash -> open F, dispatch b#2 to F for 1000
        2 g get a -> g: a error attempt=1 error=FUNCTION_REMOVED created=0 finished=2
        3 crash -> open F, dispatch b#3 to F for 1000
        3 g get a -> g: a error attempt=1 error=FUNCTION_REMOVED created=0 finished=2
        ",
    );
}

#[test]
fn a_removal_that_came_to_nothing_ends_nothing() {
    check(
        "
        0 r register f slots=1 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        0 b enqueue f -> b: accepted b
        0 store waits
        1 x remove f -> write removed f
        2 store fails -> write reinstated f, x: refused StoreUnavailable
        3 store safe
        4 crash -> open F, write started 1
        4 g get b -> g: b queued attempt=1 created=0
        ",
    );
}

#[test]
fn more_may_be_taken_back_than_a_queue_holds() {
    check(
        "
        0 r register f slots=2 queue=1 attempts=2 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        0 b enqueue f -> b: accepted b, dispatch b#1 to F for 1000
        0 c enqueue f -> c: accepted c
        1 crash -> open F, dispatch a#2 to F for 1000, dispatch b#2 to F for 1000
        2 answer a#2 fail after=9 -> dispatch c#2 to F for 1000, note retry a#2 FAILED
        3 answer b#2 fail after=9 -> note retry b#2 FAILED
        4 d enqueue f -> d: refused QueueFull depth=2 wait=1 retry=1
        ",
    );
}

#[test]
fn age_limits_count_on() {
    check(
        "
        0 r register f slots=1 attempts=1 -> open F, r: registered
        0 z enqueue f -> z: accepted z, dispatch z#1 to F for 1000
        0 a enqueue f max-age=100 -> a: accepted a
        0 b enqueue f max-age=50 -> b: accepted b
        60 crash -> open F, dispatch z#2 to F for 1000
        60 g get b -> g: b error attempt=1 error=EXPIRED created=0 finished=60
        99 g get a -> g: a queued attempt=1 created=0
        100 turn
        100 g get a -> g: a error attempt=1 error=EXPIRED created=0 finished=100
        ",
    );
}

#[test]
fn over_a_restart_ages_follow_a_clock_that_was_set() {
    check(
        "
        0 r register f slots=1 attempts=1 -> open F, r: registered
        0 z enqueue f -> z: accepted z, dispatch z#1 to F for 1000
        0 a enqueue f max-age=100 -> a: accepted a
        0 b enqueue f max-age=5000000 -> b: accepted b
        10 clock -3600000
        60 crash -> open F, dispatch z#2 to F for 1000
        159 g get a -> g: a queued attempt=1 created=0
        160 clock 3600000
        160 crash -> open F, dispatch z#3 to F for 1000
        160 g get a -> g: a error attempt=2 error=EXPIRED created=0 finished=3600160
        160 g get b -> g: b queued attempt=2 created=0
        ",
    );
}

#[test]
fn a_managed_function_is_looked_at_by_the_autoscaler_again() {
    check(
        "
        0 autoscaler poll=1000 down=5000
        0 r register f backend min=0 slots=2 -> provision f
        1 provisioned f ok -> r: registered
        10 crash -> provision f
        show next -> Some(1010)
        11 provisioned f ok p -> open p
        1010 turn -> scale f 0
        ",
    );
}

#[test]
fn calls_that_waited_for_the_replicas_of_before_wait_for_slots_from_then_on() {
    check(
        "
        0 r register f backend slots=1 timeout=9000 -> provision f
        1 provisioned f ok p -> open p, r: registered
        1 sync queue-wait=50
        5 crash -> provision f
        6 a invoke f
        7 b invoke f
        100 provisioned f pool q -> open q, note sync 94 ms, dispatch a#1 to q for 8906
        149 turn
        150 turn -> b: refused SyncQueue timeout depth=1 wait=unknown retry=1
        ",
    );
}

#[test]
fn results_that_were_not_delivered_are_delivered_again() {
    check(
        "
        0 r register f slots=2 -> open F, r: registered
        0 a enqueue f url=u -> a: accepted a, dispatch a#1 to F for 1000
        0 b enqueue f url=v -> b: accepted b, dispatch b#1 to F for 1000
        1 answer a#1 ok -> note 0+1 of 1 ms, deliver a success to u
        1 answer b#1 ok -> note 0+1 of 1 ms, deliver b success to v
        2 delivered a
        3 crash -> open F, deliver b success to v
        3 g get a -> g: a success attempt=1 output=null created=0 dispatched=0 finished=1 delivery=delivered
        3 g get b -> g: b success attempt=1 output=null created=0 dispatched=0 finished=1 delivery=pending
        ",
    );
}

#[test]
fn what_is_held_back_runs_in_the_next_server() {
    check(
        "
        0 r register f slots=1 attempts=2 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        0 b enqueue f -> b: accepted b
        0 s invoke f
        0 c enqueue f -> c: accepted c
        1 hold
        2 answer a#1 fail -> dispatch s#1 to F for 998, note retry a#1 FAILED
        3 answer s#1 ok -> note 2+1 of 3 ms, s: success s
        4 d enqueue f -> d: accepted d
        show f -> queued=4 invocations=5 enqueued=4 dispatches=2 successes=1 retries=1 warm=1
        5 crash -> open F, dispatch b#2 to F for 1000
        6 answer b#2 ok -> note 0+1 of 6 ms, dispatch c#2 to F for 1000
        7 answer c#2 ok -> note 1+1 of 7 ms, dispatch a#3 to F for 1000
        8 answer a#3 ok -> note 2+1 of 8 ms, dispatch d#2 to F for 1000
        ",
    );
}

#[test]
fn no_number_of_an_attempt_is_used_again_over_several_crashes() {
    check(
        "
        0 r register f slots=1 attempts=2 -> open F, r: registered
        0 store waits
        0 a enqueue f key=k -> write accepted a of f
        1 store safe -> a: accepted a, dispatch a#1 to F for 1000 key=k, write attempted a#1
        2 crash -> open F, write started 1
        3 crash -> open F, write started 1
        4 store safe -> dispatch a#2 to F for 1000 key=k, write attempted a#2
        5 crash -> open F, write started 2
        5 p callback a ok attempt=2 -> note late a, p: ignored
        6 store safe -> dispatch a#3 to F for 1000 key=k, write attempted a#3
        7 store safe
        8 answer a#3 fail -> note retry a#3 FAILED, write requeued a FAILED
        9 store safe -> dispatch a#4 to F for 1000, write attempted a#4
        10 crash -> open F, write started 3
        11 store safe -> dispatch a#5 to F for 1000, write attempted a#5
        12 answer a#5 fail -> note 1+1 of 12 ms, write ended a error dead
        13 store safe
        13 d dead f -> d: letters [a#5 FAILED at 12 of 0]
        ",
    );
}

#[test]
fn what_was_accepted_waits_while_the_disk_does_not_take_that_there_is_another_server() {
    check(
        "
        0 r register f slots=2 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        0 store waits
        1 crash -> open F, write started 1
        2 store fails
        3 s invoke f -> dispatch s#1 to F for 1000
        4 x drain-once f -> x: drained false
        5 store safe -> dispatch a#2 to F for 1000, write attempted a#2
        ",
    );
}

#[test]
fn a_retry_that_an_enqueue_joined_leaves_its_number_out() {
    check(
        "
        0 r register f slots=1 attempts=3 -> open F, r: registered
        0 s invoke f key=k retries -> dispatch s#1 to F for 1000 key=k
        1 answer s#1 fail after=5 -> note retry s#1 FAILED
        2 a enqueue f key=k -> a: accepted s
        6 turn -> dispatch s#2 to F for 1000
        7 crash -> open F, dispatch s#3 to F for 1000
        ",
    );
}

/// Shards share a log: behind the start of another one, what was accepted before would count as given back.
#[test]
fn what_a_shard_accepts_comes_behind_the_start_of_its_server() {
    check(
        "
        0 r register f slots=1 -> open F, r: registered
        0 store waits
        1 crash -> open F
        2 a enqueue f -> write started 1, write accepted a of f
        3 store safe -> a: accepted a, dispatch a#1 to F for 1000, write attempted a#1
        4 b enqueue f -> write accepted b of f
        ",
    );
}

#[test]
fn results_that_memory_has_no_room_for_stay_on_disk() {
    check(
        "
        limits retained=10 disk=1000 reads=4
        0 r register f slots=9 -> open F, r: registered
        0 a enqueue f url=u -> a: accepted a, dispatch a#1 to F for 1000
        0 b enqueue f url=v -> b: accepted b, dispatch b#1 to F for 1000
        0 c enqueue f -> c: accepted c, dispatch c#1 to F for 1000
        0 d enqueue f -> d: accepted d, dispatch d#1 to F for 1000
        1 answer a#1 ok out=123456 -> note 0+1 of 1 ms, deliver a success to u
        2 answer b#1 ok out=123456 -> note 0+2 of 2 ms, deliver b success to v
        3 answer c#1 refuse -> note 0+3 of 3 ms
        4 answer d#1 ok out=123456 -> note 0+4 of 4 ms
        5 crash -> open F, read a
        show totals -> functions=1 executions=4 finished=3 retained=6 on-disk=12 reads=2 timers=1 dead=1
        6 g get d -> g: d success attempt=1 output=123456 created=0 dispatched=0 finished=4
        7 result a -> deliver a success to u, read b
        8 result b fails
        8 g get b -> read b
        5100 turn -> read b
        5101 result b -> g: b success attempt=1 output=123456 created=0 dispatched=0 finished=2 delivery=pending
        5102 delivered b
        5103 x purge f c -> x: removed
        5104 crash -> open F, read a
        5105 g get c -> read c
        ",
    );
}
