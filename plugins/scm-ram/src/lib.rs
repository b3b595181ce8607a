//! SCM class `ram`: storage-class memory for machines that have none.
//!
//! * `manifest`: who the plugin is and what its config keys mean;
//! * `control`: format, mount, unmount, devices, scan;
//! * `data`: regions, which are files mapped into memory;
//! * `place`: what is at a mount point - nothing, ours, somebody else's;
//! * `nodes`: memory per NUMA node;
//! * `map`: the only unsafe code.
//!
//! With `CAP_SYS_ADMIN` the storage is a tmpfs of its own; without, a marked directory inside a
//! tmpfs that exists already (`/dev/shm/...`), where the size is enforced by the region
//! allocator alone. Contents survive processes, not reboots: a mount point without our marker is
//! lost storage, never silently made anew.

mod control;
mod data;
mod manifest;
mod map;
mod nodes;
mod place;

use daos_plugin_api::control::{ClassRequest, DeviceSpec, FormatReport, FormatRequest, ScanReport};
use daos_plugin_api::sdk::{CallContext, Host, Plugin, Result, ScmPlugin};
use serde_json::{Map, Value};

pub use data::{Mapping, Memory};

/// The plugin. It has no state of its own: everything is in the file system.
pub struct ScmRam;

daos_plugin_api::declare_plugin!(ScmRam, scm);

impl Plugin for ScmRam {
    const MANIFEST: &'static str = manifest::JSON;

    fn create(_: Host, _: CallContext<'_>, _: Map<String, Value>) -> Result<Self> {
        Ok(Self)
    }

    fn validate(&self, _: CallContext<'_>, request: ClassRequest) -> Result<()> {
        manifest::Settings::parse(&request.class, &request.config).map(drop)
    }

    fn scan(&self, _: CallContext<'_>) -> Result<ScanReport> {
        control::scan()
    }

    fn devices(&self, _: CallContext<'_>, request: ClassRequest) -> Result<Vec<DeviceSpec>> {
        control::devices(request).map(|device| vec![device])
    }

    fn format(&self, call: CallContext<'_>, request: FormatRequest) -> Result<FormatReport> {
        control::format(call, &request)
    }

    fn mount(&self, _: CallContext<'_>, device: DeviceSpec) -> Result<()> {
        control::mount(&device)
    }

    fn unmount(&self, _: CallContext<'_>, device: DeviceSpec) -> Result<()> {
        control::unmount(&device)
    }
}

impl ScmPlugin for ScmRam {
    type Memory = Memory;

    fn open(&self, _: CallContext<'_>, device: DeviceSpec) -> Result<Memory> {
        Memory::open(&device)
    }
}
