//! Whether others want the core: then polling is the slower way, since a thread that is woken preempts
//! them and one that gives way waits for its turn.

use std::time::{Duration, Instant};

/// Being away for longer than this means that others had the core.
const AWAY: Duration = Duration::from_micros(100);
/// For how long it is left to them: at first, and at most, while that goes on.
const RETREAT: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// What was noticed so far.
pub(super) struct Crowd {
    until: Option<Instant>,
    retreat: Duration,
}

impl Crowd {
    pub(super) const fn new() -> Self {
        Self {
            until: None,
            retreat: RETREAT.0,
        }
    }

    /// Whether to leave the core to others at `now`.
    pub(super) fn is_here(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Giving way took from `left` until `back`; whether others were there.
    pub(super) fn gave_way(&mut self, left: Instant, back: Instant) -> bool {
        let away = back.duration_since(left) > AWAY;
        if away {
            self.until = Some(back + self.retreat);
            self.retreat = (self.retreat * 2).min(RETREAT.1);
        } else if self.until.take().is_none() {
            self.retreat = RETREAT.0;
        }
        away
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_retreat_grows_while_others_stay() {
        let mut crowd = Crowd::new();
        let start = Instant::now();
        assert!(!crowd.is_here(start));
        assert!(!crowd.gave_way(start, start));
        let mut at = start;
        for retreat in [10, 20, 40] {
            let back = at + 2 * AWAY;
            assert!(crowd.gave_way(at, back));
            assert!(crowd.is_here(back + Duration::from_millis(retreat - 1)));
            at = back + Duration::from_millis(retreat);
            assert!(!crowd.is_here(at));
        }
        for _ in 0..2 {
            assert!(!crowd.gave_way(at, at));
        }
        assert!(crowd.gave_way(at, at + 2 * AWAY));
        assert!(!crowd.is_here(at + 2 * AWAY + Duration::from_millis(10)));
    }
}
