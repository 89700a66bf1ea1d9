//! One worker: calls go out, turns are taken, the pump keeps everything moving.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use shard_core::{Answer, Effect, Effects, ExecutionId, Input, Lease, Refusal, Request, Shard, Ticket};
use tokio::sync::Notify;

use crate::{
    progress::Progress,
    replies::{Busy, Replies, thread_of},
    workers::Workers,
};

/// Messages handled before other tasks of the thread have their turn.
const BATCH_MAX: usize = 256;
/// The loop turns at least this often: a sign of life for whoever watches.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Performs what a shard decides, on the shard's thread.
pub trait Host: 'static {
    /// Performs one effect. Replies, returned bytes and returned room never arrive here. `follow_up` takes inputs that are
    /// known at once; later ones come through [`Worker::submit`]. Must not block.
    fn perform(&mut self, effect: Effect, follow_up: &mut VecDeque<Input>);
}

/// Something to do on another thread, beside its loop.
type Work<H> = Box<dyn FnOnce(&Worker<H>) + Send>;

/// What travels between threads.
pub(crate) enum Message<H: 'static> {
    /// Something happened to the receiver's shard.
    Input(Input),
    /// A caller's answer.
    Reply(Ticket, Answer),
    /// Something to do on the receiver's thread.
    Run(Work<H>),
}

impl<H> Message<H> {
    /// A caller that leaves must neither overtake its own call, which would then wait for nobody, nor be refused.
    fn is_bound(&self) -> bool {
        matches!(self, Message::Input(Input::Abandon { .. }))
    }
}

/// What is to be sent to one thread at the end of the turn.
struct Outbox<H: 'static> {
    control: Vec<Message<H>>,
    data: Vec<Message<H>>,
}

/// A shard and what performs its effects.
struct ShardSlot<H> {
    shard: Shard,
    host: Option<H>,
    effects: Effects,
    /// Inputs that the host knew at once.
    follow_up: VecDeque<Input>,
    /// Inputs until the next audit of the whole state, in debug builds.
    #[cfg(debug_assertions)]
    unaudited: usize,
}

/// What a thread has of the workers. Cheap to clone; stays on its thread.
pub struct Worker<H: 'static> {
    inner: Rc<Inner<H>>,
}

impl<H> Clone for Worker<H> {
    fn clone(&self) -> Self {
        Worker { inner: Rc::clone(&self.inner) }
    }
}

struct Inner<H: 'static> {
    workers: Arc<Workers<H>>,
    thread: u16,
    shard: Option<u16>,
    replies: RefCell<Replies>,
    slot: RefCell<Option<ShardSlot<H>>>,
    /// Inputs for the own shard that arrived while it was busy with another one.
    inputs: RefCell<VecDeque<Input>>,
    outboxes: RefCell<Vec<Outbox<H>>>,
    /// Wakes the pump: something is in an outbox, or the next deadline came closer.
    wake: Notify,
    /// When the pump will look at the deadlines, on the workers' clock.
    armed_us: Cell<u64>,
}

impl<H: Host> Worker<H> {
    pub(crate) fn new(workers: &Arc<Workers<H>>, thread: u16) -> Worker<H> {
        let shape = &workers.shape;
        let shard = shape.plan.threads.get(usize::from(thread)).and_then(|role| role.shard);
        let slot = shard.map(|shard| ShardSlot {
            shard: Shard::new(
                shape.limits.clone(),
                shape.seed.wrapping_add(u64::from(shard)),
                shape.settings.clone(),
            ),
            host: None,
            effects: Effects::default(),
            follow_up: VecDeque::new(),
            #[cfg(debug_assertions)]
            unaudited: 0,
        });
        let outboxes = shape.plan.threads.iter().map(|_| Outbox { control: Vec::new(), data: Vec::new() });
        Worker {
            inner: Rc::new(Inner {
                thread,
                shard,
                replies: RefCell::new(Replies::new(thread, shape.callers_max)),
                slot: RefCell::new(slot),
                inputs: RefCell::default(),
                outboxes: RefCell::new(outboxes.collect()),
                wake: Notify::new(),
                armed_us: Cell::new(0),
                workers: Arc::clone(workers),
            }),
        }
    }

