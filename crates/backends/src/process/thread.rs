//! The thread that owns every function and every process.
//!
//! It lives as long as the backend: the system ends a replica when the thread that started it ends. Orders are
//! taken one by one; those that take time become tasks, so that no function waits for another.

use std::{collections::BTreeMap, rc::Rc, sync::Arc, time::Duration};

use tokio::{sync::mpsc, task::JoinSet};

use super::{ReplicaContext, function::ManagedFunction, stop::Stop};
use crate::{BackendError, Events, FunctionRef, Order};

/// Grace when the backend was dropped without being shut down.
const GRACE_DROPPED: Duration = Duration::from_secs(1);

/// What the thread is told.
pub enum ThreadMessage {
    /// See [`Order`].
    Order(Order),
    /// Stop everything within this time.
    ShutDown(Duration),
}

/// Owner of all functions. The tasks give back the functions that are gone.
struct Owner {
    context: Rc<ReplicaContext>,
    functions: BTreeMap<FunctionRef, Rc<ManagedFunction>>,
    tasks: JoinSet<Option<FunctionRef>>,
}

/// Takes orders until told to shut down, then stops every replica.
pub async fn run(context: ReplicaContext, mut commands: mpsc::UnboundedReceiver<ThreadMessage>) {
    let mut owner = Owner { context: Rc::new(context), functions: BTreeMap::new(), tasks: JoinSet::new() };
    let grace = loop {
        tokio::select! {
            // First what is over: the next order of a function may rely on it.
            biased;
            Some(done) = owner.tasks.join_next() => owner.finish(done.ok().flatten()),
            command = commands.recv() => match command {
                Some(ThreadMessage::Order(order)) => owner.take(order),
                Some(ThreadMessage::ShutDown(grace)) => break grace,
                None => break GRACE_DROPPED,
            },
        }
    };
    commands.close();
    let stop = Stop::within(grace);
    owner.functions.values().for_each(|function| function.shut_down(stop));
    while let Some(command) = commands.recv().await {
        if let ThreadMessage::Order(order) = command {
            refuse(&owner.context.events, order);
        }
    }
    while owner.tasks.join_next().await.is_some() {}
    for function in owner.functions.values() {
        function.gone().await;
    }
}

/// Answers an order that comes too late.
pub fn refuse(events: &Arc<dyn Events>, order: Order) {
    let unavailable = || BackendError::Unavailable("the process backend is shutting down".to_owned());
    match order {
        Order::Provision { function, .. } => events.provisioned(function, Err(unavailable())),
        Order::Scale { function, .. } => events.scaled(function, Err(unavailable())),
        Order::Teardown { function } => events.torn_down(function, Err(unavailable())),
    }
}

impl Owner {
    fn take(&mut self, order: Order) {
        let events = Arc::clone(&self.context.events);
        match order {
            Order::Provision { function: reference, spec } => {
                let function = ManagedFunction::new(reference, spec, Rc::clone(&self.context));
                self.functions.insert(reference, Rc::clone(&function));
                self.tasks.spawn_local(async move {
                    let result = function.provision().await;
                    let failed = result.is_err().then_some(reference);
                    // Nothing is awaited in between, so no change can be reported before this.
                    events.provisioned(reference, result);
                    failed
                });
            }
            Order::Scale { function: reference, replicas } => match self.functions.get(&reference) {
                Some(function) => {
                    events.scaled(reference, function.scale(replicas));
                    function.publish();
                }
                None => events.scaled(reference, Err(unknown())),
            },
            Order::Teardown { function: reference } => match self.functions.get(&reference).cloned() {
                Some(function) => {
                    self.tasks.spawn_local(async move {
                        let result = function.tear_down().await;
                        let gone = result.is_ok().then_some(reference);
                        events.torn_down(reference, result);
                        gone
                    });
                }
                // Nothing is there, as wanted.
                None => events.torn_down(reference, Ok(())),
            },
        }
    }

    fn finish(&mut self, gone: Option<FunctionRef>) {
        if let Some(reference) = gone {
            self.functions.remove(&reference);
        }
    }
}

fn unknown() -> BackendError {
    BackendError::Unavailable("the process backend does not run this function".to_owned())
}
