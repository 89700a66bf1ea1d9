//! What all threads share: mailboxes, the plan, the budgets, and what each loop tells of itself.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use shard_core::{Input, Limits, Now, Room, Settings, Shard};
use tokio::sync::oneshot;

use crate::{
    budget::Budgets,
    clock::Clock,
    inbox::Inbox,
    loop_stats::{LoopStats, ThreadView},
    mailbox::Mailbox,
    plan::Plan,
    worker::{Host, Message, Worker},
};

/// Sizes of the workers.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Which thread does what.
    pub plan: Plan,
    /// Bounds of every shard, but for room.
    pub limits: Limits,
    /// Room for finished executions and idempotency keys, over all shards.
    pub room: Room,
    /// What every shard starts with.
    pub settings: Settings,
    /// Bytes of payloads that wait, over all shards.
    pub queued_bytes_max: u64,
    /// New work that may wait in one mailbox.
    pub mailbox_max: usize,
    /// Callers of one thread that may wait for answers.
    pub callers_max: usize,
    /// Feeds jitter; any number.
    pub seed: u64,
}

/// See the module. `H` performs the effects of shards.
pub struct Workers<H: 'static> {
    pub(crate) shape: Shape,
    pub(crate) clock: Clock,
    pub(crate) mailboxes: Vec<Mailbox<Message<H>>>,
    pub(crate) loop_stats: Vec<LoopStats>,
    pub(crate) budgets: Budgets,
    pub(crate) stopping: AtomicBool,
}

impl<H> std::fmt::Debug for Workers<H> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Workers").field("shape", &self.shape).finish_non_exhaustive()
    }
}

impl<H: Host> Workers<H> {
    /// Workers whose threads are not started yet.
    pub fn new(mut shape: Shape) -> Arc<Workers<H>> {
        let (threads, shards) = (shape.plan.threads.len(), shape.plan.shards());
        shape.limits.room = Budgets::room_floor(shape.room, shards);
        Arc::new(Workers {
            clock: Clock::new(),
            mailboxes: (0..threads).map(|_| Mailbox::new(shape.mailbox_max)).collect(),
            loop_stats: (0..threads).map(|_| LoopStats::default()).collect(),
            budgets: Budgets::new(
                shape.settings.calls_per_second,
                shape.queued_bytes_max,
                shape.room,
                shards,
            ),
            stopping: AtomicBool::new(false),
            shape,
        })
    }

    /// Number of shards.
    pub fn shards(&self) -> u16 {
        self.shape.plan.shards()
    }

    /// Room for finished executions and idempotency keys, over all shards.
    pub fn room(&self) -> Room {
        self.shape.room
    }

    /// Bounds of each shard.
    pub fn limits(&self) -> &Limits {
        &self.shape.limits
    }

    /// Which thread does what.
    pub fn plan(&self) -> &Plan {
        &self.shape.plan
    }

    /// The time, as shards see it.
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// Sets the calls per second of the whole server. Takes effect with the next lease.
    pub fn set_calls_per_second(&self, calls: u32) {
        self.budgets.set_calls_per_second(calls);
    }

    /// Sends an input to a shard, from any thread. For what must not be lost: events of backends, drain.
    pub fn post(&self, shard: u16, input: Input) {
        self.send(self.shape.plan.thread_of(shard), Message::Input(input));
    }

    /// The way back for what works on other threads. It does not keep the workers alive.
    pub fn inbox(self: &Arc<Self>) -> Inbox {
        Inbox::of(Arc::downgrade(self))
    }

    /// Runs something on a thread, beside its loop.
    pub fn run_on(&self, thread: u16, work: impl FnOnce(&Worker<H>) + Send + 'static) {
        self.send(thread, Message::Run(Box::new(work)));
    }

    /// Reads something off a shard and its host. The receiver ends without a value when the thread is gone.
    pub fn ask<T: Send + 'static>(
        &self,
        shard: u16,
        read: impl FnOnce(&Shard, &mut H) -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (sender, receiver) = oneshot::channel();
        self.run_on(self.shape.plan.thread_of(shard), move |worker| {
            if let Some(value) = worker.read(read) {
                // Whoever asked may have lost patience.
                let _ = sender.send(value);
            }
        });
        receiver
    }

    /// Ends all loops.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        for mailbox in &self.mailboxes {
            // Not `ring`: a thread that was told and looks just now has passed its look at the flag.
            mailbox.wake();
        }
    }

    /// Readings of all threads.
    pub fn threads(&self) -> Vec<ThreadView> {
        let now_us = self.clock.mono_us();
        let roles = self.shape.plan.threads.iter();
        roles
            .zip(&self.loop_stats)
            .zip(&self.mailboxes)
            .map(|((role, loop_stats), mailbox)| loop_stats.view(role.shard, now_us, mailbox.depth()))
            .collect()
    }

    fn send(&self, thread: u16, message: Message<H>) {
        if let Some(mailbox) = self.mailboxes.get(usize::from(thread)) {
            mailbox.deliver(&mut vec![message], &mut Vec::new(), |_| false);
        }
    }
}
