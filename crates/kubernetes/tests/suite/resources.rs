//! Functions as resources at a scripted API server: what fails leaves both the same.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::{FutureExt, future::BoxFuture};
use nanofaas_kubernetes::{
    WatchLimits,
    access::Access,
    resources::{Registry, Replicas, ResourceOptions, Resources, table::Registered},
};
use nanofaas_wire::{
    error::ApiError,
    function::{FunctionSpec, Registration},
};
use serde_json::{Value, json};

use crate::{
    api_server::{ApiServer, Fault, WatchFault},
    golden::REGISTRATION,
    rig::{PATIENCE, start_server},
};

/// Functions of a server that does nothing else.
#[derive(Default)]
struct Functions {
    all: Mutex<BTreeMap<String, FunctionSpec>>,
    announced: Mutex<Option<Vec<String>>>,
}

impl Functions {
    fn has(&self, name: &str) -> bool {
        self.all.lock().unwrap().contains_key(name)
    }
}

impl Registry for Functions {
    fn registration(&self) -> Registration {
        REGISTRATION
    }
    fn find(&self, function: &str) -> BoxFuture<'static, Result<Option<Registered>, ApiError>> {
        let found = self.all.lock().unwrap().get(function).cloned();
        async move { Ok(found.map(|spec| Registered { spec, replicas: None })) }.boxed()
    }
    fn all(&self) -> BoxFuture<'static, Result<BTreeMap<String, Replicas>, ApiError>> {
        let all = self.all.lock().unwrap().keys().map(|name| (name.clone(), None)).collect();
        async move { Ok(all) }.boxed()
    }
    fn register(&self, spec: FunctionSpec) -> BoxFuture<'static, Result<Vec<u8>, ApiError>> {
        let result = match spec.image.as_deref() {
            Some("missing") => Err(ApiError::conflict("somebody has it".to_owned())),
            _ => Ok(spec.document().to_vec()),
        };
        if result.is_ok() {
            self.all.lock().unwrap().insert(spec.name.clone(), spec);
        }
        async move { result }.boxed()
    }
    fn remove(&self, function: &str) -> BoxFuture<'static, Result<(), ApiError>> {
        let removed = self.all.lock().unwrap().remove(function);
        let missing = ApiError::NotFound(function.to_owned());
        async move { removed.map(drop).ok_or(missing) }.boxed()
    }
    fn scale(&self, _: &str, replicas: u32) -> BoxFuture<'static, Result<u32, ApiError>> {
        async move { Ok(replicas) }.boxed()
    }
    fn announce(&self, functions: Vec<String>) {
        *self.announced.lock().unwrap() = Some(functions);
    }
}

struct Play {
    server: ApiServer,
    functions: Arc<Functions>,
    resources: Resources,
}

impl Play {
    fn start() -> Play {
        Play::at(start_server(), Arc::default(), None)
    }

    fn at(server: ApiServer, functions: Arc<Functions>, mark: Option<PathBuf>) -> Play {
        let options = ResourceOptions {
            access: Access::Plain(server.url()),
            namespace: None,
            installation: "here".to_owned(),
            api_url: None,
            mark,
            limits: WatchLimits::default(),
        };
        let registry: Arc<dyn Registry> = Arc::<Functions>::clone(&functions);
        Play { server, functions, resources: Resources::start(options, registry).unwrap() }
    }

    /// Once all has been listed.
    fn begun(self) -> Play {
        eventually("it has begun", || self.functions.announced.lock().unwrap().is_some());
        self
    }

    fn register(&self, name: &str, image: &str) -> Result<Vec<u8>, ApiError> {
        block_on(self.resources.register(spec(name, image)))
    }

    fn put(&self, name: &str, image: &str) {
        self.server.create_function(resource(name, image)).unwrap();
    }

    fn ready(&self, name: &str) -> [String; 2] {
        let object = self.server.object("functions", name).unwrap_or_default();
        let ready = &object["status"]["conditions"][0];
        ["status", "reason"].map(|field| ready[field].as_str().unwrap_or_default().to_owned())
    }

    fn becomes(&self, name: &str, status: &str, reason: &str) {
        eventually(&format!("{name} is {status} {reason}"), || self.ready(name) == [status, reason]);
    }
}

fn spec(name: &str, image: &str) -> FunctionSpec {
    let body = json!({ "name": name, "image": image });
    FunctionSpec::parse(body.to_string().as_bytes(), &REGISTRATION).unwrap()
}

fn resource(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "nanofaas.dev/v1alpha1", "kind": "Function",
        "metadata": { "name": name }, "spec": { "image": image },
    })
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn status_of(error: &ApiError) -> u16 {
    error.answer().status.as_u16()
}

