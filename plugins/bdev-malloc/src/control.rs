//! Control face: configuration, listing, format.

use crate::data::{MallocDevice, Storage};
use crate::memory::Memory;
use daos_plugin_api::abi::Status;
use daos_plugin_api::control::{
    ClassKind, ClassRequest, DeviceRecord, DeviceSpec, DeviceState, FormatReport, FormatRequest,
    ScanReport,
};
use daos_plugin_api::sdk::{BdevPlugin, CallContext, Error, Host, Plugin, Result};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The class of this plugin.
pub(crate) const CLASS: &str = "malloc";

/// Most devices of an engine.
const MAX_DEVICES: u32 = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    #[serde(default = "default_block_size")]
    block_size: u32,
}

fn default_block_size() -> u32 {
    4096
}

/// The class's keys of an engine.
#[derive(Deserialize)]
struct Config {
    bdev_number: Option<u32>,
    bdev_size: Option<u64>,
    bdev_size_mib: Option<u64>,
}

impl Config {
    fn parse(config: &Map<String, Value>) -> Result<(u32, u64)> {
        let config: Self = serde_json::from_value(Value::Object(config.clone())).map_err(|e| {
            invalid("the keys of bdev_class malloc are malformed").cause(e.to_string())
        })?;
        let number = config.bdev_number.unwrap_or(1);
        if !(1..=MAX_DEVICES).contains(&number) {
            return Err(invalid(format!("bdev_number is {number}"))
                .cause(format!("bdev_class malloc has 1 to {MAX_DEVICES} devices"))
                .remedy(format!(
                    "set bdev_number to a value from 1 to {MAX_DEVICES}"
                )));
        }
        let bytes = match (config.bdev_size_mib, config.bdev_size) {
            (Some(mib), _) => mib.checked_mul(1 << 20),
            (None, Some(gb)) => gb
                .checked_mul(1_000_000_000)
                .map(|bytes| bytes / 4096 * 4096),
            (None, None) => {
                return Err(invalid("bdev_class malloc needs the size of its devices")
                    .remedy("set bdev_size (GB) or bdev_size_mib (MiB)"));
            }
        };
        match bytes {
            Some(bytes) if bytes > 0 && bytes <= isize::MAX as u64 => Ok((number, bytes)),
            _ => Err(invalid("the size of bdev_class malloc is out of range")
                .remedy("set bdev_size (GB) or bdev_size_mib (MiB) to what memory can hold")),
        }
    }
}

fn invalid(what: impl Into<String>) -> Error {
    Error::new(Status::INVALID, what)
}

/// The plugin.
pub struct BdevMalloc {
    block_size: u32,
    storage: Mutex<HashMap<String, Arc<Storage>>>,
}

impl BdevMalloc {
    fn storage(&self) -> MutexGuard<'_, HashMap<String, Arc<Storage>>> {
        self.storage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Size of the device that `spec` names, from its config.
    fn size_of(spec: &DeviceSpec) -> Result<u64> {
        let (number, size) = Config::parse(&spec.config)?;
        let known = spec
            .address
            .strip_prefix(CLASS)
            .and_then(|index| index.parse::<u32>().ok())
            .is_some_and(|index| index < number && spec.address == address(index));
        if known {
            return Ok(size);
        }
        Err(Error::new(
            Status::NOT_FOUND,
            format!("there is no device {}", spec.address),
        )
        .cause(format!(
            "the configured devices are malloc0 to {}",
            address(number - 1)
        ))
        .remedy("raise bdev_number"))
    }
}

/// Record of a device as `identity` shows it.
pub(crate) fn record(address: &str, size: u64, block_size: u32) -> DeviceRecord {
    DeviceRecord {
        kind: ClassKind::Bdev,
        class: CLASS.to_owned(),
        address: address.to_owned(),
        model: "memory".to_owned(),
        serial: String::new(),
        firmware: String::new(),
        size,
        block_size,
        numa_node: -1,
        in_use: None,
        details: Map::new(),
    }
}

fn address(index: u32) -> String {
    format!("{CLASS}{index}")
}

impl Plugin for BdevMalloc {
    const MANIFEST: &'static str = crate::MANIFEST;

    fn create(_host: Host, _call: CallContext<'_>, settings: Map<String, Value>) -> Result<Self> {
        let settings: Settings = serde_json::from_value(Value::Object(settings)).map_err(|e| {
            invalid("the settings of plugin bdev-malloc are wrong").cause(e.to_string())
        })?;
        if !matches!(settings.block_size, 512 | 4096) {
            return Err(invalid(format!(
                "setting block_size of plugin bdev-malloc is {}",
                settings.block_size
            ))
            .remedy("set it to 512 or 4096"));
        }
        Ok(Self {
            block_size: settings.block_size,
            storage: Mutex::default(),
        })
    }

