//! Readers wait for the end of an execution.

use crate::script::check;

#[test]
fn a_reader_hears_of_the_end_or_of_what_there_is_when_its_time_is_over() {
    check(
        "
        0 r register f attempts=1 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        1 x get a wait=10
        2 y get a wait=100
        3 z get a wait=0 -> z: a running attempt=1 created=0 dispatched=0
        4 w get a wait=100
        11 turn -> x: a running attempt=1 created=0 dispatched=0
        12 leave-read w a
        20 answer a#1 ok -> note 0+20 of 20 ms, y: a success attempt=1 output=null created=0 dispatched=0 finished=20
        21 x get a wait=100 -> x: a success attempt=1 output=null created=0 dispatched=0 finished=20
        show totals -> functions=1 executions=1 finished=1 retained=4 timers=1
        ",
    );
}

#[test]
fn readers_are_told_of_cancellation_and_removal() {
    check(
        "
        0 r register f slots=1 attempts=1 -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        0 b enqueue f -> b: accepted b
        0 c enqueue f -> c: accepted c
        1 x get b wait=100
        1 y get c wait=100
        2 k cancel b -> x: b error attempt=0 error=CANCELLED created=0 finished=2, k: b error attempt=0 error=CANCELLED created=0 finished=2
        3 k remove f -> y: c error attempt=0 error=FUNCTION_REMOVED created=0 finished=3, k: removed, close F, note gone
        ",
    );
}

#[test]
fn a_server_that_goes_away_keeps_no_readers() {
    check(
        "
        0 r register f -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        1 x get a wait=1000
        2 end-watches -> x: a running attempt=1 created=0 dispatched=0
        3 x get a wait=1000 -> x: a running attempt=1 created=0 dispatched=0
        show totals -> functions=1 executions=1 attempts=1 timers=1 accepted=1
        ",
    );
}

#[test]
fn readers_are_bounded() {
    check(
        "
        limits waiters=1
        0 r register f -> open F, r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to F for 1000
        1 x get a wait=1000
        1 y get a wait=1000 -> y: refused Overloaded readers that wait for one execution retry=1
        ",
    );
}
