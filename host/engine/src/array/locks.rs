//! Who may change which part of the index while requests wait for devices and clients.
//!
//! Changes of arrays read what they replace and write it elsewhere before they are logged; none of
//! the same entries may be logged between. Locks are granted in the order in which they were asked
//! for, as far as they overlap, so nobody starves. Who holds one waits for devices and commits, but for
//! no client, buffer or other lock: there is no way into a deadlock.

use std::collections::VecDeque;
use std::ops::Range;

/// What a lock covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// All keys of the index that begin with this.
    pub prefix: Vec<u8>,
    /// Bytes of the array that has this prefix; `None` covers everything under the prefix.
    pub range: Option<Range<u64>>,
}

impl Area {
    fn overlaps(&self, other: &Self) -> bool {
        if let (Some(a), Some(b)) = (&self.range, &other.range) {
            return self.prefix == other.prefix && a.start < b.end && b.start < a.end;
        }
        self.prefix.starts_with(&other.prefix) || other.prefix.starts_with(&self.prefix)
    }
}

struct Lock {
    owner: u32,
    area: Area,
    held: bool,
}

/// Locks of a target, held and asked for.
#[derive(Default)]
pub struct Locks {
    /// Oldest first.
    list: VecDeque<Lock>,
}

impl Locks {
    /// Whether nobody has or wants one.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Asks for a lock on behalf of `owner`, who has none; `true` if it is held now, otherwise
    /// [`Locks::release`] tells when it is.
    pub fn acquire(&mut self, owner: u32, area: Area) -> bool {
        let held = !self.list.iter().any(|lock| lock.area.overlaps(&area));
        self.list.push_back(Lock { owner, area, held });
        held
    }

    /// Gives back what `owner` has or waits for, if anything; appends those who hold theirs now to
    /// `granted`, in the order in which they asked.
    pub fn release(&mut self, owner: u32, granted: &mut VecDeque<u32>) {
        let Some(at) = self.list.iter().position(|lock| lock.owner == owner) else {
            return;
        };
        self.list.remove(at);
        for n in at..self.list.len() {
            let free = |lock: &Lock| {
                let mut before = self.list.iter().take(n);
                !before.any(|other| other.area.overlaps(&lock.area))
            };
            if !self.list[n].held && free(&self.list[n]) {
                self.list[n].held = true;
                granted.push_back(self.list[n].owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn area(prefix: &[u8], range: Option<Range<u64>>) -> Area {
        Area {
            prefix: prefix.to_vec(),
            range,
        }
    }

    fn released(locks: &mut Locks, owner: u32) -> Vec<u32> {
        let mut granted = VecDeque::new();
        locks.release(owner, &mut granted);
        granted.into()
    }

    #[test]
    fn who_asked_first_goes_first() {
        let mut locks = Locks::default();
        assert!(locks.acquire(1, area(b"ab", Some(0..10))));
        assert!(locks.acquire(2, area(b"ab", Some(10..20))));
        assert!(!locks.acquire(3, area(b"ab", Some(5..15))), "overlaps both");
        assert!(!locks.acquire(4, area(b"ab", Some(0..6))), "behind 3 and 1");
        assert!(!locks.acquire(5, area(b"a", None)), "a punch of the dkey");
        assert!(!locks.acquire(6, area(b"ac", Some(0..10))), "behind 5");
        assert!(locks.acquire(7, area(b"b", None)));
        assert!(released(&mut locks, 1).is_empty());
        assert_eq!(released(&mut locks, 2), [3]);
        assert_eq!(released(&mut locks, 3), [4]);
        assert!(released(&mut locks, 9).is_empty());
        assert_eq!(released(&mut locks, 4), [5]);
        assert_eq!(released(&mut locks, 5), [6]);
        assert!(released(&mut locks, 6).is_empty());
        assert!(released(&mut locks, 7).is_empty());
        assert!(locks.is_empty());
    }

    #[test]
    fn one_release_may_grant_several() {
        let mut locks = Locks::default();
        assert!(locks.acquire(1, area(b"x", Some(0..100))));
        assert!(!locks.acquire(2, area(b"x", Some(0..10))));
        assert!(!locks.acquire(3, area(b"x", Some(10..20))));
        assert!(!locks.acquire(4, area(b"x", Some(10..20))));
        assert_eq!(released(&mut locks, 1), [2, 3]);
        assert_eq!(released(&mut locks, 3), [4]);
    }

    proptest! {
        /// Held locks never overlap, and everybody gets a turn.
        #[test]
        fn everybody_gets_a_turn_alone(
            wants in prop::collection::vec((0u8..3, 0u64..8, 1u64..5, any::<bool>()), 1..40), pick: u64,
        ) {
            let mut locks = Locks::default();
            let mut held = Vec::new();
            for (n, (key, start, len, whole)) in wants.iter().enumerate() {
                let range = (!whole).then(|| *start..start + len);
                let prefix = if *whole { vec![] } else { vec![*key] };
                if locks.acquire(n as u32, area(&prefix, range)) {
                    held.push(n as u32);
                }
            }
            let mut turns = 0;
            let mut x = pick;
            while !held.is_empty() {
                let of = |owner: &u32| locks.list.iter().find(|l| l.owner == *owner).unwrap();
                for (i, a) in held.iter().enumerate() {
                    prop_assert!(held[i + 1..].iter().all(|b| !of(a).area.overlaps(&of(b).area)));
                }
                x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let owner = held.swap_remove((x >> 33) as usize % held.len());
                held.extend(released(&mut locks, owner));
                turns += 1;
            }
            prop_assert_eq!(turns, wants.len());
            prop_assert!(locks.is_empty());
        }
    }
}
