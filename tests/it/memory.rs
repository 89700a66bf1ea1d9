//! What clients can make the server keep is bounded: specs of functions, bodies on their way, lists that nobody reads.

use std::{io::Write, time::Duration};

use serde_json::{Value, json};

use crate::support::{Client, Function, Reply, Server, eventually};

fn local(name: &str, bytes: usize) -> Value {
    json!({ "name": name, "executionMode": "LOCAL", "env": { "A": "x".repeat(bytes) } })
}

#[test]
fn a_spec_has_a_bound_of_its_own() {
    let server = Server::start(&[]);
    let long = server.send("POST", "/v1/functions", &local("f", 64 << 10));
    let error = long.expect_error(413, "PAYLOAD_TOO_LARGE");
    assert_eq!(error["limitBytes"], 64 << 10);
    assert!(
        error["message"].as_str().is_some_and(|message| message.contains("limits.spec-bytes")),
        "{error}"
    );
    server.get("/v1/functions/f").expect_error(404, "NOT_FOUND");
    // What is taken can be posted again as it is read.
    let mut registered = server.register(local("f", 63 << 10));
    registered["name"] = "g".into();
    server.register(registered);
    assert_eq!(server.invoke("g", json!(1)).status, 200);
}

#[test]
fn all_specs_together_have_a_bound() {
    let server = Server::start(&["workers=1", "limits.specs-bytes=100KiB"]);
    let names = ["a", "b", "c"];
    for name in names {
        server.register(local(name, 30 << 10));
    }
    for _ in 0..3 {
        let refused = server.send("POST", "/v1/functions", &local("d", 30 << 10));
        let error = refused.expect_error(503, "OVERLOADED");
        assert!(
            error["message"].as_str().is_some_and(|message| message.contains("limits.specs-bytes")),
            "{error}"
        );
        assert!(refused.header("retry-after").is_some());
    }
    server.register(local("small", 100));
    assert_eq!(server.send("DELETE", "/v1/functions/a", &Value::Null).status, 204);
    server.register(local("d", 30 << 10));
}

#[test]
fn a_list_is_sent_without_being_put_together() {
    const FUNCTIONS: usize = 200;
    const SPEC: usize = 60 << 10;
    let server = Server::start(&[]);
    let mut client = server.client();
    for number in 0..FUNCTIONS {
        let body = local(&format!("f{number:04}"), SPEC).to_string();
        let headers = [("content-type", "application/json")];
        assert_eq!(client.send("POST", "/v1/functions", &headers, body.as_bytes()).status, 201);
    }
    let memory = || server.metric("process_resident_memory_bytes");
    let before = memory();
    // Nobody reads most of them.
    let mut readers: Vec<Client> = (0..20).map(|_| server.client()).collect();
    for reader in &mut readers {
        reader.write(b"GET /v1/functions HTTP/1.1\r\nhost: localhost\r\n\r\n");
    }
    let listed = readers[0].read().expect("a list");
    let functions = listed.json();
    let names: Vec<&str> =
        functions.as_array().expect("a list").iter().filter_map(|f| f["name"].as_str()).collect();
    assert_eq!(names.len(), FUNCTIONS);
    assert!(names.is_sorted());
    let grown = memory() - before;
    assert!(grown < 40e6, "twenty lists of {} bytes took {grown} bytes", listed.body.len());
    // Lists that nobody reads do not keep others from reading theirs, up to a number of them.
    drop(readers);
    eventually("the lists are over", || server.get("/v1/functions").status == 200);
}

#[test]
fn bodies_on_their_way_have_a_budget() {
    let bounds = ["limits.request-bytes=1MiB", "limits.response-bytes=1MiB", "limits.bodies-bytes=4MiB"];
    let server = Server::start(&bounds);
    server.register(local("f", 0));
    let head = "POST /v1/functions/f:invoke HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n";
    let half = [head.as_bytes(), &[b' '; 600_000]].concat();
    let mut refused = 0;
    let mut clients: Vec<Client> = (0..20).map(|_| server.client()).collect();
    for client in &mut clients {
        // Who is refused need not have taken all of it.
        let _ = client.stream.get_mut().write_all(&half);
        client.stream.get_ref().set_read_timeout(Some(Duration::from_millis(300))).expect("socket option");
        if let Ok(answer) = client.read() {
            let error = answer.expect_error(503, "OVERLOADED");
            assert!(
                error["message"].as_str().is_some_and(|text| text.contains("limits.bodies-bytes")),
                "{error}"
            );
            assert!(answer.header("retry-after").is_some());
            refused += 1;
        }
    }
    assert!((14..=18).contains(&refused), "{refused} of 20 were refused");
    // A body that comes whole needs no room.
    assert_eq!(server.invoke("f", json!(1)).status, 200);
    drop(clients);
    let whole = json!("x".repeat(900_000));
    eventually("the room is given back", || server.invoke("f", whole.clone()).status == 200);
}

#[test]
fn a_body_that_stalls_or_trickles_is_given_up() {
    let server = Server::start(&["limits.body-timeout=1s"]);
    let function = Function::start(|_| Reply::json(json!(1)));
    server.pool("f", &function, json!({}));
    let head =
        b"POST /v1/functions/f:invoke HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n   ";
    let mut stalled = server.client();
    stalled.write(head);
    let mut trickling = server.client();
    trickling.write(head);
    // A byte now and then is no progress.
    eventually("the trickle is cut off", || {
        crate::support::pace(Duration::from_millis(100));
        trickling.stream.get_mut().write_all(b" ").is_err()
    });
    assert!(stalled.is_closed());
    // A slow client that sends something worth mentioning is served.
    let body = format!("{{\"input\":\"{}\"}}", "x".repeat(20_000));
    let mut slow = server.client();
    slow.write(
        format!(
            "POST /v1/functions/f:invoke HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .as_bytes(),
    );
    for part in body.as_bytes().chunks(5000) {
        crate::support::pace(Duration::from_millis(600));
        slow.write(part);
    }
    assert_eq!(slow.read().expect("an answer").status, 200);
    assert_eq!(function.calls(), 1);
}
