//! Registered memory for values that travel by remote memory access.
//!
//! Registering is slow on real fabrics, so buffers are kept. A buffer goes back only if every
//! request that named it was answered: an engine that still works on a forgotten request may write
//! to it later. Such a buffer is unregistered instead, after which nobody can reach it.

use crate::block::Block;
use daos_plugin_api::abi::{FABRIC_LOCAL, FABRIC_REMOTE_READ, FABRIC_REMOTE_WRITE, Status};
use daos_plugin_api::host::{FabricDomain, FabricMemory};
use daos_wire::{RmaDescriptor, SINGLE_MAX};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Smallest buffer; sizes double from here to [`SINGLE_MAX`].
const SMALLEST: usize = 8 << 10;
const CLASSES: usize = (SINGLE_MAX as usize / SMALLEST).ilog2() as usize + 1;
/// Most bytes kept while nobody uses them.
const KEPT: usize = 64 << 20;

/// A registered block. Fields drop in order: first nobody can reach the memory, then it is freed.
struct Buffer {
    registration: FabricMemory,
    block: Block,
}

#[derive(Default)]
struct Free {
    classes: [Vec<Buffer>; CLASSES],
    bytes: usize,
}

/// Buffers of one domain. Domain functions want one caller at a time: everything that registers
/// or unregisters happens under the lock.
pub(crate) struct Pool {
    domain: FabricDomain,
    free: Mutex<Free>,
}

impl Pool {
    pub(crate) fn new(domain: FabricDomain) -> Arc<Self> {
        Arc::new(Self {
            domain,
            free: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Free> {
        // The lists are consistent after every statement.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Memory of at least `len` bytes, at most [`SINGLE_MAX`].
    pub(crate) fn take(self: &Arc<Self>, len: usize) -> Result<Lease, Status> {
        let class = class_of(len);
        let mut free = self.lock();
        let buffer = match free.classes[class].pop() {
            Some(buffer) => {
                free.bytes -= buffer.block.len();
                buffer
            }
            None => self.make(SMALLEST << class)?,
        };
        drop(free);
        Ok(Lease {
            buffer: Some(buffer),
            pool: self.clone(),
            unanswered: 0,
        })
    }

    fn make(&self, len: usize) -> Result<Buffer, Status> {
        let block = Block::new(len);
        let rights = FABRIC_LOCAL | FABRIC_REMOTE_READ | FABRIC_REMOTE_WRITE;
        // SAFETY: the block outlives its registration (see `Buffer`); this process touches it only
        // by copying, never through references.
        let registration =
            unsafe { self.domain.register(block.as_ptr(), len, rights) }.map_err(|error| {
                tracing::error!(%error, len, "cannot register memory with the fabric");
                error.status
            })?;
        Ok(Buffer {
            registration,
            block,
        })
    }
}

fn class_of(len: usize) -> usize {
    let smallest_fitting = len.max(SMALLEST).next_power_of_two();
    let class = (smallest_fitting / SMALLEST).ilog2() as usize;
    assert!(class < CLASSES, "values are at most SINGLE_MAX bytes");
    class
}

/// Memory of the pool in use by one call.
pub(crate) struct Lease {
    buffer: Option<Buffer>, // `None` only while dropping
    pool: Arc<Pool>,
    unanswered: u32,
}

impl Lease {
    fn buffer(&self) -> &Buffer {
        self.buffer.as_ref().expect("present until dropped")
    }

    /// Names the first `len` bytes to the engine.
    pub(crate) fn describe(&self, len: usize) -> RmaDescriptor {
        let buffer = self.buffer();
        RmaDescriptor {
            key: buffer.registration.key(),
            addr: buffer.registration.base(),
            len: len.min(buffer.block.len()) as u64,
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.buffer().block.len()
    }

    pub(crate) fn fill(&mut self, data: &[u8]) {
        let buffer = self.buffer.as_mut().expect("present until dropped");
        buffer.block.fill(data);
    }

    pub(crate) fn copy(&self, len: usize) -> Vec<u8> {
        self.buffer().block.copy(len)
    }

    /// A request that names this memory goes out.
    pub(crate) fn sent(&mut self) {
        self.unanswered += 1;
    }

    /// Such a request was answered.
    pub(crate) fn answered(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(buffer) = self.buffer.take() else {
            return;
        };
        let mut free = self.pool.lock();
        let len = buffer.block.len();
        if self.unanswered == 0 && free.bytes + len <= KEPT {
            free.bytes += len;
            free.classes[class_of(len)].push(buffer);
        } else {
            drop(buffer); // under the lock, see `Pool`
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider;

    fn pool() -> Arc<Pool> {
        Pool::new(provider::open("tcp", "lo", None).unwrap().domain)
    }

    #[test]
    fn classes_cover_every_size() {
        assert_eq!(class_of(1), 0);
        assert_eq!(class_of(SMALLEST), 0);
        assert_eq!(class_of(SMALLEST + 1), 1);
        assert_eq!(
            SMALLEST << class_of(SINGLE_MAX as usize),
            SINGLE_MAX as usize
        );
    }

    #[test]
    fn answered_buffers_return_and_others_do_not() {
        let pool = pool();
        let key = |lease: &Lease| lease.describe(1).key;
        let mut lease = pool.take(5000).unwrap();
        let first = key(&lease);
        lease.sent();
        lease.answered();
        drop(lease);
        let mut lease = pool.take(8000).unwrap();
        assert_eq!(key(&lease), first, "kept");
        lease.sent();
        lease.sent();
        lease.answered();
        drop(lease);
        assert_ne!(
            key(&pool.take(8000).unwrap()),
            first,
            "an engine may still reach it"
        );
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let pool = pool();
        let leases: Vec<_> = (0..80)
            .map(|_| pool.take(SINGLE_MAX as usize).unwrap())
            .collect();
        drop(leases);
        assert_eq!(pool.lock().bytes, KEPT);
    }
}
