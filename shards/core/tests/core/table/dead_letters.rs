//! Accepted executions that ended badly are kept, listed, tried again or given up.

use crate::script::check;

#[test]
fn a_dead_letter_is_tried_again_under_its_own_id() {
    check(
        "
        0 r register f attempts=2 -> open F, r: registered
        0 a enqueue f body=12 -> a: accepted a, dispatch a#1 to F for 1000 body=12
        1 answer a#1 fail -> note retry a#1 FAILED, dispatch a#2 to F for 1000 body=12
        2 answer a#2 fail -> note 0+1 of 2 ms
        3 d dead f -> d: letters [a#2 FAILED at 2 of 2]
        4 d dead g -> d: refused FunctionNotFound
        5 x replay f a -> x: accepted a, dispatch a#3 to F for 1000 body=12
        6 x replay f a -> x: refused DeadLetterNotFound
        7 g get a -> g: a running attempt=3 last=FAILED created=0 dispatched=5
        8 k callback a ok attempt=2 -> note late a, k: ignored
        9 answer a#3 fail -> note retry a#3 FAILED, dispatch a#4 to F for 1000 body=12
        10 answer a#4 ok -> note 0+1 of 5 ms
        11 g get a -> g: a success attempt=4 output=null last=FAILED created=0 dispatched=9 finished=10
        11 d dead f -> d: letters []
        show f -> invocations=1 enqueued=1 dispatches=4 successes=1 errors=1 retries=2 warm=2 late=1 dead=1
        show totals -> functions=1 executions=1 finished=1 retained=19 timers=1
        ",
    );
}

#[test]
fn letters_outlive_another_registration() {
    check(
        "
        0 r register f attempts=1 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        1 answer a#1 fail -> note 0+1 of 1 ms
        2 x remove f -> x: removed, close F, note gone
        2 d dead f -> d: refused FunctionNotFound
        2 x replay f a -> x: refused FunctionNotFound
        3 r register f attempts=1 -> open F, r: registered
        3 d dead f -> d: letters [a#1 FAILED at 1 of 0]
        3 x replay f a -> x: accepted a, dispatch a#2 to F for 1000
        4 answer a#2 ok -> note 0+1 of 1 ms
        show f -> dispatches=1 successes=1 warm=1
        show totals -> functions=1 executions=1 finished=1 retained=19 timers=1
        ",
    );
}

#[test]
fn a_letter_waits_with_the_registration_that_it_is_tried_again_under() {
    check(
        "
        0 r register f slots=1 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        0 b enqueue f max-age=2 -> b: accepted b
        2 turn
        2 x remove f -> x: removed, close F, note gone
        3 r register f slots=1 -> open F, r: registered
        3 c enqueue f -> c: accepted c, dispatch c#1 to F for 1000
        3 x replay f b -> x: accepted b
        4 answer a#1 ok
        4 answer c#1 ok -> note 0+1 of 1 ms, dispatch b#1 to F for 1000
        ",
    );
}

#[test]
fn what_was_cancelled_is_no_dead_letter_and_what_was_removed_is_one() {
    check(
        "
        0 r register f slots=1 attempts=1 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        0 b enqueue f -> b: accepted b
        0 c enqueue f -> c: accepted c
        1 x cancel b -> x: b error attempt=0 error=CANCELLED created=0 finished=1
        2 x remove f -> x: removed, close F, note gone
        3 answer a#1 fail
        4 r register f -> open F, r: registered
        4 d dead f -> d: letters [a#1 FAILED at 3 of 0; c#0 FUNCTION_REMOVED at 2 of 0]
        ",
    );
}

#[test]
fn the_oldest_are_dropped_when_there_are_too_many_or_they_are_too_large() {
    check(
        "
        limits dead=2 dead-bytes=25
        0 r register f slots=9 attempts=1 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        0 b enqueue f -> b: accepted b, dispatch b#1 to F for 1000
        0 c enqueue f -> c: accepted c, dispatch c#1 to F for 1000
        0 d enqueue f body=0123456789 -> d: accepted d, dispatch d#1 to F for 1000 body=0123456789
        1 answer a#1 fail -> note 0+1 of 1 ms
        2 answer b#1 fail -> note 0+2 of 2 ms, note dropped a
        3 answer c#1 fail -> note 0+3 of 3 ms, note dropped b
        3 l dead f -> l: letters [c#1 FAILED at 3 of 0]
        4 answer d#1 fail -> note 0+4 of 4 ms, note dropped c
        4 l dead f -> l: letters [d#1 FAILED at 4 of 10]
        5 l dead f limit=1 -> l: letters [d#1 FAILED at 4 of 10]
        5 g get a -> g: a error attempt=1 error=FAILED created=0 dispatched=0 finished=1
        ",
    );
}

#[test]
fn a_letter_that_is_given_up_is_kept_like_other_records() {
    check(
        "
        limits accepted-ttl=1000 sweep=100
        0 r register f attempts=1 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        1 answer a#1 fail -> note 0+1 of 1 ms
        5000 turn
        5000 x purge f a -> x: removed
        5000 x purge f a -> x: refused DeadLetterNotFound
        5900 turn
        5900 g get a -> g: a error attempt=1 error=FAILED created=0 dispatched=0 finished=1
        6100 turn
        6100 g get a -> g: refused ExecutionNotFound
        ",
    );
}

#[test]
fn a_replay_needs_a_place() {
    check(
        "
        0 r register f slots=1 queue=1 attempts=1 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        1 answer a#1 fail -> note 0+1 of 1 ms
        2 b invoke f -> dispatch b#1 to F for 1000
        2 c invoke f
        3 x replay f a -> x: refused QueueFull depth=1 wait=2 retry=1
        3 l dead f -> l: letters [a#1 FAILED at 1 of 0]
        4 answer b#1 ok -> note 0+2 of 2 ms, b: success b, dispatch c#1 to F for 998
        4 x replay f a -> x: accepted a
        5 drain
        5 x replay f a -> x: refused ShuttingDown
        ",
    );
}

#[test]
fn what_waits_too_long_expires_and_is_a_dead_letter() {
    check(
        "
        0 r register f slots=1 attempts=3 backoff=0 -> open F, r: registered
        0 a enqueue f max-age=50 -> a: accepted a, dispatch a#1 to F for 1000
        0 b enqueue f max-age=20 -> b: accepted b
        20 turn
        50 turn
        60 answer a#1 fail -> note 0+60 of 60 ms
        61 g get a -> g: a error attempt=1 error=EXPIRED last=FAILED created=0 dispatched=0 finished=60
        62 d dead f -> d: letters [a#1 EXPIRED at 60 of 0; b#0 EXPIRED at 20 of 0]
        63 x replay f b -> x: accepted b, dispatch b#1 to F for 1000
        64 answer b#1 ok -> note 0+1 of 1 ms
        show f -> invocations=2 enqueued=2 dispatches=2 successes=1 errors=2 warm=2 dead=2 expired=2
        ",
    );
}

#[test]
fn a_removal_drops_nothing_that_was_accepted() {
    check(
        "
        limits dead=1
        0 r register f slots=1 attempts=1 -> open F, r: registered
        0 z enqueue f -> z: accepted z, dispatch z#1 to F for 1000
        0 a enqueue f body=1 -> a: accepted a
        0 b enqueue f body=2 -> b: accepted b
        0 s invoke f
        0 c enqueue f body=3 -> c: accepted c
        1 x remove f -> s: error s FUNCTION_REMOVED, x: removed, close F, note gone
        2 answer z#1 fail
        3 r register f -> open F, r: registered
        3 d dead f -> d: letters [z#1 FAILED at 2 of 0; c#0 FUNCTION_REMOVED at 1 of 1; b#0 FUNCTION_REMOVED at 1 of 1; a#0 FUNCTION_REMOVED at 1 of 1]
        4 crash -> open F
        4 d dead f limit=3 -> d: letters [z#1 FAILED at 2 of 0; c#0 FUNCTION_REMOVED at 1 of 1; b#0 FUNCTION_REMOVED at 1 of 1]
        5 y replay f a -> y: accepted a, dispatch a#1 to F for 1000 body=1
        5 y replay f b -> y: accepted b
        6 answer a#1 ok -> note 0+1 of 1 ms, dispatch b#1 to F for 1000 body=2
        ",
    );
}

#[test]
fn what_waited_for_a_removal_that_a_crash_cut_short_is_there() {
    check(
        "
        0 r register f slots=1 -> open F, r: registered
        0 z enqueue f -> z: accepted z, dispatch z#1 to F for 1000
        0 a enqueue f body=1 -> a: accepted a
        0 store waits
        1 x remove f -> write removed f
        2 store safe -> write ended a error dead, x: removed, close F, note gone
        3 crash -> write started 1, write ended z error dead, write ended a error dead
        4 store safe
        5 r register f -> write registered f
        6 store safe -> open F, r: registered
        6 d dead f -> d: letters [a#1 FUNCTION_REMOVED at 3 of 1; z#1 FUNCTION_REMOVED at 3 of 0]
        ",
    );
}

#[test]
fn a_long_queue_ends_in_batches_and_others_go_on_in_between() {
    check(
        "
        limits batch=2
        0 r register f slots=1 -> open F, r: registered
        0 r register g -> open G, r: registered
        0 z enqueue f -> z: accepted z, dispatch z#1 to F for 1000
        0 a enqueue f -> a: accepted a
        0 b enqueue f -> b: accepted b
        0 c enqueue f -> c: accepted c
        0 s invoke f
        0 t invoke f
        1 x remove f
        1 g function f -> g: refused FunctionNotFound
        1 g get c -> g: c queued attempt=0 created=0
        show ready -> true
        2 h invoke g -> dispatch h#1 to G for 1000
        3 turn -> s: error s FUNCTION_REMOVED
        4 answer h#1 ok -> note 0+2 of 2 ms, h: success h
        5 turn -> t: error t FUNCTION_REMOVED, x: removed, close F, note gone
        show ready -> false
        ",
    );
}

#[test]
fn readers_and_callers_are_sent_away_in_batches() {
    check(
        "
        limits batch=1
        0 r register f slots=1 -> open F, r: registered
        0 z enqueue f -> z: accepted z, dispatch z#1 to F for 1000
        0 a enqueue f -> a: accepted a
        0 s invoke f
        0 t invoke f
        1 x get z wait=100
        1 y get a wait=100
        2 end-watches -> x: z running attempt=1 created=0 dispatched=0
        3 drain finally
        4 turn -> y: a queued attempt=0 created=0
        5 turn -> s: refused ShuttingDown
        6 turn
        7 turn -> t: refused ShuttingDown
        8 turn
        show ready -> false
        ",
    );
}

#[test]
fn a_replay_has_its_key_again() {
    check(
        "
        limits keys-ttl=5 sweep=1
        0 r register f slots=2 attempts=1 -> open F, r: registered
        0 a enqueue f key=k -> a: accepted a, dispatch a#1 to F for 1000 key=k
        1 answer a#1 fail -> note 0+1 of 1 ms
        10 b enqueue f key=k -> b: accepted b, dispatch b#1 to F for 1000 key=k
        11 x replay f a -> x: refused KeyInUse
        12 answer b#1 ok -> note 0+2 of 2 ms
        13 x replay f a -> x: accepted a, dispatch a#2 to F for 1000
        14 c enqueue f key=k -> c: accepted a
        14 s invoke f key=k
        20 crash -> open F, dispatch a#3 to F for 1000
        21 c enqueue f key=k -> c: accepted a
        22 answer a#3 ok -> note 0+2 of 22 ms
        ",
    );
}

#[test]
fn a_retry_takes_no_place_that_the_queue_does_not_have() {
    check(
        "
        0 r register f slots=2 queue=1 attempts=3 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        0 b enqueue f -> b: accepted b, dispatch b#1 to F for 1000
        1 answer a#1 fail after=50 -> note retry a#1 FAILED
        2 answer b#1 fail -> note 0+2 of 2 ms
        3 g get b -> g: b error attempt=1 error=FAILED created=0 dispatched=0 finished=2
        51 turn -> dispatch a#2 to F for 1000
        ",
    );
}

#[test]
fn a_second_removal_leaves_as_many_as_waited_for_it() {
    check(
        "
        limits dead=1
        0 r register f slots=1 -> open F, r: registered
        0 z enqueue f -> z: accepted z, dispatch z#1 to F for 1000
        1 a enqueue f -> a: accepted a
        2 b enqueue f -> b: accepted b
        3 x remove f -> x: removed, close F, note gone
        4 answer z#1 ok
        5 r register f slots=1 -> open F, r: registered
        5 y enqueue f -> y: accepted y, dispatch y#1 to F for 1000
        6 c enqueue f -> c: accepted c
        7 d enqueue f -> d: accepted d
        8 x remove f -> note dropped a, note dropped b, x: removed, close F, note gone
        9 answer y#1 ok
        10 r register f -> open F, r: registered
        11 l dead f -> l: letters [d#0 FUNCTION_REMOVED at 8 of 0; c#0 FUNCTION_REMOVED at 8 of 0]
        ",
    );
}

#[test]
fn a_replay_needs_room_for_its_payload_beside_what_waits() {
    check(
        "
        0 bytes 9
        0 r register f attempts=1 slots=1 -> open F, r: registered
        0 a enqueue f body=333 -> a: accepted a, dispatch a#1 to F for 1000 body=333
        1 answer a#1 fail -> note 0+1 of 1 ms
        2 z enqueue f -> z: accepted z, dispatch z#1 to F for 1000
        3 b enqueue f body=666666 -> b: accepted b
        4 x replay f a -> x: accepted a
        ",
    );
    check(
        "
        0 bytes 5
        0 r register f attempts=1 slots=1 -> open F, r: registered
        0 a enqueue f body=55555 -> a: accepted a, dispatch a#1 to F for 1000 body=55555
        1 answer a#1 fail -> note 0+1 of 1 ms
        2 z enqueue f -> z: accepted z, dispatch z#1 to F for 1000
        3 b enqueue f body=1 -> b: accepted b
        4 x replay f a -> x: refused Overloaded limits.queued-bytes retry=1
        ",
    );
}

#[test]
fn a_replay_of_what_was_never_tried_goes_out_with_its_key() {
    check(
        "
        0 r register f slots=1 -> open F, r: registered
        0 z enqueue f -> z: accepted z, dispatch z#1 to F for 1000
        1 a enqueue f key=k max-age=5 -> a: accepted a
        6 turn
        7 x replay f a -> x: accepted a
        8 answer z#1 ok -> note 0+8 of 8 ms, dispatch a#1 to F for 1000 key=k
        ",
    );
}

#[test]
fn the_letters_of_a_function_are_counted_whatever_they_are_of() {
    check(
        "
        0 r register f slots=1 attempts=1 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        1 answer a#1 fail -> note 0+1 of 1 ms
        show letters f -> 1
        2 z enqueue f -> z: accepted z, dispatch z#1 to F for 1000
        2 b enqueue f -> b: accepted b
        2 c enqueue f -> c: accepted c
        3 x remove f -> x: removed, close F, note gone
        4 r register f -> open F, r: registered
        show letters f -> 3
        ",
    );
}

#[test]
fn a_record_of_an_earlier_life_shows_no_end_of_the_next() {
    check(
        "
        0 r register f attempts=1 slots=1 -> open F, r: registered
        0 store waits
        0 a enqueue f max-age=5 -> write accepted a of f
        5 turn -> write ended a error dead
        6 store fails -> a: refused StoreUnavailable
        7 x replay f a -> write kept a of f error dead, write replayed a
        8 store safe -> x: accepted a, dispatch a#1 to F for 1000, write attempted a#1
        ",
    );
}

#[test]
fn a_record_of_an_earlier_life_lets_nothing_run_in_the_next() {
    check(
        "
        limits concealed=0
        0 r register f attempts=2 -> open F, r: registered
        0 store waits
        0 a enqueue f max-age=5 -> write accepted a of f
        1 store safe -> a: accepted a, dispatch a#1 to F for 1000, write attempted a#1
        2 answer a#1 fail -> note retry a#1 FAILED, write requeued a FAILED
        5 turn -> write ended a error dead
        6 store fails
        7 x replay f a -> write replayed a
        8 store safe but 1
        9 store safe -> x: accepted a, dispatch a#2 to F for 1000, write attempted a#2
        ",
    );
}

#[test]
fn a_letter_that_gets_its_first_record_while_it_is_given_up_stays_given_up() {
    let given_up = "
        0 r register f attempts=1 slots=1 -> open F, r: registered
        0 store waits
        0 a enqueue f key=k max-age=5 -> write accepted a of f
        5 turn -> write ended a error dead
        6 store fails -> a: refused StoreUnavailable
        7 x purge f a -> write purged a
        8 b enqueue f key=k -> write kept a of f error
        ";
    check(&format!(
        "{given_up}
        9 store safe -> x: removed, b: accepted a
        10 crash -> open F
        show letters f -> 0
        "
    ));
    check(&format!(
        "{given_up}
        9 store fails -> write ended a error dead, x: refused StoreUnavailable, b: refused StoreUnavailable
        10 store safe
        11 crash -> open F
        show letters f -> 1
        12 y replay f a -> write started 1, write replayed a
        13 store safe -> y: accepted a, dispatch a#1 to F for 1000 key=k, write attempted a#1
        "
    ));
}
