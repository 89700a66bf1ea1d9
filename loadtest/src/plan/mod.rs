//! What to send: the scenario as a user gives it, and the plan that is built from it.
//!
//! [`mod@file`] reads a scenario from TOML, the command line makes one of its flags; both end in [`Scenario::plan`], which
//! finds every mistake before anything is sent.

mod build;
mod fields;
pub mod file;
pub mod payload;
mod quantity;
pub mod rate;
mod threshold;

use std::{net::SocketAddr, time::Duration};

pub use self::{
    build::Mistakes,
    payload::Payload,
    quantity::{duration, rate},
    rate::{Arrivals, Rate},
    threshold::{Measure, Threshold},
};
use self::{payload::Order, rate::Stages};
use crate::client::request::Request;

/// A load test as its user describes it.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Names the run in reports.
    pub name: String,
    /// Address of the server whose functions are called.
    pub endpoint: Option<String>,
    /// Time at the beginning that is not measured.
    pub warm_up: Duration,
    /// Time that is measured; `None`: as long as the longest stages.
    pub duration: Option<Duration>,
    /// A call that has no answer after this time has failed.
    pub timeout: Duration,
    /// Threads that send.
    pub threads: usize,
    /// Calls per second that the server can do, which rates in percent refer to.
    pub saturation: Option<f64>,
    /// Where callbacks are received; its address goes into the requests.
    pub callback_bind: SocketAddr,
    /// Streams of calls, side by side.
    pub loads: Vec<LoadSpec>,
    /// What has to hold at the end.
    pub thresholds: Vec<Threshold>,
}

/// One stream of calls.
#[derive(Debug, Clone)]
pub struct LoadSpec {
    /// Names it in reports.
    pub name: String,
    /// Connections: all of them busy in a closed loop, at most so many in an open one.
    pub connections: usize,
    /// Calls per second; `None`: a closed loop.
    pub rate: Option<Rate>,
    /// How calls of an open loop are spread.
    pub arrivals: Arrivals,
    /// How functions are called.
    pub mode: Mode,
    /// Wait as long as `Retry-After` says and call again.
    pub obey_retry_after: bool,
    /// What is called.
    pub functions: Vec<FunctionSpec>,
}

/// One function, or one URL.
#[derive(Debug, Clone)]
pub struct FunctionSpec {
    /// Its name; of a URL any name.
    pub name: String,
    /// The URL, in mode [`Mode::Url`].
    pub url: Option<String>,
    /// How many functions there are of this kind: `NAME-0`, `NAME-1` and so on, called at random and counted together.
    /// `None`: one, with the name as it is.
    pub copies: Option<u32>,
    /// Share of the load's calls, in proportion to the others' weights.
    pub weight: u32,
    /// Method, in mode [`Mode::Url`]; `None`: GET without a payload, POST with one.
    pub method: Option<String>,
    /// `None`: `application/json`, in raw mode `application/octet-stream`.
    pub content_type: Option<String>,
    /// More headers.
    pub headers: Vec<(String, String)>,
    /// Bodies.
    pub payload: Payload,
}

/// How a call is made, and when it has succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `:invoke` with JSON; the envelope says whether the function succeeded.
    Sync,
    /// `:enqueue`, then the result by a long poll on the same connection.
    Async,
    /// `:enqueue`, then the result by a callback.
    Callback,
    /// `:invoke` with another content type; the HTTP status says it.
    Raw,
    /// Any URL; every 2xx and 3xx is a success.
    Url,
}

impl Default for Scenario {
    fn default() -> Scenario {
        Scenario {
            name: String::new(),
            endpoint: None,
            warm_up: Duration::from_secs(1),
            duration: None,
            timeout: Duration::from_secs(30),
            threads: 1,
            saturation: None,
            callback_bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            loads: Vec::new(),
            thresholds: Vec::new(),
        }
    }
}

impl Default for LoadSpec {
    fn default() -> LoadSpec {
        LoadSpec {
            name: String::new(),
            connections: 64,
            rate: None,
            arrivals: Arrivals::Uniform,
            mode: Mode::Sync,
            obey_retry_after: false,
            functions: Vec::new(),
        }
    }
}

impl Mode {
    /// Names in scenario files and on the command line.
    pub const NAMES: [(&'static str, Mode); 5] = [
        ("sync", Mode::Sync),
        ("async", Mode::Async),
        ("callback", Mode::Callback),
        ("raw", Mode::Raw),
        ("url", Mode::Url),
    ];

    /// The mode's name.
    pub fn name(self) -> &'static str {
        Mode::NAMES.iter().find(|(_, mode)| *mode == self).map_or("", |(name, _)| name)
    }
}

/// A scenario that can be carried out.
#[derive(Debug)]
pub struct Plan {
    /// As in the scenario.
    pub name: String,
    /// As in the scenario.
    pub warm_up: Duration,
    /// Time that is measured.
    pub duration: Duration,
    /// As in the scenario.
    pub timeout: Duration,
    /// As in the scenario.
    pub threads: usize,
    /// Streams of calls.
    pub loads: Vec<Load>,
    /// Functions of all loads; loads refer to them by index.
    pub targets: Vec<Target>,
    /// As in the scenario.
    pub thresholds: Vec<Threshold>,
    /// Receives the callbacks, if any load needs them; already listening, because requests name its port.
    pub callbacks: Option<std::net::TcpListener>,
}

/// One stream of calls, ready to be carried out.
#[derive(Debug)]
pub struct Load {
    /// As in the scenario.
    pub name: String,
    /// Where to connect.
    pub socket: SocketAddr,
    /// As in the scenario.
    pub connections: usize,
    /// `None`: a closed loop.
    pub stages: Option<Stages>,
    /// As in the scenario.
    pub arrivals: Arrivals,
    /// As in the scenario.
    pub mode: Mode,
    /// As in the scenario.
    pub obey_retry_after: bool,
    /// Index of each function in [`Plan::targets`] and the sum of weights up to and including it.
    pub targets: Vec<(usize, u32)>,
}

/// What is called, ready to be sent.
#[derive(Debug)]
pub struct Target {
    /// The function's name.
    pub name: String,
    /// Index of its load.
    pub load: usize,
    /// Value of `Host`, for requests that are made on the way.
    pub(crate) host: String,
    /// One request per payload.
    pub(crate) requests: Vec<Request>,
    /// Which request is next.
    pub(crate) order: Order,
}

impl Plan {
    /// Names of the phases of a load: warm-up, then its stages.
    pub fn phases(&self, load: usize) -> Vec<String> {
        let stages = self.loads.get(load).and_then(|load| load.stages.as_ref());
        let names = stages.map_or_else(|| vec!["main".to_owned()], Stages::names);
        [vec!["warm-up".to_owned()], names].concat()
    }

    /// Time from the first call to the last.
    pub fn length(&self) -> Duration {
        self.warm_up + self.duration
    }
}
