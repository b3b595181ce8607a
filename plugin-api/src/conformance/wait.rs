//! Sleeping as `arm_wait` says. The only system call of the suite lives here.

use super::case::{Verdict, failed};
use crate::abi::{Wait, WaitKind};
use std::time::Duration;

/// Longest time for an operation that has nothing to wait for but the backend.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// `struct pollfd` of poll(2).
#[repr(C)]
struct PollFd {
    fd: i32,
    events: i16,
    revents: i16,
}

const POLLIN: i16 = 1;

unsafe extern "C" {
    // `nfds_t` is an unsigned long on Linux.
    fn poll(fds: *mut PollFd, count: core::ffi::c_ulong, timeout_ms: i32) -> i32;
}

/// Whether `fd` is readable within `limit`.
pub(super) fn readable(fd: i32, limit: Duration) -> Verdict<bool> {
    let mut entry = PollFd {
        fd,
        events: POLLIN,
        revents: 0,
    };
    let timeout = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    let n = loop {
        // SAFETY: one valid record, exclusively ours for the call.
        let n = unsafe { poll(&mut entry, 1, timeout) };
        if n >= 0 {
            break n;
        }
        let error = std::io::Error::last_os_error();
        if error.kind() != std::io::ErrorKind::Interrupted {
            return failed(format!("cannot poll descriptor {fd} of arm_wait: {error}"));
        }
    };
    if entry.revents != 0 && entry.revents & POLLIN == 0 {
        return failed(format!(
            "descriptor {fd} of arm_wait is broken (revents {:#x})",
            entry.revents
        ));
    }
    Ok(n == 1)
}

/// Sleeps as told while an event is due; `false` if the answer slept through [`LIMIT`].
pub(super) fn sleep(wait: Wait) -> Verdict<bool> {
    match wait.kind {
        WaitKind::BUSY => Ok(true),
        WaitKind::TIMER => {
            let time = Duration::from_micros(wait.timeout_us);
            if time > Duration::from_secs(1) {
                return failed(format!("a timer of {time:?} is no way to wait for I/O"));
            }
            std::thread::sleep(time);
            Ok(true)
        }
        WaitKind::FD if wait.fd < 0 => failed(format!("a wait descriptor of {}", wait.fd)),
        WaitKind::FD => {
            let limit = match wait.timeout_us {
                0 => LIMIT,
                us => Duration::from_micros(us).min(LIMIT),
            };
            Ok(readable(wait.fd, limit)? || wait.timeout_us != 0)
        }
        WaitKind(other) => failed(format!("unknown wait kind {other}")),
    }
}
