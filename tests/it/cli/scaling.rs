//! `nanofaas fn scaling`.

use serde_json::json;

use super::{error, with_server};

const PATH: &str = "GET /v1/functions/f/scaling";

#[test]
fn the_reason_comes_first_then_what_it_is_made_of() {
    let body = json!({
        "function": "f", "desired": 3, "decidedAtMillis": 1_700_000_000_000_i64, "reason": "queue_depth 25 at 10 per replica",
        "inputs": [{"metric": "queue_depth", "value": 25, "target": 10}, {"metric": "rps", "value": null}],
        "limits": {"min": 0, "max": 5}, "nothing": []
    })
    .to_string();
    let (run, _) = with_server(vec![(PATH, 200, body.clone())], &["fn", "scaling", "f"]);
    let expected = "queue_depth 25 at 10 per replica\n\nfunction   f\ndesired    3\ndecidedAt  2023-11-14T22:13:20Z\n\n\
                    inputs\nMETRIC       VALUE  TARGET\nqueue_depth  25     10\nrps          -      -\n\n\
                    limits\nNAME  VALUE\nmin   0\nmax   5\n";
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (0, expected, ""));
    let (run, _) = with_server(vec![(PATH, 200, body.clone())], &["fn", "scaling", "f", "-o", "json"]);
    assert_eq!((run.code, run.stdout), (0, format!("{body}\n")));
}

#[test]
fn a_function_that_cannot_scale_is_a_failure() {
    let body = error("NOT_SCALABLE", "f runs in mode POOL");
    let (run, _) = with_server(vec![(PATH, 400, body)], &["fn", "scaling", "f"]);
    assert_eq!((run.code, run.stderr.as_str()), (1, "error: f runs in mode POOL (NOT_SCALABLE)\n"));
}
