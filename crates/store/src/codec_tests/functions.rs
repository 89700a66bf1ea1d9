//! Functions that say little, and functions that say everything: what the fixtures of records are of.

use std::collections::BTreeMap;

use crate::function::{
    Amounts, Function, InFlight, InFlightMode, Metric, Mode, Pod, Program, Resources, Scaling, Source,
    Spread, Strategy, Toleration, Volume,
};

/// A function that says nothing that it need not say.
pub(super) fn plain() -> Function {
    Function {
        name: "f".to_owned(),
        image: None,
        command: Vec::new(),
        env: BTreeMap::new(),
        resources: None,
        timeout_ms: 30_000,
        concurrency: 4,
        queue_size: 100,
        max_retries: None,
        retry_backoff_ms: 100,
        rate_limit_per_second: None,
        endpoint_url: None,
        execution_mode: Mode::Local,
        requested_execution_mode: Mode::Local,
        effective_execution_mode: Mode::Local,
        deployment_backend: None,
        degradation_reason: None,
        runtime_mode: Program::Http,
        runtime_command: None,
        working_dir: None,
        scaling_config: None,
        image_pull_secrets: None,
        default_max_retries: 3,
        pod: None,
    }
}

/// One that says everything.
pub(super) fn full() -> Function {
    let text = |text: &str| Some(text.to_owned());
    Function {
        image: text("registry/f:1"),
        command: vec!["run".to_owned(), "it".to_owned()],
        env: BTreeMap::from([("A".to_owned(), "b".to_owned())]),
        resources: Some(Resources { cpu: text("250m"), memory: None, requests: None, limits: None }),
        max_retries: Some(5),
        rate_limit_per_second: Some(9),
        endpoint_url: text("http://h:1/invoke"),
        execution_mode: Mode::Deployment,
        requested_execution_mode: Mode::Remote,
        effective_execution_mode: Mode::Pool,
        deployment_backend: text("process"),
        degradation_reason: text("because"),
        runtime_mode: Program::Stdio,
        runtime_command: text("cat -"),
        working_dir: text("/srv"),
        scaling_config: Some(Scaling {
            strategy: Strategy::Internal,
            min_replicas: 1,
            max_replicas: 4,
            metrics: vec![Metric { kind: "rps".to_owned(), target: text("5"), query: None }],
            concurrency_control: InFlight {
                mode: InFlightMode::AdaptivePerPod,
                target_in_flight_per_pod: Some(2),
                min_target_in_flight_per_pod: Some(1),
                max_target_in_flight_per_pod: Some(8),
                upscale_cooldown_ms: Some(30_000),
                downscale_cooldown_ms: None,
                high_load_threshold: Some(0.85),
                low_load_threshold: None,
            },
        }),
        image_pull_secrets: Some(vec!["secret".to_owned()]),
        default_max_retries: 7,
        ..plain()
    }
}

/// One that says everything about its Pods.
pub(super) fn with_pods() -> Function {
    let text = |text: &str| Some(text.to_owned());
    let amounts = Amounts { cpu: text("100m"), memory: text("1Gi") };
    let map = |key: &str| BTreeMap::from([(key.to_owned(), "v".to_owned())]);
    let volume = |name: &str, source| Volume {
        name: name.to_owned(),
        mount_path: format!("/{name}"),
        sub_path: text("x"),
        read_only: true,
        source,
    };
    let claim = Source::PersistentVolumeClaim { claim_name: "p".to_owned() };
    Function {
        resources: Some(Resources {
            cpu: None,
            memory: None,
            requests: Some(amounts.clone()),
            limits: Some(amounts),
        }),
        pod: Some(Box::new(Pod {
            container_port: Some(9000),
            health_path: text(""),
            node_selector: map("n"),
            tolerations: vec![Toleration {
                key: text("k"),
                operator: text("Equal"),
                value: text("v"),
                effect: text("NoExecute"),
                toleration_seconds: Some(5),
            }],
            topology_spread_constraints: vec![Spread {
                max_skew: 1,
                topology_key: "zone".to_owned(),
                when_unsatisfiable: "DoNotSchedule".to_owned(),
            }],
            annotations: map("a"),
            labels: map("l"),
            service_account_name: text("account"),
            read_only_root_filesystem: Some(false),
            volumes: vec![
                volume("a", Source::ConfigMap { name: "c".to_owned() }),
                volume("b", Source::Secret { secret_name: "s".to_owned() }),
                volume("c", Source::EmptyDir { medium: text("Memory"), size_limit: text("1Mi") }),
                Volume { sub_path: None, read_only: false, ..volume("d", claim) },
            ],
        })),
        ..plain()
    }
}

/// The others of what has a name.
pub(super) fn other_names() -> [Function; 2] {
    let control = InFlight {
        mode: InFlightMode::StaticPerPod,
        target_in_flight_per_pod: Some(2),
        min_target_in_flight_per_pod: None,
        max_target_in_flight_per_pod: None,
        upscale_cooldown_ms: None,
        downscale_cooldown_ms: None,
        high_load_threshold: None,
        low_load_threshold: None,
    };
    let scaling = |strategy, mode| Scaling {
        strategy,
        min_replicas: 0,
        max_replicas: 1,
        metrics: Vec::new(),
        concurrency_control: InFlight { mode, ..control.clone() },
    };
    let of = |runtime_mode, strategy, mode| Function {
        runtime_mode,
        scaling_config: Some(scaling(strategy, mode)),
        ..plain()
    };
    [
        of(Program::File, Strategy::None, InFlightMode::StaticPerPod),
        of(Program::Http, Strategy::Hpa, InFlightMode::Fixed),
    ]
}
