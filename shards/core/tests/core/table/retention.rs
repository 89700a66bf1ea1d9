//! Finished executions and idempotency keys are kept for a while, within bounds.

use crate::script::check;

#[test]
fn records_are_kept_for_their_time_and_outputs_for_less() {
    check(
        "
        limits ttl=300000 payload-ttl=120000 sweep=5000
        0 r register f -> open F, r: registered
        0 a invoke f -> dispatch a#1 to F for 1000
        0 answer a#1 ok out=12345 -> note 0+0 of 0 ms, a: success a 12345
        119999 g get a -> g: a success attempt=1 output=12345 created=0 dispatched=0 finished=0
        125000 g get a -> g: a success attempt=1 created=0 dispatched=0 finished=0
        show totals -> functions=1 executions=1 finished=1 timers=1
        299999 g get a -> g: a success attempt=1 created=0 dispatched=0 finished=0
        305000 g get a -> g: refused ExecutionNotFound
        show totals -> functions=1
        show next -> None
        ",
    );
}

#[test]
fn accepted_executions_are_kept_longer_and_with_their_outputs() {
    check(
        "
        limits ttl=1000 accepted-ttl=10000 payload-ttl=500 sweep=100
        0 r register f slots=2 -> open F, r: registered
        0 a invoke f -> dispatch a#1 to F for 1000
        0 b enqueue f -> b: accepted b, dispatch b#1 to F for 1000
        1 answer b#1 ok out=22 -> note 0+1 of 1 ms
        2 answer a#1 ok out=1 -> note 0+2 of 2 ms, a: success a 1
        1200 g get a -> g: refused ExecutionNotFound
        1200 g get b -> g: b success attempt=1 output=22 created=0 dispatched=0 finished=1
        9999 g get b -> g: b success attempt=1 output=22 created=0 dispatched=0 finished=1
        10200 g get b -> g: refused ExecutionNotFound
        show totals -> functions=1
        show next -> None
        ",
    );
}

#[test]
fn what_is_accepted_after_its_end_is_kept_like_others_that_were() {
    check(
        "
        limits ttl=1000 accepted-ttl=5000 payload-ttl=500 sweep=100
        0 r register f -> open F, r: registered
        0 a invoke f key=k -> dispatch a#1 to F for 1000 key=k
        1 answer a#1 ok out=7 -> note 0+1 of 1 ms, a: success a 7
        600 b enqueue f key=k -> b: accepted a
        5500 g get a -> g: a success attempt=1 output=7 created=0 dispatched=0 finished=1
        5800 g get a -> g: refused ExecutionNotFound
        show totals -> functions=1 timers=1 keys=1
        ",
    );
}

#[test]
fn neither_kind_pushes_the_other_out_of_its_half() {
    check(
        "
        limits executions=4
        0 r register f slots=9 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        0 b enqueue f -> b: accepted b, dispatch b#1 to F for 1000
        0 c enqueue f -> c: accepted c, dispatch c#1 to F for 1000
        1 answer a#1 ok -> note 0+1 of 1 ms
        1 answer b#1 ok -> note 0+1 of 1 ms
        2 answer c#1 ok -> note 0+2 of 2 ms
        3 d invoke f -> dispatch d#1 to F for 1000
        3 answer d#1 ok -> note 0+0 of 0 ms, d: success d
        4 e invoke f -> dispatch e#1 to F for 1000
        4 answer e#1 ok -> note 0+0 of 0 ms, e: success e
        4 g get a -> g: refused ExecutionNotFound
        5 h invoke f -> dispatch h#1 to F for 1000
        5 answer h#1 ok -> note 0+0 of 0 ms, h: success h
        5 g get d -> g: refused ExecutionNotFound
        5 g get b -> g: b success attempt=1 output=null created=0 dispatched=0 finished=1
        show totals -> functions=1 executions=4 finished=4 retained=16 timers=1
        ",
    );
}

#[test]
fn the_oldest_go_first_when_there_are_too_many() {
    check(
        "
        limits executions=2
        0 r register f queue=9 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        0 b enqueue f -> b: accepted b
        0 c enqueue f -> c: accepted c
        0 d enqueue f -> d: accepted d
        0 e enqueue f -> e: accepted e
        1 answer a#1 ok -> note 0+1 of 1 ms, dispatch b#1 to F for 1000
        2 answer b#1 ok -> note 1+1 of 2 ms, dispatch c#1 to F for 1000
        3 answer c#1 ok -> note 2+1 of 3 ms, dispatch d#1 to F for 1000
        3 g get a -> g: refused ExecutionNotFound
        3 g get b -> g: b success attempt=1 output=null created=0 dispatched=1 finished=2
        3 g get d -> g: d running attempt=1 created=0 dispatched=3
        3 g get e -> g: e queued attempt=0 created=0
        show totals -> functions=1 executions=4 finished=2 retained=8 attempts=1 timers=2 accepted=2
        ",
    );
}

