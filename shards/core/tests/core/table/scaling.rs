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
fn a_retry_wakes_a_function_whose_replicas_were_taken_away() {
    check(
        "
        0 autoscaler poll=5000
        0 r register f backend min=0 slots=2 backoff=1000 timeout=60000 -> provision f
        1 provisioned f ok p -> open p, r: registered
        2 a invoke f -> dispatch a#1 to p for 60000
        3 t scale f 0 -> scale f 0
        4 scaled f 0 -> t: scaled 0
        5 endpoints f 0 -> close p
        6 answer a#1 fail -> note retry a#1 FAILED, scale f 1
        7 scaled f 1
        8 endpoints f 1 q -> open q
        ",
    );
}

#[test]
fn what_waits_when_a_person_takes_the_last_replica_away_brings_one_back() {
    check(
        "
        0 autoscaler poll=5000
        0 r register f backend min=0 slots=1 timeout=60000 -> provision f
        1 provisioned f ok p -> open p, r: registered
        2 a invoke f -> dispatch a#1 to p for 60000
        2 b invoke f
        3 t scale f 0 -> scale f 0
        4 scaled f 0 -> t: scaled 0, scale f 1
        ",
    );
}

#[test]
fn it_does_not_sleep_while_anything_waits_or_runs() {
    check(
        "
        0 autoscaler poll=1000 down=0
        0 r register f backend min=0 target=100 slots=1 attempts=2 timeout=60000 -> provision f
        1 provisioned f ok p -> open p, r: registered
        2 a invoke f -> dispatch a#1 to p for 60000
        1001 turn
        1002 s scaling f -> s: scaling hold 1/1 slots=1
        1003 answer a#1 fail after=5000 -> note retry a#1 FAILED
        2001 turn
        2002 s scaling f -> s: scaling hold 1/1 slots=1
        2003 leave a
        3001 turn -> scale f 0
        ",
    );
}

#[test]
fn accepted_work_wakes_a_function_once_it_is_safe() {
    check(
        "
        0 autoscaler poll=5000
        0 r register f backend min=0 -> provision f
        1 provisioned f ok -> r: registered
        2 store waits
        2 a enqueue f -> write accepted a of f
        3 store safe -> a: accepted a, scale f 1
        ",
    );
}

#[test]
fn callers_wait_for_the_first_replica_up_to_their_deadline() {
    check(
        "
        0 autoscaler poll=5000
        0 r register f backend min=0 slots=4 -> provision f
        1 provisioned f ok -> r: registered
        2 a invoke f timeout=100 -> scale f 1
        2 b invoke f timeout=200
        3 scaled f 1
        102 turn -> a: timeout a replica 100
        150 endpoints f 1 p -> open p, dispatch b#1 to p for 52
        ",
    );
}

#[test]
fn the_autoscaler_can_be_turned_on_and_off() {
    check(
        "
        0 r register f backend min=0 per-pod=1 slots=3 timeout=60000 -> provision f
        1 provisioned f ok p -> open p, r: registered
        2 a invoke f -> dispatch a#1 to p for 60000
        3 b invoke f -> dispatch b#1 to p for 60000
        4 autoscaler poll=1000
        4 s scaling f -> s: scaling hold 1/1 slots=1
        5 turn
        6 s scaling f -> s: scaling hold 1/1 slots=1
        7 c invoke f
        8 autoscaler off -> dispatch c#1 to p for 59999
        9 s scaling f -> s: scaling hold 1/1 slots=3
        show next -> Some(60002)
        ",
    );
}

#[test]
fn functions_are_decided_about_in_batches() {
    check(
        "
        limits batch=1
        0 autoscaler poll=1000
        0 r register f backend min=2 max=4 -> provision f
        0 provisioned f ok p -> open p, r: registered
        0 r register g backend min=3 max=4 -> provision g
        0 provisioned g ok q -> open q, r: registered
        1000 turn -> scale f 2
        1000 turn
        1001 turn -> scale g 3
        1002 turn
        1500 x remove f
        1500 scaled f 2 -> teardown f
        1501 torn-down f ok -> x: removed, close p, note gone
        1502 scaled g 3
        1502 x remove g -> teardown g
        1503 torn-down g ok -> x: removed, close q, note gone
        3000 turn
        show next -> None
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
        52 turn -> a: timeout a replica 50
        60 r register g -> open G, r: registered
        60 s scaling g -> s: refused NotScalable
        60 s scaling h -> s: refused FunctionNotFound
        ",
    );
}

#[test]
fn slots_of_a_function_that_is_not_managed_any_more_are_those_that_were_asked_for() {
    for target in ["local", "pool P"] {
        let (opens, to) = if target == "local" { ("", "local") } else { ("open P, ", "P") };
        check(&format!(
            "
            0 autoscaler poll=1000 down=5000
            0 r register f backend min=0 slots=4 per-pod=1 -> provision f
            1 provisioned f ok p -> open p, r: registered
            10 crash -> provision f
            11 endpoints f 1 q -> open q
            12 a invoke f -> dispatch a#1 to q for 1000
            13 b invoke f
            14 provisioned f {target} -> close q, {opens}dispatch b#1 to {to} for 999
            15 c invoke f -> dispatch c#1 to {to} for 1000
            "
        ));
    }
}

