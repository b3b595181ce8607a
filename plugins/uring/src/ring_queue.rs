//! The queue on io_uring.

use crate::memory::{PageBuf, Registrations, segments};
use crate::pool::{Aborted, Pool};
use crate::ring::Ring;
use crate::slots::{Place, Slots};
use crate::status::status_of;
use crate::target::{Target, UnmapMode};
use crate::task::{Action, BOUNCE, Task};
use daos_plugin_api::abi::{Completion, Request, Status, Wait};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// Bounce buffers of a queue: compares at work at once.
const LANES: usize = 4;

/// User data of cancellations; its low half is no slot.
const CANCEL: u64 = u32::MAX as u64;

pub(crate) struct RingQueue {
    ring: Ring,
    target: Arc<Target>,
    slots: Slots,
    lanes: Vec<PageBuf>,
    free_lanes: Vec<u8>,
    /// Compares that wait for a lane.
    waiting: VecDeque<u32>,
    /// Completions that did not come out of the ring.
    ready: VecDeque<Completion>,
    /// Carries out what the ring cannot.
    helper: Option<Pool>,
    /// Requests that the helper has.
    with_helper: u32,
    depth: usize,
    /// Accepted requests whose completion was not handed out.
    outstanding: usize,
}

impl RingQueue {
    /// # Errors
    /// Those of setting up the ring or starting the helper.
    pub(crate) fn open(
        target: Arc<Target>,
        memory: &Registrations,
        depth: u32,
    ) -> io::Result<Self> {
        // Each request has one entry in the ring at a time. The other half is for cancellations,
        // so that a request's next step always finds room.
        let entries = (2 * depth + 8).next_power_of_two();
        let ring = Ring::open(target.fd(), entries, memory.regions())?;
        let helper = match target.unmap_mode() {
            UnmapMode::Discard => Some(Pool::new(Arc::clone(&target), ring.bell(), 1, depth)?),
            _ => None,
        };
        let lanes = LANES.min(depth as usize);
        Ok(Self {
            ring,
            target,
            slots: Slots::new(depth),
            lanes: (0..lanes).map(|_| PageBuf::new(BOUNCE)).collect(),
            free_lanes: (0..lanes as u8).collect(),
            waiting: VecDeque::with_capacity(depth as usize),
            ready: VecDeque::with_capacity(depth as usize),
            helper,
            with_helper: 0,
            depth: depth as usize,
            outstanding: 0,
        })
    }

    /// # Safety
    /// As for [`BdevQueue::submit`](daos_plugin_api::sdk::BdevQueue::submit).
    #[inline]
    pub(crate) unsafe fn submit(&mut self, requests: &[Request]) -> usize {
        let taken = requests.len().min(self.depth - self.outstanding);
        self.outstanding += taken;
        for request in &requests[..taken] {
            // SAFETY: the caller vouches for the requests.
            if !self.target.check(request, unsafe { segments(request) }) {
                self.finished(request.tag, Status::INVALID);
            } else if self.target.is_gone() {
                self.finished(request.tag, Status::DEVICE_GONE);
            } else {
                // SAFETY: the caller vouches for the requests; dropping the queue waits for all.
                let task = unsafe { Task::new(request, &self.target) };
                match self.slots.take(task) {
                    Some(slot) => self.start(slot),
                    None => self.finished(request.tag, Status::INTERNAL),
                }
            }
        }
        if self.ring.has_pending() {
            // Entries that the kernel does not take now stay for `poll`, which reports errors.
            let _ = self.ring.enter(false);
        }
        taken
    }

    fn finished(&mut self, tag: u64, status: Status) {
        self.ready.push_back(Completion {
            tag,
            status,
            reserved: 0,
        });
    }

    /// Starts the next action of a slot.
    #[inline]
    fn start(&mut self, slot: u32) {
        let action = self.slots.get(slot).task.action();
        match action {
            Action::Bounce { .. } => self.start_bounce(slot, &action),
            Action::Discard { .. } => self.start_helper(slot),
            _ => self.push(slot, &action, std::ptr::null_mut()),
        }
    }

    #[inline]
    fn push(&mut self, slot: u32, action: &Action, bounce: *mut u8) {
        let user_data = self.slots.user_data(slot);
        if !self.ring.push_action(user_data, action, bounce) {
            // The ring is sized so that this cannot be.
            self.retire(slot, Status::INTERNAL);
        }
    }

    fn start_bounce(&mut self, slot: u32, action: &Action) {
        let lane = match self.slots.get(slot).place {
            Place::Lane(lane) => lane,
            _ => match self.free_lanes.pop() {
                Some(lane) => lane,
                None => {
                    self.slots.get(slot).place = Place::Waiting;
                    self.waiting.push_back(slot);
                    return;
                }
            },
        };
        self.slots.get(slot).place = Place::Lane(lane);
        let bounce = self.lanes[usize::from(lane)].ptr();
        self.push(slot, action, bounce);
    }

    fn start_helper(&mut self, slot: u32) {
        let Some(helper) = &self.helper else {
            return self.retire(slot, Status::INTERNAL);
        };
        let entry = self.slots.get(slot);
        entry.place = Place::Helper;
        helper.submit(std::iter::once(entry.task));
        self.with_helper += 1;
    }

    /// Frees a slot and what it holds; its completion waits in `ready`.
    fn retire(&mut self, slot: u32, status: Status) {
        let tag = self.free(slot, status);
        self.finished(tag, status);
    }

