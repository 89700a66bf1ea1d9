//! The jobs of this server, as far as they are known. No I/O.
//!
//! A job is entered before it is made, so that no news of it is missed, and nothing is due before it is told that it was made.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    rc::Rc,
    time::{Duration, Instant},
};

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use nanofaas_backends::{JobId, JobReport};

use super::seen::{self, JobPodState, SeenJob, SeenJobPod};
use crate::{table::number, watching::News};

/// Kubernetes keeps Jobs that have ended for a minute. What was told for so long is not listed any more.
const TOLD_KEPT: Duration = Duration::from_secs(300);
const TOLD_MAX: usize = 100_000;

/// The jobs that were ordered, or adopted, and have not ended.
#[derive(Default)]
pub struct JobTable {
    entries: BTreeMap<JobId, Entry>,
    /// Those whose end was told, or that were ended; oldest first.
    told: VecDeque<(Instant, JobId)>,
}

/// A job.
struct Entry {
    report: Rc<JobReport>,
    /// An earlier server made it.
    is_adopted: bool,
    /// The change of the cluster since which it is there, once that was told.
    since: Option<u64>,
    job: Option<SeenJob>,
    pod: Option<SeenJobPod>,
    /// The Job is not there any more.
    is_gone: bool,
    /// Why it can have no Pod.
    refusal: Option<String>,
    /// Its end is being told.
    is_telling: bool,
}

impl Entry {
    fn is_over(&self) -> bool {
        let pod_is_over = self.pod.as_ref().is_some_and(|pod| match pod.state {
            // Why it was deleted is said by the Job.
            JobPodState::Ended { .. } => !pod.is_ending,
            JobPodState::Stuck(_) => !pod.is_ending,
            JobPodState::Running => false,
        });
        let job_is_over = self.job.as_ref().is_some_and(|job| job.is_finished);
        pod_is_over || job_is_over || self.is_gone || self.refusal.is_some()
    }

    fn pod_has_ended(&self) -> bool {
        self.pod.as_ref().is_some_and(|pod| matches!(pod.state, JobPodState::Ended { .. }))
    }
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEnd {
    /// For a person.
    pub how: String,
    /// The Pod whose log says more, if it does.
    pub pod: Option<String>,
    /// The Job has to be deleted: it would go on trying.
    pub is_stuck: bool,
}

/// What is to be done to end a job.
#[derive(Debug, PartialEq, Eq)]
pub enum EndOrder {
    /// Whoever makes it removes it.
    IsBeingMade,
    /// It is to be removed.
    Remove,
    /// This server has not made it: whose it is has to be seen.
    Unknown,
}

impl JobTable {
    /// A job is about to be made, or adopted.
    pub fn enter(&mut self, id: JobId, report: JobReport, is_adopted: bool) {
        let entry = Entry {
            report: Rc::new(report),
            is_adopted,
            since: None,
            job: None,
            pod: None,
            is_gone: false,
            refusal: None,
            is_telling: false,
        };
        self.entries.insert(id, entry);
    }

    /// Whether somebody waits for a job.
    pub fn is_wanted(&self, id: &JobId) -> bool {
        self.entries.contains_key(id)
    }

    /// Whether anything was heard of its Pod, or it needs none any more.
    pub fn has_pod(&self, id: &JobId) -> bool {
        self.entries.get(id).is_none_or(|entry| entry.pod.is_some() || entry.is_over())
    }

    /// Whether its Pod says how it ended, or cannot any more.
    pub fn is_explained(&self, id: &JobId) -> bool {
        self.entries.get(id).is_none_or(|entry| {
            entry.pod_has_ended() || entry.is_gone || !entry.job.as_ref().is_some_and(|job| job.is_finished)
        })
    }

    /// A job is there, since a change of the cluster; whom to tell, if somebody still wants it.
    pub fn made(&mut self, id: &JobId, resource_version: &str) -> Option<Rc<JobReport>> {
        let entry = self.entries.get_mut(id)?;
        entry.since = Some(number(resource_version));
        Some(Rc::clone(&entry.report))
    }

    /// A job of an earlier server is like this.
    pub fn found(&mut self, id: &JobId, job: &Job, pods: &[Pod]) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let version = number(job.metadata.resource_version.as_deref().unwrap_or_default());
        entry.since = Some(version);
        entry.is_gone = false;
        let seen = seen::job(job);
        // What a watch told meanwhile is newer.
        if entry.job.as_ref().is_none_or(|known| known.version < version) {
            entry.job = seen;
        }
        if entry.pod.is_none() {
            entry.pod = pods.iter().filter_map(seen::pod).next();
        }
    }

    /// A job was not made, or is not there; whom to tell.
    pub fn take(&mut self, id: &JobId) -> Option<Rc<JobReport>> {
        self.entries.remove(id).map(|entry| entry.report)
    }

    /// The cluster makes no Pod for a job.
    pub fn refuse_pod(&mut self, id: &JobId, why: String) {
        if let Some(entry) = self.entries.get_mut(id).filter(|entry| entry.pod.is_none()) {
            entry.refusal = Some(why);
        }
    }

    /// A job is to end. Nothing is reported of it from now on.
    pub fn end(&mut self, id: &JobId) -> EndOrder {
        self.note_told(id);
        match self.entries.remove(id) {
            Some(entry) if entry.since.is_none() => EndOrder::IsBeingMade,
            Some(_) => EndOrder::Remove,
            None => EndOrder::Unknown,
        }
    }

