//! What is measured, how long, and what must come out of it.
//!
//! The function takes 20 ms and has four slots: 200 calls per second, 100 places in its queue. Of the server's
//! settings only the sync queue is switched on, where it is of concern.

use std::{
    fmt,
    time::{Duration, Instant},
};

use serde_json::json;

use super::load::{Load, Outcomes};
use crate::support::{Function, Gate, Reply, Server, eventually, pace};

const SLOTS: u32 = 4;
const SERVICE_TIME: Duration = Duration::from_millis(20);
/// Calls per second that the slots can serve.
const CAPACITY: f64 = 200.0;

/// One figure.
#[derive(Debug)]
pub struct Row {
    what: String,
    figure: f64,
    unit: &'static str,
    bound: Bound,
    note: String,
}

#[derive(Debug, Clone, Copy)]
enum Bound {
    None,
    AtLeast(f64),
    AtMost(f64),
}

impl Row {
    /// Whether it is within its bound.
    pub fn holds(&self) -> bool {
        match self.bound {
            Bound::None => true,
            Bound::AtLeast(bound) => self.figure >= bound,
            Bound::AtMost(bound) => self.figure <= bound,
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { what, figure, unit, note, .. } = self;
        let bound = match self.bound {
            Bound::None => String::new(),
            Bound::AtLeast(bound) => format!("≥ {bound}{unit}"),
            Bound::AtMost(bound) => format!("≤ {bound}{unit}"),
        };
        write!(out, "| {what} | {figure:.2}{unit} | {bound} | {note} |")
    }
}

/// Callers that obey `Retry-After`, under overload.
pub struct Obedience {
    pub overload: f64,
    pub duration: Duration,
}

/// What became of them.
pub struct Obeyed {
    pub outcomes: Outcomes,
    overload: f64,
}

impl Obedience {
    pub fn run(&self) -> Obeyed {
        let server = server(&["sync-queue.enabled=true"]);
        register(&server, "f");
        Obeyed { outcomes: open_loop(&server, self.overload, self.duration, true), overload: self.overload }
    }
}

impl Obeyed {
    /// The share of callers that came back as told and got a result then. New callers went on all the time.
    pub fn rows(&self) -> Vec<Row> {
        let Outcomes { refused, came_back, admitted, other, .. } = self.outcomes;
        let mean_s = self.outcomes.retry_after_s_sum as f64 / refused.max(1) as f64;
        vec![Row {
            what: format!("{}× overload: admitted at the first retry", self.overload),
            figure: percent(admitted as f64, came_back as f64),
            unit: " %",
            bound: Bound::AtLeast(95.0),
            note: format!(
                "{admitted} of {came_back} that came back in the run; {refused} of {} refused, told to wait {mean_s:.0} s \
                 on average, {} s at most; {other} other answers",
                self.outcomes.calls, self.outcomes.retry_after_s_max
            ),
        }]
    }
}

/// Results per second under overload.
pub struct Goodput {
    pub overloads: &'static [f64],
    pub duration: Duration,
}

impl Goodput {
    /// Results per second at each load, the callers obeying.
    pub fn run(&self) -> Vec<f64> {
        let of = |overload: &f64| {
            let server = server(&["sync-queue.enabled=true"]);
            register(&server, "f");
            open_loop(&server, *overload, self.duration, true).succeeded as f64 / self.duration.as_secs_f64()
        };
        self.overloads.iter().map(of).collect()
    }

