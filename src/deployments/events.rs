//! What backends report becomes inputs of the owner shard.
//!
//! Backends say what is different, a shard takes the whole list of a function's addresses. A list for every change would
//! be quadratic for a function that gets thousands of replicas, so changes are put together: after a list of so many
//! addresses, the next one of that function waits as many microseconds. For a few replicas that is nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use nanofaas_backends::{
    Backend, BackendError, Ensured, Events, FoundFunction, FunctionName, ImageProblem, Order, ReplicaChanges,
    ReplicaId,
};
use nanofaas_wire::function::FunctionSpec;
use parking_lot::{Condvar, Mutex};
use shard_core::{
    BackendEvent, Input, Provisioned, Target,
    answer::{BackendFailure, BackendFailureKind},
};
use shard_runtime::Inbox;

use super::{FunctionRef, endpoints::EndpointTable, failure, orphans::Orphans};

/// Between two lists of a function, for each address of the first.
const PAUSE_PER_ENDPOINT: Duration = Duration::from_micros(1);

/// A function that a backend runs, or is about to.
struct Deployed {
    function: FunctionRef,
    spec: FunctionSpec,
    backend: Arc<dyn Backend>,
    /// None until it was ensured.
    running: Option<Running>,
}

struct Running {
    endpoints: EndpointTable,
    desired: u32,
    /// When the next list may be posted.
    not_before: Instant,
    /// There is one to post.
    is_due: bool,
}

#[derive(Default)]
struct DeployedFunctions {
    names: BTreeMap<FunctionRef, FunctionName>,
    functions: BTreeMap<FunctionName, Deployed>,
    /// Lists to post, by their times.
    due: BTreeSet<(Instant, FunctionName)>,
    orphans: Orphans,
    is_closed: bool,
}

/// Turns what backends report into inputs. Everything is posted under the lock, so that a shard hears of a function in the
/// order in which its backend spoke.
pub(super) struct ShardEvents {
    inbox: Inbox,
    table: Mutex<DeployedFunctions>,
    changed: Condvar,
    /// For whoever removes orphans: one is gone, or the search is over.
    orphan_gone: Condvar,
}

impl ShardEvents {
    pub(super) fn new(inbox: Inbox) -> ShardEvents {
        ShardEvents { inbox, table: Mutex::default(), changed: Condvar::new(), orphan_gone: Condvar::new() }
    }

    /// A shard asks for a function, which is nobody's no more.
    pub(super) fn want(&self, name: &str) {
        self.table.lock().orphans.want(&name.into());
    }

    /// A backend is about to be told to run a function. Returns the order; none when it has to wait, and is given later.
    #[must_use]
    pub(super) fn add(
        &self,
        function: FunctionRef,
        spec: FunctionSpec,
        backend: Arc<dyn Backend>,
        order: Order,
    ) -> Option<Order> {
        let mut table = self.table.lock();
        let name = FunctionName::from(spec.name.as_str());
        let order = table.orphans.admit(&name, &backend, order);
        table.names.insert(function, name.clone());
        let old = table.functions.insert(name, Deployed { function, spec, backend, running: None });
        if let Some(old) = old.filter(|old| old.function != function) {
            table.names.remove(&old.function);
        }
        order
    }

    /// Where a function runs.
    pub(super) fn find(&self, function: FunctionRef) -> Option<(FunctionName, Arc<dyn Backend>)> {
        let table = self.table.lock();
        let name = table.names.get(&function)?;
        Some((name.clone(), Arc::clone(&table.functions.get(name)?.backend)))
    }

    /// The replicas of a function that have these numbers. Some may be gone by now.
    pub(super) fn replicas(&self, function: FunctionRef, numbers: &[u64]) -> Vec<ReplicaId> {
        let table = self.table.lock();
        let deployed = table.names.get(&function).and_then(|name| table.functions.get(name));
        let running = deployed.and_then(|deployed| deployed.running.as_ref());
        running.map_or_else(Vec::new, |running| running.endpoints.replicas(numbers))
    }

    /// Posts lists when they are due, until closed.
    pub(super) fn post_lists(&self) {
        let mut table = self.table.lock();
        while !table.is_closed {
            let now = Instant::now();
            match table.due.first().map(|(due, _)| *due) {
                None => self.changed.wait(&mut table),
                Some(due) if due > now => {
                    let _ = self.changed.wait_until(&mut table, due);
                }
                Some(_) => {
                    let list = table.due.pop_first().and_then(|(_, name)| table.list(&name, now));
                    if let Some((shard, input)) = list {
                        self.inbox.post(shard, input);
                    }
                }
            }
        }
    }

    /// Ends [`ShardEvents::post_lists`], and the search for orphans.
    pub(super) fn close(&self) {
        self.table.lock().is_closed = true;
        self.changed.notify_all();
        self.end_orphans();
    }

