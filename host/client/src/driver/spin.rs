//! Keeping awake for a moment while a reply is due, for tasks of one thread.

use super::crowd::Crowd;
use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};
use tokio::task::yield_now;

thread_local! {
    /// Whether a task of this thread keeps its runtime awake: one does for all.
    static SPINNING: Cell<bool> = const { Cell::new(false) };
    static CROWD: RefCell<Crowd> = const { RefCell::new(Crowd::new()) };
}

/// Keeps the runtime of this thread from sleeping, for a moment.
pub(super) struct Spin {
    until: Instant,
    last: Cell<Instant>,
}

impl Spin {
    /// `None` if another task does that, or if it does not pay.
    pub(super) fn begin(time: Duration) -> Option<Self> {
        if SPINNING.get() {
            return None;
        }
        let now = Instant::now();
        if CROWD.with_borrow(|crowd| crowd.is_here(now)) {
            return None;
        }
        SPINNING.set(true);
        Some(Self {
            until: now + time,
            last: Cell::new(now),
        })
    }

    pub(super) fn goes_on(&self) -> bool {
        let now = Instant::now();
        let left = self.last.replace(now);
        let crowded = CROWD.with_borrow_mut(|crowd| crowd.gave_way(left, now));
        !crowded && now < self.until
    }
}

impl Drop for Spin {
    fn drop(&mut self) {
        SPINNING.set(false);
    }
}

/// Looking at an endpoint that nothing tells about, again and again for a moment.
#[derive(Default)]
pub(super) struct Look {
    /// Since when there was nothing to see.
    since: Option<Instant>,
    /// Of the task that keeps the thread awake; others look as often as it lets them.
    spin: Option<Spin>,
}

impl Look {
    /// Whether to look again rather than to sleep, for at most `time` after the last progress.
    pub(super) fn goes_on(&mut self, time: Duration) -> bool {
        let now = Instant::now();
        if now.duration_since(*self.since.get_or_insert(now)) >= time {
            return false;
        }
        match &self.spin {
            Some(spin) => spin.goes_on(),
            None if SPINNING.get() => true,
            None => {
                self.spin = Spin::begin(time);
                self.spin.is_some()
            }
        }
    }

    /// Something was seen.
    pub(super) fn restart(&mut self) {
        self.since = None;
        self.spin = None;
    }

    /// The task goes to sleep: another one may keep the thread awake.
    pub(super) fn ends(&mut self) {
        self.spin = None;
    }
}

/// Lets other tasks run, and before them other threads: on a small machine the engine may need this
/// core.
pub(super) async fn give_way() {
    std::thread::yield_now();
    yield_now().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn one_task_keeps_the_thread_awake_and_all_look() {
        let (mut first, mut second) = (Look::default(), Look::default());
        assert!(first.goes_on(LONG) && second.goes_on(LONG));
        assert!(first.spin.is_some() && second.spin.is_none());
        first.ends();
        assert!(second.goes_on(LONG));
        assert!(second.spin.is_some());
        assert!(Spin::begin(LONG).is_none());
        second.restart();
        assert!(Spin::begin(LONG).is_some());
    }

    #[test]
    fn looking_ends_when_nothing_is_seen_for_long_enough() {
        let mut look = Look::default();
        let time = Duration::from_millis(1);
        look.goes_on(time);
        std::thread::sleep(2 * time);
        assert!(!look.goes_on(time));
        // Still nothing: it does not begin anew.
        look.ends();
        assert!(!look.goes_on(time));
        look.restart();
        assert_eq!(look.since, None);
    }
}
