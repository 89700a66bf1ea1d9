//! Results go to the addresses that callers gave.

use crate::script::check;

#[test]
fn a_result_is_delivered_once_it_is_there() {
    check(
        "
        0 r register f -> open F, r: registered
        0 a enqueue f url=http://example.org/done -> a: accepted a, dispatch a#1 to F for 1000
        5 answer a#1 ok -> note 0+5 of 5 ms, deliver a success to http://example.org/done
        ",
    );
}

#[test]
fn where_a_delivery_stands_is_kept_and_a_replay_is_delivered_again() {
    check(
        "
        0 r register f attempts=1 -> open F, r: registered
        0 a enqueue f url=u -> a: accepted a, dispatch a#1 to F for 1000
        1 answer a#1 fail -> note 0+1 of 1 ms, deliver a error to u
        2 delivered a
        2 g get a -> g: a error attempt=1 error=FAILED created=0 dispatched=0 finished=1 delivery=delivered
        3 x replay f a -> x: accepted a, dispatch a#2 to F for 1000
        3 g get a -> g: a running attempt=2 last=FAILED created=0 dispatched=3 delivery=pending
        4 delivered a
        4 answer a#2 ok -> note 0+1 of 1 ms, deliver a success to u
        5 g get a -> g: a success attempt=2 output=null last=FAILED created=0 dispatched=3 finished=4 delivery=pending
        ",
    );
}

#[test]
fn a_delivery_of_the_result_before_says_nothing_of_the_newest() {
    // Were it written down, nobody would deliver the new result after the crash.
    check(
        "
        0 r register f attempts=1 -> open F, r: registered
        0 a enqueue f url=u -> a: accepted a, dispatch a#1 to F for 1000
        1 answer a#1 fail -> note 0+1 of 1 ms, deliver a error to u
        2 x replay f a -> x: accepted a, dispatch a#2 to F for 1000
        3 answer a#2 ok -> note 0+1 of 1 ms, deliver a success to u
        4 delivered a before
        5 g get a -> g: a success attempt=2 output=null last=FAILED created=0 dispatched=2 finished=3 delivery=pending
        6 crash -> open F, deliver a success to u
        ",
    );
}

#[test]
fn a_delivery_of_the_result_before_says_nothing_of_one_that_is_not_shown_yet() {
    check(
        "
        0 r register f attempts=1 -> open F, r: registered
        0 a enqueue f url=u -> a: accepted a, dispatch a#1 to F for 1000
        1 answer a#1 fail -> note 0+1 of 1 ms, deliver a error to u
        2 x replay f a -> x: accepted a, dispatch a#2 to F for 1000
        3 store waits
        4 answer a#2 ok -> note 0+2 of 2 ms, write ended a success
        4 delivered a
        5 store safe -> deliver a success to u
        6 crash -> open F, deliver a success to u
        ",
    );
}

#[test]
fn no_result_goes_to_an_address_before_it_is_on_record() {
    // The replay is buried again while the address that somebody brought to it is being written.
    check(
        "
        0 r register f attempts=1 -> open F, r: registered
        0 a enqueue f key=k -> a: accepted a, dispatch a#1 to F for 1000 key=k
        1 answer a#1 fail -> note 0+1 of 1 ms
        2 scheduler off
        2 store waits
        2 x replay f a -> write replayed a
        3 b enqueue f key=k url=u -> write accepted a of f
        4 store fails but 1 -> x: refused StoreUnavailable, write ended a error dead
        5 store fails -> b: refused StoreUnavailable
        6 y replay f a -> write kept a of f error dead, write replayed a
        7 store fails -> y: refused StoreUnavailable, write ended a error dead
        ",
    );
    check(
        "
        0 r register f attempts=1 -> open F, r: registered
        0 a enqueue f key=k -> a: accepted a, dispatch a#1 to F for 1000 key=k
        1 answer a#1 fail -> note 0+1 of 1 ms
        2 scheduler off
        2 store waits
        2 x replay f a -> write replayed a
        3 b enqueue f key=k url=u -> write accepted a of f
        4 store fails but 1 -> x: refused StoreUnavailable, write ended a error dead
        5 store safe -> b: refused StoreUnavailable
        6 crash -> open F, deliver a error to u
        ",
    );
}

#[test]
fn what_is_tried_again_reads_as_not_delivered_also_after_a_crash() {
    check(
        "
        0 r register f attempts=1 -> open F, r: registered
        0 a enqueue f url=u -> a: accepted a, dispatch a#1 to F for 1000
        1 answer a#1 fail -> note 0+1 of 1 ms, deliver a error to u
        2 delivered a
        3 scheduler off
        3 x replay f a -> x: accepted a
        4 g get a -> g: a queued attempt=1 last=FAILED created=0 delivery=pending
        5 crash -> open F
        6 g get a -> g: a queued attempt=2 last=FAILED created=0 delivery=pending
        ",
    );
}

#[test]
fn nobody_who_is_refused_together_with_a_replay_is_delivered_to() {
    check(
        "
        0 r register f attempts=1 -> open F, r: registered
        0 a enqueue f key=k -> a: accepted a, dispatch a#1 to F for 1000 key=k
        1 answer a#1 fail -> note 0+1 of 1 ms
        2 store waits
        2 x replay f a -> write replayed a
        3 b enqueue f key=k url=u -> write accepted a of f
        4 store fails -> x: refused StoreUnavailable, write ended a error dead, b: refused StoreUnavailable
        5 store safe
        ",
    );
}
