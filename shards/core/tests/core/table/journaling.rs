//! Nothing is promised before it is written down.

use crate::script::check;

#[test]
fn an_accepted_execution_waits_for_its_record() {
    check(
        "
        0 r register f slots=1 attempts=2 -> open F, r: registered
        0 store waits
        0 a enqueue f -> write accepted a of f
        1 b enqueue f -> write accepted b of f
        2 c invoke f -> dispatch c#1 to F for 1000
        show f -> queued=2 running=1 invocations=3 dispatches=1
        3 store safe -> a: accepted a, b: accepted b
        4 answer c#1 ok -> note 0+2 of 2 ms, c: success c, dispatch a#1 to F for 1000, write attempted a#1
        5 answer a#1 fail -> dispatch b#1 to F for 1000, write attempted b#1, note retry a#1 FAILED, write requeued a FAILED
        6 answer b#1 ok -> note 2+1 of 5 ms, write ended b success
        6 g get b -> g: b running attempt=1 created=1 dispatched=5
        7 store safe -> dispatch a#2 to F for 1000, write attempted a#2
        7 g get b -> g: b success attempt=1 output=null created=1 dispatched=5 finished=6
        8 answer a#2 fail -> note 2+1 of 8 ms, write ended a error dead
        8 x replay f a -> x: refused DeadLetterNotFound
        9 store safe
        9 x replay f a -> write replayed a
        10 store safe -> x: accepted a, dispatch a#3 to F for 1000, write attempted a#3
        11 answer a#3 ok -> note 1+1 of 2 ms, write ended a success
        ",
    );
}

#[test]
fn what_cannot_be_written_is_refused_and_leaves_nothing() {
    check(
        "
        0 r register f -> open F, r: registered
        0 store waits
        0 a enqueue f key=k -> write accepted a of f
        1 b invoke f key=k
        2 store fails -> a: refused StoreUnavailable, b: refused StoreUnavailable, write forgotten a
        3 g get a -> g: refused ExecutionNotFound
        4 c invoke f key=k -> dispatch c#1 to F for 1000 key=k
        5 answer c#1 ok -> note 0+1 of 1 ms, c: success c
        show totals -> functions=1 executions=1 finished=1 retained=4 timers=1 keys=1
        ",
    );
}

