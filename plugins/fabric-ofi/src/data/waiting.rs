//! How long, and how often, an operation is offered again that the provider does not take yet.
//!
//! To ofi_rxm each offer towards a peer that refuses connections is another attempt to connect: at every poll that would be a
//! thousand a second, of each client of a server that is down.

use std::time::{Duration, Instant};

/// Part of the time waited so far that passes until the next try: so much longer than need be a peer waits at most.
const PART: u32 = 8;
/// Longest time between two tries.
const LONGEST: Duration = Duration::from_millis(20);

/// When to give up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    time: Duration,
    /// Tries at least, however late a thread gets to them.
    tries: u32,
    /// Who was given up is not waited for again soon.
    pub(super) remembers: bool,
}

impl Patience {
    /// A peer has to be connected to. A provider that tries again and again, as ofi_rxm does, never ends by itself; and
    /// whoever sends needs its memory back. Long enough for a lost packet of the handshake to be sent again.
    pub(super) const CONNECTING: Self = Self {
        time: Duration::from_secs(3),
        tries: 4,
        remembers: false,
    };
    /// A peer that has connected, to an endpoint that answers. There is a connection, of which the provider, or a peer that
    /// gets no processor for a while, perhaps has not looked at the last step; or the peer is gone, and its requests are
    /// waited for by all who come later.
    pub(super) const CONNECTED: Self = Self {
        time: Duration::from_millis(500),
        tries: 4,
        remembers: true,
    };
}

/// So long after a peer was given up what is for it is offered once: the requests of a job that was killed are hundreds,
/// and nobody shall wait for each of them.
const GONE: Duration = Duration::from_secs(3);

/// Whether a peer that was given up then need not be waited for.
pub(super) fn is_gone(given_up: Option<Instant>, now: Instant) -> bool {
    given_up.is_some_and(|then| now.saturating_duration_since(then) < GONE)
}

/// The wait for one peer.
pub(super) struct Waiting {
    since: Instant,
    next: Instant,
    tries: u32,
}

impl Waiting {
    /// From the first operation on that is not taken.
    pub(super) fn begin(now: Instant) -> Self {
        Self {
            since: now,
            next: now,
            tries: 0,
        }
    }

    /// Whether to try again.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now >= self.next
    }

    /// It was in vain.
    pub(super) fn tried(&mut self, now: Instant) {
        self.tries = self.tries.saturating_add(1);
        self.next = now + (now.saturating_duration_since(self.since) / PART).min(LONGEST);
    }

    /// Whether to give up.
    pub(super) fn has_exhausted(&self, patience: Patience, now: Instant) -> bool {
        self.tries >= patience.tries && now.saturating_duration_since(self.since) >= patience.time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tries at each moment of a clock that goes on by `step`; returns how many, and when it was given up.
    fn wait(patience: Patience, step: Duration) -> (u32, Duration) {
        let began = Instant::now();
        let mut waiting = Waiting::begin(began);
        let mut now = began;
        loop {
            if waiting.is_due(now) {
                waiting.tried(now);
            }
            if waiting.has_exhausted(patience, now) {
                return (waiting.tries, now - began);
            }
            now += step;
        }
    }

    #[test]
    fn tries_become_rare_and_end() {
        let step = Duration::from_micros(50);
        let (tries, time) = wait(Patience::CONNECTING, step);
        assert!((150..300).contains(&tries), "{tries}");
        assert_eq!(time, Patience::CONNECTING.time);
        let (tries, time) = wait(Patience::CONNECTED, step);
        assert!((60..200).contains(&tries), "{tries}");
        assert_eq!(time, Patience::CONNECTED.time);
    }

    #[test]
    fn who_was_given_up_is_gone_for_a_while() {
        let now = Instant::now();
        assert!(!is_gone(None, now));
        assert!(is_gone(Some(now), now));
        assert!(is_gone(Some(now), now + GONE / 2));
        assert!(!is_gone(Some(now), now + GONE));
    }

    #[test]
    fn who_gets_to_it_late_tries_often_enough() {
        let step = Duration::from_secs(1);
        let (tries, time) = wait(Patience::CONNECTED, step);
        assert_eq!((tries, time), (4, 3 * step));
    }
}
