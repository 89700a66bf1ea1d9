//! The server: puts the parts together, starts them, and takes them down in order.

mod parts;

use std::{
    io,
    net::SocketAddr,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use listenfd::ListenFd;
use nanofaas_backends::process::ProcessBackendError;
use nanofaas_base::signals::{Signals, survive_large_files};
use nanofaas_store::StoreError;
use nanofaas_web::server::Drain;
use shard_core::Input;
use shard_runtime::{Worker, Workers};
use tokio::{net::TcpListener, signal::unix::SignalKind, sync::watch, task::JoinHandle};

use crate::{
    config::{self, Config},
    delivery::{Deliveries, address},
    deployments::Deployments,
    descriptors,
    dispatch::{DispatchOptions, Dispatcher},
    durable::Durable,
    host::ShardHost,
    http::{
        body::BodyBudget,
        connection::{ConnectionCount, ConnectionLimits, Connections, OriginPolicies},
        handlers::{Api, ApiSettings, ListenerKind},
        listener::{Listener, Socket, bind, take_over},
        origin::OriginPolicy,
        route,
    },
    management::{Management, STUCK_AFTER},
    runtime_config::RuntimeConfig,
    telemetry::answers::AllAnswers,
};

/// Time that replicas get to finish, at least, when the rest of the shutdown took all there was.
const REPLICAS_GRACE_MIN: Duration = Duration::from_secs(2);
/// Time for requests that are on their way over open connections, at most. It passes only while connections are open.
const IDLE_GRACE_MAX: Duration = Duration::from_secs(1);
/// Time for the last answers of the management listener.
const MANAGEMENT_GRACE: Duration = Duration::from_millis(500);
/// Time for deliveries that the next server would make again: enough for a receiver that answers.
const DELIVERY_GRACE: Duration = Duration::from_secs(1);
/// Part of the shutdown time after which what still waits in a queue is refused.
const QUEUE_PATIENCE: f64 = 0.8;

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
    #[error("deployment backend '{0}' is not part of this version; available: process")]
    UnknownBackend(String),
    /// The process backend does not start.
    #[error(transparent)]
    Process(#[from] ProcessBackendError),
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
    // Before any thread runs: it takes the variables out of the environment, which functions would inherit.
    let mut handed = ListenFd::from_env();
    let api = listen(&mut handed, 0, config.api_address(), "server.port")?;
    let management = listen(&mut handed, 1, config.management_address(), "management.port")?;
    let internal = config.internal.bind;
    let internal = internal.map(|address| listen(&mut handed, 2, address, "internal.bind")).transpose()?;
    let api_address = api.listener.local_addr()?;
    let management_address = management.listener.local_addr()?;
    let internal_address =
        internal.as_ref().map_or(Ok(api_address), |internal| internal.listener.local_addr())?;

    let workers: Arc<Workers<ShardHost>> = Workers::new(parts::shape(&config));
    let deployments =
        Arc::new(Deployments::new(workers.inbox(), parts::default_backend(&config), |events| {
            parts::backends(&config, internal_address, events)
        })?);
    let deliveries = Deliveries::of(&config.delivery, workers.inbox())?;
    let durable = Durable::open(&config, &workers)?;
    let threads = start_threads(&workers, &config, &deployments, deliveries.clone(), durable.clone())?;
    let image_optional = config.deployment.backends_on().contains(&config::Backend::Process);
    let runtime_config = Arc::new(RuntimeConfig::new(&workers, config.clone(), image_optional));
    let serving_threads = workers.plan().listening().count();
    let server = Server {
        answers: Arc::new(AllAnswers::new(serving_threads, &route::TEMPLATES)),
        runtime_config,
        deliveries,
        durable,
        workers,
        deployments,
        connections: Arc::default(),
        ready: Arc::new(AtomicBool::new(false)),
        stopping: watch::Sender::new(false),
        config,
    };
    let management_drain = Drain::default();
    let policy = parts::origin_policy(&server.config, management_address);
    let management_thread = server.start_management(management.listener, policy, management_drain.clone())?;
    if server.durable.journal().is_durable() {
        let data_dir = server.config.data_dir.display();
        tracing::info!(management = %management_address, %data_dir, "recovering");
        tokio::select! {
            recovered = server.durable.recover(&server.workers) => recovered?,
            () = signals.next() => {
                // Nothing was promised yet, and all is where it was.
                server.deployments.shut_down(REPLICAS_GRACE_MIN);
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
    let policies = OriginPolicies {
        api: parts::origin_policy(&server.config, api_address),
        internal: parts::origin_policy(&server.config, internal_address),
    };
    let listeners = server.open(api, internal, policies);
    server.ready.store(true, Ordering::Relaxed);
    tracing::info!(
        api = %api_address,
        management = %management_address,
        shards = server.workers.shards(),
        backends = server.deployments.ids().join(","),
        "serving"
    );
    serving(&Listening { api: api_address, management: management_address });

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

impl Server {
    /// Starts to listen: every listening thread gets its connections, one thread accepts.
    fn open(&self, api: Socket, internal: Option<Socket>, policies: OriginPolicies) -> Vec<JoinHandle<()>> {
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

    fn start_management(
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

    /// Refuses traffic, lets what is in progress end, stops replicas. Returns the exit code.
    async fn shut_down(&self, listeners: Vec<JoinHandle<()>>) -> ExitCode {
        let started = Instant::now();
        let config = &self.config.shutdown;
        self.ready.store(false, Ordering::Relaxed);
        tracing::info!(connections = self.open_connections(), "draining");
        tokio::time::sleep(config.delay).await;
        let deadline = Instant::now() + config.timeout;
        for shard in 0..self.workers.shards() {
            self.workers.post(shard, Input::EndWatches);
            if self.durable.journal().is_durable() {
                self.workers.post(shard, Input::Hold);
            }
        }
        self.each_listening(|connections| connections.drain());
        self.stopping.send_replace(true);
        for listener in listeners {
            // What has connected so far must be counted before anything is waited for.
            let _ = listener.await;
        }
        if !self.connections_ended(Instant::now() + IDLE_GRACE_MAX.min(config.timeout / 4)).await {
            self.each_listening(|connections| connections.close_idle());
        }
        if !self.connections_ended(started + config.delay + config.timeout.mul_f64(QUEUE_PATIENCE)).await {
            for shard in 0..self.workers.shards() {
                self.workers.post(shard, Input::Drain { finally: true });
            }
        }
        let mut cut_off = 0;
        if !self.connections_ended(deadline).await {
            self.each_listening(|connections| connections.cut_off());
            self.connections_ended(Instant::now() + Duration::from_secs(1)).await;
            cut_off = self.connections.cut_off.load(Ordering::Relaxed);
        }
        let lost = self.accepted_left(deadline).await;
        let grace = deadline.saturating_duration_since(Instant::now()).max(REPLICAS_GRACE_MIN);
        let deployments = Arc::clone(&self.deployments);
        let stopping = tokio::task::spawn_blocking(move || deployments.shut_down(grace));
        let undelivered = self.undelivered(deadline).await;
        let stopped = stopping.await;
        if let Err(error) = stopped {
            tracing::error!(%error, "stopping replicas failed");
        }
        let seconds = started.elapsed().as_secs_f64();
        if cut_off > 0 || lost > 0 || undelivered > 0 {
            tracing::error!(
                requests = cut_off,
                executions = lost,
                results = undelivered,
                seconds,
                "ended with requests cut off, or with accepted executions unfinished or results undelivered that nothing keeps; raise shutdown.timeout"
            );
            return ExitCode::FAILURE;
        }
        tracing::info!(seconds, "ended");
        ExitCode::SUCCESS
    }

    /// Gives results that wait for their delivery another try. Those that nobody has taken then are lost with a server
    /// that keeps nothing, which therefore waits as long as it may; how many those are.
    async fn undelivered(&self, deadline: Instant) -> usize {
        let Some(deliveries) = &self.deliveries else { return 0 };
        if !self.durable.journal().is_durable() {
            return deliveries.drain(deadline).await;
        }
        let left = deliveries.drain(deadline.min(Instant::now() + DELIVERY_GRACE)).await;
        if left > 0 {
            tracing::info!(results = left, "results are left for the next server to deliver");
        }
        0
    }

    /// Waits for accepted executions. In memory they end with the server: all of them, and those that are left are
    /// lost. On disk they wait for the next one: only attempts in flight, which would be made again.
    async fn accepted_left(&self, deadline: Instant) -> usize {
        let is_durable = self.durable.journal().is_durable();
        loop {
            let mut left = 0;
            for shard in 0..self.workers.shards() {
                let count = move |shard: &shard_core::Shard, _: &mut ShardHost| {
                    let totals = shard.totals();
                    if is_durable { totals.attempts } else { totals.accepted }
                };
                left += self.workers.ask(shard, count).await.unwrap_or(0);
            }
            // Nobody will ask for what waits to be drained by hand.
            let patience = is_durable || self.config.background_scheduler.enabled;
            if left == 0 || !patience || Instant::now() >= deadline {
                return if is_durable { 0 } else { left };
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn open_connections(&self) -> usize {
        self.connections.open.load(Ordering::Relaxed)
    }

    async fn connections_ended(&self, deadline: Instant) -> bool {
        while self.open_connections() > 0 {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        true
    }

    fn each_listening(&self, work: impl Fn(&Connections) + Clone + Send + 'static) {
        for thread in self.workers.plan().listening() {
            let work = work.clone();
            self.workers.run_on(thread, move |_| {
                Connections::on_this_thread(|connections| work(connections));
            });
        }
    }
}
