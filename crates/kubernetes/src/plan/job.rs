//! The Job of an attempt: the Pod of a replica, but with a program that runs once and ends.
//!
//! The request is in its environment, up to a size, and above that in a Secret that its Pod mounts. The Job is made first: the
//! Secret is its own from the beginning and goes with it, and a Job whose Secret was never made starts nothing and ends at its
//! deadline. So whoever is killed between the two leaves nothing for long.

use k8s_openapi::ByteString;
use nanofaas_backends::Job;
use serde_json::{Map, Value, json};

use super::{
    Parts, PlanSettings,
    pod::{RESERVED, texts},
};
use crate::names::{ATTEMPT, EXECUTION, JOB, NAME, ORIGINAL_EXECUTION, attached, job_name, label_value};

/// Longest request of a job, in bytes. Kubernetes takes 1 MiB in a Secret, with all that belongs to it.
pub const REQUEST_BYTES_MAX: usize = 900 << 10;
/// Longest request that is in the environment. Linux takes 128 KiB for a variable.
const ENVIRONMENT_BYTES_MAX: usize = 64 << 10;
/// From the end of the attempt's time until Kubernetes ends a Job by itself: nobody is left who could.
const DEADLINE_GRACE_S: u64 = 10;
/// For people to look at a Job that has ended.
const KEPT_S: u32 = 60;
/// From the order to end a job until it is killed: nobody waits for it any more.
const STOP_GRACE_S: u64 = 1;
/// The volume with a long request, and where it is.
const REQUEST_VOLUME: &str = "nanofaas-request";
const REQUEST_FOLDER: &str = "/var/run/nanofaas";
const REQUEST_FILE: &str = "request.json";
/// What the server sets for a job on top, and what has no meaning for one.
const RESERVED_OF_JOBS: [&str; 8] = [
    "EXECUTION_ID",
    "DISPATCH_ATTEMPT",
    "TRACE_ID",
    "INVOCATION_PAYLOAD",
    "INVOCATION_PAYLOAD_FILE",
    "WATCHDOG_CONCURRENCY",
    "WARM_HOST",
    "WARM_PORT",
];

/// The objects of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobObjects {
    /// What all of them are called.
    pub name: String,
    /// To be made first.
    pub job: Value,
    /// The Secret with the request, if it is a long one.
    request: Option<Value>,
}

impl JobObjects {
    /// A Pod as the Job will have one, to ask whether it may be made: the Job itself is made either way.
    pub fn pod(&self) -> Value {
        let template = &self.job["spec"]["template"];
        let mut metadata = template["metadata"].clone();
        metadata["name"] = self.name.as_str().into();
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"] })
    }

    /// The Secret with the request, if there is one, now that the Job has an id.
    pub fn request_of(&self, uid: &str) -> Option<Value> {
        let mut request = self.request.clone()?;
        request["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "batch/v1", "kind": "Job", "name": self.name, "uid": uid, "controller": true,
        }]);
        Some(request)
    }
}

/// The objects of a job.
pub fn job(job: &Job, settings: &PlanSettings) -> JobObjects {
    let name = job_name(&job.id);
    let parts = Parts { workload: &job.workload, settings, name: &name };
    let text = std::str::from_utf8(&job.payload).ok();
    let text = text.filter(|text| text.len() <= ENVIRONMENT_BYTES_MAX && !text.contains('\0'));
    let of = JobParts { parts, job, text };
    let (labels, annotations) = (of.labels(), of.annotations());
    let object = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": { "name": name, "labels": labels, "annotations": annotations },
        "spec": {
            // Another attempt is for the server to decide.
            "backoffLimit": 0,
            "activeDeadlineSeconds": job.timeout.as_millis().div_ceil(1000) as u64 + DEADLINE_GRACE_S,
            "ttlSecondsAfterFinished": KEPT_S,
            "template": of.template(),
        },
    });
    let request = text.is_none().then(|| {
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": name, "labels": labels },
            "type": "Opaque",
            "immutable": true,
            "data": { REQUEST_FILE: ByteString(job.payload.to_vec()) },
        })
    });
    JobObjects { name, job: object, request }
}

/// What the parts are made of.
struct JobParts<'a> {
    parts: Parts<'a>,
    job: &'a Job,
    /// The request, if the environment takes it.
    text: Option<&'a str>,
}

impl JobParts<'_> {
    fn labels(&self) -> Map<String, Value> {
        let mut labels = self.parts.labels();
        labels.insert(ORIGINAL_EXECUTION.to_owned(), label_value(&self.job.execution).into());
        labels
    }

    fn annotations(&self) -> Map<String, Value> {
        let own = [
            (NAME, self.job.workload.name.to_string()),
            (JOB, self.job.id.to_string()),
            (EXECUTION, self.job.execution.to_string()),
            (ATTEMPT, self.job.attempt.to_string()),
        ];
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
        let all = own.chain(attached(&self.job.workload.labels));
        all.map(|(name, value)| (name, value.into())).collect()
    }

    fn template(&self) -> Value {
        let spec = &self.job.workload.spec;
        let mut labels = texts(&spec.pod.labels);
        labels.extend(self.labels());
        let mut annotations = texts(&spec.pod.annotations);
        annotations.insert(JOB.to_owned(), self.job.id.as_str().into());
        let mut container = self.parts.program(self.environment(), Value::Null);
        let volume = json!({ "name": REQUEST_VOLUME, "secret": { "secretName": self.parts.name } });
        let mount = json!({ "name": REQUEST_VOLUME, "mountPath": REQUEST_FOLDER, "readOnly": true });
        let is_long = self.text.is_none();
        push(&mut container["volumeMounts"], is_long.then_some(mount));
        let mut pod = self.parts.pod(container, "Never", STOP_GRACE_S);
        push(&mut pod["volumes"], is_long.then_some(volume));
        json!({ "metadata": { "labels": labels, "annotations": annotations }, "spec": pod })
    }

    /// What the server sets comes first, and wins.
    fn environment(&self) -> Vec<Value> {
        let job = self.job;
        let timeout_ms = u64::try_from(job.timeout.as_millis()).unwrap_or(u64::MAX).max(1);
        let file = self.text.is_none().then(|| format!("{REQUEST_FOLDER}/{REQUEST_FILE}"));
        let told = [
            ("EXECUTION_ID", Some(job.execution.to_string())),
            ("DISPATCH_ATTEMPT", Some(job.attempt.to_string())),
            ("TRACE_ID", job.trace_id.as_deref().map(literal)),
            ("INVOCATION_PAYLOAD", self.text.map(literal)),
            ("INVOCATION_PAYLOAD_FILE", file),
        ];
        let told = told.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let own = job.workload.spec.env.iter().map(|(name, value)| (name.as_str(), value.clone()));
        let own = own.filter(|(name, _)| !RESERVED.contains(name) && !RESERVED_OF_JOBS.contains(name));
        let all = self.parts.told(false, timeout_ms).into_iter().chain(told).chain(own);
        all.map(|(name, value)| json!({ "name": name, "value": value })).collect()
    }
}

/// The value of a variable that is to be as it is: Kubernetes puts other variables in place of `$(NAME)`, and what callers
/// send must not ask for that.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

fn push(list: &mut Value, element: Option<Value>) {
    if let Some(list) = list.as_array_mut() {
        list.extend(element);
    }
}
