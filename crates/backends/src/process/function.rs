//! One function: how many replicas it should have, which are ready, which are on their way out.
//!
//! Replicas run as tasks of the same thread and report here; nothing is awaited while the state is borrowed. A
//! replica that is asked to go leaves the routing table in the same step, and is remembered until its last
//! process is gone.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use nanofaas_wire::function::{FunctionSpec, RuntimeMode};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, timeout_at},
};

use super::{
    ReplicaContext,
    environment::path_of,
    preflight,
    replica::{Replica, ReplicaReport},
    stop::Stop,
};
use crate::{BackendError, FunctionRef, Replicas};

/// Replicas of one function.
const REPLICAS_MAX: u32 = 1000;

/// Replicas of one function that start at the same time. More would only slow each other down, and the machine's
/// other functions, until healthy ones look dead. Per function, so that none waits for another's.
const STARTS_MAX: usize = 16;

/// Time for the replicas of a failed provisioning to end; no calls are in flight.
const DISCARD: Duration = Duration::from_secs(5);

/// Time for a replica to say why it gave up.
const GIVE_UP: Duration = Duration::from_secs(3);

/// Beyond the time in which replicas are killed.
const VANISH: Duration = Duration::from_secs(8);

/// A function and its replicas.
pub struct ManagedFunction {
    reference: FunctionRef,
    spec: Arc<FunctionSpec>,
    context: Rc<ReplicaContext>,
    state: RefCell<FunctionState>,
    starts: Rc<Semaphore>,
    /// Wakes whoever waits for a change of `state`.
    changes: watch::Sender<()>,
}

#[derive(Default)]
struct FunctionState {
    /// `provisioned` has been reported: changes may be too.
    is_provisioned: bool,
    /// Why provisioning cannot succeed any more, as long as it has not.
    failure: Option<BackendError>,
    next_id: u64,
    /// Replicas that are wanted, oldest first.
    members: Vec<Member>,
    /// Replicas that were asked to go.
    leaving: Vec<Leaving>,
}

struct Member {
    id: u64,
    /// Its address while it is ready.
    endpoint: Option<Arc<str>>,
    stop: watch::Sender<Option<Stop>>,
}

struct Leaving {
    id: u64,
    stop: watch::Sender<Option<Stop>>,
}

impl ManagedFunction {
    /// A function without replicas.
    pub fn new(
        reference: FunctionRef,
        spec: Arc<FunctionSpec>,
        context: Rc<ReplicaContext>,
    ) -> Rc<ManagedFunction> {
        let (state, changes) = (RefCell::default(), watch::Sender::new(()));
        let starts = Rc::new(Semaphore::new(STARTS_MAX));
        Rc::new(ManagedFunction { reference, spec, context, state, starts, changes })
    }

    /// Starts the first replicas and waits until all are ready. After an error nothing is left.
    ///
    /// # Errors
    /// What the author or operator of the function should know.
    pub async fn provision(self: &Rc<Self>) -> Result<Replicas, BackendError> {
        let replicas = self.spec.scaling_config.as_ref().map_or(1, |scaling| scaling.min_replicas);
        self.check_number(replicas)?;
        let path = path_of(&self.spec, self.context.path.as_ref());
        preflight::check(&self.spec, path.as_ref()).map_err(|reason| {
            BackendError::Provisioning(format!("function '{}' cannot be started: {reason}", self.spec.name))
        })?;
        self.resize(replicas);
        // A replica gives up by itself, with better words; this is for too many, or one that is ready now and then.
        let limit = Instant::now() + self.context.ready_timeout + GIVE_UP;
        let settled = timeout_at(limit, self.settled()).await;
        match settled.unwrap_or_else(|_| Err(self.too_slow())) {
            Ok(()) => {
                self.state.borrow_mut().is_provisioned = true;
                Ok(self.replicas())
            }
            Err(error) => {
                self.dismiss_all(Stop::within(DISCARD));
                self.gone().await;
                Err(error)
            }
        }
    }

    /// Changes the number of replicas. Does not wait, and leaves publishing to the caller.
    ///
    /// # Errors
    /// There are too many, or the server shuts down.
    pub fn scale(self: &Rc<Self>, replicas: u32) -> Result<u32, BackendError> {
        self.check_number(replicas)?;
        self.resize(replicas);
        Ok(replicas)
    }

    /// Stops all replicas and waits for their end; calls in flight may finish. May be tried again.
    ///
    /// # Errors
    /// Something survived even being killed.
    pub async fn tear_down(&self) -> Result<(), BackendError> {
        let stop = self.draining();
        self.dismiss_all(stop);
        self.publish();
        if timeout_at(stop.kill_at + VANISH, self.gone()).await.is_ok() {
            return Ok(());
        }
        let (number, name) = (self.state.borrow().leaving.len(), &self.spec.name);
        Err(BackendError::Teardown(format!(
            "{number} replicas of function '{name}' do not end, not even when killed; look for processes with \
             FUNCTION_NAME={name} and delete the function again"
        )))
    }

    /// Asks all replicas to go, those that are going already to hurry. Ends a provisioning.
    pub fn shut_down(&self, stop: Stop) {
        for leaving in &self.state.borrow().leaving {
            leaving.stop.send_if_modified(|old| {
                let earlier = old.is_none_or(|old| stop.kill_at < old.kill_at);
                if earlier {
                    *old = Some(stop);
                }
                earlier
            });
        }
        self.dismiss_all(stop);
        self.publish();
    }

    /// Waits until no replica is left that was asked to go.
    pub async fn gone(&self) {
        self.until(|state| state.leaving.is_empty().then_some(())).await;
    }

    /// Reports what is ready now, unless the function is still being provisioned.
    pub fn publish(&self) {
        if self.state.borrow().is_provisioned {
            self.context.events.replicas_changed(self.reference, self.replicas());
        }
    }

