//! How long to sleep where no descriptor tells that something happened.

use crate::settings::Settings;
use std::time::{Duration, Instant};

/// Longest pause of a rest that is still short, and what a pause may be of a longer one: so a request after a rest
/// waits for half a millisecond or for a 256th of the rest, and who is not asked for long costs little.
const SHORT: Duration = Duration::from_micros(500);
const PART: u32 = 256;

/// A pause that grows by a quarter while nothing happens: whatever comes in the middle of one waits no more than a
/// quarter longer than it would have taken by itself.
pub(super) struct Pause {
    first: Duration,
    longest: Duration,
    next: Duration,
    /// Since when nothing has happened.
    since: Option<Instant>,
}

impl Pause {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            first: settings.poll,
            longest: settings.idle_poll,
            next: settings.poll,
            since: None,
        }
    }

    /// Something happened: more may follow soon.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
        self.since = None;
    }

    /// The next pause, in microseconds.
    pub(super) fn take(&mut self) -> u64 {
        let now = Instant::now();
        let rest = now.duration_since(*self.since.get_or_insert(now));
        self.after(rest).as_micros() as u64 // at most a second
    }

    /// The next pause when the rest has lasted so long.
    fn after(&mut self, rest: Duration) -> Duration {
        let most = SHORT.max(rest / PART).max(self.first).min(self.longest);
        let pause = self.next.min(most);
        self.next = (pause * 5 / 4).min(self.longest);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pause(poll: u64, idle_poll: u64) -> Pause {
        Pause::new(Settings {
            poll: Duration::from_micros(poll),
            idle_poll: Duration::from_micros(idle_poll),
        })
    }

    #[test]
    fn grows_up_to_the_longest_until_something_happens() {
        let mut pause = pause(40, 70);
        assert_eq!([(); 5].map(|()| pause.take()), [40, 50, 62, 70, 70]);
        pause.reset();
        assert_eq!(pause.take(), 40);
    }

    #[test]
    fn long_pauses_come_with_long_rests() {
        let mut pause = pause(20, 4000);
        let mut at = |rest_ms| {
            let rest = Duration::from_millis(rest_ms);
            (0..50).map(|_| pause.after(rest)).last().unwrap()
        };
        assert_eq!(at(1), SHORT);
        assert_eq!(at(100), SHORT);
        assert_eq!(at(512), Duration::from_millis(2));
        assert_eq!(at(60_000), Duration::from_millis(4));
        pause.reset();
        assert_eq!(pause.after(Duration::ZERO), Duration::from_micros(20));
    }

    #[test]
    fn a_first_pause_that_is_long_already_is_kept() {
        let mut pause = pause(2000, 5000);
        assert_eq!(pause.after(Duration::ZERO), Duration::from_millis(2));
        assert_eq!(
            pause.after(Duration::from_millis(1)),
            Duration::from_millis(2)
        );
    }
}
