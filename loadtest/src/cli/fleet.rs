//! Servers that a command starts itself, with functions on them, and the scenario that calls these.

use std::{
    io,
    net::TcpListener,
    ops::Range,
    path::PathBuf,
    thread::{self, JoinHandle},
    time::Duration,
};

use clap::{Args, ValueEnum};

use super::failure::Failure;
use crate::{
    client::exchange::Client,
    plan::{FunctionSpec, LoadSpec, Mode, Payload, Scenario},
    serve::{self, Stopper},
    server::{Launch, NanofaasServer},
};

/// How long a server may take to start.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How long the answer to a registration may take.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(30);
/// Functions are called `f-0`, `f-1` and so on.
const NAME: &str = "f";
/// Body of every call.
const BODY: &str = r#"{"input":null}"#;
/// Answer of the endpoint of POOL functions.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\nnull";

/// Options of commands that start servers.
#[derive(Args, Debug, Clone)]
pub(super) struct FleetOptions {
    /// The nanofaas program to start
    #[arg(long, value_name = "PATH")]
    pub(super) binary: PathBuf,
    /// Where the functions run
    #[arg(long, value_enum, default_value_t = FunctionHost::Local)]
    functions_in: FunctionHost,
    /// Setting of every server, as often as needed
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Connections, all of them busy
    #[arg(short, long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Rounds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) rounds: u32,
    /// Seconds that each server is measured in each round
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(super) seconds: u64,
    /// Time before each measurement that is not measured
    #[arg(long, default_value = "500ms", value_parser = crate::plan::duration)]
    warm_up: Duration,
}

/// Where functions run.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum FunctionHost {
    /// In the server: LOCAL
    Local,
    /// Behind an endpoint that this program serves: POOL
    Pool,
}

/// What starts servers, and what their functions need.
pub(super) struct Fleet {
    options: FleetOptions,
    endpoint: Option<FleetEndpoint>,
}

/// A server with functions.
pub(super) struct Member {
    pub(super) server: NanofaasServer,
    /// Calls all of its functions in a closed loop.
    pub(super) scenario: Scenario,
}

/// An endpoint on a thread of this program.
struct FleetEndpoint {
    url: String,
    stopper: Stopper,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Fleet {
    pub(super) fn new(options: FleetOptions) -> Result<Fleet, Failure> {
        let endpoint = match options.functions_in {
            FunctionHost::Local => None,
            FunctionHost::Pool => Some(FleetEndpoint::start().map_err(|error| {
                Failure::Failed(format!("cannot serve an endpoint for the functions: {error}"))
            })?),
        };
        Ok(Fleet { options, endpoint })
    }

    /// Starts a server and registers so many functions.
    pub(super) fn start(
        &self,
        workers: usize,
        cores: Option<Vec<usize>>,
        functions: u32,
        settings: &[String],
    ) -> Result<Member, Failure> {
        let rate = "rate.max-per-second=1000000000".to_owned();
        let launch = Launch {
            binary: self.options.binary.clone(),
            workers,
            settings: [&[rate], settings, &self.options.settings].concat(),
            cores,
            ..Launch::default()
        };
        let server = launch.start(START_PATIENCE)?;
        self.register(&server, functions)?;
        let scenario = self.scenario(&server, functions);
        Ok(Member { server, scenario })
    }

    fn register(&self, server: &NanofaasServer, functions: u32) -> Result<(), Failure> {
        let failed = |what: String| Failure::Failed(format!("cannot register a function: {what}"));
        let mode = match &self.endpoint {
            None => r#""executionMode":"LOCAL""#.to_owned(),
            Some(endpoint) => format!(r#""executionMode":"POOL","endpointUrl":"{}""#, endpoint.url),
        };
        let mut client =
            Client::connect(server.api, REGISTER_TIMEOUT).map_err(|error| failed(error.to_string()))?;
        for number in 0..functions {
            let spec =
                format!(r#"{{"name":"{NAME}-{number}",{mode},"concurrency":10000,"queueSize":10000}}"#);
            let answer = client
                .send("POST", "/v1/functions", Some(&spec))
                .map_err(|error| failed(error.to_string()))?;
            if answer.status != 201 {
                return Err(failed(String::from_utf8_lossy(&answer.body).into_owned()));
            }
        }
        Ok(())
    }

    fn scenario(&self, server: &NanofaasServer, functions: u32) -> Scenario {
        let function = FunctionSpec {
            name: NAME.to_owned(),
            url: None,
            copies: Some(functions),
            weight: 1,
            method: None,
            content_type: None,
            headers: Vec::new(),
            payload: Payload::Text(BODY.to_owned()),
        };
        let load = LoadSpec {
            mode: Mode::Sync,
            connections: self.options.connections as usize,
            functions: vec![function],
            ..LoadSpec::default()
        };
        Scenario {
            endpoint: Some(server.url()),
            warm_up: self.options.warm_up,
            duration: Some(Duration::from_secs(self.options.seconds)),
            loads: vec![load],
            ..Scenario::default()
        }
    }

    /// Calls functions of several servers, or of one in several parts, in closed loops that share the connections.
    pub(super) fn joint_scenario(&self, parts: &[(&NanofaasServer, Range<u32>)]) -> Scenario {
        let connections = (self.options.connections as usize / parts.len().max(1)).max(1);
        let load = |(server, functions): &(&NanofaasServer, Range<u32>)| {
            let function = |number: u32| FunctionSpec {
                name: format!("{NAME}-{number}"),
                url: Some(format!("{}/v1/functions/{NAME}-{number}:invoke", server.url())),
                copies: None,
                weight: 1,
                method: Some("POST".to_owned()),
                content_type: Some("application/json".to_owned()),
                headers: Vec::new(),
                payload: Payload::Text(BODY.to_owned()),
            };
            LoadSpec {
                name: format!("{} from {NAME}-{}", server.api, functions.start),
                mode: Mode::Url,
                connections,
                functions: functions.clone().map(function).collect(),
                ..LoadSpec::default()
            }
        };
        Scenario {
            warm_up: self.options.warm_up,
            duration: Some(Duration::from_secs(self.options.seconds)),
            loads: parts.iter().map(load).collect(),
            ..Scenario::default()
        }
    }

    /// Seconds of a measurement, its warm-up included.
    pub(super) fn whole_s(&self) -> f64 {
        self.options.seconds as f64 + self.options.warm_up.as_secs_f64()
    }

    /// What is done, for the report.
    pub(super) fn setup(&self) -> Vec<String> {
        let FleetOptions { connections, rounds, seconds, .. } = self.options;
        let place = match self.options.functions_in {
            FunctionHost::Local => "LOCAL functions",
            FunctionHost::Pool => "POOL functions whose endpoint is in the load generator",
        };
        vec![format!(
            "{rounds} alternating rounds of {seconds} s, closed loop over {connections} connections, {place}"
        )]
    }
}

impl FleetEndpoint {
    fn start() -> io::Result<FleetEndpoint> {
        let server = serve::Server::new(TcpListener::bind("127.0.0.1:0")?)?;
        let url = format!("http://{}/invoke", server.address()?);
        let stopper = server.stopper();
        let thread = thread::Builder::new().name("endpoint".to_owned()).spawn(|| server.run_fixed(ANSWER))?;
        Ok(FleetEndpoint { url, stopper, thread: Some(thread) })
    }
}

impl Drop for FleetEndpoint {
    fn drop(&mut self) {
        self.stopper.stop();
        // How it ended does not matter any more.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