    /// Takes the host of the thread's shard.
    pub(crate) fn set_host(&self, host: H) {
        if let Some(slot) = self.inner.slot.borrow_mut().as_mut() {
            slot.host = Some(host);
        }
    }

    /// All of them.
    pub fn workers(&self) -> &Arc<Workers<H>> {
        &self.inner.workers
    }

    /// The thread's number.
    pub fn thread(&self) -> u16 {
        self.inner.thread
    }

    /// Callers of this thread that wait for answers.
    pub fn callers(&self) -> usize {
        self.inner.replies.borrow().waiting()
    }

    /// Asks the shard that owns `hash`. `id` is the execution that an invocation would create.
    ///
    /// Dropping the reply tells the shard that its caller is gone.
    ///
    /// # Errors
    /// [`Busy`] when too many callers of this thread wait already.
    pub fn call(&self, hash: u16, id: Option<ExecutionId>, request: Request) -> Result<Reply<H>, Busy> {
        let ticket = self.inner.replies.borrow_mut().open()?;
        let owner = self.inner.workers.plan().seating.owner_of(hash);
        self.send(owner, Input::Ask(ticket, request));
        Ok(Reply { worker: self.clone(), ticket, owner, id, answered: false })
    }

    /// Hands an input to the thread's own shard. Without one there is nobody to take it.
    pub fn submit(&self, input: Input) {
        if self.inner.shard.is_none() {
            return;
        }
        match self.inner.slot.try_borrow_mut() {
            // Called from within itself: the outer call goes on with what came in.
            Err(_) => self.inner.inputs.borrow_mut().push_back(input),
            Ok(mut slot) => self.run(&mut slot, input),
        }
    }

    /// Takes inputs for the thread's own shard, from whatever the host started. Inputs that come after the worker
    /// is gone are dropped.
    pub fn sink(&self) -> Rc<dyn Fn(Input)> {
        let inner = Rc::downgrade(&self.inner);
        Rc::new(move |input| {
            if let Some(inner) = inner.upgrade() {
                Worker { inner }.submit(input);
            }
        })
    }

    /// Reads something off the thread's own shard. `None` when it has none.
    pub fn read<T>(&self, read: impl FnOnce(&Shard, &mut H) -> T) -> Option<T> {
        let mut slot = self.inner.slot.borrow_mut();
        let slot = slot.as_mut()?;
        Some(read(&slot.shard, slot.host.as_mut()?))
    }

    fn send(&self, owner: u16, input: Input) {
        if self.inner.shard == Some(owner) {
            self.submit(input);
            return;
        }
        let thread = self.inner.workers.shape.plan.thread_of(owner);
        self.post(thread, Message::Input(input), false);
    }

    fn post(&self, thread: u16, message: Message<H>, control: bool) {
        if let Some(outbox) = self.inner.outboxes.borrow_mut().get_mut(usize::from(thread)) {
            if control {
                outbox.control.push(message);
            } else {
                outbox.data.push(message);
            }
        }
        // The pump runs after the tasks that are ready now: what they send goes in one batch.
        self.inner.wake.notify_one();
    }

    /// Feeds the own shard an input, and everything that comes of it at once.
    fn run(&self, slot: &mut Option<ShardSlot<H>>, input: Input) {
        let Some(slot) = slot.as_mut() else { return };
        // The state of a shard that panicked is unknown: nothing may be decided with it any more.
        let abort = AbortOnPanic;
        self.step(slot, input);
        loop {
            let Some(input) = self.inner.inputs.borrow_mut().pop_front() else { break };
            self.step(slot, input);
        }
        std::mem::forget(abort);
        let due_us =
            if slot.shard.has_ready() { 0 } else { slot.shard.next_deadline_us().unwrap_or(u64::MAX) };
        if due_us < self.inner.armed_us.get() {
            self.inner.armed_us.set(due_us);
            self.inner.wake.notify_one();
        }
    }

