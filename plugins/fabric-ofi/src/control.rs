//! Control face: which providers and interfaces there are, and whether a config names some of them.

use crate::choose::choose;
use crate::data::OfiDomain;
use crate::scan;
use crate::settings::Settings;
use daos_plugin_api::abi::Status;
use daos_plugin_api::control::{ClassRequest, FabricOpenRequest, ScanReport};
use daos_plugin_api::sdk::{CallContext, Error, FabricPlugin, Host, Plugin, Result};
use serde_json::{Map, Value};

/// The manifest's text, also in the shared object's ELF note.
pub const MANIFEST: &str = include_str!("../manifest.json");

/// The plugin.
pub struct FabricOfi {
    settings: Settings,
}

daos_plugin_api::declare_plugin!(FabricOfi, fabric);

impl Plugin for FabricOfi {
    const MANIFEST: &'static str = MANIFEST;

    fn create(_host: Host, _call: CallContext<'_>, settings: Map<String, Value>) -> Result<Self> {
        let settings = Settings::from_json(settings)?;
        Ok(Self { settings })
    }

    /// Checks provider (`provider`), interface (`fabric_iface`) and first port
    /// (`fabric_iface_port`), as far as they are there.
    fn validate(&self, _call: CallContext<'_>, request: ClassRequest) -> Result<()> {
        validate(&request)
    }

    fn scan(&self, call: CallContext<'_>) -> Result<ScanReport> {
        call.check_cancelled()?;
        scan::scan()
    }
}

impl FabricPlugin for FabricOfi {
    type Domain = OfiDomain;

    fn open(&self, _call: CallContext<'_>, request: FabricOpenRequest) -> Result<OfiDomain> {
        OfiDomain::open(&request, self.settings)
    }
}

fn validate(request: &ClassRequest) -> Result<()> {
    let asked = fabric_interfaces::asked(request)?;
    // A class that is not the family's is the provider's own name.
    let class = Some(request.class.as_str()).filter(|class| *class != "ofi");
    match asked.provider.or(class) {
        Some(provider) => choose(provider, asked.interface.unwrap_or_default())
            .map(drop)
            .map_err(|error| Error {
                status: Status::INVALID,
                ..error
            }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daos_plugin_api::control::{ClassKind, Manifest};
    use serde_json::json;

    fn config(value: Value) -> ClassRequest {
        ClassRequest {
            class: "ofi".to_owned(),
            config: serde_json::from_value(value).unwrap(),
        }
    }

    #[test]
    fn the_manifest_describes_this_crate() {
        let manifest: Manifest = serde_json::from_str(MANIFEST).unwrap();
        assert_eq!(manifest.name, env!("CARGO_PKG_NAME"));
        assert_eq!(manifest.version, env!("CARGO_PKG_VERSION"));
        assert_eq!(manifest.classes[0].name, "ofi");
        assert!(manifest.classes.iter().all(|c| c.kind == ClassKind::Fabric));
        assert!(manifest.privileges.is_empty());
    }

    #[test]
    fn validation_names_key_and_value() {
        validate(&config(json!({}))).unwrap();
        validate(&config(
            json!({"provider": "ofi+tcp", "fabric_iface": "lo", "fabric_iface_port": 31416}),
        ))
        .unwrap();
        for (value, words) in [
            (json!({"provider": "ofi+tpc"}), "ofi+tcp"),
            (json!({"provider": 3}), "provider is 3"),
            (
                json!({"provider": "ofi+tcp", "fabric_iface": "no-such-0"}),
                "no-such-0",
            ),
            (json!({"fabric_iface": 3}), "fabric_iface is 3"),
            (
                json!({"fabric_iface_port": 65536}),
                "fabric_iface_port is 65536",
            ),
        ] {
            let error = validate(&config(value)).unwrap_err();
            assert_eq!(error.status, Status::INVALID);
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
