//! Parts of a server, made from its configuration.

use std::{
    fs, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use nanofaas_backends::{
    Backend, Events,
    process::{ProcessBackend, ProcessOptions},
};
use nanofaas_base::environment;
#[cfg(feature = "kubernetes")]
use nanofaas_kubernetes::{
    IMAGE_CHECK_TIMEOUT, KubernetesBackend, KubernetesBackendError, KubernetesOptions, WatchLimits,
    access::Access,
};
use shard_core::{Limits, Room};
use shard_runtime::{Placement, Plan, Shape, plan::plan};

use super::{ServeError, Server};
#[cfg(feature = "kubernetes")]
use crate::resources::{ResourceOptions, ShardRegistry};
use crate::{
    config::{self, Config, quantity::micros},
    deployments::Deployments,
    http::origin::OriginPolicy,
    resources::Resources,
    runtime_config,
};

/// New work that may wait in one thread's mailbox.
const MAILBOX_MAX: usize = 65_536;
/// Bytes kept with dead letters, over all shards.
const DEAD_LETTERS_BYTES_MAX: u64 = 128 << 20;
/// Callers of one thread that may wait for answers.
const CALLERS_MAX: usize = 1 << 20;

pub(super) fn shape(config: &Config) -> Shape {
    let placement = match config.placement {
        config::Placement::Colocated => Placement::Colocated,
        config::Placement::Split => Placement::Split,
    };
    let plan: Plan = plan(u16::try_from(config.workers).unwrap_or(u16::MAX), placement);
    let shards = u64::from(plan.shards());
    // Without a log there is nothing to read them from.
    let disk_bytes = if config.ephemeral { 0 } else { config.executions.max_disk_bytes };
    // Random per process, so that two servers started together do not retry in step.
    let mut seed = [0; 8];
    let _ = getrandom::fill(&mut seed);
    Shape {
        limits: Limits {
            results_on_disk: disk_bytes > 0,
            executions_ttl_us: micros(config.executions.ttl),
            accepted_ttl_us: micros(config.executions.accepted_ttl),
            payload_ttl_us: micros(config.executions.payload_ttl),
            dead_letters_bytes_max: DEAD_LETTERS_BYTES_MAX.div_ceil(shards),
            specs_bytes_max: config.limits.specs_bytes.div_ceil(shards),
            removed_letters_bytes_max: config.limits.queued_bytes,
            keys_ttl_us: micros(config.idempotency.ttl),
            ..Limits::default()
        },
        room: Room {
            executions: config.executions.max_count,
            bytes: config.executions.max_bytes,
            disk_bytes,
            keys: config.idempotency.max_count,
        },
        settings: runtime_config::settings(&runtime_config::initial(config), config),
        queued_bytes_max: config.limits.queued_bytes,
        mailbox_max: MAILBOX_MAX,
        callers_max: CALLERS_MAX,
        seed: u64::from_ne_bytes(seed),
        plan,
    }
}

/// Who may talk to the listener at this address.
pub(super) fn origin_policy(config: &Config, listener: SocketAddr) -> OriginPolicy {
    OriginPolicy::new(listener, &config.server.allowed_hosts, &config.cors.allowed_origins)
}

pub(super) fn default_backend(config: &Config) -> Option<String> {
    config.deployment.default_backend.map(|backend| backend.to_string())
}

pub(super) fn backends(
    config: &Config,
    callback: SocketAddr,
    events: Arc<dyn Events>,
) -> Result<Vec<Arc<dyn Backend>>, ServeError> {
    let mut backends: Vec<Arc<dyn Backend>> = Vec::new();
    for backend in config.deployment.backends_on() {
        backends.push(match backend {
            config::BackendKind::Process => Arc::new(ProcessBackend::new(
                ProcessOptions {
                    ready_timeout: config.deployment.ready_timeout,
                    callback_url: Some(callback_url(callback)),
                    path: environment::var_os("PATH"),
                    ..ProcessOptions::default()
                },
                Arc::clone(&events),
            )?),
            #[cfg(feature = "kubernetes")]
            config::BackendKind::K8s => Arc::new(kubernetes(config, callback, &events)?),
            other => return Err(ServeError::UnknownBackend(other.to_string())),
        });
    }
    Ok(backends)
}

#[cfg(feature = "kubernetes")]
fn kubernetes(
    config: &Config,
    callback: SocketAddr,
    events: &Arc<dyn Events>,
) -> Result<KubernetesBackend, KubernetesBackendError> {
    let settings = &config.k8s;
    // Loopback is the Pod's own there, and an address that stands for all is none.
    let reachable = !callback.ip().is_unspecified() && !callback.ip().is_loopback();
    let options = KubernetesOptions {
        access: Access::find(settings.kubeconfig.as_deref(), environment::var)?,
        namespace: settings.namespace.clone(),
        installation: settings.installation.clone(),
        callback_url: settings.callback_url.clone().or_else(|| reachable.then(|| callback_url(callback))),
        image_pull_policy: settings.image_pull_policy.to_string(),
        network_policy: settings.network_policy,
        ready_timeout: config.deployment.ready_timeout,
        image_check: config.image_validator.enabled.then_some(IMAGE_CHECK_TIMEOUT),
        limits: WatchLimits::default(),
    };
    KubernetesBackend::new(options, Arc::clone(events))
}

/// What says that functions have become resources, in the data directory.
const RESOURCES_MARK: &str = "resources";

/// What keeps functions and resources the same, if functions are resources.
pub(super) fn resources(server: &Server) -> Result<Option<Resources>, ServeError> {
    let config = &server.config;
    let mark = (!config.ephemeral).then(|| config.data_dir.join(RESOURCES_MARK));
    if config.k8s.functions == config::FunctionSource::Api {
        // Whoever turns it on again means the functions of then.
        match mark.map_or(Ok(()), fs::remove_file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "cannot note that functions are no resources");
            }
            _ => {}
        }
        return Ok(None);
    }
    start_resources(server, mark).map(Some)
}

