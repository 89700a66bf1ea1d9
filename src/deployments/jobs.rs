//! Jobs of REMOTE functions: each attempt has one, which goes out as an order to the function's backend. What becomes of it
//! comes back as inputs of the shard that made the attempt.
//!
//! Jobs may outlive the server. The next one has their attempts on record, and asks each backend which jobs there are (`adoption`).

use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc::sync_channel},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use nanofaas_backends::{
    Backend, BackendError, FoundJob, FunctionName, Job, JobEvent, JobId, JobReport, NotCreated, PrepareReply,
    Workload,
};
use nanofaas_wire::function::FunctionSpec;
use parking_lot::Mutex;
use shard_core::{
    AttemptKey, BackendEvent, DispatchEvent, ExecutionId, Failure, Input, Outcome, Provisioned, Report,
    Target,
};
use shard_runtime::Inbox;

use super::{FunctionRef, MANAGED_BY, events::failure_of, workload};

mod adoption;

use adoption::{Adoptions, JobKey};

/// A job could not be created.
const JOB_CREATE_FAILED: &str = "JOB_CREATE_FAILED";

/// A job ended without a callback.
const JOB_FAILED: &str = "JOB_FAILED";

/// Time for a backend to list its jobs.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);

/// An attempt that gets a job.
#[derive(Debug)]
pub struct JobOrder {
    /// The function.
    pub function: FunctionRef,
    /// The attempt.
    pub attempt: AttemptKey,
    /// The execution that it belongs to.
    pub id: ExecutionId,
    /// Number of the attempt.
    pub number: u32,
    /// What is left of its time, in milliseconds.
    pub remaining_ms: u32,
    /// Trace of the caller.
    pub trace_id: Option<Box<str>>,
    /// The request object, as JSON. `None`: the call is not JSON.
    pub payload: Option<Bytes>,
}

/// An attempt that an earlier server made, with a job that may be there.
#[derive(Debug, Clone, Copy)]
pub struct AdoptionOrder {
    /// The function.
    pub function: FunctionRef,
    /// The attempt.
    pub attempt: AttemptKey,
    /// The execution that it belongs to.
    pub id: ExecutionId,
    /// Number of the attempt.
    pub number: u32,
}

/// A job that was ordered, by this server or by an earlier one.
pub struct JobHandle(Handle);

enum Handle {
    Ordered(PlacedJob),
    /// Of an earlier server: where it is may have yet to be found out.
    Adopted(Arc<Jobs>, JobKey),
}

/// A job, and where it is.
#[derive(Clone)]
struct PlacedJob {
    backend: Arc<dyn Backend>,
    id: JobId,
}

impl PlacedJob {
    fn end(&self) {
        if let Some(jobs) = self.backend.jobs() {
            jobs.end(&self.id);
        }
    }
}

impl JobHandle {
    /// Ends it, if it goes on.
    pub fn end(&self) {
        match &self.0 {
            Handle::Ordered(job) => job.end(),
            Handle::Adopted(jobs, key) => jobs.give_up(*key),
        }
    }
}

/// A function that has jobs.
#[derive(Clone)]
struct JobFunction {
    workload: Arc<Workload>,
    backend: Arc<dyn Backend>,
}

/// See the module.
pub(super) struct Jobs {
    inbox: Inbox,
    functions: Mutex<BTreeMap<FunctionRef, JobFunction>>,
    /// Tells the jobs of this server from those of an earlier one: the end of their ids.
    life: String,
    /// Jobs of earlier servers whose attempts go on.
    adoptions: Adoptions,
}

impl Jobs {
    pub(super) fn new(inbox: Inbox) -> Jobs {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let life = format!("-{:x}", since.as_millis());
        Jobs { inbox, functions: Mutex::default(), life, adoptions: Adoptions::default() }
    }

