//! Jobs, made and followed to their end: what is asked of the API server, and what is waited for.
//!
//! Two watches tell what becomes of them: that of all Pods, which says how a program ended, and one of all Jobs, which says
//! what Kubernetes has ended. The watchdog of a job exits after the server has answered its callback, so nothing that is
//! heard of a Pod's end overtakes that.

pub mod prepare;
pub mod seen;
pub mod table;

use std::{cell::RefCell, collections::BTreeSet, rc::Rc, time::Duration};

use k8s_openapi::api::{batch::v1::Job as ClusterJob, core::v1::Pod};
use nanofaas_backends::{BackendError, FoundJob, Job, JobEvent, JobId, JobListReply, JobReport, NotCreated};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    cluster::{RequestError, job_requests::JobCreation},
    functions::Shared,
    names::job_name,
    plan::{self, JobObjects, REQUEST_BYTES_MAX},
    thread::too_late,
    watching::News,
};
use table::{EndOrder, JobTable};

/// Jobs that are being made, adopted or looked into at a time.
const REQUESTS_MAX: usize = 32;
/// Jobs that are being removed at a time.
const REMOVALS_MAX: usize = 32;
/// Jobs that wait to be removed. Beyond that they are left to their deadline.
const REMOVALS_WAITING_MAX: usize = 10_000;
/// To remove a job while the API server is away.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(300);
/// The same, while somebody waits for it.
const ROLLBACK_TIMEOUT: Duration = Duration::from_secs(5);
/// Until a job has a Pod, before it is asked why it has none.
const POD_PAUSES: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(60)];
/// To ask that, and to find a job of an earlier server.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// From the end of a Job until its Pod is heard to have ended.
const POD_END_TIMEOUT: Duration = Duration::from_secs(1);
/// To read what a program wrote before it ended.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(2);
/// Until it is known what there is.
const LIST_TIMEOUT: Duration = Duration::from_secs(25);
/// Between two looks at what is being stopped.
const STOP_PAUSE: Duration = Duration::from_millis(50);

/// The jobs of this server.
pub struct Jobs {
    table: RefCell<JobTable>,
    requests: Semaphore,
    removals: Semaphore,
    /// Names of those that are being removed, or wait for it.
    removing: RefCell<BTreeSet<String>>,
    tasks: RefCell<JoinSet<()>>,
}

impl Default for Jobs {
    fn default() -> Jobs {
        Jobs {
            table: RefCell::default(),
            requests: Semaphore::new(REQUESTS_MAX),
            removals: Semaphore::new(REMOVALS_MAX),
            removing: RefCell::default(),
            tasks: RefCell::default(),
        }
    }
}

impl Jobs {
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let mut tasks = self.tasks.borrow_mut();
        while tasks.try_join_next().is_some() {}
        tasks.spawn_local(task);
    }

    fn is_wanted(&self, id: &JobId) -> bool {
        self.table.borrow().is_wanted(id)
    }
}

impl Shared {
    /// Makes a job, and follows it to its end.
    pub fn create_job(self: &Rc<Self>, mut job: Job) {
        let report: JobReport = std::mem::replace(&mut job.report, Box::new(|_| {}));
        self.jobs.table.borrow_mut().enter(job.id.clone(), report, false);
        let shared = Rc::clone(self);
        self.jobs.spawn(async move { shared.make_and_watch(&job).await });
    }

    async fn make_and_watch(self: Rc<Self>, job: &Job) {
        let (id, name) = (&job.id, job_name(&job.id));
        let objects = match refusal(job, self.settings.callback_url.as_deref()) {
            None => plan::job(job, &self.settings),
            Some(refusal) => return self.not_created(id, refusal),
        };
        match self.make(job, &objects).await {
            Ok(JobCreation::Made(version)) => {
                let report = self.jobs.table.borrow_mut().made(id, &version);
                // It was ended meanwhile.
                let Some(report) = report else { return self.remove_job(id, true) };
                report(JobEvent::Created);
                drop(report);
                self.look(id);
                self.await_pod(id, &objects).await;
            }
            Ok(JobCreation::Unwanted) => self.remove_job(id, true),
            Ok(JobCreation::Taken) => {
                let reason = format!("there is a Job {name} that this server has not made");
                self.not_created(id, NotCreated { reason, is_final: false });
            }
            Err(error) => {
                // Also when it was refused: its Secret may have been, or an earlier try have made it.
                self.remove_job(id, true);
                let removed = async {
                    while self.jobs.removing.borrow().contains(&name) {
                        self.news_of_jobs().await;
                    }
                };
                let _ = timeout(ROLLBACK_TIMEOUT, removed).await;
                self.not_created(id, of_request(&error));
            }
        }
    }

    async fn make(&self, job: &Job, objects: &JobObjects) -> Result<JobCreation, RequestError> {
        let by = Instant::now() + job.timeout;
        // It is closed never.
        let _permit = self.jobs.requests.acquire().await;
        let is_wanted = || self.jobs.is_wanted(&job.id);
        if !is_wanted() {
            return Ok(JobCreation::Unwanted);
        }
        // A Job is made whatever becomes of its Pod, and says nowhere why it has none.
        self.cluster.try_pod(objects, by).await?;
        self.cluster.make_job(&job.id, objects, by, is_wanted).await
    }