#[test]
fn the_oldest_go_first_when_they_hold_too_many_bytes() {
    check(
        "
        limits retained=10
        0 r register f slots=9 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        0 b enqueue f -> b: accepted b, dispatch b#1 to F for 1000
        0 c enqueue f -> c: accepted c, dispatch c#1 to F for 1000
        1 answer a#1 ok out=123456 -> note 0+1 of 1 ms
        2 answer b#1 ok out=1234 -> note 0+2 of 2 ms
        show totals -> functions=1 executions=3 finished=2 retained=10 attempts=1 timers=2 accepted=1
        3 answer c#1 ok out=1 -> note 0+3 of 3 ms
        3 g get a -> g: refused ExecutionNotFound
        show totals -> functions=1 executions=2 finished=2 retained=5 timers=1
        ",
    );
}

#[test]
fn a_sweep_does_one_batch_per_step_and_comes_back_for_more() {
    let mut script = String::from(
        "
        limits batch=1 ttl=1000 sweep=100
        0 r register f local slots=99 -> r: registered
        ",
    );
    for number in 0..40 {
        script.push_str(&format!("0 e{number} invoke f -> dispatch e{number}#1 to local for 1000\n"));
        script.push_str(&format!(
            "0 answer e{number}#1 ok -> note 0+0 of 0 ms, e{number}: success e{number}\n"
        ));
    }
    script.push_str(
        "
        show totals -> functions=1 executions=40 finished=40 retained=160 timers=1
        1000 turn
        show totals -> functions=1 executions=24 finished=24 retained=96 timers=1
        show next -> Some(1001)
        1000 turn
        show totals -> functions=1 executions=24 finished=24 retained=96 timers=1
        1001 turn
        1002 turn
        show totals -> functions=1
        ",
    );
    check(&script);
}

#[test]
fn the_output_of_an_execution_with_a_key_stays_as_long_as_its_record() {
    check(
        "
        limits payload-ttl=1000
        0 r register f -> open F, r: registered
        0 a invoke f key=k -> dispatch a#1 to F for 1000 key=k
        0 answer a#1 ok out=7 -> note 0+0 of 0 ms, a: success a 7
        200000 b invoke f key=k -> b: success a 7
        ",
    );
}

#[test]
fn when_the_execution_was_evicted_its_key_starts_a_new_one() {
    check(
        "
        limits executions=1
        0 r register f slots=2 -> open F, r: registered
        0 a enqueue f key=k digest=1 -> a: accepted a, dispatch a#1 to F for 1000 key=k
        1 answer a#1 ok -> note 0+1 of 1 ms
        1 b enqueue f -> b: accepted b, dispatch b#1 to F for 1000
        2 answer b#1 ok -> note 0+1 of 1 ms
        3 c enqueue f key=k digest=2 -> c: accepted c, dispatch c#1 to F for 1000 key=k
        3 d invoke f key=k digest=2
        4 answer c#1 ok -> note 0+1 of 1 ms, d: success c
        show totals -> functions=1 executions=1 finished=1 retained=4 timers=1 keys=1
        ",
    );
}

#[test]
fn a_key_expires_on_time_but_never_while_its_execution_lives() {
    check(
        "
        limits keys-ttl=1000 sweep=10000
        0 r register f timeout=20000 slots=2 -> open F, r: registered
        0 a enqueue f key=a -> a: accepted a, dispatch a#1 to F for 20000 key=a
        0 b enqueue f key=b -> b: accepted b, dispatch b#1 to F for 20000 key=b
        1 answer a#1 ok -> note 0+1 of 1 ms
        999 c enqueue f key=a -> c: accepted a
        1000 d enqueue f key=a -> d: accepted d, dispatch d#1 to F for 20000 key=a
        1500 e enqueue f key=b -> e: accepted b
        15000 turn
        15000 e enqueue f key=b -> e: accepted b
        show totals -> functions=1 executions=3 finished=1 retained=4 attempts=2 timers=3 keys=2 accepted=2
        ",
    );
}

#[test]
fn keys_are_bounded_in_number_and_the_oldest_finished_go_first() {
    check(
        "
        limits keys=2
        0 r register f slots=9 -> open F, r: registered
        0 a enqueue f key=a -> a: accepted a, dispatch a#1 to F for 1000 key=a
        1 b enqueue f key=b -> b: accepted b, dispatch b#1 to F for 1000 key=b
        2 answer b#1 ok -> note 0+1 of 1 ms
        3 c enqueue f key=c -> c: accepted c, dispatch c#1 to F for 1000 key=c
        show totals -> functions=1 executions=3 finished=1 retained=4 attempts=2 timers=3 keys=2 accepted=2
        4 x enqueue f key=a -> x: accepted a
        4 y enqueue f key=b -> y: accepted y, dispatch y#1 to F for 1000 key=b
        ",
    );
}

