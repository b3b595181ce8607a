//! What of a queue the driver's callbacks work on: the requests under way, and how they move.

use crate::sys;
use crate::task::{Circle, Line, Task, next_segment, reset_segments, status_of};
use daos_plugin_api::abi::{BdevOp, Completion, Request, Status};
use std::ffi::{c_int, c_void};
use std::ptr;

/// Blocks of one write-zeroes command (its field has 16 bits, zero-based) and of one deallocation.
const MAX_ZEROES: u64 = 1 << 16;
const MAX_DEALLOCATE: u64 = u32::MAX as u64;

/// What the completion callbacks work on. Reached through a raw pointer only, and never borrowed
/// across a call into the driver, since callbacks run inside those.
pub(crate) struct Flight {
    pub(crate) ns: *mut sys::spdk_nvme_ns,
    /// Null once it was given back.
    pub(crate) qpair: *mut sys::spdk_nvme_qpair,
    /// In the driver's hands.
    pub(crate) outstanding: Circle,
    /// Finished outside of a poll, or beyond the room of one.
    pub(crate) done: Line,
    /// Where what ends inside of a poll is told at once.
    pub(crate) told: Told,
    /// Between two commands of a long operation, waiting for the driver to have room.
    pub(crate) waiting: Line,
    /// What an abort that nobody asked for means at the moment.
    pub(crate) aborted: Status,
    /// Aborts that the driver had no room for, if any are left.
    pub(crate) aborts_wait: bool,
    /// Forced unit access is a flush after the write.
    flush_after: bool,
}

/// Room of the poll under way for what ends in it; none at other times.
pub(crate) struct Told {
    next: *mut Completion,
    end: *mut Completion,
}

impl Told {
    const NOWHERE: Self = Self {
        next: ptr::null_mut(),
        end: ptr::null_mut(),
    };

    /// In `room`, which outlives the poll.
    #[inline]
    pub(crate) fn into(room: &mut [Completion]) -> Self {
        let room = room.as_mut_ptr_range();
        Self {
            next: room.start,
            end: room.end,
        }
    }

    /// Whether this is inside of a poll's look.
    fn is_lent(&self) -> bool {
        !self.next.is_null()
    }

    /// Ends it; how many were told in `room`, which is the one it was made of.
    #[inline]
    pub(crate) fn end(&mut self, room: &[Completion]) -> usize {
        let Self { next, .. } = std::mem::replace(self, Self::NOWHERE);
        (next.addr() - room.as_ptr().addr()) / size_of::<Completion>()
    }

    /// Tells of one; false = no room.
    ///
    /// # Safety
    /// Inside the poll whose room it is.
    #[inline]
    unsafe fn tell(&mut self, tag: u64, status: Status) -> bool {
        if self.next == self.end {
            return false;
        }
        // SAFETY: there is room, says the end, and the caller vouches that it is still lent.
        unsafe {
            self.next.write(Completion {
                tag,
                status,
                reserved: 0,
            });
            self.next = self.next.add(1);
        }
        true
    }
}

impl Flight {
    /// Without a hardware queue yet, for a namespace, on the heap, where it stays. `flush_after`: forced unit access is a flush
    /// after the write.
    pub(crate) fn new(ns: *mut sys::spdk_nvme_ns, flush_after: bool) -> *mut Self {
        let flight = Box::into_raw(Box::new(Self {
            ns,
            qpair: ptr::null_mut(),
            outstanding: Circle::OPEN,
            done: Line::new(),
            told: Told::NOWHERE,
            waiting: Line::new(),
            aborted: Status::RESET,
            aborts_wait: false,
            flush_after,
        }));
        // SAFETY: made above, and never moved.
        unsafe { Circle::close(&raw mut (*flight).outstanding) };
        flight
    }

    /// Whether all that the host has not got back is in the driver's hands, with no abort held back: nearly always.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.done.is_empty() & self.waiting.is_empty() & !self.aborts_wait
    }
}

/// Ends what waits between two commands.
///
/// # Safety
/// As for `retire`.
pub(crate) unsafe fn drop_waiting(flight: *mut Flight) {
    // SAFETY: the caller vouches that nobody else looks at the flight.
    let flight = unsafe { &mut *flight };
    while let Some(task) = flight.waiting.pop() {
        // SAFETY: tasks of a list are live.
        unsafe {
            (*task).status = flight.aborted;
            flight.done.push(task);
        }
    }
}

/// Gives the hardware queue back, if there is one: all that was under way ends with `reason`. False = the
/// controller did not confirm, and may still use the queue's memory.
///
/// # Safety
/// On the queue's thread, or on another while the queue's is held outside of its gate; nothing borrows the flight.
pub(crate) unsafe fn retire(flight: *mut Flight, reason: Status) -> bool {
    // SAFETY: the caller vouches for the flight; the callbacks find it unborrowed.
    unsafe {
        (*flight).aborted = reason;
        let qpair = ptr::replace(&raw mut (*flight).qpair, ptr::null_mut());
        let confirmed = qpair.is_null() || sys::daos_spdk_queue_close((*flight).ns, qpair) == 0;
        drop_waiting(flight);
        confirmed
    }
}

