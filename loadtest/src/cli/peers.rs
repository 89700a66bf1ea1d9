//! `loadtest peers`: several targets in alternating rounds of one run.
//!
//! What disturbs the machine for a while disturbs every target; the order is turned round every other round.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use clap::Args;

use super::{
    failure::Failure,
    flags::{Amount, CalleeFlags},
    measure::{catch_signals, in_rounds, measure},
    output,
};
use crate::{
    interrupt::EXIT_CODE,
    monitor::Monitor,
    plan::{Rate, Scenario, rate},
    report::{
        peers::{self, Peer},
        rounds::Round,
    },
};

/// Measure several targets in alternating rounds.
#[derive(Args)]
pub(super) struct Peers {
    /// Targets; the first is what the others are compared with
    #[arg(required = true, value_name = "NAME=URL", value_parser = pair)]
    peers: Vec<(String, String)>,
    /// Process of a target, for its CPU time
    #[arg(long = "pid", value_name = "NAME=PID", value_parser = pair)]
    pids: Vec<(String, String)>,
    /// Rounds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Seconds that each target is measured in each round
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Body of every request; @FILE reads it from a file
    #[arg(short, long, value_name = "TEXT")]
    data: Option<String>,
    /// Header of every request, as often as needed
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = super::flags::header)]
    headers: Vec<(String, String)>,
    /// Method [default: GET, with a body POST]
    #[arg(short = 'X', long)]
    method: Option<String>,
    /// Calls per second, which makes it an open loop
    #[arg(short, long, value_parser = rate)]
    rate: Option<Rate>,
    #[command(flatten)]
    amount: Amount,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Peers {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let mut peers = Vec::new();
        let mut monitors = Vec::new();
        for (name, url) in &self.peers {
            monitors.push(self.monitor(name)?);
            peers.push(Peer { name: name.clone(), url: url.clone(), ..Peer::default() });
        }
        if let Some((name, _)) =
            self.pids.iter().find(|(name, _)| !peers.iter().any(|peer| peer.name == *name))
        {
            return Err(Failure::Usage(format!("--pid {name}: no target has this name")));
        }
        let scenarios: Vec<Scenario> = peers.iter().map(|peer| self.scenario(&peer.url)).collect();
        let interrupt = catch_signals()?;
        in_rounds(self.rounds, peers.len(), |index| {
            let measured = measure(&scenarios[index], monitors[index].clone(), &interrupt)?;
            peers[index].rounds.push(Round::new(&measured));
            Ok(())
        })?;
        peers::finish(&mut peers);
        let mut stdout = io::stdout().lock();
        if self.json {
            writeln!(stdout, "{}", output::json(&peers)?)?;
        } else {
            write!(stdout, "{}", peers::table(&peers))?;
        }
        Ok(if interrupt.is_set() { ExitCode::from(EXIT_CODE) } else { ExitCode::SUCCESS })
    }

    fn monitor(&self, name: &str) -> Result<Option<Monitor>, Failure> {
        let Some((_, pid)) = self.pids.iter().find(|(other, _)| other == name) else { return Ok(None) };
        let unusable = || Failure::Usage(format!("--pid {name}={pid}: no such process"));
        let mut monitor = Monitor::Pid(pid.parse().map_err(|_| unusable())?);
        monitor.sample().ok_or_else(unusable)?;
        Ok(Some(monitor))
    }

    fn scenario(&self, url: &str) -> Scenario {
        let callee = CalleeFlags {
            url: Some(url.to_owned()),
            data: self.data.clone(),
            headers: self.headers.clone(),
            method: self.method.clone(),
            ..CalleeFlags::default()
        };
        let mut scenario = callee.scenario(&self.amount);
        scenario.duration = Some(Duration::from_secs(self.seconds));
        scenario.warm_up = self.amount.warm_up.unwrap_or(Duration::from_millis(500));
        for load in &mut scenario.loads {
            load.rate.clone_from(&self.rate);
        }
        scenario
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err(format!("{text:?} is not like name=value")),
    }
}
