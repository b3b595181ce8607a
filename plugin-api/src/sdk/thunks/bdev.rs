//! Bdev data face and device administration.

use super::guard::{self, Object};
use crate::abi::{
    ABI_MINOR, BdevEvent, BdevGeometry, BdevTable, BdevTablePtr, CallPtr, Completion,
    DeviceAdminTable, DeviceAdminTablePtr, Handle, Request, Status, Str, Wait,
};
use crate::sdk::{Bdev, BdevPlugin, BdevQueue};
use std::marker::PhantomData;

/// Carrier of the bdev tables of plugin `P`.
pub struct BdevFace<P>(PhantomData<P>);

type Device<P> = <P as BdevPlugin>::Device;
type Queue<P> = <Device<P> as Bdev>::Queue;

impl<P: BdevPlugin> BdevFace<P> {
    /// The bdev table.
    pub const TABLE: BdevTablePtr = BdevTablePtr(
        &const {
            BdevTable {
                size: size_of::<BdevTable>() as u32,
                version: ABI_MINOR as u32,
                open: open::<P>,
                close: close::<P>,
                geometry: geometry::<P>,
                poll_admin: Some(poll_admin::<P>),
                next_event: Some(next_event::<P>),
                reset: Some(reset::<P>),
                open_queue: open_queue::<P>,
                close_queue: close_queue::<P>,
                submit: submit::<P>,
                poll: poll::<P>,
                abort: Some(abort::<P>),
                reconnect: Some(reconnect::<P>),
                arm_wait: arm_wait::<P>,
                memory_alloc: Some(memory_alloc::<P>),
                memory_free: Some(memory_free::<P>),
                memory_register: Some(memory_register::<P>),
                memory_unregister: Some(memory_unregister::<P>),
            }
        },
    );

    /// A handle of an open device, for [`BdevFace::TABLE`].
    #[cfg(feature = "host")]
    pub(crate) fn handle(device: P::Device) -> Handle {
        Object::into_handle(device)
    }

    /// The administration table of its devices.
    pub const DEVICE_ADMIN: DeviceAdminTablePtr = DeviceAdminTablePtr(
        &const {
            DeviceAdminTable {
                size: size_of::<DeviceAdminTable>() as u32,
                version: ABI_MINOR as u32,
                identity: Some(identity::<P>),
                health: Some(health::<P>),
            }
        },
    );
}

// In every function below: the host passes handles that the matching open function returned and
// that are not closed, on the threads that the table's documentation names, with pointers that are
// valid for the call. The SAFETY lines refer to this as "the host's contract".

unsafe extern "C" fn open<P: BdevPlugin>(
    plugin: Handle,
    call: CallPtr,
    request: Str,
    bdev: *mut Handle,
) -> Status {
    // SAFETY: the host's contract.
    unsafe {
        guard::control::<P>(plugin, call, "open", |p, context| {
            let device = p.open(context, guard::document(request)?)?;
            *bdev = Object::into_handle(device);
            Ok(())
        })
    }
}

unsafe extern "C" fn close<P: BdevPlugin>(bdev: Handle) {
    // SAFETY: the host's contract; `close` is the last call on the handle.
    unsafe { Object::<Device<P>>::drop_handle(bdev) }
}

unsafe extern "C" fn geometry<P: BdevPlugin>(bdev: Handle, out: *mut BdevGeometry) -> Status {
    // SAFETY: the host's contract.
    guard::status(unsafe {
        Object::<Device<P>>::with(
            bdev,
            |d| {
                *out = d.geometry();
                Ok(())
            },
            |_| Status::PANIC,
        )
    })
}

unsafe extern "C" fn poll_admin<P: BdevPlugin>(bdev: Handle) -> Status {
    // SAFETY: the host's contract.
    guard::status(unsafe { Object::<Device<P>>::with(bdev, |d| d.poll_admin(), |_| Status::PANIC) })
}

unsafe extern "C" fn next_event<P: BdevPlugin>(bdev: Handle, out: *mut BdevEvent) -> u8 {
    // SAFETY: the host's contract.
    let event = unsafe {
        Object::<Device<P>>::with(
            bdev,
            |d| d.next_event().ok_or(Status::AGAIN),
            |_| Status::PANIC,
        )
    };
    match event {
        Ok(event) => {
            // SAFETY: the host's contract.
            unsafe { *out = event };
            1
        }
        Err(_) => 0,
    }
}

unsafe extern "C" fn reset<P: BdevPlugin>(bdev: Handle, call: CallPtr) -> Status {
    // SAFETY: the host's contract.
    unsafe { guard::control::<Device<P>>(bdev, call, "reset", |d, context| d.reset(context)) }
}

