//! A fabric of class `@CLASS@`: the plugin as a whole and its control face. Its endpoints reach each other
//! inside one process; yours will have a network.

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
use network::{Network, Shared};
use serde_json::{Map, Value};
use std::sync::Arc;

const CLASS: &str = "@CLASS@";
/// The one interface.
const INTERFACE: &str = "lo";

pub(crate) const MOST_BYTES: u64 = 16 << 20;
pub(crate) const MOST_OUTSTANDING: u32 = 1024;

/// The plugin.
pub struct ThePlugin {
    network: Arc<Shared>,
}

daos_plugin_api::declare_plugin!(ThePlugin, fabric);
daos_plugin_api::export_plugin!(ThePlugin);

impl Plugin for ThePlugin {
    const MANIFEST: &'static str = include_str!("../manifest.json");

    fn create(_host: Host, _call: CallContext<'_>, _settings: Map<String, Value>) -> Result<Self> {
        Ok(Self {
            network: Arc::default(),
        })
    }

    /// The interfaces that this fabric works on. Reads only.
    fn scan(&self, _call: CallContext<'_>) -> Result<ScanReport> {
        let interface = DeviceRecord {
            kind: ClassKind::Fabric,
            class: CLASS.to_owned(),
            address: INTERFACE.to_owned(),
            model: "inside one process".to_owned(),
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
            network: Arc::clone(&self.network),
        })
    }
}

/// An open domain.
pub struct Domain {
    network: Arc<Shared>,
}

/// A registration; dropping it ends it.
pub struct Registered {
    network: Arc<Shared>,
    key: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        // Under the lock that remote accesses hold: when this returns, nobody reaches the memory.
        self.network.lock().regions.remove(&self.key);
    }
}

impl FabricDomain for Domain {
    type Endpoint = Endpoint;
    type Region = Registered;

    fn info(&self) -> FabricInfo {
        FabricInfo {
            max_message: MOST_BYTES,
            max_rma: MOST_BYTES,
            max_address: network::ADDRESS as u32,
            scratch_size: 0,
            max_endpoints: 64,
            max_outstanding: MOST_OUTSTANDING,
            tag_bits: 64,
            numa_node: -1,
            flags: FabricInfo::CHECKS_ACCESS | FabricInfo::REPORTS_ACCESS,
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
        let key = self
            .network
            .lock()
            .register(network::Region { ptr, len, access });
        Ok(Registration {
            region: Registered {
                network: Arc::clone(&self.network),
                key,
            },
            descriptor: 0,
            key,
            // Remote addresses count from the start of the registration.
            base: 0,
        })
    }

    fn open_endpoint(&self, _call: CallContext<'_>) -> Result<Endpoint> {
        Endpoint::open(Arc::clone(&self.network))
    }
}

impl Network {
    pub(crate) fn register(&mut self, region: network::Region) -> u64 {
        // A key that a peer cannot guess wants random numbers; here it only has to be another one.
        self.last_key = self
            .last_key
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        self.regions.insert(self.last_key, region);
        self.last_key
    }
}
