//! Starts the real server on free ports and ends it by its id.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
};

use serde_json::{Value, json};

use super::{Client, DataDir, Function, PATIENCE, Response, client::encode, eventually};

/// A running server. Dropping it kills it and waits for its end.
pub struct Server {
    child: Child,
    pub api: SocketAddr,
    pub management: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// `nanofaas serve` with two workers and these settings, each `key=value`.
    pub fn start(settings: &[&str]) -> Server {
        Server::run("serve", settings, "true", None)
    }

    /// The same, with what survives it in a directory.
    pub fn durable(data: &DataDir, settings: &[&str]) -> Server {
        Server::run("serve", settings, "true", Some(data))
    }

    /// The same, started by a shell that sets limits first.
    pub fn durable_limited(data: &DataDir, settings: &[&str], limits: &str) -> Server {
        Server::run("serve", settings, limits, Some(data))
    }

    /// `nanofaas dev` with what survives it in a directory.
    pub fn durable_dev(data: &DataDir, settings: &[&str]) -> Server {
        Server::run("dev", settings, "true", Some(data))
    }

    /// The same, started by a shell that sets limits first, such as `ulimit -n 64`.
    pub fn start_limited(settings: &[&str], limits: &str) -> Server {
        Server::run("serve", settings, limits, None)
    }

    /// `nanofaas dev`: with the process backend.
    pub fn dev(settings: &[&str]) -> Server {
        Server::run("dev", settings, "true", None)
    }

    fn run(command: &str, settings: &[&str], prelude: &str, data: Option<&DataDir>) -> Server {
        Server::start_up(command, settings, prelude, data).ready()
    }

    /// Starts it without waiting for it.
    pub fn start_up(command: &str, settings: &[&str], prelude: &str, data: Option<&DataDir>) -> Starting {
        let mut child = Command::new("sh");
        child.args([
            "-c",
            &format!("{prelude}; exec \"$0\" \"$@\""),
            env!("CARGO_BIN_EXE_nanofaas"),
            command,
        ]);
        match data {
            Some(data) => child.arg("--data-dir").arg(data.path()),
            None => child.arg("--ephemeral"),
        };
        if !settings.iter().any(|setting| setting.starts_with("workers=")) {
            child.args(["--workers", "2"]);
        }
        for (key, flag) in [("server.port=", "--port"), ("management.port=", "--management-port")] {
            if !settings.iter().any(|setting| setting.starts_with(key)) {
                child.args([flag, "0"]);
            }
        }
        // Tests are about behaviour; the one about the limit sets it.
        child.args(["--set", "rate.max-per-second=100000000"]);
        for setting in settings {
            child.args(["--set", setting]);
        }
        child.env("NANOFAAS_LOG", "info").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = child.spawn().expect("the binary starts");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let log = Arc::new(Mutex::new(Vec::new()));
        let (sender, receiver) = mpsc::channel();
        let lines = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if let Ok(event) = serde_json::from_str::<Value>(&line)
                    && event["message"] == "serving"
                {
                    let address = |field: &str| event[field].as_str().and_then(|text| text.parse().ok());
                    let _ = sender.send((address("api"), address("management")));
                }
                lines.lock().expect("no panic").push(line);
            }
        });
        Starting { child, log, addresses: receiver }
    }

    /// Ends it the way a power failure does, and waits until it is gone.
    pub fn kill(mut self) {
        self.signal("KILL");
        assert_eq!(self.wait(), None);
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to its log so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().expect("no panic").clone()
    }

    /// Waits until a line of its log has all of these in it. Lines come through a pipe, behind the server's answers and even
    /// its end.
    pub fn logged(&self, parts: &[&str]) {
        let says_so = || self.log().iter().any(|line| parts.iter().all(|part| line.contains(part)));
        eventually(&format!("{parts:?} in the log"), says_so);
    }

    /// A connection to the API.
    pub fn client(&self) -> Client {
        Client::connect(self.api)
    }

    /// One JSON request to the API on a connection of its own.
    pub fn send(&self, method: &str, path: &str, body: &Value) -> Response {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.client().send(method, path, &[("content-type", "application/json")], &body)
    }

    /// `GET` from the API.
    pub fn get(&self, path: &str) -> Response {
        self.send("GET", path, &Value::Null)
    }

    /// Registers a function; panics when it is refused.
    #[track_caller]
    pub fn register(&self, spec: Value) -> Value {
        let response = self.send("POST", "/v1/functions", &spec);
        assert_eq!(response.status, 201, "{}", response.text());
        response.json()
    }

    /// Registers a POOL function with these further fields; panics when it is refused.
    #[track_caller]
    pub fn pool(&self, name: &str, function: &Function, fields: Value) -> Value {
        let mut spec = json!({ "name": name, "executionMode": "POOL", "endpointUrl": function.url() });
        for (field, value) in fields.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        self.register(spec)
    }

    /// Sends a call and does not wait for its answer: the client reads it later.
    pub fn begin(&self, name: &str, headers: &[(&str, &str)], input: Value) -> Client {
        let mut client = self.client();
        let headers = [&[("content-type", "application/json")], headers].concat();
        let body = json!({ "input": input }).to_string();
        client.write(&encode("POST", &format!("/v1/functions/{name}:invoke"), &headers, body.as_bytes()));
        client
    }

    /// An ExecutionStatus.
    #[track_caller]
    pub fn execution(&self, id: &str) -> Value {
        let response = self.get(&format!("/v1/executions/{id}"));
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()
    }

    /// Waits until an execution has ended; its status.
    #[track_caller]
    pub fn ended(&self, id: &str) -> Value {
        let mut status = Value::Null;
        eventually("the execution ends", || {
            status = self.execution(id);
            status["status"] != "queued" && status["status"] != "running"
        });
        status
    }

    /// Calls a function with an input.
    pub fn invoke(&self, name: &str, input: Value) -> Response {
        self.send("POST", &format!("/v1/functions/{name}:invoke"), &json!({ "input": input }))
    }

    /// `GET` from the management listener.
    pub fn manage(&self, path: &str) -> Response {
        Client::connect(self.management).send("GET", path, &[], b"")
    }

    /// The value of a metric, such as `function_in_flight{function="f"}`; 0 when there is no such line.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.manage("/actuator/prometheus").text();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().expect("a number"))
    }

    /// What the accounts of executions are off by, and the steps that cannot be, as the server says; `None` when it has ended, or does not
    /// answer because the test stopped it.
    fn drift(&self) -> Option<[String; 2]> {
        let stream = TcpStream::connect(self.management).ok()?;
        stream.set_read_timeout(Some(PATIENCE / 4)).ok()?;
        let mut client = Client { stream: BufReader::new(stream) };
        client.stream.get_mut().write_all(&encode("GET", "/actuator/prometheus", &[], b"")).ok()?;
        let text = client.read().ok()?.text();
        let value_of = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or("missing").to_owned()
        };
        Some(["nanofaas_accounting_drift", "nanofaas_impossible_steps_total"].map(value_of))
    }

    /// Sends a signal by name. A server that is asked to end will not tell its accounts when it is dropped: it does now.
    pub fn signal(&self, signal: &str) {
        if ["TERM", "INT"].contains(&signal)
            && let Some(drift) = self.drift()
        {
            assert_eq!(
                drift,
                ["0", "0"],
                "accounts that are off and steps that cannot be, before SIG{signal}"
            );
        }
        let killed = Command::new("kill").args([&format!("-{signal}"), &self.pid().to_string()]).status();
        assert!(killed.is_ok_and(|status| status.success()), "kill -{signal}");
    }

    /// Waits for its end; the exit code, `None` when a signal ended it.
    pub fn wait(&mut self) -> Option<i32> {
        let deadline = std::time::Instant::now() + PATIENCE * 2;
        loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                return status.code();
            }
            assert!(std::time::Instant::now() < deadline, "the server did not end: {:#?}", self.log());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

