//! What an idempotency key is bound to stays bound to it.

use crate::script::check;

#[test]
fn a_key_that_is_written_again_while_its_execution_runs_is_bound_to_the_same_payload() {
    check(
        "
        limits keys-ttl=10 sweep=20
        0 r register f slots=2 -> open F, r: registered
        0 a invoke f key=k digest=1 -> dispatch a#1 to F for 1000 key=k
        20 turn
        30 b invoke f key=k digest=2 -> b: refused KeyReused
        30 c invoke f key=k digest=0 -> c: refused KeyReused
        30 d invoke f key=k digest=1
        31 answer a#1 ok -> note 0+31 of 31 ms, d: success a, a: success a
        ",
    );
}

#[test]
fn a_key_that_is_written_again_because_there_are_too_many_is_bound_to_the_same_payload() {
    check(
        "
        limits keys=1
        0 r register f slots=3 -> open F, r: registered
        0 a invoke f key=k digest=1 -> dispatch a#1 to F for 1000 key=k
        0 b invoke f key=l digest=2 -> dispatch b#1 to F for 1000 key=l
        1 c invoke f key=k digest=2 -> c: refused KeyReused
        1 d invoke f key=l digest=1 -> d: refused KeyReused
        ",
    );
}

#[test]
fn the_first_address_that_is_given_is_the_one() {
    check(
        "
        0 r register f -> open F, r: registered
        0 a invoke f key=k -> dispatch a#1 to F for 1000 key=k
        1 b enqueue f key=k url=u -> b: accepted a
        2 c enqueue f key=k url=v -> c: accepted a
        3 answer a#1 ok -> note 0+3 of 3 ms, a: success a, deliver a success to u
        ",
    );
}
