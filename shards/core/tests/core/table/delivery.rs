//! Results go to the addresses that callers gave.

use crate::script::check;

#[test]
fn a_result_is_delivered_once_it_is_there() {
    check(
        "
        0 r register f -> open F, r: registered
        0 a enqueue f url=http://example.org/done -> a: accepted a, dispatch a#1 to F for 1000
        5 answer a#1 ok -> note 0+5 of 5 ms, deliver a success to http://example.org/done
        ",
    );
}
