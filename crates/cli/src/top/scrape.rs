//! What one look at a server's metrics says: counters since their start, and gauges.

use std::collections::BTreeMap;

use super::exposition::{Sample, samples};

/// One look.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Scrape {
    pub(super) process: Process,
    /// What callers were answered; `None` when the server does not say.
    pub(super) answers: Option<Answers>,
    /// Functions by name.
    pub(super) functions: BTreeMap<String, FunctionFigures>,
    /// Quantiles of what all functions' calls took.
    pub(super) all: Quantiles,
}

/// The server as a whole.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Process {
    /// When it started, in seconds since the Unix epoch; 0 when it does not say.
    pub(super) started_seconds: f64,
    /// User and system time since then, in seconds.
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: f64,
    pub(super) shards: usize,
    /// Executions and slots that the accounts are off by.
    pub(super) drift: f64,
}

/// Answers of the API.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Answers {
    /// By class of their status, all routes together: `2xx`.
    pub(super) classes: BTreeMap<String, f64>,
    /// Requests that were refused, by reason: `queue_full`.
    pub(super) refusals: BTreeMap<String, f64>,
}

/// From acceptance to end, in seconds, of what is recent; `None` when nothing ended.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Quantiles {
    pub(super) p50: Option<f64>,
    pub(super) p99: Option<f64>,
}

/// One function.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct FunctionFigures {
    pub(super) invocations: f64,
    /// Executions that ended as error, and callers whose deadline passed.
    pub(super) errors: f64,
    pub(super) timeouts: f64,
    pub(super) retries: f64,
    pub(super) quantiles: Quantiles,
    pub(super) queue_depth: f64,
    pub(super) in_flight: f64,
    pub(super) concurrency: f64,
    pub(super) replicas: Option<ReplicaCounts>,
}

/// Replicas of a function that a backend runs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct ReplicaCounts {
    pub(super) desired: f64,
    pub(super) ready: f64,
}

impl Scrape {
    /// Reads a scrape. `None` for a text in which nothing is ours.
    pub(super) fn read(text: &str) -> Option<Scrape> {
        let mut scrape = Scrape::default();
        let known = samples(text).filter(|sample| scrape.take(sample)).count();
        (known > 0).then_some(scrape)
    }

    fn take(&mut self, sample: &Sample<'_>) -> bool {
        match sample.name.split_once('_') {
            Some(("function", metric)) => self.take_of_function(metric, sample),
            Some(("nanofaas", "e2e_latency_recent_seconds")) => {
                self.all.take(sample, "percentile", "50", "99")
            }
            _ => self.take_of_answers(sample) || self.process.take(sample),
        }
    }

    fn take_of_answers(&mut self, sample: &Sample<'_>) -> bool {
        type Counts = fn(&mut Answers) -> &mut BTreeMap<String, f64>;
        let (label, counts): (&str, Counts) = match sample.name {
            "nanofaas_http_responses_total" => ("class", |answers| &mut answers.classes),
            "nanofaas_refusals_total" => ("reason", |answers| &mut answers.refusals),
            _ => return false,
        };
        let Some(value) = sample.label(label) else { return false };
        *counts(self.answers.get_or_insert_default()).entry(value.into_owned()).or_default() += sample.value;
        true
    }

    fn take_of_function(&mut self, metric: &str, sample: &Sample<'_>) -> bool {
        type Place = fn(&mut FunctionFigures) -> &mut f64;
        let place: Option<Place> = match metric {
            "invocation_total" => Some(|function| &mut function.invocations),
            "error_total" => Some(|function| &mut function.errors),
            "timeout_total" => Some(|function| &mut function.timeouts),
            "retry_total" => Some(|function| &mut function.retries),
            "queue_depth" => Some(|function| &mut function.queue_depth),
            "in_flight" => Some(|function| &mut function.in_flight),
            "effective_concurrency" => Some(|function| &mut function.concurrency),
            "e2e_latency_ms_seconds" | "replicas" => None,
            _ => return false,
        };
        let Some(name) = sample.label("function") else { return false };
        if !self.functions.contains_key(&*name) {
            self.functions.insert(name.clone().into_owned(), FunctionFigures::default());
        }
        let Some(function) = self.functions.get_mut(&*name) else { return false };
        match (place, metric) {
            (Some(place), _) => *place(function) = sample.value,
            (None, "replicas") => {
                let replicas = function.replicas.get_or_insert_default();
                match sample.label("state").as_deref() {
                    Some("desired") => replicas.desired = sample.value,
                    Some("ready") => replicas.ready = sample.value,
                    _ => return false,
                }
            }
            (None, _) => return function.quantiles.take(sample, "quantile", "0.5", "0.99"),
        }
        true
    }
}

