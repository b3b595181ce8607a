//! Data face of block devices.

use super::{CallPtr, Handle, Status, Str, Wait};
use abi_stable::StableAbi;

/// Operation of a [`Request`].
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, StableAbi)]
pub struct BdevOp(pub u8);

impl BdevOp {
    /// Device to memory.
    pub const READ: Self = Self(1);
    /// Memory to device; durable at completion only with [`Request::FUA`] or without a
    /// volatile cache.
    pub const WRITE: Self = Self(2);
    /// Makes every write completed before its submission durable. No range, no data.
    pub const FLUSH: Self = Self(3);
    /// Deallocates; contents afterwards are undefined until written.
    pub const UNMAP: Self = Self(4);
    /// The range reads as zeroes afterwards.
    pub const WRITE_ZEROES: Self = Self(5);
    /// Compares the range with memory: [`Status::MISCOMPARE`] if it differs.
    pub const COMPARE: Self = Self(6);
}

/// A piece of memory of a request. Frozen record.
#[repr(C)]
#[derive(Clone, Copy, Debug, StableAbi)]
pub struct IoVec {
    /// Start; aligned to [`BdevGeometry::buffer_alignment`].
    pub ptr: *mut u8,
    /// Bytes.
    pub len: usize,
}

/// One I/O. The iovec array, the memory it names and `scratch` belong to the plugin from
/// acceptance until the completion is polled. Frozen record.
#[repr(C)]
#[derive(Clone, Copy, Debug, StableAbi)]
pub struct Request {
    /// What to do.
    pub op: BdevOp,
    /// [`Request::FUA`].
    pub flags: u8,
    /// Zero.
    pub reserved: u16,
    /// Entries of `iov`; 0 for operations without data.
    pub iov_count: u32,
    /// First block.
    pub lba: u64,
    /// Number of blocks, at least 1 except for flush; the lengths in `iov` add up to it. Segments
    /// that are not whole blocks may be INVALID.
    pub blocks: u64,
    /// Memory of read, write and compare.
    pub iov: *const IoVec,
    /// Returned in the completion; unique among the outstanding requests of a queue.
    pub tag: u64,
    /// [`BdevGeometry::scratch_size`] bytes, aligned to 64, for the plugin's use; null if 0.
    pub scratch: *mut u8,
}

impl Request {
    /// Durable at completion, whatever the device caches.
    pub const FUA: u8 = 1;
}

/// Outcome of one request. Frozen record.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, StableAbi)]
pub struct Completion {
    /// Tag of the request.
    pub tag: u64,
    /// Outcome.
    pub status: Status,
    /// Zero.
    pub reserved: u32,
}

/// What the device is like; constant while it is open (a resize event announces a new size).
/// Frozen record.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, StableAbi)]
pub struct BdevGeometry {
    /// Bytes per block: a power of two, 512 to 65536.
    pub block_size: u32,
    /// Alignment of memory in bytes (power of two); 1 = none.
    pub buffer_alignment: u32,
    /// Number of blocks.
    pub block_count: u64,
    /// Most blocks of a read, write or compare; larger ones complete as INVALID.
    pub max_transfer_blocks: u32,
    /// Most iovec entries of a request.
    pub max_segments: u32,
    /// Blocks that a write changes atomically with respect to power failure; at least 1.
    pub atomic_write_blocks: u32,
    /// Best granularity of unmap in blocks; 0 = unmap not supported.
    pub deallocate_granularity: u32,
    /// Most queues open at once, by this process. Devices that are parts of one controller (NVMe
    /// namespaces) share them: the last ones opened may be refused with NO_MEMORY all the same.
    pub max_queues: u32,
    /// Most requests outstanding in a queue.
    pub max_queue_depth: u32,
    /// Bytes of host scratch per request; 0 = none.
    pub scratch_size: u32,
    /// NUMA node, -1 = unknown.
    pub numa_node: i32,
    /// Period at which the host calls `poll_admin`, in microseconds; 0 = never.
    pub admin_poll_us: u32,
    /// Zero.
    pub reserved: u32,
    /// `BdevGeometry::*` flags.
    pub flags: u64,
}

impl BdevGeometry {
    /// Writes without FUA may sit in a cache that a power failure empties: flush before relying
    /// on them.
    pub const VOLATILE_CACHE: u64 = 1;
    /// Write-zeroes is supported.
    pub const WRITE_ZEROES: u64 = 2;
    /// Compare is supported.
    pub const COMPARE: u64 = 4;
    /// Contents are gone once the process that opened the device ends.
    pub const EPHEMERAL: u64 = 8;
    /// The device refuses writes.
    pub const READ_ONLY: u64 = 16;
}

/// Something that happened to the device. Frozen record.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, StableAbi)]
pub struct BdevEvent {
    /// `BdevEvent::*` kind.
    pub kind: u32,
    /// Zero.
    pub reserved: u32,
    /// New block count for `RESIZED`, else 0.
    pub value: u64,
}

