//! What somebody else does to the objects of a scripted API server, and what it is asked.

use serde_json::Value;

use super::{ApiServer, PATIENCE, world::World};

impl ApiServer {
    /// Puts an object in the place of another one: watches are told that the first is gone.
    pub(crate) fn replace(&self, kind: &str, name: &str, object: Value) {
        let mut world = self.world();
        world.take(kind, name);
        world.store(kind, name, object, "ADDED");
        drop(world);
        self.0.changed.notify_all();
    }

    /// Removes an object without a change that a watch could tell.
    pub(crate) fn remove_unheard(&self, kind: &str, name: &str) {
        self.world().objects.remove(&(kind.to_owned(), name.to_owned()));
        self.0.changed.notify_all();
    }

    /// Sets the number of replicas, as an autoscaler of the cluster does.
    pub(crate) fn scale_as_autoscaler(&self, deployment: &str, replicas: u32) {
        let mut object = self.object("deployments", deployment).unwrap();
        object["spec"]["replicas"] = replicas.into();
        self.put("deployments", deployment, object);
        self.control(deployment);
    }

    /// Controllers do nothing until they are woken: they are slower than who asks for things.
    pub(crate) fn send_controllers_to_sleep(&self) {
        self.world().is_uncontrolled = true;
    }

    /// Controllers look at what a Deployment has become meanwhile.
    pub(crate) fn wake_controllers(&self, deployment: &str) {
        self.world().is_uncontrolled = false;
        self.control(deployment);
    }

    /// Waits until there were so many requests that contain this.
    pub(crate) fn wait_for_requests(&self, part: &str, count: usize) {
        let is_less = |world: &mut World| {
            world.requests.iter().filter(|request| request.contains(part)).count() < count
        };
        let waited = self.0.changed.wait_timeout_while(self.world(), PATIENCE, is_less);
        assert!(!waited.unwrap().1.timed_out(), "there were not {count} requests {part}");
    }
}
