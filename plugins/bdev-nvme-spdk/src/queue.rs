//! A queue: one hardware queue pair, used by one thread.

use crate::controller::{Attached, Phase};
use crate::flight::{self, Flight, Told, start, start_plain};
use crate::gate::{Gate, State};
use crate::sys;
use crate::task::{Circle, Line, Task};
use daos_plugin_api::abi::{BdevOp, Completion, IoVec, Request, Status, Wait};
use daos_plugin_api::sdk::{BdevQueue, Result};
use std::ffi::c_void;
use std::sync::Arc;

/// How long the thread of an idle queue may sleep, in microseconds. Nothing happens meanwhile.
const IDLE_US: u64 = 100_000;
/// The same while another thread resets the device or lets it go.
const HELD_US: u64 = 1_000;

/// What a request may look like on this device.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) block_size: u32,
    pub(crate) blocks: u64,
    pub(crate) max_transfer_blocks: u32,
    pub(crate) max_segments: u32,
    /// The bits that no address of memory may have.
    pub(crate) misaligned: usize,
    /// Pieces of memory need not be whole blocks.
    pub(crate) any_pieces: bool,
    pub(crate) unmap: bool,
    pub(crate) write_zeroes: bool,
    pub(crate) compare: bool,
    /// Forced unit access is a flush after the write.
    pub(crate) flush_after: bool,
}

/// An open queue.
pub struct SpdkQueue {
    controller: Arc<Attached>,
    gate: Arc<Gate>,
    limits: Limits,
    depth: u32,
    /// Requests that the host has not got back, at most the depth.
    held: u32,
    flight: *mut Flight,
}

impl SpdkQueue {
    /// Opens a queue on the calling thread. `ns` belongs to `controller`.
    pub(crate) fn open(
        controller: &Arc<Attached>,
        ns: *mut sys::spdk_nvme_ns,
        limits: Limits,
        depth: u32,
    ) -> Result<Self> {
        let gate = Arc::new(Gate::new());
        let flight = Flight::new(ns, limits.flush_after);
        // SAFETY: the flight is new, and goes in `drop`, after the queue was closed.
        if let Err(error) = unsafe { controller.open_queue(depth, &gate, flight) } {
            // SAFETY: made above; the controller does not know it.
            drop(unsafe { Box::from_raw(flight) });
            return Err(error);
        }
        Ok(Self {
            controller: controller.clone(),
            gate,
            limits,
            depth,
            held: 0,
            flight,
        })
    }

    /// The memory of a read or write that the device takes as one command of one piece of memory, which most requests are. What
    /// is not, or is not good, is [`Self::refused`]'s to judge.
    #[inline]
    fn plain(&self, request: &Request) -> Option<*mut c_void> {
        let limits = &self.limits;
        let forced = request.flags & Request::FUA != 0;
        if !(request.op == BdevOp::WRITE && !(forced && limits.flush_after)
            || request.op == BdevOp::READ)
            || request.iov_count != 1
            || request.iov.is_null()
        {
            return None;
        }
        let end = request.lba.checked_add(request.blocks)?;
        // SAFETY: the host keeps the one entry until the completion.
        let IoVec { ptr, len } = unsafe { *request.iov };
        // Blocks are few here, and their bytes fit.
        let good = end <= limits.blocks
            && request.blocks.wrapping_sub(1) < u64::from(limits.max_transfer_blocks)
            && len == request.blocks as usize * limits.block_size as usize
            && ptr.addr() & limits.misaligned == 0;
        good.then_some(ptr.cast())
    }

    /// Takes a request that is not a plain one; false = the driver has no room.
    ///
    /// # Safety
    /// As for `submit`, inside of the open gate.
    #[inline(never)]
    unsafe fn take_other(&self, request: &Request) -> bool {
        // SAFETY: the queue's own structure, not borrowed across the driver's calls; the host vouches for the request.
        unsafe {
            let task = Task::place(request, self.flight.cast());
            match self.refused(request) {
                Some(status) => {
                    (*task).status = status;
                    (*self.flight).done.push(task);
                    true
                }
                None => start(self.flight, task, false),
            }
        }
    }

    /// A request that the device would not take, or would misunderstand.
    fn refused(&self, request: &Request) -> Option<Status> {
        let limits = &self.limits;
        let has_data = match request.op {
            BdevOp::READ | BdevOp::WRITE => true,
            BdevOp::COMPARE if limits.compare => true,
            BdevOp::UNMAP if limits.unmap => false,
            BdevOp::WRITE_ZEROES if limits.write_zeroes => false,
            BdevOp::FLUSH => return None,
            BdevOp::COMPARE | BdevOp::UNMAP | BdevOp::WRITE_ZEROES => {
                return Some(Status::NOT_SUPPORTED);
            }
            _ => return Some(Status::INVALID),
        };
        let end = request.lba.checked_add(request.blocks);
        if request.blocks == 0 || end.is_none_or(|end| end > limits.blocks) {
            return Some(Status::INVALID);
        }
        if !has_data {
            return None;
        }
        if request.blocks > u64::from(limits.max_transfer_blocks)
            || request.iov.is_null()
            || !(1..=limits.max_segments).contains(&request.iov_count)
        {
            return Some(Status::INVALID);
        }
        // SAFETY: the host keeps the array of `iov_count` entries until the completion.
        let segments =
            unsafe { std::slice::from_raw_parts(request.iov, request.iov_count as usize) };
        let block = limits.block_size as usize;
        let shape = segments.iter().all(|s| {
            s.len != 0
                && s.ptr.addr() & limits.misaligned == 0
                && (limits.any_pieces || s.len % block == 0)
        });
        let total: u128 = segments.iter().map(|s| s.len as u128).sum();
        (!shape || total != u128::from(request.blocks) * block as u128).then_some(Status::INVALID)
    }

