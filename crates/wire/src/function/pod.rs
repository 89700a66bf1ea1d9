//! What a registration says about the Pods of a function, for backends that run it as such.
//!
//! Only forms are checked here: whether a node has that label, or a volume exists, is for the cluster to say, which is asked
//! before anything is made. Labels and annotations of the server's own cannot be given.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fields::{Choices, Fields, Violations, object};

/// Ports, and nothing else.
const PORTS: std::ops::RangeInclusive<u32> = 1..=65_535;

/// Longest name of a volume.
const VOLUME_NAME_MAX: usize = 63;

/// The volume that every replica has.
const TMP: &str = "/tmp";

/// What only the server attaches to Pods, by the beginning of the key.
const RESERVED_PREFIXES: [&str; 2] = ["nanofaas.io/", "controller.kubernetes.io/"];

/// The same, by the whole key.
const RESERVED: [&str; 3] = ["app", "function", "app.kubernetes.io/managed-by"];

const LABEL_KEY_PATTERN: &str = "(prefix/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?";

const EFFECTS: Choices<&str> =
    &[("NoSchedule", "NoSchedule"), ("PreferNoSchedule", "PreferNoSchedule"), ("NoExecute", "NoExecute")];

const OPERATORS: Choices<&str> = &[("Equal", "Equal"), ("Exists", "Exists")];

const UNSATISFIABLE: Choices<&str> =
    &[("DoNotSchedule", "DoNotSchedule"), ("ScheduleAnyway", "ScheduleAnyway")];

/// How the Pods of a function are. Each member is absent when nothing was said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodOptions {
    /// The port that the program listens on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_port: Option<u16>,
    /// What is asked for to find out whether it is ready; empty: an open port is enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_path: Option<String>,
    /// Labels that a node must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that do not matter.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// How replicas spread over nodes and zones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub topology_spread_constraints: Vec<TopologySpread>,
    /// Annotations of the Pods.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Labels of the Pods.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The account that they run under. They get no token of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    /// False: the program may write to its own file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only_root_filesystem: Option<bool>,
    /// What is mounted into them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
}

/// A taint that does not matter, in the words of Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Toleration {
    /// Of which key; none: of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `Equal` or `Exists`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// With which value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`; none: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
    /// How long a Pod stays on a node that gets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<u32>,
}

/// How replicas spread, in the words of Kubernetes; the selector is the function's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopologySpread {
    /// How much more one place may have than another.
    pub max_skew: u32,
    /// The label of nodes that tells places apart.
    pub topology_key: String,
    /// `DoNotSchedule` or `ScheduleAnyway`.
    pub when_unsatisfiable: String,
}

/// Something that is mounted into every replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// Tells volumes of a function apart.
    pub name: String,
    /// Where, absolute.
    pub mount_path: String,
    /// A file or folder of it, and not all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_path: Option<String>,
    /// The program cannot write to it.
    pub read_only: bool,
    /// What.
    #[serde(flatten)]
    pub source: VolumeSource,
}

/// What a volume shows. Nothing of the node, and nothing that needs rights beyond the namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VolumeSource {
    /// A ConfigMap.
    #[serde(rename_all = "camelCase")]
    ConfigMap {
        /// Its name.
        name: String,
    },
    /// A Secret.
    #[serde(rename_all = "camelCase")]
    Secret {
        /// Its name.
        secret_name: String,
    },
    /// An empty folder, which lives as long as the replica.
    #[serde(rename_all = "camelCase")]
    EmptyDir {
        /// `Memory`, or none for the node's disk.
        #[serde(skip_serializing_if = "Option::is_none")]
        medium: Option<String>,
        /// How much fits in, as a quantity.
        #[serde(skip_serializing_if = "Option::is_none")]
        size_limit: Option<String>,
    },
    /// A PersistentVolumeClaim, which is there already.
    #[serde(rename_all = "camelCase")]
    PersistentVolumeClaim {
        /// Its name.
        claim_name: String,
    },
}

impl PodOptions {
    /// Nothing was said.
    pub fn is_default(&self) -> bool {
        *self == PodOptions::default()
    }
}

