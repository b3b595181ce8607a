//! When to try again.

use std::time::{Duration, Instant};

/// First pause; each is twice the last, up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_millis(500);

/// The time that a call has, and the pauses between its attempts.
pub(crate) struct Patience {
    started: Instant,
    deadline: Instant,
    pause: Duration,
}

impl Patience {
    pub(crate) fn new(limit: Duration) -> Self {
        let started = Instant::now();
        Self {
            started,
            // A limit beyond what the clock can count is as good as a century.
            deadline: started
                .checked_add(limit)
                .unwrap_or(started + Duration::from_secs(100 * 365 * 86400)),
            pause: SHORTEST,
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// When an attempt that starts now ends at the latest.
    pub(crate) fn expiry(&self, attempt: Duration) -> Instant {
        let now = Instant::now();
        now.checked_add(attempt)
            .map_or(self.deadline, |expiry| expiry.min(self.deadline))
    }

    /// Waits before the next attempt; `false` if there is no time for one.
    pub(crate) async fn pause(&mut self) -> bool {
        let pause = self.pause;
        if Instant::now() + pause >= self.deadline {
            return false;
        }
        tokio::time::sleep(pause).await;
        self.pause = (2 * pause).min(LONGEST);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pauses_grow_and_end_at_the_deadline() {
        let mut patience = Patience::new(Duration::from_millis(100));
        let mut pauses = 0;
        while patience.pause().await {
            pauses += 1;
        }
        // 10 + 20 + 40; the next, 80, does not fit.
        assert!((1..=3).contains(&pauses), "{pauses}");
        assert!(patience.elapsed() < Duration::from_millis(100));
        assert!(patience.expiry(Duration::MAX) <= patience.deadline);
        assert!(!Patience::new(Duration::ZERO).pause().await);
    }
}
