//! A fabric of class `@CLASS@`: the plugin as a whole, its control face, domains and registrations. Its endpoints
//! reach each other between the processes of this machine; yours will have a network.

mod endpoint;
mod network;

use daos_plugin_api::abi::{
    FABRIC_LOCAL, FABRIC_REMOTE_READ, FABRIC_REMOTE_WRITE, FabricInfo, Status,
};
use daos_plugin_api::control::{ClassKind, DeviceRecord, FabricOpenRequest, ScanReport};
use daos_plugin_api::sdk::{
    CallContext, Error, FabricDomain, FabricPlugin, Host, Plugin, Registration, Result,
};
use endpoint::Endpoint;
use network::{Region, Regions};
use serde_json::{Map, Value};
use std::sync::Arc;

const CLASS: &str = "@CLASS@";
/// The one interface.
const INTERFACE: &str = "lo";

pub(crate) const MOST_BYTES: u64 = 16 << 20;
pub(crate) const MOST_OUTSTANDING: u32 = 1024;

/// The plugin.
pub struct ThePlugin;

daos_plugin_api::declare_plugin!(ThePlugin, fabric);
daos_plugin_api::export_plugin!(ThePlugin);

impl Plugin for ThePlugin {
    const MANIFEST: &'static str = include_str!("../manifest.json");

    fn create(_host: Host, _call: CallContext<'_>, _settings: Map<String, Value>) -> Result<Self> {
        Ok(Self)
    }

    /// The interfaces that this fabric works on. Reads only.
    fn scan(&self, _call: CallContext<'_>) -> Result<ScanReport> {
        let interface = DeviceRecord {
            kind: ClassKind::Fabric,
            class: CLASS.to_owned(),
            address: INTERFACE.to_owned(),
            model: "between processes of this machine".to_owned(),
            serial: String::new(),
            firmware: String::new(),
            size: 0,
            block_size: 0,
            numa_node: -1,
            in_use: None,
            details: Map::new(),
        };
        Ok(ScanReport {
            devices: vec![interface],
            ..ScanReport::default()
        })
    }
}

impl FabricPlugin for ThePlugin {
    type Domain = Domain;

    fn open(&self, _call: CallContext<'_>, request: FabricOpenRequest) -> Result<Domain> {
        if request.provider != CLASS {
            let what = format!("there is no provider {}", request.provider);
            return Err(Error::new(Status::NOT_FOUND, what).remedy(format!("use {CLASS}")));
        }
        if !request.interface.is_empty() && request.interface != INTERFACE {
            let what = format!("there is no interface {}", request.interface);
            return Err(Error::new(Status::NOT_FOUND, what).remedy(format!("use {INTERFACE}")));
        }
        Ok(Domain {
            regions: Arc::default(),
        })
    }
}

/// An open domain.
pub struct Domain {
    regions: Arc<Regions>,
}

/// A registration; dropping it ends it.
pub struct Registered {
    regions: Arc<Regions>,
    key: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        // Under the lock that remote accesses hold: when this returns, nobody reaches the memory.
        self.regions.lock().remove(&self.key);
    }
}

impl FabricDomain for Domain {
    type Endpoint = Endpoint;
    type Region = Registered;

    fn info(&self) -> FabricInfo {
        FabricInfo {
            max_message: network::PAYLOAD as u64,
            max_rma: MOST_BYTES,
            max_address: network::ADDRESS as u32,
            scratch_size: 0,
            max_endpoints: 64,
            max_outstanding: MOST_OUTSTANDING,
            tag_bits: 64,
            numa_node: -1,
            flags: FabricInfo::CHECKS_ACCESS
                | FabricInfo::REPORTS_ACCESS
                | FabricInfo::MANUAL_PROGRESS,
        }
    }

    unsafe fn register(
        &self,
        ptr: *mut u8,
        len: usize,
        access: u32,
    ) -> Result<Registration<Registered>> {
        let known = FABRIC_LOCAL | FABRIC_REMOTE_READ | FABRIC_REMOTE_WRITE;
        if access & !known != 0 {
            return Err(Error::new(
                Status::INVALID,
                format!("unknown rights {access:#x}"),
            ));
        }
        let key = network::random().map_err(|e| Error::io("cannot make a key", e))?;
        self.regions.lock().insert(key, Region { ptr, len, access });
        Ok(Registration {
            region: Registered {
                regions: Arc::clone(&self.regions),
                key,
            },
            descriptor: 0,
            key,
            // Remote addresses count from the start of the registration.
            base: 0,
        })
    }

    fn open_endpoint(&self, _call: CallContext<'_>) -> Result<Endpoint> {
        Endpoint::open(Arc::clone(&self.regions))
    }
}
