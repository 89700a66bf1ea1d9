//! Clients that misbehave on the wire: slow, silent, greedy, confused, or trying to smuggle a request past the
//! server's reading of another.

mod framing;

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{Client, Function, PATIENCE, Reply, Response, Server, client::encode, eventually, pace};

const JSON: (&str, &str) = ("content-type", "application/json");

/// A server with a LOCAL function named `echo`.
fn start(settings: &[&str]) -> Server {
    let server = Server::start(settings);
    server.register(json!({ "name": "echo", "executionMode": "LOCAL" }));
    server
}

fn invoke(path: &str, input: &Value) -> Vec<u8> {
    encode("POST", path, &[JSON], json!({ "input": input }).to_string().as_bytes())
}

/// Reads until the server closes; what came, and how long it took.
fn read_to_close(client: &mut Client) -> (Vec<u8>, Duration) {
    let started = Instant::now();
    let mut bytes = Vec::new();
    match client.stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("not closed: {error}"),
    }
    (bytes, started.elapsed())
}

#[track_caller]
fn expect_closed_in_time(client: &mut Client) {
    let (bytes, time) = read_to_close(client);
    assert_eq!(String::from_utf8_lossy(&bytes), "", "closed without a word");
    assert!(time > Duration::from_millis(500) && time < Duration::from_secs(8), "{time:?}");
}

#[test]
fn a_slow_head_is_cut_off_however_it_is_dealt_out() {
    let server = start(&["limits.header-timeout=1s"]);
    expect_closed_in_time(&mut server.client());
    let mut stalled = server.client();
    stalled.write(b"GET /v1/functions HTTP/1.1\r\nhost:");
    expect_closed_in_time(&mut stalled);
    let mut trickling = server.client();
    trickling.write(b"GET /v1/functions HTTP/1.1\r\nhost: localhost\r\n");
    let started = Instant::now();
    while trickling.stream.get_mut().write_all(b"x-a: b\r\n").is_ok() {
        assert!(started.elapsed() < PATIENCE, "a head that never ends is not cut off");
        pace(Duration::from_millis(50));
    }
    // The second head of a connection has no more time than the first.
    let mut second = server.client();
    assert_eq!(second.send("GET", "/v1/functions/echo", &[], b"").status, 200);
    second.write(b"GET /v1/functions HTTP/1.1\r\nhost:");
    expect_closed_in_time(&mut second);
}

#[test]
fn idle_connections_and_bodies_that_stall_are_cut_off() {
    let server = start(&["limits.idle-timeout=1s"]);
    let mut idle = server.client();
    assert_eq!(idle.send("GET", "/v1/functions/echo", &[], b"").status, 200);
    expect_closed_in_time(&mut idle);
    let mut stalled = server.client();
    stalled.write(
        b"POST /v1/functions/echo:invoke HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{\"in",
    );
    expect_closed_in_time(&mut stalled);
    assert_eq!(server.metric("function_invocation_total{function=\"echo\"}"), 0.0);
    // A call that takes longer than that is no idle connection.
    let slow = Function::start(|_| {
        pace(Duration::from_millis(2500));
        Reply::json(json!("late"))
    });
    server.register(json!({ "name": "slow", "executionMode": "POOL", "endpointUrl": slow.url() }));
    assert_eq!(server.invoke("slow", json!(1)).json()["output"], "late");
}

#[test]
fn a_client_that_never_reads_is_cut_off_and_fills_no_memory() {
    let server = start(&["limits.idle-timeout=1s"]);
    let before = server.metric("process_resident_memory_bytes");
    let request = encode("GET", "/openapi.yaml", &[], b"");
    let mut client = server.client();
    client.stream.get_ref().set_write_timeout(Some(Duration::from_secs(5))).expect("socket option");
    let started = Instant::now();
    let mut sent = 0;
    while client.stream.get_mut().write_all(&request).is_ok() {
        sent += 1;
        assert!(started.elapsed() < PATIENCE, "still served after {sent} requests");
    }
    let growth_mib = (server.metric("process_resident_memory_bytes") - before) / 1048576.0;
    assert!(growth_mib < 64.0, "{growth_mib} MiB for one client");
    assert_eq!(server.get("/v1/functions/echo").status, 200);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = start(&[]);
    let slow = Function::start(|call| {
        pace(Duration::from_millis(20));
        Reply::json(call.json()["input"].clone())
    });
    server.register(json!({ "name": "slow", "executionMode": "POOL", "endpointUrl": slow.url() }));
    let mut client = server.client();
    let mut bytes = Vec::new();
    for number in 0..100 {
        let name = if number % 10 == 0 { "slow" } else { "echo" };
        bytes.extend(invoke(&format!("/v1/functions/{name}:invoke"), &json!(number)));
        bytes.extend(encode("GET", "/nowhere", &[], b""));
    }
    client.write(&bytes);
    for number in 0..100 {
        assert_eq!(client.read().expect("an answer").json()["output"], number);
        client.read().expect("an answer").expect_error(404, "NOT_FOUND");
    }
}

