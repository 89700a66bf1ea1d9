//! The backend at a scripted API server: orders, adoption, and what the API server refuses.

use std::time::{Duration, Instant};

use nanofaas_backends::{Backend, BackendError, ImageProblem, ReplicaChange, ReplicaState};
use serde_json::json;

use crate::{
    api_server::{Fault, WatchFault},
    rig::{PATIENCE, Rig},
};

fn provisioning(result: Result<nanofaas_backends::Ensured, BackendError>) -> String {
    match result {
        Err(BackendError::Provisioning(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_function_is_a_deployment_with_what_belongs_to_it() {
    let rig = Rig::start();
    let ensured = rig.ensure("i", 2).unwrap();
    assert_eq!((ensured.desired, rig.ready(2).len()), (2, 2));
    assert_eq!(&**ensured.replicas[0].endpoint().unwrap(), "http://127.0.0.1:9/invoke");
    let deployment = rig.server.object("deployments", "fn-f").unwrap();
    assert_eq!(deployment["metadata"]["labels"]["nanofaas.io/installation"], "tests");
    let service = rig.server.object("services", "fn-f").unwrap();
    assert_eq!(service["metadata"]["ownerReferences"][0]["uid"], deployment["metadata"]["uid"]);
    // Asked first, then done; and the number of replicas has an owner of its own.
    assert_eq!(rig.server.count("dryRun=All"), 2);
    assert_eq!(rig.server.count("fieldManager=nanofaas-scaler"), 1);

    assert_eq!(rig.scale(4), Ok(4));
    let four = rig.ready(4);
    let pods = rig.pods();
    assert_eq!(rig.scale(1), Ok(1));
    assert_eq!(rig.ready(1), four[..1], "the newest go first");
    assert_eq!(rig.pods(), pods[..1]);
    assert_eq!(rig.server.count("/scale?"), 2);
    assert_eq!(rig.tear_down(), Ok(()));
    assert!(rig.is_empty());
    assert_eq!(rig.list(), Ok(Vec::new()));
    assert!(matches!(rig.scale(1), Err(BackendError::Unavailable(_))));
}

#[test]
fn what_the_api_server_refuses_is_never_made() {
    let rig = Rig::start();
    let sentence = "deployments.apps is forbidden: violates PodSecurity \"restricted:latest\"";
    rig.server.fail(Fault::Refuse("PATCH", "dryRun=All", 403, "Forbidden", sentence));
    assert!(provisioning(rig.ensure("i", 1)).contains(sentence));
    assert!(rig.is_empty());
    rig.server.fail(Fault::Refuse("PATCH", "dryRun=All", 422, "Invalid", "spec.template: Invalid value"));
    assert!(provisioning(rig.ensure("i", 1)).contains("Invalid value"));
    assert!(rig.is_empty());
    assert_eq!(rig.ensure("i", 1).unwrap().replicas.len(), 1);
}

#[test]
fn many_functions_at_once_are_not_as_many_requests_at_once() {
    let rig = Rig::start();
    let names: Vec<String> = (0..100).map(|number| format!("f{number}")).collect();
    names.iter().for_each(|name| rig.submit_with(name, "i", json!({}), 0));
    for name in &names {
        assert_eq!(rig.ensured_as(name).unwrap().desired, 0, "{name}");
    }
    // Those of the watches besides.
    let most = rig.server.connections_max();
    assert!(most < 2 * nanofaas_kubernetes::functions::TURNS, "{most} connections");
}

#[test]
fn what_may_pass_is_tried_again() {
    let rig = Rig::start();
    for (method, part, code, reason) in [
        ("PATCH", "dryRun=All", 429, "TooManyRequests"),
        ("PATCH", "/deployments/", 500, "InternalError"),
        ("PATCH", "/deployments/", 409, "Conflict"),
        ("PATCH", "/services/", 503, "ServiceUnavailable"),
        ("GET", "/deployments/", 504, "Timeout"),
    ] {
        rig.server.fail(Fault::Refuse(method, part, code, reason, "again"));
    }
    assert_eq!(rig.ensure("i", 1).unwrap().desired, 1);
    rig.server.fail(Fault::Refuse("PATCH", "/scale", 429, "TooManyRequests", "again"));
    let rights = "deployments.apps \"fn-f\" is forbidden: User \"nanofaas\" cannot patch resource \"deployments/scale\"";
    rig.server.fail(Fault::Refuse("PATCH", "/scale", 403, "Forbidden", rights));
    assert_eq!(rig.scale(2), Ok(2));
    rig.ready(2);
    rig.server.fail(Fault::Refuse("DELETE", "/deployments/", 500, "InternalError", "again"));
    assert_eq!(rig.tear_down(), Ok(()));
    assert!(rig.is_empty());
}

#[test]
fn why_pods_do_not_start_is_told_at_once() {
    let rig = Rig::start();
    for (image, expected) in [
        ("missing", Err(ImageProblem::NotFound)),
        ("secret", Err(ImageProblem::AuthRequired)),
        ("away", Err(ImageProblem::RegistryUnavailable)),
        ("config", Ok("secret \"keys\" not found")),
        ("root", Ok("image will run as root")),
        ("crash", Ok("exited with status 3; it wrote: fn-f-")),
        ("quota", Ok("FailedCreate: pods \"x\" is forbidden: exceeded quota: tight")),
    ] {
        let begun = Instant::now();
        let error = rig.ensure(image, 2).unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(4), "{image}: not at the time-out");
        match (error, expected) {
            (BackendError::Image { problem, text }, Err(expected)) => {
                assert_eq!(problem, expected);
                assert!(text.contains(image), "{text}");
            }
            (BackendError::Provisioning(text), Ok(part)) => assert!(text.contains(part), "{text}"),
            (error, _) => panic!("{image}: {error:?}"),
        }
        assert!(rig.is_empty(), "{image} leaves something");
    }
    // A node may come, so this one is waited for.
    let text = provisioning(rig.ensure("large", 1));
    assert!(text.contains("0 of 1 replicas") && text.contains("Insufficient memory"), "{text}");
    assert!(rig.is_empty());
}

#[test]
fn what_belongs_to_others_is_left_alone() {
    let rig = Rig::start();
    let of = |labels| json!({ "metadata": { "name": "fn-f", "uid": "theirs", "labels": labels } });
    rig.server.put("services", "fn-f", of(json!({ "team": "a" })));
    let Err(BackendError::Conflict(text)) = rig.ensure("i", 1) else { panic!("it was taken") };
    assert!(text.contains("Service fn-f is there already"), "{text}");
    rig.server.put("deployments", "fn-f", of(json!({ "nanofaas.io/installation": "staging" })));
    let Err(BackendError::Conflict(text)) = rig.ensure("i", 1) else { panic!("it was taken") };
    assert!(text.contains("Deployment fn-f belongs to the installation 'staging'"), "{text}");
    assert_eq!(rig.tear_down(), Ok(()));
    assert_eq!(rig.server.count("PATCH") + rig.server.count("DELETE"), 0);
    assert_eq!(rig.list(), Ok(Vec::new()));
}

#[test]
fn the_next_server_adopts_and_changes_nothing() {
    let first = Rig::start();
    first.ensure("i", 1).unwrap();
    first.scale(3).unwrap();
    let before = first.ready(3);
    first.backend.detach(PATIENCE);
    let changes = first.server.count("PATCH") + first.server.count("DELETE");
    let second = Rig::at(first.server.clone(), PATIENCE);
    let found = second.list().unwrap();
    assert_eq!((found[0].desired, &found[0].replicas), (3, &before));
    assert_eq!(found[0].labels.get("managed-by").map(|value| &**value), Some("nanofaas"));
    let asked = first.server.count("/fn-f");
    let ensured = second.ensure("i", 1).unwrap();
    assert_eq!(first.server.count("/fn-f"), asked, "what the watches tell is enough");
    assert_eq!(
        (ensured.desired, ensured.replicas),
        (3, before.clone()),
        "as they were, since when they were"
    );
    assert_eq!(first.server.count("PATCH") + first.server.count("DELETE"), changes);
    // Another version takes its place.
    let replaced = second.ensure("j", 1).unwrap();
    let ready = replaced.replicas.iter().filter(|replica| replica.endpoint().is_some());
    assert!(ready.clone().count() == 3 && ready.clone().all(|new| before.iter().all(|old| old.id != new.id)));
    second.ready(3);
    assert_eq!(second.tear_down(), Ok(()));
    assert!(second.is_empty());
}

#[test]
fn somebody_else_may_scale() {
    let rig = Rig::start();
    rig.ensure("i", 1).unwrap();
    let mut deployment = rig.server.object("deployments", "fn-f").unwrap();
    deployment["spec"]["replicas"] = 3.into();
    rig.server.put("deployments", "fn-f", deployment);
    rig.server.control("fn-f");
    rig.ready(3);
    rig.recorder.wait("three are wanted", |seen| (seen.desired == 3).then_some(()));
    assert_eq!(rig.list().unwrap()[0].desired, 3);
}

/// In any order: whoever the number of replicas belongs to has set it, and what else is applied does not touch it.
#[test]
fn failure_11_the_number_of_replicas_is_its_owners() {
    let mut seed = 11_u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let number = |rig: &Rig| rig.server.object("deployments", "fn-f").unwrap()["spec"]["replicas"].clone();
    for strategy in ["HPA", "NONE"] {
        let rig = Rig::start();
        let scaling =
            json!({ "scalingConfig": { "strategy": strategy, "minReplicas": 1, "maxReplicas": 5 } });
        let mut owned = 1;
        rig.ensure_with("i-0", scaling.clone(), owned).unwrap();
        for step in 1..=20 {
            match random(3) {
                // The owner: an autoscaler of the cluster, or the server.
                0 | 1 => {
                    owned = 1 + random(5) as u32;
                    match strategy {
                        "HPA" => rig.server.scale_as_autoscaler("fn-f", owned),
                        _ => assert_eq!(rig.scale(owned), Ok(owned)),
                    }
                    rig.recorder.wait("it is known", |seen| (seen.desired == owned).then_some(()));
                }
                // Another version, and one replica at least.
                _ => assert_eq!(
                    rig.ensure_with(&format!("i-{step}"), scaling.clone(), 1).unwrap().desired,
                    owned
                ),
            }
            assert_eq!(number(&rig), owned, "{strategy}, step {step}");
        }
    }
}

#[test]
fn what_somebody_deletes_comes_back() {
    let rig = Rig::start();
    rig.ensure("i", 1).unwrap();
    rig.scale(2).unwrap();
    let before = rig.ready(2);
    let uid = |rig: &Rig| Some(rig.server.object("deployments", "fn-f")?["metadata"]["uid"].clone());
    let old = uid(&rig);
    // Once it does not go well at first.
    rig.server.fail(Fault::Refuse("PATCH", "/services/", 500, "InternalError", "again"));
    assert!(rig.server.delete("deployments", "fn-f", None));
    rig.recorder.wait("there are others", |seen| {
        let ready: Vec<_> = seen.replicas.iter().filter(|replica| replica.endpoint().is_some()).collect();
        let is_new = ready.iter().all(|new| before.iter().all(|old| old.id != new.id));
        (ready.len() == 2 && is_new).then_some(())
    });
    assert!(uid(&rig).is_some() && uid(&rig) != old);
    // The next order finds all of it.
    assert_eq!(rig.scale(1), Ok(1));
    assert_eq!(rig.tear_down(), Ok(()));
    assert!(rig.is_empty());
}

/// All but the Deployment: a Service, and what the function has beside it.
#[test]
fn what_belongs_to_a_function_comes_back_when_somebody_deletes_it() {
    let rig = Rig::start();
    rig.ensure("i", 1).unwrap();
    assert_eq!(rig.server.count("/horizontalpodautoscalers?"), 0, "what nobody has is not watched");
    let scaling = json!({ "strategy": "HPA", "minReplicas": 2, "maxReplicas": 5 });
    rig.ensure_with("i", json!({ "scalingConfig": scaling }), 2).unwrap();
    for kind in ["services", "horizontalpodautoscalers", "poddisruptionbudgets"] {
        let deployment = rig.server.object("deployments", "fn-f").unwrap();
        // Once it does not go well at first.
        rig.server.fail(Fault::Refuse("PATCH", "/services/", 503, "ServiceUnavailable", "again"));
        assert!(rig.server.delete(kind, "fn-f", None));
        rig.server.wait_for(kind, 1);
        let owner = rig.server.object(kind, "fn-f").unwrap()["metadata"]["ownerReferences"][0]["uid"].clone();
        assert_eq!(owner, deployment["metadata"]["uid"]);
    }
    // Also what was deleted unheard, while the watch was not there.
    rig.server.remove_unheard("services", "fn-f");
    rig.server.fail(Fault::Watch("services", WatchFault::TooOld));
    rig.server.wait_for("services", 1);
    // What the function does not have any more does not come back, and neither does anything with the function gone.
    rig.ensure("i", 2).unwrap();
    rig.server.wait_for("horizontalpodautoscalers", 0);
    assert_eq!(rig.tear_down(), Ok(()));
    assert!(rig.is_empty());
    rig.backend.detach(PATIENCE);
    assert!(rig.is_empty());
}

#[test]
fn what_somebody_else_put_in_its_place_is_left_alone() {
    let rig = Rig::start();
    rig.ensure("i", 1).unwrap();
    let theirs = json!({ "metadata": { "name": "fn-f", "uid": "theirs", "labels": { "team": "a" } } });
    rig.server.replace("services", "fn-f", theirs.clone());
    // It is looked at, and that is all.
    rig.server.wait_for_requests("GET /api/v1/namespaces/default/services/fn-f", 2);
    assert_eq!(rig.scale(2), Ok(2));
    rig.ready(2);
    assert_eq!(rig.server.object("services", "fn-f").unwrap()["metadata"]["uid"], "theirs");
}

#[test]
fn failure_4_a_program_that_was_started_again_is_out_until_it_is_ready() {
    let rig = Rig::start();
    rig.ensure("i", 1).unwrap();
    let pod = rig.pods().remove(0);
    // All in one event: the kubelet tells less often than things happen.
    rig.server.change_pod(&pod, |pod| {
        let container = &mut pod["status"]["containerStatuses"][0];
        container["restartCount"] = 1.into();
        container["lastState"] = json!({ "terminated": { "exitCode": 137, "reason": "OOMKilled" } });
    });
    let reason = rig.recorder.wait("it failed", |seen| {
        seen.changes.iter().find_map(|change| match change {
            ReplicaChange::Now(replica) => match &replica.state {
                ReplicaState::Failed(reason) => Some(reason.to_string()),
                _ => None,
            },
            ReplicaChange::Gone(_) => None,
        })
    });
    assert!(reason.contains("137 (OOMKilled)"), "{reason}");
    rig.ready(1);
}

#[test]
fn a_replica_that_was_chosen_to_go_goes_when_another_went_in_its_place() {
    let rig = Rig::start();
    rig.ensure("i", 2).unwrap();
    let pods = rig.pods();
    // So the cluster does not know whom we mean, and chooses by itself: the newest, while we choose who is not ready.
    rig.server.fail(Fault::Refuse("PATCH", "/pods/", 403, "Forbidden", "pods may not be patched"));
    rig.server.change_pod(&pods[0], |pod| {
        pod["status"]["conditions"][0]["status"] = "False".into();
    });
    rig.ready(1);
    assert_eq!(rig.scale(1), Ok(1));
    let ready = rig.recorder.wait("another is ready", |seen| {
        let [only] = seen.replicas.as_slice() else { return None };
        only.endpoint().is_some().then(|| only.clone())
    });
    let left = rig.pods();
    assert!(left.len() == 1 && !pods.contains(&left[0]), "{left:?} of {pods:?}");
    assert_eq!(rig.server.object("pods", &left[0]).unwrap()["metadata"]["uid"], ready.id.as_str());
}

#[test]
fn a_replica_that_was_chosen_to_go_goes_when_the_cluster_keeps_it() {
    let rig = Rig::start();
    rig.ensure("i", 1).unwrap();
    let pods = rig.pods();
    let deployment = rig.server.objects("deployments")[0]["metadata"]["name"].as_str().unwrap().to_owned();
    // To the cluster, none and then one is no change at all.
    rig.server.send_controllers_to_sleep();
    assert_eq!((rig.scale(0), rig.scale(1)), (Ok(0), Ok(1)));
    rig.server.wait_for_requests(&format!("DELETE /api/v1/namespaces/default/pods/{}", pods[0]), 1);
    rig.server.wake_controllers(&deployment);
    rig.recorder.wait("another is ready", |seen| {
        let [only] = seen.replicas.as_slice() else { return None };
        only.endpoint().is_some().then_some(())
    });
    assert!(!rig.pods().contains(&pods[0]), "{:?}", rig.pods());
}

#[test]
fn detaching_ends_what_is_under_way() {
    let rig = Rig::start();
    rig.submit("large", 1);
    rig.server.wait_for("pods", 1);
    rig.backend.detach(PATIENCE);
    assert!(matches!(rig.ensured(), Err(BackendError::Unavailable(_))));
    assert!(matches!(rig.ensure("i", 1), Err(BackendError::Unavailable(_))));
    assert!(matches!(rig.list(), Err(BackendError::Unavailable(_))));
    assert_eq!(rig.pods().len(), 1, "what is there stays");
}
