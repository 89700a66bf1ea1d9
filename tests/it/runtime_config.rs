//! What can be changed while the server runs: all at once, on every shard, or not at all.

use serde_json::{Value, json};

use crate::support::{Function, Gate, Reply, Response, Server, eventually};

const ON: &str = "admin.runtime-config.enabled=true";
const PATH: &str = "/v1/admin/runtime-config";

fn patch(server: &Server, change: Value) -> Response {
    server.send("PATCH", PATH, &change)
}

fn put(server: &Server, change: Value) -> Value {
    let response = server.send("PUT", PATH, &change);
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()
}

#[test]
fn a_change_is_read_back_with_its_revision() {
    let server = Server::start(&[ON, "rate.max-per-second=1000"]);
    let before = server.get(PATH).json();
    assert_eq!((&before["revision"], &before["rateMaxPerSecond"]), (&json!(0), &json!(1000)));
    assert_eq!(before["syncQueueMaxQueueWait"], "PT2S");
    let applied =
        patch(&server, json!({ "expectedRevision": 0, "rateMaxPerSecond": 5, "defaultQueueSize": 7 }));
    assert_eq!(applied.status, 200, "{}", applied.text());
    let applied = applied.json();
    assert_eq!((&applied["revision"], &applied["warnings"]), (&json!(1), &json!([])));
    assert_eq!(applied["effectiveConfig"], server.get(PATH).json());
    assert_eq!(applied["effectiveConfig"]["defaultQueueSize"], 7);
    let warned = put(&server, json!({ "syncQueueRetryAfterSeconds": 3 }));
    assert_eq!(warned["warnings"].as_array().map(Vec::len), Some(1), "{warned}");
    let metric = |name: &str| server.metric(name);
    assert_eq!(metric("controlplane_runtime_config_revision"), 2.0);
    assert_eq!(metric("controlplane_runtime_config_updates_total{status=\"success\"}"), 2.0);
}

#[test]
fn what_is_wrong_changes_nothing() {
    let server = Server::start(&[ON]);
    put(&server, json!({ "rateMaxPerSecond": 123 }));
    let before = server.get(PATH).json();
    for (change, status, code) in [
        (json!({ "rateMaxPerSecond": 5 }), 400, "BAD_REQUEST"),
        (json!({ "expectedRevision": "1", "rateMaxPerSecond": 5 }), 400, "BAD_REQUEST"),
        (json!([]), 400, "BAD_REQUEST"),
        (json!({ "expectedRevision": 0, "rateMaxPerSecond": 5 }), 409, "REVISION_MISMATCH"),
        (json!({ "expectedRevision": 2, "rateMaxPerSecond": 5 }), 409, "REVISION_MISMATCH"),
        (json!({ "expectedRevision": 0, "defaultConcurrency": 0 }), 422, "VALIDATION_ERROR"),
        (json!({ "expectedRevision": 1, "rateMaxPerSecond": -5 }), 422, "VALIDATION_ERROR"),
        (json!({ "expectedRevision": 1, "rateMaxPerSecond": 5, "colour": 1 }), 422, "VALIDATION_ERROR"),
        (json!({ "expectedRevision": 1, "defaultTimeoutMs": 0 }), 422, "VALIDATION_ERROR"),
        (json!({ "expectedRevision": 1, "syncQueueMaxEstimatedWait": "PT9S" }), 422, "VALIDATION_ERROR"),
        (json!({ "expectedRevision": 1, "syncQueueMaxQueueWait": "-PT1S" }), 422, "VALIDATION_ERROR"),
        (json!({ "expectedRevision": 1, "syncQueueMaxQueueWait": "2s" }), 400, "BAD_REQUEST"),
        (json!({ "expectedRevision": 1, "syncQueueMaxQueueWait": 2 }), 400, "BAD_REQUEST"),
        (json!({ "expectedRevision": 1, "syncQueueMaxQueueWait": "P1M" }), 400, "BAD_REQUEST"),
        (json!({ "expectedRevision": 1, "syncQueueMaxQueueWait": "PT0.0009S" }), 422, "VALIDATION_ERROR"),
        (json!({ "expectedRevision": 1, "syncQueueRetryAfterSeconds": 0 }), 422, "VALIDATION_ERROR"),
        (json!({ "expectedRevision": 1, "syncQueueEnabled": "true" }), 422, "VALIDATION_ERROR"),
        (json!({ "expectedRevision": 1, "rateMaxPerSecond": 4_294_967_296_u64 }), 422, "VALIDATION_ERROR"),
        (json!({ "expectedRevision": 1, "rateMaxPerSecond": 1.5 }), 422, "VALIDATION_ERROR"),
        (json!({ "expectedRevision": 1, "defaultConcurrency": 0 }), 422, "VALIDATION_ERROR"),
        (json!({ "expectedRevision": 1, "defaultQueueSize": 0 }), 422, "VALIDATION_ERROR"),
        (json!({ "expectedRevision": 1, "defaultMaxRetries": 101 }), 422, "VALIDATION_ERROR"),
    ] {
        let error = patch(&server, change.clone()).expect_error(status, code);
        match code {
            "REVISION_MISMATCH" => assert_eq!(error["currentRevision"], 1, "{change}"),
            "VALIDATION_ERROR" => assert!(error["errors"].as_array().is_some_and(|all| !all.is_empty())),
            _ => {}
        }
        assert_eq!(server.get(PATH).json(), before, "{change}");
    }
    let duration = patch(&server, json!({ "expectedRevision": 1, "syncQueueMaxQueueWait": "2s" })).json();
    assert_eq!((&duration["field"], &duration["value"]), (&json!("syncQueueMaxQueueWait"), &json!("2s")));
    let validate = |change: Value| server.send("POST", &format!("{PATH}/validate"), &change);
    assert_eq!(
        validate(json!({ "rateMaxPerSecond": 9, "expectedRevision": 0 })).json(),
        json!({ "valid": true })
    );
    validate(json!({ "defaultConcurrency": 0 })).expect_error(422, "VALIDATION_ERROR");
    assert_eq!(server.get(PATH).json(), before);
}

