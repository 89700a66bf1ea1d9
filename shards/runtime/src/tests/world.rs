//! What runs on the executor: threads with their shards, functions that take their time, and clients.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeSet, VecDeque},
    future::pending,
    ops::AddAssign,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use shard_core::{
    Answer, AttemptKey, Dispatch, DispatchEvent, Effect, ExecutionId, Failure, FunctionSpec, Input, Invoke,
    JournalEvent, Limits, Name, Outcome, Output, OutputKind, Payload, Policy, Report, Request, Room,
    Settings, Target,
};

use super::executor::{Executor, Random};
use crate::{Host, Placement, Shape, Worker, Workers, plan::plan};

/// No run takes longer, in virtual time.
const LIMIT: Duration = Duration::from_secs(600);

/// What a run consists of.
#[derive(Debug, Clone)]
pub(super) struct Swarm {
    workers: u16,
    placement: Placement,
    functions: u64,
    clients: u64,
    requests: u64,
    mailbox_max: usize,
    callers_max: usize,
    concurrency: u32,
    /// Longest time that a function takes, in milliseconds.
    service_ms_max: u64,
    /// Of a hundred callers, so many lose patience.
    impatient: u64,
}

impl Swarm {
    /// The swarm of a seed.
    pub(super) fn of(seed: u64) -> Swarm {
        let mut random = Random(!seed);
        Swarm {
            workers: 1 + random.below(4) as u16,
            placement: if random.percent(70) { Placement::Colocated } else { Placement::Split },
            functions: 1 + random.below(4),
            clients: 1 + random.below(12),
            requests: 1 + random.below(12),
            mailbox_max: 1 + random.below(8) as usize,
            callers_max: 1 + random.below(8) as usize,
            concurrency: 1 + random.below(3) as u32,
            service_ms_max: random.below(40),
            impatient: random.below(60),
        }
    }
}

/// How often what happened.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    pub(super) timed_out: u64,
    pub(super) refused: u64,
    pub(super) accepted: u64,
    pub(super) cancelled: u64,
    /// Callers that left before their answer.
    pub(super) left: u64,
    /// Calls that found too many callers.
    pub(super) busy: u64,
    /// Calls whose shard is another thread's.
    pub(super) crossed: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.timed_out += other.timed_out;
        self.refused += other.refused;
        self.accepted += other.accepted;
        self.cancelled += other.cancelled;
        self.left += other.left;
        self.busy += other.busy;
        self.crossed += other.crossed;
    }
}

/// What came of a run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Digest of the order in which tasks ran.
    pub(super) trace: u64,
    pub(super) counts: Counts,
}

/// What all tasks of a run share.
pub(super) struct World {
    swarm: Swarm,
    executor: Executor,
    random: RefCell<Random>,
    counts: RefCell<Counts>,
    names: Vec<Name>,
    /// Clients that have not ended.
    clients: Cell<u64>,
    /// Attempts that were sent: execution and number.
    sent: RefCell<BTreeSet<(String, u32)>>,
}

impl World {
    /// Runs a swarm to its end and looks at what is left.
    pub(super) fn run(seed: u64, swarm: &Swarm) -> Run {
        let executor = Executor::new();
        let names = (0..swarm.functions).map(|number| Name::new(&format!("f{number}")).expect("a name"));
        let world = Rc::new(World {
            swarm: swarm.clone(),
            executor: executor.clone(),
            random: RefCell::new(Random(seed)),
            counts: RefCell::default(),
            names: names.collect(),
            clients: Cell::new(swarm.clients),
            sent: RefCell::default(),
        });
        // The clock has to be made where time is paused: within the executor.
        executor.spawn(Rc::clone(&world).live());
        let trace = executor.run(Random(seed ^ 0x5eed), LIMIT);
        Run { trace, counts: *world.counts.borrow() }
    }