    fn step(&self, slot: &mut ShardSlot<H>, input: Input) {
        let workers = &self.inner.workers;
        let number = self.inner.shard.unwrap_or_default();
        let others_should_look =
            workers.budgets.step(number, &mut slot.shard, workers.clock.now(), input, &mut slot.effects);
        if others_should_look {
            self.have_others_look(number);
        }
        #[cfg(debug_assertions)]
        self.audit(slot);
        for effect in slot.effects.drain() {
            match effect {
                Effect::Reply { ticket, answer } => self.answer(ticket, answer),
                Effect::ReturnBytes(bytes) => workers.budgets.return_bytes(bytes),
                Effect::ReturnRoom(room) => workers.budgets.return_room(room),
                effect => {
                    if let Some(host) = slot.host.as_mut() {
                        host.perform(effect, &mut slot.follow_up);
                    }
                }
            }
        }
        if !slot.follow_up.is_empty() {
            let mut inputs = self.inner.inputs.borrow_mut();
            if inputs.is_empty() {
                std::mem::swap(&mut *inputs, &mut slot.follow_up);
            } else {
                inputs.append(&mut slot.follow_up);
            }
        }
    }

    /// Other shards are to look whether they have room that this one needs for its share.
    #[cold]
    fn have_others_look(&self, number: u16) {
        let plan = &self.inner.workers.shape.plan;
        for shard in (0..plan.shards()).filter(|shard| *shard != number) {
            self.post(plan.thread_of(shard), Message::Input(Input::Lease(Lease::CheckRoom)), true);
        }
    }

    /// Audits the shard. An audit looks at everything: the more there is, the rarer it comes.
    #[cfg(debug_assertions)]
    fn audit(&self, slot: &mut ShardSlot<H>) {
        if slot.unaudited > 0 {
            slot.unaudited -= 1;
            return;
        }
        slot.unaudited = slot.shard.totals().executions / 4;
        if let Err(broken) = shard_core::invariant::check(&slot.shard) {
            // Debug builds only, and a bug of ours: going on would hide it behind its consequences.
            panic!("shard {:?}: {broken}", self.inner.shard);
        }
    }

    fn answer(&self, ticket: Ticket, answer: Answer) {
        let thread = thread_of(ticket);
        if thread == self.inner.thread {
            self.inner.replies.borrow_mut().answer(ticket, answer);
        } else {
            self.post(thread, Message::Reply(ticket, answer), true);
        }
    }