impl BdevEvent {
    /// The device is gone; outstanding requests complete with DEVICE_GONE. Close its queues and the
    /// device soon: the kernel may wait for that before it finishes the removal.
    pub const REMOVED: u32 = 1;
    /// The device has another size.
    pub const RESIZED: u32 = 2;
    /// Health became critical: move data away.
    pub const HEALTH_CRITICAL: u32 = 3;
    /// A reset begins: queues accept nothing until `reconnect`. A reset of one device may be a reset
    /// of others that share its controller: hosts act on this event, not on their own call.
    pub const RESET_BEGIN: u32 = 4;
    /// The reset is over: each queue's thread calls `reconnect`.
    pub const RESET_END: u32 = 5;
}

/// Functions of the bdev data face.
///
/// Threads: `open`, `close`, `reset`, `poll_admin`, `next_event` and the memory functions are
/// called from one admin thread at a time; a queue is opened, used and closed by one thread.
/// Queues are closed before their device, devices before the plugin.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = BdevTableRef, prefix_fields = BdevTablePrefix)))]
#[sabi(missing_field(option))]
pub struct BdevTable {
    /// Bytes of this struct that the plugin filled.
    pub size: u32,
    /// Interface minor version of the plugin.
    pub version: u32,
    /// Opens a device exclusively. `request` is the device's entry as `ControlTable::devices`
    /// listed it, with the class config.
    pub open: unsafe extern "C" fn(
        plugin: Handle,
        call: CallPtr,
        request: Str,
        bdev: *mut Handle,
    ) -> Status,
    /// Closes it; its queues are closed already.
    pub close: unsafe extern "C" fn(bdev: Handle),
    /// Fills `out`.
    pub geometry: unsafe extern "C" fn(bdev: Handle, out: *mut BdevGeometry) -> Status,
    /// Processes admin completions, timeouts and removals. Does not block.
    pub poll_admin: Option<unsafe extern "C" fn(bdev: Handle) -> Status>,
    /// Takes the oldest event; returns 1 if there was one, else 0.
    pub next_event: Option<unsafe extern "C" fn(bdev: Handle, out: *mut BdevEvent) -> u8>,
    /// Resets the device. Queues turn quiesced: each outstanding request completes exactly once
    /// (with its result or RESET), new ones are not accepted until `reconnect`.
    pub reset: Option<unsafe extern "C" fn(bdev: Handle, call: CallPtr) -> Status>,
    /// Opens a queue that takes up to `depth` outstanding requests; 0 and more than
    /// `max_queue_depth` are INVALID.
    pub open_queue:
        unsafe extern "C" fn(bdev: Handle, call: CallPtr, depth: u32, queue: *mut Handle) -> Status,
    /// Closes it. Outstanding requests are aborted: when this returns the device no longer
    /// touches their memory; they get no completion.
    pub close_queue: unsafe extern "C" fn(queue: Handle),
    /// Takes the first n of `count` requests and returns n; n < count means "full, poll first".
    /// A malformed request is taken and completes as INVALID, one that the geometry does not claim
    /// as NOT_SUPPORTED. Never blocks. A negative value is
    /// a negated [`Status`] and nothing was taken.
    pub submit: unsafe extern "C" fn(queue: Handle, requests: *const Request, count: u32) -> i32,
    /// Stores up to `capacity` completions, returns how many; negative as for `submit`.
    pub poll:
        unsafe extern "C" fn(queue: Handle, completions: *mut Completion, capacity: u32) -> i32,
    /// Asks to abort an outstanding request; it still completes exactly once (CANCELLED or its
    /// result). Memory stays with the device until then. NOT_FOUND if it is not outstanding.
    pub abort: Option<unsafe extern "C" fn(queue: Handle, tag: u64) -> Status>,
    /// Makes a quiesced queue usable again after a reset, on the queue's thread.
    pub reconnect: Option<unsafe extern "C" fn(queue: Handle) -> Status>,
    /// How the queue's thread may sleep while requests are outstanding.
    pub arm_wait: unsafe extern "C" fn(queue: Handle, out: *mut Wait) -> Status,
    /// Allocates I/O memory, 2 MiB aligned, near `numa_node` (-1 = any). A null member, or success
    /// with `out` null: the host allocates and offers it through `memory_register`.
    pub memory_alloc: Option<
        unsafe extern "C" fn(
            plugin: Handle,
            call: CallPtr,
            len: usize,
            numa_node: i32,
            out: *mut Handle,
        ) -> Status,
    >,
    /// Frees what `memory_alloc` gave.
    pub memory_free: Option<unsafe extern "C" fn(plugin: Handle, ptr: Handle, len: usize)>,
    /// Offers host memory (2 MiB aligned, multiple of 2 MiB) for I/O before queues are opened.
    /// I/O on memory never offered is allowed but may be slower, or INVALID if the device
    /// cannot reach it. Null member: registration brings nothing.
    pub memory_register: Option<
        unsafe extern "C" fn(plugin: Handle, call: CallPtr, ptr: Handle, len: usize) -> Status,
    >,
    /// Takes the offer back; no queue that could use it is open.
    #[sabi(last_prefix_field)]
    pub memory_unregister:
        Option<unsafe extern "C" fn(plugin: Handle, ptr: Handle, len: usize) -> Status>,
}

// SAFETY: function pointers only.
unsafe impl Send for BdevTable {}
// SAFETY: as above.
unsafe impl Sync for BdevTable {}
