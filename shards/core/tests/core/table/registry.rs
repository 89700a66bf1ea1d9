//! Functions come and go.

use crate::script::check;

#[test]
fn a_name_is_taken_once_and_free_again_after_removal() {
    check(
        "
        0 q invoke f -> q: refused FunctionNotFound
        0 r register f -> open F, r: registered
        0 s register f -> s: refused FunctionExists
        0 g function f -> g: function
        0 x remove f -> x: removed, close F, note gone
        0 g function f -> g: refused FunctionNotFound
        0 x remove f -> x: refused FunctionNotFound
        0 s register f local -> s: registered
        0 a invoke f -> dispatch a#1 to local for 1000
        ",
    );
}

#[test]
fn the_number_of_functions_is_bounded() {
    check(
        "
        limits functions=1
        0 r register f backend -> provision f
        0 s register g -> s: refused Overloaded registered functions retry=1
        0 provisioned f failed -> r: refused Backend failed
        0 s register g -> open G, s: registered
        ",
    );
}

/// Each spec is two bytes long. What fails leaves nothing; what is removed makes room once its last attempt is home.
#[test]
fn the_bytes_of_all_specs_are_bounded() {
    check(
        "
        limits specs=5
        0 r register f backend -> provision f
        0 s register g -> open G, s: registered
        0 t register h local -> t: refused Overloaded specs of all functions, limits.specs-bytes retry=1
        0 provisioned f failed -> r: refused Backend failed
        0 t register h local -> t: registered
        0 a invoke g -> dispatch a#1 to G for 1000
        0 x remove g -> x: removed, close G, note gone
        0 s register g local -> s: refused Overloaded specs of all functions, limits.specs-bytes retry=1
        0 answer a#1 ok -> a: success a
        0 s register g local -> s: registered
        ",
    );
}

#[test]
fn until_it_is_provisioned_a_function_is_not_seen_and_its_name_is_claimed() {
    check(
        "
        0 r register f backend -> provision f
        0 s register f -> s: refused FunctionExists
        0 g function f -> g: refused FunctionNotFound
        0 g replicas f -> g: refused FunctionNotFound
        0 a invoke f -> a: refused FunctionNotFound
        0 a enqueue f -> a: refused FunctionNotFound
        show f -> invisible
        9 provisioned f ok p q -> open p, open q, r: registered
        9 g replicas f -> g: replicas 2/2
        9 g function f -> g: function
        ",
    );
}

#[test]
fn a_failed_provisioning_leaves_nothing() {
    check(
        "
        0 r register f backend -> provision f
        1 endpoints f 1 p -> open p
        9 provisioned f broken -> r: refused Backend broken, close p
        show totals
        9 provisioned f ok p
        9 r register f -> open F, r: registered
        ",
    );
}

#[test]
fn a_degraded_function_has_a_fixed_address_and_is_not_scalable() {
    check(
        "
        0 r register f backend -> provision f
        0 t scale f 3
        1 endpoints f 1 early -> open early
        9 provisioned f pool P -> close early, open P, r: registered, t: refused NotScalable
        9 g replicas f -> g: refused NotScalable
        9 endpoints f 0
        9 a invoke f -> dispatch a#1 to P for 1000
        9 x remove f -> x: removed, close P, note gone
        ",
    );
}

#[test]
fn removal_ends_what_waits_then_tears_down_then_answers() {
    check(
        "
        0 r register f backend queue=3 -> provision f
        0 provisioned f ok p -> open p, r: registered
        0 a invoke f -> dispatch a#1 to p for 1000
        0 b invoke f
        0 c enqueue f -> c: accepted c
        5 answer a#1 fail after=500 -> dispatch b#1 to p for 995, note retry a#1 FAILED
        6 x remove f -> a: error a FUNCTION_REMOVED, teardown f
        7 g get c -> g: c error attempt=0 error=FUNCTION_REMOVED created=0 finished=6
        8 torn-down f ok -> x: removed, close p, note gone
        9 answer b#1 ok -> b: success b
        ",
    );
}

#[test]
fn running_executions_of_a_removed_function_finish_and_stay_readable() {
    check(
        "
        0 r register f slots=2 -> open F, r: registered
        0 a invoke f -> dispatch a#1 to F for 1000
        0 b invoke f -> dispatch b#1 to F for 1000
        1 x remove f -> x: removed, close F, note gone
        2 s register f -> open F, s: registered
        3 answer a#1 ok out=1 -> a: success a 1
        4 answer b#1 fail -> b: error b FAILED
        5 g get a -> g: a success attempt=1 output=1 created=0 dispatched=0 finished=3
        show f
        show totals -> functions=1 executions=2 finished=2 retained=16 timers=1
        ",
    );
}

