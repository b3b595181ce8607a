//! Data face of fabrics: tagged messages and remote memory access on RDM endpoints.

use super::{CallPtr, Handle, Sink, Status, Str, Wait};
use abi_stable::StableAbi;

/// Operation of a [`FabricRequest`].
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, StableAbi)]
pub struct FabricOp(pub u8);

impl FabricOp {
    /// Sends `len` bytes with `tag` to `peer`; complete when the memory may be reused, which does not
    /// mean that the peer has the message, or lives.
    pub const SEND: Self = Self(1);
    /// Offers memory for one incoming message whose tag matches `tag` outside `ignore`.
    pub const RECV: Self = Self(2);
    /// Reads remote memory into local memory.
    pub const READ: Self = Self(3);
    /// Writes local memory to remote memory; complete when the target memory has the data.
    pub const WRITE: Self = Self(4);
}

/// One operation. Memory and scratch belong to the plugin until the completion is polled.
/// Frozen record.
#[repr(C)]
#[derive(Clone, Copy, Debug, StableAbi)]
pub struct FabricRequest {
    /// What to do.
    pub op: FabricOp,
    /// Zero.
    pub reserved: [u8; 7],
    /// Peer as `resolve` numbered it; ignored by RECV (any sender).
    pub peer: u64,
    /// Tag of SEND and RECV.
    pub tag: u64,
    /// RECV: bits of the tag that do not matter.
    pub ignore: u64,
    /// Local memory.
    pub ptr: *mut u8,
    /// Bytes.
    pub len: usize,
    /// Local descriptor of the registration that contains the memory; 0 if not registered.
    pub descriptor: u64,
    /// READ, WRITE: remote address, i.e. the target's [`MemoryRegion::base`] plus offset.
    pub remote_addr: u64,
    /// READ, WRITE: the target's [`MemoryRegion::key`].
    pub remote_key: u64,
    /// Returned in the completion; unique among the outstanding operations of an endpoint.
    pub user: u64,
    /// [`FabricInfo::scratch_size`] bytes, aligned to 64, for the plugin's use; null if 0.
    pub scratch: *mut u8,
}

/// Outcome of one operation. Frozen record.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, StableAbi)]
pub struct FabricCompletion {
    /// From the request.
    pub user: u64,
    /// RECV: tag of the message.
    pub tag: u64,
    /// RECV: bytes received.
    pub len: u64,
    /// Outcome.
    pub status: Status,
    /// Operation of the request.
    pub op: FabricOp,
    /// Zero.
    pub reserved: [u8; 3],
}

impl FabricCompletion {
    /// The outcome of nothing: fills the room that `poll` is given.
    pub const EMPTY: Self = Self {
        user: 0,
        tag: 0,
        len: 0,
        status: Status::OK,
        op: FabricOp(0),
        reserved: [0; 3],
    };
}

/// A registration of memory. Frozen record.
#[repr(C)]
#[derive(Clone, Copy, Debug, StableAbi)]
pub struct MemoryRegion {
    /// The plugin's handle of it, for `unregister`.
    pub handle: Handle,
    /// For [`FabricRequest::descriptor`] of local operations; 0 where the provider needs none.
    pub descriptor: u64,
    /// For peers: [`FabricRequest::remote_key`].
    pub key: u64,
    /// For peers: remote address of the first byte (0 or the virtual address).
    pub base: u64,
}

/// Rights of a registration.
pub const FABRIC_LOCAL: u32 = 1;
/// Peers may read the memory.
pub const FABRIC_REMOTE_READ: u32 = 2;
/// Peers may write the memory.
pub const FABRIC_REMOTE_WRITE: u32 = 4;

/// What the domain is like; constant. Frozen record.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, StableAbi)]
pub struct FabricInfo {
    /// Most bytes of a message.
    pub max_message: u64,
    /// Most bytes of a READ or WRITE.
    pub max_rma: u64,
    /// Most bytes of an endpoint address.
    pub max_address: u32,
    /// Bytes of host scratch per operation; 0 = none.
    pub scratch_size: u32,
    /// Most endpoints of the domain.
    pub max_endpoints: u32,
    /// Most operations outstanding per endpoint and direction.
    pub max_outstanding: u32,
    /// Bits of a tag that are carried, counted from the lowest; at least 48.
    pub tag_bits: u32,
    /// NUMA node, -1 = unknown.
    pub numa_node: i32,
    /// `FabricInfo::*` flags.
    pub flags: u64,
}

