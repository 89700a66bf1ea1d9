//! Requests to the API server, each with a time limit, repeated when that may help. Those about jobs are in [`job_requests`].

pub mod job_requests;

use std::{
    collections::BTreeMap,
    fmt::Debug,
    future::Future,
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

use futures_util::{AsyncBufReadExt, StreamExt};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        autoscaling::v2::HorizontalPodAutoscaler,
        core::v1::{Pod, Service},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
    serde::de::DeserializeOwned,
};
use kube::{
    Api, Client, Error, Resource, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, LogParams, Patch, PatchParams},
    core::Status,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    plan::{CONTAINER, Kind, Objects},
    translate,
};

/// Who owns what is applied, but for the number of replicas.
pub(crate) const MANAGER: &str = "nanofaas";
/// Who owns that.
const SCALER: &str = "nanofaas-scaler";
/// Of Pods: the lower it is, the earlier they go.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// Lower than that of any Pod of which nothing was said.
const DELETION_COST_OF_LEAVING: &str = "-1000";
/// Time for one request.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// An API server that has just started refuses what only rights of roles allow until it has read these, although it says that
/// it is ready. For so long that is no answer.
const RIGHTS_TIMEOUT: Duration = Duration::from_secs(3);
/// First and longest pause before a request is repeated.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];
/// Bytes of a log that are read for a message.
const LOG_BYTES_MAX: i64 = 4096;

/// Why a request was in vain.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The API server said no.
    #[error("{}", .0.message)]
    Refused(Box<Status>),
    /// It did not answer, or not in time.
    #[error("the API server cannot be reached: {0}")]
    Unreachable(String),
}

impl RequestError {
    pub(crate) fn of(error: Error) -> RequestError {
        match error {
            Error::Api(status) => RequestError::Refused(status),
            other => RequestError::Unreachable(chain(&other)),
        }
    }

    /// Whether it may go away by itself.
    fn may_pass(&self) -> bool {
        match self {
            RequestError::Refused(status) => matches!(status.code, 409 | 429 | 500..),
            RequestError::Unreachable(_) => true,
        }
    }

    /// Whether rights are missing. A quota or a rule for Pods is forbidden as well, but says so in other words.
    fn is_without_rights(&self) -> bool {
        matches!(self, RequestError::Refused(status) if status.code == 403 && status.message.contains("\" cannot "))
    }

    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, RequestError::Refused(status) if status.is_not_found())
    }
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        // Some repeat what they wrap.
        if !text.contains(&next_text) {
            text = format!("{text}: {next_text}");
        }
        cause = next.source();
    }
    text
}

/// The pauses between tries. They double, and vary, so that many servers do not come back at once.
#[derive(Debug, Default)]
pub struct Pauses(u32);

impl Pauses {
    /// The next one.
    pub fn longer(&mut self) -> Duration {
        let [first, longest] = PAUSES;
        let pause = first.saturating_mul(1 << self.0.min(16)).min(longest);
        self.0 += 1;
        // Between half of it and all.
        pause.mul_f64(0.5 + 0.5 * (random() % 1024) as f64 / 1024.0)
    }

    /// It went well.
    pub fn reset(&mut self) {
        self.0 = 0;
    }
}

/// A number by chance, good enough to tell things apart.
pub fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Something that is in the way of a function: not ours, or another installation's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    /// What it is, with its name.
    pub object: String,
    /// The installation that has it, if it is one's.
    pub installation: Option<String>,
}

/// The objects of one namespace.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    namespace: String,
    installation: String,
}

impl Cluster {
    /// The namespace of a client.
    pub fn new(client: Client, namespace: String, installation: String) -> Cluster {
        Cluster { client, namespace, installation }
    }

    /// Its name.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Whose its objects are.
    pub fn installation(&self) -> &str {
        &self.installation
    }