    /// Chooses what is to be removed of what a backend has.
    pub(super) fn claim_orphans(&self, found: Vec<FoundFunction>) -> Vec<FoundFunction> {
        self.table.lock().orphans.claim(found)
    }

    /// Waits until what was chosen is gone; whether all of it is.
    pub(super) fn orphans_are_removed(&self) -> bool {
        let mut table = self.table.lock();
        self.orphan_gone.wait_while(&mut table, |table| !table.orphans.is_idle());
        table.orphans.take_complete()
    }

    /// Waits before a backend is asked again; false when the search is over.
    pub(super) fn rest(&self, pause: Duration) -> bool {
        let mut table = self.table.lock();
        let is_on = |table: &mut DeployedFunctions| !table.orphans.is_over();
        self.orphan_gone.wait_while_for(&mut table, is_on, pause).timed_out()
    }

    /// Ends the search for orphans; whether it was over already.
    pub(super) fn end_orphans(&self) -> bool {
        let mut table = self.table.lock();
        let was_over = table.orphans.is_over();
        table.orphans.end();
        self.orphan_gone.notify_all();
        was_over
    }
}

impl DeployedFunctions {
    fn remove(&mut self, name: &FunctionName) -> Option<FunctionRef> {
        let function = self.functions.remove(name)?.function;
        self.names.remove(&function);
        Some(function)
    }

    /// The list of a function, when there is one to post.
    fn list(&mut self, name: &FunctionName, now: Instant) -> Option<(u16, Input)> {
        let Deployed { function: FunctionRef { shard, key }, running, .. } = self.functions.get_mut(name)?;
        let running = running.as_mut().filter(|running| running.is_due)?;
        running.is_due = false;
        let count = u32::try_from(running.endpoints.len()).unwrap_or(u32::MAX);
        running.not_before = now + PAUSE_PER_ENDPOINT * count;
        let (endpoints, desired) = (running.endpoints.list(), running.desired);
        Some((*shard, Input::Backend(*key, BackendEvent::EndpointsChanged { endpoints, desired })))
    }
}

impl Events for ShardEvents {
    fn ensured(&self, name: &FunctionName, result: Result<Ensured, BackendError>) {
        let mut table = self.table.lock();
        let (function, result) = match result {
            Ok(ensured) => {
                let Some(deployed) = table.functions.get_mut(name) else { return };
                (deployed.function, Ok(deployed.ensured(ensured)))
            }
            Err(error) => {
                let Some(function) = table.remove(name) else { return };
                (function, Err(failure_of(error)))
            }
        };
        self.inbox.post(function.shard, Input::Backend(function.key, BackendEvent::Provisioned(result)));
    }

    fn scaled(&self, name: &FunctionName, result: Result<u32, BackendError>) {
        let table = self.table.lock();
        let Some(FunctionRef { shard, key }) = table.functions.get(name).map(|deployed| deployed.function)
        else {
            return;
        };
        let result = result.map_err(failure_of);
        self.inbox.post(shard, Input::Backend(key, BackendEvent::Scaled(result)));
    }

    fn torn_down(&self, name: &FunctionName, result: Result<(), BackendError>) {
        let mut table = self.table.lock();
        if let Some(waiting) = table.orphans.removed(name, &result) {
            self.orphan_gone.notify_all();
            // A backend that has ended refuses the order at once, and says so here.
            drop(table);
            if let Some((backend, order)) = waiting {
                backend.submit(order);
            }
            return;
        }
        let function = match &result {
            Ok(()) => table.remove(name),
            Err(_) => table.functions.get(name).map(|deployed| deployed.function),
        };
        let Some(FunctionRef { shard, key }) = function else { return };
        let result = result.map_err(failure_of);
        self.inbox.post(shard, Input::Backend(key, BackendEvent::TornDown(result)));
    }

    fn replicas_changed(&self, name: &FunctionName, changes: ReplicaChanges) {
        let mut table = self.table.lock();
        // What a function ran before it was registered anew is no news of the new one.
        let deployed = table.functions.get_mut(name);
        let Some(running) = deployed.and_then(|deployed| deployed.running.as_mut()) else { return };
        let mut is_changed = running.desired != changes.desired;
        running.desired = changes.desired;
        for change in changes.changes {
            is_changed |= running.endpoints.apply(change);
        }
        if is_changed && !running.is_due {
            running.is_due = true;
            let due = running.not_before;
            table.due.insert((due, name.clone()));
            self.changed.notify_one();
        }
    }
}

impl Deployed {
    /// It runs: what the shard is to know.
    fn ensured(&mut self, ensured: Ensured) -> Provisioned {
        let Ensured { replicas, desired } = ensured;
        let table = EndpointTable::of(replicas);
        let endpoints = table.list();
        let not_before = Instant::now();
        self.running = Some(Running { endpoints: table, desired, not_before, is_due: false });
        self.spec.deployment_backend = Some(self.backend.id().to_owned());
        self.spec.effective_execution_mode = self.spec.execution_mode;
        self.spec.endpoint_url = endpoints.first().map(|of| of.address.to_string());
        Provisioned { document: self.spec.document(), target: Target::Backend, endpoints, desired }
    }
}

