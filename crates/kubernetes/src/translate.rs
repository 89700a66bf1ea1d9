//! What Kubernetes says about Pods and Deployments, in the words of the server. Pure.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodCondition},
    },
    apimachinery::pkg::{apis::meta::v1::Time, util::intstr::IntOrString},
};
use nanofaas_backends::{FunctionName, Labels, ReplicaId, ReplicaState, ReplicaStatus, Version};

use crate::{
    names::{
        CHECKED_BY, DIGEST, INSTALLATION, PURPOSE, PURPOSE_IMAGE_CHECK, VERSION, attached_again, function_of,
    },
    plan::{CONTAINER, PORT_DEFAULT},
};

/// Why a replica does not run, or a function has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What kind of trouble.
    pub kind: ProblemKind,
    /// For a person, with the words of Kubernetes.
    pub text: String,
}

/// Kinds of trouble, for what a registration is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// The registry does not have the image.
    ImageNotFound,
    /// The registry wants credentials, or others.
    ImagePullAuthRequired,
    /// The registry does not answer, or not with an image.
    ImageRegistryUnavailable,
    /// The program ended; its log says more.
    Ended,
    /// The cluster does not let it run.
    Refused,
    /// No node has room for it. That may change.
    Unschedulable,
}

impl ProblemKind {
    /// Whether waiting may help.
    pub fn may_pass(self) -> bool {
        self == ProblemKind::Unschedulable
    }
}

/// A Pod at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenPod {
    /// Whose it is.
    pub function: FunctionName,
    /// What it is called.
    pub name: String,
    /// Who it is, what it runs and how it is.
    pub status: ReplicaStatus,
    /// How often its program was started again.
    pub restarts: i32,
    /// Why its program ended the last time.
    pub last_end: Option<String>,
    /// What keeps it from being ready.
    pub problem: Option<Problem>,
    /// It goes, and takes no new calls.
    pub is_ending: bool,
    /// When it was made.
    pub created: SystemTime,
    /// How it can be asked whether it takes calls, while Kubernetes does not say so.
    pub probe: Option<Probe>,
    /// Its program has not taken a call yet, as far as Kubernetes knows.
    pub is_fresh: bool,
    /// Since when it is ready or not; none before Kubernetes says anything about that.
    pub ready_changed: Option<SystemTime>,
}

/// How to ask a Pod whether it takes calls: what the kubelet does for its readiness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What is asked.
    pub address: SocketAddr,
    /// For `GET`; none if an open port is enough.
    pub path: Option<String>,
    /// Where calls go.
    pub endpoint: Arc<str>,
}

/// A Pod that checks an image, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenCheck {
    /// What it is called.
    pub name: String,
    /// Which run of a server made it.
    pub server: String,
    /// What it has found.
    pub state: CheckState,
    /// It goes.
    pub is_ending: bool,
}

/// What is known of an image that is being checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckState {
    /// Nothing yet; perhaps what it waits for.
    Waiting(Option<Problem>),
    /// It was pulled.
    Pulled,
    /// It cannot be pulled, or that cannot be found out.
    Failed(Problem),
}

/// A Deployment at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenDeployment {
    /// Whose it is.
    pub function: FunctionName,
    /// Who it is.
    pub uid: String,
    /// Which change of the cluster it shows.
    pub resource_version: String,
    /// What was attached to it.
    pub labels: Labels,
    /// What was applied.
    pub digest: Option<String>,
    /// How many replicas are wanted.
    pub desired: u32,
    /// Why there is none.
    pub failure: Option<Problem>,
    /// It goes.
    pub is_ending: bool,
}

/// Whose an object is: the installation's id, none when it is nobody's of ours.
pub fn installation_of(labels: Option<&std::collections::BTreeMap<String, String>>) -> Option<&str> {
    labels?.get(INSTALLATION).map(String::as_str)
}

