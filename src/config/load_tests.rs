//! Tables for [`super::load`]: what goes in, what comes out, and where it came from.

use super::*;
use crate::config::BackendKind;

struct Case<'a> {
    base: Base,
    file: &'a str,
    environment: &'a [(&'a str, &'a str)],
    flags: &'a [(&'a str, &'a str, &'a str)],
}

const EMPTY: Case<'static> = Case { base: Base::Serve, file: "", environment: &[], flags: &[] };

impl Case<'_> {
    fn load(&self) -> Result<Loaded, Problems> {
        let environment = self.environment.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        let flags: Vec<Flag> = self
            .flags
            .iter()
            .map(|(name, key, value)| Flag {
                name: (*name).into(),
                key: (*key).into(),
                value: (*value).into(),
            })
            .collect();
        load(&Sources {
            base: self.base,
            file: Some(("nanofaas.toml", self.file)),
            environment: &environment.collect(),
            flags: &flags,
        })
    }

    fn loaded(&self) -> Loaded {
        self.load().unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn problems(&self) -> Vec<String> {
        match self.load() {
            Ok(_) => Vec::new(),
            Err(Problems(problems)) => problems.iter().map(Problem::to_string).collect(),
        }
    }
}

impl Loaded {
    fn value(&self, name: &str) -> (Option<String>, String) {
        let (index, key) = find(name).expect("a key of the table");
        (key.show(&self.config), self.origins[index].to_string())
    }
}

#[test]
fn nothing_given_is_the_defaults() {
    let loaded = Case { environment: &[("HOME", "/home/a")], ..EMPTY }.loaded();
    let data_dir = "/home/a/.local/state/nanofaas".into();
    assert_eq!(loaded.config, Config { data_dir, ..Config::default() });
    assert!(loaded.origins.iter().all(|origin| *origin == SettingOrigin::Default));
    assert_eq!(loaded.warnings, []);
}

#[test]
fn later_sources_win() {
    let file = "[server]\nport = 1";
    let environment = &[("NANOFAAS_SERVER_PORT", "2"), ("SERVER_PORT", "3")][..];
    let flags = &[("--set", "server.port", "4"), ("--port", "server.port", "5")][..];
    for (case, value, origin) in [
        (Case { ..EMPTY }, "8080", "default"),
        (Case { file, ..EMPTY }, "1", "nanofaas.toml:2"),
        (Case { file, environment, ..EMPTY }, "2", "NANOFAAS_SERVER_PORT"),
        (Case { file, environment: &environment[1..], ..EMPTY }, "3", "SERVER_PORT"),
        (Case { file, environment, flags: &flags[..1], ..EMPTY }, "4", "--set"),
        (Case { file, environment, flags, ..EMPTY }, "5", "--port"),
    ] {
        assert_eq!(case.loaded().value("server.port"), (Some(value.into()), origin.into()));
    }
}

#[test]
fn every_key_can_be_set_by_its_environment_names() {
    // What others need beside them.
    let file = "k8s.external-metrics.certificate = '/c'\nk8s.external-metrics.key = '/k'";
    for (index, key) in keys().iter().enumerate() {
        let text = key.show(&Config::default()).unwrap_or_else(|| sample(&key.name).to_owned());
        for name in &key.environment {
            let case = Case { environment: &[(name, &text)], file, ..EMPTY };
            let problems = case.problems();
            // Read all the same, and of no use alone.
            let is_refused =
                |problem: &String| problem.contains("has no effect") || problem.contains(": needs ");
            if problems.iter().any(is_refused) {
                assert!(problems.len() == 1 && problems[0].starts_with(name), "{problems:?}");
                continue;
            }
            assert_eq!(
                case.loaded().origins[index],
                SettingOrigin::Environment(name.clone()),
                "{name}={text}"
            );
        }
    }
}

fn sample(name: &str) -> &'static str {
    match name {
        "server.allowed-hosts" => "nanofaas, 10.0.0.7",
        "cors.allowed-origins" => "https://console.example.org",
        "internal.bind" => "127.0.0.1:9000",
        "deployment.backends" => "process",
        "deployment.default-backend" => "process",
        "http-client.read-timeout-ms" => "250",
        "k8s.namespace" => "faas",
        "k8s.kubeconfig" => "/etc/nanofaas/kubeconfig",
        "k8s.external-metrics.bind" => "127.0.0.1:9443",
        "k8s.external-metrics.certificate" => "/etc/nanofaas/tls.crt",
        "k8s.external-metrics.key" => "/etc/nanofaas/tls.key",
        "k8s.callback-url" => "http://callback:8080/v1/internal/executions",
        "k8s.api-url" => "http://nanofaas:8080",
        "delivery.secret" => "open sesame",
        _ => panic!("{name} has no default and no sample"),
    }
}

