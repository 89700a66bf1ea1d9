//! The model of dead letters, and of executions that may not wait for ever.

use super::{
    oracle::{DEAD_MAX, Execution, Oracle, State},
    registry::Life,
};

impl Execution {
    pub(super) fn attempts_made(&self) -> u32 {
        self.attempt - self.attempts_before
    }
}

impl Oracle {
    /// Whether an execution that just ended is a dead letter now.
    pub(super) fn bury(&mut self, ticket: u64) -> bool {
        let execution = &self.executions[&ticket];
        let failed = matches!(execution.state, State::Error | State::Timeout);
        if !execution.accepted || !failed || execution.code == "CANCELLED" {
            return false;
        }
        let at = execution.function;
        self.functions[at].counts.dead += 1;
        self.list_letter(ticket);
        true
    }

    /// Puts a dead letter behind the others of its name.
    pub(super) fn list_letter(&mut self, ticket: u64) {
        let at = self.executions[&ticket].function;
        let name = self.functions[at].name;
        self.dead.entry(name).or_default().push(ticket);
        // Those that waited for a function that was removed are counted apart.
        let is_of_removal = |letter: &u64| self.executions[letter].code == "FUNCTION_REMOVED";
        let of_removal = is_of_removal(&ticket);
        let letters = self.dead[&name].iter().copied();
        let alike: Vec<u64> = letters.filter(|letter| is_of_removal(letter) == of_removal).collect();
        if of_removal && self.restoring {
            let room = self.rooms.entry(name).or_default();
            *room = alike.len().max(*room);
        }
        let room = self.rooms.get(&name).copied().unwrap_or_default();
        let most = if of_removal { room.max(DEAD_MAX) } else { DEAD_MAX };
        if alike.len() > most {
            self.functions[at].counts.dropped += 1;
            self.give_up_letter(name, alike[0]);
        }
    }

    fn give_up_letter(&mut self, name: u8, ticket: u64) {
        self.dead.entry(name).or_default().retain(|letter| *letter != ticket);
        let (now_ms, record) = (self.now_ms, self.next_order());
        let given_up = self.get(ticket);
        given_up.kept_from_ms = now_ms;
        given_up.record = record;
        given_up.recovered = false;
        self.finished.push(ticket);
    }

    /// Dead letters that there are, with their names.
    pub(super) fn letters(&self) -> Vec<(u8, u64)> {
        self.dead.iter().flat_map(|(name, letters)| letters.iter().map(|letter| (*name, *letter))).collect()
    }

    pub(super) fn purge(&mut self, ticket: u64, name: u8, execution: u64) {
        match self.find_letter(name, execution) {
            Ok(_) => {
                self.give_up_letter(name, execution);
                self.reply(ticket, "removed");
            }
            Err(refusal) => self.reply(ticket, refusal),
        }
    }

    pub(super) fn replay(&mut self, ticket: u64, name: u8, execution: u64) {
        if self.drained {
            return self.reply(ticket, "refused ShuttingDown");
        }
        let at = match self.find_letter(name, execution) {
            Ok(at) => at,
            Err(refusal) => return self.reply(ticket, refusal),
        };
        if self.waiting(at).len() >= self.functions[at].policy.queue_size as usize {
            return self.reply(ticket, "refused QueueFull");
        }
        // Its key is its own again, unless another execution has it that goes on.
        let key = self.executions[&execution].key;
        if let Some(key) = key {
            let held = self.keys.get(&key).map(|(holder, _, _)| *holder);
            if held.is_some_and(|held| held != execution && !self.executions[&held].is_terminal()) {
                return self.reply(ticket, "refused KeyInUse");
            }
            let digest = self.executions[&execution].digest;
            self.keys.insert(key, (execution, digest, self.now_ms));
        }
        self.dead.entry(name).or_default().retain(|letter| *letter != execution);
        self.functions[at].counts.replays += 1;
        let (unix_ms, record) = (self.unix_ms, self.next_order());
        let revived = self.get(execution);
        revived.queued_unix_ms = unix_ms;
        (revived.record, revived.claimed) = (record, record);
        revived.function = at;
        revived.state = State::Queued;
        revived.last_code = std::mem::take(&mut revived.code);
        revived.attempts_before = revived.attempt;
        revived.revived = true;
        revived.tried = revived.attempt > 0;
        (revived.crashes, revived.careful_until_ms) = (0, 0);
        revived.on_record.not_run = revived.on_record.attempt.saturating_sub(revived.attempt);
        self.write(execution);
        self.arm_expiry(execution);
        self.reply(ticket, &format!("accepted {execution}"));
        self.dispatch_or_enqueue(at, execution);
    }

    fn find_letter(&self, name: u8, execution: u64) -> Result<usize, &'static str> {
        let live = |at: &&usize| self.functions[**at].life == Life::Live;
        let at = self.names.get(&name).filter(live).copied().ok_or("refused FunctionNotFound")?;
        let is_dead = self.dead.get(&name).is_some_and(|letters| letters.contains(&execution));
        if is_dead { Ok(at) } else { Err("refused DeadLetterNotFound") }
    }

    pub(super) fn arm_expiry(&mut self, ticket: u64) {
        let (now_ms, order) = (self.now_ms, self.next_order());
        let execution = self.get(ticket);
        execution.expires_ms = execution.max_age_ms.map(|max_age_ms| now_ms + u64::from(max_age_ms));
        execution.expiry = execution.expires_ms.map(|expires_ms| (expires_ms, order));
    }

    pub(super) fn expiry_is_over(&mut self, ticket: u64) {
        self.get(ticket).expiry = None;
        if self.executions[&ticket].state == State::Queued {
            self.expire(ticket);
        }
    }

    pub(super) fn expire(&mut self, ticket: u64) {
        let at = self.executions[&ticket].function;
        self.functions[at].counts.expired += 1;
        self.finish(ticket, State::Error, "EXPIRED");
    }
}
