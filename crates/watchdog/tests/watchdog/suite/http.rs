//! Mode HTTP: one program for all calls, watched and restarted.

#![allow(clippy::unwrap_used, reason = "a test ends where its tools fail")]

use super::support::{Folder, Watchdog, command, eventually, gone, kill, warm};

/// A server in Python: answers what it got, fails, hangs, or reports its cold start itself, as the body says. While
/// there is a file named `gate`, it neither starts nor answers calls that say so.
const SERVER: &str = r#"
import http.server, json, os, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, status, content_type, body, headers={}):
        self.send_response(status)
        for name, value in headers.items(): self.send_header(name, value)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.answer(200, "application/json", b"{}")
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if body == b'"fail"': return self.answer(418, "application/json", b'{"error":{"code":"TEAPOT","message":"short and stout"}}')
        if body == b'"hang"': time.sleep(300)
        if body == b'"gate"': wait()
        if body == b'"own"': return self.answer(200, "application/json", b"1", {"X-Cold-Start": "true", "X-Init-Duration-Ms": "77"})
        if body == b'"zipped"': return self.answer(200, "application/json", b"\x1f\x8b", {"Content-Encoding": "gzip"})
        if body == b'"async"': return self.answer(202, "application/json", b"", {"X-Nanofaas-Async": "true"})
        if self.headers["Content-Type"] == "image/png": return self.answer(200, "image/gif", body + b"\xff")
        got = {name.lower(): value for name, value in self.headers.items()}
        self.answer(200, "application/json", json.dumps({"pid": os.getpid(), "headers": got}).encode(), {"X-Extra": "yes"})
    def log_message(self, *arguments): pass
def wait():
    while os.path.exists(os.path.join(os.path.dirname(sys.argv[0]), "gate")): time.sleep(0.02)
wait()
kind = sys.argv[1]
server = (http.server.ThreadingHTTPServer if kind == "threads" else http.server.HTTPServer)(("127.0.0.1", int(os.environ["PORT"])), Handler)
server.serve_forever()
"#;

fn server(folder: &Folder, kind: &str) -> String {
    format!("{} {kind}", folder.program("python3", SERVER))
}

fn pid_of(watchdog: &Watchdog) -> Option<u32> {
    let answer = watchdog.invoke("{}");
    let body: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
    Some(body["pid"].as_u64()? as u32)
}

