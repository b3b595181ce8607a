//! An open block device and its queues.

use super::call::CallOptions;
use super::crumb::{CallName, Label, inside};
use super::instance::{Instance, decode, encode};
use super::memory::PoolMemory;
use crate::abi::{
    BdevEvent, BdevGeometry, BdevOp, BdevTable, Completion, DeviceAdminTable, Handle, Request,
    Status, Str, Wait, WaitKind,
};
use crate::control::{DeviceRecord, DeviceSpec};
use crate::sdk::Error;
use serde_json::{Map, Value};
use std::marker::PhantomData;
use std::sync::Arc;

/// An open block device; clones share it. Functions other than `open_queue` and `geometry` are for
/// one admin thread at a time.
#[derive(Clone)]
pub struct BdevDevice {
    inner: Arc<Inner>,
}

struct Inner {
    instance: Instance,
    table: &'static BdevTable,
    /// `None` if the plugin has none.
    admin: Option<&'static DeviceAdminTable>,
    handle: Handle,
    geometry: BdevGeometry,
}

// SAFETY: device handles may be used from any thread, admin functions by one at a time (documented
// on `BdevDevice`).
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: the live handle of `open`; queues hold an `Arc` of this and are gone.
        self.instance.inside(CallName::Close, || unsafe {
            (self.table.close)(self.handle)
        });
    }
}

impl BdevDevice {
    pub(super) fn open(
        instance: &Instance,
        device: &DeviceSpec,
        options: CallOptions<'_>,
    ) -> Result<Self, Error> {
        let table = bdev_table(instance)?;
        let request = encode(device)?;
        let handle = instance.open(CallName::Open, options, |call, handle| {
            // SAFETY: live handle, call, request and out pointer.
            unsafe { (table.open)(instance.handle(), call, Str::new(&request), handle) }
        })?;
        let admin = instance.tables().device_admin;
        Self::assemble(instance, table, admin, handle, &device.address)
    }

    /// A device from its tables and an open handle, which is closed if it cannot be used.
    pub(super) fn assemble(
        instance: &Instance,
        table: &'static BdevTable,
        admin: Option<&'static DeviceAdminTable>,
        handle: Handle,
        name: &str,
    ) -> Result<Self, Error> {
        let mut inner = Inner {
            instance: instance.clone(),
            table,
            admin,
            handle,
            geometry: EMPTY_GEOMETRY,
        };
        let geometry = &mut inner.geometry;
        // SAFETY: live handle and out pointer.
        let status = instance.inside(CallName::Geometry, || unsafe {
            (table.geometry)(handle, geometry)
        });
        if !status.is_ok() {
            return Err(Error::new(
                status,
                format!("{name} does not tell its geometry (call geometry)"),
            ));
        }
        check_geometry(&inner.geometry).map_err(|what| {
            Error::new(
                Status::INTERNAL,
                format!("{name} reports an impossible geometry"),
            )
            .cause(what)
            .remedy("report this to the plugin's vendor")
        })?;
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// What the device is like.
    pub fn geometry(&self) -> &BdevGeometry {
        &self.inner.geometry
    }

    /// Bytes of the device.
    pub fn size(&self) -> u64 {
        self.inner.geometry.block_count * u64::from(self.inner.geometry.block_size)
    }

    /// The plugin's instance.
    pub fn instance(&self) -> &Instance {
        &self.inner.instance
    }

    /// Opens a queue on the calling thread.
    pub fn open_queue(&self, depth: u32, options: CallOptions<'_>) -> Result<BdevQueue, Error> {
        let table = self.inner.table;
        let handle = self
            .inner
            .instance
            .open(CallName::OpenQueue, options, |call, handle| {
                // SAFETY: live handle, call and out pointer.
                unsafe { (table.open_queue)(self.inner.handle, call, depth, handle) }
            })?;
        Ok(BdevQueue {
            device: self.clone(),
            label: self.inner.instance.label(),
            table,
            handle,
            _thread: PhantomData,
        })
    }

    /// Processes admin completions, timeouts, removals.
    pub fn poll_admin(&self) -> Result<(), Status> {
        match self.inner.table.poll_admin {
            // SAFETY: live handle.
            Some(poll) => check(
                self.inner
                    .instance
                    .inside(CallName::PollAdmin, || unsafe { poll(self.inner.handle) }),
            ),
            None => Ok(()),
        }
    }

    /// Takes the oldest event.
    pub fn next_event(&self) -> Option<BdevEvent> {
        let next = self.inner.table.next_event?;
        let mut event = BdevEvent {
            kind: 0,
            reserved: 0,
            value: 0,
        };
        // SAFETY: live handle and out pointer.
        let has = self.inner.instance.inside(CallName::NextEvent, || unsafe {
            next(self.inner.handle, &mut event)
        });
        (has != 0).then_some(event)
    }

    /// Resets the device.
    pub fn reset(&self, options: CallOptions<'_>) -> Result<(), Error> {
        let reset = self
            .inner
            .table
            .reset
            .ok_or_else(|| Error::unsupported("reset"))?;
        // SAFETY: live handle and call.
        self.inner
            .instance
            .call(options, CallName::Reset, |call| unsafe {
                reset(self.inner.handle, call)
            })
            .map(drop)
    }

    fn admin(&self) -> Option<&'static DeviceAdminTable> {
        self.inner.admin
    }

