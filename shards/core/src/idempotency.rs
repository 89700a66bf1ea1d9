//! Idempotency keys: function name and key, to the execution that they started.
//!
//! Ordered maps, because keys are chosen by callers: a hash table with a fixed seed could be flooded.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::{input::Idempotency, shard::ExecutionKey};

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
    }

    pub(crate) fn remove(&mut self, function: &Arc<str>, key: &str) {
        self.claims.remove(&(Arc::clone(function), Arc::from(key)));
    }

    /// Takes out the oldest claim if it is older than `ttl_us` or there are more than `keys_max`. A claim that
    /// `keep` wants (its execution has not ended) is written again instead. `false`: nothing to do.
    pub(crate) fn expire_one(
        &mut self,
        now_us: u64,
        ttl_us: u64,
        keys_max: usize,
        keep: impl Fn(ExecutionKey) -> bool,
    ) -> bool {
        let Some((scope, number)) = self.written.front() else { return false };
        let Some(claim) = self.claims.get(scope).filter(|claim| claim.number == *number).copied() else {
            self.written.pop_front();
            return true;
        };
        let expired = claim.written_us.saturating_add(ttl_us) <= now_us;
        if !expired && self.claims.len() <= keys_max {
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
        true
    }
}
