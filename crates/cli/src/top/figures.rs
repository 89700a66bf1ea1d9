//! Numbers in few characters, for columns.

use super::scrape::ReplicaCounts;

/// What stands for a number that is not known.
const UNKNOWN: &str = "-";

/// A rate: `0`, `0.25`, `7.5`, `120`, `12.3k`, `1.2M`.
pub(super) fn rate(rate: Option<f64>) -> String {
    match rate {
        None => UNKNOWN.to_owned(),
        Some(rate) if rate > 0.0 && rate < 0.005 => "<0.01".to_owned(),
        Some(rate) if (0.005..0.995).contains(&rate) => format!("{rate:.2}"),
        Some(rate) if rate < 9.95 && rate.fract() != 0.0 => format!("{rate:.1}"),
        Some(rate) => count(rate),
    }
}

/// A whole number: `0`, `9999`, `12.3k`, `120k`, `1.2M`.
pub(super) fn count(count: f64) -> String {
    match count {
        _ if count < 9_999.5 => format!("{count:.0}"),
        _ if count < 99_950.0 => format!("{:.1}k", count / 1e3),
        _ if count < 999_500.0 => format!("{:.0}k", count / 1e3),
        _ if count < 99_950_000.0 => format!("{:.1}M", count / 1e6),
        _ => format!("{:.0}M", count / 1e6),
    }
}

/// A time: `45µs`, `1.2ms`, `350ms`, `2.5s`, `45s`.
pub(super) fn duration(seconds: Option<f64>) -> String {
    let Some(seconds) = seconds else { return UNKNOWN.to_owned() };
    let (value, unit) = match seconds {
        _ if seconds < 0.000_999_5 => return format!("{:.0}µs", seconds * 1e6),
        _ if seconds < 0.999_5 => (seconds * 1e3, "ms"),
        _ => (seconds, "s"),
    };
    if value < 9.95 && value.fract() != 0.0 {
        format!("{value:.1}{unit}")
    } else {
        format!("{value:.0}{unit}")
    }
}

/// Slots in use of those there are: `3/4`.
pub(super) fn busy(in_flight: f64, concurrency: f64) -> String {
    format!("{}/{}", count(in_flight), count(concurrency))
}

/// Replicas that are ready of those wanted: `2/3`.
pub(super) fn replicas(replicas: Option<ReplicaCounts>) -> String {
    replicas.map_or(UNKNOWN.to_owned(), |it| format!("{}/{}", count(it.ready), count(it.desired)))
}

/// Memory: `45.2 MiB`.
pub(super) fn bytes(bytes: f64) -> String {
    match bytes {
        _ if bytes < 1024.0 * 1024.0 => format!("{:.0} KiB", bytes / 1024.0),
        _ if bytes < 1024.0 * 1024.0 * 1024.0 => format!("{:.1} MiB", bytes / 1_048_576.0),
        _ => format!("{:.2} GiB", bytes / 1_073_741_824.0),
    }
}

/// Busy processors, 100 % being one of them.
pub(super) fn cpus(cpus: Option<f64>) -> String {
    cpus.map_or(UNKNOWN.to_owned(), |cpus| format!("{:.0}%", cpus * 100.0))
}

/// Now, in seconds since the Unix epoch.
pub(super) fn now_seconds() -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0.0, |now| now.as_secs_f64())
}

/// How long a server has been running: `42s`, `12m04s`, `1h02m`, `3d04h`.
pub(super) fn uptime(started_seconds: f64, now_seconds: f64) -> String {
    if started_seconds <= 0.0 {
        return UNKNOWN.to_owned();
    }
    match (now_seconds - started_seconds).max(0.0) as u64 {
        seconds @ ..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        seconds @ 3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        seconds => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (value, expected) in [
            (None, "-"),
            (Some(0.0), "0"),
            (Some(0.001), "<0.01"),
            (Some(0.25), "0.25"),
            (Some(0.999), "1.0"),
            (Some(7.0), "7"),
            (Some(7.46), "7.5"),
            (Some(9.96), "10"),
            (Some(9_999.4), "9999"),
            (Some(12_345.0), "12.3k"),
            (Some(99_951.0), "100k"),
            (Some(999_999.0), "1.0M"),
            (Some(123_456_789.0), "123M"),
        ] {
            assert_eq!(rate(value), expected, "{value:?}");
        }
    }

    #[test]
    fn times() {
        for (value, expected) in [
            (None, "-"),
            (Some(0.000_045), "45µs"),
            (Some(0.000_999_9), "1.0ms"),
            (Some(0.001), "1ms"),
            (Some(0.001_25), "1.2ms"),
            (Some(0.35), "350ms"),
            (Some(0.999_9), "1.0s"),
            (Some(2.51), "2.5s"),
            (Some(75.0), "75s"),
        ] {
            assert_eq!(duration(value), expected, "{value:?}");
        }
        assert_eq!((uptime(100.0, 105.9), uptime(100.0, 90.0)), ("5s".to_owned(), "0s".to_owned()));
        assert_eq!((uptime(0.0, 5.0), uptime(100.0, 230.0)), ("-".to_owned(), "2m10s".to_owned()));
    }

    #[test]
    fn sizes() {
        for (value, expected) in
            [(1024.0, "1 KiB"), (47_395_635.0, "45.2 MiB"), (1_610_612_736.0, "1.50 GiB")]
        {
            assert_eq!(bytes(value), expected);
        }
        assert_eq!((busy(3.0, 4.0), cpus(Some(1.325))), ("3/4".to_owned(), "132%".to_owned()));
        assert_eq!(replicas(Some(ReplicaCounts { desired: 3.0, ready: 2.0 })), "2/3");
    }
}