    /// Takes over news of Pods; the jobs that may be over now.
    pub fn hear_pods(&mut self, news: &News<Pod>) -> Vec<JobId> {
        match news {
            News::All { objects, .. } => {
                let seen: Vec<SeenJobPod> = objects.iter().filter_map(seen::pod).collect();
                let there: BTreeSet<&str> = seen.iter().map(|pod| pod.name.as_str()).collect();
                for pod in self.entries.values_mut().filter_map(|entry| entry.pod.as_mut()) {
                    pod.is_ending |= !there.contains(pod.name.as_str());
                }
                seen.into_iter().filter_map(|pod| self.pod_now(pod)).collect()
            }
            News::Now(pod) => seen::pod(pod).and_then(|pod| self.pod_now(pod)).into_iter().collect(),
            News::Gone(pod) => {
                let gone = seen::pod(pod).map(|pod| SeenJobPod { is_ending: true, ..pod });
                gone.and_then(|pod| self.pod_now(pod)).into_iter().collect()
            }
        }
    }

    fn pod_now(&mut self, seen: SeenJobPod) -> Option<JobId> {
        let entry = self.entries.get_mut(&seen.job)?;
        let id = seen.job.clone();
        // The last word of a Pod that went on its own is not changed by its removal.
        if entry.pod_has_ended() {
            return None;
        }
        entry.pod = Some(seen);
        Some(id)
    }

    /// Takes over news of Jobs; the jobs that may be over now.
    pub fn hear_jobs(&mut self, news: &News<Job>) -> Vec<JobId> {
        match news {
            News::All { objects, resource_version } => {
                let seen: Vec<SeenJob> = objects.iter().filter_map(seen::job).collect();
                let there: BTreeSet<&JobId> = seen.iter().map(|job| &job.id).collect();
                let at = number(resource_version);
                // One that was made after the list is not in it.
                let is_gone = |(id, entry): &(&JobId, &Entry)| {
                    entry.since.is_some_and(|since| since <= at) && !there.contains(*id)
                };
                let mut changed: Vec<JobId> =
                    self.entries.iter().filter(is_gone).map(|(id, _)| id.clone()).collect();
                for id in &changed {
                    if let Some(entry) = self.entries.get_mut(id) {
                        entry.is_gone = true;
                    }
                }
                changed.extend(seen.into_iter().filter_map(|job| self.job_now(job, false)));
                changed
            }
            News::Now(job) => seen::job(job).and_then(|job| self.job_now(job, false)).into_iter().collect(),
            News::Gone(job) => seen::job(job).and_then(|job| self.job_now(job, true)).into_iter().collect(),
        }
    }

    fn job_now(&mut self, seen: SeenJob, is_gone: bool) -> Option<JobId> {
        let entry = self.entries.get_mut(&seen.id)?;
        let id = seen.id.clone();
        entry.job = Some(seen);
        entry.is_gone |= is_gone;
        Some(id)
    }

    /// Whether the end of a job is to be told now; asked again, it is not.
    pub fn is_due(&mut self, id: &JobId) -> bool {
        let Some(entry) = self.entries.get_mut(id) else { return false };
        let is_due = entry.since.is_some() && !entry.is_telling && entry.is_over();
        entry.is_telling |= is_due;
        is_due
    }

    /// How a job ended.
    pub fn how(&self, id: &JobId) -> Option<JobEnd> {
        let entry = self.entries.get(id)?;
        if let Some(refusal) = &entry.refusal {
            return Some(JobEnd { how: refusal.clone(), pod: None, is_stuck: true });
        }
        let pod = entry.pod.as_ref();
        if let Some(SeenJobPod { state: JobPodState::Stuck(why), .. }) = pod.filter(|pod| !pod.is_ending) {
            return Some(JobEnd { how: why.clone(), pod: None, is_stuck: true });
        }
        let reason = entry.job.as_ref().and_then(|job| job.reason.clone());
        let (own, is_well) = match pod.map(|pod| &pod.state) {
            Some(JobPodState::Ended { how, is_well }) => (Some(how.clone()), *is_well),
            _ => (None, false),
        };
        let parts: Vec<String> = [reason, own].into_iter().flatten().collect();
        let how = match (parts.is_empty(), entry.is_gone) {
            (false, _) => parts.join("; "),
            (true, true) => "somebody has deleted its Job".to_owned(),
            (true, false) => "its Pod is gone".to_owned(),
        };
        let pod = pod.filter(|_| !is_well).map(|pod| pod.name.clone());
        Some(JobEnd { how, pod, is_stuck: false })
    }

    /// The end of a job is told now, if somebody still wants to hear of it.
    pub fn tell(&mut self, id: &JobId) -> Option<Rc<JobReport>> {
        let entry = self.entries.remove(id)?;
        self.note_told(id);
        Some(entry.report)
    }

    /// Takes note that nobody has to hear of a job again.
    pub fn note_told(&mut self, id: &JobId) {
        let now = Instant::now();
        while self
            .told
            .front()
            .is_some_and(|(at, _)| now.duration_since(*at) > TOLD_KEPT || self.told.len() >= TOLD_MAX)
        {
            self.told.pop_front();
        }
        self.told.push_back((now, id.clone()));
    }

    /// Those of which nobody has to hear again.
    pub fn told(&self) -> BTreeSet<JobId> {
        self.told.iter().map(|(_, id)| id.clone()).collect()
    }

    /// Ends everything: whom to tell that their job was not made.
    pub fn close(&mut self) -> Vec<Rc<JobReport>> {
        let entries = std::mem::take(&mut self.entries);
        let is_new = |entry: &Entry| entry.since.is_none() && !entry.is_adopted;
        entries.into_values().filter(is_new).map(|entry| entry.report).collect()
    }
}
