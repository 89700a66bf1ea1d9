//! One function: how many replicas it should have, which are ready, which are on their way out.
//!
//! Replicas run as tasks of the same thread and report here; nothing is awaited while the state is borrowed. A
//! replica that is asked to go leaves the routing table in the same step, and is remembered until its last
//! process is gone.

use std::{cell::RefCell, collections::BTreeSet, rc::Rc, sync::Arc, time::Duration};

use nanofaas_wire::function::RuntimeMode;
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, timeout_at},
};

use super::{
    ReplicaContext,
    environment::path_of,
    log::ReplicaLog,
    preflight,
    replica::{Replica, ReplicaReport},
    stop::Stop,
};
use crate::{
    BackendError, Ensured, FoundFunction, FunctionName, LogRequest, LogSender, ReplicaChange, ReplicaChanges,
    ReplicaId, ReplicaState, ReplicaStatus, Version, Workload, who_goes,
};

/// Replicas of one function.
const REPLICAS_MAX: u32 = 1000;

/// Replicas of one function that start at the same time. More would only slow each other down, and the machine's
/// other functions, until healthy ones look dead. Per function, so that none waits for another's.
const STARTS_MAX: usize = 16;

/// Time for the replicas of a failed provisioning to end; no calls are in flight.
const PROVISION_CLEANUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for a replica to say why it gave up.
const FAILURE_REPORT_GRACE: Duration = Duration::from_secs(3);

/// Beyond the time in which replicas are killed.
const REPLICA_KILL_GRACE: Duration = Duration::from_secs(8);

/// A function and its replicas.
pub struct ManagedFunction {
    workload: Arc<Workload>,
    context: Rc<ReplicaContext>,
    state: RefCell<FunctionState>,
    starts: Rc<Semaphore>,
    /// Wakes whoever waits for a change of `state`.
    changes: watch::Sender<()>,
}

#[derive(Default)]
struct FunctionState {
    /// `ensured` has been reported: changes may be too.
    is_ensured: bool,
    /// It was asked to go, and will have no replica again.
    is_over: bool,
    /// Why no [`ManagedFunction::ensure`] that is under way can succeed any more.
    failure: Option<BackendError>,
    /// Replicas that are wanted, oldest first.
    members: Vec<Member>,
    /// Replicas that were asked to go.
    leaving: Vec<Member>,
}

struct Member {
    status: ReplicaStatus,
    log: Rc<ReplicaLog>,
    stop: watch::Sender<Option<Stop>>,
}

impl ManagedFunction {
    /// A function without replicas.
    pub fn new(workload: Arc<Workload>, context: Rc<ReplicaContext>) -> Rc<ManagedFunction> {
        let (state, changes) = (RefCell::default(), watch::Sender::new(()));
        let starts = Rc::new(Semaphore::new(STARTS_MAX));
        Rc::new(ManagedFunction { workload, context, state, starts, changes })
    }

    /// Its name.
    pub fn name(&self) -> &FunctionName {
        &self.workload.name
    }

    /// Whether its replicas are what is wanted, and stay.
    pub fn runs(&self, version: &Version) -> bool {
        self.workload.version == *version && !self.state.borrow().is_over
    }

    /// Another [`ManagedFunction::ensure`] is about to begin: what failed before does not count for it.
    pub fn renew(&self) {
        self.state.borrow_mut().failure = None;
    }

    /// Starts what is missing and waits until all replicas are ready. After an error nothing is left.
    ///
    /// # Errors
    /// What the author or operator of the function should know.
    pub async fn ensure(self: &Rc<Self>, replicas: u32) -> Result<Ensured, BackendError> {
        let result = self.try_ensure(replicas).await;
        if result.is_err() {
            let changes = self.dismiss_all(Stop::within(PROVISION_CLEANUP_TIMEOUT));
            self.publish(changes);
            self.gone().await;
        }
        result
    }

    async fn try_ensure(self: &Rc<Self>, replicas: u32) -> Result<Ensured, BackendError> {
        self.check_running()?;
        self.check_number(replicas)?;
        let path = path_of(&self.workload.spec, self.context.path.as_ref());
        preflight::check(&self.workload.spec, path.as_ref()).map_err(|reason| {
            BackendError::Provisioning(format!("function '{}' cannot be started: {reason}", self.name()))
        })?;
        let changes = self.resize(replicas, &[]);
        self.publish(changes);
        // A replica gives up by itself, with better words; this is for too many, or one that is ready now and then.
        let limit = Instant::now() + self.context.ready_timeout + FAILURE_REPORT_GRACE;
        timeout_at(limit, self.settled()).await.unwrap_or_else(|_| Err(self.too_slow()))?;
        self.state.borrow_mut().is_ensured = true;
        Ok(Ensured { replicas: self.replicas(), desired: self.desired() })
    }

