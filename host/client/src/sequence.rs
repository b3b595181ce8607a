//! Numbers of requests, and which of them are settled.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Numbers the requests of one client.
///
/// A change keeps its number until somebody has its answer or gives it up; what is below the lowest
/// such number is settled. The engine is told with every request, so that it may forget those
/// outcomes, and refuse what comes late.
pub(crate) struct Sequences {
    state: Mutex<State>,
}

struct State {
    next: u64,
    /// Changes without an answer.
    open: BTreeSet<u64>,
}

impl Sequences {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                next: 1,
                open: BTreeSet::new(),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Consistent after every statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a new request. A change holds back what counts as settled until the number is
    /// dropped.
    pub(crate) fn take(&self, is_change: bool) -> Sequence<'_> {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        let settled = state.open.first().copied().unwrap_or(number);
        if is_change {
            state.open.insert(number);
        }
        Sequence {
            all: self,
            number,
            settled,
            is_change,
        }
    }
}

/// The number of one request.
pub(crate) struct Sequence<'a> {
    all: &'a Sequences,
    number: u64,
    settled: u64,
    is_change: bool,
}

impl Sequence<'_> {
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// What is settled now; at most the number itself.
    pub(crate) fn settled(&self) -> u64 {
        if !self.is_change {
            return self.settled;
        }
        let first = self.all.lock().open.first().copied();
        first.unwrap_or(self.number)
    }
}

impl Drop for Sequence<'_> {
    fn drop(&mut self) {
        if self.is_change {
            self.all.lock().open.remove(&self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn the_lowest_open_change_holds_back_what_is_settled() {
        let all = Sequences::new();
        let first = all.take(true);
        let get = all.take(false);
        let third = all.take(true);
        assert_eq!((first.number(), first.settled()), (1, 1));
        assert_eq!((get.number(), get.settled()), (2, 1));
        assert_eq!((third.number(), third.settled()), (3, 1));
        drop(first);
        assert_eq!(third.settled(), 3);
        drop(third);
        let fourth = all.take(false);
        assert_eq!((fourth.number(), fourth.settled()), (4, 4));
        let fifth = all.take(true);
        assert_eq!((fifth.number(), fifth.settled()), (5, 5));
    }

    #[test]
    fn concurrent_changes_are_never_settled_while_open() {
        let all = Sequences::new();
        let most = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..2000 {
                        let sequence = all.take(n % 3 > 0);
                        let settled = sequence.settled();
                        assert!(settled <= sequence.number());
                        most.fetch_max(settled, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(all.take(true).settled(), 8001);
        assert!(most.into_inner() <= 8000);
    }
}
