//! Carries a plan out: threads that send, one that collects.

mod agenda;
mod alarm;
mod call;
mod connection;
mod pending;
pub mod search;
mod stream;
pub(crate) mod verdict;
mod worker;

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use self::worker::{Post, Worker};
pub(crate) use self::{
    pending::{CallbackResult, thread_of},
    worker::Mailbox,
};
use crate::{
    interrupt::Interrupt,
    monitor::{self, Monitor, Sample},
    plan::Plan,
    record::{Collector, Row, Tally, interval_log::IntervalLog},
    serve::callbacks,
};

/// What happened in a run.
#[derive(Debug)]
pub struct RunOutcome {
    /// When it began.
    pub start: SystemTime,
    /// Tallies by function and phase.
    pub totals: Vec<Vec<Tally>>,
    /// Second by second.
    pub rows: Vec<Row>,
    /// CPU time of this process in the measured time, in seconds.
    pub own_cpu_s: f64,
    /// CPU time that the machine's host gave to others in the measured time, in seconds, if it tells.
    pub stolen_s: Option<f64>,
    /// The watched server in the measured time.
    pub server: Option<ServerUse>,
    /// How long was really measured.
    pub measured_s: f64,
    /// Whether it was ended early; the plan says then how long it lasted.
    pub is_interrupted: bool,
}

/// What a server used in the measured time.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerUse {
    /// Where the numbers come from.
    pub source: String,
    /// CPU time in seconds.
    pub cpu_s: f64,
    /// Most memory at the end of any second, in bytes.
    pub resident_bytes_max: u64,
}

/// Why a run could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A thread, a socket or a timer could not be made.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
    /// The interval log could not be written.
    #[error("cannot write the interval log: {0}")]
    Log(io::Error),
    /// A sending thread panicked or failed.
    #[error("a sending thread failed: {0}")]
    Thread(String),
}

/// How often it is looked whether to end early.
const INTERRUPT_INTERVAL: Duration = Duration::from_millis(50);

