//! Idempotency keys: one execution per function and key, whoever asks, however often.

use serde_json::{Value, json};

use crate::support::{Client, Function, Gate, Reply, Response, Server, client::encode, eventually};

const JSON: (&str, &str) = ("content-type", "application/json");

fn call(server: &Server, path: &str, key: &str, content_type: &str, body: &str) -> Response {
    let path = format!("/v1/functions/{path}");
    let headers = [("content-type", content_type), ("idempotency-key", key)];
    server.client().send("POST", &path, &headers, body.as_bytes())
}

fn begin(server: &Server, path: &str, headers: &[(&str, &str)], body: &str) -> Client {
    let mut client = server.client();
    let headers = [&[JSON], headers].concat();
    client.write(&encode("POST", &format!("/v1/functions/{path}"), &headers, body.as_bytes()));
    client
}

fn id(response: &Response) -> String {
    response.header("x-execution-id").unwrap_or_else(|| panic!("no id: {}", response.text())).to_owned()
}

/// Answers at the gate with the number of the call.
fn held() -> (Gate, Function) {
    let gate = Gate::closed();
    let door = gate.clone();
    let calls = std::sync::atomic::AtomicUsize::new(0);
    let function = Function::start(move |_| {
        let number = calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
        door.pass();
        Reply::json(json!(number))
    });
    (gate, function)
}

#[test]
fn a_repeated_call_gets_the_stored_answer() {
    let server = Server::start(&["async-queue.enabled=true"]);
    let (gate, function) = held();
    gate.open();
    for name in ["f", "g"] {
        server.pool(name, &function, json!({}));
    }
    let body = r#"{"input":{"a":1}}"#;
    let first = call(&server, "f:invoke", "k", JSON.1, body);
    assert_eq!((first.status, &first.json()["output"]), (200, &json!(1)));
    for _ in 0..3 {
        let again = call(&server, "f:invoke", "k", JSON.1, body);
        assert_eq!((again.status, again.text(), id(&again)), (200, first.text(), id(&first)));
    }
    let accepted = call(&server, "f:enqueue", "k", JSON.1, body);
    assert_eq!((accepted.status, id(&accepted)), (202, id(&first)));
    assert_eq!(accepted.header("location"), Some(format!("/v1/executions/{}", id(&first)).as_str()));
    assert_eq!(function.calls(), 1);
    assert_eq!(server.metric("function_invocation_total{function=\"f\"}"), 1.0);
    // Another key, another function and no key are other calls.
    assert_eq!(call(&server, "f:invoke", "K", JSON.1, body).json()["output"], 2);
    assert_eq!(call(&server, "g:invoke", "k", JSON.1, body).json()["output"], 3);
    assert_eq!(server.invoke("f", json!({ "a": 1 })).json()["output"], 4);
}

