//! Options that several commands share, and the scenario they make.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::failure::Failure;
use crate::{
    monitor::Monitor,
    plan::{self, Arrivals, FunctionSpec, LoadSpec, Mode, Payload, Scenario},
};

/// What to call, without a scenario file.
#[derive(Args, Debug, Clone, Default)]
pub(super) struct CalleeFlags {
    /// Any URL to call
    #[arg(long, value_name = "URL", conflicts_with_all = ["function", "endpoint"])]
    pub(super) url: Option<String>,
    /// Function to call, through the server at --endpoint
    #[arg(long, value_name = "NAME")]
    pub(super) function: Option<String>,
    /// Address of the server [default: http://127.0.0.1:8080]
    #[arg(long, value_name = "URL")]
    pub(super) endpoint: Option<String>,
    /// How to call a function
    #[arg(long, value_enum)]
    pub(super) mode: Option<ModeName>,
    /// Body of every request; @FILE reads it from a file
    #[arg(short, long, value_name = "TEXT")]
    pub(super) data: Option<String>,
    /// Header of every request, as often as needed
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    pub(super) headers: Vec<(String, String)>,
    /// Method [default: GET, with a body POST]; only with --url
    #[arg(short = 'X', long, requires = "url")]
    pub(super) method: Option<String>,
}

/// How much of it.
#[derive(Args, Debug, Clone, Default)]
pub(super) struct Amount {
    /// Connections: all of them busy in a closed loop, at most so many in an open one [default: 64]
    #[arg(short, long)]
    pub(super) connections: Option<usize>,
    /// Threads that send [default: 1]
    #[arg(short, long)]
    pub(super) threads: Option<usize>,
    /// A call without an answer has failed after this time [default: 30s]
    #[arg(long, value_parser = plan::duration)]
    pub(super) timeout: Option<Duration>,
    /// Time at the beginning that is not measured [default: 1s]
    #[arg(long, value_parser = plan::duration)]
    pub(super) warm_up: Option<Duration>,
}

/// The server to watch.
#[derive(Args, Debug, Clone, Default)]
pub(super) struct Watched {
    /// Process of the server, to read its CPU time and memory
    #[arg(long)]
    pid: Option<u32>,
    /// Management address of the server, to read them from its metrics (for example http://127.0.0.1:8081)
    #[arg(long, value_name = "URL", conflicts_with = "pid")]
    management: Option<String>,
}

/// Modes on the command line.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ModeName {
    /// Invoke with JSON and wait
    Sync,
    /// Enqueue and wait for the result by a long poll
    Async,
    /// Enqueue and wait for the result by a callback
    Callback,
    /// Invoke with bytes
    Raw,
}

impl CalleeFlags {
    /// Whether anything to call is given.
    pub(super) fn is_given(&self) -> bool {
        self.url.is_some() || self.function.is_some()
    }

    /// A scenario with one load and one callee.
    pub(super) fn scenario(&self, amount: &Amount) -> Scenario {
        let mode = match (self.mode, &self.url) {
            (_, Some(_)) => Mode::Url,
            (None | Some(ModeName::Sync), None) => Mode::Sync,
            (Some(ModeName::Async), None) => Mode::Async,
            (Some(ModeName::Callback), None) => Mode::Callback,
            (Some(ModeName::Raw), None) => Mode::Raw,
        };
        let payload = match self.data.as_deref() {
            Some(data) => match data.strip_prefix('@') {
                Some(path) => Payload::File(PathBuf::from(path)),
                None => Payload::Text(data.to_owned()),
            },
            None if mode == Mode::Url => Payload::None,
            None => Payload::Text(r#"{"input":null}"#.to_owned()),
        };
        let name = self.function.clone().or(self.url.clone()).unwrap_or_default();
        let function = FunctionSpec {
            name: name.clone(),
            url: self.url.clone(),
            copies: None,
            weight: 1,
            method: self.method.clone(),
            content_type: None,
            headers: self.headers.clone(),
            payload,
        };
        let load = LoadSpec { mode, functions: vec![function], ..LoadSpec::default() };
        let mut scenario = Scenario { name, loads: vec![load], ..Scenario::default() };
        scenario.endpoint = Some(self.endpoint.clone().unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned()));
        amount.apply(&mut scenario);
        scenario
    }
}

/// Where a server listens unless told otherwise.
pub(super) const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:8080";

impl Amount {
    /// Replaces what is given.
    pub(super) fn apply(&self, scenario: &mut Scenario) {
        if let Some(connections) = self.connections {
            for load in &mut scenario.loads {
                load.connections = connections;
            }
        }
        scenario.threads = self.threads.unwrap_or(scenario.threads);
        scenario.timeout = self.timeout.unwrap_or(scenario.timeout);
        scenario.warm_up = self.warm_up.unwrap_or(scenario.warm_up);
    }
}

impl Watched {
    /// The monitor, if a server is to be watched.
    pub(super) fn monitor(&self) -> Result<Option<Monitor>, Failure> {
        let mut monitor = match (self.pid, &self.management) {
            (Some(pid), _) => Monitor::Pid(pid),
            (None, Some(url)) => Monitor::management(url)?,
            (None, None) => return Ok(None),
        };
        if monitor.sample().is_none() {
            return Err(Failure::Usage(format!(
                "{} gives no CPU time: is the server running?",
                monitor.source()
            )));
        }
        Ok(Some(monitor))
    }
}

pub(super) fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) =
        text.split_once(':').ok_or_else(|| format!("{text:?} is not like \"Name: value\""))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// Arrivals on the command line.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ArrivalsName {
    /// Evenly
    Uniform,
    /// At random
    Poisson,
}

impl From<ArrivalsName> for Arrivals {
    fn from(name: ArrivalsName) -> Arrivals {
        match name {
            ArrivalsName::Uniform => Arrivals::Uniform,
            ArrivalsName::Poisson => Arrivals::Poisson,
        }
    }
}