    #[inline]
    fn free(&mut self, slot: u32, status: Status) -> u64 {
        let entry = self.slots.get(slot);
        let (tag, place) = (entry.task.tag, entry.place);
        self.slots.release(slot);
        if !status.is_ok() {
            self.target.note_failure(status);
        }
        match place {
            Place::Lane(lane) => {
                self.free_lanes.push(lane);
                if let Some(next) = self.waiting.pop_front() {
                    self.start(next);
                }
            }
            Place::Helper => self.with_helper -= 1,
            _ => {}
        }
        tag
    }

    /// Takes what the helper completed.
    fn collect_helper(&mut self) {
        let Self { helper, ready, .. } = self;
        let Some(helper) = helper else { return };
        let first = ready.len();
        helper.take(usize::MAX, |done| ready.push_back(done));
        for at in first..self.ready.len() {
            let Completion { tag, status, .. } = self.ready[at];
            if let Some(slot) = self.slots.find(tag) {
                self.free(slot, status);
            }
        }
    }

    /// Processes one completion of the ring.
    #[inline]
    fn reaped(&mut self, user_data: u64, result: i32) -> Option<Completion> {
        if user_data == CANCEL {
            return None;
        }
        let slot = user_data as u32;
        let entry = self.slots.get(slot);
        let bounce = match (entry.place, usize::try_from(result)) {
            (Place::Lane(lane), Ok(read)) => self.lanes[usize::from(lane)].filled(read.min(BOUNCE)),
            _ => &[],
        };
        match entry.task.finish(result, bounce, &self.target) {
            Some(status) => {
                let tag = self.free(slot, status);
                Some(Completion {
                    tag,
                    status,
                    reserved: 0,
                })
            }
            None => {
                self.start(slot);
                None
            }
        }
    }

    /// # Errors
    /// The ring no longer works: INTERNAL, or what the kernel's error means.
    #[inline]
    pub(crate) fn poll(&mut self, out: &mut [Completion]) -> Result<usize, Status> {
        self.ring.disarm();
        if self.with_helper > 0 {
            self.collect_helper();
        }
        let mut count = self.fill(out, 0);
        if count < out.len() && self.outstanding > count && self.ring.needs_enter() {
            self.enter()?;
            count = self.fill(out, count);
        }
        if self.ring.has_pending() {
            self.enter()?;
        }
        self.outstanding -= count;
        Ok(count)
    }

    fn enter(&mut self) -> Result<(), Status> {
        self.ring.enter(false).map_err(|error| {
            tracing::error!("io_uring_enter fails: {error}");
            error
                .raw_os_error()
                .map_or(Status::INTERNAL, |errno| match status_of(errno) {
                    Status::IO => Status::INTERNAL,
                    status => status,
                })
        })
    }

    /// Stores completions behind the first `count`; returns how many there are then.
    #[inline]
    fn fill(&mut self, out: &mut [Completion], mut count: usize) -> usize {
        while count < out.len() {
            if let Some(done) = self.ready.pop_front() {
                out[count] = done;
                count += 1;
                continue;
            }
            let Some((user_data, result)) = self.ring.next() else {
                break;
            };
            if let Some(done) = self.reaped(user_data, result) {
                out[count] = done;
                count += 1;
            }
        }
        count
    }

    pub(crate) fn arm_wait(&mut self) -> Wait {
        if !self.ready.is_empty() || self.ring.has_pending() {
            return Wait::BUSY;
        }
        match self.ring.arm() {
            Some(_) if self.helper.as_ref().is_some_and(Pool::arm) => Wait::BUSY,
            Some(bell) => Wait::fd(bell),
            None => Wait::BUSY,
        }
    }

    pub(crate) fn abort(&mut self, tag: u64) -> Result<(), Status> {
        let Some(slot) = self.slots.find(tag) else {
            let complete = self.ready.iter().any(|done| done.tag == tag);
            return if complete {
                Ok(())
            } else {
                Err(Status::NOT_FOUND)
            };
        };
        let entry = self.slots.get(slot);
        entry.task.aborted = true;
        match entry.place {
            Place::Waiting => {
                self.waiting.retain(|other| *other != slot);
                self.retire(slot, Status::CANCELLED);
            }
            Place::Helper => {
                if self.helper.as_ref().map(|helper| helper.abort(tag)) == Some(Aborted::Removed) {
                    self.retire(slot, Status::CANCELLED);
                }
            }
            _ => {
                // The half of the ring that requests never need.
                if self.ring.room() <= self.depth {
                    return Err(Status::AGAIN);
                }
                let target = self.slots.user_data(slot);
                self.ring.push_cancel(CANCEL, target);
                self.enter()?;
            }
        }
        Ok(())
    }
}

impl Drop for RingQueue {
    /// Cancels what is outstanding and waits until the kernel lets go of its memory.
    fn drop(&mut self) {
        self.helper = None; // waits for the action in progress
        let mut cancel: Vec<u64> = self
            .slots
            .in_ring()
            .into_iter()
            .map(|slot| self.slots.user_data(slot))
            .collect();
        while self.ring.in_flight() > 0 {
            while let Some(target) = cancel.pop() {
                if !self.ring.push_cancel(CANCEL, target) {
                    cancel.push(target);
                    break;
                }
            }
            if let Err(error) = self.ring.enter(true) {
                // Only on another thread than the queue's, which the contract forbids. The kernel
                // cancels everything when the ring goes; until then our buffers must stay.
                tracing::error!("cannot wait for outstanding I/O of a closed queue: {error}");
                std::mem::forget(std::mem::take(&mut self.lanes));
                return;
            }
            while self.ring.next().is_some() {}
        }
    }
}