impl FabricInfo {
    /// Local memory of every operation, SEND and RECV included, must be registered and named by its
    /// descriptor.
    pub const LOCAL_REGISTRATION: u64 = 1;
    /// Progress only happens inside `poll`: a target of RMA must poll too.
    pub const MANUAL_PROGRESS: u64 = 2;
    /// A remote access with a wrong key, outside of the registration or beyond its rights is refused
    /// and touches nothing. Without this flag peers must be trusted with the whole process.
    pub const CHECKS_ACCESS: u64 = 4;
    /// A refused access completes as ACCESS and the connection stays; else it
    /// completes as UNREACHABLE and a later operation connects again.
    pub const REPORTS_ACCESS: u64 = 8;
}

/// Functions of the fabric data face. Domain functions are called from one thread at a time, also
/// while endpoints are in use; an endpoint is opened, used and closed by one thread.
///
/// `submit` may be full for all peers or for none: a peer that is slow or not connected yet must not
/// make operations towards others wait. What happens to a remote access without the right to it,
/// [`FabricInfo::CHECKS_ACCESS`] and [`FabricInfo::REPORTS_ACCESS`] say.
///
/// Messages between two endpoints arrive in the order sent. A message that meets no matching
/// RECV is held by the plugin until one is offered. The sender is not reported: senders put
/// their address into their own header.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = FabricTableRef, prefix_fields = FabricTablePrefix)))]
#[sabi(missing_field(option))]
pub struct FabricTable {
    /// Bytes of this struct that the plugin filled.
    pub size: u32,
    /// Interface minor version of the plugin.
    pub version: u32,
    /// Opens a domain on an interface; `request` is `{"provider","interface","port","answers",...}`.
    pub open: unsafe extern "C" fn(
        plugin: Handle,
        call: CallPtr,
        request: Str,
        domain: *mut Handle,
    ) -> Status,
    /// Closes it; endpoints and registrations are gone already.
    pub close: unsafe extern "C" fn(domain: Handle),
    /// Fills `out`.
    pub info: unsafe extern "C" fn(domain: Handle, out: *mut FabricInfo) -> Status,
    /// Registers memory with rights `FABRIC_*`.
    pub register: unsafe extern "C" fn(
        domain: Handle,
        call: CallPtr,
        ptr: *mut u8,
        len: usize,
        access: u32,
        out: *mut MemoryRegion,
    ) -> Status,
    /// Ends a registration; when it returns, no peer can reach the memory any more.
    pub unregister: unsafe extern "C" fn(domain: Handle, region: Handle) -> Status,
    /// Opens an endpoint with a completion queue of its own.
    pub open_endpoint:
        unsafe extern "C" fn(domain: Handle, call: CallPtr, endpoint: *mut Handle) -> Status,
    /// Closes it; outstanding operations get no completion, their memory is free on return.
    pub close_endpoint: unsafe extern "C" fn(endpoint: Handle),
    /// Writes the endpoint's address: opaque bytes for `resolve` elsewhere.
    pub address: unsafe extern "C" fn(endpoint: Handle, out: Sink) -> Status,
    /// Numbers a peer for this endpoint. Idempotent per address; does not wait for the peer.
    pub resolve: unsafe extern "C" fn(
        endpoint: Handle,
        address: *const u8,
        len: usize,
        peer: *mut u64,
    ) -> Status,
    /// Forgets a peer; operations outstanding towards it complete as CANCELLED, UNREACHABLE or with
    /// their own result, when the provider lets go of them.
    pub release: unsafe extern "C" fn(endpoint: Handle, peer: u64) -> Status,
    /// Takes the first n of `count` operations and returns n; n < count means "full, poll first".
    /// Negative: a negated [`Status`], nothing taken. Never blocks.
    pub submit:
        unsafe extern "C" fn(endpoint: Handle, requests: *const FabricRequest, count: u32) -> i32,
    /// Makes progress and stores up to `capacity` completions, returns how many; negative as above.
    pub poll: unsafe extern "C" fn(
        endpoint: Handle,
        completions: *mut FabricCompletion,
        capacity: u32,
    ) -> i32,
    /// Asks to cancel an operation; it still completes exactly once. NOT_FOUND if it is not
    /// outstanding. A transmission may be past cancelling: its memory is free only with its
    /// completion, or with `close_endpoint`.
    pub cancel: unsafe extern "C" fn(endpoint: Handle, user: u64) -> Status,
    /// How the endpoint's thread may sleep. Includes the provider's "try wait" step: an answer
    /// other than BUSY means that nothing is pending that the descriptor would not announce.
    #[sabi(last_prefix_field)]
    pub arm_wait: unsafe extern "C" fn(endpoint: Handle, out: *mut Wait) -> Status,
}

// SAFETY: function pointers only.
unsafe impl Send for FabricTable {}
// SAFETY: as above.
unsafe impl Sync for FabricTable {}
