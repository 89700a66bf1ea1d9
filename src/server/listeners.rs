//! Where a server listens: its sockets, which it has before anything else starts, and the listeners on them.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicUsize},
};

use listenfd::ListenFd;
use tokio::task::JoinHandle;

use super::{ServeError, Server, parts};
use crate::{
    config::Config,
    delivery::address,
    http::{
        body::BodyBudget,
        connection::{ConnectionLimits, Connections, OriginPolicies},
        handlers::{Api, ApiSettings, ListenerKind},
        listener::{Listener, Socket, bind, take_over},
    },
};

/// The sockets of a server; nobody is accepted yet.
pub(super) struct Sockets {
    pub(super) api: Socket,
    pub(super) management: Socket,
    /// For callbacks only, when they do not go to the API.
    pub(super) internal: Option<Socket>,
    /// For HorizontalPodAutoscalers.
    pub(super) external_metrics: Option<Socket>,
    pub(super) addresses: Addresses,
}

/// The addresses of the sockets.
#[derive(Clone, Copy)]
pub(super) struct Addresses {
    pub(super) api: SocketAddr,
    pub(super) management: SocketAddr,
    /// Where callbacks go.
    pub(super) internal: SocketAddr,
}

impl Sockets {
    /// Takes the addresses. Call it before any thread runs: it takes variables out of the environment, which functions
    /// would inherit.
    pub(super) fn bind(config: &Config) -> Result<Sockets, ServeError> {
        let mut handed = ListenFd::from_env();
        let api = listen(&mut handed, 0, config.api_address(), "server.port")?;
        let management = listen(&mut handed, 1, config.management_address(), "management.port")?;
        let internal = config.internal.bind;
        let internal =
            internal.map(|address| listen(&mut handed, 2, address, "internal.bind")).transpose()?;
        let external_metrics = config.k8s.external_metrics_bind.map(|address| {
            let setting = "k8s.external-metrics.bind";
            bind(address).map_err(|source| ServeError::Bind { address, setting, source })
        });
        let of_api = api.listener.local_addr()?;
        let addresses = Addresses {
            api: of_api,
            management: management.listener.local_addr()?,
            internal: internal.as_ref().map_or(Ok(of_api), |internal| internal.listener.local_addr())?,
        };
        Ok(Sockets { api, management, internal, external_metrics: external_metrics.transpose()?, addresses })
    }
}

/// The socket that a supervisor handed over for this listener, or one of our own.
fn listen(
    handed: &mut ListenFd,
    place: usize,
    address: SocketAddr,
    setting: &'static str,
) -> Result<Socket, ServeError> {
    let handed = take_over(handed, place).map_err(|source| ServeError::Handed { place, setting, source })?;
    if let Some(socket) = handed {
        let address = socket.listener.local_addr().ok().map(tracing::field::display);
        tracing::info!(setting, address, "listening on a socket that was handed over");
        return Ok(socket);
    }
    bind(address).map_err(|source| ServeError::Bind { address, setting, source })
}

impl Server {
    /// Starts to listen: every listening thread gets its connections, one thread accepts.
    pub(super) fn open(
        &self,
        api: Socket,
        internal: Option<Socket>,
        policies: OriginPolicies,
    ) -> Vec<JoinHandle<()>> {
        let config = &self.config;
        let settings = Arc::new(ApiSettings {
            request_bytes_max: usize::try_from(config.limits.request_bytes).unwrap_or(usize::MAX),
            response_bytes_max: usize::try_from(config.limits.response_bytes).unwrap_or(usize::MAX),
            bodies: BodyBudget::new(config.limits.bodies_bytes),
            spec_bytes_max: usize::try_from(config.limits.spec_bytes).unwrap_or(usize::MAX),
            runtime_config: Arc::clone(&self.runtime_config),
            admin: config.admin.runtime_config_enabled,
            async_queue: config.async_queue.enabled,
            delivery: config
                .delivery
                .secret
                .is_some()
                .then(|| address::permit(config.delivery.allow_private)),
            features: parts::features(config, &self.deployments),
            internal_listener: internal.is_some(),
            resources: self.resources.get().cloned(),
        });
        let limits = ConnectionLimits {
            header_timeout: config.limits.header_timeout,
            idle_timeout: config.limits.idle_timeout,
            body_timeout: config.limits.body_timeout.min(config.limits.idle_timeout),
            header_bytes_max: usize::try_from(config.limits.header_bytes).unwrap_or(usize::MAX),
        };
        let listening: Vec<u16> = self.workers.plan().listening().collect();
        let loads: Vec<Arc<AtomicUsize>> = listening.iter().map(|_| Arc::default()).collect();
        for (thread, answers) in listening.iter().zip(self.answers.of_threads()) {
            let settings = Arc::clone(&settings);
            let count = Arc::clone(&self.connections);
            let policies = policies.clone();
            self.workers.run_on(*thread, move |worker| {
                let api = Api::new(worker.clone(), settings);
                let connections = Connections::new(api, policies, limits, count, answers);
                connections.install();
            });
        }
        let sockets = std::iter::once((api, ListenerKind::Api));
        let sockets = sockets.chain(internal.map(|socket| (socket, ListenerKind::Internal)));
        let mut listeners = Vec::new();
        for (socket, kind) in sockets {
            let listener = Listener {
                kind,
                connections_max: config.limits.connections as usize,
                count: Arc::clone(&self.connections),
                answers: self.answers.of_accepting(),
                threads: listening.iter().copied().zip(loads.iter().cloned()).collect(),
            };
            let (workers, stopping) = (Arc::clone(&self.workers), self.stopping.subscribe());
            // The main thread does nothing else: a busy shard never delays accepting.
            listeners.push(tokio::task::spawn_local(listener.run(socket, workers, stopping)));
        }
        listeners
    }
}