    /// The server may have begun to end, before an order had its turn.
    fn check_running(&self) -> Result<(), BackendError> {
        let state = self.state.borrow();
        state.failure.clone().filter(|_| state.is_over).map_or(Ok(()), Err)
    }

    /// Changes the number of replicas. Does not wait, and leaves it to the caller to publish what changed.
    ///
    /// # Errors
    /// There are too many.
    pub fn scale(
        self: &Rc<Self>,
        replicas: u32,
        first_to_go: &[ReplicaId],
    ) -> Result<Vec<ReplicaChange>, BackendError> {
        self.check_number(replicas)?;
        // One that could not be torn down is back.
        self.state.borrow_mut().is_over = false;
        Ok(self.resize(replicas, first_to_go))
    }

    /// Stops all replicas and waits for their end; calls in flight may finish. May be tried again.
    ///
    /// # Errors
    /// Something survived even being killed.
    pub async fn tear_down(&self) -> Result<(), BackendError> {
        let stop = self.draining();
        let changes = self.dismiss_all(stop);
        self.publish(changes);
        if timeout_at(stop.kill_at + REPLICA_KILL_GRACE, self.gone()).await.is_ok() {
            return Ok(());
        }
        let (number, name) = (self.state.borrow().leaving.len(), self.name());
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
        let changes = self.dismiss_all(stop);
        self.publish(changes);
    }

    /// Stops all replicas, because others take their place. Those are reported from now on.
    pub fn retire(&self) {
        let changes = self.dismiss_all(self.draining());
        self.publish(changes);
        self.state.borrow_mut().is_ensured = false;
    }

    /// Waits until no replica is left that was asked to go.
    pub async fn gone(&self) {
        self.until(|state| state.leaving.is_empty().then_some(())).await;
    }

    /// Reports changes, unless the function is being ensured for the first time.
    pub fn publish(&self, changes: Vec<ReplicaChange>) {
        if self.state.borrow().is_ensured {
            let changes = ReplicaChanges { changes, desired: self.desired() };
            self.context.events.replicas_changed(self.name(), changes);
        }
    }

    /// What there is, for a list of everything.
    pub fn found(&self) -> FoundFunction {
        FoundFunction {
            name: self.name().clone(),
            labels: self.workload.labels.clone(),
            desired: self.desired(),
            replicas: self.replicas(),
        }
    }

    /// What replicas wrote, and will write.
    pub fn read_logs(&self, request: &LogRequest, sender: &LogSender) {
        let state = self.state.borrow();
        let members = state.members.iter().chain(&state.leaving);
        members.for_each(|member| member.log.read(request, sender));
    }

    /// Every replica, those that leave last.
    fn replicas(&self) -> Vec<ReplicaStatus> {
        let state = self.state.borrow();
        state.members.iter().chain(&state.leaving).map(|member| member.status.clone()).collect()
    }

    /// How many replicas are wanted.
    pub fn desired(&self) -> u32 {
        self.state.borrow().members.len() as u32
    }

    fn check_number(&self, replicas: u32) -> Result<(), BackendError> {
        if replicas <= REPLICAS_MAX {
            return Ok(());
        }
        Err(BackendError::Unavailable(format!(
            "function '{}' cannot have {replicas} replicas: the process backend runs at most {REPLICAS_MAX}",
            self.name()
        )))
    }

    /// Starts what is missing, asks what is too much to go.
    fn resize(self: &Rc<Self>, replicas: u32, first_to_go: &[ReplicaId]) -> Vec<ReplicaChange> {
        let count = self.state.borrow().members.len();
        let mut changes = Vec::new();
        for _ in count..replicas as usize {
            let member = self.start();
            changes.push(ReplicaChange::Now(member.status.clone()));
            self.state.borrow_mut().members.push(member);
        }
        let surplus = count.saturating_sub(replicas as usize);
        let going = {
            let state = self.state.borrow();
            who_goes((0..).zip(state.members.iter().map(|member| &member.status)), first_to_go, surplus)
        };
        changes.extend(self.dismiss(going.into_iter().collect(), self.draining()));
        changes
    }

    fn start(self: &Rc<Self>) -> Member {
        let id = self.context.next_id(self.name());
        let (sender, stop) = watch::channel(None);
        let log = Rc::new(ReplicaLog::new(id.clone()));
        let function = Rc::clone(self);
        let replica = Replica {
            spec: Arc::clone(&self.workload.spec),
            context: Rc::clone(&self.context),
            starts: Rc::clone(&self.starts),
            log: Rc::clone(&log),
            stop,
            report: {
                let id = id.clone();
                move |report| function.note(&id, report)
            },
        };
        let farewell = Farewell { function: Rc::clone(self), id: id.clone() };
        tokio::task::spawn_local(async move {
            replica.keep().await;
            drop(farewell);
        });
        let status = ReplicaStatus::starting(id, self.workload.version.clone());
        Member { status, log, stop: sender }
    }