#[cfg(not(feature = "kubernetes"))]
fn start_resources(_: &Server, _: Option<PathBuf>) -> Result<Resources, ServeError> {
    Err(ServeError::UnknownBackend("k8s".to_owned()))
}

#[cfg(feature = "kubernetes")]
fn start_resources(server: &Server, mark: Option<PathBuf>) -> Result<Resources, ServeError> {
    let config = &server.config;
    let settings = &config.k8s;
    let options = ResourceOptions {
        access: Access::find(settings.kubeconfig.as_deref(), environment::var)
            .map_err(KubernetesBackendError::Access)?,
        namespace: settings.namespace.clone(),
        installation: settings.installation.clone(),
        api_url: settings.api_url.clone(),
        mark,
        limits: WatchLimits::default(),
    };
    let registry = ShardRegistry {
        workers: Arc::clone(&server.workers),
        deployments: Arc::clone(&server.deployments),
        runtime_config: Arc::clone(&server.runtime_config),
        spec_bytes_max: usize::try_from(config.limits.spec_bytes).unwrap_or(usize::MAX),
    };
    Ok(Resources::start(options, Arc::new(registry))?)
}

/// Where a program of this machine reports a result.
fn callback_url(listener: SocketAddr) -> String {
    let mut address = listener;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("http://{address}/v1/internal/executions")
}

pub(super) fn features(config: &Config, deployments: &Deployments) -> Vec<&'static str> {
    let mut features = vec!["build-metadata"];
    features.extend(config.async_queue.enabled.then_some("async-queue"));
    features.extend(config.sync_queue.enabled.then_some("sync-queue"));
    features.extend(config.admin.runtime_config_enabled.then_some("runtime-config"));
    features.extend(deployments.ids());
    features
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn what_functions_inherit_stays() {
        // What the server does not have after its start, it cannot pass on.
        let inherited = nanofaas_backends::process::environment::INHERITED;
        for name in inherited.into_iter().chain(["LC_ALL"]) {
            assert!(environment::is_harmless(OsStr::new(name)), "{name}");
        }
    }
}
