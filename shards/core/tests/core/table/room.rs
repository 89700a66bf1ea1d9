//! Room for what has ended and for keys is leased: more is asked for before anything is forgotten, and what is not used or
//! is recalled goes back.

use crate::script::check;

#[test]
fn nothing_is_forgotten_while_the_server_has_room() {
    check(
        "
        limits executions=1
        room executions=2
        0 r register f local slots=9 -> r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to local for 1000
        1 answer a#1 ok -> note 0+1 of 1 ms
        1 b enqueue f -> b: accepted b, dispatch b#1 to local for 1000
        2 answer b#1 ok -> note 0+1 of 1 ms, lease executions=1
        2 c enqueue f -> c: accepted c, dispatch c#1 to local for 1000
        3 answer c#1 ok -> note 0+1 of 1 ms, lease executions=1
        show room -> executions=3 retained=268435456 keys=1000000
        3 g get a -> g: a success attempt=1 output=null created=0 dispatched=0 finished=1
        3 d enqueue f -> d: accepted d, dispatch d#1 to local for 1000
        4 answer d#1 ok -> note 0+1 of 1 ms
        4 g get a -> g: refused ExecutionNotFound
        4 g get b -> g: b success attempt=1 output=null created=1 dispatched=1 finished=2
        show room -> executions=3 retained=268435456 keys=1000000
        ",
    );
}

#[test]
fn who_had_to_forget_asks_again_after_a_while_and_with_every_sweep() {
    let mut script = String::from(
        "
        limits executions=1 sweep=100
        0 r register f local slots=99 -> r: registered
        ",
    );
    let call = |number: u32| {
        format!(
            "0 e{number} invoke f -> dispatch e{number}#1 to local for 1000\n
             0 answer e{number}#1 ok -> note 0+0 of 0 ms, e{number}: success e{number}"
        )
    };
    // The second one is told that there is no more.
    for number in 0..65 {
        script.push_str(&call(number));
        script.push('\n');
        if number == 1 {
            script.push_str("room executions=1\n");
        }
    }
    script.push_str("show room -> executions=1 retained=268435456 keys=1000000\n");
    script.push_str(&call(65).replace("success e65", "success e65, lease executions=1"));
    script.push_str(
        "
        1 f invoke f -> dispatch f#1 to local for 1000
        1 answer f#1 ok -> note 0+0 of 0 ms, f: success f
        room executions=1
        100 turn -> lease executions=1
        100 h invoke f -> dispatch h#1 to local for 1000
        100 answer h#1 ok -> note 0+0 of 0 ms, h: success h
        show room -> executions=3 retained=268435456 keys=1000000
        ",
    );
    check(&script);
}

#[test]
fn room_goes_back_with_the_next_sweep() {
    check(
        "
        limits executions=1 retained=10 keys=0 ttl=1000 accepted-ttl=1000 keys-ttl=500 sweep=100
        room executions=9 retained=90 keys=9
        0 r register f local slots=9 -> r: registered
        0 a invoke f key=k -> dispatch a#1 to local for 1000 key=k, lease keys=1
        0 answer a#1 ok out=123456 -> note 0+0 of 0 ms, a: success a 123456
        0 b invoke f -> dispatch b#1 to local for 1000
        0 answer b#1 ok out=123456 -> note 0+0 of 0 ms, b: success b 123456, lease executions=1 retained=2
        50 turn
        100 turn
        500 turn -> return keys=1
        1000 turn -> return executions=1 retained=2
        show room -> executions=1 retained=10
        show next -> None
        ",
    );
}

#[test]
fn what_another_shard_needs_for_its_share_goes_back_at_once() {
    check(
        "
        limits executions=1
        room executions=2
        0 r register f local slots=9 -> r: registered
        0 a invoke f -> dispatch a#1 to local for 1000
        0 answer a#1 ok -> note 0+0 of 0 ms, a: success a
        0 b invoke f -> dispatch b#1 to local for 1000
        0 answer b#1 ok -> note 0+0 of 0 ms, b: success b, lease executions=1
        0 c invoke f -> dispatch c#1 to local for 1000
        0 answer c#1 ok -> note 0+0 of 0 ms, c: success c, lease executions=1
        0 recall executions=1 -> return executions=1
        room
        0 g get a -> g: refused ExecutionNotFound
        0 g get b -> g: b success attempt=1 output=null created=0 dispatched=0 finished=0
        show room -> executions=2 retained=268435456 keys=1000000
        0 recall executions=9 -> return executions=1
        show room -> executions=1 retained=268435456 keys=1000000
        ",
    );
}

