//! Functions come and go. What concerns one name is done one after the other, while the slow part runs elsewhere.

use crate::{
    answer::{Answer, BackendFailure, Refusal, State},
    effect::{Effect, Effects, Note},
    execution::Ending,
    function::{Function, Life, Pending},
    input::{FunctionSpec, Provisioned, Target, Ticket},
    name::Name,
    payload::{Failure, code},
    shard::{FunctionKey, Shard},
};

impl Shard {
    /// Claims the name; provisions if a backend is to run the function, else makes it visible.
    pub(super) fn register(&mut self, ticket: Ticket, spec: Box<FunctionSpec>, fx: &mut Effects) {
        let holder = self.names.get(&spec.name).copied();
        if let Some(holder) = holder.and_then(|holder| self.functions.get_mut(holder)) {
            if holder.life == Life::Removing {
                push_pending(holder, Pending::Register { ticket, spec }, self.limits.pending_max, fx);
            } else {
                fx.reply(ticket, Answer::Refused(Refusal::FunctionExists));
            }
            return;
        }
        if self.functions.len() >= self.limits.functions_max {
            let what = "registered functions";
            fx.reply(ticket, Answer::Refused(Refusal::Overloaded { what, retry_after_s: 1 }));
            return;
        }
        let mut function = Function::new(&spec);
        match &spec.target {
            Target::Local => function.local = true,
            Target::Endpoint(_) => {}
            Target::Backend => {
                function.life = Life::Provisioning;
                function.busy = true;
                function.waiting = Some(ticket);
            }
        }
        let document = function.document.clone();
        let key = self.functions.insert(function);
        self.names.insert(spec.name, key);
        match &spec.target {
            Target::Backend => fx.push(Effect::Provision { function: key, spec }),
            Target::Endpoint(address) => {
                self.open_endpoint(key, address.clone(), fx);
                fx.reply(ticket, Answer::Registered(document));
            }
            Target::Local => fx.reply(ticket, Answer::Registered(document)),
        }
    }

    /// The backend has an answer: the function becomes visible, or the claim is given up.
    pub(super) fn provisioned(
        &mut self,
        key: FunctionKey,
        result: Result<Provisioned, BackendFailure>,
        fx: &mut Effects,
    ) {
        let Some(function) =
            self.functions.get_mut(key).filter(|function| function.life == Life::Provisioning)
        else {
            return;
        };
        function.busy = false;
        let waiting = function.waiting.take();
        match result {
            Ok(provisioned) => {
                function.life = Life::Live;
                function.document = provisioned.document.clone();
                function.desired = provisioned.desired;
                match provisioned.target {
                    Target::Local => function.local = true,
                    Target::Endpoint(address) => {
                        // The fixed address is all that it has: what the backend reported meanwhile is closed.
                        for endpoint in std::mem::take(&mut function.endpoints) {
                            self.close_endpoint(endpoint.id, fx);
                        }
                        self.open_endpoint(key, address, fx);
                    }
                    Target::Backend => {
                        function.managed = true;
                        function.follow_replicas(self.settings.autoscaler.is_some());
                        // Instances may have come or gone while the answer was on its way.
                        if function.endpoints.is_empty() {
                            self.endpoints_changed(key, provisioned.endpoints, provisioned.desired, fx);
                        }
                    }
                }
                answer(waiting, Answer::Registered(provisioned.document), fx);
                let poll_us = self.settings.autoscaler.as_ref().map_or(0, |auto| auto.poll_interval_us);
                self.arm_scaling(poll_us);
                self.next_pending(key, fx);
            }
            Err(failure) => {
                answer(waiting, Answer::Refused(Refusal::Backend(failure)), fx);
                self.drop_function(key, fx);
            }
        }
    }

    /// Makes a function invisible, ends what waits for it, and has its instances removed.
    pub(super) fn remove(&mut self, ticket: Ticket, name: &Name, fx: &mut Effects) {
        let key = self.names.get(name).copied();
        let Some((key, function)) = key.and_then(|key| Some((key, self.functions.get_mut(key)?))) else {
            fx.reply(ticket, Answer::Refused(Refusal::FunctionNotFound));
            return;
        };
        if function.busy {
            push_pending(function, Pending::Remove { ticket }, self.limits.pending_max, fx);
            return;
        }
        function.life = Life::Removing;
        let (managed, name) = (function.managed, function.name);
        for execution in self.waiting_of(key) {
            let message = format!("Function '{name}' was removed before the execution could run");
            let failure = Box::new(Failure::new(code::FUNCTION_REMOVED, message));
            self.finish(execution, State::Error, Ending::Failed(failure), fx);
        }
        if !managed {
            fx.reply(ticket, Answer::Removed);
            self.drop_function(key, fx);
            return;
        }
        if let Some(function) = self.functions.get_mut(key) {
            function.busy = true;
            function.waiting = Some(ticket);
        }
        fx.push(Effect::Teardown { function: key, name });
    }

