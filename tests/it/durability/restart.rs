//! A server is killed, another one goes on with its data directory.

use std::{
    net::TcpStream,
    sync::{Arc, Mutex},
    thread,
};

use serde_json::{Value, json};

use super::{ON, enqueue, enqueue_once, letters, settle};
use crate::support::{Call, DataDir, Function, Gate, Reply, Server, eventually};

/// Ids and attempts that a function was sent, in order.
type Calls = Arc<Mutex<Vec<(String, String)>>>;

/// A function that takes note of what it is sent, and answers behind a gate.
fn recording(gate: &Gate) -> (Function, Calls) {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let (seen, gate) = (Arc::clone(&calls), gate.clone());
    let function = Function::start(move |call: Call| {
        let header = |name| call.header(name).unwrap_or_default().to_owned();
        seen.lock().expect("no panic").push((header("x-execution-id"), header("x-dispatch-attempt")));
        gate.pass();
        Reply::json(json!("done"))
    });
    (function, calls)
}

fn attempts_of(calls: &Mutex<Vec<(String, String)>>) -> Vec<(String, String)> {
    calls.lock().expect("no panic").clone()
}

#[test]
fn what_was_running_and_what_waited_runs_after_a_kill() {
    let data = DataDir::new();
    let (before, after) = (Gate::closed(), Gate::closed());
    let (function, calls) = recording(&before);
    let server = Server::durable(&data, &[ON]);
    server.pool("f", &function, json!({ "concurrency": 1, "maxRetries": 1 }));
    let ids: Vec<String> = (0..5).map(|number| enqueue(&server, "f", json!(number))).collect();
    before.await_arrivals(1);
    server.kill();

    let server = Server::durable(&data, &[ON]);
    eventually("it is sent again", || attempts_of(&calls).len() >= 2);
    before.open();
    after.open();
    for id in &ids {
        assert_eq!(server.ended(id)["status"], "success");
    }
    let expected: Vec<(String, String)> = std::iter::once((ids[0].clone(), "1".to_owned()))
        .chain(std::iter::once((ids[0].clone(), "2".to_owned())))
        .chain(ids[1..].iter().map(|id| (id.clone(), "2".to_owned())))
        .collect();
    // In their order, each once, but for the one that was interrupted, although it may be tried only once. The first
    // number of the others may have been used before the kill.
    assert_eq!(attempts_of(&calls), expected);
}

#[test]
fn what_had_ended_is_as_it_was() {
    let data = DataDir::new();
    let function = Function::obedient();
    let server = Server::durable(&data, &[ON]);
    server.pool("f", &function, json!({ "maxRetries": 1 }));
    server.register(json!({ "name": "gone", "executionMode": "LOCAL" }));
    let good = enqueue(&server, "f", json!({ "type": "application/json", "body": "{\"x\":1}" }));
    let bad = enqueue(&server, "f", json!({ "status": 500, "body": "broken" }));
    let (good, bad) = (server.ended(&good), server.ended(&bad));
    assert_eq!((&good["status"], &bad["status"]), (&json!("success"), &json!("error")));
    let replayed = enqueue(&server, "f", json!({ "status": 503 }));
    server.ended(&replayed);
    let letter = server.send("DELETE", &format!("/v1/functions/f/dead-letters/{replayed}"), &Value::Null);
    assert_eq!(letter.status, 204, "{}", letter.text());
    let function_before = server.get("/v1/functions/f").json();
    let removed = server.send("DELETE", "/v1/functions/gone", &Value::Null);
    assert_eq!(removed.status, 204, "{}", removed.text());
    settle(&server);
    server.kill();

    let server = Server::durable(&data, &[ON]);
    assert_eq!(server.get("/v1/functions/f").json(), function_before);
    assert_eq!(server.get("/v1/functions/gone").status, 404);
    for status in [&good, &bad] {
        assert_eq!(server.execution(status["executionId"].as_str().expect("an id")), *status);
    }
    assert_eq!(letters(&server, "f"), [bad["executionId"].as_str().expect("an id")]);
    assert_eq!(server.execution(&replayed)["status"], "error");
}

