//! Operations in the scratch memory that the host gives with each request: libfabric's context,
//! a copy of the request, and links, so that nothing is allocated per operation and every
//! outstanding one can be found again.

use super::peers::Place;
use crate::libfabric::{Endpoint, Errno, sys};
use daos_plugin_api::abi::{FabricCompletion, FabricOp, FabricRequest, Status};
use std::ffi::c_void;
use std::ptr::null_mut;

/// Bytes of scratch per operation.
pub(crate) const SCRATCH: usize = 192;

/// How far an operation got.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The provider would not take it yet.
    Deferred,
    /// The provider has it.
    Posted,
}

/// What an operation's scratch holds. The context comes first: libfabric hands its address back.
#[repr(C)]
pub(crate) struct Operation {
    context: sys::fi_context2,
    pub(crate) request: FabricRequest,
    /// The provider's number of the peer.
    pub(crate) peer: sys::fi_addr_t,
    /// The peer's entry; [`Place::NONE`] for receives.
    pub(crate) place: Place,
    pub(crate) stage: Stage,
    /// The host asked for its end.
    pub(crate) is_cancelled: bool,
    previous: *mut Operation,
    next: *mut Operation,
}

const _: () = assert!(size_of::<Operation>() <= SCRATCH && align_of::<Operation>() <= 64);

/// Whether a request came with scratch memory that can hold an operation.
#[inline]
pub(crate) fn has_scratch(request: &FabricRequest) -> bool {
    let scratch = request.scratch.cast::<Operation>();
    !scratch.is_null() && scratch.is_aligned()
}

/// Sends a message whose memory is free on return, without a completion.
///
/// # Safety
/// The request's memory is valid, and no longer than what the provider injects.
#[inline]
pub(crate) unsafe fn inject(
    request: &FabricRequest,
    peer: sys::fi_addr_t,
    endpoint: &Endpoint,
) -> Result<(), Errno> {
    let (ep, ptr) = (endpoint.raw(), request.ptr.cast());
    // SAFETY: the endpoint is open, and the caller for the memory.
    Errno::check(unsafe { sys::shim_tinject(ep, ptr, request.len, peer, request.tag) }).map(drop)
}

impl Operation {
    pub(crate) fn completion(&self, status: Status) -> FabricCompletion {
        completion_of(&self.request, status)
    }
}

/// A living operation: a pointer into scratch memory that the host left to the plugin.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Op(*mut Operation);

impl Op {
    /// Reads back the context of a completion; `None` for completions without one.
    ///
    /// # Safety
    /// `context` was given to libfabric with an operation that has not completed before.
    pub(crate) unsafe fn from_context(context: *mut c_void) -> Option<Self> {
        (!context.is_null()).then_some(Self(context.cast()))
    }

    pub(crate) fn get(&self) -> &Operation {
        // SAFETY: an `Op` exists between `Outstanding::add` and `Outstanding::remove`, while the
        // scratch belongs to the plugin; one thread uses an endpoint.
        unsafe { &*self.0 }
    }

    pub(crate) fn set_stage(self, stage: Stage) {
        // SAFETY: as for `get`; no reference is held across.
        unsafe { (*self.0).stage = stage }
    }

    /// Offers memory for a message.
    #[inline]
    pub(crate) fn post_receive(self, endpoint: &Endpoint) -> Result<(), Errno> {
        let request = &self.get().request;
        let (tag, ignore, len) = (request.tag, request.ignore, request.len);
        let (descriptor, context) = (request.descriptor as *mut c_void, self.0.cast());
        let (ep, ptr) = (endpoint.raw(), request.ptr.cast());
        // SAFETY: as in `post`.
        let result = unsafe {
            let any = sys::SHIM_ADDR_UNSPEC;
            sys::shim_trecv(ep, ptr, len, descriptor, any, tag, ignore, context)
        };
        Errno::check(result).map(drop)
    }

