//! Jobs that outlive the server that ordered them: their attempts are on record before, and the next server goes on with them.

use crate::script::check;

#[test]
fn a_job_is_ordered_when_its_attempt_is_on_record() {
    check(
        "
        0 r register f jobs -> r: registered
        1 store waits
        2 a enqueue f -> write accepted a of f
        3 store safe -> a: accepted a, write ordered a#1 until 1003
        4 g get a -> g: a running attempt=1 created=2 dispatched=3
        5 store safe -> dispatch a#1 to a job for 1000
        6 created a#1
        900 turn
        1005 turn -> abort a#1, note retry a#1 FUNCTION_TIMEOUT, write requeued a FUNCTION_TIMEOUT
        1006 store safe -> write ordered a#2 until 2006
        show f -> running=1 invocations=1 enqueued=1 dispatches=2 retries=1 orphans=1 jobs=1
        ",
    );
}

#[test]
fn others_do_not_wait_for_a_record_of_their_attempt() {
    check(
        "
        0 r register f jobs -> r: registered
        0 r register g -> open G, r: registered
        1 store waits
        2 a invoke f -> dispatch a#1 to a job for 1000
        3 b enqueue g -> write accepted b of g
        4 store safe -> b: accepted b, dispatch b#1 to G for 1000, write attempted b#1
        ",
    );
}

#[test]
fn a_disk_that_fails_takes_no_time_of_an_attempt_and_one_without_room_does_not_hold_it_up() {
    check(
        "
        0 r register f jobs timeout=100 -> r: registered
        1 store waits
        2 a enqueue f -> write accepted a of f
        3 store safe -> a: accepted a, write ordered a#1 until 103
        4 store fails
        500 turn
        501 b invoke f
        600 store safe -> dispatch a#1 to a job for 100
        650 k callback a ok attempt=1 -> b: timeout b queue 100, note 1+647 of 648 ms, write ended a success, k: applied
        651 store safe
        652 k callback b ok attempt=1 -> note late b, k: ignored
        653 c enqueue f -> write accepted c of f
        654 store safe -> c: accepted c, write ordered c#1 until 754
        655 store refuses -> dispatch c#1 to a job for 100
        ",
    );
}

#[test]
fn what_decides_an_attempt_before_its_job_is_ordered_leaves_nothing_to_end() {
    check(
        "
        0 r register f jobs slots=2 -> r: registered
        1 store waits
        2 a enqueue f -> write accepted a of f
        2 b enqueue f -> write accepted b of f
        3 store safe -> a: accepted a, write ordered a#1 until 1003, b: accepted b, write ordered b#1 until 1003
        4 k callback a ok -> note 1+1 of 2 ms, write ended a success, k: applied
        5 x remove f -> write removed f
        6 store safe -> dispatch b#1 to a job for 1000, note 1+3 of 4 ms, write ended b error dead, abort b#1, x: removed, note gone
        7 store safe
        show totals -> executions=2 finished=1 retained=4 timers=1 dead=1
        ",
    );
}

#[test]
fn the_next_server_goes_on_with_the_job_of_an_accepted_call() {
    check(
        "
        0 r register f backend attempts=1 -> provision f
        1 provisioned f jobs -> r: registered
        2 a enqueue f key=k -> a: accepted a, dispatch a#1 to a job for 1000 key=k
        3 created a#1
        4 b enqueue f -> b: accepted b
        5 crash -> provision f, adopt a#1
        6 g get a -> g: a running attempt=1 created=2 dispatched=2
        7 c enqueue f key=k -> c: accepted a
        8 provisioned f jobs
        9 k callback a ok attempt=1 -> note 0+7 of 7 ms, k: applied, dispatch b#2 to a job for 1000
        10 ended a#1
        show f -> running=1 dispatches=1 successes=1 warm=1
        ",
    );
}

#[test]
fn the_job_of_a_synchronous_call_ends_with_its_server() {
    check(
        "
        0 r register f jobs slots=2 -> r: registered
        0 a invoke f -> dispatch a#1 to a job for 1000
        0 b invoke f key=k -> dispatch b#1 to a job for 1000 key=k
        1 created a#1
        5 c enqueue f key=k -> c: accepted b
        6 crash -> adopt b#1
        7 g get a -> g: refused ExecutionNotFound
        8 g get b -> g: b running attempt=1 created=0 dispatched=0
        1000 turn -> abort b#1, note retry b#1 FUNCTION_TIMEOUT, dispatch b#2 to a job for 1000
        ",
    );
}

