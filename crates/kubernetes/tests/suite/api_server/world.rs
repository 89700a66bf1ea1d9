//! What a scripted API server keeps.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use super::{Fault, Kubelet, PodState};

#[derive(Default)]
pub(super) struct World {
    pub(super) version: u64,
    /// By kind and name.
    pub(super) objects: BTreeMap<(String, String), Value>,
    /// Every change: its number, kind, type and object.
    pub(super) changes: Vec<(u64, String, &'static str, Value)>,
    pub(super) faults: VecDeque<Fault>,
    /// Method and path of each.
    pub(super) requests: Vec<String>,
    /// Ids so far.
    pub(super) count: u64,
    pub(super) is_over: bool,
    /// Controllers do nothing.
    pub(super) is_uncontrolled: bool,
}

impl World {
    pub(super) fn store(&mut self, kind: &str, name: &str, mut object: Value, what: &'static str) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        object["metadata"]["namespace"] = "default".into();
        self.objects.insert((kind.to_owned(), name.to_owned()), object.clone());
        self.changes.push((self.version, kind.to_owned(), what, object.clone()));
        object
    }

    /// A Pod becomes what the kubelet makes of it.
    pub(super) fn start(&mut self, kubelet: &dyn Kubelet, name: &str, mut pod: Value) -> Value {
        let state = kubelet.start(&pod);
        become_state(&mut pod, &state);
        self.store("pods", name, pod, "MODIFIED")
    }

    pub(super) fn take(&mut self, kind: &str, name: &str) {
        if let Some(mut object) = self.objects.remove(&(kind.to_owned(), name.to_owned())) {
            self.version += 1;
            object["metadata"]["resourceVersion"] = self.version.to_string().into();
            self.changes.push((self.version, kind.to_owned(), "DELETED", object));
        }
    }

    /// Objects of a kind that a query selects by their labels.
    pub(super) fn of(&self, kind: &str, query: &str) -> impl Iterator<Item = Value> {
        let selector = query.split('&').find_map(|part| part.strip_prefix("labelSelector="));
        let selector =
            selector.unwrap_or_default().replace("%3D", "=").replace("%2F", "/").replace("%2C", ",");
        let wanted: Vec<(String, String)> = selector
            .split(',')
            .filter_map(|term| term.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())))
            .collect();
        let kind = kind.to_owned();
        self.objects
            .iter()
            .filter(move |((of, _), object)| {
                let labels = &object["metadata"]["labels"];
                *of == kind && wanted.iter().all(|(key, value)| labels[key] == value.as_str())
            })
            .map(|(_, object)| object.clone())
    }
}

/// Sets the status of a Pod.
pub(crate) fn become_state(pod: &mut Value, state: &PodState) {
    let image = pod["spec"]["containers"][0]["image"].clone();
    let ready = if matches!(state, PodState::Ready(_)) { "True" } else { "False" };
    let container = |state: Value, restarts: u32| {
        json!([{
            "name": "function", "image": image, "imageID": "", "ready": ready == "True", "restartCount": restarts,
            "state": state,
        }])
    };
    let mut conditions = vec![json!({ "type": "Ready", "status": ready, "lastTransitionTime": timestamp() })];
    let (phase, containers) = match state {
        PodState::Ready(_) => ("Running", container(json!({ "running": { "startedAt": timestamp() } }), 0)),
        PodState::Waiting(reason, message) => {
            ("Pending", container(json!({ "waiting": { "reason": reason, "message": message } }), 0))
        }
        PodState::Ended(code) => {
            ("Running", container(json!({ "terminated": { "exitCode": code, "reason": "Error" } }), 0))
        }
        PodState::Unschedulable(message) => {
            conditions.push(json!({
                "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
            }));
            ("Pending", json!([]))
        }
    };
    pod["status"] = json!({
        "phase": phase, "conditions": conditions, "containerStatuses": containers, "podIP": "127.0.0.1",
    });
    // Such a Pod is over with its program.
    if let (PodState::Ended(code), "Never") =
        (state, pod["spec"]["restartPolicy"].as_str().unwrap_or_default())
    {
        pod["status"]["phase"] = if *code == 0 { "Succeeded" } else { "Failed" }.into();
    }
    if let PodState::Ready(port) = state
        && pod["spec"]["containers"][0]["ports"].is_array()
    {
        pod["spec"]["containers"][0]["ports"][0]["containerPort"] = (*port).into();
    }
}

pub(super) fn timestamp() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    // Days since 1970 as a date, by the usual formula for the civil calendar.
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest % 3600 / 60, rest % 60)
}

pub(super) fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message,
    })
}

/// What a merge patch does; applying is close enough to that, but for lists and what is left out.
pub(super) fn merge(object: &mut Value, patch: &Value) {
    match (object, patch) {
        (Value::Object(members), Value::Object(changes)) => {
            for (name, change) in changes {
                if change.is_null() {
                    members.remove(name);
                } else {
                    merge(members.entry(name.clone()).or_insert(Value::Null), change);
                }
            }
        }
        (object, patch) => *object = patch.clone(),
    }
}
