//! Loads the plugin file through its C entry and makes an instance.

use daos_plugin_api::abi::{ABI_MAJOR, ABI_MINOR, LogLevel, PluginTable};
use daos_plugin_api::control::{DeviceSpec, DeviceState};
use daos_plugin_api::host::{BdevDevice, CallOptions, HostLog, Instance, InstanceOptions};
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, OnceLock};

/// Controllers of the emulated machine (tests/vm/bed/hardware.py).
pub(crate) const NVME_512: &str = "0000:41:00.0";
pub(crate) const NVME_MIXED: &str = "0000:42:00.0";
pub(crate) const NVME_4096: &str = "0000:81:00.0";

/// The loaded plugin.
pub(crate) struct Plugin {
    /// Open devices, by address: attaching a controller takes longer than most cases.
    devices: RefCell<HashMap<String, BdevDevice>>,
    pub(crate) instance: Instance,
}

struct Print;

impl HostLog for Print {
    fn level(&self) -> LogLevel {
        LogLevel::WARN
    }

    fn log(&self, level: LogLevel, target: &str, message: &str) {
        println!("       [{level:?} {target}] {message}");
    }
}

static FILE: OnceLock<String> = OnceLock::new();

/// Whether the plugin file says that its driver is SPDK of that version, as in "20.07".
pub(crate) fn is_on_spdk(version: &str) -> bool {
    let wanted = format!("SPDK v{version}");
    let file = FILE.get().and_then(|path| std::fs::read(path).ok());
    file.is_some_and(|bytes| {
        bytes
            .windows(wanted.len())
            .any(|window| window == wanted.as_bytes())
    })
}

/// Loads a plugin file for good and returns its table.
pub(crate) fn table(path: &str) -> Result<&'static PluginTable, String> {
    FILE.get_or_init(|| path.to_owned());
    // SAFETY: loading runs the constructors of the library, which is the one under test.
    let library = unsafe { libloading::Library::new(path) }.map_err(|e| {
        let cause = e.source().map(ToString::to_string).unwrap_or_default();
        format!("cannot load {path}: {e}: {cause}")
    })?;
    // Plugins are never unloaded.
    let library: &'static libloading::Library = Box::leak(Box::new(library));
    // SAFETY: the symbol has this type in every plugin.
    let entry: libloading::Symbol<'static, unsafe extern "C" fn(u16, u16) -> *const PluginTable> =
        unsafe { library.get(b"daos_plugin_entry_v1\0") }
            .map_err(|e| format!("{path} is no plugin: {e}"))?;
    // SAFETY: the entry returns null or a static table.
    unsafe { entry(ABI_MAJOR, ABI_MINOR).as_ref() }
        .ok_or_else(|| format!("{path} is not for interface {ABI_MAJOR}.{ABI_MINOR}"))
}

impl Plugin {
    pub(crate) fn new(
        table: &'static PluginTable,
        settings: Map<String, Value>,
    ) -> Result<Self, String> {
        let mut options = InstanceOptions::loaded().settings(settings);
        options.log = Some(Arc::new(Print));
        let instance = Instance::create(table, options).map_err(|e| e.to_string())?;
        Ok(Self {
            devices: RefCell::default(),
            instance,
        })
    }

    /// Opens a device by address.
    pub(crate) fn open(&self, address: &str) -> Result<BdevDevice, daos_plugin_api::sdk::Error> {
        let device = DeviceSpec {
            class: "nvme".to_owned(),
            index: 0,
            address: address.to_owned(),
            size: 0,
            state: DeviceState::Present,
            detail: String::new(),
            config: Map::new(),
        };
        self.instance.open_bdev(&device, CallOptions::default())
    }

    /// The device at an address; stays open for the cases that follow.
    pub(crate) fn device(&self, address: &str) -> Result<BdevDevice, String> {
        let mut devices = self.devices.borrow_mut();
        if let Some(device) = devices.get(address) {
            // What an earlier case left unread is none of this one's business.
            while device.next_event().is_some() {}
            return Ok(device.clone());
        }
        let device = self.open(address).map_err(|e| e.to_string())?;
        devices.insert(address.to_owned(), device.clone());
        Ok(device)
    }

    /// Closes the devices that `device` keeps open.
    pub(crate) fn close_devices(&self) {
        self.devices.borrow_mut().clear();
    }
}
