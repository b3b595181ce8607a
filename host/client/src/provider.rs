//! Finds and opens the fabric plugin of a provider.

use crate::Error;
use daos_loader::{Catalogue, ClassError, Policy};
use daos_plugin_api::control::FabricOpenRequest;
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
            ClassError::NoProvider(why) => {
                let remedy = match (&why.refused, plugins_dir) {
                    (None, None) => {
                        "name the directory of its plugin with --plugins-dir".to_owned()
                    }
                    _ => why.remedy(),
                };
                failed(why.cause(), remedy)
            }
            ambiguous => failed(ambiguous.to_string(), String::new()),
        })?;
    tracing::info!(provider, "fabric of plugin {}", info.described());
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
        provider: provider.to_owned(),
        interface: interface.to_owned(),
        port: 0,
        answers: false,
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
        let opened = open("tcp", "lo", None);
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
            unknown.contains("\"verbs\"") && unknown.contains("available: tcp"),
            "{unknown}"
        );
        assert!(unknown.contains("--plugins-dir"), "{unknown}");
        // Nothing stands in for libfabric.
        let libfabric = text("ofi+tcp", "lo");
        assert!(libfabric.contains("fabric class `ofi`"), "{libfabric}");
        let interface = text("tcp", "no-such-0");
        assert!(
            interface.contains("no-such-0") && interface.contains("lo ("),
            "{interface}"
        );
    }
    #[test]
    fn a_plugin_that_is_refused_is_named_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("libdaos_fabric_ofi.so");
        std::fs::write(&file, "half of a plugin").unwrap();
        let Err(error) = open("ofi+tcp", "lo", Some(dir.path())) else {
            panic!("something stood in for the plugin");
        };
        let text = error.to_string();
        for words in ["libdaos_fabric_ofi.so", "not an ELF file", "remove it"] {
            assert!(text.contains(words), "{words:?} is missing in {text}");
        }
        assert!(open("tcp", "lo", Some(dir.path())).is_ok());
    }
}
