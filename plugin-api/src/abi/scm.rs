//! Data face of storage-class memory.

use super::{CallPtr, Handle, Sink, Status, Str};
use abi_stable::StableAbi;

/// A mapped region. Frozen record.
#[repr(C)]
#[derive(Clone, Copy, Debug, StableAbi)]
pub struct ScmRegion {
    /// The plugin's handle of it.
    pub handle: Handle,
    /// First byte, page aligned; stays where it is until the region is closed.
    pub ptr: *mut u8,
    /// Bytes: what was asked for, rounded up to pages.
    pub len: usize,
}

/// What the memory is like. Frozen record.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, StableAbi)]
pub struct ScmInfo {
    /// Bytes in all.
    pub total: u64,
    /// Bytes still free for regions and files.
    pub available: u64,
    /// Granularity of `persist` in bytes (power of two): a crash keeps or loses whole units.
    pub persist_granularity: u32,
    /// NUMA node, -1 = unknown.
    pub numa_node: i32,
    /// `ScmInfo::*` flags.
    pub flags: u64,
}

impl ScmInfo {
    /// Contents do not survive a reboot (a killed process they do).
    pub const EPHEMERAL: u64 = 1;
    /// Direct access to persistent memory: stores reach the medium without a page cache.
    pub const DAX: u64 = 2;
}

/// Flags of [`ScmTable::open_region`].
pub const SCM_CREATE: u32 = 1;

/// Functions of the SCM data face. `open`, `close` and the region functions are called from one
/// thread at a time; `persist`, `flush` and `drain` from any thread on disjoint ranges.
///
/// SCM is never a target of remote memory access. `open_region` allocates everything up front,
/// so that a full file system is NO_SPACE there and never a signal later.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = ScmTableRef, prefix_fields = ScmTablePrefix)))]
#[sabi(missing_field(option))]
pub struct ScmTable {
    /// Bytes of this struct that the plugin filled.
    pub size: u32,
    /// Interface minor version of the plugin.
    pub version: u32,
    /// Opens formatted, mounted storage; `request` is its entry as `ControlTable::devices` listed
    /// it, with the class config.
    pub open: unsafe extern "C" fn(
        plugin: Handle,
        call: CallPtr,
        request: Str,
        scm: *mut Handle,
    ) -> Status,
    /// Closes it; its regions are closed already.
    pub close: unsafe extern "C" fn(scm: Handle),
    /// Fills `out`.
    pub info: unsafe extern "C" fn(scm: Handle, out: *mut ScmInfo) -> Status,
    /// Writes the absolute path of a directory for files on this memory.
    pub mount_point: unsafe extern "C" fn(scm: Handle, out: Sink) -> Status,
    /// Maps the region `name` (1 to 64 of `[A-Za-z0-9._-]`, not `.` or `..`). With [`SCM_CREATE`] it must not exist
    /// and is made of `len` zero bytes, else it must exist and `len` is ignored.
    pub open_region: unsafe extern "C" fn(
        scm: Handle,
        call: CallPtr,
        name: Str,
        len: u64,
        flags: u32,
        out: *mut ScmRegion,
    ) -> Status,
    /// Unmaps; contents stay.
    pub close_region: unsafe extern "C" fn(scm: Handle, region: Handle),
    /// Deletes a region that is not open.
    pub remove_region: unsafe extern "C" fn(scm: Handle, call: CallPtr, name: Str) -> Status,
    /// Makes the range durable before it returns: `flush` and `drain` in one.
    pub persist: unsafe extern "C" fn(scm: Handle, ptr: *const u8, len: usize) -> Status,
    /// Starts writing the range back; durable after the next `drain` of the same thread.
    pub flush: unsafe extern "C" fn(scm: Handle, ptr: *const u8, len: usize) -> Status,
    /// Waits for all `flush`es of this thread.
    #[sabi(last_prefix_field)]
    pub drain: unsafe extern "C" fn(scm: Handle) -> Status,
}

// SAFETY: function pointers only.
unsafe impl Send for ScmTable {}
// SAFETY: as above.
unsafe impl Sync for ScmTable {}