#[test]
fn a_retry_that_waited_is_made_and_a_replay_goes_on() {
    let data = DataDir::new();
    let mended = Gate::closed();
    let gate = mended.clone();
    let function = Function::start(move |call: Call| match gate.is_open() {
        true => Reply::json(json!(call.header("x-dispatch-attempt").unwrap_or_default())),
        false if call.json()["input"] == json!("later") => {
            Reply::new(503, "text/plain", b"later").with("retry-after", "59")
        }
        false => Reply::new(500, "text/plain", b"broken"),
    });
    let server = Server::durable(&data, &[ON]);
    server.pool("f", &function, json!({ "maxRetries": 2, "concurrency": 2 }));
    let waits = enqueue(&server, "f", json!("later"));
    let dead = enqueue(&server, "f", json!("now"));
    assert_eq!(server.ended(&dead)["attempt"], 2);
    eventually("it waits for its retry", || server.execution(&waits)["status"] == "queued");
    settle(&server);
    server.kill();

    mended.open();
    let server = Server::durable(&data, &[ON]);
    // Its pause is not waited for again.
    let status = server.ended(&waits);
    // The number after the one that failed may have been used before the kill.
    assert_eq!((&status["status"], &status["attempt"]), (&json!("success"), &json!(3)));
    assert_eq!(letters(&server, "f"), [dead.as_str()]);
    let replay = server.send("POST", &format!("/v1/functions/f/dead-letters/{dead}:replay"), &Value::Null);
    assert_eq!(replay.status, 202, "{}", replay.text());
    server.kill();

    let server = Server::durable(&data, &[ON]);
    let status = server.ended(&dead);
    assert_eq!(status["status"], "success", "{status}");
    assert!(status["attempt"].as_u64() >= Some(3), "{status}");
    assert!(letters(&server, "f").is_empty());
}

