//! The free-space map.

use crate::index::value::{EXTENTS_MAX, Extent, Extents};
use std::collections::{BTreeMap, BTreeSet};

/// Free runs of units, by place and by length. Allocation is best fit; a request that no run can
/// hold is split over the longest ones.
#[derive(Clone, Debug)]
pub struct Allocator {
    units: u64,
    free: u64,
    by_start: BTreeMap<u64, u64>,
    by_len: BTreeSet<(u64, u64)>,
}

/// An extent that is not where it can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("extent of {} units at {} is {why}", .extent.units, .extent.start)]
pub struct Misplaced {
    /// The extent.
    pub extent: Extent,
    /// What is wrong with its place.
    pub why: &'static str,
}

impl Allocator {
    /// A map of `units` free units.
    pub fn new(units: u64) -> Self {
        let mut map = Self {
            units,
            free: 0,
            by_start: BTreeMap::new(),
            by_len: BTreeSet::new(),
        };
        map.insert(0, units);
        map
    }

    /// Units in all.
    pub fn units(&self) -> u64 {
        self.units
    }

    /// Free units.
    pub fn free_units(&self) -> u64 {
        self.free
    }

    /// Takes `units` (at least 1) out of the map, in as few extents as possible. `None`, and nothing
    /// taken, if there are not that many or they are in too many pieces.
    pub fn allocate(&mut self, units: u32) -> Option<Extents> {
        if units == 0 || u64::from(units) > self.free {
            return None;
        }
        let mut extents = Extents::default();
        let mut left = u64::from(units);
        while left > 0 {
            let best = self.by_len.range((left, 0)..).next();
            let (len, start) = *best.or_else(|| self.by_len.last())?;
            let take = len.min(left);
            // At most `left`, which is at most u32::MAX.
            let extent = Extent {
                start,
                units: take as u32,
            };
            if extents.as_slice().len() == EXTENTS_MAX {
                self.give_back(&extents);
                return None;
            }
            self.remove(start, len);
            self.insert(start + take, len - take);
            extents.push(extent);
            left -= take;
        }
        Some(extents)
    }

    /// Takes a given extent out of the map, when it is rebuilt.
    ///
    /// # Errors
    /// If it leaves the space or overlaps what is taken already; nothing changed.
    pub fn reserve(&mut self, extent: Extent) -> Result<(), Misplaced> {
        let end = self.end_of(extent)?;
        let (start, len) = self
            .by_start
            .range(..=extent.start)
            .next_back()
            .map(|(start, len)| (*start, *len))
            .filter(|(start, len)| start + len >= end)
            .ok_or(misplaced(extent, "in use by another value"))?;
        self.remove(start, len);
        self.insert(start, extent.start - start);
        self.insert(end, start + len - end);
        Ok(())
    }

    /// Returns an extent to the map.
    ///
    /// # Errors
    /// If it leaves the space or is free already; nothing changed.
    pub fn free(&mut self, extent: Extent) -> Result<(), Misplaced> {
        let end = self.end_of(extent)?;
        let before = self.by_start.range(..end).next_back();
        let before = before.map(|(start, len)| (*start, *len));
        if before.is_some_and(|(start, len)| start + len > extent.start) {
            return Err(misplaced(extent, "free already"));
        }
        let (mut start, mut stop) = (extent.start, end);
        if let Some((left, len)) = before
            && left + len == start
        {
            self.remove(left, len);
            start = left;
        }
        if let Some(len) = self.by_start.get(&stop).copied() {
            self.remove(stop, len);
            stop += len;
        }
        self.insert(start, stop - start);
        Ok(())
    }

    fn give_back(&mut self, extents: &Extents) {
        for extent in extents.as_slice() {
            // They came out of the map a moment ago, so this cannot fail.
            let _ = self.free(*extent);
        }
    }

    fn end_of(&self, extent: Extent) -> Result<u64, Misplaced> {
        extent
            .start
            .checked_add(u64::from(extent.units))
            .filter(|end| extent.units > 0 && *end <= self.units)
            .ok_or(misplaced(extent, "outside of the device"))
    }

