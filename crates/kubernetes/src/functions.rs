//! Orders, carried out: what is asked of the API server, in which order, and what is waited for.
//!
//! Everything here runs on one thread. The table is never borrowed across an `.await`, and what an order ends with is
//! reported in the same step in which the table changes, so that no change is reported before.

use std::{cell::RefCell, collections::BTreeSet, sync::Arc, time::Duration};

use k8s_openapi::api::apps::v1::Deployment;
use nanofaas_backends::{
    BackendError, Ensured, Events, FunctionName, ImageProblem, ReplicaChange, ReplicaId, ReplicaState,
    ReplicaStatus, Workload,
};
use tokio::{
    sync::{Semaphore, SemaphorePermit, mpsc, watch},
    time::{Instant, timeout, timeout_at},
};

use crate::{
    asking::Asked,
    checks::{Checks, ImageError},
    cluster::{Cluster, RequestError, Stranger},
    jobs::Jobs,
    plan::{Objects, PlanSettings, plan},
    table::{Report, Table},
    telling::{self, Trouble},
    translate::{self, Problem, ProblemKind, SeenPod},
};

/// How many functions are made or changed at a time, each with one request after the other. An API server refuses what is
/// more than its share for one client, and a thousand requests have a thousand connections.
pub const TURNS: usize = 16;
/// For what a failed registration leaves behind to go.
const ROLLBACK_TIMEOUT: Duration = Duration::from_secs(60);
/// To read what a program wrote before it ended.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(2);
/// To tell the cluster something that is not waited for.
pub(crate) const NOTE_TIMEOUT: Duration = Duration::from_secs(10);
/// From the end of a function's longest call until its Pods have to be gone.
const TEARDOWN_GRACE: Duration = Duration::from_secs(60);

/// What all orders share.
pub struct Shared {
    /// The API server.
    pub cluster: Cluster,
    /// What is the same for all functions.
    pub settings: PlanSettings,
    /// Longest time until the first replicas are ready.
    pub ready_timeout: Duration,
    /// Where to report.
    pub events: Arc<dyn Events>,
    /// What is known.
    pub table: RefCell<Table>,
    /// Images that are being checked.
    pub checks: RefCell<Checks>,
    /// Jobs that go on.
    pub jobs: Jobs,
    /// Images are checked before they run, each within this time.
    pub image_check: Option<Duration>,
    /// Who may make requests for functions that are made or changed, see [`TURNS`].
    pub turns: Semaphore,
    /// Wakes whoever waits for news.
    pub news: watch::Sender<()>,
    /// Pods that are asked whether they take calls.
    pub asked: RefCell<Asked>,
    /// Functions that run, and of which somebody else has deleted a Service or the like.
    pub incomplete: RefCell<BTreeSet<FunctionName>>,
    /// What went wrong, for Events.
    pub told: mpsc::Sender<Trouble>,
}

/// Why an order failed, and what it leaves.
struct Failure {
    error: BackendError,
    /// Something was made, or changed, that has to go.
    is_made: bool,
}

impl Failure {
    /// Nothing was changed.
    fn early(error: BackendError) -> Failure {
        Failure { error, is_made: false }
    }
}

impl Shared {
    /// Reports what is different.
    pub fn publish(&self, reports: impl IntoIterator<Item = Report>) {
        for (name, changes) in reports {
            for change in &changes.changes {
                if let ReplicaChange::Now(ReplicaStatus { state: ReplicaState::Failed(why), .. }) = change {
                    self.tell(&name, "ReplicaFailed", why.to_string());
                }
            }
            self.events.replicas_changed(&name, changes);
        }
    }

    /// Has an Event say what went wrong, if there is room for it.
    pub fn tell(&self, function: &FunctionName, reason: &'static str, text: String) {
        let deployment = self
            .table
            .try_borrow()
            .ok()
            .and_then(|table| Some(table.get(function)?.deployment.as_ref()?.uid.clone()));
        let _ = self.told.try_send(Trouble { function: function.clone(), reason, text, uid: deployment });
    }

    /// Waits until `look` finds something in what is known.
    pub async fn until<T>(&self, mut look: impl FnMut(&Table) -> Option<T>) -> T {
        let mut news = self.news.subscribe();
        loop {
            if let Some(found) = look(&self.table.borrow()) {
                return found;
            }
            // The sender lives as long as `self`.
            let _ = news.changed().await;
        }
    }

