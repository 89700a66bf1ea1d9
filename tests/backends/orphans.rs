//! Functions that a backend still runs after a restart, and that nobody has registered: seen through what the server uses
//! its backends by.

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, channel},
    },
    time::Duration,
};

use nanofaas::deployments::{Deployments, FunctionRef};
use nanofaas_backends::{
    Backend, BackendError, Events, FunctionName, ListReply, LogRequest, LogStream, Order,
};
use nanofaas_wire::function::FunctionSpec;
use serde_json::json;
use shard_core::{BackendEvent, FunctionKey, Input, Provisioned, answer::BackendFailure};
use shard_runtime::Inbox;

use crate::{
    memory::{Cluster, MemoryBackend},
    rig::Rig,
    support::{PATIENCE, eventually},
};

/// What a test does in between.
type Hook = Box<dyn Fn(&str) + Send + Sync>;

/// A backend in memory, with a look at what it is told.
struct Watched {
    inner: MemoryBackend,
    events: Arc<dyn Events>,
    orders: Mutex<Vec<String>>,
    lists: AtomicU32,
    /// So many lists fail at first.
    failing_lists: AtomicU32,
    /// So many functions cannot be had at first.
    failing_ensures: AtomicU32,
    /// With `list` after it has been listed what there is, and with the order before each is passed on.
    hook: OnceLock<Hook>,
}

impl Watched {
    fn orders_of(&self, name: &str) -> Vec<String> {
        let orders = self.orders.lock().unwrap();
        orders.iter().filter(|order| order.ends_with(&format!(" {name}"))).cloned().collect()
    }
}

/// Whether one of the first so many is still due.
fn is_due(left: &AtomicU32) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

/// What the server holds; the test keeps the backend as well.
struct Shared(Arc<Watched>);

impl Backend for Shared {
    fn id(&self) -> &'static str {
        self.0.inner.id()
    }
    fn supports(&self, spec: &FunctionSpec) -> Result<(), String> {
        self.0.inner.supports(spec)
    }
    fn submit(&self, order: Order) {
        let text = match &order {
            Order::Ensure { workload, .. } => format!("ensure {}", workload.name),
            Order::Scale { function, .. } => format!("scale {function}"),
            Order::Teardown { function } => format!("teardown {function}"),
        };
        if let Some(hook) = self.0.hook.get() {
            hook(&text);
        }
        self.0.orders.lock().unwrap().push(text);
        match &order {
            Order::Ensure { workload, .. } if is_due(&self.0.failing_ensures) => {
                self.0.events.ensured(&workload.name, Err(away()));
            }
            _ => self.0.inner.submit(order),
        }
    }
    fn list(&self, reply: ListReply) {
        self.0.lists.fetch_add(1, Ordering::SeqCst);
        if is_due(&self.0.failing_lists) {
            return reply(Err(away()));
        }
        let watched = Arc::clone(&self.0);
        self.0.inner.list(Box::new(move |found| {
            if let Some(hook) = watched.hook.get() {
                hook("list");
            }
            reply(found);
        }));
    }
    fn logs(&self, request: LogRequest) -> LogStream {
        self.0.inner.logs(request)
    }
    fn detach(&self, grace: Duration) {
        self.0.inner.detach(grace);
    }
    fn shut_down(&self, grace: Duration) {
        self.0.inner.shut_down(grace);
    }
}

fn away() -> BackendError {
    BackendError::Unavailable("nobody is there".to_owned())
}

/// The part of a server that uses backends.
struct Deploying {
    deployments: Arc<Deployments>,
    backend: Arc<Watched>,
    inputs: Receiver<(u16, Input)>,
}

impl Deploying {
    fn start(cluster: &Cluster) -> Deploying {
        let (sender, inputs) = channel();
        let inbox = Inbox::new(move |shard, input| drop(sender.send((shard, input))));
        let mut made = None;
        let deployments = Deployments::new(inbox, None, |events| {
            let backend = Arc::new(Watched {
                inner: MemoryBackend::new(cluster.clone(), Arc::clone(&events)),
                events,
                orders: Mutex::default(),
                lists: AtomicU32::default(),
                failing_lists: AtomicU32::default(),
                failing_ensures: AtomicU32::default(),
                hook: OnceLock::new(),
            });
            made = Some(Arc::clone(&backend));
            Ok::<Vec<Arc<dyn Backend>>, std::io::Error>(vec![Arc::new(Shared(backend))])
        });
        Deploying { deployments: Arc::new(deployments.unwrap()), backend: made.unwrap(), inputs }
    }

    /// What a shard says when a function is registered, or was kept. The number is its shard, and tells functions apart.
    fn provision(&self, number: u16) {
        provision(&self.deployments, number);
    }

    /// The next end of a provisioning.
    fn provisioned(&self) -> (u16, Result<Provisioned, BackendFailure>) {
        loop {
            if let (shard, Input::Backend(_, BackendEvent::Provisioned(result))) =
                self.inputs.recv_timeout(PATIENCE).unwrap()
            {
                return (shard, result);
            }
        }
    }

