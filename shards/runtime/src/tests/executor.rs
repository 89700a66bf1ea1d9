//! An executor whose order a seed decides.
//!
//! It is one future of a tokio runtime with paused time, and polls one task per turn, so that the runtime's own
//! deferred wakes are among what is ready. A task runs only after it was woken: a wake-up that is lost is a task
//! that never ends, which [`Executor::run`] reports.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    sync::{Arc, Mutex},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators").
#[derive(Debug, Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// True in so many of a hundred cases.
    pub(super) fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }
}

/// Numbers of tasks that were woken, and who is to be told.
#[derive(Debug, Default)]
struct Woken(Mutex<(Vec<u64>, Option<Waker>)>);

struct WakeTask {
    number: u64,
    woken: Arc<Woken>,
}

impl Wake for WakeTask {
    fn wake(self: Arc<Self>) {
        let mut woken = self.woken.0.lock().expect("no panic holds it");
        if !woken.0.contains(&self.number) {
            woken.0.push(self.number);
        }
        if let Some(waker) = woken.1.as_ref() {
            waker.wake_by_ref();
        }
    }
}

/// See the module. Clones start tasks on the same one.
#[derive(Clone)]
pub(super) struct Executor {
    started: Rc<RefCell<Vec<(bool, Task)>>>,
}

impl Executor {
    pub(super) fn new() -> Executor {
        Executor { started: Rc::default() }
    }

    /// Starts a task that must come to its end.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.started.borrow_mut().push((true, Box::pin(task)));
    }

    /// Starts a task that goes on for ever.
    pub(super) fn spawn_background(&self, task: impl Future<Output = ()> + 'static) {
        self.started.borrow_mut().push((false, Box::pin(task)));
    }

    /// Runs until every task that must end has ended. Returns a digest of the order.
    pub(super) fn run(&self, random: Random, limit: Duration) -> u64 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let mut turn = Turn { random, tasks: BTreeMap::new(), woken: Arc::default(), started: 0, digest: 0 };
        runtime.expect("a runtime").block_on(async {
            // Without tokio's budget per poll, which would make timers pretend that they are not due.
            let all = tokio::task::unconstrained(poll_fn(|context| turn.poll(&self.started, context)));
            tokio::time::timeout(limit, all).await.expect("a task was never woken, or has no end");
        });
        turn.digest
    }
}

struct Turn {
    random: Random,
    tasks: BTreeMap<u64, (bool, Task)>,
    woken: Arc<Woken>,
    started: u64,
    digest: u64,
}

impl Turn {
    /// Polls one of the tasks that were woken.
    fn poll(&mut self, started: &RefCell<Vec<(bool, Task)>>, context: &mut Context<'_>) -> Poll<()> {
        let woken = Arc::clone(&self.woken);
        let chosen = {
            let mut woken = woken.0.lock().expect("no panic holds it");
            for task in started.borrow_mut().drain(..) {
                self.tasks.insert(self.started, task);
                woken.0.push(self.started);
                self.started += 1;
            }
            if !self.tasks.values().any(|(must_end, _)| *must_end) {
                return Poll::Ready(());
            }
            woken.1 = Some(context.waker().clone());
            if woken.0.is_empty() {
                return Poll::Pending;
            }
            // In the order of their numbers: who woke them first must not matter to the choice.
            woken.0.sort_unstable();
            let place = self.random.below(woken.0.len() as u64) as usize;
            woken.0.remove(place)
        };
        if let Some((_, task)) = self.tasks.get_mut(&chosen) {
            self.digest = Random(self.digest ^ chosen).next();
            let waker = Waker::from(Arc::new(WakeTask { number: chosen, woken }));
            if task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                self.tasks.remove(&chosen);
            }
        }
        // The runtime looks at its timers and deferred wakes between two turns.
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
