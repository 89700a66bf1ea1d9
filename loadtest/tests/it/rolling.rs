//! Rolling restarts with real servers: not one request fails.

use crate::support::{binary::number, loadtest, nanofaas, server::folder};

fn rolled(more: &[&str]) -> serde_json::Value {
    let binary = nanofaas();
    let common = ["rolling", "--binary", &binary.to_string_lossy(), "--restarts", "2", "--between", "700ms"];
    let ran = loadtest(&[&common[..], &["--rate", "300", "--json"], more].concat());
    let summary = ran.summary();
    assert_eq!(ran.code, 0, "{summary:#}");
    assert_eq!(number(&summary, "/failed"), 0.0);
    assert_eq!(number(&summary, "/run/total/not_sent"), 0.0);
    assert!(number(&summary, "/run/total/succeeded") > 100.0, "{summary:#}");
    for restart in ["0", "1"] {
        assert_eq!(number(&summary, &format!("/restarts/{restart}/exit_code")), 0.0);
    }
    summary
}

#[test]
fn a_server_makes_room_for_the_next_without_a_failed_request() {
    let summary = rolled(&[]);
    assert_eq!(number(&summary, "/restarts/0/gap_ms"), 0.0);
}

#[test]
fn requests_wait_while_there_is_no_server() {
    let summary = rolled(&["--sequential"]);
    let gap_ms = number(&summary, "/restarts/1/gap_ms");
    assert!(gap_ms > 0.0, "{summary:#}");
    assert_eq!(number(&summary, "/run/total/error_rate"), 0.0);
}

#[test]
fn functions_go_on_when_one_server_takes_over_the_data_of_another() {
    let data = folder("rolling-data");
    let summary = rolled(&["--data", &data.to_string_lossy()]);
    assert_eq!(number(&summary, "/run/total/failed"), 0.0, "{summary:#}");
    let accepted = &summary["run"]["functions"][2];
    assert_eq!(accepted["name"], "accepted", "{summary:#}");
    assert!(number(accepted, "/figures/succeeded") > 50.0, "{accepted:#}");
}
