//! The ring itself: setup, submission entries, completions.

use crate::memory::{Regions, zeroes};
use crate::task::{Action, Buffers};
use io_uring::{IoUring, opcode, squeue, types};
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

/// The target's descriptor in the ring's file table.
const TARGET: types::Fixed = types::Fixed(0);

/// `IORING_ENTER_GETEVENTS`.
const GETEVENTS: u32 = 1;

/// An io_uring with the target registered as its file.
pub(crate) struct Ring {
    ring: IoUring,
    regions: Regions,
    /// Signalled by the kernel when something completes, while armed. The ring's own descriptor is
    /// no substitute: with deferred completion work, poll(2) on it is not woken.
    bell: Arc<OwnedFd>,
    armed: bool,
    /// Entries pushed whose completion was not taken yet.
    in_flight: u32,
}

/// Ways of setting a ring up, best first.
#[derive(Clone, Copy, Debug)]
enum Style {
    /// Linux 6.6: as below, without the submission index array.
    DeferNoArray,
    /// Linux 6.1: completion work runs when the queue's thread asks, and a flag in shared memory
    /// says when there is some.
    Defer,
    /// Linux 5.19: completion work runs at the thread's next system call.
    Cooperative,
    /// Any io_uring: the thread is interrupted.
    Plain,
}

fn build(style: Style, entries: u32) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    match style {
        Style::DeferNoArray | Style::Defer => {
            builder
                .setup_single_issuer()
                .setup_defer_taskrun()
                .setup_taskrun_flag()
                .setup_submit_all();
            if matches!(style, Style::DeferNoArray) {
                builder.setup_no_sqarray();
            }
        }
        Style::Cooperative => {
            builder
                .setup_coop_taskrun()
                .setup_taskrun_flag()
                .setup_submit_all();
        }
        Style::Plain => {}
    }
    builder.dontfork().build(entries)
}