#[test]
fn a_failed_teardown_brings_the_function_back() {
    check(
        "
        0 r register f backend -> provision f
        0 provisioned f ok p -> open p, r: registered
        0 a invoke f -> dispatch a#1 to p for 1000
        0 b invoke f
        1 x remove f -> b: error b FUNCTION_REMOVED, teardown f
        1 g function f -> g: refused FunctionNotFound
        1 c invoke f -> c: refused FunctionNotFound
        2 torn-down f stuck -> x: refused Backend stuck
        3 c invoke f
        4 answer a#1 ok -> note 0+4 of 4 ms, a: success a, dispatch c#1 to p for 999
        ",
    );
}

#[test]
fn what_concerns_one_name_is_done_one_after_the_other() {
    check(
        "
        0 r register f backend -> provision f
        0 t scale f 2
        0 x remove f
        0 y remove f
        1 provisioned f ok p -> open p, r: registered, scale f 2
        2 scaled f 2 -> t: scaled 2, teardown f
        2 s register f
        2 o register g -> open G, o: registered
        3 torn-down f ok -> x: removed, close p, note gone, y: refused FunctionNotFound, open F, s: registered
        ",
    );
}

#[test]
fn what_waited_for_a_removal_that_failed_goes_on() {
    check(
        "
        0 r register f backend -> provision f
        0 provisioned f ok p -> open p, r: registered
        0 x remove f -> teardown f
        0 s register f
        0 y remove f
        0 t scale f 5
        1 torn-down f stuck -> x: refused Backend stuck, s: refused FunctionExists, teardown f
        2 torn-down f ok -> y: removed, close p, note gone, t: refused FunctionNotFound
        show totals
        ",
    );
}

#[test]
fn what_waited_for_a_removal_is_served_in_the_order_in_which_it_came() {
    check(
        "
        0 r register f backend -> provision f
        0 provisioned f ok p -> open p, r: registered
        0 x remove f -> teardown f
        0 s register f backend
        0 y remove f
        0 t register f
        1 torn-down f ok -> x: removed, close p, note gone, provision f
        2 provisioned f ok q -> open q, s: registered, teardown f
        3 torn-down f ok -> y: removed, close q, note gone, open F, t: registered
        ",
    );
}

#[test]
fn what_waits_for_a_backend_is_bounded() {
    check(
        "
        limits pending=1
        0 r register f backend -> provision f
        0 x remove f
        0 y remove f -> y: refused Overloaded requests that wait for one function's backend retry=1
        ",
    );
}

#[test]
fn scaling_is_told_by_the_backend() {
    check(
        "
        0 r register f backend -> provision f
        0 provisioned f ok p -> open p, r: registered
        0 t scale f 3 -> scale f 3
        0 g replicas f -> g: replicas 1/1
        1 scaled f 3 -> t: scaled 3
        1 g replicas f -> g: replicas 1/3
        1 t scale f 0 -> scale f 0
        2 scaled f away -> t: refused Backend away
        2 g replicas f -> g: replicas 1/3
        2 t scale nope 1 -> t: refused FunctionNotFound
        ",
    );
}

#[test]
fn backends_that_answer_twice_change_nothing() {
    check(
        "
        0 r register f backend -> provision f
        0 scaled f 5
        0 torn-down f ok
        0 provisioned f ok p -> open p, r: registered
        0 provisioned f ok q
        0 x remove f -> teardown f
        0 scaled f 5
        1 torn-down f ok -> x: removed, close p, note gone
        1 torn-down f ok
        show totals
        ",
    );
}

#[test]
fn endpoints_of_a_removed_function_stay_closed() {
    check(
        "
        0 r register f backend -> provision f
        0 provisioned f ok p -> open p, r: registered
        0 a invoke f -> dispatch a#1 to p for 1000
        1 x remove f -> teardown f
        2 torn-down f ok -> x: removed, close p, note gone
        3 endpoints f 1 q
        4 answer a#1 ok -> a: success a
        ",
    );
}

#[test]
fn replicas_that_went_away_while_a_registration_was_written_down_are_not_called() {
    check(
        "
        0 store waits
        0 r register f backend -> provision f
        1 provisioned f ok p -> write registered f
        2 endpoints f 1
        3 store safe -> r: registered
        4 a invoke f
        5 endpoints f 1 q -> open q, dispatch a#1 to q for 999
        ",
    );
}

#[test]
fn specs_have_room_up_to_their_bound_and_not_beyond() {
    check(
        "
        limits specs=4
        0 r register f -> open F, r: registered
        0 s register g -> open G, s: registered
        0 t register h -> t: refused Overloaded specs of all functions, limits.specs-bytes retry=1
        ",
    );
    check(
        "
        limits specs=1
        0 r register f -> r: refused Overloaded specs of all functions, limits.specs-bytes retry=1
        ",
    );
}
