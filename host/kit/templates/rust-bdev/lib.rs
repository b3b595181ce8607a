//! Block devices of class `@CLASS@`: the plugin as a whole and its control face.

mod device;

use daos_plugin_api::abi::Status;
use daos_plugin_api::control::{
    ClassKind, ClassRequest, DeviceRecord, DeviceSpec, DeviceState, FormatReport, FormatRequest,
    ScanReport,
};
use daos_plugin_api::sdk::{BdevPlugin, CallContext, Error, Host, Plugin, Result};
use device::Device;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

const CLASS: &str = "@CLASS@";
const MOST_DEVICES: u32 = 8;
const MOST_MIB: u64 = 65536;

/// Addresses of the devices that are open.
pub(crate) type OpenOnes = Arc<Mutex<HashSet<String>>>;

/// The plugin.
pub struct ThePlugin {
    open: OpenOnes,
}

/// The keys of the class, as in the configuration file. The host has checked them against the schema of
/// the manifest; a plugin looks again, since others call it, too.
#[derive(Deserialize)]
struct Config {
    bdev_number: Option<u32>,
    bdev_size_mib: u64,
}

impl Config {
    fn read(keys: &Map<String, Value>) -> Result<Self> {
        let config: Self = serde_json::from_value(Value::Object(keys.clone())).map_err(|e| {
            Error::new(
                Status::INVALID,
                format!("the keys of bdev_class {CLASS} are malformed"),
            )
            .cause(e.to_string())
        })?;
        if !(1..=MOST_DEVICES).contains(&config.number()) {
            return Err(Error::new(Status::INVALID, "bdev_number is out of range")
                .remedy(format!("set it to a value from 1 to {MOST_DEVICES}")));
        }
        if !(1..=MOST_MIB).contains(&config.bdev_size_mib) {
            return Err(Error::new(Status::INVALID, "bdev_size_mib is out of range")
                .remedy(format!("set it to a value from 1 to {MOST_MIB}")));
        }
        Ok(config)
    }

    fn number(&self) -> u32 {
        self.bdev_number.unwrap_or(1)
    }

    fn bytes(&self) -> u64 {
        self.bdev_size_mib << 20
    }
}

fn address(index: u32) -> String {
    format!("{CLASS}{index}")
}

daos_plugin_api::declare_plugin!(ThePlugin, bdev);
daos_plugin_api::export_plugin!(ThePlugin);

impl Plugin for ThePlugin {
    const MANIFEST: &'static str = include_str!("../manifest.json");

    fn create(_host: Host, _call: CallContext<'_>, settings: Map<String, Value>) -> Result<Self> {
        tracing::debug!("created with {} settings", settings.len());
        Ok(Self {
            open: OpenOnes::default(),
        })
    }

    fn validate(&self, _call: CallContext<'_>, request: ClassRequest) -> Result<()> {
        Config::read(&request.config).map(drop)
    }

    /// What this plugin could drive on this machine: hardware that was found. Reads only.
    fn scan(&self, _call: CallContext<'_>) -> Result<ScanReport> {
        Ok(ScanReport {
            notes: vec![format!(
                "devices of class {CLASS} are made by the configuration"
            )],
            ..ScanReport::default()
        })
    }

    /// The devices of a configuration, in the order in which the engine numbers them. Reads only.
    fn devices(&self, _call: CallContext<'_>, request: ClassRequest) -> Result<Vec<DeviceSpec>> {
        let config = Config::read(&request.config)?;
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let device = |index| {
            let address = address(index);
            let is_open = open.contains(&address);
            DeviceSpec {
                class: CLASS.to_owned(),
                index,
                state: if is_open {
                    DeviceState::InUse
                } else {
                    DeviceState::Present
                },
                detail: if is_open { "open in this process" } else { "" }.to_owned(),
                address,
                size: config.bytes(),
                config: request.config.clone(),
            }
        };
        Ok((0..config.number()).map(device).collect())
    }

    /// Makes a device ready for its label. The administrator has agreed; what is not ours is refused unless that
    /// was allowed (`overwrite_foreign`). Here there is nothing to erase: memory is new in each process.
    fn format(&self, _call: CallContext<'_>, request: FormatRequest) -> Result<FormatReport> {
        let device = &request.device;
        let config = Config::read(&device.config)?;
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.contains(&device.address) {
            let what = format!("{} is open in this process", device.address);
            return Err(Error::new(Status::BUSY, what));
        }
        Ok(FormatReport {
            size: config.bytes(),
            notes: Vec::new(),
        })
    }
}

impl BdevPlugin for ThePlugin {
    type Device = Device;

    /// Opens a device as `devices` listed it, for this caller alone.
    fn open(&self, _call: CallContext<'_>, spec: DeviceSpec) -> Result<Device> {
        let config = Config::read(&spec.config)?;
        if spec.index >= config.number() || spec.address != address(spec.index) {
            return Err(Error::new(
                Status::NOT_FOUND,
                format!("there is no device {}", spec.address),
            )
            .remedy("raise bdev_number"));
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if !open.insert(spec.address.clone()) {
            return Err(Error::new(
                Status::BUSY,
                format!("{} is open already", spec.address),
            ));
        }
        drop(open);
        // From here on the device's drop closes it, also if it cannot be made.
        Device::open(Arc::clone(&self.open), spec.address, config.bytes())
    }
}

/// Who a device is: answers `scan` and `identity`.
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