    /// Has a function run as jobs. Nothing runs before its first call; what becomes of it is said at once when it had jobs
    /// before, and else when its backend knows whether it can have some.
    pub(super) fn provision(
        self: Arc<Self>,
        function: FunctionRef,
        mut spec: FunctionSpec,
        backend: Arc<dyn Backend>,
    ) -> Option<Input> {
        let is_kept = spec.deployment_backend.as_deref() == Some(backend.id());
        spec.deployment_backend = Some(backend.id().to_owned());
        spec.effective_execution_mode = spec.execution_mode;
        let workload = workload(&spec);
        let provisioned = Provisioned {
            document: spec.document(),
            target: Target::Jobs,
            endpoints: Vec::new(),
            desired: 0,
        };
        let Some(runner) = backend.jobs().filter(|_| !is_kept) else {
            self.add(function, workload, backend);
            return Some(Input::Backend(function.key, BackendEvent::Provisioned(Ok(provisioned))));
        };
        let (jobs, backend_of_jobs, prepared) = (Arc::clone(&self), Arc::clone(&backend), workload.clone());
        let reply: PrepareReply = Box::new(move |result| {
            let result = result.map_err(failure_of).map(|()| {
                jobs.add(function, workload, backend_of_jobs);
                provisioned
            });
            let input = Input::Backend(function.key, BackendEvent::Provisioned(result));
            jobs.inbox.post(function.shard, input);
        });
        runner.prepare(&Arc::new(prepared), reply);
        None
    }

    /// A function has its jobs at this backend from now on.
    pub(super) fn add(&self, function: FunctionRef, workload: Workload, backend: Arc<dyn Backend>) {
        let workload = Arc::new(workload);
        self.functions.lock().insert(function, JobFunction { workload, backend });
    }

    /// A function is gone; whether it was one with jobs.
    pub(super) fn remove(&self, function: FunctionRef) -> bool {
        self.functions.lock().remove(&function).is_some()
    }

    /// Orders the job of an attempt, or says at once how that failed.
    pub(super) fn create(&self, order: JobOrder) -> Result<JobHandle, Box<Input>> {
        let JobOrder { function, attempt, id, number, remaining_ms, trace_id, payload } = order;
        let failed = |reason: &str, is_final| {
            let reason = NotCreated { reason: reason.to_owned(), is_final };
            Err(Box::new(Input::Dispatch(attempt, not_created(reason))))
        };
        let Some(payload) = payload else {
            return failed("a REMOTE function takes JSON, and the call is of another type", true);
        };
        let Some(JobFunction { workload, backend }) = self.functions.lock().get(&function).cloned() else {
            return failed("its backend is gone", false);
        };
        let Some(jobs) = backend.jobs() else { return failed("its backend has no jobs", false) };
        let job_id = JobId::from(format!("{id}-{number}{}", self.life));
        jobs.create(Job {
            id: job_id.clone(),
            execution: id.to_string().into(),
            attempt: number,
            trace_id,
            timeout: Duration::from_millis(remaining_ms.into()),
            payload,
            report: self.report(function.shard, attempt, &job_id, workload.name.clone()),
            workload,
        });
        Ok(JobHandle(Handle::Ordered(PlacedJob { backend, id: job_id })))
    }

    /// Makes an input of whatever becomes of a job.
    fn report(&self, shard: u16, attempt: AttemptKey, job: &JobId, function: FunctionName) -> JobReport {
        let (inbox, job) = (self.inbox.clone(), job.clone());
        Box::new(move |event| {
            let event = match event {
                JobEvent::Created => {
                    tracing::info!(%function, %job, "a job was created");
                    DispatchEvent::JobCreated
                }
                JobEvent::NotCreated(reason) => {
                    tracing::warn!(%function, %job, reason = reason.reason, "a job could not be created");
                    not_created(reason)
                }
                JobEvent::Ended(how) => {
                    tracing::debug!(%function, %job, how, "a job has ended");
                    let message = format!("The job of function '{function}' ended without a result: {how}");
                    DispatchEvent::JobEnded(Box::new(Failure::new(JOB_FAILED, message)))
                }
            };
            inbox.post(shard, Input::Dispatch(attempt, event));
        })
    }

