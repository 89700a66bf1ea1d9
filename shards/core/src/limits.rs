//! Every bound of a shard, in one struct. Full means refuse now.

use crate::room::Room;

/// Bounds of one shard. A server divides its own limits by the number of shards where they add up, except for room, which it
/// leases.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Functions registered or being registered.
    pub functions_max: usize,
    /// Bytes of their specs together, as documents.
    pub specs_bytes_max: u64,
    /// Administrative requests that wait for a slow one on the same function.
    pub pending_max: usize,
    /// Callers that wait for one execution (joined by an idempotency key), and readers that wait for its end.
    pub waiters_max: usize,
    /// Room for finished executions and idempotency keys that the shard has without asking for it, and never gives back.
    /// What it needs beyond that is leased from the server.
    pub room: Room,
    /// Whether results of accepted executions can be read from disk when memory has dropped them. If not, what does not fit
    /// into memory is forgotten.
    pub results_on_disk: bool,
    /// Results that are being read from disk.
    pub reads_max: usize,
    /// Bytes of outputs and error texts of executions that ended while the disk fails, and are not shown for that.
    pub concealed_bytes_max: u64,
    /// How long a finished synchronous execution is kept, in microseconds.
    pub executions_ttl_us: u64,
    /// How long a finished execution that was accepted for later is kept, with its output, in microseconds.
    pub accepted_ttl_us: u64,
    /// How long the output of a synchronous one is kept, in microseconds.
    pub payload_ttl_us: u64,
    /// Time between two sweeps of finished executions, in microseconds.
    pub sweep_interval_us: u64,
    /// Dead letters kept per function.
    pub dead_letters_max: usize,
    /// Bytes of payloads, outputs and error texts kept with all dead letters that failed.
    pub dead_letters_bytes_max: u64,
    /// The same for those that waited when their function was removed: as many as may wait.
    pub removed_letters_bytes_max: u64,
    /// How long a key is kept after its last write, in microseconds.
    pub keys_ttl_us: u64,
    /// Dispatches, timers or evictions of one [`crate::Shard::handle`] call beyond those its input causes.
    pub batch_max: usize,
    /// Dispatches of one function before the next ready function has its turn.
    pub turn_max: usize,
    /// Longest wait before a retry, in microseconds, whatever the function asks for.
    pub retry_wait_us_max: u64,
    /// Bytes taken from the server's budget for waiting payloads at once.
    pub queued_bytes_chunk: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            functions_max: 100_000,
            specs_bytes_max: 256 << 20,
            pending_max: 64,
            waiters_max: 4096,
            room: Room { executions: 1_000_000, bytes: 256 << 20, disk_bytes: 0, keys: 1_000_000 },
            results_on_disk: false,
            reads_max: 256,
            concealed_bytes_max: 32 << 20,
            executions_ttl_us: 300_000_000,
            accepted_ttl_us: 86_400_000_000,
            payload_ttl_us: 120_000_000,
            sweep_interval_us: 5_000_000,
            dead_letters_max: 1000,
            dead_letters_bytes_max: 64 << 20,
            removed_letters_bytes_max: 256 << 20,
            keys_ttl_us: 300_000_000,
            batch_max: 256,
            turn_max: 2,
            retry_wait_us_max: 60_000_000,
            queued_bytes_chunk: 1 << 20,
        }
    }
}
