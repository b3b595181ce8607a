//! A queue: one hardware queue pair, used by one thread.

use crate::controller::{Attached, Phase};
use crate::flight::{self, Flight, Told, start};
use crate::gate::{Gate, State};
use crate::sys;
use crate::task::Task;
use daos_plugin_api::abi::{BdevOp, Completion, Request, Status, Wait};
use daos_plugin_api::sdk::{BdevQueue, Result};
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
    pub(crate) alignment: usize,
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
        let flight = Box::into_raw(Box::new(Flight::new(ns, limits.flush_after)));
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
            flight,
        })
    }

    /// A request that the device would not take, or would misunderstand.
    #[inline]
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
        if let [one] = segments {
            // Most requests. Blocks are few here, and their bytes fit.
            let good = one.len == request.blocks as usize * block
                && one.ptr.addr().is_multiple_of(limits.alignment);
            return (!good).then_some(Status::INVALID);
        }
        let shape = segments.iter().all(|s| {
            s.len != 0
                && s.ptr.addr().is_multiple_of(limits.alignment)
                && (limits.any_pieces || s.len % block == 0)
        });
        let total: u128 = segments.iter().map(|s| s.len as u128).sum();
        (!shape || total != u128::from(request.blocks) * block as u128).then_some(Status::INVALID)
    }

    /// Lets what waits between two commands go on.
    fn resume_waiting(&self) {
        // SAFETY: the queue's own structure; no borrow is held across the driver's calls.
        unsafe {
            for _ in 0..(*self.flight).waiting.len() {
                let Some(task) = (*self.flight).waiting.pop() else {
                    return;
                };
                start(self.flight, task, true);
            }
        }
    }

    /// Tries again to place aborts that the driver had no room for.
    fn retry_aborts(&self) {
        // SAFETY: the queue's own structure, on its thread; no borrow is held across the driver's
        // calls, in which aborted requests may end.
        unsafe {
            while let Some(task) = (*self.flight).outstanding.find(|task| task.abort_waits) {
                (*task).abort_waits = false;
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
                (*task).abort_waits = true;
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
            (room.len() - (*self.flight).told.end(), code < 0)
        }
    }

    /// Hands over what finished at other times.
    #[inline]
    fn take(&self, completions: &mut [Completion]) -> usize {
        // SAFETY: the queue's own structure, on its thread, outside of the driver.
        let done = unsafe { &mut (*self.flight).done };
        if done.len() == 0 {
            return 0; // Nearly always.
        }
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
}

impl BdevQueue for SpdkQueue {
    #[inline]
    unsafe fn submit(&mut self, requests: &[Request]) -> Result<usize, Status> {
        let inside = self.gate.enter();
        match inside.state {
            State::Open => {}
            State::Held | State::Drain | State::Lost => return Err(self.loss()),
        }
        for (taken, request) in requests.iter().enumerate() {
            // SAFETY: the queue's own structure, not borrowed across the driver's calls; the host
            // vouches for the request.
            unsafe {
                if (*self.flight).len() >= self.depth as usize {
                    return Ok(taken);
                }
                let task = Task::place(request, self.flight.cast());
                if let Some(status) = self.refused(request) {
                    (*task).status = status;
                    (*self.flight).done.push(task);
                } else if !start(self.flight, task, false) {
                    return Ok(taken);
                }
            }
        }
        Ok(requests.len())
    }

    #[inline]
    fn poll(&mut self, completions: &mut [Completion]) -> Result<usize, Status> {
        let inside = self.gate.enter();
        let mut count = match inside.state {
            // The lists are the other thread's.
            State::Held => return Ok(0),
            _ => self.take(completions),
        };
        let mut failed = false;
        if inside.state == State::Lost {
            self.retire();
        } else {
            // SAFETY: the gate lets this thread look. In the state Drain the first look ends everything that was outstanding.
            let (ended, error) = unsafe { self.look(&mut completions[count..]) };
            count += ended;
            failed = error;
            // SAFETY: the queue's own structure, on its thread, outside of the driver.
            unsafe {
                if inside.state == State::Drain {
                    flight::drop_waiting(self.flight);
                } else {
                    if (*self.flight).waiting.len() != 0 {
                        self.resume_waiting();
                    }
                    if (*self.flight).aborts_wait {
                        self.retry_aborts();
                    }
                }
            }
        }
        count += self.take(&mut completions[count..]);
        match count {
            0 if failed && inside.state == State::Open => {
                // SAFETY: the gate is open: the controller stays attached while this thread is inside.
                match unsafe { flight::failure((*self.flight).ns) } {
                    // The next look at the device ends what is under way.
                    Status::DEVICE_GONE => Ok(0),
                    // The controller failed by itself: a reset brings it and the requests back.
                    status => Err(status),
                }
            }
            count => Ok(count),
        }
    }

    fn arm_wait(&mut self) -> Wait {
        let inside = self.gate.enter();
        if inside.state == State::Held {
            return Wait::timer(HELD_US);
        }
        // SAFETY: the queue's own structure, on its thread, outside of the driver.
        let idle = unsafe { (*self.flight).len() == 0 };
        if idle {
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
        let found = unsafe { (*self.flight).outstanding.find(|task| task.tag == tag) };
        let Some(task) = found else {
            return Err(Status::NOT_FOUND);
        };
        if inside.state != State::Open {
            return Ok(()); // It ends anyhow.
        }
        // SAFETY: the task is outstanding on this queue.
        unsafe {
            (*task).cancelled = true;
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
