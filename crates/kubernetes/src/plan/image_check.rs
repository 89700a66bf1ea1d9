//! The Pod that finds out whether an image can be pulled. Its command is in no image: the image is pulled, the container does
//! not start, and nothing of the image runs.

use std::time::Duration;

use nanofaas_backends::Workload;
use serde_json::{Value, json};

use super::{CONTAINER, PlanSettings, pod};
use crate::names::{
    CHECKED_BY, CHECKS_FOR, INSTALLATION, MANAGED_BY, ORIGINAL, PURPOSE, PURPOSE_IMAGE_CHECK,
};

/// Not there.
const COMMAND: &str = "/nanofaas-image-check";

/// The Pod that checks the image of a function, on the nodes and with the credentials that its replicas would have. It ends
/// by itself after `limit`, also if nobody is left to remove it.
///
/// Nothing finds it that looks for replicas: it has no label of the function, by which Services select, and not the
/// annotation by which Pods are known as replicas.
pub fn image_check(
    workload: &Workload,
    settings: &PlanSettings,
    name: &str,
    server: &str,
    limit: Duration,
) -> Value {
    let spec = &workload.spec;
    let mut object = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {
                MANAGED_BY.0: MANAGED_BY.1,
                INSTALLATION: settings.installation,
                PURPOSE: PURPOSE_IMAGE_CHECK,
                ORIGINAL.0: ORIGINAL.1,
            },
            "annotations": { CHECKS_FOR: workload.name.as_str(), CHECKED_BY: server },
        },
        "spec": {
            "activeDeadlineSeconds": limit.as_secs().max(1),
            "automountServiceAccountToken": false,
            "containers": [{
                "name": CONTAINER,
                "image": spec.image,
                "imagePullPolicy": settings.image_pull_policy,
                "command": [COMMAND],
                // Enough to try to start; the same for requests, so that a quota which wants both takes it.
                "resources": {
                    "requests": { "cpu": "50m", "memory": "32Mi" },
                    "limits": { "cpu": "50m", "memory": "32Mi" },
                },
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "capabilities": { "drop": ["ALL"] },
                    "readOnlyRootFilesystem": true,
                    "runAsNonRoot": true,
                },
            }],
            "enableServiceLinks": false,
            "restartPolicy": "Never",
            "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
            "terminationGracePeriodSeconds": 0,
        },
    });
    pod::place(spec, &mut object["spec"]);
    object
}