    /// Has a function run.
    pub async fn ensure(&self, workload: Arc<Workload>, replicas: u32) -> Result<Ensured, BackendError> {
        let name = workload.name.clone();
        let result = self.try_ensure(&workload, replicas).await;
        let failure = match result {
            Ok(()) => match self.table.borrow_mut().settle(&name) {
                Some(ensured) => return Ok(ensured),
                None => Failure::early(BackendError::Unavailable(format!("function '{name}' is gone"))),
            },
            Err(failure) => failure,
        };
        if let Some(reason) = telling::reason_of(&failure.error) {
            self.tell(&name, reason, failure.error.to_string());
        }
        if failure.is_made {
            let report = self.table.borrow_mut().leave(&name);
            self.publish(report);
            if let Err(error) = self.remove(&name, Instant::now() + ROLLBACK_TIMEOUT).await {
                tracing::error!(function = %name, %error, "what a failed registration made could not be removed");
            }
        }
        self.table.borrow_mut().forget(&name);
        Err(failure.error)
    }

    async fn try_ensure(&self, workload: &Arc<Workload>, replicas: u32) -> Result<(), Failure> {
        let mut by = Instant::now() + self.ready_timeout;
        let (name, version) = (&workload.name, &workload.version);
        self.listed(by).await.map_err(Failure::early)?;
        let objects = plan(workload, &self.settings);
        if self.adopt(workload, &objects, replicas) {
            return Ok(());
        }
        let failed = |error| Failure::early(refused(name, &error));
        let turn = self.turn(&mut by).await.map_err(Failure::early)?;
        let mut there = self.cluster.deployment(&objects.name, by).await.map_err(failed)?;
        self.check_owner(name, &objects, there.as_ref(), by).await.map_err(Failure::early)?;
        drop(turn);
        if there.as_ref().is_some_and(|there| there.metadata.deletion_timestamp.is_some()) {
            // What an earlier function of this name left goes first.
            self.gone(name, by).await.map_err(|()| Failure::early(still_there(name)))?;
            there = None;
        }
        let seen = there.as_ref().and_then(translate::deployment);
        let runs = translate::version_of(there.as_ref());
        let is_adopted = runs.as_ref() == Some(version);
        let had = seen.as_ref().map_or(0, |seen| seen.desired);
        let desired = if objects.is_autoscaled && seen.is_some() { had } else { replicas.max(had) };
        self.table.borrow_mut().want(Arc::clone(workload), desired);
        let mut turn = self.turn(&mut by).await.map_err(Failure::early)?;
        if seen.as_ref().and_then(|seen| seen.digest.as_deref()) != Some(objects.digest.as_str()) {
            self.cluster.try_out(&objects, by).await.map_err(failed)?;
            let image = workload.spec.image.as_deref().unwrap_or_default();
            let is_known = there.as_ref().is_some_and(|there| translate::has_image(there, image));
            if let Some(limit) = self.image_check.filter(|_| !is_known) {
                drop(turn);
                let begun = Instant::now();
                let checked = self.check_image(workload, limit).await;
                checked.map_err(|error| Failure::early(not_checked(name, error)))?;
                // The check has a time of its own.
                by += begun.elapsed();
                turn = self.turn(&mut by).await.map_err(Failure::early)?;
            }
            let late = |error| Failure { error: refused(name, &error), is_made: !is_adopted };
            let first = seen.is_none().then_some(desired);
            let deployment = self.cluster.apply_deployment(&objects, first, by).await.map_err(late)?;
            self.note(&deployment);
            let uid = deployment.metadata.uid.unwrap_or_default();
            self.cluster.apply_all_owned(&objects, &uid, seen.is_none(), by).await.map_err(late)?;
        } else if let Some(there) = &there {
            self.note(there);
        }
        if seen.is_some() && desired > had {
            let late = |error| Failure { error: refused(name, &error), is_made: !is_adopted };
            self.cluster.scale(&objects.name, desired, by).await.map_err(late)?;
        }
        drop(turn);
        // What ran already runs on, ready or not.
        if is_adopted && desired == had {
            return Ok(());
        }
        self.ready(workload, desired, by).await.map_err(|error| Failure { error, is_made: !is_adopted })
    }

