//! The start of a server: its parts, its threads, and the management listener.

use std::{
    io,
    sync::{Arc, OnceLock, atomic::AtomicBool},
};

use nanofaas_web::server::Drain;
use shard_runtime::{Worker, Workers};
use tokio::{net::TcpListener, sync::watch};

use super::{ServeError, Server, listeners::Addresses, parts};
#[cfg(feature = "kubernetes")]
use crate::external_metrics::{CertificateFiles, ExternalMetrics};
#[cfg(feature = "kubernetes")]
use crate::http::listener::Socket;
use crate::{
    config::Config,
    delivery::Deliveries,
    deployments::Deployments,
    dispatch::{DispatchOptions, Dispatcher},
    durable::Durable,
    host::ShardHost,
    http::{origin::OriginPolicy, route},
    management::{Management, STUCK_AFTER},
    runtime_config::RuntimeConfig,
    telemetry::answers::AllAnswers,
};
#[cfg(feature = "kubernetes")]
use nanofaas_base::environment;
#[cfg(feature = "kubernetes")]
use nanofaas_kubernetes::access::Access;

impl Server {
    /// Puts the parts together and starts the threads. Nobody is listened to yet.
    pub(super) fn start(
        config: Config,
        addresses: Addresses,
    ) -> Result<(Server, shard_runtime::Threads), ServeError> {
        let workers: Arc<Workers<ShardHost>> = Workers::new(parts::shape(&config));
        let deployments =
            Arc::new(Deployments::new(workers.inbox(), parts::default_backend(&config), |events| {
                parts::backends(&config, addresses.internal, events)
            })?);
        let deliveries = Deliveries::of(&config.delivery, workers.inbox())?;
        let durable = Durable::open(&config, &workers)?;
        let threads = start_threads(&workers, &config, &deployments, deliveries.clone(), durable.clone())?;
        let runtime_config = Arc::new(RuntimeConfig::new(&workers, config.clone()));
        let serving_threads = workers.plan().listening().count();
        let server = Server {
            answers: Arc::new(AllAnswers::new(serving_threads, &route::TEMPLATES)),
            runtime_config,
            deliveries,
            durable,
            workers,
            deployments,
            resources: OnceLock::new(),
            connections: Arc::default(),
            ready: Arc::new(AtomicBool::new(false)),
            stopping: watch::Sender::new(false),
            config,
        };
        Ok((server, threads))
    }

    /// Everything that was kept is back: has what nobody has registered removed, and functions follow resources if they are
    /// to. Those are listed before it is known what nobody has registered.
    pub(super) fn start_resources(&self) -> Result<(), ServeError> {
        match parts::resources(self)? {
            None => self.deployments.look_for_leftovers()?,
            Some(resources) => drop(self.resources.set(Arc::new(resources))),
        }
        Ok(())
    }

    /// Starts the thread that serves health and metrics.
    pub(super) fn start_management(
        &self,
        socket: TcpListener,
        policy: OriginPolicy,
        drain: Drain,
    ) -> io::Result<std::thread::JoinHandle<()>> {
        let management = Management {
            workers: Arc::clone(&self.workers),
            stuck_after: STUCK_AFTER,
            ready: Arc::clone(&self.ready),
            durable: Arc::clone(&self.durable),
            functions_max: self.config.metrics.max_functions as usize,
            runtime_config: Arc::clone(&self.runtime_config),
            answers: Arc::clone(&self.answers),
            deployments: Arc::clone(&self.deployments),
        };
        let socket = socket.into_std()?;
        std::thread::Builder::new().name("management".to_owned()).spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
            let served = runtime.and_then(|runtime| {
                runtime.block_on(async {
                    management.serve(TcpListener::from_std(socket)?, policy, &drain).await;
                    Ok(())
                })
            });
            if let Err(error) = served {
                tracing::error!(%error, "management listener ended");
            }
        })
    }
}

#[cfg(feature = "kubernetes")]
impl Server {
    /// Starts the thread that serves external metrics, if anybody is to ask for them.
    pub(super) fn start_external_metrics(
        &self,
        socket: Option<Socket>,
        drain: Drain,
    ) -> Result<(), ServeError> {
        let settings = &self.config.k8s;
        let files = settings.external_metrics_certificate.clone().zip(settings.external_metrics_key.clone());
        // The configuration has them if it has an address.
        let Some((socket, (certificate, key))) = socket.zip(files) else { return Ok(()) };
        let access = Access::find(settings.kubeconfig.as_deref(), environment::var);
        let metrics = ExternalMetrics {
            workers: Arc::clone(&self.workers),
            ready: Arc::clone(&self.ready),
            access: access.map_err(ServeError::ExternalMetrics)?,
            namespace: settings.namespace.clone(),
            files: CertificateFiles { certificate, key },
        };
        let address = socket.listener.local_addr()?;
        let socket = socket.listener.into_std()?;
        tracing::info!(%address, "listening for questions about external metrics");
        std::thread::Builder::new().name("metrics-api".to_owned()).spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
            let served = runtime.and_then(|runtime| {
                runtime.block_on(async {
                    metrics.serve(TcpListener::from_std(socket)?, &drain).await;
                    Ok(())
                })
            });
            if let Err(error) = served {
                tracing::error!(%error, "the listener for external metrics ended");
            }
        })?;
        Ok(())
    }
}

fn start_threads(
    workers: &Arc<Workers<ShardHost>>,
    config: &Config,
    deployments: &Arc<Deployments>,
    deliveries: Option<Deliveries>,
    durable: Arc<Durable>,
) -> Result<shard_runtime::Threads, io::Error> {
    let options = DispatchOptions {
        connect_timeout: config.http_client.connect_timeout,
        read_timeout: config.http_client.read_timeout,
        connections_max: config.http_client.max_connections_per_endpoint as usize,
        response_bytes_max: usize::try_from(config.limits.response_bytes).unwrap_or(usize::MAX),
    };
    let deployments = Arc::clone(deployments);
    shard_runtime::start(workers, move |worker: &Worker<ShardHost>, shard| {
        let sink = worker.sink();
        ShardHost::new(
            shard,
            Dispatcher::new(options.clone(), sink),
            Arc::clone(&deployments),
            durable.journal().shard(shard),
            deliveries.clone(),
        )
    })
}
