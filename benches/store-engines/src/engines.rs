//! The candidates behind one interface, each used as its documentation says for durable writes.

use std::{error::Error, fs::File, io::Write, path::Path};

/// One change. Keys are a number and a kind, values about 300 bytes.
pub struct Op {
    pub shard: u64,
    pub key: [u8; 9],
    pub value: Option<Vec<u8>>,
}

impl Op {
    pub fn put(shard: u64, number: u64, kind: u8) -> Op {
        // Not compressible to nothing.
        let mut seed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let value = (0..300).map(|_| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            b'a' + (seed % 26) as u8
        });
        Op { shard, key: key(number, kind), value: Some(value.collect()) }
    }

    pub fn delete(shard: u64, number: u64, kind: u8) -> Op {
        Op { shard, key: key(number, kind), value: None }
    }
}

fn key(number: u64, kind: u8) -> [u8; 9] {
    let mut key = [kind; 9];
    key[..8].copy_from_slice(&number.to_be_bytes());
    key
}

/// Something that keeps records.
pub trait Engine {
    /// On disk when it returns.
    fn commit(&mut self, ops: &[Op]);
}

/// Opens an engine by its name.
pub fn open(name: &str, dir: &Path, shards: u64) -> Box<dyn Engine> {
    match name {
        "log" => Box::new(Log(File::create(dir.join("1.log")).expect("a file"), Vec::new())),
        "fjall" => Box::new(Fjall::open(dir, shards).expect("fjall opens")),
        "redb" => Box::new(Redb::open(dir, shards).expect("redb opens")),
        _ => Box::new(Sqlite::open(dir, shards).expect("SQLite opens")),
    }
}

/// Opens what is there and reads all of it. Returns how many records there are.
pub fn recover(name: &str, dir: &Path, shards: u64) -> Result<u64, Box<dyn Error>> {
    match name {
        "log" => recover_log(dir),
        "fjall" => Fjall::open(dir, shards)?.count(),
        "redb" => Redb::open(dir, shards)?.count(),
        _ => Sqlite::open(dir, shards)?.count(),
    }
}

/// Frames of a length, a checksum and records; one write and one fsync each.
struct Log(File, Vec<u8>);

impl Engine for Log {
    fn commit(&mut self, ops: &[Op]) {
        let Log(file, buffer) = self;
        buffer.clear();
        buffer.extend([0; 8]);
        for op in ops {
            let length = op.value.as_ref().map_or(0, Vec::len) as u32;
            buffer.extend(length.to_le_bytes());
            buffer.push(op.shard as u8);
            buffer.extend(op.key);
            buffer.extend(op.value.iter().flatten());
        }
        let length = (buffer.len() - 8) as u32;
        let checksum = crc32fast::hash(&buffer[8..]);
        buffer[..4].copy_from_slice(&length.to_le_bytes());
        buffer[4..8].copy_from_slice(&checksum.to_le_bytes());
        file.write_all(buffer).expect("written");
        file.sync_data().expect("synced");
    }
}

fn recover_log(dir: &Path) -> Result<u64, Box<dyn Error>> {
    let bytes = std::fs::read(dir.join("1.log"))?;
    let number = |at: usize| {
        bytes.get(at..at + 4).map_or(0, |four| u32::from_le_bytes(four.try_into().unwrap_or_default()))
    };
    let (mut at, mut kept) = (0, Vec::new());
    while at < bytes.len() {
        let length = number(at) as usize;
        let frame = bytes.get(at + 8..at + 8 + length).ok_or_else(|| format!("torn at {at}"))?;
        if crc32fast::hash(frame) != number(at + 4) {
            return Err(format!("corrupt at offset {at}").into());
        }
        let mut inside = at + 8;
        while inside < at + 8 + length {
            let length = number(inside) as usize;
            kept.push(bytes[inside + 14..inside + 14 + length].to_vec());
            inside += 14 + length;
        }
        at += 8 + length;
    }
    Ok(kept.len() as u64)
}

struct Fjall {
    database: fjall::Database,
    shards: Vec<fjall::Keyspace>,
}

impl Fjall {
    fn open(dir: &Path, shards: u64) -> Result<Fjall, Box<dyn Error>> {
        let database = fjall::Database::builder(dir).open()?;
        let open =
            |shard| database.keyspace(&format!("shard-{shard}"), fjall::KeyspaceCreateOptions::default);
        let shards = (0..shards).map(open).collect::<Result<_, _>>()?;
        Ok(Fjall { database, shards })
    }

