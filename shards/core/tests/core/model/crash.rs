//! The model of a crash: what was there after some earlier step is there again, less all that is on no record. It knows of
//! states only; the shard has records and nothing else.

use std::collections::BTreeMap;

use shard_core::{Control, Effects, Input, Recovery, Shard};

use super::{
    drive::Drive,
    oracle::{ACCEPTED_TTL_MS, OnRecord, Oracle, State},
    registry::{Function, Life, Reconcile},
    rooms::limits,
};

/// A step up to which all may be safe, and nothing after it.
pub(super) struct SafePoint {
    records: usize,
    oracle: Oracle,
}

impl Drive {
    /// Takes note of where a crash may go back to: not to before what the shard was told is safe.
    pub(super) fn keep_safe_point(&mut self, written: bool) {
        if written {
            self.safe_points.clear();
        }
        self.safe_points.push(SafePoint { records: self.records.len(), oracle: self.oracle.clone() });
    }

    /// Another shard goes on with what is safe of the records.
    pub(super) fn crash(&mut self, lost: usize) {
        let count = self.safe_points.len();
        if count == 0 {
            return;
        }
        let SafePoint { records, oracle } = self.safe_points.swap_remove(count - 1 - lost % count);
        self.safe_points.clear();
        self.records.truncate(records);
        self.written = 0;
        self.open.clear();
        self.functions.clear();
        self.attempts.clear();
        // Whoever waited is cut off.
        self.left
            .extend(self.answers.iter().filter(|(_, answers)| **answers == 0).map(|(ticket, _)| *ticket));

        // Numbers that a crash takes along are not used again.
        self.oracle.unused.clear();
        let Oracle { now_ms, second, unix_ms, order, .. } = self.oracle;
        self.oracle = Oracle { now_ms, second, unix_ms, order, ..oracle };
        let mut recovery = Recovery::default().with_results_max(limits().room.bytes);
        self.records.iter().cloned().for_each(|entry| recovery.apply(entry));
        self.shard = Shard::new(limits(), 7, self.shard.settings().clone());
        self.rooms = std::mem::take(&mut self.rooms).of_another_shard();
        let mut effects = Effects::default();
        for stored in
            recovery.into_stored().map(Control::Restore).chain([Control::Restored]).map(Input::Control)
        {
            self.handle(stored, &mut effects);
        }
        let holders = self.oracle.key_holders();
        let expected = self.oracle.crash();
        let managed = |at: &usize| self.oracle.functions[*at].managed;
        let managed: Vec<usize> = self.oracle.names.values().copied().filter(managed).collect();
        let (real, _) = self.settle(effects, &mut managed.into_iter());
        self.same(expected, real);
        self.learn_replicas();
        self.bind_keys(holders);
        self.keep_safe_point(true);
        self.compare();
    }

    /// A key stands for the newest of the executions with it: the one that was accepted or replayed last.
    fn bind_keys(&mut self, holders: BTreeMap<(u8, u8), u64>) {
        self.oracle.keys.clear();
        for (key, ticket) in holders {
            let execution = &self.oracle.executions[&ticket];
            let digest = execution.digest;
            let written_ms = execution.key_written_ms;
            match self.probe(ticket) {
                Some(_) => {
                    self.doubtful_keys.remove(&key);
                    self.oracle.keys.insert(key, (ticket, digest, written_ms));
                }
                // Another one has it if this one was pushed out before the crash; none if after that.
                None => drop(self.doubtful_keys.insert(key)),
            }
        }
    }
}

