//! The warm watchdog: `POST /invoke`, `GET /health`, `GET /metrics`.
//!
//! A call runs in a task of its own that owns its slot. The connection only waits for the answer, at most up to
//! the call's deadline; when it stops waiting, because time is up or the caller left, the task is interrupted,
//! ends its process group, and gives the slot back only then.

use std::{cell::Cell, rc::Rc, time::Duration};

use hyper::{
    HeaderMap, Method, StatusCode,
    header::{HeaderName, HeaderValue},
};
use nanofaas_web::server::{Answer, BodyError, Call, answer};
use tokio::{
    sync::{Semaphore, oneshot},
    time::{Instant, timeout_at},
};

use super::{
    file, http,
    invocation::{Failure, Invocation, Output, VERDICT, error_object, is_json, json_document},
    launcher::Launcher,
    metrics::Metrics,
    options::{Mode, Options},
    proxy::{DEADLINE_HEADER, passed},
    stdio,
};

/// Calls that may wait for a slot. Each holds its body.
const WAITING_MAX: usize = 1024;

const EXECUTION_ID: &str = "x-execution-id";
const TRACE_ID: &str = "x-trace-id";
const FUNCTION_NAME: &str = "x-function-name";
const COLD_START: HeaderName = HeaderName::from_static("x-cold-start");
const INIT_DURATION: HeaderName = HeaderName::from_static("x-init-duration-ms");

/// How calls reach the program.
pub enum Runner {
    /// One process for all.
    Http(Rc<http::Server>),
    /// One process per call.
    PerCall {
        /// Starts it.
        launcher: Launcher,
        /// `Stdio` or `File`.
        mode: Mode,
        /// Time from the start of the watchdog until it was ready, until the first success has reported it.
        cold_start: Cell<Option<Duration>>,
    },
}

/// The service behind the listener.
pub struct Service {
    runner: Runner,
    slots: Rc<Semaphore>,
    slots_max: u32,
    waiting: Cell<usize>,
    /// Limit of a call.
    timeout: Duration,
    draining: Cell<bool>,
    /// Whose calls are run, if not all are.
    own: Option<String>,
    metrics: Metrics,
}

impl Service {
    /// A service with all slots free.
    pub fn new(runner: Runner, options: &Options) -> Service {
        Service {
            runner,
            slots: Rc::new(Semaphore::new(options.concurrency)),
            slots_max: options.concurrency as u32,
            waiting: Cell::new(0),
            timeout: options.timeout,
            draining: Cell::new(false),
            own: options.checks_function.then(|| options.function.clone()),
            metrics: Metrics::new(options),
        }
    }

    /// Refuses new calls from now on.
    pub fn drain(&self) {
        self.draining.set(true);
    }

    /// Waits until no call runs, killed ones included.
    pub async fn idle(&self) {
        // Fails only on a closed semaphore, and nobody closes it.
        let _ = self.slots.acquire_many(self.slots_max).await;
    }

    /// Answers one request.
    pub async fn handle(self: Rc<Self>, call: Call) -> Answer {
        match (&call.method, call.path.as_str()) {
            (&Method::POST, "/invoke") => self.invoke(call).await,
            (&Method::GET, "/health") => self.health(),
            (&Method::GET, "/metrics") => {
                answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", self.metrics.render())
            }
            (_, "/invoke" | "/health" | "/metrics") => {
                let message = format!("{} does not take {}", call.path, call.method);
                error(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", &message)
            }
            _ => error(StatusCode::NOT_FOUND, "NOT_FOUND", "there are /invoke, /health and /metrics"),
        }
    }

    fn health(&self) -> Answer {
        match &self.runner {
            _ if self.draining.get() => failed(&draining()),
            Runner::Http(server) if !server.is_up() => {
                failed(&Failure::Unavailable("the program is not up".to_owned()))
            }
            _ => answer(StatusCode::OK, "application/json", r#"{"status":"ok"}"#),
        }
    }

    async fn invoke(self: Rc<Self>, call: Call) -> Answer {
        let arrived = Instant::now();
        if self.draining.get() {
            return failed(&draining());
        }
        if let Some(wanted) = self.not_ours(&call.headers) {
            return failed(&Failure::NotOurs { wanted, own: self.own.clone().unwrap_or_default() });
        }
        let limit = self.limit_of(&call.headers);
        let invocation = match read(call, arrived + limit) {
            Ok(invocation) => invocation,
            Err(refusal) => return *refusal,
        };
        let mut measure = Measure { metrics: &self.metrics, arrived, success: false, timed_out: false };
        let result = self.clone().run(invocation, limit).await;
        measure.success = result.as_ref().is_ok_and(|output| output.status.is_success());
        measure.timed_out = matches!(result, Err(Failure::TimedOut(_)));
        match result {
            Ok(output) => self.answered(output),
            Err(failure) => failed(&failure),
        }
    }

    /// The function that a call is for, if that is another one: this address was another replica's, and whoever sends has not
    /// heard of its end yet.
    fn not_ours(&self, headers: &HeaderMap) -> Option<String> {
        let own = self.own.as_ref()?;
        let wanted = headers.get(FUNCTION_NAME)?.to_str().ok()?;
        (wanted != own).then(|| wanted.to_owned())
    }

    /// The smaller of the own limit and what the caller has left.
    fn limit_of(&self, headers: &HeaderMap) -> Duration {
        let left = headers.get(DEADLINE_HEADER).and_then(|left| left.to_str().ok()?.trim().parse().ok());
        left.map_or(self.timeout, |left| self.timeout.min(Duration::from_millis(left)))
    }

    async fn run(self: Rc<Self>, invocation: Invocation, limit: Duration) -> Result<Output, Failure> {
        if self.waiting.get() >= WAITING_MAX {
            return Err(Failure::Unavailable(format!("{WAITING_MAX} calls wait already")));
        }
        let deadline = invocation.deadline;
        let (reply, result) = oneshot::channel();
        tokio::task::spawn_local(self.work(invocation, reply));
        match timeout_at(deadline, result).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Failure::Watchdog {
                action: "finish the call",
                reason: "its task ended without a result".to_owned(),
            }),
            Err(_) => Err(Failure::TimedOut(limit)),
        }
    }

