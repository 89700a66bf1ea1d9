//! Waiting for the end of an execution.
//!
//! The server is asked to wait with us, again and again. A server that goes away meanwhile is given time to come
//! back: an accepted execution survives its restart. On a terminal a line tells how far it is, for which the waits
//! are short; otherwise they are long.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;

use super::path;
use crate::{
    client::ApiClient,
    failure::Failure,
    output::note,
    progress::{Progress, span},
    signals,
};

/// How long the server waits before it answers with the current state: while somebody looks, and otherwise.
const WAIT_SHOWN_S: u64 = 1;
const WAIT_S: u64 = 30;
/// How much longer than that we wait for the server.
const WAIT_MARGIN: Duration = Duration::from_secs(10);
/// How often the line is drawn.
const REDRAW_INTERVAL: Duration = Duration::from_millis(200);
/// Between two questions when the server does not wait, or is not there.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How long a server that has answered once may be away.
const UNREACHABLE_TIME_MAX: Duration = Duration::from_secs(60);

/// An ExecutionStatus and the bytes it came in.
type Status = (Value, Bytes);

/// Waits until the execution has ended.
///
/// # Errors
/// What the server refuses, a server that is not there or stays away, and a signal that ends the wait.
pub(crate) async fn until_end(api: &ApiClient, id: &str) -> Result<Status, Failure> {
    let mut signals = signals::listen()?;
    let mut watch =
        Watch { api, id, progress: Progress::new(), started: Instant::now(), line: String::new() };
    tokio::select! {
        status = watch.run() => status,
        () = signals.next() => Err(Failure::Failed(format!(
            "stopped watching; the execution goes on, see: nanofaas exec get {id}"
        ))),
    }
}

struct Watch<'a> {
    api: &'a ApiClient,
    id: &'a str,
    progress: Progress,
    started: Instant,
    /// What is known, for the line.
    line: String,
}

impl Watch<'_> {
    async fn run(&mut self) -> Result<Status, Failure> {
        // The first look does not wait: it tells at once what cannot be found.
        let mut status = self.api.get(&path(self.id)).await?;
        let mut answered = Instant::now();
        let mut is_away = false;
        while !has_ended(&status.0) {
            if !is_away {
                self.line = describe(&status.0);
            }
            let asked = Instant::now();
            match self.ask().await {
                Ok(newer) => {
                    status = newer;
                    (answered, is_away) = (Instant::now(), false);
                    if asked.elapsed() < POLL_INTERVAL && !has_ended(&status.0) {
                        self.pause().await;
                    }
                }
                Err(failure) if is_transient(&failure) && answered.elapsed() < UNREACHABLE_TIME_MAX => {
                    if !std::mem::replace(&mut is_away, true) && !self.progress.is_visible() {
                        note(&format!("{failure}; retrying"));
                    }
                    self.line = "the server is away, retrying".to_owned();
                    self.pause().await;
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(status)
    }

    async fn ask(&mut self) -> Result<Status, Failure> {
        let wait_s = if self.progress.is_visible() { WAIT_SHOWN_S } else { WAIT_S };
        let path = format!("{}?wait={wait_s}s", path(self.id));
        let api = self.api;
        self.showing(api.get_within(&path, Duration::from_secs(wait_s) + WAIT_MARGIN)).await
    }

    async fn pause(&mut self) {
        self.showing(tokio::time::sleep(POLL_INTERVAL)).await;
    }

    /// Keeps the line going while something takes its time.
    async fn showing<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut ticks = tokio::time::interval(REDRAW_INTERVAL);
        tokio::pin!(work);
        loop {
            tokio::select! {
                result = &mut work => return result,
                _ = ticks.tick() => {
                    let passed = span(self.started.elapsed());
                    self.progress.show(&format!("{}  {}  {passed}", self.id, self.line));
                }
            }
        }
    }
}

fn has_ended(status: &Value) -> bool {
    !matches!(status.get("status").and_then(Value::as_str), Some("queued" | "running"))
}

/// State and attempt.
fn describe(status: &Value) -> String {
    let state = status.get("status").and_then(Value::as_str).unwrap_or("unknown");
    match status.get("attempt").and_then(Value::as_u64) {
        None | Some(0) => state.to_owned(),
        Some(attempt) => format!("{state}  attempt {attempt}"),
    }
}

/// Whether the same question may get an answer a little later.
fn is_transient(failure: &Failure) -> bool {
    match failure {
        Failure::Unanswered(_) => true,
        Failure::Refused { code, .. } => matches!(code.as_str(), "SHUTTING_DOWN" | "OVERLOADED"),
        _ => false,
    }
}