    fn count(&self) -> Result<u64, Box<dyn Error>> {
        let mut kept = Vec::new();
        for shard in &self.shards {
            for item in shard.iter() {
                let (_, value) = item.into_inner()?;
                kept.push(value.to_vec());
            }
        }
        Ok(kept.len() as u64)
    }
}

impl Engine for Fjall {
    fn commit(&mut self, ops: &[Op]) {
        let mut batch = self.database.batch().durability(Some(fjall::PersistMode::SyncData));
        for op in ops {
            let shard = &self.shards[op.shard as usize];
            match &op.value {
                Some(value) => batch.insert(shard, op.key, value.as_slice()),
                None => batch.remove(shard, op.key),
            }
        }
        batch.commit().expect("committed");
    }
}

const TABLES: [redb::TableDefinition<&[u8], &[u8]>; 2] =
    [redb::TableDefinition::new("shard-0"), redb::TableDefinition::new("shard-1")];

struct Redb {
    database: redb::Database,
    shards: u64,
}

impl Redb {
    fn open(dir: &Path, shards: u64) -> Result<Redb, Box<dyn Error>> {
        Ok(Redb { database: redb::Database::create(dir.join("store.redb"))?, shards })
    }

    fn count(&self) -> Result<u64, Box<dyn Error>> {
        use redb::{ReadableDatabase, ReadableTable};
        let mut kept = Vec::new();
        let read = self.database.begin_read()?;
        for table in &TABLES[..self.shards as usize] {
            for item in read.open_table(*table)?.iter()? {
                kept.push(item?.1.value().to_vec());
            }
        }
        Ok(kept.len() as u64)
    }
}

impl Engine for Redb {
    fn commit(&mut self, ops: &[Op]) {
        let write = self.database.begin_write().expect("a transaction");
        for shard in 0..self.shards {
            let mut table = write.open_table(TABLES[shard as usize]).expect("a table");
            for op in ops.iter().filter(|op| op.shard == shard) {
                match &op.value {
                    Some(value) => drop(table.insert(&op.key[..], value.as_slice()).expect("inserted")),
                    None => drop(table.remove(&op.key[..]).expect("removed")),
                }
            }
        }
        write.commit().expect("committed");
    }
}

struct Sqlite {
    connection: rusqlite::Connection,
    shards: u64,
}

impl Sqlite {
    fn open(dir: &Path, shards: u64) -> Result<Sqlite, Box<dyn Error>> {
        let connection = rusqlite::Connection::open(dir.join("store.sqlite"))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        for shard in 0..shards {
            connection.execute_batch(&format!(
                "CREATE TABLE IF NOT EXISTS shard{shard} (number INTEGER PRIMARY KEY, record BLOB)"
            ))?;
        }
        Ok(Sqlite { connection, shards })
    }

    fn count(&self) -> Result<u64, Box<dyn Error>> {
        let mut kept: Vec<Vec<u8>> = Vec::new();
        for shard in 0..self.shards {
            let mut all =
                self.connection.prepare(&format!("SELECT record FROM shard{shard} ORDER BY number"))?;
            let mut rows = all.query([])?;
            while let Some(row) = rows.next()? {
                kept.push(row.get(0)?);
            }
        }
        Ok(kept.len() as u64)
    }
}

impl Engine for Sqlite {
    fn commit(&mut self, ops: &[Op]) {
        let transaction = self.connection.transaction().expect("a transaction");
        for op in ops {
            // An integer key, as SQLite likes it: appended at the end of the tree.
            let number = i64::from_be_bytes(op.key[..8].try_into().unwrap_or_default());
            let number = number * 2 + i64::from(op.key[8] == b'e');
            let sql = match &op.value {
                Some(_) => format!("INSERT OR REPLACE INTO shard{} VALUES (?1, ?2)", op.shard),
                None => format!("DELETE FROM shard{} WHERE number = ?1", op.shard),
            };
            let mut statement = transaction.prepare_cached(&sql).expect("a statement");
            match &op.value {
                Some(value) => statement.execute((number, value)).expect("inserted"),
                None => statement.execute((number,)).expect("removed"),
            };
        }
        transaction.commit().expect("committed");
    }
}
