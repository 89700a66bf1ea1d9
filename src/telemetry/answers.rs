//! What callers are answered: by route and class, and refusals by reason.
//!
//! Each thread that serves connections counts for itself, in memory that only it writes to; a scrape adds up. Labels are
//! bounded: templates of routes, not paths, and the codes of the API.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use hyper::StatusCode;

use super::prometheus::{Exposition, Kind, Labels};

/// Why requests are refused: the codes of errors, in lower case; a rate limit by whose it is.
const REASONS: [&str; 31] = [
    "rate_limit_server",
    "rate_limit_function",
    "queue_full",
    "sync_queue_rejected",
    "overloaded",
    "shutting_down",
    "store_unavailable",
    "bad_request",
    "validation_error",
    "unauthorized",
    "forbidden",
    "not_found",
    "misdirected_request",
    "origin_not_allowed",
    "version_mismatch",
    "method_not_allowed",
    "conflict",
    "revision_mismatch",
    "not_cancellable",
    "payload_too_large",
    "not_scalable",
    "unsupported_media_type",
    "image_not_found",
    "idempotency_key_reused",
    "image_pull_auth_required",
    "internal_error",
    "async_queue_disabled",
    "image_registry_unavailable",
    "provisioning_failed",
    "no_deployment_backend",
    "other",
];

const CLASSES: [&str; 3] = ["2xx", "4xx", "5xx"];

/// Time between two lines of the log about the server's rate limit.
const NOTICE_PAUSE: Duration = Duration::from_secs(60);

/// Counts of one thread. Only that thread adds to them, so that adding needs no atomic operation.
#[derive(Debug)]
pub struct AnswerCounts {
    /// By route, then by class.
    responses: Vec<[AtomicU64; CLASSES.len()]>,
    refusals: [AtomicU64; REASONS.len()],
    notice: Arc<RateNotice>,
}

/// Why a request was refused: travels with the response to where it is counted.
#[derive(Debug, Clone, Copy)]
pub struct Refused(pub &'static str);

impl AnswerCounts {
    fn new(routes: usize, notice: Arc<RateNotice>) -> AnswerCounts {
        AnswerCounts {
            responses: (0..routes).map(|_| Default::default()).collect(),
            refusals: std::array::from_fn(|_| AtomicU64::new(0)),
            notice,
        }
    }

    /// Counts one answer to a request for a route.
    pub fn answered(&self, route: usize, status: StatusCode) {
        let class = match status.as_u16() {
            ..400 => 0,
            400..500 => 1,
            _ => 2,
        };
        if let Some(classes) = self.responses.get(route) {
            add(&classes[class]);
        }
    }

    /// Counts why one was refused.
    pub fn refused(&self, Refused(code): Refused) {
        let found = REASONS.iter().position(|reason| reason.eq_ignore_ascii_case(code));
        let at = found.unwrap_or(REASONS.len() - 1);
        add(&self.refusals[at]);
        if at == 0 && self.notice.is_due() {
            tracing::warn!(
                "rejecting calls beyond rate.max-per-second; raise it (--set rate.max-per-second=N, \
                 NANOFAAS_RATE_MAX_PER_SECOND, rateMaxPerSecond of the runtime configuration), or set it to 0 for no limit"
            );
        }
    }
}

fn add(counter: &AtomicU64) {
    counter.store(counter.load(Relaxed) + 1, Relaxed);
}

/// Counts of all threads.
#[derive(Debug)]
pub struct AllAnswers {
    routes: &'static [&'static str],
    /// Threads that serve connections.
    threads: Vec<Arc<AnswerCounts>>,
    /// The thread that accepts them.
    accepting: Arc<AnswerCounts>,
}

