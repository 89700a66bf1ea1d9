//! `loadtest scaling`: one server with several shards against as many servers with one shard, on the same cores, in
//! alternating rounds.
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
    plan::Scenario,
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

/// Servers that are measured as one, and what calls them.
struct Placed {
    members: Vec<Member>,
    scenario: Scenario,
    /// Seconds of a measurement, its warm-up included.
    whole_s: f64,
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
        // Cores that the servers leave, or all of them when they leave none.
        let left = &cores[shards..];
        let harness_cores = if left.is_empty() { &cores[..] } else { left };
        let mut both = [self.apart(&fleet, &cores[..shards])?, self.together(&fleet, &cores[..shards])?];
        in_rounds(self.fleet.rounds, both.len(), |index| both[index].measure(harness_cores, &interrupt))?;
        let [apart, together] = both;
        let mut setup = fleet.setup();
        setup.push(format!(
            "{shards} servers with a shard each, and one server with {shards} shards, both on cores {}; loaded from \
             cores {}; {} functions",
            cores::list(&cores[..shards]),
            cores::list(harness_cores),
            self.functions
        ));
        setup.push(
            "capacity: answers/s at which the busiest thread of the servers has used up a core; so the load \
             generator's share does not count"
                .to_owned(),
        );
        let mut scaling = Scaling {
            schema: SCHEMA,
            command: "scaling".to_owned(),
            started_at,
            setup,
            is_interrupted: interrupt.is_set(),
            apart: apart.side,
            together: together.side,
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

    /// One server with one shard on each core: what the cores serve when shards have nothing to do with each other.
    fn apart(&self, fleet: &Fleet, cores: &[usize]) -> Result<Placed, Failure> {
        let functions = (self.functions / self.shards as u32).max(1);
        let start = |core: &usize| fleet.start(1, Some(vec![*core]), functions, &[]);
        let members = cores.iter().map(start).collect::<Result<Vec<Member>, Failure>>()?;
        let parts: Vec<_> = members.iter().map(|member| (&member.server, 0..functions)).collect();
        let scenario = fleet.joint_scenario(&parts);
        Ok(Placed { members, scenario, whole_s: fleet.whole_s(), side: Side::new(cores.len()) })
    }

    /// One server with a shard on each core. The same functions, called over the same number of connections.
    fn together(&self, fleet: &Fleet, cores: &[usize]) -> Result<Placed, Failure> {
        let part = (self.functions / self.shards as u32).max(1);
        let member = fleet.start(cores.len(), Some(cores.to_vec()), part * u32::from(self.shards), &[])?;
        let parts: Vec<_> = (0..u32::from(self.shards))
            .map(|number| (&member.server, number * part..(number + 1) * part))
            .collect();
        let scenario = fleet.joint_scenario(&parts);
        let side = Side::new(cores.len());
        Ok(Placed { members: vec![member], scenario, whole_s: fleet.whole_s(), side })
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
    fn measure(&mut self, harness_cores: &[usize], interrupt: &Interrupt) -> Result<(), Failure> {
        let threads = || -> Vec<(u32, f64)> {
            self.members.iter().flat_map(|member| Monitor::threads_cpu_s(member.server.pid())).collect()
        };
        let pinned = cores::pin(harness_cores)?;
        let before = threads();
        let run = measure(&self.scenario, None, interrupt)?;
        let after = threads();
        drop(pinned);
        let used = used(&before, &after);
        let cpu_s: f64 = used.iter().sum();
        // Threads are read before and after, so their time includes the warm-up; calls came at the same rate then.
        let answers = run.total.throughput_per_s * self.whole_s;
        self.side.rounds.push(Share {
            throughput_per_s: run.total.throughput_per_s,
            cpu_us: cpu_s * 1e6 / answers,
            busiest_share: busiest_share(&used),
            server_cores: cpu_s / self.whole_s,
            harness_cores: run.harness.cores,
            error_rate: run.total.error_rate,
        });
        Ok(())
    }
}

/// What each thread used in between, in seconds.
fn used(before: &[(u32, f64)], after: &[(u32, f64)]) -> Vec<f64> {
    let earlier = |thread: &u32| before.iter().find(|(other, _)| other == thread);
    after.iter().map(|(thread, cpu_s)| cpu_s - earlier(thread).map_or(0.0, |(_, cpu_s)| *cpu_s)).collect()
}

/// The largest share that a thread has in what all of them used.
fn busiest_share(used: &[f64]) -> f64 {
    let all: f64 = used.iter().sum();
    if all > 0.0 { used.iter().copied().fold(0.0, f64::max) / all } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_thread() {
        let share = |before: &[(u32, f64)], after: &[(u32, f64)]| busiest_share(&used(before, after));
        assert_eq!(share(&[(1, 5.0), (2, 1.0)], &[(1, 6.0), (2, 4.0)]), 0.75);
        assert_eq!(share(&[], &[(3, 2.0)]), 1.0);
        assert_eq!(share(&[], &[]), 0.0);
    }
}
