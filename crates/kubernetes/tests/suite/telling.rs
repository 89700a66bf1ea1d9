//! What went wrong is told by Events, which nothing waits for.

use serde_json::{Value, json};

use crate::{api_server::Fault, rig::Rig};

fn told(rig: &Rig) -> Vec<Value> {
    rig.server.objects("events")
}

#[test]
fn what_went_wrong_is_an_event_on_the_deployment() {
    let rig = Rig::start();
    rig.ensure("missing", 1).unwrap_err();
    rig.server.wait_for("events", 1);
    let event = told(&rig).remove(0);
    assert_eq!((&event["reason"], &event["type"]), (&json!("ImageNotFound"), &json!("Warning")));
    assert_eq!(
        (&event["regarding"]["kind"], &event["regarding"]["name"]),
        (&json!("Deployment"), &json!("fn-f"))
    );
    assert!(event["note"].as_str().unwrap().contains("missing"), "{event}");
    // Again, which is no news; and another one, whose Deployment is there.
    rig.ensure("missing", 1).unwrap_err();
    rig.ensure("i", 1).unwrap();
    let pod = rig.pods().remove(0);
    for _ in 0..2 {
        rig.server.change_pod(&pod, |pod| {
            pod["status"]["conditions"][0]["status"] = "False".into();
            pod["status"]["containerStatuses"][0]["state"] = json!({ "terminated": { "exitCode": 3 } });
        });
        rig.ready(0);
        rig.server.change_pod(&pod, |pod| pod["status"]["conditions"][0]["status"] = "True".into());
        rig.ready(1);
    }
    rig.server.wait_for("events", 2);
    let uid = rig.server.object("deployments", "fn-f").unwrap()["metadata"]["uid"].clone();
    let event = told(&rig).into_iter().find(|event| event["reason"] == "ReplicaFailed").unwrap();
    assert_eq!(event["regarding"]["uid"], uid);
    assert!(event["note"].as_str().unwrap().contains("status 3"), "{event}");
}

#[test]
fn nothing_waits_for_an_event() {
    let rig = Rig::start();
    rig.server.fail(Fault::Refuse("POST", "/events", 403, "Forbidden", "events may not be created"));
    rig.ensure("missing", 1).unwrap_err();
    assert_eq!(rig.ensure("i", 1).unwrap().desired, 1);
    rig.server.wait_for_requests("POST /apis/events.k8s.io/v1/namespaces/default/events", 1);
    assert_eq!(told(&rig), [Value::Null; 0]);
}
