//! Randomness that a seed decides, in streams: what one request or one attempt does is drawn from a stream of its own,
//! so that leaving a request out of a run changes nothing about the others.

use std::hash::{DefaultHasher, Hash, Hasher};

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators"). Small, fast, and good enough
/// to choose faults with.
#[derive(Debug, Clone)]
pub struct Random(u64);

/// What a stream is for. Streams of different purposes have nothing in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Which faults exist, and how often.
    Swarm,
    /// The pauses between requests.
    Pace,
    /// One request, by its number.
    Request,
    /// One attempt, by its execution and number.
    Attempt,
    /// One order to a backend, by its number.
    Backend,
    /// One link between two threads.
    Link,
    /// One shard's disk.
    Disk,
    /// When a shard looks at its deadlines.
    Turn,
    /// What an owner writes that is none any more.
    Late,
}

impl Random {
    /// A generator of its own for a purpose and whatever tells its uses apart.
    pub fn of(seed: u64, stream: Stream, which: impl Hash) -> Random {
        // The hasher of std without keys: the same everywhere and always.
        let mut hasher = DefaultHasher::new();
        (seed, stream, which).hash(&mut hasher);
        Random(hasher.finish())
    }

    /// A generator of its own that goes on from here, and leaves this one as it is.
    pub fn fork(&self, which: impl Hash) -> Random {
        let mut hasher = DefaultHasher::new();
        (self.0, which).hash(&mut hasher);
        Random(hasher.finish())
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The bias of the remainder is far below what a run could show.
        self.bits() % bound.max(1)
    }

    /// A number from `least` to `most`, both included.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most.saturating_sub(least) + 1)
    }

    /// Whether something happens that does so `per_mille` times in a thousand.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        self.below(1000) < u64::from(per_mille)
    }

    /// A duration: mostly up to twice the mean, sometimes far longer.
    pub fn around(&mut self, mean: u64) -> u64 {
        if self.chance(20) { self.between(mean, mean.saturating_mul(20)) } else { self.below(mean * 2 + 1) }
    }

    /// One of several. `None` of none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len() as u64) as usize)
    }

    /// A position, by weight. The first if no weight is positive.
    pub fn weighted(&mut self, weights: &[u32]) -> usize {
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let mut left = self.below(total);
        for (position, weight) in weights.iter().enumerate() {
            match left.checked_sub(u64::from(*weight)) {
                Some(rest) => left = rest,
                None => return position,
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_and_repeat() {
        let draw = |seed, stream, which: u64| Random::of(seed, stream, which).bits();
        assert_eq!(draw(1, Stream::Request, 7), draw(1, Stream::Request, 7));
        let other = [(2, Stream::Request, 7), (1, Stream::Attempt, 7), (1, Stream::Request, 8)];
        for (seed, stream, which) in other {
            assert_ne!(draw(1, Stream::Request, 7), draw(seed, stream, which));
        }
    }

    #[test]
    fn weights_are_followed() {
        let mut random = Random::of(1, Stream::Swarm, 0);
        let mut counts = [0; 3];
        for _ in 0..3000 {
            counts[random.weighted(&[1, 0, 2])] += 1;
        }
        assert!((900..1100).contains(&counts[0]) && counts[1] == 0, "{counts:?}");
    }
}
