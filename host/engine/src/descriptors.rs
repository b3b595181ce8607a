//! The descriptors that were the engine's own before it loaded plugins: its standard streams, its log, what its main thread
//! waits on.
//!
//! A plugin that closes one of them - it closes a number twice, mostly - leaves an engine that loses its words, does not wake
//! up any more, or writes into whatever is opened next under that number. By the time anybody notices, nobody knows who it
//! was. So the program has `close` and `close_range` of its own, which every library in the process calls instead of
//! those of the C library: they end the process right there if such a descriptor is closed from inside a plugin's call,
//! and the last words name plugin and call. It costs nothing on the data path, which closes nothing.
//!
//! Not noticed are descriptors that were opened later, threads of plugins, and system calls without the C library.

use crate::death;
use daos_plugin_api::host::current_call;
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers of descriptors that are looked at; what is open so early has small ones.
const MOST: u32 = 1024;

/// A bit for each that is kept.
static KEPT: [AtomicU64; (MOST / 64) as usize] =
    [const { AtomicU64::new(0) }; (MOST / 64) as usize];

/// From here on those that are open now are kept. Before plugins are loaded.
pub fn keep() {
    for descriptor in 0..MOST {
        // SAFETY: a plain system call.
        if unsafe { libc::fcntl(descriptor as i32, libc::F_GETFD) } >= 0 {
            KEPT[(descriptor / 64) as usize].fetch_or(1 << (descriptor % 64), Ordering::Relaxed);
        }
    }
}

/// close(2). May end the process, see the module; async-signal-safe as the original is.
pub fn close(descriptor: i32) -> i32 {
    if let Ok(number) = u32::try_from(descriptor) {
        look_at(number, number);
    }
    // SAFETY: a plain system call; whoever calls close vouches for the descriptor.
    unsafe { libc::syscall(libc::SYS_close, descriptor) as i32 }
}

/// close_range(2), likewise.
pub fn close_range(first: u32, last: u32, flags: i32) -> i32 {
    if flags & libc::CLOSE_RANGE_CLOEXEC as i32 == 0 {
        look_at(first, last);
    }
    // SAFETY: as for `close`.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) as i32 }
}

/// These are about to be closed.
fn look_at(first: u32, last: u32) {
    for number in first..=last.min(MOST - 1) {
        let (word, bit) = (&KEPT[(number / 64) as usize], 1u64 << (number % 64));
        if word.load(Ordering::Relaxed) & bit == 0 {
            continue;
        }
        if current_call().is_some() {
            tell_and_end(number);
        }
        // The engine's own business; the number may be anybody's next.
        word.fetch_and(!bit, Ordering::Relaxed);
    }
}

#[cold]
fn tell_and_end(number: u32) -> ! {
    const BEFORE: &[u8] = b"close of the engine's own descriptor ";
    // Without memory of its own, as whoever closes may hold locks of the allocator.
    let mut text = [b' '; BEFORE.len() + 4];
    text[..BEFORE.len()].copy_from_slice(BEFORE);
    let mut at = BEFORE.len();
    for place in [1000, 100, 10, 1] {
        if number >= place || place == 1 {
            text[at] = b'0' + (number / place % 10) as u8; // one digit
            at += 1;
        }
    }
    death::end_for(std::str::from_utf8(&text[..at]).unwrap_or("close"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsRawFd as _, IntoRawFd as _};

    fn is_kept(number: u32) -> bool {
        KEPT[(number / 64) as usize].load(Ordering::Relaxed) & (1 << (number % 64)) != 0
    }

    /// What happens inside a plugin is a test of the program: it ends.
    #[test]
    fn what_the_engine_closes_itself_is_not_kept_any_more() {
        let file = std::fs::File::open("/dev/null").expect("/dev/null");
        let descriptor = file.into_raw_fd();
        let number = descriptor as u32;
        keep();
        assert!(is_kept(number) && is_kept(0));
        assert_eq!(close(descriptor), 0);
        assert!(!is_kept(number) && is_kept(0));
        assert_eq!(close(-1), -1);
        let other = std::fs::File::open("/dev/null").expect("/dev/null");
        let number = other.as_raw_fd() as u32;
        assert_eq!(
            close_range(number, number, libc::CLOSE_RANGE_CLOEXEC as i32),
            0
        );
        assert!(other.metadata().is_ok());
    }
}