    /// The backend removed the instances, or could not: then the function is back.
    pub(super) fn torn_down(
        &mut self,
        key: FunctionKey,
        result: Result<(), BackendFailure>,
        fx: &mut Effects,
    ) {
        let Some(function) = self.functions.get_mut(key).filter(|function| function.life == Life::Removing)
        else {
            return;
        };
        function.busy = false;
        let waiting = function.waiting.take();
        match result {
            Ok(()) => {
                answer(waiting, Answer::Removed, fx);
                self.drop_function(key, fx);
            }
            Err(failure) => {
                function.life = Life::Live;
                answer(waiting, Answer::Refused(Refusal::Backend(failure)), fx);
                self.next_pending(key, fx);
            }
        }
    }

    /// Asks the backend for another number of instances.
    pub(super) fn scale(&mut self, ticket: Ticket, name: &Name, replicas: u32, fx: &mut Effects) {
        let key = self.names.get(name).copied();
        let Some((key, function)) = key.and_then(|key| Some((key, self.functions.get_mut(key)?))) else {
            fx.reply(ticket, Answer::Refused(Refusal::FunctionNotFound));
            return;
        };
        if function.busy {
            push_pending(function, Pending::Scale { ticket, replicas }, self.limits.pending_max, fx);
        } else if !function.managed {
            fx.reply(ticket, Answer::Refused(Refusal::NotScalable));
        } else {
            function.busy = true;
            function.waiting = Some(ticket);
            fx.push(Effect::Scale { function: key, name: *name, replicas });
        }
    }

    /// The backend took note of the number, or could not.
    pub(super) fn scaled(&mut self, key: FunctionKey, result: Result<u32, BackendFailure>, fx: &mut Effects) {
        // Provisioning and removing end with answers of their own.
        let Some(function) =
            self.functions.get_mut(key).filter(|function| function.life == Life::Live && function.busy)
        else {
            return;
        };
        function.busy = false;
        let waiting = function.waiting.take();
        if let Some(state) = function.scaling.as_mut() {
            state.scaled(result.as_ref().err().map(|failure| &*failure.message), self.now.mono_us);
        }
        let told = match result {
            Ok(replicas) => {
                function.desired = replicas;
                Answer::Scaled { replicas }
            }
            Err(failure) => Answer::Refused(Refusal::Backend(failure)),
        };
        let done = matches!(told, Answer::Scaled { .. });
        answer(waiting, told, fx);
        self.next_pending(key, fx);
        if done {
            // A call may have come while the last replica was being taken away.
            self.wake(key, fx);
        }
    }

    pub(super) fn get_replicas(&self, ticket: Ticket, name: &Name, fx: &mut Effects) {
        let told = match self.live_function(name) {
            None => Answer::Refused(Refusal::FunctionNotFound),
            Some((_, function)) if !function.managed => Answer::Refused(Refusal::NotScalable),
            Some((_, function)) => {
                Answer::Replicas { desired: function.desired, ready: function.endpoints.len() as u32 }
            }
        };
        fx.reply(ticket, told);
    }

    /// Starts the next request that waited for this function's backend.
    fn next_pending(&mut self, key: FunctionKey, fx: &mut Effects) {
        while let Some(function) = self.functions.get_mut(key).filter(|function| !function.busy) {
            let name = function.name;
            match function.pending.pop_front() {
                None => break,
                Some(Pending::Register { ticket, spec }) => self.register(ticket, spec, fx),
                Some(Pending::Remove { ticket }) => self.remove(ticket, &name, fx),
                Some(Pending::Scale { ticket, replicas }) => self.scale(ticket, &name, replicas, fx),
            }
        }
    }

    /// Forgets a function; its entry stays until the attempts that are in flight have come home. Requests that
    /// waited for it find the name free.
    fn drop_function(&mut self, key: FunctionKey, fx: &mut Effects) {
        let Some(function) = self.functions.get_mut(key) else { return };
        let was_visible = function.life != Life::Provisioning;
        function.life = Life::Gone;
        let name = function.name;
        let endpoints: Vec<_> = function.endpoints.drain(..).map(|endpoint| endpoint.id).collect();
        let pending = std::mem::take(&mut function.pending);
        let idle = function.in_flight == 0;
        self.names.remove(&name);
        for endpoint in endpoints {
            self.close_endpoint(endpoint, fx);
        }
        if was_visible {
            fx.push(Effect::Note(Note::FunctionGone { function: key }));
        }
        if idle {
            self.functions.remove(key);
        }
        for request in pending {
            match request {
                Pending::Register { ticket, spec } => self.register(ticket, spec, fx),
                Pending::Remove { ticket } => self.remove(ticket, &name, fx),
                Pending::Scale { ticket, replicas } => self.scale(ticket, &name, replicas, fx),
            }
        }
    }
}

fn answer(ticket: Option<Ticket>, told: Answer, fx: &mut Effects) {
    if let Some(ticket) = ticket {
        fx.reply(ticket, told);
    }
}

fn push_pending(function: &mut Function, request: Pending, pending_max: usize, fx: &mut Effects) {
    if function.pending.len() < pending_max {
        function.pending.push_back(request);
        return;
    }
    let (Pending::Register { ticket, .. } | Pending::Remove { ticket } | Pending::Scale { ticket, .. }) =
        request;
    let what = "requests that wait for one function's backend";
    fx.reply(ticket, Answer::Refused(Refusal::Overloaded { what, retry_after_s: 1 }));
}
