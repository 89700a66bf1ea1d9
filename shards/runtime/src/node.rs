//! One thread's end of the fabric: calls go out, turns are taken, the pump keeps everything moving.

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

use shard_core::{Answer, Effect, Effects, ExecutionId, Input, Refusal, Shard, Ticket, name::owner_of};
use tokio::sync::Notify;

use crate::{
    fabric::Fabric,
    progress::Progress,
    replies::{Busy, Replies, thread_of},
};

/// Messages handled before other tasks of the thread have their turn.
const BATCH_MAX: usize = 256;
/// The loop turns at least this often: a sign of life for whoever watches.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Performs what a shard decides, on the shard's thread.
pub trait Host: 'static {
    /// Performs one effect. Replies and returned bytes never arrive here. `follow_up` takes inputs that are
    /// known at once; later ones come through [`Node::submit`]. Must not block.
    fn perform(&mut self, effect: Effect, follow_up: &mut VecDeque<Input>);
}

/// Something to do on another thread, beside its loop.
type Work<H> = Box<dyn FnOnce(&Node<H>) + Send>;

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
struct Seat<H> {
    shard: Shard,
    host: Option<H>,
    effects: Effects,
    /// Inputs that the host knew at once.
    follow_up: VecDeque<Input>,
    /// Inputs until the next audit of the whole state, in debug builds.
    #[cfg(debug_assertions)]
    unaudited: usize,
}

/// A thread's end of the fabric. Cheap to clone; stays on its thread.
pub struct Node<H: 'static> {
    inner: Rc<Inner<H>>,
}

impl<H> Clone for Node<H> {
    fn clone(&self) -> Self {
        Node { inner: Rc::clone(&self.inner) }
    }
}

struct Inner<H: 'static> {
    fabric: Arc<Fabric<H>>,
    thread: u16,
    shard: Option<u16>,
    replies: RefCell<Replies>,
    seat: RefCell<Option<Seat<H>>>,
    /// Inputs for the own shard that arrived while it was busy with another one.
    inputs: RefCell<VecDeque<Input>>,
    outboxes: RefCell<Vec<Outbox<H>>>,
    /// Wakes the pump: something is in an outbox, or the next deadline came closer.
    bell: Notify,
    /// When the pump will look at the deadlines, on the fabric's clock.
    armed_us: Cell<u64>,
}

