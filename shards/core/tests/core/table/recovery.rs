//! What a crash must not change about executions that died, were tried again, or were cut off more than once. Each of these fails if a
//! single line of the fold or of the restoration is missing.

use bytes::Bytes;
use shard_core::{
    ExecutionId, Failure, FunctionSpec, Name, Output, Payload, Policy, Record, Recovery, Stored, Target,
    journal::{End, EndResult},
};

use crate::script::check;

#[test]
fn a_replay_belongs_to_the_registration_that_it_was_accepted_under() {
    check(
        "
        0 r register f attempts=1 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        1 answer a#1 fail -> note 0+1 of 1 ms
        2 x remove f -> x: removed, close F, note gone
        3 r register f attempts=1 -> open F, r: registered
        4 x replay f a -> x: accepted a, dispatch a#2 to F for 1000
        5 crash -> open F, dispatch a#3 to F for 1000
        6 answer a#3 ok -> note 0+1 of 6 ms
        ",
    );
}

#[test]
fn a_second_end_is_delivered_although_the_first_was() {
    check(
        "
        0 r register f attempts=1 -> open F, r: registered
        0 a enqueue f url=u -> a: accepted a, dispatch a#1 to F for 1000
        1 answer a#1 fail -> note 0+1 of 1 ms, deliver a error to u
        2 delivered a
        3 x replay f a -> x: accepted a, dispatch a#2 to F for 1000
        4 answer a#2 ok -> note 0+1 of 1 ms, deliver a success to u
        5 crash -> open F, deliver a success to u
        6 delivered a
        7 crash -> open F
        ",
    );
}

