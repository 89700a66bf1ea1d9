//! The API `external.metrics.k8s.io/v1beta1`, by which a HorizontalPodAutoscaler asks for metrics: what is asked, and the
//! documents of the answers. Pure; [`delegation`] says who may ask. Its types are those of
//! [k8s.io/metrics](https://github.com/kubernetes/metrics/blob/master/pkg/apis/external_metrics/v1beta1/types.go).

pub mod delegation;

use std::time::SystemTime;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

/// The API's group.
pub const GROUP: &str = "external.metrics.k8s.io";
const VERSION: &str = "v1beta1";
/// The label of a function's objects by which a metric's function is selected.
const SELECTED_BY: &str = "function";
/// Functions that one question may be about.
const FUNCTIONS_MAX: usize = 64;

/// A metric that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Calls that wait, also those whose function has no replica.
    QueueDepth,
    /// Attempts that run.
    InFlight,
    /// Attempts that began per second.
    Rps,
}

impl Metric {
    /// All of them.
    pub const ALL: [Metric; 3] = [Metric::QueueDepth, Metric::InFlight, Metric::Rps];

    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Metric::QueueDepth => "nanofaas_queue_depth",
            Metric::InFlight => "nanofaas_in_flight",
            Metric::Rps => "nanofaas_rps",
        }
    }
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Which groups of APIs there are.
    Groups,
    /// Which versions the group has.
    Group,
    /// Which resources the version has.
    Resources,
    /// The values of a metric, of some functions.
    Values {
        /// The namespace.
        namespace: String,
        /// Which metric.
        metric: Metric,
        /// The functions, by the label of their objects.
        functions: Vec<String>,
    },
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// It is not known who asks.
    Unauthenticated(String),
    /// Whoever asks may not.
    Forbidden(String),
    /// There is no such thing.
    NotFound(String),
    /// It cannot be understood.
    BadRequest(String),
    /// There is no such method.
    MethodNotAllowed,
    /// Not now.
    Unavailable(String),
}

impl Refused {
    /// The HTTP status, and a document of kind `Status`.
    #[must_use]
    pub fn answer(&self) -> (u16, Vec<u8>) {
        let (code, reason, message) = match self {
            Refused::Unauthenticated(message) => (401, "Unauthorized", message.as_str()),
            Refused::Forbidden(message) => (403, "Forbidden", message.as_str()),
            Refused::NotFound(message) => (404, "NotFound", message.as_str()),
            Refused::BadRequest(message) => (400, "BadRequest", message.as_str()),
            Refused::MethodNotAllowed => (405, "MethodNotAllowed", "metrics can only be read; send GET"),
            Refused::Unavailable(message) => (503, "ServiceUnavailable", message.as_str()),
        };
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "code": code,
        });
        (code, status.to_string().into_bytes())
    }
}

impl Question {
    /// What a path asks, with its query.
    ///
    /// # Errors
    /// [`Refused::NotFound`], [`Refused::BadRequest`].
    pub fn read(path: &str, query: &str) -> Result<Question, Refused> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match parts.as_slice() {
            ["apis"] => Ok(Question::Groups),
            ["apis", GROUP] => Ok(Question::Group),
            ["apis", GROUP, VERSION] => Ok(Question::Resources),
            ["apis", GROUP, VERSION, "namespaces", namespace, metric] => {
                let known = Metric::ALL.into_iter().find(|known| known.name() == *metric);
                let metric = known.ok_or_else(|| {
                    let names = Metric::ALL.map(Metric::name).join(", ");
                    Refused::NotFound(format!("there is no metric {metric}; there are {names}"))
                })?;
                let functions = functions_of(query)?;
                Ok(Question::Values { namespace: (*namespace).to_owned(), metric, functions })
            }
            _ => Err(Refused::NotFound(format!("there is nothing at {path}"))),
        }
    }

    /// The document that answers what is asked about the API itself.
    #[must_use]
    pub fn discovery(&self) -> Option<Vec<u8>> {
        let version = json!({ "groupVersion": format!("{GROUP}/{VERSION}"), "version": VERSION });
        let group = || json!({ "name": GROUP, "versions": [version], "preferredVersion": version });
        let with_kind = |kind: &str, mut object: Value| {
            object["kind"] = kind.into();
            object["apiVersion"] = "v1".into();
            object
        };
        let document = match self {
            Question::Groups => with_kind("APIGroupList", json!({ "groups": [group()] })),
            Question::Group => with_kind("APIGroup", group()),
            Question::Resources => {
                let resources: Vec<Value> = Metric::ALL
                    .iter()
                    .map(|metric| {
                        json!({ "name": metric.name(), "singularName": "", "namespaced": true,
                                "kind": "ExternalMetricValueList", "verbs": ["get"] })
                    })
                    .collect();
                with_kind(
                    "APIResourceList",
                    json!({ "groupVersion": format!("{GROUP}/{VERSION}"), "resources": resources }),
                )
            }
            Question::Values { .. } => return None,
        };
        Some(document.to_string().into_bytes())
    }
}