/// Reads the members of a registration that are about Pods.
pub(super) fn read(fields: &Fields<'_>, violations: &mut Violations) -> PodOptions {
    PodOptions {
        container_port: fields
            .integer_u32("containerPort", PORTS, violations)
            .and_then(|port| u16::try_from(port).ok()),
        health_path: health_path(fields, violations),
        node_selector: labels(fields, "nodeSelector", violations),
        tolerations: each(fields, "tolerations", violations, toleration),
        topology_spread_constraints: each(fields, "topologySpreadConstraints", violations, spread),
        annotations: unreserved(fields, "annotations", violations),
        labels: unreserved(fields, "labels", violations),
        service_account_name: name(fields, "serviceAccountName", violations),
        read_only_root_filesystem: fields.boolean("readOnlyRootFilesystem", violations),
        volumes: volumes(fields, violations),
    }
}

fn health_path(fields: &Fields<'_>, violations: &mut Violations) -> Option<String> {
    let path = fields.text("healthPath", violations)?;
    let is_path = path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if !path.is_empty() && !is_path {
        violations
            .push("healthPath", "must be a path such as /health, or empty: then an open port is enough");
    }
    Some(path.to_owned())
}

/// Reads every object of an array.
fn each<T>(
    fields: &Fields<'_>,
    member: &str,
    violations: &mut Violations,
    read: fn(&Fields<'_>, &mut Violations) -> Option<T>,
) -> Vec<T> {
    let elements = fields.elements(member, violations).unwrap_or_default();
    let read = |(path, value): (String, &Value)| {
        let fields = object(&path, value, violations)?;
        read(&fields, violations)
    };
    elements.into_iter().filter_map(read).collect()
}

fn toleration(fields: &Fields<'_>, violations: &mut Violations) -> Option<Toleration> {
    let word = |word: &str| word.to_owned();
    let toleration = Toleration {
        key: fields.text("key", violations).map(word),
        operator: fields.choice("operator", OPERATORS, violations).map(word),
        value: fields.text("value", violations).map(word),
        effect: fields.choice("effect", EFFECTS, violations).map(word),
        toleration_seconds: fields.integer_u32("tolerationSeconds", 0..=u32::MAX, violations),
    };
    if toleration.key.is_none() && toleration.operator.as_deref() != Some("Exists") {
        violations.push(
            &fields.path("key"),
            "is required, except with operator Exists: then it stands for every taint",
        );
    }
    Some(toleration)
}

fn spread(fields: &Fields<'_>, violations: &mut Violations) -> Option<TopologySpread> {
    let topology_key = required(fields, "topologyKey", violations);
    let when = fields.choice("whenUnsatisfiable", UNSATISFIABLE, violations).unwrap_or("DoNotSchedule");
    let max_skew = fields.integer_u32("maxSkew", 1..=i32::MAX.unsigned_abs(), violations).unwrap_or(1);
    Some(TopologySpread { max_skew, topology_key: topology_key?, when_unsatisfiable: when.to_owned() })
}

/// A text that has to be there.
fn required(fields: &Fields<'_>, member: &str, violations: &mut Violations) -> Option<String> {
    if fields.get(member).is_none() {
        violations.push(&fields.path(member), "is required");
    }
    fields.text_not_blank(member, violations).map(str::to_owned)
}

/// The name of an object in the cluster.
fn name(fields: &Fields<'_>, member: &str, violations: &mut Violations) -> Option<String> {
    let name = fields.text_not_blank(member, violations)?;
    let is_inner =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    if name.len() > 253 || !name.bytes().all(is_inner) {
        violations.push(
            &fields.path(member),
            "must be the name of an object: lower-case letters, digits, '-' and '.'",
        );
    }
    Some(name.to_owned())
}

fn labels(fields: &Fields<'_>, member: &str, violations: &mut Violations) -> BTreeMap<String, String> {
    let map = fields.text_map(member, is_label_key, LABEL_KEY_PATTERN, violations).unwrap_or_default();
    for (key, value) in &map {
        if !(value.is_empty() || is_label(value)) {
            let message = "must be the value of a label: at most 63 letters, digits, '-', '_' and '.'";
            violations.push(&format!("{member}.{}", super::fields::quote(key)), message);
        }
    }
    map
}

/// A map without what is the server's own. Values of annotations may be anything.
fn unreserved(fields: &Fields<'_>, member: &str, violations: &mut Violations) -> BTreeMap<String, String> {
    let map = match member {
        "labels" => labels(fields, member, violations),
        _ => fields.text_map(member, is_label_key, LABEL_KEY_PATTERN, violations).unwrap_or_default(),
    };
    for key in map.keys() {
        if RESERVED.contains(&key.as_str()) || RESERVED_PREFIXES.iter().any(|prefix| key.starts_with(prefix))
        {
            violations.push(&format!("{member}.{}", super::fields::quote(key)), "is set by the server");
        }
    }
    map
}

/// A label, or the last part of a label's key.
fn is_label(text: &str) -> bool {
    let is_outer = |byte: &u8| byte.is_ascii_alphanumeric();
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.first().is_some_and(is_outer)
        && bytes.last().is_some_and(is_outer)
        && bytes.iter().all(|byte| is_outer(byte) || matches!(byte, b'-' | b'_' | b'.'))
}

fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        None => is_label(key),
        Some((prefix, name)) => {
            let parts = |part: &str| {
                is_label(part) && part.bytes().all(|byte| byte != b'_' && !byte.is_ascii_uppercase())
            };
            is_label(name) && prefix.len() <= 253 && prefix.split('.').all(parts)
        }
    }
}

