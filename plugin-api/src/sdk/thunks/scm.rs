//! SCM data face.

use super::guard::{self, Object};
use crate::abi::{
    ABI_MINOR, CallPtr, Handle, SCM_CREATE, ScmInfo, ScmRegion, ScmTable, ScmTablePtr, Sink,
    Status, Str,
};
use crate::sdk::{Region, Scm, ScmPlugin};
use std::marker::PhantomData;
use std::os::unix::ffi::OsStrExt;

/// Carrier of the SCM table of plugin `P`.
pub struct ScmFace<P>(PhantomData<P>);

type Memory<P> = <P as ScmPlugin>::Memory;
type RegionOf<P> = <Memory<P> as Scm>::Region;

impl<P: ScmPlugin> ScmFace<P> {
    /// The SCM table.
    pub const TABLE: ScmTablePtr = ScmTablePtr(
        &const {
            ScmTable {
                size: size_of::<ScmTable>() as u32,
                version: ABI_MINOR as u32,
                open: open::<P>,
                close: close::<P>,
                info: info::<P>,
                mount_point: mount_point::<P>,
                open_region: open_region::<P>,
                close_region: close_region::<P>,
                remove_region: remove_region::<P>,
                persist: persist::<P>,
                flush: flush::<P>,
                drain: drain::<P>,
            }
        },
    );
}

// "The host's contract" below: live handles of the matching open function, on the threads that the
// table's documentation names, with pointers that are valid for the call.

unsafe extern "C" fn open<P: ScmPlugin>(
    plugin: Handle,
    call: CallPtr,
    request: Str,
    scm: *mut Handle,
) -> Status {
    // SAFETY: the host's contract.
    unsafe {
        guard::control::<P>(plugin, call, "open", |p, context| {
            *scm = Object::into_handle(p.open(context, guard::document(request)?)?);
            Ok(())
        })
    }
}

unsafe extern "C" fn close<P: ScmPlugin>(scm: Handle) {
    // SAFETY: the host's contract; `close` is the last call on the handle.
    unsafe { Object::<Memory<P>>::drop_handle(scm) }
}

unsafe extern "C" fn info<P: ScmPlugin>(scm: Handle, out: *mut ScmInfo) -> Status {
    // SAFETY: the host's contract.
    guard::status(unsafe {
        Object::<Memory<P>>::with(
            scm,
            |m| {
                *out = m.info()?;
                Ok(())
            },
            |_| Status::PANIC,
        )
    })
}

unsafe extern "C" fn mount_point<P: ScmPlugin>(scm: Handle, out: Sink) -> Status {
    // SAFETY: the host's contract.
    guard::status(unsafe {
        Object::<Memory<P>>::with(
            scm,
            |m| {
                let path = m.mount_point().as_os_str().as_bytes();
                (out.write)(out.ctx, path.as_ptr(), path.len());
                Ok(())
            },
            |_| Status::PANIC,
        )
    })
}

unsafe extern "C" fn open_region<P: ScmPlugin>(
    scm: Handle,
    call: CallPtr,
    name: Str,
    len: u64,
    flags: u32,
    out: *mut ScmRegion,
) -> Status {
    // SAFETY: the host's contract.
    unsafe {
        guard::control::<Memory<P>>(scm, call, "open_region", |m, context| {
            let name = guard::text(name)?;
            let region = if flags & SCM_CREATE != 0 {
                m.create_region(context, name, len)?
            } else {
                m.open_region(context, name)?
            };
            let (ptr, len) = (region.ptr(), region.len());
            *out = ScmRegion {
                handle: Object::into_handle(region),
                ptr,
                len,
            };
            Ok(())
        })
    }
}

unsafe extern "C" fn close_region<P: ScmPlugin>(_scm: Handle, region: Handle) {
    // SAFETY: the host's contract; this is the last call on the region.
    unsafe { Object::<RegionOf<P>>::drop_handle(region) }
}

unsafe extern "C" fn remove_region<P: ScmPlugin>(scm: Handle, call: CallPtr, name: Str) -> Status {
    // SAFETY: the host's contract.
    unsafe {
        guard::control::<Memory<P>>(scm, call, "remove_region", |m, context| {
            m.remove_region(context, guard::text(name)?)
        })
    }
}

unsafe extern "C" fn persist<P: ScmPlugin>(scm: Handle, ptr: *const u8, len: usize) -> Status {
    // SAFETY: the host's contract.
    unsafe { Object::<Memory<P>>::status_of(scm, |m| m.persist(ptr, len)) }
}

unsafe extern "C" fn flush<P: ScmPlugin>(scm: Handle, ptr: *const u8, len: usize) -> Status {
    // SAFETY: the host's contract.
    unsafe { Object::<Memory<P>>::status_of(scm, |m| m.flush(ptr, len)) }
}

unsafe extern "C" fn drain<P: ScmPlugin>(scm: Handle) -> Status {
    // SAFETY: the host's contract.
    unsafe { Object::<Memory<P>>::status_of(scm, |m| m.drain()) }
}