#[test]
fn a_body_that_cannot_be_read_changes_nothing() {
    let server = Server::start(&[ON]);
    let before = server.get(PATH).json();
    let validate = format!("{PATH}/validate");
    for (method, path) in [("PUT", PATH), ("PATCH", PATH), ("POST", validate.as_str())] {
        let send = |kind: &str, body: &str| {
            server.client().send(method, path, &[("content-type", kind)], body.as_bytes())
        };
        let body = r#"{"expectedRevision":0,"rateMaxPerSecond":5}"#;
        send("text/plain", body).expect_error(415, "UNSUPPORTED_MEDIA_TYPE");
        let error = send("application/json", "{\n\"rateMaxPerSecond\": x}").expect_error(400, "BAD_REQUEST");
        let message = error["message"].as_str().unwrap_or_default();
        assert!(message.contains("line 2") && message.contains("column"), "{method}: {message}");
        assert_eq!(server.get(PATH).json(), before, "{method}");
    }
    // All that is wrong is said at once, and what was probably meant.
    let change = json!({ "rateMaxPerSecnd": 5, "defaultMaxRetries": 101, "defaultQueueSize": 0 });
    let error = server.send("PUT", PATH, &change).expect_error(422, "VALIDATION_ERROR");
    let errors: Vec<&str> =
        error["errors"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    assert_eq!(errors.len(), 3, "{errors:?}");
    assert!(errors.iter().any(|error| error.contains("did you mean rateMaxPerSecond")), "{errors:?}");
    server
        .send("PUT", PATH, &json!({ "expectedRevision": 4, "rateMaxPerSecond": 5 }))
        .expect_error(409, "REVISION_MISMATCH");
    assert_eq!(server.get(PATH).json(), before);
}

#[test]
fn the_admin_api_is_off_by_default() {
    let server = Server::start(&[]);
    for (method, path) in
        [("GET", PATH), ("PUT", PATH), ("PATCH", PATH), ("POST", "/v1/admin/runtime-config/validate")]
    {
        server.send(method, path, &json!({})).expect_error(404, "NOT_FOUND");
    }
}

#[test]
fn of_many_changes_to_one_revision_exactly_one_is_made() {
    let server = Server::start(&[ON]);
    for revision in 0..5 {
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let change = |number: u64| {
                let server = &server;
                let change = json!({ "expectedRevision": revision, "rateMaxPerSecond": number + 100 });
                scope.spawn(move || patch(server, change).status)
            };
            let threads: Vec<_> = (0..8).map(change).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let count = |wanted: u16| statuses.iter().filter(|status| **status == wanted).count();
        assert_eq!((count(200), count(409)), (1, 7), "{statuses:?}");
    }
}

#[test]
fn a_limit_holds_for_functions_of_all_shards_as_soon_as_it_is_set() {
    let server = Server::start(&[ON, "placement=colocated"]);
    // Names that differ in one letter go to both shards.
    let names: Vec<String> = ('a'..='h').map(|letter| format!("f-{letter}")).collect();
    for name in &names {
        server.register(json!({ "name": name, "executionMode": "LOCAL" }));
    }
    let call_all = || names.iter().filter(|name| server.invoke(name, json!(1)).status == 429).count();
    assert_eq!(call_all(), 0);
    put(&server, json!({ "rateMaxPerSecond": 1 }));
    // All calls may fall into two seconds, never more.
    eventually("calls are refused", || call_all() >= 6);
    let refused = names.iter().map(|name| server.invoke(name, json!(1))).find(|answer| answer.status == 429);
    assert_eq!(refused.map(|answer| answer.json()["limitPerSecond"].clone()), Some(json!(1)));
    put(&server, json!({ "rateMaxPerSecond": 1_000_000 }));
    assert_eq!(call_all(), 0);
}

#[test]
fn defaults_are_those_of_later_registrations() {
    let server = Server::start(&[ON, "async-queue.enabled=true"]);
    let register = |name: &str| server.register(json!({ "name": name, "executionMode": "LOCAL" }));
    let before = register("before");
    put(
        &server,
        json!({ "defaultTimeoutMs": 1234, "defaultConcurrency": 9, "defaultQueueSize": 8, "defaultMaxRetries": 7 }),
    );
    let after = register("after");
    assert_eq!(before["timeoutMs"], 30000);
    let numbers: Vec<_> =
        ["timeoutMs", "concurrency", "queueSize"].iter().map(|field| after[*field].clone()).collect();
    assert_eq!(numbers, [1234, 9, 8]);
    // No document shows this one: a response that is posted again would name what the registration did not.
    let failing = Function::start(|_| Reply::new(500, "", b"no"));
    server.pool("failing", &failing, json!({ "retryBackoffMs": 0 }));
    let accepted = server.send("POST", "/v1/functions/failing:enqueue", &json!({ "input": 1 }));
    let status = server.ended(accepted.header("x-execution-id").expect("an id"));
    assert_eq!((&status["status"], &status["attempt"]), (&json!("error"), &json!(7)), "{status}");
    assert_eq!(server.get("/v1/functions/before").json()["timeoutMs"], 30000);
}

#[test]
fn limits_of_the_sync_queue_hold_as_soon_as_they_are_set() {
    let server = Server::start(&[ON]);
    let gate = Gate::closed();
    let function = Function::behind(&gate, json!(1));
    server.pool("f", &function, json!({ "concurrency": 1 }));
    let mut running = server.begin("f", &[], json!(1));
    gate.await_arrivals(1);
    put(
        &server,
        json!({
            "syncQueueEnabled": true, "syncQueueAdmissionEnabled": false, "syncQueueRetryAfterSeconds": 77,
            "syncQueueMaxEstimatedWait": "PT0.1S", "syncQueueMaxQueueWait": "PT0.2S",
        }),
    );
    // The queue was off until now: this caller would have waited to the end of its own 30 seconds.
    let refused = server.invoke("f", json!(2));
    let error = refused.expect_error(429, "SYNC_QUEUE_REJECTED");
    assert_eq!(error["reason"], "timeout");
    let seconds: Option<u32> = refused.header("retry-after").and_then(|text| text.parse().ok());
    assert!(seconds >= Some(77), "{seconds:?}");
    gate.open();
    assert_eq!(running.read().expect("an answer").status, 200);
}
