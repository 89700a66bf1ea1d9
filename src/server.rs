//! The server: puts the parts together, starts them, and takes them down in order.

mod listeners;
mod parts;
mod shutdown;
mod start;

use std::{
    io,
    net::SocketAddr,
    process::ExitCode,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use nanofaas_backends::process::ProcessBackendError;
use nanofaas_base::signals::{Signals, survive_large_files};
use nanofaas_store::StoreError;
use nanofaas_web::server::Drain;
use shard_runtime::Workers;
use tokio::{signal::unix::SignalKind, sync::watch};

use self::{listeners::Sockets, shutdown::REPLICAS_GRACE_MIN};
use crate::{
    config::Config,
    delivery::Deliveries,
    deployments::Deployments,
    descriptors,
    durable::Durable,
    host::ShardHost,
    http::connection::{ConnectionCount, OriginPolicies},
    resources::Resources,
    runtime_config::RuntimeConfig,
    telemetry::answers::AllAnswers,
};

/// Time for the last answers of the management listener.
const MANAGEMENT_GRACE: Duration = Duration::from_millis(500);

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address cannot be listened on.
    #[error(
        "cannot listen on {address} ({setting}): {source}; choose another with --set {setting}=… or stop what uses it"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The setting that names its port.
        setting: &'static str,
        /// The operating system's word for it.
        source: io::Error,
    },
    /// What a supervisor handed over cannot be listened on.
    #[error("socket {place} of LISTEN_FDS, which is for {setting}, cannot be listened on: {source}")]
    Handed {
        /// Its place, from 0.
        place: usize,
        /// The setting that it stands for.
        setting: &'static str,
        /// The operating system's word for it.
        source: io::Error,
    },
    /// A backend is named that this version does not have.
    #[error("deployment backend '{0}' is not part of this version")]
    UnknownBackend(String),
    /// The process backend does not start.
    #[error(transparent)]
    Process(#[from] ProcessBackendError),
    /// The Kubernetes backend does not start.
    #[cfg(feature = "kubernetes")]
    #[error(transparent)]
    Kubernetes(#[from] nanofaas_kubernetes::KubernetesBackendError),
    /// It is not known who may ask for external metrics.
    #[cfg(feature = "kubernetes")]
    #[error("external metrics: {0}")]
    ExternalMetrics(nanofaas_kubernetes::access::AccessError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A thread, a signal handler or an event queue could not be had.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
}

/// A running server.
struct Server {
    config: Config,
    workers: Arc<Workers<ShardHost>>,
    deployments: Arc<Deployments>,
    connections: Arc<ConnectionCount>,
    ready: Arc<AtomicBool>,
    /// Tells listeners to close.
    stopping: watch::Sender<bool>,
    runtime_config: Arc<RuntimeConfig<ShardHost>>,
    /// What callers were answered.
    answers: Arc<AllAnswers>,
    deliveries: Option<Deliveries>,
    /// What is kept, if anything is.
    durable: Arc<Durable>,
    /// What keeps functions and resources the same, once it has begun.
    resources: OnceLock<Arc<Resources>>,
}

/// Serves until a signal ends it. Exit code 0 after a clean end, 1 when something was cut off.
///
/// `serving` is called once, when calls are taken.
///
/// # Errors
/// When it cannot start.
pub fn run(config: Config, serving: impl FnOnce(&Listening)) -> Result<ExitCode, ServeError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default())?;
    runtime.block_on(serve(config, serving))
}

/// Where a server listens.
#[derive(Debug, Clone, Copy)]
pub struct Listening {
    /// The API.
    pub api: SocketAddr,
    /// Health and metrics.
    pub management: SocketAddr,
}

async fn serve(config: Config, serving: impl FnOnce(&Listening)) -> Result<ExitCode, ServeError> {
    // Signals first: one that comes during the start must not end the process halfway.
    let mut signals = Signals::listen(&[SignalKind::terminate(), SignalKind::interrupt()])?;
    survive_large_files()?;
    descriptors::raise_limit(config.limits.connections);
    tokio::select! {
        () = Durable::wait_for_directory(&config) => {}
        () = signals.next() => return Ok(ExitCode::SUCCESS),
    }
    let Sockets { api, management, internal, external_metrics, addresses } = Sockets::bind(&config)?;
    let (server, threads) = Server::start(config, addresses)?;
    let management_drain = Drain::default();
    let policy = parts::origin_policy(&server.config, addresses.management);
    let management_thread = server.start_management(management.listener, policy, management_drain.clone())?;
    #[cfg(feature = "kubernetes")]
    server.start_external_metrics(external_metrics, management_drain.clone())?;
    #[cfg(not(feature = "kubernetes"))]
    drop(external_metrics);
    if server.durable.journal().is_durable() {
        let data_dir = server.config.data_dir.display();
        tracing::info!(management = %addresses.management, %data_dir, "recovering");
        tokio::select! {
            recovered = server.durable.recover(&server.workers) => recovered?,
            () = signals.next() => {
                // Nothing was promised yet, and all is where it was.
                server.deployments.shut_down(REPLICAS_GRACE_MIN);
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
    server.start_resources()?;
    let policies = OriginPolicies {
        api: parts::origin_policy(&server.config, addresses.api),
        internal: parts::origin_policy(&server.config, addresses.internal),
    };
    let listeners = server.open(api, internal, policies);
    server.ready.store(true, Ordering::Relaxed);
    tracing::info!(
        api = %addresses.api,
        management = %addresses.management,
        shards = server.workers.shards(),
        backends = server.deployments.ids().join(","),
        "serving"
    );
    serving(&Listening { api: addresses.api, management: addresses.management });

    signals.next().await;
    let code = tokio::select! {
        code = server.shut_down(listeners) => code,
        () = signals.next() => {
            tracing::warn!("second signal, ending at once");
            server.deployments.shut_down(Duration::ZERO);
            std::process::exit(1);
        }
    };
    // It answers to the end, and whoever is slow to ask or to read there does not delay that.
    management_drain.start();
    let patience = Instant::now() + MANAGEMENT_GRACE;
    while !management_thread.is_finished() && Instant::now() < patience {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    server.workers.stop();
    threads.join();
    server.durable.journal().close();
    Ok(code)
}
