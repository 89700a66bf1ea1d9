//! From scenario to plan: resolves addresses, reads payloads, builds requests. Every mistake is reported at once.

use std::{fmt, net::TcpListener, time::Duration};

use super::{
    FunctionSpec, Load, LoadSpec, Mode, Payload, Plan, Rate, Scenario, Target,
    payload::Order,
    rate::{Stage, Stages},
};
use crate::client::{
    address::Address,
    request::{Request, TOKEN_PLACE},
};

/// Most connections of one load.
const CONNECTIONS_MAX: usize = 100_000;
/// Most threads.
const THREADS_MAX: usize = 256;
/// Most functions of one kind, and most requests that are built for them.
const COPIES_MAX: u32 = 1_000_000;
/// Longest run: a week.
const LENGTH_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Highest rate that means something, in calls per second.
const RATE_MAX: f64 = 10_000_000.0;

/// Everything that is wrong with a scenario.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Mistakes(pub Vec<String>);

impl fmt::Display for Mistakes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Mistakes {}

impl Mistakes {
    fn add(&mut self, mistake: String) {
        self.0.push(mistake);
    }

    /// The value, or its error among the mistakes.
    fn take<T, E: fmt::Display>(&mut self, place: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(format!("{place}: {error}"))).ok()
    }
}

impl Scenario {
    /// Checks the scenario and builds everything that will be sent.
    pub fn plan(&self) -> Result<Plan, Mistakes> {
        let mut mistakes = Mistakes::default();
        let duration = self.measured_time(&mut mistakes);
        self.check(&mut mistakes, duration);
        let needs_callbacks = self.loads.iter().any(|load| load.mode == Mode::Callback);
        let callbacks = needs_callbacks.then(|| TcpListener::bind(self.callback_bind)).and_then(|listener| {
            mistakes.take(&format!("callback_bind: cannot listen on {}", self.callback_bind), listener)
        });
        let callback_host = callbacks.as_ref().and_then(|listener| listener.local_addr().ok());
        let callback_url = callback_host.map(|host| format!("http://{host}/{TOKEN_PLACE}"));

        let (mut loads, mut targets) = (Vec::new(), Vec::new());
        for (index, spec) in self.loads.iter().enumerate() {
            let place = if self.loads.len() == 1 { String::new() } else { format!("load {:?}: ", spec.name) };
            let stages = self.stages(spec, duration, &place, &mut mistakes);
            let mut built = Vec::new();
            for function in &spec.functions {
                let built_target =
                    self.target(function, spec, index, &place, callback_url.as_deref(), &mut mistakes);
                built.extend(built_target);
            }
            let sockets = built.iter().map(|(_, address)| address.socket);
            let Some(socket) = sockets.clone().next() else { continue };
            if sockets.clone().any(|other| other != socket) {
                mistakes.add(format!("{place}one load has one server; use one [[load]] for each"));
            }
            let weights = spec.functions.iter().scan(0u32, |sum, function| {
                *sum = sum.saturating_add(function.weight);
                Some(*sum)
            });
            loads.push(Load {
                name: spec.name.clone(),
                socket,
                connections: spec.connections,
                stages,
                arrivals: spec.arrivals,
                mode: spec.mode,
                obey_retry_after: spec.obey_retry_after,
                targets: weights.enumerate().map(|(at, sum)| (targets.len() + at, sum)).collect(),
            });
            targets.extend(built.into_iter().map(|(target, _)| target));
        }
        if !mistakes.0.is_empty() {
            return Err(mistakes);
        }
        Ok(Plan {
            name: self.name.clone(),
            warm_up: self.warm_up,
            duration,
            timeout: self.timeout,
            threads: self.threads,
            loads,
            targets,
            thresholds: self.thresholds.clone(),
            callbacks,
        })
    }