#[test]
fn calls_pass_through_with_their_headers() {
    let folder = Folder::new("http-headers");
    let program = server(&folder, "threads");
    let watchdog = Watchdog::ready(&warm("HTTP", &program));
    let headers = [
        ("X-Execution-Id", "e1"),
        ("X-Dispatch-Attempt", "2"),
        ("X-Deadline-Ms", "9000"),
        ("X-Trace-Id", "t1"),
        ("traceparent", "00-1-2-01"),
        ("Idempotency-Key", "k1"),
        ("Authorization", "secret"),
    ];
    let answer = watchdog.send("POST", "/invoke", &headers, br#"{"input":1}"#);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-extra"), Some("yes"));
    assert_eq!(answer.header("x-cold-start"), Some("true"));
    assert!(answer.header("x-init-duration-ms").unwrap().parse::<u64>().unwrap() > 0);
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let got = |name: &str| body["headers"][name].as_str();
    for (name, value) in &headers[..6] {
        if *name != "X-Deadline-Ms" {
            assert_eq!(got(&name.to_lowercase()), Some(*value));
        }
    }
    let left: u64 = got("x-deadline-ms").unwrap().parse().unwrap();
    assert!((8000..=9000).contains(&left), "{left} ms left");
    assert_eq!(got("authorization"), None);
    assert_eq!(got("content-type"), Some("application/json"));

    let again = watchdog.invoke("{}");
    assert_eq!(again.header("x-cold-start"), None, "only the first call is cold");
    let failed = watchdog.invoke("\"fail\"");
    assert_eq!((failed.status, failed.error()), (500, ("TEAPOT".to_owned(), "short and stout".to_owned())));
    let promised = watchdog.invoke("\"async\"");
    assert_eq!((promised.status, promised.header("x-nanofaas-async")), (202, Some("true")));
    let raw = [("X-Execution-Id", "e1"), ("Content-Type", "image/png")];
    let answer = watchdog.send("POST", "/invoke", &raw, b"\x00\x01");
    assert_eq!((answer.header("content-type"), &answer.body[..]), (Some("image/gif"), &b"\x00\x01\xff"[..]));
    let answer = watchdog.invoke(r#""zipped""#);
    assert_eq!((answer.header("content-encoding"), &answer.body[..]), (Some("gzip"), &b"\x1f\x8b"[..]));
}

#[test]
fn a_program_that_reports_its_cold_start_is_believed() {
    let folder = Folder::new("http-cold");
    let program = server(&folder, "threads");
    let watchdog = Watchdog::ready(&warm("HTTP", &program));
    let answer = watchdog.invoke("\"own\"");
    assert_eq!(answer.header("x-init-duration-ms"), Some("77"));
    assert_eq!(answer.headers.iter().filter(|(name, _)| name == "x-cold-start").count(), 1);
}

#[test]
fn a_killed_program_comes_back() {
    let folder = Folder::new("http-restart");
    let program = server(&folder, "threads");
    let watchdog = Watchdog::ready(&warm("HTTP", &program));
    let pid = pid_of(&watchdog).unwrap();
    let gate = folder.path("gate");
    std::fs::write(&gate, "").unwrap();
    kill(pid, "KILL");
    eventually("the health check fails", || {
        (watchdog.send("GET", "/health", &[], b"").status == 503).then_some(())
    });
    let answer = watchdog.invoke("{}");
    assert_eq!((answer.status, answer.error().0.as_str()), (503, "UNAVAILABLE"));
    std::fs::remove_file(&gate).unwrap();
    eventually("the health check succeeds", || {
        (watchdog.send("GET", "/health", &[], b"").status == 200).then_some(())
    });
    let next = eventually("calls succeed", || pid_of(&watchdog));
    assert_ne!(pid, next);
}

#[test]
fn a_program_that_hangs_is_replaced() {
    let folder = Folder::new("http-hang");
    let program = server(&folder, "single");
    let mut variables = warm("HTTP", &program);
    variables.push(("TIMEOUT_MS", "700"));
    let watchdog = Watchdog::ready(&variables);
    let pid = pid_of(&watchdog).unwrap();
    let answer = watchdog.invoke("\"hang\"");
    assert_eq!((answer.status, answer.error().0.as_str()), (504, "TIMEOUT"));
    gone(pid);
    let next = eventually("calls succeed", || pid_of(&watchdog));
    assert_ne!(pid, next);
}

#[test]
fn a_timed_out_call_does_not_hurt_a_program_that_still_answers() {
    let folder = Folder::new("http-spare");
    let program = server(&folder, "threads");
    let watchdog = Watchdog::ready(&warm("HTTP", &program));
    let pid = pid_of(&watchdog).unwrap();
    let answer =
        watchdog.send("POST", "/invoke", &[("X-Execution-Id", "e1"), ("X-Deadline-Ms", "200")], b"\"hang\"");
    assert_eq!(answer.status, 504);
    assert_eq!(pid_of(&watchdog), Some(pid));
}

#[test]
fn a_program_that_never_gets_ready_ends_the_watchdog_with_its_last_words() {
    // What a program wrote is in the log, once, and not in the complaint too.
    for (program, complaint, wrote) in [
        (
            "sh -c 'echo no module named handler >&2; exit 7'",
            "error: the program ended before it was ready (exit status: 7)\n",
            "no module named handler",
        ),
        (
            "sh -c 'echo still loading; sleep 300'",
            "error: Runtime not ready after 400ms\n",
            "still loading\"",
        ),
        ("no-such-program", "error: cannot start 'no-such-program': No such file or directory\n", ""),
    ] {
        let mut variables = warm("HTTP", program);
        variables.push(("READY_TIMEOUT_MS", "400"));
        let mut watchdog = Watchdog::spawn(command(&variables));
        assert_eq!(watchdog.address, None);
        assert_eq!(watchdog.exit().code(), Some(1), "{program}");
        eventually(complaint, || watchdog.stderr().ends_with(complaint).then_some(()));
        if !wrote.is_empty() {
            assert_eq!(watchdog.stderr().matches(wrote).count(), 1, "{}", watchdog.stderr());
        }
    }
}

#[test]
fn sigterm_lets_calls_finish() {
    let folder = Folder::new("http-drain");
    let program = server(&folder, "threads");
    let mut watchdog = Watchdog::ready(&warm("HTTP", &program));
    let pid = pid_of(&watchdog).unwrap();
    let address = watchdog.address.unwrap();
    let gate = folder.path("gate");
    std::fs::write(&gate, "").unwrap();
    let answer = std::thread::scope(|scope| {
        let call = scope.spawn(|| watchdog.invoke("\"gate\""));
        eventually("the call runs", || {
            let metrics = watchdog.send("GET", "/metrics", &[], b"").text();
            metrics.contains("in_flight{function=\"unknown\"} 1").then_some(())
        });
        watchdog.signal("TERM");
        eventually("new connections are refused", || {
            std::net::TcpStream::connect(address).is_err().then_some(())
        });
        std::fs::remove_file(&gate).unwrap();
        call.join().unwrap()
    });
    assert_eq!(answer.status, 200);
    assert_eq!(watchdog.exit().code(), Some(0));
    assert!(!super::support::alive(pid), "the program ended with the watchdog");
}
