//! The class's config keys and the plugin's settings.

use daos_plugin_api::abi::Status;
use daos_plugin_api::sdk::{Error, Result};
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

/// Settings of the plugin.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// Huge pages to reserve at start in MiB; 0 = as needed.
    pub(crate) memory_mib: u32,
    pub(crate) memory: Memory,
}

impl Settings {
    pub(crate) fn parse(settings: Map<String, Value>) -> Result<Self> {
        serde_json::from_value(Value::Object(settings)).map_err(|error| {
            invalid("the settings of plugin bdev-nvme-spdk are wrong")
                .cause(error.to_string())
                .remedy("memory_mib takes a number of MiB, memory takes hugepages or host")
        })
    }
}

/// A namespace as a config names it: "0000:41:00.0" (its only or first one) or "0000:41:00.0/2".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    /// PCI address in its normal form.
    pub(crate) controller: String,
    /// Number of the namespace; `None` = the first active one.
    pub(crate) namespace: Option<u32>,
}

impl Name {
    /// Accepts dots for colons, upper case, and an absent domain.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (address, namespace) = match text.split_once('/') {
            None => (text, Some(None)),
            Some((address, id)) => (address, id.parse().ok().filter(|id| *id > 0).map(Some)),
        };
        match (address_of(address), namespace) {
            (Some(controller), Some(namespace)) => Ok(Self {
                controller,
                namespace,
            }),
            _ => Err(invalid(format!("{text:?} is not a PCI address")).remedy(
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

/// The normal form of a PCI address - and nothing that could lead out of the folder of devices.
fn address_of(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.split([':', '.']).collect();
    let (domain, rest) = match parts.as_slice() {
        [domain, rest @ ..] if rest.len() == 3 => (*domain, rest),
        rest if rest.len() == 3 => ("0000", rest),
        _ => return None,
    };
    let hex = |part: &str, digits: std::ops::RangeInclusive<usize>| {
        (digits.contains(&part.len()) && part.bytes().all(|b| b.is_ascii_hexdigit()))
            .then(|| u32::from_str_radix(part, 16).ok())
            .flatten()
    };
    let domain = hex(domain, 4..=8)?;
    let bus = hex(rest[0], 2..=2)?;
    let device = hex(rest[1], 2..=2).filter(|device| *device < 32)?;
    let function = hex(rest[2], 1..=1).filter(|function| *function < 8)?;
    Some(format!("{domain:04x}:{bus:02x}:{device:02x}.{function:x}"))
}

#[derive(Deserialize)]
struct Keys {
    #[serde(default)]
    bdev_list: Vec<String>,
}

/// The devices that an engine's config names, as written and as understood; touches none of them.
pub(crate) fn device_list(config: &Map<String, Value>) -> Result<Vec<(String, Name)>> {
    let keys: Keys = serde_json::from_value(Value::Object(config.clone())).map_err(|error| {
        invalid("the keys of bdev_class nvme are malformed").cause(error.to_string())
    })?;
    if keys.bdev_list.is_empty() {
        return Err(invalid("bdev_class nvme needs bdev_list")
            .remedy("list PCI addresses, as `storage scan` shows them, under bdev_list"));
    }
    let mut list: Vec<(String, Name)> = Vec::new();
    for text in keys.bdev_list {
        let name = Name::parse(&text)?;
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
        device_list(config.as_object().unwrap())
    }

    #[test]
    fn names_have_one_normal_form() {
        for (text, normal) in [
            ("0000:41:00.0", "0000:41:00.0"),
            ("0000.DA.00.1", "0000:da:00.1"),
            ("41:00.0/12", "0000:41:00.0/12"),
            ("5d0505:01:00.0", "5d0505:01:00.0"),
        ] {
            assert_eq!(Name::parse(text).unwrap().to_string(), normal, "{text}");
        }
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
        ] {
            let error = Name::parse(wrong).unwrap_err();
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