impl Quantiles {
    /// Takes a sample, if the value of this label is that of the median or of p99.
    fn take(&mut self, sample: &Sample<'_>, label: &str, p50: &str, p99: &str) -> bool {
        // Not a number: nothing ended.
        let seconds = Some(sample.value).filter(|seconds| !seconds.is_nan());
        match sample.label(label).as_deref() {
            Some(part) if part == p50 => self.p50 = seconds,
            Some(part) if part == p99 => self.p99 = seconds,
            _ => return false,
        }
        true
    }
}

impl Process {
    fn take(&mut self, sample: &Sample<'_>) -> bool {
        match sample.name {
            "process_start_time_seconds" => self.started_seconds = sample.value,
            "process_cpu_seconds_total" => self.cpu_seconds = sample.value,
            "process_resident_memory_bytes" => self.resident_bytes = sample.value,
            "nanofaas_accounting_drift" => self.drift = sample.value,
            "nanofaas_shard_functions" => self.shards += 1,
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape() {
        let text = "# HELP function_invocation_total New executions.\n\
            function_invocation_total{function=\"a\"} 7\n\
            function_error_total{function=\"a\"} 2\nfunction_timeout_total{function=\"a\"} 1\n\
            function_retry_total{function=\"a\"} 3\nfunction_queue_depth{function=\"a\"} 4\n\
            function_queue_depth{function=\"b\"} 0\nfunction_in_flight{function=\"a\"} 5\n\
            function_inFlight{function=\"a\"} 99\nfunction_effective_concurrency{function=\"a\"} 6\n\
            function_replicas{function=\"b\",state=\"desired\"} 3\nfunction_replicas{function=\"b\",state=\"ready\"} 1\n\
            function_e2e_latency_seconds_bucket{function=\"a\",le=\"0.1\"} 5\n\
            function_e2e_latency_ms_seconds{function=\"a\",quantile=\"0.5\"} 0.012\n\
            function_e2e_latency_ms_seconds{function=\"a\",quantile=\"0.95\"} 0.02\n\
            function_e2e_latency_ms_seconds{function=\"a\",quantile=\"0.99\"} 0.031\n\
            function_e2e_latency_ms_seconds_sum{function=\"a\"} 1.5\n\
            function_e2e_latency_ms_seconds{function=\"b\",quantile=\"0.5\"} NaN\n\
            nanofaas_e2e_latency_recent_seconds{percentile=\"50\"} 0.011\n\
            nanofaas_e2e_latency_recent_seconds{percentile=\"99\"} 0.03\n\
            nanofaas_http_responses_total{route=\"/v1/functions\",class=\"2xx\"} 3\n\
            nanofaas_http_responses_total{route=\"other\",class=\"2xx\"} 4\n\
            nanofaas_http_responses_total{route=\"other\",class=\"4xx\"} 1\n\
            nanofaas_refusals_total{reason=\"queue_full\"} 1\n\
            nanofaas_accounting_drift 0\nnanofaas_shard_functions{shard=\"0\"} 1\n\
            nanofaas_shard_functions{shard=\"1\"} 1\nprocess_cpu_seconds_total 1.25\n\
            process_resident_memory_bytes 1048576\nprocess_start_time_seconds 1000\n";
        let scrape = Scrape::read(text).expect("ours");
        let one = FunctionFigures {
            invocations: 7.0,
            errors: 2.0,
            timeouts: 1.0,
            retries: 3.0,
            quantiles: Quantiles { p50: Some(0.012), p99: Some(0.031) },
            queue_depth: 4.0,
            in_flight: 5.0,
            concurrency: 6.0,
            replicas: None,
        };
        let other = FunctionFigures {
            replicas: Some(ReplicaCounts { desired: 3.0, ready: 1.0 }),
            ..FunctionFigures::default()
        };
        let process = Process {
            started_seconds: 1000.0,
            cpu_seconds: 1.25,
            resident_bytes: 1_048_576.0,
            shards: 2,
            drift: 0.0,
        };
        let functions = [("a".to_owned(), one), ("b".to_owned(), other)].into();
        let counts =
            |counts: &[(&str, f64)]| counts.iter().map(|(of, count)| ((*of).to_owned(), *count)).collect();
        let classes = counts(&[("2xx", 7.0), ("4xx", 1.0)]);
        let answers = Some(Answers { classes, refusals: counts(&[("queue_full", 1.0)]) });
        let all = Quantiles { p50: Some(0.011), p99: Some(0.03) };
        assert_eq!(scrape, Scrape { process, answers, functions, all });
    }

    #[test]
    fn something_else() {
        assert_eq!(Scrape::read(""), None);
        assert_eq!(Scrape::read("<html>"), None);
        assert_eq!(Scrape::read("go_threads 7\nfunction_unknown{function=\"f\"} 1\n"), None);
    }
}