    /// Takes over a function that an earlier server left as it should be. What the watches tell is enough for that: a server
    /// starts with all of its functions at once, and a question for each would be more than an API server answers.
    fn adopt(&self, workload: &Arc<Workload>, objects: &Objects, replicas: u32) -> bool {
        let mut table = self.table.borrow_mut();
        let known = table.get(&workload.name).filter(|known| known.wanted.is_none());
        let left = known.and_then(|known| known.deployment.as_ref()).filter(|left| {
            let is_as_planned = left.digest.as_deref() == Some(objects.digest.as_str());
            is_as_planned && !left.is_ending && (objects.is_autoscaled || left.desired >= replicas)
        });
        let Some(desired) = left.map(|left| left.desired) else { return false };
        table.want(Arc::clone(workload), desired);
        true
    }

    /// Waits until requests for a function may be made. The time for that is no part of its own.
    async fn turn(&self, by: &mut Instant) -> Result<SemaphorePermit<'_>, BackendError> {
        let begun = Instant::now();
        let turn = timeout(self.ready_timeout, self.turns.acquire()).await;
        *by += begun.elapsed();
        let busy =
            "so many functions are being changed that the API server was not asked for this one in time";
        turn.ok().and_then(Result::ok).ok_or_else(|| BackendError::Unavailable(busy.to_owned()))
    }

    /// Takes over what a request was answered with: it may be newer than what the watch tells.
    pub(crate) fn note(&self, deployment: &Deployment) {
        if let Some(seen) = translate::deployment(deployment) {
            let report = self.table.borrow_mut().deployment_now(seen);
            self.publish(report);
            self.news.send_replace(());
        }
    }

    /// Waits until it is known what the cluster has.
    async fn listed(&self, by: Instant) -> Result<(), BackendError> {
        let listed = self.until(|table| table.is_complete().then_some(()));
        timeout_at(by, listed).await.map_err(|_| {
            let namespace = self.cluster.namespace();
            BackendError::Unavailable(format!(
                "the Pods and Deployments of namespace '{namespace}' could not be listed; the log of the server says why"
            ))
        })
    }

    pub(crate) async fn check_owner(
        &self,
        name: &FunctionName,
        objects: &Objects,
        there: Option<&Deployment>,
        by: Instant,
    ) -> Result<(), BackendError> {
        let stranger = match there {
            Some(deployment) => {
                let labels = deployment.metadata.labels.clone().unwrap_or_default();
                self.cluster.stranger_with(&format!("Deployment {}", objects.name), &labels)
            }
            None => self.cluster.stranger(objects, by).await.map_err(|error| refused(name, &error))?,
        };
        match stranger {
            None => Ok(()),
            Some(Stranger { object, installation: Some(installation) }) => {
                Err(BackendError::Conflict(format!(
                    "{object} belongs to the installation '{installation}'; give one of them another k8s.installation or \
                 k8s.namespace"
                )))
            }
            Some(Stranger { object, installation: None }) => Err(BackendError::Conflict(format!(
                "{object} is there already and was not made by nanofaas; rename the function, or remove it"
            ))),
        }
    }

    /// Waits until so many replicas take calls.
    async fn ready(&self, workload: &Workload, replicas: u32, by: Instant) -> Result<(), BackendError> {
        let (name, version) = (&workload.name, &workload.version);
        let settled = self.until(|table| {
            let known = table.get(name)?;
            if known.wanted.as_ref().is_none_or(|wanted| wanted.is_leaving) {
                return Some(Err(None));
            }
            if known.ready(version) >= replicas as usize {
                return Some(Ok(()));
            }
            let (problem, pod) = known.problem(version).filter(|(problem, _)| !problem.kind.may_pass())?;
            Some(Err(Some((problem, pod.cloned()))))
        });
        match timeout_at(by, settled).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(None)) => {
                Err(BackendError::Unavailable(format!("function '{name}' was stopped before it was ready")))
            }
            Ok(Err(Some((problem, pod)))) => Err(self.not_ready(workload, &problem, pod.as_ref()).await),
            Err(_) => {
                let (ready, problem) = {
                    let table = self.table.borrow();
                    let known = table.get(name);
                    let problem =
                        known.and_then(|known| known.problem(version)).map(|(problem, _)| problem.text);
                    (known.map_or(0, |known| known.ready(version)), problem)
                };
                let limit_ms = self.ready_timeout.as_millis();
                let text = format!("only {ready} of {replicas} replicas were ready within {limit_ms} ms");
                let text = problem.map_or_else(|| text.clone(), |problem| format!("{text}: {problem}"));
                let problem = Problem { kind: ProblemKind::Refused, text };
                Err(self.not_ready(workload, &problem, None).await)
            }
        }
    }

    async fn not_ready(&self, workload: &Workload, problem: &Problem, pod: Option<&SeenPod>) -> BackendError {
        if let Some(error) = of_image(problem) {
            return error;
        }
        let mut reason = problem.text.clone();
        if let Some(pod) = pod.filter(|_| problem.kind == ProblemKind::Ended) {
            let by = Instant::now() + LAST_WORDS_TIMEOUT;
            let mut words = self.cluster.last_words(&pod.name, false, by).await;
            if words.is_empty() && pod.restarts > 0 {
                words = self.cluster.last_words(&pod.name, true, by).await;
            }
            if !words.is_empty() {
                reason = format!("{reason}; it wrote: {words}");
            }
        }
        let (name, spec) = (&workload.name, &workload.spec);
        let program = spec.runtime_command.as_deref().filter(|command| !command.trim().is_empty());
        let program = program.or(spec.image.as_deref()).unwrap_or_default();
        let check = match spec.pod.health_path.as_deref() {
            Some("") => "listens on its port".to_owned(),
            path => format!("answers GET {} with status 200 in time", path.unwrap_or("/health")),
        };
        BackendError::Provisioning(format!(
            "function '{name}' did not become ready: {reason}; check that `{program}` {check}"
        ))
    }

    /// Has so many replicas.
    pub async fn scale(
        &self,
        name: &FunctionName,
        replicas: u32,
        first_to_go: &[ReplicaId],
    ) -> Result<u32, BackendError> {
        let resized = self.table.borrow_mut().resize(name, replicas, first_to_go);
        let Some((pods, report)) = resized else {
            return Err(BackendError::Unavailable(
                "the Kubernetes backend does not run this function".to_owned(),
            ));
        };
        // Calls are sent to them until they are told, so nobody may be told before this.
        self.publish(report);
        let by = Instant::now() + NOTE_TIMEOUT;
        let object = crate::names::object_name(name.as_str());
        let marked = self.cluster.mark_leaving(&pods, by).await;
        if let Err(error) = marked {
            // Others may go in their place, and these are deleted then.
            tracing::warn!(function = %name, %error, "the replicas that are to go could not be marked");
        }
        match self.cluster.scale(&object, replicas, by).await {
            Ok(version) => {
                let left = {
                    let mut table = self.table.borrow_mut();
                    table.resized(name, version.as_deref());
                    // The cluster may not have looked since there were to be fewer: it would keep what gets no calls, and
                    // nobody would tell of anything.
                    table.left_over(name)
                };
                self.news.send_replace(());
                self.delete_left_over(left).await;
                Ok(replicas)
            }
            Err(error) => {
                let report = self.table.borrow_mut().not_resized(name);
                self.publish(report);
                for pod in &pods {
                    // They get no calls any more, so others have to come in their place.
                    let _ = self.cluster.delete_pod(pod, None, by).await;
                }
                self.tell(name, "ScalingFailed", error.to_string());
                Err(BackendError::Unavailable(format!("function '{name}' could not be scaled: {error}")))
            }
        }
    }

    /// Removes a function.
    pub async fn tear_down(&self, name: &FunctionName) -> Result<(), BackendError> {
        let timeout_ms = {
            let table = self.table.borrow();
            let wanted = table.get(name).and_then(|known| known.wanted.as_ref());
            wanted.map_or(0, |wanted| wanted.workload.spec.timeout_ms)
        };
        let by = Instant::now() + Duration::from_millis(timeout_ms.into()) + TEARDOWN_GRACE;
        self.listed(by).await.map_err(|error| BackendError::Teardown(error.to_string()))?;
        let report = self.table.borrow_mut().leave(name);
        self.publish(report);
        self.remove(name, by).await?;
        self.table.borrow_mut().forget(name);
        Ok(())
    }

    /// Deletes what the cluster has of a function, and waits until that is gone.
    async fn remove(&self, name: &FunctionName, by: Instant) -> Result<(), BackendError> {
        let object = crate::names::object_name(name.as_str());
        let failed = |error: &dyn std::fmt::Display| {
            BackendError::Teardown(format!("function '{name}' could not be removed: {error}"))
        };
        let there = self.cluster.deployment(&object, by).await.map_err(|error| failed(&error))?;
        let labels = there.map(|there| there.metadata.labels.unwrap_or_default());
        let is_ours = labels.is_some_and(|labels| self.cluster.stranger_with(&object, &labels).is_none());
        if is_ours {
            self.cluster.delete_deployment(&object, by).await.map_err(|error| failed(&error))?;
        }
        let orphans: Vec<String> = match is_ours {
            // They go with it.
            true => Vec::new(),
            false => {
                let table = self.table.borrow();
                let pods = table.get(name).into_iter().flat_map(|known| known.pods());
                pods.filter(|pod| !pod.is_ending).map(|pod| pod.name.clone()).collect()
            }
        };
        for pod in orphans {
            self.cluster.delete_pod(&pod, None, by).await.map_err(|error| failed(&error))?;
        }
        self.gone(name, by).await.map_err(|()| failed(&"its Pods are still there"))
    }

    /// Waits until nothing is left.
    async fn gone(&self, name: &FunctionName, by: Instant) -> Result<(), ()> {
        let gone = self.until(|table| table.get(name).is_none_or(|known| known.is_gone()).then_some(()));
        timeout_at(by, gone).await.map_err(|_| ())
    }

    /// Deletes Pods that were chosen to go and are still there, while others went.
    pub async fn delete_left_over(&self, pods: Vec<String>) {
        for pod in pods {
            if let Err(error) = self.cluster.delete_pod(&pod, None, Instant::now() + NOTE_TIMEOUT).await {
                tracing::warn!(pod, %error, "a Pod that gets no calls any more could not be deleted");
            }
        }
    }
}