#[test]
fn the_aliases_of_the_table() {
    for (name, key) in [
        ("SERVER_PORT", "server.port"),
        ("MANAGEMENT_SERVER_PORT", "management.port"),
        ("SYNC_QUEUE_ENABLED", "sync-queue.enabled"),
        ("SYNC_QUEUE_MAX_ESTIMATED_WAIT", "sync-queue.max-estimated-wait"),
        ("SYNC_QUEUE_PER_FUNCTION_MIN_SAMPLES", "sync-queue.per-function-min-samples"),
        ("POD_NAMESPACE", "k8s.namespace"),
        ("NANOFAAS_WORKERS", "workers"),
        ("NANOFAAS_DATA_DIR", "data-dir"),
        ("NANOFAAS_RATE_MAX_PER_SECOND", "rate.max-per-second"),
        ("NANOFAAS_ADMIN_RUNTIME_CONFIG_ENABLED", "admin.runtime-config.enabled"),
    ] {
        let (_, key) = find(key).expect("a key of the table");
        assert!(key.environment.iter().any(|known| known == name), "{name}");
    }
}

#[test]
fn values_of_every_kind() {
    let loaded = Case {
        file: "ephemeral = true\nplacement = 'split'\n[limits]\nrequest-bytes = '2MiB'\nidle-timeout = 'PT1M'\n\
               [defaults]\ntimeout-ms = 1500\n[deployment]\nbackends = ['process']\n",
        environment: &[
            ("NANOFAAS_SYNC_QUEUE_MAX_QUEUE_WAIT", "500ms"),
            ("NANOFAAS_INTERNAL_BIND", "[::1]:9000"),
            ("NANOFAAS_SERVER_HOST", "localhost"),
            ("NANOFAAS_AUTOSCALER_ENABLED", " true "),
        ],
        ..EMPTY
    }
    .loaded();
    for (key, expected) in [
        ("ephemeral", "true"),
        ("placement", "split"),
        ("limits.request-bytes", "2MiB"),
        ("limits.idle-timeout", "1m"),
        ("defaults.timeout-ms", "1500"),
        ("deployment.backends", "process"),
        ("sync-queue.max-queue-wait", "500ms"),
        ("internal.bind", "[::1]:9000"),
        ("server.host", "127.0.0.1"),
        ("autoscaler.enabled", "true"),
    ] {
        assert_eq!(loaded.value(key).0.as_deref(), Some(expected), "{key}");
    }
}

#[test]
fn dev_is_a_base_that_others_override() {
    let loaded = Case {
        base: Base::Dev,
        environment: &[("NANOFAAS_AUTOSCALER_ENABLED", "false"), ("HOME", "/home/a")],
        ..EMPTY
    }
    .loaded();
    assert_eq!(
        loaded.value("autoscaler.enabled"),
        (Some("false".into()), "NANOFAAS_AUTOSCALER_ENABLED".into())
    );
    assert_eq!(loaded.value("async-queue.enabled"), (Some("true".into()), "dev".into()));
    assert_eq!(loaded.value("data-dir"), (Some(".nanofaas".into()), "dev".into()));
    assert_eq!(loaded.value("delivery.secret"), (Some("********".into()), "dev".into()));
    assert_eq!(loaded.value("rate.max-per-second"), (Some("0".into()), "dev".into()));
    assert_eq!(loaded.value("defaults.max-retries").1, "default");
}

#[test]
fn blank_variables_and_links_to_services_are_not_settings() {
    let loaded =
        Case { environment: &[("NANOFAAS_SERVER_PORT", " "), ("SERVER_PORT", "tcp://10.0.0.1:80")], ..EMPTY }
            .loaded();
    assert_eq!(loaded.value("server.port"), (Some("8080".into()), "default".into()));
    assert_eq!(loaded.warnings.len(), 1);
}

