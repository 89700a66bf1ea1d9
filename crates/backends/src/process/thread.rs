//! The thread that owns every function and every process.
//!
//! It lives as long as the backend: the system ends a replica when the thread that started it ends. Orders are
//! taken one by one; those that take time become tasks, so that no function waits for another.

use std::{collections::BTreeMap, rc::Rc, sync::Arc, time::Duration};

use tokio::{sync::mpsc, task::JoinSet};

use super::{
    ReplicaContext,
    function::ManagedFunction,
    job::{JobTable, run_job},
    stop::Stop,
};
use crate::{
    BackendError, Events, FunctionName, Job, JobEvent, JobId, JobListReply, ListReply, LogRequest, LogSender,
    Order, Workload,
};

/// Grace when the backend was dropped without being shut down.
const DROP_GRACE: Duration = Duration::from_secs(1);

/// What the thread is told.
pub enum ThreadMessage {
    /// See [`Order`].
    Order(Order),
    /// See [`crate::Backend::list`].
    List(ListReply),
    /// See [`crate::Backend::logs`].
    Logs(LogRequest, LogSender),
    /// See [`crate::JobRunner::create`].
    CreateJob(Box<Job>),
    /// See [`crate::JobRunner::end`].
    EndJob(JobId),
    /// See [`crate::JobRunner::list`].
    ListJobs(JobListReply),
    /// Stop everything within this time.
    ShutDown(Duration),
}

/// Owner of all functions. The tasks give back the functions that are gone.
struct Owner {
    context: Rc<ReplicaContext>,
    functions: BTreeMap<FunctionName, Rc<ManagedFunction>>,
    /// Of another version than what runs under their names now, until they have ended.
    retired: Vec<Rc<ManagedFunction>>,
    jobs: Rc<JobTable>,
    tasks: JoinSet<Option<Rc<ManagedFunction>>>,
}

/// Takes orders until told to shut down, then stops every replica.
pub async fn run(context: ReplicaContext, mut commands: mpsc::UnboundedReceiver<ThreadMessage>) {
    let mut owner = Owner {
        context: Rc::new(context),
        functions: BTreeMap::new(),
        retired: Vec::new(),
        jobs: Rc::default(),
        tasks: JoinSet::new(),
    };
    let grace = loop {
        tokio::select! {
            // First what is over: the next order of a function may rely on it.
            biased;
            Some(done) = owner.tasks.join_next() => owner.finish(done.ok().flatten()),
            command = commands.recv() => match command {
                Some(ThreadMessage::Order(order)) => owner.take(order),
                Some(ThreadMessage::List(reply)) => {
                    reply(Ok(owner.functions.values().map(|function| function.found()).collect()));
                }
                Some(ThreadMessage::Logs(request, sender)) => {
                    if let Some(function) = owner.functions.get(&request.function) {
                        function.read_logs(&request, &sender);
                    }
                }
                Some(ThreadMessage::CreateJob(job)) => owner.create_job(*job),
                Some(ThreadMessage::EndJob(job)) => owner.jobs.end(&job),
                Some(ThreadMessage::ListJobs(reply)) => reply(Ok(owner.jobs.list())),
                Some(ThreadMessage::ShutDown(grace)) => break grace,
                None => break DROP_GRACE,
            },
        }
    };
    commands.close();
    let stop = Stop::within(grace);
    owner.functions.values().chain(&owner.retired).for_each(|function| function.shut_down(stop));
    owner.jobs.end_all(stop);
    while let Some(command) = commands.recv().await {
        match command {
            ThreadMessage::Order(order) => refuse(&owner.context.events, order),
            ThreadMessage::List(reply) => reply(Err(too_late())),
            ThreadMessage::CreateJob(job) => refuse_job(&job),
            ThreadMessage::ListJobs(reply) => reply(Err(too_late())),
            ThreadMessage::Logs(..) | ThreadMessage::EndJob(_) | ThreadMessage::ShutDown(_) => {}
        }
    }
    while owner.tasks.join_next().await.is_some() {}
    for function in owner.functions.values() {
        function.gone().await;
    }
}

