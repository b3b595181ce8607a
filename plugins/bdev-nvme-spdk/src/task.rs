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
    /// At the start: a list has the address of both.
    links: Links,
    /// Owner, for the completion callback.
    pub(crate) queue: *mut c_void,
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
    pub(crate) marks: Marks,
}

/// Where a task is in a list.
struct Links {
    next: *mut Links,
    prev: *mut Links,
}

/// What is to be known of a task besides its command, written by one store.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct Marks {
    pub(crate) op: BdevOp,
    pub(crate) fua: bool,
    /// One command, behind which nothing follows; of the task nothing but list, owner, tag and marks is set.
    pub(crate) plain: bool,
    /// The host asked to abort it.
    pub(crate) cancelled: bool,
    /// The driver had no room for the abort yet.
    pub(crate) abort_waits: bool,
    /// Its completion callback has run and it awaits the host's poll.
    pub(crate) ended: bool,
}

impl Marks {
    const fn new(op: BdevOp, fua: bool, plain: bool) -> Self {
        Self {
            op,
            fua,
            plain,
            cancelled: false,
            abort_waits: false,
            ended: false,
        }
    }
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
                links: Links {
                    next: ptr::null_mut(),
                    prev: ptr::null_mut(),
                },
                queue,
                tag: request.tag,
                lba: request.lba,
                blocks: request.blocks,
                iov: request.iov,
                iov_count: request.iov_count,
                segment: 0,
                offset: 0,
                status: Status::OK,
                // Of a read there is nothing to make durable.
                marks: Marks::new(
                    request.op,
                    request.op != BdevOp::READ && request.flags & Request::FUA != 0,
                    false,
                ),
            });
        }
        task
    }

    /// The same of a read or write that is one command of one piece of memory: what such a one does not need is left alone. Its
    /// forced unit access, if any, is in the command.
    ///
    /// # Safety
    /// As for [`Task::place`].
    #[inline]
    pub(crate) unsafe fn place_plain(request: &Request, queue: *mut c_void) -> *mut Self {
        let task = request.scratch.cast::<Self>();
        // SAFETY: the caller vouches for size, alignment and ownership.
        unsafe {
            (&raw mut (*task).queue).write(queue);
            (&raw mut (*task).tag).write(request.tag);
            (&raw mut (*task).marks).write(Marks::new(BdevOp::READ, false, true));
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

/// A queue of tasks, linked through the tasks themselves.
pub(crate) struct Line {
    first: *mut Task,
    last: *mut Task,
}

impl Line {
    pub(crate) const fn new() -> Self {
        Self {
            first: ptr::null_mut(),
            last: ptr::null_mut(),
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    /// # Safety
    /// `task` is live and in no list.
    pub(crate) unsafe fn push(&mut self, task: *mut Task) {
        // SAFETY: the caller vouches for `task`; `last` is live because it is in this list.
        unsafe {
            (*task).links.next = ptr::null_mut();
            if self.last.is_null() {
                self.first = task;
            } else {
                (*self.last).links.next = task.cast();
            }
        }
        self.last = task;
    }

    pub(crate) fn pop(&mut self) -> Option<*mut Task> {
        let task = self.first;
        if task.is_null() {
            return None;
        }
        // SAFETY: tasks of this list are live.
        self.first = unsafe { (*task).links.next.cast() };
        if self.first.is_null() {
            self.last = ptr::null_mut();
        }
        Some(task)
    }
}

/// Tasks that leave in any order: a circle through the tasks and the list itself, which has no ends to look for. Stays where it
/// is, and is used through raw pointers, since its tasks point to it.
pub(crate) struct Circle(Links);

impl Circle {
    /// Of no use before [`Circle::close`].
    pub(crate) const OPEN: Self = Self(Links {
        next: ptr::null_mut(),
        prev: ptr::null_mut(),
    });

    /// Makes it an empty one.
    ///
    /// # Safety
    /// The list is live, stays there, and has no tasks.
    pub(crate) unsafe fn close(this: *mut Self) {
        let own = this.cast::<Links>();
        // SAFETY: the caller vouches for the list.
        unsafe {
            own.write(Links {
                next: own,
                prev: own,
            })
        }
    }

    /// # Safety
    /// The list is live and closed.
    pub(crate) unsafe fn is_empty(this: *mut Self) -> bool {
        // SAFETY: the caller vouches for the list.
        unsafe { (*this).0.next == this.cast() }
    }

    /// # Safety
    /// The list is live and closed; `task` is live and in no list.
    #[inline]
    pub(crate) unsafe fn push(this: *mut Self, task: *mut Task) {
        let (own, links) = (this.cast::<Links>(), task.cast::<Links>());
        // SAFETY: the caller vouches for both; the last task is live because it is in this list.
        unsafe {
            let last = (*own).prev;
            links.write(Links {
                next: own,
                prev: last,
            });
            (*last).next = links;
            (*own).prev = links;
        }
    }

    /// # Safety
    /// `task` is in such a list.
    #[inline]
    pub(crate) unsafe fn remove(task: *mut Task) {
        // SAFETY: the task and its neighbours, of which one may be the list, are live because they are in the list.
        unsafe {
            let Links { next, prev } = task.cast::<Links>().read();
            (*prev).next = next;
            (*next).prev = prev;
        }
    }

    /// # Safety
    /// The list is live and closed; `wanted` gets tasks of it.
    pub(crate) unsafe fn find(
        this: *mut Self,
        wanted: impl Fn(*mut Task) -> bool,
    ) -> Option<*mut Task> {
        // SAFETY: the caller vouches for the list, whose tasks are live.
        unsafe {
            let mut links = (*this).0.next;
            while links != this.cast() {
                let task = links.cast::<Task>();
                if wanted(task) {
                    return Some(task);
                }
                links = (*links).next;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(align(64))]
    struct Scratch([u8; SCRATCH_SIZE as usize]);

    fn place(scratch: &mut Scratch, tag: u64) -> *mut Task {
        let request = Request {
            op: BdevOp::FLUSH,
            flags: 0,
            reserved: 0,
            iov_count: 0,
            lba: 0,
            blocks: 0,
            iov: ptr::null(),
            tag,
            scratch: scratch.0.as_mut_ptr(),
        };
        // SAFETY: the scratch is large enough, aligned, and outlives the test's use of the task.
        unsafe { Task::place(&request, ptr::null_mut()) }
    }

    fn scratches() -> [Scratch; 3] {
        [(); 3].map(|()| Scratch([0xff; SCRATCH_SIZE as usize]))
    }

    #[test]
    fn a_line_gives_its_tasks_in_their_order_and_is_empty_then() {
        let mut scratches = scratches();
        let tasks: Vec<_> = (0..)
            .zip(&mut scratches)
            .map(|(tag, s)| place(s, tag))
            .collect();
        let mut line = Line::new();
        for round in 0..2 {
            assert!(line.is_empty() && line.pop().is_none(), "round {round}");
            for &task in &tasks {
                // SAFETY: live and in no list.
                unsafe { line.push(task) };
            }
            assert!(!line.is_empty());
            for &task in &tasks {
                assert_eq!(line.pop(), Some(task));
            }
        }
    }

    #[test]
    fn tasks_leave_a_circle_in_any_order() {
        let mut scratches = scratches();
        let tasks: Vec<_> = (0..)
            .zip(&mut scratches)
            .map(|(tag, s)| place(s, tag))
            .collect();
        let circle = Box::into_raw(Box::new(Circle::OPEN));
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]] {
            // SAFETY: the circle is live, stays there and is empty at first; the tasks are live and in no list then.
            unsafe {
                Circle::close(circle);
                tasks.iter().for_each(|&task| Circle::push(circle, task));
                for (gone, &leaves) in order.iter().enumerate() {
                    assert!(!Circle::is_empty(circle), "{order:?}");
                    Circle::remove(tasks[leaves]);
                    for (tag, &task) in tasks.iter().enumerate() {
                        let there = Circle::find(circle, |t| (*t).tag == tag as u64);
                        let stays = !order[..=gone].contains(&tag);
                        assert_eq!(
                            there,
                            stays.then_some(task),
                            "{tag} of {order:?} after {gone}"
                        );
                    }
                }
                assert!(Circle::is_empty(circle), "{order:?}");
            }
        }
        // SAFETY: made above.
        drop(unsafe { Box::from_raw(circle) });
    }
}
