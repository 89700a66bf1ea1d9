//! `nanofaas runtime-config` and `nanofaas config --running`.

use serde_json::{Value, json};

use super::{error, with_server};

#[test]
fn what_a_running_server_can_change_is_shown_and_changed() {
    let snapshot = json!({"revision": 3, "rateMaxPerSecond": 1000, "syncQueueMaxQueueWait": "PT2S"});
    let get = || ("GET /v1/admin/runtime-config", 200, snapshot.to_string());
    for arguments in [&["runtime-config", "get"][..], &["config", "--running"]] {
        let (run, _) = with_server(vec![get()], arguments);
        let shown = "revision               3\nrateMaxPerSecond       1000\nsyncQueueMaxQueueWait  PT2S\n";
        assert_eq!((run.code, run.stdout.as_str()), (0, shown), "{run:?}");
        let (run, _) = with_server(vec![get()], &[arguments, &["-o", "json"]].concat());
        assert_eq!(run.stdout, format!("{snapshot}\n"));
        let off = ("GET /v1/admin/runtime-config", 404, error("NOT_FOUND", "no"));
        let (run, _) = with_server(vec![off], arguments);
        assert_eq!(run.code, 1);
        assert!(run.stderr.contains("NANOFAAS_ADMIN_RUNTIME_CONFIG_ENABLED=true"), "{run:?}");
    }

    let changed = json!({"revision": 4, "effectiveConfig": {"revision": 4, "rateMaxPerSecond": 5},
        "appliedAt": "x", "changeId": "y", "warnings": ["mind the gap"]});
    let patch = || ("PATCH /v1/admin/runtime-config", 200, changed.to_string());
    let set = ["runtime-config", "set", "rateMaxPerSecond=5", "syncQueueMaxQueueWait=PT5S"];
    let (run, fake) = with_server(vec![get(), patch()], &set);
    assert_eq!((run.code, run.stdout.as_str()), (0, "revision          4\nrateMaxPerSecond  5\n"), "{run:?}");
    assert_eq!(run.stderr, "warning: mind the gap\n");
    let sent: Value = serde_json::from_str(&fake.requests()[1].body).expect("JSON");
    assert_eq!(sent, json!({"rateMaxPerSecond": 5, "syncQueueMaxQueueWait": "PT5S", "expectedRevision": 3}));
    let (_, fake) = with_server(vec![patch()], &[&set[..], &["--expected-revision", "7"]].concat());
    assert!(fake.requests()[0].body.contains("\"expectedRevision\":7"));

    let errors = json!(["rateMaxPerSecond: too small"]);
    let refused = json!({"error": "VALIDATION_ERROR", "message": "not valid", "errors": errors});
    let refused = ("PATCH /v1/admin/runtime-config", 422, refused.to_string());
    let (run, _) = with_server(vec![get(), refused], &set);
    assert_eq!(run.stderr, "error: not valid (VALIDATION_ERROR)\n  rateMaxPerSecond: too small\n");
}
