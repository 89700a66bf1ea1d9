//! Attempts: how many, when, and which failures are not worth another.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{Call, Function, Gate, Reply, Server, eventually};

/// What a function saw of each of its calls.
#[derive(Debug, Clone)]
struct Seen {
    id: String,
    attempt: u32,
    key: Option<String>,
    input: Value,
    at: Instant,
}

type Record = Arc<Mutex<Vec<Seen>>>;

/// A function that records its calls and then answers by their number, from 0.
fn recorded(answer: impl Fn(usize, &Call) -> Reply + Send + Sync + 'static) -> (Record, Function) {
    let record = Record::default();
    let calls = Arc::clone(&record);
    let function = Function::start(move |call| {
        let seen = Seen {
            id: call.header("x-execution-id").expect("an id").to_owned(),
            attempt: call.header("x-dispatch-attempt").and_then(|text| text.parse().ok()).expect("a number"),
            key: call.header("idempotency-key").map(str::to_owned),
            input: call.json()["input"].clone(),
            at: Instant::now(),
        };
        let number = {
            let mut calls = calls.lock().expect("no panic");
            calls.push(seen);
            calls.len() - 1
        };
        answer(number, &call)
    });
    (record, function)
}

fn seen(record: &Record) -> Vec<Seen> {
    record.lock().expect("no panic").clone()
}

#[test]
fn max_retries_is_the_number_of_attempts() {
    let server = Server::start(&[]);
    for (max_retries, attempts) in
        [(Some(0), 1), (Some(1), 1), (Some(2), 2), (Some(3), 3), (None, 1), (Some(7), 7)]
    {
        let (record, function) =
            recorded(|number, _| Reply::new(500, "", format!("failure {number}").as_bytes()));
        let name = format!("f{}", max_retries.map_or("-default".to_owned(), |count: u32| count.to_string()));
        let fields = max_retries.map_or(json!({}), |count| json!({ "maxRetries": count }));
        server.pool(&name, &function, fields);
        let response = server.invoke(&name, json!({ "a": 1 }));
        let id = response.header("x-execution-id").expect("an id");
        let calls = seen(&record);
        let numbers: Vec<_> = calls.iter().map(|call| call.attempt).collect();
        assert_eq!(numbers, (1..=attempts).collect::<Vec<_>>(), "{name}");
        assert!(calls.iter().all(|call| call.id == id && call.input == json!({ "a": 1 })), "{calls:?}");
        assert_eq!(response.json()["error"]["message"], format!("failure {}", attempts - 1));
        let status = server.execution(id);
        assert_eq!(status["attempt"], attempts);
        let last = if attempts > 1 { json!(format!("failure {}", attempts - 2)) } else { Value::Null };
        assert_eq!(status["lastError"]["message"], last);
        let counted = |series: &str| server.metric(&format!("{series}{{function=\"{name}\"}}"));
        assert_eq!(counted("function_retry_total"), f64::from(attempts - 1));
        assert_eq!(counted("function_dispatch_total"), f64::from(attempts));
        assert_eq!(counted("function_invocation_total"), 1.0);
        assert_eq!(counted("function_error_total"), 1.0);
    }
}

#[test]
fn a_later_attempt_can_succeed_and_carries_no_key() {
    let server = Server::start(&[]);
    let (record, function) = recorded(|number, _| match number {
        0 => Reply::new(500, "text/plain", b"not yet"),
        _ => Reply::json(json!("now")),
    });
    server.pool("f", &function, json!({ "maxRetries": 3 }));
    let response = server.begin("f", &[("idempotency-key", "k")], json!(1)).read().expect("an answer");
    assert_eq!((response.status, &response.json()["output"]), (200, &json!("now")));
    let keys: Vec<_> = seen(&record).into_iter().map(|call| call.key).collect();
    assert_eq!(keys, [Some("k".to_owned()), None]);
    let status = server.execution(response.header("x-execution-id").expect("an id"));
    assert_eq!(
        (&status["status"], &status["attempt"], &status["error"]),
        (&json!("success"), &json!(2), &Value::Null)
    );
    assert_eq!(status["lastError"], json!({ "code": "FUNCTION_ERROR", "message": "not yet" }));
    assert_eq!(server.metric("function_error_total{function=\"f\"}"), 0.0);
}

