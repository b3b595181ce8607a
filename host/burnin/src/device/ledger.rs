//! What every cell must hold, and which ones a request is on.

use super::job::Random;

/// Requests whose places are kept for reading them again.
const MAX_RECENT: usize = 1 << 16;

/// The ledger of an area.
pub(crate) struct Ledger {
    /// Lower half of the number of the write that a cell holds, or the checksum of what was read from it; 0 = nothing is known.
    known: Vec<u32>,
    busy: Vec<u64>,
    /// Number of the next write.
    next: u64,
    /// Places and lengths of what is known, a random choice once there are many.
    recent: Vec<(u64, u32)>,
    /// Requests that were to be kept.
    writes: u64,
    random: Random,
}

impl Ledger {
    pub(crate) fn new(cells: u64) -> Self {
        // Bounded by `area::MAX_CELLS`.
        let cells = cells as usize;
        Self {
            known: vec![0; cells],
            busy: vec![0; cells.div_ceil(64)],
            next: 1,
            recent: Vec::new(),
            writes: 0,
            random: Random::new(1),
        }
    }

    /// Takes cells for a request; `false` if another one is on any of them.
    pub(crate) fn take(&mut self, cell: u64, len: u64) -> bool {
        let free = (cell..cell + len).all(|c| self.busy[c as usize / 64] >> (c % 64) & 1 == 0);
        if free {
            (cell..cell + len).for_each(|c| self.busy[c as usize / 64] |= 1 << (c % 64));
        }
        free
    }

    /// Gives cells back.
    pub(crate) fn give_back(&mut self, cell: u64, len: u64) {
        (cell..cell + len).for_each(|c| self.busy[c as usize / 64] &= !(1 << (c % 64)));
    }

    /// A number for a write. Its lower half is never zero.
    pub(crate) fn number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1 + u64::from((number + 1).is_multiple_of(1 << 32));
        number
    }

    /// The whole number of a write of which the lower half is known, if it is not more than 2^32 writes old.
    pub(crate) fn whole(&self, low: u32) -> u64 {
        let last = self.next - 1;
        let number = last >> 32 << 32 | u64::from(low);
        if number > last {
            number - (1 << 32)
        } else {
            number
        }
    }

    /// What is known of a cell; 0 = nothing.
    pub(crate) fn known(&self, cell: u64) -> u32 {
        self.known[cell as usize]
    }

    /// Sets what is known of cells.
    pub(crate) fn set(&mut self, cell: u64, len: u64, value: u32) {
        self.known[cell as usize..(cell + len) as usize].fill(value);
    }

    /// Keeps a place whose contents are known now.
    pub(crate) fn remember(&mut self, cell: u64, len: u64) {
        // A request has at most 16 MiB.
        let entry = (cell, len as u32);
        self.writes += 1;
        let random = self.random.next();
        if self.recent.len() < MAX_RECENT {
            self.recent.push(entry);
        } else if random % self.writes < MAX_RECENT as u64 {
            self.recent[random as usize % MAX_RECENT] = entry;
        }
    }

    /// A place whose contents were known, chosen by a random number.
    pub(crate) fn remembered(&self, random: u64) -> Option<(u64, u64)> {
        let count = self.recent.len().max(1);
        let entry = self.recent.get(random as usize % count)?;
        Some((entry.0, u64::from(entry.1)))
    }

    /// Number of cells of which something is known.
    pub(crate) fn known_cells(&self) -> u64 {
        self.known.iter().filter(|value| **value != 0).count() as u64
    }

    /// The next run of known cells from `from` on, at most `most` of them.
    pub(crate) fn next_known(&self, from: u64, most: u64) -> Option<(u64, u64)> {
        let rest = self.known.get(from as usize..)?;
        let first = from + rest.iter().position(|value| *value != 0)? as u64;
        let run = self.known[first as usize..].iter().take(most as usize);
        Some((first, run.take_while(|value| **value != 0).count() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_have_one_request_at_a_time() {
        let mut ledger = Ledger::new(200);
        assert!(ledger.take(60, 10));
        assert!(!ledger.take(69, 1) && !ledger.take(50, 11));
        assert!(ledger.take(70, 130) && ledger.take(0, 60));
        ledger.give_back(60, 10);
        assert!(ledger.take(63, 2) && !ledger.take(64, 1));
    }

    #[test]
    fn numbers_are_completed_from_their_lower_half() {
        let mut ledger = Ledger::new(1);
        assert_eq!(
            (ledger.number(), ledger.number(), ledger.whole(2)),
            (1, 2, 2)
        );
        ledger.next = (5 << 32) - 1;
        let before = ledger.number();
        let after = ledger.number();
        assert_eq!(after, (5 << 32) + 1, "the lower half is never zero");
        assert_eq!(
            (ledger.whole(before as u32), ledger.whole(after as u32)),
            (before, after)
        );
    }

    #[test]
    fn what_is_known_is_found_again() {
        let mut ledger = Ledger::new(100);
        assert_eq!(
            (ledger.next_known(0, 9), ledger.remembered(3)),
            (None, None)
        );
        ledger.set(10, 5, 7);
        ledger.set(15, 2, 8);
        ledger.set(99, 1, 9);
        assert_eq!(ledger.next_known(0, 100), Some((10, 7)));
        assert_eq!(ledger.next_known(12, 3), Some((12, 3)));
        assert_eq!(ledger.next_known(17, 3), Some((99, 1)));
        assert_eq!(ledger.next_known(100, 3), None);
        assert_eq!(ledger.known_cells(), 8);
        for n in 0..(2 * MAX_RECENT as u64) {
            ledger.remember(n % 100, 1);
        }
        assert_eq!(ledger.recent.len(), MAX_RECENT);
        assert!(ledger.remembered(12345).is_some());
    }
}
