//! `loadtest run`: carries a scenario out, reports it, checks its thresholds.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Args;

use super::{
    failure::Failure,
    flags::{Amount, ArrivalsName, CalleeFlags, DEFAULT_ENDPOINT, Watched},
    measure::catch_signals,
    output,
    progress::Progress,
};
use crate::{
    interrupt,
    plan::{self, Rate, Scenario, Threshold, file},
    report::{Summary, html, text},
    run::run,
};

/// Run a scenario, or call one function or URL.
#[derive(Args)]
pub(super) struct RunCommand {
    /// Scenario file; without one, --function or --url says what to call
    #[arg(value_name = "SCENARIO.toml")]
    scenario: Option<PathBuf>,
    #[command(flatten)]
    callee: CalleeFlags,
    #[command(flatten)]
    amount: Amount,
    /// Time that is measured [default: 10s, or as the scenario says]
    #[arg(long, value_parser = plan::duration)]
    duration: Option<Duration>,
    /// Calls per second, which makes it an open loop: 5000, a ramp 1000..5000, or 70% of --saturation
    #[arg(short, long, value_parser = plan::rate)]
    rate: Option<Rate>,
    /// Calls per second that the server can do, for rates in percent
    #[arg(long)]
    saturation: Option<f64>,
    /// How calls of an open loop are spread [default: uniform]
    #[arg(long, value_enum)]
    arrivals: Option<ArrivalsName>,
    /// Wait as long as Retry-After says after 429 and 503, and call again
    #[arg(long)]
    obey_retry_after: bool,
    /// Limit that sets the exit code, as often as needed (for example p99_ms=50)
    #[arg(long = "threshold", value_name = "KEY=NUMBER", value_parser = threshold)]
    thresholds: Vec<Threshold>,
    #[command(flatten)]
    watched: Watched,
    /// Directory for summary.json, report.html and latency.hlog
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

impl RunCommand {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let plan = self.scenario()?.plan()?;
        let monitor = self.watched.monitor()?;
        let out = self.out.as_deref();
        if let Some(out) = out {
            output::folder(out)?;
        }
        let log = out.map(|out| out.join("latency.hlog"));
        let (progress, interrupt) = (Progress::new(), catch_signals()?);
        let (plan, outcome) =
            run(plan, monitor, log.as_deref(), &interrupt, |row, length| progress.show(row, length))?;
        progress.clear();
        let summary = Summary::new(&plan, &outcome);
        if let Some(out) = out {
            write(out, &summary)?;
        }
        let mut stdout = io::stdout().lock();
        if self.json {
            writeln!(stdout, "{}", output::json(&summary)?)?;
        } else {
            stdout.write_all(text::text(&summary).as_bytes())?;
        }
        if summary.is_interrupted {
            return Ok(ExitCode::from(interrupt::EXIT_CODE));
        }
        Ok(if summary.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn scenario(&self) -> Result<Scenario, Failure> {
        let mut scenario = match &self.scenario {
            Some(_) if self.callee.is_given() => {
                let message = "a scenario file says what to call: leave --function and --url out";
                return Err(Failure::Usage(message.to_owned()));
            }
            Some(path) => file::read(path)?,
            None if !self.callee.is_given() => {
                return Err(Failure::Usage("give a scenario file, --function or --url".to_owned()));
            }
            None => {
                Scenario { duration: Some(Duration::from_secs(10)), ..self.callee.scenario(&self.amount) }
            }
        };
        self.amount.apply(&mut scenario);
        if let Some(endpoint) = &self.callee.endpoint {
            scenario.endpoint = Some(endpoint.clone());
        }
        scenario.endpoint.get_or_insert_with(|| DEFAULT_ENDPOINT.to_owned());
        scenario.duration = self.duration.or(scenario.duration);
        scenario.saturation = self.saturation.or(scenario.saturation);
        scenario.thresholds.extend(self.thresholds.iter().cloned());
        if self.rate.is_some() && scenario.loads.len() > 1 {
            return Err(Failure::Usage("--rate: the scenario has more than one load".to_owned()));
        }
        for load in &mut scenario.loads {
            load.rate = self.rate.clone().or(load.rate.take());
            load.obey_retry_after |= self.obey_retry_after;
            load.arrivals = self.arrivals.map_or(load.arrivals, Into::into);
        }
        Ok(scenario)
    }
}

/// Writes everything that is written at the end of a run.
fn write(out: &Path, summary: &Summary) -> Result<(), Failure> {
    output::write(out, "report.html", &html::report(summary))?;
    output::write(out, "summary.json", &output::json(summary)?)
}

fn threshold(text: &str) -> Result<Threshold, String> {
    let known = Threshold::KEYS.map(|(key, ..)| key).join(", ");
    let (key, limit) = text.split_once('=').ok_or_else(|| format!("{text:?} is not like p99_ms=50"))?;
    let limit = limit.trim().parse().map_err(|_| format!("{limit:?} is no number"))?;
    Threshold::new(key.trim(), limit, None).ok_or_else(|| format!("{key:?} is unknown; there are {known}"))
}