    async fn live(self: Rc<World>) {
        let workers: Arc<Workers<TestHost>> = Workers::new(Shape {
            plan: plan(self.swarm.workers, self.swarm.placement),
            limits: Limits::default(),
            settings: Settings { calls_per_second: 1_000_000, ..Settings::default() },
            queued_bytes_max: 1 << 20,
            // Less than what ends: shards lease it, and take it from each other.
            room: Room { executions: 16, bytes: 500, disk_bytes: 0, keys: 16 },
            mailbox_max: self.swarm.mailbox_max,
            callers_max: self.swarm.callers_max,
            seed: 1,
        });
        let ends: Vec<Worker<TestHost>> = (0u16..)
            .zip(&workers.plan().threads)
            .map(|(thread, role)| {
                let worker = Worker::new(&workers, thread);
                if role.shard.is_some() {
                    worker.set_host(TestHost {
                        world: Rc::clone(&self),
                        sink: worker.sink(),
                        aborted: Rc::default(),
                    });
                }
                self.executor.spawn_background(worker.clone().pump());
                worker
            })
            .collect();
        let listening: Vec<_> =
            workers.plan().listening().map(|thread| ends[usize::from(thread)].clone()).collect();
        for name in &self.names {
            self.register(&listening[0], *name).await;
        }
        for number in 0..self.swarm.clients {
            let worker = listening[number as usize % listening.len()].clone();
            self.executor.spawn(Rc::clone(&self).client(worker));
        }
        // Attempts whose callers left may outlive the clients, but not for ever.
        while self.clients.get() > 0 || !ends.iter().all(is_clean) {
            pause(10).await;
        }
        let mut room = workers.budgets.free_room().amounts();
        for worker in &ends {
            let held = worker.read(|shard, _| shard.room_held()).unwrap_or_default();
            room.iter_mut().zip(held.amounts()).for_each(|(room, held)| *room += held);
        }
        assert_eq!(Room::of(room), workers.room(), "what is leased and what is free are all there is");
        for (worker, thread) in ends.iter().zip(workers.threads()) {
            assert_eq!((worker.callers(), thread.mailbox_depth), (0, 0));
            worker.read(|shard, _| shard_core::invariant::check(shard).expect("sound"));
        }
    }

    async fn register(&self, worker: &Worker<TestHost>, name: Name) {
        let policy = Policy {
            timeout_ms: 100,
            concurrency: self.swarm.concurrency,
            queue_size: 4,
            attempts_max: 2,
            sync_attempts_max: 2,
            retry_backoff_ms: 1,
            rate_limit_per_second: None,
        };
        let spec = FunctionSpec {
            name,
            policy,
            target: Target::Endpoint(Arc::from("http://127.0.0.1:1/invoke")),
            scaling: None,
            document: Default::default(),
        };
        let register = Request::Register(Box::new(spec));
        let answer = worker.call(name.owner_hash(), None, register).expect("nobody else calls").await;
        assert!(matches!(answer, Answer::Registered(_)), "{answer:?}");
    }

    async fn client(self: Rc<World>, worker: Worker<TestHost>) {
        for _ in 0..self.swarm.requests {
            if self.percent(30) {
                pause(self.below(20)).await;
            }
            if self.percent(60) {
                self.invoke(&worker).await;
            } else {
                self.enqueue(&worker).await;
            }
        }
        self.clients.set(self.clients.get() - 1);
    }

    async fn invoke(&self, worker: &Worker<TestHost>) {
        let call = self.call();
        let (id, hash) = (call.id, call.name.owner_hash());
        let reply = worker.call(hash, Some(id), Request::Invoke(call));
        let Ok(reply) = reply else {
            return self.busy().await;
        };
        self.count_crossing(worker, hash);
        let answer = if self.percent(self.swarm.impatient) {
            match tokio::time::timeout(Duration::from_millis(self.below(30)), reply).await {
                Ok(answer) => answer,
                Err(_) => {
                    self.counts.borrow_mut().left += 1;
                    return;
                }
            }
        } else {
            reply.await
        };
        let mut counts = self.counts.borrow_mut();
        match answer {
            Answer::Finished { id: of, result: Ok(output) } => {
                counts.succeeded += 1;
                assert_eq!((of, &output.body[..]), (id, &id.text()[..]), "the answer is another caller's");
            }
            Answer::Finished { id: of, result: Err(_) } => {
                counts.failed += 1;
                assert_eq!(of, id);
            }
            Answer::TimedOut { id: of, .. } => {
                counts.timed_out += 1;
                assert_eq!(of, id);
            }
            Answer::Refused(_) => counts.refused += 1,
            answer => panic!("{answer:?}"),
        }
    }

    async fn enqueue(&self, worker: &Worker<TestHost>) {
        let call = self.call();
        let (id, hash) = (call.id, call.name.owner_hash());
        let reply = worker.call(hash, Some(id), Request::Enqueue(call));
        let Ok(reply) = reply else {
            return self.busy().await;
        };
        self.count_crossing(worker, hash);
        match reply.await {
            Answer::Accepted { id: of } => assert_eq!(of, id),
            Answer::Refused(_) => {
                self.counts.borrow_mut().refused += 1;
                return;
            }
            answer => panic!("{answer:?}"),
        }
        self.counts.borrow_mut().accepted += 1;
        if self.percent(40)
            && let Ok(reply) = worker.call(hash, None, Request::Cancel(id))
        {
            reply.await;
            self.counts.borrow_mut().cancelled += 1;
        }
        // What was accepted ends, and is found until then; there is room for few that have.
        loop {
            let wait_ms = self.below(50) as u32;
            match worker.call(hash, None, Request::GetExecution { id, wait_ms }) {
                Err(_) => self.busy().await,
                Ok(reply) => match reply.await {
                    Answer::Execution(view) if view.state.is_terminal() => return,
                    Answer::Execution(view) => assert_eq!(view.id, id),
                    Answer::Refused(shard_core::Refusal::Overloaded { .. }) => {}
                    Answer::Refused(shard_core::Refusal::ExecutionNotFound) => return,
                    answer => panic!("{answer:?}"),
                },
            }
            pause(1).await;
        }
    }