#[test]
fn callers_that_come_and_go_with_a_key_leave_nothing() {
    let mut script = String::from(
        "
        0 r register f -> open F, r: registered
        0 a invoke f key=k -> dispatch a#1 to F for 1000 key=k
        ",
    );
    // The audit watches the entries that they leave behind a key that is still good.
    for number in 0..200 {
        script.push_str(&format!("1 b invoke f key={number}\n 1 leave b\n"));
    }
    script.push_str("show totals -> functions=1 executions=1 attempts=1 timers=3 keys=1");
    check(&script);
}

#[test]
fn a_kind_gives_way_when_it_has_more_than_half_of_the_bytes() {
    check(
        "
        limits retained=16
        0 r register f -> open F, r: registered
        0 a invoke f -> dispatch a#1 to F for 1000
        1 answer a#1 ok -> note 0+1 of 1 ms, a: success a
        1 b invoke f -> dispatch b#1 to F for 1000
        2 answer b#1 ok -> note 0+1 of 1 ms, b: success b
        2 c enqueue f -> c: accepted c, dispatch c#1 to F for 1000
        3 answer c#1 ok -> note 0+1 of 1 ms
        3 d enqueue f -> d: accepted d, dispatch d#1 to F for 1000
        4 answer d#1 ok -> note 0+1 of 1 ms
        4 e enqueue f -> e: accepted e, dispatch e#1 to F for 1000
        5 answer e#1 ok -> note 0+1 of 1 ms
        6 g get a -> g: a success attempt=1 output=null created=0 dispatched=0 finished=1
        6 g get b -> g: b success attempt=1 output=null created=1 dispatched=1 finished=2
        6 g get c -> g: refused ExecutionNotFound
        6 g get d -> g: d success attempt=1 output=null created=3 dispatched=3 finished=4
        ",
    );
}

#[test]
fn what_memory_does_not_hold_is_read_from_disk() {
    check(
        "
        limits retained=10 disk=1000
        0 r register f slots=9 -> open F, r: registered
        0 a enqueue f key=k -> a: accepted a, dispatch a#1 to F for 1000 key=k
        0 b enqueue f -> b: accepted b, dispatch b#1 to F for 1000
        1 answer a#1 ok out=123456 -> note 0+1 of 1 ms
        2 answer b#1 ok out=654321 -> note 0+2 of 2 ms
        3 g get a -> read a
        3 h get b -> h: b success attempt=1 output=654321 created=0 dispatched=0 finished=2
        3 c invoke f key=k -> read a
        3 d enqueue f key=k -> d: accepted a
        show totals -> functions=1 executions=2 finished=2 retained=6 on-disk=6 reads=2 timers=1 keys=1
        4 result a -> g: a success attempt=1 output=123456 created=0 dispatched=0 finished=1
        5 result a -> c: success a 123456
        6 g get b -> g: b success attempt=1 output=654321 created=0 dispatched=0 finished=2
        7 g get a -> read a
        8 result a fails -> g: refused ResultUnread(Unreadable)
        9 g get a -> read a
        10 leave-read g a
        11 result a
        ",
    );
}

#[test]
fn what_is_not_safe_stays_in_memory() {
    check(
        "
        limits retained=13 disk=1000 concealed=0
        0 r register f slots=9 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        0 b enqueue f -> b: accepted b, dispatch b#1 to F for 1000
        0 c enqueue f -> c: accepted c, dispatch c#1 to F for 1000
        0 store waits
        1 answer a#1 ok out=123456 -> note 0+1 of 1 ms, write ended a success
        2 store fails
        3 answer b#1 ok out=654321 -> note 0+3 of 3 ms, write ended b success
        4 store fails
        show totals -> functions=1 executions=3 finished=2 retained=12 attempts=1 timers=2 accepted=1
        5 g get a -> g: a success attempt=1 output=123456 created=0 dispatched=0 finished=1
        5 g get b -> g: b success attempt=1 output=654321 created=0 dispatched=0 finished=3
        6 store safe
        7 answer c#1 ok out=12 -> note 0+7 of 7 ms, write ended c success
        8 store safe
        9 g get c -> read c
        show totals -> functions=1 executions=3 finished=3 retained=12 on-disk=2 reads=1 timers=1
        ",
    );
}