/// Gives the next command of `task` to the driver, or finishes the task. False = the driver has no
/// room and the task was left alone; with `keep` it waits in line instead.
///
/// # Safety
/// On the queue's thread with `flight` unborrowed; `task` is live and in no list.
#[inline]
pub(crate) unsafe fn start(flight: *mut Flight, task: *mut Task, keep: bool) -> bool {
    // SAFETY: the caller vouches for both; no borrow is held across `issue`, inside which the
    // completion callback may run.
    unsafe {
        if (*flight).qpair.is_null() {
            // The queue is being given back, and a command of this task ended well on the way.
            (*task).status = (*flight).aborted;
            (*task).marks.ended = true;
            (*flight).done.push(task);
            return true;
        }
        Circle::push(&raw mut (*flight).outstanding, task);
        let code = issue(flight, task);
        code == 0 || not_taken(flight, task, code, keep)
    }
}

/// [`start`] for a read or write of one piece of memory that is one command. False = the driver has no room.
///
/// # Safety
/// As for `start`; the flight has a hardware queue, and the request's scratch is ours.
#[inline]
pub(crate) unsafe fn start_plain(
    flight: *mut Flight,
    request: &Request,
    memory: *mut c_void,
) -> bool {
    // SAFETY: the caller vouches for both; no borrow is held across the call into the driver.
    unsafe {
        let task = Task::place_plain(request, flight.cast());
        Circle::push(&raw mut (*flight).outstanding, task);
        let flags = match request.flags & Request::FUA {
            0 => 0,
            _ => sys::daos_spdk_fua,
        };
        let blocks = request.blocks as u32;
        let code = one_piece(flight, task, request.op, memory, request.lba, blocks, flags);
        code == 0 || not_taken(flight, task, code, false)
    }
}

/// Gives the driver a read or write of one piece of memory; its code, as that of [`issue`].
///
/// # Safety
/// As for `start`; the flight has a hardware queue.
#[inline]
unsafe fn one_piece(
    flight: *mut Flight,
    task: *mut Task,
    op: BdevOp,
    memory: *mut c_void,
    lba: u64,
    blocks: u32,
    flags: u32,
) -> c_int {
    // SAFETY: the caller vouches for both, which nothing borrows across the call into the driver.
    unsafe {
        let (ns, qpair, told, argument) = (
            (*flight).ns,
            (*flight).qpair,
            Some(completed as _),
            task.cast::<c_void>(),
        );
        if op == BdevOp::READ {
            sys::spdk_nvme_ns_cmd_read(ns, qpair, memory, lba, blocks, told, argument, 0)
        } else {
            sys::spdk_nvme_ns_cmd_write(ns, qpair, memory, lba, blocks, told, argument, flags)
        }
    }
}

/// What [`start`] does when the driver does not take a command.
///
/// # Safety
/// As for `start`.
#[cold]
unsafe fn not_taken(flight: *mut Flight, task: *mut Task, code: c_int, keep: bool) -> bool {
    // SAFETY: the caller vouches for both.
    unsafe {
        // Memory that the device cannot reach: the driver has run the callback as well.
        if (*task).marks.ended {
            return true;
        }
        Circle::remove(task);
        // Something is under way, or has ended in this very look, and leaves room: else it would never get any.
        let leaves_room = !Circle::is_empty(&raw mut (*flight).outstanding)
            || !(*flight).done.is_empty()
            || !(*flight).waiting.is_empty()
            || (*flight).told.is_lent();
        if code == -libc::ENOMEM && leaves_room {
            if keep {
                (*flight).waiting.push(task);
            }
            return false;
        }
        (*task).status = match -code {
            libc::ENOMEM => Status::NO_MEMORY,
            libc::EINVAL => Status::INVALID,
            _ => failure((*flight).ns),
        };
        (*flight).done.push(task);
        true
    }
}

/// What it means that a device fails a command for no better reason: it may be on its way out.
///
/// # Safety
/// The namespace's controller is attached.
pub(crate) unsafe fn failure(ns: *mut sys::spdk_nvme_ns) -> Status {
    // SAFETY: the caller vouches for the namespace.
    if unsafe { sys::daos_spdk_ns_is_removed(ns) } {
        Status::DEVICE_GONE
    } else {
        Status::IO
    }
}

