//! Checksums that only a store can make: under a random key that stands in the file's header and nowhere else.
//!
//! A caller chooses what is in a payload, and sees nothing of the file: whatever it writes there, it passes for a frame with a
//! chance of 2⁻⁶⁴ per place. What decides is [`Key::tag`], SipHash-2-4 over the few numbers of a frame's header; one of them
//! is [`Key::body`], XXH3 under a secret that is drawn from the key, which is as cheap as a CRC.

use siphasher::sip::SipHasher24;
use xxhash_rust::xxh3::xxh3_64_with_secret;

/// Bytes of XXH3's secret.
const SECRET_BYTES: usize = 192;

/// The key of one file.
#[derive(Clone)]
pub(super) struct Key {
    sip: SipHasher24,
    secret: Box<[u8; SECRET_BYTES]>,
}

impl Key {
    pub(super) fn new(bytes: &[u8; 16]) -> Key {
        let sip = SipHasher24::new_with_key(bytes);
        let mut secret = Box::new([0; SECRET_BYTES]);
        for (number, part) in (0u8..).zip(secret.chunks_mut(8)) {
            // No tag is made of so short a text.
            part.copy_from_slice(&sip.hash(&[number]).to_le_bytes());
        }
        Key { sip, secret }
    }

    /// Of the bytes of a header.
    pub(super) fn tag(&self, header: &[u8]) -> u64 {
        self.sip.hash(header)
    }

    /// Of the records of a frame.
    pub(super) fn body(&self, records: &[u8]) -> u64 {
        xxh3_64_with_secret(records, &self.secret[..])
    }
}
