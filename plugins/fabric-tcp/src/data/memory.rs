//! Memory that the host lends, and the system calls that move bytes into and out of it.
//!
//! The host's memory is only ever touched through raw pointers: peers and the application may
//! change a registered region at any moment, so no Rust reference to it is ever made. All
//! `unsafe` code of this plugin's data face about memory is here.

use nix::libc;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};

/// A piece of the host's memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    ptr: *mut u8,
    len: usize,
}

// SAFETY: a span is an address; whoever made it vouched that the memory may be used from the
// threads that use it (see `Span::new`).
unsafe impl Send for Span {}
// SAFETY: as above.
unsafe impl Sync for Span {}

impl Span {
    /// # Safety
    /// The memory stays valid for reads and writes for as long as any copy of the span is used,
    /// from any thread.
    pub(crate) unsafe fn new(ptr: *mut u8, len: usize) -> Self {
        Self { ptr, len }
    }

    pub(crate) fn len(self) -> usize {
        self.len
    }

    /// The piece without its first `count` bytes.
    pub(crate) fn skip(self, count: usize) -> Self {
        let count = count.min(self.len);
        Self {
            ptr: self.ptr.wrapping_add(count),
            len: self.len - count,
        }
    }

    /// The first `count` bytes.
    pub(crate) fn first(self, count: usize) -> Self {
        Self {
            ptr: self.ptr,
            len: self.len.min(count),
        }
    }

    /// Copies as much of `bytes` as fits to the start of the piece.
    pub(crate) fn fill(self, bytes: &[u8]) {
        let count = bytes.len().min(self.len);
        if count > 0 {
            // SAFETY: the destination is valid for `len` bytes (`Span::new`), the source is a
            // slice of at least `count`; a `copy` may overlap.
            unsafe { std::ptr::copy(bytes.as_ptr(), self.ptr, count) }
        }
    }
}

/// Pieces one system call moves at most.
pub(crate) const MAX_PIECES: usize = 32;

/// A list of pieces to send in one system call.
pub(crate) struct Gather<'a> {
    pieces: [libc::iovec; MAX_PIECES],
    count: usize,
    bytes: usize,
    borrows: PhantomData<&'a [u8]>,
}

impl<'a> Gather<'a> {
    pub(crate) fn new() -> Self {
        Self {
            pieces: [libc::iovec {
                iov_base: std::ptr::null_mut(),
                iov_len: 0,
            }; MAX_PIECES],
            count: 0,
            bytes: 0,
            borrows: PhantomData,
        }
    }

    fn push(&mut self, ptr: *mut u8, len: usize) {
        if len > 0 {
            assert!(self.count < MAX_PIECES, "more pieces than announced");
            self.pieces[self.count] = libc::iovec {
                iov_base: ptr.cast(),
                iov_len: len,
            };
            self.count += 1;
            self.bytes += len;
        }
    }

    pub(crate) fn slice(&mut self, bytes: &'a [u8]) {
        self.push(bytes.as_ptr().cast_mut(), bytes.len());
    }

    pub(crate) fn span(&mut self, span: Span) {
        self.push(span.ptr, span.len);
    }

    /// Whether a frame of three more pieces fits.
    pub(crate) fn has_room(&self) -> bool {
        self.count + 3 <= MAX_PIECES
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sends without waiting; returns how many bytes the kernel took. Never raises SIGPIPE.
    pub(crate) fn send(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        // SAFETY: msghdr is a plain C struct for which zeroes are valid.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = self.pieces.as_mut_ptr();
        message.msg_iovlen = self.count;
        retry(|| {
            // SAFETY: `message` names `count` initialised pieces; slices are borrowed for 'a and
            // spans are valid by their contract. The kernel only reads them.
            unsafe {
                libc::sendmsg(
                    socket.as_raw_fd(),
                    &message,
                    libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT,
                )
            }
        })
    }
}

/// Receives without waiting, first into `head`, what remains into `tail`; returns how many bytes
/// came, 0 at the end of the stream.
pub(crate) fn receive(socket: BorrowedFd<'_>, head: Span, tail: &mut [u8]) -> io::Result<usize> {
    let mut pieces = [
        libc::iovec {
            iov_base: head.ptr.cast(),
            iov_len: head.len,
        },
        libc::iovec {
            iov_base: tail.as_mut_ptr().cast(),
            iov_len: tail.len(),
        },
    ];
    // SAFETY: msghdr is a plain C struct for which zeroes are valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = pieces.as_mut_ptr();
    message.msg_iovlen = pieces.len();
    retry(|| {
        // SAFETY: both pieces are valid for writes of their length: `head` by the contract of
        // `Span::new`, `tail` as an exclusive borrow.
        unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, libc::MSG_DONTWAIT) }
    })
}

/// As [`receive`], with the plugin's own memory in both places.
pub(crate) fn receive_own(
    socket: BorrowedFd<'_>,
    head: &mut [u8],
    tail: &mut [u8],
) -> io::Result<usize> {
    // SAFETY: the span is used only inside the call, for which the slice is borrowed.
    let span = unsafe { Span::new(head.as_mut_ptr(), head.len()) };
    receive(socket, span, tail)
}

/// An empty span, for receiving into the plugin's own memory only.
pub(crate) fn nowhere() -> Span {
    // SAFETY: no byte of it is ever touched.
    unsafe { Span::new(std::ptr::NonNull::dangling().as_ptr(), 0) }
}

fn retry(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        let result = call();
        if result >= 0 {
            return Ok(result as usize);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Random bits from the kernel's generator: nobody on the network can guess them.
pub(crate) fn random_u64() -> io::Result<u64> {
    let mut bytes = [0u8; 8];
    // SAFETY: getrandom writes at most 8 bytes to an array of 8. Up to 256 bytes come whole.
    let got = retry(|| unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) })?;
    if got != bytes.len() {
        return Err(io::Error::other("the kernel gave too few random bytes"));
    }
    Ok(u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_stays_inside_its_memory() {
        let mut memory = [0u8; 8];
        // SAFETY: `memory` outlives the span and is not used meanwhile.
        let span = unsafe { Span::new(memory.as_mut_ptr(), memory.len()) };
        span.skip(6).fill(&[1, 2, 3, 4]);
        span.skip(99).fill(&[9]);
        span.first(1).fill(&[5, 6]);
        assert_eq!(span.skip(3).len(), 5);
        assert_eq!(span.first(99).len(), 8);
        assert_eq!(memory, [5, 0, 0, 0, 0, 0, 1, 2]);
    }

    #[test]
    fn random_numbers_differ() {
        assert_ne!(random_u64().unwrap(), random_u64().unwrap());
    }
}
