//! `loadtest growth`: the server's CPU time per request over the number of functions and of retained executions.
//!
//! Each point is a server of its own that is filled first; then all of them are measured in alternating rounds, and each is
//! compared with the first point of its curve in the same round. A server remembers exactly as many executions as its point
//! says, because that is its `executions.max-count`: every call of a measurement adds one and evicts one, at every point.

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
    report::{
        growth::{Curve, Growth, Point, SCHEMA},
        html,
        rounds::Round,
    },
};

/// Share of failures over which a point proves nothing.
const ERROR_RATE_MAX: f64 = 0.001;

/// Measure whether the work per request grows with what the server remembers.
#[derive(Args)]
pub(super) struct GrowthCommand {
    #[command(flatten)]
    fleet: FleetOptions,
    /// Numbers of functions; the first is what the others are compared with
    #[arg(long, value_delimiter = ',', default_value = "1,100,10000", value_name = "N,…",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    functions: Vec<u32>,
    /// Numbers of retained executions
    #[arg(long, value_delimiter = ',', default_value = "0,10000,1000000", value_name = "N,…")]
    retained: Vec<u64>,
    /// Threads of each server
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Goal: most that a point may be away from the first, in percent
    #[arg(long, default_value_t = 10.0, value_name = "PERCENT")]
    flat: f64,
    /// Directory for summary.json and report.html
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// A server and what it has to remember.
struct Filled {
    functions: u32,
    retained: u64,
    member: Member,
    resident_bytes: u64,
    rounds: Vec<Round>,
}

impl GrowthCommand {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let interrupt = catch_signals()?;
        let cores = cores::available()?;
        // A thread that moves to another core finds the caches there cold. So neither side moves where that can be had.
        let apart = cores.split_at_checked(self.workers).filter(|(_, left)| !left.is_empty());
        let _pinned = apart.map(|(_, left)| cores::pin(left)).transpose()?;
        let fleet = Fleet::new(self.fleet.clone())?;
        let started_at = output::timestamp(SystemTime::now());
        let mut servers = Vec::new();
        for (functions, retained) in self.sizes() {
            let server_cores = apart.map(|(first, _)| first.to_vec());
            servers.push(self.fill(&fleet, server_cores, functions, retained, &interrupt)?);
        }
        in_rounds(self.fleet.rounds, servers.len(), |index| {
            let server = &mut servers[index];
            let monitor = Some(server.member.server.monitor());
            server.rounds.push(Round::new(&measure(&server.member.scenario, monitor, &interrupt)?));
            Ok(())
        })?;
        let mut setup = fleet.setup();
        let threads = if self.workers == 1 { "1 thread" } else { &format!("{} threads", self.workers) };
        setup.push(format!(
            "a server with {threads} per point; the first numbers hold where the other curve grows"
        ));
        if let Some((first, left)) = apart {
            setup.push(format!(
                "servers on cores {}, loaded from cores {}",
                cores::list(first),
                cores::list(left)
            ));
        }
        let mut growth = Growth {
            schema: SCHEMA,
            command: "growth".to_owned(),
            started_at,
            setup,
            is_interrupted: interrupt.is_set(),
            deviation_max: self.flat / 100.0,
            curves: self.curves(&servers),
            is_flat: false,
        };
        growth.finish(ERROR_RATE_MAX);
        self.report(&growth)?;
        Ok(match growth {
            Growth { is_interrupted: true, .. } => ExitCode::from(EXIT_CODE),
            Growth { is_flat: true, .. } => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        })
    }

    /// The points of both curves, those that they share once.
    fn sizes(&self) -> Vec<(u32, u64)> {
        let (Some(functions), Some(retained)) = (self.functions.first(), self.retained.first()) else {
            return Vec::new();
        };
        let over_functions = self.functions.iter().map(|functions| (*functions, *retained));
        let mut sizes: Vec<(u32, u64)> =
            over_functions.chain(self.retained.iter().map(|retained| (*functions, *retained))).collect();
        let mut seen = Vec::new();
        sizes.retain(|size| {
            !seen.contains(size) && {
                seen.push(*size);
                true
            }
        });
        sizes
    }

    /// Starts a server and lets it remember.
    fn fill(
        &self,
        fleet: &Fleet,
        cores: Option<Vec<usize>>,
        functions: u32,
        retained: u64,
        interrupt: &Interrupt,
    ) -> Result<Filled, Failure> {
        let settings = [
            // With 0 there is nothing to measure: an execution exists at least until its answer.
            format!("executions.max-count={}", retained.max(1)),
            "executions.ttl=24h".to_owned(),
            "executions.payload-ttl=24h".to_owned(),
            format!("executions.max-bytes={}", 1u64 << 36),
        ];
        let member = fleet.start(self.workers, cores, functions, &settings)?;
        let mut executions = 0;
        while executions < retained {
            let filled = measure(&member.scenario, None, interrupt)?.total;
            if filled.succeeded == 0 {
                return Err(Failure::Failed(format!(
                    "no call succeeded while executions were made: {:?}",
                    filled.errors_by_code
                )));
            }
            executions += filled.succeeded;
        }
        let sample = member.server.monitor().sample();
        let resident_bytes = sample.map_or(0, |sample| sample.resident_bytes);
        Ok(Filled { functions, retained, member, resident_bytes, rounds: Vec::new() })
    }

    fn curves(&self, servers: &[Filled]) -> Vec<Curve> {
        let curve = |what: &str, sizes: Vec<(u64, &Filled)>| Curve {
            what: what.to_owned(),
            points: sizes
                .into_iter()
                .map(|(size, server)| Point {
                    size,
                    rounds: server.rounds.clone(),
                    resident_bytes: server.resident_bytes,
                    ..Point::default()
                })
                .collect(),
            flatness: None,
        };
        let find = |functions: u32, retained: u64| {
            servers.iter().find(|server| (server.functions, server.retained) == (functions, retained))
        };
        let (Some(first), Some(base)) = (self.functions.first(), self.retained.first()) else {
            return Vec::new();
        };
        let over_functions =
            self.functions.iter().filter_map(|size| Some((u64::from(*size), find(*size, *base)?)));
        let over_retained = self.retained.iter().filter_map(|size| Some((*size, find(*first, *size)?)));
        vec![
            curve("functions", over_functions.collect()),
            curve("retained executions", over_retained.collect()),
        ]
    }

    fn report(&self, growth: &Growth) -> Result<(), Failure> {
        if let Some(out) = &self.out {
            output::write(out, "summary.json", &output::json(growth)?)?;
            output::write(out, "report.html", &html::growth(growth))?;
        }
        let mut stdout = io::stdout().lock();
        if self.json {
            return Ok(writeln!(stdout, "{}", output::json(growth)?)?);
        }
        for line in &growth.setup {
            writeln!(stdout, "{line}")?;
        }
        for curve in &growth.curves {
            write!(stdout, "\n{}", curve.table())?;
        }
        writeln!(stdout)?;
        for line in growth.verdicts() {
            writeln!(stdout, "{line}")?;
        }
        Ok(())
    }
}