    /// Hands the transmission to the provider.
    pub(crate) fn post(self, endpoint: &Endpoint) -> Result<(), Errno> {
        let (request, peer) = (&self.get().request, self.get().peer);
        let (ep, ptr, len) = (endpoint.raw(), request.ptr.cast(), request.len);
        let (descriptor, context) = (request.descriptor as *mut c_void, self.0.cast());
        let (addr, key) = (request.remote_addr, request.remote_key);
        // SAFETY: the endpoint is open; memory, descriptor and scratch are valid until the
        // completion by the contract of `submit`.
        let result = unsafe {
            match request.op {
                FabricOp::SEND => {
                    sys::shim_tsend(ep, ptr, len, descriptor, peer, request.tag, context)
                }
                FabricOp::READ => {
                    sys::shim_read(ep, ptr, len, descriptor, peer, addr, key, context)
                }
                _ => sys::shim_write(ep, ptr, len, descriptor, peer, addr, key, context),
            }
        };
        Errno::check(result).map(drop)
    }

    /// Asks the provider to cancel it; many can only cancel receives.
    pub(crate) fn cancel(self, endpoint: &Endpoint) -> Result<(), Errno> {
        // SAFETY: as for `get`; no reference is held across.
        unsafe { (*self.0).is_cancelled = true }
        // SAFETY: the endpoint is open, the context is of an operation that it was given.
        Errno::check(unsafe { sys::shim_cancel(endpoint.raw(), self.0.cast()) }).map(drop)
    }
}

/// The outstanding operations of an endpoint, newest first.
pub(crate) struct Outstanding {
    first: *mut Operation,
}

impl Outstanding {
    pub(crate) fn new() -> Self {
        Self { first: null_mut() }
    }

    /// Puts an operation into its scratch.
    ///
    /// # Safety
    /// The request [`has_scratch`], which is at least [`SCRATCH`] bytes and the plugin's until the operation is removed.
    #[inline]
    pub(crate) unsafe fn add(
        &mut self,
        request: &FabricRequest,
        peer: sys::fi_addr_t,
        place: Place,
    ) -> Op {
        let scratch = request.scratch.cast::<Operation>();
        // SAFETY: the caller vouches for the scratch; `first` is a living operation or null.
        unsafe {
            scratch.write(Operation {
                context: sys::fi_context2::default(),
                request: *request,
                peer,
                place,
                stage: Stage::Posted,
                is_cancelled: false,
                previous: null_mut(),
                next: self.first,
            });
            if let Some(first) = self.first.as_mut() {
                first.previous = scratch;
            }
        }
        self.first = scratch;
        Op(scratch)
    }

    /// Takes an operation off the list, before its completion goes to the host.
    #[inline]
    pub(crate) fn remove(&mut self, op: Op) {
        let (previous, next) = (op.get().previous, op.get().next);
        // SAFETY: neighbours are living operations or null.
        unsafe {
            match previous.as_mut() {
                Some(previous) => previous.next = next,
                None => self.first = next,
            }
            if let Some(next) = next.as_mut() {
                next.previous = previous;
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Op> {
        let mut at = self.first;
        std::iter::from_fn(move || {
            let op = (!at.is_null()).then_some(Op(at))?;
            at = op.get().next;
            Some(op)
        })
    }
}

/// How an operation failed. For a transmission, an error without a meaning of its own says that
/// its peer cannot be reached: providers report EIO for a connection that was refused.
pub(crate) fn status_of(op: FabricOp, errno: Errno) -> Status {
    match errno.status() {
        Status::IO if op != FabricOp::RECV => Status::UNREACHABLE,
        status => status,
    }
}

/// The end of a request.
#[inline]
pub(crate) fn completion_of(request: &FabricRequest, status: Status) -> FabricCompletion {
    FabricCompletion {
        user: request.user,
        tag: 0,
        len: 0,
        status,
        op: request.op,
        reserved: [0; 3],
    }
}

/// An operation's name in messages.
pub(crate) fn name_of(op: FabricOp) -> &'static str {
    match op {
        FabricOp::SEND => "SEND",
        FabricOp::RECV => "RECV",
        FabricOp::READ => "READ",
        _ => "WRITE",
    }
}
