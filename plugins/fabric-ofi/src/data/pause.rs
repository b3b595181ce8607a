//! How long to sleep where no descriptor tells that something happened.

use crate::settings::Settings;
use std::time::Duration;

/// A pause that doubles while nothing happens.
pub(super) struct Pause {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Pause {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            first: settings.poll,
            longest: settings.idle_poll,
            next: settings.poll,
        }
    }

    /// Something happened: more may follow soon.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }

    /// The next pause, in microseconds.
    pub(super) fn take(&mut self) -> u64 {
        let pause = self.next;
        self.next = (2 * pause).min(self.longest);
        pause.as_micros() as u64 // at most a second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_longest_until_something_happens() {
        let mut pause = Pause::new(Settings {
            poll: Duration::from_micros(30),
            idle_poll: Duration::from_micros(100),
        });
        assert_eq!([(); 4].map(|()| pause.take()), [30, 60, 100, 100]);
        pause.reset();
        assert_eq!(pause.take(), 30);
    }
}