impl Oracle {
    /// Executions that are on record, in the order in which they are given back.
    fn by_record(&self) -> Vec<u64> {
        let on_record =
            self.executions.iter().filter(|(_, execution)| execution.accepted && !execution.discarded);
        let mut all: Vec<(u64, u64)> =
            on_record.map(|(ticket, execution)| (execution.record, *ticket)).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, ticket)| ticket).collect()
    }

    /// Whom each key belongs to, as far as executions are on record.
    fn key_holders(&self) -> BTreeMap<(u8, u8), u64> {
        let mut newest = self.by_record();
        newest.sort_by_key(|ticket| self.executions[ticket].claimed);
        newest.iter().filter_map(|ticket| Some((self.executions[ticket].key?, *ticket))).collect()
    }

    /// Goes on with what is on record.
    fn crash(&mut self) -> Vec<String> {
        let live: Vec<usize> =
            self.names.values().copied().filter(|at| self.functions[*at].life == Life::Live).collect();
        let letters: Vec<u64> = self.letters().into_iter().map(|(_, ticket)| ticket).collect();
        self.out.clear();
        self.recorded.clear();
        self.ordered.clear();
        self.starts_before = self.starts;
        self.attempts.clear();
        self.finished.clear();
        (self.granted_bytes, self.drained) = (0, false);
        self.restoring = true;
        self.names.clear();
        self.dead.clear();
        self.rooms.clear();
        for function in &mut self.functions {
            function.life = Life::Gone;
            function.queue.clear();
            function.replicas.clear();
        }
        for at in &live {
            self.restore_function(*at);
        }
        for execution in self.executions.values_mut() {
            execution.discarded |= !execution.accepted;
            execution.waiters.clear();
            (execution.backoff, execution.expiry) = (None, None);
        }
        for ticket in self.by_record() {
            // Deadlines pass meanwhile.
            self.fire_timers();
            let name = self.functions[self.executions[&ticket].function].name;
            // One that was accepted or replayed since then is of whoever has the name, also if it was called before.
            let removed = self.removed.get(&name).copied().unwrap_or_default();
            let is_removed = removed > self.executions[&ticket].claimed;
            let owner = self.names.get(&name).copied().filter(|_| !is_removed);
            match self.executions[&ticket].is_terminal() {
                true => self.restore_ended(ticket, owner, letters.contains(&ticket)),
                false => self.restore_live(ticket, owner),
            }
        }
        self.fire_timers();
        for at in self.names.values().copied().collect::<Vec<_>>() {
            // An attempt that goes on may have to be made again.
            self.functions[at].restored = self.waiting(at).len() + self.in_flight(at);
        }
        self.restoring = false;
        self.look_for_jobs();
        if !self.attempts.is_empty() {
            // A record is written, and more deadlines have passed by then.
            self.fire_timers();
        }
        self.settle()
    }

    fn restore_function(&mut self, at: usize) {
        let registration = self.functions[at].registration();
        let (name, backend) = (registration.name, registration.backend);
        let mut function = Function::new(registration, None);
        if backend {
            function.managed = true;
            function.reconcile = Some(Reconcile::Asked);
            self.out.push(format!("provision f{name}"));
        }
        self.functions.push(function);
        self.names.insert(name, self.functions.len() - 1);
    }

    fn restore_ended(&mut self, ticket: u64, owner: Option<usize>, dead: bool) {
        let (now_ms, unix_ms) = (self.now_ms, self.unix_ms);
        let execution = self.get(ticket);
        let age_ms = unix_ms.saturating_sub(execution.finished_unix_ms);
        if !dead && age_ms >= ACCEPTED_TTL_MS {
            execution.discarded = true;
            return;
        }
        (execution.attempt, execution.attempts_before) =
            (execution.on_record.attempt, execution.on_record.attempts_before);
        execution.kept_from_ms = now_ms.saturating_sub(age_ms);
        // Also when it is a letter too many, whose time starts now.
        execution.key_written_ms = execution.kept_from_ms;
        execution.on_record.not_run = 0;
        execution.recovered = true;
        if let Some(owner) = owner {
            execution.function = owner;
            self.functions[owner].counts.recovered += 1;
        }
        match dead {
            true => self.list_letter(ticket),
            false => self.finished.push(ticket),
        }
    }

    fn restore_live(&mut self, ticket: u64, owner: Option<usize>) {
        let (now_ms, unix_ms, order) = (self.now_ms, self.unix_ms, self.next_order());
        let starts = self.starts_before;
        self.starts = starts + 1;
        let execution = self.get(ticket);
        // What was cut off does not count, nor does what may have been tried without a record: by each server since the last one
        // that wrote about it, and once more if no attempt is on record.
        let OnRecord { attempt, attempts_before, running, job, tried, starts: known, crashes, .. } =
            execution.on_record;
        // No attempt follows one with a job that is not on record.
        let unrecorded = if job { 0 } else { starts - known + u32::from(!running) };
        execution.attempt = attempt + unrecorded;
        execution.attempts_before =
            (attempts_before + u32::from(running) + unrecorded).min(execution.attempt);
        execution.tried = tried;
        execution.key_written_ms = now_ms;
        (execution.crashes, execution.careful_until_ms) = (crashes, 0);
        execution.on_record.not_run = 0;
        execution.state = State::Queued;
        let age_ms = unix_ms.saturating_sub(execution.queued_unix_ms);
        let left_ms = execution.max_age_ms.map(|max_age_ms| u64::from(max_age_ms).saturating_sub(age_ms));
        execution.expires_ms = left_ms.map(|left_ms| now_ms + left_ms);
        execution.expiry = execution.expires_ms.map(|expires_ms| (expires_ms, order));
        match owner {
            Some(owner) if job && self.adopt(ticket, owner) => {
                let execution = self.get(ticket);
                execution.function = owner;
                execution.attempts_before = attempts_before;
            }
            Some(owner) => {
                let execution = self.get(ticket);
                execution.function = owner;
                self.enqueue(owner, ticket);
                self.functions[owner].counts.requeued += 1;
            }
            None => self.finish(ticket, State::Error, "FUNCTION_REMOVED"),
        }
    }
}