#[test]
fn results_of_dead_letters_that_were_not_delivered_are_delivered_again() {
    check(
        "
        0 r register f attempts=1 -> open F, r: registered
        0 a enqueue f url=u -> a: accepted a, dispatch a#1 to F for 1000
        1 answer a#1 fail -> note 0+1 of 1 ms, deliver a error to u
        2 crash -> open F, deliver a error to u
        3 d dead f -> d: letters [a#1 FAILED at 1 of 0]
        ",
    );
}

#[test]
fn keys_of_dead_letters_are_bound_again() {
    check(
        "
        0 r register f attempts=1 -> open F, r: registered
        0 a enqueue f key=k digest=1 -> a: accepted a, dispatch a#1 to F for 1000 key=k
        1 answer a#1 fail -> note 0+1 of 1 ms
        2 crash -> open F
        3 b enqueue f key=k digest=1 -> b: accepted a
        3 c enqueue f key=k digest=2 -> c: refused KeyReused
        3 d invoke f key=k digest=1 -> d: error a FAILED
        ",
    );
}

#[test]
fn a_key_stands_for_whoever_took_it_last_whatever_became_of_others() {
    check(
        "
        limits keys-ttl=10
        0 r register f attempts=1 -> open F, r: registered
        0 a enqueue f key=k -> a: accepted a, dispatch a#1 to F for 1000 key=k
        1 answer a#1 fail -> note 0+1 of 1 ms
        20 b enqueue f key=k -> b: accepted b, dispatch b#1 to F for 1000 key=k
        21 answer b#1 ok -> note 0+1 of 1 ms
        22 x purge f a -> x: removed
        23 crash -> open F
        24 c enqueue f key=k -> c: accepted b
        ",
    );
}

#[test]
fn a_replay_has_all_its_attempts_after_a_crash_too() {
    check(
        "
        0 r register f attempts=2 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        1 answer a#1 fail -> note retry a#1 FAILED, dispatch a#2 to F for 1000
        2 answer a#2 fail -> note 0+1 of 2 ms
        3 x replay f a -> x: accepted a, dispatch a#3 to F for 1000
        4 crash -> open F, dispatch a#4 to F for 1000
        5 answer a#4 fail -> note retry a#4 FAILED, dispatch a#5 to F for 1000
        6 answer a#5 fail -> note 0+1 of 6 ms
        ",
    );
}

#[test]
fn no_interruption_counts_however_many_there_are() {
    check(
        "
        0 r register f attempts=3 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        1 crash -> open F, dispatch a#2 to F for 1000
        2 crash -> open F, dispatch a#3 to F for 1000
        3 crash -> open F, dispatch a#4 to F for 1000
        4 answer a#4 fail -> note retry a#4 FAILED, dispatch a#5 to F for 1000
        5 crash -> open F, dispatch a#6 to F for 1000
        6 crash -> open F, dispatch a#7 to F for 1000
        7 answer a#7 fail -> note retry a#7 FAILED, dispatch a#8 to F for 1000
        8 answer a#8 fail -> note 0+1 of 8 ms
        ",
    );
}

#[test]
fn a_replay_is_as_old_as_its_replay() {
    check(
        "
        0 r register f slots=1 -> open F, r: registered
        0 z enqueue f -> z: accepted z, dispatch z#1 to F for 1000
        0 a enqueue f max-age=100 -> a: accepted a
        100 turn
        150 x replay f a -> x: accepted a
        200 crash -> open F, dispatch z#2 to F for 1000
        249 g get a -> g: a queued attempt=1 last=EXPIRED created=0
        250 turn
        250 g get a -> g: a error attempt=1 error=EXPIRED last=EXPIRED created=0 finished=250
        ",
    );
}

#[test]
fn a_replay_waits_behind_what_waited_before_it() {
    check(
        "
        0 r register f slots=1 attempts=1 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        1 answer a#1 fail -> note 0+1 of 1 ms
        2 z enqueue f -> z: accepted z, dispatch z#1 to F for 1000
        3 b enqueue f -> b: accepted b
        4 x replay f a -> x: accepted a
        5 crash -> open F, dispatch z#2 to F for 1000
        6 answer z#2 ok -> note 0+1 of 4 ms, dispatch b#2 to F for 1000
        7 answer b#2 ok -> note 1+1 of 4 ms, dispatch a#3 to F for 1000
        ",
    );
}

#[test]
fn an_attempt_that_failed_counts_after_a_crash_in_its_pause() {
    check(
        "
        0 r register f attempts=2 -> open F, r: registered
        0 store waits
        0 a enqueue f -> write accepted a of f
        1 store safe -> a: accepted a, dispatch a#1 to F for 1000, write attempted a#1
        2 answer a#1 fail after=500 -> note retry a#1 FAILED, write requeued a FAILED
        3 store safe
        4 crash -> open F, write started 1
        5 store safe -> dispatch a#3 to F for 1000, write attempted a#3
        6 answer a#3 fail -> note 1+1 of 6 ms, write ended a error dead
        ",
    );
}

#[test]
fn a_function_whose_replicas_could_not_be_removed_is_there_after_a_crash() {
    check(
        "
        0 r register f backend -> provision f
        0 provisioned f ok p -> open p, r: registered
        0 store waits
        1 x remove f -> write removed f
        2 store safe -> teardown f
        3 torn-down f stuck -> write reinstated f, x: refused Backend stuck
        4 store safe
        5 crash -> provision f
        5 g function f -> g: function
        ",
    );
}

#[test]
fn what_a_server_that_goes_away_did_not_deliver_the_next_one_delivers() {
    check(
        "
        0 r register f slots=2 -> open F, r: registered
        0 a enqueue f url=u -> a: accepted a, dispatch a#1 to F for 1000
        0 b enqueue f url=v -> b: accepted b, dispatch b#1 to F for 1000
        1 answer a#1 ok -> note 0+1 of 1 ms, deliver a success to u
        1 answer b#1 ok -> note 0+1 of 1 ms, deliver b success to v
        2 store waits
        2 end-watches
        3 delivered a failed
        3 delivered b -> write delivered b delivered
        3 g get a -> g: a success attempt=1 output=null created=0 dispatched=0 finished=1 delivery=failed
        4 store safe
        5 crash -> open F, deliver a success to u
        6 delivered a failed -> write started 1, write delivered a failed
        ",
    );
}

#[test]
fn who_joins_with_an_address_has_the_result_delivered_after_a_crash_too() {
    check(
        "
        0 r register f -> open F, r: registered
        0 a invoke f key=k -> dispatch a#1 to F for 1000 key=k
        1 b enqueue f key=k url=u -> b: accepted a
        2 c enqueue f key=k url=v -> c: accepted a
        3 crash -> open F, dispatch a#2 to F for 1000
        4 answer a#2 ok -> note 0+1 of 4 ms, deliver a success to u
        5 crash -> open F, deliver a success to u
        ",
    );
}

#[test]
fn the_newest_failure_is_read_after_a_crash_too() {
    check(
        "
        0 r register f slots=3 attempts=2 timeout=50 -> open F, r: registered
        0 a enqueue f max-age=5 -> a: accepted a, dispatch a#1 to F for 50
        0 b enqueue f -> b: accepted b, dispatch b#1 to F for 50
        0 s invoke f key=k timeout=20 -> dispatch s#1 to F for 20 key=k
        5 turn
        6 answer a#1 fail -> note 0+6 of 6 ms
        7 answer b#1 refuse -> note 0+7 of 7 ms
        8 x replay f b -> x: accepted b, dispatch b#2 to F for 50
        9 answer b#2 fail -> note retry b#2 FAILED, dispatch b#3 to F for 50
        10 answer b#3 promise
        20 turn -> s: timeout s function 20
        21 c enqueue f key=k -> c: accepted s
        59 turn -> abort s#1
        60 g get b -> g: b timeout attempt=3 error=TIMEOUT last=FUNCTION_TIMEOUT created=0 dispatched=9 finished=59
        61 crash -> open F
        62 g get a -> g: a error attempt=1 error=EXPIRED last=FAILED created=0 dispatched=0 finished=6
        62 g get b -> g: b timeout attempt=3 error=TIMEOUT last=FUNCTION_TIMEOUT created=0 dispatched=9 finished=59
        62 g get s -> g: s timeout attempt=1 error=TIMEOUT created=0 dispatched=0 finished=20
        ",
    );
}

#[test]
fn what_failed_before_it_was_accepted_is_known_after_a_crash() {
    check(
        "
        0 r register f slots=2 attempts=2 -> open F, r: registered
        0 a invoke f key=k -> dispatch a#1 to F for 1000 key=k
        0 b invoke f key=l -> dispatch b#1 to F for 1000 key=l
        1 answer a#1 fail -> note retry a#1 FAILED, dispatch a#2 to F for 999
        1 answer b#1 fail after=100 -> note retry b#1 FAILED
        2 c enqueue f key=k -> c: accepted a
        2 d enqueue f key=l -> d: accepted b
        3 crash -> open F, dispatch a#3 to F for 1000, dispatch b#3 to F for 1000
        3 g get a -> g: a running attempt=3 last=FAILED created=0 dispatched=3
        3 g get b -> g: b running attempt=3 last=FAILED created=0 dispatched=3
        4 answer a#3 fail -> note 0+1 of 4 ms
        4 answer b#3 fail -> note 0+1 of 4 ms
        ",
    );
}

#[test]
fn a_number_that_was_left_out_stays_left_out() {
    check(
        "
        0 r register f slots=1 -> open F, r: registered
        0 store waits
        0 a enqueue f max-age=5 -> write accepted a of f
        1 store safe -> a: accepted a, dispatch a#1 to F for 1000, write attempted a#1
        6 crash -> open F, write started 1, write ended a error dead
        7 store safe
        8 x replay f a -> write replayed a
        9 store safe -> x: accepted a, dispatch a#2 to F for 1000, write attempted a#2
        10 crash -> open F, write started 2
        11 store safe -> dispatch a#3 to F for 1000, write attempted a#3
        ",
    );
}

#[test]
fn the_address_of_who_joins_what_is_accepted_is_safe_before_it_is_told() {
    check(
        "
        0 r register f -> open F, r: registered
        0 a enqueue f key=k -> a: accepted a, dispatch a#1 to F for 1000 key=k
        1 store waits
        1 b enqueue f key=k url=u -> write accepted a of f
        2 store fails -> b: refused StoreUnavailable
        3 c enqueue f key=k url=v -> write accepted a of f
        4 answer a#1 ok -> note 0+4 of 4 ms, write ended a success
        5 store safe -> c: accepted a, deliver a success to v
        ",
    );
    check(
        "
        0 r register f -> open F, r: registered
        0 a enqueue f key=k -> a: accepted a, dispatch a#1 to F for 1000 key=k
        1 b enqueue f key=k url=u -> b: accepted a
        2 crash -> open F, dispatch a#2 to F for 1000
        3 answer a#2 ok -> note 0+1 of 3 ms, deliver a success to u
        ",
    );
}

#[test]
fn a_dead_letter_is_not_forgotten_like_a_result_of_its_age() {
    check(
        "
        limits accepted-ttl=10
        0 r register f attempts=1 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        1 answer a#1 fail -> note 0+1 of 1 ms
        2 b enqueue f -> b: accepted b, dispatch b#1 to F for 1000
        3 answer b#1 ok -> note 0+1 of 1 ms
        20 crash -> open F
        21 d dead f -> d: letters [a#1 FAILED at 1 of 0]
        21 g get b -> g: refused ExecutionNotFound
        ",
    );
}

#[test]
fn a_key_stays_with_what_runs_although_something_else_of_that_key_ended_later() {
    check(
        "
        limits keys-ttl=10
        0 r register f attempts=1 -> open F, r: registered
        0 a enqueue f key=k -> a: accepted a, dispatch a#1 to F for 1000 key=k
        1 answer a#1 fail -> note 0+1 of 1 ms
        12 b enqueue f key=k -> b: accepted b, dispatch b#1 to F for 1000 key=k
        13 x purge f a -> x: removed
        14 crash -> open F, dispatch b#2 to F for 1000
        15 c enqueue f key=k -> c: accepted b
        ",
    );
}

#[test]
fn bytes_of_dead_letters_count_after_a_crash_too() {
    check(
        "
        limits dead-bytes=20
        0 r register f attempts=1 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        1 answer a#1 fail -> note 0+1 of 1 ms
        2 crash -> open F
        3 b enqueue f -> b: accepted b, dispatch b#1 to F for 1000
        4 answer b#1 fail -> note 0+1 of 1 ms, note dropped a
        ",
    );
}

#[test]
fn replicas_that_ended_before_it_was_accepted_count_after_a_crash_too() {
    check(
        "
        0 r register f backend attempts=9 -> provision f
        0 provisioned f ok A -> open A, r: registered
        0 a invoke f key=k timeout=100000 -> dispatch a#1 to A for 1000 key=k
        1 answer a#1 crash -> note retry a#1 FUNCTION_CRASHED
        2 b enqueue f key=k -> b: accepted a
        3 crash -> provision f
        4 provisioned f ok A -> open A, dispatch a#3 to A for 1000
        5 answer a#3 crash -> note 1+1 of 5 ms
        ",
    );
}

#[test]
fn what_failed_before_a_call_that_was_accepted_at_its_end_is_read_after_a_crash() {
    check(
        "
        0 r register f attempts=2 -> open F, r: registered
        0 a invoke f key=k -> dispatch a#1 to F for 1000 key=k
        1 answer a#1 fail -> note retry a#1 FAILED, dispatch a#2 to F for 999
        2 answer a#2 ok -> note 0+1 of 2 ms, a: success a
        3 b enqueue f key=k -> b: accepted a
        4 crash -> open F
        5 g get a -> g: a success attempt=2 output=null last=FAILED created=0 dispatched=1 finished=2
        ",
    );
}

#[test]
fn an_attempt_that_was_not_run_counts_once_after_a_crash() {
    check(
        "
        0 r register f backend attempts=2 -> provision f
        0 provisioned f ok A -> open A, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to A for 1000
        1 answer a#1 fail -> note retry a#1 FAILED, dispatch a#2 to A for 1000
        2 answer a#2 refused -> note not run a#2
        102 turn -> dispatch a#2 to A for 1000
        103 crash -> provision f
        104 provisioned f ok A -> open A, dispatch a#3 to A for 1000
        105 answer a#3 fail -> note 1+1 of 105 ms
        ",
    );
}

#[test]
fn an_attempt_whose_failure_was_not_written_down_does_not_count_after_a_crash() {
    check(
        "
        0 r register f attempts=2 -> open F, r: registered
        0 store waits
        0 a enqueue f -> write accepted a of f
        1 store safe -> a: accepted a, dispatch a#1 to F for 1000, write attempted a#1
        2 answer a#1 fail after=50 -> note retry a#1 FAILED, write requeued a FAILED
        3 store refuses
        52 turn -> dispatch a#2 to F for 1000, write attempted a#2
        53 store safe
        54 crash -> open F, write started 1
        55 store safe -> dispatch a#3 to F for 1000, write attempted a#3
        56 answer a#3 fail -> note retry a#3 FAILED, write requeued a FAILED
        57 store safe -> dispatch a#4 to F for 1000, write attempted a#4
        ",
    );
}

#[test]
fn records_behind_an_end_change_nothing_and_what_ended_well_has_no_payload() {
    let (id, function) = (ExecutionId::new([1; 16], 0), Name::new("f").expect("valid"));
    let failure = || Failure::new("FAILED", "It failed");
    let end = |result| End { result, dispatched_ms: 0, finished_ms: 1, cold_start: false, init_ms: None };
    let spec = FunctionSpec {
        name: function,
        policy: Policy::default(),
        target: Target::Local,
        scaling: None,
        document: Bytes::new(),
    };
    let accepted = Record::Accepted {
        id,
        function,
        created_ms: 0,
        payload: Payload::json("a body"),
        extra: None,
        callback_url: None,
    };
    for (dead, kept) in [(false, 0), (true, 6)] {
        let result = match dead {
            true => EndResult::Failed(Box::new(failure())),
            false => EndResult::Output(Output::null()),
        };
        let mut recovery = Recovery::default();
        assert_eq!((recovery.functions(), recovery.executions()), (0, 0));
        for record in [
            Record::Registered { spec: Box::new(spec.clone()) },
            accepted.clone(),
            Record::Attempted { id, attempt: 1 },
            Record::Ended { id, end: Box::new(end(result)), dead },
            // Left over of an attempt that was given up.
            Record::Attempted { id, attempt: 9 },
            Record::Requeued { id, failure: failure() },
        ] {
            recovery.apply_without_epoch(record);
        }
        assert_eq!((recovery.functions(), recovery.executions()), (1, 1));
        let stored = recovery.into_stored().find_map(|stored| match stored {
            Stored::Execution(execution) => Some(execution),
            _ => None,
        });
        let stored = stored.expect("it is kept");
        assert_eq!((stored.attempt, stored.is_interrupted, stored.last_failure), (1, false, None));
        assert_eq!((stored.dead, stored.payload.bytes()), (dead, kept));
    }
}