#[test]
fn all_problems_are_reported_at_once_with_their_origin() {
    let problems = Case {
        file: "[sever]\nport = 1\n\n[server]\nhost = 'nowhere'\nport = [1]\n[rate]\nmax-per-second = 'many'\n",
        environment: &[("NANOFAAS_WORKERS", "0"), ("NANOFAAS_LIMITS_REQUEST_BYTES", "1 elephant")],
        flags: &[("--set", "data.dir", "/x"), ("--set", "limits", "1"), ("--port", "server.port", "70000")],
        ..EMPTY
    }
    .problems();
    let expected = [
        "nanofaas.toml:2: unknown key \"sever.port\"; did you mean \"server.port\"?",
        "nanofaas.toml:5: server.host: \"nowhere\" is not an IP address",
        "nanofaas.toml:6: server.port: is one value, not a list",
        "nanofaas.toml:8: rate.max-per-second: \"many\" is not a whole number",
        "NANOFAAS_WORKERS: workers: 0 is not between 1 and 1024",
        "NANOFAAS_LIMITS_REQUEST_BYTES: limits.request-bytes: \"1 elephant\" is not a size",
        "--set: unknown key \"data.dir\"; did you mean \"data-dir\"?",
        "--set: \"limits\" is a group: limits.request-bytes, ",
        "--port: server.port: 70000 is more than 65535",
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, expected) in problems.iter().zip(expected) {
        assert!(problem.starts_with(expected), "{problem}\n  should start with\n{expected}");
    }
}

#[test]
fn rules_across_settings() {
    for (file, expected) in [
        ("server.port = 8081", "nanofaas.toml:1: management.port: is 8081, the port of the API listener"),
        (
            "internal.bind = '127.0.0.1:8080'",
            "nanofaas.toml:1: internal.bind: is 127.0.0.1:8080, where the API",
        ),
        (
            "k8s.external-metrics.bind = '0.0.0.0:8081'\nk8s.external-metrics.certificate = '/c'\nk8s.external-metrics.key = '/k'",
            "nanofaas.toml:1: k8s.external-metrics.bind: is 0.0.0.0:8081, where another",
        ),
        (
            "k8s.external-metrics.bind = '0.0.0.0:9443'",
            "nanofaas.toml:1: k8s.external-metrics.bind: needs k8s.external-metrics.certificate",
        ),
        (
            "internal.bind = '0.0.0.0:8081'",
            "nanofaas.toml:1: internal.bind: is 0.0.0.0:8081, where the manag",
        ),
        (
            "\nserver.host = '0.0.0.0'\ndeployment.default-backend = 'process'",
            "nanofaas.toml:2: server.host: is 0.0.0.0, which other machines can reach",
        ),
        ("limits.queued-bytes = 1000", "nanofaas.toml:1: limits.queued-bytes: is less than"),
    ] {
        let problems = Case { file, ..EMPTY }.problems();
        assert!(problems.len() == 1 && problems[0].starts_with(expected), "{file}\n{problems:#?}");
    }
    for file in [
        "server.port = 0\nmanagement.port = 0",
        "server.port = 8081\nmanagement.host = '127.0.0.2'",
        "server.host = '0.0.0.0'\ndeployment.backends = []",
        "server.host = '::1'\ndeployment.backends = ['process']",
    ] {
        assert_eq!(Case { file, ..EMPTY }.problems(), [""; 0], "{file}");
    }
}

#[test]
fn settings_without_effect_are_refused() {
    assert_eq!(
        Case { file: "console.enabled = true", ..EMPTY }.problems(),
        ["nanofaas.toml:1: console.enabled: has no effect: this version has no web console; leave it unset"]
    );
    // What does no harm.
    #[cfg(feature = "kubernetes")]
    assert_eq!(Case { file: "image-validator.enabled = true", ..EMPTY }.problems(), [""; 0]);
    assert_eq!(Case { file: "console.enabled = false", ..EMPTY }.problems(), [""; 0]);
    assert_eq!(Case { base: Base::Dev, ..EMPTY }.problems(), [""; 0]);
}

#[test]
#[cfg(feature = "kubernetes")]
fn settings_of_kubernetes_are_checked() {
    for (file, expected) in [
        (
            "k8s.namespace = 'My Space'",
            "nanofaas.toml:1: k8s.namespace: is not a namespace: lower-case letters, digits and '-', at most 63",
        ),
        (
            "k8s.installation = ''",
            "nanofaas.toml:1: k8s.installation: is not the value of a label: lower-case letters, digits and '-', at most 63",
        ),
    ] {
        assert_eq!(Case { file, ..EMPTY }.problems(), [expected]);
    }
    let environment = &[("POD_NAMESPACE", "faas")][..];
    let loaded = Case { file: "deployment.backends = ['process', 'k8s']", environment, ..EMPTY }.loaded();
    assert_eq!(loaded.config.k8s.namespace.as_deref(), Some("faas"));
}

