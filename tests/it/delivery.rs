//! Results delivered to `X-Callback-Url`, and the age of calls that wait.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::{Call, DataDir, Function, Gate, PATIENCE, Reply, Response, Server, eventually};

const ON: &str = "async-queue.enabled=true";
const SECRET: &str = "delivery.secret=open sesame";
const PRIVATE: &str = "delivery.allow-private=true";

/// A receiver of results, and what it is sent. `status` is its answer to its nth call, from 1.
fn receiver(status: impl Fn(usize) -> u16 + Send + Sync + 'static) -> (Function, mpsc::Receiver<Call>) {
    let (sender, calls) = mpsc::channel();
    let number = std::sync::atomic::AtomicUsize::new(0);
    let function = Function::start(move |call| {
        let number = number.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
        let _ = sender.send(call);
        Reply::new(status(number), "", b"")
    });
    (function, calls)
}

fn enqueue(server: &Server, function: &str, headers: &[(&str, &str)]) -> Response {
    let headers = [&[("content-type", "application/json")], headers].concat();
    let path = format!("/v1/functions/{function}:enqueue");
    server.client().send("POST", &path, &headers, br#"{"input":{"page":3}}"#)
}

#[track_caller]
fn accepted(response: &Response) -> String {
    assert_eq!(response.status, 202, "{}", response.text());
    response.json()["executionId"].as_str().expect("an id").to_owned()
}

/// Waits until a delivery is decided; the execution's status.
#[track_caller]
fn decided(server: &Server, id: &str) -> Value {
    let mut status = Value::Null;
    eventually("the delivery is decided", || {
        status = server.execution(id);
        status["delivery"]["status"] != "pending"
    });
    status
}

fn is_signed(call: &Call, key: &str) -> bool {
    let signature = call.header("x-nanofaas-signature").expect("a signature");
    let (time, digest) = signature.strip_prefix("t=").and_then(|rest| rest.split_once(",v1=")).expect("both");
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("a key");
    mac.update(format!("{time}.").as_bytes());
    mac.update(&call.body);
    let expected: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    digest == expected
}

#[test]
fn a_result_is_delivered_signed() {
    let server = Server::start(&[ON, SECRET, PRIVATE]);
    let (receiver, calls) = receiver(|_| 204);
    server.register(json!({ "name": "echo", "executionMode": "LOCAL" }));
    let url = format!("http://{}/results?tenant=7", receiver.address);
    let id = accepted(&enqueue(&server, "echo", &[("x-callback-url", &url)]));
    let call = calls.recv_timeout(PATIENCE).expect("a result");
    assert_eq!(call.path, "/results?tenant=7");
    assert_eq!(call.header("content-type"), Some("application/json"));
    assert_eq!(call.header("x-execution-id"), Some(&*id));
    assert_eq!(call.header("x-nanofaas-delivery").map(str::len), Some(36));
    assert!(is_signed(&call, "open sesame"), "{:?}", call.headers);
    assert!(!is_signed(&call, "sesame"));

    let mut status = decided(&server, &id);
    assert_eq!(status["delivery"], json!({ "status": "delivered", "attempts": 1, "lastError": null }));
    status.as_object_mut().expect("an object").remove("delivery");
    assert_eq!(call.json(), status, "the final status is what is delivered");
    assert_eq!((&status["status"], &status["output"]), (&json!("success"), &json!({ "page": 3 })));
    assert_eq!(receiver.calls(), 1);
}

#[test]
fn nothing_is_said_about_a_delivery_that_nobody_asked_for() {
    let server = Server::start(&[ON, SECRET, PRIVATE]);
    let (receiver, _calls) = receiver(|_| 204);
    server.register(json!({ "name": "echo", "executionMode": "LOCAL" }));
    let url = receiver.url();
    // Callers that wait have their result.
    let headers = [("content-type", "application/json"), ("x-callback-url", &*url)];
    let response = server.client().send("POST", "/v1/functions/echo:invoke", &headers, br#"{"input":1}"#);
    let ids = [
        accepted(&enqueue(&server, "echo", &[])),
        response.json()["executionId"].as_str().expect("an id").into(),
    ];
    for id in ids {
        assert_eq!(server.ended(&id).get("delivery"), None);
    }
    assert_eq!(receiver.connections(), 0);
}

#[test]
fn a_receiver_that_recovers_gets_the_result() {
    let server = Server::start(&[ON, SECRET, PRIVATE]);
    let (receiver, calls) = receiver(|number| if number < 3 { 503 } else { 200 });
    let function = Function::start(|_| Reply::new(500, "text/plain", b"broken"));
    server.pool("f", &function, json!({ "maxRetries": 1 }));
    let id = accepted(&enqueue(&server, "f", &[("x-callback-url", &receiver.url())]));
    let status = decided(&server, &id);
    assert_eq!(
        (&status["delivery"]["status"], &status["delivery"]["attempts"]),
        (&json!("delivered"), &json!(3))
    );
    let calls: Vec<Call> = calls.try_iter().collect();
    assert_eq!(calls.len(), 3);
    assert!(
        calls.iter().all(|call| call.header("x-nanofaas-delivery") == calls[0].header("x-nanofaas-delivery"))
    );
    assert!(calls.iter().all(|call| is_signed(call, "open sesame")));
    let error = json!({ "code": "FUNCTION_ERROR", "message": "broken" });
    assert_eq!((&calls[0].json()["status"], &calls[0].json()["error"]), (&json!("error"), &error));
}

#[test]
fn a_receiver_that_never_takes_it_is_given_up() {
    let server = Server::start(&[ON, SECRET, PRIVATE, "delivery.max-attempts=2"]);
    server.register(json!({ "name": "echo", "executionMode": "LOCAL" }));
    let (failing, _calls) = receiver(|_| 500);
    let elsewhere = Function::start(|_| Reply::new(200, "", b""));
    let location = elsewhere.url();
    let moved = Function::start(move |_| Reply::new(307, "", b"").with("location", &location));
    for (receiver, words) in [(&failing, "500 Internal Server Error"), (&moved, "redirects are not followed")]
    {
        let id = accepted(&enqueue(&server, "echo", &[("x-callback-url", &receiver.url())]));
        expect_failed(&server, &id, words);
        assert_eq!(receiver.calls(), 2);
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[test]
fn a_receiver_that_does_not_answer_is_given_up() {
    let server = Server::start(&[ON, SECRET, PRIVATE, "delivery.max-attempts=2", "delivery.timeout=300ms"]);
    server.register(json!({ "name": "echo", "executionMode": "LOCAL" }));
    let gate = Gate::closed();
    let door = gate.clone();
    let receiver = Function::start(move |_| {
        door.pass();
        Reply::new(200, "", b"")
    });
    let id = accepted(&enqueue(&server, "echo", &[("x-callback-url", &receiver.url())]));
    expect_failed(&server, &id, "300 ms");
    gate.open();
}

#[track_caller]
fn expect_failed(server: &Server, id: &str, words: &str) {
    let delivery = decided(server, id)["delivery"].clone();
    assert_eq!((&delivery["status"], &delivery["attempts"]), (&json!("failed"), &json!(2)), "{delivery}");
    assert!(delivery["lastError"].as_str().is_some_and(|error| error.contains(words)), "{delivery}");
}

#[test]
fn addresses_that_may_not_be_delivered_to_are_refused_at_once() {
    let server = Server::start(&[ON, SECRET]);
    let function = Function::start(|_| Reply::json(json!(1)));
    server.pool("f", &function, json!({}));
    let receiver = Function::start(|_| Reply::new(200, "", b""));
    let long = format!("https://example.org/{}", "a".repeat(2048));
    for url in [
        &*receiver.url(),
        "",
        "example.org/results",
        "/results",
        "ftp://example.org/",
        "file:///etc/passwd",
        "https://user:word@example.org/",
        "https://user@example.org/",
        &long,
        "http://localhost/",
        "http://localhost.:8080/",
        "http://a.LOCALHOST/",
        "http://127.0.0.1:8080/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://0.0.0.0/",
        "http://10.1.2.3/",
        "http://100.64.0.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://192.168.0.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[fd00::1]/",
        "http://[fe80::1]/",
    ] {
        let body = enqueue(&server, "f", &[("x-callback-url", url)]).expect_error(400, "BAD_REQUEST");
        let message = body["message"].as_str().expect("checked");
        assert!(message.contains("x-callback-url"), "{url}: {message}");
    }
    assert_eq!(function.calls(), 0, "nothing was accepted");
    assert_eq!(receiver.connections(), 0);
}

#[test]
fn a_name_that_leads_to_this_machine_is_refused_when_it_is_connected_to() {
    // The machine's own name leads to the machine.
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    let name = name.trim();
    let resolved = std::net::ToSocketAddrs::to_socket_addrs(&(name, 80));
    let private = |address: &std::net::IpAddr| match address {
        std::net::IpAddr::V4(address) => address.is_loopback() || address.is_private(),
        std::net::IpAddr::V6(address) => address.is_loopback(),
    };
    if !resolved.is_ok_and(|mut addresses| addresses.all(|address| private(&address.ip()))) {
        // A machine that does not know its name, or a public one: the unit tests have names of their own.
        return;
    }
    let server = Server::start(&[ON, SECRET]);
    server.register(json!({ "name": "echo", "executionMode": "LOCAL" }));
    let id = accepted(&enqueue(&server, "echo", &[("x-callback-url", &format!("http://{name}/"))]));
    let delivery = decided(&server, &id)["delivery"].clone();
    assert_eq!((&delivery["status"], &delivery["attempts"]), (&json!("refused"), &json!(1)), "{delivery}");
}

#[test]
fn without_a_key_nothing_is_delivered() {
    let server = Server::start(&[ON, PRIVATE]);
    server.register(json!({ "name": "echo", "executionMode": "LOCAL" }));
    let response = enqueue(&server, "echo", &[("x-callback-url", "https://example.org/")]);
    let message = response.expect_error(400, "BAD_REQUEST")["message"].to_string();
    assert!(message.contains("x-callback-url") && message.contains("delivery.secret"), "{message}");
}

#[test]
fn dev_makes_a_key_and_keeps_it() {
    let server = Server::dev(&[PRIVATE]);
    let (receiver, calls) = receiver(|_| 200);
    server.register(json!({ "name": "echo", "executionMode": "LOCAL" }));
    let id = accepted(&enqueue(&server, "echo", &[("x-callback-url", &receiver.url())]));
    assert!(calls.recv_timeout(PATIENCE).expect("a result").header("x-nanofaas-signature").is_some());
    assert_eq!(decided(&server, &id)["delivery"]["status"], "delivered");
    let keys = server.log().into_iter().filter(|line| line.contains("secret")).collect::<Vec<_>>();
    assert!(keys.is_empty(), "{keys:?}");
}

#[test]
fn a_replayed_execution_is_delivered_again() {
    let server = Server::start(&[ON, SECRET, PRIVATE]);
    let (receiver, calls) = receiver(|_| 200);
    let mended = Gate::closed();
    let gate = mended.clone();
    let function = Function::start(move |_| match gate.is_open() {
        true => Reply::json(json!("mended")),
        false => Reply::new(400, "text/plain", b"broken"),
    });
    server.pool("f", &function, json!({ "maxRetries": 1 }));
    let id = accepted(&enqueue(&server, "f", &[("x-callback-url", &receiver.url())]));
    let first = calls.recv_timeout(PATIENCE).expect("a result");
    assert_eq!(first.json()["status"], "error");
    assert_eq!(decided(&server, &id)["delivery"]["status"], "delivered");
    mended.open();
    let replay = format!("/v1/functions/f/dead-letters/{id}:replay");
    assert_eq!(server.send("POST", &replay, &Value::Null).status, 202);
    let second = calls.recv_timeout(PATIENCE).expect("a result");
    assert_eq!((&second.json()["status"], &second.json()["output"]), (&json!("success"), &json!("mended")));
    assert_ne!(first.header("x-nanofaas-delivery"), second.header("x-nanofaas-delivery"));
}

#[test]
fn a_server_that_ends_delivers_what_it_has() {
    let mut server =
        Server::start(&[ON, SECRET, PRIVATE, "shutdown.timeout=15s", "delivery.max-attempts=100"]);
    let gate = Gate::closed();
    let door = gate.clone();
    let receiver = Function::start(move |_| {
        door.pass();
        Reply::new(200, "", b"")
    });
    let failing = Function::start(|_| Reply::new(500, "", b""));
    server.register(json!({ "name": "echo", "executionMode": "LOCAL" }));
    for _ in 0..10 {
        accepted(&enqueue(&server, "echo", &[("x-callback-url", &receiver.url())]));
    }
    accepted(&enqueue(&server, "echo", &[("x-callback-url", &failing.url())]));
    gate.await_arrivals(1);
    server.signal("TERM");
    eventually("it is not ready", || server.manage("/actuator/health/readiness").status == 503);
    gate.open();
    // The one that nobody takes is lost with a server that keeps nothing, and that says so.
    assert_eq!(server.wait(), Some(1));
    assert_eq!(receiver.calls(), 10);
    server.logged(&["results undelivered", "\"results\":1"]);
}

#[test]
fn a_call_that_waits_too_long_expires() {
    let server = Server::start(&[ON, SECRET, PRIVATE]);
    let gate = Gate::closed();
    let function = Function::behind(&gate, json!(1));
    server.pool("f", &function, json!({ "concurrency": 1 }));
    let first = accepted(&enqueue(&server, "f", &[("x-max-age-ms", "86400000")]));
    gate.await_arrivals(1);
    let (receiver, calls) = receiver(|_| 200);
    let headers = [("x-max-age-ms", "1"), ("x-callback-url", &*receiver.url())];
    let second = accepted(&enqueue(&server, "f", &headers));
    assert_eq!(server.ended(&second)["error"]["code"], "EXPIRED");
    assert_eq!(calls.recv_timeout(PATIENCE).expect("a result").json()["error"]["code"], "EXPIRED");
    for age in ["0", "-1", "86400001", "soon", "1.5", ""] {
        let body = enqueue(&server, "f", &[("x-max-age-ms", age)]).expect_error(400, "BAD_REQUEST");
        assert!(body["message"].as_str().is_some_and(|text| text.contains("x-max-age-ms")), "{age}: {body}");
    }
    gate.open();
    assert_eq!(server.ended(&first)["status"], "success");
    assert_eq!(function.calls(), 1);
}

/// A server with a result that nobody takes, told to end: its exit code, and how long that took.
fn end_with_a_dead_receiver(mut server: Server) -> (Option<i32>, Duration) {
    server.register(json!({ "name": "echo", "executionMode": "LOCAL" }));
    let gate = Gate::closed();
    let door = gate.clone();
    let silent = Function::start(move |_| {
        door.pass();
        Reply::new(200, "", b"")
    });
    accepted(&enqueue(&server, "echo", &[("x-callback-url", &silent.url())]));
    gate.await_arrivals(1);
    let start = Instant::now();
    server.signal("TERM");
    let ended = (server.wait(), start.elapsed());
    gate.open();
    let results =
        if ended.0 == Some(0) { "results are left for the next server" } else { "results undelivered" };
    server.logged(&[results, "\"results\":1"]);
    ended
}

#[test]
fn a_server_with_a_store_does_not_wait_for_a_dead_receiver() {
    let data = DataDir::new();
    let (code, took) = end_with_a_dead_receiver(Server::durable(&data, &[ON, SECRET, PRIVATE]));
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(8), "it took {took:?}");
}

#[test]
fn a_server_that_keeps_nothing_says_that_it_gave_results_up() {
    let settings = [ON, SECRET, PRIVATE, "shutdown.timeout=2s"];
    let (code, took) = end_with_a_dead_receiver(Server::start(&settings));
    assert_eq!(code, Some(1));
    assert!(took < Duration::from_secs(10), "it took {took:?}");
}
