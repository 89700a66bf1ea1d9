//! Rules that concern more than one setting, or more of one than its type and range say.

use super::{BackendKind, Config, is_loopback};

/// A rule that a configuration breaks.
pub(super) struct Breach {
    /// Keys that the rule is about; the first one is blamed.
    pub(super) keys: &'static [&'static str],
    /// What is wrong and what to do.
    pub(super) message: String,
}

/// Settings that nothing looks at yet, by name or group, and why. Who sets one believes in something that does not
/// happen.
pub(super) const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("console.", "this version has no web console"),
    #[cfg(not(feature = "kubernetes"))]
    ("image-validator.", "this version has no Kubernetes backend"),
    #[cfg(not(feature = "kubernetes"))]
    ("k8s.", "this version has no Kubernetes backend"),
];

/// Every rule that `config` breaks.
pub(super) fn check(config: &Config) -> Vec<Breach> {
    let mut breaches = Vec::new();
    listeners(config, &mut breaches);
    missing_backends(config, &mut breaches);
    process_backend(config, &mut breaches);
    if config.limits.queued_bytes < config.limits.request_bytes {
        breaches.push(Breach {
            keys: &["limits.queued-bytes", "limits.request-bytes"],
            message: "is less than limits.request-bytes, so the largest request could never wait".to_owned(),
        });
    }
    if config.limits.bodies_bytes < config.limits.request_bytes.max(config.limits.response_bytes) {
        breaches.push(Breach {
            keys: &["limits.bodies-bytes", "limits.request-bytes", "limits.response-bytes"],
            message: "is less than limits.request-bytes or limits.response-bytes, so the largest body could never be read"
                .to_owned(),
        });
    }
    if let Some(problem) = config.k8s.callback_url.as_deref().and_then(url_problem) {
        breaches.push(Breach { keys: &["k8s.callback-url"], message: problem });
    }
    if config.delivery.secret.as_ref().is_some_and(|secret| secret.expose().is_empty()) {
        breaches.push(Breach {
            keys: &["delivery.secret"],
            message: "is empty, so anybody could sign; set a long random text, or leave it unset".to_owned(),
        });
    }
    if config.k8s.external_metrics_bind.is_some()
        && (config.k8s.external_metrics_certificate.is_none() || config.k8s.external_metrics_key.is_none())
    {
        breaches.push(Breach {
            keys: &[
                "k8s.external-metrics.bind",
                "k8s.external-metrics.certificate",
                "k8s.external-metrics.key",
            ],
            message: "needs k8s.external-metrics.certificate and k8s.external-metrics.key".to_owned(),
        });
    }
    if config.k8s.namespace.as_deref().is_some_and(|name| !is_dns_label(name)) {
        breaches.push(Breach {
            keys: &["k8s.namespace"],
            message: "is not a namespace: lower-case letters, digits and '-', at most 63".to_owned(),
        });
    }
    if !is_dns_label(&config.k8s.installation) {
        breaches.push(Breach {
            keys: &["k8s.installation"],
            message: "is not the value of a label: lower-case letters, digits and '-', at most 63".to_owned(),
        });
    }
    breaches
}

/// Two listeners on one address: the second one could not start.
fn listeners(config: &Config, breaches: &mut Vec<Breach>) {
    let api = config.api_address();
    let management = config.management_address();
    let clash = |a: std::net::SocketAddr, b: std::net::SocketAddr| {
        let same_host = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
        a.port() != 0 && a.port() == b.port() && same_host
    };
    if clash(api, management) {
        breaches.push(Breach {
            keys: &["management.port", "server.port", "management.host", "server.host"],
            message: format!(
                "is {}, the port of the API listener; give one of them another",
                management.port()
            ),
        });
    }
    let others = [Some(api), Some(management), config.internal.bind];
    if let Some(metrics) = config.k8s.external_metrics_bind
        && others.into_iter().flatten().any(|other| clash(metrics, other))
    {
        breaches.push(Breach {
            keys: &["k8s.external-metrics.bind"],
            message: format!("is {metrics}, where another listener is; give it another port"),
        });
    }
    if let Some(internal) = config.internal.bind {
        if clash(internal, api) {
            breaches.push(Breach {
                keys: &["internal.bind", "server.port", "server.host"],
                message: format!("is {internal}, where the API listener is; leave it unset to share it"),
            });
        }
        if clash(internal, management) {
            breaches.push(Breach {
                keys: &["internal.bind", "management.port", "management.host"],
                message: format!("is {internal}, where the management listener is; give it another port"),
            });
        }
    }
}

/// A backend that this version does not have runs no function. Each setting that names one is told of by itself.
fn missing_backends(config: &Config, breaches: &mut Vec<Breach>) {
    let listed = config.deployment.backends.as_slice();
    let default = config.deployment.default_backend.as_slice();
    for (keys, named) in [(&["deployment.backends"], listed), (&["deployment.default-backend"], default)] {
        let missing: Vec<&str> =
            named.iter().filter(|backend| !backend.is_built_in()).map(|backend| backend.as_str()).collect();
        if !missing.is_empty() {
            breaches.push(Breach {
                keys,
                message: format!(
                    "names {}, which this version does not have; it has: {}",
                    missing.join(", "),
                    BackendKind::BUILT_IN.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ")
                ),
            });
        }
    }
}

/// The process backend runs what callers send, as this user: nobody beyond this machine may call.
fn process_backend(config: &Config, breaches: &mut Vec<Breach>) {
    if config.deployment.backends_on().contains(&BackendKind::Process) && !is_loopback(config.server.host) {
        breaches.push(Breach {
            keys: &["server.host", "deployment.backends", "deployment.default-backend"],
            message: format!(
                "is {}, which other machines can reach, while the process backend runs any program a caller \
                 names; listen on 127.0.0.1 or leave that backend off",
                config.server.host
            ),
        });
    }
}

fn url_problem(url: &str) -> Option<String> {
    let parsed: Result<hyper::Uri, _> = url.parse();
    match parsed.as_ref().map(|uri| (uri.scheme_str(), uri.host())) {
        Ok((Some("http" | "https"), Some(host))) if !host.is_empty() => None,
        _ => Some(format!("{url:?} is not an absolute http or https address")),
    }
}

fn is_dns_label(name: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| word(*byte) || *byte == b'-')
        && bytes.first().is_some_and(|byte| word(*byte))
        && bytes.last().is_some_and(|byte| word(*byte))
}
