//! The queue where io_uring is not allowed: threads and blocking system calls.

use crate::memory::segments;
use crate::pool::{Aborted, Pool};
use crate::target::Target;
use crate::task::Task;
use daos_plugin_api::abi::{Completion, Request, Status, Wait};
use rustix::event::{EventfdFlags, eventfd};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

/// Most threads of a queue.
const THREADS: u32 = 8;

pub(crate) struct ThreadQueue {
    pool: Pool,
    bell: Arc<OwnedFd>,
    target: Arc<Target>,
    /// Completions of requests that never reached the pool.
    ready: VecDeque<Completion>,
    batch: Vec<Task>,
    depth: usize,
    outstanding: usize,
}

impl ThreadQueue {
    pub(crate) fn open(target: Arc<Target>, depth: u32) -> io::Result<Self> {
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let threads = depth.min(THREADS) as usize;
        Ok(Self {
            pool: Pool::new(Arc::clone(&target), Arc::clone(&bell), threads, depth)?,
            bell,
            target,
            ready: VecDeque::with_capacity(depth as usize),
            batch: Vec::with_capacity(depth as usize),
            depth: depth as usize,
            outstanding: 0,
        })
    }

    /// # Safety
    /// As for [`BdevQueue::submit`](daos_plugin_api::sdk::BdevQueue::submit).
    pub(crate) unsafe fn submit(&mut self, requests: &[Request]) -> usize {
        let taken = requests.len().min(self.depth - self.outstanding);
        self.outstanding += taken;
        for request in &requests[..taken] {
            // SAFETY: the caller vouches for the requests.
            let valid = self.target.check(request, unsafe { segments(request) });
            let status = match (valid, self.target.is_gone()) {
                (false, _) => Status::INVALID,
                (true, true) => Status::DEVICE_GONE,
                (true, false) => {
                    // SAFETY: the caller vouches for the requests.
                    self.batch.push(unsafe { Task::new(request, &self.target) });
                    continue;
                }
            };
            self.ready.push_back(Completion {
                tag: request.tag,
                status,
                reserved: 0,
            });
        }
        self.pool.submit(self.batch.drain(..));
        taken
    }

    pub(crate) fn poll(&mut self, out: &mut [Completion]) -> usize {
        let mut count = 0;
        while count < out.len()
            && let Some(done) = self.ready.pop_front()
        {
            out[count] = done;
            count += 1;
        }
        let target = &self.target;
        self.pool.take(out.len() - count, |done| {
            if !done.status.is_ok() {
                target.note_failure(done.status);
            }
            out[count] = done;
            count += 1;
        });
        self.outstanding -= count;
        count
    }

    pub(crate) fn arm_wait(&mut self) -> Wait {
        // Fails when the bell did not ring, which is fine.
        let _ = rustix::io::read(&*self.bell, &mut [0u8; 8]);
        if !self.ready.is_empty() || self.pool.arm() {
            return Wait::BUSY;
        }
        Wait::fd(self.bell.as_raw_fd())
    }

    pub(crate) fn abort(&mut self, tag: u64) -> Result<(), Status> {
        if self.ready.iter().any(|done| done.tag == tag) {
            return Ok(());
        }
        match self.pool.abort(tag) {
            Aborted::Removed => {
                let status = Status::CANCELLED;
                self.ready.push_back(Completion {
                    tag,
                    status,
                    reserved: 0,
                });
                Ok(())
            }
            Aborted::TooLate => Ok(()),
            Aborted::Unknown => Err(Status::NOT_FOUND),
        }
    }
}
