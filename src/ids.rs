//! Makes execution ids.

use shard_core::ExecutionId;

/// Random bytes fetched at once: one system call for 256 ids.
const POOL_BYTES: usize = 4096;

/// A thread's supply of random bytes from the operating system.
pub(crate) struct IdSource {
    pool: Box<[u8; POOL_BYTES]>,
    used: usize,
}

impl Default for IdSource {
    fn default() -> Self {
        IdSource { pool: Box::new([0; POOL_BYTES]), used: POOL_BYTES }
    }
}

impl IdSource {
    /// A new id for an execution of the function with this owner hash.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub(crate) fn next(&mut self, owner_hash: u16) -> Result<ExecutionId, getrandom::Error> {
        if self.used + 16 > POOL_BYTES {
            getrandom::fill(&mut self.pool[..])?;
            self.used = 0;
        }
        let mut random = [0; 16];
        random.copy_from_slice(&self.pool[self.used..self.used + 16]);
        // Bytes that were used must not be found in memory and used again.
        self.pool[self.used..self.used + 16].fill(0);
        self.used += 16;
        Ok(ExecutionId::new(random, owner_hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_carry_the_hash() {
        let mut source = IdSource::default();
        let ids: std::collections::BTreeSet<_> =
            (0..1000).map(|_| source.next(0xabcd).expect("random bytes")).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.owner_hash() == 0xabcd));
    }
}