    /// Who the device is.
    pub fn identity(&self, options: CallOptions<'_>) -> Result<DeviceRecord, Error> {
        let function = self
            .admin()
            .and_then(|t| t.identity)
            .ok_or_else(|| Error::unsupported("identity"))?;
        // SAFETY: live handle and call.
        let bytes = self
            .inner
            .instance
            .call(options, CallName::Identity, |call| unsafe {
                function(self.inner.handle, call)
            })?;
        decode("identity", &String::from_utf8_lossy(&bytes))
    }

    /// How the device is.
    pub fn health(&self, options: CallOptions<'_>) -> Result<Map<String, Value>, Error> {
        let function = self
            .admin()
            .and_then(|t| t.health)
            .ok_or_else(|| Error::unsupported("health"))?;
        // SAFETY: live handle and call.
        let bytes = self
            .inner
            .instance
            .call(options, CallName::Health, |call| unsafe {
                function(self.inner.handle, call)
            })?;
        decode("health", &String::from_utf8_lossy(&bytes))
    }

    /// Allocates I/O memory for devices of this plugin.
    pub fn allocate(&self, len: usize) -> Result<PoolMemory, Error> {
        PoolMemory::allocate(&self.inner.instance, len, self.inner.geometry.numa_node)
    }
}

pub(super) fn bdev_table(instance: &Instance) -> Result<&'static BdevTable, Error> {
    instance.tables().bdev.ok_or_else(|| {
        Error::new(
            Status::NOT_SUPPORTED,
            format!("plugin {} has no bdev class", instance.manifest().name),
        )
    })
}

/// A queue of a block device, bound to the thread that opened it.
pub struct BdevQueue {
    device: BdevDevice,
    /// The instance's, at hand for `submit` and `poll`.
    label: Label,
    table: &'static BdevTable,
    handle: Handle,
    _thread: PhantomData<*mut ()>, // stays on its thread
}

impl BdevQueue {
    /// The device.
    pub fn device(&self) -> &BdevDevice {
        &self.device
    }

    /// Hands a prefix of `requests` to the device and returns its length; shorter than the slice
    /// means "full, poll first".
    ///
    /// # Safety
    /// The iovecs, memory and scratch that accepted requests name stay valid and untouched until
    /// their completion is polled or the queue is dropped.
    #[inline] // with `poll` what a caller does per request
    pub unsafe fn submit(&mut self, requests: &[Request]) -> Result<usize, Status> {
        let count = u32::try_from(requests.len()).unwrap_or(u32::MAX);
        // SAFETY: live handle; the caller vouches for the requests.
        counted(
            inside(self.label, CallName::Submit, || unsafe {
                (self.table.submit)(self.handle, requests.as_ptr(), count)
            }),
            requests.len(),
        )
    }

    /// Stores completions into `out`, returns how many.
    #[inline]
    pub fn poll(&mut self, out: &mut [Completion]) -> Result<usize, Status> {
        let capacity = u32::try_from(out.len()).unwrap_or(u32::MAX);
        // SAFETY: live handle; `out` is writable for `capacity` records.
        counted(
            inside(self.label, CallName::Poll, || unsafe {
                (self.table.poll)(self.handle, out.as_mut_ptr(), capacity)
            }),
            out.len(),
        )
    }

