//! Registered memory: for values that travel by remote memory access, and for messages where a fabric wants it.
//!
//! Registering is slow on real fabrics, so buffers are kept. A buffer goes back only if every
//! request that named it was answered: an engine that still works on a forgotten request may write
//! to it later. Such a buffer is unregistered instead, after which nobody can reach it.
//!
//! Callers may lend memory of their own where registering is cheap: it saves the copy. Their memory is
//! unregistered before they have it back.

use crate::block::{Block, LentVec, Memory};
use daos_plugin_api::abi::{
    FABRIC_LOCAL, FABRIC_REMOTE_READ, FABRIC_REMOTE_WRITE, FabricInfo, Status,
};
use daos_plugin_api::host::{FabricDomain, FabricMemory};
use daos_plugin_api::sdk::Error;
use daos_wire::{RmaDescriptor, SINGLE_MAX};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Smallest buffer; sizes double from here to [`SINGLE_MAX`].
const SMALLEST: usize = 8 << 10;
const CLASSES: usize = (SINGLE_MAX as usize / SMALLEST).ilog2() as usize + 1;
/// Most bytes kept while nobody uses them.
const KEPT: usize = 64 << 20;

/// Registered memory. Fields drop in order: first nobody can reach the memory, then it is freed.
struct Buffer {
    registration: FabricMemory,
    memory: Memory,
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
                free.bytes -= buffer.memory.len();
                buffer
            }
            None => self.make(Memory::Block(Block::new(SMALLEST << class)))?,
        };
        drop(free);
        Ok(Lease {
            buffer: Some(buffer),
            pool: self.clone(),
            unanswered: 0,
        })
    }

    /// Whether callers' memory can be used as it is. Providers that want even local memory registered pin
    /// what they register, which takes longer than a copy; and only where accesses are checked does
    /// unregistering keep a peer away that answers too late.
    pub(crate) fn lends(&self) -> bool {
        self.domain.info().flags & FabricInfo::CHECKS_ACCESS != 0 && !self.wants_messages()
    }

    /// Registers a caller's memory for one call.
    pub(crate) fn lend(self: &Arc<Self>, memory: Memory) -> Result<Lease, Status> {
        let free = self.lock();
        let buffer = self.make(memory)?;
        drop(free);
        Ok(Lease {
            buffer: Some(buffer),
            pool: self.clone(),
            unanswered: 0,
        })
    }

    /// To be called under the lock, see [`Pool`].
    fn make(&self, memory: Memory) -> Result<Buffer, Status> {
        let rights = match &memory {
            Memory::Shared(_) => FABRIC_LOCAL | FABRIC_REMOTE_READ,
            _ => FABRIC_LOCAL | FABRIC_REMOTE_READ | FABRIC_REMOTE_WRITE,
        };
        let len = memory.len();
        // SAFETY: the memory outlives its registration (see `Buffer`); this process touches it only
        // by copying, never through references, but for shared memory, which nobody writes.
        let registration =
            unsafe { self.domain.register(memory.as_ptr(), len, rights) }.map_err(|error| {
                tracing::error!(%error, len, "cannot register memory with the fabric");
                error.status
            })?;
        Ok(Buffer {
            registration,
            memory,
        })
    }

    /// Whether messages, too, must be in registered memory.
    pub(crate) fn wants_messages(&self) -> bool {
        self.domain.info().flags & FabricInfo::LOCAL_REGISTRATION != 0
    }

    /// Memory for one message of up to `len` bytes.
    pub(crate) fn message(self: &Arc<Self>, len: usize) -> Result<Message, Error> {
        let block = Block::new(len);
        let registration = if self.wants_messages() {
            let _one = self.lock();
            // SAFETY: the block outlives its registration (see `Message`); this process touches it only
            // by copying, never through references.
            let registered = unsafe {
                self.domain
                    .register(block.as_ptr(), block.len(), FABRIC_LOCAL)
            };
            Some(registered?)
        } else {
            None
        };
        Ok(Message {
            registration,
            block,
            pool: self.clone(),
        })
    }
}

/// Memory of a message that stays in its place as long as its slot; registered where the fabric wants
/// that of all memory. Peers have no rights to it.
pub(crate) struct Message {
    registration: Option<FabricMemory>,
    block: Block,
    pool: Arc<Pool>,
}

impl Message {
    /// First byte.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.block.as_ptr()
    }

    pub(crate) fn len(&self) -> usize {
        self.block.len()
    }

    /// What names the memory to the fabric; 0 where it need not be registered.
    pub(crate) fn descriptor(&self) -> u64 {
        self.registration
            .as_ref()
            .map_or(0, FabricMemory::descriptor)
    }

    /// See [`Block::fill`].
    pub(crate) fn fill(&mut self, data: &[u8]) {
        self.block.fill(data);
    }

    /// See [`Block::copy`].
    pub(crate) fn copy(&self, len: usize) -> Vec<u8> {
        self.block.copy(len)
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        if self.registration.is_some() {
            let _one = self.pool.lock(); // see `Pool`
            self.registration = None;
        }
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
            len: len.min(buffer.memory.len()) as u64,
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.buffer().memory.len()
    }

    /// Panics if the memory is a caller's: that has its content already.
    pub(crate) fn fill(&mut self, data: &[u8]) {
        match self.buffer.as_mut().map(|buffer| &mut buffer.memory) {
            Some(Memory::Block(block)) => block.fill(data),
            _ => panic!("only memory of the pool is filled"),
        }
    }

    /// The first `len` bytes: a copy, or the caller's own memory, which nobody can reach any more then.
    /// Panics if there are fewer.
    pub(crate) fn into_bytes(mut self, len: usize) -> Vec<u8> {
        if let Some(lent) = self.take_back() {
            let mut vec = lent.back();
            assert!(len <= vec.len(), "the vector has these bytes");
            vec.truncate(len);
            return vec;
        }
        self.copy(len)
    }

    /// A copy of the first `len` bytes. Panics if there are fewer, or if the memory is a caller's vector:
    /// that is taken back instead.
    pub(crate) fn copy(&self, len: usize) -> Vec<u8> {
        match &self.buffer().memory {
            Memory::Block(block) => block.copy(len),
            Memory::Shared(bytes) => bytes[..len].to_vec(),
            Memory::Vec(_) => panic!("a caller's vector is taken back, not copied"),
        }
    }

    /// Ends the registration of a caller's vector; `None` if it is other memory.
    fn take_back(&mut self) -> Option<LentVec> {
        match self.buffer.take() {
            Some(Buffer {
                registration,
                memory: Memory::Vec(lent),
            }) => {
                let lock = self.pool.lock();
                drop(registration);
                drop(lock);
                Some(lent)
            }
            buffer => {
                self.buffer = buffer;
                None
            }
        }
    }

    /// Room for the next attempt of a get: an engine that still works on the first one may write to what
    /// that had named. A caller's memory is named anew, memory of the pool is exchanged.
    pub(crate) fn renew(mut self) -> Result<Self, Status> {
        let pool = self.pool.clone();
        match self.take_back() {
            Some(lent) => pool.lend(Memory::Vec(lent)),
            None => pool.take(self.capacity()),
        }
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
        let len = buffer.memory.len();
        let ours = matches!(buffer.memory, Memory::Block(_));
        if ours && self.unanswered == 0 && free.bytes + len <= KEPT {
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
