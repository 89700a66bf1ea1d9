//! Requests about jobs.

use std::{collections::BTreeMap, fmt::Debug};

use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{Pod, Secret},
    },
    serde::{Serialize, de::DeserializeOwned},
};
use kube::{
    Api, Error,
    api::{DeleteParams, ListParams, PostParams},
};
use nanofaas_backends::JobId;
use serde_json::Value;
use tokio::time::Instant;

use super::{Cluster, MANAGER, RequestError, delete, repeated};
use crate::{
    names::{JOB, job_name, selector},
    plan::JobObjects,
};

/// Objects of one answer to a list.
const PAGE: u32 = 500;

/// What came of asking for an object.
enum Creation<K> {
    New(K),
    /// There is one of that name, perhaps from an earlier try whose answer was lost.
    There,
    /// Nobody wants it any more.
    Unwanted,
}

/// What came of making a job.
#[derive(Debug)]
pub enum JobCreation {
    /// It is there, since that change of the cluster.
    Made(String),
    /// Nobody wanted it any more; a part of it may be there.
    Unwanted,
    /// Somebody else's has its name.
    Taken,
}

impl Cluster {
    /// Asks whether the Pod of a job could be made, and changes nothing.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn try_pod(&self, objects: &JobObjects, by: Instant) -> Result<(), RequestError> {
        let api: Api<Pod> = self.api();
        create(&api, &objects.pod(), true, by, || true).await.map(drop)
    }

    /// Asks whether a Job could be made, and changes nothing.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn try_job(&self, objects: &JobObjects, by: Instant) -> Result<(), RequestError> {
        let api: Api<Job> = self.api();
        create(&api, &objects.job, true, by, || true).await.map(drop)
    }

    /// Makes a job, with what belongs to it, unless it is not wanted any more.
    ///
    /// # Errors
    /// See [`RequestError`]. A part of it may be there.
    pub async fn make_job(
        &self,
        id: &JobId,
        objects: &JobObjects,
        by: Instant,
        is_wanted: impl Fn() -> bool,
    ) -> Result<JobCreation, RequestError> {
        let api: Api<Job> = self.api();
        let job = match create(&api, &objects.job, false, by, &is_wanted).await? {
            Creation::New(job) => Some(job),
            Creation::There => self.job(id, by).await?,
            Creation::Unwanted => return Ok(JobCreation::Unwanted),
        };
        let Some(job) = job else { return Ok(JobCreation::Taken) };
        if let Some(request) = objects.request_of(job.metadata.uid.as_deref().unwrap_or_default()) {
            let created = create(&self.api::<Secret>(), &request, false, by, &is_wanted).await?;
            if matches!(created, Creation::Unwanted) {
                return Ok(JobCreation::Unwanted);
            }
        }
        Ok(JobCreation::Made(job.metadata.resource_version.unwrap_or_default()))
    }

    /// The Job of a job, if it is there and is ours.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn job(&self, id: &JobId, by: Instant) -> Result<Option<Job>, RequestError> {
        let api: Api<Job> = self.api();
        let name = job_name(id);
        let found = repeated(by, || api.get_opt(&name)).await?;
        Ok(found.filter(|job| {
            let labels = job.metadata.labels.clone().unwrap_or_default();
            let is_it = annotation(job.metadata.annotations.as_ref(), JOB) == Some(id.as_str());
            is_it && self.stranger_with(&name, &labels).is_none()
        }))
    }

    /// The Pods of a job.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn pods_of_job(&self, id: &JobId, job: &Job, by: Instant) -> Result<Vec<Pod>, RequestError> {
        let label = crate::names::ORIGINAL_EXECUTION;
        let execution = job.metadata.labels.as_ref().and_then(|labels| labels.get(label));
        let selector =
            format!("{},{label}={}", selector(&self.installation), execution.cloned().unwrap_or_default());
        let mut pods = list(&self.api::<Pod>(), &selector, by).await?;
        pods.retain(|pod| annotation(pod.metadata.annotations.as_ref(), JOB) == Some(id.as_str()));
        Ok(pods)
    }

    /// All Jobs of the installation.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn jobs(&self, by: Instant) -> Result<Vec<Job>, RequestError> {
        list(&self.api::<Job>(), &selector(&self.installation), by).await
    }

    /// Deletes a Job, and then all that belongs to it; or first that, so that the Job is there until nothing runs.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn delete_job(&self, name: &str, is_last: bool, by: Instant) -> Result<bool, RequestError> {
        let parameters = if is_last { DeleteParams::foreground() } else { DeleteParams::background() };
        delete(&self.api::<Job>(), name, &parameters, by).await
    }
}

fn annotation<'a>(annotations: Option<&'a BTreeMap<String, String>>, name: &str) -> Option<&'a str> {
    annotations?.get(name).map(String::as_str)
}

/// Makes an object, or asks whether it could be made.
async fn create<K>(
    api: &Api<K>,
    object: &Value,
    is_dry: bool,
    by: Instant,
    is_wanted: impl Fn() -> bool,
) -> Result<Creation<K>, RequestError>
where
    K: Clone + DeserializeOwned + Serialize + Debug,
{
    // We made it ourselves, in this form.
    let object: K =
        serde_json::from_value(object.clone()).map_err(|error| RequestError::of(Error::SerdeError(error)))?;
    let parameters = PostParams { dry_run: is_dry, field_manager: Some(MANAGER.to_owned()) };
    let (object, parameters, is_wanted) = (&object, &parameters, &is_wanted);
    repeated(by, || async move {
        if !is_wanted() {
            return Ok(Creation::Unwanted);
        }
        match api.create(parameters, object).await {
            Ok(made) => Ok(Creation::New(made)),
            Err(Error::Api(status)) if status.is_already_exists() => Ok(Creation::There),
            Err(error) => Err(error),
        }
    })
    .await
}

async fn list<K>(api: &Api<K>, selector: &str, by: Instant) -> Result<Vec<K>, RequestError>
where
    K: Clone + DeserializeOwned + Debug,
{
    let mut objects = Vec::new();
    let mut parameters = ListParams::default().labels(selector).limit(PAGE);
    loop {
        let page = repeated(by, || api.list(&parameters)).await?;
        objects.extend(page.items);
        match page.metadata.continue_.filter(|more| !more.is_empty()) {
            Some(more) => parameters = parameters.continue_token(&more),
            None => return Ok(objects),
        }
    }
}
