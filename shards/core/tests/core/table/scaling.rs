//! Replicas follow the load.

use crate::script::check;

#[test]
fn a_call_wakes_a_function_and_idleness_puts_it_to_sleep() {
    check(
        "
        0 autoscaler poll=1000 down=5000
        0 r register f backend min=0 slots=2 -> provision f
        1 provisioned f ok -> r: registered
        2 s scaling f -> s: scaling none slots=2
        3 a invoke f timeout=60000 -> scale f 1
        4 b invoke f timeout=60000
        5 scaled f 1
        6 endpoints f 1 p -> open p, dispatch a#1 to p for 1000, dispatch b#1 to p for 1000
        7 s scaling f -> s: scaling from_zero 0/1 slots=2
        8 answer a#1 ok -> note 3+2 of 5 ms, a: success a
        9 answer b#1 ok -> note 2+3 of 5 ms, b: success b
        1001 turn
        1002 s scaling f -> s: scaling down_cooldown 1/1 slots=2
        5100 turn -> scale f 0
        5101 scaled f 0
        5102 endpoints f 0 -> close p
        6200 turn
        6201 s scaling f -> s: scaling hold 0/0 slots=2
        6202 c invoke f timeout=60000 -> scale f 1
        ",
    );
}

#[test]
fn replicas_follow_what_waits_and_not_too_often() {
    check(
        "
        0 autoscaler poll=1000 up=3000 down=60000
        0 r register f backend min=1 max=3 target=1 slots=1 queue=9 timeout=60000 -> provision f
        1 provisioned f ok p -> open p, r: registered
        2 a invoke f -> dispatch a#1 to p for 60000
        3 b invoke f
        4 c invoke f
        1001 turn -> scale f 2
        1002 scaled f 2
        1003 d invoke f
        2001 turn
        2002 s scaling f -> s: scaling up_cooldown 2/2 slots=1
        4001 turn -> scale f 3
        ",
    );
}

#[test]
fn what_a_backend_is_working_on_is_left_alone() {
    check(
        "
        0 autoscaler poll=1000
        0 r register f backend min=1 target=1 slots=1 queue=9 timeout=60000 -> provision f
        1 provisioned f ok p -> open p, r: registered
        2 a invoke f -> dispatch a#1 to p for 60000
        3 b invoke f
        4 c invoke f
        5 x scale f 1 -> scale f 1
        1001 turn
        1002 scaled f 1 -> x: scaled 1
        2001 turn -> scale f 2
        2002 scaled f away
        2003 s scaling f -> s: scaling scale_up 1/2 slots=1 failed=away
        ",
    );
}

#[test]
fn a_backend_that_refused_is_asked_again_without_a_cooldown() {
    check(
        "
        0 autoscaler poll=1000 up=30000 down=60000
        0 r register f backend min=1 max=3 target=1 slots=1 timeout=60000 -> provision f
        1 provisioned f ok p -> open p, r: registered
        2 a invoke f -> dispatch a#1 to p for 60000
        2 b invoke f
        2 c invoke f
        1001 turn -> scale f 2
        1002 scaled f away
        1003 s scaling f -> s: scaling scale_up 1/2 slots=1 failed=away
        2001 turn -> scale f 2
        2002 scaled f 2
        2003 s scaling f -> s: scaling scale_up 1/2 slots=1
        2004 t scale f 5 -> scale f 5
        2005 scaled f full -> t: refused Backend full
        2006 s scaling f -> s: scaling scale_up 1/2 slots=1
        2007 d invoke f
        3001 turn
        3002 s scaling f -> s: scaling up_cooldown 2/2 slots=1
        ",
    );
}

#[test]
fn the_rest_of_a_burst_that_woke_a_function_waits_for_no_cooldown() {
    check(
        "
        0 autoscaler poll=1000 up=30000 down=60000
        0 r register f backend min=0 max=3 target=1 slots=1 timeout=60000 -> provision f
        1 provisioned f ok -> r: registered
        2 a invoke f -> scale f 1
        2 b invoke f
        2 c invoke f
        3 scaled f 1
        4 endpoints f 1 p -> open p, dispatch a#1 to p for 59998
        1001 turn -> scale f 2
        1002 scaled f 2
        1003 d invoke f
        2001 turn
        2002 s scaling f -> s: scaling up_cooldown 2/2 slots=1
        ",
    );
}

#[test]
fn slots_follow_the_replicas_that_are_there() {
    check(
        "
        0 autoscaler poll=1000
        0 r register f backend min=1 per-pod=1 slots=3 queue=9 timeout=60000 -> provision f
        1 provisioned f ok p -> open p, r: registered
        2 a invoke f -> dispatch a#1 to p for 60000
        3 b invoke f
        4 c invoke f
        5 endpoints f 2 p q -> open q, dispatch b#1 to q for 59998
        6 s scaling f -> s: scaling none slots=2
        7 endpoints f 1 q -> close p
        8 answer a#1 ok -> note 0+6 of 6 ms, a: success a
        9 answer b#1 ok -> note 2+4 of 6 ms, b: success b, dispatch c#1 to q for 59995
        ",
    );
}

#[test]
fn without_the_autoscaler_nothing_moves() {
    check(
        "
        0 r register f backend min=0 per-pod=1 slots=2 -> provision f
        1 provisioned f ok -> r: registered
        2 a invoke f timeout=50
        3 s scaling f -> s: scaling none slots=2
        52 turn -> a: timeout a queue 50
        60 r register g -> open G, r: registered
        60 s scaling g -> s: refused NotScalable
        60 s scaling h -> s: refused FunctionNotFound
        ",
    );
}
