//! Functions come and go. What concerns one name is done one after the other, while the slow part runs elsewhere.

use std::sync::Arc;

use crate::{
    answer::{Answer, BackendFailure, Refusal},
    call::Ticket,
    effect::{Effect, Effects, Note},
    function::{Function, Life, Pending, Runner},
    input::BackendEvent,
    journal::{Promise, Record},
    keys::FunctionKey,
    name::Name,
    queue::WaitQueue,
    sabotage::Sabotage,
    shard::{Shard, chores::Chore, scaling::first_to_go},
    spec::{FunctionSpec, Provisioned, ReplicaAddress, Target},
};

impl Shard {
    /// Claims the name; provisions if a backend is to run the function, else makes it visible.
    pub(super) fn register(&mut self, ticket: Ticket, spec: Box<FunctionSpec>, fx: &mut Effects) {
        let holder = self.index.names.get(spec.name.as_str()).copied();
        if let Some(holder) = holder.and_then(|holder| self.functions.get_mut(holder)) {
            if holder.life.is_being_removed() {
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
        if self.bytes.specs + spec.bytes() > self.limits.specs_bytes_max {
            let what = "specs of all functions, limits.specs-bytes";
            fx.reply(ticket, Answer::Refused(Refusal::Overloaded { what, retry_after_s: 1 }));
            return;
        }
        let mut function = Function::new(&spec);
        function.life = Life::Provisioning;
        function.waiting = Some(ticket);
        let key = self.add_function(function);
        if spec.target == Target::Backend {
            fx.push(Effect::Provision { function: key, spec });
            return;
        }
        let provisioned = Provisioned {
            document: spec.document.clone(),
            target: spec.target.clone(),
            endpoints: Vec::new(),
            desired: 0,
        };
        self.write_registered(key, provisioned, fx);
    }

    /// From now on the name is this function's.
    pub(super) fn add_function(&mut self, function: Function) -> FunctionKey {
        let label = Arc::clone(&function.label);
        if !self.sabotaged.by(Sabotage::SpecsUncounted) {
            self.bytes.specs += function.spec.bytes();
        }
        let key = self.functions.insert(function);
        self.index.names.insert(label, key);
        key
    }

    /// Nothing is left of a function, not even of its spec.
    pub(super) fn forget_function(&mut self, key: FunctionKey) {
        if let Some(function) = self.functions.remove(key)
            && !self.sabotaged.by(Sabotage::SpecsKept)
        {
            self.bytes.specs = self.bytes.specs.saturating_sub(function.spec.bytes());
        }
    }

    /// Has a registration written down. Until that is safe the function is not seen.
    fn write_registered(&mut self, key: FunctionKey, provisioned: Provisioned, fx: &mut Effects) {
        let Some(function) = self.functions.get_mut(key) else { return self.impossible() };
        function.provisioned = Some(Box::new(provisioned));
        function.life = Life::Registering;
        let spec = function.spec.clone();
        self.write(Record::Registered { spec }, fx);
        self.journal.promise(Promise::Register(key));
    }

    /// A registration is written down: the function becomes visible.
    pub(super) fn registration_is_safe(&mut self, key: FunctionKey, fx: &mut Effects) {
        let Some(function) = self.functions.get_mut(key) else { return self.impossible() };
        let Some(provisioned) = function.provisioned.take() else { return self.impossible() };
        function.life = Life::Live;
        let waiting = function.waiting.take();
        let document = provisioned.document.clone();
        self.settle_provisioned(key, *provisioned, fx);
        answer(waiting, Answer::Registered(document), fx);
        self.next_pending(key, fx);
    }

    /// A registration cannot be written down: nothing is left of it, neither here nor at its backend.
    pub(super) fn registration_failed(&mut self, key: FunctionKey, fx: &mut Effects) {
        let Some(function) = self.functions.get_mut(key) else { return self.impossible() };
        let Some(provisioned) = function.provisioned.take() else { return self.impossible() };
        let name = function.name;
        let waiting = function.waiting.take();
        let has_backend = match provisioned.target {
            Target::Backend => true,
            Target::Jobs => function.spec.target == Target::Backend,
            Target::Local | Target::Endpoint(_) => false,
        };
        answer(waiting, Answer::Refused(Refusal::StoreUnavailable), fx);
        self.write(Record::Removed { name }, fx);
        if !has_backend {
            self.drop_function(key, fx);
            return;
        }
        if let Some(function) = self.functions.get_mut(key) {
            // Nobody waits for it any more: what comes of it is the same either way.
            function.life = Life::RollingBack;
        }
        fx.push(Effect::Teardown { function: key, name });
    }

    /// A backend says something about a function. Should it answer twice, nothing follows from the second answer.
    pub(super) fn backend_event(&mut self, key: FunctionKey, event: BackendEvent, fx: &mut Effects) {
        match event {
            BackendEvent::Provisioned(result) => self.provisioned(key, result, fx),
            BackendEvent::TornDown(result) => self.torn_down(key, result, fx),
            BackendEvent::Scaled(result) => self.scaled(key, result, fx),
            BackendEvent::EndpointsChanged { endpoints, desired } => {
                self.endpoints_changed(key, endpoints, desired, fx);
            }
        }
    }

    /// The backend has an answer: the function becomes visible once that is written down, or the claim is given up.
    fn provisioned(
        &mut self,
        key: FunctionKey,
        result: Result<Provisioned, BackendFailure>,
        fx: &mut Effects,
    ) {
        // Stale when the backend answers twice, and the first answer was a failure.
        let Some(function) = self.functions.get_mut(key) else { return };
        if function.reconciling.is_some() {
            self.reconciled(key, result, fx);
            return;
        }
        if function.life != Life::Provisioning {
            return;
        }
        match result {
            Ok(provisioned) => self.write_registered(key, provisioned, fx),
            Err(failure) => {
                let waiting = function.waiting.take();
                answer(waiting, Answer::Refused(Refusal::Backend(failure)), fx);
                self.drop_function(key, fx);
            }
        }
    }

    /// Takes over how a visible function runs.
    pub(super) fn settle_provisioned(
        &mut self,
        key: FunctionKey,
        provisioned: Provisioned,
        fx: &mut Effects,
    ) {
        let Some(function) = self.functions.get_mut(key) else { return self.impossible() };
        function.document = provisioned.document;
        function.desired = provisioned.desired;
        function.runner = match provisioned.target {
            Target::Local => Runner::Local,
            Target::Endpoint(_) => Runner::Address,
            Target::Backend => Runner::Backend,
            Target::Jobs => Runner::Jobs,
        };
        // Also of one that is no longer managed: replicas that were reported before may have set its slots.
        function.follow_replicas(self.settings.autoscaler.is_some());
        // Replicas may have come or gone while the answer was on its way.
        let is_empty = function.endpoints.is_empty();
        // Of one that is not managed, what the backend reported meanwhile is closed.
        let managed = function.is_managed();
        for endpoint in function.endpoints.take_unless(|_| managed) {
            self.close_endpoint(endpoint.id, fx);
        }
        match provisioned.target {
            Target::Local | Target::Jobs => {}
            Target::Endpoint(address) => self.open_endpoint(key, ReplicaAddress { replica: 0, address }, fx),
            Target::Backend => {
                if is_empty {
                    self.endpoints_changed(key, provisioned.endpoints, provisioned.desired, fx);
                }
            }
        }
        if self.functions.get(key).is_some_and(|function| function.has_replica()) {
            // Of a restored function, calls may have waited for this.
            self.restart_sync_waits(key);
        }
        let poll_us = self.settings.autoscaler.as_ref().map_or(0, |auto| auto.poll_interval_us);
        self.arm_scaling(poll_us);
        self.ring(key);
    }

    /// Makes a function invisible and has that written down.
    pub(super) fn remove(&mut self, ticket: Ticket, name: &Name, fx: &mut Effects) {
        let key = self.index.names.get(name.as_str()).copied();
        let Some((key, function)) = key.and_then(|key| Some((key, self.functions.get_mut(key)?))) else {
            fx.reply(ticket, Answer::Refused(Refusal::FunctionNotFound));
            return;
        };
        if function.life.is_busy() {
            push_pending(function, Pending::Remove { ticket }, self.limits.pending_max, fx);
            return;
        }
        function.life = Life::Removing;
        function.waiting = Some(ticket);
        self.write(Record::Removed { name: *name }, fx);
        self.journal.promise(Promise::Remove(key));
    }

    /// A removal is written down: what waits for the function ends, and then its replicas are removed.
    pub(super) fn removal_is_safe(&mut self, key: FunctionKey, fx: &mut Effects) {
        let Some(function) = self.functions.get_mut(key) else { return self.impossible() };
        function.life = Life::Ending;
        let running = function.jobs_in_flight();
        let (name, waiting) = (function.name, function.waiting_count() + running);
        self.dead_letters.make_room(name, waiting as usize);
        self.begin(Chore::Removal(key), fx);
    }

    /// Nothing waits for a removed function any more.
    pub(super) fn queue_has_ended(&mut self, key: FunctionKey, fx: &mut Effects) {
        let Some(function) = self.functions.get_mut(key) else { return self.impossible() };
        let (has_backend, name) = (function.has_backend(), function.name);
        if has_backend {
            function.life = Life::TearingDown;
        }
        self.dead_letters.tidy(&name);
        if has_backend {
            fx.push(Effect::Teardown { function: key, name });
            return;
        }
        let waiting = function.waiting.take();
        answer(waiting, Answer::Removed, fx);
        self.drop_function(key, fx);
    }

    /// A removal cannot be written down: the function is back, and so is what waits for it.
    pub(super) fn removal_failed(&mut self, key: FunctionKey, fx: &mut Effects) {
        self.reinstate(key, Refusal::StoreUnavailable, fx);
    }

    /// The backend removed the replicas, or could not: then the function is back.
    fn torn_down(&mut self, key: FunctionKey, result: Result<(), BackendFailure>, fx: &mut Effects) {
        let being_torn_down =
            |function: &&mut Function| matches!(function.life, Life::TearingDown | Life::RollingBack);
        // Stale when the backend answers twice.
        let Some(function) = self.functions.get_mut(key).filter(being_torn_down) else { return };
        match result {
            Err(failure) if function.life == Life::TearingDown => {
                self.reinstate(key, Refusal::Backend(failure), fx)
            }
            // Of a registration that failed nobody knows.
            _ => {
                let waiting = function.waiting.take();
                answer(waiting, Answer::Removed, fx);
                self.drop_function(key, fx);
            }
        }
    }

    /// A removal came to nothing.
    fn reinstate(&mut self, key: FunctionKey, refusal: Refusal, fx: &mut Effects) {
        let Some(function) = self.functions.get_mut(key) else { return self.impossible() };
        function.life = Life::Live;
        let waiting = function.waiting.take();
        let spec = function.spec.clone();
        self.write(Record::Reinstated { spec }, fx);
        answer(waiting, Answer::Refused(refusal), fx);
        self.ring(key);
        self.next_pending(key, fx);
    }

    /// Asks the backend for another number of replicas.
    pub(super) fn scale(&mut self, ticket: Ticket, name: &Name, replicas: u32, fx: &mut Effects) {
        let key = self.index.names.get(name.as_str()).copied();
        let Some((key, function)) = key.and_then(|key| Some((key, self.functions.get_mut(key)?))) else {
            fx.reply(ticket, Answer::Refused(Refusal::FunctionNotFound));
            return;
        };
        if function.life.is_busy() {
            push_pending(function, Pending::Scale { ticket, replicas }, self.limits.pending_max, fx);
        } else if !function.is_managed() {
            fx.reply(ticket, Answer::Refused(Refusal::NotScalable));
        } else {
            function.life = Life::Ordered;
            function.waiting = Some(ticket);
            let first_to_go = first_to_go(function, replicas, self.sabotaged);
            fx.push(Effect::Scale { function: key, name: *name, replicas, first_to_go });
        }
    }

    /// The backend took note of the number, or could not.
    fn scaled(&mut self, key: FunctionKey, result: Result<u32, BackendFailure>, fx: &mut Effects) {
        let Some(function) = self.functions.get_mut(key).filter(|function| function.life == Life::Ordered)
        else {
            // Stale when the backend answers twice. Provisioning and removing end with answers of their own.
            return;
        };
        function.life = Life::Live;
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

    pub(super) fn get_function(&self, ticket: Ticket, name: &Name, fx: &mut Effects) {
        let answer = match self.live_function(name) {
            Some((_, function)) => Answer::Function(function.document.clone()),
            None => Answer::Refused(Refusal::FunctionNotFound),
        };
        fx.reply(ticket, answer);
    }

    pub(super) fn get_replicas(&self, ticket: Ticket, name: &Name, fx: &mut Effects) {
        let told = match self.live_function(name) {
            None => Answer::Refused(Refusal::FunctionNotFound),
            Some((_, function)) if !function.is_managed() => Answer::Refused(Refusal::NotScalable),
            Some((_, function)) => {
                Answer::Replicas { desired: function.desired, ready: function.endpoints.len() as u32 }
            }
        };
        fx.reply(ticket, told);
    }

    /// Starts the next request that waited for this function's backend.
    pub(super) fn next_pending(&mut self, key: FunctionKey, fx: &mut Effects) {
        while let Some(function) = self.functions.get_mut(key).filter(|function| !function.life.is_busy()) {
            let name = function.name;
            let Some(request) = function.pending.pop_front() else { break };
            self.start(request, &name, fx);
        }
    }

    /// Forgets a function; its entry stays until the attempts that are in flight have come home. Requests that
    /// waited for it find the name free, and are served in the order in which they came.
    fn drop_function(&mut self, key: FunctionKey, fx: &mut Effects) {
        let Some(function) = self.functions.get_mut(key) else { return self.impossible() };
        let was_visible = !function.life.is_claimed() && function.life != Life::RollingBack;
        self.timers.remove(function.reconciling.take().unwrap_or_default());
        function.life = Life::Gone;
        let name = function.name;
        let endpoints = function.endpoints.take_unless(|_| false);
        let mut pending = std::mem::take(&mut function.pending);
        let idle = function.in_flight == 0;
        // What waited has ended. Should one of them be tried again under another registration, it does not wait here.
        function.queue = WaitQueue::default();
        function.backlog = WaitQueue::default();
        self.index.names.remove(name.as_str());
        for endpoint in endpoints {
            self.close_endpoint(endpoint.id, fx);
        }
        if was_visible {
            fx.push(Effect::Note(Note::FunctionGone { function: key }));
        }
        if idle {
            self.forget_function(key);
        }
        while let Some(request) = pending.pop_front() {
            self.start(request, &name, fx);
            let holder = self
                .index
                .names
                .get(name.as_str())
                .copied()
                .and_then(|holder| self.functions.get_mut(holder));
            if let Some(holder) = holder.filter(|holder| holder.life.is_busy()) {
                // Else a registration behind a removal would be answered before that removal.
                holder.pending = pending;
                return;
            }
        }
    }

    fn start(&mut self, request: Pending, name: &Name, fx: &mut Effects) {
        match request {
            Pending::Register { ticket, spec } => self.register(ticket, spec, fx),
            Pending::Remove { ticket } => self.remove(ticket, name, fx),
            Pending::Scale { ticket, replicas } => self.scale(ticket, name, replicas, fx),
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
