//! Metrics of the store. With `--ephemeral` all of them are 0.

use nanofaas_store::Figures;

use super::prometheus::{Exposition, Kind, Labels};

/// Appends them.
pub fn render(text: &mut Exposition, figures: Figures) {
    for (name, kind, help, value) in [
        ("nanofaas_store_commits_total", Kind::Counter, "Commits that are on disk.", figures.commits),
        (
            "nanofaas_store_written_bytes_total",
            Kind::Counter,
            "Bytes written with these commits.",
            figures.written_bytes,
        ),
        (
            "nanofaas_store_bytes",
            Kind::Gauge,
            "Bytes of the log on disk; compaction removes forgotten records.",
            figures.bytes,
        ),
        (
            "nanofaas_store_results",
            Kind::Gauge,
            "Executions that have ended and can be read back from the log.",
            figures.results,
        ),
        (
            "nanofaas_store_reads_total",
            Kind::Counter,
            "Results that were looked for in the log.",
            figures.reads,
        ),
        (
            "nanofaas_store_read_errors_total",
            Kind::Counter,
            "Results that could not be read back: the log is damaged there, or the disk fails or hangs.",
            figures.read_errors,
        ),
        (
            "nanofaas_store_reads_refused_total",
            Kind::Counter,
            "Results that were not looked for: the disk hangs, or too many waited for it.",
            figures.reads_refused,
        ),
        (
            "nanofaas_store_refusing",
            Kind::Gauge,
            "1 while the disk rejects writes or hangs; durable operations fail with 503.",
            u64::from(figures.is_failing),
        ),
    ] {
        text.family(name, kind, help);
        text.sample(name, &Labels::NONE, value);
    }
}
