//! What Kubernetes says about Jobs and their Pods, in the words of the server. Pure.

use k8s_openapi::api::{
    batch::v1::{Job, JobCondition},
    core::v1::Pod,
};
use nanofaas_backends::{FunctionName, JobId, Labels};

use crate::{
    names::{JOB, attached_again, function_of},
    table::number,
    translate::{ProblemKind, condition, container, end_of, said, trouble},
};

/// A Job at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenJob {
    /// Who it is.
    pub id: JobId,
    /// Whose program it runs.
    pub function: FunctionName,
    /// What was attached to it.
    pub labels: Labels,
    /// Which change of the cluster this is.
    pub version: u64,
    /// It goes.
    pub is_ending: bool,
    /// Nothing of it runs any more.
    pub is_finished: bool,
    /// Why Kubernetes has ended it, or is about to, if not for the end of its Pod.
    pub reason: Option<String>,
}

/// The Pod of a job at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenJobPod {
    /// Whose it is.
    pub job: JobId,
    /// What it is called.
    pub name: String,
    /// How far it is.
    pub state: JobPodState,
    /// Somebody has deleted it.
    pub is_ending: bool,
}

/// How far the Pod of a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobPodState {
    /// It runs, or will.
    Running,
    /// It cannot run, for this reason. Nothing of it has run.
    Stuck(String),
    /// Nothing of it runs any more.
    Ended {
        /// How that came.
        how: String,
        /// Its program says that it did what it should.
        is_well: bool,
    },
}

/// A Job, if it is one of an attempt.
pub fn job(job: &Job) -> Option<SeenJob> {
    let metadata = &job.metadata;
    let annotations = metadata.annotations.as_ref();
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let is = |condition: &JobCondition, names: &[&str]| {
        condition.status == "True" && names.contains(&condition.type_.as_str())
    };
    let failure = conditions.iter().find(|condition| is(condition, &["Failed", "FailureTarget"]));
    // That its only Pod failed is said better by that.
    let failure = failure.filter(|condition| condition.reason.as_deref() != Some("BackoffLimitExceeded"));
    Some(SeenJob {
        id: annotations?.get(JOB)?.clone().into(),
        function: function_of(annotations)?,
        labels: attached_again(annotations),
        version: number(metadata.resource_version.as_deref().unwrap_or_default()),
        is_ending: metadata.deletion_timestamp.is_some(),
        is_finished: conditions.iter().any(|condition| is(condition, &["Failed", "Complete"])),
        reason: failure.map(|condition| {
            said(condition.reason.as_deref().unwrap_or("Failed"), condition.message.as_deref())
        }),
    })
}

/// A Pod, if it is one of a job.
pub fn pod(pod: &Pod) -> Option<SeenJobPod> {
    let metadata = &pod.metadata;
    Some(SeenJobPod {
        job: metadata.annotations.as_ref()?.get(JOB)?.clone().into(),
        name: metadata.name.clone()?,
        state: state(pod),
        is_ending: metadata.deletion_timestamp.is_some(),
    })
}

fn state(pod: &Pod) -> JobPodState {
    let status = pod.status.as_ref();
    let ended =
        container(pod).and_then(|container| container.state.as_ref()?.terminated.as_ref()).map(end_of);
    match status.and_then(|status| status.phase.as_deref()) {
        Some("Succeeded") => {
            JobPodState::Ended { how: ended.unwrap_or_else(|| "its Pod succeeded".to_owned()), is_well: true }
        }
        Some("Failed") => {
            let own =
                status.and_then(|status| Some(said(status.reason.as_deref()?, status.message.as_deref())));
            let disruption =
                condition(pod, "DisruptionTarget").filter(|condition| condition.status == "True");
            let disruption = disruption.map(|condition| {
                said(condition.reason.as_deref().unwrap_or("disrupted"), condition.message.as_deref())
            });
            let parts: Vec<String> = [own.or(disruption), ended].into_iter().flatten().collect();
            let how = if parts.is_empty() { "its Pod failed".to_owned() } else { parts.join("; ") };
            JobPodState::Ended { how, is_well: false }
        }
        _ => match trouble(pod) {
            // It is not over before the Pod is.
            Some(problem) if problem.kind == ProblemKind::Ended || problem.kind.may_pass() => {
                JobPodState::Running
            }
            Some(problem) => JobPodState::Stuck(problem.text),
            None => JobPodState::Running,
        },
    }
}
