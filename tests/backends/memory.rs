//! A backend whose replicas outlive it: HTTP servers of this process, in a cluster that any number of backends find again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use nanofaas_backends::{
    Backend, BackendError, Ensured, Events, FoundFunction, FoundJob, FunctionName, Job, JobEvent, JobId,
    JobListReply, JobReport, JobRunner, ListReply, LogRequest, LogSender, LogStream, Order, ReplicaChange,
    ReplicaChanges, ReplicaId, ReplicaState, ReplicaStatus, Workload, who_goes,
};
use nanofaas_wire::function::FunctionSpec;

use crate::server::Server;

/// What runs, whoever looks after it.
#[derive(Clone, Default)]
pub(crate) struct Cluster(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    functions: BTreeMap<FunctionName, Running>,
    jobs: BTreeMap<JobId, MemoryJob>,
    /// Replicas so far.
    count: u64,
    /// Where the backend that looks after it takes messages.
    watcher: Option<Sender<Message>>,
}

struct Running {
    workload: Arc<Workload>,
    desired: u32,
    /// Oldest first.
    replicas: Vec<Pod>,
    /// Somebody waits for the end of all of them.
    is_torn_down: bool,
}

/// A job, whoever ordered it.
struct MemoryJob {
    found: FoundJob,
    /// How it ended while no backend looked after it.
    ended: Option<String>,
    /// Where its end is told.
    report: Option<JobReport>,
}

struct Pod {
    status: ReplicaStatus,
    server: Server,
}

enum Message {
    Order(Order),
    List(ListReply),
    Logs(LogRequest, LogSender),
    CreateJob(Job),
    EndJob(JobId),
    ListJobs(JobListReply),
    AdoptJob(JobId, JobReport),
    Died(FunctionName, ReplicaId),
    Drained(FunctionName, ReplicaId),
    /// With the grace of those that are to go, and none when they stay.
    End(Option<Duration>),
}

impl Cluster {
    /// How many replicas of a function run.
    pub(crate) fn count(&self, function: &FunctionName) -> usize {
        let state = self.0.lock().unwrap();
        let pods = state.functions.get(function).into_iter().flat_map(|running| &running.replicas);
        let jobs = state.jobs.values().filter(|job| job.found.function == *function && job.ended.is_none());
        pods.filter(|pod| pod.server.is_alive()).count() + jobs.count()
    }

    /// A job comes to its end. What is left of it stays until a backend has said so.
    pub(crate) fn finish_job(&self, id: &JobId) {
        let mut state = self.0.lock().unwrap();
        let job = state.jobs.get_mut(id).unwrap();
        let how = "exit status: 1 after it wrote: done".to_owned();
        match job.report.take() {
            Some(report) => {
                state.jobs.remove(id);
                report(JobEvent::Ended(how));
            }
            None => job.ended = Some(how),
        }
    }

    /// Ends the oldest replica of a function.
    pub(crate) fn crash(&self, function: &FunctionName) {
        let state = self.0.lock().unwrap();
        let pod = &state.functions[function].replicas[0];
        pod.server.kill();
        let died = Message::Died(function.clone(), pod.status.id.clone());
        state.watcher.as_ref().unwrap().send(died).unwrap();
    }
}

