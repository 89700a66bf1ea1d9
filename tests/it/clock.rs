//! The wall clock of a running server is set by an hour, to either side, with libfaketime (Debian package `faketime`).
//!
//! Only what people read may follow it, and what is told over a restart; deadlines and rates are on the monotonic clock,
//! which libfaketime leaves alone here.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use serde_json::json;

use crate::support::{Client, DataDir, Function, Gate, Server, client::encode, eventually};

const HOUR_S: i64 = 3600;
const ON: &str = "async-queue.enabled=true";

/// A clock that servers read instead of the machine's.
struct FakeClock(DataDir);

impl FakeClock {
    fn new() -> FakeClock {
        let clock = FakeClock(DataDir::new());
        fs::create_dir_all(clock.0.path()).expect("a folder");
        clock.set(0);
        clock
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("offset")
    }

    /// Seconds that it is off by from now on.
    fn set(&self, offset_s: i64) {
        let draft = self.0.path().join("draft");
        fs::write(&draft, format!("{offset_s:+}\n")).expect("a file");
        // The server reads it all the time: it has to find the old one or the new one.
        fs::rename(draft, self.file()).expect("renamed");
    }

    /// What a shell does before it starts a server.
    fn prelude(&self) -> String {
        let (library, file) = (library(), self.file());
        format!(
            "export LD_PRELOAD='{}' FAKETIME_TIMESTAMP_FILE='{}' FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME_NO_CACHE=1",
            library.display(),
            file.display()
        )
    }
}

/// Debian keeps it in a folder of the machine's architecture.
fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut candidates = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    candidates.find(|path| path.is_file()).expect("libfaketime is missing: apt-get install faketime")
}

fn unix_s() -> i64 {
    SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs() as i64
}

fn enqueue(server: &Server, function: &str) -> String {
    let response = server.send("POST", &format!("/v1/functions/{function}:enqueue"), &json!({ "input": 1 }));
    assert_eq!(response.status, 202, "{}", response.text());
    response.header("x-execution-id").expect("an id").to_owned()
}

/// Has everything on disk that was written so far: an end is written without anybody waiting for it.
fn settle(server: &Server, name: &str) {
    server.register(json!({ "name": name, "executionMode": "LOCAL" }));
}

/// Checks that what the server says of an execution is on the clock as it was set.
#[track_caller]
fn is_set(server: &Server, offset_s: i64) {
    let id = enqueue(server, "reader");
    let created_s = server.ended(&id)["createdAtMillis"].as_i64().expect("a number") / 1000;
    let off_s = created_s - unix_s() - offset_s;
    assert!(off_s.abs() < 60, "the server's clock is off by {off_s} s from where it was set");
}

/// Calls until both limits have refused, then until both admit again: with each in every second.
#[track_caller]
fn calls_go_on(client: &mut Client) {
    let mut call = |name: &str| {
        let path = format!("/v1/functions/{name}:invoke");
        let response = client.send("POST", &path, &[("content-type", "application/json")], br#"{"input":1}"#);
        if response.status == 429 {
            assert_eq!(response.header("retry-after"), Some("1"), "{}", response.text());
        }
        response.status
    };
    let start = Instant::now();
    for name in ["limited", "other"] {
        eventually(&format!("{name} is refused"), || call(name) == 429);
        eventually(&format!("{name} is admitted"), || call(name) == 200);
    }
    assert!(start.elapsed() < Duration::from_secs(15), "it took {:?}", start.elapsed());
}

#[test]
fn calls_go_on_while_the_clock_is_set_back_and_forth() {
    let clock = FakeClock::new();
    let server = Server::start_limited(&["rate.max-per-second=40", ON], &clock.prelude());
    for (name, fields) in [("limited", json!({ "rateLimitPerSecond": 3 })), ("other", json!({}))] {
        let mut spec = json!({ "name": name, "executionMode": "LOCAL" });
        spec.as_object_mut().expect("an object").extend(fields.as_object().cloned().unwrap_or_default());
        server.register(spec);
    }
    server.register(json!({ "name": "reader", "executionMode": "LOCAL" }));
    let mut client = server.client();
    for offset_s in [0, -HOUR_S, HOUR_S, 0] {
        clock.set(offset_s);
        calls_go_on(&mut client);
        eventually("calls are admitted", || {
            let ready = server.send("POST", "/v1/functions/other:invoke", &json!({ "input": 1 }));
            ready.status == 200
        });
        is_set(&server, offset_s);
    }
}

#[test]
fn deadlines_ages_and_keys_do_not_follow_a_clock_that_is_set() {
    let clock = FakeClock::new();
    let server = Server::start_limited(&[ON], &clock.prelude());
    let gate = Gate::closed();
    let function = Function::behind(&gate, json!("done"));
    server.pool("f", &function, json!({ "concurrency": 1 }));
    server.register(json!({ "name": "reader", "executionMode": "LOCAL" }));
    let call = |headers: &[(&str, &str)], action: &str| {
        let mut client = server.client();
        let headers = [&[("content-type", "application/json")], headers].concat();
        client.write(&encode("POST", &format!("/v1/functions/f:{action}"), &headers, br#"{"input":1}"#));
        client
    };
    let mut patient = call(&[("x-timeout-ms", "60000"), ("idempotency-key", "k")], "invoke");
    gate.await_arrivals(1);
    let mut aged = call(&[("x-max-age-ms", "60000")], "enqueue");
    let aged = aged.read().expect("an answer").header("x-execution-id").expect("an id").to_owned();
    clock.set(HOUR_S);
    is_set(&server, HOUR_S);
    // An hour later by the clock, less than a minute in truth: both wait.
    assert_eq!(server.execution(&aged)["status"], "queued");
    let start = Instant::now();
    clock.set(-HOUR_S);
    let mut hasty = call(&[("x-timeout-ms", "300")], "invoke");
    assert_eq!(
        hasty.read().expect("an answer").status,
        408,
        "a deadline that comes although the clock was set back"
    );
    assert!(start.elapsed() < Duration::from_secs(15));
    gate.open();
    let first = patient.read().expect("an answer");
    assert_eq!(first.status, 200, "{}", first.text());
    assert_eq!(server.ended(&aged)["status"], "success");
    clock.set(HOUR_S);
    let again = call(&[("idempotency-key", "k")], "invoke").read().expect("an answer");
    assert_eq!(
        again.header("x-execution-id"),
        first.header("x-execution-id"),
        "the key is minutes old, not hours"
    );
}

#[test]
fn a_result_is_kept_for_the_rest_of_its_time_after_a_restart() {
    let (clock, data) = (FakeClock::new(), DataDir::new());
    let settings = [ON, "executions.accepted-ttl=1h"];
    let server = Server::durable_limited(&data, &settings, &clock.prelude());
    server.register(json!({ "name": "reader", "executionMode": "LOCAL" }));
    let id = enqueue(&server, "reader");
    let before = server.ended(&id);
    is_set(&server, 0);
    settle(&server, "first");
    server.kill();

    // An hour less a few seconds later.
    clock.set(HOUR_S - 10);
    let server = Server::durable_limited(&data, &settings, &clock.prelude());
    assert_eq!(server.execution(&id), before);
    eventually("its hour is over", || server.get(&format!("/v1/executions/{id}")).status == 404);
    let youngest = enqueue(&server, "reader");
    let before = server.ended(&youngest);
    settle(&server, "second");
    server.kill();

    // Set back: what ended later than now is new.
    clock.set(-HOUR_S);
    let server = Server::durable_limited(&data, &settings, &clock.prelude());
    assert_eq!(server.execution(&youngest), before);
    is_set(&server, -HOUR_S);
}
