//! The summary for people.

use super::{
    summary::{Figures, Latency, Summary, ThresholdVerdict},
    table::{Table, bytes, number, percent, time},
};

/// Said of a run that a signal ended.
pub(super) const INTERRUPTED: &str = "interrupted: the numbers are those of the part that was carried out";

/// The summary as text, with a line end at its end.
pub fn text(summary: &Summary) -> String {
    let verdict_on_all = verdict(summary);
    let mark = if verdict_on_all.is_good { "ok" } else { "NOT OK" };
    let mut parts = vec![
        format!("{mark}: {}\n", verdict_on_all.words),
        format!("{}: {}\n", summary.name, setup(summary).join("\n  ")),
    ];
    parts.push(latencies(summary).to_string());
    parts.push(counts(summary).to_string());
    parts.extend(errors(&summary.total).map(|errors| errors.to_string()));
    parts.push(remarks(summary).into_iter().map(|line| line + "\n").collect());
    let verdict = |verdict: &ThresholdVerdict| {
        let mark = if verdict.is_met { "ok    " } else { "BROKEN" };
        format!("{mark} {} = {}: {}\n", place(verdict), verdict.limit, value(verdict))
    };
    if !summary.thresholds.is_empty() {
        parts.push(summary.thresholds.iter().map(verdict).collect());
    }
    parts.join("\n")
}

/// A run in one sentence.
pub(super) struct Judgement {
    /// Nothing speaks against it.
    pub(super) is_good: bool,
    /// Why.
    pub(super) words: String,
}

/// Share of the intended rate from which on it counts as reached.
const REACHED: f64 = 0.99;

/// Whether a run is good: by its thresholds when it has any, else by failures and by the intended rate.
pub(super) fn verdict(summary: &Summary) -> Judgement {
    let total = &summary.total;
    let (met, limits) =
        (summary.thresholds.iter().filter(|verdict| verdict.is_met).count(), summary.thresholds.len());
    let mut words = Vec::new();
    if limits > 0 {
        words.push(format!("{met} of {limits} thresholds hold"));
    }
    words.push(match total.errors_by_code.iter().max_by_key(|(_, count)| **count) {
        _ if total.error_rate == 0.0 => "no call failed".to_owned(),
        Some((code, _)) => {
            format!("{} of the calls failed, most of them with {code}", percent(total.error_rate))
        }
        None => format!("{} of the calls failed", percent(total.error_rate)),
    });
    if let (Some(ratio), Some(intended)) = (total.achieved_ratio, total.intended_per_s) {
        words.push(format!("{} of the intended {}/s achieved", percent(ratio), number(intended)));
    }
    if summary.is_interrupted {
        words.push("interrupted".to_owned());
    }
    let is_healthy = total.error_rate == 0.0 && total.achieved_ratio.is_none_or(|ratio| ratio >= REACHED);
    let is_good = !summary.is_interrupted && if limits > 0 { met == limits } else { is_healthy };
    Judgement { is_good, words: words.join("; ") }
}

/// What was sent, in a few lines.
pub(super) fn setup(summary: &Summary) -> Vec<String> {
    let setup = &summary.setup;
    let threads =
        if setup.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", setup.threads) };
    let mut lines = vec![format!(
        "{} s after {} s of warm-up, {threads}",
        rounded(setup.duration_s),
        rounded(setup.warm_up_s)
    )];
    for load in &setup.loads {
        let connections = load.connections;
        let how = match load.rate {
            Some(rate) => {
                format!("open loop, {} calls/s over at most {connections} connections", number(rate))
            }
            None => format!("closed loop, {connections} connections"),
        };
        let name = if load.name.is_empty() { String::new() } else { format!("{}: ", load.name) };
        lines.push(format!("{name}{} to {}, {how}", load.mode, load.address));
    }
    lines
}

/// Three decimals at most: the end of an interrupted run has nine.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Latencies by function and stage.
pub(super) fn latencies(summary: &Summary) -> Table {
    let mut table = Table::new(["latency", "p50", "p90", "p99", "p99.9", "p99.99", "max", "mean"]);
    let mut row = |name: &str, latency: &Latency| {
        let quantiles = [latency.p50_ms, latency.p90_ms, latency.p99_ms, latency.p999_ms, latency.p9999_ms];
        let values = quantiles.into_iter().chain([latency.max_ms, latency.mean_ms]);
        // Without a value there is none to show: 0 would be the best of all.
        let show = |value: f64| if latency.count > 0 { time(value) } else { "-".to_owned() };
        table.row([name.to_owned()].into_iter().chain(values.map(show)));
    };
    for (name, figures) in lines(summary) {
        row(&name, &figures.latency);
    }
    if let Some(service) = &summary.total.service {
        row("  from sending", service);
    }
    if let Some(failed) = &summary.total.failed_latency {
        row("  of failures", failed);
    }
    table
}

