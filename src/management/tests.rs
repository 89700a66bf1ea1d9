//! Liveness, on a real worker whose shard is wedged in one way or the other.

use std::{io, sync::mpsc, time::Instant};

use hyper::HeaderMap;
use nanofaas_store::Ephemeral;
use shard_core::{
    ExecutionId, FunctionSpec, Input, Invoke, Limits, Name, Payload, Policy, Request, Target, Ticket,
};
use shard_runtime::{Placement, Shape, Threads, plan::plan};

use super::*;
use crate::{
    config::Config,
    deployments::Deployments,
    dispatch::{DispatchOptions, Dispatcher},
    http::route::TEMPLATES,
    runtime_config,
};

/// More than the time between two turns of an idle loop.
const STUCK_AFTER: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(60);

struct Rig {
    management: Management,
    threads: Option<Threads>,
    runtime: tokio::runtime::Runtime,
}

impl Rig {
    fn start(limits: Limits) -> Rig {
        let config = Config::default();
        let workers: Arc<Workers<ShardHost>> = Workers::new(Shape {
            plan: plan(1, Placement::Colocated),
            limits,
            settings: runtime_config::settings(&runtime_config::initial(&config), &config),
            queued_bytes_max: 1 << 20,
            room: Limits::default().room,
            mailbox_max: 16,
            callers_max: 16,
            seed: 1,
        });
        let deployments = Deployments::new(workers.inbox(), None, |_| Ok::<_, io::Error>(Vec::new()));
        let deployments = Arc::new(deployments.expect("no thread is needed"));
        let options = DispatchOptions {
            connect_timeout: PATIENCE,
            read_timeout: None,
            connections_max: 1,
            response_bytes_max: 1024,
        };
        let threads = shard_runtime::start(&workers, move |worker, shard| {
            let dispatcher = Dispatcher::new(options.clone(), worker.sink());
            ShardHost::new(shard, dispatcher, Arc::clone(&deployments), Box::new(Ephemeral), None)
        });
        let runtime_config = Arc::new(RuntimeConfig::new(&workers, config));
        let ready = Arc::new(AtomicBool::new(true));
        let deployments = Deployments::new(workers.inbox(), None, |_| Ok::<_, io::Error>(Vec::new()));
        Rig {
            management: Management {
                workers,
                stuck_after: STUCK_AFTER,
                ready,
                durable: Durable::of(Arc::new(Ephemeral)),
                functions_max: 10,
                runtime_config,
                answers: Arc::new(AllAnswers::new(1, &TEMPLATES)),
                deployments: Arc::new(deployments.expect("no backends")),
            },
            threads: Some(threads.expect("threads")),
            runtime: tokio::runtime::Builder::new_current_thread().build().expect("a runtime"),
        }
    }

    fn liveness(&self) -> StatusCode {
        let path = "/actuator/health/liveness".to_owned();
        let (headers, body) = (HeaderMap::new(), Ok(Bytes::new()));
        let call = Call { method: Method::GET, path, query: None, headers, body };
        self.runtime.block_on(self.management.handle(call)).status()
    }

    /// Asks again and again until the answer is this one.
    fn becomes(&self, status: StatusCode) {
        let deadline = Instant::now() + PATIENCE;
        while self.liveness() != status {
            assert!(Instant::now() < deadline, "liveness does not become {status}: {:?}", self.threads());
            std::thread::yield_now();
        }
    }

    fn threads(&self) -> Vec<shard_runtime::ThreadView> {
        self.management.workers.threads()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.management.workers.stop();
        if let Some(threads) = self.threads.take() {
            threads.join();
        }
    }
}

#[test]
fn a_shard_whose_loop_stands_still_is_not_alive() {
    let rig = Rig::start(Limits::default());
    rig.becomes(StatusCode::OK);
    let (release, released) = mpsc::channel::<()>();
    rig.management.workers.run_on(0, move |_| {
        let _ = released.recv();
    });
    rig.becomes(StatusCode::SERVICE_UNAVAILABLE);
    drop(release);
    rig.becomes(StatusCode::OK);
}

#[test]
fn a_shard_that_leaves_ready_work_alone_is_not_alive() {
    // Its loop turns, and never takes anything from a queue.
    let rig = Rig::start(Limits { batch_max: 0, ..Limits::default() });
    let name = Name::new("f").expect("a name");
    let spec = FunctionSpec {
        name,
        policy: Policy { concurrency: 1, retry_backoff_ms: 0, ..Policy::default() },
        target: Target::Endpoint(Arc::from("http://127.0.0.1:1/invoke")),
        scaling: None,
        document: Bytes::new(),
    };
    rig.management.workers.post(0, Input::Ask(Ticket(1), Request::Register(Box::new(spec))));
    rig.becomes(StatusCode::OK);
    assert!(rig.threads().iter().all(|thread| thread.unserved_us == 0), "nothing waits");
    // The first call takes the only slot and fails, since nobody listens there; the second waits meanwhile.
    rig.management.workers.run_on(0, move |worker| {
        for number in [1, 2] {
            worker.submit(Input::Ask(
                Ticket(1),
                Request::Enqueue(Invoke {
                    id: ExecutionId::new([number; 16], name.owner_hash()),
                    name,
                    payload: Payload::json(Bytes::from_static(b"1")),
                    timeout_ms: None,
                    extra: None,
                }),
            ));
        }
    });
    rig.becomes(StatusCode::SERVICE_UNAVAILABLE);
    let thread = &rig.threads()[0];
    assert!(thread.unserved_us >= 3_000_000 && thread.idle_us < thread.unserved_us, "{thread:?}");
}
