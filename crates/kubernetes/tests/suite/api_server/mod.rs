//! A scripted API server: as much of Kubernetes as the backend uses, and the faults that a real one does not make on demand.
//!
//! It keeps objects as JSON, applies and patches them, lists and watches them, and plays the controllers itself: a Deployment
//! has its Pods at once, and what becomes of each is for a [`Kubelet`] to say. What only grows (numbers of requests, changes)
//! is never reset, so that tests can wait for it.

#![allow(dead_code, unused_imports, reason = "shared with the tests of all backends, which need no faults")]

mod http;
mod jobs;
mod meddling;
mod resources;
mod streams;
mod world;

use std::{
    io::BufReader,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use http::{begin, chunk, end, reply, request};
pub(crate) use world::become_state;
use world::{World, merge, status, timestamp};

/// Nothing that is waited for should take longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What becomes of a Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PodState {
    /// Its program takes calls at a port of this machine.
    Ready(u16),
    /// Its container waits, for this reason.
    Waiting(&'static str, &'static str),
    /// Its program ended with this status.
    Ended(i32),
    /// No node takes it.
    Unschedulable(&'static str),
}

/// Runs Pods, or plays it.
pub(crate) trait Kubelet: Send + Sync {
    /// A Pod is there.
    fn start(&self, pod: &Value) -> PodState;
    /// It is to go, within this time; calls `gone` when it is.
    fn stop(&self, uid: &str, grace: Duration, gone: Box<dyn FnOnce() + Send>);
    /// Sends what its program wrote, line by line, until that returns false or there is no more.
    fn log(&self, pod: &Value, tail: usize, follow: bool, line: &mut dyn FnMut(&str) -> bool);
}

/// Something that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The next request of this method whose path contains this is answered with a status, a reason and a sentence.
    Refuse(&'static str, &'static str, u16, &'static str, &'static str),
    /// The next watch of this kind, or the one that is under way.
    Watch(&'static str, WatchFault),
}

/// What goes wrong with a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WatchFault {
    /// It breaks off in the middle of a line.
    HalfALine,
    /// It says nothing any more.
    Silence,
    /// It is told that what it knows is too old.
    TooOld,
}

struct Inner {
    world: Mutex<World>,
    changed: Condvar,
    kubelet: Arc<dyn Kubelet>,
    address: SocketAddr,
    /// Connections that are open, and how many there ever were at once.
    connections: Mutex<[usize; 2]>,
}

/// See the module.
#[derive(Clone)]
pub(crate) struct ApiServer(Arc<Inner>);

