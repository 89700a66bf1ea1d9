//! The thread of the backend: takes orders and the news of the cluster one by one. Orders become tasks, so that no function
//! waits for another.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use nanofaas_backends::{
    BackendError, Events, FunctionName, Job, JobEvent, JobId, JobListReply, JobReport, ListReply, LogLine,
    LogRequest, LogSender, Order, Workload,
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    Hearings,
    cluster::Cluster,
    functions::{Shared, TURNS},
    hearing::{ClusterNews, Watches},
    jobs::{self, Jobs, prepare::Reply},
    names::object_name,
    plan::{self, PlanSettings},
    table::Table,
    telling, translate,
    watching::WatchLimits,
};

/// Time until it is known what there is.
const LIST_TIMEOUT: Duration = Duration::from_secs(25);
/// For the cluster to take note that what is over is killed.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);

/// What the thread is told.
pub enum ThreadMessage {
    /// See [`Order`].
    Order(Order),
    /// See [`nanofaas_backends::Backend::list`].
    List(ListReply),
    /// See [`nanofaas_backends::Backend::logs`].
    Logs(LogRequest, LogSender),
    /// See [`nanofaas_backends::JobRunner::prepare`].
    Prepare(Arc<Workload>, Reply),
    /// See [`nanofaas_backends::JobRunner::create`].
    CreateJob(Job),
    /// See [`nanofaas_backends::JobRunner::end`].
    EndJob(JobId),
    /// See [`nanofaas_backends::JobRunner::adopt`].
    AdoptJob(JobId, JobReport),
    /// See [`nanofaas_backends::JobRunner::list`].
    ListJobs(JobListReply),
    /// End, and leave everything as it is.
    Detach,
    /// End, and stop everything within this time.
    ShutDown(Duration),
}

/// An order that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pending {
    Ensure,
    Scale,
    Teardown,
}

type PendingOrders = Rc<RefCell<BTreeMap<FunctionName, Pending>>>;

/// What the thread owns.
pub(crate) struct Owner {
    pub(crate) shared: Rc<Shared>,
    pending: PendingOrders,
    /// Functions whose Deployment is being made again: their orders wait for that.
    restoring: Rc<RefCell<BTreeSet<FunctionName>>>,
    pub(crate) tasks: JoinSet<()>,
    watches: Watches,
}

/// What the thread is made from.
pub struct Start {
    /// The API server.
    pub cluster: Cluster,
    /// Whose objects are watched, and what is made.
    pub settings: PlanSettings,
    /// Longest time until the first replicas are ready.
    pub ready_timeout: Duration,
    /// Images are checked before they run, each within this time.
    pub image_check: Option<Duration>,
    /// How long watches take.
    pub limits: WatchLimits,
    /// When they last heard something.
    pub hearings: Arc<Hearings>,
    /// Where to report.
    pub events: Arc<dyn Events>,
}

/// Takes orders until told to end.
pub async fn run(start: Start, mut commands: mpsc::UnboundedReceiver<ThreadMessage>) {
    let Start { cluster, settings, ready_timeout, image_check, limits, hearings, events } = start;
    let (told, mut news) = mpsc::unbounded_channel();
    let (told_wrong, wrong) = mpsc::channel(telling::WAITING_MAX);
    let mut telling = JoinSet::new();
    telling.spawn_local(telling::run(cluster.clone(), wrong));
    let shared = Rc::new(Shared {
        cluster,
        settings,
        ready_timeout,
        events,
        table: RefCell::new(Table::default()),
        checks: RefCell::default(),
        jobs: Jobs::default(),
        image_check,
        turns: Semaphore::new(TURNS),
        news: watch::Sender::new(()),
        asked: RefCell::default(),
        incomplete: RefCell::default(),
        told: told_wrong,
    });
    let mut watches = Watches::new(limits, hearings, told);
    watches.start(&shared, |hearings| &hearings.pods, ClusterNews::Pods);
    watches.start(&shared, |hearings| &hearings.deployments, ClusterNews::Deployments);
    let (pending, restoring) = (Rc::default(), Rc::default());
    let mut owner = Owner { shared, pending, restoring, tasks: JoinSet::new(), watches };
    let grace = loop {
        owner.restore_missing();
        tokio::select! {
            // First what is over: the next order of a function may rely on it.
            biased;
            Some(_) = owner.tasks.join_next() => {}
            Some(news) = news.recv() => owner.hear(news),
            command = commands.recv() => match command {
                Some(ThreadMessage::Order(order)) => owner.take(order),
                Some(ThreadMessage::List(reply)) => owner.list(reply),
                Some(ThreadMessage::Logs(request, sender)) => owner.read_logs(&request, &sender),
                Some(ThreadMessage::Prepare(workload, reply)) => owner.shared.prepare_jobs(workload, reply),
                Some(ThreadMessage::CreateJob(job)) => {
                    owner.watches.follow_jobs(&owner.shared);
                    owner.shared.create_job(job);
                }
                Some(ThreadMessage::AdoptJob(job, report)) => {
                    owner.watches.follow_jobs(&owner.shared);
                    owner.shared.adopt_job(job, report);
                }
                Some(ThreadMessage::EndJob(job)) => owner.shared.end_job(&job),
                Some(ThreadMessage::ListJobs(reply)) => owner.shared.list_jobs(reply),
                Some(ThreadMessage::ShutDown(grace)) => break Some(grace),
                Some(ThreadMessage::Detach) | None => break None,
            },
        }
    };
    commands.close();
    while let Some(command) = commands.recv().await {
        match command {
            ThreadMessage::Order(order) => refuse(&*owner.shared.events, order),
            ThreadMessage::List(reply) => reply(Err(too_late())),
            ThreadMessage::CreateJob(job) => refuse_job(&job),
            ThreadMessage::ListJobs(reply) => reply(Err(too_late())),
            ThreadMessage::Prepare(..)
            | ThreadMessage::EndJob(_)
            | ThreadMessage::AdoptJob(..)
            | ThreadMessage::Logs(..)
            | ThreadMessage::Detach
            | ThreadMessage::ShutDown(_) => {}
        }
    }
    owner.break_off().await;
    if let Some(grace) = grace {
        owner.stop_all(Instant::now() + grace, &mut news).await;
    }
}

