//! The class's config keys and the plugin's settings.

use bdev_uring::Engine;
use daos_plugin_api::abi::Status;
use daos_plugin_api::sdk::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::path::Path;

/// The class of this plugin.
pub(crate) const CLASS: &str = "kdev";

pub(crate) fn invalid(what: impl Into<String>) -> Error {
    Error::new(Status::INVALID, what)
}

/// Settings of the plugin.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    #[serde(default)]
    pub(crate) io_engine: Engine,
}

impl Settings {
    pub(crate) fn parse(settings: Map<String, Value>) -> Result<Self> {
        serde_json::from_value(Value::Object(settings))
            .map_err(|e| invalid("the settings of plugin bdev-kdev are wrong").cause(e.to_string()))
    }
}

#[derive(Deserialize)]
struct Keys {
    #[serde(default)]
    bdev_list: Vec<String>,
}

/// Paths of the devices that an engine's config names; touches none of them.
pub(crate) fn device_list(config: &Map<String, Value>) -> Result<Vec<String>> {
    let keys: Keys = serde_json::from_value(Value::Object(config.clone()))
        .map_err(|e| invalid("the keys of bdev_class kdev are malformed").cause(e.to_string()))?;
    if keys.bdev_list.is_empty() {
        return Err(invalid("bdev_class kdev needs bdev_list")
            .remedy("list block devices, as `storage scan` shows them, under bdev_list"));
    }
    for (index, path) in keys.bdev_list.iter().enumerate() {
        if !Path::new(path).is_absolute() || path.contains('\0') {
            return Err(invalid(format!(
                "entry {index} of bdev_list, {path:?}, is no device"
            ))
            .cause("it is not an absolute path")
            .remedy("write the path of a block device, such as /dev/sdb"));
        }
        if keys.bdev_list[..index].contains(path) {
            return Err(
                invalid(format!("{path} is in bdev_list twice")).remedy("list each device once")
            );
        }
    }
    Ok(keys.bdev_list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bad_configs_are_refused_with_a_remedy() {
        for config in [
            json!({}),
            json!({"bdev_list": []}),
            json!({"bdev_list": [""]}),
            json!({"bdev_list": ["sdb"]}),
            json!({"bdev_list": ["/dev/sdb", "/dev/sdc", "/dev/sdb"]}),
        ] {
            let error = device_list(config.as_object().unwrap()).unwrap_err();
            assert_eq!(error.status, Status::INVALID, "{config}");
            assert!(!error.remedy.is_empty(), "{config}: {error}");
        }
    }
}