unsafe extern "C" fn identity<P: BdevPlugin>(bdev: Handle, call: CallPtr) -> Status {
    // SAFETY: the host's contract.
    unsafe {
        guard::control::<Device<P>>(bdev, call, "identity", |d, context| {
            guard::answer(context, &d.identity(context)?)
        })
    }
}

unsafe extern "C" fn health<P: BdevPlugin>(bdev: Handle, call: CallPtr) -> Status {
    // SAFETY: the host's contract.
    unsafe {
        guard::control::<Device<P>>(bdev, call, "health", |d, context| {
            guard::answer(context, &d.health(context)?)
        })
    }
}

unsafe extern "C" fn open_queue<P: BdevPlugin>(
    bdev: Handle,
    call: CallPtr,
    depth: u32,
    queue: *mut Handle,
) -> Status {
    // SAFETY: the host's contract.
    unsafe {
        guard::control::<Device<P>>(bdev, call, "open_queue", |d, context| {
            *queue = Object::into_handle(d.open_queue(context, depth)?);
            Ok(())
        })
    }
}

unsafe extern "C" fn close_queue<P: BdevPlugin>(queue: Handle) {
    // SAFETY: the host's contract; `close_queue` is the last call on the handle.
    unsafe { Object::<Queue<P>>::drop_handle(queue) }
}

unsafe extern "C" fn submit<P: BdevPlugin>(
    queue: Handle,
    requests: *const Request,
    count: u32,
) -> i32 {
    if count == 0 {
        return 0;
    }
    // SAFETY: the host's contract, also for what the requests point to.
    unsafe {
        Object::<Queue<P>>::count_of(queue, |q| {
            q.submit(std::slice::from_raw_parts(requests, count as usize))
        })
    }
}

unsafe extern "C" fn poll<P: BdevPlugin>(
    queue: Handle,
    completions: *mut Completion,
    capacity: u32,
) -> i32 {
    if capacity == 0 {
        return 0;
    }
    // SAFETY: the host's contract; completions are plain records that the host initialised.
    unsafe {
        Object::<Queue<P>>::count_of(queue, |q| {
            q.poll(std::slice::from_raw_parts_mut(
                completions,
                capacity as usize,
            ))
        })
    }
}

unsafe extern "C" fn abort<P: BdevPlugin>(queue: Handle, tag: u64) -> Status {
    // SAFETY: the host's contract.
    guard::status(unsafe { Object::<Queue<P>>::with_mut(queue, |q| q.abort(tag)) })
}

unsafe extern "C" fn reconnect<P: BdevPlugin>(queue: Handle) -> Status {
    // SAFETY: the host's contract.
    guard::status(unsafe { Object::<Queue<P>>::with_mut(queue, |q| q.reconnect()) })
}

unsafe extern "C" fn arm_wait<P: BdevPlugin>(queue: Handle, out: *mut Wait) -> Status {
    // SAFETY: the host's contract.
    guard::status(unsafe {
        Object::<Queue<P>>::with_mut(queue, |q| {
            *out = q.arm_wait();
            Ok(())
        })
    })
}

unsafe extern "C" fn memory_alloc<P: BdevPlugin>(
    plugin: Handle,
    call: CallPtr,
    len: usize,
    numa_node: i32,
    out: *mut Handle,
) -> Status {
    // SAFETY: the host's contract.
    unsafe {
        guard::control::<P>(plugin, call, "memory_alloc", |p, context| {
            *out = match p.memory_alloc(context, len, numa_node) {
                None => std::ptr::null_mut(),
                Some(memory) => memory?.cast(),
            };
            Ok(())
        })
    }
}

unsafe extern "C" fn memory_free<P: BdevPlugin>(plugin: Handle, ptr: Handle, len: usize) {
    // SAFETY: the host's contract: pointer and length are those of one `memory_alloc`.
    let _ = unsafe {
        Object::<P>::with(
            plugin,
            |p| {
                p.memory_free(ptr.cast(), len);
                Ok::<(), Status>(())
            },
            |_| Status::PANIC,
        )
    };
}

unsafe extern "C" fn memory_register<P: BdevPlugin>(
    plugin: Handle,
    call: CallPtr,
    ptr: Handle,
    len: usize,
) -> Status {
    // SAFETY: the host's contract.
    unsafe {
        guard::control::<P>(plugin, call, "memory_register", |p, context| {
            p.memory_register(context, ptr.cast(), len)
        })
    }
}

unsafe extern "C" fn memory_unregister<P: BdevPlugin>(
    plugin: Handle,
    ptr: Handle,
    len: usize,
) -> Status {
    // SAFETY: the host's contract.
    guard::status(unsafe {
        Object::<P>::with(
            plugin,
            |p| p.memory_unregister(ptr.cast(), len).map_err(|e| e.status),
            |_| Status::PANIC,
        )
    })
}