#[test]
fn a_resource_that_cannot_be_written_registers_nothing() {
    let play = Play::start().begun();
    for (code, reason, expected) in [
        (503, "ServiceUnavailable", 503),
        (403, "Forbidden", 503),
        (404, "NotFound", 503),
        (409, "AlreadyExists", 409),
        (422, "Invalid", 400),
    ] {
        play.server.fail(Fault::Refuse("POST", "/functions", code, reason, "for a test"));
        let error = play.register("f", "i").unwrap_err();
        assert_eq!(status_of(&error), expected, "{code} {error}");
        assert!(!play.functions.has("f") && play.server.objects("functions").is_empty());
    }
    play.register("f", "i").unwrap();
    play.becomes("f", "True", "Registered");
    assert_eq!(status_of(&play.register("f", "i").unwrap_err()), 409);
    // Nor is one that cannot be deleted removed.
    play.server.fail(Fault::Refuse("DELETE", "/functions/f", 403, "Forbidden", "for a test"));
    assert_eq!(status_of(&block_on(play.resources.remove("f")).unwrap_err()), 503);
    assert!(play.functions.has("f"));
    block_on(play.resources.remove("f")).unwrap();
    assert!(!play.functions.has("f") && play.server.objects("functions").is_empty());
}

#[test]
fn a_registration_that_fails_takes_its_resource_back() {
    let play = Play::start().begun();
    assert_eq!(status_of(&play.register("f", "missing").unwrap_err()), 409);
    assert!(play.server.objects("functions").is_empty());
    // It cannot: then the resource says what is the matter, and is in the way.
    play.server.fail(Fault::Refuse("DELETE", "/functions/f", 403, "Forbidden", "for a test"));
    assert_eq!(status_of(&play.register("f", "missing").unwrap_err()), 409);
    play.becomes("f", "False", "CONFLICT");
    let error = play.register("f", "i").unwrap_err();
    assert!(error.to_string().contains("kubectl describe nf f"), "{error}");
}

#[test]
fn nothing_is_removed_or_changed_before_everything_is_listed() {
    let server = start_server();
    let folder = std::env::temp_dir().join(format!("nanofaas-resources-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mark = folder.join("resources");
    std::fs::write(&mark, "default\n").unwrap();
    let functions = Arc::<Functions>::default();
    for name in ["gone", "there"] {
        block_on(functions.register(spec(name, "i"))).unwrap();
    }
    server.create_function(resource("there", "i")).unwrap();
    for _ in 0..4 {
        server.fail(Fault::Refuse("GET", "/functions?", 503, "ServiceUnavailable", "not yet"));
    }
    let play = Play::at(server, functions, Some(mark));
    eventually("it was refused twice", || play.server.count("GET") >= 2);
    assert!(play.functions.has("gone") && play.functions.announced.lock().unwrap().is_none());
    assert_eq!(status_of(&play.register("new", "i").unwrap_err()), 503);
    let play = play.begun();
    assert_eq!(*play.functions.announced.lock().unwrap(), Some(vec!["there".to_owned()]));
    eventually("it is gone", || !play.functions.has("gone"));
    play.becomes("there", "True", "Registered");
    assert!(play.functions.has("there"));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_was_registered_before_there_were_resources_becomes_one() {
    let server = start_server();
    let functions = Arc::<Functions>::default();
    block_on(functions.register(spec("Old_One", "i"))).unwrap();
    let play = Play::at(server, functions, None).begun();
    eventually("there is a resource", || play.server.objects("functions").len() == 1);
    let written = play.server.objects("functions").remove(0);
    assert_eq!(written["spec"]["name"], "Old_One");
    let name = written["metadata"]["name"].as_str().unwrap().to_owned();
    play.becomes(&name, "True", "Registered");
    // From now on it is one like all others.
    play.server.delete("functions", &name, None);
    eventually("it is gone", || !play.functions.has("Old_One"));
}

#[test]
fn of_two_servers_one_has_a_resource() {
    let play = Play::start().begun();
    // Another one claims it in between.
    play.server.fail(Fault::Refuse("PATCH", "/functions/f/status", 409, "Conflict", "it has changed"));
    let mut object = resource("f", "i");
    play.put("f", "i");
    eventually("it was refused", || play.server.count("PATCH") > 0);
    object = play.server.object("functions", "f").unwrap_or(object);
    object["status"] = json!({ "installation": "there", "conditions": [] });
    play.server.put("functions", "f", object);
    play.put("g", "i");
    play.becomes("g", "True", "Registered");
    let claimed = play.server.object("functions", "f").unwrap()["status"]["installation"].clone();
    assert_eq!(play.functions.has("f"), claimed == "here", "{claimed}");
}

#[test]
fn what_could_not_be_told_is_told_later_and_only_once() {
    let play = Play::start().begun();
    play.register("f", "i").unwrap();
    play.becomes("f", "True", "Registered");
    play.server.fail(Fault::Refuse("PATCH", "/functions/g/status", 500, "InternalError", "for a test"));
    play.put("g", "i");
    play.becomes("g", "True", "Registered");
    let writes = play.server.count("PATCH");
    // Its watch is listed again: nothing has changed, so nothing is written.
    let lists = play.server.count("GET");
    play.server.fail(Fault::Watch("functions", WatchFault::TooOld));
    eventually("it was listed again", || play.server.count("GET") >= lists + 2);
    play.put("h", "i");
    play.becomes("h", "True", "Registered");
    assert_eq!(play.server.count("PATCH"), writes + 2, "a claim and a status of the new one");
}

#[test]
fn what_was_deleted_while_nobody_heard_is_removed() {
    let play = Play::start().begun();
    play.put("f", "i");
    play.becomes("f", "True", "Registered");
    play.server.delete_unheard("f");
    play.server.fail(Fault::Watch("functions", WatchFault::TooOld));
    eventually("it is gone", || !play.functions.has("f"));
}
