//! A vector with holes, whose keys go stale: a key of a removed entry finds nothing, also after the place was
//! used again. Generations wrap after 2³² uses of one place; a key is never held that long.

use std::{fmt, marker::PhantomData};

/// Names an entry of a slab. `T` is a tag that keeps keys of different slabs apart.
pub struct Key<T> {
    index: u32,
    generation: u32,
    of: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    /// Finds nothing.
    pub(crate) const NONE: Key<T> = Key { index: u32::MAX, generation: 0, of: PhantomData };

    /// Position in the slab: small, and used again after removal. For tables that run alongside.
    pub fn index(self) -> usize {
        self.index as usize
    }

    /// Distinguishes successive entries at one position.
    pub fn generation(self) -> u32 {
        self.generation
    }
}

// Not derived: `T` itself need not be any of these.
impl<T> Default for Key<T> {
    /// A key that finds nothing.
    fn default() -> Self {
        Key::NONE
    }
}
impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Key<T> {}
impl<T> PartialEq for Key<T> {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index && self.generation == other.generation
    }
}
impl<T> Eq for Key<T> {}
impl<T> PartialOrd for Key<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Key<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.index, self.generation).cmp(&(other.index, other.generation))
    }
}
impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "#{}.{}", self.index, self.generation)
    }
}

/// With a representation of its own, because an `Option` marks its emptiness in whichever field has room for that: one
/// more cold line per look at a large entry. Here mark and generation lie before the entry, next to its first fields.
#[derive(Debug)]
#[repr(u32)]
enum Place<T> {
    Free { generation: u32 },
    Used { generation: u32, entry: T },
}

/// Places of one chunk. Chunks never move: a vector of a million records that grows would stop its shard for
/// tens of milliseconds while it copies itself.
const CHUNK: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Slab<T, Tag> {
    chunks: Vec<Vec<Place<T>>>,
    /// Positions without an entry, newest last.
    free: Vec<u32>,
    /// Entries.
    count: usize,
    of: PhantomData<fn() -> Tag>,
}

impl<T, Tag> Slab<T, Tag> {
    pub(crate) fn new() -> Slab<T, Tag> {
        Slab { chunks: Vec::new(), free: Vec::new(), count: 0, of: PhantomData }
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn insert(&mut self, entry: T) -> Key<Tag> {
        self.count += 1;
        if let Some(index) = self.free.pop()
            && let Some(place) = self.place_mut(index)
            && let Place::Free { generation } = *place
        {
            *place = Place::Used { generation, entry };
            return Key { index, generation, of: PhantomData };
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            // The first chunk grows as it is needed: most slabs stay small.
            let capacity = if self.chunks.is_empty() { 0 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(capacity));
        }
        let full = (self.chunks.len() - 1) * CHUNK;
        // There is a last chunk: it was pushed just now if there was none.
        let index = self.chunks.last_mut().map_or(0, |chunk| {
            chunk.push(Place::Used { generation: 0, entry });
            full + chunk.len() - 1
        });
        Key { index: index as u32, generation: 0, of: PhantomData }
    }

    pub(crate) fn get(&self, key: Key<Tag>) -> Option<&T> {
        let index = key.index as usize;
        match self.chunks.get(index / CHUNK)?.get(index % CHUNK)? {
            Place::Used { generation, entry } if *generation == key.generation => Some(entry),
            _ => None,
        }
    }

    pub(crate) fn get_mut(&mut self, key: Key<Tag>) -> Option<&mut T> {
        match self.place_mut(key.index)? {
            Place::Used { generation, entry } if *generation == key.generation => Some(entry),
            _ => None,
        }
    }

    pub(crate) fn remove(&mut self, key: Key<Tag>) -> Option<T> {
        self.get(key)?;
        let free = Place::Free { generation: key.generation.wrapping_add(1) };
        let Place::Used { entry, .. } = std::mem::replace(self.place_mut(key.index)?, free) else {
            return None;
        };
        self.free.push(key.index);
        self.count -= 1;
        Some(entry)
    }

    /// All entries, by position.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key<Tag>, &T)> {
        self.iter_from(0)
    }

    /// The entries whose position is at least `from`, by position.
    pub(crate) fn iter_from(&self, from: usize) -> impl Iterator<Item = (Key<Tag>, &T)> {
        let chunks = self.chunks.iter().skip(from / CHUNK).flatten().skip(from % CHUNK);
        (from..).zip(chunks).filter_map(|(index, place)| match place {
            Place::Used { generation, entry } => {
                Some((Key { index: index as u32, generation: *generation, of: PhantomData }, entry))
            }
            Place::Free { .. } => None,
        })
    }

    fn place_mut(&mut self, index: u32) -> Option<&mut Place<T>> {
        let index = index as usize;
        self.chunks.get_mut(index / CHUNK)?.get_mut(index % CHUNK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_stale_and_places_are_used_again_over_chunks() {
        let mut slab: Slab<usize, ()> = Slab::new();
        let keys: Vec<_> = (0..3 * CHUNK).map(|number| slab.insert(number)).collect();
        assert!(keys.iter().enumerate().all(|(number, key)| slab.get(*key) == Some(&number)));
        let gone = keys[CHUNK + 1];
        assert_eq!(
            (slab.remove(gone), slab.remove(gone), slab.len()),
            (Some(CHUNK + 1), None, 3 * CHUNK - 1)
        );
        let again = slab.insert(7);
        assert_eq!((again.index(), slab.get(gone), slab.get(again)), (gone.index(), None, Some(&7)));
        slab.remove(again);
        let third = slab.insert(7);
        let generations = [gone, again, third].map(Key::generation);
        assert!(generations.is_sorted_by(|before, after| before < after), "{generations:?}");
        assert_eq!(slab.iter().count(), 3 * CHUNK);
        for from in [0, 1, CHUNK - 1, CHUNK, 2 * CHUNK + 7, 3 * CHUNK - 1, 3 * CHUNK, 9 * CHUNK] {
            let rest: Vec<_> = slab.iter_from(from).map(|(key, _)| key.index()).collect();
            assert_eq!(rest, (from..3 * CHUNK).collect::<Vec<_>>(), "from {from}");
        }
    }
}
