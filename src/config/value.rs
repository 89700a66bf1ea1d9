//! Types of settings: how text becomes a value, and a value text.

use std::{fmt, net::IpAddr, net::SocketAddr, ops::RangeInclusive, path::PathBuf, time::Duration};

use nanofaas_base::duration::{DurationError, parse_duration};
use serde_json::{Value as Json, json};

use super::quantity::{parse_bytes, parse_whole, show_bytes, show_duration};

/// Whether one thread per worker does everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// Connections, outgoing calls and the shard of a worker share a thread.
    Colocated,
    /// Shards have threads of their own. Kept to compare.
    Split,
}

/// What runs the replicas of a DEPLOYMENT function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BackendKind {
    /// Local processes under the watchdog.
    Process,
    /// Containers through the Docker Engine API.
    Container,
    /// Deployments in Kubernetes.
    K8s,
}

impl BackendKind {
    /// Those that this version has. The others are names of the contract, and refused with a reason of their own.
    pub const BUILT_IN: &[BackendKind] = &[
        BackendKind::Process,
        #[cfg(feature = "kubernetes")]
        BackendKind::K8s,
    ];

    /// This version has it.
    pub fn is_built_in(self) -> bool {
        BackendKind::BUILT_IN.contains(&self)
    }
}

/// When Kubernetes pulls a function's image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// Before every start of a replica.
    Always,
    /// When the node does not have it.
    IfNotPresent,
    /// Never: the node must have it.
    Never,
}

/// Where functions are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FunctionSource {
    /// What the HTTP API is told counts.
    Api,
    /// Resources of Kubernetes count, and the HTTP API writes them.
    Crd,
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// 256 random bits as hexadecimal text; `None` when the operating system has no randomness to give.
    pub(super) fn random() -> Option<Secret> {
        let mut bits = [0u8; 32];
        getrandom::fill(&mut bits).ok()?;
        Some(Secret(bits.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// The text itself, for the code that signs with it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(********)")
    }
}

/// A text that is not a value of its setting. Says what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(String);

impl ValueError {
    pub(super) fn expected(text: &str, what: &str) -> ValueError {
        ValueError(format!("{text:?} is not {what}"))
    }

    pub(super) fn out_of_range(
        text: &str,
        range: &RangeInclusive<u128>,
        like: &dyn Setting,
        unit: Unit,
    ) -> ValueError {
        let show = |bound: &u128| like.show_magnitude(*bound, unit);
        ValueError(format!("{text} is not between {} and {}", show(range.start()), show(range.end())))
    }
}

impl From<DurationError> for ValueError {
    fn from(error: DurationError) -> ValueError {
        ValueError(error.to_string())
    }
}

/// What a bare number means, and how a value is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    None,
    Millis,
    Bytes,
}

impl Unit {
    /// The unit is the last word of a key.
    pub(super) fn of(name: &str) -> Unit {
        match name.rsplit(['-', '.']).next() {
            Some("ms") => Unit::Millis,
            Some("bytes") => Unit::Bytes,
            _ => Unit::None,
        }
    }
}

/// A setting of any type, as the table sees it.
pub(super) trait Setting {
    fn set(&mut self, text: &str, unit: Unit) -> Result<(), ValueError>;
    fn show(&self, unit: Unit) -> Option<String>;
    fn json(&self, unit: Unit) -> Json;
    fn magnitude(&self) -> Option<u128>;
    fn show_magnitude(&self, magnitude: u128, unit: Unit) -> String;
    fn is_list(&self) -> bool;
}

/// A type that a setting can have.
pub(super) trait Value: Sized {
    const IS_LIST: bool = false;
    fn parse(text: &str, unit: Unit) -> Result<Self, ValueError>;
    /// `None` when unset.
    fn show(&self, unit: Unit) -> Option<String>;
    fn json(&self, unit: Unit) -> Json {
        self.show(unit).map_or(Json::Null, Json::String)
    }
    /// The number that a range is compared with.
    fn magnitude(&self) -> Option<u128> {
        None
    }
    fn show_magnitude(magnitude: u128, unit: Unit) -> String {
        match unit {
            Unit::Bytes => show_bytes(magnitude),
            Unit::None | Unit::Millis => magnitude.to_string(),
        }
    }
}

impl<T: Value> Setting for T {
    fn set(&mut self, text: &str, unit: Unit) -> Result<(), ValueError> {
        *self = T::parse(text, unit)?;
        Ok(())
    }
    fn show(&self, unit: Unit) -> Option<String> {
        Value::show(self, unit)
    }
    fn json(&self, unit: Unit) -> Json {
        Value::json(self, unit)
    }
    fn magnitude(&self) -> Option<u128> {
        Value::magnitude(self)
    }
    fn show_magnitude(&self, magnitude: u128, unit: Unit) -> String {
        <T as Value>::show_magnitude(magnitude, unit)
    }
    fn is_list(&self) -> bool {
        T::IS_LIST
    }
}

macro_rules! numbers {
    ($($number:ty),*) => { $(
        impl Value for $number {
            fn parse(text: &str, unit: Unit) -> Result<Self, ValueError> {
                let number = match unit {
                    Unit::Bytes => parse_bytes(text)?,
                    Unit::None | Unit::Millis => parse_whole(text)?,
                };
                <$number>::try_from(number)
                    .map_err(|_| ValueError(format!("{text} is more than {}", <$number>::MAX)))
            }
            fn show(&self, unit: Unit) -> Option<String> {
                Some(<$number as Value>::show_magnitude(*self as u128, unit))
            }
            fn json(&self, _: Unit) -> Json {
                json!(self)
            }
            fn magnitude(&self) -> Option<u128> {
                Some(*self as u128)
            }
        }
    )* };
}
numbers!(u16, u32, u64, usize);