    fn measured_time(&self, mistakes: &mut Mistakes) -> Duration {
        let staged = self.loads.iter().filter_map(|load| match &load.rate {
            Some(Rate::Stages(stages)) => Some(stages.iter().map(|stage| stage.length).sum()),
            _ => None,
        });
        match self.duration.or(staged.max()) {
            Some(duration) if duration.is_zero() => {
                mistakes.add("duration: must be longer than 0".to_owned())
            }
            Some(duration) if duration + self.warm_up > LENGTH_MAX => {
                mistakes.add("duration: longer than a week".to_owned());
            }
            Some(duration) => return duration,
            None => mistakes.add("duration: is missing (for example \"10s\")".to_owned()),
        }
        Duration::from_secs(1)
    }

    fn check(&self, mistakes: &mut Mistakes, duration: Duration) {
        if self.loads.is_empty() {
            mistakes.add(
                "nothing to call: give [[load]] with [[load.function]], or a function or URL".to_owned(),
            );
        }
        if !(1..=THREADS_MAX).contains(&self.threads) {
            mistakes.add(format!("threads: {} is not between 1 and {THREADS_MAX}", self.threads));
        }
        if self.timeout.is_zero() {
            mistakes.add("timeout: must be longer than 0".to_owned());
        }
        let names: Vec<&str> = self
            .loads
            .iter()
            .flat_map(|load| &load.functions)
            .map(|function| function.name.as_str())
            .collect();
        for threshold in &self.thresholds {
            if let Some(function) = threshold.function.as_deref().filter(|name| !names.contains(name)) {
                mistakes.add(format!("thresholds.function.{function}: no load calls {function:?}"));
            }
        }
        for (index, load) in self.loads.iter().enumerate() {
            let place =
                if load.name.is_empty() { format!("load {index}") } else { format!("load {:?}", load.name) };
            if self.loads[..index].iter().any(|other| other.name == load.name) {
                mistakes.add(format!("{place}: another load has the same name"));
            }
            if !(1..=CONNECTIONS_MAX).contains(&load.connections) {
                mistakes.add(format!(
                    "{place}: connections: {} is not between 1 and {CONNECTIONS_MAX}",
                    load.connections
                ));
            }
            if load.functions.is_empty() {
                mistakes.add(format!("{place}: no function to call"));
            }
            if load.functions.iter().all(|function| function.weight == 0) && !load.functions.is_empty() {
                mistakes.add(format!("{place}: every weight is 0"));
            }
            if let Some(Rate::Stages(stages)) = &load.rate {
                let length: Duration = stages.iter().map(|stage| stage.length).sum();
                if length > duration {
                    mistakes.add(format!("{place}: its stages are longer than the duration"));
                }
            }
        }
    }

    fn stages(
        &self,
        load: &LoadSpec,
        duration: Duration,
        place: &str,
        mistakes: &mut Mistakes,
    ) -> Option<Stages> {
        let whole = |from, to| vec![Stage { name: "main".to_owned(), from, to, length: duration }];
        let stages = match load.rate.as_ref()? {
            Rate::Constant(rate) => whole(*rate, *rate),
            Rate::Ramp(from, to) => whole(*from, *to),
            Rate::Stages(stages) => stages.clone(),
            Rate::Percent(percent) => {
                let Some(saturation) = self.saturation else {
                    mistakes.add(format!(
                        "{place}rate: {percent}% of what? Give the saturation in calls per second (--saturation; \
                         `loadtest saturate` finds it)"
                    ));
                    return None;
                };
                whole(saturation * percent / 100.0, saturation * percent / 100.0)
            }
        };
        let is_rate = |rate: f64| (0.0..=RATE_MAX).contains(&rate);
        if stages.is_empty() || stages.iter().any(|stage| stage.length.is_zero()) {
            mistakes.add(format!("{place}rate: a stage must be longer than 0"));
        }
        if stages.iter().any(|stage| !is_rate(stage.from) || !is_rate(stage.to)) {
            mistakes.add(format!("{place}rate: must be between 0 and {RATE_MAX} calls per second"));
        }
        if stages.iter().all(|stage| stage.from + stage.to == 0.0) {
            mistakes.add(format!("{place}rate: is 0"));
        }
        Some(Stages::new(self.warm_up, stages))
    }

