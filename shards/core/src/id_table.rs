//! Finds executions by their id.
//!
//! Many small tables instead of one: a table that doubles with a million ids in it stops its shard for tens of
//! milliseconds, a sixty-fourth of that is not noticed.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hash, Hasher},
};

use crate::{id::ExecutionId, shard::ExecutionKey};

/// Number of tables; a power of two.
const TABLES: usize = 64;

/// Takes the random bits of an id as its hash: ids are made by the server, never by a caller.
#[derive(Debug, Default, Clone, Copy)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, bits: u64) {
        self.0 = bits;
    }
}

/// An id that hashes by its random bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct HashedId(ExecutionId);

impl Hash for HashedId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.random_bits());
    }
}

type Table = HashMap<HashedId, ExecutionKey, BuildHasherDefault<IdHasher>>;

/// See the module.
#[derive(Debug)]
pub(crate) struct IdTable {
    tables: [Table; TABLES],
}

impl IdTable {
    pub(crate) fn new() -> IdTable {
        IdTable { tables: std::array::from_fn(|_| Table::default()) }
    }

    pub(crate) fn get(&self, id: ExecutionId) -> Option<ExecutionKey> {
        self.tables[index_of(id)].get(&HashedId(id)).copied()
    }

    pub(crate) fn insert(&mut self, id: ExecutionId, key: ExecutionKey) {
        self.tables[index_of(id)].insert(HashedId(id), key);
    }

    pub(crate) fn remove(&mut self, id: ExecutionId) {
        self.tables[index_of(id)].remove(&HashedId(id));
    }
}

/// Picks the table by bits from the middle: a hash table uses the lowest and the highest ones itself.
fn index_of(id: ExecutionId) -> usize {
    (id.random_bits() >> 40) as usize % TABLES
}
