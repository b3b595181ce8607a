//! The plugin: class `nvme`, devices by PCI address with an optional namespace ("0000:41:00.0/2").

use crate::controller::{Controller, attach, lock};
use crate::device::{OpenNames, SpdkDevice};
use crate::{env, pci, sys};
use daos_plugin_api::abi::Status;
use daos_plugin_api::control::{
    ClassKind, ClassRequest, DeviceRecord, DeviceSpec, DeviceState, ScanReport,
};
use daos_plugin_api::sdk::{BdevPlugin, CallContext, Error, Host, Plugin, Result};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::{Mutex, Weak};

/// Alignment of pool memory, a huge page.
const HUGE_PAGE: usize = 2 << 20;

/// NVMe devices through SPDK.
pub struct SpdkPlugin {
    /// Huge pages to reserve at start in MiB; 0 = as needed.
    memory_mib: u32,
    /// I/O memory comes from the host, which offers it, instead of from huge pages.
    host_memory: bool,
    controllers: Mutex<HashMap<String, Weak<Controller>>>,
    open_names: OpenNames,
}

daos_plugin_api::declare_plugin!(SpdkPlugin, bdev);

impl SpdkPlugin {
    /// The controller at `address`: devices on one controller share it.
    fn controller(&self, address: &str) -> Result<std::sync::Arc<Controller>> {
        let mut controllers = lock(&self.controllers);
        if let Some(controller) = controllers.get(address).and_then(Weak::upgrade) {
            return Ok(controller);
        }
        let controller = attach(address, self.memory_mib)?;
        controllers.insert(address.to_owned(), std::sync::Arc::downgrade(&controller));
        Ok(controller)
    }
}

impl Plugin for SpdkPlugin {
    const MANIFEST: &'static str = include_str!("../manifest.json");

    fn create(_host: Host, _call: CallContext<'_>, settings: Map<String, Value>) -> Result<Self> {
        let memory_mib = match settings.get("memory_mib") {
            None => 0,
            Some(value) => value
                .as_u64()
                .and_then(|mib| u32::try_from(mib).ok())
                .ok_or_else(|| unusable("memory_mib", value, "a number of MiB"))?,
        };
        let host_memory = match settings.get("memory") {
            None => false,
            Some(value) => match value.as_str() {
                Some("hugepages") => false,
                Some("host") => true,
                _ => return Err(unusable("memory", value, "\"hugepages\" or \"host\"")),
            },
        };
        Ok(Self {
            memory_mib,
            host_memory,
            controllers: Mutex::default(),
            open_names: OpenNames::default(),
        })
    }

    fn scan(&self, _call: CallContext<'_>) -> Result<ScanReport> {
        let devices = pci::functions()?.into_iter().map(|function| DeviceRecord {
            kind: ClassKind::Bdev,
            class: "nvme".to_owned(),
            model: function.vendor_device.clone(),
            serial: String::new(),
            firmware: String::new(),
            size: 0,
            block_size: 0,
            numa_node: function.numa_node,
            in_use: (!function.is_ours()).then(|| held_by(&function)),
            details: Map::new(),
            address: function.address,
        });
        Ok(ScanReport {
            devices: devices.collect(),
            ..ScanReport::default()
        })
    }

    fn devices(&self, _call: CallContext<'_>, request: ClassRequest) -> Result<Vec<DeviceSpec>> {
        let list = request
            .config
            .get("bdev_list")
            .and_then(Value::as_array)
            .ok_or_else(|| {
                Error::new(Status::INVALID, "bdev_list is missing")
                    .remedy("list PCI addresses like \"0000:41:00.0\"")
            })?;
        let mut devices = Vec::new();
        for (index, entry) in list.iter().enumerate() {
            let text = entry.as_str().unwrap_or_default();
            let (address, _) = parse(text)?;
            let (state, detail) = match pci::function(address) {
                None => (
                    DeviceState::Missing,
                    format!("no NVMe controller at {address}"),
                ),
                Some(function) if function.is_ours() => (DeviceState::Present, String::new()),
                Some(function) => (DeviceState::InUse, held_by(&function)),
            };
            devices.push(DeviceSpec {
                class: request.class.clone(),
                index: index as u32,
                address: text.to_owned(),
                size: 0,
                state,
                detail,
                config: request.config.clone(),
            });
        }
        Ok(devices)
    }
}