impl<H: Host> Node<H> {
    pub(crate) fn new(fabric: &Arc<Fabric<H>>, thread: u16) -> Node<H> {
        let shape = &fabric.shape;
        let shard = shape.plan.threads.get(usize::from(thread)).and_then(|role| role.shard);
        let seat = shard.map(|shard| Seat {
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
        Node {
            inner: Rc::new(Inner {
                thread,
                shard,
                replies: RefCell::new(Replies::new(thread, shape.callers_max)),
                seat: RefCell::new(seat),
                inputs: RefCell::default(),
                outboxes: RefCell::new(outboxes.collect()),
                bell: Notify::new(),
                armed_us: Cell::new(0),
                fabric: Arc::clone(fabric),
            }),
        }
    }

    /// Seats the host of the thread's shard.
    pub(crate) fn seat(&self, host: H) {
        if let Some(seat) = self.inner.seat.borrow_mut().as_mut() {
            seat.host = Some(host);
        }
    }

    /// The fabric that this is an end of.
    pub fn fabric(&self) -> &Arc<Fabric<H>> {
        &self.inner.fabric
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
    pub fn call(
        &self,
        hash: u16,
        id: Option<ExecutionId>,
        input: impl FnOnce(Ticket) -> Input,
    ) -> Result<Reply<H>, Busy> {
        let ticket = self.inner.replies.borrow_mut().open()?;
        let owner = owner_of(hash, self.inner.fabric.shards());
        self.send(owner, input(ticket));
        Ok(Reply { node: self.clone(), ticket, owner, id, answered: false })
    }

    /// Hands an input to the thread's own shard. Without one there is nobody to take it.
    pub fn submit(&self, input: Input) {
        if self.inner.shard.is_none() {
            return;
        }
        match self.inner.seat.try_borrow_mut() {
            // Called from within itself: the outer call goes on with what came in.
            Err(_) => self.inner.inputs.borrow_mut().push_back(input),
            Ok(mut seat) => self.run(&mut seat, input),
        }
    }

    /// Takes inputs for the thread's own shard, from whatever the host started. Inputs that come after the node
    /// is gone are dropped.
    pub fn sink(&self) -> Rc<dyn Fn(Input)> {
        let inner = Rc::downgrade(&self.inner);
        Rc::new(move |input| {
            if let Some(inner) = inner.upgrade() {
                Node { inner }.submit(input);
            }
        })
    }

    /// Reads something off the thread's own shard. `None` when it has none.
    pub fn read<T>(&self, read: impl FnOnce(&Shard, &mut H) -> T) -> Option<T> {
        let mut seat = self.inner.seat.borrow_mut();
        let seat = seat.as_mut()?;
        Some(read(&seat.shard, seat.host.as_mut()?))
    }

    fn send(&self, owner: u16, input: Input) {
        if self.inner.shard == Some(owner) {
            self.submit(input);
            return;
        }
        let thread = self.inner.fabric.shape.plan.thread_of(owner);
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
        self.inner.bell.notify_one();
    }

    /// Feeds the own shard an input, and everything that comes of it at once.
    fn run(&self, seat: &mut Option<Seat<H>>, input: Input) {
        let Some(seat) = seat.as_mut() else { return };
        // The state of a shard that panicked is unknown: nothing may be decided with it any more.
        let abort = AbortOnPanic;
        self.step(seat, input);
        loop {
            let Some(input) = self.inner.inputs.borrow_mut().pop_front() else { break };
            self.step(seat, input);
        }
        std::mem::forget(abort);
        let due_us =
            if seat.shard.has_ready() { 0 } else { seat.shard.next_deadline_us().unwrap_or(u64::MAX) };
        if due_us < self.inner.armed_us.get() {
            self.inner.armed_us.set(due_us);
            self.inner.bell.notify_one();
        }
    }

    fn step(&self, seat: &mut Seat<H>, input: Input) {
        let fabric = &self.inner.fabric;
        fabric.budgets.step(&mut seat.shard, fabric.clock.now(), input, &mut seat.effects);
        #[cfg(debug_assertions)]
        self.audit(seat);
        for effect in seat.effects.drain() {
            match effect {
                Effect::Reply { ticket, answer } => self.answer(ticket, answer),
                Effect::ReturnBytes(bytes) => fabric.budgets.return_bytes(bytes),
                effect => {
                    if let Some(host) = seat.host.as_mut() {
                        host.perform(effect, &mut seat.follow_up);
                    }
                }
            }
        }
        if !seat.follow_up.is_empty() {
            let mut inputs = self.inner.inputs.borrow_mut();
            if inputs.is_empty() {
                std::mem::swap(&mut *inputs, &mut seat.follow_up);
            } else {
                inputs.append(&mut seat.follow_up);
            }
        }
    }

    /// Audits the shard. An audit looks at everything: the more there is, the rarer it comes.
    #[cfg(debug_assertions)]
    fn audit(&self, seat: &mut Seat<H>) {
        if seat.unaudited > 0 {
            seat.unaudited -= 1;
            return;
        }
        seat.unaudited = seat.shard.totals().executions / 4;
        if let Err(broken) = shard_core::invariant::check(&seat.shard) {
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

    /// Keeps the thread's mailbox, deadlines and outboxes moving until the fabric stops.
    pub(crate) async fn pump(self) {
        let inner = &self.inner;
        let fabric = &inner.fabric;
        let (mailbox, signs) =
            (&fabric.mailboxes[usize::from(inner.thread)], &fabric.signs[usize::from(inner.thread)]);
        let (mut control, mut data) = (Vec::new(), Vec::new());
        let (mut control_left, mut data_left) = (VecDeque::new(), VecDeque::new());
        let mut progress = Progress::default();
        let mut sleep = std::pin::pin!(tokio::time::sleep(HEARTBEAT));
        while !fabric.stopping.load(Ordering::Acquire) {
            let now_us = fabric.clock.now().mono_us;
            // Data that is behind waits in the mailbox, where it is bounded and senders learn of it.
            let behind = !data_left.is_empty();
            if behind {
                mailbox.take_control(&mut control);
            } else {
                mailbox.take(&mut control, &mut data);
            }
            signs.turn_began(now_us, control.len() + data.len());
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
            signs.turn_ended(fabric.clock.mono_us() - now_us, handled);
            let done = !behind && control_left.is_empty() && data_left.is_empty();
            if !done || inner.armed_us.get() == 0 {
                tokio::task::yield_now().await;
                continue;
            }
            let heartbeat_us = now_us + HEARTBEAT.as_micros() as u64;
            let wake_us = inner.armed_us.get().min(heartbeat_us).min(progress.next_us);
            inner.armed_us.set(wake_us);
            sleep.as_mut().reset(fabric.clock.instant(wake_us));
            tokio::select! {
                biased;
                () = mailbox.told() => {}
                () = inner.bell.notified() => {}
                () = sleep.as_mut() => {}
            }
        }
    }

    /// Looks whether the own shard takes up its ready work, and tells.
    fn look(&self, progress: &mut Progress, now_us: u64) {
        let seat = self.inner.seat.borrow();
        let Some(seat) = seat.as_ref() else {
            progress.next_us = u64::MAX;
            return;
        };
        if let Some(since_us) = progress.look(&seat.shard, now_us) {
            self.inner.fabric.signs[usize::from(self.inner.thread)].unserved(since_us);
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
        let fabric = &self.inner.fabric;
        let mut refused = Vec::new();
        let mut outboxes = self.inner.outboxes.borrow_mut();
        for (outbox, mailbox) in outboxes.iter_mut().zip(&fabric.mailboxes) {
            let count = outbox.control.len() + outbox.data.len();
            if count == 0 {
                continue;
            }
            mailbox.deliver(&mut outbox.control, &mut outbox.data, Message::is_bound);
            let sent = count - outbox.data.len();
            fabric.signs[usize::from(self.inner.thread)].sent(sent);
            refused.append(&mut outbox.data);
        }
        drop(outboxes);
        for message in refused {
            if let Message::Input(input) = message
                && let Some(ticket) = input.ticket()
            {
                let what = "calls on their way to the function's shard";
                let refusal = Refusal::Overloaded { what, retry_after_s: 1 };
                self.inner.replies.borrow_mut().answer(ticket, Answer::Refused(refusal));
            }
        }
    }
}

/// A caller's end of a call.
pub struct Reply<H: Host> {
    node: Node<H>,
    ticket: Ticket,
    owner: u16,
    id: Option<ExecutionId>,
    answered: bool,
}

impl<H: Host> Future for Reply<H> {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        let polled = self.node.inner.replies.borrow_mut().poll(self.ticket, context);
        self.answered = polled.is_ready();
        polled
    }
}

impl<H: Host> Drop for Reply<H> {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let waited = self.node.inner.replies.borrow_mut().abandon(self.ticket);
        if waited {
            let abandon = Input::Abandon { ticket: self.ticket, id: self.id };
            self.node.send(self.owner, abandon);
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