#[test]
fn backends_that_this_version_does_not_have_are_refused_where_they_are_named() {
    let has = BackendKind::BUILT_IN.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
    for (file, environment, expected) in [
        (
            "deployment.backends = ['process', 'container']",
            &[][..],
            "nanofaas.toml:1: deployment.backends: names container, which this version does not have; it has: ",
        ),
        (
            "deployment.default-backend = 'container'",
            &[],
            "nanofaas.toml:1: deployment.default-backend: names container, which this version does not have; it has: ",
        ),
        (
            "deployment.backends = ['process']",
            &[("NANOFAAS_DEPLOYMENT_BACKENDS", "Container")],
            "NANOFAAS_DEPLOYMENT_BACKENDS: deployment.backends: names container, which this version does not have; \
             it has: ",
        ),
        (
            "",
            &[("NANOFAAS_DEPLOYMENT_DEFAULT_BACKEND", "container")],
            "NANOFAAS_DEPLOYMENT_DEFAULT_BACKEND: deployment.default-backend: names container, which this version does \
             not have; it has: ",
        ),
    ] {
        for base in [Base::Serve, Base::Dev] {
            assert_eq!(Case { base, file, environment, ..EMPTY }.problems(), [format!("{expected}{has}")]);
        }
    }
    // What counts is what is left of all sources.
    let (file, environment) =
        ("deployment.backends = ['container']", &[("NANOFAAS_DEPLOYMENT_BACKENDS", "process")][..]);
    assert_eq!(Case { file, environment, ..EMPTY }.problems(), [""; 0]);
}

#[test]
fn a_rule_is_silent_about_a_value_that_could_not_be_read() {
    let problems = Case { file: "server.port = 'x'\nmanagement.port = 8080", ..EMPTY }.problems();
    assert_eq!(problems.len(), 1, "{problems:#?}");
}

#[test]
fn rules_name_keys_of_the_table() {
    let mut config = Config::dev();
    config.server.host = std::net::IpAddr::from([0, 0, 0, 0]);
    config.management.port = config.server.port;
    config.internal.bind = Some(config.api_address());
    config.limits.queued_bytes = 1;
    config.deployment.backends = vec![BackendKind::Process, BackendKind::Container];
    config.deployment.default_backend = Some(BackendKind::Container);
    config.k8s.callback_url = Some(String::new());
    config.k8s.namespace = Some(String::new());
    config.k8s.installation = String::new();
    config.delivery.secret = Some(crate::config::Secret::new(""));
    let breaches = check(&config);
    assert_eq!(breaches.len(), 11);
    for name in breaches.iter().flat_map(|breach| breach.keys) {
        assert!(find(name).is_ok(), "{name}");
    }
}

#[test]
fn near_misses_in_the_environment_are_warned_about() {
    for (name, meant) in [
        ("NANOFAAS_SERVER_PROT", Some("NANOFAAS_SERVER_PORT")),
        ("NANOFAAS_RATE_MAXPERSECOND", Some("NANOFAAS_RATE_MAX_PER_SECOND")),
        ("NANOFAAS_WORKER", Some("NANOFAAS_WORKERS")),
        ("NANOFAAS_ENDPOINT", None),
        ("NANOFAAS_SOMETHING_ELSE", None),
        ("SERVER_PROT", None),
    ] {
        let loaded = Case { environment: &[(name, "1")], ..EMPTY }.loaded();
        let warnings: Vec<String> = loaded.warnings.iter().map(Problem::to_string).collect();
        match meant {
            Some(meant) => assert!(
                warnings.len() == 1
                    && warnings[0].contains(name)
                    && warnings[0].contains(&format!("{meant}?")),
                "{name} {warnings:?}"
            ),
            None => assert!(warnings.is_empty(), "{name} {warnings:?}"),
        }
    }
}

#[test]
fn broken_files_name_the_line() {
    let problems = Case { file: "[server]\nport = = 1\n", ..EMPTY }.problems();
    assert!(problems[0].starts_with("nanofaas.toml:2: "), "{problems:?}");
}
