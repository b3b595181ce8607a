//! Traits of a block-device plugin; contracts of the functions stand beside the members of
//! [`BdevTable`](crate::abi::BdevTable).

use super::{CallContext, Error, Plugin, Result};
use crate::abi::{BdevEvent, BdevGeometry, Completion, Request, Status, Wait};
use crate::control::{DeviceRecord, DeviceSpec};
use serde_json::{Map, Value};

/// A plugin with block devices.
pub trait BdevPlugin: Plugin {
    /// An open device.
    type Device: Bdev;

    /// Opens a device exclusively.
    fn open(&self, call: CallContext<'_>, device: DeviceSpec) -> Result<Self::Device>;

    /// Allocates I/O memory, 2 MiB aligned; `None` = the host allocates and registers it.
    fn memory_alloc(
        &self,
        _call: CallContext<'_>,
        _len: usize,
        _numa_node: i32,
    ) -> Option<Result<*mut u8>> {
        None
    }

    /// Frees what `memory_alloc` gave.
    ///
    /// # Safety
    /// `ptr` and `len` are those of one `memory_alloc`; nothing uses the memory any more.
    unsafe fn memory_free(&self, _ptr: *mut u8, _len: usize) {}

    /// Takes note of host memory that I/O will use. It stays mapped until `memory_unregister`.
    fn memory_register(&self, _call: CallContext<'_>, _ptr: *mut u8, _len: usize) -> Result<()> {
        Ok(())
    }

    /// Forgets it again.
    fn memory_unregister(&self, _ptr: *mut u8, _len: usize) -> Result<()> {
        Ok(())
    }
}

/// An open block device; its functions are called from the admin thread.
pub trait Bdev: Send + Sync + 'static {
    /// A queue of it.
    type Queue: BdevQueue;

    /// What the device is like.
    fn geometry(&self) -> BdevGeometry;

    /// Opens a queue of `depth` requests, on the thread that will use it.
    fn open_queue(&self, call: CallContext<'_>, depth: u32) -> Result<Self::Queue>;

    /// Processes admin completions, timeouts, removals.
    fn poll_admin(&self) -> Result<(), Status> {
        Ok(())
    }

    /// Takes the oldest event.
    fn next_event(&self) -> Option<BdevEvent> {
        None
    }

    /// Resets the device; see the table.
    fn reset(&self, _call: CallContext<'_>) -> Result<()> {
        Err(Error::unsupported("reset"))
    }

    /// Who the device is.
    fn identity(&self, _call: CallContext<'_>) -> Result<DeviceRecord> {
        Err(Error::unsupported("identity"))
    }

    /// How the device is.
    fn health(&self, _call: CallContext<'_>) -> Result<Map<String, Value>> {
        Err(Error::unsupported("health"))
    }
}

/// A queue; opened, used and dropped by one thread. Dropping it aborts what is outstanding.
pub trait BdevQueue: 'static {
    /// Takes a prefix of `requests` and returns its length.
    ///
    /// # Safety
    /// The iovecs, memory and scratch that the requests name stay valid and untouched until
    /// their completion is polled or the queue is dropped.
    unsafe fn submit(&mut self, requests: &[Request]) -> Result<usize, Status>;

    /// Stores completions, returns how many.
    fn poll(&mut self, completions: &mut [Completion]) -> Result<usize, Status>;

    /// How the thread may sleep while something is outstanding.
    fn arm_wait(&mut self) -> Wait;

    /// Asks to abort an outstanding request.
    fn abort(&mut self, _tag: u64) -> Result<(), Status> {
        Err(Status::NOT_SUPPORTED)
    }

    /// Makes the queue usable after a reset.
    fn reconnect(&mut self) -> Result<(), Status> {
        Err(Status::NOT_SUPPORTED)
    }
}