impl Value for bool {
    fn parse(text: &str, _: Unit) -> Result<Self, ValueError> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Ok(true),
            "false" | "no" | "off" | "0" => Ok(false),
            _ => Err(ValueError::expected(text, "true or false")),
        }
    }
    fn show(&self, _: Unit) -> Option<String> {
        Some(self.to_string())
    }
    fn json(&self, _: Unit) -> Json {
        json!(self)
    }
}

impl Value for Duration {
    fn parse(text: &str, _: Unit) -> Result<Self, ValueError> {
        Ok(parse_duration(text)?)
    }
    fn show(&self, unit: Unit) -> Option<String> {
        Some(show_duration(*self, unit))
    }
    fn json(&self, unit: Unit) -> Json {
        match unit {
            Unit::Millis => json!(u64::try_from(self.as_millis()).unwrap_or(u64::MAX)),
            Unit::None | Unit::Bytes => json!(show_duration(*self, unit)),
        }
    }
    fn magnitude(&self) -> Option<u128> {
        Some(self.as_millis())
    }
    fn show_magnitude(magnitude: u128, unit: Unit) -> String {
        show_duration(Duration::from_millis(u64::try_from(magnitude).unwrap_or(u64::MAX)), unit)
    }
}

impl Value for IpAddr {
    fn parse(text: &str, _: Unit) -> Result<Self, ValueError> {
        match text {
            "localhost" => Ok(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)),
            _ => text.parse().map_err(|_| {
                ValueError::expected(text, "an IP address, such as 127.0.0.1, or 0.0.0.0 for all")
            }),
        }
    }
    fn show(&self, _: Unit) -> Option<String> {
        Some(self.to_string())
    }
}

impl Value for SocketAddr {
    fn parse(text: &str, _: Unit) -> Result<Self, ValueError> {
        text.parse()
            .map_err(|_| ValueError::expected(text, "an IP address with a port, such as 127.0.0.1:8082"))
    }
    fn show(&self, _: Unit) -> Option<String> {
        Some(self.to_string())
    }
}

impl Value for PathBuf {
    fn parse(text: &str, _: Unit) -> Result<Self, ValueError> {
        if text.is_empty() { Err(ValueError::expected(text, "a path")) } else { Ok(PathBuf::from(text)) }
    }
    fn show(&self, _: Unit) -> Option<String> {
        Some(self.display().to_string())
    }
}

impl Value for String {
    fn parse(text: &str, _: Unit) -> Result<Self, ValueError> {
        Ok(text.to_owned())
    }
    fn show(&self, _: Unit) -> Option<String> {
        Some(self.clone())
    }
}

impl Value for Secret {
    fn parse(text: &str, _: Unit) -> Result<Self, ValueError> {
        Ok(Secret(text.to_owned()))
    }
    fn show(&self, _: Unit) -> Option<String> {
        Some("********".to_owned())
    }
}

impl<T: Value> Value for Option<T> {
    fn parse(text: &str, unit: Unit) -> Result<Self, ValueError> {
        if text.is_empty() { Ok(None) } else { T::parse(text, unit).map(Some) }
    }
    fn show(&self, unit: Unit) -> Option<String> {
        self.as_ref().and_then(|value| value.show(unit))
    }
    fn json(&self, unit: Unit) -> Json {
        self.as_ref().map_or(Json::Null, |value| value.json(unit))
    }
    fn magnitude(&self) -> Option<u128> {
        self.as_ref().and_then(Value::magnitude)
    }
    fn show_magnitude(magnitude: u128, unit: Unit) -> String {
        T::show_magnitude(magnitude, unit)
    }
}

/// Values separated by commas.
impl<T: Value> Value for Vec<T> {
    const IS_LIST: bool = true;
    fn parse(text: &str, unit: Unit) -> Result<Self, ValueError> {
        let values = text.split(',').map(str::trim).filter(|value| !value.is_empty());
        values.map(|value| T::parse(value, unit)).collect()
    }
    fn show(&self, unit: Unit) -> Option<String> {
        let values: Vec<String> = self.iter().filter_map(|value| value.show(unit)).collect();
        if values.is_empty() { None } else { Some(values.join(",")) }
    }
    fn json(&self, unit: Unit) -> Json {
        self.iter().map(|value| value.json(unit)).collect()
    }
}

/// Enumerations are written by name; upper and lower case do not matter.
macro_rules! names {
    ($($Type:ident { $($variant:ident = $name:literal),+ })*) => { $(
        impl $Type {
            /// The name, as configuration, API and messages write it.
            pub fn as_str(self) -> &'static str {
                match self { $($Type::$variant => $name),+ }
            }
        }

        impl fmt::Display for $Type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.as_str())
            }
        }

        impl Value for $Type {
            fn parse(text: &str, _: Unit) -> Result<Self, ValueError> {
                $(if text.eq_ignore_ascii_case($name) { return Ok($Type::$variant); })+
                Err(ValueError::expected(text, &format!("one of {}", [$($name),+].join(", "))))
            }
            fn show(&self, _: Unit) -> Option<String> {
                Some(self.as_str().to_owned())
            }
        }
    )* };
}
names! {
    Placement { Colocated = "colocated", Split = "split" }
    BackendKind { Process = "process", Container = "container", K8s = "k8s" }
    FunctionSource { Api = "api", Crd = "crd" }
    PullPolicy { Always = "Always", IfNotPresent = "IfNotPresent", Never = "Never" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::new("open sesame");
        assert!(!format!("{secret:?}").contains("sesame"));
        assert_eq!(Value::show(&secret, Unit::None), Some("********".into()));
        assert_eq!(Value::json(&Some(secret), Unit::None), json!("********"));
    }
}