    /// How this thread may sleep while something is outstanding.
    pub fn arm_wait(&mut self) -> Result<Wait, Status> {
        let mut wait = Wait::BUSY;
        // SAFETY: live handle and out pointer.
        check(self.device.instance().inside(CallName::ArmWait, || unsafe {
            (self.table.arm_wait)(self.handle, &mut wait)
        }))?;
        possible(wait)
    }

    /// Asks to abort an outstanding request.
    pub fn abort(&mut self, tag: u64) -> Result<(), Status> {
        let abort = self.table.abort.ok_or(Status::NOT_SUPPORTED)?;
        // SAFETY: live handle.
        check(
            self.device
                .instance()
                .inside(CallName::Abort, || unsafe { abort(self.handle, tag) }),
        )
    }

    /// Makes the queue usable after a reset.
    pub fn reconnect(&mut self) -> Result<(), Status> {
        let reconnect = self.table.reconnect.ok_or(Status::NOT_SUPPORTED)?;
        // SAFETY: live handle.
        check(
            self.device
                .instance()
                .inside(CallName::Reconnect, || unsafe { reconnect(self.handle) }),
        )
    }
}

impl Drop for BdevQueue {
    fn drop(&mut self) {
        // SAFETY: the live handle of `open_queue`, on its thread.
        self.device
            .instance()
            .inside(CallName::CloseQueue, || unsafe {
                (self.table.close_queue)(self.handle)
            });
    }
}

pub(super) fn check(status: Status) -> Result<(), Status> {
    if status.is_ok() { Ok(()) } else { Err(status) }
}

/// Who slept as an impossible answer says might never wake.
pub(super) fn possible(wait: Wait) -> Result<Wait, Status> {
    let names_descriptor = wait.kind == WaitKind::FD && wait.fd >= 0;
    if names_descriptor || [WaitKind::BUSY, WaitKind::TIMER].contains(&wait.kind) {
        Ok(wait)
    } else {
        Err(Status::INTERNAL)
    }
}

/// Interprets the return value of submit and poll; more than was offered is nonsense.
#[inline]
pub(super) fn counted(value: i32, limit: usize) -> Result<usize, Status> {
    match usize::try_from(value) {
        Ok(n) if n <= limit => Ok(n),
        Ok(_) => Err(Status::INTERNAL),
        Err(_) => Err(Status(value.saturating_neg())),
    }
}

const EMPTY_GEOMETRY: BdevGeometry = BdevGeometry {
    block_size: 0,
    buffer_alignment: 0,
    block_count: 0,
    max_transfer_blocks: 0,
    max_segments: 0,
    atomic_write_blocks: 0,
    deallocate_granularity: 0,
    max_queues: 0,
    max_queue_depth: 0,
    scratch_size: 0,
    numa_node: -1,
    admin_poll_us: 0,
    reserved: 0,
    flags: 0,
};

fn check_geometry(g: &BdevGeometry) -> Result<(), String> {
    let fail = |what: &str, value: u64| Err(format!("{what} is {value}"));
    if !g.block_size.is_power_of_two() || !(512..=65536).contains(&g.block_size) {
        return fail("block_size", g.block_size.into());
    }
    if !g.buffer_alignment.is_power_of_two() || g.buffer_alignment > 2 << 20 {
        return fail("buffer_alignment", g.buffer_alignment.into());
    }
    if g.block_count
        .checked_mul(g.block_size.into())
        .is_none_or(|bytes| bytes == 0 || bytes > 1 << 62)
    {
        return fail("block_count", g.block_count);
    }
    for (what, value) in [
        ("max_transfer_blocks", g.max_transfer_blocks),
        ("max_segments", g.max_segments),
        ("atomic_write_blocks", g.atomic_write_blocks),
        ("max_queues", g.max_queues),
        ("max_queue_depth", g.max_queue_depth),
    ] {
        if value == 0 {
            return fail(what, 0);
        }
    }
    if g.scratch_size > 65536 {
        return fail("scratch_size", g.scratch_size.into());
    }
    Ok(())
}

impl BdevGeometry {
    /// Whether the device has `op`.
    pub fn supports(&self, op: BdevOp) -> bool {
        match op {
            BdevOp::READ | BdevOp::FLUSH => true,
            BdevOp::WRITE => self.flags & Self::READ_ONLY == 0,
            BdevOp::UNMAP => self.deallocate_granularity > 0,
            BdevOp::WRITE_ZEROES => self.flags & Self::WRITE_ZEROES != 0,
            BdevOp::COMPARE => self.flags & Self::COMPARE != 0,
            _ => false,
        }
    }
}
