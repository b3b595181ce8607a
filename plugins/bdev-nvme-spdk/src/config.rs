//! The class's config keys and the plugin's settings.

use crate::fabrics::{self, Fabrics};
use daos_plugin_api::abi::Status;
use daos_plugin_api::sdk::{Error, Result};
use nvme_pci::PciAddress;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::fmt;

/// The class of this plugin.
pub(crate) const CLASS: &str = "nvme";

pub(crate) fn invalid(what: impl Into<String>) -> Error {
    Error::new(Status::INVALID, what)
}

/// Where I/O memory comes from.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Memory {
    /// Huge pages, allocated by the plugin.
    #[default]
    Hugepages,
    /// Memory of the host, which it offers; needs an IOMMU.
    Host,
}

/// How a write with forced unit access becomes durable.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Fua {
    /// By the bit of the command.
    #[default]
    Device,
    /// By a flush after the write, for controllers that do not heed the bit.
    Flush,
}

/// Settings of the plugin.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// Huge pages to reserve at start in MiB; 0 = as needed.
    pub(crate) memory_mib: u32,
    pub(crate) memory: Memory,
    pub(crate) fua: Fua,
    /// Controllers on a fabric, by the names that they have here.
    pub(crate) fabrics: Fabrics,
}

impl Settings {
    pub(crate) fn parse(settings: Map<String, Value>) -> Result<Self> {
        let settings: Self = serde_json::from_value(Value::Object(settings)).map_err(|error| {
            invalid("the settings of plugin bdev-nvme-spdk are wrong")
                .cause(error.to_string())
                .remedy("memory_mib takes a number of MiB, memory hugepages or host, fua device or flush, fabrics names with transport ids")
        })?;
        let fabrics = fabrics::normal(&settings.fabrics)?;
        Ok(Self {
            fabrics,
            ..settings
        })
    }
}

/// A namespace as a config names it: "0000:41:00.0" (its only or first one) or "0000:41:00.0/2"; or with a name of
/// the setting `fabrics` for the address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    /// PCI address in its normal form, or name on a fabric.
    pub(crate) controller: String,
    /// Number of the namespace; `None` = the first active one.
    pub(crate) namespace: Option<u32>,
}

impl Name {
    /// Accepts dots for colons, upper case, and an absent domain.
    pub(crate) fn parse(text: &str, fabrics: &Fabrics) -> Result<Self> {
        let (address, namespace) = match text.split_once('/') {
            None => (text, Some(None)),
            Some((address, id)) => (address, id.parse().ok().filter(|id| *id > 0).map(Some)),
        };
        let controller = if fabrics.contains_key(address) {
            Some(address.to_owned())
        } else {
            address
                .parse::<PciAddress>()
                .ok()
                .map(|address| address.to_string())
        };
        match (controller, namespace) {
            (Some(controller), Some(namespace)) => Ok(Self {
                controller,
                namespace,
            }),
            _ => Err(invalid(format!(
                "{text:?} is neither a PCI address nor a name of the setting fabrics"
            ))
            .remedy(
                "write it like \"0000:41:00.0\", or \"0000:41:00.0/2\" for the second namespace",
            )),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace {
            None => f.write_str(&self.controller),
            Some(id) => write!(f, "{}/{id}", self.controller),
        }
    }
}

#[derive(Deserialize)]
struct Keys {
    #[serde(default)]
    bdev_list: Vec<String>,
}

/// The devices that an engine's config names, as written and as understood; touches none of them.
pub(crate) fn device_list(
    config: &Map<String, Value>,
    fabrics: &Fabrics,
) -> Result<Vec<(String, Name)>> {
    let keys: Keys = serde_json::from_value(Value::Object(config.clone())).map_err(|error| {
        invalid("the keys of bdev_class nvme are malformed").cause(error.to_string())
    })?;
    if keys.bdev_list.is_empty() {
        return Err(invalid("bdev_class nvme needs bdev_list")
            .remedy("list PCI addresses, as `storage scan` shows them, under bdev_list"));
    }
    let mut list: Vec<(String, Name)> = Vec::new();
    for text in keys.bdev_list {
        let name = Name::parse(&text, fabrics)?;
        // The first namespace has two names: without and with its number, which only the device tells.
        let twin = list.iter().find(|(_, other)| {
            other.controller == name.controller
                && (other.namespace == name.namespace
                    || other.namespace.is_none()
                    || name.namespace.is_none())
        });
        if let Some((twin, _)) = twin {
            return Err(invalid(format!(
                "{text} and {twin} of bdev_list may be one namespace"
            ))
            .remedy("list each namespace once, by its number"));
        }
        list.push((text, name));
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn list(config: &Value) -> Result<Vec<(String, Name)>> {
        device_list(config.as_object().unwrap(), &Fabrics::new())
    }

    #[test]
    fn names_have_one_normal_form() {
        for (text, normal) in [
            ("0000:41:00.0", "0000:41:00.0"),
            ("0000.DA.00.1", "0000:da:00.1"),
            ("41:00.0/12", "0000:41:00.0/12"),
            ("5d0505:01:00.0", "5d0505:01:00.0"),
        ] {
            let name = Name::parse(text, &Fabrics::new()).unwrap();
            assert_eq!(name.to_string(), normal, "{text}");
        }
        let fabrics = Fabrics::from([("fast0".to_owned(), String::new())]);
        let name = Name::parse("fast0/3", &fabrics).unwrap();
        assert_eq!(
            (name.controller.as_str(), name.namespace),
            ("fast0", Some(3))
        );
        for wrong in [
            "",
            "41:00",
            "0000:41:00.0/0",
            "0000:41:00.0/x",
            "../../../../etc",
            "0000:41:20.0",
            "0000:41:00.8",
            "0000-41:00.0",
            "/dev/nvme0n1",
            "fast1",
            "fast0/0",
        ] {
            let error = Name::parse(wrong, &fabrics).unwrap_err();
            assert!(!error.remedy.is_empty(), "{wrong}");
        }
    }

    #[test]
    fn lists_name_each_namespace_once() {
        let several = json!({"bdev_list": ["0000:41:00.0", "0000:42:00.0/1", "0000:42:00.0/2"]});
        assert_eq!(list(&several).unwrap().len(), 3);
        for config in [
            json!({}),
            json!({"bdev_list": []}),
            json!({"bdev_list": ["sdb"]}),
            json!({"bdev_list": ["0000:41:00.0", "0000.41.00.0"]}),
            json!({"bdev_list": ["0000:42:00.0/1", "0000:42:00.0"]}),
            json!({"bdev_list": ["0000:42:00.0/1", "42:00.0/1"]}),
        ] {
            let error = list(&config).unwrap_err();
            assert_eq!(error.status, Status::INVALID, "{config}");
            assert!(!error.remedy.is_empty(), "{config}: {error}");
        }
    }
}