/// The value of a metric for one function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricValue {
    /// The function, by the label of its objects.
    pub function: String,
    /// In thousandths.
    pub thousandths: u64,
}

/// The document that says the values of a metric at a time.
#[must_use]
pub fn values(metric: Metric, values: &[MetricValue], at: SystemTime) -> Vec<u8> {
    let at = Timestamp::try_from(at).unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let items: Vec<Value> = values
        .iter()
        .map(|value| {
            json!({
                "metricName": metric.name(),
                "metricLabels": { SELECTED_BY: value.function },
                "timestamp": at,
                "value": quantity(value.thousandths),
            })
        })
        .collect();
    let list = json!({
        "kind": "ExternalMetricValueList", "apiVersion": format!("{GROUP}/{VERSION}"), "metadata": {}, "items": items,
    });
    list.to_string().into_bytes()
}

/// As Kubernetes writes it: whole, or in thousandths.
fn quantity(thousandths: u64) -> String {
    match thousandths % 1000 {
        0 => (thousandths / 1000).to_string(),
        _ => format!("{thousandths}m"),
    }
}

/// The functions that a query selects.
fn functions_of(query: &str) -> Result<Vec<String>, Refused> {
    let wrong = |what: &str| {
        let hint =
            format!("select by {SELECTED_BY}: labelSelector={SELECTED_BY}=NAME, or {SELECTED_BY} in (A,B)");
        Refused::BadRequest(format!("{what}; {hint}"))
    };
    let mut selectors = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == "labelSelector");
    let selector = selectors.next().map(|(_, value)| value).unwrap_or_default();
    if selector.trim().is_empty() {
        return Err(wrong("the question names no function"));
    }
    let unknown = || wrong(&format!("the selector {selector:?} is not understood"));
    let text = selector.trim();
    let names: Vec<&str> = match text.split_once('=') {
        Some((label, value)) if label.trim() == SELECTED_BY => {
            vec![value.strip_prefix('=').unwrap_or(value).trim()]
        }
        Some(_) => return Err(unknown()),
        None => {
            let mut words = text.splitn(3, [' ', '(']);
            let (label, operator) = (words.next(), words.next());
            let list = text.split_once('(').and_then(|(_, list)| list.strip_suffix(')'));
            match (label, operator, list) {
                (Some(SELECTED_BY), Some("in"), Some(list)) => list.split(',').map(str::trim).collect(),
                _ => return Err(unknown()),
            }
        }
    };
    let is_value = |name: &&str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        !name.is_empty() && name.len() <= 63 && name.bytes().all(plain)
    };
    if !names.iter().all(is_value) {
        return Err(unknown());
    }
    if names.len() > FUNCTIONS_MAX {
        return Err(wrong(&format!("the question is about more than {FUNCTIONS_MAX} functions")));
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF_A: &str = "labelSelector=function%3Da";

    fn path(metric: &str) -> String {
        format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/ns/{metric}")
    }

    #[test]
    fn what_is_asked() {
        let read = |path: &str, query: &str| Question::read(path, query);
        assert_eq!(read("/apis", ""), Ok(Question::Groups));
        assert_eq!(read("/apis/external.metrics.k8s.io", ""), Ok(Question::Group));
        assert_eq!(read("/apis/external.metrics.k8s.io/v1beta1/", ""), Ok(Question::Resources));
        for path in [
            "/",
            "/openapi/v2",
            "/apis/other",
            "/apis/external.metrics.k8s.io/v2",
            "/apis/external.metrics.k8s.io/v1beta1/namespaces/ns",
        ] {
            assert!(matches!(read(path, ""), Err(Refused::NotFound(_))), "{path}");
        }
        for metric in Metric::ALL {
            let values = |functions: &[&str]| {
                let functions = functions.iter().map(|name| (*name).to_owned()).collect();
                Ok(Question::Values { namespace: "ns".to_owned(), metric, functions })
            };
            let path = path(metric.name());
            for query in [
                OF_A,
                "labelSelector=function%3D%3Da",
                "labelSelector=function=a&timeoutSeconds=3",
                "a=b&labelSelector=+function+%3D+a+",
            ] {
                assert_eq!(read(&path, query), values(&["a"]), "{query}");
            }
            for query in ["labelSelector=function+in+(a,b--0123)", "labelSelector=function+in(a,+b--0123)"] {
                assert_eq!(read(&path, query), values(&["a", "b--0123"]), "{query}");
            }
        }
        let Err(Refused::NotFound(said)) = read(&path("nanofaas_custom"), OF_A) else {
            panic!("no such metric")
        };
        assert!(said.contains("nanofaas_custom") && said.contains("nanofaas_rps"), "{said}");
    }

    #[test]
    fn what_cannot_be_understood_is_told_with_the_way_to_ask() {
        let path = path("nanofaas_rps");
        let many = format!("labelSelector=function in ({})", vec!["a"; FUNCTIONS_MAX + 1].join(","));
        for query in [
            "",
            "labelSelector=",
            "labelSelector=function",
            "labelSelector=app%3Da",
            "labelSelector=function!%3Da",
            "labelSelector=function%3Da,app%3Db",
            "labelSelector=function+notin+(a)",
            "labelSelector=function+in+(a",
            "labelSelector=function%3D",
            "labelSelector=function+in+()",
            "labelSelector=function%3D%00",
            &many,
        ] {
            let Err(Refused::BadRequest(said)) = Question::read(&path, query) else { panic!("{query}") };
            assert!(said.contains("labelSelector=function=NAME"), "{said}");
        }
    }

    #[test]
    fn values_are_quantities() {
        for (thousandths, text) in
            [(0, "0"), (1, "1m"), (999, "999m"), (1000, "1"), (1001, "1001m"), (2_000_000, "2000")]
        {
            assert_eq!(quantity(thousandths), text);
        }
        let value = MetricValue { function: "a".to_owned(), thousandths: 1500 };
        let list = values(Metric::Rps, &[value], SystemTime::UNIX_EPOCH);
        let list: Value = serde_json::from_slice(&list).expect("JSON");
        assert_eq!(list["kind"], "ExternalMetricValueList");
        assert_eq!(
            list["items"],
            json!([{ "metricName": "nanofaas_rps", "metricLabels": { "function": "a" },
                     "timestamp": "1970-01-01T00:00:00Z", "value": "1500m" }])
        );
    }

    #[test]
    fn the_api_describes_itself() {
        let document = |question: Question| -> Value {
            serde_json::from_slice(&question.discovery().expect("about the API")).expect("JSON")
        };
        assert_eq!(document(Question::Groups)["groups"][0]["name"], GROUP);
        assert_eq!(
            document(Question::Group)["preferredVersion"]["groupVersion"],
            "external.metrics.k8s.io/v1beta1"
        );
        let resources = document(Question::Resources);
        assert_eq!(resources["resources"].as_array().map(Vec::len), Some(Metric::ALL.len()));
        assert_eq!(resources["resources"][0]["name"], "nanofaas_queue_depth");
        let (status, refused) = Refused::NotFound("x".to_owned()).answer();
        let refused: Value = serde_json::from_slice(&refused).expect("JSON");
        assert_eq!((status, &refused["code"], &refused["message"]), (404, &json!(404), &json!("x")));
    }
}
