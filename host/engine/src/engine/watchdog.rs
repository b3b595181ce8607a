//! Targets that do not come back: a call of a plugin that never returns cannot be ended, only its process.

use crate::death;
use crate::target::Shared;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What was last seen of a target.
struct Seen {
    rounds: u64,
    at: Instant,
}

/// Watches the rounds of targets.
pub(super) struct Watchdog {
    seen: Vec<Seen>,
    limit: Duration,
}

impl Watchdog {
    /// For targets whose rounds may take up to `limit`.
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            seen: Vec::new(),
            limit,
        }
    }

    /// Looks at the targets. The process ends, with the name of the plugin that the thread is in, when a round takes
    /// too long.
    pub(super) fn look<'a>(&mut self, targets: impl Iterator<Item = &'a Arc<Shared>>) {
        let now = Instant::now();
        for (index, target) in targets.enumerate() {
            let rounds = target.rounds.load(Ordering::Relaxed);
            if index == self.seen.len() {
                self.seen.push(Seen { rounds, at: now });
            }
            let seen = &mut self.seen[index];
            if seen.rounds != rounds || target.asleep.load(Ordering::Acquire) {
                *seen = Seen { rounds, at: now };
            } else if now.duration_since(seen.at) > self.limit {
                let seconds = self.limit.as_secs();
                tracing::error!(
                    target_number = index,
                    "target has not come back for {seconds} s; the engine ends so that it is restarted"
                );
                death::end_in(target.thread.load(Ordering::Acquire));
            }
        }
    }
}
