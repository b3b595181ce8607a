//! SCM class `dcpm`: persistent memory - Optane DC persistent memory modules, and any NVDIMM that the
//! kernel exposes - through ext4 with direct access (DAX).
//!
//! * `manifest`: who the plugin is, and what its config keys and settings mean;
//! * `control`: devices, format, mount, unmount; `storage`: what is there, `block`: what the kernel says
//!   about a device, `marker`: our mark on a directory, `ext4`: file system and mount;
//! * `data`: regions, which are files mapped into memory; `persist`: which lines are written back, and
//!   when the fence comes;
//! * [`prepare`]: regions and namespaces - made, destroyed, scanned - through `ipmctl` and `ndctl`;
//! * `cpu` and `map`: the instructions and the mappings, the unsafe code.
//!
//! `scm_list` names a namespace's block device, which is formatted and mounted as a whole; or a directory
//! of a file system that the site has mounted, of which `scm_size` may be taken. Where the kernel grants
//! no synchronous mappings (`MAP_SYNC`), stores are made durable with `msync`, and a warning says why.

mod block;
mod control;
mod cpu;
mod data;
mod ext4;
mod manifest;
mod map;
mod marker;
mod persist;
pub mod prepare;
mod storage;
#[cfg(all(test, target_arch = "x86_64"))]
mod traced;

use daos_plugin_api::abi::Status;
use daos_plugin_api::control::{ClassRequest, DeviceSpec, FormatReport, FormatRequest, ScanReport};
use daos_plugin_api::sdk::{CallContext, Error, Host, Plugin, Result, ScmPlugin};
use manifest::PluginSettings;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub use cpu::Instruction;
pub use data::{Mapping, Memory};
pub use persist::{Caches, Method};

/// The plugin. Its state is in the file system; here are its settings, and what it has read of modules a moment ago.
pub struct ScmDcpm {
    settings: PluginSettings,
    readings: prepare::Readings,
}

daos_plugin_api::declare_plugin!(ScmDcpm, scm);

impl Plugin for ScmDcpm {
    const MANIFEST: &'static str = manifest::JSON;

    fn create(_: Host, _: CallContext<'_>, settings: Map<String, Value>) -> Result<Self> {
        Ok(Self {
            settings: PluginSettings::parse(settings)?,
            readings: prepare::Readings::default(),
        })
    }

    fn validate(&self, _: CallContext<'_>, request: ClassRequest) -> Result<()> {
        manifest::Settings::parse(&request.class, &request.config).map(drop)
    }

    fn scan(&self, _: CallContext<'_>) -> Result<ScanReport> {
        prepare::scan()
    }

    fn prepare(&self, call: CallContext<'_>, request: Map<String, Value>) -> Result<Value> {
        self.readings.forget();
        with_documents("prepare memory", request, |request| {
            prepare::prepare(call, request)
        })
    }

    fn release(&self, call: CallContext<'_>, request: Map<String, Value>) -> Result<Value> {
        self.readings.forget();
        with_documents("reset memory", request, |request| {
            prepare::release(call, request)
        })
    }

    fn health(&self, _: CallContext<'_>, device: DeviceSpec) -> Result<Map<String, Value>> {
        let record = self.readings.health(&device.address)?;
        match document(&record)? {
            Value::Object(record) => Ok(record),
            _ => Err(Error::new(Status::INTERNAL, "health is no object")),
        }
    }

    fn firmware(&self, call: CallContext<'_>, request: Map<String, Value>) -> Result<Value> {
        self.readings.forget();
        with_documents("see or change firmware", request, |request| {
            prepare::firmware(call, request)
        })
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

impl ScmPlugin for ScmDcpm {
    type Memory = Memory;

    fn open(&self, _: CallContext<'_>, device: DeviceSpec) -> Result<Memory> {
        Memory::open(&device, self.settings)
    }
}

/// Reads a request, and writes its answer.
fn with_documents<T: DeserializeOwned, R: Serialize>(
    what: &str,
    request: Map<String, Value>,
    work: impl FnOnce(&T) -> Result<R>,
) -> Result<Value> {
    let request = serde_json::from_value(Value::Object(request)).map_err(|e| {
        let what = format!("the request to {what} is malformed");
        Error::new(Status::INVALID, what).cause(e.to_string())
    })?;
    document(&work(&request)?)
}

fn document(answer: &impl Serialize) -> Result<Value> {
    serde_json::to_value(answer).map_err(|e| {
        Error::new(Status::INTERNAL, "the answer cannot be written").cause(e.to_string())
    })
}
