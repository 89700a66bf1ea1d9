//! Those who ask: callers of functions, people who administer them, and functions that call back. They know what their
//! answers told them, wait, and sometimes leave.
//!
//! What a request is about is drawn from its own stream and then looked up in what is known at that time, so that
//! requests can be left out of a run one by one.

mod requests;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use shard_core::{Answer, ExecutionId, Name, Request, Settings, Ticket};

/// Executions that clients remember.
const REMEMBERED: usize = 100;
/// Dead letters that they remember besides.
const LETTERS: usize = 4;
/// Callbacks have tickets of their own, above those of requests.
const CALLBACKS_FROM: u64 = 1 << 48;

/// Kinds of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Call a function and wait.
    Invoke,
    /// Call it and fetch the result later.
    Enqueue,
    /// Read an execution.
    Read,
    /// Wait for an execution's end.
    Watch,
    /// Cancel an execution.
    Cancel,
    /// List dead letters.
    ListDead,
    /// Try a dead letter again.
    Replay,
    /// Give a dead letter up.
    Purge,
    /// Dispatch one that waits.
    DrainOnce,
    /// Register a function.
    Register,
    /// Remove a function.
    Remove,
    /// Set a function's replicas.
    Scale,
    /// Read a function.
    GetFunction,
    /// Read its replicas.
    GetReplicas,
    /// Read how it is scaled.
    GetScaling,
    /// Change the settings of all shards.
    Configure,
    /// Set the clock that people read.
    SetClock,
    /// Replicas of a function come or go by themselves.
    Flap,
    /// The machine loses its power.
    Crash,
    /// The server is told to end, and started again.
    Restart,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 20] = [
        Kind::Invoke,
        Kind::Enqueue,
        Kind::Read,
        Kind::Watch,
        Kind::Cancel,
        Kind::ListDead,
        Kind::Replay,
        Kind::Purge,
        Kind::DrainOnce,
        Kind::Register,
        Kind::Remove,
        Kind::Scale,
        Kind::GetFunction,
        Kind::GetReplicas,
        Kind::GetScaling,
        Kind::Configure,
        Kind::SetClock,
        Kind::Flap,
        Kind::Crash,
        Kind::Restart,
    ];

    /// How often it comes in most runs, relative to the others.
    pub(crate) fn usual_weight(self) -> u32 {
        match self {
            Kind::Invoke | Kind::Enqueue => 100,
            Kind::Read | Kind::Watch | Kind::Cancel => 20,
            Kind::ListDead | Kind::Replay | Kind::Purge | Kind::DrainOnce => 10,
            Kind::Register | Kind::Flap => 8,
            Kind::Remove | Kind::Scale => 4,
            Kind::GetFunction | Kind::GetReplicas | Kind::GetScaling => 2,
            Kind::Configure | Kind::SetClock | Kind::Crash | Kind::Restart => 1,
        }
    }
}

/// Something that a client does.
#[derive(Debug)]
pub(crate) enum Act {
    /// Ask a shard.
    Ask(Outgoing),
    /// Give all shards other settings.
    Configure(Settings),
    /// Set the clock that people read, in milliseconds from where it would be.
    SetClock(i64),
    /// End the server without a word, and start it again.
    Crash,
    /// Have it finish what it can within some time, and start it again, in microseconds.
    Restart(u64),
    /// Replicas of some deployment come or go.
    Flap {
        /// Picks one.
        pick: u64,
        /// Replicas that are ready from now on.
        ready: u32,
    },
}

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// The thread that the client is connected to.
    pub(crate) thread: u16,
    /// Hash of the function's name.
    pub(crate) hash: u16,
    pub(crate) ticket: Ticket,
    pub(crate) request: Request,
    /// The execution that it would create, when it is a call.
    pub(crate) id: Option<ExecutionId>,
    /// When its client leaves, if it is not answered before.
    pub(crate) leaves_after_us: Option<u64>,
}

/// A client that waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Open {
    /// The thread that it is connected to.
    pub(crate) thread: u16,
    /// Hash of the function's name.
    pub(crate) hash: u16,
    /// The execution that its call would create.
    pub(crate) id: Option<ExecutionId>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Clients {
    names: Vec<Name>,
    /// Executions that somebody knows of, newest last.
    known: VecDeque<(ExecutionId, usize)>,
    /// The same of dead letters that somebody listed.
    letters: VecDeque<(ExecutionId, usize)>,
    /// The one whose key a call took last, until somebody wants it back.
    rivalled: Option<(ExecutionId, usize)>,
    /// The keys that calls were made with, by the execution that they would create.
    keys: BTreeMap<ExecutionId, u64>,
    open: BTreeMap<Ticket, Open>,
    callbacks: u64,
}

impl Clients {
    pub(crate) fn new(names: u32) -> Clients {
        // A letter and digits are a valid name.
        let names = (0..names).filter_map(|number| Name::new(&format!("f{number}"))).collect();
        Clients {
            names,
            known: VecDeque::new(),
            letters: VecDeque::new(),
            rivalled: None,
            keys: BTreeMap::new(),
            open: BTreeMap::new(),
            callbacks: 0,
        }
    }

    /// Somebody waits for an answer from now on.
    pub(crate) fn wait(&mut self, ticket: Ticket, open: Open) {
        self.open.insert(ticket, open);
    }

    /// An answer arrives. `false`: nobody waits for it any more.
    pub(crate) fn answered(&mut self, ticket: Ticket, answer: &Answer) -> bool {
        if let Answer::DeadLetters(letters) = answer
            && let Some(newest) = letters.first()
        {
            let name = self.names.iter().position(|name| *name.as_str() == *newest.execution.function);
            self.remember(newest.execution.id, name.unwrap_or_default());
            for letter in letters {
                remember(&mut self.letters, (letter.execution.id, name.unwrap_or_default()), LETTERS);
            }
        }
        self.open.remove(&ticket).is_some()
    }

    /// A client leaves. `None`: it was answered before.
    pub(crate) fn leave(&mut self, ticket: Ticket) -> Option<Open> {
        self.open.remove(&ticket)
    }

    /// The thread that a waiting client is connected to.
    pub(crate) fn thread_of(&self, ticket: Ticket) -> Option<u16> {
        self.open.get(&ticket).map(|open| open.thread)
    }

    /// All connections are cut.
    pub(crate) fn cut_off(&mut self) {
        self.open.clear();
    }

    /// Those who wait.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = Ticket> {
        self.open.keys().copied()
    }

    /// A ticket for a callback.
    pub(crate) fn callback(&mut self) -> Ticket {
        self.callbacks += 1;
        Ticket(CALLBACKS_FROM + self.callbacks)
    }

    fn remember(&mut self, id: ExecutionId, name: usize) {
        remember(&mut self.known, (id, name), REMEMBERED);
    }

    fn name(&self, at: usize) -> Option<Name> {
        self.names.get(at).copied()
    }
}

fn remember(all: &mut VecDeque<(ExecutionId, usize)>, one: (ExecutionId, usize), most: usize) {
    if all.len() >= most {
        all.pop_front();
    }
    all.push_back(one);
}

/// An address that nobody else has.
pub(crate) fn unique_address(of: &str, number: u64) -> Arc<str> {
    Arc::from(format!("{of}/{number}"))
}