    pub fn rows(&self) -> Vec<Row> {
        let rates = self.run();
        let peak = rates.iter().copied().fold(0.0, f64::max);
        let row = |(overload, rate): (&f64, &f64)| Row {
            what: format!("goodput at {overload}×, of the peak"),
            figure: percent(*rate, peak),
            unit: " %",
            bound: if *overload > 1.0 { Bound::AtLeast(90.0) } else { Bound::None },
            note: format!("{rate:.0} results/s of {:.0} calls/s", overload * CAPACITY),
        };
        self.overloads.iter().zip(&rates).map(row).collect()
    }
}

/// A function that is called now and then, beside one whose queue is full all the time, on one shard.
pub struct Fairness {
    pub rounds: usize,
    pub calls: u32,
}

impl Fairness {
    /// p99 of the seldom called function alone and beside the other, one pair per round.
    pub fn run(&self) -> Vec<(Duration, Duration)> {
        let server = server(&["workers=1"]);
        register(&server, "hot");
        let quick = Function::start(|_| Reply::json(json!(1)));
        server.pool("cold", &quick, json!({}));
        let duration = SERVICE_TIME * self.calls;
        let load = |function, duration| Load { server: server.api, function, duration, obey: false };
        // Connections and history.
        load("cold", SERVICE_TIME * 20).open_loop(50.0);
        let round = |_| {
            let alone = p99(load("cold", duration).open_loop(50.0));
            let hot = load("hot", duration + Duration::from_secs(1));
            let flood = std::thread::spawn(move || hot.closed_loop(SLOTS + 110));
            eventually("its queue is full", || {
                server.metric("function_queue_depth{function=\"hot\"}") >= 100.0
            });
            let beside = p99(load("cold", duration).open_loop(50.0));
            let flood = flood.join().expect("no panic");
            assert!(flood.refused > 0 && flood.succeeded > 0, "the queue was full: {flood:?}");
            (alone, beside)
        };
        (0..self.rounds).map(round).collect()
    }

    pub fn rows(&self) -> Vec<Row> {
        let pairs = self.run();
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let alone = median(pairs.iter().map(|(alone, _)| ms(*alone)).collect());
        let beside = median(pairs.iter().map(|(_, beside)| ms(*beside)).collect());
        vec![Row {
            what: "p99 of a seldom called function beside a flooded one ÷ alone".to_owned(),
            figure: beside / alone,
            unit: "",
            bound: Bound::AtMost(2.0),
            note: format!(
                "medians of {} rounds of {} calls, at 50/s: {beside:.2} ms beside, {alone:.2} ms alone",
                self.rounds, self.calls
            ),
        }]
    }
}

/// CPU time of a server, as a share of one core, while a function's only slot is taken and its queue full.
pub fn idle(sync_queue: bool, duration: Duration) -> f64 {
    let enabled = format!("sync-queue.enabled={sync_queue}");
    let server = server(&[&enabled, "sync-queue.max-queue-wait=1h"]);
    let gate = Gate::closed();
    let door = gate.clone();
    let function = Function::start(move |_| {
        door.pass();
        Reply::json(json!(1))
    });
    server.pool("f", &function, json!({ "concurrency": 1, "timeoutMs": 600_000 }));
    let _callers: Vec<_> = (0..101).map(|_| server.begin("f", &[], json!(1))).collect();
    eventually("its queue is full", || server.metric("function_queue_depth{function=\"f\"}") == 100.0);
    let (before, start) = (server.metric("process_cpu_seconds_total"), Instant::now());
    pace(duration);
    let used_s = server.metric("process_cpu_seconds_total") - before;
    gate.open();
    used_s / start.elapsed().as_secs_f64()
}

pub fn idle_rows(duration: Duration) -> Vec<Row> {
    let row = |(sync_queue, word)| Row {
        what: format!("CPU with a blocked queue, sync queue {word}"),
        figure: 100.0 * idle(sync_queue, duration),
        unit: " % of a core",
        bound: Bound::AtMost(1.0),
        note: format!("one slot taken, 100 callers waiting, {} s", duration.as_secs()),
    };
    [(false, "off"), (true, "on")].map(row).into()
}

fn server(settings: &[&str]) -> Server {
    Server::start(settings)
}

fn register(server: &Server, name: &str) {
    let function = Function::start(|_| {
        pace(SERVICE_TIME);
        Reply::json(json!(1))
    });
    server.pool(name, &function, json!({ "concurrency": SLOTS }));
}

fn open_loop(server: &Server, overload: f64, duration: Duration, obey: bool) -> Outcomes {
    Load { server: server.api, function: "f", duration, obey }.open_loop(overload * CAPACITY)
}

fn percent(part: f64, whole: f64) -> f64 {
    100.0 * part / whole.max(1.0)
}

fn p99(outcomes: Outcomes) -> Duration {
    let mut latencies = outcomes.latencies;
    latencies.sort();
    latencies[latencies.len() * 99 / 100]
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
