//! When freed space may be used again.
//!
//! An extent that a newer value replaced is reused only when the index commit that drops it is
//! durable - until then a crash brings the old entry back - and when no read of it is under way.
//! Until then its units count as its pool's: whoever has been told that space is free may use it.

use super::alloc::{Allocator, Misplaced};
use crate::index::value::{Extent, Extents};
use std::collections::{HashMap, VecDeque};
use uuid::Uuid;

/// Space of a target on its device.
pub struct Space {
    map: Allocator,
    /// Extents whose end waits for the index to have a log sequence, with their pool.
    dropped: VecDeque<(u64, Uuid, Extents)>,
    /// Reads under way, by the first unit of the extent.
    readers: HashMap<u64, u32>,
    /// Extents that are free but for a reader, with their pool.
    lingering: Vec<(Uuid, Extents)>,
    /// Units that are not free, by pool.
    used: HashMap<Uuid, u64>,
}

impl Space {
    /// `units` free units.
    pub fn new(units: u64) -> Self {
        Self {
            map: Allocator::new(units),
            dropped: VecDeque::new(),
            readers: HashMap::new(),
            lingering: Vec::new(),
            used: HashMap::new(),
        }
    }

    /// Units in all and free now.
    pub fn usage(&self) -> (u64, u64) {
        (self.map.units(), self.map.free_units())
    }

    /// Units of a pool that are not free.
    pub fn used_by(&self, pool: Uuid) -> u64 {
        self.used.get(&pool).copied().unwrap_or(0)
    }

    /// Whether space will become free once the index has caught up.
    pub fn has_dropped(&self) -> bool {
        !self.dropped.is_empty()
    }

    /// Whether space of a pool will.
    pub fn has_dropped_of(&self, pool: Uuid) -> bool {
        self.dropped.iter().any(|(_, owner, _)| *owner == pool)
    }

    /// Takes `units` units for a pool; `None` if they are not there.
    pub fn allocate(&mut self, pool: Uuid, units: u32) -> Option<Extents> {
        let extents = self.map.allocate(units)?;
        *self.used.entry(pool).or_default() += extents.units();
        Some(extents)
    }

    /// Takes the extents of a pool's value found at start.
    ///
    /// # Errors
    /// If they belong to another value or lie outside.
    pub fn reserve(&mut self, pool: Uuid, extents: &Extents) -> Result<(), Misplaced> {
        *self.used.entry(pool).or_default() += extents.units();
        extents
            .as_slice()
            .iter()
            .try_for_each(|extent| self.map.reserve(*extent))
    }

    /// Frees extents that nothing ever referred to: their write failed.
    pub fn abandon(&mut self, pool: Uuid, extents: &Extents) {
        self.release(pool, *extents);
    }

    /// The change with log sequence `sequence` replaced the pool's value in `extents`.
    pub fn drop_after(&mut self, sequence: u64, pool: Uuid, extents: Extents) {
        self.dropped.push_back((sequence, pool, extents));
    }

    /// The index has everything up to `applied` durably.
    pub fn settle(&mut self, applied: u64) {
        while let Some((sequence, pool, extents)) = self.dropped.front().copied()
            && sequence <= applied
        {
            self.dropped.pop_front();
            self.release(pool, extents);
        }
    }

    /// A read of `extents` begins.
    pub fn pin(&mut self, extents: &Extents) {
        if let Some(Extent { start, .. }) = extents.as_slice().first() {
            *self.readers.entry(*start).or_default() += 1;
        }
    }

    /// It is over.
    pub fn unpin(&mut self, extents: &Extents) {
        let Some(Extent { start, .. }) = extents.as_slice().first() else {
            return;
        };
        if let Some(count) = self.readers.get_mut(start) {
            *count -= 1;
            if *count == 0 {
                self.readers.remove(start);
                if let Some(n) = self.lingering.iter().position(|(_, e)| e == extents) {
                    let (pool, extents) = self.lingering.swap_remove(n);
                    self.release(pool, extents);
                }
            }
        }
    }

    fn release(&mut self, pool: Uuid, extents: Extents) {
        let first = extents.as_slice().first();
        if first.is_some_and(|first| self.readers.contains_key(&first.start)) {
            self.lingering.push((pool, extents));
            return;
        }
        if let Some(used) = self.used.get_mut(&pool) {
            *used = used.saturating_sub(extents.units());
            if *used == 0 {
                self.used.remove(&pool);
            }
        }
        for extent in extents.as_slice() {
            if let Err(error) = self.map.free(*extent) {
                // A defect of ours: the space stays unused until the next start rebuilds the map.
                tracing::error!(%error, "free-space map is inconsistent");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Uuid = Uuid::from_u128(1);
    const B: Uuid = Uuid::from_u128(2);

    #[test]
    fn space_comes_back_after_the_commit_and_the_last_reader() {
        let mut space = Space::new(100);
        let value = space.allocate(A, 60).unwrap();
        space.drop_after(7, A, value);
        space.settle(6);
        assert_eq!(space.usage(), (100, 40));
        assert!(space.has_dropped());
        assert!(space.has_dropped_of(A) && !space.has_dropped_of(B));
        space.pin(&value);
        space.pin(&value);
        space.settle(7);
        assert_eq!(space.usage(), (100, 40), "a reader is there");
        space.unpin(&value);
        assert_eq!(space.usage(), (100, 40), "another reader is there");
        assert_eq!((space.used_by(A), space.used_by(B)), (60, 0));
        space.unpin(&value);
        assert_eq!(space.usage(), (100, 100));
        assert_eq!(space.used_by(A), 0);
        space.pin(&value);
        space.unpin(&value);
        assert_eq!(space.usage(), (100, 100), "reading alone frees nothing");
    }

    #[test]
    fn what_was_never_referred_to_comes_back_at_once() {
        let mut space = Space::new(10);
        let value = space.allocate(A, 10).unwrap();
        assert!(space.allocate(B, 1).is_none());
        space.abandon(A, &value);
        assert_eq!(space.usage(), (10, 10));
        space.reserve(B, &value).unwrap();
        assert!(space.reserve(B, &value).is_err());
    }
}