#[test]
fn bodies_in_chunks() {
    let server = start(&["limits.request-bytes=1000"]);
    let head =
        "POST /v1/functions/echo:invoke HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut client = server.client();
    for chunks in [
        "b\r\n{\"input\":1}\r\n0\r\n\r\n",
        "5;name=value\r\n{\"inp\r\n6\r\nut\":1}\r\n0\r\n\r\n",
        "B\r\n{\"input\":1}\r\n0\r\nx-trailer: 1\r\n\r\n",
        "0000b\r\n{\"input\":1}\r\n000\r\n\r\n",
    ] {
        client.write(format!("{head}{chunks}").as_bytes());
        assert_eq!(client.read().expect("an answer").json()["output"], 1, "{chunks:?}");
    }
    for chunks in [
        "zz\r\n{\"input\":1}\r\n0\r\n\r\n",
        "-1\r\n\r\n",
        "ffffffffffffffffff\r\n{}",
        "b\r\n{\"input\":1}xx\r\n0\r\n\r\n",
    ] {
        let mut client = server.client();
        client.write(format!("{head}{chunks}").as_bytes());
        client.read().expect("an answer").expect_error(400, "BAD_REQUEST");
        assert!(client.is_closed(), "{chunks:?}");
    }
    let mut endless = server.client();
    endless.write(head.as_bytes());
    let refusal = loop {
        // Whatever it is refused with must be readable, so the writer stops when there is an answer.
        if endless.stream.get_mut().write_all(b"5\r\n     \r\n").is_err() {
            break endless.read();
        }
        endless.stream.get_ref().set_nonblocking(true).expect("socket option");
        let answered = endless.stream.get_ref().peek(&mut [0]).is_ok();
        endless.stream.get_ref().set_nonblocking(false).expect("socket option");
        if answered {
            break endless.read();
        }
    };
    assert_eq!(refusal.expect("an answer").expect_error(413, "PAYLOAD_TOO_LARGE")["limitBytes"], 1000);
    assert_eq!(server.metric("function_invocation_total{function=\"echo\"}"), 4.0);
}

/// Sends bytes that are no request; the status of the answer, or `None` when the connection is just closed.
fn provoke(server: &Server, bytes: &[u8]) -> Option<u16> {
    let mut client = server.client();
    // The server may close before it has read everything.
    let _ = client.stream.get_mut().write_all(bytes);
    let status = client.read().ok().map(|response| response.status);
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]);
    let (rest, _) = read_to_close(&mut client);
    assert_eq!(rest.len(), 0, "{shown:?}");
    status
}

