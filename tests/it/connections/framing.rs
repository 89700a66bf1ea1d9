//! Requests that say twice how long they are, however their bytes arrive: refused, and nothing behind them is executed.

use std::{net::TcpListener, time::Duration};

use serde_json::json;

use super::{invoke, read_to_close, start};
use crate::support::{Client, Function, Reply, pace};

/// Requests with two lengths. `{victim}` stands for a whole request that must never be executed.
const SMUGGLERS: &[(&str, &str)] = &[
    (
        "length first",
        "POST /v1/functions/echo:invoke HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\nb\r\n{\"input\":1}\r\n0\r\n\r\n{victim}",
    ),
    (
        "chunked first",
        "POST /v1/functions/echo:invoke HTTP/1.1\r\nhost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n{victim}",
    ),
    (
        "in the body, for those who believe the length",
        "POST /v1/functions/echo:invoke HTTP/1.1\r\nhost: localhost\r\ncontent-length: 500\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{victim}",
    ),
    (
        "same path behind it",
        "POST /v1/functions/victim:invoke HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nPOST /v1/functions/victim:invoke HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nb\r\n{\"input\":1}\r\n0\r\n\r\n",
    ),
    (
        "strange spelling",
        "POST /v1/functions/echo:invoke HTTP/1.1\r\nhost: localhost\r\ncONTENT-lENGTH:4\r\ntRANSFER-eNCODING:\tchunked\r\n\r\n0\r\n\r\n{victim}",
    ),
    (
        "an unknown path",
        "POST /nowhere?a=b HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{victim}",
    ),
    (
        "a method without a body",
        "GET /v1/functions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{victim}",
    ),
    (
        "two different lengths",
        "POST /v1/functions/echo:invoke HTTP/1.1\r\nhost: localhost\r\ncontent-length: 11\r\ncontent-length: 0\r\n\r\n{\"input\":1}{victim}",
    ),
    (
        "two lengths in one header",
        "POST /v1/functions/echo:invoke HTTP/1.1\r\nhost: localhost\r\ncontent-length: 11, 0\r\n\r\n{\"input\":1}{victim}",
    ),
    (
        "a length with a sign",
        "POST /v1/functions/echo:invoke HTTP/1.1\r\nhost: localhost\r\ncontent-length: +11\r\n\r\n{\"input\":1}{victim}",
    ),
    (
        "not chunked in the end",
        "POST /v1/functions/echo:invoke HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n{victim}",
    ),
    (
        "space before the colon",
        "POST /v1/functions/echo:invoke HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding : chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n{victim}",
    ),
    (
        "a folded line",
        "POST /v1/functions/echo:invoke HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\nx: y\r\n transfer-encoding: chunked\r\n\r\n0\r\n\r\n{victim}",
    ),
    (
        "chunked in HTTP/1.0",
        "POST /v1/functions/echo:invoke HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{victim}",
    ),
];

/// How the bytes of a hostile request reach the server.
#[derive(Debug, Clone, Copy)]
enum Arrival {
    /// In one piece, on a new connection.
    Alone,
    /// Behind a request, in one piece with it.
    Behind,
    /// In one piece with the body of the request before it, whose head came earlier.
    BehindABody,
    /// While the request before it is still being answered.
    WhileBusy,
    /// Its head in two parts, the first of them together with the request before it.
    InTwoParts,
}

#[test]
fn two_lengths_are_refused_and_nothing_behind_them_is_executed() {
    let server = start(&[]);
    let victim = Function::start(|_| Reply::json(json!(null)));
    server.register(json!({ "name": "victim", "executionMode": "POOL", "endpointUrl": victim.url() }));
    let slow = Function::start(|_| {
        pace(Duration::from_millis(100));
        Reply::json(json!(1))
    });
    server.register(json!({ "name": "slow", "executionMode": "POOL", "endpointUrl": slow.url() }));
    let smuggled = String::from_utf8(invoke("/v1/functions/victim:invoke", &json!(1))).expect("text");
    let first = invoke("/v1/functions/echo:invoke", &json!("first"));
    let busy = invoke("/v1/functions/slow:invoke", &json!(1));
    use Arrival::{Alone, Behind, BehindABody, InTwoParts, WhileBusy};
    for arrival in [Alone, Behind, BehindABody, WhileBusy, InTwoParts] {
        for (name, text) in SMUGGLERS {
            let bytes = text.replace("{victim}", &smuggled).into_bytes();
            let mut client = server.client();
            let pause = || pace(Duration::from_millis(30));
            match arrival {
                Alone => client.write(&bytes),
                Behind => client.write(&[&first[..], &bytes].concat()),
                BehindABody => {
                    let (head, body) = first.split_at(first.len() - 5);
                    client.write(head);
                    pause();
                    client.write(&[body, &bytes].concat());
                }
                WhileBusy => {
                    client.write(&busy);
                    pause();
                    client.write(&bytes);
                }
                InTwoParts => {
                    client.write(&[&first[..], &bytes[..20]].concat());
                    pause();
                    client.write(&bytes[20..]);
                }
            }
            if !matches!(arrival, Alone) {
                assert_eq!(client.read().expect("the first answer").status, 200, "{name}, {arrival:?}");
            }
            let refusal = client.read().expect("a refusal");
            assert_eq!(refusal.status, 400, "{name}, {arrival:?}: {}", refusal.text());
            let (rest, _) = read_to_close(&mut client);
            assert_eq!(
                String::from_utf8_lossy(&rest),
                "",
                "{name}, {arrival:?}: something behind it was answered"
            );
        }
    }
    assert_eq!(victim.calls(), 0, "a smuggled request was executed");
    assert_eq!(server.metric("function_invocation_total{function=\"victim\"}"), 0.0);
}

