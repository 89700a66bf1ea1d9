//! The objects of functions are as written in `tests/golden`, and as Kubernetes' own types take them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::{
    apps::v1::Deployment,
    autoscaling::v2::HorizontalPodAutoscaler,
    core::v1::{Pod, Secret, Service},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use nanofaas_backends::{Job, Labels, Version, Workload};
use nanofaas_kubernetes::plan::{self, Kind, Objects, PlanSettings, image_check, plan};
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
    let limit = Duration::from_secs(20);
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

/// Attempt 2 of a function, with this request.
fn attempt(workload: Workload, payload: &str) -> Job {
    Job {
        id: "30313233-3435-4637-b839-61626364beef-2-18c2a1b2c3d".to_owned().into(),
        workload: Arc::new(workload),
        execution: "30313233-3435-4637-b839-61626364beef".into(),
        attempt: 2,
        trace_id: Some("trace $(HOME)".into()),
        timeout: Duration::from_millis(1500),
        payload: payload.to_owned().into(),
        report: Box::new(|event| panic!("{event:?}")),
    }
}

fn remote(more: &str) -> Workload {
    let text = format!(
        r#"{{"name":"Ocr_","image":"registry.example.org/ocr:1","executionMode":"REMOTE","runtimeMode":"STDIO",
        "runtimeCommand":"ocr","resources":{{"memory":"64Mi"}},"labels":{{"tier":"back"}},
        "env":{{"LANG":"C","TRACE_ID":"mine","WARM":"true","WATCHDOG_CONCURRENCY":"9"}}{more}}}"#
    );
    workload(text.as_bytes())
}

#[test]
fn jobs_are_as_they_were() {
    let volumes = r#","annotations":{"team":"documents"},"imagePullSecrets":["registry"],
        "volumes":[{"name":"models","mountPath":"/models","configMap":{"name":"models"}}]"#;
    let long = format!(r#"{{"input":"{}"}}"#, "x".repeat(64 << 10));
    for (name, workload, payload) in [
        ("job", remote(""), r#"{"input":"costs $5 or $(PATH)","metadata":null}"#),
        ("job-long", remote(volumes), &long),
    ] {
        let job = plan::job(&attempt(workload, payload), &settings());
        is_of::<k8s_openapi::api::batch::v1::Job>(&job.job);
        is_of::<Pod>(&job.pod());
        let mut request = job.request_of("00000000-0000-0000-0000-000000000000");
        if let Some(request) = &mut request {
            is_of::<Secret>(request);
            let data = serde_json::from_value::<Secret>(request.clone()).unwrap().data.unwrap();
            assert_eq!(data["request.json"].0, payload.as_bytes());
            request["data"]["request.json"] = "(the request)".into();
        }
        assert_eq!(request.is_some(), name == "job-long");
        let text: String = [Some(job.job), request]
            .iter()
            .flatten()
            .map(|object| format!("---\n{}", serde_saphyr::to_string(object).unwrap()))
            .collect();
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/jobs/{name}.yaml"));
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&golden, &text).unwrap();
        }
        assert_eq!(text, fs::read_to_string(&golden).unwrap_or_default(), "{name}; UPDATE=1 writes it anew");
    }
}

#[test]
fn a_job_is_called_like_its_id_if_it_can() {
    let mut one = attempt(remote(""), "{}");
    let plain = plan::job(&one, &settings()).name;
    assert_eq!(plain, one.id.as_str());
    one.id = "A.b".to_owned().into();
    let changed = plan::job(&one, &settings());
    assert!(changed.name.starts_with("a-b--"), "{}", changed.name);
    assert_eq!(changed.job["metadata"]["annotations"]["nanofaas.io/job"], "A.b");
}

#[test]
fn how_long_a_request_may_be_in_the_environment() {
    for (bytes, is_short) in [(64 << 10, true), ((64 << 10) + 1, false)] {
        let job = plan::job(&attempt(remote(""), &"1".repeat(bytes)), &settings());
        assert_eq!(job.request_of("uid").is_none(), is_short, "{bytes}");
    }
    // What cannot be in a variable is in a file, too.
    let job = Job { payload: (&b"\"\xff\""[..]).into(), ..attempt(remote(""), "") };
    assert!(plan::job(&job, &settings()).request_of("uid").is_some());
}