    fn target(
        &self,
        function: &FunctionSpec,
        load: &LoadSpec,
        load_index: usize,
        place: &str,
        callback_url: Option<&str>,
        mistakes: &mut Mistakes,
    ) -> Option<(Target, Address)> {
        let place = format!("{place}function {:?}", function.name);
        let address = self
            .url(function, load.mode)
            .and_then(|url| Address::parse(&url).map_err(|error| error.to_string()));
        if function.copies.is_some_and(|copies| load.mode == Mode::Url || !(1..=COPIES_MAX).contains(&copies))
        {
            mistakes.add(format!(
                "{place}: count: must be between 1 and {COPIES_MAX}, of functions, not of URLs"
            ));
        }
        let address = mistakes.take(&place, address);
        let bodies = mistakes.take(&format!("{place}: payload"), function.payload.bodies());
        if load.mode != Mode::Url && function.payload == Payload::None {
            mistakes.add(format!("{place}: payload is missing (for example '{{\"input\":null}}')"));
        }
        for (name, value) in &function.headers {
            let is_token =
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
            if !is_token || value.bytes().any(|byte| byte < b' ' && byte != b'\t') {
                mistakes.add(format!("{place}: {name:?}: {value:?} is no header"));
            }
        }
        let (address, (bodies, order)) = (address?, bodies?);
        let headers = headers(function, load.mode, bodies.first().is_some_and(Option::is_some), callback_url);
        let default_method = if bodies.first().is_some_and(Option::is_some) { "POST" } else { "GET" };
        let method = function.method.as_deref().unwrap_or(default_method);
        let paths: Vec<String> = match function.copies {
            None => vec![address.path.clone()],
            Some(copies) => (0..copies.min(COPIES_MAX)).map(|copy| copy_path(&address.path, copy)).collect(),
        };
        if paths.len().saturating_mul(bodies.len()) > COPIES_MAX as usize {
            mistakes.add(format!("{place}: count: times the number of payloads it is over {COPIES_MAX}"));
            return None;
        }
        let requests: Vec<Request> = paths
            .iter()
            .flat_map(|path| bodies.iter().map(move |body| (path, body)))
            .map(|(path, body)| Request::new(method, &address.host, path, &headers, body.as_deref()))
            .collect();
        let order = if paths.len() > 1 { Order::Random } else { order };
        let target = Target {
            name: function.name.clone(),
            load: load_index,
            host: address.host.clone(),
            requests,
            order,
        };
        Some((target, address))
    }

    fn url(&self, function: &FunctionSpec, mode: Mode) -> Result<String, String> {
        let operation = match mode {
            Mode::Url => return function.url.clone().ok_or_else(|| "url is missing".to_owned()),
            Mode::Sync | Mode::Raw => "invoke",
            Mode::Async | Mode::Callback => "enqueue",
        };
        if function.name.is_empty()
            || function.name.bytes().any(|b| b.is_ascii_control() || b" /?#%".contains(&b))
        {
            return Err("is no name of a function".to_owned());
        }
        let endpoint =
            self.endpoint.as_deref().ok_or("endpoint is missing (for example http://127.0.0.1:8080)")?;
        Ok(format!("{}/v1/functions/{}:{operation}", endpoint.trim_end_matches('/'), function.name))
    }
}

/// The path with the number of a copy behind the function's name.
fn copy_path(path: &str, copy: u32) -> String {
    match path.rsplit_once(':') {
        Some((name, operation)) => format!("{name}-{copy}:{operation}"),
        None => path.to_owned(),
    }
}

fn headers(
    function: &FunctionSpec,
    mode: Mode,
    has_body: bool,
    callback_url: Option<&str>,
) -> Vec<(String, String)> {
    let has = |name: &str| function.headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
    let mut headers = Vec::new();
    if has_body && !has("content-type") {
        let default = if mode == Mode::Raw { "application/octet-stream" } else { "application/json" };
        let content_type = function.content_type.as_deref().unwrap_or(default);
        headers.push(("Content-Type".to_owned(), content_type.to_owned()));
    }
    if let Some(url) = callback_url.filter(|_| mode == Mode::Callback) {
        headers.push(("X-Callback-Url".to_owned(), url.to_owned()));
    }
    headers.extend(function.headers.iter().cloned());
    headers
}
