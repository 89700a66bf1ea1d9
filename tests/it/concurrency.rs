//! Many at once: slots, fairness, registrations of one name, and nobody forgotten.

use std::{
    sync::Barrier,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::support::{Function, Gate, PATIENCE, Reply, Server, eventually, pace};

#[test]
fn concurrency_is_never_exceeded_and_nobody_starves() {
    const CALLERS: usize = 64;
    const ROUNDS: usize = 10;
    let server = Server::start(&[]);
    let function = Function::start(|call| {
        pace(Duration::from_millis(3));
        Reply::json(call.json()["input"].clone())
    });
    server.pool("f", &function, json!({ "concurrency": 4, "queueSize": 100 }));
    let most_overtaken = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let (server, function) = (&server, &function);
                scope.spawn(move || {
                    let mut client = server.client();
                    let mut most_overtaken = 0;
                    for round in 0..ROUNDS {
                        let input = json!([caller, round]);
                        let body = json!({ "input": input }).to_string();
                        let before = function.calls();
                        let response = client.send("POST", "/v1/functions/f:invoke", &[], body.as_bytes());
                        most_overtaken = most_overtaken.max(function.calls() - before);
                        assert_eq!(response.status, 200, "{}", response.text());
                        assert_eq!(response.json()["output"], input, "the answer of another call");
                    }
                    most_overtaken
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().expect("no panic")).max().expect("callers")
    });
    assert_eq!(function.most_in_flight(), 4, "at most 4, and all 4 used");
    assert_eq!(function.calls(), CALLERS * ROUNDS);
    // In arrival order one round of calls begins while one waits; more only when a caller's own thread is late.
    assert!(most_overtaken < CALLERS * ROUNDS / 2, "{most_overtaken} calls began while one waited");
    assert_eq!(server.metric("function_in_flight{function=\"f\"}"), 0.0);
    assert_eq!(server.metric("function_queue_depth{function=\"f\"}"), 0.0);
    assert_eq!(server.metric("function_success_total{function=\"f\"}"), (CALLERS * ROUNDS) as f64);
}

#[test]
fn a_queue_is_served_in_arrival_order() {
    let server = Server::start(&[]);
    let gate = Gate::closed();
    let door = gate.clone();
    let order = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let record = std::sync::Arc::clone(&order);
    let function = Function::start(move |call| {
        record.lock().expect("no panic").push(call.json()["input"].as_u64().expect("a number"));
        door.pass();
        Reply::json(json!(1))
    });
    server.pool("f", &function, json!({ "concurrency": 1 }));
    let mut clients = Vec::new();
    for number in 0..12u32 {
        clients.push(server.begin("f", &[], json!(number)));
        let waiting = f64::from(number);
        eventually("it is queued", || {
            let running = server.metric("function_in_flight{function=\"f\"}");
            running == 1.0 && server.metric("function_queue_depth{function=\"f\"}") == waiting
        });
    }
    gate.open();
    for mut client in clients {
        assert_eq!(client.read().expect("an answer").status, 200);
    }
    assert_eq!(*order.lock().expect("no panic"), (0..12).collect::<Vec<_>>());
}

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

#[test]
fn of_many_registrations_of_a_name_one_wins() {
    const RIVALS: u32 = 10;
    let server = Server::start(&[]);
    for name in ["a", "b", "c", "d"] {
        let barrier = Barrier::new(RIVALS as usize);
        let answers: Vec<_> = std::thread::scope(|scope| {
            let rivals: Vec<_> = (1..=RIVALS)
                .map(|rival| {
                    let (server, barrier) = (&server, &barrier);
                    scope.spawn(move || {
                        let mut client = server.client();
                        let spec = json!({ "name": name, "executionMode": "LOCAL", "timeoutMs": rival });
                        barrier.wait();
                        let response =
                            client.send("POST", "/v1/functions", &JSON, spec.to_string().as_bytes());
                        (rival, response)
                    })
                })
                .collect();
            rivals.into_iter().map(|rival| rival.join().expect("no panic")).collect()
        });
        let (won, lost): (Vec<_>, Vec<_>) = answers.iter().partition(|(_, response)| response.status == 201);
        assert_eq!((won.len(), lost.len()), (1, RIVALS as usize - 1), "{name}");
        for (_, response) in lost {
            response.expect_error(409, "CONFLICT");
        }
        let stored = server.get(&format!("/v1/functions/{name}"));
        assert_eq!(stored.text(), won[0].1.text());
        assert_eq!(stored.json()["timeoutMs"], won[0].0);
    }
}

#[test]
fn registering_and_deleting_at_the_same_time_leaves_one_or_none() {
    let server = Server::start(&[]);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let server = &server;
            scope.spawn(move || {
                let mut client = server.client();
                for _ in 0..40 {
                    let spec = json!({ "name": "f", "executionMode": "LOCAL" }).to_string();
                    let status = match thread % 2 {
                        0 => client.send("POST", "/v1/functions", &JSON, spec.as_bytes()).status,
                        _ => client.send("DELETE", "/v1/functions/f", &[], b"").status,
                    };
                    let expected: &[u16] = if thread % 2 == 0 { &[201, 409] } else { &[204, 404] };
                    assert!(expected.contains(&status), "{status}");
                    let response = client.send("POST", "/v1/functions/f:invoke", &[], br#"{"input":1}"#);
                    assert!([200, 404].contains(&response.status), "{}", response.text());
                    let listed = client.send("GET", "/v1/functions", &[], b"").json();
                    assert!(listed.as_array().is_some_and(|functions| functions.len() <= 1), "{listed}");
                }
            });
        }
    });
}

#[test]
fn a_function_with_a_full_queue_does_not_delay_others() {
    let server = Server::start(&["async-queue.enabled=true"]);
    let gate = Gate::closed();
    let stuck = Function::behind(&gate, json!("stuck"));
    let quick = Function::start(|_| Reply::json(json!("quick")));
    // Enough names that every shard has both kinds.
    let names: Vec<String> = (0..6).map(|number| number.to_string()).collect();
    for name in &names {
        server.pool(&format!("stuck-{name}"), &stuck, json!({ "concurrency": 1, "queueSize": 50 }));
        server.pool(&format!("quick-{name}"), &quick, json!({ "concurrency": 1 }));
    }
    let mut ids = Vec::new();
    for name in &names {
        for _ in 0..51 {
            let path = format!("/v1/functions/stuck-{name}:enqueue");
            let response = server.send("POST", &path, &json!({ "input": 1 }));
            assert_eq!(response.status, 202, "{}", response.text());
            ids.push(response.header("x-execution-id").expect("an id").to_owned());
        }
    }
    gate.await_arrivals(names.len());
    let mut client = server.client();
    for name in names.iter().cycle().take(60) {
        let sent = Instant::now();
        let path = format!("/v1/functions/quick-{name}:invoke");
        let response = client.send("POST", &path, &[], br#"{"input":1}"#);
        assert_eq!(response.json()["output"], "quick");
        assert!(sent.elapsed() < PATIENCE / 10, "it waited for another function: {:?}", sent.elapsed());
        server.invoke(&format!("stuck-{name}"), json!(1)).expect_error(429, "QUEUE_FULL");
    }
    gate.open();
    for id in ids {
        assert_eq!(server.ended(&id)["status"], "success");
    }
}