    fn replicas(&self) -> Replicas {
        let state = self.state.borrow();
        let endpoints = state.members.iter().filter_map(|member| member.endpoint.clone()).collect();
        Replicas { endpoints, desired: state.members.len() as u32 }
    }

    fn check_number(&self, replicas: u32) -> Result<(), BackendError> {
        if replicas <= REPLICAS_MAX {
            return Ok(());
        }
        Err(BackendError::Unavailable(format!(
            "function '{}' cannot have {replicas} replicas: the process backend runs at most {REPLICAS_MAX}",
            self.spec.name
        )))
    }

    /// Starts what is missing, asks what is too much to go, newest first.
    fn resize(self: &Rc<Self>, replicas: u32) {
        let count = self.state.borrow().members.len();
        for _ in count..replicas as usize {
            let member = self.start();
            self.state.borrow_mut().members.push(member);
        }
        self.dismiss(replicas as usize, self.draining());
    }

    fn start(self: &Rc<Self>) -> Member {
        let id = {
            let mut state = self.state.borrow_mut();
            state.next_id += 1;
            state.next_id
        };
        let (sender, stop) = watch::channel(None);
        let function = Rc::clone(self);
        let replica = Replica {
            spec: Arc::clone(&self.spec),
            context: Rc::clone(&self.context),
            starts: Rc::clone(&self.starts),
            stop,
            report: move |report| function.note(id, report),
        };
        let farewell = Farewell { function: Rc::clone(self), id };
        tokio::task::spawn_local(async move {
            replica.keep().await;
            drop(farewell);
        });
        Member { id, endpoint: None, stop: sender }
    }

    fn draining(&self) -> Stop {
        Stop::draining(Duration::from_millis(self.spec.timeout_ms.into()))
    }

    fn dismiss_all(&self, stop: Stop) {
        self.state.borrow_mut().failure.get_or_insert_with(|| {
            BackendError::Unavailable(format!(
                "function '{}' was stopped before it was ready",
                self.spec.name
            ))
        });
        self.dismiss(0, stop);
    }

    /// Takes all members but the `kept` oldest out of the table and asks them to go.
    fn dismiss(&self, kept: usize, stop: Stop) {
        let mut state = self.state.borrow_mut();
        let kept = kept.min(state.members.len());
        let dismissed = state.members.split_off(kept);
        for Member { id, stop: sender, .. } in dismissed.into_iter().rev() {
            sender.send_replace(Some(stop));
            state.leaving.push(Leaving { id, stop: sender });
        }
        drop(state);
        self.changes.send_replace(());
    }

    /// Takes a report of a replica.
    fn note(&self, id: u64, report: ReplicaReport) {
        let mut state = self.state.borrow_mut();
        // One that was asked to go is out of the table for good.
        let Some(member) = state.members.iter_mut().find(|member| member.id == id) else { return };
        let endpoint = match &report {
            ReplicaReport::Ready(endpoint) => Some(Arc::clone(endpoint)),
            ReplicaReport::Unready | ReplicaReport::Died(_) => None,
        };
        let is_changed = member.endpoint != endpoint;
        member.endpoint = endpoint;
        if let ReplicaReport::Died(reason) = report {
            state.failure.get_or_insert_with(|| self.not_ready(&reason));
        }
        drop(state);
        self.changes.send_replace(());
        if is_changed {
            self.publish();
        }
    }

    /// A replica's task is over.
    fn forget(&self, id: u64) {
        let mut state = self.state.borrow_mut();
        state.leaving.retain(|leaving| leaving.id != id);
        // Still wanted means that its task broke off: better one replica less than a dead one in the table.
        let broke_off: Vec<Member> = state.members.extract_if(.., |member| member.id == id).collect();
        drop(state);
        self.changes.send_replace(());
        if !broke_off.is_empty() {
            self.publish();
        }
    }

    /// Waits until all members are ready.
    async fn settled(&self) -> Result<(), BackendError> {
        self.until(|state| match &state.failure {
            Some(failure) => Some(Err(failure.clone())),
            None => state.members.iter().all(|member| member.endpoint.is_some()).then_some(Ok(())),
        })
        .await
    }

    /// Waits until `look` finds something in the state.
    async fn until<T>(&self, look: impl Fn(&FunctionState) -> Option<T>) -> T {
        let mut changes = self.changes.subscribe();
        loop {
            if let Some(found) = look(&self.state.borrow()) {
                return found;
            }
            // The sender lives as long as `self`.
            let _ = changes.changed().await;
        }
    }

    fn too_slow(&self) -> BackendError {
        let Replicas { endpoints, desired } = self.replicas();
        let (ready, limit_ms) = (endpoints.len(), self.context.ready_timeout.as_millis());
        self.not_ready(&format!("only {ready} of {desired} replicas were ready within {limit_ms} ms"))
    }

    fn not_ready(&self, reason: &str) -> BackendError {
        let command = self.spec.runtime_command.as_deref().unwrap_or_default();
        let expected = match self.spec.runtime_mode {
            RuntimeMode::Http => {
                " listens on 127.0.0.1:$PORT and answers GET /health with status 200 in time"
            }
            RuntimeMode::Stdio | RuntimeMode::File => " can be run",
        };
        let directory = self.spec.working_dir.as_deref().map(|directory| format!(" in {directory}"));
        BackendError::Provisioning(format!(
            "function '{}' did not become ready: {reason}; check that `{command}`{}{expected}",
            self.spec.name,
            directory.unwrap_or_default()
        ))
    }
}

/// Tells the function that a replica's task is over, however it ended.
struct Farewell {
    function: Rc<ManagedFunction>,
    id: u64,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        self.function.forget(self.id);
    }
}
