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

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    entry: Option<T>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Slab<T, Tag> {
    places: Vec<Place<T>>,
    /// Positions without an entry, newest last.
    free: Vec<u32>,
    of: PhantomData<fn() -> Tag>,
}

impl<T, Tag> Slab<T, Tag> {
    pub(crate) fn new() -> Slab<T, Tag> {
        Slab { places: Vec::new(), free: Vec::new(), of: PhantomData }
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(crate) fn insert(&mut self, entry: T) -> Key<Tag> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.places.push(Place { generation: 0, entry: None });
                (self.places.len() - 1) as u32
            }
        };
        let place = &mut self.places[index as usize];
        place.entry = Some(entry);
        Key { index, generation: place.generation, of: PhantomData }
    }

    pub(crate) fn get(&self, key: Key<Tag>) -> Option<&T> {
        let place = self.places.get(key.index as usize)?;
        if place.generation == key.generation { place.entry.as_ref() } else { None }
    }

    pub(crate) fn get_mut(&mut self, key: Key<Tag>) -> Option<&mut T> {
        let place = self.places.get_mut(key.index as usize)?;
        if place.generation == key.generation { place.entry.as_mut() } else { None }
    }

    pub(crate) fn remove(&mut self, key: Key<Tag>) -> Option<T> {
        let place = self.places.get_mut(key.index as usize)?;
        if place.generation != key.generation {
            return None;
        }
        let entry = place.entry.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(key.index);
        Some(entry)
    }

    /// All entries, by position.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key<Tag>, &T)> {
        self.places.iter().enumerate().filter_map(|(index, place)| {
            let key = Key { index: index as u32, generation: place.generation, of: PhantomData };
            place.entry.as_ref().map(|entry| (key, entry))
        })
    }
}
