//! How a function is scaled, on the wire.

use serde_json::{Value, json};
use shard_core::scaling::{ConcurrencyControl, Decision, Metric, Rule, ScalingReport};

use super::result::to_json;

/// The answer to `GET /v1/functions/{name}/scaling`.
pub fn report(function: &str, report: &ScalingReport) -> Vec<u8> {
    let (desired, ready) = report.replicas;
    let (effective, configured) = report.concurrency;
    let decision = report.decision.as_ref().map(|(decision, _)| decision);
    let bounds = report.scaling.as_ref();
    to_json(&json!({
        "function": function,
        "enabled": report.enabled && report.scaling.is_some(),
        "reason": reason(report),
        "rule": decision.map(|decision| decision.rule.as_str()),
        "result": decision.map(|decision| decision.result),
        "before": decision.map(|decision| decision.before),
        "wanted": decision.map(|decision| decision.wanted),
        "inputs": decision.map_or_else(Vec::new, inputs),
        "cooldownLeftMillis": decision.map(|decision| decision.cooldown_left_us / 1000),
        "decidedAtMillis": report.decision.as_ref().map(|(_, at_ms)| at_ms),
        "nextEvaluationInMillis": report.next_ms,
        "replicas": {
            "desired": desired,
            "ready": ready,
            "min": bounds.map(|scaling| scaling.min_replicas),
            "max": bounds.map(|scaling| scaling.max_replicas),
        },
        "concurrency": {
            "mode": bounds.map_or("FIXED", |scaling| mode(&scaling.control)),
            "effective": effective,
            "configured": configured,
            "targetPerReplica": report.target_per_replica,
        },
        "failure": report.failure,
    }))
}

/// The word for a way of following the replicas, as in `scalingConfig`.
pub fn mode(control: &ConcurrencyControl) -> &'static str {
    match control {
        ConcurrencyControl::Fixed => "FIXED",
        ConcurrencyControl::StaticPerPod { .. } => "STATIC_PER_POD",
        ConcurrencyControl::AdaptivePerPod { .. } => "ADAPTIVE_PER_POD",
    }
}

/// The word for a metric, as in `scalingConfig`.
pub fn metric(metric: Metric) -> &'static str {
    match metric {
        Metric::QueueDepth => "queue_depth",
        Metric::InFlight => "in_flight",
        Metric::Rps => "rps",
    }
}

fn inputs(decision: &Decision) -> Vec<Value> {
    let input = |reading: &shard_core::scaling::Reading| {
        json!({
            "metric": metric(reading.metric),
            "value": reading.value,
            "target": reading.target,
            "wanted": reading.wanted,
        })
    };
    decision.readings.iter().map(input).collect()
}

/// The decision in words.
fn reason(report: &ScalingReport) -> String {
    if report.scaling.is_none() {
        return "The function's scaling strategy is not INTERNAL, so the server does not decide about its replicas; `nanofaas fn scale` does".to_owned();
    }
    if !report.enabled {
        return "The autoscaler is off; start the server with NANOFAAS_AUTOSCALER_ENABLED=true, or use `nanofaas fn scale`".to_owned();
    }
    let Some((decision, _)) = &report.decision else {
        return "No decision has been made yet".to_owned();
    };
    let asked = decision.readings.iter().max_by_key(|reading| reading.wanted);
    let asked = asked.filter(|reading| reading.wanted.is_some_and(|wanted| wanted > 0));
    let because = match asked {
        Some(reading) => format!(
            "{} is {}, and one replica is to have {}",
            metric(reading.metric),
            round(reading.value),
            round(reading.target)
        ),
        None if decision.kept_for_work => "something still waits or runs".to_owned(),
        None => "there is no load".to_owned(),
    };
    let (before, wanted, result) = (decision.before, decision.wanted, decision.result);
    let seconds = decision.cooldown_left_us.div_ceil(1_000_000);
    match decision.rule {
        Rule::Hold => format!("{before} replicas stay: {because}"),
        Rule::ScaleUp => format!("From {before} to {result} replicas: {because}"),
        Rule::FromZero => format!("Woken from zero to {result} replicas: {because}"),
        Rule::ScaleDown => format!("From {before} down to {result} replicas: {because}"),
        Rule::UpCooldown => {
            format!(
                "{before} replicas for {seconds} s more, though {wanted} are wanted: replicas were added a short while ago; {because}"
            )
        }
        Rule::DownCooldown => {
            format!(
                "{before} replicas for {seconds} s more, though {wanted} would do: their number changed a short while ago; {because}"
            )
        }
    }
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