/// Carries the plan out. `progress` is told the latest second, once per second. An interrupted run ends as if it had been
/// planned to: the last answers are waited for, and the plan that comes back is as long as the run was.
pub fn run(
    mut plan: Plan,
    monitor: Option<Monitor>,
    log: Option<&Path>,
    interrupt: &Interrupt,
    mut progress: impl FnMut(&Row, Duration),
) -> Result<(Plan, RunOutcome), RunError> {
    let callbacks = plan.callbacks.take();
    let plan = Arc::new(plan);
    let start = SystemTime::now();
    let log = log.map(|path| IntervalLog::create(path, start)).transpose().map_err(RunError::Log)?;
    let mut collector = Collector::new(names(&plan), plan.threads, log);
    let (sender, receiver) = mpsc::channel();
    let epoch = Instant::now();
    let end_ns = Arc::new(AtomicU64::new(plan.length().as_nanos() as u64));

    let mut mailboxes = Vec::new();
    let mut threads = Vec::new();
    for index in 0..plan.threads {
        let (post, mailbox) = Post::new()?;
        mailboxes.push(mailbox);
        let (plan, sender, end_ns) = (Arc::clone(&plan), sender.clone(), Arc::clone(&end_ns));
        let send = move || Worker::new(plan, index, epoch, sender, post, end_ns).run();
        threads.push(thread::Builder::new().name(format!("send-{index}")).spawn(send)?);
    }
    drop(sender);
    let listener = callbacks.map(|listener| callbacks::start(listener, mailboxes)).transpose()?;

    let mut watch = Watch::new(&plan, monitor, epoch);
    let (mut told, mut is_interrupted) = (0, false);
    while !collector.is_complete() {
        match receiver.recv_timeout(watch.wait()) {
            Ok(interval) => collector.take(interval),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
        if interrupt.is_set() && !is_interrupted && epoch.elapsed() < plan.length() {
            is_interrupted = true;
            watch.end_now();
            end_ns.store(watch.end.as_nanos() as u64, Ordering::Relaxed);
        }
        watch.look();
        for row in &collector.rows[told..] {
            progress(row, plan.length());
        }
        told = collector.rows.len();
    }
    for thread in threads {
        let result = thread.join().map_err(|_| RunError::Thread("it panicked".to_owned()))?;
        result.map_err(|error| RunError::Thread(error.to_string()))?;
    }
    if let Some(listener) = listener {
        listener.stop();
    }
    if let Some(log) = collector.take_log() {
        log.close().map_err(RunError::Log)?;
    }
    let end = watch.end;
    let outcome = RunOutcome { is_interrupted, ..watch.outcome(start, collector) };
    // The threads are gone, and their references with them.
    let mut plan = Arc::try_unwrap(plan).map_err(|_| RunError::Thread("it did not end".to_owned()))?;
    if is_interrupted {
        plan.warm_up = plan.warm_up.min(end);
        // Rates divide by it, also when the warm-up was not over yet.
        plan.duration = (end - plan.warm_up).max(Duration::from_millis(1));
    }
    Ok((plan, outcome))
}

fn names(plan: &Plan) -> Vec<Vec<String>> {
    let name = |function: &str, phase: String| match phase.as_str() {
        "main" => function.to_owned(),
        phase => format!("{function}.{phase}"),
    };
    let functions = plan.targets.iter();
    functions
        .map(|target| plan.phases(target.load).into_iter().map(|phase| name(&target.name, phase)).collect())
        .collect()
}

/// Looks at the server and at ourselves once a second.
struct Watch {
    monitor: Option<Monitor>,
    epoch: Instant,
    warm_up: Duration,
    end: Duration,
    next: Duration,
    looks: Vec<Look>,
}

/// What one look saw.
#[derive(Debug, Clone, Copy)]
struct Look {
    /// Time since the start.
    at: Duration,
    own_cpu_s: f64,
    stolen_s: Option<f64>,
    server: Option<Sample>,
}

impl Watch {
    fn new(plan: &Plan, monitor: Option<Monitor>, epoch: Instant) -> Watch {
        let (warm_up, end) = (plan.warm_up, plan.length());
        Watch { monitor, epoch, warm_up, end, next: Duration::ZERO, looks: Vec::new() }
    }

    fn wait(&self) -> Duration {
        // After the end the threads decide how long it takes.
        self.next.saturating_sub(self.epoch.elapsed()).clamp(Duration::from_millis(1), INTERRUPT_INTERVAL)
    }

    /// The run ends here.
    fn end_now(&mut self) {
        self.end = self.epoch.elapsed();
        self.next = self.end;
    }

    fn look(&mut self) {
        let now = self.epoch.elapsed();
        if now < self.next {
            return;
        }
        let server = self.monitor.as_mut().and_then(Monitor::sample);
        let (own_cpu_s, stolen_s) = (monitor::own_cpu_s(), monitor::stolen_s());
        self.looks.push(Look { at: now, own_cpu_s, stolen_s, server });
        // Every second, and exactly where the measured time begins and ends.
        let second = Duration::from_secs(now.as_secs() + 1);
        let borders = [self.warm_up, self.end].into_iter().filter(|border| *border > now);
        self.next = borders.fold(second, Duration::min);
    }

    fn outcome(self, start: SystemTime, mut collector: Collector) -> RunOutcome {
        let at = |border: Duration| self.looks.iter().find(|look| look.at >= border).or(self.looks.last());
        let (first, last) = (at(self.warm_up), at(self.end));
        let between = |value: fn(&Look) -> Option<f64>| Some(value(last?)? - value(first?)?);
        let own_cpu_s = between(|look| Some(look.own_cpu_s)).unwrap_or_default();
        let stolen_s = between(|look| look.stolen_s);
        let measured_s = between(|look| Some(look.at.as_secs_f64())).unwrap_or_default();
        let cpu_s = between(|look| Some(look.server?.cpu_s));
        let resident = self.looks.iter().filter_map(|look| look.server).map(|server| server.resident_bytes);
        let server = cpu_s.zip(self.monitor.as_ref()).map(|(cpu_s, monitor)| ServerUse {
            source: monitor.source(),
            cpu_s,
            resident_bytes_max: resident.max().unwrap_or_default(),
        });
        for pair in self.looks.windows(2) {
            let (Some(before), Some(after)) = (pair[0].server, pair[1].server) else { continue };
            let length_s = (pair[1].at - pair[0].at).as_secs_f64();
            let second = pair[0].at.as_secs() as u32;
            if let Some(row) = collector.rows.iter_mut().find(|row| row.second == second) {
                row.server_cores = Some((after.cpu_s - before.cpu_s) / length_s.max(1e-3));
                row.server_resident_bytes = Some(after.resident_bytes);
            }
        }
        RunOutcome {
            start,
            totals: collector.totals,
            rows: collector.rows,
            own_cpu_s,
            stolen_s,
            server,
            measured_s,
            is_interrupted: false,
        }
    }
}