#[test]
fn failures_and_timeouts_are_answers_too() {
    let server = Server::start(&[]);
    let (gate, function) = held();
    server.pool("slow", &function, json!({ "timeoutMs": 100 }));
    let obedient = Function::obedient();
    server.pool("fails", &obedient, json!({ "maxRetries": 1 }));
    let failing = r#"{"input":{"status":500,"body":"no"}}"#;
    for (path, body, status) in [("slow:invoke", r#"{"input":1}"#, 408), ("fails:invoke", failing, 200)] {
        let first = call(&server, path, "k", JSON.1, body);
        assert_eq!(first.status, status);
        gate.open();
        let again = call(&server, path, "k", JSON.1, body);
        assert_eq!((again.status, again.text(), id(&again)), (status, first.text(), id(&first)));
    }
    assert_eq!((function.calls(), obedient.calls()), (1, 1));
}

#[test]
fn another_payload_is_refused() {
    let server = Server::start(&["async-queue.enabled=true"]);
    let (gate, function) = held();
    server.pool("f", &function, json!({}));
    let mut running = begin(&server, "f:invoke", &[("idempotency-key", "k")], r#"{"input":1}"#);
    gate.await_arrivals(1);
    let check = |state: &str| {
        for (path, content_type, body) in [
            ("f:invoke", JSON.1, r#"{"input":2}"#),
            ("f:invoke", JSON.1, r#"{"input":1} "#),
            ("f:invoke", JSON.1, r#"{"input":1,"metadata":{}}"#),
            ("f:enqueue", JSON.1, r#"{"input":2}"#),
            ("f:invoke", "text/plain", r#"{"input":1}"#),
            ("f:invoke", "application/vnd.a+json", r#"{"input":1}"#),
        ] {
            let refused = call(&server, path, "k", content_type, body);
            let error = refused.expect_error(422, "IDEMPOTENCY_KEY_REUSED");
            assert_eq!(error.as_object().map(|error| error.len()), Some(2), "{error}");
            assert_eq!(refused.header("x-execution-id"), None, "{state} {path} {content_type} {body}");
        }
    };
    check("running");
    gate.open();
    let first = running.read().expect("an answer");
    check("finished");
    let again = call(&server, "f:invoke", "k", JSON.1, r#"{"input":1}"#);
    assert_eq!((id(&again), function.calls()), (id(&first), 1));
}

#[test]
fn a_call_in_flight_is_joined_with_a_deadline_of_ones_own() {
    let server = Server::start(&[]);
    let (gate, function) = held();
    server.pool("f", &function, json!({}));
    let key = ("idempotency-key", "k");
    let mut first = begin(&server, "f:invoke", &[key], r#"{"input":1}"#);
    gate.await_arrivals(1);
    let mut patient = begin(&server, "f:invoke", &[key], r#"{"input":1}"#);
    let hasty = begin(&server, "f:invoke", &[key, ("x-timeout-ms", "80")], r#"{"input":1}"#)
        .read()
        .expect("an answer");
    let body = hasty.json();
    assert_eq!(
        (hasty.status, &body["status"], &body["error"]["stage"]),
        (408, &json!("timeout"), &json!("function"))
    );
    let status = server.execution(&id(&hasty));
    assert_eq!(status["status"], "running", "one waiter ended what others wait for");
    // One that leaves ends nothing either.
    drop(begin(&server, "f:invoke", &[key], r#"{"input":1}"#));
    gate.open();
    let (first, patient) = (first.read().expect("an answer"), patient.read().expect("an answer"));
    assert_eq!((first.status, first.text()), (200, patient.text()));
    assert_eq!((id(&first), id(&patient)), (id(&hasty), id(&hasty)));
    assert_eq!(function.calls(), 1);
}

#[test]
fn the_first_caller_may_leave_while_others_wait() {
    let server = Server::start(&[]);
    let (gate, function) = held();
    server.pool("f", &function, json!({ "concurrency": 1 }));
    let mut running = server.begin("f", &[], json!(0));
    gate.await_arrivals(1);
    let key = ("idempotency-key", "k");
    // It waits in the queue; the first caller's deadline passes, then the second one's.
    let mut first = begin(&server, "f:invoke", &[key, ("x-timeout-ms", "150")], r#"{"input":1}"#);
    eventually("it waits", || server.metric("function_queue_depth{function=\"f\"}") == 1.0);
    let mut second = begin(&server, "f:invoke", &[key], r#"{"input":1}"#);
    let first = first.read().expect("an answer");
    assert_eq!((first.status, &first.json()["error"]["stage"]), (408, &json!("queue")));
    assert_eq!(server.execution(&id(&first))["status"], "queued");
    gate.open();
    let second = second.read().expect("an answer");
    assert_eq!((second.status, id(&second)), (200, id(&first)), "{}", second.text());
    assert_eq!(running.read().expect("an answer").status, 200);
}

#[test]
fn an_enqueue_that_joins_makes_the_execution_last() {
    let server = Server::start(&["async-queue.enabled=true"]);
    let (gate, function) = held();
    server.pool("f", &function, json!({}));
    let key = ("idempotency-key", "k");
    let mut caller = begin(&server, "f:invoke", &[key, ("x-timeout-ms", "300")], r#"{"input":1}"#);
    gate.await_arrivals(1);
    let accepted = call(&server, "f:enqueue", "k", JSON.1, r#"{"input":1}"#);
    assert_eq!(accepted.status, 202);
    let caller = caller.read().expect("an answer");
    assert_eq!((caller.status, id(&caller)), (408, id(&accepted)));
    assert_eq!(server.execution(&id(&accepted))["status"], "running", "a waiter ended what was accepted");
    gate.open();
    assert_eq!(server.ended(&id(&accepted))["output"], 1);
}

#[test]
fn an_invoke_that_joins_an_enqueue_waits_for_it() {
    let server = Server::start(&["async-queue.enabled=true"]);
    let (gate, function) = held();
    server.pool("f", &function, json!({}));
    let accepted = call(&server, "f:enqueue", "k", JSON.1, r#"{"input":1}"#);
    gate.await_arrivals(1);
    let mut caller = begin(&server, "f:invoke", &[("idempotency-key", "k")], r#"{"input":1}"#);
    let repeated = call(&server, "f:enqueue", "k", JSON.1, r#"{"input":1}"#);
    assert_eq!((repeated.status, id(&repeated)), (202, id(&accepted)));
    gate.open();
    let answer = caller.read().expect("an answer");
    assert_eq!((answer.status, &answer.json()["output"], id(&answer)), (200, &json!(1), id(&accepted)));
}

#[test]
fn a_refused_call_leaves_no_key() {
    let server = Server::start(&["async-queue.enabled=true"]);
    let (gate, function) = held();
    server.pool("f", &function, json!({ "concurrency": 1, "queueSize": 1 }));
    let mut clients = vec![server.begin("f", &[], json!(0))];
    gate.await_arrivals(1);
    clients.push(server.begin("f", &[], json!(0)));
    eventually("one waits", || server.metric("function_queue_depth{function=\"f\"}") == 1.0);
    for path in ["f:invoke", "f:enqueue"] {
        call(&server, path, "k", JSON.1, r#"{"input":1}"#).expect_error(429, "QUEUE_FULL");
    }
    call(&server, "f:invoke", "k", JSON.1, "{").expect_error(400, "BAD_REQUEST");
    call(&server, "g:invoke", "k", JSON.1, r#"{"input":1}"#).expect_error(404, "NOT_FOUND");
    gate.open();
    for client in &mut clients {
        assert_eq!(client.read().expect("an answer").status, 200);
    }
    // Another payload: had the refusal kept the key, this would be 422.
    let response = call(&server, "f:invoke", "k", JSON.1, r#"{"input":"other"}"#);
    assert_eq!((response.status, function.calls()), (200, 3), "{}", response.text());
}

#[test]
fn a_caller_that_leaves_the_queue_takes_its_key_along() {
    let server = Server::start(&[]);
    let (gate, function) = held();
    server.pool("f", &function, json!({ "concurrency": 1 }));
    let mut running = server.begin("f", &[], json!(0));
    gate.await_arrivals(1);
    let depth = || server.metric("function_queue_depth{function=\"f\"}");
    let leaves = begin(&server, "f:invoke", &[("idempotency-key", "k")], r#"{"input":1}"#);
    eventually("it waits", || depth() == 1.0);
    drop(leaves);
    eventually("it left", || depth() == 0.0);
    gate.open();
    assert_eq!(running.read().expect("an answer").status, 200);
    assert_eq!(call(&server, "f:invoke", "k", JSON.1, r#"{"input":2}"#).status, 200);
}

#[test]
fn fifty_calls_with_one_key_are_one_dispatch() {
    let server = Server::start(&["async-queue.enabled=true"]);
    let (gate, function) = held();
    server.pool("f", &function, json!({ "concurrency": 16 }));
    let mut clients: Vec<Client> = (0..50)
        .map(|number| {
            let path = if number % 5 == 0 { "f:enqueue" } else { "f:invoke" };
            begin(&server, path, &[("idempotency-key", "k")], r#"{"input":1}"#)
        })
        .collect();
    gate.await_arrivals(1);
    gate.open();
    let answers: Vec<_> = clients.iter_mut().map(|client| client.read().expect("an answer")).collect();
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!(answer.status, if number % 5 == 0 { 202 } else { 200 }, "{}", answer.text());
        assert_eq!(id(answer), id(&answers[0]));
    }
    assert_eq!(function.calls(), 1);
    assert_eq!(server.metric("function_dispatch_total{function=\"f\"}"), 1.0);
    assert_eq!(server.metric("function_invocation_total{function=\"f\"}"), 1.0);
}

#[test]
fn an_evicted_execution_starts_anew_exactly_once() {
    let server = Server::start(&["executions.ttl=300ms", "executions.payload-ttl=300ms"]);
    let (gate, function) = held();
    gate.open();
    server.pool("f", &function, json!({}));
    let first = call(&server, "f:invoke", "k", JSON.1, r#"{"input":1}"#);
    let path = format!("/v1/executions/{}", id(&first));
    eventually("it is evicted", || server.get(&path).status == 404);
    let mut clients: Vec<Client> =
        (0..10).map(|_| begin(&server, "f:invoke", &[("idempotency-key", "k")], r#"{"input":1}"#)).collect();
    let answers: Vec<_> = clients.iter_mut().map(|client| client.read().expect("an answer")).collect();
    for answer in &answers {
        assert_eq!((answer.status, &answer.json()["output"]), (200, &json!(2)));
        assert_ne!(id(answer), id(&first));
    }
    assert_eq!(function.calls(), 2);
}

#[test]
fn a_key_expires() {
    let server = Server::start(&["idempotency.ttl=300ms"]);
    let (gate, function) = held();
    gate.open();
    server.pool("f", &function, json!({}));
    let mut outputs = Value::Null;
    eventually("the key starts a new execution", || {
        outputs = call(&server, "f:invoke", "k", JSON.1, r#"{"input":1}"#).json()["output"].clone();
        outputs == json!(2)
    });
}
