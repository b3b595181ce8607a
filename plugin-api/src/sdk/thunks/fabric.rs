//! Fabric data face.

use super::guard::{self, Object};
use crate::abi::{
    ABI_MINOR, CallPtr, FabricCompletion, FabricInfo, FabricRequest, FabricTable, FabricTablePtr,
    Handle, MemoryRegion, Sink, Status, Str, Wait,
};
use crate::sdk::{FabricDomain, FabricEndpoint, FabricPlugin};
use std::marker::PhantomData;

/// Carrier of the fabric table of plugin `P`.
pub struct FabricFace<P>(PhantomData<P>);

type Domain<P> = <P as FabricPlugin>::Domain;
type Endpoint<P> = <Domain<P> as FabricDomain>::Endpoint;
type RegionOf<P> = <Domain<P> as FabricDomain>::Region;

impl<P: FabricPlugin> FabricFace<P> {
    /// The fabric table.
    pub const TABLE: FabricTablePtr = FabricTablePtr(
        &const {
            FabricTable {
                size: size_of::<FabricTable>() as u32,
                version: ABI_MINOR as u32,
                open: open::<P>,
                close: close::<P>,
                info: info::<P>,
                register: register::<P>,
                unregister: unregister::<P>,
                open_endpoint: open_endpoint::<P>,
                close_endpoint: close_endpoint::<P>,
                address: address::<P>,
                resolve: resolve::<P>,
                release: release::<P>,
                submit: submit::<P>,
                poll: poll::<P>,
                cancel: cancel::<P>,
                arm_wait: arm_wait::<P>,
            }
        },
    );
}

// "The host's contract" below: live handles of the matching open function, on the threads that the
// table's documentation names, with pointers that are valid for the call.

unsafe extern "C" fn open<P: FabricPlugin>(
    plugin: Handle,
    call: CallPtr,
    request: Str,
    domain: *mut Handle,
) -> Status {
    // SAFETY: the host's contract.
    unsafe {
        guard::control::<P>(plugin, call, "open", |p, context| {
            *domain = Object::into_handle(p.open(context, guard::document(request)?)?);
            Ok(())
        })
    }
}

unsafe extern "C" fn close<P: FabricPlugin>(domain: Handle) {
    // SAFETY: the host's contract; `close` is the last call on the handle.
    unsafe { Object::<Domain<P>>::drop_handle(domain) }
}

unsafe extern "C" fn info<P: FabricPlugin>(domain: Handle, out: *mut FabricInfo) -> Status {
    // SAFETY: the host's contract.
    guard::status(unsafe {
        Object::<Domain<P>>::with(
            domain,
            |d| {
                *out = d.info();
                Ok(())
            },
            |_| Status::PANIC,
        )
    })
}

unsafe extern "C" fn register<P: FabricPlugin>(
    domain: Handle,
    call: CallPtr,
    ptr: *mut u8,
    len: usize,
    access: u32,
    out: *mut MemoryRegion,
) -> Status {
    // SAFETY: the host's contract.
    unsafe {
        guard::control::<Domain<P>>(domain, call, "register", |d, _| {
            let registration = d.register(ptr, len, access)?;
            *out = MemoryRegion {
                handle: Object::into_handle(registration.region),
                descriptor: registration.descriptor,
                key: registration.key,
                base: registration.base,
            };
            Ok(())
        })
    }
}

unsafe extern "C" fn unregister<P: FabricPlugin>(_domain: Handle, region: Handle) -> Status {
    // SAFETY: the host's contract; this is the last call on the region.
    unsafe { Object::<RegionOf<P>>::drop_handle(region) };
    Status::OK
}

unsafe extern "C" fn open_endpoint<P: FabricPlugin>(
    domain: Handle,
    call: CallPtr,
    endpoint: *mut Handle,
) -> Status {
    // SAFETY: the host's contract.
    unsafe {
        guard::control::<Domain<P>>(domain, call, "open_endpoint", |d, context| {
            *endpoint = Object::into_handle(d.open_endpoint(context)?);
            Ok(())
        })
    }
}

unsafe extern "C" fn close_endpoint<P: FabricPlugin>(endpoint: Handle) {
    // SAFETY: the host's contract; this is the last call on the handle.
    unsafe { Object::<Endpoint<P>>::drop_handle(endpoint) }
}

unsafe extern "C" fn address<P: FabricPlugin>(endpoint: Handle, out: Sink) -> Status {
    // SAFETY: the host's contract.
    guard::status(unsafe {
        Object::<Endpoint<P>>::with_mut(endpoint, |e| {
            let address = e.address();
            (out.write)(out.ctx, address.as_ptr(), address.len());
            Ok(())
        })
    })
}

unsafe extern "C" fn resolve<P: FabricPlugin>(
    endpoint: Handle,
    address: *const u8,
    len: usize,
    peer: *mut u64,
) -> Status {
    // SAFETY: the host's contract.
    guard::status(unsafe {
        Object::<Endpoint<P>>::with_mut(endpoint, |e| {
            if len == 0 {
                return Err(Status::INVALID);
            }
            *peer = e.resolve(std::slice::from_raw_parts(address, len))?;
            Ok(())
        })
    })
}

unsafe extern "C" fn release<P: FabricPlugin>(endpoint: Handle, peer: u64) -> Status {
    // SAFETY: the host's contract.
    guard::status(unsafe { Object::<Endpoint<P>>::with_mut(endpoint, |e| e.release(peer)) })
}

unsafe extern "C" fn submit<P: FabricPlugin>(
    endpoint: Handle,
    requests: *const FabricRequest,
    count: u32,
) -> i32 {
    if count == 0 {
        return 0;
    }
    // SAFETY: the host's contract, also for what the requests point to.
    unsafe {
        Object::<Endpoint<P>>::count_of(endpoint, |e| {
            e.submit(std::slice::from_raw_parts(requests, count as usize))
        })
    }
}

unsafe extern "C" fn poll<P: FabricPlugin>(
    endpoint: Handle,
    completions: *mut FabricCompletion,
    capacity: u32,
) -> i32 {
    if capacity == 0 {
        return 0;
    }
    // SAFETY: the host's contract; completions are plain records that the host initialised.
    unsafe {
        Object::<Endpoint<P>>::count_of(endpoint, |e| {
            e.poll(std::slice::from_raw_parts_mut(
                completions,
                capacity as usize,
            ))
        })
    }
}

unsafe extern "C" fn cancel<P: FabricPlugin>(endpoint: Handle, user: u64) -> Status {
    // SAFETY: the host's contract.
    guard::status(unsafe { Object::<Endpoint<P>>::with_mut(endpoint, |e| e.cancel(user)) })
}

unsafe extern "C" fn arm_wait<P: FabricPlugin>(endpoint: Handle, out: *mut Wait) -> Status {
    // SAFETY: the host's contract.
    guard::status(unsafe {
        Object::<Endpoint<P>>::with_mut(endpoint, |e| {
            *out = e.arm_wait();
            Ok(())
        })
    })
}
