//! Wakes the driver's thread, with a system call only if it sleeps.

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A doorbell.
pub(super) struct Bell {
    event: EventFd,
    asleep: AtomicBool,
}

impl Bell {
    pub(super) fn new() -> nix::Result<Self> {
        Ok(Self {
            event: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
            asleep: AtomicBool::new(false),
        })
    }

    /// Called after something was put into the queue.
    pub(super) fn ring(&self) {
        if self.asleep.swap(false, Ordering::SeqCst) {
            // Fails only if it rings already as loud as it can.
            let _ = self.event.write(1);
        }
    }

    /// Announces sleep. The queue must be looked at once more after this: what came before may
    /// not have rung.
    pub(super) fn going_to_sleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
    }

    /// Ends the announcement without sleeping.
    pub(super) fn stay_awake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }

    /// Sleeps until the bell rings, `fd` is readable, or the time is over; then awake.
    pub(super) fn sleep(&self, fd: Option<BorrowedFd<'_>>, limit: Option<Duration>) {
        let bell = self.event.as_fd();
        let mut all = [bell, fd.unwrap_or(bell)].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        // To the microsecond: a fabric without a descriptor is polled by this timer. An interrupted
        // wait is a short one.
        let _ = ppoll(&mut all, limit.map(TimeSpec::from), None);
        self.stay_awake();
        let _ = self.event.read(); // nothing to read if it did not ring
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Instant;

    #[test]
    fn a_ring_ends_the_sleep() {
        let bell = Arc::new(Bell::new().unwrap());
        bell.going_to_sleep();
        let other = bell.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            other.ring();
        });
        let start = Instant::now();
        bell.sleep(None, Some(Duration::from_secs(30)));
        assert!(start.elapsed() < Duration::from_secs(10));
        thread.join().unwrap();
        // Heard once; the next sleep is not cut short by it.
        bell.ring();
        bell.going_to_sleep();
        let start = Instant::now();
        bell.sleep(None, Some(Duration::from_millis(30)));
        assert!(start.elapsed() >= Duration::from_millis(30));
    }
}