    /// Keeps the thread's mailbox, deadlines and outboxes moving until the workers stop.
    pub(crate) async fn pump(self) {
        let inner = &self.inner;
        let workers = &inner.workers;
        let (mailbox, loop_stats) =
            (&workers.mailboxes[usize::from(inner.thread)], &workers.loop_stats[usize::from(inner.thread)]);
        let (mut control, mut data) = (Vec::new(), Vec::new());
        let (mut control_left, mut data_left) = (VecDeque::new(), VecDeque::new());
        let mut progress = Progress::default();
        let mut sleep = std::pin::pin!(tokio::time::sleep(HEARTBEAT));
        while !workers.stopping.load(Ordering::Acquire) {
            let now_us = workers.clock.mono_us();
            // Data that is behind waits in the mailbox, where it is bounded and senders learn of it.
            let behind = !data_left.is_empty();
            if behind {
                mailbox.take_control(&mut control);
            } else {
                mailbox.take(&mut control, &mut data);
            }
            loop_stats.turn_began(now_us, control.len() + data.len());
            control_left.extend(control.drain(..));
            data_left.extend(data.drain(..));
            let mut handled = 0;
            while handled < BATCH_MAX {
                // Whatever waits behind new work, control goes first.
                let Some(message) = control_left.pop_front().or_else(|| data_left.pop_front()) else { break };
                self.receive(message);
                handled += 1;
            }
            if inner.armed_us.get() <= now_us {
                inner.armed_us.set(u64::MAX);
                self.submit(Input::Turn);
            }
            self.flush();
            // At the end of the turn: what it could take up is no longer ready.
            if progress.next_us <= now_us {
                self.look(&mut progress, now_us);
            }
            loop_stats.turn_ended(workers.clock.mono_us() - now_us, handled);
            let done = !behind && control_left.is_empty() && data_left.is_empty();
            if !done || inner.armed_us.get() == 0 {
                tokio::task::yield_now().await;
                continue;
            }
            let heartbeat_us = now_us + HEARTBEAT.as_micros() as u64;
            let wake_us = inner.armed_us.get().min(heartbeat_us).min(progress.next_us);
            inner.armed_us.set(wake_us);
            sleep.as_mut().reset(workers.clock.instant(wake_us));
            tokio::select! {
                biased;
                () = mailbox.told() => {}
                () = inner.wake.notified() => {}
                () = sleep.as_mut() => {}
            }
        }
    }

    /// Looks whether the own shard takes up its ready work, and tells.
    fn look(&self, progress: &mut Progress, now_us: u64) {
        let slot = self.inner.slot.borrow();
        let Some(slot) = slot.as_ref() else {
            progress.next_us = u64::MAX;
            return;
        };
        if let Some(since_us) = progress.look(&slot.shard, now_us) {
            self.inner.workers.loop_stats[usize::from(self.inner.thread)].unserved(since_us);
        }
    }

    fn receive(&self, message: Message<H>) {
        match message {
            Message::Input(input) => self.submit(input),
            Message::Reply(ticket, answer) => self.inner.replies.borrow_mut().answer(ticket, answer),
            Message::Run(work) => work(self),
        }
    }

    /// Sends what was gathered. What a full mailbox does not take is refused now.
    fn flush(&self) {
        let workers = &self.inner.workers;
        let mut refused = Vec::new();
        let mut outboxes = self.inner.outboxes.borrow_mut();
        for (outbox, mailbox) in outboxes.iter_mut().zip(&workers.mailboxes) {
            let count = outbox.control.len() + outbox.data.len();
            if count == 0 {
                continue;
            }
            mailbox.deliver(&mut outbox.control, &mut outbox.data, Message::is_bound);
            let sent = count - outbox.data.len();
            workers.loop_stats[usize::from(self.inner.thread)].sent(sent);
            refused.append(&mut outbox.data);
        }
        drop(outboxes);
        for message in refused {
            if let Message::Input(Input::Ask(ticket, _)) = message {
                let what = "calls on their way to the function's shard";
                let refusal = Refusal::Overloaded { what, retry_after_s: 1 };
                self.inner.replies.borrow_mut().answer(ticket, Answer::Refused(refusal));
            }
        }
    }
}

/// A caller's end of a call.
pub struct Reply<H: Host> {
    worker: Worker<H>,
    ticket: Ticket,
    owner: u16,
    id: Option<ExecutionId>,
    answered: bool,
}

impl<H: Host> Future for Reply<H> {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        let polled = self.worker.inner.replies.borrow_mut().poll(self.ticket, context);
        self.answered = polled.is_ready();
        polled
    }
}

impl<H: Host> Drop for Reply<H> {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let waited = self.worker.inner.replies.borrow_mut().abandon(self.ticket);
        if waited {
            let abandon = Input::Abandon { ticket: self.ticket, id: self.id };
            self.worker.send(self.owner, abandon);
        }
    }
}

/// Ends the process when it is dropped, that is: when something panicked in between.
pub(crate) struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        std::process::abort();
    }
}