/// Answers an order that comes too late.
pub fn refuse(events: &dyn Events, order: Order) {
    match order {
        Order::Ensure { workload, .. } => events.ensured(&workload.name, Err(too_late())),
        Order::Scale { function, .. } => events.scaled(&function, Err(too_late())),
        Order::Teardown { function } => events.torn_down(&function, Err(too_late())),
    }
}

/// The same for a job.
pub fn refuse_job(job: &Job) {
    (job.report)(JobEvent::NotCreated(jobs::late()));
}

/// What those hear who come too late.
pub fn too_late() -> BackendError {
    BackendError::Unavailable("the Kubernetes backend is shutting down".to_owned())
}

impl Owner {
    fn take(&mut self, order: Order) {
        let (shared, pending) = (Rc::clone(&self.shared), Rc::clone(&self.pending));
        let (name, kind) = match &order {
            Order::Ensure { workload, .. } => (workload.name.clone(), Pending::Ensure),
            Order::Scale { function, .. } => (function.clone(), Pending::Scale),
            Order::Teardown { function } => (function.clone(), Pending::Teardown),
        };
        if let Order::Ensure { workload, .. } = &order {
            self.watches.follow_owned(&self.shared, plan::owned_kinds(workload, &self.shared.settings));
        }
        pending.borrow_mut().insert(name.clone(), kind);
        let restoring = Rc::clone(&self.restoring);
        self.tasks.spawn_local(async move {
            shared.until(|_| (!restoring.borrow().contains(&name)).then_some(())).await;
            // Between the last `.await` in these and the report, nothing else can happen.
            match order {
                Order::Ensure { workload, replicas } => {
                    let result = shared.ensure(workload, replicas).await;
                    pending.borrow_mut().remove(&name);
                    shared.events.ensured(&name, result);
                }
                Order::Scale { replicas, first_to_go, .. } => {
                    let result = shared.scale(&name, replicas, &first_to_go).await;
                    pending.borrow_mut().remove(&name);
                    shared.events.scaled(&name, result);
                }
                Order::Teardown { .. } => {
                    let result = shared.tear_down(&name).await;
                    pending.borrow_mut().remove(&name);
                    shared.events.torn_down(&name, result);
                }
            }
        });
    }

    /// Makes again what somebody else has deleted, each function in a task of its own.
    fn restore_missing(&mut self) {
        let (pending, restoring) = (self.pending.borrow(), self.restoring.borrow());
        let is_free = |name: &&FunctionName| !pending.contains_key(*name) && !restoring.contains(*name);
        let mut incomplete = self.shared.incomplete.borrow_mut();
        let mut names: BTreeSet<FunctionName> = incomplete.iter().filter(is_free).cloned().collect();
        incomplete.retain(|name| !names.contains(name));
        names.extend(self.shared.table.borrow().missing().iter().filter(is_free).cloned());
        drop((pending, restoring, incomplete));
        for name in names {
            self.restoring.borrow_mut().insert(name.clone());
            let (shared, restoring) = (Rc::clone(&self.shared), Rc::clone(&self.restoring));
            self.tasks.spawn_local(async move {
                shared.restore(&name).await;
                restoring.borrow_mut().remove(&name);
                shared.news.send_replace(());
            });
        }
    }

    fn list(&mut self, reply: ListReply) {
        let shared = Rc::clone(&self.shared);
        self.tasks.spawn_local(async move {
            let listed = shared.until(|table| table.is_complete().then(|| table.found()));
            let found = timeout_at(Instant::now() + LIST_TIMEOUT, listed).await;
            let away =
                |_| BackendError::Unavailable("the API server has not listed what there is".to_owned());
            reply(found.map_err(away));
        });
    }

