//! The summary for people.

use std::fmt::Write as _;

use super::{
    summary::{Figures, Latency, Summary},
    table::{Table, bytes, number, percent, time},
};

/// The summary as text, with a line end at its end.
pub fn text(summary: &Summary) -> String {
    // Writing to a string cannot fail.
    let mut text = String::new();
    let setup = &summary.setup;
    let _ = writeln!(
        text,
        "{}: {} s after {} s of warm-up, {} thread(s)",
        summary.name, setup.duration_s, setup.warm_up_s, setup.threads
    );
    for load in &setup.loads {
        let how = match load.rate {
            Some(rate) => {
                format!("open loop, {} calls/s over at most {} connections", number(rate), load.connections)
            }
            None => format!("closed loop, {} connections", load.connections),
        };
        let name = if load.name.is_empty() { String::new() } else { format!("{}: ", load.name) };
        let _ = writeln!(text, "  {name}{} to {}, {how}", load.mode, load.address);
    }
    let _ = writeln!(text, "\n{}", latencies(summary));
    let _ = writeln!(text, "{}", counts(summary));
    errors(&mut text, &summary.total);
    if let Some(retry_after) = &summary.total.retry_after {
        let _ = writeln!(
            text,
            "Retry-After: {} calls told to wait {:.1} s on average, {} called again, {} ({}) admitted at the first retry, {} later",
            retry_after.told,
            retry_after.told_s_mean,
            retry_after.retried,
            retry_after.first_retry_admitted,
            percent(retry_after.first_retry_admitted_ratio),
            retry_after.later_retry_admitted
        );
    }
    for (name, usage) in [("server", summary.server.as_ref()), ("loadtest", Some(&summary.harness))] {
        let Some(usage) = usage else { continue };
        let memory = usage.resident_bytes_max.map(|max| format!(", at most {}", bytes(max as f64)));
        let _ = writeln!(
            text,
            "{name}: {:.1} µs CPU per answer, {:.2} cores{}",
            usage.cpu_us_per_answer,
            usage.cores,
            memory.unwrap_or_default()
        );
    }
    for verdict in &summary.thresholds {
        let function = verdict.function.as_deref().map(|name| format!("{name}: ")).unwrap_or_default();
        let value = verdict.value.map_or_else(|| "no value".to_owned(), |value| format!("{}", round(value)));
        let mark = if verdict.is_met { "ok    " } else { "BROKEN" };
        let _ = writeln!(text, "{mark} {function}{} = {}: {value}", verdict.key, verdict.limit);
    }
    text
}

fn latencies(summary: &Summary) -> Table {
    let mut table = Table::new(["latency", "p50", "p90", "p99", "p99.9", "p99.99", "max", "mean"]);
    let mut row = |name: &str, latency: &Latency| {
        let values = [
            latency.p50_ms,
            latency.p90_ms,
            latency.p99_ms,
            latency.p999_ms,
            latency.p9999_ms,
            latency.max_ms,
            latency.mean_ms,
        ];
        table.row([name.to_owned()].into_iter().chain(values.map(time)));
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

fn counts(summary: &Summary) -> Table {
    let mut table = Table::new([
        "calls",
        "success/s",
        "answers/s",
        "intended/s",
        "succeeded",
        "failed",
        "no answer",
        "errors",
    ]);
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

fn errors(text: &mut String, figures: &Figures) {
    if figures.errors_by_status.is_empty() && figures.errors_by_code.is_empty() {
        return;
    }
    let _ = writeln!(text, "{:<28}  {:>10}", "errors", "calls");
    for (status, count) in &figures.errors_by_status {
        let _ = writeln!(text, "  status {status:<19}  {:>10}", number(*count as f64));
    }
    for (code, count) in &figures.errors_by_code {
        let _ = writeln!(text, "  {code:<26}  {:>10}", number(*count as f64));
    }
    text.push('\n');
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