    fn draining(&self) -> Stop {
        Stop::draining(Duration::from_millis(self.workload.spec.timeout_ms.into()))
    }

    fn dismiss_all(&self, stop: Stop) -> Vec<ReplicaChange> {
        let mut state = self.state.borrow_mut();
        state.is_over = true;
        state.failure.get_or_insert_with(|| {
            let name = self.name();
            BackendError::Unavailable(format!("function '{name}' was stopped before it was ready"))
        });
        drop(state);
        let all = 0..self.state.borrow().members.len();
        self.dismiss(all.collect(), stop)
    }

    /// Takes members out of the table, by their positions, and asks them to go.
    fn dismiss(&self, going: BTreeSet<usize>, stop: Stop) -> Vec<ReplicaChange> {
        let mut state = self.state.borrow_mut();
        let members = (0..).zip(std::mem::take(&mut state.members));
        let (dismissed, kept): (Vec<_>, Vec<_>) = members.partition(|(at, _)| going.contains(at));
        state.members = kept.into_iter().map(|(_, member)| member).collect();
        let mut changes = Vec::new();
        for (_, mut member) in dismissed.into_iter().rev() {
            member.stop.send_replace(Some(stop));
            changes.extend(member.status.change_to(ReplicaState::Draining));
            state.leaving.push(member);
        }
        drop(state);
        self.changes.send_replace(());
        changes
    }

    /// Takes a report of a replica.
    fn note(&self, id: &ReplicaId, report: ReplicaReport) {
        let mut state = self.state.borrow_mut();
        // One that was asked to go is out of the table for good.
        let Some(member) = state.members.iter_mut().find(|member| member.status.id == *id) else {
            return;
        };
        let change = member.status.change_to(match &report {
            ReplicaReport::Ready(endpoint) => ReplicaState::Ready(Arc::clone(endpoint)),
            ReplicaReport::Unready => ReplicaState::Starting,
            ReplicaReport::Died(reason) => ReplicaState::Failed(reason.as_str().into()),
        });
        if let ReplicaReport::Died(reason) = report {
            state.failure.get_or_insert_with(|| self.not_ready(&reason));
        }
        drop(state);
        self.changes.send_replace(());
        if let Some(change) = change {
            self.publish(vec![change]);
        }
    }

    /// A replica's task is over.
    fn forget(&self, id: &ReplicaId) {
        let mut state = self.state.borrow_mut();
        state.leaving.retain(|leaving| leaving.status.id != *id);
        // Still wanted means that its task broke off: better one replica less than a dead one in the table.
        state.members.retain(|member| member.status.id != *id);
        drop(state);
        // Before those who wait for its end report that.
        self.publish(vec![ReplicaChange::Gone(id.clone())]);
        self.changes.send_replace(());
    }

    /// Waits until all members are ready.
    async fn settled(&self) -> Result<(), BackendError> {
        self.until(|state| match &state.failure {
            Some(failure) => Some(Err(failure.clone())),
            None => state.members.iter().all(|member| member.status.endpoint().is_some()).then_some(Ok(())),
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
        let ready = self.replicas().iter().filter(|replica| replica.endpoint().is_some()).count();
        let (desired, limit_ms) = (self.desired(), self.context.ready_timeout.as_millis());
        self.not_ready(&format!("only {ready} of {desired} replicas were ready within {limit_ms} ms"))
    }

    fn not_ready(&self, reason: &str) -> BackendError {
        let spec = &self.workload.spec;
        let command = spec.runtime_command.as_deref().unwrap_or_default();
        let expected = match spec.runtime_mode {
            RuntimeMode::Http => {
                " listens on 127.0.0.1:$PORT and answers GET /health with status 200 in time"
            }
            RuntimeMode::Stdio | RuntimeMode::File => " can be run",
        };
        let directory = spec.working_dir.as_deref().map(|directory| format!(" in {directory}"));
        BackendError::Provisioning(format!(
            "function '{}' did not become ready: {reason}; check that `{command}`{}{expected}",
            spec.name,
            directory.unwrap_or_default()
        ))
    }
}

/// Tells the function that a replica's task is over, however it ended.
struct Farewell {
    function: Rc<ManagedFunction>,
    id: ReplicaId,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        self.function.forget(&self.id);
    }
}