    /// Lets what waits between two commands go on.
    fn resume_waiting(&self) {
        // SAFETY: the queue's own structure; no borrow is held across the driver's calls.
        unsafe {
            let mut waiting = std::mem::replace(&mut (*self.flight).waiting, Line::new());
            while let Some(task) = waiting.pop() {
                start(self.flight, task, true);
            }
        }
    }

    /// Tries again to place aborts that the driver had no room for.
    fn retry_aborts(&self) {
        // SAFETY: the queue's own structure, on its thread; no borrow is held across the driver's
        // calls, in which aborted requests may end.
        unsafe {
            let outstanding = &raw mut (*self.flight).outstanding;
            while let Some(task) = Circle::find(outstanding, |t| (*t).marks.abort_waits) {
                (*task).marks.abort_waits = false;
                if !self.place_abort(task) {
                    return;
                }
            }
            (*self.flight).aborts_wait = false;
        }
    }

    /// Hands an abort to the driver; false = no room, it waits.
    ///
    /// # Safety
    /// `task` is outstanding.
    unsafe fn place_abort(&self, task: *mut Task) -> bool {
        // SAFETY: the caller vouches for the task.
        unsafe {
            let placed = self.controller.abort((*self.flight).qpair, task.cast());
            if !placed {
                (*task).marks.abort_waits = true;
                (*self.flight).aborts_wait = true;
            }
            placed
        }
    }

    /// Gives the hardware queue of a lost device back: what was outstanding ends.
    fn retire(&self) {
        // SAFETY: on the queue's thread, outside of the driver; nothing borrows the flight.
        if !unsafe { flight::retire(self.flight, self.loss()) } {
            self.controller.stop_dma();
        }
    }

    /// Why a queue takes nothing that is held, drained or lost.
    fn loss(&self) -> Status {
        if self.controller.phase() == Phase::Removed {
            Status::DEVICE_GONE
        } else {
            Status::RESET
        }
    }

    /// Lets the driver look at its queue, which rings the doorbell for what was submitted, and tells what ended in the room;
    /// how many those were, or that the driver failed.
    ///
    /// # Safety
    /// Inside the gate, which is open or drains.
    #[inline]
    unsafe fn look(&self, room: &mut [Completion]) -> (usize, bool) {
        // SAFETY: this is the queue's thread; callbacks find the flight unborrowed, and the room lives until they have run.
        unsafe {
            let qpair = (*self.flight).qpair;
            // Without room the driver would not know a limit. What was submitted goes with the next look then: what took the room was
            // refused, of which there is no more than the queue's depth.
            if qpair.is_null() || room.is_empty() {
                return (0, false);
            }
            (*self.flight).told = Told::into(room);
            let code = sys::spdk_nvme_qpair_process_completions(qpair, room.len() as u32);
            ((*self.flight).told.end(room), code < 0)
        }
    }

    /// Hands over what finished at other times.
    fn take(&self, completions: &mut [Completion]) -> usize {
        // SAFETY: the queue's own structure, on its thread, outside of the driver.
        let done = unsafe { &mut (*self.flight).done };
        let mut count = 0;
        for slot in completions {
            let Some(task) = done.pop() else { break };
            // SAFETY: tasks of a list are live; after this the scratch is the host's again.
            let (tag, status) = unsafe { ((*task).tag, (*task).status) };
            *slot = Completion {
                tag,
                status,
                reserved: 0,
            };
            count += 1;
        }
        count
    }

    /// [`BdevQueue::poll`] when not everything is as it nearly always is.
    ///
    /// # Safety
    /// Inside the gate, which is in `state`.
    #[inline(never)]
    unsafe fn poll_rarely(
        &self,
        state: State,
        completions: &mut [Completion],
    ) -> Result<usize, Status> {
        if state == State::Held {
            return Ok(0); // The lists are the other thread's.
        }
        let count = self.take(completions);
        if state == State::Lost {
            self.retire();
            return Ok(count + self.take(&mut completions[count..]));
        }
        // SAFETY: the gate lets this thread look. In the state Drain the first look ends everything that was outstanding.
        unsafe {
            let (ended, failed) = self.look(&mut completions[count..]);
            self.after(state, completions, count + ended, failed)
        }
    }