#[test]
fn statuses_that_cannot_get_better_are_not_retried() {
    let server = Server::start(&[]);
    let function = Function::obedient();
    server.pool("f", &function, json!({ "maxRetries": 2 }));
    for (status, attempts) in [
        (400, 1),
        (401, 1),
        (403, 1),
        (404, 1),
        (405, 1),
        (413, 1),
        (415, 1),
        (422, 1),
        (402, 1),
        (406, 1),
        (409, 1),
        (410, 1),
        (429, 1),
        (451, 1),
        (301, 2),
        (408, 2),
        (425, 2),
        (500, 2),
        (501, 2),
        (502, 2),
        (503, 2),
        (504, 2),
        (599, 2),
    ] {
        let before = function.calls();
        let body = server.invoke("f", json!({ "status": status, "body": "no" })).json();
        assert_eq!((&body["status"], &body["error"]["code"]), (&json!("error"), &json!("FUNCTION_ERROR")));
        assert_eq!(function.calls() - before, attempts, "{status}");
    }
}

#[test]
fn who_says_for_how_long_it_has_enough_is_asked_again() {
    let server = Server::start(&[]);
    let (record, function) = recorded(|number, _| match number {
        0 => Reply::new(429, "", b"busy").with("retry-after", "1"),
        _ => Reply::json(json!("now")),
    });
    server.pool("f", &function, json!({ "maxRetries": 2, "retryBackoffMs": 0 }));
    assert_eq!(server.invoke("f", json!(1)).json()["output"], "now");
    assert_eq!(seen(&record).len(), 2);
}

#[test]
fn an_accepted_call_that_joins_makes_more_attempts_of_a_synchronous_one() {
    let server = Server::start(&["async-queue.enabled=true"]);
    let gate = Gate::closed();
    let door = gate.clone();
    let (record, function) = recorded(move |number, _| {
        door.pass();
        if number < 2 { Reply::new(500, "", b"not yet") } else { Reply::json(json!("now")) }
    });
    server.pool("f", &function, json!({ "retryBackoffMs": 0 }));
    let key = [("idempotency-key", "k"), ("content-type", "application/json")];
    let mut caller = server.begin("f", &key[..1], json!(1));
    gate.await_arrivals(1);
    let body = json!({ "input": 1 }).to_string();
    let accepted = server.client().send("POST", "/v1/functions/f:enqueue", &key, body.as_bytes());
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    gate.open();
    assert_eq!(caller.read().expect("an answer").json()["output"], "now");
    assert_eq!(seen(&record).len(), 3);
}

#[test]
fn what_cannot_be_reached_or_takes_too_long_is_retried() {
    let server = Server::start(&[]);
    let refuses = Function::raw(drop);
    server.pool("refuses", &refuses, json!({ "maxRetries": 3 }));
    let body = server.invoke("refuses", json!(1)).json();
    assert_eq!(body["error"]["code"], "FUNCTION_UNREACHABLE");
    assert_eq!(server.metric("function_dispatch_total{function=\"refuses\"}"), 3.0);

    let gate = Gate::closed();
    let door = gate.clone();
    let (record, hangs) = recorded(move |number, _| {
        if number < 2 {
            door.pass();
        }
        Reply::json(json!(number))
    });
    server.pool("hangs", &hangs, json!({ "maxRetries": 3, "timeoutMs": 150 }));
    let response = server.begin("hangs", &[("x-timeout-ms", "20000")], json!(1)).read().expect("an answer");
    assert_eq!(response.json()["output"], 2, "{}", response.text());
    assert_eq!(seen(&record).len(), 3);
    let status = server.execution(response.header("x-execution-id").expect("an id"));
    assert_eq!(status["lastError"]["code"], "FUNCTION_TIMEOUT");
    gate.open();
}