    fn insert(&mut self, start: u64, len: u64) {
        if len > 0 {
            self.by_start.insert(start, len);
            self.by_len.insert((len, start));
            self.free += len;
        }
    }

    fn remove(&mut self, start: u64, len: u64) {
        self.by_start.remove(&start);
        self.by_len.remove(&(len, start));
        self.free -= len;
    }
}

fn misplaced(extent: Extent, why: &'static str) -> Misplaced {
    Misplaced { extent, why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Allocate(u32),
        Free(usize),
        Rebuild,
        FreeTwice(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            5 => (1u32..40).prop_map(Step::Allocate),
            4 => any::<usize>().prop_map(Step::Free),
            1 => Just(Step::Rebuild),
            1 => any::<usize>().prop_map(Step::FreeTwice),
        ];
        prop::collection::vec(step, 1..150)
    }

    const UNITS: u64 = 200;

    /// Counts who owns each unit and compares with the map.
    fn check(map: &Allocator, live: &[Extents]) {
        let mut taken = [false; UNITS as usize];
        for extent in live.iter().flat_map(|e| e.as_slice().iter()) {
            for unit in extent.start..extent.start + u64::from(extent.units) {
                assert!(!taken[unit as usize], "unit {unit} belongs to two values");
                taken[unit as usize] = true;
            }
        }
        let mut free = 0;
        let mut last_end = None;
        for (start, len) in &map.by_start {
            assert!(*len > 0 && map.by_len.contains(&(*len, *start)));
            assert_ne!(last_end, Some(*start), "neighbours are joined");
            last_end = Some(start + len);
            for unit in *start..start + len {
                assert!(!taken[unit as usize], "unit {unit} is free and in use");
                taken[unit as usize] = true;
                free += 1;
            }
        }
        assert!(
            taken.iter().all(|t| *t),
            "a unit is neither free nor in use"
        );
        assert_eq!(
            (map.free_units(), map.by_len.len()),
            (free, map.by_start.len())
        );
    }

    proptest! {
        #[test]
        fn every_unit_has_one_owner(steps in steps()) {
            let mut map = Allocator::new(UNITS);
            let mut live: Vec<Extents> = Vec::new();
            for step in steps {
                match step {
                    Step::Allocate(units) => match map.allocate(units) {
                        Some(extents) => {
                            prop_assert_eq!(extents.units(), u64::from(units));
                            live.push(extents);
                        }
                        None => {
                            let longest: u64 = map.by_len.iter().rev().take(EXTENTS_MAX).map(|(len, _)| len).sum();
                            prop_assert!(longest < u64::from(units), "{longest} would have done");
                        }
                    },
                    Step::Free(n) if !live.is_empty() => {
                        let n = n % live.len();
                        for extent in live.swap_remove(n).as_slice() {
                            map.free(*extent).unwrap();
                        }
                    }
                    Step::FreeTwice(n) => {
                        let start = n as u64 % UNITS;
                        let owned = live.iter().flat_map(|e| e.as_slice())
                            .any(|e| (e.start..e.start + u64::from(e.units)).contains(&start));
                        let unit = Extent { start, units: 1 };
                        let wrong = if owned { map.reserve(unit) } else { map.free(unit) };
                        prop_assert!(wrong.is_err());
                    }
                    Step::Rebuild => {
                        let mut again = Allocator::new(UNITS);
                        for extent in live.iter().flat_map(|e| e.as_slice().iter()) {
                            again.reserve(*extent).unwrap();
                        }
                        prop_assert_eq!(&again.by_start, &map.by_start);
                        map = again;
                    }
                    Step::Free(_) => {}
                }
                check(&map, &live);
            }
        }
    }

    #[test]
    fn extents_outside_are_refused() {
        let mut map = Allocator::new(10);
        for (start, units) in [(10, 1), (9, 2), (u64::MAX, 1), (0, 0)] {
            let extent = Extent { start, units };
            assert!(map.reserve(extent).is_err() && map.free(extent).is_err());
        }
        assert!(map.allocate(0).is_none() && map.allocate(11).is_none());
    }
}
