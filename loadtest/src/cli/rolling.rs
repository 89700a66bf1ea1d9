//! `loadtest rolling`: replaces a server again and again under constant load; not one request may fail.
//!
//! The listening socket belongs to this program and is handed over to each server (`LISTEN_FDS`), as systemd and other
//! supervisors do it. So there is no moment in which nobody listens: while no server accepts, connections wait in the
//! socket's queue. With `SO_REUSEPORT` each server has a socket and a queue of its own, and closing one resets the connections
//! that came into it after the last accept.

use std::{
    io::{self, Write},
    net::TcpListener,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use serde::Serialize;

use super::{failure::Failure, measure::catch_signals, output};
use crate::{
    client::exchange::Client,
    interrupt::{EXIT_CODE, Interrupt},
    plan::{self, FunctionSpec, LoadSpec, Mode, Payload, Rate, Scenario},
    report::{Summary, table::time, text},
    run::run,
    server::{Launch, NanofaasServer},
};

/// How long a server may take to start, and to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than any run; it ends when the restarts are through.
const RUN_TIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// The loads, and the functions that they call: one keeps its connections, one opens a new one for each call, one has its
/// calls accepted and waits for their results, which may come from a later server.
const KEPT: &str = "kept";
const NEW: &str = "new";
const ACCEPTED: &str = "accepted";
/// Settings of the servers.
const SETTINGS: [&str; 4] = [
    "rate.max-per-second=1000000000",
    "async-queue.enabled=true",
    "delivery.allow-private=true",
    "delivery.secret=rolling",
];

/// Replace a server again and again under constant load.
#[derive(Args)]
pub(super) struct RollingCommand {
    /// The nanofaas program to start
    #[arg(long, value_name = "PATH")]
    binary: PathBuf,
    /// Directory for the data of all servers; functions are called then, and a quarter as many calls are enqueued besides, whose
    /// results have to come by callback. Without it /modules/build-metadata is fetched, because a server without data knows
    /// no functions
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// End each server before the next one starts, as servers with the same data have to; otherwise the next one starts first
    #[arg(long)]
    sequential: bool,
    /// How often the server is replaced
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    restarts: u32,
    /// Time that each server serves
    #[arg(long, default_value = "2s", value_parser = plan::duration)]
    between: Duration,
    /// Calls per second: one half over connections that are kept, the other over a new connection each
    #[arg(short, long, default_value_t = 500.0)]
    rate: f64,
    /// Connections of each half
    #[arg(short, long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1000))]
    connections: u32,
    /// Threads of each server
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Setting of the servers, as often as needed
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Directory for summary.json
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// The result.
#[derive(Debug, Serialize)]
struct Rolled {
    schema: u32,
    command: &'static str,
    is_interrupted: bool,
    restarts: Vec<Restart>,
    /// Calls that failed or had no answer. Must be 0.
    failed: u64,
    is_good: bool,
    run: Summary,
}

/// How one server made room for the next.
#[derive(Debug, Serialize)]
struct Restart {
    /// From SIGTERM to its end.
    drain_ms: f64,
    /// Time without a server that accepts; 0 when the next one was ready before.
    gap_ms: f64,
    /// Exit code of the old one; `None`: it had to be killed.
    exit_code: Option<i32>,
}

impl RollingCommand {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let interrupt = catch_signals()?;
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0")?);
        let endpoint = format!("http://{}", listener.local_addr()?);
        let launch = Launch {
            binary: self.binary.clone(),
            workers: self.workers,
            data_dir: self.data.clone(),
            settings: [&SETTINGS.map(str::to_owned)[..], &self.settings].concat(),
            listener: Some(listener),
            ..Launch::default()
        };
        let first = launch.start(PATIENCE)?;
        if self.data.is_some() {
            register(&first)?;
        }
        let plan = self.scenario(&endpoint).plan()?;
        let done = Interrupt::default();
        let (replaced, ran) = thread::scope(|scope| {
            let load = scope.spawn(|| run(plan, None, None, &done, |_, _| {}));
            let replaced = self.replace(first, &launch, &interrupt);
            done.set();
            // The last server is there until the last answer.
            (replaced, load.join())
        });
        let (restarts, last) = replaced?;
        drop(last);
        let (plan, outcome) = ran.map_err(|_| Failure::Failed("the load generator failed".to_owned()))??;
        let summary = Summary { is_interrupted: interrupt.is_set(), ..Summary::new(&plan, &outcome) };
        let failed = summary.total.failed + summary.total.unanswered;
        let is_clean = restarts.iter().all(|restart| restart.exit_code == Some(0));
        let rolled = Rolled {
            schema: 1,
            command: "rolling",
            is_interrupted: interrupt.is_set(),
            is_good: failed == 0 && is_clean && summary.total.succeeded > 0 && !restarts.is_empty(),
            restarts,
            failed,
            run: summary,
        };
        self.report(&rolled)?;
        Ok(match rolled {
            Rolled { is_good: true, .. } => ExitCode::SUCCESS,
            Rolled { is_interrupted: true, failed: 0, .. } => ExitCode::from(EXIT_CODE),
            _ => ExitCode::FAILURE,
        })
    }

    /// Replaces the server as often as asked for, and gives the last one.
    fn replace(
        &self,
        mut server: NanofaasServer,
        launch: &Launch,
        interrupt: &Interrupt,
    ) -> Result<(Vec<Restart>, NanofaasServer), Failure> {
        let mut restarts = Vec::new();
        let overlaps = self.data.is_none() && !self.sequential;
        self.pause(interrupt);
        for _ in 0..self.restarts {
            if interrupt.is_set() {
                break;
            }
            let next = if overlaps { Some(launch.start(PATIENCE)?) } else { None };
            let told = Instant::now();
            server.terminate();
            let status = server.wait(PATIENCE);
            let drain_ms = told.elapsed().as_secs_f64() * 1000.0;
            server = match next {
                Some(next) => next,
                None => launch.start(PATIENCE)?,
            };
            restarts.push(Restart {
                drain_ms,
                gap_ms: if overlaps { 0.0 } else { told.elapsed().as_secs_f64() * 1000.0 },
                exit_code: status.and_then(|status| status.code()),
            });
            self.pause(interrupt);
        }
        Ok((restarts, server))
    }

    fn pause(&self, interrupt: &Interrupt) {
        let end = Instant::now() + self.between;
        while Instant::now() < end && !interrupt.is_set() {
            thread::sleep(Duration::from_millis(20).min(end.saturating_duration_since(Instant::now())));
        }
    }

    fn scenario(&self, endpoint: &str) -> Scenario {
        let load = |name: &str, headers: Vec<(String, String)>| LoadSpec {
            name: name.to_owned(),
            connections: self.connections as usize,
            rate: Some(Rate::Constant(self.rate / 2.0)),
            mode: if self.data.is_some() { Mode::Sync } else { Mode::Url },
            functions: vec![self.function(name, endpoint, headers)],
            ..LoadSpec::default()
        };
        let mut loads =
            vec![load(KEPT, Vec::new()), load(NEW, vec![("Connection".to_owned(), "close".to_owned())])];
        if self.data.is_some() {
            let rate = Some(Rate::Constant(self.rate / 4.0));
            loads.push(LoadSpec { rate, mode: Mode::Callback, ..load(ACCEPTED, Vec::new()) });
        }
        Scenario {
            name: "rolling restart".to_owned(),
            endpoint: Some(endpoint.to_owned()),
            warm_up: Duration::ZERO,
            duration: Some(RUN_TIME_MAX),
            loads,
            ..Scenario::default()
        }
    }

    fn function(&self, name: &str, endpoint: &str, headers: Vec<(String, String)>) -> FunctionSpec {
        let calls_function = self.data.is_some();
        FunctionSpec {
            name: name.to_owned(),
            url: (!calls_function).then(|| format!("{endpoint}/modules/build-metadata")),
            copies: None,
            weight: 1,
            method: None,
            content_type: None,
            headers,
            payload: if calls_function { Payload::Text(r#"{"input":1}"#.to_owned()) } else { Payload::None },
        }
    }

    fn report(&self, rolled: &Rolled) -> Result<(), Failure> {
        if let Some(out) = &self.out {
            output::write(out, "summary.json", &output::json(rolled)?)?;
        }
        let mut stdout = io::stdout().lock();
        if self.json {
            return Ok(writeln!(stdout, "{}", output::json(rolled)?)?);
        }
        write!(stdout, "{}", text::text(&rolled.run))?;
        writeln!(stdout)?;
        for (index, restart) in rolled.restarts.iter().enumerate() {
            let code =
                restart.exit_code.map_or_else(|| "killed".to_owned(), |code| format!("exit code {code}"));
            writeln!(
                stdout,
                "restart {}: drained in {}, {code}, {} without a server",
                index + 1,
                time(restart.drain_ms),
                time(restart.gap_ms)
            )?;
        }
        let word = if rolled.is_good { "ok    " } else { "BROKEN" };
        writeln!(stdout, "{word} {} of {} requests failed", rolled.failed, rolled.run.total.sent)?;
        Ok(())
    }
}

fn register(server: &NanofaasServer) -> Result<(), Failure> {
    let failed = |what: String| Failure::Failed(format!("cannot register a function: {what}"));
    let mut client = Client::connect(server.api, PATIENCE)?;
    for name in [KEPT, NEW, ACCEPTED] {
        let spec =
            format!(r#"{{"name":"{name}","executionMode":"LOCAL","concurrency":1000,"queueSize":10000}}"#);
        let answer =
            client.send("POST", "/v1/functions", Some(&spec)).map_err(|error| failed(error.to_string()))?;
        // With 409 it is left from an earlier run.
        if ![201, 409].contains(&answer.status) {
            return Err(failed(String::from_utf8_lossy(&answer.body).into_owned()));
        }
    }
    Ok(())
}