#[test]
fn replicas_follow_dispatches_per_second_since_the_last_decision() {
    let all = |line: &dyn Fn(u32) -> String| (0..8).map(line).collect::<Vec<_>>().join("\n");
    let calls = all(&|caller| format!("2100 c{caller} invoke f -> dispatch c{caller}#1 to p for 9000"));
    check(&format!(
        "
        0 autoscaler poll=2000 up=0 down=0
        0 r register f backend min=1 max=9 rps=2 slots=20 timeout=9000 -> provision f
        0 provisioned f ok p -> open p, r: registered
        100 a invoke f -> dispatch a#1 to p for 9000
        2000 turn
        {calls}
        4000 turn -> scale f 2
        4001 scaled f 2
        6000 turn -> scale f 1
        6001 scaled f 1
        8000 turn
        8001 s scaling f -> s: scaling hold 1/1 slots=20
        "
    ));
}

#[test]
fn attempts_per_replica_follow_the_load() {
    let all = |line: &dyn Fn(u32) -> String| (0..8).map(line).collect::<Vec<_>>().join("\n");
    let calls = all(&|caller| {
        let dispatched =
            if caller < 4 { format!(" -> dispatch c{caller}#1 to p for 90000") } else { String::new() };
        format!("3100 c{caller} invoke f{dispatched}")
    });
    check(&format!(
        "
        0 autoscaler poll=1000
        0 r register f backend min=1 max=1 target=2 adaptive=3 slots=9 timeout=90000 -> provision f
        0 provisioned f ok p -> open p, r: registered
        1000 turn
        1001 s scaling f -> s: scaling hold 1/1 slots=3
        1100 a invoke f -> dispatch a#1 to p for 90000
        2000 turn
        2001 s scaling f -> s: scaling hold 1/1 slots=4
        3000 turn
        3001 s scaling f -> s: scaling hold 1/1 slots=5
        {calls}
        4000 turn
        4001 s scaling f -> s: scaling hold 1/1 slots=4
        "
    ));
    check(
        "
        0 autoscaler poll=1000 up=0 down=60000
        0 r register f backend min=1 max=3 target=2 adaptive=3 slots=99 timeout=90000 -> provision f
        0 provisioned f ok p -> open p, r: registered
        1 a invoke f -> dispatch a#1 to p for 90000
        1 b invoke f -> dispatch b#1 to p for 90000
        1 c invoke f -> dispatch c#1 to p for 90000
        1 d invoke f
        1 e invoke f
        1 g invoke f
        1000 turn -> scale f 2
        1001 scaled f 2
        1001 endpoints f 2 p q -> open q, dispatch d#1 to q for 89000, dispatch e#1 to q for 89000, dispatch g#1 to q for 89000
        2000 turn
        2001 s scaling f -> s: scaling down_cooldown 2/2 slots=6
        7000 turn
        7001 s scaling f -> s: scaling down_cooldown 2/2 slots=6
        ",
    );
}

#[test]
fn idle_replicas_go_first_then_the_newest() {
    check(
        "
        0 r register f backend slots=9 -> provision f
        0 provisioned f ok A B C D -> open A, open B, open C, open D, r: registered
        0 a invoke f -> dispatch a#1 to B for 1000
        0 b invoke f -> dispatch b#1 to D for 1000
        0 c invoke f -> dispatch c#1 to C for 1000
        0 d invoke f -> dispatch d#1 to D for 1000
        0 e invoke f -> dispatch e#1 to B for 1000
        1 s scale f 2 -> scale f 2 -A -C
        1 scaled f 2 -> s: scaled 2
        2 s scale f 3 -> scale f 3 -A
        2 scaled f 3 -> s: scaled 3
        3 answer a#1 ok -> note 0+3 of 3 ms, a: success a
        3 s scale f 1 -> scale f 1 -A -C -B
        3 scaled f 1 -> s: scaled 1
        4 s scale f 4 -> scale f 4
        4 scaled f 4 -> s: scaled 4
        5 s scale f 0 -> scale f 0
        5 scaled f 0 -> s: scaled 0
        ",
    );
}

#[test]
fn replicas_that_take_no_calls_go_before_idle_ones() {
    check(
        "
        0 r register f backend slots=9 -> provision f
        0 provisioned f ok A B C -> open A, open B, open C, r: registered
        0 a invoke f -> dispatch a#1 to C for 1000
        0 b invoke f -> dispatch b#1 to B for 1000
        1 answer a#1 refused -> note not run a#1, dispatch a#1 to A for 999
        2 s scale f 2 -> scale f 2 -C
        2 scaled f 2 -> s: scaled 2
        3 endpoints f 2 A C -> close B
        4 s scale f 1 -> scale f 1 -C
        4 scaled f 1 -> s: scaled 1
        ",
    );
}
