//! How long a target looks for work before it sleeps.
//!
//! Waking a thread costs some ten microseconds, more on a virtual machine, where the idle core itself
//! has to be woken. While requests follow each other closely, a target therefore polls for a while
//! after the last one; the window grows while that pays and shrinks while it does not, so that a
//! target which is asked rarely costs nothing. Each empty round gives way to other threads of the
//! core: on a small machine the client may be waiting for it. Where others want the core for long,
//! polling is the slower way: a thread that yields waits for its turn, one that is woken preempts.

use std::time::{Duration, Instant};

/// Shortest window: little beside the cost of a sleep.
const LEAST: Duration = Duration::from_micros(4);
/// Longest window: a target that loses each time pays it once per request.
const MOST: Duration = Duration::from_micros(100);
/// Giving way for longer than this means that others want the core.
const CROWDED: Duration = Duration::from_micros(50);
/// For how long it is left to them then: each time twice as long, as long as that goes on.
const RETREAT: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// See the module.
#[derive(Debug)]
pub(super) struct Idle {
    window: Duration,
    /// Since when there has been nothing to do; `None` while there is.
    since: Option<Instant>,
    /// Others want the core.
    crowded_until: Option<Instant>,
    retreat: Duration,
}

impl Default for Idle {
    fn default() -> Self {
        Self {
            window: LEAST,
            since: None,
            crowded_until: None,
            retreat: RETREAT.0,
        }
    }
}

impl Idle {
    /// A round found work.
    pub(super) fn busy(&mut self) {
        self.since = None;
    }

    /// A round found nothing: whether to sleep now.
    pub(super) fn should_sleep(&mut self) -> bool {
        let now = Instant::now();
        if now.duration_since(*self.since.get_or_insert(now)) >= self.window {
            return true;
        }
        if self.crowded_until.is_some_and(|until| now < until) {
            return true;
        }
        std::thread::yield_now();
        let back = Instant::now();
        if back.duration_since(now) > CROWDED {
            self.crowded_until = Some(back + self.retreat);
            self.retreat = (self.retreat * 2).min(RETREAT.1);
        } else if self.crowded_until.take().is_none() {
            self.retreat = RETREAT.0;
        }
        false
    }

    /// A sleep has ended: what came would have been found by a window of the whole wait.
    pub(super) fn slept(&mut self) {
        let waited = self.since.take().map_or(MOST, |since| since.elapsed());
        self.window = if waited <= MOST {
            (self.window * 2).min(MOST)
        } else {
            (self.window / 2).max(LEAST)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_grows_while_work_follows_closely_and_shrinks_while_it_does_not() {
        let mut idle = Idle::default();
        for _ in 0..10 {
            idle.since = Some(Instant::now());
            idle.slept();
        }
        // A test machine may have been slow in some of the rounds.
        assert!(idle.window > LEAST);
        idle.window = MOST;
        idle.since = Some(Instant::now());
        assert!(!idle.should_sleep() || idle.since.is_some_and(|s| s.elapsed() >= MOST));
        idle.crowded_until = Some(Instant::now() + Duration::from_secs(60));
        idle.since = None;
        assert!(idle.should_sleep());
        for _ in 0..10 {
            idle.since = Instant::now().checked_sub(2 * MOST);
            assert!(idle.should_sleep());
            idle.slept();
        }
        assert_eq!(idle.window, LEAST);
    }
}