#[test]
fn what_takes_long_to_forget_goes_back_bit_by_bit() {
    let mut script = String::from(
        "
        limits batch=1 executions=1
        room executions=99
        0 r register f local slots=99 -> r: registered
        ",
    );
    for number in 0..40 {
        let lease = if number > 0 { ", lease executions=1" } else { "" };
        script.push_str(&format!("0 e{number} invoke f -> dispatch e{number}#1 to local for 1000\n"));
        script.push_str(&format!(
            "0 answer e{number}#1 ok -> note 0+0 of 0 ms, e{number}: success e{number}{lease}\n"
        ));
    }
    script.push_str(
        "
        room
        1 recall executions=30 -> return executions=16
        show room -> executions=24 retained=268435456 keys=1000000
        show next -> Some(2)
        1 z invoke f -> dispatch z#1 to local for 1000
        1 answer z#1 ok -> note 0+0 of 0 ms, z: success z
        show totals -> functions=1 executions=10 finished=10 retained=40 timers=1
        2 turn -> return executions=14
        show room -> executions=10 retained=268435456 keys=1000000
        ",
    );
    check(&script);
}

#[test]
fn results_that_memory_has_no_room_for_take_room_on_disk() {
    check(
        "
        limits retained=10 disk=0
        room disk=6
        0 r register f local slots=9 -> r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to local for 1000
        0 b enqueue f -> b: accepted b, dispatch b#1 to local for 1000
        0 c enqueue f -> c: accepted c, dispatch c#1 to local for 1000
        1 answer a#1 ok out=123456 -> note 0+1 of 1 ms
        2 answer b#1 ok out=123456 -> note 0+2 of 2 ms, lease disk=6
        show totals -> functions=1 executions=3 finished=2 retained=6 on-disk=6 attempts=1 timers=2 accepted=1
        3 answer c#1 ok out=123456 -> note 0+3 of 3 ms
        show totals -> functions=1 executions=2 finished=2 retained=6 on-disk=6 timers=1
        4 g get a -> g: refused ExecutionNotFound
        show room -> executions=1000000 retained=10 disk=6 keys=1000000
        5 recall retained=4 disk=6 -> return disk=6
        show totals -> functions=1 executions=1 finished=1 retained=6 timers=1
        show room -> executions=1000000 retained=10 keys=1000000
        ",
    );
}

#[test]
fn keys_have_room_of_their_own_and_those_of_what_goes_on_stay_without_any() {
    check(
        "
        limits keys=1
        room keys=1
        0 r register f local slots=9 -> r: registered
        0 a enqueue f key=a -> a: accepted a, dispatch a#1 to local for 1000 key=a
        0 answer a#1 ok -> note 0+0 of 0 ms
        1 b enqueue f key=b -> lease keys=1, b: accepted b, dispatch b#1 to local for 1000 key=b
        2 c enqueue f key=c -> c: accepted c, dispatch c#1 to local for 1000 key=c
        show totals -> functions=1 executions=3 finished=1 retained=4 attempts=2 timers=3 keys=2 accepted=2
        3 d enqueue f key=a -> d: accepted d, dispatch d#1 to local for 1000 key=a
        show totals -> functions=1 executions=4 finished=1 retained=4 attempts=3 timers=4 keys=3 accepted=3
        4 answer b#1 ok -> note 0+3 of 3 ms
        5 e enqueue f key=b -> e: accepted e, dispatch e#1 to local for 1000 key=b
        5 recall keys=1
        show room -> executions=1000000 retained=268435456 keys=2
        ",
    );
}

#[test]
fn what_a_crash_leaves_is_kept_as_far_as_there_is_room() {
    check(
        "
        limits executions=1
        room executions=1
        0 r register f local slots=9 -> r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to local for 1000
        1 answer a#1 ok -> note 0+1 of 1 ms
        1 b enqueue f -> b: accepted b, dispatch b#1 to local for 1000
        2 answer b#1 ok -> note 0+1 of 1 ms, lease executions=1
        room executions=1
        3 crash -> lease executions=1
        3 g get a -> g: a success attempt=1 output=null created=0 dispatched=0 finished=1
        3 g get b -> g: b success attempt=1 output=null created=1 dispatched=1 finished=2
        show room -> executions=2 retained=268435456 keys=1000000
        room executions=1
        4 crash -> lease executions=1
        show totals -> functions=1 executions=2 finished=2 retained=8 timers=1
        room
        5 crash
        show totals -> functions=1 executions=1 finished=1 retained=4 timers=1
        ",
    );
}

#[test]
fn the_key_of_a_dead_letter_that_is_replayed_stays_without_any_room() {
    check(
        "
        limits keys=0 sweep=100
        0 r register f local slots=9 -> r: registered
        0 a enqueue f key=k -> a: accepted a, dispatch a#1 to local for 1000 key=k
        1 answer a#1 fatal -> note 0+1 of 1 ms
        200 turn
        show totals -> functions=1 executions=1 dead=1
        300 p replay f a -> p: accepted a, dispatch a#2 to local for 1000
        301 b enqueue f key=k -> b: accepted a
        show totals -> functions=1 executions=1 attempts=1 timers=2 keys=1 accepted=1
        ",
    );
}
