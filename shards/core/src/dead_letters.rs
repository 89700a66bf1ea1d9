//! Executions that were accepted and ended badly, per function name: kept until somebody tries them again or gives
//! them up, and across another registration of the name, for that is how a broken function is mended.
//!
//! Those that failed are bounded in number per function and in bytes over all; the oldest go first. Those that ended
//! because their function was removed are counted apart: there may be as many as waited when that happened, so that a
//! removal drops nothing that was accepted.

use std::collections::BTreeMap;

use crate::{call::Extra, keys::ExecutionKey, limits::Limits, name::Name, payload::Payload};

/// What a dead letter needs to be tried again.
#[derive(Debug)]
pub(crate) struct DeadLetter {
    pub(crate) payload: Payload,
    pub(crate) extra: Option<Box<Extra>>,
    /// When it became one, in milliseconds since the Unix epoch.
    pub(crate) dead_ms: u64,
    /// Bytes that it holds of the budget for dead letters.
    pub(crate) bytes: u64,
    /// Its place on the list.
    pub(crate) order: u64,
    /// It ended because its function was removed.
    pub(crate) of_removal: bool,
    /// Somebody gives it up, and that is being written down: it is not tried again meanwhile.
    pub(crate) is_given_up: bool,
}

/// Those of one function, oldest first.
#[derive(Debug, Default)]
struct Letters {
    failed: BTreeMap<u64, ExecutionKey>,
    removed: BTreeMap<u64, ExecutionKey>,
    /// What waited when the function was removed last.
    room: usize,
}

impl Letters {
    fn of_kind(&mut self, of_removal: bool) -> &mut BTreeMap<u64, ExecutionKey> {
        if of_removal { &mut self.removed } else { &mut self.failed }
    }

    fn is_empty(&self) -> bool {
        self.failed.is_empty() && self.removed.is_empty()
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct DeadLetters {
    functions: BTreeMap<Name, Letters>,
    orders: u64,
    count: usize,
    /// Of those that failed, and of those whose function was removed.
    pub(crate) bytes: [u64; 2],
}

impl DeadLetters {
    /// So many wait for a function that is being removed.
    pub(crate) fn make_room(&mut self, function: Name, waiting: usize) {
        let letters = self.functions.entry(function).or_default();
        letters.room = waiting.max(letters.removed.len());
    }

    /// A removal is over: nothing is kept for what left no dead letter.
    pub(crate) fn tidy(&mut self, function: &Name) {
        if self.functions.get(function).is_some_and(Letters::is_empty) {
            self.functions.remove(function);
        }
    }

    /// Adds the newest. Returns its place.
    pub(crate) fn push(
        &mut self,
        function: Name,
        execution: ExecutionKey,
        of_removal: bool,
        bytes: u64,
    ) -> u64 {
        self.orders += 1;
        self.functions.entry(function).or_default().of_kind(of_removal).insert(self.orders, execution);
        self.count += 1;
        self.bytes[usize::from(of_removal)] += bytes;
        self.orders
    }

    /// Takes one out.
    pub(crate) fn remove(&mut self, function: &Name, letter: &DeadLetter) {
        let Some(letters) = self.functions.get_mut(function) else { return };
        if letters.of_kind(letter.of_removal).remove(&letter.order).is_none() {
            return;
        }
        if letters.is_empty() {
            self.functions.remove(function);
        }
        self.count -= 1;
        self.bytes[usize::from(letter.of_removal)] -= letter.bytes;
    }

    /// The one to drop of a function that has too many of a kind, or of which all together hold too many bytes.
    pub(crate) fn excess(&self, function: &Name, of_removal: bool, limits: &Limits) -> Option<ExecutionKey> {
        let letters = self.functions.get(function)?;
        let (kind, count_max, bytes_max) = match of_removal {
            true => {
                let room = letters.room.max(limits.dead_letters_max);
                (&letters.removed, room, limits.removed_letters_bytes_max)
            }
            false => (&letters.failed, limits.dead_letters_max, limits.dead_letters_bytes_max),
        };
        let (_, oldest) = kind.first_key_value()?;
        let crowded = kind.len() > count_max || self.bytes[usize::from(of_removal)] > bytes_max;
        crowded.then_some(*oldest)
    }

    /// Makes room for one that was there before the server started.
    pub(crate) fn expect_restored(&mut self, function: Name) {
        let letters = self.functions.entry(function).or_default();
        letters.room = letters.room.max(letters.removed.len() + 1);
    }

    /// Those of a function, newest first.
    pub(crate) fn of(&self, function: &Name) -> impl Iterator<Item = ExecutionKey> {
        let letters = self.functions.get(function);
        let mut failed = letters.into_iter().flat_map(|of| of.failed.iter().rev()).peekable();
        let mut removed = letters.into_iter().flat_map(|of| of.removed.iter().rev()).peekable();
        std::iter::from_fn(move || {
            let newer = match (failed.peek(), removed.peek()) {
                (Some((failed, _)), Some((removed, _))) => failed > removed,
                (newest, _) => newest.is_some(),
            };
            let next = if newer { failed.next() } else { removed.next() };
            next.map(|(_, key)| *key)
        })
    }

    /// How many a function has.
    pub(crate) fn count_of(&self, function: &Name) -> usize {
        self.functions.get(function).map_or(0, |letters| letters.failed.len() + letters.removed.len())
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Functions that have any, with how many failed, how many ended with a removal, and how many of these may be
    /// there.
    pub(crate) fn functions(&self) -> impl Iterator<Item = (&Name, usize, usize, usize)> {
        self.functions.iter().map(|(name, of)| (name, of.failed.len(), of.removed.len(), of.room))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(order: u64, of_removal: bool) -> DeadLetter {
        DeadLetter {
            payload: Payload::json(""),
            extra: None,
            dead_ms: 0,
            bytes: 7,
            order,
            of_removal,
            is_given_up: false,
        }
    }

    #[test]
    fn nothing_is_kept_for_a_function_without_any() {
        let name = Name::new("f").expect("valid");
        let mut letters = DeadLetters::default();
        letters.make_room(name, 5);
        letters.tidy(&name);
        assert_eq!(letters.functions().count(), 0);
        letters.make_room(name, 5);
        let orders = [false, true, true].map(|kind| letters.push(name, ExecutionKey::NONE, kind, 7));
        letters.tidy(&name);
        assert_eq!((letters.count_of(&name), letters.len(), letters.bytes), (3, 3, [7, 14]));
        for (order, kind) in orders.into_iter().zip([false, true, true]) {
            assert_eq!(letters.functions().count(), 1);
            letters.remove(&name, &letter(order, kind));
        }
        assert_eq!((letters.functions().count(), letters.count_of(&name), letters.bytes), (0, 0, [0, 0]));
    }
}
