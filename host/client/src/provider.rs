//! Finds and opens the fabric plugin of a provider.

use crate::Error;
use daos_loader::{Catalogue, Policy};
use daos_plugin_api::control::{ClassKind, FabricOpenRequest};
use daos_plugin_api::host::{CallOptions, FabricDomain, Instance, InstanceOptions};
use fabric_tcp as _; // registers itself; the linker drops what nothing refers to
use serde_json::Map;
use std::path::Path;

/// An open fabric.
pub(crate) struct Fabric {
    pub(crate) instance: Instance,
    pub(crate) domain: FabricDomain,
}

/// Opens a domain of `provider` on an interface (empty = the plugin chooses).
pub(crate) fn open(
    provider: &str,
    interface: &str,
    plugins_dir: Option<&Path>,
) -> Result<Fabric, Error> {
    let failed = |cause: String, remedy: String| Error::Provider {
        provider: provider.to_owned(),
        cause,
        remedy,
    };
    let policy = Policy::default();
    let built_ins = daos_plugin_api::sdk::built_ins();
    let catalogue = Catalogue::build(plugins_dir, built_ins, &policy);
    let info = catalogue
        .find_provider(provider)
        .map_err(|error| match error {
            daos_loader::ClassError::Unknown { .. } => failed(
                format!(
                    "no plugin provides it; available: {}",
                    catalogue.classes(ClassKind::Fabric).join(", ")
                ),
                "name the directory of its plugin with --plugins-dir".to_owned(),
            ),
            ambiguous => failed(ambiguous.to_string(), String::new()),
        })?;
    let name = info.provider_name(provider).unwrap_or(provider);
    let loaded = daos_loader::load(info, &policy)
        .map_err(|error| failed(error.to_string(), String::new()))?;
    let options = if info.is_built_in() {
        InstanceOptions::built_in()
    } else {
        InstanceOptions::loaded()
    };
    let plugin = |error: daos_plugin_api::sdk::Error| {
        let cause = if error.cause.is_empty() {
            error.what
        } else {
            format!("{}: {}", error.what, error.cause)
        };
        failed(cause, error.remedy)
    };
    let instance = Instance::create(loaded.table, options).map_err(plugin)?;
    let request = FabricOpenRequest {
        provider: name.to_owned(),
        interface: interface.to_owned(),
        port: 0,
        config: Map::new(),
    };
    let domain = instance
        .open_fabric(&request, CallOptions::default())
        .map_err(plugin)?;
    Ok(Fabric { instance, domain })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_fabric_opens() {
        let opened = open("ofi+tcp;ofi_rxm", "lo", None);
        assert!(opened.is_ok(), "{}", opened.err().unwrap());
    }

    #[test]
    fn what_is_missing_is_named() {
        let text = |provider, interface| match open(provider, interface, None) {
            Ok(_) => panic!("{provider} on {interface} opened"),
            Err(error) => error.to_string(),
        };
        let unknown = text("verbs", "");
        assert!(
            unknown.contains("\"verbs\"") && unknown.contains("ofi+sockets, ofi+tcp"),
            "{unknown}"
        );
        let interface = text("tcp", "no-such-0");
        assert!(
            interface.contains("no-such-0") && interface.contains("lo ("),
            "{interface}"
        );
    }
}
