//! The data faces of the bomb.

use super::{Bomb, Fuse};
use daos_plugin_api::abi::{
    BdevEvent, BdevGeometry, Completion, FabricCompletion, FabricInfo, FabricRequest, Request,
    ScmInfo, Status, Wait,
};
use daos_plugin_api::control::{DeviceRecord, DeviceSpec, FabricOpenRequest};
use daos_plugin_api::sdk::{
    Bdev, BdevPlugin, BdevQueue, CallContext, Error, FabricDomain, FabricEndpoint, FabricPlugin,
    Region, Registration, Result, Scm, ScmPlugin,
};
use serde_json::{Map, Value};
use std::path::Path;

/// Every object of the data faces: it has nothing but the fuse and the name of its destructor.
pub(crate) struct Object<const KIND: usize>(Fuse);

const CLOSE: [&str; 7] = [
    "bdev.close",
    "bdev.close_queue",
    "scm.close",
    "scm.close_region",
    "fabric.close",
    "fabric.unregister",
    "fabric.close_endpoint",
];
type Device = Object<0>;
type Queue = Object<1>;
type Memory = Object<2>;
type Mapped = Object<3>;
type Domain = Object<4>;
type Registered = Object<5>;
type Endpoint = Object<6>;

impl<const KIND: usize> Drop for Object<KIND> {
    fn drop(&mut self) {
        self.0.burn(CLOSE[KIND]);
    }
}

impl BdevPlugin for Bomb {
    type Device = Device;

    fn open(&self, _: CallContext<'_>, _: DeviceSpec) -> Result<Device> {
        self.fuse.burn("bdev.open");
        Ok(Object(self.fuse.clone()))
    }

    fn memory_alloc(&self, _: CallContext<'_>, _: usize, _: i32) -> Option<Result<*mut u8>> {
        self.fuse.burn("bdev.memory_alloc");
        None
    }

    unsafe fn memory_free(&self, _: *mut u8, _: usize) {
        self.fuse.burn("bdev.memory_free");
    }

    fn memory_register(&self, _: CallContext<'_>, _: *mut u8, _: usize) -> Result<()> {
        self.fuse.burn("bdev.memory_register");
        Ok(())
    }

    fn memory_unregister(&self, _: *mut u8, _: usize) -> Result<()> {
        self.fuse.burn("bdev.memory_unregister");
        Ok(())
    }
}

impl Bdev for Device {
    type Queue = Queue;

    fn geometry(&self) -> BdevGeometry {
        self.0.burn("bdev.geometry");
        // SAFETY: a record of integers.
        unsafe { std::mem::zeroed() }
    }

    fn open_queue(&self, _: CallContext<'_>, _: u32) -> Result<Queue> {
        self.0.burn("bdev.open_queue");
        Ok(Object(self.0.clone()))
    }

    fn poll_admin(&self) -> Result<(), Status> {
        self.0.burn("bdev.poll_admin");
        Ok(())
    }

    fn next_event(&self) -> Option<BdevEvent> {
        self.0.burn("bdev.next_event");
        Some(BdevEvent {
            kind: BdevEvent::RESIZED,
            reserved: 0,
            value: 1,
        })
    }

    fn reset(&self, _: CallContext<'_>) -> Result<()> {
        self.0.burn("bdev.reset");
        Ok(())
    }

    fn identity(&self, _: CallContext<'_>) -> Result<DeviceRecord> {
        self.0.burn("device_admin.identity");
        Err(Error::unsupported("identity"))
    }

    fn health(&self, _: CallContext<'_>) -> Result<Map<String, Value>> {
        self.0.burn("device_admin.health");
        Ok(Map::new())
    }
}

impl BdevQueue for Queue {
    unsafe fn submit(&mut self, _: &[Request]) -> Result<usize, Status> {
        self.0.burn("bdev.submit");
        Ok(0)
    }

    fn poll(&mut self, _: &mut [Completion]) -> Result<usize, Status> {
        self.0.burn("bdev.poll");
        Ok(0)
    }

    fn arm_wait(&mut self) -> Wait {
        self.0.burn("bdev.arm_wait");
        Wait::BUSY
    }

