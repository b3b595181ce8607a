//! The trait of every plugin: life cycle and control face.

use super::{CallContext, Error, Host, Result};
use crate::abi::{BdevTablePtr, DeviceAdminTablePtr, FabricTablePtr, ScmTablePtr};
use crate::control::{
    ClassRequest, DeviceSpec, FormatReport, FormatRequest, QuiesceReport, ScanReport,
};
use serde_json::{Map, Value};

/// A plugin. Everything but `create` and the manifest has a default that refuses.
///
/// Control functions are called from one thread at a time, normally in a helper process of the
/// plugin's own; `create` and the thread hooks also in the engine.
pub trait Plugin: Faces + Send + Sync + Sized + 'static {
    /// The manifest (JSON of [`Manifest`](crate::control::Manifest)), usually
    /// `include_str!("../manifest.json")`.
    const MANIFEST: &'static str;

    /// Makes the instance. Touches no device. `settings` is the plugin's free-form part of the
    /// config.
    fn create(host: Host, call: CallContext<'_>, settings: Map<String, Value>) -> Result<Self>;

    /// Called on each thread before it uses a queue or endpoint of this plugin.
    fn thread_attach(&self) -> Result<()> {
        Ok(())
    }

    /// Undoes `thread_attach`, on the same thread.
    fn thread_detach(&self) {}

    /// Checks a class config beyond its schema; touches no device.
    fn validate(&self, _call: CallContext<'_>, _request: ClassRequest) -> Result<()> {
        Ok(())
    }

    /// Lists what this plugin could drive on this machine. Reads only.
    fn scan(&self, _call: CallContext<'_>) -> Result<ScanReport> {
        Err(Error::unsupported("scan"))
    }

    /// Makes devices ready for use. Request and answer are the class's own documents.
    fn prepare(&self, _call: CallContext<'_>, _request: Map<String, Value>) -> Result<Value> {
        Err(Error::unsupported("prepare"))
    }

    /// Undoes `prepare`.
    fn release(&self, _call: CallContext<'_>, _request: Map<String, Value>) -> Result<Value> {
        Err(Error::unsupported("release"))
    }

    /// Lists the devices of a class config in engine order, with their state. Reads only.
    fn devices(&self, _call: CallContext<'_>, _request: ClassRequest) -> Result<Vec<DeviceSpec>> {
        Err(Error::unsupported("devices"))
    }

    /// Makes a device ready to be labelled. Destructive; guards are checked first.
    fn format(&self, _call: CallContext<'_>, _request: FormatRequest) -> Result<FormatReport> {
        Err(Error::unsupported("format"))
    }

    /// SCM: makes formatted storage available (mounts it). NOT_FOUND if it is not formatted.
    fn mount(&self, _call: CallContext<'_>, _device: DeviceSpec) -> Result<()> {
        Err(Error::unsupported("mount"))
    }

    /// SCM: undoes `mount`.
    fn unmount(&self, _call: CallContext<'_>, _device: DeviceSpec) -> Result<()> {
        Err(Error::unsupported("unmount"))
    }

    /// Health of a device no engine holds.
    fn health(&self, _call: CallContext<'_>, _device: DeviceSpec) -> Result<Map<String, Value>> {
        Err(Error::unsupported("health"))
    }

    /// Firmware query or update of a device no engine holds. The request is a
    /// [`FirmwareRequest`](crate::control::FirmwareRequest), the answer a
    /// [`FirmwareReport`](crate::control::FirmwareReport). Refuses with BUSY what somebody holds, and with INVALID,
    /// before anything is sent, what is not as the request expects; reports progress, and heeds cancellation until the
    /// image is committed.
    fn firmware(&self, _call: CallContext<'_>, _request: Map<String, Value>) -> Result<Value> {
        Err(Error::unsupported("firmware"))
    }

    /// Brings a block device to rest whose user has died; see the table. Without it, the end of a process has to
    /// be the end of its I/O.
    fn quiesce(&self, _call: CallContext<'_>, _device: DeviceSpec) -> Result<QuiesceReport> {
        Err(Error::unsupported("quiesce"))
    }
}

/// Which data faces a plugin has; implemented by [`declare_plugin!`](crate::declare_plugin).
pub trait Faces {
    /// Table of the bdev face, or null.
    const BDEV: BdevTablePtr = BdevTablePtr::NULL;
    /// Table of device administration, or null.
    const DEVICE_ADMIN: DeviceAdminTablePtr = DeviceAdminTablePtr::NULL;
    /// Table of the SCM face, or null.
    const SCM: ScmTablePtr = ScmTablePtr::NULL;
    /// Table of the fabric face, or null.
    const FABRIC: FabricTablePtr = FabricTablePtr::NULL;
}