    /// The task of one call. Interrupted when nobody waits for `reply` any more.
    async fn work(
        self: Rc<Self>,
        invocation: Invocation,
        mut reply: oneshot::Sender<Result<Output, Failure>>,
    ) {
        self.waiting.set(self.waiting.get() + 1);
        let slot = tokio::select! {
            slot = self.slots.acquire() => slot,
            () = reply.closed() => { self.waiting.set(self.waiting.get() - 1); return }
        };
        self.waiting.set(self.waiting.get() - 1);
        let _running = self.metrics.begin();
        let interrupted = reply.closed();
        let result = match &self.runner {
            Runner::Http(server) => server.run(&invocation, interrupted).await,
            Runner::PerCall { launcher, mode: Mode::File, .. } => {
                file::run(launcher, &invocation, interrupted).await
            }
            Runner::PerCall { launcher, .. } => stdio::run(launcher, &invocation, interrupted).await,
        };
        match &result {
            Some(Err(failure)) => {
                // What the program wrote is in the log already.
                let reason = failure.without_output();
                tracing::warn!(execution_id = invocation.execution_id, reason, "call failed");
            }
            Some(Ok(_)) => {}
            None => tracing::warn!(execution_id = invocation.execution_id, "call interrupted"),
        }
        drop(slot);
        if let Some(result) = result {
            let _ = reply.send(result);
        }
    }

    fn answered(&self, output: Output) -> Answer {
        let mut response = answer(output.status, "application/json", output.body);
        *response.headers_mut() = output.headers;
        if output.status.is_success()
            && let Some(took) = self.take_cold_start()
            // A program that reports its own cold start knows better.
            && !response.headers().contains_key(COLD_START)
        {
            response.headers_mut().insert(COLD_START, HeaderValue::from_static("true"));
            let took = HeaderValue::from(took.as_millis() as u64);
            response.headers_mut().entry(INIT_DURATION).or_insert(took);
        }
        response
    }

    fn take_cold_start(&self) -> Option<Duration> {
        match &self.runner {
            Runner::Http(server) => server.take_cold_start(),
            Runner::PerCall { cold_start, .. } => cold_start.take(),
        }
    }
}

/// Counts a call when it is over, also when the caller leaves before.
struct Measure<'a> {
    metrics: &'a Metrics,
    arrived: Instant,
    success: bool,
    timed_out: bool,
}

impl Drop for Measure<'_> {
    fn drop(&mut self) {
        self.metrics.count(self.success, self.timed_out, self.arrived.elapsed());
    }
}

/// Checks a request. The error is the answer to it.
fn read(call: Call, deadline: Instant) -> Result<Invocation, Box<Answer>> {
    let refuse = |status, code, message: &str| Box::new(error(status, code, message));
    let bad = |message: &str| refuse(StatusCode::BAD_REQUEST, "BAD_REQUEST", message);
    let Some(execution_id) = text_of(&call.headers, EXECUTION_ID) else {
        return Err(bad("X-Execution-Id header is required"));
    };
    let body = call.body.map_err(|reason| match reason {
        BodyError::TooLarge(_) => {
            refuse(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", &reason.to_string())
        }
        BodyError::Broken => bad(&reason.to_string()),
    })?;
    let raw = !is_json(&call.headers);
    if !raw && let Err(reason) = json_document(&body) {
        return Err(bad(&format!("the body is not JSON: {reason}")));
    }
    let trace_id = text_of(&call.headers, TRACE_ID).unwrap_or_default();
    Ok(Invocation { execution_id, trace_id, headers: passed(&call.headers), body, raw, deadline })
}

fn text_of(headers: &HeaderMap, name: &str) -> Option<String> {
    let text = headers.get(name)?.to_str().ok()?.trim();
    if text.is_empty() { None } else { Some(text.to_owned()) }
}

fn draining() -> Failure {
    Failure::Unavailable("the watchdog is shutting down".to_owned())
}

fn failed(failure: &Failure) -> Answer {
    let mut answer = error(failure.status(), failure.code(), &failure.to_string());
    if let Some(verdict) = failure.verdict() {
        answer.headers_mut().insert(VERDICT, verdict);
    }
    answer
}

pub(super) fn error(status: StatusCode, code: &str, message: &str) -> Answer {
    let body = serde_json::json!({ "error": error_object(code, message) });
    answer(status, "application/json", body.to_string())
}