/// A Pod, if it is one of a function.
pub fn pod(pod: &Pod) -> Option<SeenPod> {
    let metadata = &pod.metadata;
    let function = function_of(metadata.annotations.as_ref())?;
    let version = Version::from_label(metadata.labels.as_ref()?.get(VERSION)?);
    let id = ReplicaId::from(metadata.uid.clone()?);
    let created = metadata.creation_timestamp.as_ref().map_or(SystemTime::UNIX_EPOCH, time);
    let is_ending = metadata.deletion_timestamp.is_some();
    let container = container(pod);
    let ready = condition(pod, "Ready");
    let is_ready = ready.is_some_and(|ready| ready.status == "True");
    let problem = (!is_ready).then(|| trouble(pod)).flatten();
    let changed = ready.and_then(|ready| ready.last_transition_time.as_ref()).map_or(created, time);
    let (state, since) = match (is_ending, endpoint(pod).filter(|_| is_ready), &problem) {
        (true, ..) => (ReplicaState::Draining, ended_at(pod).unwrap_or(changed)),
        (false, Some(endpoint), _) => (ReplicaState::Ready(endpoint), changed),
        (false, None, Some(problem)) if !problem.kind.may_pass() => {
            (ReplicaState::Failed(problem.text.as_str().into()), changed)
        }
        (false, None, _) => (ReplicaState::Starting, changed),
    };
    let ended = container.and_then(|container| container.last_state.as_ref()?.terminated.as_ref());
    let restarts = container.map_or(0, |container| container.restart_count);
    let is_started = container.and_then(|container| container.started) == Some(true);
    Some(SeenPod {
        function,
        name: metadata.name.clone()?,
        status: ReplicaStatus { id, version, state, since },
        restarts,
        last_end: ended.map(end_of),
        probe: (!is_ready && !is_ending && problem.is_none()).then(|| probe(pod)).flatten(),
        is_fresh: !is_ready && !is_started && restarts == 0,
        ready_changed: ready.and_then(|ready| ready.last_transition_time.as_ref()).map(time),
        problem,
        is_ending,
        created,
    })
}

/// A Pod, if it is one that checks an image.
pub fn image_check(pod: &Pod) -> Option<SeenCheck> {
    let metadata = &pod.metadata;
    if metadata.labels.as_ref()?.get(PURPOSE)? != PURPOSE_IMAGE_CHECK {
        return None;
    }
    let server = metadata.annotations.as_ref().and_then(|annotations| annotations.get(CHECKED_BY));
    Some(SeenCheck {
        name: metadata.name.clone()?,
        server: server.cloned().unwrap_or_default(),
        state: check_state(pod),
        is_ending: metadata.deletion_timestamp.is_some(),
    })
}

fn check_state(pod: &Pod) -> CheckState {
    let status = pod.status.as_ref();
    // With a reason it was ended from outside, whatever is said of its container.
    let ended = status.filter(|status| status.phase.as_deref() == Some("Failed"));
    if let Some((status, reason)) = ended.and_then(|status| Some((status, status.reason.as_deref()?))) {
        let text = said(reason, status.message.as_deref());
        return CheckState::Failed(match reason {
            "DeadlineExceeded" => pull_timed_out(image(pod)),
            _ => Problem { kind: ProblemKind::Refused, text },
        });
    }
    let container = container(pod);
    let state = container.and_then(|container| container.state.as_ref());
    let ran = state.is_some_and(|state| state.running.is_some() || state.terminated.is_some());
    let waits_for =
        state.and_then(|state| state.waiting.as_ref()).and_then(|waiting| waiting.reason.as_deref());
    // Runtimes differ in when they notice that the command is not there: never before the image is.
    if ran || matches!(waits_for, Some("CreateContainerError" | "RunContainerError" | "CrashLoopBackOff")) {
        return CheckState::Pulled;
    }
    match trouble(pod) {
        Some(problem) if !problem.kind.may_pass() => CheckState::Failed(problem),
        problem => CheckState::Waiting(problem),
    }
}

/// No answer is one, too.
pub fn pull_timed_out(image: &str) -> Problem {
    let text = format!("Unable to validate image in registry: {image} (Timed out waiting for image pull)");
    Problem { kind: ProblemKind::ImageRegistryUnavailable, text }
}

