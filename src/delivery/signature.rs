//! The signature of a result: `t=<unix seconds>,v1=<hex HMAC-SHA-256 of "<t>.<body>">`.
//!
//! The time is signed along, so that a receiver can refuse what somebody recorded and sends again.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Signs with one key. Its key is never shown.
#[derive(Clone)]
pub struct Signer {
    keyed: Hmac<Sha256>,
}

impl Signer {
    /// Signs with this key, of any length.
    pub fn new(key: &[u8]) -> Signer {
        // HMAC takes a key of any length: a longer one than its block is hashed first (RFC 2104).
        Signer { keyed: Hmac::new_from_slice(key).expect("any length is one") }
    }

    /// The value of the header for a body that is sent now.
    pub fn sign(&self, unix_s: u64, body: &[u8]) -> String {
        let mut mac = self.keyed.clone();
        mac.update(format!("{unix_s}.").as_bytes());
        mac.update(body);
        let digest = mac.finalize().into_bytes();
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("t={unix_s},v1={hex}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with another program: `printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac …`.
    #[test]
    fn signatures_are_those_of_another_program() {
        for (key, body, expected) in [
            ("open sesame", r#"{"a":1}"#, "cadb540861ccf59ec1384427d0b85b9a528a71adade8c6194e89f3dc38e06f5f"),
            ("open sesame", "", "a702fabc64cfcd8e661834b42cbee576acaa7216d966fafc57ba2468b45af626"),
            (
                &"k".repeat(200),
                r#"{"a":1}"#,
                "5bb84448ab342ddecf612578a90cf93375be38884bd67e216d19615bdf20e423",
            ),
        ] {
            let signature = Signer::new(key.as_bytes()).sign(1_700_000_000, body.as_bytes());
            assert_eq!(signature, format!("t=1700000000,v1={expected}"), "{key} {body}");
        }
    }
}