impl ApiServer {
    pub(crate) fn start(kubelet: Arc<dyn Kubelet>) -> ApiServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Inner {
            world: Mutex::default(),
            changed: Condvar::new(),
            kubelet,
            address,
            connections: Mutex::default(),
        };
        let server = ApiServer(Arc::new(inner));
        let accepting = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if accepting.world().is_over {
                    return;
                }
                let server = accepting.clone();
                std::thread::spawn(move || {
                    let count = |by: isize| {
                        let mut counts = server.0.connections.lock().unwrap();
                        counts[0] = counts[0].saturating_add_signed(by);
                        counts[1] = counts[1].max(counts[0]);
                    };
                    count(1);
                    server.serve(stream);
                    count(-1);
                });
            }
        });
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.0.address)
    }

    /// How many connections there were at most at a time.
    pub(crate) fn connections_max(&self) -> usize {
        self.0.connections.lock().unwrap()[1]
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.world.lock().unwrap()
    }

    /// Something goes wrong from now on, once.
    pub(crate) fn fail(&self, fault: Fault) {
        self.world().faults.push_back(fault);
        self.0.changed.notify_all();
    }

    /// Requests so far that contain this.
    pub(crate) fn count(&self, part: &str) -> usize {
        self.world().requests.iter().filter(|request| request.contains(part)).count()
    }

    /// An object as it is.
    pub(crate) fn object(&self, kind: &str, name: &str) -> Option<Value> {
        self.world().objects.get(&(kind.to_owned(), name.to_owned())).cloned()
    }

    /// Objects of a kind.
    pub(crate) fn objects(&self, kind: &str) -> Vec<Value> {
        self.world()
            .objects
            .iter()
            .filter(|((of, _), _)| of == kind)
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// Waits until there are so many objects of a kind.
    pub(crate) fn wait_for(&self, kind: &str, count: usize) {
        let is_other = |world: &mut World| world.of(kind, "").count() != count;
        let waited = self.0.changed.wait_timeout_while(self.world(), PATIENCE, is_other);
        assert!(!waited.unwrap().1.timed_out(), "there are not {count} {kind}");
    }

    /// Puts an object there, as somebody else would.
    pub(crate) fn put(&self, kind: &str, name: &str, object: Value) {
        let mut world = self.world();
        world.store(kind, name, object, "ADDED");
        drop(world);
        self.0.changed.notify_all();
    }

    /// Changes a Pod, and tells watches of it.
    pub(crate) fn change_pod(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut pod = self.object("pods", name).unwrap();
        change(&mut pod);
        self.put("pods", name, pod);
        self.control_jobs();
    }

    /// Changes a Pod without a change that a watch could tell.
    pub(crate) fn change_unheard(&self, name: &str, change: impl FnOnce(&mut Value)) {
        change(self.world().objects.get_mut(&("pods".to_owned(), name.to_owned())).unwrap());
    }

    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some((method, path, body)) = request(&mut reader) {
            self.world().requests.push(format!("{method} {path}"));
            self.0.changed.notify_all();
            if !self.answer(&stream, &method, &path, &body) {
                return;
            }
        }
    }

    /// Answers a request; whether the connection goes on.
    fn answer(&self, stream: &TcpStream, method: &str, path: &str, body: &[u8]) -> bool {
        if let Some(fault) = self.refusal(method, path) {
            return reply(stream, fault.0, &fault.1);
        }
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let has = |word: &str| query.split('&').any(|part| part == word);
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let Some(at) = parts.iter().position(|part| *part == "namespaces") else {
            return reply(stream, 404, &status(404, "NotFound", "no such path"));
        };
        let rest = &parts[at + 2..];
        match (method, rest) {
            ("GET", [kind]) if has("watch=true") || has("watch=1") => {
                self.watch(stream, kind, query);
                false
            }
            ("GET", [kind]) => {
                let world = self.world();
                let items: Vec<Value> = world.of(kind, query).collect();
                let list = json!({
                    "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": world.version.to_string() },
                    "items": items,
                });
                drop(world);
                reply(stream, 200, &list)
            }
            ("GET", ["pods", name, "log"]) => {
                self.log(stream, name, query);
                false
            }
            ("GET", [kind, name]) => match self.object(kind, name) {
                Some(object) => reply(stream, 200, &object),
                None => reply(stream, 404, &status(404, "NotFound", &format!("{kind} \"{name}\" not found"))),
            },
            ("POST", ["functions"]) => {
                let result = self.create_function(serde_json::from_slice(body).unwrap());
                let (code, object) = result.map_or_else(|error| error, |object| (201, object));
                reply(stream, code, &object)
            }
            ("POST", [kind]) => {
                let object: Value = serde_json::from_slice(body).unwrap();
                match self.create(kind, object, has("dryRun=All")) {
                    Ok(object) => reply(stream, 201, &object),
                    Err(error) => reply(stream, 409, &error),
                }
            }
            ("PATCH", ["functions", name, part @ ..]) => {
                let patch: Value = serde_json::from_slice(body).unwrap();
                let result = self.apply_function(name, &patch, part.first().unwrap_or(&"spec"));
                let (code, object) = result.map_or_else(|error| error, |object| (200, object));
                reply(stream, code, &object)
            }
            ("PATCH", [kind, name]) => {
                let patch: Value = serde_json::from_slice(body).unwrap();
                let result = self.patch(kind, name, &patch, has("dryRun=All"), query);
                match result {
                    Ok(object) => reply(stream, 200, &object),
                    Err(error) => reply(stream, 404, &error),
                }
            }
            ("PATCH", ["deployments", name, "scale"]) if self.object("deployments", name).is_some() => {
                let patch: Value = serde_json::from_slice(body).unwrap();
                match self.patch("deployments", name, &patch, false, query) {
                    Ok(object) => {
                        let scale = json!({
                            "kind": "Scale", "apiVersion": "autoscaling/v1",
                            "metadata": { "name": name, "resourceVersion": object["metadata"]["resourceVersion"] },
                            "spec": { "replicas": object["spec"]["replicas"] },
                        });
                        reply(stream, 200, &scale)
                    }
                    Err(error) => reply(stream, 404, &error),
                }
            }
            ("DELETE", [kind, name]) => {
                let options: Value = serde_json::from_slice(body).unwrap_or_default();
                let grace = options["gracePeriodSeconds"].as_u64();
                let is_last = options["propagationPolicy"] == "Foreground";
                let was_there = match *kind {
                    "jobs" => self.delete_job(name, is_last),
                    _ => self.delete(kind, name, grace),
                };
                match was_there {
                    true => reply(
                        stream,
                        200,
                        &json!({ "kind": "Status", "apiVersion": "v1", "status": "Success" }),
                    ),
                    false => {
                        reply(stream, 404, &status(404, "NotFound", &format!("{kind} \"{name}\" not found")))
                    }
                }
            }
            _ => reply(stream, 405, &status(405, "MethodNotAllowed", "not scripted")),
        }
    }

    fn refusal(&self, method: &str, path: &str) -> Option<(u16, Value)> {
        let mut world = self.world();
        let position = world.faults.iter().position(
            |fault| matches!(fault, Fault::Refuse(of, part, ..) if *of == method && path.contains(part)),
        )?;
        match world.faults.remove(position)? {
            Fault::Refuse(_, _, code, reason, message) => Some((code, status(code, reason, message))),
            _ => None,
        }
    }

    /// Applies or merges, and has the controllers do what follows from it.
    fn patch(
        &self,
        kind: &str,
        name: &str,
        patch: &Value,
        is_dry: bool,
        query: &str,
    ) -> Result<Value, Value> {
        let mut world = self.world();
        let key = (kind.to_owned(), name.to_owned());
        let old = world.objects.get(&key).cloned();
        // Only applying makes what is not there.
        if old.is_none() && !query.contains("fieldManager=nanofaas") {
            return Err(status(404, "NotFound", &format!("{kind} \"{name}\" not found")));
        }
        let mut object = old.clone().unwrap_or_else(|| json!({ "metadata": {} }));
        merge(&mut object, patch);
        object["metadata"]["name"] = name.into();
        if is_dry {
            return Ok(object);
        }
        let is_new = old.is_none();
        if is_new {
            world.count += 1;
            object["metadata"]["uid"] = format!("uid-{}", world.count).into();
            object["metadata"]["creationTimestamp"] = timestamp().into();
            object["metadata"]["generation"] = 1.into();
        }
        if kind == "deployments" {
            if object["spec"]["replicas"].is_null() {
                object["spec"]["replicas"] = 1.into();
            }
            object["status"]["observedGeneration"] = 1.into();
        }
        let what = if is_new { "ADDED" } else { "MODIFIED" };
        let mut stored = world.store(kind, name, object, what);
        if kind == "pods" && is_new {
            stored = world.start(&*self.0.kubelet, name, stored);
        }
        drop(world);
        if kind == "deployments" {
            self.control(name);
        }
        self.0.changed.notify_all();
        Ok(stored)
    }

    /// Plays the controllers: a Deployment has as many Pods of its template as it should.
    pub(crate) fn control(&self, deployment: &str) {
        let mut stopped = Vec::new();
        let mut world = self.world();
        if world.is_uncontrolled {
            return;
        }
        let Some(object) = world.objects.get(&("deployments".to_owned(), deployment.to_owned())).cloned()
        else {
            return;
        };
        let template = &object["spec"]["template"];
        let image = template["spec"]["containers"][0]["image"].as_str().unwrap_or_default();
        if image.starts_with("quota") {
            let condition = json!({
                "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
                "message": "pods \"x\" is forbidden: exceeded quota: tight",
            });
            let mut object = object;
            object["status"]["conditions"] = json!([condition]);
            world.store("deployments", deployment, object, "MODIFIED");
            return;
        }
        let wanted = object["spec"]["replicas"].as_u64().unwrap_or(1) as usize;
        let is_live = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
        let of = |pod: &&Value| pod["metadata"]["deployment"] == deployment;
        let version = |pod: &Value| pod["metadata"]["labels"]["nanofaas.io/version"].clone();
        let is_current = |pod: &Value| version(pod) == version(template);
        let all: Vec<Value> = world.of("pods", "").collect();
        let live: Vec<&Value> = all.iter().filter(of).filter(is_live).collect();
        let mut current: Vec<&Value> = live.iter().copied().filter(|pod| is_current(pod)).collect();
        for _ in current.len()..wanted {
            world.count += 1;
            let name = format!("{deployment}-{}", world.count);
            let mut pod = template.clone();
            pod["metadata"]["name"] = name.as_str().into();
            pod["metadata"]["uid"] = format!("uid-{}", world.count).into();
            pod["metadata"]["creationTimestamp"] = timestamp().into();
            pod["metadata"]["deployment"] = deployment.into();
            pod["status"] = json!({ "phase": "Pending" });
            world.store("pods", &name, pod.clone(), "ADDED");
            world.start(&*self.0.kubelet, &name, pod);
        }
        // Those that cost less go first, then the newest.
        let cost = |pod: &Value| {
            let cost = &pod["metadata"]["annotations"]["controller.kubernetes.io/pod-deletion-cost"];
            cost.as_str().and_then(|cost| cost.parse::<i64>().ok()).unwrap_or(0)
        };
        let number =
            |pod: &Value| pod["metadata"]["uid"].as_str().map_or(0, |uid| uid[4..].parse::<u64>().unwrap());
        current.sort_by_key(|pod| (std::cmp::Reverse(cost(pod)), number(pod)));
        stopped.extend(
            current.iter().skip(wanted).map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()),
        );
        let old = live.iter().filter(|pod| !is_current(pod));
        stopped.extend(old.map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()));
        drop(world);
        for pod in stopped {
            self.delete("pods", &pod, None);
        }
        self.0.changed.notify_all();
    }

    /// Deletes something; whether it was there.
    pub(crate) fn delete(&self, kind: &str, name: &str, grace: Option<u64>) -> bool {
        let mut world = self.world();
        let Some(mut object) = world.objects.get(&(kind.to_owned(), name.to_owned())).cloned() else {
            return false;
        };
        match kind {
            "pods" => {
                let own = object["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap_or(30);
                let grace = grace.unwrap_or(own);
                object["metadata"]["deletionTimestamp"] = timestamp().into();
                object["metadata"]["deletionGracePeriodSeconds"] = grace.into();
                let uid = object["metadata"]["uid"].as_str().unwrap().to_owned();
                let deployment = object["metadata"]["deployment"].as_str().unwrap_or_default().to_owned();
                world.store(kind, name, object, "MODIFIED");
                drop(world);
                let (server, pod) = (self.clone(), name.to_owned());
                let gone = Box::new(move || {
                    server.remove("pods", &pod);
                    server.end_deployment(&deployment);
                    server.control(&deployment);
                    server.control_jobs();
                });
                self.0.kubelet.stop(&uid, Duration::from_secs(grace), gone);
            }
            "deployments" => {
                object["metadata"]["deletionTimestamp"] = timestamp().into();
                object["spec"]["replicas"] = 0.into();
                world.store(kind, name, object, "MODIFIED");
                drop(world);
                self.control(name);
                self.end_deployment(name);
            }
            _ => {
                drop(world);
                self.remove(kind, name);
            }
        }
        self.0.changed.notify_all();
        true
    }

    /// A Deployment that is being deleted is gone with its last Pod, and takes along what it owns.
    fn end_deployment(&self, name: &str) {
        let mut world = self.world();
        let Some(object) = world.objects.get(&("deployments".to_owned(), name.to_owned())) else { return };
        let is_ending = !object["metadata"]["deletionTimestamp"].is_null();
        if !is_ending || world.of("pods", "").any(|pod| pod["metadata"]["deployment"] == name) {
            return;
        }
        let uid = object["metadata"]["uid"].clone();
        let owned =
            world.objects.iter().filter(|(_, object)| object["metadata"]["ownerReferences"][0]["uid"] == uid);
        let owned: Vec<_> = owned.map(|(key, _)| key.clone()).collect();
        for (kind, name) in owned.into_iter().chain([("deployments".to_owned(), name.to_owned())]) {
            world.take(&kind, &name);
        }
        drop(world);
        self.0.changed.notify_all();
    }

    /// Removes an object at once.
    pub(crate) fn remove(&self, kind: &str, name: &str) {
        self.world().take(kind, name);
        self.0.changed.notify_all();
    }
}
