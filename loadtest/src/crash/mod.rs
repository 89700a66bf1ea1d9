//! Kills a server again and again under load, and keeps book of what it had promised.
//!
//! Callers enqueue and invoke at a constant rate and write down each 202 (`ledger`). Functions run behind an endpoint that
//! counts executions. The server is killed with SIGKILL at random moments that follow from a seed, some of them before it is
//! ready, and started again on the same port and data. In between results are read, so that one that changes later is
//! found, and calls with an idempotency key are repeated. After the last restart everything that was accepted has to be known and
//! to come to an end.
//!
//! Besides the kills the store can have another fault: a torn end before each start (`torn`), or a disk that becomes full
//! and has room again later (`disk`).
//!
//! SIGKILL takes the process, not the machine: what was written and not yet synced survives. Power loss is for the simulator.

mod asking;
mod caller;
pub mod disk;
mod endpoint;
mod ledger;
mod torn;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use self::{
    asking::{ASK_TIMEOUT, look, register},
    caller::{Caller, Enqueued, Office},
    disk::{Disk, Way},
    endpoint::Endpoint,
    ledger::{Ledger, Seen},
};
use crate::{
    client::exchange::Client,
    interrupt::Interrupt,
    report::{
        crash::{Calls, Crash, Faults, SCHEMA},
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
/// How long a store may refuse records that there is room for.
const ROOM_UNUSED_MAX: Duration = Duration::from_secs(10);

/// What else goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    Kill,
    /// The log ends with a commit that is not whole.
    Torn,
    /// The disk becomes full.
    Full(Way),
}

/// What to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server; its port may be 0.
    pub launch: Launch,
    /// What else goes wrong with its store; it needs a data directory.
    pub fault: Fault,
    /// How often it is killed while it serves.
    pub cycles: u64,
    /// What the moments follow from.
    pub seed: u64,
    /// Calls per second.
    pub rate: f64,
    /// Functions.
    pub functions: u64,
    /// Longest time that it serves before it is killed, from 50 ms on.
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
    disk: Option<Disk>,
    tears: u64,
    tears_unsaid: u64,
}

/// Whether a directory can be used: it is made if it is not there.
///
/// # Errors
/// When somebody else's data is in it.
pub fn check_new(data: &Path) -> Result<(), CrashError> {
    fs::create_dir_all(data)?;
    match fs::read_dir(data)?.next() {
        Some(_) => Err(CrashError::NotEmpty(data.to_owned())),
        None => Ok(()),
    }
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
        check_new(data)?;
    }
    let disk = match (options.fault, &options.launch.data_dir) {
        (Fault::Full(way), Some(data)) => Some(Disk::new(way, data)),
        _ => None,
    };
    let mut run = Run {
        options,
        launch: options.launch.clone(),
        endpoint: Endpoint::start()?,
        random: fastrand::Rng::with_seed(options.seed),
        kills: 0,
        early_kills: 0,
        ready_ms: Vec::new(),
        functions_lost: 0,
        disk,
        tears: 0,
        tears_unsaid: 0,
    };
    let mut server = run.start()?;
    run.launch.port = server.api.port();
    register(&server, options.functions, run.endpoint.address, ATTEMPTS_MAX)?;
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
        run.kill(server)?;
        progress(run.kills);
        server = run.start_again()?;
        run.functions_lost += register(&server, options.functions, run.endpoint.address, ATTEMPTS_MAX)?;
        run.repeat(&server, &office);
    }
    let still_refused = run.make_room(&server, &office)?;
    office.is_closed.store(true, Ordering::Relaxed);
    let mut calls = Calls::default();
    for caller in callers {
        calls.add(&caller.join().map_err(|_| CrashError::Thread)?);
    }
    run.settle(&server, &office);
    let mut findings = office.ledger().findings(&run.endpoint.runs(), ATTEMPTS_MAX);
    findings.functions_lost = run.functions_lost;
    findings.still_refused = u64::from(still_refused);
    findings.tears_unsaid = run.tears_unsaid;
    let faults = run.faults();
    // A fault that nobody noticed proves nothing.
    let is_tried = match options.fault {
        Fault::Kill => true,
        Fault::Torn => run.tears > 0,
        Fault::Full(_) => calls.not_stored > 0,
    };
    Ok(Crash {
        schema: SCHEMA,
        command: "crash".to_owned(),
        started_at,
        setup: run.setup(),
        faults,
        is_interrupted: interrupt.is_set(),
        seed: options.seed,
        kills: run.kills,
        kills_while_starting: run.early_kills,
        ready_ms_median: median(run.ready_ms.iter().copied()).unwrap_or_default(),
        ready_ms_max: run.ready_ms.iter().copied().fold(0.0, f64::max),
        calls,
        is_good: findings.is_good() && is_tried,
        findings,
    })
}

