//! Kills a server again and again under load, and keeps book of what it had promised.
//!
//! Callers enqueue and invoke at a constant rate and write down each 202 (`ledger`). Functions run behind an endpoint that
//! counts executions. The server is killed with SIGKILL at random moments that follow from a seed, some of them before it is
//! ready, and started again on the same port and data. In between results are read, so that one that changes later is
//! found, and calls with an idempotency key are repeated. After the last restart everything that was accepted has to be known and
//! to come to an end.
//!
//! SIGKILL takes the process, not the machine: what was written and not yet synced survives. Power loss is for the simulator.

mod caller;
mod endpoint;
mod ledger;

use std::{
    fs, io,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use self::{
    caller::{Caller, Office, name},
    endpoint::Endpoint,
    ledger::{Ledger, Seen},
};
use crate::{
    client::exchange::{Client, FetchError},
    interrupt::Interrupt,
    report::{
        crash::{Calls, Crash, SCHEMA},
        rounds::median,
        table::time,
    },
    server::{Launch, Server, ServerError},
};

/// Threads that call.
const CALLERS: u32 = 8;
/// Attempts of a function.
const ATTEMPTS_MAX: u32 = 3;
/// Share of the kills that come before the server is ready.
const EARLY_KILLS: f64 = 0.15;
/// Latest moment of such a kill.
const EARLY_KILL_MS_MAX: u64 = 200;
/// Earliest moment of any other, after the server is ready.
const KILL_MS_MIN: u64 = 50;
/// Calls with a key that are repeated after each restart.
const REPEATED: usize = 20;
/// Pause between two looks at results.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// How long an answer to a question may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(20);

/// What to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server; its port may be 0.
    pub launch: Launch,
    /// How often it is killed while it serves.
    pub cycles: u64,
    /// What the moments follow from.
    pub seed: u64,
    /// Calls per second.
    pub rate: f64,
    /// Functions.
    pub functions: u64,
    /// Longest time that it serves before it is killed.
    pub serve_max: Duration,
    /// How long a start may take, recovery included.
    pub start_patience: Duration,
    /// How long it may take after the last restart until everything has ended.
    pub settle: Duration,
}

/// Why a crash run could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum CrashError {
    /// The data of somebody else is not to be killed.
    #[error("{0} is not empty; give a new directory with --data")]
    NotEmpty(PathBuf),
    /// The directory cannot be looked into, or a thread or socket is refused.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// The server does not come back.
    #[error("after {0} kills: {1}")]
    Server(u64, ServerError),
    /// It ended without having been killed.
    #[error("the server ended by itself; the end of its log:\n{0}")]
    Ended(String),
    /// A function cannot be registered.
    #[error("cannot register a function: {0}")]
    Register(String),
    /// A calling thread panicked.
    #[error("a calling thread failed")]
    Thread,
}

/// The state of a run.
struct Run<'a> {
    options: &'a Options,
    launch: Launch,
    endpoint: Endpoint,
    random: fastrand::Rng,
    kills: u64,
    early_kills: u64,
    ready_ms: Vec<f64>,
    functions_lost: u64,
}

/// Carries it out. `progress` is told the number of kills after each.
///
/// # Errors
/// When the server cannot be started, or not again.
pub fn run(
    options: &Options,
    interrupt: &Interrupt,
    mut progress: impl FnMut(u64),
) -> Result<Crash, CrashError> {
    let started_at =
        jiff::Timestamp::try_from(SystemTime::now()).map_or_else(|_| String::new(), |at| at.to_string());
    if let Some(data) = &options.launch.data_dir {
        fs::create_dir_all(data)?;
        if fs::read_dir(data)?.next().is_some() {
            return Err(CrashError::NotEmpty(data.clone()));
        }
    }
    let mut run = Run {
        options,
        launch: options.launch.clone(),
        endpoint: Endpoint::start()?,
        random: fastrand::Rng::with_seed(options.seed),
        kills: 0,
        early_kills: 0,
        ready_ms: Vec::new(),
        functions_lost: 0,
    };
    let mut server = run.start()?;
    run.launch.port = server.api.port();
    run.register(&server)?;
    let office = Arc::new(Office {
        address: server.api,
        functions: options.functions,
        seed: options.seed,
        ledger: Mutex::new(Ledger::default()),
        numbers: AtomicU64::new(0),
        is_closed: AtomicBool::new(false),
    });
    let interval = Duration::from_secs_f64(f64::from(CALLERS) / options.rate);
    let callers = (0..CALLERS).map(|_| {
        let caller = Caller { office: Arc::clone(&office), interval };
        thread::Builder::new().name("caller".to_owned()).spawn(move || caller.run())
    });
    let callers = callers.collect::<io::Result<Vec<_>>>()?;
    while run.kills < options.cycles && !interrupt.is_set() {
        run.look_until_kill(&mut server, &office)?;
        server.kill();
        run.kills += 1;
        progress(run.kills);
        server = run.start_again()?;
        run.functions_lost += run.register(&server)?;
        run.repeat(&server, &office);
    }
    office.is_closed.store(true, Ordering::Relaxed);
    let mut calls = Calls::default();
    for caller in callers {
        calls.add(&caller.join().map_err(|_| CrashError::Thread)?);
    }
    run.settle(&server, &office);
    let mut findings = office.ledger().findings(&run.endpoint.runs(), ATTEMPTS_MAX);
    findings.functions_lost = run.functions_lost;
    Ok(Crash {
        schema: SCHEMA,
        command: "crash".to_owned(),
        started_at,
        setup: run.setup(),
        is_interrupted: interrupt.is_set(),
        seed: options.seed,
        kills: run.kills,
        kills_while_starting: run.early_kills,
        ready_ms_median: median(run.ready_ms.iter().copied()).unwrap_or_default(),
        ready_ms_max: run.ready_ms.iter().copied().fold(0.0, f64::max),
        calls,
        is_good: findings.is_good(),
        findings,
    })
}

