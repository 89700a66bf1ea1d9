//! `nanofaas top`: printed once, and live in a terminal.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    error,
    fake::Fake,
    program::{Run, program, run},
};
use crate::support::{Client, Function, Gate, Server, Terminal, pace};

/// A server whose function is called all the time, until this is dropped.
struct Busy {
    server: Server,
    is_over: Arc<AtomicBool>,
    caller: Option<JoinHandle<()>>,
}

impl Busy {
    fn start(settings: &[&str]) -> Busy {
        let server = Server::start(settings);
        for name in ["busy-echo", "idle-echo"] {
            server.register(json!({ "name": name, "executionMode": "LOCAL", "image": "none" }));
        }
        let is_over = Arc::new(AtomicBool::new(false));
        let (over, mut client) = (Arc::clone(&is_over), server.client());
        let caller = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let headers = [("content-type", "application/json")];
                let answer =
                    client.send("POST", "/v1/functions/busy-echo:invoke", &headers, b"{\"input\":1}");
                assert_eq!(answer.status, 200);
            }
        });
        Busy { server, is_over, caller: Some(caller) }
    }

    fn top(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = program(&[&["top"], arguments].concat());
        command.args(["--endpoint", &format!("http://{}", self.server.api)]);
        command.args(["--management", &format!("http://{}", self.server.management)]);
        command
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(caller) = self.caller.take() {
            // Its panic has been printed.
            let _ = caller.join();
        }
    }
}

fn without_server(arguments: &[&str]) -> (Run, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let management = format!("http://{address}");
    (run(program(&[&["top"], arguments].concat()).args(["--management", &management])), address)
}

#[test]
fn once_prints_a_table_of_what_happens() {
    let busy = Busy::start(&[]);
    // Without a terminal nobody has to say --once.
    for arguments in [&["--once"][..], &[]] {
        let run = run(&mut busy.top(arguments));
        assert_eq!(run.code, 0, "{run:?}");
        let lines: Vec<Vec<&str>> =
            run.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
        let head = ["FUNCTION", "MODE", "RATE/S", "P50", "P99", "ERR/S", "QUEUE", "BUSY", "REPL", "RETRY/S"];
        assert_eq!((lines.len(), &lines[0][..]), (3, &head[..]), "{run:?}");
        assert_eq!((lines[1][0], lines[1][1], lines[1][5]), ("busy-echo", "LOCAL", "0"), "{run:?}");
        assert!(!["0", "-"].contains(&lines[1][2]) && lines[1][3] != "-", "no rate: {run:?}");
        assert_eq!(lines[2], ["idle-echo", "LOCAL", "0", "-", "-", "0", "0", "0/4", "-", "0"]);
        assert!(run.stderr.contains(" shard") && run.stderr.contains("2 functions"), "{run:?}");
        assert!(run.stderr.contains("2xx ") && run.stderr.contains("5xx 0/s  refused 0/s"), "{run:?}");
    }
}

#[test]
fn once_prints_an_object_for_programs() {
    let busy = Busy::start(&[]);
    let run = run(&mut busy.top(&["--once", "-o", "json"]));
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let object: Value = serde_json::from_str(&run.stdout).expect("JSON");
    let first = &object["functions"][0];
    assert_eq!((&first["name"], &first["mode"]), (&json!("busy-echo"), &json!("LOCAL")));
    for number in [&first["ratePerSecond"], &first["p99Ms"], &object["total"]["ratePerSecond"]] {
        assert!(number.as_f64().is_some_and(|number| number > 0.0), "{object}");
    }
    // As many as the placement makes of two workers.
    assert!(object["server"]["shards"].as_u64().is_some_and(|shards| shards > 0), "{object}");
    assert_eq!(object["server"]["drift"], json!(0.0));
    let answers = &object["server"]["answersPerSecond"];
    assert!(answers["2xx"].as_f64().is_some_and(|rate| rate > 0.0), "{object}");
    assert_eq!((&answers["5xx"], &object["server"]["refusalsPerSecond"]), (&json!(0.0), &json!({})));
}

#[test]
fn quantiles_are_those_of_the_summaries() {
    let server = Server::start(&[]);
    server.register(json!({ "name": "echo", "executionMode": "LOCAL", "image": "none" }));
    (0..20).for_each(|_| assert_eq!(server.invoke("echo", json!(1)).status, 200));
    // Rarer than one call in a hundred, and far slower than the others: p99 of all is not p99 of the slowest.
    server.register(json!({ "name": "fast", "executionMode": "LOCAL", "image": "none" }));
    (0..200).for_each(|_| assert_eq!(server.invoke("fast", json!(1)).status, 200));
    let gate = Gate::closed();
    server.pool("slow", &Function::behind(&gate, json!(1)), json!({}));
    let mut slow = server.begin("slow", &[], json!(1));
    gate.await_arrivals(1);
    pace(Duration::from_millis(500));
    gate.open();
    assert_eq!(slow.read().expect("an answer").status, 200);
    let told = |series: &str| {
        let text = Client::connect(server.management).send("GET", "/metrics", &[], b"").text();
        let value = text.lines().find_map(|line| line.strip_prefix(series)).expect("a sample");
        value.parse::<f64>().expect("a number") * 1e3
    };
    let mut command = program(&["top", "-o", "json", "--endpoint", &format!("http://{}", server.api)]);
    let run = run(command.args(["--management", &format!("http://{}", server.management)]));
    let object: Value = serde_json::from_str(&run.stdout).expect("JSON");
    let (echo, total) = (&object["functions"][0], &object["total"]);
    for (shown, series) in [
        (&echo["p50Ms"], "function_e2e_latency_ms_seconds{function=\"echo\",quantile=\"0.5\"} "),
        (&echo["p99Ms"], "function_e2e_latency_ms_seconds{function=\"echo\",quantile=\"0.99\"} "),
        (&total["p50Ms"], "nanofaas_e2e_latency_recent_seconds{percentile=\"50\"} "),
        (&total["p99Ms"], "nanofaas_e2e_latency_recent_seconds{percentile=\"99\"} "),
    ] {
        let told = told(series);
        assert!(shown.as_f64().is_some_and(|shown| (shown - told).abs() < 1e-9), "{series}{told}: {object}");
    }
    let p99 = |of: &Value| of["p99Ms"].as_f64().expect("a number");
    assert!(p99(&object["total"]) < p99(&object["functions"][2]), "{object}");
}

