//! The plugin, as far as the data face needs one.

use crate::domain::OfiDomain;
use daos_plugin_api::control::FabricOpenRequest;
use daos_plugin_api::sdk::{CallContext, FabricPlugin, Host, Plugin, Result};
use serde_json::{Map, Value};

/// The plugin.
pub struct FabricOfi;

daos_plugin_api::declare_plugin!(FabricOfi, fabric);

impl Plugin for FabricOfi {
    const MANIFEST: &'static str = include_str!("../manifest.json");

    fn create(_host: Host, _call: CallContext<'_>, _settings: Map<String, Value>) -> Result<Self> {
        Ok(Self)
    }
}

impl FabricPlugin for FabricOfi {
    type Domain = OfiDomain;

    fn open(&self, _call: CallContext<'_>, request: FabricOpenRequest) -> Result<OfiDomain> {
        OfiDomain::open(&request)
    }
}
