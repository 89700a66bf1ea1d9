//! The runtime configuration on the wire: the snapshot, changes to it, and the rules that a changed one must keep.

use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    envelope::malformed,
    error::ApiError,
    function::{QUEUE_SIZE_MAX, Registration},
    result::to_json,
};
use crate::suggest::nearest;

/// Longest duration and timeout, in milliseconds.
const DAY_MS: u64 = 86_400_000;

/// What can be changed while the server runs. Serialised, it is the answer to `GET`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Counts changes, from 0.
    pub revision: u64,
    /// Invocations admitted per second.
    pub rate_max_per_second: u32,
    /// `timeoutMs` of functions registered from now on without one.
    pub default_timeout_ms: u32,
    /// The same for `concurrency`.
    pub default_concurrency: u32,
    /// The same for `queueSize`.
    pub default_queue_size: u32,
    /// The same for `maxRetries`.
    pub default_max_retries: u32,
    /// The sync queue is on.
    pub sync_queue_enabled: bool,
    /// It refuses by estimated wait as well.
    pub sync_queue_admission_enabled: bool,
    /// Longest estimated wait that is admitted.
    #[serde(serialize_with = "iso")]
    pub sync_queue_max_estimated_wait: Duration,
    /// Longest time in the queue.
    #[serde(serialize_with = "iso")]
    pub sync_queue_max_queue_wait: Duration,
    /// The least that a refusal says in `Retry-After`.
    pub sync_queue_retry_after_seconds: u32,
}

/// Changes to a snapshot, as sent. A value of a wrong type is kept as a complaint.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Patch {
    /// The revision that the sender has seen.
    pub expected_revision: Option<u64>,
    fields: Map<String, Value>,
    complaints: Vec<String>,
}

/// Why a change is not made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Rejection {
    /// A duration is none.
    #[error("{field} must be an ISO-8601 duration, such as PT2S or PT0.5S")]
    Duration {
        /// The field.
        field: &'static str,
        /// What was sent.
        value: String,
    },
    /// The snapshot would break rules: all of them.
    #[error("The changed configuration is not valid")]
    Invalid(Vec<String>),
    /// Somebody else was faster.
    #[error(
        "Expected revision {expected}, but the current one is {current}; read it again and repeat the change"
    )]
    Revision {
        /// What was sent.
        expected: u64,
        /// What is.
        current: u64,
    },
    /// A shard did not take it in time.
    #[error("Shard {shard} did not take the change in time, so it was rolled back everywhere; try again")]
    RolledBack {
        /// The first one.
        shard: u16,
    },
}

const FIELDS: [&str; 10] = [
    "rateMaxPerSecond",
    "defaultTimeoutMs",
    "defaultConcurrency",
    "defaultQueueSize",
    "defaultMaxRetries",
    "syncQueueEnabled",
    "syncQueueAdmissionEnabled",
    "syncQueueMaxEstimatedWait",
    "syncQueueMaxQueueWait",
    "syncQueueRetryAfterSeconds",
];
/// What only matters while the sync queue is on.
const SYNC_QUEUE_FIELDS: &[&str] = FIELDS.split_at(6).1;

impl Snapshot {
    /// What registrations are resolved against.
    pub fn registration(&self, image_optional: bool, pods: bool) -> Registration {
        Registration {
            default_timeout_ms: self.default_timeout_ms,
            default_concurrency: self.default_concurrency,
            default_queue_size: self.default_queue_size,
            default_max_retries: self.default_max_retries,
            image_optional,
            pods,
        }
    }

    /// The answer to `GET`.
    pub fn document(&self) -> Vec<u8> {
        to_json(self)
    }

    /// The answer to a change that was made.
    pub fn applied(&self, change_id: &str, warnings: &[String]) -> Vec<u8> {
        to_json(&json!({
            "revision": self.revision,
            "effectiveConfig": self,
            "appliedAt": Timestamp::now().to_string(),
            "changeId": change_id,
            "warnings": warnings,
        }))
    }

