//! Functions on their way to the log and back: from what clients read to the store's own type, and from that to what the
//! server works with. The one place where the two meet.
//!
//! Both are taken apart member by member: one that the API gets does not compile until it is said here how it is kept.

use nanofaas_store::function as disk;
use nanofaas_wire::function::{
    Amounts, ConcurrencyControl, ConcurrencyMode, ExecutionMode, FunctionSpec, Resources, RuntimeMode,
    ScalingConfig, ScalingMetric, ScalingStrategy,
};
use shard_core::Name;

use super::pods::{pod_from_disk, pod_to_disk};

/// What this server's functions are on disk.
pub struct ApiFunctions;

impl disk::Functions for ApiFunctions {
    fn to_disk(&self, spec: &shard_core::FunctionSpec) -> Option<disk::Function> {
        let function = FunctionSpec::from_document(&spec.document).ok()?;
        Some(to_disk(FunctionSpec {
            // Clients do not read it. Where the function says it itself, it does not matter.
            default_max_retries: match function.max_retries {
                None => spec.policy.attempts_max,
                Some(_) => disk::DEFAULT_MAX_RETRIES,
            },
            ..function
        }))
    }

    fn to_core(&self, function: disk::Function) -> Option<shard_core::FunctionSpec> {
        Name::new(&function.name)?;
        Some(from_disk(function).core_spec())
    }
}

fn to_disk(function: FunctionSpec) -> disk::Function {
    let FunctionSpec {
        name,
        image,
        command,
        env,
        resources,
        timeout_ms,
        concurrency,
        queue_size,
        max_retries,
        default_max_retries,
        retry_backoff_ms,
        rate_limit_per_second,
        endpoint_url,
        execution_mode,
        requested_execution_mode,
        effective_execution_mode,
        deployment_backend,
        degradation_reason,
        runtime_mode,
        runtime_command,
        working_dir,
        scaling_config,
        image_pull_secrets,
        pod,
    } = function;
    disk::Function {
        name,
        image,
        command,
        env,
        resources: resources.map(resources_to_disk),
        timeout_ms,
        concurrency,
        queue_size,
        max_retries,
        retry_backoff_ms,
        rate_limit_per_second,
        endpoint_url,
        execution_mode: mode_to_disk(execution_mode),
        requested_execution_mode: mode_to_disk(requested_execution_mode),
        effective_execution_mode: mode_to_disk(effective_execution_mode),
        deployment_backend,
        degradation_reason,
        runtime_mode: match runtime_mode {
            RuntimeMode::Http => disk::Program::Http,
            RuntimeMode::Stdio => disk::Program::Stdio,
            RuntimeMode::File => disk::Program::File,
        },
        runtime_command,
        working_dir,
        scaling_config: scaling_config.map(scaling_to_disk),
        image_pull_secrets,
        default_max_retries,
        pod: (!pod.is_default()).then(|| Box::new(pod_to_disk(pod))),
    }
}

fn from_disk(function: disk::Function) -> FunctionSpec {
    let disk::Function {
        name,
        image,
        command,
        env,
        resources,
        timeout_ms,
        concurrency,
        queue_size,
        max_retries,
        retry_backoff_ms,
        rate_limit_per_second,
        endpoint_url,
        execution_mode,
        requested_execution_mode,
        effective_execution_mode,
        deployment_backend,
        degradation_reason,
        runtime_mode,
        runtime_command,
        working_dir,
        scaling_config,
        image_pull_secrets,
        default_max_retries,
        pod,
    } = function;
    FunctionSpec {
        name,
        image,
        command,
        env,
        resources: resources.map(resources_from_disk),
        timeout_ms,
        concurrency,
        queue_size,
        max_retries,
        default_max_retries,
        retry_backoff_ms,
        rate_limit_per_second,
        endpoint_url,
        execution_mode: mode_from_disk(execution_mode),
        requested_execution_mode: mode_from_disk(requested_execution_mode),
        effective_execution_mode: mode_from_disk(effective_execution_mode),
        deployment_backend,
        degradation_reason,
        runtime_mode: match runtime_mode {
            disk::Program::Http => RuntimeMode::Http,
            disk::Program::Stdio => RuntimeMode::Stdio,
            disk::Program::File => RuntimeMode::File,
        },
        runtime_command,
        working_dir,
        scaling_config: scaling_config.map(scaling_from_disk),
        image_pull_secrets,
        pod: pod.map(|pod| pod_from_disk(*pod)).unwrap_or_default(),
    }
}

