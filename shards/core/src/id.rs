//! Execution ids: UUID version 4 text, 16 bits of which carry the owner hash of the function's name.

use std::fmt;

use crate::partition::Partition;

/// An execution's id. The last two bytes are [`crate::Name::owner_hash`], so that a status request or a
/// callback finds the owner shard without a table; all other bits except version and variant are random.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExecutionId([u8; 16]);

/// Length of the text form, in bytes.
pub const TEXT_LENGTH: usize = 36;

/// Offsets in the text form at which a byte's two digits start.
const DIGITS_AT: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];

/// The two digits of every byte: an id is written two or three times per call, and one look per byte is half the work
/// of one per digit.
const DIGITS: [[u8; 2]; 256] = {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [[0; 2]; 256];
    let mut byte = 0;
    while byte < digits.len() {
        digits[byte] = [HEX[byte >> 4], HEX[byte & 0x0f]];
        byte += 1;
    }
    digits
};

impl ExecutionId {
    /// Makes an id of 16 bytes from a cryptographic source and the owner hash of the function.
    pub fn new(random: [u8; 16], owner_hash: u16) -> ExecutionId {
        let mut bytes = random;
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        bytes[14..].copy_from_slice(&owner_hash.to_be_bytes());
        ExecutionId(bytes)
    }

    /// Reads the text form, lower or upper case. `None` for anything else.
    pub fn parse(text: &str) -> Option<ExecutionId> {
        let text = text.as_bytes();
        if text.len() != TEXT_LENGTH || [8, 13, 18, 23].iter().any(|&at| text[at] != b'-') {
            return None;
        }
        let mut bytes = [0; 16];
        for (byte, &at) in bytes.iter_mut().zip(&DIGITS_AT) {
            let high = char::from(text[at]).to_digit(16)?;
            let low = char::from(text[at + 1]).to_digit(16)?;
            *byte = (high << 4 | low) as u8;
        }
        Some(ExecutionId(bytes))
    }

    /// The sixteen bytes. [`ExecutionId::new`] makes the same id of them and their owner hash again.
    pub fn bytes(&self) -> [u8; 16] {
        self.0
    }

    /// The owner hash inside the id.
    pub fn owner_hash(&self) -> u16 {
        u16::from_be_bytes([self.0[14], self.0[15]])
    }

    /// The partition of the execution and its function.
    pub fn partition(&self) -> Partition {
        Partition::of(self.owner_hash())
    }

    /// 64 of the random bits: the hash of the id, as good as any.
    pub(crate) fn random_bits(&self) -> u64 {
        let mut bits = [0; 8];
        bits.copy_from_slice(&self.0[..8]);
        u64::from_be_bytes(bits)
    }

    /// The text form, in ASCII.
    pub fn text(&self) -> [u8; TEXT_LENGTH] {
        let mut text = [b'-'; TEXT_LENGTH];
        for (byte, &at) in self.0.iter().zip(&DIGITS_AT) {
            [text[at], text[at + 1]] = DIGITS[usize::from(*byte)];
        }
        text
    }
}

impl fmt::Display for ExecutionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(std::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

impl fmt::Debug for ExecutionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trip() {
        let id = ExecutionId::new(*b"0123456789abcdef", 0xbeef);
        let text = id.to_string();
        assert_eq!(text, "30313233-3435-4637-b839-61626364beef");
        assert_eq!(ExecutionId::parse(&text), Some(id));
        assert_eq!(ExecutionId::parse(&text.to_uppercase()), Some(id));
        assert_eq!(id.owner_hash(), 0xbeef);
        assert_eq!(ExecutionId::new(id.bytes(), id.owner_hash()), id);
        assert_eq!(id.random_bits().to_be_bytes(), *b"012345F7");
        for bad in ["", "x", "30313233-3435-4637-b839-61626364bee", "30313233x3435-4637-b839-61626364beef"] {
            assert_eq!(ExecutionId::parse(bad), None, "{bad}");
        }
    }
}