    fn not_created(&self, id: &JobId, why: NotCreated) {
        let report = self.jobs.table.borrow_mut().take(id);
        if let Some(report) = report {
            report(JobEvent::NotCreated(why));
        }
    }

    /// Asks why a job has no Pod, if it gets none: a quota may be used up since it was made.
    async fn await_pod(self: &Rc<Self>, id: &JobId, objects: &JobObjects) {
        let [mut pause, longest] = POD_PAUSES;
        loop {
            let heard = async {
                while !self.jobs.table.borrow().has_pod(id) {
                    self.news_of_jobs().await;
                }
            };
            if timeout(pause, heard).await.is_ok() {
                return;
            }
            pause = (pause * 2).min(longest);
            let _permit = self.jobs.requests.acquire().await;
            let tried = self.cluster.try_pod(objects, Instant::now() + LOOK_TIMEOUT).await;
            if let Err(RequestError::Refused(status)) = tried
                && status.code < 500
                && status.code != 429
            {
                let why = format!("no Pod can be made: {}", status.message);
                self.jobs.table.borrow_mut().refuse_pod(id, why);
                return self.look(id);
            }
        }
    }

    /// Goes on with a job of an earlier server.
    pub fn adopt_job(self: &Rc<Self>, id: JobId, report: JobReport) {
        self.jobs.table.borrow_mut().enter(id.clone(), report, true);
        let shared = Rc::clone(self);
        self.jobs.spawn(async move {
            let found = {
                let _permit = shared.jobs.requests.acquire().await;
                shared.find_job(&id).await
            };
            match found {
                _ if !shared.jobs.is_wanted(&id) => shared.remove_job(&id, false),
                Some((job, pods)) => {
                    shared.jobs.table.borrow_mut().found(&id, &job, &pods);
                    shared.look(&id);
                }
                None => {
                    let report = shared.jobs.table.borrow_mut().tell(&id);
                    if let Some(report) = report {
                        report(JobEvent::Ended("its Job is not there any more".to_owned()));
                    }
                }
            }
        });
    }

    /// The Job and the Pods of a job, when the API server answers; none if it is not there.
    async fn find_job(&self, id: &JobId) -> Option<(ClusterJob, Vec<Pod>)> {
        while self.jobs.is_wanted(id) {
            let by = Instant::now() + LOOK_TIMEOUT;
            let found = async {
                let Some(job) = self.cluster.job(id, by).await? else { return Ok(None) };
                let pods = self.cluster.pods_of_job(id, &job, by).await?;
                Ok::<_, RequestError>(Some((job, pods)))
            };
            match found.await {
                Ok(found) => return found,
                Err(error) => {
                    tracing::warn!(job = %id, %error, "a job of an earlier server cannot be looked at");
                    sleep(POD_PAUSES[0]).await;
                }
            }
        }
        None
    }

    /// Ends a job.
    pub fn end_job(self: &Rc<Self>, id: &JobId) {
        let order = self.jobs.table.borrow_mut().end(id);
        match order {
            EndOrder::IsBeingMade => {}
            EndOrder::Remove => self.remove_job(id, true),
            EndOrder::Unknown => self.remove_job(id, false),
        }
    }

    /// Removes the Job of a job, if it is there. One that this server has not made must be the installation's.
    fn remove_job(self: &Rc<Self>, id: &JobId, is_ours: bool) {
        let name = job_name(id);
        let waiting = self.jobs.removing.borrow().len();
        if waiting >= REMOVALS_WAITING_MAX {
            tracing::warn!(job = %id, waiting, "too many jobs wait to be removed; this one ends at its deadline");
            return;
        }
        if !self.jobs.removing.borrow_mut().insert(name.clone()) {
            return;
        }
        let (shared, id) = (Rc::clone(self), id.clone());
        self.jobs.spawn(async move {
            {
                let _permit = shared.jobs.removals.acquire().await;
                let by = Instant::now() + REMOVE_TIMEOUT;
                let removed = async {
                    if is_ours || shared.cluster.job(&id, by).await?.is_some() {
                        shared.cluster.delete_job(&name, false, by).await?;
                    }
                    Ok::<_, RequestError>(())
                };
                if let Err(error) = removed.await {
                    tracing::error!(job = %id, %error, "a job could not be removed; it ends at its deadline");
                }
            }
            shared.jobs.removing.borrow_mut().remove(&name);
            shared.news.send_replace(());
        });
    }

    /// Takes over news of Pods.
    pub fn hear_job_pods(self: &Rc<Self>, news: &News<Pod>) {
        let changed = self.jobs.table.borrow_mut().hear_pods(news);
        changed.iter().for_each(|id| self.look(id));
    }

