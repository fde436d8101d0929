//! A map by consecutive ids that is looked into dozens of times for each request.
//!
//! Ids are spread by one multiplication, which keeps those that follow each other apart, and
//! collisions lie in the next free place, so that a lookup is hardly more than one comparison.
//! Ids are given by the host alone: nobody can choose them so that they collide.

/// Values by id, in one list that is at most half full.
#[derive(Debug)]
pub(crate) struct IdTable<T> {
    /// Empty, or a power of two of places.
    places: Vec<Option<(u32, T)>>,
    /// Bits of a spread id that do not belong to its place.
    shift: u32,
    len: usize,
}

/// Number of places of a table that holds anything. Source: ours.
const FEWEST: usize = 16;

/// 2^32 divided by the golden ratio.
const SPREAD: u32 = 0x9e37_79b9;

// === impl IdTable ===

impl<T> IdTable<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        let mut at = self.home(id);
        loop {
            match self.places.get(at)?.as_ref()? {
                (present, value) if *present == id => return Some(value),
                _ => at = self.after(at),
            }
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        let at = self.find(id)?;
        self.places.get_mut(at)?.as_mut().map(|(_, value)| value)
    }

    /// Adds a value under an id that has none.
    pub(crate) fn insert(&mut self, id: u32, value: T) {
        if self.len >= self.places.len() / 2 {
            self.grow();
        }
        self.len = self.len.saturating_add(1);
        self.put(id, value);
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<T> {
        let mut free = self.find(id)?;
        let (_, removed) = self.places.get_mut(free)?.take()?;
        self.len = self.len.saturating_sub(1);
        // What had to give way moves up, so that no lookup ends at the gap.
        let mut at = self.after(free);
        while let Some(Some((present, _))) = self.places.get(at) {
            let home = self.home(*present);
            if self.distance(home, at) >= self.distance(free, at) {
                self.places.swap(free, at);
                free = at;
            }
            at = self.after(at);
        }
        Some(removed)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.places.iter().flatten().map(|(_, value)| value)
    }

    #[inline]
    fn find(&self, id: u32) -> Option<usize> {
        let mut at = self.home(id);
        loop {
            match self.places.get(at)?.as_ref()? {
                (present, _) if *present == id => return Some(at),
                _ => at = self.after(at),
            }
        }
    }

    fn put(&mut self, id: u32, value: T) {
        let mut at = self.home(id);
        while self.places.get(at).is_some_and(Option::is_some) {
            at = self.after(at);
        }
        if let Some(place) = self.places.get_mut(at) {
            *place = Some((id, value));
        }
    }

    #[cold]
    fn grow(&mut self) {
        let places = self.places.len().saturating_mul(2).max(FEWEST);
        let mut fresh = Vec::new();
        fresh.resize_with(places, || None);
        self.shift = u32::BITS.saturating_sub(places.trailing_zeros());
        let old = std::mem::replace(&mut self.places, fresh);
        old.into_iter().flatten().for_each(|(id, value)| self.put(id, value));
    }

    #[inline]
    fn home(&self, id: u32) -> usize {
        (id.wrapping_mul(SPREAD) >> self.shift) as usize
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        at.wrapping_add(1) & self.places.len().wrapping_sub(1)
    }

    /// Steps from one place to another.
    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & self.places.len().wrapping_sub(1)
    }
}

impl<T> Default for IdTable<T> {
    fn default() -> Self {
        Self { places: Vec::new(), shift: u32::BITS - 1, len: 0 }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::IdTable;

    #[test]
    fn it_holds_what_a_map_would_hold() {
        let (mut table, mut map) = (IdTable::default(), HashMap::new());
        let mut random: u32 = 1;
        for id in 1..20_000 {
            table.insert(id, id * 2);
            map.insert(id, id * 2);
            // Some live long, so that later ids meet them.
            for _ in 0..2 {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let other = (random >> 8) % id + 1;
                if !other.is_multiple_of(5) {
                    assert_eq!(table.remove(other), map.remove(&other), "{other}");
                }
            }
            assert_eq!(table.len(), map.len());
        }
        for id in 0..=20_000 {
            assert_eq!(table.get(id), map.get(&id), "{id}");
            assert_eq!(table.get_mut(id).copied(), map.get(&id).copied(), "{id}");
        }
        let mut values: Vec<u32> = table.values().copied().collect();
        values.sort_unstable();
        let mut expected: Vec<u32> = map.into_values().collect();
        expected.sort_unstable();
        assert_eq!(values, expected);
    }

    #[test]
    fn live_ids_in_a_row_do_not_slow_down_those_that_come_later() {
        let mut table = IdTable::default();
        (1..=50_000).for_each(|id| table.insert(id, ()));
        for id in 50_001..500_000 {
            table.insert(id, ());
            let steps = table.distance(table.home(id), table.find(id).unwrap());
            assert!(steps < 32, "{id}: {steps}");
            table.remove(id);
        }
    }

    #[test]
    fn an_empty_one_has_nothing() {
        let mut table: IdTable<u8> = IdTable::default();
        assert_eq!(table.get(1), None);
        assert_eq!(table.remove(7), None);
        assert_eq!(table.get_mut(u32::MAX), None);
        table.insert(7, 1);
        assert_eq!(table.remove(7), Some(1));
        assert_eq!((table.remove(7), table.len()), (None, 0));
        assert_eq!(table.get(7), None);
    }
}
