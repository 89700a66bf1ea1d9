//! What a registration says about Pods.

use super::*;

#[test]
fn violations_about_pods() {
    let object = "must be the name of an object: lower-case letters, digits, '-' and '.'";
    let path = "must be a path such as /health, or empty: then an open port is enough";
    let key = "the key must match (prefix/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?";
    let value = "must be the value of a label: at most 63 letters, digits, '-', '_' and '.'";
    let volume = |changes: Value| {
        let mut volume = json!({"name": "v", "mountPath": "/v", "emptyDir": {}});
        volume.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        json!({"volumes": [volume]})
    };
    let sources = "must have exactly one of configMap, secret, emptyDir, persistentVolumeClaim";
    let toleration = "is required, except with operator Exists: then it stands for every taint";
    for (members, detail) in [
        (json!({"containerPort": 0}), "containerPort: must be greater than or equal to 1".to_owned()),
        (json!({"containerPort": 65_536}), "containerPort: must be less than or equal to 65535".to_owned()),
        (json!({"healthPath": "health"}), format!("healthPath: {path}")),
        (json!({"healthPath": "/a b"}), format!("healthPath: {path}")),
        (json!({"readOnlyRootFilesystem": "no"}), "readOnlyRootFilesystem: must be true or false".to_owned()),
        (json!({"serviceAccountName": "A"}), format!("serviceAccountName: {object}")),
        (json!({"nodeSelector": {"a b": "c"}}), format!("nodeSelector.a b: {key}")),
        (json!({"nodeSelector": {"a": "-"}}), format!("nodeSelector.a: {value}")),
        (json!({"labels": {"Example.org/a": "b"}}), format!("labels.Example.org/a: {key}")),
        (json!({"labels": {"app": "b"}}), "labels.app: is set by the server".to_owned()),
        (
            json!({"annotations": {"nanofaas.io/x": "b"}}),
            "annotations.nanofaas.io/x: is set by the server".to_owned(),
        ),
        (json!({"tolerations": [{"effect": "NoExecute"}]}), format!("tolerations[0].key: {toleration}")),
        (
            json!({"tolerations": [{"key": "a", "effect": "No"}]}),
            "tolerations[0].effect: must be one of NoSchedule, PreferNoSchedule, NoExecute".to_owned(),
        ),
        (
            json!({"topologySpreadConstraints": [{}]}),
            "topologySpreadConstraints[0].topologyKey: is required".to_owned(),
        ),
        (volume(json!({"emptyDir": null})), format!("volumes[0]: {sources}")),
        (volume(json!({"secret": {"secretName": "s"}})), format!("volumes[0]: {sources}")),
        (
            volume(json!({"emptyDir": null, "configMap": {}})),
            "volumes[0].configMap.name: is required".to_owned(),
        ),
        (
            volume(json!({"emptyDir": {"medium": "Disk"}})),
            "volumes[0].emptyDir.medium: must be one of Memory".to_owned(),
        ),
        (
            volume(json!({"mountPath": "v"})),
            "volumes[0].mountPath: must be an absolute path without ':'".to_owned(),
        ),
        (
            volume(json!({"mountPath": format!("{}/", "/tmp")})),
            "volumes[0].mountPath: must not be /tmp, where every replica has an empty folder".to_owned(),
        ),
        (
            volume(json!({"subPath": "a/../.."})),
            "volumes[0].subPath: must be a path inside the volume".to_owned(),
        ),
        (
            json!({"resources": {"limits": {"cpu": "x"}}}),
            "resources.limits.cpu: must be a Kubernetes quantity such as 250m".to_owned(),
        ),
    ] {
        assert_eq!(violations_on(&pool(&members).to_string(), &SERVER), [detail], "{members}");
    }
    let one = json!({"name": "v", "mountPath": "/v", "emptyDir": {}});
    assert_eq!(
        violations_on(&pool(&json!({"volumes": [one, one]})).to_string(), &SERVER),
        [
            "volumes[1].name: is the name of another volume, too",
            "volumes[1].mountPath: is where another volume is mounted, too"
        ]
    );
    let host = volume(json!({"emptyDir": null, "hostPath": {"path": "/"}}));
    assert_eq!(violations_on(&pool(&host).to_string(), &SERVER), [format!("volumes[0]: {sources}")]);
}