impl AllAnswers {
    /// For so many threads, of routes with these templates.
    pub fn new(threads: usize, routes: &'static [&'static str]) -> AllAnswers {
        let notice = Arc::<RateNotice>::default();
        let counts = || Arc::new(AnswerCounts::new(routes.len(), Arc::clone(&notice)));
        AllAnswers { routes, threads: (0..threads).map(|_| counts()).collect(), accepting: counts() }
    }

    /// The counts of the threads that serve connections, one after the other.
    pub fn of_threads(&self) -> impl Iterator<Item = Arc<AnswerCounts>> {
        self.threads.iter().cloned()
    }

    /// The counts of the thread that accepts connections.
    pub fn of_accepting(&self) -> Arc<AnswerCounts> {
        Arc::clone(&self.accepting)
    }

    /// Appends them.
    pub fn render(&self, text: &mut Exposition) {
        let all = || self.threads.iter().chain([&self.accepting]);
        let sum = |of: &dyn Fn(&AnswerCounts) -> u64| -> u64 { all().map(|one| of(one)).sum() };
        let name = "nanofaas_refusals_total";
        text.family(name, Kind::Counter, "Rejected requests, by reason.");
        for (at, reason) in REASONS.iter().enumerate() {
            text.sample(name, &Labels::of(&[("reason", reason)]), sum(&|one| one.refusals[at].load(Relaxed)));
        }
        let name = "nanofaas_http_responses_total";
        text.family(name, Kind::Counter, "Responses of the API, by route and class of their status.");
        for (route, template) in self.routes.iter().enumerate() {
            for (at, class) in CLASSES.iter().enumerate() {
                let labels = Labels::of(&[("route", template), ("class", class)]);
                text.sample(name, &labels, sum(&|one| one.responses[route][at].load(Relaxed)));
            }
        }
    }
}

/// Says at most once per minute that the server's own limit refuses calls.
#[derive(Debug)]
struct RateNotice {
    started: Instant,
    /// Milliseconds since then at which it may be said again.
    due_ms: AtomicU64,
}

impl Default for RateNotice {
    fn default() -> Self {
        RateNotice { started: Instant::now(), due_ms: AtomicU64::new(0) }
    }
}

impl RateNotice {
    /// A call was refused: whether to say so.
    fn is_due(&self) -> bool {
        self.is_due_at(self.started.elapsed())
    }

    fn is_due_at(&self, elapsed: Duration) -> bool {
        let (now_ms, due_ms) = (elapsed.as_millis() as u64, self.due_ms.load(Relaxed));
        let next_ms = now_ms + NOTICE_PAUSE.as_millis() as u64;
        now_ms >= due_ms && self.due_ms.compare_exchange(due_ms, next_ms, Relaxed, Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_all_threads_add_up_and_unknown_reasons_are_other_ones() {
        let all = AllAnswers::new(2, &["/a", "other"]);
        for counts in all.of_threads() {
            counts.answered(0, StatusCode::OK);
            counts.answered(1, StatusCode::NOT_FOUND);
            counts.answered(7, StatusCode::OK);
            counts.refused(Refused("NOT_FOUND"));
        }
        all.of_accepting().refused(Refused("NEVER_HEARD_OF"));
        let mut text = Exposition::default();
        all.render(&mut text);
        let text = text.finish();
        for line in [
            r#"nanofaas_refusals_total{reason="not_found"} 2"#,
            r#"nanofaas_refusals_total{reason="other"} 1"#,
            r#"nanofaas_refusals_total{reason="queue_full"} 0"#,
            r#"nanofaas_http_responses_total{route="/a",class="2xx"} 2"#,
            r#"nanofaas_http_responses_total{route="other",class="4xx"} 2"#,
            r#"nanofaas_http_responses_total{route="other",class="5xx"} 0"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_minute_has_one_notice() {
        let notice = RateNotice::default();
        let said = [0, 1, 59_999, 60_000, 60_001, 500_000, 559_999, 560_000]
            .map(|ms| notice.is_due_at(Duration::from_millis(ms)));
        assert_eq!(said, [true, false, false, true, false, true, false, true]);
    }
}