#[test]
fn a_job_that_ends_without_a_callback_under_another_server_is_a_failed_attempt() {
    check(
        "
        0 r register f jobs attempts=2 -> r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to a job for 1000
        1 created a#1
        2 crash -> adopt a#1
        3 ended a#1 -> note retry a#1 JOB_FAILED, dispatch a#2 to a job for 1000
        4 created a#2
        5 crash -> adopt a#2
        6 ended a#2 -> note 0+3 of 6 ms
        7 g get a -> g: a error attempt=2 error=JOB_FAILED last=JOB_FAILED created=0 dispatched=3 finished=6
        ",
    );
}

#[test]
fn a_job_that_is_not_there_counts_for_nothing_and_its_number_is_not_used_again() {
    check(
        "
        0 r register f jobs attempts=2 -> r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to a job for 1000
        1 crash -> adopt a#1
        2 lost a#1 -> note lost a#1, dispatch a#2 to a job for 1000
        3 k callback a ok attempt=1 -> note late a, k: ignored
        4 crash -> adopt a#2
        5 crash -> adopt a#2
        6 lost a#2 -> note lost a#2, dispatch a#3 to a job for 1000
        7 ended a#3 -> note retry a#3 JOB_FAILED, dispatch a#4 to a job for 1000
        8 crash -> adopt a#4
        9 ended a#4 -> note 0+2 of 9 ms
        10 g get a -> g: a error attempt=4 error=JOB_FAILED last=JOB_FAILED created=0 dispatched=7 finished=9
        ",
    );
}

#[test]
fn a_job_that_is_lost_is_not_looked_for_again() {
    check(
        "
        0 r register f backend attempts=1 -> provision f
        1 provisioned f jobs -> r: registered
        2 a enqueue f -> a: accepted a, dispatch a#1 to a job for 1000
        3 crash -> provision f, adopt a#1
        4 lost a#1 -> note lost a#1
        5 crash -> provision f
        6 provisioned f jobs -> dispatch a#2 to a job for 1000
        7 k callback a ok attempt=1 -> note late a, k: ignored
        8 k callback a ok attempt=2 -> note 1+2 of 6 ms, k: applied
        ",
    );
}

#[test]
fn the_record_of_a_job_that_is_lost_may_be_lost_too() {
    check(
        "
        0 r register f jobs attempts=1 -> r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to a job for 1000
        1 crash -> adopt a#1
        2 store waits
        2 lost a#1 -> note lost a#1, write lost a, write ordered a#2 until 1002
        3 crash -> write started 2, adopt a#1
        4 lost a#1 -> note lost a#1, write lost a
        5 store safe -> write ordered a#2 until 1005
        6 k callback a ok attempt=2 -> note 1+1 of 6 ms, write ended a success, k: applied
        ",
    );
}

#[test]
fn a_slot_is_given_back_on_record_before_another_job_takes_it() {
    check(
        "
        0 r register f jobs attempts=2 queue=1 -> r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to a job for 1000
        0 b enqueue f -> b: accepted b
        1 store waits
        2 ended a#1 -> note retry a#1 JOB_FAILED, write requeued a JOB_FAILED, write ordered b#1 until 1002
        3 store safe -> dispatch b#1 to a job for 1000
        4 store safe
        5 c enqueue f -> c: refused QueueFull depth=1 wait=4 retry=1
        6 ended b#1 -> note retry b#1 JOB_FAILED, write requeued b JOB_FAILED, write ordered a#2 until 1006
        ",
    );
}