#[test]
fn a_replay_that_cannot_be_written_leaves_the_letter() {
    check(
        "
        0 r register f attempts=1 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        1 answer a#1 fail -> note 0+1 of 1 ms
        2 store waits
        3 x replay f a -> write replayed a
        4 store fails -> x: refused StoreUnavailable, write ended a error dead
        5 d dead f -> d: letters [a#1 FAILED at 4 of 0]
        ",
    );
}

#[test]
fn a_letter_whose_replay_fails_died_of_what_it_had_died_of() {
    check(
        "
        0 r register f attempts=2 timeout=10 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 10
        1 answer a#1 fail -> note retry a#1 FAILED, dispatch a#2 to F for 10
        2 answer a#2 promise cold=3
        12 turn
        12 g get a -> g: a timeout attempt=2 error=TIMEOUT last=FUNCTION_TIMEOUT cold=3 created=0 dispatched=1 finished=12
        13 store waits
        13 x replay f a -> write replayed a
        14 g get a -> g: a queued attempt=2 last=TIMEOUT created=0
        15 store fails -> x: refused StoreUnavailable, write ended a timeout dead
        16 g get a -> g: a timeout attempt=2 error=TIMEOUT last=FUNCTION_TIMEOUT cold=3 created=0 dispatched=1 finished=15
        ",
    );
}

#[test]
fn what_is_tried_again_waits_for_the_record_of_that() {
    check(
        "
        0 r register f -> open F, r: registered
        0 store waits
        0 a enqueue f max-age=5 -> write accepted a of f
        5 turn -> write ended a error dead
        6 x replay f a -> x: refused DeadLetterNotFound
        7 store safe -> a: accepted a
        7 x replay f a -> write replayed a
        8 store safe -> x: accepted a, dispatch a#1 to F for 1000, write attempted a#1
        9 answer a#1 refuse -> note 1+1 of 2 ms, write ended a error dead
        10 store safe
        10 x replay f a -> write replayed a
        15 turn -> write ended a error dead
        16 y replay f a -> y: refused DeadLetterNotFound
        17 store safe -> x: accepted a
        17 y replay f a -> write replayed a
        18 store fails -> y: refused StoreUnavailable, write ended a error dead
        19 d dead f -> d: letters [a#1 EXPIRED at 18 of 0]
        ",
    );
}

#[test]
fn who_joins_is_told_when_the_record_is_safe() {
    check(
        "
        0 r register f attempts=1 -> open F, r: registered
        0 store waits
        0 a enqueue f key=k -> write accepted a of f
        1 b enqueue f key=k
        2 store safe -> a: accepted a, dispatch a#1 to F for 1000 key=k, write attempted a#1, b: accepted a
        3 c enqueue f key=k -> c: accepted a
        4 s invoke f key=s
        5 d enqueue f key=s -> write accepted s of f
        6 e enqueue f key=s
        7 store safe -> d: accepted s, e: accepted s
        ",
    );
}

#[test]
fn who_joins_is_refused_with_the_record_that_it_joined() {
    check(
        "
        0 r register f -> open F, r: registered
        0 a invoke f key=k -> dispatch a#1 to F for 1000 key=k
        1 answer a#1 ok -> note 0+1 of 1 ms, a: success a
        2 store waits
        2 b enqueue f key=k -> write kept a of f success
        3 c enqueue f -> write accepted c of f
        4 d enqueue f key=k
        5 store fails but 1 -> b: refused StoreUnavailable, d: refused StoreUnavailable
        6 e enqueue f key=k -> write kept a of f success
        7 store safe but 1 -> c: accepted c, dispatch c#1 to F for 1000, write attempted c#1
        8 store safe -> e: accepted a
        ",
    );
}

#[test]
fn what_ends_before_its_record_is_safe_was_accepted_all_the_same() {
    check(
        "
        0 r register f -> open F, r: registered
        0 store waits
        0 a enqueue f -> write accepted a of f
        0 b enqueue f max-age=5 -> write accepted b of f
        1 x cancel a -> write ended a error
        5 turn -> write ended b error dead
        6 store safe -> a: accepted a, b: accepted b, x: a error attempt=0 error=CANCELLED created=0 finished=1
        7 g get a -> g: a error attempt=0 error=CANCELLED created=0 finished=1
        7 g get b -> g: b error attempt=0 error=EXPIRED created=0 finished=5
        ",
    );
}

#[test]
fn the_place_of_what_is_being_written_counts() {
    check(
        "
        0 r register f slots=1 queue=2 -> open F, r: registered
        0 store waits
        0 a enqueue f -> write accepted a of f
        0 b enqueue f -> write accepted b of f
        0 c enqueue f -> c: refused QueueFull depth=2 wait=unknown retry=1
        1 store safe -> a: accepted a, dispatch a#1 to F for 1000, write attempted a#1, b: accepted b
        2 c enqueue f -> write accepted c of f
        ",
    );
}

#[test]
fn a_registration_is_answered_and_seen_when_it_is_safe() {
    check(
        "
        0 store waits
        0 r register f -> write registered f
        0 s register f -> s: refused FunctionExists
        1 g function f -> g: refused FunctionNotFound
        1 a invoke f -> a: refused FunctionNotFound
        1 x remove f
        2 store safe -> open F, r: registered, write removed f
        3 g function f -> g: refused FunctionNotFound
        3 s register f
        4 store safe -> x: removed, close F, note gone, write registered f
        5 store safe -> open F, s: registered
        ",
    );
}

#[test]
fn what_a_backend_reports_while_a_registration_is_written_down_is_newer() {
    check(
        "
        0 store waits
        0 r register f backend -> provision f
        1 provisioned f ok p q -> write registered f
        2 endpoints f 5 p q s -> open p, open q, open s
        3 store safe -> r: registered
        4 g replicas f -> g: replicas 3/5
        ",
    );
}

#[test]
fn a_registration_that_cannot_be_written_leaves_nothing() {
    check(
        "
        0 store waits
        0 r register f -> write registered f
        1 store fails -> r: refused StoreUnavailable, write removed f
        2 g function f -> g: refused FunctionNotFound
        3 r register f backend -> provision f
        4 provisioned f ok p -> write registered f
        4 endpoints f 1 p -> open p
        4 provisioned f ok q
        5 store fails -> r: refused StoreUnavailable, write removed f, teardown f
        5 s register f local
        6 torn-down f stuck -> close p, write registered f
        7 store safe -> s: registered
        show totals -> functions=1
        ",
    );
}

#[test]
fn a_removal_that_cannot_be_written_changes_nothing() {
    check(
        "
        0 r register f slots=1 backend -> provision f
        0 provisioned f ok p -> open p, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to p for 1000
        0 b enqueue f -> b: accepted b
        1 store waits
        1 x remove f -> write removed f
        1 torn-down f ok
        2 answer a#1 ok -> note 0+2 of 2 ms, write ended a success
        3 store fails -> write reinstated f, x: refused StoreUnavailable, dispatch b#1 to p for 1000, write attempted b#1
        4 g function f -> g: function
        ",
    );
}

#[test]
fn a_record_that_is_not_taken_concerns_its_own_promise_only() {
    check(
        "
        0 r register f slots=1 -> open F, r: registered
        0 store waits
        0 a enqueue f -> write accepted a of f
        0 b enqueue f key=k -> write accepted b of f
        0 store refuses -> b: refused StoreUnavailable
        1 c enqueue f key=k -> write accepted c of f
        2 store safe -> a: accepted a, dispatch a#1 to F for 1000, write attempted a#1, c: accepted c
        ",
    );
}

#[test]
fn who_joins_what_could_not_be_written_is_not_told_otherwise() {
    check(
        "
        0 r register f slots=1 -> open F, r: registered
        0 store waits
        0 s invoke f key=k -> dispatch s#1 to F for 1000 key=k
        1 a enqueue f key=k -> write attempted s#1, write accepted s of f
        2 store fails -> a: refused StoreUnavailable
        3 b enqueue f key=k -> write attempted s#1, write accepted s of f
        4 store safe -> b: accepted s
        5 answer s#1 ok -> note 0+5 of 5 ms, write ended s success
        ",
    );
}

#[test]
fn what_ended_before_it_was_accepted_is_kept_before_anybody_is_told() {
    check(
        "
        0 r register f slots=1 -> open F, r: registered
        0 s invoke f key=k -> dispatch s#1 to F for 1000 key=k
        1 answer s#1 ok -> note 0+1 of 1 ms, s: success s
        2 store waits
        2 a enqueue f key=k -> write kept s of f success
        3 b enqueue f key=k
        4 store safe -> a: accepted s, b: accepted s
        5 c enqueue f key=k -> c: accepted s
        6 crash -> open F
        6 d enqueue f key=k -> d: accepted s
        6 g get s -> g: s success attempt=1 output=null created=0 dispatched=0 finished=1
        ",
    );
}

#[test]
fn what_was_cancelled_and_could_not_be_written_is_written_for_the_next_caller() {
    check(
        "
        0 r register f slots=1 -> open F, r: registered
        0 store waits
        0 a enqueue f key=k -> write accepted a of f
        1 x cancel a -> write ended a error
        2 store fails -> a: refused StoreUnavailable, x: refused StoreUnavailable
        3 b enqueue f key=k -> write kept a of f error
        4 store safe -> b: accepted a
        ",
    );
}

#[test]
fn who_joins_what_is_safe_does_not_depend_on_other_records() {
    check(
        "
        0 r register f slots=1 -> open F, r: registered
        0 a enqueue f key=k -> a: accepted a, dispatch a#1 to F for 1000 key=k
        1 store waits
        1 b enqueue f -> write accepted b of f
        1 c enqueue f key=k -> c: accepted a
        2 store fails -> b: refused StoreUnavailable, write forgotten b
        3 d enqueue f key=k -> d: accepted a
        ",
    );
}

#[test]
fn a_dead_letter_that_is_on_no_record_gets_one_before_it_is_tried_again() {
    check(
        "
        0 r register f slots=1 attempts=1 -> open F, r: registered
        0 s invoke f key=k -> dispatch s#1 to F for 1000 key=k
        1 store waits
        1 a enqueue f key=k -> write attempted s#1, write accepted s of f
        2 store fails -> a: refused StoreUnavailable
        3 answer s#1 fail -> note 0+3 of 3 ms, write ended s error dead, s: error s FAILED
        4 x replay f s -> write kept s of f error dead, write replayed s
        5 store safe -> x: accepted s, dispatch s#2 to F for 1000, write attempted s#2
        ",
    );
}

#[test]
fn a_dead_letter_whose_record_failed_with_its_replay_gets_another_one() {
    check(
        "
        0 r register f slots=1 attempts=1 -> open F, r: registered
        0 s invoke f key=k -> dispatch s#1 to F for 1000 key=k
        1 store waits
        1 a enqueue f key=k -> write attempted s#1, write accepted s of f
        2 store fails -> a: refused StoreUnavailable
        3 answer s#1 fail -> note 0+3 of 3 ms, write ended s error dead, s: error s FAILED
        4 x replay f s -> write kept s of f error dead, write replayed s
        5 store fails -> x: refused StoreUnavailable, write ended s error dead
        6 y replay f s -> write kept s of f error dead, write replayed s
        7 store safe -> y: accepted s, dispatch s#2 to F for 1000, write attempted s#2
        ",
    );
}

#[test]
fn a_letter_whose_replay_fails_does_not_rely_on_an_address_that_may_fail_as_well() {
    check(
        "
        0 r register f slots=1 attempts=1 -> open F, r: registered
        0 s invoke f key=k -> dispatch s#1 to F for 1000 key=k
        1 store waits
        1 a enqueue f key=k -> write attempted s#1, write accepted s of f
        2 store fails -> a: refused StoreUnavailable
        3 answer s#1 fail -> note 0+3 of 3 ms, write ended s error dead, s: error s FAILED
        4 x replay f s -> write kept s of f error dead, write replayed s
        5 b enqueue f key=k url=u -> write accepted s of f
        6 store fails but 1 -> x: refused StoreUnavailable, write ended s error dead
        7 y replay f s -> write kept s of f error dead, write replayed s
        8 store fails but 2 -> b: refused StoreUnavailable
        9 store safe -> y: accepted s, dispatch s#2 to F for 1000, write attempted s#2
        10 crash -> open F, write started 1
        11 store safe -> dispatch s#3 to F for 1000, write attempted s#3
        ",
    );
}

#[test]
fn who_enqueues_what_is_pushed_out_meanwhile_is_told_that_it_is_gone() {
    check(
        "
        limits executions=1
        0 r register f slots=2 -> open F, r: registered
        0 s invoke f key=k -> dispatch s#1 to F for 1000 key=k
        0 t invoke f -> dispatch t#1 to F for 1000
        1 answer s#1 ok -> note 0+1 of 1 ms, s: success s
        2 store waits
        2 a enqueue f key=k -> write kept s of f success
        3 answer t#1 ok -> note 0+3 of 3 ms, t: success t, write forgotten s
        4 store safe -> a: refused ExecutionNotFound
        ",
    );
}

#[test]
fn who_joins_what_is_not_accepted_after_all_is_refused_and_nobody_else() {
    check(
        "
        0 r register f slots=1 -> open F, r: registered
        0 s invoke f key=l -> dispatch s#1 to F for 1000 key=l
        0 store waits
        1 a enqueue f key=k -> write accepted a of f
        2 b enqueue f key=k
        3 t enqueue f key=l -> write attempted s#1, write accepted s of f
        4 store fails but 2 -> a: refused StoreUnavailable, b: refused StoreUnavailable, write forgotten a
        5 store safe -> t: accepted s
        ",
    );
}

#[test]
fn a_retry_whose_record_was_refused_follows_its_pause() {
    check(
        "
        0 r register f attempts=2 -> open F, r: registered
        0 store waits
        0 a enqueue f -> write accepted a of f
        1 store safe -> a: accepted a, dispatch a#1 to F for 1000, write attempted a#1
        2 answer a#1 fail after=50 -> note retry a#1 FAILED, write requeued a FAILED
        3 store refuses
        52 turn -> dispatch a#2 to F for 1000, write attempted a#2
        ",
    );
}

#[test]
fn a_replay_whose_letter_may_be_on_no_record_is_accepted_without_its_attempts() {
    check(
        "
        0 r register f slots=1 attempts=1 -> open F, r: registered
        0 z enqueue f -> z: accepted z, dispatch z#1 to F for 1000
        0 a enqueue f key=k max-age=5 -> a: accepted a
        0 store waits
        1 crash -> open F, write started 1
        2 store safe -> dispatch z#2 to F for 1000, write attempted z#2
        5 turn -> write ended a error dead
        6 store safe
        7 x replay f a -> write replayed a
        8 store fails -> x: refused StoreUnavailable, write ended a error dead
        9 b enqueue f key=k -> write kept a of f error dead
        10 x replay f a -> write replayed a
        11 store fails but 1 -> b: refused StoreUnavailable
        12 store safe -> x: accepted a
        13 c enqueue f key=k url=u -> write accepted a of f
        14 store safe -> c: accepted a
        14 crash -> open F, write started 2
        14 g get a -> g: a queued attempt=2 last=EXPIRED created=0 delivery=pending
        ",
    );
}
