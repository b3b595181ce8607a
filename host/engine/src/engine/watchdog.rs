//! Targets that do not come back: a call of a plugin that never returns cannot be ended, only its process.

use crate::death;
use crate::target::Shared;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a call of a fabric plugin may take: none of them waits for anything. Shorter than clients wait for an answer,
/// so that those of a target that is stuck in one find the next engine.
const FABRIC_LIMIT: Duration = Duration::from_secs(15);

/// If nobody has looked for so long, the process was stopped, and its targets with it.
const STOPPED: Duration = Duration::from_secs(5);

/// What was last seen of a target.
struct Seen {
    rounds: u64,
    at: Instant,
}

/// Watches the rounds of targets.
pub(super) struct Watchdog {
    seen: Vec<Seen>,
    looked: Instant,
    limit: Duration,
}

impl Watchdog {
    /// For targets whose rounds may take up to `limit`.
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            seen: Vec::new(),
            looked: Instant::now(),
            limit,
        }
    }

    /// Looks at the targets. The process ends, with the name of the plugin that the thread is in, when a round takes
    /// too long.
    pub(super) fn look<'a>(&mut self, targets: impl Iterator<Item = &'a Arc<Shared>>) {
        let now = Instant::now();
        if now.duration_since(std::mem::replace(&mut self.looked, now)) > STOPPED {
            self.seen.clear();
        }
        for (index, target) in targets.enumerate() {
            let rounds = target.rounds.load(Ordering::Relaxed);
            if index == self.seen.len() {
                self.seen.push(Seen { rounds, at: now });
            }
            let seen = &mut self.seen[index];
            if seen.rounds != rounds || target.asleep.load(Ordering::Acquire) {
                *seen = Seen { rounds, at: now };
                continue;
            }
            let limit = match target.in_fabric.load(Ordering::Relaxed) {
                true => self.limit.min(FABRIC_LIMIT),
                false => self.limit,
            };
            if now.duration_since(seen.at) > limit {
                let seconds = limit.as_secs();
                tracing::error!(
                    target_number = index,
                    "target has not come back for {seconds} s; the engine ends so that it is restarted"
                );
                death::end_in(target.thread.load(Ordering::Acquire));
            }
        }
    }
}
