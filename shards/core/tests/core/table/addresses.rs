//! Addresses for results that callers bring to executions which others started, while records are being written.

use crate::script::check;

#[test]
fn who_brings_an_address_is_refused_with_the_acceptance_that_it_joined() {
    check(
        "
        0 r register f -> open F, r: registered
        0 store waits
        0 a enqueue f key=k -> write accepted a of f
        1 b enqueue f key=k url=u -> write accepted a of f
        2 c enqueue f key=k
        3 store fails but 1 -> a: refused StoreUnavailable, c: refused StoreUnavailable, b: refused StoreUnavailable, write forgotten a
        4 store safe
        5 g get a -> g: refused ExecutionNotFound
        ",
    );
}

#[test]
fn the_address_of_who_is_refused_is_nobodys() {
    check(
        "
        0 r register f -> open F, r: registered
        0 a invoke f key=k -> dispatch a#1 to F for 1000 key=k
        0 store waits
        1 b enqueue f key=k url=u -> write attempted a#1, write accepted a of f
        2 store fails keeping -> b: refused StoreUnavailable
        3 c enqueue f key=k url=v -> write attempted a#1, write accepted a of f
        4 store safe -> c: accepted a
        5 g get a -> g: a running attempt=1 created=0 dispatched=0 delivery=pending
        6 crash -> open F, write started 1
        7 store safe -> dispatch a#2 to F for 1000, write attempted a#2
        8 answer a#2 ok -> note 1+1 of 8 ms, write ended a success
        9 store safe -> deliver a success to v
        ",
    );
    check(
        "
        0 r register f -> open F, r: registered
        0 a invoke f key=k -> dispatch a#1 to F for 1000 key=k
        0 store waits
        1 b enqueue f key=k url=u -> write attempted a#1, write accepted a of f
        2 store refuses -> b: refused StoreUnavailable
        3 answer a#1 ok -> note 0+3 of 3 ms, write ended a success, a: success a
        ",
    );
}

#[test]
fn a_record_that_brings_an_address_is_an_acceptance_when_the_one_before_fails() {
    check(
        "
        0 r register f attempts=1 -> open F, r: registered
        0 a invoke f key=k -> dispatch a#1 to F for 1000 key=k
        0 store waits
        1 b enqueue f key=k -> write attempted a#1, write accepted a of f
        2 c enqueue f key=k url=u -> write accepted a of f
        3 store fails but 1 -> b: refused StoreUnavailable
        4 answer a#1 ok -> note 0+4 of 4 ms, write ended a success
        5 store safe but 1 -> c: accepted a
        6 g get a -> g: a running attempt=1 created=0 dispatched=0 delivery=pending
        7 store safe -> a: success a, deliver a success to u
        ",
    );
}

#[test]
fn an_acceptance_that_several_wait_for_fails_for_all_but_who_brought_an_address_later() {
    check(
        "
        0 r register f -> open F, r: registered
        0 store waits
        0 a invoke f key=k -> dispatch a#1 to F for 1000 key=k
        1 b enqueue f key=k -> write attempted a#1, write accepted a of f
        2 c enqueue f key=k
        3 d enqueue f key=k url=u -> write accepted a of f
        4 store fails but 1 -> b: refused StoreUnavailable, c: refused StoreUnavailable
        5 store safe -> d: accepted a
        6 e enqueue f key=k -> e: accepted a
        ",
    );
}