#[test]
fn what_is_on_disk_has_a_bound_as_well_and_the_oldest_go_first() {
    check(
        "
        limits retained=5 disk=10
        0 r register f slots=9 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        0 b enqueue f -> b: accepted b, dispatch b#1 to F for 1000
        0 c enqueue f -> c: accepted c, dispatch c#1 to F for 1000
        1 answer a#1 ok out=123456 -> note 0+1 of 1 ms
        2 g get a -> read a
        3 answer b#1 ok out=123456 -> note 0+3 of 3 ms
        show totals -> functions=1 executions=2 finished=1 on-disk=6 reads=1 attempts=1 timers=2 accepted=1
        4 answer c#1 ok out=1234 -> note 0+4 of 4 ms
        5 result a -> g: refused ExecutionNotFound
        6 g get a -> g: refused ExecutionNotFound
        6 g get b -> read b
        6 g get c -> g: c success attempt=1 output=1234 created=0 dispatched=0 finished=4
        show totals -> functions=1 executions=2 finished=2 retained=4 on-disk=6 reads=1 timers=1
        ",
    );
}

#[test]
fn too_many_synchronous_results_cost_no_accepted_one_though_both_bounds_are_exceeded() {
    check(
        "
        limits executions=3 retained=10 disk=1000
        0 r register f slots=9 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        0 b invoke f -> dispatch b#1 to F for 1000
        0 c invoke f -> dispatch c#1 to F for 1000
        0 d invoke f -> dispatch d#1 to F for 1000
        1 answer a#1 ok out=123456 -> note 0+1 of 1 ms
        2 answer b#1 ok out=12 -> note 0+2 of 2 ms, b: success b 12
        3 answer c#1 ok out=12 -> note 0+3 of 3 ms, c: success c 12
        4 answer d#1 ok out=12 -> note 0+4 of 4 ms, d: success d 12
        5 g get a -> g: a success attempt=1 output=123456 created=0 dispatched=0 finished=1
        5 g get b -> g: refused ExecutionNotFound
        5 g get c -> g: c success attempt=1 output=12 created=0 dispatched=0 finished=3
        ",
    );
}

#[test]
fn synchronous_results_leave_no_room_on_disk() {
    check(
        "
        limits retained=10 disk=1000 payload-ttl=100000
        0 r register f slots=9 -> open F, r: registered
        0 s invoke f -> dispatch s#1 to F for 1000
        0 t invoke f -> dispatch t#1 to F for 1000
        1 answer s#1 ok out=123456 -> note 0+1 of 1 ms, s: success s 123456
        2 answer t#1 ok out=123456 -> note 0+2 of 2 ms, t: success t 123456
        3 g get s -> g: refused ExecutionNotFound
        3 g get t -> g: t success attempt=1 output=123456 created=0 dispatched=0 finished=2
        ",
    );
}

#[test]
fn reads_are_bounded() {
    check(
        "
        limits retained=1 disk=1000 reads=2
        0 r register f -> open F, r: registered
        0 a enqueue f key=k -> a: accepted a, dispatch a#1 to F for 1000 key=k
        1 answer a#1 ok out=123456 -> note 0+1 of 1 ms
        2 g get a -> read a
        3 h get a -> h: refused Overloaded results that are read from disk retry=1
        3 s invoke f key=k -> s: refused Overloaded results that are read from disk retry=1
        4 result a -> g: a success attempt=1 output=123456 created=0 dispatched=0 finished=1
        5 h get a -> read a
        6 drain finally
        7 result a -> h: a success attempt=1 output=123456 created=0 dispatched=0 finished=1
        ",
    );
}

#[test]
fn failures_that_went_before_stay_in_memory_and_go_first_when_there_is_no_room_for_them() {
    check(
        "
        limits retained=20 disk=1000
        0 r register f slots=9 attempts=2 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        0 b enqueue f -> b: accepted b, dispatch b#1 to F for 1000
        0 c enqueue f -> c: accepted c, dispatch c#1 to F for 1000
        1 answer a#1 ok out=123456789012345678901234567890 -> note 0+1 of 1 ms
        2 answer b#1 fail -> note retry b#1 FAILED, dispatch b#2 to F for 1000
        3 answer b#2 ok out=1234 -> note 0+1 of 3 ms
        4 answer c#1 fail -> note retry c#1 FAILED, dispatch c#2 to F for 1000
        5 answer c#2 ok out=1234 -> note 0+1 of 5 ms
        5100 turn
        5100 g get a -> read a
        5100 g get b -> g: refused ExecutionNotFound
        5100 g get c -> read c
        show totals -> functions=1 executions=2 finished=2 retained=15 on-disk=34 reads=2 timers=1
        ",
    );
}
