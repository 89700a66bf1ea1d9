//! Runs side by side: each value, its ratio to the first run's, and whether that is better or worse.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    Summary,
    summary::SCHEMA,
    table::{Table, bytes, number, percent, time},
};

/// Why a run cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// No file, or no access.
    #[error("cannot read {path}: {0}", path = .1.display())]
    Unreadable(std::io::Error, PathBuf),
    /// The file is no summary.
    #[error("{path} is no summary of this version: {0}", path = .1.display())]
    NoSummary(String, PathBuf),
}

/// A number of a summary.
struct Value {
    name: &'static str,
    better: Better,
    of: fn(&Summary) -> Option<f64>,
    show: fn(f64) -> String,
}

/// Which of two values is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Better {
    Higher,
    Lower,
    /// It says nothing about the server, or too little: twice a small growth is a small growth.
    Neither,
}

/// Least difference that is called better or worse: two runs of the same are as far apart.
const NOTABLE: f64 = 0.05;

/// What is compared, in this order.
const VALUES: [Value; 16] = [
    Value {
        name: "success/s",
        better: Better::Higher,
        of: |run| Some(run.total.throughput_per_s),
        show: number,
    },
    Value {
        name: "answers/s",
        better: Better::Neither,
        of: |run| Some(run.total.answers_per_s),
        show: number,
    },
    Value { name: "intended/s", better: Better::Neither, of: |run| run.total.intended_per_s, show: number },
    Value { name: "achieved", better: Better::Higher, of: |run| run.total.achieved_ratio, show: percent },
    Value { name: "errors", better: Better::Lower, of: |run| Some(run.total.error_rate), show: percent },
    Value { name: "p50", better: Better::Lower, of: |run| Some(run.total.latency.p50_ms), show: time },
    Value { name: "p90", better: Better::Lower, of: |run| Some(run.total.latency.p90_ms), show: time },
    Value { name: "p99", better: Better::Lower, of: |run| Some(run.total.latency.p99_ms), show: time },
    Value { name: "p99.9", better: Better::Lower, of: |run| Some(run.total.latency.p999_ms), show: time },
    Value { name: "max", better: Better::Lower, of: |run| Some(run.total.latency.max_ms), show: time },
    Value { name: "mean", better: Better::Lower, of: |run| Some(run.total.latency.mean_ms), show: time },
    Value {
        name: "first retry admitted",
        better: Better::Higher,
        of: |run| run.total.retry_after.as_ref().map(|retry_after| retry_after.first_retry_admitted_ratio),
        show: percent,
    },
    Value {
        name: "server CPU/answer",
        better: Better::Lower,
        of: |run| run.server.as_ref().map(|server| server.cpu_us_per_answer),
        show: micros,
    },
    Value {
        name: "server memory",
        better: Better::Lower,
        of: |run| run.server.as_ref()?.resident_bytes_max.map(|bytes| bytes as f64),
        show: bytes,
    },
    Value {
        name: "server memory growth",
        better: Better::Neither,
        of: |run| Some(run.server.as_ref()?.memory?.growth_ratio),
        show: percent,
    },
    Value {
        name: "loadtest CPU/answer",
        better: Better::Neither,
        of: |run| Some(run.harness.cpu_us_per_answer),
        show: micros,
    },
];

/// Reads the summary of a run: a directory that `--out` named, or the file in it. The name is what tells it from others.
pub fn read(path: &Path) -> Result<(String, Summary), CompareError> {
    let file = if path.is_dir() { path.join("summary.json") } else { path.to_owned() };
    let text = fs::read_to_string(&file).map_err(|error| CompareError::Unreadable(error, file.clone()))?;
    let summary: Summary = serde_json::from_str(&text)
        .map_err(|error| CompareError::NoSummary(error.to_string(), file.clone()))?;
    if summary.schema != SCHEMA {
        let what = format!("its schema is {}, not {SCHEMA}", summary.schema);
        return Err(CompareError::NoSummary(what, file));
    }
    let folder = if path.is_dir() { Some(path) } else { path.parent() };
    let name = folder.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    Ok((name.unwrap_or_else(|| summary.name.clone()), summary))
}

/// One row per value, one column per run.
pub fn table(runs: &[(String, Summary)]) -> Table {
    let mut table = Table::new([String::new()].into_iter().chain(runs.iter().map(|(name, _)| name.clone())));
    for value in &VALUES {
        let values: Vec<Option<f64>> = runs.iter().map(|(_, run)| (value.of)(run)).collect();
        if values.iter().all(Option::is_none) {
            continue;
        }
        let first = values.first().copied().flatten().filter(|first| *first > 0.0);
        let cells = values.iter().enumerate().map(|(index, found)| match (found, first) {
            (None, _) => "-".to_owned(),
            (Some(found), Some(first)) if index > 0 => {
                let ratio = found / first;
                format!("{} ({ratio:.2}{})", (value.show)(*found), judged(value.better, ratio))
            }
            // Nothing failed before, and now something does: there is no ratio.
            (Some(found), None)
                if index > 0 && value.better == Better::Lower && *found > 0.0 && is_zero(&values) =>
            {
                format!("{}{WORSE}", (value.show)(*found))
            }
            (Some(found), _) => (value.show)(*found),
        });
        table.row([value.name.to_owned()].into_iter().chain(cells));
    }
    table
}

const BETTER: &str = " better";
const WORSE: &str = " worse";

fn is_zero(values: &[Option<f64>]) -> bool {
    values.first().copied().flatten() == Some(0.0)
}

/// What a ratio to the first run means.
fn judged(better: Better, ratio: f64) -> &'static str {
    match better {
        Better::Neither => "",
        _ if (ratio - 1.0).abs() <= NOTABLE => "",
        Better::Higher if ratio > 1.0 => BETTER,
        Better::Lower if ratio < 1.0 => BETTER,
        Better::Higher | Better::Lower => WORSE,
    }
}

/// How a cell of the table looks on a page.
pub fn class_of(cell: &str) -> Option<&'static str> {
    let cell = cell.trim_end_matches(')');
    match () {
        () if cell.ends_with(BETTER) => Some("good"),
        () if cell.ends_with(WORSE) => Some("bad"),
        () => None,
    }
}

fn micros(us: f64) -> String {
    format!("{us:.1} µs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn better_and_worse() {
        for (better, ratio, expected) in [
            (Better::Higher, 1.2, BETTER),
            (Better::Higher, 0.8, WORSE),
            (Better::Lower, 0.8, BETTER),
            (Better::Lower, 1.2, WORSE),
            (Better::Lower, 1.04, ""),
            (Better::Neither, 9.0, ""),
        ] {
            assert_eq!(judged(better, ratio), expected, "{better:?} {ratio}");
        }
        assert_eq!(class_of("1 ms (0.50 better)"), Some("good"));
        assert_eq!(class_of("3 % worse"), Some("bad"));
        assert_eq!(class_of("1 ms (1.00)"), None);
    }
}