    fn call(&self) -> Invoke {
        let name = self.names[self.below(self.names.len() as u64) as usize];
        let mut random = [0; 16];
        random[..8].copy_from_slice(&self.random.borrow_mut().next().to_be_bytes());
        random[8..].copy_from_slice(&self.random.borrow_mut().next().to_be_bytes());
        Invoke {
            id: ExecutionId::new(random, name.owner_hash()),
            name,
            payload: Payload::json(Vec::from(*b"1")),
            timeout_ms: Some(1 + self.below(100) as u32),
            extra: None,
        }
    }

    async fn busy(&self) {
        self.counts.borrow_mut().busy += 1;
        pause(1).await;
    }

    fn count_crossing(&self, worker: &Worker<TestHost>, hash: u16) {
        let workers = worker.workers();
        let owner = workers.plan().thread_of(workers.plan().seating.owner_of(hash));
        self.counts.borrow_mut().crossed += u64::from(owner != worker.thread());
    }

    fn below(&self, bound: u64) -> u64 {
        self.random.borrow_mut().below(bound)
    }

    fn percent(&self, share: u64) -> bool {
        self.random.borrow_mut().percent(share)
    }
}

/// Nothing of the thread's shard is under way, and nobody waits.
fn is_clean(worker: &Worker<TestHost>) -> bool {
    let totals = worker.read(|shard, _| shard.totals());
    worker.callers() == 0
        && totals.is_none_or(|totals| {
            (totals.attempts, totals.accepted, totals.queued_bytes, totals.drift) == (0, 0, 0, 0)
                && totals.executions == totals.finished + totals.dead_letters
        })
}

/// Lets time pass, which is virtual; with 0 others have a turn.
async fn pause(duration_ms: u64) {
    let _ = tokio::time::timeout(Duration::from_millis(duration_ms), pending::<()>()).await;
}

/// Performs what a shard decides: functions that answer with the id of their execution.
struct TestHost {
    world: Rc<World>,
    sink: Rc<dyn Fn(Input)>,
    /// Position and generation of attempts that nothing may be reported of.
    aborted: Rc<RefCell<BTreeSet<(usize, u32)>>>,
}

impl Host for TestHost {
    fn perform(&mut self, effect: Effect, follow_up: &mut VecDeque<Input>) {
        match effect {
            Effect::Dispatch(dispatch) => self.dispatch(dispatch),
            Effect::Abort { attempt } => {
                self.aborted.borrow_mut().insert(place(attempt));
            }
            Effect::Journal { number, .. } => {
                let journaled = Input::Journal(JournalEvent::Safe { through: number });
                if self.world.percent(50) {
                    follow_up.push_back(journaled);
                } else {
                    let (sink, late_ms) = (Rc::clone(&self.sink), self.world.below(5));
                    self.world.executor.spawn(async move {
                        pause(late_ms).await;
                        sink(journaled);
                    });
                }
            }
            _ => {}
        }
    }
}

impl TestHost {
    fn dispatch(&self, dispatch: Dispatch) {
        let text = String::from_utf8(dispatch.id.text().to_vec()).expect("ASCII");
        let fresh = self.world.sent.borrow_mut().insert((text.clone(), dispatch.number));
        assert!(fresh, "attempt {} of {text} was sent twice", dispatch.number);
        assert!(dispatch.number <= 2, "attempt {} of {text} was sent", dispatch.number);
        let outcome = if self.world.percent(15) {
            let failure = Box::new(Failure::new("FUNCTION_ERROR", "it failed"));
            Outcome::Failure { failure, retryable: self.world.percent(70), retry_after_ms: None }
        } else {
            Outcome::Success(Output { body: text.into(), kind: OutputKind::Json })
        };
        let (attempt, aborted, sink) = (dispatch.attempt, Rc::clone(&self.aborted), Rc::clone(&self.sink));
        let service_ms = self.world.below(self.world.swarm.service_ms_max);
        self.world.executor.spawn(async move {
            pause(service_ms).await;
            if !aborted.borrow_mut().remove(&place(attempt)) {
                sink(Input::Dispatch(attempt, DispatchEvent::Finished(Report::warm(outcome))));
            }
        });
    }
}

fn place(attempt: AttemptKey) -> (usize, u32) {
    (attempt.index(), attempt.generation())
}