/// A server that has not said yet that it serves.
pub struct Starting {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    addresses: mpsc::Receiver<(Option<SocketAddr>, Option<SocketAddr>)>,
}

impl Starting {
    /// Waits until it serves; panics when it does not.
    pub fn ready(mut self) -> Server {
        let Ok((Some(api), Some(management))) = self.addresses.recv_timeout(PATIENCE) else {
            let _ = self.child.kill();
            let _ = self.child.wait();
            panic!("the server did not start: {:#?}", self.log.lock().expect("no panic"));
        };
        Server { child: self.child, api, management, log: self.log }
    }

    /// What it wrote to its log so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().expect("no panic").clone()
    }

    /// Waits until its log has this in it.
    pub fn logged(&self, part: &str) {
        eventually(&format!("'{part}' in the log"), || self.log().iter().any(|line| line.contains(part)));
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        let told = Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(told.is_ok_and(|status| status.success()));
    }

    /// Waits for its end: its exit code and all that it wrote.
    pub fn end(mut self) -> (Option<i32>, String) {
        let mut status = None;
        eventually("it ends", || {
            status = self.child.try_wait().expect("our child");
            status.is_some()
        });
        // The log is complete when its reader is done.
        eventually("its log ends", || Arc::strong_count(&self.log) == 1);
        (status.and_then(|status| status.code()), self.log().join("\n"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let drift = if std::thread::panicking() { None } else { self.drift() };
        let _ = self.child.kill();
        let _ = self.child.wait();
        // No test may leave the accounts unbalanced.
        if let Some(drift) = drift {
            assert_eq!(drift, ["0", "0"], "accounts that are off and steps that cannot be");
        }
    }
}
