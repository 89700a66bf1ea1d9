//! `loadtest scaling`: several shards on as many cores against one shard on one core, in alternating rounds.
//!
//! `report/scaling.rs` says how the load generator's share is accounted for.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::SystemTime,
};

use clap::Args;

use super::{
    failure::Failure,
    fleet::{Fleet, FleetOptions, Member},
    measure::{catch_signals, in_rounds, measure},
    output,
};
use crate::{
    cores,
    interrupt::{EXIT_CODE, Interrupt},
    monitor::Monitor,
    report::scaling::{SCHEMA, Scaling, Share, Side},
};

/// Share of failures over which a comparison proves nothing.
const ERROR_RATE_MAX: f64 = 0.001;

/// Compare several shards on as many cores with one shard on one core.
#[derive(Args)]
pub(super) struct ScalingCommand {
    #[command(flatten)]
    fleet: FleetOptions,
    /// Shards of the larger server
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(2..=1024))]
    shards: u16,
    /// Functions, which spread over the shards
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    functions: u32,
    /// Goal: capacity in proportion to that of one shard
    #[arg(long, default_value_t = 1.7, value_name = "RATIO")]
    goal: f64,
    /// Directory for summary.json
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// A server, and the cores from which it is loaded.
struct Placed {
    member: Member,
    harness_cores: Vec<usize>,
    side: Side,
}

impl ScalingCommand {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let interrupt = catch_signals()?;
        let cores = cores::available()?;
        let shards = usize::from(self.shards);
        if cores.len() < shards {
            return Err(Failure::Usage(format!(
                "--shards {shards} needs as many cores; this program may use {}",
                cores.len()
            )));
        }
        let fleet = Fleet::new(self.fleet.clone())?;
        let started_at = output::timestamp(SystemTime::now());
        let mut both = [self.place(&fleet, 1, &cores)?, self.place(&fleet, shards, &cores)?];
        in_rounds(self.fleet.rounds, both.len(), |index| both[index].measure(&interrupt))?;
        let [one, many] = both;
        let mut setup = fleet.setup();
        let list = |cores: &[usize]| cores.iter().map(usize::to_string).collect::<Vec<String>>().join(", ");
        setup.push(format!(
            "1 shard on core {}, {shards} shards on cores {}; loaded from cores {} and {}; {} functions",
            cores[0],
            list(&cores[..shards]),
            list(&one.harness_cores),
            list(&many.harness_cores),
            self.functions
        ));
        setup.push(
            "capacity: answers/s at which the busiest thread of the server has used up a core; so the load \
             generator's share does not count"
                .to_owned(),
        );
        let mut scaling = Scaling {
            schema: SCHEMA,
            command: "scaling".to_owned(),
            started_at,
            setup,
            is_interrupted: interrupt.is_set(),
            one: one.side,
            many: many.side,
            ratio_min: self.goal,
            ..Scaling::default()
        };
        scaling.finish(ERROR_RATE_MAX);
        self.report(&scaling)?;
        Ok(match scaling {
            Scaling { is_interrupted: true, .. } => ExitCode::from(EXIT_CODE),
            Scaling { is_met: true, .. } => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        })
    }

    fn place(&self, fleet: &Fleet, shards: usize, cores: &[usize]) -> Result<Placed, Failure> {
        let member = fleet.start(shards, Some(cores[..shards].to_vec()), self.functions, &[])?;
        // Cores that the server leaves, or all of them when it leaves none.
        let left = &cores[shards..];
        let harness_cores = if left.is_empty() { cores } else { left }.to_vec();
        Ok(Placed { member, harness_cores, side: Side { shards, rounds: Vec::new() } })
    }

    fn report(&self, scaling: &Scaling) -> Result<(), Failure> {
        if let Some(out) = &self.out {
            output::write(out, "summary.json", &output::json(scaling)?)?;
        }
        let mut stdout = io::stdout().lock();
        if self.json {
            return Ok(writeln!(stdout, "{}", output::json(scaling)?)?);
        }
        for line in &scaling.setup {
            writeln!(stdout, "{line}")?;
        }
        write!(stdout, "\n{}\n", scaling.table())?;
        for line in scaling.verdicts() {
            writeln!(stdout, "{line}")?;
        }
        Ok(())
    }
}

impl Placed {
    fn measure(&mut self, interrupt: &Interrupt) -> Result<(), Failure> {
        let server = &self.member.server;
        let pinned = cores::pin(&self.harness_cores)?;
        let before = Monitor::threads_cpu_s(server.pid());
        let run = measure(&self.member.scenario, Some(server.monitor()), interrupt)?;
        let after = Monitor::threads_cpu_s(server.pid());
        drop(pinned);
        let usage = run.server.unwrap_or_default();
        self.side.rounds.push(Share {
            throughput_per_s: run.total.throughput_per_s,
            cpu_us: usage.cpu_us_per_answer,
            busiest_share: busiest_share(&before, &after),
            server_cores: usage.cores,
            harness_cores: run.harness.cores,
            error_rate: run.total.error_rate,
        });
        Ok(())
    }
}

/// The largest share that a thread has in what all of them used in between.
fn busiest_share(before: &[(u32, f64)], after: &[(u32, f64)]) -> f64 {
    let used: Vec<f64> = after
        .iter()
        .map(|(thread, cpu_s)| {
            let earlier = before.iter().find(|(other, _)| other == thread).map_or(0.0, |(_, cpu_s)| *cpu_s);
            cpu_s - earlier
        })
        .collect();
    let all: f64 = used.iter().sum();
    if all > 0.0 { used.into_iter().fold(0.0, f64::max) / all } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_thread() {
        let share = busiest_share(&[(1, 5.0), (2, 1.0)], &[(1, 6.0), (2, 4.0)]);
        assert_eq!(share, 0.75);
        assert_eq!(busiest_share(&[], &[(3, 2.0)]), 1.0);
        assert_eq!(busiest_share(&[], &[]), 0.0);
    }
}