    fn abort(&mut self, _: u64) -> Result<(), Status> {
        self.0.burn("bdev.abort");
        Ok(())
    }

    fn reconnect(&mut self) -> Result<(), Status> {
        self.0.burn("bdev.reconnect");
        Ok(())
    }
}

impl ScmPlugin for Bomb {
    type Memory = Memory;

    fn open(&self, _: CallContext<'_>, _: DeviceSpec) -> Result<Memory> {
        self.fuse.burn("scm.open");
        Ok(Object(self.fuse.clone()))
    }
}

impl Scm for Memory {
    type Region = Mapped;

    fn info(&self) -> Result<ScmInfo, Status> {
        self.0.burn("scm.info");
        Err(Status::IO)
    }

    fn mount_point(&self) -> &Path {
        self.0.burn("scm.mount_point");
        Path::new("/")
    }

    fn open_region(&self, _: CallContext<'_>, _: &str) -> Result<Mapped> {
        self.0.burn("scm.open_region");
        Ok(Object(self.0.clone()))
    }

    fn create_region(&self, _: CallContext<'_>, _: &str, _: u64) -> Result<Mapped> {
        self.0.burn("scm.create_region");
        Ok(Object(self.0.clone()))
    }

    fn remove_region(&self, _: CallContext<'_>, _: &str) -> Result<()> {
        self.0.burn("scm.remove_region");
        Ok(())
    }

    fn flush(&self, _: *const u8, _: usize) -> Result<(), Status> {
        self.0.burn("scm.flush");
        Ok(())
    }

    fn drain(&self) -> Result<(), Status> {
        self.0.burn("scm.drain");
        Ok(())
    }

    fn persist(&self, _: *const u8, _: usize) -> Result<(), Status> {
        self.0.burn("scm.persist");
        Ok(())
    }
}

impl Region for Mapped {
    fn ptr(&self) -> *mut u8 {
        std::ptr::dangling_mut()
    }

    fn len(&self) -> usize {
        1
    }
}

impl FabricPlugin for Bomb {
    type Domain = Domain;

    fn open(&self, _: CallContext<'_>, _: FabricOpenRequest) -> Result<Domain> {
        self.fuse.burn("fabric.open");
        Ok(Object(self.fuse.clone()))
    }
}

impl FabricDomain for Domain {
    type Endpoint = Endpoint;
    type Region = Registered;

    fn info(&self) -> FabricInfo {
        self.0.burn("fabric.info");
        // SAFETY: a record of integers.
        unsafe { std::mem::zeroed() }
    }

    unsafe fn register(&self, _: *mut u8, _: usize, _: u32) -> Result<Registration<Registered>> {
        self.0.burn("fabric.register");
        Ok(Registration {
            region: Object(self.0.clone()),
            descriptor: 0,
            key: 0,
            base: 0,
        })
    }

    fn open_endpoint(&self, _: CallContext<'_>) -> Result<Endpoint> {
        self.0.burn("fabric.open_endpoint");
        Ok(Object(self.0.clone()))
    }
}

impl FabricEndpoint for Endpoint {
    fn address(&self) -> Vec<u8> {
        self.0.burn("fabric.address");
        vec![1]
    }

    fn resolve(&mut self, _: &[u8]) -> Result<u64, Status> {
        self.0.burn("fabric.resolve");
        Ok(1)
    }

    fn release(&mut self, _: u64) -> Result<(), Status> {
        self.0.burn("fabric.release");
        Ok(())
    }

    unsafe fn submit(&mut self, _: &[FabricRequest]) -> Result<usize, Status> {
        self.0.burn("fabric.submit");
        Ok(0)
    }

    fn poll(&mut self, _: &mut [FabricCompletion]) -> Result<usize, Status> {
        self.0.burn("fabric.poll");
        Ok(0)
    }

    fn cancel(&mut self, _: u64) -> Result<(), Status> {
        self.0.burn("fabric.cancel");
        Ok(())
    }

    fn arm_wait(&mut self) -> Wait {
        self.0.burn("fabric.arm_wait");
        Wait::BUSY
    }
}