#[test]
fn a_retry_waits_as_long_as_the_function_asks() {
    let server = Server::start(&[]);
    let (record, function) = recorded(|number, _| match number {
        0 => Reply::new(503, "", b"").with("retry-after", "1"),
        _ => Reply::json(json!(1)),
    });
    server.pool("f", &function, json!({ "maxRetries": 3 }));
    let mut client = server.begin("f", &[], json!(1));
    eventually("it waits for its time", || server.metric("function_queue_depth{function=\"f\"}") == 1.0);
    assert_eq!(server.metric("function_in_flight{function=\"f\"}"), 0.0, "it holds a slot while it waits");
    let status = server.execution(&seen(&record)[0].id);
    assert_eq!(
        (&status["status"], &status["lastError"]["code"]),
        (&json!("queued"), &json!("FUNCTION_ERROR"))
    );
    for field in ["dispatchedAtMillis", "startedAtMillis", "startedAt", "finishedAtMillis", "finishedAt"] {
        assert_eq!(status[field], Value::Null, "{field} of the attempt before: {status}");
    }
    assert_eq!(client.read().expect("an answer").status, 200);
    let calls = seen(&record);
    assert!(calls[1].at - calls[0].at >= Duration::from_secs(1));
}

#[test]
fn back_off_is_random_and_bounded() {
    let server = Server::start(&[]);
    let (record, function) = recorded(|_, _| Reply::new(500, "", b""));
    server.pool("f", &function, json!({ "maxRetries": 3, "retryBackoffMs": 100 }));
    for _ in 0..8 {
        server.invoke("f", json!(1));
    }
    let calls = seen(&record);
    let waits: Vec<_> =
        calls.chunks(3).flat_map(|run| [run[1].at - run[0].at, run[2].at - run[1].at]).collect();
    let total: Duration = waits.iter().sum();
    // 8 × (0..100 ms + 0..200 ms): 1.2 s on average. Without back-off it would be a few milliseconds.
    assert!(total > Duration::from_millis(200), "{waits:?}");
    assert!(waits.iter().any(|wait| *wait < Duration::from_millis(90)), "no jitter: {waits:?}");
}

#[test]
fn a_deadline_that_passes_in_the_back_off_ends_the_call() {
    let server = Server::start(&[]);
    let (record, function) = recorded(|_, _| Reply::new(503, "", b"").with("retry-after", "30"));
    server.pool("f", &function, json!({ "maxRetries": 3 }));
    let response = server.begin("f", &[("x-timeout-ms", "300")], json!(1)).read().expect("an answer");
    assert_eq!(response.status, 408, "{}", response.text());
    assert_eq!(response.json()["error"]["stage"], "queue");
    let status = server.execution(response.header("x-execution-id").expect("an id"));
    assert_eq!(
        (&status["status"], &status["lastError"]["code"]),
        (&json!("timeout"), &json!("FUNCTION_ERROR"))
    );
    assert_eq!(server.metric("function_queue_depth{function=\"f\"}"), 0.0);
    assert_eq!(seen(&record).len(), 1);
}

#[test]
fn a_retry_goes_to_the_tail() {
    let server = Server::start(&[]);
    let gate = Gate::closed();
    let door = gate.clone();
    let (record, function) = recorded(move |number, _| {
        door.pass();
        if number == 0 { Reply::new(500, "", b"again") } else { Reply::json(json!(1)) }
    });
    server.pool(
        "f",
        &function,
        json!({ "concurrency": 1, "queueSize": 2, "maxRetries": 3, "retryBackoffMs": 0 }),
    );
    let mut clients = vec![server.begin("f", &[], json!("a"))];
    gate.await_arrivals(1);
    for (depth, input) in [(1.0, "b"), (2.0, "c")] {
        clients.push(server.begin("f", &[], json!(input)));
        eventually("it waits", || server.metric("function_queue_depth{function=\"f\"}") == depth);
    }
    gate.open();
    for mut client in clients {
        // The queue was full, but the failure made a place free.
        let body = client.read().expect("an answer").json();
        assert_eq!(body["status"], "success", "{body}");
    }
    let order: Vec<_> = seen(&record).iter().map(|call| (call.input.clone(), call.attempt)).collect();
    assert_eq!(order, [(json!("a"), 1), (json!("b"), 1), (json!("c"), 1), (json!("a"), 2)]);
}