#[test]
fn what_is_refused_for_its_head_says_why() {
    let server = start(&[]);
    let invoke = "POST /v1/functions/echo:invoke HTTP/1.1\r\n";
    let body = "\r\n\r\n{\"input\":1}";
    for (head, word) in [
        ("GET /v1/functions HTTP/1.1\r\n\r\n".to_owned(), "Host"),
        ("GET /v1/functions HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n\r\n".to_owned(), "Host"),
        ("GET /v1/functions HTTP/1.1\r\nhost:\r\n\r\n".to_owned(), "Host"),
        (
            "GET http://localhost/v1/functions HTTP/1.1\r\nhost: evil.example\r\n\r\n".to_owned(),
            "different servers",
        ),
        (
            format!(
                "{invoke}host: localhost\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
            "Transfer-Encoding",
        ),
        (
            format!("{invoke}host: localhost\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
            "Transfer-Encoding",
        ),
        (
            format!("{invoke}host: localhost\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
            "not HTTP/1.1",
        ),
        (
            format!("{invoke}host: localhost\r\ncontent-length: 11\r\ncontent-length: 12{body}"),
            "different lengths",
        ),
        (format!("{invoke}host: localhost\r\ncontent-length: 11, 12{body}"), "different lengths"),
        ("nonsense\r\n\r\n".to_owned(), "not HTTP/1.1"),
    ] {
        for before in [&b""[..], &invoke_bytes()] {
            let mut client = server.client();
            client.write(&[before, head.as_bytes()].concat());
            if !before.is_empty() {
                assert_eq!(client.read().expect("the first answer").status, 200, "{head}");
            }
            let refusal = client.read().expect("a refusal").expect_error(400, "BAD_REQUEST");
            let message = refusal["message"].as_str().expect("text");
            assert!(message.contains(word), "{head}: {message}");
        }
    }
    // The same on the management listener, whose bodies nobody reads.
    for head in [
        "\r\n",
        "host: localhost\r\nhost: localhost\r\n\r\n",
        "host: localhost\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
    ] {
        let mut client = Client::connect(server.management);
        client.write(format!("GET /actuator/health HTTP/1.1\r\n{head}").as_bytes());
        client.read().expect("a refusal").expect_error(400, "BAD_REQUEST");
    }
}

/// What is read of such a head is bounded, so it is refused before anything looks at it; in words all the same.
#[test]
fn heads_that_are_too_long_are_refused_in_words_on_every_listener() {
    let internal = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address");
    let server = start(&["limits.header-bytes=128KiB", &format!("internal.bind={internal}")]);
    let target = format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "a".repeat(70_000));
    let many = format!("GET / HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "x: y\r\n".repeat(101));
    let mut long = "GET / HTTP/1.1\r\nhost: localhost\r\nx: ".to_owned();
    // To the byte as much as makes it too long: nothing is left unread, which would reset the connection.
    long.push_str(&"a".repeat((128 << 10) - long.len()));
    let (too_long, too_large) = ((414, "URI_TOO_LONG"), (431, "REQUEST_HEADER_FIELDS_TOO_LARGE"));
    for (listener, address) in
        [("API", server.api), ("internal", internal), ("management", server.management)]
    {
        for (head, (status, code)) in [(&target, too_long), (&many, too_large), (&long, too_large)] {
            if listener == "management" && head == &long {
                continue; // Takes longer ones.
            }
            for before in ["", "GET /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n"] {
                let mut client = Client::connect(address);
                client.write(format!("{before}{head}").as_bytes());
                if !before.is_empty() {
                    client.read().expect("the first answer").expect_error(404, "NOT_FOUND");
                }
                let refusal = client.read().unwrap_or_else(|error| panic!("{listener}, {code}: {error}"));
                assert_eq!(refusal.header("connection"), Some("close"), "{listener}, {code}");
                let message = refusal.expect_error(status, code)["message"].to_string();
                assert!(message.contains("; "), "says what to do: {message}");
                assert_eq!(read_to_close(&mut client).0.len(), 0, "{listener}, {code}");
            }
        }
        // What is no HTTP at all has words there too.
        let mut client = Client::connect(address);
        client.write(b"nonsense\r\n\r\n");
        client.read().expect("a refusal").expect_error(400, "BAD_REQUEST");
    }
}

fn invoke_bytes() -> Vec<u8> {
    invoke("/v1/functions/echo:invoke", &json!("first"))
}
