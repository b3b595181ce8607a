//! The file as I/O servers of 2019 read it: sections of SPDK's configuration files of then, which JSON has replaced.

use super::{Device, DeviceConfig};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The section of each class that such a server knows.
const SECTIONS: &[(&str, &str)] = &[
    ("nvme", "Nvme"),
    ("file", "AIO"),
    ("kdev", "AIO"),
    ("malloc", "Malloc"),
];

/// What stands below the devices of `[Nvme]`.
const NVME: &str = "    RetryCount 4\n    TimeoutUsec 0\n    ActionOnTimeout None\n    AdminPollRate 100000\n    \
                    HotplugEnable No\n    HotplugPollRate 0\n";

fn section_of(class: &str) -> Option<&'static str> {
    let found = SECTIONS.iter().find(|(known, _)| *known == class);
    found.map(|(_, section)| *section)
}

impl DeviceConfig {
    /// The content of the file as an I/O server of 2019 on this host reads it.
    ///
    /// # Errors
    /// A class or an address that this form cannot carry, in a sentence.
    pub fn render_text(&self, host: &str) -> Result<String, String> {
        let mut text = String::new();
        let mut last = "";
        for device in &self.devices {
            let Some(section) = section_of(&device.class) else {
                return Err(format!(
                    "the text form of the device configuration has no class {}",
                    device.class
                ));
            };
            let address = &device.address;
            if address.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"') {
                return Err(format!(
                    "the text form of the device configuration cannot carry {address:?}, which has a space or a quote"
                ));
            }
            if !last.is_empty() && last != section {
                return Err("an engine has devices of one class".to_owned());
            }
            if last.is_empty() {
                // Writing into a string cannot fail.
                let _ = writeln!(text, "[{section}]");
            }
            last = section;
        }
        match last {
            "Nvme" => self.nvme(host, &mut text),
            "AIO" => self.aio(host, &mut text),
            "Malloc" => self.malloc(&mut text),
            _ => {}
        }
        Ok(text)
    }

    fn nvme(&self, host: &str, text: &mut String) {
        let mut controllers = BTreeSet::new();
        for device in &self.devices {
            let controller = super::spdk::controller(&device.address);
            // One line attaches a controller with all of its namespaces.
            if controllers.insert(controller) {
                let index = controllers.len() - 1;
                let _ = writeln!(
                    text,
                    "    TransportID \"trtype:PCIe traddr:{controller}\" Nvme_{host}_{index}"
                );
            }
        }
        text.push_str(NVME);
    }

    fn aio(&self, host: &str, text: &mut String) {
        for (index, Device { class, address, .. }) in self.devices.iter().enumerate() {
            // Of a kernel device SPDK asks the kernel for the size of blocks.
            let block = if class == "file" { " 4096" } else { "" };
            let _ = writeln!(text, "    AIO {address} AIO_{host}_{index}{block}");
        }
    }

    fn malloc(&self, text: &mut String) {
        // Millions of bytes, as its control plane wrote them; a size is whole blocks, so a little less.
        let bytes = self.devices.first().map_or(0, |device| device.size_bytes);
        let size = (bytes + 500_000) / 1_000_000;
        let count = self.devices.len();
        let _ = writeln!(text, "    NumberOfLuns {count}\n    LunSizeInMB {size}");
    }
}

/// Whether this could have come from [`DeviceConfig::render_text`]: one section, and nothing but printable lines in it.
///
/// # Errors
/// What is wrong, in a sentence.
pub fn check_text(text: &str) -> Result<(), String> {
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let section = head
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    if !section.is_some_and(|name| SECTIONS.iter().any(|(_, known)| *known == name)) {
        return Err(format!(
            "it begins with {head:?}, which is no section of devices"
        ));
    }
    match lines.find(|line| !line.starts_with("    ") || line.contains(|c: char| c.is_control())) {
        None => Ok(()),
        Some(line) => Err(format!("the line {line:?} is not one of a device")),
    }
}