#[test]
fn the_time_of_a_job_goes_on_while_there_is_no_server() {
    check(
        "
        0 r register f jobs attempts=2 timeout=100 slots=2 -> r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to a job for 100
        50 b enqueue f -> b: accepted b, dispatch b#1 to a job for 100
        60 crash -> adopt a#1, adopt b#1
        99 turn
        100 turn -> abort a#1, note retry a#1 FUNCTION_TIMEOUT, dispatch a#2 to a job for 100
        120 crash -> adopt b#1, adopt a#2
        149 turn
        150 turn -> abort b#1, note retry b#1 FUNCTION_TIMEOUT, dispatch b#2 to a job for 100
        300 crash -> adopt a#2, adopt b#2
        301 turn -> abort a#2, abort b#2
        ",
    );
}

#[test]
fn a_clock_that_was_set_back_gives_no_more_time_than_an_attempt_may_take() {
    check(
        "
        0 r register f jobs attempts=1 timeout=100 -> r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to a job for 100
        50 clock -5000
        50 crash -> adopt a#1
        149 turn
        150 turn -> abort a#1
        ",
    );
}

#[test]
fn a_callback_before_its_job_is_found_decides_the_attempt() {
    check(
        "
        0 r register f jobs -> r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to a job for 1000
        1 crash -> adopt a#1
        2 k callback a fail attempt=1 -> note retry a#1 FAILED, k: applied, dispatch a#2 to a job for 1000
        3 lost a#1
        4 k callback a ok attempt=2 -> note 0+2 of 4 ms, k: applied
        5 ended a#2
        show totals -> functions=1 executions=1 finished=1 retained=19 timers=1
        ",
    );
}

#[test]
fn what_waits_for_a_removed_function_ends_and_its_jobs_are_ended() {
    check(
        "
        0 r register f backend attempts=1 -> provision f
        1 provisioned f jobs -> r: registered
        2 a enqueue f -> a: accepted a, dispatch a#1 to a job for 1000
        3 crash -> provision f, adopt a#1
        4 x remove f
        5 provisioned f failed -> note f not reconciled: failed, note 0+3 of 3 ms, abort a#1, teardown f
        6 x dead f -> x: refused FunctionNotFound
        ",
    );
}

#[test]
fn a_job_of_a_function_that_was_removed_under_an_earlier_server_is_not_gone_on_with() {
    check(
        "
        limits batch=1
        0 r register f jobs slots=2 -> r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to a job for 1000
        0 b enqueue f -> b: accepted b, dispatch b#1 to a job for 1000
        1 store waits
        2 x remove f -> write removed f
        2 store safe -> note 0+2 of 2 ms, write ended a error dead, abort a#1
        3 store safe
        4 crash -> write started 1, write ended b error dead
        5 r register f jobs -> write registered f
        ",
    );
}

#[test]
fn what_is_too_old_when_its_job_is_lost_has_expired() {
    check(
        "
        0 r register f jobs attempts=1 -> r: registered
        0 a enqueue f max-age=50 -> a: accepted a, dispatch a#1 to a job for 1000
        1 crash -> adopt a#1
        60 lost a#1 -> note 0+60 of 60 ms
        61 g get a -> g: a error attempt=1 error=EXPIRED created=0 dispatched=0 finished=60
        ",
    );
}

#[test]
fn what_has_lost_its_job_waits_before_those_that_came_later() {
    check(
        "
        0 r register f jobs queue=1 -> r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to a job for 1000
        0 b enqueue f -> b: accepted b
        1 crash -> adopt a#1
        2 c enqueue f -> c: refused QueueFull depth=1 wait=unknown retry=1
        3 d enqueue f -> d: refused QueueFull depth=1 wait=unknown retry=1
        4 lost a#1 -> note lost a#1, dispatch a#2 to a job for 1000
        5 k callback a ok attempt=2 -> note 0+1 of 5 ms, k: applied, dispatch b#2 to a job for 1000
        6 k callback b ok attempt=2 -> abort b#2, note 4+1 of 6 ms, k: applied
        ",
    );
}

#[test]
fn an_attempt_that_was_asked_for_is_made_when_it_is_on_record() {
    check(
        "
        0 r register f jobs -> r: registered
        0 scheduler off
        0 a enqueue f -> a: accepted a
        1 d drain-once f -> dispatch a#1 to a job for 1000
        2 created a#1
        3 k callback a ok attempt=1 -> note 1+2 of 3 ms, k: applied, d: drained true
        ",
    );
}
