//! Functions as backends know them: by name and labels, in a version.

use std::{borrow::Borrow, collections::BTreeMap, fmt, sync::Arc};

use nanofaas_wire::function::FunctionSpec;
use sha2::{Digest, Sha256};

use crate::ReplicaStatus;

/// Names a function towards a backend, also over restarts of the server. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionName(Arc<str>);

impl FunctionName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for FunctionName {
    fn from(name: &str) -> FunctionName {
        FunctionName(name.into())
    }
}

impl Borrow<str> for FunctionName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FunctionName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What a backend attaches to everything that it makes for a function, where its system has something like that.
pub type Labels = BTreeMap<Arc<str>, Arc<str>>;

/// Tells whether a replica runs what is wanted. Opaque to backends, which keep it beside each replica: as a label, for
/// one. Sixteen hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(Arc<str>);

impl Version {
    /// The version of a description: the same over restarts, another one whenever replicas would be run differently.
    pub fn of(spec: &FunctionSpec) -> Version {
        // What the server found out, and not what was asked for. The rest counts, so no field can be forgotten here.
        let mut asked = spec.clone();
        asked.deployment_backend = None;
        asked.degradation_reason = None;
        asked.endpoint_url = None;
        asked.effective_execution_mode = asked.execution_mode;
        // How many there are is no property of one of them.
        asked.scaling_config = None;
        let digest = Sha256::digest(asked.document());
        Version(digest[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>().into())
    }

    /// As a backend reads it back.
    pub fn from_label(label: &str) -> Version {
        Version(label.into())
    }

    /// As a backend keeps it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What [`crate::Order::Ensure`] is about.
#[derive(Debug, Clone)]
pub struct Workload {
    /// The function.
    pub name: FunctionName,
    /// What to attach to what is made for it.
    pub labels: Labels,
    /// What its replicas have to be.
    pub version: Version,
    /// How to run them.
    pub spec: Arc<FunctionSpec>,
}

/// A function that exists at a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFunction {
    /// Its name.
    pub name: FunctionName,
    /// What was attached to it.
    pub labels: Labels,
    /// How many replicas are wanted.
    pub desired: u32,
    /// Every replica, with its version.
    pub replicas: Vec<ReplicaStatus>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::test_spec;

    #[test]
    fn a_version_says_how_replicas_run_and_nothing_else() {
        let spec = test_spec("echo");
        let version = Version::of(&spec);
        assert_eq!(version.as_str().len(), 16);
        assert_eq!(Version::from_label(version.as_str()), version);
        let mut found_out = spec.clone();
        found_out.deployment_backend = Some("process".to_owned());
        found_out.endpoint_url = Some("http://127.0.0.1:1/invoke".to_owned());
        assert_eq!(Version::of(&found_out), version);
        let mut other = spec;
        other.env.insert("A".to_owned(), "1".to_owned());
        assert_ne!(Version::of(&other), version);
    }
}
