//! A queue on one of the two engines.

use crate::device::Engine;
use crate::memory::Registrations;
use crate::ring_queue::RingQueue;
use crate::target::Target;
use crate::thread_queue::ThreadQueue;
use daos_plugin_api::abi::{Completion, Request, Status, Wait};
use daos_plugin_api::sdk::BdevQueue;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

enum Inner {
    Ring(Box<RingQueue>),
    Threads(ThreadQueue),
}

/// A queue of an [`FdDevice`](crate::FdDevice).
pub struct FdQueue {
    inner: Inner,
    _count: Counted,
}

/// Counts the queue among those of its target.
pub(crate) struct Counted(pub(crate) Arc<Target>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.queues.fetch_sub(1, Ordering::AcqRel);
    }
}

impl FdQueue {
    pub(crate) fn open(
        count: Counted,
        memory: &Registrations,
        depth: u32,
        engine: Engine,
    ) -> io::Result<Self> {
        let target = Arc::clone(&count.0);
        let inner = match engine {
            Engine::Threads => Inner::Threads(ThreadQueue::open(target, depth)?),
            Engine::Auto | Engine::Uring => {
                Inner::Ring(Box::new(RingQueue::open(target, memory, depth)?))
            }
        };
        Ok(Self {
            inner,
            _count: count,
        })
    }
}

impl BdevQueue for FdQueue {
    #[inline]
    unsafe fn submit(&mut self, requests: &[Request]) -> Result<usize, Status> {
        // SAFETY: the caller's promise is passed on.
        Ok(unsafe {
            match &mut self.inner {
                Inner::Ring(queue) => queue.submit(requests),
                Inner::Threads(queue) => queue.submit(requests),
            }
        })
    }

    #[inline]
    fn poll(&mut self, completions: &mut [Completion]) -> Result<usize, Status> {
        match &mut self.inner {
            Inner::Ring(queue) => queue.poll(completions),
            Inner::Threads(queue) => Ok(queue.poll(completions)),
        }
    }

    fn arm_wait(&mut self) -> Wait {
        match &mut self.inner {
            Inner::Ring(queue) => queue.arm_wait(),
            Inner::Threads(queue) => queue.arm_wait(),
        }
    }

    fn abort(&mut self, tag: u64) -> Result<(), Status> {
        match &mut self.inner {
            Inner::Ring(queue) => queue.abort(tag),
            Inner::Threads(queue) => queue.abort(tag),
        }
    }
}