/// Counts and rates by function and stage.
pub(super) fn counts(summary: &Summary) -> Table {
    let titles =
        ["calls", "success/s", "answers/s", "intended/s", "succeeded", "failed", "no answer", "errors"];
    let mut table = Table::new(titles);
    for (name, figures) in lines(summary) {
        table.row([
            name,
            number(figures.throughput_per_s),
            number(figures.answers_per_s),
            figures.intended_per_s.map_or_else(|| "-".to_owned(), number),
            number(figures.succeeded as f64),
            number(figures.failed as f64),
            number(figures.unanswered as f64),
            percent(figures.error_rate),
        ]);
    }
    table
}

/// Failures, each once: by code, those without one together; by status when none has a code. `None` without any.
pub(super) fn errors(figures: &Figures) -> Option<Table> {
    let mut table = Table::new(["failures", "calls"]);
    if figures.errors_by_code.is_empty() {
        for (status, count) in &figures.errors_by_status {
            table.row([format!("status {status}"), number(*count as f64)]);
        }
    }
    for (code, count) in &figures.errors_by_code {
        table.row([code.clone(), number(*count as f64)]);
    }
    let with_code: u64 = figures.errors_by_code.values().sum();
    let without = (figures.failed + figures.unanswered).saturating_sub(with_code);
    if without > 0 && with_code > 0 {
        table.row(["without a code".to_owned(), number(without as f64)]);
    }
    (table.rows().len() > 1).then_some(table)
}

/// What became of `Retry-After`; what server and load generator used.
pub(super) fn remarks(summary: &Summary) -> Vec<String> {
    let mut lines = Vec::new();
    if summary.is_interrupted {
        lines.push(INTERRUPTED.to_owned());
    }
    if let Some(retry_after) = &summary.total.retry_after {
        lines.push(format!(
            "Retry-After: {} calls were told to wait {:.1} s on average, {} called again, {} ({}) were admitted at the \
             first retry, {} at a later one",
            retry_after.told,
            retry_after.told_s_mean,
            retry_after.retried,
            retry_after.first_retry_admitted,
            percent(retry_after.first_retry_admitted_ratio),
            retry_after.later_retry_admitted
        ));
    }
    if let Some(server) = &summary.server {
        let memory = server.resident_bytes_max.map(|max| {
            let over_time = server.memory.map(|memory| {
                let (start, end) = (bytes(memory.start_bytes as f64), bytes(memory.end_bytes as f64));
                format!(", from {start} to {end} ({:+.1} %)", memory.growth_ratio * 100.0)
            });
            format!(", at most {}{}", bytes(max as f64), over_time.unwrap_or_default())
        });
        lines.push(format!(
            "server ({}): {:.1} µs CPU per answer, {:.2} cores{}",
            server.source,
            server.cpu_us_per_answer,
            server.cores,
            memory.unwrap_or_default()
        ));
    }
    let harness = &summary.harness;
    lines.push(format!(
        "loadtest: {:.1} µs CPU per answer, {:.2} cores",
        harness.cpu_us_per_answer, harness.cores
    ));
    // A core that is away for a moment makes everybody wait who came in that moment.
    if let Some(stolen_cores) = summary.stolen_cores.filter(|cores| *cores >= 0.005) {
        lines.push(format!(
            "machine: its host took {stolen_cores:.3} cores away; the slowest answers are in part its own"
        ));
    }
    // A thread that has no time left measures itself.
    if harness.cores > 0.9 * summary.setup.threads as f64 {
        lines.push("loadtest itself was the limit: give it more --threads, or another machine".to_owned());
    }
    lines
}

/// What a limit is about.
pub(super) fn place(verdict: &ThresholdVerdict) -> String {
    verdict.function.as_deref().map(|name| format!("{name}: ")).unwrap_or_default() + &verdict.key
}

/// The value that was compared with the limit.
pub(super) fn value(verdict: &ThresholdVerdict) -> String {
    verdict.value.map_or_else(|| "no value".to_owned(), |value| rounded(value).to_string())
}

/// Functions, their stages, then all together.
fn lines(summary: &Summary) -> Vec<(String, &Figures)> {
    let mut lines = Vec::new();
    for function in &summary.functions {
        lines.push((function.name.clone(), &function.figures));
        lines.extend(function.phases.iter().map(|phase| (format!("  {}", phase.name), &phase.figures)));
    }
    if summary.functions.len() > 1 {
        lines.push(("all".to_owned(), &summary.total));
    }
    lines
}