impl Ring {
    /// Makes a ring with room for `entries` submissions, on `fd`.
    ///
    /// # Errors
    /// Those of `io_uring_setup` and of the registration of the file.
    pub(crate) fn open(fd: BorrowedFd<'_>, entries: u32, regions: Regions) -> io::Result<Self> {
        let mut last = io::Error::from_raw_os_error(libc::ENOSYS);
        for style in [
            Style::DeferNoArray,
            Style::Defer,
            Style::Cooperative,
            Style::Plain,
        ] {
            match build(style, entries) {
                Ok(ring) => {
                    ring.submitter().register_files(&[fd.as_raw_fd()])?;
                    let bell =
                        Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
                    ring.submitter().register_eventfd(bell.as_raw_fd())?;
                    let regions = register(&ring, regions);
                    let mut ring = Self {
                        ring,
                        regions,
                        bell,
                        armed: false,
                        in_flight: 0,
                    };
                    ring.ring.completion().disable_eventfd();
                    return Ok(ring);
                }
                // Flags that this kernel does not know.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// The bell, for others to ring.
    pub(crate) fn bell(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.bell)
    }

    /// Asks for the bell at the next completion: `None` if something waits already, so that
    /// sleeping would be wrong.
    pub(crate) fn arm(&mut self) -> Option<RawFd> {
        self.armed = true;
        self.ring.completion().enable_eventfd();
        // Fails when the bell did not ring, which is fine.
        let _ = rustix::io::read(&*self.bell, &mut [0u8; 8]);
        // The kernel publishes a completion before it looks whether the bell is wanted.
        fence(Ordering::SeqCst);
        let waits = self.needs_enter() || !self.ring.completion().is_empty();
        (!waits).then(|| self.bell.as_raw_fd())
    }

    /// Makes completions cheap again.
    #[inline]
    pub(crate) fn disarm(&mut self) {
        if self.armed {
            self.armed = false;
            self.ring.completion().disable_eventfd();
        }
    }

    /// Entries whose completion was not taken yet.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Whether entries wait for [`Ring::enter`].
    pub(crate) fn has_pending(&mut self) -> bool {
        !self.ring.submission().is_empty()
    }

    /// Free submission entries.
    pub(crate) fn room(&mut self) -> usize {
        let sq = self.ring.submission();
        sq.capacity() - sq.len()
    }

    /// Whether the kernel has completions that only a system call of this thread brings.
    pub(crate) fn needs_enter(&mut self) -> bool {
        let sq = self.ring.submission();
        sq.taskrun() || sq.cq_overflow()
    }

    fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: entries are built below from actions, whose memory is valid until the task is
        // complete; the queue waits for every entry's completion before it lets go of anything.
        let pushed = unsafe { self.ring.submission().push(entry) }.is_ok();
        self.in_flight += u32::from(pushed);
        pushed
    }

    /// Queues an action; `bounce` is the memory of a [`Action::Bounce`]. False if the ring is full,
    /// and for [`Action::Discard`], which rings cannot do.
    #[inline]
    pub(crate) fn push_action(&mut self, user_data: u64, action: &Action, bounce: *mut u8) -> bool {
        let entry = match *action {
            Action::Read { at, buffers } => self.read(at, buffers),
            Action::Write {
                at,
                buffers,
                durable,
            } => self.write(at, buffers, durable),
            Action::Bounce { at, len } => opcode::Read::new(TARGET, bounce, len as u32)
                .offset(at)
                .build(),
            Action::WriteZeroes { at, len } => opcode::Write::new(TARGET, zeroes(), len as u32)
                .offset(at)
                .build(),
            Action::Sync => opcode::Fsync::new(TARGET)
                .flags(types::FsyncFlags::DATASYNC)
                .build(),
            Action::Allocate { how, at, len } => opcode::Fallocate::new(TARGET, len)
                .offset(at)
                .mode(how.mode())
                .build(),
            Action::Discard { .. } => return false,
        };
        self.push(&entry.user_data(user_data))
    }

    #[inline]
    fn read(&self, at: u64, buffers: Buffers) -> squeue::Entry {
        match buffers {
            Buffers::One { ptr, len } => match self.regions.find(ptr, len) {
                Some(index) => opcode::ReadFixed::new(TARGET, ptr, len as u32, index)
                    .offset(at)
                    .build(),
                None => opcode::Read::new(TARGET, ptr, len as u32)
                    .offset(at)
                    .build(),
            },
            Buffers::Many { iov, count } => {
                // `IoVec` has the layout of `iovec`: pointer, length.
                opcode::Readv::new(TARGET, iov.cast(), count)
                    .offset(at)
                    .build()
            }
        }
    }

    #[inline]
    fn write(&self, at: u64, buffers: Buffers, durable: bool) -> squeue::Entry {
        let flags = if durable { libc::RWF_DSYNC } else { 0 };
        match buffers {
            Buffers::One { ptr, len } => match self.regions.find(ptr, len) {
                Some(index) => opcode::WriteFixed::new(TARGET, ptr, len as u32, index)
                    .offset(at)
                    .rw_flags(flags)
                    .build(),
                None => opcode::Write::new(TARGET, ptr, len as u32)
                    .offset(at)
                    .rw_flags(flags)
                    .build(),
            },
            Buffers::Many { iov, count } => opcode::Writev::new(TARGET, iov.cast(), count)
                .offset(at)
                .rw_flags(flags)
                .build(),
        }
    }

    /// Queues the cancellation of the entry with `target` as its user data.
    pub(crate) fn push_cancel(&mut self, user_data: u64, target: u64) -> bool {
        self.push(
            &opcode::AsyncCancel::new(target)
                .build()
                .user_data(user_data),
        )
    }

    /// Hands queued entries to the kernel and lets it post completions; waits for one if asked to.
    /// Being out of resources for the moment is no error: entries stay queued for the next call.
    pub(crate) fn enter(&mut self, wait: bool) -> io::Result<()> {
        let queued = self.ring.submission().len() as u32;
        let flags = if wait || self.needs_enter() {
            GETEVENTS
        } else {
            0
        };
        // SAFETY: plain submission of what the ring holds.
        let result = unsafe {
            self.ring
                .submitter()
                .enter::<libc::sigset_t>(queued, u32::from(wait), flags, None)
        };
        match result {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR | libc::EAGAIN | libc::EBUSY) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Takes the oldest completion: user data and result.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<(u64, i32)> {
        let entry = self.ring.completion().next()?;
        self.in_flight -= 1;
        Some((entry.user_data(), entry.result()))
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // The kernel takes a ring apart some time after its last close. File and memory must be free
        // when the queue is: the device can then be opened again, the memory go.
        let _ = self.ring.submitter().unregister_files();
        if !self.regions.pieces().is_empty() {
            let _ = self.ring.submitter().unregister_buffers();
        }
    }
}

/// Registers memory with the ring. Without it I/O works too, only slower, so a refusal is a remark.
fn register(ring: &IoUring, regions: Regions) -> Regions {
    if regions.pieces().is_empty() {
        return regions;
    }
    let buffers: Vec<libc::iovec> = regions
        .pieces()
        .iter()
        .map(|(start, len)| libc::iovec {
            iov_base: *start as *mut libc::c_void,
            iov_len: *len,
        })
        .collect();
    // SAFETY: the host keeps offered memory mapped until it takes the offer back, which it does
    // when no queue is open.
    match unsafe { ring.submitter().register_buffers(&buffers) } {
        Ok(()) => regions,
        Err(error) => {
            tracing::warn!(
                "cannot register {} pieces of I/O memory with io_uring: {error}; I/O works, but \
                 pins its memory each time. Raise the limit of locked memory (ulimit -l) or run as \
                 root",
                buffers.len()
            );
            Regions::NONE
        }
    }
}

/// Why rings cannot be made in this process; `Ok` if they can.
pub(crate) fn available() -> io::Result<()> {
    build(Style::Plain, 2).map(drop)
}