fn volumes(fields: &Fields<'_>, violations: &mut Violations) -> Vec<Volume> {
    let volumes = each(fields, "volumes", violations, volume);
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    for (index, volume) in volumes.iter().enumerate() {
        if !names.insert(volume.name.as_str()) {
            violations.push(&format!("volumes[{index}].name"), "is the name of another volume, too");
        }
        if !paths.insert(volume.mount_path.trim_end_matches('/')) {
            violations
                .push(&format!("volumes[{index}].mountPath"), "is where another volume is mounted, too");
        }
    }
    volumes
}

fn volume(fields: &Fields<'_>, violations: &mut Violations) -> Option<Volume> {
    let name = required(fields, "name", violations);
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_name = |name: &String| {
        name.len() <= VOLUME_NAME_MAX
            && name.bytes().all(is_inner)
            && !name.starts_with('-')
            && !name.ends_with('-')
            && name != "tmp"
    };
    if name.as_ref().is_some_and(|name| !is_name(name)) {
        let message =
            "must be lower-case letters, digits and '-', at most 63, and not tmp, which every replica has";
        violations.push(&fields.path("name"), message);
    }
    let mount_path = required(fields, "mountPath", violations);
    if let Some(path) = &mount_path {
        if !path.starts_with('/') || path.contains(':') {
            violations.push(&fields.path("mountPath"), "must be an absolute path without ':'");
        } else if path.trim_end_matches('/') == TMP {
            violations
                .push(&fields.path("mountPath"), "must not be /tmp, where every replica has an empty folder");
        }
    }
    let sub_path = fields.text_not_blank("subPath", violations).map(str::to_owned);
    if sub_path.as_ref().is_some_and(|path| path.starts_with('/') || path.split('/').any(|part| part == ".."))
    {
        violations.push(&fields.path("subPath"), "must be a path inside the volume");
    }
    let read_only = fields.boolean("readOnly", violations).unwrap_or(false);
    let source = source(fields, violations);
    Some(Volume { name: name?, mount_path: mount_path?, sub_path, read_only, source: source? })
}

fn source(fields: &Fields<'_>, violations: &mut Violations) -> Option<VolumeSource> {
    const SOURCES: [&str; 4] = ["configMap", "secret", "emptyDir", "persistentVolumeClaim"];
    let given: Vec<&str> = SOURCES.into_iter().filter(|source| fields.get(source).is_some()).collect();
    let [kind] = given.as_slice() else {
        let message = format!("must have exactly one of {}", SOURCES.join(", "));
        violations.push(fields.path("").trim_end_matches('.'), &message);
        return None;
    };
    let source = fields.object(kind, violations)?;
    let mut named = |member: &str| {
        if source.get(member).is_none() {
            violations.push(&source.path(member), "is required");
        }
        name(&source, member, violations)
    };
    match *kind {
        "configMap" => Some(VolumeSource::ConfigMap { name: named("name")? }),
        "secret" => Some(VolumeSource::Secret { secret_name: named("secretName")? }),
        "persistentVolumeClaim" => {
            Some(VolumeSource::PersistentVolumeClaim { claim_name: named("claimName")? })
        }
        _ => {
            let medium = source.choice("medium", &[("Memory", "Memory")], violations).map(str::to_owned);
            let size_limit = super::parse::amount(&source, "sizeLimit", "64Mi", violations);
            Some(VolumeSource::EmptyDir { medium, size_limit })
        }
    }
}