    fn breaches(&self) -> Vec<String> {
        let mut breaches = Vec::new();
        let mut check = |field: &str, value: u64, range: std::ops::RangeInclusive<u64>| {
            if !range.contains(&value) {
                let (least, most) = (range.start(), range.end());
                breaches.push(format!("{field} must be from {least} to {most}, got {value}"));
            }
        };
        check("defaultTimeoutMs", self.default_timeout_ms.into(), 1..=DAY_MS);
        check("defaultConcurrency", self.default_concurrency.into(), 1..=u32::MAX.into());
        check("defaultQueueSize", self.default_queue_size.into(), 1..=QUEUE_SIZE_MAX.into());
        check("defaultMaxRetries", self.default_max_retries.into(), 0..=100);
        check("syncQueueRetryAfterSeconds", self.sync_queue_retry_after_seconds.into(), 1..=86_400);
        let mut sound = true;
        for (field, wait) in [
            ("syncQueueMaxEstimatedWait", self.sync_queue_max_estimated_wait),
            ("syncQueueMaxQueueWait", self.sync_queue_max_queue_wait),
        ] {
            if !(Duration::from_millis(1)..=Duration::from_millis(DAY_MS)).contains(&wait) {
                breaches.push(format!("{field} must be from PT0.001S to PT24H"));
                sound = false;
            }
        }
        if sound && self.sync_queue_max_estimated_wait > self.sync_queue_max_queue_wait {
            breaches.push("syncQueueMaxEstimatedWait must be <= syncQueueMaxQueueWait".to_owned());
        }
        breaches
    }
}

impl Patch {
    /// Reads a body. Absent and null fields are unchanged.
    ///
    /// # Errors
    /// When it is not a JSON object.
    pub fn parse(body: &[u8]) -> Result<Patch, ApiError> {
        let document: Value = serde_json::from_slice(body).map_err(|error| malformed(body, &error))?;
        let Value::Object(mut fields) = document else {
            return Err(ApiError::BadRequest("The body must be a JSON object".into()));
        };
        fields.retain(|_, value| !value.is_null());
        let mut patch = Patch::default();
        if let Some(revision) = fields.remove("expectedRevision") {
            match revision.as_u64() {
                Some(revision) => patch.expected_revision = Some(revision),
                None => {
                    let message = "expectedRevision must be a number, as read from `revision`";
                    return Err(ApiError::BadRequest(message.into()));
                }
            }
        }
        for (name, value) in fields {
            if FIELDS.contains(&name.as_str()) {
                patch.fields.insert(name, value);
                continue;
            }
            let meant = nearest(&name, FIELDS.iter().copied());
            let hint = meant.map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
            patch.complaints.push(format!("unknown field '{name}'{hint}"));
        }
        Ok(patch)
    }

