//! What happened in a run, as a hash: two runs of one seed must have the same. Towards a failure, the last steps as
//! text.

use std::fmt::{self, Debug, Write};

use shard_core::{Effect, Input};

/// FNV-1a over the text of everything that happened, eight bytes at a time.
#[derive(Debug)]
struct Hash(u64);

impl Write for Hash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for chunk in text.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = (self.0 ^ u64::from_le_bytes(word)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
        }
        Ok(())
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: Hash,
    hashed: bool,
    steps: u64,
    /// The step from which on text is kept.
    text_from: u64,
    text: Vec<String>,
}

impl Trace {
    /// A trace that keeps text from a step on.
    pub(crate) fn new(hashed: bool, text_from: u64) -> Trace {
        Trace { hash: Hash(0xcbf2_9ce4_8422_2325), hashed, steps: 0, text_from, text: Vec::new() }
    }

    /// A step begins.
    pub(crate) fn input(&mut self, at_us: u64, shard: u16, input: &Input) {
        self.steps += 1;
        self.hash.0 ^= at_us.rotate_left(17) ^ u64::from(shard);
        self.note(input);
        if self.keeps_text() {
            self.text.push(format!("step {} at {at_us} µs, shard {shard}: {input:?}", self.steps));
        }
    }

    /// What a step caused.
    pub(crate) fn effects(&mut self, effects: &[Effect]) {
        if !self.hashed && !self.keeps_text() {
            return;
        }
        for effect in effects {
            self.note(effect);
            if self.keeps_text() {
                self.text.push(format!("    {effect:?}"));
            }
        }
    }

    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.0
    }

    pub(crate) fn into_text(self) -> Vec<String> {
        self.text
    }

    fn note(&mut self, what: &impl Debug) {
        if !self.hashed {
            return;
        }
        // Neither the hash nor `Debug` of these types fails.
        let _ = write!(self.hash, "{what:?}");
    }

    fn keeps_text(&self) -> bool {
        self.steps >= self.text_from
    }
}
