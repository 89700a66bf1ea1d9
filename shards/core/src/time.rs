//! The time, as a shard is told.

/// The time, given with every input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Microseconds on a clock that never goes back. Deadlines, ages and rate windows are on it.
    pub mono_us: u64,
    /// Milliseconds since the Unix epoch. May jump either way: it is for people to read, and tells the age of what
    /// an earlier server left behind.
    pub unix_ms: u64,
}

impl Now {
    /// The rate window that this belongs to: a whole second of the clock that never goes back.
    pub fn second(self) -> u64 {
        self.mono_us / 1_000_000
    }
}