pub(super) fn failure_of(error: BackendError) -> BackendFailure {
    let kind = match &error {
        BackendError::Provisioning(_) => BackendFailureKind::Provisioning,
        BackendError::Unavailable(_) => BackendFailureKind::Unavailable,
        BackendError::Teardown(_) => BackendFailureKind::Teardown,
        BackendError::Image { problem: ImageProblem::NotFound, .. } => BackendFailureKind::ImageNotFound,
        BackendError::Image { problem: ImageProblem::AuthRequired, .. } => {
            BackendFailureKind::ImagePullAuthRequired
        }
        BackendError::Image { problem: ImageProblem::RegistryUnavailable, .. } => {
            BackendFailureKind::ImageRegistryUnavailable
        }
        BackendError::Conflict(_) => BackendFailureKind::Conflict,
    };
    failure(kind, error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use nanofaas_backends::{
        ListReply, LogRequest, LogStream, Order, ReplicaChange, ReplicaId, ReplicaState, ReplicaStatus,
        Version,
    };
    use shard_core::FunctionKey;

    use super::*;

    /// Nothing in these tests should take longer.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// Runs nothing.
    struct Idle;

    impl Backend for Idle {
        fn id(&self) -> &'static str {
            "idle"
        }
        fn supports(&self, _: &FunctionSpec) -> Result<(), String> {
            Ok(())
        }
        fn submit(&self, _: Order) {}
        fn list(&self, _: ListReply) {}
        fn logs(&self, _: LogRequest) -> LogStream {
            LogStream::new().1
        }
        fn detach(&self, _: Duration) {}
        fn shut_down(&self, _: Duration) {}
    }

    fn spec() -> FunctionSpec {
        let document = br#"{"name":"f","timeoutMs":1000,"concurrency":1,"queueSize":1,"maxRetries":0,
            "retryBackoffMs":0,"executionMode":"DEPLOYMENT","requestedExecutionMode":"DEPLOYMENT",
            "effectiveExecutionMode":"DEPLOYMENT"}"#;
        FunctionSpec::from_document(document).unwrap()
    }

    fn ready(number: u32) -> ReplicaChange {
        let mut replica =
            ReplicaStatus::starting(ReplicaId::from(format!("r{number}")), Version::from_label("1"));
        replica.change_to(ReplicaState::Ready(format!("http://{number}").into()));
        ReplicaChange::Now(replica)
    }

    #[test]
    fn thousands_of_replicas_cost_no_list_for_each() {
        const COUNT: u32 = 10_000;
        let (sender, inputs) = channel();
        let events = Arc::new(ShardEvents::new(Inbox::new(move |_, input| drop(sender.send(input)))));
        let posting = Arc::clone(&events);
        let thread = std::thread::spawn(move || posting.post_lists());
        let (begun, name) = (Instant::now(), FunctionName::from("f"));
        let order = Order::Scale { function: name.clone(), replicas: COUNT, first_to_go: Vec::new() };
        let function = FunctionRef { shard: 0, key: FunctionKey::default() };
        assert!(events.add(function, spec(), Arc::new(Idle), order).is_some());
        let change = |number| ReplicaChanges { changes: vec![ready(number)], desired: COUNT };
        events.replicas_changed(&name, change(0));
        events.ensured(&name, Ok(Ensured { replicas: Vec::new(), desired: COUNT }));
        let first = inputs.recv_timeout(PATIENCE).unwrap();
        assert!(matches!(first, Input::Backend(_, BackendEvent::Provisioned(Ok(_)))), "{first:?}");
        (0..COUNT).for_each(|number| events.replicas_changed(&name, change(number)));
        // Each list is followed by a pause of so many microseconds.
        let mut posted = 0;
        loop {
            let input = inputs.recv_timeout(PATIENCE).unwrap();
            let Input::Backend(_, BackendEvent::EndpointsChanged { endpoints, desired, .. }) = input else {
                panic!("{input:?}")
            };
            assert_eq!(desired, COUNT);
            assert!(endpoints.is_sorted_by_key(|of| of.address[7..].parse::<u32>().unwrap()));
            if endpoints.len() == COUNT as usize {
                break;
            }
            posted += endpoints.len() as u128;
        }
        assert!(posted <= begun.elapsed().as_micros(), "{posted}");
        events.torn_down(&name, Ok(()));
        events.replicas_changed(&name, change(0));
        events.close();
        thread.join().unwrap();
        assert!(matches!(
            inputs.recv_timeout(PATIENCE),
            Ok(Input::Backend(_, BackendEvent::TornDown(Ok(()))))
        ));
        assert!(inputs.try_recv().is_err());
    }
}
