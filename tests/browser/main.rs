//! A real browser on a page of another origin: Chromium tries to use a server on loopback in every way that a page has, and
//! the server's state afterwards says whether it could.
//!
//! Not part of plain `cargo test`, because it needs Chromium:
//! `cargo test --test browser`. `page.html` is what it opens.

#![allow(unreachable_pub, reason = "modules of a test binary are its only readers")]

mod chromium;
#[path = "../it/support/mod.rs"]
mod support;

use std::{
    io::{BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::mpsc,
    time::Duration,
};

use chromium::Chromium;
use serde_json::{Value, json};
use support::{Function, Reply, Server, function::read_call};

const PAGE: &str = include_str!("page.html");
/// Time for a page to try everything. Some of it is left unanswered and given up after five seconds.
const PATIENCE: Duration = Duration::from_secs(240);

/// Serves the page, and takes its report.
struct Site {
    function: Function,
    reports: mpsc::Receiver<Value>,
}

impl Site {
    fn start() -> Site {
        let (sender, reports) = mpsc::channel();
        let sender = std::sync::Mutex::new(sender);
        let function = Function::start(move |call| {
            if call.path == "/report" {
                let _ = sender.lock().expect("no panic").send(call.json());
            }
            Reply::new(200, "text/html", PAGE.as_bytes())
        });
        Site { function, reports }
    }

    fn origin(&self) -> String {
        format!("http://{}", self.function.address)
    }

    /// The address of a page that does what `mode` says.
    fn page(&self, base: &str, mode: &str, fields: &[(&str, String)]) -> String {
        let mut url = format!("{base}/page?mode={mode}&report={}/report", self.origin());
        for (name, value) in fields {
            url.push_str(&format!("&{name}={value}"));
        }
        url
    }

    /// What the page has to say in the end.
    fn report(&self) -> Value {
        self.reports.recv_timeout(PATIENCE).expect("the page reports")
    }
}

/// A server with all that a page could want, a function whose calls are counted, and a file that a program would leave.
struct Victim {
    server: Server,
    function: Function,
    marker: PathBuf,
}

impl Victim {
    fn start(settings: &[&str]) -> Victim {
        let server = Server::dev(settings);
        let function = Function::start(|_| Reply::json(json!(1)));
        server.pool("f", &function, json!({}));
        let name = format!("nanofaas-driven-{}-{}", std::process::id(), server.api.port());
        Victim { server, function, marker: std::env::temp_dir().join(name) }
    }

    #[track_caller]
    fn is_untouched(&self, report: &Value) {
        assert!(!self.marker.exists(), "a program of the page ran: {report:#}");
        let functions = self.server.get("/v1/functions").json();
        let names: Vec<_> = functions.as_array().expect("a list").iter().map(|f| f["name"].clone()).collect();
        assert_eq!(names, ["f"], "{report:#}");
        assert_eq!(self.function.calls(), 0, "a function was called: {report:#}");
        assert_eq!(self.server.metric("function_invocation_total{function=\"f\"}"), 0.0);
        assert_eq!(self.server.get("/v1/admin/runtime-config").json()["revision"], 0);
    }
}

#[test]
fn a_page_of_another_origin_cannot_use_the_server() {
    let (site, victim) = (Site::start(), Victim::start(&[]));
    let api = victim.server.api;
    let fields = [
        ("api", format!("http://{api}")),
        ("api", format!("http://localhost:{}", api.port())),
        ("management", format!("http://{}", victim.server.management)),
        ("marker", victim.marker.display().to_string()),
    ];
    let _browser = Chromium::open(&site.page(&site.origin(), "attack", &fields), &[]);
    let report = site.report();
    assert!(report["tried"].as_u64().is_some_and(|tried| tried > 400), "{report}");
    assert_eq!(report["read"], json!([]), "the page read answers");
    victim.is_untouched(&report);
}

#[test]
fn a_name_that_comes_to_lead_here_opens_nothing() {
    let site = Site::start();
    let (address, served) = serve_once();
    let name = format!("http://evil.example:{}", address.port());
    let marker =
        std::env::temp_dir().join(format!("nanofaas-driven-{}-{}", std::process::id(), address.port()));
    let fields = [("marker", marker.display().to_string())];
    let rule = "--host-resolver-rules=MAP evil.example 127.0.0.1";
    let _browser = Chromium::open(&site.page(&name, "rebind", &fields), &[rule]);
    served.recv_timeout(PATIENCE).expect("the browser fetches the page");
    // The name leads to the server from now on: same address, same port, so the same origin for the browser.
    let victim = Victim::start(&[&format!("server.port={}", address.port())]);
    let report = site.report();
    let read = report["read"].as_array().expect("a list");
    assert!(read.len() > 100, "the page could not ask: {report:#}");
    for answer in read {
        let text = answer.as_str().expect("text");
        let is_refusal = text.contains("MISDIRECTED_REQUEST") || text.ends_with(": no answer");
        assert!(is_refusal, "the page read {text}");
    }
    victim.is_untouched(&report);
}

/// What is asked above is really asked: where the origin is listed, the same browser does all of it.
#[test]
fn a_page_of_a_listed_origin_can() {
    let site = Site::start();
    let victim = Victim::start(&[&format!("cors.allowed-origins={}", site.origin())]);
    let fields = [("api", format!("http://{}", victim.server.api))];
    let _browser = Chromium::open(&site.page(&site.origin(), "befriend", &fields), &[]);
    let report = site.report();
    let read: Vec<&str> =
        report["read"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    let [registered, invoked, deleted, unknown] = read[..] else { panic!("{report:#}") };
    assert!(registered.starts_with("register: 201 "), "{registered}");
    assert_eq!(invoked, "invoke: 200 true");
    assert_eq!(deleted, "delete: 204 ");
    assert!(unknown.starts_with("unknown: 404 "), "{unknown}");
    let functions = victim.server.get("/v1/functions").json();
    assert_eq!(functions[0]["name"], "driven-1", "{functions}");
}

/// Serves the page until somebody has it, then leaves the port to the next.
fn serve_once() -> (SocketAddr, mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let (sender, served) = mpsc::channel();
    std::thread::spawn(move || {
        loop {
            let (stream, _) = listener.accept().expect("a connection");
            if serve_page(stream) {
                break;
            }
        }
        drop(listener);
        let _ = sender.send(());
    });
    (address, served)
}

/// Whether it was the page that was asked for.
fn serve_page(mut stream: TcpStream) -> bool {
    // A browser opens connections in advance, and may never use them.
    stream.set_read_timeout(Some(Duration::from_secs(1))).expect("socket option");
    let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
    let Some(call) = read_call(&mut reader) else { return false };
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\ncontent-length: ";
    let answer = format!("{head}{}\r\n\r\n{PAGE}", PAGE.len());
    stream.write_all(answer.as_bytes()).is_ok() && call.path.starts_with("/page")
}