    /// The jobs of this server and of earlier ones that exist at a backend, with the executions and the numbers of the attempts that
    /// they are of.
    ///
    /// # Errors
    /// The backend cannot list them.
    fn list(&self, backend: &dyn Backend) -> Result<Vec<(JobKey, FoundJob)>, BackendError> {
        let Some(jobs) = backend.jobs() else { return Ok(Vec::new()) };
        let (sender, receiver) = sync_channel(1);
        jobs.list(Box::new(move |found| {
            // Nobody waits for it any more when it is late.
            let _ = sender.try_send(found);
        }));
        let late = |_| BackendError::Unavailable(format!("no answer within {} s", LIST_TIMEOUT.as_secs()));
        let (label, value) = MANAGED_BY;
        let is_ours = |found: &FoundJob| found.labels.get(label).is_some_and(|found| **found == *value);
        let found = receiver.recv_timeout(LIST_TIMEOUT).map_err(late)??;
        let found = found.into_iter().filter(is_ours);
        Ok(found.filter_map(|found| Some((key_of(&found.id)?, found))).collect())
    }

    /// Whether this server ordered a job.
    fn is_own(&self, job: &JobId) -> bool {
        job.as_str().ends_with(&self.life)
    }
}

/// The execution and the number of the attempt that a job is of.
fn key_of(job: &JobId) -> Option<JobKey> {
    let mut parts = job.as_str().rsplitn(3, '-');
    let (_, number, execution) = (parts.next()?, parts.next()?, parts.next()?);
    Some((ExecutionId::parse(execution)?, number.parse().ok()?))
}

fn not_created(NotCreated { reason, is_final }: NotCreated) -> DispatchEvent {
    let failure = Failure::new(JOB_CREATE_FAILED, format!("The job could not be created: {reason}"));
    let failure = Box::new(failure);
    let outcome = Outcome::Failure { failure, retryable: !is_final, retry_after_ms: None };
    DispatchEvent::Finished(Report::warm(outcome))
}

#[cfg(test)]
mod tests {
    use nanofaas_backends::{
        JobListReply, JobRunner, Labels, ListReply, LogRequest, LogStream, Order, Version,
    };
    use shard_core::FunctionKey;

    use super::*;

    /// Takes note of orders, and has jobs that nobody ordered.
    #[derive(Default)]
    struct Recording {
        created: Mutex<Vec<Job>>,
        ended: Mutex<Vec<JobId>>,
        adopted: Mutex<Vec<(JobId, JobReport)>>,
        found: Vec<FoundJob>,
        /// Why it can run no jobs.
        refusal: Option<BackendError>,
        /// How often it cannot list its jobs.
        unavailable: Mutex<u32>,
    }

