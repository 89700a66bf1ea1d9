//! What callers ask for, each handed to the file of its subject.

use crate::{call::Ticket, effect::Effects, input::Request, shard::Shard};

impl Shard {
    /// A caller asks.
    pub(super) fn asked(&mut self, ticket: Ticket, request: Request, fx: &mut Effects) {
        match request {
            Request::Invoke(call) => self.invoke(ticket, call, false, fx),
            Request::Enqueue(call) => self.invoke(ticket, call, true, fx),
            Request::GetExecution { id, wait_ms } => self.get_execution(ticket, id, wait_ms, fx),
            Request::Cancel(id) => self.cancel(ticket, id, fx),
            Request::Complete { id, attempt, outcome } => self.callback(ticket, id, attempt, outcome, fx),
            Request::ListDeadLetters { name, limit } => self.list_dead_letters(ticket, &name, limit, fx),
            Request::Replay { name, id } => self.replay(ticket, &name, id, fx),
            Request::Purge { name, id } => self.purge(ticket, &name, id, fx),
            Request::DrainOnce(name) => self.drain_once(ticket, &name, fx),
            Request::Register(spec) => self.register(ticket, spec, fx),
            Request::Remove(name) => self.remove(ticket, &name, fx),
            Request::Scale { name, replicas } => self.scale(ticket, &name, replicas, fx),
            Request::GetFunction(name) => self.get_function(ticket, &name, fx),
            Request::GetReplicas(name) => self.get_replicas(ticket, &name, fx),
            Request::GetScaling(name) => self.get_scaling(ticket, &name, fx),
        }
    }
}
