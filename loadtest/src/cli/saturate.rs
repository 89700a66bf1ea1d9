//! `loadtest saturate`: the highest rate that keeps a goal for latency, failures and the rate itself.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use serde::Serialize;

use super::{
    failure::Failure,
    flags::{Amount, CalleeFlags, Watched},
    measure::{catch_signals, measure},
    output,
};
use crate::{
    plan::Rate,
    report::{
        Summary,
        table::{Table, number, percent, time},
    },
    run::search::{Search, SearchStep},
};

/// Find the highest rate that keeps a goal.
#[derive(Args)]
pub(super) struct Saturate {
    #[command(flatten)]
    callee: CalleeFlags,
    #[command(flatten)]
    amount: Amount,
    /// Goal: latency at the 99th percentile, in milliseconds
    #[arg(long, default_value_t = 50.0)]
    p99_ms: f64,
    /// Goal: share of the calls that may fail
    #[arg(long, default_value_t = 0.001)]
    error_rate: f64,
    /// Goal: answers in proportion to intended calls
    #[arg(long, default_value_t = 0.97)]
    achieved_rate: f64,
    /// First rate, in calls per second
    #[arg(long, default_value_t = 1000.0)]
    start: f64,
    /// No rate is higher
    #[arg(long, default_value_t = 1_000_000.0)]
    rate_max: f64,
    /// Seconds at each rate
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// How close to get, as a share of the rate
    #[arg(long, default_value_t = 0.05)]
    precision: f64,
    /// Tries at a rate before it counts as too high
    #[arg(long, default_value_t = 2)]
    tries: u32,
    #[command(flatten)]
    watched: Watched,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// What was measured at a rate.
#[derive(Debug, Clone, Copy, Serialize)]
struct Measured {
    answers_per_s: f64,
    achieved_ratio: f64,
    error_rate: f64,
    p50_ms: f64,
    p99_ms: f64,
    server_cpu_us: Option<f64>,
    harness_cores: f64,
}

/// The result as JSON.
#[derive(Debug, Serialize)]
struct Found<'a> {
    saturation_per_s: Option<f64>,
    steps: &'a [SearchStep<Measured>],
}

impl Saturate {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        if !self.callee.is_given() {
            return Err(Failure::Usage("give --function or --url".to_owned()));
        }
        let goals =
            [self.p99_ms, self.error_rate, self.achieved_rate, self.start, self.rate_max, self.precision];
        if goals.iter().any(|goal| !goal.is_finite() || *goal < 0.0) || self.precision == 0.0 {
            return Err(Failure::Usage(
                "goals and rates must be numbers from 0 on, --precision over 0".to_owned(),
            ));
        }
        let mut scenario = self.callee.scenario(&self.amount);
        scenario.duration = Some(Duration::from_secs(self.seconds));
        let (monitor, interrupt) = (self.watched.monitor()?, catch_signals()?);
        let mut steps = Vec::new();
        let search = Search {
            start: self.start,
            rate_max: self.rate_max,
            precision: self.precision,
            tries: self.tries,
        };
        let found = search.run(|rate| {
            let rate = rate.round();
            for load in &mut scenario.loads {
                load.rate = Some(Rate::Constant(rate));
                // Too few connections would be a limit of ours, not of the server.
                load.connections = self.amount.connections.unwrap_or(256);
            }
            let measured = Measured::new(&measure(&scenario, monitor.clone(), &interrupt)?);
            let is_good = self.is_good(&measured);
            steps.push(SearchStep { rate, is_good, measured });
            Ok::<bool, Failure>(is_good)
        });
        let saturation = match found {
            Err(Failure::Interrupted) => {
                self.print_steps(&steps)?;
                return Err(Failure::Interrupted);
            }
            found => found?,
        };
        self.print(saturation.map(f64::round), &steps)?;
        Ok(if saturation.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn is_good(&self, measured: &Measured) -> bool {
        measured.p99_ms <= self.p99_ms
            && measured.error_rate <= self.error_rate
            && measured.achieved_ratio >= self.achieved_rate
    }

    fn print(&self, saturation: Option<f64>, steps: &[SearchStep<Measured>]) -> Result<(), Failure> {
        if self.json {
            let mut stdout = io::stdout().lock();
            let found = Found { saturation_per_s: saturation, steps };
            return Ok(writeln!(stdout, "{}", output::json(&found)?)?);
        }
        self.print_steps(steps)?;
        let mut stdout = io::stdout().lock();
        match saturation {
            Some(rate) => writeln!(stdout, "saturation: {rate} calls/s with p99 up to {} ms", self.p99_ms)?,
            None => writeln!(stdout, "no rate keeps p99 up to {} ms", self.p99_ms)?,
        }
        Ok(())
    }

    fn print_steps(&self, steps: &[SearchStep<Measured>]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        let mut table = Table::new(["calls/s", "answers/s", "achieved", "errors", "p50", "p99", "goal"]);
        for step in steps {
            let measured = &step.measured;
            table.row([
                number(step.rate),
                number(measured.answers_per_s),
                percent(measured.achieved_ratio),
                percent(measured.error_rate),
                time(measured.p50_ms),
                time(measured.p99_ms),
                if step.is_good { "kept" } else { "missed" }.to_owned(),
            ]);
        }
        write!(stdout, "{table}")?;
        if steps
            .iter()
            .any(|step| step.measured.harness_cores > 0.9 * self.amount.threads.unwrap_or(1) as f64)
        {
            writeln!(stdout, "loadtest itself was the limit at some rates: give it more --threads")?;
        }
        Ok(())
    }
}

impl Measured {
    fn new(run: &Summary) -> Measured {
        Measured {
            answers_per_s: run.total.answers_per_s,
            achieved_ratio: run.total.achieved_ratio.unwrap_or_default(),
            error_rate: run.total.error_rate,
            p50_ms: run.total.latency.p50_ms,
            p99_ms: run.total.latency.p99_ms,
            server_cpu_us: run.server.as_ref().map(|server| server.cpu_us_per_answer),
            harness_cores: run.harness.cores,
        }
    }
}