#[test]
fn what_is_not_http_is_refused_and_the_connection_closed() {
    let server = start(&["limits.header-timeout=1s"]);
    let long = |count| "a".repeat(count);
    for (bytes, expected) in [
        ("hello\r\n\r\n".to_owned(), &[400][..]),
        ("\0\0\0\0\r\n\r\n".to_owned(), &[400]),
        ("\x16\x03\x01\x02\x00\x01".to_owned(), &[400]),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), &[400, 505]),
        ("GET / HTTP/3.0\r\n\r\n".to_owned(), &[400, 505]),
        ("GET /v1/functions\r\n\r\n".to_owned(), &[400]),
        ("GET /v1/\0functions HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(), &[400]),
        ("GET /v1/fun ctions HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(), &[400]),
        ("GET / HTTP/1.1\r\nhost: localhost\r\nbad header: x\r\n\r\n".to_owned(), &[400]),
        ("GET / HTTP/1.1\r\nhost: localhost\r\nx: a\0b\r\n\r\n".to_owned(), &[400]),
        ("GET / HTTP/1.1\r\nhost: localhost\r\n: x\r\n\r\n".to_owned(), &[400]),
        ("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: x\r\n\r\n".to_owned(), &[400]),
        (
            "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 18446744073709551616\r\n\r\n".to_owned(),
            &[400],
        ),
        (format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", long(100_000)), &[414, 431]),
        (format!("GET /{}", long(1_000_000)), &[414, 431]),
        (format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", long(17_000)), &[431]),
        (format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}", long(1_000_000)), &[431]),
        (format!("GET / HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "x: y\r\n".repeat(3000)), &[431]),
        (format!("GET / HTTP/1.1\r\n{}", "x: y\r\n".repeat(200_000)), &[431]),
        (format!("{} / HTTP/1.1\r\n\r\n", long(100_000)), &[400, 431]),
        ("\r\n".repeat(100_000), &[400, 431]),
    ] {
        let shown = bytes.chars().take(60).collect::<String>();
        if let Some(status) = provoke(&server, bytes.as_bytes()) {
            assert!(expected.contains(&status), "{status} for {shown:?}");
        }
    }
    let just_fits = long(16_000);
    assert_eq!(server.client().send("GET", "/v1/functions/echo", &[("x", &just_fits)], b"").status, 200);
}

#[test]
fn http_1_0_is_answered_once() {
    let server = start(&[]);
    let mut client = server.client();
    client.write(b"GET /v1/functions/echo HTTP/1.0\r\n\r\nGET /v1/functions/echo HTTP/1.0\r\n\r\n");
    assert_eq!(client.read().expect("an answer").json()["name"], "echo");
    assert_eq!(read_to_close(&mut client).0.len(), 0);
    let mut closing = server.client();
    closing.write(&encode("GET", "/v1/functions/echo", &[("connection", "close")], b""));
    assert_eq!(closing.read().expect("an answer").status, 200);
    assert!(closing.is_closed());
}

#[test]
fn paths_and_methods_that_do_not_exist() {
    let server = start(&[]);
    let mut client = server.client();
    for path in [
        "/",
        "//",
        "/v1",
        "/v1/",
        "/v1//functions",
        "/v1/functions/",
        "/v1/functions//",
        "/v1/functions/%",
        "/v1/functions/%0",
        "/v1/functions/%zz",
        "/v1/functions/%00",
        "/v1/functions/%ff%fe",
        "/v1/functions/%c3%28",
        "/v1/functions/..%2f..",
        "/v1/functions/../functions",
        "/v1/functions/%2e%2e",
        "/v1/functions/a%2Fb",
        "/v1/functions/%E2%80%AE",
        "/v1/functions/echo/",
        "/V1/functions",
        "/v1/executions/",
        "/v1/executions/%00",
        "/v1/executions/not-an-id",
        "/v1/executions/00000000-0000-0000-0000-000000000000",
        "/v1/executions/ffffffff-ffff-4fff-bfff-ffffffffffff",
        "/v1/functions/nobody/replicas",
        "/v1/functions/%00/replicas",
        "/openapi.yaml/",
        "/modules/build-metadata/",
        "/console/../v1/functions",
    ] {
        let response = client.send("GET", path, &[], b"");
        response.expect_error(404, "NOT_FOUND");
    }
    let name = "x".repeat(15_000);
    client.send("GET", &format!("/v1/functions/{name}"), &[], b"").expect_error(404, "NOT_FOUND");
    for (method, path, allow) in [
        ("OPTIONS", "/v1/functions", "GET, HEAD, POST"),
        ("TRACE", "/v1/functions", "GET, HEAD, POST"),
        ("BREW", "/v1/functions/echo", "GET, HEAD, DELETE"),
        ("get", "/v1/functions/echo", "GET, HEAD, DELETE"),
        ("GET", "/v1/functions/echo:invoke", "POST"),
        ("GET", "/v1/functions/echo%3Ainvoke", "POST"),
        ("DELETE", "/v1/functions/echo:enqueue", "POST"),
        ("PUT", "/v1/executions/00000000-0000-0000-0000-000000000000", "GET, HEAD, DELETE"),
    ] {
        let response = client.send(method, path, &[], b"");
        response.expect_error(405, "METHOD_NOT_ALLOWED");
        assert_eq!(response.header("allow"), Some(allow), "{method} {path}");
    }
    let mut head = server.client();
    head.write(&encode("HEAD", "/v1/functions", &[("connection", "close")], b""));
    let (bytes, _) = read_to_close(&mut head);
    let text = String::from_utf8(bytes).expect("text");
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    assert!(text.ends_with("\r\n\r\n"), "an answer to HEAD has no body: {text}");
    // A path of another method's must be taken in absolute form as well.
    let mut absolute = server.client();
    absolute.write(b"GET http://localhost/v1/functions/echo HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert_eq!(absolute.read().expect("an answer").status, 200);
}

#[test]
fn expect_continue() {
    let server = start(&["limits.request-bytes=1000"]);
    let mut client = server.client();
    let body = br#"{"input":"patient"}"#;
    let head = |length: usize| {
        format!(
            "POST /v1/functions/echo:invoke HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    client.write(head(body.len()).as_bytes());
    assert_eq!(client.read().expect("leave to go on").status, 100);
    client.write(body);
    assert_eq!(client.read().expect("an answer").json()["output"], "patient");
    client.write(head(1001).as_bytes());
    client.read().expect("an answer").expect_error(413, "PAYLOAD_TOO_LARGE");
    assert!(client.is_closed(), "the body that was not read must not be taken for a request");
}

#[test]
fn too_many_connections_are_told_so() {
    let server = start(&["limits.connections=10"]);
    let mut kept = Vec::new();
    // The connection that registered the function may still be on its way out.
    eventually("ten connections are taken", || {
        let mut client = server.client();
        client.write(&encode("GET", "/v1/functions/echo", &[], b""));
        if client.read().is_ok_and(|response| response.status == 200) {
            kept.push(client);
        }
        kept.len() == 10
    });
    for _ in 0..100 {
        let mut refused = server.client();
        // With and without a request: the refusal does not wait for one.
        let response = refused.read().expect("a refusal");
        response.expect_error(503, "OVERLOADED");
        assert!(response.header("retry-after").is_some());
        assert!(refused.is_closed());
    }
    for client in &mut kept {
        assert_eq!(client.send("GET", "/v1/functions/echo", &[], b"").status, 200);
    }
    assert_eq!(server.manage("/actuator/health/readiness").status, 200);
    kept.clear();
    let served = || {
        let mut client = server.client();
        client.write(&encode("GET", "/v1/functions/echo", &[], b""));
        client.read().is_ok_and(|response| response.status == 200)
    };
    eventually("there is room again", served);
}

#[test]
fn out_of_file_descriptors_and_back() {
    let server = Server::start_limited(&[], "ulimit -n 64");
    server.register(json!({ "name": "echo", "executionMode": "LOCAL" }));
    let mut first = server.client();
    let mut crowd: Vec<TcpStream> =
        (0..200).map(|_| TcpStream::connect(server.api).expect("the kernel queues it")).collect();
    for stream in &mut crowd {
        let _ = stream.write_all(&encode("GET", "/v1/functions/echo", &[("connection", "close")], b""));
    }
    // Whoever is connected is served all the while.
    for _ in 0..50 {
        let path = "/v1/functions/echo:invoke";
        assert_eq!(first.send("POST", path, &[JSON], br#"{"input":1}"#).status, 200);
    }
    let mut answered = 0;
    for mut stream in crowd {
        stream.set_read_timeout(Some(PATIENCE)).expect("socket option");
        let mut text = String::new();
        answered += usize::from(stream.read_to_string(&mut text).is_ok() && text.starts_with("HTTP/1.1 200"));
    }
    assert_eq!(answered, 200, "everyone has its turn as descriptors come free");
    assert_eq!(server.get("/v1/functions/echo").status, 200);
    let complaints = server.log().iter().filter(|line| line.contains("cannot accept")).count();
    assert!(complaints < 20, "{complaints} lines of log about one shortage");
}

#[test]
fn callbacks_come_in_by_their_own_door() {
    let internal = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address");
    let server = start(&[&format!("internal.bind={internal}")]);
    let complete = "/v1/internal/executions/00000000-0000-0000-0000-000000000000:complete";
    let ask = |address: SocketAddr, method: &str, path: &str| -> Response {
        Client::connect(address).send(method, path, &[JSON], br#"{"success":true}"#)
    };
    let at_api = ask(server.api, "POST", complete).expect_error(404, "NOT_FOUND");
    let at_internal = ask(internal, "POST", complete).expect_error(404, "NOT_FOUND");
    assert!(at_api["message"].as_str().is_some_and(|text| text.contains("No such path")), "{at_api}");
    assert!(at_internal["message"].as_str().is_some_and(|text| text.contains("unknown")), "{at_internal}");
    ask(internal, "POST", "/v1/functions/echo:invoke").expect_error(404, "NOT_FOUND");
    ask(internal, "GET", "/v1/functions").expect_error(404, "NOT_FOUND");
    ask(internal, "GET", complete).expect_error(405, "METHOD_NOT_ALLOWED");
    // Neither door leads to the other listeners' paths.
    ask(server.api, "GET", "/actuator/health").expect_error(404, "NOT_FOUND");
    ask(internal, "GET", "/actuator/prometheus").expect_error(404, "NOT_FOUND");
    ask(server.management, "GET", "/v1/functions").expect_error(404, "NOT_FOUND");
}
