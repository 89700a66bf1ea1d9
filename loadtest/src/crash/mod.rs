//! Kills a server again and again under load, and keeps book of what it had promised.
//!
//! Callers enqueue and invoke at a constant rate and write down each 202 (`ledger`). Functions run behind an endpoint that writes
//! down every request, answers some with a promise and calls back late, and has results delivered to it. Others wait for ends,
//! cancel what waits, give dead letters up or replay them, and remove a function. The server is killed with SIGKILL at
//! random moments that follow from a seed, some of them before it is ready, and started again on the same port and data.
//! In between results are read, and calls with an idempotency key are repeated. After the last restart everything that was accepted
//! has to be known and to come to an end, and nothing that was answered may have been taken back (`judgement`).
//!
//! Besides the kills the store can have another fault: a torn end before each start (`torn`), a disk that becomes full
//! and has room again later (`disk`), or one that hangs or is slow (`stall`).
//!
//! SIGKILL takes the process, not the machine: what was written and not yet synced survives. With a disk that hangs or is slow
//! some of the kills take that, too; power loss in all its forms is for the simulator.

mod asking;
mod caller;
mod cycle;
pub mod disk;
mod endpoint;
mod judgement;
mod ledger;
mod operator;
mod registrar;
mod runs;
pub mod stall;
mod torn;
mod watcher;

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
    caller::{Caller, Office},
    cycle::CrashRun,
    disk::Way,
    registrar::Known,
    stall::Trouble,
};
use crate::{
    interrupt::Interrupt,
    report::{
        crash::{Calls, Crash, Findings, SCHEMA},
        rounds::median,
    },
    server::{Launch, ServerError},
};

/// Threads that call. A call that waits for a slow disk holds up the others of its thread.
const CALLERS: u32 = 24;
/// Threads that wait for ends.
const WATCHERS: usize = 4;
/// Attempts of a function.
const ATTEMPTS_MAX: u32 = 3;

/// What else goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    Kill,
    /// The log ends with a commit that is not whole.
    Torn,
    /// The disk becomes full.
    Full(Way),
    /// The disk hangs, or is slow.
    Stall(Trouble),
}

/// What to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server; its port may be 0.
    pub launch: Launch,
    /// What else goes wrong with its store; it needs a data directory.
    pub fault: Fault,
    /// A kill takes what was not synced from no disk.
    pub keep_unsynced: bool,
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
    /// A thread panicked.
    #[error("a thread failed")]
    Thread,
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

/// Kills the server as often as asked for, or until it is interrupted, and tells what became of what was accepted. `progress` is
/// told how often it was killed.
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
    let ledger = Arc::default();
    let mut run = CrashRun::new(options, &ledger)?;
    let mut server = run.start()?;
    run.serves(&server);
    let office = Arc::new(Office {
        address: server.api,
        functions: options.functions,
        seed: options.seed,
        endpoint: run.endpoint.address,
        ledger,
        known: Mutex::new((0..options.functions).map(|_| Known::Removed).collect()),
        numbers: AtomicU64::new(0),
        is_closed: AtomicBool::new(false),
    });
    registrar::check(server.api, &office)?;
    let staff = Staff::start(&office, options)?;
    while run.kills < options.cycles && !interrupt.is_set() {
        run.look_until_kill(&mut server, &office)?;
        run.kill(server)?;
        progress(run.kills);
        server = run.start_again()?;
        run.check(&server, &office)?;
        run.repeat(&server, &office);
    }
    let still_refused = run.make_room(&server, &office)?;
    office.is_closed.store(true, Ordering::Relaxed);
    let mut calls = staff.join()?;
    registrar::check(server.api, &office)?;
    run.settle(&server, &office);
    let findings = Findings {
        functions_lost: run.functions_lost,
        removals_taken_back: run.removals_taken_back,
        still_refused: u64::from(still_refused),
        tears_unsaid: run.tears_unsaid,
        answered_late: calls.answered_late,
        ..judgement::judge(&office.ledger(), &run.endpoint.runs(), options.functions, ATTEMPTS_MAX)
    };
    office.count(&mut calls);
    calls.late_callbacks = run.endpoint.runs().late_callbacks;
    let faults = run.faults()?;
    // A fault that nobody noticed proves nothing.
    let is_tried = match options.fault {
        Fault::Kill => true,
        Fault::Torn => run.tears > 0,
        Fault::Full(_) => calls.not_stored > 0,
        Fault::Stall(Trouble::Hung) => faults.syncs_hung > 0,
        Fault::Stall(Trouble::Slow) => faults.syncs_slow > 0,
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
        is_tried,
        is_good: findings.is_good() && is_tried,
        findings,
    })
}

/// Everybody who calls the server while it lives and dies.
struct Staff {
    callers: Vec<thread::JoinHandle<Calls>>,
    others: Vec<thread::JoinHandle<()>>,
    registrar: thread::JoinHandle<u64>,
}

impl Staff {
    fn start(office: &Arc<Office>, options: &Options) -> io::Result<Staff> {
        let interval = Duration::from_secs_f64(f64::from(CALLERS) / options.rate);
        let callers = (0..CALLERS).map(|place| {
            // Not all at once.
            let first = Instant::now() + interval.mul_f64(f64::from(place) / f64::from(CALLERS));
            let caller = Caller { office: Arc::clone(office), interval, first };
            thread::Builder::new().name("caller".to_owned()).spawn(move || caller.run())
        });
        let mut random = fastrand::Rng::with_seed(options.seed);
        let mut others = vec![operator::start(office, random.fork())?];
        for _ in 0..WATCHERS {
            others.push(watcher::start(office, random.fork())?);
        }
        Ok(Staff {
            callers: callers.collect::<io::Result<_>>()?,
            others,
            registrar: registrar::start(office, random)?,
        })
    }

    /// Waits for their end; the office is closed.
    fn join(self) -> Result<Calls, CrashError> {
        let mut calls = Calls::default();
        for caller in self.callers {
            calls.add(&caller.join().map_err(|_| CrashError::Thread)?);
        }
        for other in self.others {
            other.join().map_err(|_| CrashError::Thread)?;
        }
        calls.removals = self.registrar.join().map_err(|_| CrashError::Thread)?;
        Ok(calls)
    }
}
