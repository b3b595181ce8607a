//! I/O memory of a target, handed out as buffers.
//!
//! A [`Buffer`] is a token: whoever holds it is the only one who touches its bytes. Modules that
//! hand memory to a device or to the fabric take the buffer and give it back when the device is
//! done with it, so nothing else can look at memory that a device may be writing.

use daos_plugin_api::abi::FABRIC_LOCAL;
use daos_plugin_api::host::{BdevDevice, FabricDomain, FabricMemory};
use daos_plugin_api::sdk::Error;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::any::Any;
use std::sync::Arc;

/// Memory with its registration; freed with the last buffer.
struct Backing {
    // Dropped in this order: the registration must end before the memory goes.
    registration: FabricMemory,
    _memory: Box<dyn Any + Send + Sync>,
}

/// Memory of this process, for those who have no block device to get it from.
struct Own {
    ptr: *mut u8,
    layout: Layout,
}

// SAFETY: memory has no thread, and this type gives no access to it.
unsafe impl Send for Own {}
// SAFETY: as above.
unsafe impl Sync for Own {}

impl Own {
    fn new(len: usize) -> Self {
        let layout = Layout::from_size_align(len.max(1), SMALL)
            .expect("buffers are far smaller than the address space");
        // SAFETY: the size is not zero.
        let ptr = unsafe { alloc_zeroed(layout) };
        if ptr.is_null() {
            handle_alloc_error(layout);
        }
        Self { ptr, layout }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.ptr, self.layout) };
    }
}

/// A piece of pool memory that belongs to whoever holds it.
pub struct Buffer {
    backing: Arc<Backing>,
    ptr: *mut u8,
    len: usize,
}

// SAFETY: a buffer is the only way to its bytes; the memory itself has no thread.
unsafe impl Send for Buffer {}

impl Buffer {
    /// First byte, aligned to the size of a small or a message buffer, whichever this one is at least
    /// as large as.
    pub fn ptr(&self) -> *mut u8 {
        self.ptr
    }

    /// Bytes.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.len
    }

    /// Local descriptor of the fabric registration.
    pub fn descriptor(&self) -> u64 {
        self.backing.registration.descriptor()
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: inside the pool memory that `backing` keeps, zeroed when allocated; the token is
        // unique and no device has the memory while it is here.
        unsafe { std::slice::from_raw_parts(self.ptr, self.len) }
    }

    /// The bytes, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `bytes`.
        unsafe { std::slice::from_raw_parts_mut(self.ptr, self.len) }
    }
}

/// Bytes of a message buffer.
pub const MESSAGE: usize = daos_wire::REQUEST_MAX;
/// Bytes of a small data buffer.
pub const SMALL: usize = 64 << 10;
/// Bytes of a large data buffer: what one request moves at most, and two chunks of an array - as much
/// as the neighbours of a write take that begins and ends inside of old entries, or an old entry
/// beside the rest of a read. So no request ever holds one buffer while it waits for another.
pub const LARGE: usize = (daos_wire::SINGLE_MAX + 2 * daos_wire::CHUNK) as usize;

const _: () = assert!(daos_wire::REPLY_MAX <= MESSAGE);
const _: () = assert!(LARGE.is_multiple_of(SMALL) && SMALL.is_multiple_of(MESSAGE));

/// How many buffers of each kind a target has.
#[derive(Clone, Copy, Debug)]
pub struct BufferCounts {
    /// Requests that may be outstanding.
    pub messages: usize,
    /// Transfers of up to 64 KiB at once.
    pub small: usize,
    /// Transfers of up to 1.25 MiB at once.
    pub large: usize,
}

impl BufferCounts {
    fn bytes(self) -> usize {
        self.large * LARGE + self.small * SMALL + self.messages * MESSAGE
    }
}

impl Default for BufferCounts {
    fn default() -> Self {
        Self {
            messages: 128,
            small: 32,
            large: 16,
        }
    }
}

/// Buffers of a target.
pub struct Buffers {
    /// For requests and their replies; taken once by the target.
    pub messages: Vec<Buffer>,
    small: Vec<Buffer>,
    large: Vec<Buffer>,
}

impl Buffers {
    /// Allocates the memory of one target from the class of `device` and registers it with the
    /// fabric. To be called from the thread that calls the domain's functions.
    ///
    /// # Errors
    /// What the plugins say.
    pub fn allocate(
        device: &BdevDevice,
        domain: &FabricDomain,
        counts: BufferCounts,
    ) -> Result<Self, Error> {
        let memory = device.allocate(counts.bytes())?;
        Self::cut(domain, memory.ptr(), memory.len(), Box::new(memory), counts)
    }

    /// The same from memory of this process.
    ///
    /// # Errors
    /// What the plugin says.
    pub fn of_process(domain: &FabricDomain, counts: BufferCounts) -> Result<Self, Error> {
        let memory = Own::new(counts.bytes());
        let len = memory.layout.size();
        Self::cut(domain, memory.ptr, len, Box::new(memory), counts)
    }

    /// Cuts the `len` bytes from `start` on, which are `memory`'s, into buffers.
    fn cut(
        domain: &FabricDomain,
        start: *mut u8,
        len: usize,
        memory: Box<dyn Any + Send + Sync>,
        counts: BufferCounts,
    ) -> Result<Self, Error> {
        // SAFETY: the memory is freed after the registration has ended (field order of `Backing`);
        // peers get no rights.
        let registration = unsafe { domain.register(start, len, FABRIC_LOCAL) }?;
        let backing = Arc::new(Backing {
            registration,
            _memory: memory,
        });
        let mut offset = 0;
        // The largest first, so that each is aligned: their sizes are multiples of the smaller ones'.
        let mut cut = |count: usize, len: usize| -> Vec<Buffer> {
            (0..count)
                .map(|_| {
                    let at = offset;
                    offset += len;
                    Buffer {
                        backing: Arc::clone(&backing),
                        ptr: start.wrapping_add(at),
                        len,
                    }
                })
                .collect()
        };
        let large = cut(counts.large, LARGE);
        let small = cut(counts.small, SMALL);
        let messages = cut(counts.messages, MESSAGE);
        Ok(Self {
            messages,
            small,
            large,
        })
    }

    /// Takes a data buffer for `len` bytes, up to [`LARGE`]; `None` if all are in use.
    pub fn take(&mut self, len: usize) -> Option<Buffer> {
        if len <= SMALL
            && let Some(buffer) = self.small.pop()
        {
            return Some(buffer);
        }
        (len <= LARGE).then(|| self.large.pop()).flatten()
    }

    /// Gives a data buffer back.
    pub fn put(&mut self, buffer: Buffer) {
        if buffer.len == SMALL {
            self.small.push(buffer);
        } else {
            self.large.push(buffer);
        }
    }
}

/// A cache line; plugins want their scratch aligned to it.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Scratch memory for requests: one piece per request slot, where it stays.
pub struct Scratch {
    lines: Box<[Line]>,
    per_slot: usize,
}

impl Scratch {
    /// Scratch of `size` bytes for each of `slots` requests.
    pub fn new(slots: usize, size: u32) -> Self {
        let per_slot = (size as usize).div_ceil(64);
        Self {
            lines: vec![Line([0; 64]); slots * per_slot].into_boxed_slice(),
            per_slot,
        }
    }

    /// The piece of a slot; null if requests have none.
    pub fn slot(&mut self, slot: usize) -> *mut u8 {
        if self.per_slot == 0 {
            return std::ptr::null_mut();
        }
        let lines = &mut self.lines[slot * self.per_slot..(slot + 1) * self.per_slot];
        lines.as_mut_ptr().cast()
    }
}
