//! A real cluster, in whose network this program runs: `tests/k8s/conformance.sh` starts both. Without it these tests do nothing.

use std::{path::PathBuf, process::Command, sync::Arc, time::Duration};

use nanofaas_backends::FunctionName;
use nanofaas_kubernetes::{KubernetesOptions, WatchLimits, access::Access, names};
use sha2::{Digest, Sha256};

/// Names the image of the functions: `tests/k8s/replica.c`.
const IMAGE: &str = "NANOFAAS_TEST_IMAGE";
/// Names that of the jobs: the one-shot watchdog, and programs beside it.
const JOB_IMAGE: &str = "NANOFAAS_TEST_JOB_IMAGE";
/// Where Pods find what this program serves.
pub(crate) const MACHINE: &str = "10.10.0.2";
/// Names the kubeconfig of the backend, with the rights that the chart gives. The tests themselves look around as administrator.
const ACCOUNT: &str = "NANOFAAS_TEST_ACCOUNT";

/// The functions of one test in a cluster.
#[derive(Clone)]
pub(crate) struct RealCluster {
    installation: String,
    image: Arc<str>,
    callback_url: Arc<str>,
}

impl RealCluster {
    /// None without a cluster. The functions of one name are not those of another.
    pub(crate) fn for_test(name: &str) -> Option<RealCluster> {
        let image = std::env::var(IMAGE).ok()?;
        let digest = Sha256::digest(format!("{name}-{}", std::process::id()));
        let installation = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        // Nobody is there: those who want callbacks say where.
        let callback_url = "http://127.0.0.1:1/v1/internal/executions".into();
        Some(RealCluster { installation: format!("t{installation}"), image: image.into(), callback_url })
    }

    /// The same, and results are reported there.
    pub(crate) fn reporting(mut self, callback_url: &str) -> RealCluster {
        self.callback_url = callback_url.into();
        self
    }

    /// The image of all jobs.
    pub(crate) fn job_image() -> String {
        std::env::var(JOB_IMAGE).expect("the image of jobs")
    }

    /// The image of all functions.
    pub(crate) fn image(&self) -> &str {
        &self.image
    }

    /// What a backend has to know of it.
    pub(crate) fn options(&self) -> KubernetesOptions {
        KubernetesOptions {
            access: Access::Kubeconfig(PathBuf::from(std::env::var_os(ACCOUNT).expect("a kubeconfig"))),
            namespace: Some("default".to_owned()),
            installation: self.installation.clone(),
            callback_url: Some(self.callback_url.to_string()),
            image_pull_policy: "IfNotPresent".to_owned(),
            network_policy: false,
            ready_timeout: Duration::from_secs(30),
            image_check: None,
            limits: WatchLimits::default(),
        }
    }

    /// How many Pods of a function run, also those that go.
    pub(crate) fn count(&self, function: &FunctionName) -> usize {
        let selector = format!(
            "{}={},{}={}",
            names::INSTALLATION,
            self.installation,
            names::FUNCTION,
            names::label_value(function.as_str())
        );
        let running = "status.phase!=Succeeded,status.phase!=Failed";
        kubectl(&["get", "pods", "-o", "name", "-l", &selector, "--field-selector", running]).lines().count()
    }
}

impl Drop for RealCluster {
    fn drop(&mut self) {
        // What a failed test leaves would be in the way of others: a machine has room for so many Pods.
        if std::thread::panicking() {
            let selector = format!("{}={}", names::INSTALLATION, self.installation);
            kubectl(&["delete", "deployments,jobs", "--wait=false", "-l", &selector]);
        }
    }
}

fn kubectl(arguments: &[&str]) -> String {
    let folder = std::env::var_os("NANOFAAS_CLUSTER_DIR").expect("the folder of the cluster");
    let output = Command::new(PathBuf::from(folder).join("bin/kubectl")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