#[test]
fn without_a_place_for_the_retry_the_first_failure_is_the_result() {
    let server = Server::start(&[]);
    let gate = Gate::closed();
    let door = gate.clone();
    // "late" fails when the queue is full; everybody else waits at the door.
    let late = Gate::closed();
    let late_door = late.clone();
    let (record, function) = recorded(move |_, call| {
        if call.json()["input"] == "late" {
            late_door.pass();
            return Reply::new(503, "text/plain", b"the first failure").with("retry-after", "60");
        }
        door.pass();
        Reply::json(json!(1))
    });
    server.pool("f", &function, json!({ "concurrency": 2, "queueSize": 1, "maxRetries": 3 }));
    let mut failing = server.begin("f", &[], json!("late"));
    late.await_arrivals(1);
    let mut others = vec![server.begin("f", &[], json!(1))];
    gate.await_arrivals(1);
    // One waits, and takes the slot that the failure frees; the next one takes its place in the queue before.
    others.push(server.begin("f", &[], json!(2)));
    eventually("the queue is full", || server.metric("function_queue_depth{function=\"f\"}") == 1.0);
    late.open();
    gate.await_arrivals(2);
    // The place is free now: the retry holds it for its back-off of 60 s, so the next caller is refused.
    eventually("the retry waits", || server.metric("function_queue_depth{function=\"f\"}") == 1.0);
    server.invoke("f", json!(3)).expect_error(429, "QUEUE_FULL");
    // Another failure finds it taken.
    gate.admit(1);
    assert_eq!(first_answer(&mut others), 200);
    let response = server.invoke("f", json!("late"));
    let body = response.json();
    assert_eq!(
        (&body["status"], &body["error"]["message"]),
        (&json!("error"), &json!("the first failure")),
        "{body}"
    );
    let status = server.execution(response.header("x-execution-id").expect("an id"));
    assert_eq!((&status["attempt"], &status["lastError"]), (&json!(1), &Value::Null));
    assert_eq!(server.metric("function_queue_rejected_total{function=\"f\"}"), 2.0);
    assert_eq!(server.metric("function_retry_total{function=\"f\"}"), 1.0);
    gate.open();
    for client in &mut others {
        assert_eq!(client.read().expect("an answer").status, 200);
    }
    assert_eq!(seen(&record).len(), 4);
    // Its deadline is the function's 30 s: nobody waits for that here.
    failing.stream.get_ref().set_nonblocking(true).expect("our socket");
    assert!(failing.read().is_err(), "an answer before its time");
}

/// Takes out the client whose answer comes first.
fn first_answer(clients: &mut Vec<crate::support::Client>) -> u16 {
    let mut found = None;
    eventually("one is answered", || {
        found = clients.iter().position(|client| {
            let stream = client.stream.get_ref();
            stream.set_nonblocking(true).expect("our socket");
            let ready = stream.peek(&mut [0]).is_ok();
            stream.set_nonblocking(false).expect("our socket");
            ready
        });
        found.is_some()
    });
    let mut client = clients.remove(found.expect("just found"));
    client.read().expect("an answer").status
}

#[test]
fn asynchronous_executions_are_retried_alike() {
    let server = Server::start(&["async-queue.enabled=true"]);
    let (record, function) = recorded(|number, _| match number {
        0 | 1 => Reply::new(500, "", b"not yet"),
        _ => Reply::json(json!("now")),
    });
    server.pool("f", &function, json!({}));
    let response = server.send("POST", "/v1/functions/f:enqueue", &json!({ "input": 1 }));
    let id = response.header("x-execution-id").expect("an id");
    let status = server.ended(id);
    assert_eq!(
        (&status["status"], &status["attempt"], &status["output"]),
        (&json!("success"), &json!(3), &json!("now"))
    );
    assert!(seen(&record).iter().all(|call| call.id == id));
}