/// A Deployment, if it is one of a function.
pub fn deployment(deployment: &Deployment) -> Option<SeenDeployment> {
    let metadata = &deployment.metadata;
    let annotations = metadata.annotations.as_ref();
    let status = deployment.status.as_ref();
    // What is said of an earlier description does not count.
    let is_current = status.and_then(|status| status.observed_generation) >= metadata.generation;
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let failure = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True");
    let failure = failure.filter(|_| is_current).map(|condition| Problem {
        kind: ProblemKind::Refused,
        text: format!(
            "{}: {}",
            condition.reason.as_deref().unwrap_or("ReplicaFailure"),
            condition.message.as_deref().unwrap_or("no Pod can be made")
        ),
    });
    Some(SeenDeployment {
        function: function_of(annotations)?,
        uid: metadata.uid.clone()?,
        resource_version: metadata.resource_version.clone().unwrap_or_default(),
        labels: attached_again(annotations),
        digest: annotations?.get(DIGEST).cloned(),
        // Kubernetes' own default.
        desired: replicas(deployment).unwrap_or(1),
        failure,
        is_ending: metadata.deletion_timestamp.is_some(),
    })
}

/// The version that a Deployment runs.
pub fn version_of(deployment: Option<&Deployment>) -> Option<Version> {
    deployment?.metadata.labels.as_ref()?.get(VERSION).map(|version| Version::from_label(version))
}

/// Whether a Deployment has this image.
pub fn has_image(deployment: &Deployment, image: &str) -> bool {
    let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let mut containers = pod.into_iter().flat_map(|pod| &pod.containers);
    containers.any(|container| container.name == CONTAINER && container.image.as_deref() == Some(image))
}

fn replicas(deployment: &Deployment) -> Option<u32> {
    u32::try_from(deployment.spec.as_ref()?.replicas?).ok()
}

pub(crate) fn container(pod: &Pod) -> Option<&ContainerStatus> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find(|container| container.name == CONTAINER)
}

pub(crate) fn condition<'a>(pod: &'a Pod, name: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == name)
}

fn ip(pod: &Pod) -> Option<IpAddr> {
    pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()
}

fn endpoint(pod: &Pod) -> Option<Arc<str>> {
    let ip = ip(pod)?;
    let containers = &pod.spec.as_ref()?.containers;
    let ports = containers.iter().find(|container| container.name == CONTAINER)?.ports.as_ref();
    let port = ports.and_then(|ports| u16::try_from(ports.first()?.container_port).ok());
    let address = SocketAddr::new(ip, port.unwrap_or(PORT_DEFAULT));
    Some(format!("http://{address}/invoke").into())
}

/// None if it is not only the program that decides: other containers and gates were put there by somebody who wants them to
/// be waited for.
fn probe(pod: &Pod) -> Option<Probe> {
    let (ip, endpoint, spec) = (ip(pod)?, endpoint(pod)?, pod.spec.as_ref()?);
    let [container] = spec.containers.as_slice() else { return None };
    if container.name != CONTAINER || spec.readiness_gates.as_ref().is_some_and(|gates| !gates.is_empty()) {
        return None;
    }
    let readiness = container.readiness_probe.as_ref()?;
    let (port, path) = match (&readiness.http_get, &readiness.tcp_socket) {
        (Some(get), None) => {
            let is_plain = get.host.is_none()
                && get.http_headers.is_none()
                && get.scheme.as_deref().is_none_or(|scheme| scheme == "HTTP");
            let path = get.path.clone().unwrap_or_else(|| "/".to_owned());
            // Ours to write into a request.
            let is_safe = path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic());
            (is_plain && is_safe).then(|| (get.port.clone(), Some(path)))?
        }
        (None, Some(socket)) if socket.host.is_none() => (socket.port.clone(), None),
        _ => return None,
    };
    let IntOrString::Int(port) = port else { return None };
    Some(Probe { address: SocketAddr::new(ip, u16::try_from(port).ok()?), path, endpoint })
}

