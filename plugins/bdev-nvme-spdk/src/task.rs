//! The driver's view of one request, kept in the host's scratch memory: no allocation per I/O.

use crate::sys;
use daos_plugin_api::abi::{BdevOp, IoVec, Request, Status};
use std::ffi::{c_int, c_void};
use std::ptr;

/// Bytes of scratch a request needs.
pub(crate) const SCRATCH_SIZE: u32 = 128;

/// A request in the driver's hands. Lives in the request's scratch from acceptance until its
/// completion is handed to the host.
#[repr(C)]
pub(crate) struct Task {
    /// Owner, for the completion callback.
    pub(crate) queue: *mut c_void,
    pub(crate) next: *mut Task,
    pub(crate) prev: *mut Task,
    pub(crate) tag: u64,
    /// What is left to do of unmap and write-zeroes, which may take several commands.
    pub(crate) lba: u64,
    pub(crate) blocks: u64,
    iov: *const IoVec,
    iov_count: u32,
    /// Cursor of the driver's walk over the memory.
    segment: u32,
    offset: usize,
    pub(crate) status: Status,
    pub(crate) op: BdevOp,
    pub(crate) fua: bool,
    /// The host asked to abort it.
    pub(crate) cancelled: bool,
    /// The driver had no room for the abort yet.
    pub(crate) abort_waits: bool,
    /// Its completion callback has run and it awaits the host's poll.
    pub(crate) ended: bool,
}

const _: () = assert!(size_of::<Task>() <= SCRATCH_SIZE as usize);

impl Task {
    /// Writes the task of `request` into the request's scratch.
    ///
    /// # Safety
    /// The scratch has [`SCRATCH_SIZE`] bytes, aligned to 64, and is ours until the completion.
    pub(crate) unsafe fn place(request: &Request, queue: *mut c_void) -> *mut Self {
        let task = request.scratch.cast::<Self>();
        // SAFETY: the caller vouches for size, alignment and ownership.
        unsafe {
            task.write(Self {
                queue,
                next: ptr::null_mut(),
                prev: ptr::null_mut(),
                tag: request.tag,
                lba: request.lba,
                blocks: request.blocks,
                iov: request.iov,
                iov_count: request.iov_count,
                segment: 0,
                offset: 0,
                status: Status::OK,
                op: request.op,
                fua: request.flags & Request::FUA != 0,
                cancelled: false,
                abort_waits: false,
                ended: false,
            });
        }
        task
    }

    /// The memory, if it is one piece.
    pub(crate) fn whole(&self) -> Option<*mut c_void> {
        // SAFETY: the host keeps the array of `iov_count` entries until the completion.
        (self.iov_count == 1).then(|| unsafe { (*self.iov).ptr.cast() })
    }

    /// Sets the cursor `offset` bytes from the start of the memory.
    fn rewind(&mut self, offset: usize) {
        self.segment = 0;
        self.offset = offset;
        while let Some(segment) = self.current() {
            if self.offset < segment.len {
                break;
            }
            self.offset -= segment.len;
            self.segment += 1;
        }
    }

    /// The rest of the segment under the cursor, which moves on to the next one.
    fn advance(&mut self) -> Option<(*mut u8, usize)> {
        let segment = *self.current()?;
        let rest = (
            segment.ptr.wrapping_add(self.offset),
            segment.len - self.offset,
        );
        self.segment += 1;
        self.offset = 0;
        Some(rest)
    }

    fn current(&self) -> Option<&IoVec> {
        // SAFETY: the host keeps the array of `iov_count` entries until the completion.
        (self.segment < self.iov_count).then(|| unsafe { &*self.iov.add(self.segment as usize) })
    }
}

/// Driver callback: go to a byte offset.
pub(crate) unsafe extern "C" fn reset_segments(arg: *mut c_void, offset: u32) {
    // SAFETY: the driver passes the task of a request that it still holds.
    unsafe { (*arg.cast::<Task>()).rewind(offset as usize) }
}

/// Driver callback: next piece of memory.
pub(crate) unsafe extern "C" fn next_segment(
    arg: *mut c_void,
    address: *mut *mut c_void,
    len: *mut u32,
) -> c_int {
    // SAFETY: as above; the driver passes room for the results.
    unsafe {
        match (*arg.cast::<Task>()).advance() {
            Some((start, size)) => {
                *address = start.cast();
                // A segment beyond 4 GiB cannot be part of a transfer that the geometry allows.
                *len = u32::try_from(size).unwrap_or(u32::MAX);
                0
            }
            None => -1,
        }
    }
}

/// What the driver said about a command, without the context that only the queue knows.
pub(crate) fn status_of(outcome: sys::daos_spdk_outcome) -> Status {
    match outcome {
        sys::daos_spdk_outcome_DAOS_SPDK_OK => Status::OK,
        sys::daos_spdk_outcome_DAOS_SPDK_INVALID => Status::INVALID,
        sys::daos_spdk_outcome_DAOS_SPDK_UNSUPPORTED => Status::NOT_SUPPORTED,
        sys::daos_spdk_outcome_DAOS_SPDK_ABORTED => Status::CANCELLED,
        sys::daos_spdk_outcome_DAOS_SPDK_MEDIA => Status::MEDIA,
        sys::daos_spdk_outcome_DAOS_SPDK_MISCOMPARE => Status::MISCOMPARE,
        sys::daos_spdk_outcome_DAOS_SPDK_DENIED => Status::PERMISSION,
        sys::daos_spdk_outcome_DAOS_SPDK_CAPACITY => Status::NO_SPACE,
        _ => Status::IO,
    }
}

/// A doubly linked list of tasks, threaded through the tasks themselves.
pub(crate) struct List {
    first: *mut Task,
    last: *mut Task,
    len: usize,
}

impl List {
    pub(crate) const fn new() -> Self {
        Self {
            first: ptr::null_mut(),
            last: ptr::null_mut(),
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// # Safety
    /// `task` is live and in no list.
    pub(crate) unsafe fn push(&mut self, task: *mut Task) {
        // SAFETY: the caller vouches for `task`; `last` is live because it is in this list.
        unsafe {
            (*task).next = ptr::null_mut();
            (*task).prev = self.last;
            if self.last.is_null() {
                self.first = task;
            } else {
                (*self.last).next = task;
            }
        }
        self.last = task;
        self.len += 1;
    }

    /// # Safety
    /// `task` is in this list.
    pub(crate) unsafe fn remove(&mut self, task: *mut Task) {
        // SAFETY: the task and its neighbours are live because they are in this list.
        unsafe {
            let (prev, next) = ((*task).prev, (*task).next);
            if prev.is_null() {
                self.first = next
            } else {
                (*prev).next = next
            }
            if next.is_null() {
                self.last = prev
            } else {
                (*next).prev = prev
            }
        }
        self.len -= 1;
    }

    pub(crate) fn pop(&mut self) -> Option<*mut Task> {
        let task = self.first;
        if task.is_null() {
            return None;
        }
        // SAFETY: the first task of this list.
        unsafe { self.remove(task) };
        Some(task)
    }

    pub(crate) fn find(&self, wanted: impl Fn(&Task) -> bool) -> Option<*mut Task> {
        let mut task = self.first;
        while !task.is_null() {
            // SAFETY: tasks of this list are live.
            unsafe {
                if wanted(&*task) {
                    return Some(task);
                }
                task = (*task).next;
            }
        }
        None
    }
}
