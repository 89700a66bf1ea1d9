//! Idempotency keys: function name and key, to the execution that they started.
//!
//! Ordered maps, because keys are chosen by callers: a hash table with a fixed seed could be flooded.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::{call::Idempotency, keys::ExecutionKey};

/// What a key stands for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim {
    /// The execution. It may be gone by now.
    pub(crate) execution: ExecutionKey,
    /// Digest of the payload that the key is bound to.
    pub(crate) digest: [u8; 16],
    /// When the claim was last written.
    written_us: u64,
    /// Tells its newest place in the order of writing from older ones.
    number: u64,
}

impl Claim {
    /// Whether its time is over.
    pub(crate) fn is_expired(&self, now_us: u64, ttl_us: u64) -> bool {
        self.written_us.saturating_add(ttl_us) <= now_us
    }
}

/// Stale entries that may stay, whatever the number of claims.
const STALE_MIN: usize = 32;

type KeyText = Arc<str>;
type Scope = (Arc<str>, KeyText);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    claims: BTreeMap<Scope, Claim>,
    /// Writes in order, oldest first; a claim that was written again has a newer entry behind.
    written: VecDeque<(Scope, u64)>,
    writes: u64,
}

impl Keys {
    pub(crate) fn len(&self) -> usize {
        self.claims.len()
    }

    pub(crate) fn get(&self, function: &Arc<str>, key: &str) -> Option<&Claim> {
        self.claims.get(&(Arc::clone(function), Arc::from(key)))
    }

    /// Claims a key, or writes it again.
    pub(crate) fn put(
        &mut self,
        function: &Arc<str>,
        key: &Idempotency,
        execution: ExecutionKey,
        now_us: u64,
    ) {
        let scope = (Arc::clone(function), Arc::from(&*key.key));
        self.writes += 1;
        let claim = Claim { execution, digest: key.digest, written_us: now_us, number: self.writes };
        self.claims.insert(scope.clone(), claim);
        self.written.push_back((scope, self.writes));
        self.forget_stale();
    }

    /// Sweeps out entries of claims that are gone or were written again, once they outnumber the others: behind
    /// a claim that is still good they would pile up as long as that lives.
    fn forget_stale(&mut self) {
        if self.written.len() > 2 * self.claims.len() + STALE_MIN {
            let claims = &self.claims;
            self.written
                .retain(|(scope, number)| claims.get(scope).is_some_and(|claim| claim.number == *number));
        }
    }

    /// Entries in the order of writing, for the audit: never many more than claims.
    pub(crate) fn is_bounded(&self) -> bool {
        self.written.len() <= 2 * self.claims.len() + STALE_MIN + 1
    }

    pub(crate) fn remove(&mut self, function: &Arc<str>, key: &str) {
        self.claims.remove(&(Arc::clone(function), Arc::from(key)));
        self.forget_stale();
    }

    /// Takes out the oldest claim if it is older than `ttl_us` or one has to go (`is_one_too_many`). A claim that
    /// `keep` wants (its execution has not ended) is written again instead. `false`: nothing to do.
    pub(crate) fn expire_one(
        &mut self,
        now_us: u64,
        ttl_us: u64,
        is_one_too_many: bool,
        keep: impl Fn(ExecutionKey) -> bool,
    ) -> bool {
        let Some((scope, number)) = self.written.front() else { return false };
        let Some(claim) = self.claims.get(scope).filter(|claim| claim.number == *number).copied() else {
            self.written.pop_front();
            return true;
        };
        let expired = claim.is_expired(now_us, ttl_us);
        if !expired && !is_one_too_many {
            return false;
        }
        let Some((scope, _)) = self.written.pop_front() else { return false };
        if keep(claim.execution) {
            self.writes += 1;
            let renewed = Claim { written_us: now_us, number: self.writes, ..claim };
            self.claims.insert(scope.clone(), renewed);
            self.written.push_back((scope, self.writes));
            // With only running executions left there is nothing to take out.
            return expired;
        }
        self.claims.remove(&scope);
        self.forget_stale();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL_US: u64 = 100;

    fn key(text: &str) -> Idempotency {
        Idempotency { key: text.into(), digest: [0; 16] }
    }

    /// Takes out all that is too old or too many.
    fn expire(keys: &mut Keys, now_us: u64, keys_max: usize) {
        while keys.expire_one(now_us, TTL_US, keys.len() > keys_max, |_| false) {}
    }

    #[test]
    fn one_that_is_written_again_is_among_the_youngest() {
        let (mut keys, function) = (Keys::default(), Arc::from("f"));
        for text in ["a", "b", "a"] {
            keys.put(&function, &key(text), ExecutionKey::NONE, 0);
        }
        expire(&mut keys, 0, 1);
        assert!(keys.get(&function, "a").is_some() && keys.get(&function, "b").is_none());
    }

    #[test]
    fn one_whose_execution_runs_is_as_good_as_new_and_goes_later() {
        let (mut keys, function) = (Keys::default(), Arc::from("f"));
        keys.put(&function, &key("a"), ExecutionKey::NONE, 0);
        assert!(keys.expire_one(TTL_US, TTL_US, false, |_| true), "there may be more that are too old");
        keys.put(&function, &key("b"), ExecutionKey::NONE, TTL_US);
        assert!(!keys.expire_one(2 * TTL_US - 1, TTL_US, false, |_| false));
        assert_eq!(keys.len(), 2);
        // It was written again before the other one was written.
        expire(&mut keys, TTL_US, 1);
        assert!(keys.get(&function, "a").is_none() && keys.get(&function, "b").is_some());
        expire(&mut keys, 2 * TTL_US, 10);
        assert_eq!((keys.len(), keys.written.len()), (0, 0));
    }

    #[test]
    fn entries_of_what_was_written_again_do_not_pile_up_and_all_goes_in_the_end() {
        let (mut keys, function) = (Keys::default(), Arc::from("f"));
        keys.put(&function, &key("still good"), ExecutionKey::NONE, 0);
        for now_us in 0..1000 {
            keys.put(&function, &key("a"), ExecutionKey::NONE, now_us);
            assert!(keys.written.len() <= 2 * keys.len() + STALE_MIN + 1, "{} entries", keys.written.len());
        }
        expire(&mut keys, 1000 + TTL_US, 10);
        assert_eq!((keys.len(), keys.written.len()), (0, 0));
    }
}