/// One command. Returns the driver's code; not 0 = there will be no callback after this.
#[inline]
unsafe fn issue(flight: *mut Flight, task: *mut Task) -> c_int {
    // SAFETY: as for `start`.
    unsafe {
        let (ns, qpair) = ((*flight).ns, (*flight).qpair);
        let (op, lba, blocks) = ((*task).marks.op, (*task).lba, (*task).blocks);
        let forced = (*task).marks.fua && !(*flight).flush_after;
        let flags = if forced { sys::daos_spdk_fua } else { 0 };
        let step = match op {
            BdevOp::WRITE_ZEROES => blocks.min(MAX_ZEROES),
            BdevOp::UNMAP => blocks.min(MAX_DEALLOCATE),
            _ => blocks,
        };
        // Before the call: the callback may run inside it.
        (*task).lba = lba.wrapping_add(step);
        (*task).blocks = blocks - step;
        let (count, argument) = (step as u32, task.cast::<c_void>());
        let (reset, next) = (Some(reset_segments as _), Some(next_segment as _));
        let code = match (op, (*task).whole()) {
            // One piece of memory, which is what most requests have, needs no walk over it.
            (BdevOp::READ | BdevOp::WRITE, Some(memory)) => {
                one_piece(flight, task, op, memory, lba, count, flags)
            }
            (BdevOp::READ, None) => sys::spdk_nvme_ns_cmd_readv(
                ns,
                qpair,
                lba,
                count,
                Some(completed),
                argument,
                0,
                reset,
                next,
            ),
            (BdevOp::WRITE, None) => sys::spdk_nvme_ns_cmd_writev(
                ns,
                qpair,
                lba,
                count,
                Some(completed),
                argument,
                flags,
                reset,
                next,
            ),
            (BdevOp::COMPARE, _) => sys::spdk_nvme_ns_cmd_comparev(
                ns,
                qpair,
                lba,
                count,
                Some(completed),
                argument,
                0,
                reset,
                next,
            ),
            (BdevOp::WRITE_ZEROES, _) => sys::spdk_nvme_ns_cmd_write_zeroes(
                ns,
                qpair,
                lba,
                count,
                Some(completed),
                argument,
                flags,
            ),
            (BdevOp::UNMAP, _) => {
                sys::daos_spdk_deallocate(ns, qpair, lba, count, Some(completed), argument)
            }
            _ => sys::spdk_nvme_ns_cmd_flush(ns, qpair, Some(completed), argument),
        };
        if code != 0 && !(*task).marks.ended {
            (*task).lba = lba;
            (*task).blocks = blocks;
        }
        code
    }
}

/// Whether a command ended well. An entry of a completion queue has its status in bits 17 to 31 of its last double word (NVMe
/// base specification, "Completion Queue Entry"), which no version of the driver can change; the bit below is the phase.
///
/// # Safety
/// `completion` is one of the driver's.
unsafe fn succeeded(completion: *const sys::spdk_nvme_cpl) -> bool {
    // SAFETY: the caller vouches for the entry, which has 16 bytes and is aligned to 4 at least.
    let word = unsafe { completion.cast::<u32>().add(3).read() };
    // Retry hints and the "more" bit come with errors only.
    word >> 17 & 0x7ff == 0
}

/// The driver's callback: one for each command it took, and one for a command it refuses for its memory.
unsafe extern "C" fn completed(argument: *mut c_void, completion: *const sys::spdk_nvme_cpl) {
    let task = argument.cast::<Task>();
    // SAFETY: the driver passes the task of a command that it held until now, on the queue's thread,
    // inside a call that does not borrow the flight.
    unsafe {
        Circle::remove(task);
        let plain = succeeded(completion) && (*task).marks.plain;
        let flight = (*task).queue.cast::<Flight>();
        if !plain || !(*flight).told.tell((*task).tag, Status::OK) {
            ended(flight, task, completion);
        }
    }
}

/// What a command that ended means for its task.
///
/// # Safety
/// As for the callback; the task is in no list.
#[inline(never)]
unsafe fn ended(flight: *mut Flight, task: *mut Task, completion: *const sys::spdk_nvme_cpl) {
    // SAFETY: the caller vouches for all three.
    unsafe {
        let marks = (*task).marks;
        let mut status = if succeeded(completion) {
            Status::OK
        } else {
            status_of(sys::daos_spdk_outcome(completion))
        };
        if status == Status::CANCELLED && !marks.cancelled {
            status = (*flight).aborted;
        }
        if status == Status::IO {
            status = failure((*flight).ns);
        }
        let more = !marks.plain && (*task).blocks > 0;
        if status.is_ok() && more {
            if marks.cancelled {
                status = Status::CANCELLED;
            } else {
                start(flight, task, true);
                return;
            }
        }
        if status.is_ok() && marks.fua && (*flight).flush_after && !marks.cancelled {
            (*task).marks.fua = false;
            (*task).marks.op = BdevOp::FLUSH;
            start(flight, task, true);
            return;
        }
        (*task).marks.ended = true;
        // Scratch stays ours until the poll returns: `start`, if this is inside of it, looks at `ended`.
        if !(*flight).told.tell((*task).tag, status) {
            (*task).status = status;
            (*flight).done.push(task);
        }
    }
}
