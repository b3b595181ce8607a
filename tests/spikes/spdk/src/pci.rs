//! NVMe controllers as the kernel lists them. Reads sysfs only; no driver is needed for it.

use daos_plugin_api::sdk::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};

const DEVICES: &str = "/sys/bus/pci/devices";
/// Mass storage, non-volatile memory, NVMe.
const NVME_CLASS: &str = "0x010802";

/// A controller on the PCI bus.
pub(crate) struct Function {
    pub(crate) address: String,
    /// Kernel driver that holds it.
    pub(crate) driver: Option<String>,
    pub(crate) numa_node: i32,
    pub(crate) vendor_device: String,
}

impl Function {
    /// Whether a user-space driver can take it as it is.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self.driver.as_deref(), Some("vfio-pci" | "uio_pci_generic"))
    }
}

/// All NVMe controllers, by address.
pub(crate) fn functions() -> Result<Vec<Function>> {
    let entries = match fs::read_dir(DEVICES) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(format!("cannot list {DEVICES}"), error)),
    };
    let mut found: Vec<Function> = entries
        .flatten()
        .filter_map(|entry| read(&entry.path()))
        .collect();
    found.sort_by(|a, b| a.address.cmp(&b.address));
    Ok(found)
}

/// The controller at `address`, if there is one.
pub(crate) fn function(address: &str) -> Option<Function> {
    is_address(address)
        .then(|| read(&PathBuf::from(DEVICES).join(address)))
        .flatten()
}

fn read(device: &Path) -> Option<Function> {
    let text = |name: &str| {
        fs::read_to_string(device.join(name))
            .map(|text| text.trim().to_owned())
            .ok()
    };
    if text("class")? != NVME_CLASS {
        return None;
    }
    let driver = fs::read_link(device.join("driver")).ok();
    Some(Function {
        address: device.file_name()?.to_str()?.to_owned(),
        driver: driver.and_then(|link| Some(link.file_name()?.to_str()?.to_owned())),
        numa_node: text("numa_node")
            .and_then(|node| node.parse().ok())
            .unwrap_or(-1),
        vendor_device: format!(
            "{}:{}",
            text("vendor").unwrap_or_default(),
            text("device").unwrap_or_default()
        ),
    })
}

/// "0000:41:00.0" - and nothing that could lead out of the devices folder.
pub(crate) fn is_address(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 12
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            4 | 7 => *byte == b':',
            10 => *byte == b'.',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::is_address;

    #[test]
    fn addresses_are_complete_or_refused() {
        assert!(is_address("0000:41:00.0"));
        for wrong in [
            "",
            "41:00.0",
            "0000:41:00.0/1",
            "../../../../etc",
            "0000:41:00:0",
            "0000-41:00.0",
        ] {
            assert!(!is_address(wrong), "{wrong}");
        }
    }
}