    /// All objects of a type.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The Deployment of a function, as it is.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn deployment(&self, name: &str, by: Instant) -> Result<Option<Deployment>, RequestError> {
        let api: Api<Deployment> = self.api();
        repeated(by, || api.get_opt(name)).await
    }

    /// What has the name of one of these objects and is not ours.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn stranger(&self, objects: &Objects, by: Instant) -> Result<Option<Stranger>, RequestError> {
        let name = objects.name.as_str();
        for kind in objects.owned.keys() {
            let api = self.owned_api(*kind);
            let Some(found) = repeated(by, || api.get_opt(name)).await? else { continue };
            if let Some(stranger) = self.stranger_with(&format!("{kind:?} {name}"), found.labels()) {
                return Ok(Some(stranger));
            }
        }
        Ok(None)
    }

    /// The same for an object with these labels.
    pub fn stranger_with(&self, object: &str, labels: &BTreeMap<String, String>) -> Option<Stranger> {
        let installation = translate::installation_of(Some(labels));
        (installation != Some(self.installation.as_str()))
            .then(|| Stranger { object: object.to_owned(), installation: installation.map(str::to_owned) })
    }

    /// Asks whether all of these could be applied, and changes nothing.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn try_out(&self, objects: &Objects, by: Instant) -> Result<(), RequestError> {
        let parameters = PatchParams::apply(MANAGER).force().dry_run();
        apply(&self.api::<Deployment>(), &objects.name, &objects.deployment, &parameters, by).await?;
        for (kind, object) in &objects.owned {
            apply(&self.owned_api(*kind), &objects.name, object, &parameters, by).await?;
        }
        Ok(())
    }

    /// Applies the Deployment: with so many replicas when it is made by that.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn apply_deployment(
        &self,
        objects: &Objects,
        first_replicas: Option<u32>,
        by: Instant,
    ) -> Result<Deployment, RequestError> {
        let api: Api<Deployment> = self.api();
        let parameters = PatchParams::apply(MANAGER).force();
        let Some(replicas) = first_replicas else {
            return apply(&api, &objects.name, &objects.deployment, &parameters, by).await;
        };
        apply(&api, &objects.name, &objects.deployment_with(replicas), &parameters, by).await?;
        // The number gets another owner, so that applying the rest again does not take it away.
        let number = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": objects.name }, "spec": { "replicas": replicas },
        });
        apply(&api, &objects.name, &number, &PatchParams::apply(SCALER).force(), by).await
    }

    /// Applies what belongs to the Deployment, and removes what belonged to it.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn apply_all_owned(
        &self,
        objects: &Objects,
        uid: &str,
        is_new: bool,
        by: Instant,
    ) -> Result<(), RequestError> {
        let parameters = PatchParams::apply(MANAGER).force();
        for (kind, object) in objects.owned_by(uid) {
            apply(&self.owned_api(kind), &objects.name, &object, &parameters, by).await?;
        }
        let superfluous = Kind::ALL.into_iter().filter(|kind| !is_new && !objects.owned.contains_key(kind));
        for kind in superfluous {
            delete(&self.owned_api(kind), &objects.name, &DeleteParams::background(), by).await?;
        }
        Ok(())
    }

    /// Objects of a kind that belong to Deployments. What is in them is of no interest here.
    fn owned_api(&self, kind: Kind) -> Api<DynamicObject> {
        let resource = match kind {
            Kind::Service => ApiResource::erase::<Service>(&()),
            Kind::HorizontalPodAutoscaler => ApiResource::erase::<HorizontalPodAutoscaler>(&()),
            Kind::PodDisruptionBudget => ApiResource::erase::<PodDisruptionBudget>(&()),
            Kind::NetworkPolicy => ApiResource::erase::<NetworkPolicy>(&()),
        };
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// Makes a Pod that belongs to no Deployment.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn make_pod(&self, name: &str, pod: &Value, by: Instant) -> Result<(), RequestError> {
        // Applied, so that a repeated request whose first answer was lost finds what it made.
        apply(&self.api::<Pod>(), name, pod, &PatchParams::apply(MANAGER).force(), by).await.map(drop)
    }

    /// Sets the number of replicas; which change of the Deployment that was.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn scale(
        &self,
        name: &str,
        replicas: u32,
        by: Instant,
    ) -> Result<Option<String>, RequestError> {
        let api: Api<Deployment> = self.api();
        let parameters = PatchParams { field_manager: Some(SCALER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
        let scale = repeated(by, || api.patch_scale(name, &parameters, &patch)).await?;
        Ok(scale.metadata.resource_version)
    }

    /// Has these Pods go first when there are to be fewer.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn mark_leaving(&self, pods: &[String], by: Instant) -> Result<(), RequestError> {
        let api: Api<Pod> = self.api();
        let annotations = json!({ DELETION_COST: DELETION_COST_OF_LEAVING });
        let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
        let parameters = PatchParams::default();
        for pod in pods {
            let marked = repeated(by, || api.patch_metadata(pod, &parameters, &patch)).await;
            match marked {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Deletes a Deployment and then all that belongs to it. Whether it was there.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn delete_deployment(&self, name: &str, by: Instant) -> Result<bool, RequestError> {
        delete(&self.api::<Deployment>(), name, &DeleteParams::foreground(), by).await
    }

    /// Deletes a Pod, with less time than it would have by itself.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn delete_pod(
        &self,
        name: &str,
        grace_s: Option<u32>,
        by: Instant,
    ) -> Result<bool, RequestError> {
        let parameters = DeleteParams { grace_period_seconds: grace_s, ..DeleteParams::default() };
        delete(&self.api::<Pod>(), name, &parameters, by).await
    }

    /// The end of what a program wrote, of the run before if it was started again; empty when there is nothing to read.
    pub async fn last_words(&self, pod: &str, is_previous: bool, by: Instant) -> String {
        let api: Api<Pod> = self.api();
        let parameters = LogParams {
            container: Some(CONTAINER.to_owned()),
            limit_bytes: Some(LOG_BYTES_MAX),
            tail_lines: Some(20),
            previous: is_previous,
            ..LogParams::default()
        };
        let limit = by.saturating_duration_since(Instant::now());
        let text = timeout(limit, api.logs(pod, &parameters)).await;
        text.map(Result::unwrap_or_default).unwrap_or_default().trim().to_owned()
    }

    /// What a program writes, line by line, to `line` until that says that it is enough.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn read_log(
        &self,
        pod: &str,
        tail: usize,
        follow: bool,
        mut line: impl FnMut(String) -> bool,
    ) -> Result<(), RequestError> {
        let api: Api<Pod> = self.api();
        let parameters = LogParams {
            container: Some(CONTAINER.to_owned()),
            tail_lines: Some(i64::try_from(tail).unwrap_or(i64::MAX)),
            follow,
            ..LogParams::default()
        };
        let stream = api.log_stream(pod, &parameters).await.map_err(RequestError::of)?;
        let mut lines = std::pin::pin!(stream.lines());
        while let Some(Ok(text)) = lines.next().await {
            if !line(text) {
                break;
            }
        }
        Ok(())
    }
}

/// Applies an object, or tries whether it could be.
async fn apply<K>(
    api: &Api<K>,
    name: &str,
    object: &Value,
    parameters: &PatchParams,
    by: Instant,
) -> Result<K, RequestError>
where
    K: Clone + DeserializeOwned + Debug,
{
    let patch = Patch::Apply(object);
    repeated(by, || api.patch(name, parameters, &patch)).await
}

/// Deletes an object. Whether it was there.
async fn delete<K>(
    api: &Api<K>,
    name: &str,
    parameters: &DeleteParams,
    by: Instant,
) -> Result<bool, RequestError>
where
    K: Clone + DeserializeOwned + Debug,
{
    match repeated(by, || api.delete(name, parameters)).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Sends a request until it is answered with something that stays.
pub(crate) async fn repeated<T, F>(by: Instant, mut send: impl FnMut() -> F) -> Result<T, RequestError>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut pauses = Pauses::default();
    let mut without_rights = None;
    loop {
        let limit = by.saturating_duration_since(Instant::now()).min(REQUEST_TIMEOUT);
        let error = match timeout(limit, send()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => RequestError::of(error),
            Err(_) => RequestError::Unreachable(format!("no answer within {} ms", limit.as_millis())),
        };
        let pause = pauses.longer();
        let may_pass = error.may_pass()
            || (error.is_without_rights()
                && without_rights.get_or_insert_with(Instant::now).elapsed() < RIGHTS_TIMEOUT);
        if !may_pass || Instant::now() + pause >= by {
            return Err(error);
        }
        tracing::debug!(%error, pause_ms = pause.as_millis() as u64, "a request to the API server is repeated");
        sleep(pause).await;
    }
}
