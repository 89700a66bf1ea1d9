//! The table of settings. The only place where a setting is written down.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use nanofaas_base::environment;

use super::{
    browser::{AllowedHost, AllowedOrigin},
    key::settings,
    state_dir,
    value::{BackendKind, FunctionSource, Placement, PullPolicy, Secret},
};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// The longest time anything may be given, in milliseconds.
const DAY_MS: u128 = 86_400_000;
/// The longest time anything is kept, in milliseconds.
const YEAR_MS: u128 = 366 * DAY_MS;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

settings! {
    /// What the server knows before it starts. Fields are named after their keys: `async-queue.enabled` is
    /// `async_queue.enabled`.
    root {
        /// Threads that serve; each owns one shard.
        workers: usize = cores(), in 1..=1024;
        /// Whether a worker serves connections and its shard on one thread.
        placement: Placement = Placement::Colocated;
        /// Where durable state lives.
        data_dir: PathBuf = state_dir(environment::var);
        /// How long to wait for another server that still uses the data directory.
        data_dir_wait: Duration = Duration::ZERO, in 0..=DAY_MS;
        /// Keeps everything in memory; nothing survives a restart.
        ephemeral: bool = false;
    }

    /// The API listener.
    server: Server {
        /// IP address of the API listener.
        host: IpAddr = LOOPBACK;
        /// Port of the API listener; 0 takes a free one.
        port: u16 = 8080, env "SERVER_PORT";
        /// Names and addresses that the listeners accept as `Host`, besides localhost and, off loopback, any address.
        allowed_hosts: Vec<AllowedHost> = Vec::new();
    }

    /// Pages of other origins.
    cors: Cors {
        /// Origins whose pages may use the API.
        allowed_origins: Vec<AllowedOrigin> = Vec::new();
    }

    /// The management listener: health and metrics.
    management: Management {
        /// IP address of the management listener.
        host: IpAddr = LOOPBACK;
        /// Port of the management listener; 0 takes a free one.
        port: u16 = 8081, env "MANAGEMENT_SERVER_PORT";
    }

    /// The internal listener.
    internal: Internal {
        /// Address and port that `/v1/internal` moves to; unset leaves it on the API listener.
        bind: Option<SocketAddr> = None;
    }

    /// The server's own rate limit.
    rate: Rate {
        /// Invocations admitted per second, all functions together; 0 is no limit.
        max_per_second: u32 = 1000, in 0..=u32::MAX.into();
    }

    /// What a function gets if its registration does not say.
    defaults: Defaults {
        /// Time for one attempt.
        timeout: Duration = seconds(30), leaf "timeout-ms", in 1..=DAY_MS;
        /// Attempts in flight per function.
        concurrency: u32 = 4, in 1..=u32::MAX.into();
        /// Executions waiting per function.
        queue_size: u32 = 100, in 1..=1_000_000;
        /// Attempts per execution.
        max_retries: u32 = 3, in 0..=100;
    }

    /// Bounds on what clients and functions may send and hold.
    limits: Limits {
        /// Longest request body.
        request_bytes: u64 = MIB, in 1..=(1 << 30);
        /// Longest answer of a function, and longest callback body.
        response_bytes: u64 = 16 * MIB, in 1..=(1 << 30);
        /// Payloads waiting in all queues together.
        queued_bytes: u64 = 256 * MIB, in 1..=(1 << 40);
        /// Request bodies that are being received, all together.
        bodies_bytes: u64 = 128 * MIB, in 1..=(1 << 40);
        /// Longest spec of a function.
        spec_bytes: u64 = 64 * KIB, in 1..=(1 << 30);
        /// Specs of all functions together.
        specs_bytes: u64 = 256 * MIB, in 1..=(1 << 40);
        /// Client connections at one time.
        connections: u32 = 20_000, in 1..=10_000_000;
        /// Time for a client to send a request head.
        header_timeout: Duration = seconds(10), in 1..=DAY_MS;
        /// Time until more of a body that is being received has to arrive.
        body_timeout: Duration = seconds(30), in 1..=DAY_MS;
        /// Time a connection may stay idle between two requests.
        idle_timeout: Duration = seconds(120), in 1..=DAY_MS;
        /// Longest request head; the server's parser needs at least 8 KiB.
        header_bytes: u64 = 16 * KIB, in (8 << 10)..=(1 << 20);
    }

    /// How long finished executions can be read.
    executions: Executions {
        /// Time a finished synchronous execution is kept.
        ttl: Duration = seconds(5 * 60), in 1..=YEAR_MS;
        /// Time a finished execution that was accepted for later is kept, with its output.
        accepted_ttl: Duration = seconds(24 * 3600), in 1..=YEAR_MS;
        /// Time the output of a finished synchronous execution is kept.
        payload_ttl: Duration = seconds(2 * 60), in 0..=YEAR_MS;
        /// Finished executions kept at most, in the whole server.
        max_count: u64 = 1_000_000, in 1..=(1 << 40);
        /// Payloads of finished executions kept in memory at most, in the whole server.
        max_bytes: u64 = 256 * MIB, in 1..=(1 << 44);
        /// Payloads of finished executions kept on disk only, in the whole server, of those that were accepted for later; 0: none.
        max_disk_bytes: u64 = 4 * GIB, in 0..=(1 << 50);
    }

    /// Idempotency keys.
    idempotency: Idempotency {
        /// Time a key is remembered after its last write.
        ttl: Duration = seconds(5 * 60), in 1..=YEAR_MS;
        /// Keys remembered at most, in the whole server.
        max_count: u64 = 1_000_000, in 1..=(1 << 40);
    }

    /// The async-queue module.
    async_queue: AsyncQueue {
        /// Accepts `:enqueue`.
        enabled: bool = false;
    }

    /// The sync-queue module.
    sync_queue: SyncQueue {
        /// Rejects synchronous calls early instead of letting them wait.
        enabled: bool = false, env "SYNC_QUEUE_ENABLED";
        /// Rejects by estimated wait as well.
        admission_enabled: bool = true, env "SYNC_QUEUE_ADMISSION_ENABLED";
        /// Callers waiting per function.
        max_depth: u32 = 200, env "SYNC_QUEUE_MAX_DEPTH", in 1..=u32::MAX.into();
        /// Longest estimated wait that is admitted.
        max_estimated_wait: Duration = seconds(2), env "SYNC_QUEUE_MAX_ESTIMATED_WAIT", in 1..=DAY_MS;
        /// Longest time in the queue.
        max_queue_wait: Duration = seconds(2), env "SYNC_QUEUE_MAX_QUEUE_WAIT", in 1..=DAY_MS;
        /// Smallest Retry-After of a rejection.
        retry_after_seconds: u32 = 2, env "SYNC_QUEUE_RETRY_AFTER_SECONDS", in 1..=86_400;
        /// Window over which the drain rate is observed.
        throughput_window: Duration = seconds(30), env "SYNC_QUEUE_THROUGHPUT_WINDOW", in 1..=DAY_MS;
        /// Samples needed before the drain rate is trusted.
        per_function_min_samples: u32 = 50, env "SYNC_QUEUE_PER_FUNCTION_MIN_SAMPLES", in 1..=u32::MAX.into();
    }

    /// The dispatch of queued asynchronous executions.
    background_scheduler: BackgroundScheduler {
        /// Dispatches queued executions by itself; when off, only `:drain-once` does.
        enabled: bool = true;
    }

    /// The admin API.
    admin: Admin {
        /// Serves `/v1/admin/runtime-config`.
        runtime_config_enabled: bool = false, leaf "runtime-config.enabled";
    }

    /// The autoscaler.
    autoscaler: Autoscaler {
        /// Scales functions with strategy INTERNAL.
        enabled: bool = false;
    }

    /// When the autoscaler decides.
    scaling: Scaling {
        /// Time between two decisions.
        poll_interval: Duration = seconds(5), leaf "poll-interval-ms", in 1..=DAY_MS;
        /// Time after scaling up without scaling up again; scaling from zero neither waits for it nor starts it.
        upscale_cooldown: Duration = seconds(30), leaf "upscale-cooldown-ms", in 0..=DAY_MS;
        /// Time after any scaling without scaling down.
        downscale_cooldown: Duration = seconds(60), leaf "downscale-cooldown-ms", in 0..=DAY_MS;
    }

    /// The image validator.
    image_validator: ImageValidator {
        /// Checks that an image can be pulled before anything of its function is made (backend k8s).
        enabled: bool = false;
    }

    /// The web console.
    console: Console {
        /// Serves `/console/`.
        enabled: bool = false;
    }

    /// How DEPLOYMENT functions run.
    deployment: Deployment {
        /// Backends that are on: process, k8s.
        backends: Vec<BackendKind> = Vec::new();
        /// Backend of functions that name none; it is on even if it is not listed.
        default_backend: Option<BackendKind> = None;
        /// Time for the first replicas of a function to become ready.
        ready_timeout: Duration = seconds(20), in 1..=DAY_MS;
    }

    /// Calls to functions.
    http_client: HttpClient {
        /// Time to connect to a function; at most half of what the attempt has left, or 1.5 s if that is more.
        connect_timeout: Duration = seconds(5), leaf "connect-timeout-ms", in 1..=DAY_MS;
        /// Time for a function to answer; unset means what is left of the attempt.
        read_timeout: Option<Duration> = None, leaf "read-timeout-ms", in 1..=DAY_MS;
        /// Connections to one endpoint, per worker.
        max_connections_per_endpoint: u32 = 1024, in 1..=1_000_000;
    }

    /// The Kubernetes backend.
    k8s: K8s {
        /// Namespace of the functions; unset takes the server's own, or that of the kubeconfig.
        namespace: Option<String> = None, env "POD_NAMESPACE";
        /// Kubeconfig; unset takes the account of the server's Pod, else $KUBECONFIG or ~/.kube/config.
        kubeconfig: Option<PathBuf> = None;
        /// Tells this server's objects from those of others in the namespace; a label.
        installation: String = "nanofaas".to_owned();
        /// Where functions are written down: api, or crd for resources of Kubernetes.
        functions: FunctionSource = FunctionSource::Api;
        /// Address of the API as people in the cluster reach it; only told in the status of resources.
        api_url: Option<String> = None;
        /// Address that functions report results to; unset derives it from the listener, if that has an address.
        callback_url: Option<String> = None;
        /// When a node pulls a function's image: Always, IfNotPresent, Never.
        image_pull_policy: PullPolicy = PullPolicy::Always;
        /// Only Pods labelled app=nanofaas-control-plane may call functions.
        network_policy: bool = false;
        /// Address and port of the API external.metrics.k8s.io, by which HorizontalPodAutoscalers read metrics; unset: off.
        external_metrics_bind: Option<SocketAddr> = None, leaf "external-metrics.bind";
        /// Certificate of that API, PEM; read again when it changes.
        external_metrics_certificate: Option<PathBuf> = None, leaf "external-metrics.certificate";
        /// Key of the certificate, PEM.
        external_metrics_key: Option<PathBuf> = None, leaf "external-metrics.key";
    }

    /// Delivery of results to `X-Callback-Url`.
    delivery: Delivery {
        /// Key of the signature; without it the header is rejected.
        secret: Option<Secret> = None;
        /// Delivers to private, loopback and link-local addresses.
        allow_private: bool = false;
        /// Tries per result.
        max_attempts: u32 = 5, in 1..=100;
        /// Time for one try.
        timeout: Duration = seconds(10), in 1..=DAY_MS;
    }

    /// How the server ends.
    shutdown: Shutdown {
        /// Time between turning not ready and closing the listeners.
        delay: Duration = Duration::ZERO, in 0..=DAY_MS;
        /// Time for what is in flight to finish.
        timeout: Duration = seconds(30), in 1..=DAY_MS;
    }

    /// What is exported.
    metrics: Metrics {
        /// Functions with their own series; the rest is summed up under `_other`.
        max_functions: u32 = 10_000, in 1..=1_000_000;
    }
}
