//! Functions as resources: what kubectl and the HTTP API say and do is the same.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use serde_json::{Value, json};

use super::{Cluster, kubectl, ready};
use crate::support::{DataDir, Server, eventually};

const CRD: [&str; 1] = ["k8s.functions=crd"];

impl Cluster {
    /// With the definition of the resource.
    fn with_resources(name: &str) -> Option<Cluster> {
        let cluster = Cluster::for_test(name)?;
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/helm/nanofaas/crd/functions.yaml");
        kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &file.display().to_string()]);
        kubectl(&["wait", "--for=condition=Established", "crd/functions.nanofaas.dev", "--timeout=60s"]);
        Some(cluster)
    }

    /// What a function of this image is, as a resource, with some fields replaced.
    fn resource(&self, name: &str, changes: Value) -> Value {
        let mut spec = json!({
            "image": self.image, "timeoutMs": 15_000, "concurrency": 16, "maxRetries": 0,
            "scalingConfig": { "strategy": "NONE" },
        });
        for (field, value) in changes.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        json!({ "apiVersion": "nanofaas.dev/v1alpha1", "kind": "Function", "metadata": { "name": name }, "spec": spec })
    }

    fn apply(&self, objects: &[Value]) {
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        let folder = std::env::var("NANOFAAS_CLUSTER_DIR").expect("the folder of the cluster");
        let mut child = Command::new(Path::new(&folder).join("bin/kubectl"))
            .args(["--namespace", &self.namespace, "apply", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("kubectl");
        child.stdin.take().expect("a pipe").write_all(list.to_string().as_bytes()).expect("it reads");
        assert!(child.wait().expect("it ends").success(), "{list}");
    }

    fn resources(&self) -> Vec<Value> {
        let all: Value = serde_json::from_str(&self.kubectl(&["get", "nf", "-o", "json"])).expect("JSON");
        all["items"].as_array().expect("items").clone()
    }

    fn find(&self, name: &str) -> Option<Value> {
        self.resources().into_iter().find(|resource| resource["metadata"]["name"] == name)
    }

    /// Status, reason and message of a condition.
    fn condition(&self, name: &str, kind: &str) -> [String; 3] {
        let resource = self.find(name).unwrap_or_default();
        let conditions = resource["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let condition =
            conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default();
        ["status", "reason", "message"].map(|field| condition[field].as_str().unwrap_or_default().to_owned())
    }

    fn becomes(&self, name: &str, status: &str, reason: &str) -> String {
        let mut message = String::new();
        eventually(&format!("{name} is {status} {reason}"), || {
            let [is_status, is_reason, said] = self.condition(name, "Ready");
            message = said;
            is_status == status && is_reason == reason
        });
        message
    }
}

fn is_there(server: &Server, name: &str) -> bool {
    server.get(&format!("/v1/functions/{name}")).status == 200
}

#[test]
fn kubectl_and_the_api_show_the_same_functions() {
    let Some(cluster) = Cluster::with_resources("same") else { return };
    let server = cluster.server(&[CRD[0], "k8s.api-url=http://nanofaas.test:8080"]);
    cluster.apply(&[cluster.resource("f", json!({}))]);
    cluster.becomes("f", "True", "Registered");
    assert_eq!(server.invoke("f", json!(1)).status, 200);
    let status = cluster.find("f").expect("it is there")["status"].clone();
    assert_eq!(status["replicas"], 1);
    assert_eq!(status["readyReplicas"], 1);
    assert_eq!(status["observedGeneration"], 1);
    assert_eq!(status["url"], "http://nanofaas.test:8080/v1/functions/f:invoke");
    let selector = status["selector"].as_str().expect("a selector");
    assert_eq!(cluster.kubectl(&["get", "pods", "-l", selector, "-o", "name"]).lines().count(), 1);
    let line = cluster.kubectl(&["get", "nf", "f", "--no-headers"]);
    assert_eq!(line.split_whitespace().take(5).collect::<Vec<_>>(), ["f", "True", "Registered", "1", "1"]);

    // The other way.
    let mut spec = cluster.spec(json!({ "scalingConfig": { "strategy": "NONE" } }));
    spec["name"] = "Other_Name".into();
    server.register(spec.clone());
    assert_eq!(server.send("POST", "/v1/functions", &spec).status, 409);
    let resource = cluster.resources().into_iter().find(|found| found["spec"]["name"] == "Other_Name");
    let resource = resource.expect("a resource")["metadata"]["name"].as_str().expect("a name").to_owned();
    cluster.becomes(&resource, "True", "Registered");
    assert_eq!(server.invoke("Other_Name", json!(1)).status, 200);

    // Replicas, both ways.
    cluster.kubectl(&["scale", "nf/f", "--replicas=2"]);
    ready(&server, 2);
    let answer = server.send("PUT", "/v1/functions/f/replicas", &json!({ "replicas": 1 }));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(cluster.find("f").expect("it is there")["spec"]["replicas"], 1);
    eventually("it has one replica", || cluster.find("f").is_some_and(|f| f["status"]["readyReplicas"] == 1));

    // Nothing is written when nothing happens.
    let revision =
        |name: &str| cluster.find(name).expect("it is there")["metadata"]["resourceVersion"].clone();
    let before = (revision("f"), revision(&resource));
    for _ in 0..20 {
        assert_eq!(server.invoke("f", json!(1)).status, 200);
        crate::support::pace(std::time::Duration::from_millis(150));
    }
    assert_eq!((revision("f"), revision(&resource)), before);

    // And gone, both ways.
    assert_eq!(server.send("DELETE", "/v1/functions/Other_Name", &Value::Null).status, 204);
    assert!(cluster.find(&resource).is_none());
    assert_eq!(server.send("DELETE", "/v1/functions/Other_Name", &Value::Null).status, 404);
    cluster.kubectl(&["delete", "nf", "f"]);
    eventually("it is gone", || !is_there(&server, "f"));
    eventually("and its Pods", || cluster.pods().is_empty());
}

#[test]
fn a_deleted_resource_ends_what_waits_and_a_changed_one_is_registered_anew() {
    let Some(cluster) = Cluster::with_resources("deleted") else { return };
    let server = cluster.server(&[CRD[0], "async-queue.enabled=true"]);
    cluster.apply(&[cluster.resource("f", json!({ "concurrency": 1, "env": { "A": "1" } }))]);
    cluster.becomes("f", "True", "Registered");
    let wait = |text: &str| {
        let mut running = server.begin("f", &[], json!({ "sleep": 3 }));
        eventually("it runs", || server.metric("function_in_flight{function=\"f\"}") == 1.0);
        let body = json!({ "input": 1 });
        let waiting = server.send("POST", "/v1/functions/f:enqueue", &body).json();
        let id = waiting["executionId"].as_str().expect("an id").to_owned();
        match text {
            "delete" => drop(cluster.kubectl(&["delete", "nf", "f", "--wait=false"])),
            _ => cluster.apply(&[cluster.resource("f", json!({ "concurrency": 2, "env": { "A": "2" } }))]),
        }
        let ended = server.ended(&id);
        assert_eq!(ended["status"], "error", "{ended}");
        // What runs may finish.
        let answer = running.read().expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    wait("change");
    eventually("the new one is there", || {
        let function = server.get("/v1/functions/f");
        function.status == 200 && function.json()["env"]["A"] == "2"
    });
    cluster.becomes("f", "True", "Registered");
    eventually("the change was observed", || {
        cluster.find("f").is_some_and(|f| f["status"]["observedGeneration"] == f["metadata"]["generation"])
    });
    server.send("PUT", "/v1/functions/f/replicas", &json!({ "replicas": 1 }));
    cluster.kubectl(&["delete", "nf", "f"]);
    eventually("it is gone", || !is_there(&server, "f"));
    cluster.apply(&[cluster.resource("f", json!({ "concurrency": 1 }))]);
    cluster.becomes("f", "True", "Registered");
    wait("delete");
    eventually("it is gone", || !is_there(&server, "f"));
}

#[test]
fn what_is_no_function_says_why() {
    let Some(cluster) = Cluster::with_resources("reasons") else { return };
    let server = cluster.server(&CRD);
    cluster.kubectl(&["create", "deployment", "fn-taken", "--image=x", "--replicas=0"]);
    cluster.apply(&[
        cluster.resource("invalid", json!({ "runtimeCommand": "say 'hello" })),
        cluster.resource("taken", json!({})),
        cluster.resource("missing", json!({ "image": "localhost:5009/none:1" })),
        cluster.resource("twin", json!({ "name": "invalid" })),
        json!({ "apiVersion": "nanofaas.dev/v1alpha1", "kind": "Function", "spec": { "executionMode": "LOCAL" },
            "metadata": { "name": "other", "labels": { "nanofaas.io/installation": "another" } } }),
        json!({ "apiVersion": "nanofaas.dev/v1alpha1", "kind": "Function", "spec": { "executionMode": "LOCAL" },
            "metadata": { "name": "local" } }),
    ]);
    let message = cluster.becomes("invalid", "False", "InvalidSpec");
    assert!(message.contains("runtimeCommand: must be shell-style words"), "{message}");
    let message = cluster.becomes("taken", "False", "CONFLICT");
    assert!(message.contains("Deployment fn-taken"), "{message}");
    let message = cluster.becomes("twin", "False", "CONFLICT");
    assert!(message.contains("the resource 'invalid', which is older"), "{message}");
    cluster.becomes("missing", "False", "IMAGE_REGISTRY_UNAVAILABLE");
    cluster.becomes("local", "True", "Registered");
    assert_eq!(cluster.find("other").expect("it is there")["status"], Value::Null);
    let names: Vec<Value> = server
        .get("/v1/functions")
        .json()
        .as_array()
        .expect("a list")
        .iter()
        .map(|f| f["name"].clone())
        .collect();
    assert_eq!(names, ["local"]);
    // The API says that there is a resource in the way.
    let mut spec = cluster.spec(json!({}));
    spec["name"] = "taken".into();
    let answer = server.send("POST", "/v1/functions", &spec);
    assert_eq!(answer.status, 409, "{}", answer.text());
    // A registration that fails leaves no resource.
    spec["name"] = "none".into();
    spec["image"] = "localhost:5009/none:1".into();
    let answer = server.send("POST", "/v1/functions", &spec);
    assert_eq!(answer.json()["error"], "IMAGE_REGISTRY_UNAVAILABLE", "{}", answer.text());
    assert!(cluster.find("none").is_none());
    // A change that is no function: the old one runs on.
    cluster.apply(&[cluster.resource("good", json!({}))]);
    cluster.becomes("good", "True", "Registered");
    cluster.apply(&[cluster.resource("good", json!({ "runtimeCommand": "say 'hello" }))]);
    let message = cluster.becomes("good", "False", "InvalidSpec");
    assert!(message.contains("runs on as it was"), "{message}");
    assert_eq!(server.invoke("good", json!(1)).status, 200);
    cluster.apply(&[cluster.resource("invalid", json!({ "runtimeCommand": null }))]);
    cluster.becomes("invalid", "True", "Registered");
}

#[test]
fn a_server_finds_what_happened_while_it_was_away() {
    let Some(cluster) = Cluster::with_resources("away-and-back") else { return };
    let data = DataDir::new();
    // Functions become resources when that is turned on.
    let server = cluster.durable(&data, &[]);
    let mut spec = cluster.spec(json!({ "scalingConfig": { "strategy": "NONE" } }));
    for name in ["deleted", "changed", "scaled", "same"] {
        spec["name"] = name.into();
        server.register(spec.clone());
    }
    server.kill();
    let server = cluster.durable(&data, &CRD);
    for name in ["deleted", "changed", "scaled", "same"] {
        cluster.becomes(name, "True", "Registered");
    }
    let pod_of = |name: &str| {
        let pods = cluster.pods().into_iter().filter(|pod| pod[0].starts_with(&format!("fn-{name}-")));
        pods.map(|pod| pod[1].clone()).collect::<Vec<_>>()
    };
    let same = pod_of("same");
    eventually("all have become resources", || {
        std::fs::read_to_string(data.path().join("resources"))
            .is_ok_and(|text| text.trim() == "away-and-back")
    });
    server.kill();
    cluster.kubectl(&["delete", "nf", "deleted"]);
    cluster.kubectl(&["patch", "nf", "changed", "--type=merge", "-p", r#"{"spec":{"concurrency":7}}"#]);
    cluster.kubectl(&["scale", "nf/scaled", "--replicas=2"]);
    cluster.apply(&[cluster.resource("new", json!({}))]);
    let server2 = cluster.durable(&data, &CRD);
    cluster.becomes("new", "True", "Registered");
    eventually("deleted is gone", || !is_there(&server2, "deleted"));
    eventually("and its Pods", || pod_of("deleted").is_empty());
    eventually("changed is changed", || server2.get("/v1/functions/changed").json()["concurrency"] == 7);
    eventually("scaled is scaled", || server2.get("/v1/functions/scaled/replicas").json()["ready"] == 2);
    cluster.becomes("changed", "True", "Registered");
    assert_eq!(pod_of("same"), same);
    // Without anything that was kept, resources say what there is, and Pods run on.
    server2.kill();
    let server3 = cluster.durable(&DataDir::new(), &CRD);
    for name in ["changed", "scaled", "same", "new"] {
        eventually("it is there", || is_there(&server3, name));
        assert_eq!(server3.invoke(name, json!(1)).status, 200);
    }
    assert_eq!(pod_of("same"), same);
}

#[test]
fn many_resources_at_once_all_become_functions() {
    let Some(cluster) = Cluster::with_resources("many") else { return };
    let count: usize =
        std::env::var("NANOFAAS_TEST_RESOURCES").map_or(100, |count| count.parse().expect("a number"));
    let server = cluster.server(&[CRD[0], "autoscaler.enabled=true"]);
    let requests = || -> f64 {
        let text = kubectl(&["get", "--raw", "/metrics"]);
        let of_ours = |line: &&str| {
            line.starts_with("apiserver_request_total{")
                && ["functions", "deployments", "services"]
                    .iter()
                    .any(|kind| line.contains(&format!("resource=\"{kind}\"")))
                && ["PATCH", "APPLY", "POST", "GET", "DELETE", "PUT"]
                    .iter()
                    .any(|verb| line.contains(&format!("verb=\"{verb}\"")))
        };
        let number =
            |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).unwrap_or(0.0);
        text.lines().filter(of_ours).map(number).sum()
    };
    let scaling = json!({ "strategy": "INTERNAL", "minReplicas": 0 });
    let objects: Vec<Value> = (0..count)
        .map(|number| cluster.resource(&format!("f{number}"), json!({ "scalingConfig": scaling })))
        .collect();
    let memory = || server.metric("process_resident_memory_bytes");
    let (before, memory_before, begun) = (requests(), memory(), Instant::now());
    cluster.apply(&objects);
    let applied = begun.elapsed();
    eventually_all(&cluster, count);
    let (seconds, all) = (begun.elapsed().as_secs_f64(), requests() - before);
    // One request of those is kubectl's.
    let each = all / count as f64;
    let kib = (memory() - memory_before) / 1024.0 / count as f64;
    println!(
        "{count} resources: applied in {:.1} s, all ready after {seconds:.1} s, {each:.1} requests and {kib:.1} KiB each",
        applied.as_secs_f64()
    );
    assert!(each < 25.0, "{each} requests each");
    assert_eq!(server.get("/v1/functions").json().as_array().map(Vec::len), Some(count));
    assert_eq!(server.invoke("f7", json!(1)).status, 200);
    cluster.kubectl(&["delete", "nf", "--all", "--wait=false"]);
    let begun = Instant::now();
    while !server.get("/v1/functions").json().as_array().is_some_and(Vec::is_empty) {
        assert!(begun.elapsed().as_secs() < 60 + count as u64, "functions are left");
        crate::support::pace(std::time::Duration::from_millis(200));
    }
}

/// Waits as long as so many take.
fn eventually_all(cluster: &Cluster, count: usize) {
    let begun = Instant::now();
    loop {
        let lines = cluster.kubectl(&["get", "nf", "--no-headers"]);
        let ready = lines.lines().filter(|line| line.split_whitespace().nth(1) == Some("True")).count();
        if ready == count {
            return;
        }
        assert!(begun.elapsed().as_secs() < 60 + count as u64, "{ready} of {count} are ready:\n{lines}");
        crate::support::pace(std::time::Duration::from_millis(200));
    }
}
