//! One replica: a process that is kept running, from the moment it is wanted until it is asked to go.
//!
//! A replica is *ready* while its watchdog answers `GET /health` with 200. It answers 503 while its program is
//! down, which it restarts itself; the replica is not in the routing table then. A watchdog that died, or that
//! answers nothing several times in a row, is replaced by a new process after a pause.

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use hyper::{HeaderMap, Method};
use nanofaas_web::client::{Bounds, Client};
use nanofaas_wire::function::FunctionSpec;
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout_at},
};

use super::{
    ReplicaContext,
    backoff::Backoff,
    log::ReplicaLog,
    stop::Stop,
    watchdog::{Reason, Watchdog},
};

/// Between two health checks.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);

/// Bounds of one health check. Generous: a busy machine is not a dead replica.
const HEALTH_BOUNDS: Bounds = Bounds { timeout: Duration::from_secs(2), body_max: 64 << 10 };

/// Health checks without an answer, in a row, until the process is replaced.
const SILENCES_MAX: u32 = 3;

/// Ports that are tried when strangers take them, before the replica counts as failed.
const PORTS_MAX: usize = 3;

/// Time to end a process that is of no use.
const FAILED_START_STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// What a replica tells the function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplicaReport {
    /// Calls may be sent to this address.
    Ready(Arc<str>),
    /// Not for now.
    Unready,
    /// The process ended or was given up, for this reason; there will be another.
    Died(String),
}

/// What runs a replica.
pub struct Replica<R> {
    /// What to run.
    pub spec: Arc<FunctionSpec>,
    /// What all replicas share.
    pub context: Rc<ReplicaContext>,
    /// Keeps what it writes.
    pub log: Rc<ReplicaLog>,
    /// Turns of those that start, so that a hundred at once do not all take too long.
    pub starts: Rc<Semaphore>,
    /// Set when the replica is to go; may then change to an earlier end.
    pub stop: watch::Receiver<Option<Stop>>,
    /// Takes what it tells.
    pub report: R,
}

/// How a process that was ready came to its end.
enum ReplicaEnding {
    /// It was asked to go.
    Stopped,
    /// It was not.
    Died {
        /// Why.
        reason: Reason,
        /// How long it had been ready.
        ready_for: Duration,
    },
}

/// Why a process did not become ready. Nothing is left of it.
enum NotReady {
    /// It was asked to go.
    Stopped,
    /// For this reason.
    Failed(Reason),
    /// Somebody else has its port; another may do.
    LostPort(Reason),
}

impl<R: Fn(ReplicaReport)> Replica<R> {
    /// Keeps a process running until told to stop, and returns when nothing is left of it.
    pub async fn keep(mut self) {
        let mut backoff = Backoff::default();
        while let ReplicaEnding::Died { reason, ready_for } = self.run().await {
            let pause = backoff.pause_after(ready_for);
            let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(
                function = self.spec.name,
                reason = reason.cause,
                pause_ms,
                "a replica died, starting it again"
            );
            (self.report)(ReplicaReport::Died(reason.text));
            tokio::select! {
                () = sleep(pause) => {}
                () = stopped(&mut self.stop) => return,
            }
        }
    }

    /// Runs one process to its end.
    async fn run(&mut self) -> ReplicaEnding {
        match self.start().await {
            Ok((watchdog, address)) => self.serve(watchdog, address).await,
            Err(NotReady::Stopped) => ReplicaEnding::Stopped,
            Err(NotReady::Failed(reason) | NotReady::LostPort(reason)) => {
                ReplicaEnding::Died { reason, ready_for: Duration::ZERO }
            }
        }
    }

    /// Waits for its turn and starts a process; more than one when ports are lost.
    async fn start(&mut self) -> Result<(Watchdog, SocketAddr), NotReady> {
        let starts = Rc::clone(&self.starts);
        let _turn = tokio::select! {
            turn = starts.acquire() => turn,
            () = stopped(&mut self.stop) => return Err(NotReady::Stopped),
        };
        let deadline = Instant::now() + self.context.ready_timeout;
        for _ in 1..PORTS_MAX {
            match self.start_process(deadline).await {
                Err(NotReady::LostPort(reason)) => {
                    let reason = reason.cause;
                    tracing::warn!(function = self.spec.name, reason, "a port was lost, trying another");
                }
                result => return result,
            }
        }
        self.start_process(deadline).await
    }