fn still_there(name: &FunctionName) -> BackendError {
    BackendError::Unavailable(format!("what an earlier function '{name}' left is still being removed"))
}

/// The error of a problem with an image.
fn of_image(problem: &Problem) -> Option<BackendError> {
    let kind = match problem.kind {
        ProblemKind::ImageNotFound => ImageProblem::NotFound,
        ProblemKind::ImagePullAuthRequired => ImageProblem::AuthRequired,
        ProblemKind::ImageRegistryUnavailable => ImageProblem::RegistryUnavailable,
        ProblemKind::Ended | ProblemKind::Refused | ProblemKind::Unschedulable => return None,
    };
    Some(BackendError::Image { problem: kind, text: problem.text.clone() })
}

/// Why a function whose image was to be checked is not made.
pub(crate) fn not_checked(name: &FunctionName, error: ImageError) -> BackendError {
    let text =
        |why: &dyn std::fmt::Display| format!("the image of function '{name}' cannot be checked: {why}");
    match error {
        ImageError::Request(error) => match &error {
            RequestError::Refused(status) if status.code < 500 => BackendError::Provisioning(text(&error)),
            _ => BackendError::Unavailable(text(&error)),
        },
        ImageError::Found(problem) => {
            of_image(&problem).unwrap_or_else(|| BackendError::Provisioning(text(&problem.text)))
        }
        ImageError::Unheard => {
            BackendError::Unavailable(text(&"the API server says nothing of the Pod that does it"))
        }
        ImageError::Removed => BackendError::Provisioning(text(&"somebody removed the Pod that does it")),
    }
}

/// What a request was answered with that should have made a function run.
pub(crate) fn refused(name: &FunctionName, error: &RequestError) -> BackendError {
    let text = format!("function '{name}' cannot be started: {error}");
    match error {
        RequestError::Refused(status) if status.code < 500 => BackendError::Provisioning(text),
        _ => BackendError::Unavailable(text),
    }
}
