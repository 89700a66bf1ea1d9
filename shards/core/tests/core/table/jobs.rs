//! Attempts that have a job of their own.

use crate::script::check;

#[test]
fn a_callback_ends_the_attempt_and_the_end_of_its_job_is_no_news() {
    check(
        "
        0 r register f jobs -> r: registered
        0 a invoke f -> dispatch a#1 to a job for 1000
        1 created a#1
        500 g get a -> g: a running attempt=1 created=0 dispatched=0
        900 k callback a ok attempt=1 -> note 0+900 of 900 ms, a: success a, k: applied
        901 ended a#1
        901 ended a#1
        show f -> invocations=1 dispatches=1 successes=1 warm=1 jobs=1
        show totals -> functions=1 executions=1 finished=1 retained=4 timers=1
        ",
    );
}

#[test]
fn a_job_that_cannot_be_created_is_a_failed_attempt() {
    check(
        "
        0 r register f jobs attempts=2 -> r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to a job for 1000
        1 answer a#1 fail -> note retry a#1 FAILED, dispatch a#2 to a job for 1000
        2 answer a#2 fail -> note 0+1 of 2 ms
        2 g get a -> g: a error attempt=2 error=FAILED last=FAILED created=0 dispatched=1 finished=2
        show f -> invocations=1 enqueued=1 dispatches=2 errors=1 retries=1 warm=1 dead=1
        ",
    );
}

#[test]
fn a_job_that_ends_without_a_callback_is_a_failed_attempt() {
    check(
        "
        0 r register f jobs attempts=2 -> r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to a job for 1000
        1 created a#1
        2 ended a#1 -> note retry a#1 JOB_FAILED, dispatch a#2 to a job for 1000
        3 k callback a ok attempt=1 -> note late a, k: ignored
        4 created a#2
        5 ended a#2 -> note 0+3 of 5 ms
        6 g get a -> g: a error attempt=2 error=JOB_FAILED last=JOB_FAILED created=0 dispatched=2 finished=5
        show f -> invocations=1 enqueued=1 dispatches=2 errors=1 retries=1 warm=1 jobs=2 late=1 dead=1
        ",
    );
}

#[test]
fn a_job_without_a_callback_by_its_deadline_is_ended_and_an_orphan() {
    check(
        "
        0 r register f jobs attempts=2 timeout=100 -> r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to a job for 100
        1 created a#1
        100 turn -> abort a#1, note retry a#1 FUNCTION_TIMEOUT, dispatch a#2 to a job for 100
        101 created a#2
        200 turn -> abort a#2
        201 g get a -> g: a timeout attempt=2 error=TIMEOUT last=FUNCTION_TIMEOUT created=0 dispatched=100 finished=200
        202 ended a#2
        203 k callback a ok attempt=2 -> note late a, k: ignored
        show f -> invocations=1 enqueued=1 dispatches=2 retries=1 orphans=2 jobs=2 late=1 dead=1
        ",
    );
}

#[test]
fn a_job_that_is_being_created_at_its_deadline_is_no_orphan() {
    check(
        "
        0 r register f jobs attempts=1 timeout=100 -> r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to a job for 100
        100 turn -> abort a#1, note 0+100 of 100 ms
        101 created a#1
        102 g get a -> g: a error attempt=1 error=FUNCTION_TIMEOUT created=0 dispatched=0 finished=100
        show f -> invocations=1 enqueued=1 dispatches=1 errors=1 warm=1 dead=1
        ",
    );
}

#[test]
fn a_job_that_nobody_waits_for_is_ended_and_gives_its_slot_back() {
    check(
        "
        0 r register f jobs slots=1 -> r: registered
        0 a invoke f timeout=50 -> dispatch a#1 to a job for 50
        0 b invoke f timeout=900
        1 created a#1
        50 turn -> a: timeout a function 50, abort a#1, dispatch b#1 to a job for 850
        51 created b#1
        51 ended a#1
        60 c enqueue f key=k -> c: accepted c
        900 turn -> b: timeout b function 900, abort b#1, dispatch c#1 to a job for 1000 key=k
        901 g get b -> g: b timeout attempt=1 error=TIMEOUT created=0 dispatched=50 finished=900
        show f -> running=1 invocations=3 enqueued=1 dispatches=3 timeouts=2 orphans=2 jobs=2
        ",
    );
}