fn resources_to_disk(resources: Resources) -> disk::Resources {
    let Resources { cpu, memory, requests, limits } = resources;
    let amounts = |Amounts { cpu, memory }| disk::Amounts { cpu, memory };
    disk::Resources { cpu, memory, requests: requests.map(amounts), limits: limits.map(amounts) }
}

fn resources_from_disk(resources: disk::Resources) -> Resources {
    let disk::Resources { cpu, memory, requests, limits } = resources;
    let amounts = |disk::Amounts { cpu, memory }| Amounts { cpu, memory };
    Resources { cpu, memory, requests: requests.map(amounts), limits: limits.map(amounts) }
}

fn mode_to_disk(mode: ExecutionMode) -> disk::Mode {
    match mode {
        ExecutionMode::Local => disk::Mode::Local,
        ExecutionMode::Pool => disk::Mode::Pool,
        ExecutionMode::Deployment => disk::Mode::Deployment,
        ExecutionMode::Remote => disk::Mode::Remote,
    }
}

fn mode_from_disk(mode: disk::Mode) -> ExecutionMode {
    match mode {
        disk::Mode::Local => ExecutionMode::Local,
        disk::Mode::Pool => ExecutionMode::Pool,
        disk::Mode::Deployment => ExecutionMode::Deployment,
        disk::Mode::Remote => ExecutionMode::Remote,
    }
}

fn scaling_to_disk(config: ScalingConfig) -> disk::Scaling {
    let ScalingConfig { strategy, min_replicas, max_replicas, metrics, concurrency_control } = config;
    disk::Scaling {
        strategy: match strategy {
            ScalingStrategy::Hpa => disk::Strategy::Hpa,
            ScalingStrategy::Internal => disk::Strategy::Internal,
            ScalingStrategy::None => disk::Strategy::None,
        },
        min_replicas,
        max_replicas,
        metrics: metrics
            .into_iter()
            .map(|ScalingMetric { kind, target, query }| disk::Metric { kind, target, query })
            .collect(),
        concurrency_control: control_to_disk(concurrency_control),
    }
}

fn scaling_from_disk(config: disk::Scaling) -> ScalingConfig {
    let disk::Scaling { strategy, min_replicas, max_replicas, metrics, concurrency_control } = config;
    ScalingConfig {
        strategy: match strategy {
            disk::Strategy::Hpa => ScalingStrategy::Hpa,
            disk::Strategy::Internal => ScalingStrategy::Internal,
            disk::Strategy::None => ScalingStrategy::None,
        },
        min_replicas,
        max_replicas,
        metrics: metrics
            .into_iter()
            .map(|disk::Metric { kind, target, query }| ScalingMetric { kind, target, query })
            .collect(),
        concurrency_control: control_from_disk(concurrency_control),
    }
}

fn control_to_disk(control: ConcurrencyControl) -> disk::InFlight {
    let ConcurrencyControl {
        mode,
        target_in_flight_per_pod,
        min_target_in_flight_per_pod,
        max_target_in_flight_per_pod,
        upscale_cooldown_ms,
        downscale_cooldown_ms,
        high_load_threshold,
        low_load_threshold,
    } = control;
    disk::InFlight {
        mode: match mode {
            ConcurrencyMode::Fixed => disk::InFlightMode::Fixed,
            ConcurrencyMode::StaticPerPod => disk::InFlightMode::StaticPerPod,
            ConcurrencyMode::AdaptivePerPod => disk::InFlightMode::AdaptivePerPod,
        },
        target_in_flight_per_pod,
        min_target_in_flight_per_pod,
        max_target_in_flight_per_pod,
        upscale_cooldown_ms,
        downscale_cooldown_ms,
        high_load_threshold,
        low_load_threshold,
    }
}