    fn validate(&self, _call: CallContext<'_>, request: ClassRequest) -> Result<()> {
        Config::parse(&request.config).map(drop)
    }

    fn scan(&self, _call: CallContext<'_>) -> Result<ScanReport> {
        // Memory is the configuration's to size: there is nothing to discover.
        Ok(ScanReport::default())
    }

    fn devices(&self, _call: CallContext<'_>, request: ClassRequest) -> Result<Vec<DeviceSpec>> {
        let (number, size) = Config::parse(&request.config)?;
        let storage = self.storage();
        let spec = |index| {
            let address = address(index);
            let open = storage
                .get(&address)
                .is_some_and(|storage| storage.is_open());
            DeviceSpec {
                class: CLASS.to_owned(),
                index,
                size,
                state: if open {
                    DeviceState::InUse
                } else {
                    DeviceState::Present
                },
                detail: if open {
                    "open in this process".to_owned()
                } else {
                    String::new()
                },
                config: request.config.clone(),
                address,
            }
        };
        Ok((0..number).map(spec).collect())
    }

    fn format(&self, _call: CallContext<'_>, request: FormatRequest) -> Result<FormatReport> {
        let device = &request.device;
        let size = Self::size_of(device)?;
        let mut storage = self.storage();
        if storage
            .get(&device.address)
            .is_some_and(|storage| storage.is_open())
        {
            return Err(
                Error::new(Status::BUSY, format!("cannot format {}", device.address))
                    .cause("it is open in this process"),
            );
        }
        storage.remove(&device.address);
        Ok(FormatReport {
            size,
            notes: Vec::new(),
        })
    }

    fn health(&self, _call: CallContext<'_>, device: DeviceSpec) -> Result<Map<String, Value>> {
        Self::size_of(&device)?;
        Ok(Map::from_iter([("status".to_owned(), json!("ok"))]))
    }
}

impl BdevPlugin for BdevMalloc {
    type Device = MallocDevice;

    fn open(&self, _call: CallContext<'_>, device: DeviceSpec) -> Result<MallocDevice> {
        let size = Self::size_of(&device)?;
        let mut devices = self.storage();
        let known = devices.get(&device.address);
        // A closed device of another size is a device of an earlier config: its contents go.
        let storage = match known {
            Some(known) if known.is_open() || known.memory.len() as u64 == size => {
                Arc::clone(known)
            }
            _ => {
                devices.remove(&device.address);
                let storage = Arc::new(Storage::new(allocate(&device.address, size)?));
                devices.insert(device.address.clone(), Arc::clone(&storage));
                storage
            }
        };
        MallocDevice::open(
            storage,
            record(&device.address, size, self.block_size),
            self.block_size,
        )
    }
}

/// Maps the memory of a device unless the machine plainly has less: pages are taken when first
/// written, and running out then kills a process instead of failing a call.
fn allocate(address: &str, size: u64) -> Result<Memory> {
    let failed = |cause: String| {
        Error::new(
            Status::NO_MEMORY,
            format!("no memory for {address} of {} MiB", size >> 20),
        )
        .cause(cause)
        .remedy("lower bdev_size or bdev_number, or use bdev_class file")
    };
    if let Some(available) = available_memory()
        && available < size
    {
        return Err(failed(format!("{} MiB are available", available >> 20)));
    }
    let len = usize::try_from(size).map_err(|e| failed(e.to_string()))?;
    Memory::new(len).map_err(|e| failed(e.to_string()))
}

/// Bytes that the kernel could give without swapping; `None` where it does not tell.
fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(config: Value) -> Result<(u32, u64)> {
        Config::parse(config.as_object().unwrap())
    }

    #[test]
    fn sizes_are_gb_rounded_down_to_blocks_or_mib() {
        assert_eq!(
            parse(json!({"bdev_size": 16})).unwrap(),
            (1, 16_000_000_000)
        );
        assert_eq!(parse(json!({"bdev_size": 1})).unwrap(), (1, 999_997_440));
        let small = parse(json!({"bdev_number": 3, "bdev_size": 4, "bdev_size_mib": 5})).unwrap();
        assert_eq!(small, (3, 5 << 20));
    }

    #[test]
    fn bad_configs_are_refused_with_a_remedy() {
        for config in [
            json!({}),
            json!({"bdev_size": 0}),
            json!({"bdev_size_mib": 0}),
            json!({"bdev_size": u64::MAX}),
            json!({"bdev_size": 1, "bdev_number": 0}),
            json!({"bdev_size": 1, "bdev_number": 65}),
        ] {
            let error = parse(config.clone()).unwrap_err();
            assert_eq!(error.status, Status::INVALID, "{config}");
            assert!(!error.remedy.is_empty(), "{config}: {error}");
        }
        assert_eq!(
            parse(json!({"bdev_size": "1"})).unwrap_err().status,
            Status::INVALID
        );
    }
}
