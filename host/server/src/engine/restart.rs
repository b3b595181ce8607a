//! When an engine that died is started again: after pauses that grow, and not for ever.

use super::supervise::{Command, Task};
use super::tail::Tail;
use super::verdict::fault;
use crate::state::now_ms;
use daos_proto::host::EngineState;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

/// Pause before the first restart; doubles with each death that follows quickly.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause before a restart.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// An engine that served this long has recovered: the next death counts as the first.
const RECOVERED_AFTER: Duration = Duration::from_secs(60);
/// Deaths in a row after which an engine is given up.
const GIVE_UP_AFTER: u32 = 6;

/// Whether an engine that has served since then has recovered. One that never served has not, however long it took to
/// die.
pub(super) fn has_recovered(served_since: Option<Instant>, now: Instant) -> bool {
    served_since.is_some_and(|since| now.duration_since(since) >= RECOVERED_AFTER)
}

impl Task {
    /// Counts a death and waits before another start; `false` if there shall be none.
    pub(super) async fn again(&mut self, why: &str, tail: &Tail) -> bool {
        self.deaths += 1;
        if self.deaths >= GIVE_UP_AFTER {
            let what = format!(
                "the engine died {} times in a row and is given up",
                self.deaths
            );
            self.fail(
                &what,
                why,
                "mend the cause shown in its log, then: daos_shell system start",
                tail,
            );
            return false;
        }
        self.pause(why, tail).await.is_some()
    }

    /// Waits before a restart. `None` when the engine was stopped meanwhile.
    async fn pause(&mut self, why: &str, tail: &Tail) -> Option<()> {
        let pause = FIRST_PAUSE
            .saturating_mul(1 << (self.deaths - 1).min(16))
            .min(LONGEST_PAUSE);
        let until = Instant::now() + pause;
        warn!(
            engine = self.index,
            pause_ms = pause.as_millis() as u64,
            "engine died: {why}; restarting"
        );
        self.state.update(self.index, |e| {
            e.enter(EngineState::Restarting, format!("it died: {why}"));
            e.fault = Some(fault(
                "the engine died",
                why,
                "it is restarted by itself",
                tail,
            ));
            e.restarts += 1;
            e.restart_at_ms = now_ms() + pause.as_millis() as u64;
        });
        loop {
            tokio::select! {
                () = sleep_until(until) => return Some(()),
                command = self.inbox.recv() => match command {
                    Some(Command::Start { started, .. }) => {
                        drop(started.send(Err("the engine is about to be restarted".to_owned())));
                    }
                    Some(Command::Stop { stopped, .. }) => {
                        self.state.update(self.index, |e| {
                            e.enter(EngineState::Stopped, "it was stopped");
                            e.hint = self.start_hint();
                        });
                        let _ = stopped.send(false);
                        return None;
                    }
                    Some(Command::Ready { accepted, .. }) => {
                        drop(accepted.send(Err("this engine was not started by the server".to_owned())));
                    }
                    None => return None,
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_has_served_for_a_while_has_recovered() {
        let now = Instant::now() + 10 * RECOVERED_AFTER;
        assert!(!has_recovered(None, now));
        assert!(!has_recovered(Some(now - RECOVERED_AFTER / 2), now));
        assert!(has_recovered(Some(now - RECOVERED_AFTER), now));
    }
}
