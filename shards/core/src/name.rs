//! Function names: `^[a-zA-Z][a-zA-Z0-9._-]{0,62}$`, held inline, and the stable hash that picks a partition.

use std::fmt;

use crate::partition::Partition;

/// Longest function name, in bytes.
pub const NAME_LENGTH_MAX: usize = 63;

/// A valid function name. 64 bytes, `Copy`: it crosses threads without an allocation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    bytes: [u8; NAME_LENGTH_MAX],
    length: u8,
}

impl Name {
    /// Checks the pattern. `None` when `text` is not a function name.
    pub fn new(text: &str) -> Option<Name> {
        let source = text.as_bytes();
        let (first, rest) = source.split_first()?;
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if source.len() > NAME_LENGTH_MAX || !first.is_ascii_alphabetic() || !rest.iter().all(allowed) {
            return None;
        }
        let mut bytes = [0; NAME_LENGTH_MAX];
        bytes[..source.len()].copy_from_slice(source);
        Some(Name { bytes, length: source.len() as u8 })
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        // Only ASCII gets past `new`; an empty text would be a harmless lie here, never a panic.
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }

    /// The partition of everything that belongs to the function.
    pub fn partition(&self) -> Partition {
        Partition::of(self.owner_hash())
    }

    /// The 16 bits that pick the [partition](crate::partition) and travel inside every execution id of the function.
    ///
    /// FNV-1a over the bytes, finished with the 64-bit mixer of MurmurHash3 because FNV's high bits are weak
    /// for short keys, folded to 16 bits. Stable for all time: ids that clients hold depend on it.
    pub fn owner_hash(&self) -> u16 {
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        for byte in &self.bytes[..usize::from(self.length)] {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        hash ^= hash >> 33;
        hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash ^= hash >> 33;
        (hash ^ (hash >> 16) ^ (hash >> 32) ^ (hash >> 48)) as u16
    }
}

impl std::hash::Hash for Name {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.as_str())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern() {
        let long = "a".repeat(63);
        for good in ["a", "Z9", "word-stats", "a.b_c-d", long.as_str()] {
            assert_eq!(Name::new(good).as_ref().map(Name::as_str), Some(good));
        }
        let too_long = "a".repeat(64);
        for bad in ["", "9a", "-a", "a b", "a/b", "ä", "a:b", too_long.as_str()] {
            assert_eq!(Name::new(bad), None, "{bad}");
        }
    }

    #[test]
    fn owners_stay_the_same_for_all_time() {
        let long = "a".repeat(63);
        for (name, hash) in [("f", 0xdad5), ("hello", 0xd73a), ("resize-image", 0xb72e), (&long, 0x3370)] {
            assert_eq!(Name::new(name).map(|name| name.owner_hash()), Some(hash), "{name}");
        }
    }
}
