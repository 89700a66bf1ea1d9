//! What has to hold at the end of a run.

/// A number of the summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Latency at a quantile, given in hundredths of a percent, in milliseconds.
    Quantile(u32),
    /// Mean latency in milliseconds.
    Mean,
    /// Longest latency in milliseconds.
    Max,
    /// Share of the calls that failed, from 0 to 1.
    ErrorRate,
    /// Answers per second in proportion to the intended rate.
    AchievedRate,
    /// Successes per second.
    Throughput,
    /// Share of the calls told to wait that succeeded at their first retry, from 0 to 1.
    FirstRetryAdmitted,
    /// The server's CPU time per answer in microseconds.
    ServerCpu,
    /// Latency at the 99th percentile in proportion to the median.
    P99ToP50,
    /// Share by which the server's memory grew in the measured time.
    ServerMemoryGrowth,
}

impl Measure {
    /// Whether it is a number of the server as a whole, which no function has.
    pub fn is_about_the_server(self) -> bool {
        matches!(self, Measure::ServerCpu | Measure::ServerMemoryGrowth)
    }
}

/// One limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    /// Its key in the scenario.
    pub key: String,
    /// What is limited.
    pub measure: Measure,
    /// Whether the limit is a least, not a most.
    pub is_least: bool,
    /// The limit, in the unit of the measure.
    pub limit: f64,
    /// Only this function.
    pub function: Option<String>,
}

impl Threshold {
    /// All keys.
    pub const KEYS: [(&'static str, Measure, bool); 14] = [
        ("p50_ms", Measure::Quantile(5000), false),
        ("p90_ms", Measure::Quantile(9000), false),
        ("p95_ms", Measure::Quantile(9500), false),
        ("p99_ms", Measure::Quantile(9900), false),
        ("p999_ms", Measure::Quantile(9990), false),
        ("mean_ms", Measure::Mean, false),
        ("max_ms", Measure::Max, false),
        ("error_rate", Measure::ErrorRate, false),
        ("achieved_rate_min", Measure::AchievedRate, true),
        ("throughput_min", Measure::Throughput, true),
        ("first_retry_admitted_min", Measure::FirstRetryAdmitted, true),
        ("server_cpu_us_max", Measure::ServerCpu, false),
        ("p99_to_p50_max", Measure::P99ToP50, false),
        ("server_memory_growth_max", Measure::ServerMemoryGrowth, false),
    ];

    /// The limit with this key; `None` for an unknown key.
    pub fn new(key: &str, limit: f64, function: Option<&str>) -> Option<Threshold> {
        let (key, measure, is_least) = Threshold::KEYS.iter().copied().find(|(known, ..)| *known == key)?;
        Some(Threshold {
            key: key.to_owned(),
            measure,
            is_least,
            limit,
            function: function.map(str::to_owned),
        })
    }

    /// Whether a value is within the limit.
    pub fn is_met(&self, value: f64) -> bool {
        if self.is_least { value >= self.limit } else { value <= self.limit }
    }
}