impl Run<'_> {
    fn begin(&mut self) -> Result<Server, CrashError> {
        let is_torn = self.options.fault == Fault::Torn && self.kills > 0;
        if let (true, Some(data)) = (is_torn, &self.launch.data_dir) {
            torn::tear(data, &mut self.random)?;
            self.tears += 1;
        }
        let server = self.launch.begin().map_err(|error| CrashError::Server(self.kills, error))?;
        if let Some(disk) = &mut self.disk {
            disk.begun(&server, &mut self.random)?;
        }
        Ok(server)
    }

    fn start(&mut self) -> Result<Server, CrashError> {
        let begun = Instant::now();
        let tears = self.tears;
        let mut server = self.begin()?;
        let ready = server.wait_ready(self.options.start_patience);
        self.ready_ms.push(begun.elapsed().as_secs_f64() * 1000.0);
        ready.map_err(|error| CrashError::Server(self.kills, error))?;
        self.tears_unsaid += u64::from(self.tears > tears && !server.log().contains("torn"));
        Ok(server)
    }

    fn kill(&mut self, server: Server) -> Result<(), CrashError> {
        server.kill();
        self.kills += 1;
        match &mut self.disk {
            Some(disk) => Ok(disk.killed(&mut self.random)?),
            None => Ok(()),
        }
    }

    /// Starts it, and sometimes kills it before it is ready.
    fn start_again(&mut self) -> Result<Server, CrashError> {
        while self.random.f64() < EARLY_KILLS {
            let server = self.begin()?;
            thread::sleep(Duration::from_millis(self.random.u64(0..=EARLY_KILL_MS_MAX)));
            self.kill(server)?;
            self.early_kills += 1;
        }
        self.start()
    }

    /// Reads results until it is time for the next kill.
    fn look_until_kill(&mut self, server: &mut Server, office: &Office) -> Result<(), CrashError> {
        let serve = Duration::from_millis(self.random.u64(KILL_MS_MIN..=self.serve_ms_max()));
        let begun = Instant::now();
        let mut client = Client::connect(server.api, ASK_TIMEOUT).ok();
        if let Some(disk) = &mut self.disk {
            disk.plan(serve, &mut self.random);
        }
        while begun.elapsed() < serve {
            if server.ended().is_some() {
                return Err(CrashError::Ended(server.log()));
            }
            let is_safe = self.advance_disk(begun.elapsed(), server, client.as_mut(), office)?;
            let count = office.ledger().len();
            if let (Some(client), true) = (&mut client, count > 0) {
                let place = self.random.usize(..count);
                let id = office.ledger().id(place).map(str::to_owned);
                if let Some(id) = id
                    && let Ok(seen) = look(client, &id)
                {
                    office.ledger().see(&id, seen, is_safe);
                }
            }
            thread::sleep(LOOK_INTERVAL.min(serve.saturating_sub(begun.elapsed())));
        }
        Ok(())
    }

    /// Fills the disk, or makes room, when that is due. Whether ends that are seen now must be on disk.
    fn advance_disk(
        &mut self,
        served: Duration,
        server: &Server,
        client: Option<&mut Client>,
        office: &Office,
    ) -> Result<bool, CrashError> {
        let Some(disk) = &mut self.disk else { return Ok(true) };
        let was_safe = !disk.is_doubtful;
        disk.advance(served, server, &mut self.random)?;
        if let (Some(client), true) = (client, disk.is_doubtful && disk.has_room()) {
            disk.is_doubtful = !is_accepted(client, office);
        }
        Ok(was_safe && !disk.is_doubtful)
    }

    /// After the last restart there is room. Whether calls are refused all the same.
    fn make_room(&mut self, server: &Server, office: &Office) -> Result<bool, CrashError> {
        let Some(disk) = &mut self.disk else { return Ok(false) };
        disk.free(Some(server))?;
        let mut client = Client::connect(server.api, ASK_TIMEOUT)?;
        let end = Instant::now() + ROOM_UNUSED_MAX;
        while !is_accepted(&mut client, office) {
            if Instant::now() >= end {
                return Ok(true);
            }
            thread::sleep(LOOK_INTERVAL);
        }
        Ok(false)
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
            if let Ok(Enqueued::Accepted(id)) = office.enqueue(&mut client, number, Some(&key)) {
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
                office.ledger().see(id, seen, true);
            }
            // What is unknown does not come back.
            if unknown == open.len() || Instant::now() >= end {
                return;
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }

    fn faults(&self) -> Faults {
        let (fault, disk) = match self.options.fault {
            Fault::Kill => ("kill", None),
            Fault::Torn => ("torn", None),
            Fault::Full(Way::Tmpfs) => ("full", Some("a file system of 256 MiB in memory")),
            Fault::Full(Way::Limit) => ("full", Some("a limit on the length of files")),
        };
        Faults {
            fault: fault.to_owned(),
            disk: disk.map(str::to_owned),
            tears: self.tears,
            fills: self.disk.as_ref().map_or(0, |disk| disk.fills),
            kills_while_full: self.disk.as_ref().map_or(0, |disk| disk.kills),
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

/// Enqueues a call; whether it is accepted. What the store was told before is on disk then, too.
fn is_accepted(client: &mut Client, office: &Office) -> bool {
    let number = office.numbers.fetch_add(1, Ordering::Relaxed);
    let key = office.key(number);
    match office.enqueue(client, number, key.as_deref()) {
        Ok(Enqueued::Accepted(id)) => {
            office.ledger().accept(&id, number, key.as_deref());
            true
        }
        _ => false,
    }
}
