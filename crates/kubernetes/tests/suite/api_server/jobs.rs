//! Objects that are created, and what becomes of Jobs: each has one Pod, and ends with it.

use serde_json::{Value, json};

use super::{ApiServer, status, timestamp};

impl ApiServer {
    /// Makes an object that must not be there, or says whether it could be made.
    pub(super) fn create(&self, kind: &str, mut object: Value, is_dry: bool) -> Result<Value, Value> {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let mut world = self.world();
        if world.objects.contains_key(&(kind.to_owned(), name.clone())) {
            return Err(status(409, "AlreadyExists", &format!("{kind} \"{name}\" already exists")));
        }
        if is_dry {
            return Ok(object);
        }
        world.count += 1;
        object["metadata"]["uid"] = format!("uid-{}", world.count).into();
        object["metadata"]["creationTimestamp"] = timestamp().into();
        let made = world.store(kind, &name, object, "ADDED");
        // Without room there is a Job, and never a Pod of it.
        let is_refused = made["spec"]["template"]["spec"]["containers"][0]["image"] == "no-room";
        if kind == "jobs" && !is_refused {
            let mut pod = made["spec"]["template"].clone();
            world.count += 1;
            let pod_name = format!("{name}-{}", world.count);
            pod["metadata"]["name"] = pod_name.as_str().into();
            pod["metadata"]["uid"] = format!("uid-{}", world.count).into();
            pod["metadata"]["creationTimestamp"] = timestamp().into();
            pod["metadata"]["ownerReferences"] = json!([{
                "apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": made["metadata"]["uid"],
            }]);
            pod["status"] = json!({ "phase": "Pending" });
            world.store("pods", &pod_name, pod.clone(), "ADDED");
            world.start(&*self.0.kubelet, &pod_name, pod);
        }
        drop(world);
        self.control_jobs();
        self.0.changed.notify_all();
        Ok(made)
    }

    /// A Job ends with its Pod, and one that is being deleted is gone after that.
    pub(crate) fn control_jobs(&self) {
        let mut world = self.world();
        let pods: Vec<Value> = world.of("pods", "").collect();
        let jobs: Vec<Value> = world.of("jobs", "").collect();
        for mut job in jobs {
            let name = job["metadata"]["name"].as_str().unwrap().to_owned();
            let uid = job["metadata"]["uid"].clone();
            let mut of_job = pods.iter().filter(|pod| pod["metadata"]["ownerReferences"][0]["uid"] == uid);
            let phase = of_job.clone().find_map(|pod| pod["status"]["phase"].as_str());
            if !job["metadata"]["deletionTimestamp"].is_null() && of_job.next().is_none() {
                world.take("jobs", &name);
                continue;
            }
            let condition = match phase {
                Some("Succeeded") => json!({ "type": "Complete", "status": "True" }),
                Some("Failed") => json!({
                    "type": "Failed", "status": "True", "reason": "BackoffLimitExceeded",
                    "message": "Job has reached the specified backoff limit",
                }),
                _ => continue,
            };
            if job["status"]["conditions"].is_null() {
                job["status"]["conditions"] = json!([condition]);
                world.store("jobs", &name, job, "MODIFIED");
            }
        }
        drop(world);
        self.0.changed.notify_all();
    }

    /// Deletes a Job with all that it owns, or that first; whether it was there.
    pub(crate) fn delete_job(&self, name: &str, is_last: bool) -> bool {
        let mut world = self.world();
        let key = ("jobs".to_owned(), name.to_owned());
        let Some(mut job) = world.objects.get(&key).cloned() else { return false };
        let uid = job["metadata"]["uid"].clone();
        let owned =
            world.objects.iter().filter(|(_, object)| object["metadata"]["ownerReferences"][0]["uid"] == uid);
        let owned: Vec<(String, String)> = owned.map(|(key, _)| key.clone()).collect();
        if is_last {
            job["metadata"]["deletionTimestamp"] = timestamp().into();
            world.store("jobs", name, job, "MODIFIED");
        } else {
            world.take("jobs", name);
        }
        drop(world);
        for (kind, name) in owned {
            self.delete(&kind, &name, None);
        }
        self.control_jobs();
        true
    }
}