#[test]
fn a_caller_that_leaves_ends_the_job_at_its_deadline() {
    check(
        "
        0 r register f jobs -> r: registered
        0 a invoke f timeout=50 -> dispatch a#1 to a job for 50
        1 created a#1
        2 leave a
        3 g get a -> g: a running attempt=1 created=0 dispatched=0
        50 turn -> abort a#1
        51 g get a -> g: a timeout attempt=1 error=TIMEOUT created=0 dispatched=0 finished=50
        ",
    );
}

#[test]
fn an_accepted_job_outlives_the_callers_that_joined_it() {
    check(
        "
        0 r register f jobs -> r: registered
        0 a enqueue f key=k -> a: accepted a, dispatch a#1 to a job for 1000 key=k
        0 b invoke f key=k timeout=50
        1 created a#1
        50 turn -> b: timeout a function 50
        60 k callback a ok attempt=1 -> note 0+60 of 60 ms, k: applied
        60 g get a -> g: a success attempt=1 output=null created=0 dispatched=0 finished=60
        ",
    );
}

#[test]
fn no_more_jobs_than_slots_wait_for_a_callback() {
    check(
        "
        0 r register f jobs slots=2 queue=1 -> r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to a job for 1000
        0 b enqueue f -> b: accepted b, dispatch b#1 to a job for 1000
        0 c enqueue f -> c: accepted c
        0 d enqueue f -> d: refused QueueFull depth=1 wait=unknown retry=1
        1 created a#1
        2 ended a#1 -> note retry a#1 JOB_FAILED, dispatch c#1 to a job for 1000
        ",
    );
}

#[test]
fn removing_a_function_ends_its_jobs() {
    check(
        "
        0 r register f jobs slots=2 -> r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to a job for 1000
        0 b invoke f -> dispatch b#1 to a job for 1000
        0 c enqueue f -> c: accepted c
        1 created a#1
        2 x remove f -> note 0+2 of 2 ms, abort a#1, note 0+2 of 2 ms, b: error b FUNCTION_REMOVED, abort b#1, x: removed, note gone
        3 ended a#1
        4 k callback b ok attempt=1 -> note late b, k: ignored
        5 g get a -> g: a error attempt=1 error=FUNCTION_REMOVED created=0 dispatched=0 finished=2
        5 h get c -> h: c error attempt=0 error=FUNCTION_REMOVED created=0 finished=2
        6 r register f jobs -> r: registered
        7 p replay f a -> p: accepted a, dispatch a#2 to a job for 1000
        ",
    );
}

#[test]
fn jobs_are_ended_in_batches() {
    check(
        "
        limits batch=2
        0 r register f jobs slots=3 -> r: registered
        0 a enqueue f -> a: accepted a, dispatch a#1 to a job for 1000
        0 b enqueue f -> b: accepted b, dispatch b#1 to a job for 1000
        0 c enqueue f -> c: accepted c, dispatch c#1 to a job for 1000
        1 x remove f -> note 0+1 of 1 ms, abort a#1, note 0+1 of 1 ms, abort b#1
        1 turn -> note 0+1 of 1 ms, abort c#1, x: removed, note gone
        ",
    );
}

#[test]
fn a_backend_makes_the_jobs_of_a_function_and_hears_of_its_end() {
    check(
        "
        0 r register f backend -> provision f
        1 provisioned f jobs -> r: registered
        2 s scale f 2 -> s: refused NotScalable
        2 q replicas f -> q: refused NotScalable
        3 a invoke f -> dispatch a#1 to a job for 1000
        4 x remove f -> note 0+1 of 1 ms, a: error a FUNCTION_REMOVED, abort a#1, teardown f
        5 torn-down f ok -> x: removed, note gone
        ",
    );
}

#[test]
fn a_job_that_goes_on_after_its_callback_is_bounded() {
    check(
        "
        0 r register f jobs -> r: registered
        0 a invoke f -> dispatch a#1 to a job for 1000
        1 created a#1
        2 k callback a ok -> note 0+2 of 2 ms, a: success a, k: applied
        3 b invoke f -> dispatch b#1 to a job for 1000
        4 created b#1
        5 k callback b ok -> abort b#1, note 0+2 of 2 ms, b: success b, k: applied
        1000 turn -> abort a#1
        show f -> invocations=2 dispatches=2 successes=2 warm=2 jobs=2
        ",
    );
}