    fn read_logs(&mut self, request: &LogRequest, sender: &LogSender) {
        let pods: Vec<_> = {
            let table = self.shared.table.borrow();
            let pods = table.get(&request.function).into_iter().flat_map(|known| known.pods());
            let pods = pods.filter(|pod| request.wants(&pod.status.id));
            pods.map(|pod| (pod.status.id.clone(), pod.name.clone())).collect()
        };
        for (replica, pod) in pods {
            let (shared, sender) = (Rc::clone(&self.shared), sender.clone());
            let (tail, follow) = (request.tail, request.follow);
            self.tasks.spawn_local(async move {
                let line =
                    |text: String| sender.send(LogLine { replica: replica.clone(), text: text.into() });
                if let Err(error) = shared.cluster.read_log(&pod, tail, follow, line).await {
                    tracing::debug!(pod, %error, "a log cannot be read");
                }
            });
        }
    }

    /// Ends what is under way, each order with its event.
    async fn break_off(&mut self) {
        self.tasks.shutdown().await;
        self.shared.break_off_jobs(KILL_TIMEOUT).await;
        let checks = self.shared.checks.borrow().names();
        for pod in checks {
            let shared = Rc::clone(&self.shared);
            self.tasks.spawn_local(async move { shared.remove_check(&pod, KILL_TIMEOUT).await });
        }
        while self.tasks.join_next().await.is_some() {}
        let events = &self.shared.events;
        for (name, pending) in std::mem::take(&mut *self.pending.borrow_mut()) {
            match pending {
                Pending::Ensure => events.ensured(&name, Err(too_late())),
                Pending::Scale => events.scaled(&name, Err(too_late())),
                Pending::Teardown => events.torn_down(&name, Err(too_late())),
            }
        }
    }

    /// Stops everything of the installation, also what was never ordered here.
    async fn stop_all(&mut self, by: Instant, news: &mut mpsc::UnboundedReceiver<ClusterNews>) {
        self.shared.stop_jobs(by.max(Instant::now() + KILL_TIMEOUT)).await;
        let names = self.shared.table.borrow().names();
        for name in &names {
            let report = self.shared.table.borrow_mut().leave(name);
            self.shared.publish(report);
            let (shared, object) = (Rc::clone(&self.shared), object_name(name.as_str()));
            self.tasks.spawn_local(async move {
                let limit = by.max(Instant::now() + KILL_TIMEOUT);
                if let Err(error) = shared.cluster.delete_deployment(&object, limit).await {
                    tracing::error!(object, %error, "a function could not be stopped");
                }
            });
        }
        self.shorten(&names, by, news).await;
        if self.is_left(&names) {
            // Who is still there is killed, whatever it does.
            self.delete_pods(&names, Some(0), |_| true);
            self.shorten(&names, Instant::now() + KILL_TIMEOUT, news).await;
        }
        self.tasks.shutdown().await;
    }

    /// Waits until nothing is left. Pods that go get no more time than there is: once they go, none is made in their place.
    async fn shorten(
        &mut self,
        names: &[FunctionName],
        by: Instant,
        news: &mut mpsc::UnboundedReceiver<ClusterNews>,
    ) {
        let mut shortened = BTreeSet::new();
        while self.is_left(names) {
            let left = by.saturating_duration_since(Instant::now());
            let grace_s = u32::try_from(left.as_secs()).unwrap_or(u32::MAX);
            self.delete_pods(names, Some(grace_s), |pod| pod.is_ending && shortened.insert(pod.name.clone()));
            tokio::select! {
                () = sleep_until(by) => return,
                Some(news) = news.recv() => self.hear(news),
                Some(_) = self.tasks.join_next() => {}
            }
        }
    }

    fn is_left(&self, names: &[FunctionName]) -> bool {
        let table = self.shared.table.borrow();
        names.iter().any(|name| table.get(name).is_some_and(|known| !known.is_gone()))
    }

    fn delete_pods(
        &mut self,
        names: &[FunctionName],
        grace_s: Option<u32>,
        mut choose: impl FnMut(&translate::SeenPod) -> bool,
    ) {
        let pods: Vec<String> = {
            let table = self.shared.table.borrow();
            let pods = names.iter().filter_map(|name| table.get(name)).flat_map(|known| known.pods());
            pods.filter(|pod| choose(pod)).map(|pod| pod.name.clone()).collect()
        };
        for pod in pods {
            let shared = Rc::clone(&self.shared);
            self.tasks.spawn_local(async move {
                let by = Instant::now() + KILL_TIMEOUT;
                if let Err(error) = shared.cluster.delete_pod(&pod, grace_s, by).await {
                    tracing::warn!(pod, %error, "a Pod could not be told to hurry");
                }
            });
        }
    }
}