#[test]
fn keys_of_asynchronous_calls_are_remembered() {
    let data = DataDir::new();
    let gate = Gate::closed();
    let (function, calls) = recording(&gate);
    let server = Server::durable(&data, &[ON]);
    server.pool("f", &function, json!({ "concurrency": 1 }));
    let mut client = server.client();
    let one = enqueue_once(&mut client, "f", "one", json!(1));
    let two = enqueue_once(&mut client, "f", "two", json!(2));
    gate.await_arrivals(1);
    server.kill();

    let server = Server::durable(&data, &[ON]);
    let mut client = server.client();
    assert_eq!(enqueue_once(&mut client, "f", "two", json!(2)), two);
    gate.open();
    server.ended(&two);
    assert_eq!(enqueue_once(&mut client, "f", "one", json!(1)), one);
    settle(&server);
    server.kill();

    let server = Server::durable(&data, &[ON]);
    let mut client = server.client();
    assert_eq!(enqueue_once(&mut client, "f", "two", json!(2)), two);
    let other = [("content-type", "application/json"), ("idempotency-key", "two")];
    let refused = client.send("POST", "/v1/functions/f:enqueue", &other, br#"{"input":3}"#);
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert_eq!(attempts_of(&calls).iter().filter(|(id, _)| *id == two).count(), 1);
}

#[test]
fn the_number_of_shards_may_change() {
    let data = DataDir::new();
    let gate = Gate::closed();
    let function = Function::behind(&gate, json!(7));
    let mut ids = Vec::new();
    for workers in ["workers=1", "workers=3", "workers=2"] {
        let server = Server::durable(&data, &[ON, workers]);
        let name = format!("f-{}", &workers[8..]);
        server.pool(&name, &function, json!({ "queueSize": 50 }));
        ids.extend((0..20).map(|number| enqueue(&server, &name, json!(number))));
        server.kill();
    }
    gate.open();
    let server = Server::durable(&data, &[ON, "workers=4"]);
    for id in &ids {
        assert_eq!(server.ended(id)["output"], 7);
    }
    assert_eq!(server.get("/v1/functions").json().as_array().map(Vec::len), Some(3));
}

#[test]
fn much_that_waited_runs_in_its_order() {
    let data = DataDir::new();
    let gate = Gate::closed();
    let (function, calls) = recording(&gate);
    let server = Server::durable(&data, &[ON, "workers=1"]);
    server.pool("f", &function, json!({ "concurrency": 1, "queueSize": 1000 }));
    // More than a shard is handed at a time.
    let ids: Vec<String> = (0..300).map(|number| enqueue(&server, "f", json!(number))).collect();
    server.kill();
    gate.open();
    let server = Server::durable(&data, &[ON, "workers=1"]);
    assert_eq!(server.ended(&ids[299])["status"], "success");
    let mut sent: Vec<String> = attempts_of(&calls).into_iter().map(|(id, _)| id).collect();
    // The one that was interrupted is sent twice.
    sent.dedup();
    assert_eq!(sent, ids);
}

#[test]
fn a_server_that_is_asked_to_end_leaves_what_waits_for_the_next() {
    let data = DataDir::new();
    let gate = Gate::closed();
    let (function, calls) = recording(&gate);
    let mut server = Server::durable(&data, &[ON]);
    server.pool("f", &function, json!({ "concurrency": 1 }));
    let ids: Vec<String> = (0..3).map(|number| enqueue(&server, "f", json!(number))).collect();
    gate.await_arrivals(1);
    server.signal("TERM");
    eventually("it takes no more calls", || TcpStream::connect(server.api).is_err());
    // What runs ends, what waits stays.
    gate.admit(1);
    assert_eq!(server.wait(), Some(0));
    assert_eq!(attempts_of(&calls).len(), 1);

    gate.open();
    let server = Server::durable(&data, &[ON]);
    for (id, attempt) in ids.iter().zip([1, 2, 2]) {
        assert_eq!(server.ended(id)["attempt"], attempt);
    }
    assert_eq!(attempts_of(&calls).len(), 3);
}

#[test]
fn instances_are_started_again_and_calls_wait_for_them() {
    const PROGRAM: &str = "python3 -c 'import json,sys; print(json.dumps(json.load(sys.stdin)[\"input\"]))'";
    let data = DataDir::new();
    let server = Server::durable_dev(&data, &[]);
    server.register(json!({ "name": "echo", "runtimeCommand": PROGRAM, "runtimeMode": "STDIO" }));
    assert_eq!(server.invoke("echo", json!(1)).json()["output"], 1);
    server.kill();

    let server = Server::durable_dev(&data, &[]);
    let response = server.invoke("echo", json!(2));
    assert_eq!((response.status, &response.json()["output"]), (200, &json!(2)), "{}", response.text());
    let removed = server.send("DELETE", "/v1/functions/echo", &Value::Null);
    assert_eq!(removed.status, 204, "{}", removed.text());
    server.kill();

    let server = Server::durable_dev(&data, &[]);
    assert_eq!(server.get("/v1/functions/echo").status, 404);
}

#[test]
fn a_server_that_keeps_nothing_touches_no_directory() {
    let data = DataDir::new();
    let server = Server::start(&[ON, &format!("data-dir={}", data.path().display())]);
    server.register(json!({ "name": "f", "executionMode": "LOCAL" }));
    server.ended(&enqueue(&server, "f", json!(1)));
    assert!(!data.path().exists());
}

#[test]
fn a_result_that_was_read_is_there_after_a_kill() {
    let data = DataDir::new();
    let numbers = std::sync::atomic::AtomicU64::new(0);
    // Another result each time.
    let function = Function::start(move |_: Call| {
        Reply::json(json!(numbers.fetch_add(1, std::sync::atomic::Ordering::Relaxed)))
    });
    let mut told: Vec<(String, Value)> = Vec::new();
    for round in 0..5 {
        let server = Server::durable(&data, &[ON]);
        if round == 0 {
            server.pool("f", &function, json!({}));
        }
        for (id, output) in &told {
            assert_eq!(server.ended(id)["output"], *output, "{id} came to something else");
        }
        let ids: Vec<String> = (0..10).map(|number| enqueue(&server, "f", json!(number))).collect();
        told.extend(ids.iter().map(|id| (id.clone(), server.ended(id)["output"].clone())));
        server.kill();
    }
}

#[test]
fn what_was_cancelled_or_given_up_stays_so_after_a_kill() {
    let data = DataDir::new();
    let function = Function::start(|_: Call| Reply::new(400, "text/plain", b"broken"));
    let (mut cancelled, mut given_up): (Vec<String>, Vec<String>) = Default::default();
    for round in 0..5 {
        let server = Server::durable(&data, &[ON]);
        if round == 0 {
            server.pool("f", &function, json!({}));
            server.register(json!({ "name": "blocked", "executionMode": "POOL", "concurrency": 1,
                "endpointUrl": "http://127.0.0.1:9/invoke", "retryBackoffMs": 60_000 }));
        }
        for id in &cancelled {
            assert_eq!(server.execution(id)["error"]["code"], "CANCELLED");
        }
        assert!(letters(&server, "f").iter().all(|letter| !given_up.contains(letter)));
        let dead = enqueue(&server, "f", json!(1));
        server.ended(&dead);
        let answer = server.send("DELETE", &format!("/v1/functions/f/dead-letters/{dead}"), &Value::Null);
        assert_eq!(answer.status, 204, "{}", answer.text());
        given_up.push(dead);
        let waits = enqueue(&server, "blocked", json!(1));
        eventually("it waits", || server.execution(&waits)["status"] == "queued");
        let answer = server.send("DELETE", &format!("/v1/executions/{waits}"), &Value::Null);
        assert_eq!(answer.status, 202, "{}", answer.text());
        cancelled.push(waits);
        server.kill();
    }
}

#[test]
fn what_waited_for_a_removed_function_is_replayed_once_each_after_a_kill() {
    const COUNT: usize = 1000;
    const CLIENTS: usize = 8;
    /// Replayed one after the other; of the rest only the client knows the order.
    const ORDERED: usize = 100;
    let data = DataDir::new();
    let gate = Gate::closed();
    let (function, calls) = recording(&gate);
    let server = Server::durable(&data, &[ON]);
    let spec = json!({ "concurrency": 1, "queueSize": COUNT });
    server.pool("f", &function, spec.clone());
    let running = enqueue(&server, "f", json!("runs"));
    gate.await_arrivals(1);
    // From several clients at once: they share the writes to the disk.
    let ids: Vec<String> = thread::scope(|scope| {
        let enqueue = || (0..COUNT / CLIENTS).map(|number| enqueue(&server, "f", json!(number))).collect();
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(enqueue)).collect();
        let ids = clients.into_iter().flat_map(|client| -> Vec<String> { client.join().expect("no panic") });
        ids.collect()
    });
    let removed = server.send("DELETE", "/v1/functions/f", &Value::Null);
    assert_eq!(removed.status, 204, "{}", removed.text());
    server.kill();
    gate.open();

    let server = Server::durable(&data, &[ON]);
    server.pool("f", &function, spec);
    // As many as a list can have: the call that ran may be one more.
    let listed = || server.get("/v1/functions/f/dead-letters?limit=1000").json();
    assert_eq!(listed().as_array().expect("a list").len(), COUNT);
    let replay = |ids: &[String]| {
        let mut client = server.client();
        for id in ids {
            let status = client.send("GET", &format!("/v1/executions/{id}"), &[], b"").json();
            assert_eq!(status["error"]["code"], "FUNCTION_REMOVED");
            let path = format!("/v1/functions/f/dead-letters/{id}:replay");
            let replay = client.send("POST", &path, &[], b"");
            assert_eq!(replay.status, 202, "{}", replay.text());
        }
    };
    let (ordered, others) = ids.split_at(ORDERED);
    replay(ordered);
    thread::scope(|scope| {
        for part in others.chunks(others.len().div_ceil(CLIENTS)) {
            scope.spawn(move || replay(part));
        }
    });
    let left = listed();
    assert!(left.as_array().expect("a list").iter().all(|letter| letter["executionId"] == running), "{left}");
    for id in &ids {
        assert_eq!(server.ended(id)["status"], "success");
    }
    let mut sent: Vec<String> = attempts_of(&calls).into_iter().map(|(id, _)| id).collect();
    sent.retain(|id| *id != running);
    assert_eq!(&sent[..ORDERED], ordered, "in the order of their replays");
    let sorted = |mut ids: Vec<String>| {
        ids.sort_unstable();
        ids
    };
    assert_eq!(sorted(sent), sorted(ids), "each once");
}