/// What keeps a Pod from being ready, if it is more than time.
pub(crate) fn trouble(pod: &Pod) -> Option<Problem> {
    let status = pod.status.as_ref()?;
    if status.phase.as_deref() == Some("Failed") {
        let reason = status.reason.as_deref().unwrap_or("the Pod failed");
        let text = said(reason, status.message.as_deref());
        return Some(Problem { kind: ProblemKind::Ended, text });
    }
    let state = container(pod).and_then(|container| container.state.as_ref());
    if let Some(waiting) = state.and_then(|state| state.waiting.as_ref()) {
        let (reason, message) = (waiting.reason.as_deref()?, waiting.message.as_deref());
        let image = image(pod);
        return match reason {
            "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => {
                Some(image_problem(image, reason, message.unwrap_or_default()))
            }
            "CrashLoopBackOff" => {
                let last = container(pod)?.last_state.as_ref().and_then(|last| last.terminated.as_ref());
                let text =
                    last.map_or_else(|| said(reason, message), |end| format!("{reason}: {}", end_of(end)));
                Some(Problem { kind: ProblemKind::Ended, text })
            }
            "ContainerCreating" | "PodInitializing" => None,
            // CreateContainerConfigError, CreateContainerError, RunContainerError and what comes later.
            _ => Some(Problem { kind: ProblemKind::Refused, text: said(reason, message) }),
        };
    }
    let last = container(pod).and_then(|container| container.last_state.as_ref());
    let ended = state.and_then(|state| state.terminated.as_ref());
    if let Some(end) = ended.or_else(|| last.and_then(|last| last.terminated.as_ref())) {
        return Some(Problem { kind: ProblemKind::Ended, text: end_of(end) });
    }
    let scheduled = condition(pod, "PodScheduled").filter(|scheduled| {
        scheduled.status == "False" && scheduled.reason.as_deref() == Some("Unschedulable")
    })?;
    let text = said("Unschedulable", scheduled.message.as_deref());
    Some(Problem { kind: ProblemKind::Unschedulable, text })
}

fn image(pod: &Pod) -> &str {
    let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let container = containers.iter().find(|container| container.name == CONTAINER);
    container.and_then(|container| container.image.as_deref()).unwrap_or_default()
}

/// Which trouble there is with an image, by the words of the registry.
fn image_problem(image: &str, reason: &str, message: &str) -> Problem {
    let words = message.to_ascii_lowercase();
    let says = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    if reason == "InvalidImageName" || says(&["not found", "manifest unknown", "name unknown"]) {
        let text = format!("Image not found in registry: {image}");
        return Problem { kind: ProblemKind::ImageNotFound, text };
    }
    if says(&["pull access denied", "authentication required", "unauthorized", "denied"]) {
        let text = format!("Image pull authentication failed for: {image}");
        return Problem { kind: ProblemKind::ImagePullAuthRequired, text };
    }
    let text = format!("Unable to validate image in registry: {image} ({})", said(reason, Some(message)));
    Problem { kind: ProblemKind::ImageRegistryUnavailable, text }
}

pub(crate) fn said(reason: &str, message: Option<&str>) -> String {
    match message.map(str::trim).filter(|message| !message.is_empty()) {
        Some(message) => format!("{reason}: {message}"),
        None => reason.to_owned(),
    }
}

/// How a program ended.
pub(crate) fn end_of(end: &ContainerStateTerminated) -> String {
    let how = match (end.signal.filter(|signal| *signal != 0), end.exit_code) {
        (Some(signal), _) => format!("the program was ended by signal {signal}"),
        (None, code) => format!("the program exited with status {code}"),
    };
    let reason = end.reason.as_deref().filter(|reason| !matches!(*reason, "Error" | "Completed"));
    let text = match reason {
        Some(reason) => format!("{how} ({reason})"),
        None => how,
    };
    match end.message.as_deref().map(str::trim).filter(|message| !message.is_empty()) {
        Some(message) => format!("{text}: {message}"),
        None => text,
    }
}

/// When a Pod was asked to go: Kubernetes says by when it has to be gone.
fn ended_at(pod: &Pod) -> Option<SystemTime> {
    let by = time(pod.metadata.deletion_timestamp.as_ref()?);
    let grace = u64::try_from(pod.metadata.deletion_grace_period_seconds?).ok()?;
    by.checked_sub(Duration::from_secs(grace))
}

fn time(time: &Time) -> SystemTime {
    time.0.into()
}