impl Run<'_> {
    fn start(&mut self) -> Result<Server, CrashError> {
        let begun = Instant::now();
        let started = self.launch.start(self.options.start_patience);
        self.ready_ms.push(begun.elapsed().as_secs_f64() * 1000.0);
        started.map_err(|error| CrashError::Server(self.kills, error))
    }

    /// Starts it, and sometimes kills it before it is ready.
    fn start_again(&mut self) -> Result<Server, CrashError> {
        while self.random.f64() < EARLY_KILLS {
            let server = self.launch.begin().map_err(|error| CrashError::Server(self.kills, error))?;
            thread::sleep(Duration::from_millis(self.random.u64(0..=EARLY_KILL_MS_MAX)));
            server.kill();
            self.kills += 1;
            self.early_kills += 1;
        }
        self.start()
    }

    /// Registers what is missing; how many functions that were.
    fn register(&self, server: &Server) -> Result<u64, CrashError> {
        let failed = |error: String| CrashError::Register(error);
        let mut client = Client::connect(server.api, ASK_TIMEOUT)?;
        let mut missing = 0;
        for function in 0..self.options.functions {
            let spec = format!(
                r#"{{"name":"{}","executionMode":"POOL","endpointUrl":"http://{}/invoke","concurrency":16,"queueSize":100000,"maxRetries":{ATTEMPTS_MAX}}}"#,
                name(function),
                self.endpoint.address
            );
            let path = format!("/v1/functions/{}", name(function));
            let known = client.send("GET", &path, None).map_err(|error| failed(error.to_string()))?;
            if known.status == 200 {
                continue;
            }
            missing += 1;
            let answer = client
                .send("POST", "/v1/functions", Some(&spec))
                .map_err(|error| failed(error.to_string()))?;
            if answer.status != 201 {
                return Err(failed(String::from_utf8_lossy(&answer.body).into_owned()));
            }
        }
        Ok(missing)
    }

    /// Reads results until it is time for the next kill.
    fn look_until_kill(&mut self, server: &mut Server, office: &Office) -> Result<(), CrashError> {
        let serve_ms = self.random.u64(KILL_MS_MIN..=self.serve_ms_max());
        let end = Instant::now() + Duration::from_millis(serve_ms);
        let mut client = Client::connect(server.api, ASK_TIMEOUT).ok();
        while Instant::now() < end {
            if server.ended().is_some() {
                return Err(CrashError::Ended(server.log()));
            }
            let count = office.ledger().len();
            if let (Some(client), true) = (&mut client, count > 0) {
                let place = self.random.usize(..count);
                let id = office.ledger().id(place).map(str::to_owned);
                if let Some(id) = id
                    && let Ok(seen) = look(client, &id)
                {
                    office.ledger().see(&id, seen);
                }
            }
            thread::sleep(LOOK_INTERVAL.min(end.saturating_duration_since(Instant::now())));
        }
        Ok(())
    }

    fn serve_ms_max(&self) -> u64 {
        u64::try_from(self.options.serve_max.as_millis()).unwrap_or(u64::MAX).max(KILL_MS_MIN)
    }

    /// Repeats some calls with an idempotency key: the book notices an id that is not the first one.
    fn repeat(&mut self, server: &Server, office: &Office) {
        let count = office.ledger().len();
        let Ok(mut client) = Client::connect(server.api, ASK_TIMEOUT) else { return };
        for _ in 0..REPEATED.min(count) {
            let keyed = office.ledger().keyed(self.random.usize(..count));
            let Some((number, key)) = keyed else { continue };
            if let Ok(Some(id)) = office.enqueue(&mut client, number, Some(&key)) {
                office.ledger().accept(&id, number, Some(&key));
            }
        }
    }

    /// Reads everything until all of it has ended, or the time is over.
    fn settle(&self, server: &Server, office: &Office) {
        let end = Instant::now() + self.options.settle;
        office.ledger().forget_latest();
        loop {
            let open = office.ledger().open();
            let Ok(mut client) = Client::connect(server.api, ASK_TIMEOUT) else { return };
            let mut unknown = 0;
            for id in &open {
                let Ok(seen) = look(&mut client, id) else { break };
                unknown += usize::from(seen == Seen::Unknown);
                office.ledger().see(id, seen);
            }
            // What is unknown does not come back.
            if unknown == open.len() || Instant::now() >= end {
                return;
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }

    fn setup(&self) -> Vec<String> {
        let options = self.options;
        let data = if options.launch.data_dir.is_some() { "with a data directory" } else { "in memory" };
        vec![format!(
            "`nanofaas serve`, {} shards, {data}; {} functions, {} calls/s, killed with SIGKILL after at most {}",
            options.launch.workers,
            options.functions,
            options.rate,
            time(options.serve_max.as_secs_f64() * 1000.0)
        )]
    }
}

/// What the server says of an execution.
fn look(client: &mut Client, id: &str) -> Result<Seen, FetchError> {
    let answer = client.send("GET", &format!("/v1/executions/{id}"), None)?;
    if answer.status == 404 {
        return Ok(Seen::Unknown);
    }
    if answer.status != 200 {
        return Err(FetchError::Status(answer.status));
    }
    let status: serde_json::Value =
        serde_json::from_slice(&answer.body).map_err(|error| FetchError::Answer(error.to_string()))?;
    Ok(match status["status"].as_str() {
        Some(end @ ("success" | "error" | "timeout")) => {
            Seen::Ended(end.to_owned(), format!("{} {}", status["output"], status["error"]))
        }
        _ => Seen::Open,
    })
}