impl BdevPlugin for SpdkPlugin {
    type Device = SpdkDevice;

    fn open(&self, _call: CallContext<'_>, device: DeviceSpec) -> Result<SpdkDevice> {
        let (address, namespace) = parse(&device.address)?;
        SpdkDevice::open(
            self.controller(address)?,
            namespace,
            &device.address,
            &self.open_names,
        )
    }

    fn memory_alloc(
        &self,
        _call: CallContext<'_>,
        len: usize,
        numa_node: i32,
    ) -> Option<Result<*mut u8>> {
        if self.host_memory {
            return None;
        }
        if let Err(error) = env::start(self.memory_mib) {
            return Some(Err(error));
        }
        // SAFETY: the environment runs; the physical address is not asked for.
        let ptr = unsafe {
            sys::spdk_malloc(
                len,
                HUGE_PAGE,
                std::ptr::null_mut(),
                numa_node,
                sys::SPDK_MALLOC_DMA,
            )
        };
        Some(if ptr.is_null() {
            Err(Error::new(
                Status::NO_MEMORY,
                format!("no {} MiB of huge pages on node {numa_node}", len >> 20),
            )
            .remedy("reserve more huge pages of 2 MiB on that node"))
        } else {
            Ok(ptr.cast())
        })
    }

    unsafe fn memory_free(&self, ptr: *mut u8, _len: usize) {
        // SAFETY: the caller vouches that this came from `memory_alloc`.
        unsafe { sys::spdk_free(ptr.cast()) }
    }

    fn memory_register(&self, _call: CallContext<'_>, ptr: *mut u8, len: usize) -> Result<()> {
        env::start(self.memory_mib)?;
        // SAFETY: the host keeps the memory mapped until `memory_unregister`.
        mapped(
            unsafe { sys::spdk_mem_register(ptr.cast(), len) },
            "map",
            ptr,
            len,
        )
    }

    fn memory_unregister(&self, ptr: *mut u8, len: usize) -> Result<()> {
        // SAFETY: the environment checks that the range was registered.
        mapped(
            unsafe { sys::spdk_mem_unregister(ptr.cast(), len) },
            "unmap",
            ptr,
            len,
        )
    }
}

fn unusable(setting: &str, value: &Value, expected: &str) -> Error {
    Error::new(
        Status::INVALID,
        format!("setting {setting} is {value}, not {expected}"),
    )
}

fn mapped(code: i32, verb: &str, ptr: *mut u8, len: usize) -> Result<()> {
    if code == 0 {
        return Ok(());
    }
    Err(Error::io(
        format!(
            "cannot {verb} {} MiB of memory at {ptr:p} for devices",
            len >> 20
        ),
        std::io::Error::from_raw_os_error(-code),
    )
    .remedy(
        "memory is offered once, in whole huge pages; check the limit of locked memory (ulimit -l)",
    ))
}

fn held_by(function: &pci::Function) -> String {
    match &function.driver {
        Some(driver) => format!("bound to the kernel driver {driver}"),
        None => "bound to no driver; prepare binds it to vfio-pci".to_owned(),
    }
}

/// "0000:41:00.0" or "0000:41:00.0/2".
fn parse(text: &str) -> Result<(&str, Option<u32>)> {
    let (address, namespace) = match text.split_once('/') {
        None => (text, Some(None)),
        Some((address, id)) => (address, id.parse().ok().filter(|id| *id > 0).map(Some)),
    };
    match namespace {
        Some(namespace) if pci::is_address(address) => Ok((address, namespace)),
        _ => Err(
            Error::new(Status::INVALID, format!("{text:?} is not a PCI address")).remedy(
                "write it like \"0000:41:00.0\", or \"0000:41:00.0/2\" for the second namespace",
            ),
        ),
    }
}
