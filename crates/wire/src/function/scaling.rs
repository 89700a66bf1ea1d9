//! `scalingConfig`: reading it, its defaults, its rules.
//!
//! It matters only for functions with mode DEPLOYMENT: there it is always present, and checked. For the other
//! modes it is kept when it was given, so that clients read back what they wrote, but only its types are
//! checked: the Java original takes any values there, and nothing ever looks at them.

use serde_json::Value;

use super::{
    ConcurrencyControl, ConcurrencyMode, ScalingConfig, ScalingMetric, ScalingStrategy,
    fields::{Choices, Fields, Violations, object, quote},
};

const STRATEGIES: Choices<ScalingStrategy> = &[
    ("HPA", ScalingStrategy::Hpa),
    ("INTERNAL", ScalingStrategy::Internal),
    ("NONE", ScalingStrategy::None),
];

const CONCURRENCY_MODES: Choices<ConcurrencyMode> = &[
    ("FIXED", ConcurrencyMode::Fixed),
    ("STATIC_PER_POD", ConcurrencyMode::StaticPerPod),
    ("ADAPTIVE_PER_POD", ConcurrencyMode::AdaptivePerPod),
];

/// What the server itself can measure.
const INTERNAL_METRICS: [&str; 3] = ["queue_depth", "in_flight", "rps"];

const REPLICAS_MIN: u32 = 1;
const REPLICAS_MAX: u32 = 10;

/// Any integer of 32 bits, also the negative ones that normalising lifts to 1.
const ANY_INT: std::ops::RangeInclusive<i64> = i32::MIN as i64..=u32::MAX as i64;

impl Default for ScalingConfig {
    fn default() -> Self {
        ScalingConfig {
            strategy: ScalingStrategy::Internal,
            min_replicas: REPLICAS_MIN,
            max_replicas: REPLICAS_MAX,
            metrics: vec![default_metric()],
            concurrency_control: ConcurrencyControl::FIXED,
        }
    }
}

impl ConcurrencyControl {
    /// Calls in flight do not follow the replicas.
    pub const FIXED: ConcurrencyControl = ConcurrencyControl {
        mode: ConcurrencyMode::Fixed,
        target_in_flight_per_pod: None,
        min_target_in_flight_per_pod: None,
        max_target_in_flight_per_pod: None,
        upscale_cooldown_ms: None,
        downscale_cooldown_ms: None,
        high_load_threshold: None,
        low_load_threshold: None,
    };
}

fn default_metric() -> ScalingMetric {
    ScalingMetric { kind: "queue_depth".to_owned(), target: Some("5".to_owned()), query: None }
}

/// Reads a `scalingConfig`. `enforced`: the function's mode is DEPLOYMENT, so the values have to make sense.
pub(super) fn read(fields: &Fields<'_>, enforced: bool, violations: &mut Violations) -> ScalingConfig {
    let strategy = fields.choice("strategy", STRATEGIES, violations).unwrap_or(ScalingStrategy::Internal);
    let metrics = metrics(fields, violations);
    let min_replicas = replicas(fields, "minReplicas", 0, enforced, violations).unwrap_or(REPLICAS_MIN);
    let max_replicas = replicas(fields, "maxReplicas", 1, enforced, violations).unwrap_or(REPLICAS_MAX);
    let concurrency_control = fields
        .object("concurrencyControl", violations)
        .map_or(ConcurrencyControl::FIXED, |control| concurrency_control(&control, violations));
    let config = ScalingConfig { strategy, min_replicas, max_replicas, metrics, concurrency_control };
    if enforced {
        check(fields, &config, violations);
    }
    config
}

/// The bounds are checked here rather than by type, for the original's words.
fn replicas(
    fields: &Fields<'_>,
    name: &str,
    least: i64,
    enforced: bool,
    violations: &mut Violations,
) -> Option<u32> {
    let value = fields.integer(name, ANY_INT, violations)?;
    if enforced && value < least {
        violations.push(&fields.path(name), &format!("{name} must be >= {least}"));
        return None;
    }
    Some(u32::try_from(value).unwrap_or(0))
}

fn check(fields: &Fields<'_>, config: &ScalingConfig, violations: &mut Violations) {
    if config.strategy == ScalingStrategy::Internal {
        for (index, metric) in config.metrics.iter().enumerate() {
            if !INTERNAL_METRICS.contains(&metric.kind.as_str()) {
                violations.push(
                    &fields.path(&format!("metrics[{index}].type")),
                    &format!(
                        "Unsupported INTERNAL scaling metric: {}; use one of {}",
                        quote(&metric.kind),
                        INTERNAL_METRICS.join(", ")
                    ),
                );
            }
        }
    }
    if config.min_replicas > config.max_replicas {
        violations.push(&fields.path("minReplicas"), "minReplicas must be <= maxReplicas");
    }
}

fn metrics(fields: &Fields<'_>, violations: &mut Violations) -> Vec<ScalingMetric> {
    let elements = fields.elements("metrics", violations).unwrap_or_default();
    if elements.is_empty() {
        return vec![default_metric()];
    }
    elements.into_iter().filter_map(|(path, value)| metric(&path, value, violations)).collect()
}

fn metric(path: &str, value: &Value, violations: &mut Violations) -> Option<ScalingMetric> {
    let fields = object(path, value, violations)?;
    if fields.get("type").is_none() {
        violations.push(&fields.path("type"), "is required: name the metric, such as queue_depth");
        return None;
    }
    let kind = fields.text_not_blank("type", violations).map(str::to_owned);
    let target = fields.text("target", violations).map(str::to_owned);
    let query = fields.text("query", violations).map(str::to_owned);
    Some(ScalingMetric { kind: kind?, target, query })
}

/// Without a mode, or with FIXED, all other values are dropped; else they are completed and brought into order.
fn concurrency_control(fields: &Fields<'_>, violations: &mut Violations) -> ConcurrencyControl {
    let mode = fields.choice("mode", CONCURRENCY_MODES, violations).unwrap_or(ConcurrencyMode::Fixed);
    let mut per_pod = |name| {
        let value = fields.integer(name, ANY_INT, violations)?;
        Some(u32::try_from(value.max(1)).unwrap_or(1))
    };
    let target = per_pod("targetInFlightPerPod").unwrap_or(2);
    let min = per_pod("minTargetInFlightPerPod").unwrap_or(1);
    let max = per_pod("maxTargetInFlightPerPod").unwrap_or(8);
    let min = min.min(max);
    let mut cooldown_ms =
        |name| fields.integer(name, 0..=i64::MAX, violations).and_then(|value| u64::try_from(value).ok());
    let upscale_cooldown_ms = cooldown_ms("upscaleCooldownMs").unwrap_or(30_000);
    let downscale_cooldown_ms = cooldown_ms("downscaleCooldownMs").unwrap_or(60_000);
    let high_load_threshold = fields.number("highLoadThreshold", violations).unwrap_or(0.85);
    let low_load_threshold = fields.number("lowLoadThreshold", violations).unwrap_or(0.35);
    if mode == ConcurrencyMode::Fixed {
        return ConcurrencyControl::FIXED;
    }
    ConcurrencyControl {
        mode,
        target_in_flight_per_pod: Some(target.clamp(min, max)),
        min_target_in_flight_per_pod: Some(min),
        max_target_in_flight_per_pod: Some(max),
        upscale_cooldown_ms: Some(upscale_cooldown_ms),
        downscale_cooldown_ms: Some(downscale_cooldown_ms),
        high_load_threshold: Some(high_load_threshold),
        low_load_threshold: Some(low_load_threshold),
    }
}
