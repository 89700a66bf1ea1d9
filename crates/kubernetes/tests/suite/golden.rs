//! The objects of functions are as written in `tests/golden`, and as Kubernetes' own types take them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use k8s_openapi::api::{
    apps::v1::Deployment,
    autoscaling::v2::HorizontalPodAutoscaler,
    core::v1::{Pod, Service},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use nanofaas_backends::{Labels, Version, Workload};
use nanofaas_kubernetes::plan::{Kind, Objects, PlanSettings, image_check, plan};
use nanofaas_wire::function::{FunctionSpec, Registration};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

pub(crate) const REGISTRATION: Registration = Registration {
    default_timeout_ms: 30_000,
    default_concurrency: 4,
    default_queue_size: 100,
    default_max_retries: 3,
    image_optional: false,
    pods: true,
};

fn settings() -> PlanSettings {
    PlanSettings {
        installation: "tests".to_owned(),
        callback_url: Some("http://control-plane.nanofaas:8080/v1/internal/executions".to_owned()),
        image_pull_policy: "Always".to_owned(),
        network_policy: false,
        control_plane: BTreeMap::from([("app".to_owned(), "nanofaas-control-plane".to_owned())]),
        startup_s: 60,
    }
}

fn workload(text: &[u8]) -> Workload {
    let spec = FunctionSpec::parse(text, &REGISTRATION).unwrap();
    Workload {
        name: spec.name.as_str().into(),
        labels: Labels::from([("managed-by".into(), "nanofaas".into())]),
        version: Version::from_label("0123456789abcdef"),
        spec: Arc::new(spec),
    }
}

/// The registrations by name.
fn cases() -> Vec<(PathBuf, Workload)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|kind| kind == "json")).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), workload(&fs::read(path).unwrap()))).collect()
}

fn with_policy(name: &str) -> PlanSettings {
    PlanSettings { network_policy: name.contains("pods"), ..settings() }
}

fn text(objects: &Objects) -> String {
    let owned = objects.owned_by("00000000-0000-0000-0000-000000000000").map(|(_, object)| object);
    let all = std::iter::once(objects.deployment.clone()).chain(owned);
    all.map(|object| format!("---\n{}", serde_saphyr::to_string(&object).unwrap())).collect()
}

#[test]
fn plans_are_as_they_were() {
    let cases = cases();
    assert!(cases.len() >= 4);
    for (path, workload) in cases {
        let settings = with_policy(path.to_str().unwrap());
        let objects = plan(&workload, &settings);
        assert_eq!(plan(&workload, &settings), objects);
        let (golden, text) = (path.with_extension("yaml"), text(&objects));
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&golden, &text).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(text, expected, "{}; UPDATE=1 writes it anew", golden.display());
    }
}

#[test]
fn checks_of_images_are_as_they_were() {
    let text = r#"{"name":"ocr","image":"registry.example.org/ocr:1","imagePullSecrets":["registry"," "],
        "command":["/bin/ocr"],"env":{"A":"b"},"serviceAccountName":"ocr","nodeSelector":{"disk":"ssd"},
        "tolerations":[{"key":"gpu","operator":"Exists"}],"labels":{"tier":"back"}}"#;
    let workload = workload(text.as_bytes());
    let limit = std::time::Duration::from_secs(20);
    let pod = image_check(&workload, &settings(), "check-ocr-0a1b2c3d-1", "0a1b2c3d", limit);
    is_of::<Pod>(&pod);
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/image-check.yaml");
    let text = format!("---\n{}", serde_saphyr::to_string(&pod).unwrap());
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&golden, &text).unwrap();
    }
    assert_eq!(text, fs::read_to_string(&golden).unwrap_or_default(), "UPDATE=1 writes it anew");
    // Nothing selects it that selects replicas.
    let deployment = plan(&workload, &settings()).deployment;
    for (label, value) in deployment["spec"]["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(
            pod["metadata"]["labels"][label] == *value,
            label == "nanofaas.io/installation",
            "{label}"
        );
    }
}

/// Every member is one of the type's, and of the right form.
fn is_of<T: Serialize + DeserializeOwned>(object: &Value) {
    let typed: T = serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{error}: {object}"));
    assert_eq!(serde_json::to_value(typed).unwrap(), *object);
}

#[test]
fn plans_are_what_kubernetes_takes() {
    for (path, workload) in cases() {
        let objects = plan(&workload, &with_policy(path.to_str().unwrap()));
        is_of::<Deployment>(&objects.deployment);
        is_of::<Deployment>(&objects.deployment_with(3));
        for (kind, object) in objects.owned_by("uid") {
            match kind {
                Kind::Service => is_of::<Service>(&object),
                Kind::HorizontalPodAutoscaler => is_of::<HorizontalPodAutoscaler>(&object),
                Kind::PodDisruptionBudget => is_of::<PodDisruptionBudget>(&object),
                Kind::NetworkPolicy => is_of::<NetworkPolicy>(&object),
            }
        }
    }
}

#[test]
fn whoever_scales_owns_the_number_of_replicas() {
    for (_, workload) in cases() {
        let objects = plan(&workload, &settings());
        assert_eq!(objects.deployment["spec"].get("replicas"), None);
        assert_eq!(objects.deployment_with(0)["spec"]["replicas"], 0);
        assert_eq!(objects.is_autoscaled, objects.owned.contains_key(&Kind::HorizontalPodAutoscaler));
    }
}

#[test]
fn the_digest_tells_whether_there_is_something_to_apply() {
    let of = |text: &str, settings: &PlanSettings| plan(&workload(text.as_bytes()), settings).digest;
    let base = of(r#"{"name":"f","image":"i"}"#, &settings());
    assert_eq!(of(r#"{"name":"f","image":"i","concurrency":4}"#, &settings()), base);
    for text in [
        r#"{"name":"f","image":"j"}"#,
        r#"{"name":"f","image":"i","scalingConfig":{"minReplicas":2}}"#,
        r#"{"name":"f","image":"i","scalingConfig":{"strategy":"HPA"}}"#,
    ] {
        assert_ne!(of(text, &settings()), base, "{text}");
    }
    let other = PlanSettings { callback_url: None, ..settings() };
    assert_ne!(of(r#"{"name":"f","image":"i"}"#, &other), base);
}