/// Answers an order that comes too late.
pub fn refuse(events: &Arc<dyn Events>, order: Order) {
    match order {
        Order::Ensure { workload, .. } => events.ensured(&workload.name, Err(too_late())),
        Order::Scale { function, .. } => events.scaled(&function, Err(too_late())),
        Order::Teardown { function } => events.torn_down(&function, Err(too_late())),
    }
}

/// Answers the order of a job that comes too late.
pub fn refuse_job(job: &Job) {
    (job.report)(JobEvent::NotCreated(too_late().to_string().into()));
}

/// What those hear who come too late.
pub fn too_late() -> BackendError {
    BackendError::Unavailable("the process backend is shutting down".to_owned())
}

impl Owner {
    fn take(&mut self, order: Order) {
        let events = Arc::clone(&self.context.events);
        match order {
            Order::Ensure { workload, replicas } => {
                let (function, had) = self.function(workload);
                let replicas = replicas.max(had);
                self.tasks.spawn_local(async move {
                    let result = function.ensure(replicas).await;
                    let failed = result.is_err().then(|| Rc::clone(&function));
                    // Nothing is awaited in between, so no change can be reported before this.
                    events.ensured(function.name(), result);
                    failed
                });
            }
            Order::Scale { function: name, replicas, first_to_go } => match self.functions.get(&name) {
                Some(function) => match function.scale(replicas, &first_to_go) {
                    Ok(changes) => {
                        events.scaled(&name, Ok(replicas));
                        function.publish(changes);
                    }
                    Err(error) => events.scaled(&name, Err(error)),
                },
                None => events.scaled(&name, Err(unknown())),
            },
            Order::Teardown { function: name } => match self.functions.get(&name).cloned() {
                Some(function) => {
                    let retired = self.retired.iter().filter(|old| *old.name() == name).cloned();
                    let retired: Vec<_> = retired.collect();
                    self.tasks.spawn_local(async move {
                        let mut result = function.tear_down().await;
                        for old in retired {
                            result = result.and(old.tear_down().await);
                        }
                        let gone = result.is_ok().then_some(function);
                        events.torn_down(&name, result);
                        gone
                    });
                }
                // Nothing is there, as wanted.
                None => events.torn_down(&name, Ok(())),
            },
        }
    }

    fn create_job(&mut self, job: Job) {
        let (context, jobs) = (Rc::clone(&self.context), Rc::clone(&self.jobs));
        let entry = jobs.enter(&job);
        self.tasks.spawn_local(async move {
            run_job(&job, &context, entry).await;
            None
        });
    }

    /// The function as it runs, or a new one in place of what runs in another version; and how many replicas it had.
    fn function(&mut self, workload: Arc<Workload>) -> (Rc<ManagedFunction>, u32) {
        if let Some(function) = self.functions.get(&workload.name).filter(|old| old.runs(&workload.version)) {
            function.renew();
            return (Rc::clone(function), function.desired());
        }
        let function = ManagedFunction::new(workload, Rc::clone(&self.context));
        let mut had = 0;
        if let Some(old) = self.functions.insert(function.name().clone(), Rc::clone(&function)) {
            had = old.desired();
            old.retire();
            self.retired.push(Rc::clone(&old));
            self.tasks.spawn_local(async move {
                old.gone().await;
                Some(old)
            });
        }
        (function, had)
    }

    fn finish(&mut self, gone: Option<Rc<ManagedFunction>>) {
        let Some(gone) = gone else { return };
        self.retired.retain(|function| !Rc::ptr_eq(function, &gone));
        if self.functions.get(gone.name()).is_some_and(|function| Rc::ptr_eq(function, &gone)) {
            self.functions.remove(gone.name());
        }
    }
}

fn unknown() -> BackendError {
    BackendError::Unavailable("the process backend does not run this function".to_owned())
}
