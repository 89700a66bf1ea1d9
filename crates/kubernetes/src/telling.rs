//! What went wrong with a function, as Events of Kubernetes on its Deployment, for whoever looks there. Best effort: an order never
//! waits for one, what is repeated is told once in ten minutes, and when there is too much, the rest is left out.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use k8s_openapi::{api::events::v1::Event, apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp};
use kube::api::PostParams;
use nanofaas_backends::{BackendError, FunctionName, ImageProblem};
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

use crate::{
    cluster::{Cluster, random},
    names::object_name,
};

/// Events that wait to be sent.
pub const WAITING_MAX: usize = 64;
/// From one Event to the next.
const PAUSE: Duration = Duration::from_millis(200);
/// What was told is not told again for so long.
const AGAIN: Duration = Duration::from_secs(600);
/// Of so much it is known whether it was told.
const KNOWN_MAX: usize = 256;
/// For one request.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Kubernetes takes 1024 bytes.
const NOTE_MAX: usize = 1000;

/// Something that went wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trouble {
    /// With which function.
    pub function: FunctionName,
    /// One word, for machines.
    pub reason: &'static str,
    /// A sentence, for people.
    pub text: String,
    /// The id of its Deployment, if there is one.
    pub uid: Option<String>,
}

/// The word for what an order ended with. None if it says nothing of the function.
pub fn reason_of(error: &BackendError) -> Option<&'static str> {
    match error {
        BackendError::Image { problem: ImageProblem::NotFound, .. } => Some("ImageNotFound"),
        BackendError::Image { problem: ImageProblem::AuthRequired, .. } => Some("ImagePullAuthRequired"),
        BackendError::Image { problem: ImageProblem::RegistryUnavailable, .. } => {
            Some("ImageRegistryUnavailable")
        }
        BackendError::Provisioning(_) => Some("ProvisioningFailed"),
        BackendError::Teardown(_) => Some("RemovalFailed"),
        // Of others' objects, and of an API server that is away, there is nothing to be told here.
        BackendError::Conflict(_) | BackendError::Unavailable(_) => None,
    }
}

/// Sends what is told, for ever.
pub async fn run(cluster: Cluster, mut told: mpsc::Receiver<Trouble>) {
    let mut known: BTreeMap<(FunctionName, &'static str, String), Instant> = BTreeMap::new();
    while let Some(next) = told.recv().await {
        let now = Instant::now();
        known.retain(|_, at| now.duration_since(*at) < AGAIN);
        let key = (next.function.clone(), next.reason, next.text.clone());
        if known.contains_key(&key) || known.len() >= KNOWN_MAX {
            continue;
        }
        known.insert(key, now);
        let sent = timeout(TIMEOUT, send(&cluster, &next)).await;
        let problem = match sent {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("no answer in time".to_owned()),
        };
        if let Some(error) = problem {
            tracing::debug!(function = %next.function, reason = next.reason, error, "an Event could not be made");
        }
        sleep(PAUSE).await;
    }
}

async fn send(cluster: &Cluster, told: &Trouble) -> kube::Result<()> {
    let object = object_name(told.function.as_str());
    let now = MicroTime(Timestamp::try_from(SystemTime::now()).unwrap_or_default());
    let mut end = told.text.len().min(NOTE_MAX);
    while !told.text.is_char_boundary(end) {
        end -= 1;
    }
    let event = json!({
        "metadata": { "name": format!("{object}.{:016x}", random()), "namespace": cluster.namespace() },
        "eventTime": now,
        "type": "Warning",
        "reason": told.reason,
        "action": "Run",
        "note": &told.text[..end],
        "regarding": {
            "apiVersion": "apps/v1", "kind": "Deployment", "name": object, "namespace": cluster.namespace(),
            "uid": told.uid,
        },
        "reportingController": "nanofaas.io/server",
        "reportingInstance": cluster.installation(),
    });
    let event: Event = serde_json::from_value(event).map_err(kube::Error::SerdeError)?;
    cluster.api::<Event>().create(&PostParams::default(), &event).await.map(drop)
}