pub(crate) struct MemoryBackend {
    messages: Sender<Message>,
    events: Arc<dyn Events>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl MemoryBackend {
    /// Looks after a cluster from now on.
    pub(crate) fn new(cluster: Cluster, events: Arc<dyn Events>) -> MemoryBackend {
        let (messages, receiver) = channel();
        cluster.0.lock().unwrap().watcher = Some(messages.clone());
        let owner = Owner {
            cluster,
            events: Arc::clone(&events),
            messages: messages.clone(),
            pending: Vec::new(),
            ensured: BTreeSet::new(),
        };
        let thread = std::thread::spawn(move || owner.run(&receiver));
        MemoryBackend { messages, events, thread: Mutex::new(Some(thread)) }
    }

    fn end(&self, grace: Option<Duration>) {
        let _ = self.messages.send(Message::End(grace));
        if let Some(thread) = self.thread.lock().unwrap().take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for MemoryBackend {
    fn drop(&mut self) {
        self.end(None);
    }
}

impl Backend for MemoryBackend {
    fn id(&self) -> &'static str {
        "memory"
    }
    fn supports(&self, _: &FunctionSpec) -> Result<(), String> {
        Ok(())
    }
    fn submit(&self, order: Order) {
        if self.messages.send(Message::Order(order.clone())).is_err() {
            refuse(&*self.events, order);
        }
    }
    fn list(&self, reply: ListReply) {
        if let Err(std::sync::mpsc::SendError(Message::List(reply))) =
            self.messages.send(Message::List(reply))
        {
            reply(Err(too_late()));
        }
    }
    fn jobs(&self) -> Option<&dyn JobRunner> {
        Some(self)
    }
    fn logs(&self, request: LogRequest) -> LogStream {
        let (sender, stream) = LogStream::new();
        let _ = self.messages.send(Message::Logs(request, sender));
        stream
    }
    fn detach(&self, _: Duration) {
        self.end(None);
    }
    fn shut_down(&self, grace: Duration) {
        self.end(Some(grace));
    }
}

/// A job runs until it is ended, if its program sleeps. Others fail at once.
impl JobRunner for MemoryBackend {
    fn create(&self, job: Job) {
        if let Err(std::sync::mpsc::SendError(Message::CreateJob(job))) =
            self.messages.send(Message::CreateJob(job))
        {
            refuse_job(&job);
        }
    }
    fn end(&self, job: &JobId) {
        let _ = self.messages.send(Message::EndJob(job.clone()));
    }
    fn list(&self, reply: JobListReply) {
        if let Err(std::sync::mpsc::SendError(Message::ListJobs(reply))) =
            self.messages.send(Message::ListJobs(reply))
        {
            reply(Err(too_late()));
        }
    }
    fn adopt(&self, job: &JobId, report: JobReport) {
        let _ = self.messages.send(Message::AdoptJob(job.clone(), report));
    }
}

struct Owner {
    cluster: Cluster,
    events: Arc<dyn Events>,
    messages: Sender<Message>,
    /// Functions whose first replicas are not ready.
    pending: Vec<FunctionName>,
    /// Functions that were ensured here, of which changes are reported.
    ensured: BTreeSet<FunctionName>,
}

impl Owner {
    fn run(mut self, messages: &Receiver<Message>) {
        while let Ok(message) = messages.recv() {
            match message {
                Message::Order(Order::Ensure { workload, replicas }) => self.ensure(workload, replicas),
                Message::Order(Order::Scale { function, replicas, first_to_go }) => {
                    self.scale(&function, replicas, &first_to_go);
                }
                Message::Order(Order::Teardown { function }) => self.tear_down(&function),
                Message::List(reply) => reply(Ok(self.list())),
                Message::Logs(request, sender) => {
                    let state = self.cluster.0.lock().unwrap();
                    let running = state.functions.get(&request.function);
                    let pods = running.into_iter().flat_map(|running| &running.replicas);
                    pods.filter(|pod| request.wants(&pod.status.id))
                        .for_each(|pod| pod.server.read(&pod.status.id, &request, &sender));
                }
                Message::CreateJob(job) => self.create_job(job),
                Message::EndJob(job) => drop(self.cluster.0.lock().unwrap().jobs.remove(&job)),
                Message::ListJobs(reply) => {
                    let state = self.cluster.0.lock().unwrap();
                    reply(Ok(state.jobs.values().map(|job| job.found.clone()).collect()));
                }
                Message::AdoptJob(id, report) => self.adopt_job(&id, report),
                Message::Died(function, id) => self.replace(&function, &id),
                Message::Drained(function, id) => self.forget(&function, &id),
                Message::End(grace) => {
                    self.end(grace);
                    for message in messages.try_iter() {
                        match message {
                            Message::Order(order) => refuse(&*self.events, order),
                            Message::List(reply) => reply(Err(too_late())),
                            Message::ListJobs(reply) => reply(Err(too_late())),
                            Message::CreateJob(job) => refuse_job(&job),
                            _ => {}
                        }
                    }
                    return;
                }
            }
        }
    }

    fn create_job(&self, job: Job) {
        let (function, labels) = (job.workload.name.clone(), job.workload.labels.clone());
        let command = job.workload.spec.runtime_command.clone().unwrap_or_default();
        if command.starts_with("no-such-program") {
            return (job.report)(JobEvent::NotCreated(format!("there is no `{command}`").into()));
        }
        let found = FoundJob { id: job.id.clone(), function, labels };
        (job.report)(JobEvent::Created);
        if command.starts_with("sleep") {
            let kept = MemoryJob { found, ended: None, report: Some(job.report) };
            self.cluster.0.lock().unwrap().jobs.insert(job.id, kept);
        } else {
            (job.report)(JobEvent::Ended("exit status: 2 after it wrote: the reason".to_owned()));
        }
    }

    fn adopt_job(&self, id: &JobId, report: JobReport) {
        let mut state = self.cluster.0.lock().unwrap();
        let how = match state.jobs.get_mut(id) {
            Some(MemoryJob { ended: Some(how), .. }) => std::mem::take(how),
            Some(job) => return job.report = Some(report),
            None => "it is not there any more".to_owned(),
        };
        state.jobs.remove(id);
        report(JobEvent::Ended(how));
    }

    fn ensure(&mut self, workload: Arc<Workload>, replicas: u32) {
        let name = workload.name.clone();
        let command = workload.spec.runtime_command.clone().unwrap_or_default();
        if command.contains("exit") {
            let reason = format!(
                "function '{name}' did not become ready: the reason; check that `{command}` can be run"
            );
            self.events.ensured(&name, Err(BackendError::Provisioning(reason)));
            return;
        }
        if command.starts_with("sleep") {
            self.pending.push(name);
            return;
        }
        let cluster = self.cluster.clone();
        let mut state = cluster.0.lock().unwrap();
        let State { functions, count, .. } = &mut *state;
        let running = functions.entry(name.clone()).or_insert_with(|| {
            let workload = Arc::clone(&workload);
            Running { workload, desired: 0, replicas: Vec::new(), is_torn_down: false }
        });
        running.workload = Arc::clone(&workload);
        for pod in running.replicas.iter_mut().filter(|pod| pod.status.version != workload.version) {
            self.drain(&name, pod, timeout_of(&workload));
        }
        running.desired = running.desired.max(replicas);
        self.resize(&name, running, &[], count);
        let replicas = running.replicas.iter().map(|pod| pod.status.clone()).collect();
        let ensured = Ensured { replicas, desired: running.desired };
        self.events.ensured(&name, Ok(ensured));
        self.ensured.insert(name);
    }

    fn scale(&mut self, name: &FunctionName, replicas: u32, first_to_go: &[ReplicaId]) {
        let cluster = self.cluster.clone();
        let mut state = cluster.0.lock().unwrap();
        let State { functions, count, .. } = &mut *state;
        let Some(running) = functions.get_mut(name) else {
            let unknown = BackendError::Unavailable("no such function".to_owned());
            return self.events.scaled(name, Err(unknown));
        };
        running.desired = replicas;
        let changes = self.resize(name, running, first_to_go, count);
        self.events.scaled(name, Ok(replicas));
        self.report(name, changes, replicas);
    }

    fn tear_down(&mut self, name: &FunctionName) {
        let cluster = self.cluster.clone();
        let mut state = cluster.0.lock().unwrap();
        let State { functions, count, .. } = &mut *state;
        let Some(running) = functions.get_mut(name) else { return self.events.torn_down(name, Ok(())) };
        running.desired = 0;
        running.is_torn_down = true;
        let changes = self.resize(name, running, &[], count);
        self.report(name, changes, 0);
        if running.replicas.is_empty() {
            functions.remove(name);
            self.events.torn_down(name, Ok(()));
        }
    }

    /// Starts what is missing, drains what is too much.
    fn resize(
        &self,
        name: &FunctionName,
        running: &mut Running,
        first_to_go: &[ReplicaId],
        count: &mut u64,
    ) -> Vec<ReplicaChange> {
        let mut changes = Vec::new();
        let is_member = |pod: &Pod| pod.status.state != ReplicaState::Draining;
        let members = running.replicas.iter().filter(|pod| is_member(pod)).count();
        for _ in members..running.desired as usize {
            *count += 1;
            let server = Server::start();
            let id = format!("{name}-{count}").into();
            let mut status = ReplicaStatus::starting(id, running.workload.version.clone());
            status.change_to(ReplicaState::Ready(server.endpoint()));
            changes.push(ReplicaChange::Now(status.clone()));
            running.replicas.push(Pod { status, server });
        }
        let surplus = members.saturating_sub(running.desired as usize);
        let timeout = timeout_of(&running.workload);
        let live = (0..).zip(&running.replicas).filter(|(_, pod)| is_member(pod));
        for at in who_goes(live.map(|(at, pod)| (at, &pod.status)), first_to_go, surplus) {
            changes.extend(self.drain(name, &mut running.replicas[at], timeout));
        }
        changes
    }

    fn drain(&self, name: &FunctionName, pod: &mut Pod, limit: Duration) -> Option<ReplicaChange> {
        let change = pod.status.change_to(ReplicaState::Draining)?;
        let (server, messages) = (pod.server.clone(), self.messages.clone());
        let drained = Message::Drained(name.clone(), pod.status.id.clone());
        std::thread::spawn(move || {
            server.drain(limit);
            let _ = messages.send(drained);
        });
        Some(change)
    }

    /// A replica died: it is started again, under the same name.
    fn replace(&mut self, name: &FunctionName, id: &ReplicaId) {
        let cluster = self.cluster.clone();
        let mut state = cluster.0.lock().unwrap();
        let Some(running) = state.functions.get_mut(name) else { return };
        let Some(pod) = running.replicas.iter_mut().find(|pod| pod.status.id == *id) else { return };
        pod.server = Server::start();
        let states = [ReplicaState::Failed("it died".into()), ReplicaState::Ready(pod.server.endpoint())];
        for next in states {
            let changes = pod.status.change_to(next).into_iter().collect();
            self.report(name, changes, running.desired);
        }
    }

    /// Nothing is left of a replica.
    fn forget(&mut self, name: &FunctionName, id: &ReplicaId) {
        let cluster = self.cluster.clone();
        let mut state = cluster.0.lock().unwrap();
        let Some(running) = state.functions.get_mut(name) else { return };
        running.replicas.retain(|pod| pod.status.id != *id);
        let changes = vec![ReplicaChange::Gone(id.clone())];
        self.report(name, changes, running.desired);
        if running.is_torn_down && running.replicas.is_empty() {
            state.functions.remove(name);
            self.events.torn_down(name, Ok(()));
        }
    }

    fn report(&self, name: &FunctionName, changes: Vec<ReplicaChange>, desired: u32) {
        if self.ensured.contains(name) {
            self.events.replicas_changed(name, ReplicaChanges { changes, desired });
        }
    }

    fn list(&self) -> Vec<FoundFunction> {
        let state = self.cluster.0.lock().unwrap();
        let found = state.functions.values().map(|running| FoundFunction {
            name: running.workload.name.clone(),
            labels: running.workload.labels.clone(),
            desired: running.desired,
            replicas: running.replicas.iter().map(|pod| pod.status.clone()).collect(),
        });
        found.collect()
    }

    fn end(&mut self, grace: Option<Duration>) {
        for name in self.pending.drain(..) {
            self.events.ensured(&name, Err(too_late()));
        }
        // From now on nobody hears of them here.
        self.cluster.0.lock().unwrap().jobs.values_mut().for_each(|job| job.report = None);
        let Some(grace) = grace else { return };
        let deadline = std::time::Instant::now() + grace;
        let mut state = self.cluster.0.lock().unwrap();
        state.jobs.clear();
        for (name, running) in std::mem::take(&mut state.functions) {
            let mut changes = Vec::new();
            for pod in running.replicas {
                pod.server.drain(deadline.saturating_duration_since(std::time::Instant::now()));
                changes.push(ReplicaChange::Gone(pod.status.id));
            }
            self.report(&name, changes, 0);
        }
    }
}

fn timeout_of(workload: &Workload) -> Duration {
    Duration::from_millis(workload.spec.timeout_ms.into())
}

fn too_late() -> BackendError {
    BackendError::Unavailable("the memory backend is shutting down".to_owned())
}

fn refuse_job(job: &Job) {
    (job.report)(JobEvent::NotCreated(too_late().to_string().into()));
}

fn refuse(events: &dyn Events, order: Order) {
    match order {
        Order::Ensure { workload, .. } => events.ensured(&workload.name, Err(too_late())),
        Order::Scale { function, .. } => events.scaled(&function, Err(too_late())),
        Order::Teardown { function } => events.torn_down(&function, Err(too_late())),
    }
}
