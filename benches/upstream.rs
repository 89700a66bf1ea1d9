//! What one exchange with a function costs: an attempt handed to the dispatcher, over a connection of its pool to a
//! function on loopback, until its end is reported.
//!
//! The dispatcher runs on a thread like a shard's, with 1, 8 or 64 attempts on their way at once, each over a connection
//! of its own that is kept. The function is a thread per connection that answers fixed bytes; its share, and the
//! kernel's, is in the figure. What a shard decides is not: it made the attempts beforehand.
//!
//! `cargo bench --bench upstream` measures; the test suite runs everything once.

mod support;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use nanofaas::dispatch::{DispatchOptions, Dispatcher};
use shard_core::{AttemptKey, Destination, Dispatch, DispatchEvent, EndpointId, Input, Name, Outcome};
use support::{function::Function, shard::Rig};
use tokio::sync::Notify;

const OUTSTANDING: [u64; 3] = [1, 8, 64];

/// A dispatcher that gets the next attempt as soon as one has ended.
struct Load {
    dispatcher: RefCell<Option<Dispatcher>>,
    /// What to send, by the position of its attempt's key.
    dispatches: Vec<Option<Dispatch>>,
    endpoint: EndpointId,
    /// Attempts that have yet to be started, and to end.
    starting: Cell<u64>,
    running: Cell<u64>,
    done: Notify,
}

impl Load {
    fn new(address: &Arc<str>) -> Rc<Load> {
        let mut rig = Rig::new(1);
        let mut dispatches = Vec::new();
        let mut endpoint = EndpointId::default();
        for _ in 0..OUTSTANDING[2] {
            let dispatch = rig.dispatch();
            if let Destination::Endpoint(its) = dispatch.destination {
                endpoint = its;
            }
            let index = dispatch.attempt.index();
            dispatches.resize(dispatches.len().max(index + 1), None);
            dispatches[index] = Some(dispatch);
        }
        let load = Rc::new(Load {
            dispatcher: RefCell::default(),
            dispatches,
            endpoint,
            starting: Cell::new(0),
            running: Cell::new(0),
            done: Notify::new(),
        });
        let options = DispatchOptions {
            connect_timeout: Duration::from_secs(5),
            read_timeout: None,
            connections_max: OUTSTANDING[2] as usize,
            response_bytes_max: 1 << 20,
        };
        let ended = Rc::clone(&load);
        let sink = Rc::new(move |input| {
            if let Input::Dispatch(attempt, DispatchEvent::Finished(report)) = input {
                assert!(matches!(report.outcome, Outcome::Success(_)), "{:?}", report.outcome);
                ended.end(attempt);
            }
        });
        let mut dispatcher = Dispatcher::new(options, sink);
        dispatcher.open_endpoint(endpoint, &Name::new("f").expect("a name"), address);
        *load.dispatcher.borrow_mut() = Some(dispatcher);
        load
    }

    fn end(&self, attempt: AttemptKey) {
        self.running.set(self.running.get() - 1);
        if self.starting.get() > 0 {
            self.start(attempt.index());
        } else if self.running.get() == 0 {
            self.done.notify_one();
        }
    }

    fn start(&self, index: usize) {
        self.starting.set(self.starting.get() - 1);
        self.running.set(self.running.get() + 1);
        let dispatch = self.dispatches[index].clone().expect("it was made");
        self.dispatcher.borrow_mut().as_mut().expect("it is there").start(self.endpoint, dispatch);
    }

    /// Makes `count` attempts, `outstanding` at once. How long it took.
    async fn run(&self, outstanding: u64, count: u64) -> Duration {
        let started = Instant::now();
        self.starting.set(count);
        let made = (0..self.dispatches.len()).filter(|index| self.dispatches[*index].is_some());
        for index in made.take(outstanding.min(count) as usize) {
            self.start(index);
        }
        self.done.notified().await;
        started.elapsed()
    }
}

fn exchanges(criterion: &mut Criterion) {
    let function = Function::start();
    let address: Arc<str> = format!("http://{}/invoke", function.address).into();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
    let runtime = runtime.expect("a runtime");
    for outstanding in OUTSTANDING {
        let load = Load::new(&address);
        criterion.bench_function(&format!("exchange/{outstanding}"), |bencher| {
            bencher.iter_custom(|count| runtime.block_on(load.run(outstanding, count)));
        });
    }
}

criterion_group!(benches, exchanges);
criterion_main!(benches);