fn control_from_disk(control: disk::InFlight) -> ConcurrencyControl {
    let disk::InFlight {
        mode,
        target_in_flight_per_pod,
        min_target_in_flight_per_pod,
        max_target_in_flight_per_pod,
        upscale_cooldown_ms,
        downscale_cooldown_ms,
        high_load_threshold,
        low_load_threshold,
    } = control;
    ConcurrencyControl {
        mode: match mode {
            disk::InFlightMode::Fixed => ConcurrencyMode::Fixed,
            disk::InFlightMode::StaticPerPod => ConcurrencyMode::StaticPerPod,
            disk::InFlightMode::AdaptivePerPod => ConcurrencyMode::AdaptivePerPod,
        },
        target_in_flight_per_pod,
        min_target_in_flight_per_pod,
        max_target_in_flight_per_pod,
        upscale_cooldown_ms,
        downscale_cooldown_ms,
        high_load_threshold,
        low_load_threshold,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use disk::Functions as _;
    use nanofaas_wire::function::Registration;

    const REGISTRATION: Registration = Registration {
        default_timeout_ms: 30_000,
        default_concurrency: 4,
        default_queue_size: 100,
        default_max_retries: 7,
        image_optional: true,
        pods: true,
    };

    /// Functions with every member that one may have.
    const ALL: [&str; 6] = [
        r#"{"name":"f","executionMode":"LOCAL"}"#,
        r#"{"name":"f","executionMode":"LOCAL","maxRetries":1}"#,
        r#"{"name":"f","executionMode":"POOL","endpointUrl":"http://h","maxRetries":4,"rateLimitPerSecond":9,
            "env":{"A":"b"},"timeoutMs":7,"concurrency":2,"queueSize":3,"retryBackoffMs":5}"#,
        r#"{"name":"f","executionMode":"DEPLOYMENT","runtimeCommand":"cat -","runtimeMode":"STDIO","workingDir":"/srv",
            "command":["a","b"],"scalingConfig":{"strategy":"INTERNAL","minReplicas":1,"maxReplicas":3,
            "metrics":[{"type":"in_flight","target":"2"}],
            "concurrencyControl":{"mode":"ADAPTIVE_PER_POD","highLoadThreshold":0.85,"lowLoadThreshold":0.3}}}"#,
        r#"{"name":"f","image":"i:1","executionMode":"DEPLOYMENT","resources":{"cpu":"250m"},"runtimeMode":"FILE",
            "imagePullSecrets":["s"],"scalingConfig":{"strategy":"NONE","concurrencyControl":{"mode":"STATIC_PER_POD",
            "targetInFlightPerPod":3}}}"#,
        r#"{"name":"f","image":"i:1","resources":{"requests":{"cpu":"1"},"limits":{"memory":"1Gi"}},"containerPort":9000,
            "healthPath":"","nodeSelector":{"disk":"ssd"},"tolerations":[{"key":"gpu","operator":"Equal","value":"a",
            "effect":"NoExecute","tolerationSeconds":5}],"topologySpreadConstraints":[{"topologyKey":"zone","maxSkew":2,
            "whenUnsatisfiable":"ScheduleAnyway"}],"annotations":{"a":"b"},"labels":{"c":"d"},"serviceAccountName":"s",
            "readOnlyRootFilesystem":false,"volumes":[
            {"name":"a","mountPath":"/a","readOnly":true,"subPath":"x","configMap":{"name":"c"}},
            {"name":"b","mountPath":"/b","secret":{"secretName":"s"}},
            {"name":"c","mountPath":"/c","emptyDir":{"medium":"Memory","sizeLimit":"1Mi"}},
            {"name":"d","mountPath":"/d","persistentVolumeClaim":{"claimName":"p"}}]}"#,
    ];

    #[test]
    fn functions_come_back_from_the_disk_as_they_were() {
        for text in ALL {
            let spec = FunctionSpec::parse(text.as_bytes(), &REGISTRATION).expect("a function").core_spec();
            let on_disk = ApiFunctions.to_disk(&spec).expect("its document is one");
            assert_eq!(ApiFunctions.to_core(on_disk), Some(spec), "{text}");
        }
    }

    #[test]
    fn attempts_that_no_document_names_are_kept() {
        for (attempts, policy) in [(0, (1, 1)), (1, (1, 1)), (3, (3, 1)), (7, (7, 1))] {
            let registration = Registration { default_max_retries: attempts, ..REGISTRATION };
            let spec = FunctionSpec::parse(ALL[0].as_bytes(), &registration).expect("a function").core_spec();
            let read = ApiFunctions.to_disk(&spec).and_then(|on_disk| ApiFunctions.to_core(on_disk));
            let read = read.expect("it comes back");
            assert_eq!((read.policy.attempts_max, read.policy.sync_attempts_max), policy);
            assert_eq!(read, spec, "clients read something else");
            assert!(!String::from_utf8_lossy(&read.document).contains("axRetries"));
        }
    }

    #[test]
    fn what_is_no_document_is_not_written_down() {
        let spec = FunctionSpec::parse(ALL[0].as_bytes(), &REGISTRATION).expect("a function").core_spec();
        assert_eq!(ApiFunctions.to_disk(&shard_core::FunctionSpec { document: "{".into(), ..spec }), None);
    }
}
