//! Finds executions by their id.
//!
//! Ids are forgotten nearly in the order in which they came, and hardly ever looked up. So there are many small tables,
//! one after the other, instead of a large one: a new id goes into the youngest, which stays in the processor's
//! cache, nothing is ever taken out of one, and a table goes as a whole when none of its ids is in use any more. A
//! lookup asks them all, youngest first. One table of a million ids costs a call two cache misses when its id comes
//! and two when it goes, and stops its shard for tens of milliseconds when it grows.
//!
//! Some ids stay for long: dead letters, calls that run for hours. When they keep many tables alive, the oldest table's
//! are moved into the youngest.

use std::{
    collections::VecDeque,
    hash::{BuildHasherDefault, Hash, Hasher},
};

use crate::{id::ExecutionId, keys::ExecutionKey};

/// Ids of one table: what a hash table of 8192 places takes before it grows.
const TABLE_MAX: usize = 7168;

/// Tables beyond twice those that the ids in use would fill.
const SPARE_TABLES: usize = 8;

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

#[expect(
    clippy::disallowed_types,
    reason = "hashes have no seed; clippy.toml forbids what would show an order"
)]
type KeysById = std::collections::HashMap<HashedId, ExecutionKey, BuildHasherDefault<IdHasher>>;

#[derive(Debug, Default)]
struct Table {
    keys: KeysById,
    /// The same keys in the order in which they came: no order may depend on a hash.
    order: Vec<ExecutionKey>,
    /// Ids that are in use.
    used: usize,
}

/// The table that an id is in. Given when it is inserted, and wanted back when it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct TableNumber(u32);

/// See the module.
#[derive(Debug)]
pub(crate) struct IdTable {
    /// Oldest first, never empty.
    tables: VecDeque<Table>,
    /// Number of the oldest one.
    oldest: u32,
    /// Ids that are in use.
    used: usize,
}

impl IdTable {
    pub(crate) fn new() -> IdTable {
        IdTable { tables: VecDeque::from([Table::default()]), oldest: 0, used: 0 }
    }

    /// Where an id was put last. Its execution may be gone.
    pub(crate) fn get(&self, id: ExecutionId) -> Option<ExecutionKey> {
        self.tables.iter().rev().find_map(|table| table.keys.get(&HashedId(id)).copied())
    }

    /// Puts an id into the youngest table.
    pub(crate) fn insert(&mut self, id: ExecutionId, key: ExecutionKey) -> TableNumber {
        match self.tables.back_mut() {
            Some(table) if table.keys.len() < TABLE_MAX => {}
            Some(table) if table.used == 0 => {
                table.keys.clear();
                table.order.clear();
            }
            _ => self.tables.push_back(Table::default()),
        }
        if let Some(table) = self.tables.back_mut() {
            table.keys.insert(HashedId(id), key);
            table.order.push(key);
            table.used += 1;
        }
        self.used += 1;
        TableNumber(self.oldest.wrapping_add(self.tables.len() as u32 - 1))
    }

    /// An id that was put into this table is not in use any more.
    pub(crate) fn release(&mut self, number: TableNumber) {
        let index = number.0.wrapping_sub(self.oldest) as usize;
        let is_youngest = index + 1 == self.tables.len();
        let Some(table) = self.tables.get_mut(index) else { return };
        table.used -= 1;
        self.used -= 1;
        if table.used == 0 && !is_youngest {
            (table.keys, table.order) = (KeysById::default(), Vec::new());
            self.drop_unused();
        }
    }

    /// The oldest table's content when there are more tables than the ids in use call for. Ids of what is still
    /// in use have to be inserted again.
    pub(crate) fn take_overdue(&mut self) -> Option<Vec<ExecutionKey>> {
        if self.tables.len() <= 2 * self.used.div_ceil(TABLE_MAX) + SPARE_TABLES {
            return None;
        }
        let table = self.tables.pop_front()?;
        self.oldest = self.oldest.wrapping_add(1);
        self.used -= table.used;
        self.drop_unused();
        Some(table.order)
    }

    /// Drops the oldest tables of which nothing is in use, but not the youngest.
    fn drop_unused(&mut self) {
        while self.tables.len() > 1 && self.tables.front().is_some_and(|table| table.used == 0) {
            self.tables.pop_front();
            self.oldest = self.oldest.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use super::*;
    use crate::{keys::ExecutionTag, slab::Slab};

    fn id(number: u64) -> ExecutionId {
        let mut random = [0; 16];
        random[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        ExecutionId::new(random, 0)
    }

    #[test]
    fn ids_hash_by_their_random_bits() {
        for id in [1, 2, 3].map(id) {
            assert_eq!(BuildHasherDefault::<IdHasher>::default().hash_one(HashedId(id)), id.random_bits());
        }
    }

    #[test]
    fn tables_go_when_nothing_in_them_is_in_use() {
        let mut ids = IdTable::new();
        let numbers: Vec<_> =
            (0..5 * TABLE_MAX as u64).map(|number| ids.insert(id(number), ExecutionKey::NONE)).collect();
        assert_eq!(ids.tables.len(), 5);
        // The second and third first: their memory goes, their places stay until the first has gone, too.
        for number in &numbers[TABLE_MAX..3 * TABLE_MAX] {
            ids.release(*number);
        }
        assert_eq!((ids.tables.len(), ids.get(id(TABLE_MAX as u64))), (5, None));
        assert!(ids.get(id(0)).is_some() && ids.get(id(4 * TABLE_MAX as u64)).is_some());
        for number in numbers[..TABLE_MAX].iter().chain(&numbers[3 * TABLE_MAX..]) {
            ids.release(*number);
        }
        assert_eq!((ids.tables.len(), ids.used), (1, 0));
    }

    #[test]
    fn ids_that_stay_do_not_keep_all_tables() {
        let mut ids = IdTable::new();
        // One of each table stays.
        let mut staying: Slab<ExecutionId, ExecutionTag> = Slab::new();
        for number in 0..100 * TABLE_MAX as u64 {
            let stays = number % TABLE_MAX as u64 == 7;
            let key = if stays { staying.insert(id(number)) } else { ExecutionKey::NONE };
            let table = ids.insert(id(number), key);
            if !stays {
                ids.release(table);
            }
            for key in ids.take_overdue().into_iter().flatten() {
                if let Some(id) = staying.get(key) {
                    ids.insert(*id, key);
                }
            }
        }
        assert!(ids.tables.len() <= SPARE_TABLES + 2, "{} tables", ids.tables.len());
        assert_eq!(ids.used, staying.len());
        assert!(staying.iter().all(|(key, id)| ids.get(*id) == Some(key)));
    }
}