    /// Registers functions, which run then.
    fn run(&self, numbers: impl IntoIterator<Item = u16>) {
        for number in numbers {
            self.provision(number);
            let (shard, result) = self.provisioned();
            assert!(shard == number && result.is_ok(), "{result:?}");
        }
    }
}

fn provision(deployments: &Deployments, number: u16) {
    let document = json!({
        "name": name(number), "timeoutMs": 1000, "concurrency": 1, "queueSize": 1, "maxRetries": 0,
        "retryBackoffMs": 0, "executionMode": "DEPLOYMENT", "requestedExecutionMode": "DEPLOYMENT",
        "effectiveExecutionMode": "DEPLOYMENT", "runtimeCommand": "serve",
    });
    let function = FunctionRef { shard: number, key: FunctionKey::default() };
    let answer = deployments.provision(function, document.to_string().as_bytes());
    assert!(answer.is_none(), "{answer:?}");
}

fn name(number: u16) -> String {
    format!("f{number}")
}

fn count(cluster: &Cluster, number: u16) -> usize {
    cluster.count(&FunctionName::from(name(number).as_str()))
}

fn until_gone(cluster: &Cluster, number: u16) {
    eventually("nothing is left of it", || (count(cluster, number) == 0).then_some(()));
}

/// A server ran these functions, and is gone.
fn left_behind(numbers: impl IntoIterator<Item = u16>) -> Cluster {
    let cluster = Cluster::default();
    let server = Deploying::start(&cluster);
    server.run(numbers);
    server.deployments.shut_down(PATIENCE);
    cluster
}

#[test]
fn what_nobody_has_registered_is_removed() {
    let cluster = left_behind([1, 2, 3]);
    let stranger = Rig::memory("stranger", cluster.clone());
    let foreign = stranger.function(1);
    stranger.ensure(&foreign, json!({}), 1).unwrap();
    let server = Deploying::start(&cluster);
    server.run([2]);
    server.deployments.look_for_leftovers().unwrap();
    until_gone(&cluster, 1);
    until_gone(&cluster, 3);
    assert_eq!(
        (count(&cluster, 2), cluster.count(&foreign.name)),
        (1, 1),
        "a registered one, and one of others"
    );
    assert_eq!(server.backend.orders_of("f1"), ["teardown f1"]);
    assert_eq!(server.backend.orders_of("f2"), ["ensure f2"]);
    // What was removed can be registered.
    server.run([1]);
    assert_eq!(count(&cluster, 1), 1);
}

#[test]
fn a_function_that_is_registered_after_it_was_listed_stays() {
    let cluster = left_behind([1, 2]);
    let server = Deploying::start(&cluster);
    let deployments = Arc::downgrade(&server.deployments);
    let hook: Hook = Box::new(move |what| {
        if what == "list" {
            provision(&deployments.upgrade().unwrap(), 1);
        }
    });
    assert!(server.backend.hook.set(hook).is_ok());
    server.deployments.look_for_leftovers().unwrap();
    until_gone(&cluster, 2);
    assert!(matches!(server.provisioned(), (1, Ok(_))));
    assert_eq!(count(&cluster, 1), 1);
    assert_eq!(server.backend.orders_of("f1"), ["ensure f1"]);
}

#[test]
fn a_function_that_is_registered_while_its_leftovers_go_waits_for_their_end() {
    let cluster = left_behind([1]);
    let server = Deploying::start(&cluster);
    let deployments = Arc::downgrade(&server.deployments);
    let hook: Hook = Box::new(move |what| {
        if what == "teardown f1" {
            provision(&deployments.upgrade().unwrap(), 1);
        }
    });
    assert!(server.backend.hook.set(hook).is_ok());
    server.deployments.look_for_leftovers().unwrap();
    let (shard, provisioned) = server.provisioned();
    assert!(shard == 1 && provisioned.is_ok(), "{provisioned:?}");
    assert_eq!(server.backend.orders_of("f1"), ["teardown f1", "ensure f1"]);
    assert_eq!(count(&cluster, 1), 1);
}

#[test]
fn a_registered_function_whose_backend_fails_is_no_orphan() {
    let cluster = left_behind([1, 2]);
    let server = Deploying::start(&cluster);
    server.backend.failing_ensures.store(1, Ordering::SeqCst);
    server.provision(1);
    assert!(matches!(server.provisioned(), (1, Err(_))));
    server.deployments.look_for_leftovers().unwrap();
    until_gone(&cluster, 2);
    assert_eq!(count(&cluster, 1), 1);
    // The shard tries again, and goes on with what runs.
    server.run([1]);
    assert_eq!(server.backend.orders_of("f1"), ["ensure f1", "ensure f1"]);
}

#[test]
fn a_backend_that_fails_to_list_is_asked_again() {
    const FAILING: u32 = 3;
    let cluster = left_behind([1]);
    let server = Deploying::start(&cluster);
    server.backend.failing_lists.store(FAILING, Ordering::SeqCst);
    server.deployments.look_for_leftovers().unwrap();
    until_gone(&cluster, 1);
    assert_eq!(server.backend.lists.load(Ordering::SeqCst), FAILING + 1);
}
