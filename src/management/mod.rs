//! The management listener: health and metrics. It runs on a thread of its own, so that it answers when shards
//! do not.

pub mod scrape;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use hyper::{HeaderMap, Method, Request, StatusCode, body::Incoming};
use nanofaas_web::server::{Answer, Call, Drain, answer, answer_in_chunks, no_content, serve};
use nanofaas_wire::{about, error::ApiError};
use shard_runtime::Workers;
use tokio::net::TcpListener;

use crate::http::{
    framing,
    origin::{OriginPolicy, Pass, Seen},
};
use crate::{
    deployments::Deployments,
    durable::Durable,
    host::ShardHost,
    runtime_config::RuntimeConfig,
    telemetry::{self, answers::AllAnswers, process::ProcessView, prometheus},
};

/// A shard that has not turned its loop, or has left ready work alone, for this long is stuck.
pub const STUCK_AFTER: Duration = Duration::from_secs(10);
/// How long a scrape waits for all shards.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(5);
/// Methods of every path.
const METHODS: &str = "GET, HEAD";
/// Nobody sends bodies here.
const BODY_BYTES_MAX: usize = 4096;

/// What the listener reports on.
pub struct Management {
    /// The shards.
    pub workers: Arc<Workers<ShardHost>>,
    /// How long a shard may make no progress: [`STUCK_AFTER`], less in tests.
    pub stuck_after: Duration,
    /// Whether traffic is welcome.
    pub ready: Arc<AtomicBool>,
    /// The journal, and how far recovery from it is.
    pub durable: Arc<Durable>,
    /// Functions with series of their own.
    pub functions_max: usize,
    /// What can be changed while the server runs.
    pub runtime_config: Arc<RuntimeConfig<ShardHost>>,
    /// What callers were answered.
    pub answers: Arc<AllAnswers>,
    /// What runs functions.
    pub deployments: Arc<Deployments>,
}

impl Management {
    /// Serves until drained.
    pub async fn serve(self, listener: TcpListener, policy: OriginPolicy, drain: &Drain) {
        let clock = tokio::task::spawn_local(scrape::keep_time(Arc::clone(&self.workers)));
        let management = Arc::new(self);
        let admit = move |request: &Request<Incoming>| {
            let seen = Seen::of(request.headers());
            if seen.has_strange_coding() {
                let refusal = "The request's Transfer-Encoding is not understood; send chunked, once";
                return Err(Box::new(refuse(&ApiError::BadRequest(refusal.into()))));
            }
            let checked = policy.check(&seen, request.version(), request.uri());
            checked.map_err(|refusal| Box::new(refuse(&refusal)))
        };
        let words = |status| Some(framing::refusal_of_the_parser(status, &[]));
        serve(listener, BODY_BYTES_MAX, drain, words, admit, move |pass: Pass, call| {
            let management = Arc::clone(&management);
            async move {
                let mut response = match pass.preflight(&call.method, &call.headers, METHODS) {
                    Some(headers) => preflight(headers),
                    None => management.handle(call).await,
                };
                pass.mark(response.headers_mut());
                response
            }
        })
        .await;
        clock.abort();
    }

    async fn handle(&self, call: Call) -> Answer {
        let path = match call.path.as_str() {
            "/healthz" => "/actuator/health/liveness",
            "/readyz" => "/actuator/health/readiness",
            "/metrics" => "/actuator/prometheus",
            path => path,
        };
        let known = matches!(
            path,
            "/actuator"
                | "/actuator/health"
                | "/actuator/health/liveness"
                | "/actuator/health/readiness"
                | "/actuator/prometheus"
        );
        if !known {
            return refuse(&ApiError::UnknownPath);
        }
        if call.method != Method::GET && call.method != Method::HEAD {
            return refuse(&ApiError::MethodNotAllowed { allow: METHODS });
        }
        let ready = self.ready.load(Ordering::Relaxed);
        match path {
            "/actuator" => {
                let paths = ["health", "health/liveness", "health/readiness", "prometheus"];
                answer(StatusCode::OK, "application/json", about::links("/actuator", &paths))
            }
            "/actuator/health/liveness" => health(self.is_alive(), "DOWN", false),
            "/actuator/health/readiness" => self.readiness(ready, false),
            "/actuator/health" if !self.is_alive() => health(false, "DOWN", true),
            "/actuator/health" => self.readiness(ready, true),
            _ => self.metrics().await,
        }
    }

    fn readiness(&self, ready: bool, groups: bool) -> Answer {
        let (journal, recovery) = (self.durable.journal(), &self.durable.progress);
        if journal.is_durable() && !recovery.is_over() {
            let body = about::health_with_details("OUT_OF_SERVICE", groups_of(groups), &recovery.text());
            return answer(StatusCode::SERVICE_UNAVAILABLE, "application/json", body);
        }
        match journal.trouble() {
            // Synchronous calls are welcome.
            Some(trouble) if ready => {
                let body = about::health_with_details("UP", groups_of(groups), &trouble);
                answer(StatusCode::OK, "application/json", body)
            }
            _ => health(ready, "OUT_OF_SERVICE", groups),
        }
    }

    fn is_alive(&self) -> bool {
        self.workers.threads().iter().all(|thread| !thread.is_stuck(self.stuck_after))
    }

    async fn metrics(&self) -> Answer {
        match tokio::time::timeout(SCRAPE_TIMEOUT, scrape::gather(&self.workers)).await {
            Ok(Some(copies)) => {
                let totals: Vec<_> = copies.iter().map(|copy| copy.totals).collect();
                let mut server =
                    prometheus::of_server(&totals, &self.workers.threads(), &ProcessView::read());
                let revision = self.runtime_config.snapshot().revision;
                let updates = self.runtime_config.updates.counts();
                self.answers.render(&mut server);
                telemetry::runtime_config::render(&mut server, revision, updates);
                telemetry::backends::render(&mut server, &self.deployments.silences());
                telemetry::store::render(&mut server, self.durable.journal().figures());
                let functions = prometheus::of_functions(copies, self.functions_max);
                let chunks = functions.chain(std::iter::once(server.finish())).map(Bytes::from);
                answer_in_chunks("text/plain; version=0.0.4; charset=utf-8", chunks)
            }
            _ => refuse(&ApiError::Overloaded { what: "Gathering the metrics of all shards" }),
        }
    }
}

fn health(good: bool, otherwise: &'static str, groups: bool) -> Answer {
    let (status, text) =
        if good { (StatusCode::OK, "UP") } else { (StatusCode::SERVICE_UNAVAILABLE, otherwise) };
    answer(status, "application/json", about::health(text, groups_of(groups)))
}

fn groups_of(wanted: bool) -> &'static [&'static str] {
    if wanted { &["liveness", "readiness"] } else { &[] }
}

fn refuse(error: &ApiError) -> Answer {
    let refusal = error.answer();
    let mut response = answer(refusal.status, "application/json", refusal.body);
    response.headers_mut().extend(refusal.headers);
    response
}

fn preflight(headers: HeaderMap) -> Answer {
    let mut response = no_content();
    *response.headers_mut() = headers;
    response
}