    /// Takes over news of Jobs.
    pub fn hear_jobs(self: &Rc<Self>, news: &News<ClusterJob>) {
        let changed = self.jobs.table.borrow_mut().hear_jobs(news);
        changed.iter().for_each(|id| self.look(id));
    }

    /// Tells the end of a job, if it has come.
    fn look(self: &Rc<Self>, id: &JobId) {
        if self.jobs.table.borrow_mut().is_due(id) {
            let (shared, id) = (Rc::clone(self), id.clone());
            self.jobs.spawn(async move { shared.tell_end(&id).await });
        }
    }

    async fn tell_end(self: Rc<Self>, id: &JobId) {
        let explained = async {
            while !self.jobs.table.borrow().is_explained(id) {
                self.news_of_jobs().await;
            }
        };
        // Kubernetes says it of the Job after the Pod, but the two watches do not keep to that.
        let _ = timeout(POD_END_TIMEOUT, explained).await;
        let Some(end) = self.jobs.table.borrow().how(id) else { return };
        if end.is_stuck {
            self.remove_job(id, true);
        }
        let words = match &end.pod {
            Some(pod) => {
                let by = Instant::now() + LAST_WORDS_TIMEOUT;
                let _permit = timeout_at(by, self.jobs.requests.acquire()).await;
                self.cluster.last_words(pod, false, by).await
            }
            None => String::new(),
        };
        let how = if words.is_empty() { end.how } else { format!("{}; it wrote: {words}", end.how) };
        let report = self.jobs.table.borrow_mut().tell(id);
        if let Some(report) = report {
            report(JobEvent::Ended(how));
        }
    }

    async fn news_of_jobs(&self) {
        // The sender lives as long as `self`.
        let _ = self.news.subscribe().changed().await;
    }

    /// Lists what there is, but for what has ended and was told.
    pub fn list_jobs(self: &Rc<Self>, reply: JobListReply) {
        let shared = Rc::clone(self);
        self.jobs.spawn(async move {
            let found = shared.cluster.jobs(Instant::now() + LIST_TIMEOUT).await;
            let told = shared.jobs.table.borrow().told();
            let found = found.map(|jobs| {
                let seen = jobs.iter().filter_map(seen::job);
                let left = seen.filter(|job| !job.is_ending && !told.contains(&job.id));
                left.map(|seen| FoundJob { id: seen.id, function: seen.function, labels: seen.labels })
                    .collect()
            });
            reply(
                found.map_err(|error| BackendError::Unavailable(format!("jobs cannot be listed: {error}"))),
            );
        });
    }

    /// Ends what is under way: jobs go on, and what was to be removed gets so much time for it.
    pub async fn break_off_jobs(&self, limit: Duration) {
        let mut tasks = std::mem::take(&mut *self.jobs.tasks.borrow_mut());
        tasks.shutdown().await;
        let reports = self.jobs.table.borrow_mut().close();
        for report in reports {
            report(JobEvent::NotCreated(late()));
        }
        let names = std::mem::take(&mut *self.jobs.removing.borrow_mut());
        let by = Instant::now() + limit;
        let removals = names.iter().map(|name| self.cluster.delete_job(name, false, by));
        for removed in futures_util::future::join_all(removals).await {
            if let Err(error) = removed {
                tracing::warn!(%error, "a job could not be removed; the next server does it");
            }
        }
    }

    /// Ends all jobs of the installation, and waits until nothing of them runs.
    pub async fn stop_jobs(&self, by: Instant) {
        let mut asked = BTreeSet::new();
        loop {
            let jobs = match self.cluster.jobs(by).await {
                Ok(jobs) => jobs,
                Err(error) => return tracing::error!(%error, "jobs cannot be listed to stop them"),
            };
            if jobs.is_empty() || Instant::now() >= by {
                return;
            }
            for name in jobs.into_iter().filter_map(|job| job.metadata.name) {
                if asked.insert(name.clone())
                    && let Err(error) = self.cluster.delete_job(&name, true, by).await
                {
                    tracing::error!(name, %error, "a job could not be stopped");
                }
            }
            sleep(STOP_PAUSE).await;
        }
    }
}

/// Why a job is not even tried.
fn refusal(job: &Job, callback_url: Option<&str>) -> Option<NotCreated> {
    let bytes = job.payload.len();
    let reason = match callback_url {
        None => "the server does not know the address that a job reports to; set k8s.callback-url".to_owned(),
        Some(_) if bytes > REQUEST_BYTES_MAX => format!(
            "the request has {bytes} bytes, and a Job of Kubernetes takes {REQUEST_BYTES_MAX} at most; send less, or a \
             reference to the data"
        ),
        Some(_) => return None,
    };
    Some(NotCreated { reason, is_final: true })
}

/// Why a job could not be made.
fn of_request(error: &RequestError) -> NotCreated {
    // What is wrong with it, and not with the moment.
    let is_final = matches!(error, RequestError::Refused(status) if matches!(status.code, 400 | 413 | 422));
    NotCreated { reason: error.to_string(), is_final }
}

/// What those hear whose job comes too late.
pub fn late() -> NotCreated {
    too_late().to_string().into()
}