    /// The snapshot with these changes, of the next revision, and what the sender may not expect of it.
    ///
    /// # Errors
    /// A duration that is none, then every rule that is broken, then a revision that is not the current one.
    pub fn merge(&self, current: &Snapshot) -> Result<(Snapshot, Vec<String>), Rejection> {
        let mut merged = current.clone();
        let mut complaints = self.complaints.clone();
        let durations: [(&'static str, &mut Duration); 2] = [
            ("syncQueueMaxEstimatedWait", &mut merged.sync_queue_max_estimated_wait),
            ("syncQueueMaxQueueWait", &mut merged.sync_queue_max_queue_wait),
        ];
        for (field, place) in durations {
            if let Some(value) = self.fields.get(field) {
                *place = duration(field, value)?;
            }
        }
        let numbers: [(&str, &mut u32); 6] = [
            ("rateMaxPerSecond", &mut merged.rate_max_per_second),
            ("defaultTimeoutMs", &mut merged.default_timeout_ms),
            ("defaultConcurrency", &mut merged.default_concurrency),
            ("defaultQueueSize", &mut merged.default_queue_size),
            ("defaultMaxRetries", &mut merged.default_max_retries),
            ("syncQueueRetryAfterSeconds", &mut merged.sync_queue_retry_after_seconds),
        ];
        for (field, place) in numbers {
            match self.fields.get(field) {
                None => {}
                Some(value) => match value.as_u64().and_then(|number| u32::try_from(number).ok()) {
                    Some(number) => *place = number,
                    None => complaints
                        .push(format!("{field} must be a whole number from 0 to {}, not {value}", u32::MAX)),
                },
            }
        }
        let flags: [(&str, &mut bool); 2] = [
            ("syncQueueEnabled", &mut merged.sync_queue_enabled),
            ("syncQueueAdmissionEnabled", &mut merged.sync_queue_admission_enabled),
        ];
        for (field, place) in flags {
            match self.fields.get(field) {
                None => {}
                Some(Value::Bool(flag)) => *place = *flag,
                Some(value) => complaints.push(format!("{field} must be true or false, not {value}")),
            }
        }
        complaints.extend(merged.breaches());
        if !complaints.is_empty() {
            return Err(Rejection::Invalid(complaints));
        }
        if let Some(expected) = self.expected_revision.filter(|expected| *expected != current.revision) {
            return Err(Rejection::Revision { expected, current: current.revision });
        }
        merged.revision += 1;
        let warnings = self.warnings(&merged);
        Ok((merged, warnings))
    }

    fn warnings(&self, merged: &Snapshot) -> Vec<String> {
        if merged.sync_queue_enabled {
            return Vec::new();
        }
        let idle = SYNC_QUEUE_FIELDS.iter().filter(|field| self.fields.contains_key(**field));
        idle.map(|field| format!("{field} has no effect while syncQueueEnabled is false")).collect()
    }
}

/// The answer of `validate`.
pub fn valid() -> Vec<u8> {
    to_json(&json!({ "valid": true }))
}

/// ISO-8601 only: the rest of what durations may look like elsewhere is for people.
fn duration(field: &'static str, value: &Value) -> Result<Duration, Rejection> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let iso = text.trim_start_matches(['+', '-']).starts_with(['P', 'p']);
    // A span, because a duration on its own has no days.
    let span = text.parse::<Span>().ok().filter(|_| iso);
    let parsed = span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
    match parsed {
        // One below zero breaks the rule that follows, in its own words.
        Some(duration) => Ok(Duration::try_from(duration).unwrap_or_default()),
        None => Err(Rejection::Duration { field, value: text }),
    }
}

fn iso<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    let signed = SignedDuration::try_from(*duration).unwrap_or(SignedDuration::MAX);
    serializer.collect_str(&signed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(body: &str) -> String {
        let current = Snapshot {
            revision: 7,
            rate_max_per_second: 1000,
            default_timeout_ms: 30_000,
            default_concurrency: 4,
            default_queue_size: 100,
            default_max_retries: 3,
            sync_queue_enabled: false,
            sync_queue_admission_enabled: true,
            sync_queue_max_estimated_wait: Duration::from_secs(2),
            sync_queue_max_queue_wait: Duration::from_secs(2),
            sync_queue_retry_after_seconds: 2,
        };
        let patch = match Patch::parse(body.as_bytes()) {
            Ok(patch) => patch,
            Err(error) => return format!("{error}"),
        };
        match patch.merge(&current) {
            Ok((snapshot, warnings)) => {
                let before = serde_json::to_value(&current).expect("JSON");
                let after = serde_json::to_value(&snapshot).expect("JSON");
                let fields = after.as_object().expect("an object").iter();
                let changed: Vec<_> = fields
                    .filter(|(name, value)| before[name.as_str()] != **value)
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                format!("{} warnings={}", changed.join(" "), warnings.len())
            }
            Err(Rejection::Invalid(errors)) => errors.join("; "),
            Err(rejection) => format!("{rejection:?}"),
        }
    }

    #[test]
    fn patches() {
        for (body, expected) in [
            ("{}", "revision=8 warnings=0"),
            (r#"{"rateMaxPerSecond":5,"defaultQueueSize":null}"#, "revision=8 rateMaxPerSecond=5 warnings=0"),
            (
                r#"{"syncQueueEnabled":true,"syncQueueMaxEstimatedWait":"PT0.5S"}"#,
                r#"revision=8 syncQueueEnabled=true syncQueueMaxEstimatedWait="PT0.5S" warnings=0"#,
            ),
            (r#"{"syncQueueMaxQueueWait":"PT60S"}"#, r#"revision=8 syncQueueMaxQueueWait="PT1M" warnings=1"#),
            (r#"{"syncQueueMaxQueueWait":"P1D"}"#, r#"revision=8 syncQueueMaxQueueWait="PT24H" warnings=1"#),
            (
                r#"{"syncQueueEnabled":true,"syncQueueMaxEstimatedWait":"PT0.001S","syncQueueMaxQueueWait":"pt0.0015s"}"#,
                r#"revision=8 syncQueueEnabled=true syncQueueMaxEstimatedWait="PT0.001S" syncQueueMaxQueueWait="PT0.0015S" warnings=0"#,
            ),
            (
                r#"{"syncQueueMaxEstimatedWait":"PT0S","syncQueueMaxQueueWait":"PT0.0009S"}"#,
                "syncQueueMaxEstimatedWait must be from PT0.001S to PT24H; syncQueueMaxQueueWait must be from PT0.001S to PT24H",
            ),
            (r#"{"syncQueueMaxQueueWait":"P1DT1S"}"#, "syncQueueMaxQueueWait must be from PT0.001S to PT24H"),
            (
                r#"{"syncQueueMaxQueueWait":"P1M"}"#,
                r#"Duration { field: "syncQueueMaxQueueWait", value: "P1M" }"#,
            ),
            (
                r#"{"syncQueueMaxQueueWait":"PT"}"#,
                r#"Duration { field: "syncQueueMaxQueueWait", value: "PT" }"#,
            ),
            (r#"{"syncQueueMaxQueueWait":""}"#, r#"Duration { field: "syncQueueMaxQueueWait", value: "" }"#),
            (
                r#"{"syncQueueMaxQueueWait":"5s"}"#,
                r#"Duration { field: "syncQueueMaxQueueWait", value: "5s" }"#,
            ),
            (r#"{"syncQueueMaxQueueWait":5}"#, r#"Duration { field: "syncQueueMaxQueueWait", value: "5" }"#),
            (
                r#"{"syncQueueMaxQueueWait":"-PT1S","defaultConcurrency":0,"expectedRevision":1}"#,
                "defaultConcurrency must be from 1 to 4294967295, got 0; syncQueueMaxQueueWait must be from PT0.001S to PT24H",
            ),
            (
                r#"{"syncQueueMaxEstimatedWait":"PT3S"}"#,
                "syncQueueMaxEstimatedWait must be <= syncQueueMaxQueueWait",
            ),
            (
                r#"{"rateMaxPerSecnd":1,"x":1,"defaultTimeoutMs":-1,"defaultMaxRetries":1.5,"syncQueueEnabled":"yes"}"#,
                "unknown field 'rateMaxPerSecnd'; did you mean rateMaxPerSecond?; unknown field 'x'; defaultTimeoutMs must be a whole number from 0 to 4294967295, not -1; defaultMaxRetries must be a whole number from 0 to 4294967295, not 1.5; syncQueueEnabled must be true or false, not \"yes\"",
            ),
            (
                r#"{"rateMaxPerSecond":4294967296,"defaultTimeoutMs":86400001,"defaultConcurrency":0,"defaultQueueSize":0,"defaultMaxRetries":101,"syncQueueRetryAfterSeconds":0}"#,
                "rateMaxPerSecond must be a whole number from 0 to 4294967295, not 4294967296; defaultTimeoutMs must be from 1 to 86400000, got 86400001; defaultConcurrency must be from 1 to 4294967295, got 0; defaultQueueSize must be from 1 to 1000000, got 0; defaultMaxRetries must be from 0 to 100, got 101; syncQueueRetryAfterSeconds must be from 1 to 86400, got 0",
            ),
            (r#"{"rateMaxPerSecond":0}"#, "revision=8 rateMaxPerSecond=0 warnings=0"),
            (r#"{"expectedRevision":6}"#, "Revision { expected: 6, current: 7 }"),
            (r#"{"expectedRevision":7}"#, "revision=8 warnings=0"),
            (r#"{"expectedRevision":-1}"#, "expectedRevision must be a number, as read from `revision`"),
            ("[]", "The body must be a JSON object"),
        ] {
            assert_eq!(merged(body), expected, "{body}");
        }
    }
}