#[test]
fn refusals_by_reason_and_answers_by_class() {
    let busy = Busy::start(&[]);
    let is_over = Arc::clone(&busy.is_over);
    let mut client = busy.server.client();
    let stranger = std::thread::spawn(move || {
        while !is_over.load(Ordering::Relaxed) {
            let answer = client.send("GET", "/v1/functions/nobody", &[], b"");
            assert_eq!(answer.status, 404);
        }
    });
    let once = run(&mut busy.top(&["--once"]));
    assert!(once.stderr.contains("/s: not_found "), "{once:?}");
    let once = run(&mut busy.top(&["--once", "-o", "json"]));
    let object: Value = serde_json::from_str(&once.stdout).expect("JSON");
    let server = &object["server"];
    for rate in [&server["refusalsPerSecond"]["not_found"], &server["answersPerSecond"]["4xx"]] {
        assert!(rate.as_f64().is_some_and(|rate| rate > 0.0), "{object}");
    }
    let mut terminal = Terminal::start(&busy.top(&[]), 80);
    terminal.await_text("/s: not_found ");
    let text = terminal.text();
    let line = text.lines().find(|line| line.starts_with("2xx ")).expect("its line");
    assert!(line.contains("  4xx ") && line.contains("  5xx 0/s  refused "), "{text}");
    terminal.press("q");
    assert_eq!(terminal.wait(), Some(0));
    drop(busy);
    stranger.join().expect("no panic");
}

#[test]
fn once_fails_without_a_server_and_with_another_one() {
    let (run, address) = without_server(&["--once"]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""));
    assert!(run.stderr.contains(&format!("cannot connect to {address}")), "{run:?}");
    let path = "GET /actuator/prometheus";
    for (status, body, expected) in [
        (200, "go_threads 7\n".to_owned(), "not with metrics of nanofaas"),
        (503, error("OVERLOADED", "Gathering takes too long"), "Gathering takes too long (OVERLOADED)"),
        (404, error("NOT_FOUND", "no such path"), "no such path"),
    ] {
        let fake = Fake::start(vec![(path, status, body)]);
        let run = super::program::run(
            program(&["top", "--once", "--management", &fake.endpoint]).args(["--endpoint", &fake.endpoint]),
        );
        assert_eq!(run.code, 1, "{run:?}");
        assert!(run.stderr.contains(expected), "{run:?}");
    }
    let run = super::program::run(&mut program(&["top", "--management", "localhost"]));
    assert_eq!(run.code, 2, "{run:?}");
}

#[test]
fn live_in_a_terminal_until_q() {
    let busy = Busy::start(&[]);
    let mut terminal = Terminal::start(&busy.top(&[]), 100);
    terminal.await_text("busy-echo");
    terminal.press("?");
    terminal.await_text("freeze the picture");
    terminal.press("\u{1b}");
    terminal.press("/nobody");
    terminal.await_text("no function has \"nobody\" in its name");
    assert!(!terminal.is_restored(), "raw while it runs");
    terminal.press("\r");
    terminal.press("q");
    assert_eq!(terminal.wait(), Some(0), "{}", terminal.shown());
    terminal.await_restored();
}

#[test]
fn signals_and_ctrl_c_put_the_terminal_back() {
    let busy = Busy::start(&[]);
    for end in ["TERM", "INT", "HUP", "ctrl-c"] {
        let mut terminal = Terminal::start(&busy.top(&[]), 80);
        terminal.await_text("busy-echo");
        if end == "ctrl-c" {
            terminal.press("\u{3}")
        } else {
            terminal.signal(end)
        }
        assert_eq!(terminal.wait(), Some(0), "{end}");
        terminal.await_restored();
    }
}

#[test]
fn a_server_that_goes_away_is_waited_for() {
    let port =
        TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address").port();
    let setting = format!("management.port={port}");
    let start = || Server::start(&[&setting]);
    let mut server = start();
    server.register(json!({ "name": "first-life", "executionMode": "LOCAL", "image": "none" }));
    let management = format!("http://127.0.0.1:{port}");
    let mut terminal = Terminal::start(&program(&["top", "--management", &management]), 100);
    terminal.await_text("first-life");
    server.signal("KILL");
    server.wait();
    terminal.await_text("cannot reach");
    let server = start();
    server.register(json!({ "name": "second-life", "executionMode": "LOCAL", "image": "none" }));
    terminal.await_text("second-life");
    terminal.press("q");
    assert_eq!(terminal.wait(), Some(0));
}

#[test]
fn no_color_means_no_colour() {
    let busy = Busy::start(&[]);
    for (value, is_coloured) in [("", true), ("1", false)] {
        let mut terminal = Terminal::start(busy.top(&[]).env("NO_COLOR", value), 80);
        // The curve has a colour as soon as there are two looks.
        terminal.await_text("█");
        assert_eq!(terminal.is_coloured(), is_coloured, "{:?}", terminal.shown());
        terminal.press("q");
        assert_eq!(terminal.wait(), Some(0));
    }
}
