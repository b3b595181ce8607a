//! System calls of the thread engine, and those that io_uring has no operation for.

use crate::memory::{PageBuf, zeroes};
use crate::task::{Action, Buffers};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

// From <linux/fs.h>: _IO(0x12, 119).
const BLKDISCARD: libc::Ioctl = 0x1277;

/// Carries out an action; returns a count or a negated error number.
pub(crate) fn perform(fd: BorrowedFd<'_>, action: &Action, bounce: &mut PageBuf) -> i32 {
    let fd = fd.as_raw_fd();
    match *action {
        Action::Read { at, buffers } => transfer(fd, at, buffers, false, 0),
        Action::Write {
            at,
            buffers,
            durable,
        } => transfer(
            fd,
            at,
            buffers,
            true,
            if durable { libc::RWF_DSYNC } else { 0 },
        ),
        Action::Bounce { at, len } => {
            let len = len.min(bounce.len());
            transfer(
                fd,
                at,
                Buffers::One {
                    ptr: bounce.ptr(),
                    len,
                },
                false,
                0,
            )
        }
        Action::WriteZeroes { at, len } => {
            let buffers = Buffers::One {
                ptr: zeroes().cast_mut(),
                len,
            };
            transfer(fd, at, buffers, true, 0)
        }
        // SAFETY: no memory is involved.
        Action::Sync => result(unsafe { libc::fdatasync(fd) } as isize),
        Action::Allocate { how, at, len } => {
            // SAFETY: no memory is involved. Offsets fit: they are inside the target.
            result(unsafe { libc::fallocate(fd, how.mode(), at as i64, len as i64) } as isize)
        }
        Action::Discard { at, len } => result(discard_raw(fd, at, len)),
    }
}

fn transfer(fd: RawFd, at: u64, buffers: Buffers, write: bool, flags: libc::c_int) -> i32 {
    let (ptr, len) = match buffers {
        Buffers::One { ptr, len } => (ptr, len),
        Buffers::Many { .. } => (std::ptr::null_mut(), 0),
    };
    let single = libc::iovec {
        iov_base: ptr.cast(),
        iov_len: len,
    };
    let (iov, count) = match buffers {
        Buffers::One { .. } => (&raw const single, 1),
        // `IoVec` has the layout of `iovec`: pointer, length.
        Buffers::Many { iov, count } => (iov.cast::<libc::iovec>(), count as libc::c_int),
    };
    let at = at as libc::off_t;
    // SAFETY: actions come from tasks, whose making promised that segments and memory are valid
    // until completion; bounce and zero buffers are ours and as long as the action says.
    result(unsafe {
        if write {
            libc::pwritev2(fd, iov, count, at, flags)
        } else {
            libc::preadv2(fd, iov, count, at, flags)
        }
    })
}

fn discard_raw(fd: RawFd, at: u64, len: u64) -> isize {
    let range = [at, len];
    // SAFETY: BLKDISCARD reads two 64-bit numbers.
    unsafe { libc::ioctl(fd, BLKDISCARD, range.as_ptr()) as isize }
}

/// Discards a range of a block device, in bytes.
///
/// # Errors
/// As `ioctl(BLKDISCARD)`: unsupported, read-only, not a block device.
pub fn discard(fd: BorrowedFd<'_>, at: u64, len: u64) -> io::Result<()> {
    if discard_raw(fd.as_raw_fd(), at, len) < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn result(value: isize) -> i32 {
    if value >= 0 {
        return value as i32; // at most the length of a transfer
    }
    -io::Error::last_os_error()
        .raw_os_error()
        .unwrap_or(libc::EIO)
}
