//! Addresses that do not take calls: pauses that grow, probes, and the last address that is left.

use crate::script::check;

#[test]
fn an_address_that_refused_a_call_is_probed_before_it_gets_another() {
    check(
        "
        0 r register f backend slots=4 attempts=1 -> provision f
        0 provisioned f ok A B -> open A, open B, r: registered
        1 a invoke f timeout=60000 -> dispatch a#1 to B for 1000
        1 b invoke f timeout=60000 -> dispatch b#1 to A for 1000
        2 answer a#1 refused -> note not run a#1, dispatch a#1 to A for 1000
        50 c invoke f timeout=60000 -> dispatch c#1 to A for 1000
        101 turn
        102 turn -> probe B
        103 d invoke f timeout=60000 -> dispatch d#1 to A for 1000
        104 answer a#1 ok -> note 0+102 of 103 ms, a: success a
        104 answer b#1 ok -> note 0+103 of 103 ms, b: success b
        104 answer c#1 ok -> note 0+54 of 54 ms, c: success c
        105 probed B ok
        106 e invoke f timeout=60000 -> dispatch e#1 to B for 1000
        107 f invoke f timeout=60000 -> dispatch f#1 to B for 1000
        ",
    );
}

#[test]
fn each_probe_that_fails_doubles_the_pause_up_to_ten_seconds() {
    check(
        "
        0 r register f backend slots=2 attempts=1 timeout=60000 -> provision f
        0 provisioned f ok A B -> open A, open B, r: registered
        0 a invoke f -> dispatch a#1 to B for 60000
        0 answer a#1 refused -> note not run a#1, dispatch a#1 to A for 60000
        100 turn -> probe B
        1100 probed B no
        1299 turn
        1300 turn -> probe B
        1300 probed B no
        1699 turn
        1700 turn -> probe B
        1700 probed B no
        2500 turn -> probe B
        2500 probed B no
        4100 turn -> probe B
        4100 probed B no
        7300 turn -> probe B
        7300 probed B no
        13700 turn -> probe B
        13700 probed B no
        23699 turn
        23700 turn -> probe B
        23700 probed B no
        33700 turn -> probe B
        33700 probed B ok
        33701 answer a#1 ok -> note 0+33701 of 33701 ms, a: success a
        33702 b invoke f -> dispatch b#1 to A for 60000
        33702 c invoke f -> dispatch c#1 to B for 60000
        33703 answer b#1 refused -> note not run b#1, dispatch b#1 to B for 59999
        33703 answer c#1 ok -> note 0+1 of 1 ms, c: success c
        33802 turn
        33803 turn -> probe A
        ",
    );
}

#[test]
fn the_last_address_is_tried_by_calls_after_the_shortest_pause() {
    check(
        "
        0 r register f backend slots=2 attempts=1 timeout=60000 -> provision f
        0 provisioned f ok A -> open A, r: registered
        0 a invoke f -> dispatch a#1 to A for 60000
        0 answer a#1 refused -> note not run a#1
        99 turn
        100 turn -> dispatch a#1 to A for 59900
        200 answer a#1 refused -> note not run a#1
        300 turn -> dispatch a#1 to A for 59700
        400 answer a#1 refused -> note not run a#1
        500 turn -> dispatch a#1 to A for 59500
        ",
    );
}

#[test]
fn without_an_address_all_are_looked_at_soon() {
    check(
        "
        0 r register f backend slots=2 attempts=1 timeout=60000 -> provision f
        0 provisioned f ok A B -> open A, open B, r: registered
        0 a invoke f -> dispatch a#1 to B for 60000
        0 answer a#1 refused -> note not run a#1, dispatch a#1 to A for 60000
        100 turn -> probe B
        200 probed B no
        400 turn -> probe B
        500 probed B no
        600 answer a#1 refused -> note not run a#1
        699 turn
        700 turn -> probe B, dispatch a#1 to A for 59300
        800 probed B ok
        900 b invoke f -> dispatch b#1 to B for 60000
        ",
    );
}

#[test]
fn also_when_the_backend_takes_the_last_one_away() {
    check(
        "
        0 r register f backend slots=2 attempts=1 timeout=60000 -> provision f
        0 provisioned f ok A B -> open A, open B, r: registered
        0 a invoke f -> dispatch a#1 to B for 60000
        0 answer a#1 refused -> note not run a#1, dispatch a#1 to A for 60000
        100 turn -> probe B
        200 probed B no
        400 turn -> probe B
        500 probed B no
        600 endpoints f 2 B -> close A
        601 b invoke f
        699 turn
        700 turn -> dispatch b#1 to B for 59901
        701 answer b#1 refused -> note not run b#1
        801 turn -> dispatch b#1 to B for 59800
        ",
    );
}

#[test]
fn what_comes_of_a_probe_of_an_address_that_was_closed_says_nothing() {
    check(
        "
        0 r register f backend slots=2 attempts=1 timeout=60000 -> provision f
        0 provisioned f ok A B -> open A, open B, r: registered
        0 a invoke f -> dispatch a#1 to B for 60000
        0 answer a#1 refused -> note not run a#1, dispatch a#1 to A for 60000
        100 turn -> probe B
        101 endpoints f 1 A -> close B
        102 endpoints f 2 A B.2 -> open B
        103 probed B no
        104 b invoke f -> dispatch b#1 to B for 60000
        105 answer b#1 refused -> note not run b#1, dispatch b#1 to A for 59999
        106 probed B ok
        107 b2 invoke f
        ",
    );
}

#[test]
fn an_address_that_is_being_probed_is_no_last_one() {
    check(
        "
        0 r register f backend slots=2 attempts=1 timeout=60000 -> provision f
        0 provisioned f ok A B -> open A, open B, r: registered
        0 a invoke f -> dispatch a#1 to B for 60000
        0 answer a#1 refused -> note not run a#1, dispatch a#1 to A for 60000
        100 turn -> probe B
        101 answer a#1 refused -> note not run a#1
        200 probed B no
        201 turn -> dispatch a#1 to A for 59799
        300 turn -> probe B
        ",
    );
}
