//! The file that tells an engine its block devices, `daos_nvme.conf`.
//!
//! I/O servers of 2019 read another form, see [`DeviceConfig::render_text`]. This is that of everything since:
//! JSON with an indent of two spaces, in the shape of SPDK's configuration files: `subsystems` lists
//! the calls that set up SPDK, so that the DAOS 2.8 engine can read the file when it takes the place
//! of ours. Our engine reads `daos_data.devices`, which has every device of every class:
//!
//! ```json
//! {
//!   "daos_data": {
//!     "config": [],
//!     "devices": [
//!       {
//!         "index": 0,
//!         "class": "file",
//!         "plugin": "bdev-file",
//!         "address": "/srv/bdev0",
//!         "name": "AIO_host1_0_1_0",
//!         "tier": 1,
//!         "role_bits": 0,
//!         "block_size": 4096,
//!         "blocks": 262144,
//!         "size_bytes": 1073741824,
//!         "label": "11111111-2222-4333-8444-555555555555",
//!         "volatile": false,
//!         "settings": {}
//!       }
//!     ]
//!   },
//!   "subsystems": []
//! }
//! ```

mod spdk;
mod text;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::atomic::{self, FileError};

pub use spdk::{Accelerator, AutoFaulty, IoBuffers, Options, RpcServer};
pub use text::check_text;

/// Name of the file under the SCM mount.
pub const FILE_NAME: &str = "daos_nvme.conf";
/// Access rights of the file.
pub const MODE: u32 = 0o664;
/// Most bytes of the file.
const LIMIT: u64 = 16 << 20;

/// Role of a device: user data.
pub const ROLE_DATA: u32 = 1;
/// Role of a device: metadata.
pub const ROLE_META: u32 = 2;
/// Role of a device: write-ahead log.
pub const ROLE_WAL: u32 = 4;

/// One block device of an engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// Position among the engine's devices, from 0.
    pub index: u32,
    /// Class as in the configuration.
    pub class: String,
    /// Plugin that serves the class.
    pub plugin: String,
    /// PCI address, path or name, as its plugin wants it.
    pub address: String,
    /// Name under which an engine on SPDK knows it, see [`Device::name_of`].
    pub name: String,
    /// Storage tier, from 1; 0 is SCM.
    pub tier: u32,
    /// [`ROLE_DATA`], [`ROLE_META`] and [`ROLE_WAL`]; 0 when there are no roles.
    pub role_bits: u32,
    /// Bytes of a block.
    pub block_size: u32,
    /// Blocks.
    pub blocks: u64,
    /// Bytes: blocks times block size.
    pub size_bytes: u64,
    /// UUID in the label.
    pub label: Uuid,
    /// Whether the content does not survive the engine process.
    pub volatile: bool,
    /// Settings of the class, checked against the schema of its plugin before.
    pub settings: serde_json::Map<String, serde_json::Value>,
}

impl Device {
    /// The name of a device: prefix of the class (`Nvme`, `AIO`, `Malloc`, else the class), host,
    /// index within the tier, tier and role bits.
    pub fn name_of(
        class: &str,
        host: &str,
        index_in_tier: u32,
        tier: u32,
        role_bits: u32,
    ) -> String {
        let prefix = match class {
            "nvme" => "Nvme",
            "file" | "kdev" => "AIO",
            "malloc" => "Malloc",
            other => other,
        };
        format!("{prefix}_{host}_{index_in_tier}_{tier}_{role_bits}")
    }
}

/// What an engine is told.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DeviceConfig {
    /// Devices in order of their index.
    pub devices: Vec<Device>,
}

/// Why a device configuration could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DeviceConfigError {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is no such file.
    #[error("{} is not there; format the storage of the engine", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The content is not what an engine can work on.
    #[error("{}: {reason}; restart the server, which writes this file again", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The file as far as our engine reads it.
#[derive(Deserialize)]
struct FileIn {
    daos_data: DataIn,
}

#[derive(Deserialize)]
struct DataIn {
    devices: Vec<Device>,
}

impl DeviceConfig {
    /// The content of the file.
    ///
    /// `options` are those parts that only an engine on SPDK reads.
    pub fn render(&self, options: &Options) -> String {
        let file = spdk::file(&self.devices, options);
        let mut text = serde_json::to_string_pretty(&file).expect("strings and numbers only");
        text.push('\n');
        text
    }

    /// Writes the file; durable on return.
    ///
    /// # Errors
    /// [`DeviceConfigError`]; the old file is as it was.
    pub fn write(&self, path: &Path, options: &Options) -> Result<(), DeviceConfigError> {
        let text = self.render(options);
        // An engine must be able to read what we write.
        Self::decode(path, text.as_bytes())?;
        Ok(atomic::write(path, MODE, text.as_bytes())?)
    }

    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`DeviceConfigError`].
    pub fn read(path: &Path) -> Result<DeviceConfig, DeviceConfigError> {
        match atomic::read(path, LIMIT)? {
            Some(content) => Self::decode(path, &content),
            None => Err(DeviceConfigError::Missing {
                path: path.to_owned(),
            }),
        }
    }

    /// Reads the bytes of the file at `path`.
    ///
    /// # Errors
    /// [`DeviceConfigError::Malformed`].
    pub fn decode(path: &Path, bytes: &[u8]) -> Result<DeviceConfig, DeviceConfigError> {
        let malformed = |reason: String| DeviceConfigError::Malformed {
            path: path.to_owned(),
            reason,
        };
        let file: FileIn =
            serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
        let devices = file.daos_data.devices;
        check(&devices).map_err(malformed)?;
        Ok(DeviceConfig { devices })
    }
}

/// What holds for every list of devices.
fn check(devices: &[Device]) -> Result<(), String> {
    let (mut labels, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    for (position, device) in devices.iter().enumerate() {
        let Device {
            index,
            class,
            address,
            blocks,
            block_size,
            size_bytes,
            ..
        } = device;
        if *index as usize != position {
            return Err(format!("device {index} is listed at position {position}"));
        }
        if blocks.checked_mul(u64::from(*block_size)) != Some(*size_bytes) {
            return Err(format!(
                "device {index}: {blocks} blocks of {block_size} bytes are not {size_bytes} bytes"
            ));
        }
        if !labels.insert(device.label) {
            return Err(format!(
                "device {index}: its label {} is another device's",
                device.label
            ));
        }
        if !addresses.insert((class, address)) {
            return Err(format!("device {index}: {class} {address} is listed twice"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
