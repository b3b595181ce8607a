//! How long one may sleep on the descriptor of `ofi_rxm`.
//!
//! The layer looks at connections that come and go only so often while its queue is read, and the step before sleeping
//! (1.17) takes back what was announced of them whether it was looked at or not: only another look finds it then. So
//! sleeps have an end, early where something has just happened, for it may go on.

use std::time::{Duration, Instant};

/// How often the layer looks, in microseconds: as `environment` sets it, unless it was set already.
const INTERVAL: &str = "FI_OFI_RXM_CM_PROGRESS_INTERVAL";
/// The layer's own value.
const DEFAULT: u64 = 10_000;
/// Beyond the interval, so that a look is due for sure.
const MARGIN: Duration = Duration::from_micros(50);
/// Longest sleep.
const LONGEST: Duration = Duration::from_secs(1);

/// Sleeps that grow while nothing ends them early.
pub(super) struct Glances {
    first: Duration,
    next: Duration,
    /// When the sleep began and how long it may take, until something is polled.
    asleep: Option<(Instant, Duration)>,
}

impl Glances {
    /// With the interval of the environment.
    pub(super) fn of_environment() -> Self {
        let text = std::env::var(INTERVAL).ok();
        let micros = text.and_then(|text| text.parse().ok()).unwrap_or(DEFAULT);
        Self::every(Duration::from_micros(micros))
    }

    fn every(interval: Duration) -> Self {
        let first = (interval + MARGIN).min(LONGEST);
        Self {
            first,
            next: first,
            asleep: None,
        }
    }

    /// The queue is read: whatever ended the sleep before its time may have been a connection.
    pub(super) fn polled(&mut self) {
        if let Some((since, time)) = self.asleep.take()
            && since.elapsed() < time
        {
            self.next = self.first;
        }
    }

    /// How long to sleep now, in microseconds.
    pub(super) fn next(&mut self) -> u64 {
        let time = self.next;
        self.next = (2 * time).min(LONGEST);
        self.asleep = Some((Instant::now(), time));
        time.as_micros() as u64 // a second at most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_grow_until_one_ends_early() {
        let mut glances = Glances::every(Duration::from_millis(100));
        let sleep = |glances: &mut Glances, slept: u64| {
            let time = glances.next();
            let began = Instant::now().checked_sub(Duration::from_millis(slept));
            glances.asleep = began.map(|began| (began, Duration::from_micros(time)));
            // More than one look after a sleep says no more.
            glances.polled();
            glances.polled();
            time
        };
        let long: Vec<u64> = (0..6).map(|_| sleep(&mut glances, 1000)).collect();
        assert_eq!(
            long,
            [100_050, 200_100, 400_200, 800_400, 1_000_000, 1_000_000]
        );
        assert_eq!(sleep(&mut glances, 0), 1_000_000);
        assert_eq!(sleep(&mut glances, 0), 100_050);
        assert_eq!(sleep(&mut glances, 1000), 100_050);
        assert_eq!(sleep(&mut glances, 1000), 200_100);
    }
}
