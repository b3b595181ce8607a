//! A sleep to the microsecond in a task: the runtime's own timer counts whole milliseconds, which is long where a
//! fabric without a descriptor is looked at by the clock.

use super::link::watch;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// From here on the runtime's timer is exact enough, and it costs no system call.
const LONG: Duration = Duration::from_millis(20);

/// A clock of the kernel's that the runtime watches; opened when it is first needed.
pub(super) struct Alarm(State);

enum State {
    Unopened,
    Open(AsyncFd<OwnedFd>),
    /// The process has no descriptor for it.
    Missing,
}

impl Alarm {
    pub(super) fn new() -> Self {
        Self(State::Unopened)
    }

    /// Waits so long; without a limit for ever.
    pub(super) async fn after(&mut self, limit: Option<Duration>) {
        let Some(limit) = limit else {
            return std::future::pending().await;
        };
        if limit >= LONG {
            return tokio::time::sleep(limit).await;
        }
        if matches!(self.0, State::Unopened) {
            self.0 = open().map_or(State::Missing, State::Open);
        }
        match &self.0 {
            State::Open(clock) if set(clock.get_ref(), limit) => over(clock).await,
            _ => tokio::time::sleep(limit).await,
        }
    }
}

/// Waits until the clock has rung since it was set. The runtime may still remember that it did before.
async fn over(clock: &AsyncFd<OwnedFd>) {
    loop {
        let Ok(mut ready) = clock.readable().await else {
            // The runtime is shutting down.
            return std::future::pending().await;
        };
        let mut count = [0; 8];
        let read = ready.try_io(|clock| Ok(rustix::io::read(clock.get_ref(), &mut count)?));
        // It would block if the clock has not rung; no other failure is known, and none would pass.
        if read.is_ok() {
            return;
        }
    }
}

fn open() -> Option<AsyncFd<OwnedFd>> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let opened = timerfd_create(TimerfdClockId::Monotonic, flags)
        .map_err(std::io::Error::from)
        .and_then(|clock| watch(clock.as_fd()));
    opened
        .inspect_err(|error| tracing::debug!(%error, "no timer; sleeps are whole milliseconds"))
        .ok()
}

/// Sets the clock off, and takes back what it was set to before.
fn set(clock: &OwnedFd, limit: Duration) -> bool {
    let never = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let value = Timespec {
        tv_sec: 0,
        // Less than `LONG`; nothing at all would switch it off.
        tv_nsec: i64::from(limit.subsec_nanos().max(1)),
    };
    let once = Itimerspec {
        it_interval: never,
        it_value: value,
    };
    timerfd_settime(clock, TimerfdTimerFlags::empty(), &once).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[tokio::test]
    async fn sleeps_are_as_long_as_was_asked_and_shorter_than_the_runtimes() {
        let mut alarm = Alarm::new();
        let limit = Duration::from_micros(100);
        let mut shortest = Duration::MAX;
        for _ in 0..200 {
            let start = Instant::now();
            alarm.after(Some(limit)).await;
            assert!(start.elapsed() >= limit);
            shortest = shortest.min(start.elapsed());
        }
        assert!(matches!(alarm.0, State::Open(_)));
        // The runtime's timer sleeps for a millisecond at least.
        assert!(shortest < Duration::from_millis(1), "{shortest:?}");
    }

    #[tokio::test]
    async fn a_sleep_that_was_given_up_does_not_end_the_next_one() {
        let mut alarm = Alarm::new();
        for _ in 0..20 {
            let given_up = alarm.after(Some(Duration::from_micros(50)));
            let _ = tokio::time::timeout(Duration::ZERO, given_up).await;
            std::thread::sleep(Duration::from_micros(200));
            let (start, limit) = (Instant::now(), Duration::from_millis(3));
            alarm.after(Some(limit)).await;
            assert!(start.elapsed() >= limit, "{:?}", start.elapsed());
        }
    }
}
