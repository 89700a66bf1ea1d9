//! The resource `Function`, as the API server has it.

use std::borrow::Cow;

use k8s_openapi::NamespaceResourceScope;
use kube::{Resource, core::ObjectMeta};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::names::{self, INSTALLATION};

const GROUP: &str = "nanofaas.dev";
const VERSION: &str = "v1alpha1";
const KIND: &str = "Function";
const PLURAL: &str = "functions";
const API_VERSION: &str = "nanofaas.dev/v1alpha1";
/// Members of a spec that are no part of the registration.
const NAME: &str = "name";
const REPLICAS: &str = "replicas";

/// A resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Function {
    /// Group and version.
    #[serde(default)]
    pub api_version: String,
    /// `Function`.
    #[serde(default)]
    pub kind: String,
    /// Its name, generation and labels.
    pub metadata: ObjectMeta,
    /// What is asked for.
    #[serde(default)]
    pub spec: Map<String, Value>,
    /// What was told about it, which is written in another way than the rest.
    #[serde(default, skip_serializing)]
    pub status: Status,
}

/// What is told about a resource.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// The server that has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub installation: Option<String>,
    /// The generation that was acted on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// [`Function::digest`] of what was registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_spec: Option<String>,
    /// The version of the registration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How many replicas are to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// How many of them take calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<u32>,
    /// Selects its Pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Where it is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Ready and Progressing.
    pub conditions: Vec<Condition>,
}

/// Whether something is so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// Of what.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Of which generation of the resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When the status became what it is.
    pub last_transition_time: String,
    /// A code.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

impl Resource for Function {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        KIND.into()
    }
    fn group((): &()) -> Cow<'_, str> {
        GROUP.into()
    }
    fn version((): &()) -> Cow<'_, str> {
        VERSION.into()
    }
    fn plural((): &()) -> Cow<'_, str> {
        PLURAL.into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Function {
    /// The name of the resource.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// Tells it from others that have had its name.
    pub fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    /// Which change of its spec this is.
    pub fn generation(&self) -> i64 {
        self.metadata.generation.unwrap_or_default()
    }

    /// Which change of all this is.
    pub fn revision(&self) -> u64 {
        self.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(u64::MAX)
    }

    /// The function's name.
    pub fn function(&self) -> &str {
        self.spec.get(NAME).and_then(Value::as_str).unwrap_or(self.name())
    }

    /// The number of replicas that is asked for.
    pub fn replicas(&self) -> Option<u32> {
        self.spec.get(REPLICAS)?.as_u64().and_then(|replicas| u32::try_from(replicas).ok())
    }

    /// The body of its registration.
    pub fn body(&self) -> Value {
        let mut body = self.spec.clone();
        body.remove(REPLICAS);
        body.insert(NAME.to_owned(), self.function().into());
        Value::Object(body)
    }

    /// A digest of that.
    pub fn digest(&self) -> String {
        let digest = Sha256::digest(sorted(&self.body()).to_string().as_bytes());
        digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether this server has it, or may take it: one that names an installation is that one's, and one that does not is
    /// the first one's that says so in its status.
    pub fn is_of(&self, installation: &str) -> bool {
        let labels = self.metadata.labels.as_ref();
        let named = labels.and_then(|labels| labels.get(INSTALLATION)).or(self.status.installation.as_ref());
        named.is_none_or(|named| named == installation)
    }

    /// Whether it names an installation.
    pub fn is_labelled(&self) -> bool {
        self.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(INSTALLATION))
    }

    /// It is to go, or gone.
    pub fn is_leaving(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }
}

/// The same with the members of every object in order: the API server gives them in any.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| name.as_str());
            members.into_iter().map(|(name, value)| (name.clone(), sorted(value))).collect()
        }
        Value::Array(elements) => elements.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

/// A resource to be made of the registration of a function.
pub fn made_of(mut registration: Map<String, Value>, installation: &str) -> Value {
    let function = registration.remove(NAME);
    let function = function.as_ref().and_then(Value::as_str).unwrap_or_default();
    let name = names::resource_name(function);
    if name != function {
        registration.insert(NAME.to_owned(), function.into());
    }
    json!({
        "apiVersion": API_VERSION, "kind": KIND,
        "metadata": { "name": name, "labels": { INSTALLATION: installation } },
        "spec": registration,
    })
}

/// What is applied to tell of a resource. With a revision only if it is still that one.
pub fn status_of(function: &Function, status: &Status, revision: Option<&str>) -> Value {
    let mut object = json!({
        "apiVersion": API_VERSION, "kind": KIND,
        "metadata": { "name": function.name(), "uid": function.uid() },
        "status": status,
    });
    if let Some(revision) = revision {
        object["metadata"]["resourceVersion"] = revision.into();
    }
    object
}

/// What is applied to ask for so many replicas.
pub fn replicas_of(function: &Function, replicas: u32) -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": KIND,
        "metadata": { "name": function.name(), "uid": function.uid() },
        "spec": { REPLICAS: replicas },
    })
}