    impl Backend for Recording {
        fn id(&self) -> &'static str {
            "recording"
        }
        fn supports(&self, _: &FunctionSpec) -> Result<(), String> {
            Ok(())
        }
        fn submit(&self, _: Order) {}
        fn list(&self, _: ListReply) {}
        fn jobs(&self) -> Option<&dyn JobRunner> {
            Some(self)
        }
        fn logs(&self, _: LogRequest) -> LogStream {
            LogStream::new().1
        }
        fn detach(&self, _: Duration) {}
        fn shut_down(&self, _: Duration) {}
    }

    impl JobRunner for Recording {
        fn prepare(&self, _: &Arc<Workload>, reply: PrepareReply) {
            reply(self.refusal.clone().map_or(Ok(()), Err));
        }
        fn create(&self, job: Job) {
            self.created.lock().push(job);
        }
        fn end(&self, job: &JobId) {
            self.ended.lock().push(job.clone());
        }
        fn list(&self, reply: JobListReply) {
            let mut unavailable = self.unavailable.lock();
            let is_available = *unavailable == 0;
            *unavailable = unavailable.saturating_sub(1);
            reply(match is_available {
                true => Ok(self.found.clone()),
                false => Err(BackendError::Unavailable("away".to_owned())),
            });
        }
        fn adopt(&self, job: &JobId, report: JobReport) {
            self.adopted.lock().push((job.clone(), report));
        }
    }

    fn function() -> FunctionRef {
        FunctionRef { shard: 3, key: FunctionKey::default() }
    }

    fn workload() -> Workload {
        let document = br#"{"name":"f","timeoutMs":1000,"concurrency":1,"queueSize":1,"maxRetries":0,
            "retryBackoffMs":0,"executionMode":"REMOTE","requestedExecutionMode":"REMOTE",
            "effectiveExecutionMode":"REMOTE"}"#;
        let spec = FunctionSpec::from_document(document).unwrap();
        let (name, labels) = (FunctionName::from("f"), Labels::default());
        Workload { name, labels, version: Version::of(&spec), spec: Arc::new(spec) }
    }

    fn order(payload: Option<&'static str>) -> JobOrder {
        JobOrder {
            function: function(),
            attempt: AttemptKey::default(),
            id: ExecutionId::new([7; 16], 0),
            number: 2,
            remaining_ms: 900,
            trace_id: None,
            payload: payload.map(Bytes::from),
        }
    }

    #[test]
    fn what_becomes_of_a_job_is_told_to_the_shard_of_its_function() {
        let (sender, inputs) = std::sync::mpsc::channel();
        let jobs = Jobs::new(Inbox::new(move |shard, input| drop(sender.send((shard, input)))));
        let backend = Arc::new(Recording::default());
        assert!(jobs.create(order(Some("{}"))).is_err(), "nobody knows the function");
        jobs.add(function(), workload(), Arc::<Recording>::clone(&backend));
        assert!(jobs.create(order(None)).is_err(), "only JSON becomes a job");
        let handle = jobs.create(order(Some("{}"))).unwrap_or_else(|input| panic!("{input:?}"));
        let job = backend.created.lock().pop().unwrap();
        assert_eq!((job.attempt, job.timeout, &*job.payload), (2, Duration::from_millis(900), &b"{}"[..]));
        let id = job.id.as_str();
        assert!(id.starts_with(&format!("{}-2-", job.execution)), "{id}");
        assert!(id.len() <= 63 && id.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')));
        for event in [JobEvent::Created, JobEvent::Ended("why".to_owned())] {
            (job.report)(event);
        }
        let told = [(); 2].map(|()| inputs.recv().unwrap());
        assert!(matches!(told[0], (3, Input::Dispatch(_, DispatchEvent::JobCreated))), "{told:?}");
        let (3, Input::Dispatch(_, DispatchEvent::JobEnded(failure))) = &told[1] else { panic!("{told:?}") };
        assert_eq!((&*failure.code, failure.message.ends_with("without a result: why")), (JOB_FAILED, true));
        handle.end();
        assert_eq!(*backend.ended.lock(), std::slice::from_ref(&job.id));
        assert!(jobs.remove(function()) && !jobs.remove(function()));
    }

    /// A job of an earlier server.
    fn left(number: u32, label: &str) -> FoundJob {
        let id = format!("{}-{number}-0", ExecutionId::new([7; 16], 0));
        let labels = Labels::from([(MANAGED_BY.0.into(), label.into())]);
        FoundJob { id: id.into(), function: "f".into(), labels }
    }

    fn adoption(number: u32) -> AdoptionOrder {
        let id = ExecutionId::new([7; 16], 0);
        AdoptionOrder { function: function(), attempt: AttemptKey::default(), id, number }
    }

    #[test]
    fn a_backend_is_asked_before_a_function_is_registered_and_not_again() {
        let (sender, inputs) = std::sync::mpsc::channel();
        let jobs = Arc::new(Jobs::new(Inbox::new(move |shard, input| drop(sender.send((shard, input))))));
        let why = BackendError::Conflict("why".to_owned());
        let backend = Arc::new(Recording { refusal: Some(why), ..Recording::default() });
        let provision = |spec: FunctionSpec, backend: &Arc<Recording>| {
            Arc::clone(&jobs).provision(function(), spec, Arc::<Recording>::clone(backend))
        };
        let new = (*workload().spec).clone();
        assert!(provision(new.clone(), &backend).is_none(), "the backend says it");
        let told = inputs.recv().unwrap();
        let (3, Input::Backend(_, BackendEvent::Provisioned(Err(failure)))) = &told else {
            panic!("{told:?}")
        };
        assert_eq!(&*failure.message, "why");
        assert!(!jobs.remove(function()), "it has no jobs");
        // One that an earlier server had registered with it is there already.
        let kept = FunctionSpec { deployment_backend: Some("recording".to_owned()), ..new.clone() };
        let told = provision(kept, &backend);
        assert!(matches!(&told, Some(Input::Backend(_, BackendEvent::Provisioned(Ok(_))))), "{told:?}");
        assert!(jobs.remove(function()));
        assert!(provision(new, &Arc::default()).is_none());
        let told = inputs.recv().unwrap();
        let (3, Input::Backend(_, BackendEvent::Provisioned(Ok(ready)))) = &told else { panic!("{told:?}") };
        assert!(ready.target == Target::Jobs && jobs.remove(function()));
    }

    #[test]
    fn jobs_of_attempts_that_go_on_are_adopted_and_others_of_ours_ended() {
        let (sender, inputs) = std::sync::mpsc::channel();
        let jobs = Arc::new(Jobs::new(Inbox::new(move |_, input| drop(sender.send(input)))));
        let (_, ours) = MANAGED_BY;
        let own = FoundJob {
            id: format!("{}-9{}", ExecutionId::new([7; 16], 0), jobs.life).into(),
            ..left(9, ours)
        };
        let found = vec![left(1, ours), left(2, ours), own, left(3, "somebody else"), left(5, ours)];
        let backend = Arc::new(Recording { found, ..Recording::default() });
        jobs.add(function(), workload(), Arc::<Recording>::clone(&backend));
        let (adopted, _lost, given_up) =
            (jobs.adopt(adoption(2)), jobs.adopt(adoption(4)), jobs.adopt(adoption(5)));
        given_up.end();
        jobs.find_all(vec![Arc::<Recording>::clone(&backend)]);
        assert_eq!(*backend.ended.lock(), [left(1, ours).id, left(5, ours).id]);
        let (id, report) = backend.adopted.lock().pop().unwrap();
        assert_eq!(id, left(2, ours).id);
        assert!(matches!(inputs.try_recv(), Ok(Input::Dispatch(_, DispatchEvent::JobLost))), "the fourth");
        report(JobEvent::Ended("why".to_owned()));
        assert!(matches!(inputs.try_recv(), Ok(Input::Dispatch(_, DispatchEvent::JobEnded(_)))));
        adopted.end();
        assert_eq!(backend.ended.lock().len(), 2, "it has ended");
        assert!(inputs.try_recv().is_err());
    }

    #[test]
    fn a_backend_that_cannot_list_is_asked_again_and_nothing_is_lost_meanwhile() {
        let (sender, inputs) = std::sync::mpsc::channel();
        let jobs = Arc::new(Jobs::new(Inbox::new(move |_, input| drop(sender.send(input)))));
        let backend = Arc::new(Recording::default());
        *backend.unavailable.lock() = 2;
        jobs.add(function(), workload(), Arc::<Recording>::clone(&backend));
        jobs.adopt(adoption(1));
        jobs.find_all(vec![Arc::<Recording>::clone(&backend)]);
        assert_eq!(*backend.unavailable.lock(), 0);
        assert!(matches!(inputs.try_recv(), Ok(Input::Dispatch(_, DispatchEvent::JobLost))));
        assert!(inputs.try_recv().is_err());
        // A server that ends does not wait for the rest of the pause.
        *backend.unavailable.lock() = u32::MAX;
        jobs.adopt(adoption(2));
        jobs.close();
        jobs.find_all(vec![Arc::<Recording>::clone(&backend)]);
        assert!(inputs.try_recv().is_err(), "the next server asks");
    }
}