    async fn start_process(&mut self, deadline: Instant) -> Result<(Watchdog, SocketAddr), NotReady> {
        let mut watchdog = Watchdog::start(&self.spec, &self.context, &self.log)
            .map_err(|reason| NotReady::Failed(reason.into()))?;
        let announced = tokio::select! {
            announced = timeout_at(deadline, watchdog.announced()) => announced,
            () = stopped(&mut self.stop) => {
                watchdog.stop(&mut self.stop).await;
                return Err(NotReady::Stopped);
            }
        };
        let failure = match announced {
            // Where another replica's program is about to bind, this watchdog must not stay.
            Ok(Ok(address)) if self.context.ports.is_reserved(address.port()) => {
                NotReady::LostPort(format!("port {} was given away twice", address.port()).into())
            }
            Ok(Ok(address)) => return Ok((watchdog, address)),
            Ok(Err(reason)) if watchdog.lost_port() => NotReady::LostPort(reason),
            Ok(Err(reason)) => NotReady::Failed(reason),
            Err(_) => {
                let limit_ms = self.context.ready_timeout.as_millis();
                let cause = format!("no answer within {limit_ms} ms");
                NotReady::Failed(Reason::new(&cause, "; it wrote: ", &watchdog.wrote()))
            }
        };
        watchdog.stop_within(FAILED_START_STOP_TIMEOUT).await;
        Err(failure)
    }

    /// From ready to the end.
    async fn serve(&mut self, mut watchdog: Watchdog, address: SocketAddr) -> ReplicaEnding {
        let ready_at = Instant::now();
        tracing::info!(function = self.spec.name, replica = watchdog.id(), %address, "a replica is ready");
        (self.report)(ReplicaReport::Ready(endpoint(address)));
        let mut stop = self.stop.clone();
        let reason = tokio::select! {
            status = watchdog.ended() => {
                // At once: the rest takes a moment.
                (self.report)(ReplicaReport::Unready);
                watchdog.epitaph(status).await
            }
            reason = self.fell_silent(address) => {
                watchdog.stop_within(FAILED_START_STOP_TIMEOUT).await;
                reason.into()
            }
            () = stopped(&mut stop) => {
                watchdog.stop(&mut stop).await;
                return ReplicaEnding::Stopped;
            }
        };
        watchdog.vanished().await;
        ReplicaEnding::Died { reason, ready_for: ready_at.elapsed() }
    }

    /// Checks the replica's health until it has not answered for too long.
    async fn fell_silent(&self, address: SocketAddr) -> String {
        // Its own client, so that its idle connection goes with the process.
        let client = Client::default();
        let check = format!("http://{address}/health");
        let mut silences = 0;
        let mut due = interval(HEALTH_INTERVAL);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            due.tick().await;
            let answer =
                client.send(Method::GET, &check, HeaderMap::new(), Bytes::new(), HEALTH_BOUNDS).await;
            let is_ready = answer.as_ref().is_ok_and(|answer| answer.status.is_success());
            (self.report)(if is_ready {
                ReplicaReport::Ready(endpoint(address))
            } else {
                ReplicaReport::Unready
            });
            match answer {
                Ok(_) => silences = 0,
                Err(_) if silences + 1 < SILENCES_MAX => silences += 1,
                Err(error) => return format!("{SILENCES_MAX} health checks got no answer: {error}"),
            }
        }
    }
}

/// Returns when the replica is to go.
async fn stopped(stop: &mut watch::Receiver<Option<Stop>>) {
    // An error means that the function is gone, which is the same.
    let _ = stop.wait_for(Option::is_some).await;
}

fn endpoint(address: SocketAddr) -> Arc<str> {
    format!("http://{address}/invoke").into()
}
