//! Waking a thread that sleeps in poll(2), and that sleep itself.

use daos_plugin_api::abi::{Wait, WaitKind};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// Wakes one thread; clones wake the same one.
#[derive(Clone, Debug)]
pub struct Wake {
    fd: Arc<OwnedFd>,
}

impl Wake {
    /// A new one.
    ///
    /// # Errors
    /// If the process has no file descriptors left.
    pub fn new() -> std::io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { fd: Arc::new(fd) })
    }

    /// Ends the sleep of the thread, now or when it next begins.
    pub fn wake(&self) {
        // The only failure is a counter at its maximum, which wakes just as well.
        let _ = rustix::io::write(&*self.fd, &1u64.to_ne_bytes());
    }

    /// Takes note of all calls to `wake`.
    pub fn clear(&self) {
        let mut count = [0u8; 8];
        // Nothing to read means that nobody called.
        let _ = rustix::io::read(&*self.fd, &mut count);
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Lets the sleeps of the calling thread end in time: the kernel may add 50 microseconds to each, which is more than
/// the shortest pause of a fabric that is looked at by the clock.
pub fn sleep_exactly() {
    if let Err(error) = rustix::thread::set_current_timer_slack(NonZeroU64::new(1)) {
        tracing::debug!(%error, "sleeps are a little longer than they should be");
    }
}

/// Sleeps until `wake` is called, a descriptor of `waits` is readable, the shortest of their timers
/// or `limit` is over. Returns at once if one of them is busy.
pub fn sleep(wake: &Wake, waits: &[Wait], limit: Option<Duration>) {
    let mut timeout = limit;
    let mut fds: [Option<BorrowedFd<'_>>; 4] = [None; 4];
    let mut count = 0;
    for wait in waits {
        if wait.kind == WaitKind::BUSY {
            return;
        }
        if wait.kind == WaitKind::FD && wait.fd >= 0 && count < fds.len() {
            // SAFETY: plugins keep the descriptor open until the queue or endpoint is closed, and
            // the thread that sleeps here is the one that would close it.
            fds[count] = Some(unsafe { BorrowedFd::borrow_raw(wait.fd) });
            count += 1;
        }
        if wait.kind == WaitKind::TIMER || wait.timeout_us > 0 {
            let timer = Duration::from_micros(wait.timeout_us);
            timeout = Some(timeout.map_or(timer, |t| t.min(timer)));
        }
    }
    // Places without a descriptor name the first one again, behind `count` nobody looks.
    let own = wake.as_fd();
    let mut polled = [None, fds[0], fds[1], fds[2], fds[3]]
        .map(|fd| PollFd::from_borrowed_fd(fd.unwrap_or(own), PollFlags::IN));
    let timeout = timeout.map(|t| Timespec {
        tv_sec: t.as_secs().min(3600) as i64,
        tv_nsec: i64::from(t.subsec_nanos()),
    });
    // An interrupted sleep is a short one.
    let _ = poll(&mut polled[..=count], timeout.as_ref());
    if !polled[0].revents().is_empty() {
        wake.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn wakes_now_or_later_and_times_out() {
        let wake = Wake::new().unwrap();
        wake.wake();
        let start = Instant::now();
        sleep(&wake, &[], None);
        sleep(&wake, &[Wait::BUSY], None);
        assert!(start.elapsed() < Duration::from_secs(1));
        sleep(&wake, &[Wait::timer(20_000)], Some(Duration::from_secs(60)));
        assert!(start.elapsed() >= Duration::from_millis(20));
        let other = wake.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            other.wake();
        });
        sleep(&wake, &[], Some(Duration::from_secs(60)));
        assert!(start.elapsed() < Duration::from_secs(30));
        thread.join().unwrap();
    }
}
