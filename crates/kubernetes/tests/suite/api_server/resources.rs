//! Resources `Function`, of which the API server checks what the server relies on: ids, revisions and generations.

use serde_json::{Value, json};

use super::{
    ApiServer,
    world::{merge, status, timestamp},
};

const KIND: &str = "functions";

impl ApiServer {
    /// Makes one, as kubectl would too.
    pub(crate) fn create_function(&self, mut object: Value) -> Result<Value, (u16, Value)> {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let mut world = self.world();
        if world.objects.contains_key(&(KIND.to_owned(), name.clone())) {
            let message = format!("functions.nanofaas.dev \"{name}\" already exists");
            return Err((409, status(409, "AlreadyExists", &message)));
        }
        world.count += 1;
        object["metadata"]["uid"] = format!("uid-{}", world.count).into();
        object["metadata"]["creationTimestamp"] = timestamp().into();
        object["metadata"]["generation"] = 1.into();
        let stored = world.store(KIND, &name, object, "ADDED");
        drop(world);
        self.0.changed.notify_all();
        Ok(stored)
    }

    /// Applies to its spec, or to its status.
    pub(super) fn apply_function(
        &self,
        name: &str,
        patch: &Value,
        part: &str,
    ) -> Result<Value, (u16, Value)> {
        let mut world = self.world();
        let old = world.objects.get(&(KIND.to_owned(), name.to_owned())).cloned();
        let Some(mut object) = old else {
            return Err((404, status(404, "NotFound", &format!("functions \"{name}\" not found"))));
        };
        for field in ["uid", "resourceVersion"] {
            let given = &patch["metadata"][field];
            if !given.is_null() && *given != object["metadata"][field] {
                return Err((409, status(409, "Conflict", &format!("the {field} is another one"))));
            }
        }
        let before = object["spec"].clone();
        match part {
            "status" => object["status"] = patch["status"].clone(),
            _ => merge(&mut object["spec"], &patch["spec"]),
        }
        if object["spec"] != before {
            let generation = object["metadata"]["generation"].as_u64().unwrap();
            object["metadata"]["generation"] = json!(generation + 1);
        }
        let stored = world.store(KIND, name, object, "MODIFIED");
        drop(world);
        self.0.changed.notify_all();
        Ok(stored)
    }

    /// Deletes one without a change that a watch could tell.
    pub(crate) fn delete_unheard(&self, name: &str) {
        self.world().objects.remove(&(KIND.to_owned(), name.to_owned()));
    }
}