    /// What follows a look after which something waits, or that failed: `count` have been told.
    ///
    /// # Safety
    /// Inside the gate, which is in `state`: open or to be drained.
    #[inline(never)]
    unsafe fn after(
        &self,
        state: State,
        completions: &mut [Completion],
        mut count: usize,
        failed: bool,
    ) -> Result<usize, Status> {
        // SAFETY: the queue's own structure, on its thread, outside of the driver.
        unsafe {
            if state == State::Drain {
                flight::drop_waiting(self.flight);
            } else {
                self.resume_waiting();
                if (*self.flight).aborts_wait {
                    self.retry_aborts();
                }
            }
        }
        count += self.take(&mut completions[count..]);
        if count == 0 && failed && state == State::Open {
            // SAFETY: the gate is open: the controller stays attached while this thread is inside.
            match unsafe { flight::failure((*self.flight).ns) } {
                // The next look at the device ends what is under way.
                Status::DEVICE_GONE => {}
                // The controller failed by itself: a reset brings it and the requests back.
                status => return Err(status),
            }
        }
        Ok(count)
    }
}

impl BdevQueue for SpdkQueue {
    #[inline]
    unsafe fn submit(&mut self, requests: &[Request]) -> Result<usize, Status> {
        let inside = self.gate.enter();
        // SAFETY: the queue's own structure, on its thread. An open queue has a hardware queue.
        if inside.state != State::Open || unsafe { (*self.flight).qpair.is_null() } {
            return Err(self.loss());
        }
        let room = (self.depth - self.held) as usize;
        let mut taken = 0;
        for request in &requests[..requests.len().min(room)] {
            // SAFETY: inside the open gate, of a queue with a hardware queue; the host vouches for the request.
            let is_taken = unsafe {
                match self.plain(request) {
                    Some(memory) => start_plain(self.flight, request, memory),
                    None => self.take_other(request),
                }
            };
            if !is_taken {
                break;
            }
            taken += 1;
        }
        self.held += taken;
        Ok(taken as usize)
    }

    #[inline]
    fn poll(&mut self, completions: &mut [Completion]) -> Result<usize, Status> {
        let inside = self.gate.enter();
        // SAFETY: the queue's own structure; of a queue that is open, on its thread, outside of the driver.
        let outcome = unsafe {
            if inside.state == State::Open && (*self.flight).is_plain() {
                let (count, failed) = self.look(completions);
                if !failed && (*self.flight).is_plain() {
                    Ok(count)
                } else {
                    self.after(State::Open, completions, count, failed)
                }
            } else {
                self.poll_rarely(inside.state, completions)
            }
        };
        if let Ok(count) = outcome {
            self.held -= count as u32;
        }
        outcome
    }

    fn arm_wait(&mut self) -> Wait {
        let inside = self.gate.enter();
        if inside.state == State::Held {
            return Wait::timer(HELD_US);
        }
        if self.held == 0 {
            Wait::timer(IDLE_US)
        } else {
            Wait::BUSY
        }
    }

    fn abort(&mut self, tag: u64) -> Result<(), Status> {
        let inside = self.gate.enter();
        if inside.state == State::Held {
            return Ok(()); // What was outstanding ends anyhow.
        }
        // SAFETY: the queue's own structure, on its thread.
        let found =
            unsafe { Circle::find(&raw mut (*self.flight).outstanding, |t| (*t).tag == tag) };
        let Some(task) = found else {
            return Err(Status::NOT_FOUND);
        };
        if inside.state != State::Open {
            return Ok(()); // It ends anyhow.
        }
        // SAFETY: the task is outstanding on this queue.
        unsafe {
            (*task).marks.cancelled = true;
            self.place_abort(task);
        }
        Ok(())
    }

    fn reconnect(&mut self) -> Result<(), Status> {
        let gate = self.gate.clone();
        let inside = gate.enter();
        match inside.state {
            State::Open => return Ok(()),
            State::Held if self.controller.phase() == Phase::Removed => return Err(self.loss()),
            State::Held => return Err(Status::AGAIN),
            State::Lost => return Err(self.loss()),
            State::Drain => {}
        }
        // SAFETY: the queue's own structure; callbacks find it unborrowed.
        unsafe {
            let qpair = (*self.flight).qpair;
            if !qpair.is_null() {
                // Ends what was outstanding, if the host did not poll since the reset.
                sys::spdk_nvme_qpair_process_completions(qpair, 0);
            }
        }
        // SAFETY: on the queue's thread, outside of the driver.
        unsafe { flight::drop_waiting(self.flight) };
        drop(inside);
        // SAFETY: as above. Outside of the gate: a reset could wait for us with the lock held.
        unsafe {
            self.controller
                .replace_queue(self.depth, self.flight)
                .map_err(|error| error.status)?;
            (*self.flight).aborted = Status::RESET;
        }
        if gate.reopen(State::Drain) {
            Ok(())
        } else {
            Err(Status::AGAIN)
        }
    }
}

impl Drop for SpdkQueue {
    fn drop(&mut self) {
        // SAFETY: last use, on the queue's thread; the driver's callbacks run before `close_queue`
        // returns, so nothing refers to the flight afterwards.
        unsafe {
            self.controller.close_queue(self.flight, &self.gate);
            drop(Box::from_raw(self.flight));
        }
    }
}
