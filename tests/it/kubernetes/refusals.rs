//! Functions that cannot run: the registration says why, at once, and nothing is left.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Cluster, kubectl};
use crate::support::{Server, eventually};

#[track_caller]
fn refused(cluster: &Cluster, server: &Server, changes: Value, expected: (u16, &str), text: &str) {
    let answer = server.send("POST", "/v1/functions", &cluster.spec(changes));
    let error = answer.expect_error(expected.0, expected.1);
    assert!(error.to_string().contains(text), "{error}");
    assert_eq!(server.get("/v1/functions/f").status, 404);
    eventually("nothing is left", || {
        cluster.kubectl(&["get", "deployments,services,pods", "-o", "name"]).trim().is_empty()
    });
}

/// The cluster has two registries, one of them with a password.
#[test]
fn failure_1_images_that_cannot_be_had() {
    let Some(cluster) = Cluster::for_test("images") else { return };
    cannot_be_had(&cluster, &cluster.server(&[]));
}

/// The same, and one that can be had runs.
#[test]
fn images_that_are_checked_first() {
    let Some(cluster) = Cluster::for_test("checked") else { return };
    kubectl(&["label", "namespace", "checked", "pod-security.kubernetes.io/enforce=restricted"]);
    let server = cluster.server(&["image-validator.enabled=true"]);
    cannot_be_had(&cluster, &server);
    server.register(cluster.spec(json!({})));
    assert_eq!(server.invoke("f", json!(1)).status, 200);
    assert_eq!(
        cluster.kubectl(&["get", "pods", "-o", "name"]).lines().count(),
        1,
        "the Pod of the check is gone"
    );
    let events = cluster.kubectl(&["get", "events", "-o", "name"]);
    assert!(events.contains("event/check-f-"), "it was checked: {events}");
}

#[track_caller]
fn cannot_be_had(cluster: &Cluster, server: &Server) {
    for (image, status, code) in [
        ("registry:5000/nothing:1", 422, "IMAGE_NOT_FOUND"),
        ("registry:5001/secret:1", 424, "IMAGE_PULL_AUTH_REQUIRED"),
        ("registry:5999/away:1", 503, "IMAGE_REGISTRY_UNAVAILABLE"),
        ("UPPER:1", 422, "IMAGE_NOT_FOUND"),
    ] {
        let begun = Instant::now();
        refused(cluster, server, json!({ "image": image }), (status, code), image);
        assert!(begun.elapsed() < Duration::from_secs(15), "{image}: not at the time-out");
    }
    let events =
        ["get", "events", "-o", "jsonpath={.items[?(@.involvedObject.kind==\"Deployment\")].reason}"];
    eventually("Events on the Deployment say so", || {
        let reasons = cluster.kubectl(&events);
        let of_images = ["ImageNotFound", "ImagePullAuthRequired", "ImageRegistryUnavailable"];
        of_images.iter().all(|reason| reasons.contains(reason))
    });
}

#[test]
fn failure_2_pods_that_the_cluster_does_not_take() {
    let Some(cluster) = Cluster::for_test("refusals") else { return };
    let server = cluster.server(&["deployment.ready-timeout=8s"]);
    let provisioning = (503, "PROVISIONING_FAILED");
    let ends = json!({ "runtimeCommand": "exit" });
    refused(&cluster, &server, ends, provisioning, "exited with status 3");
    let volume = json!({ "name": "v", "mountPath": "/v", "configMap": { "name": "missing" } });
    refused(&cluster, &server, json!({ "volumes": [volume] }), provisioning, "0 of 1 replicas");
    let large = json!({ "resources": { "cpu": "1000" } });
    refused(&cluster, &server, large, provisioning, "Insufficient cpu");
    cluster.kubectl(&["create", "quota", "tight", "--hard=pods=0"]);
    refused(&cluster, &server, json!({}), provisioning, "exceeded quota: tight");
}

/// The strictest rules that Kubernetes has.
#[test]
fn functions_keep_to_restricted_pod_security() {
    let Some(cluster) = Cluster::for_test("restricted") else { return };
    kubectl(&["label", "namespace", "restricted", "pod-security.kubernetes.io/enforce=restricted"]);
    let server = cluster.server(&[]);
    server.register(cluster.spec(json!({})));
    assert_eq!(server.invoke("f", json!(1)).status, 200);
}

#[test]
fn what_another_installation_has_is_a_conflict() {
    let Some(cluster) = Cluster::for_test("conflict") else { return };
    let (ours, theirs) = (cluster.server(&[]), cluster.server(&["k8s.installation=staging"]));
    ours.register(cluster.spec(json!({})));
    let answer = theirs.send("POST", "/v1/functions", &cluster.spec(json!({})));
    let error = answer.expect_error(409, "CONFLICT");
    assert!(error.to_string().contains("belongs to the installation 'nanofaas'"), "{error}");
    assert_eq!(ours.invoke("f", json!(1)).status, 200);
}
