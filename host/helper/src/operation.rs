//! What a helper can be asked to do.

use daos_burnin::Load;
use daos_burnin::consent::Access;
use daos_plugin_api::control::{ClassRequest, DeviceSpec, FormatRequest};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::time::Duration;
use uuid::Uuid;

/// Longest burn-in, if its load does not say when it ends.
const BURN_IN_LIMIT: Duration = Duration::from_secs(7 * 24 * 3600);
/// Time for a burn-in beside its load.
const BURN_IN_MARGIN: Duration = Duration::from_secs(300);

/// One operation. The first eleven are the plugin's control face, the others are the helper's own.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Checks a class config.
    Validate(ClassRequest),
    /// Lists what the plugin could drive.
    Scan,
    /// Makes devices ready for use.
    Prepare(Map<String, Value>),
    /// Undoes `Prepare`.
    Release(Map<String, Value>),
    /// Lists the devices of a class config.
    Devices(ClassRequest),
    /// Makes a device ready to be labelled. Destructive.
    Format(FormatRequest),
    /// Mounts formatted SCM.
    Mount(DeviceSpec),
    /// Unmounts it.
    Unmount(DeviceSpec),
    /// Health of a device that no engine holds.
    Health(DeviceSpec),
    /// Firmware query or update.
    Firmware(Map<String, Value>),
    /// Brings a block device to rest whose user has died: [`QuiesceReport`](daos_plugin_api::control::QuiesceReport).
    Quiesce(DeviceSpec),
    /// Opens a block device and tells its geometry, label and content: [`DeviceInspection`].
    InspectDevice(DeviceSpec),
    /// Writes both copies of a block device's label and reads them back: [`LabelWritten`].
    WriteLabel {
        /// The device.
        device: DeviceSpec,
        /// What to write.
        label: LabelRequest,
    },
    /// Overwrites our label with zeroes; what is not our label stays. Answers whether there was one.
    ClearLabel(DeviceSpec),
    /// Reads a file of the engine on its SCM mount: its text, or null if there is none.
    ReadMountFile {
        /// The SCM, mounted.
        device: DeviceSpec,
        /// Which file.
        file: MountFile,
    },
    /// Replaces a file of the engine on its SCM mount, as a whole and durably.
    WriteMountFile {
        /// The SCM, mounted.
        device: DeviceSpec,
        /// Which file.
        file: MountFile,
        /// Its text.
        content: String,
    },
    /// Removes a file of the engine on its SCM mount. Answers whether there was one.
    RemoveMountFile {
        /// The SCM, mounted.
        device: DeviceSpec,
        /// Which file.
        file: MountFile,
    },
    /// Burns block devices in; reports are [`daos_burnin::Update`]s. Ends early, and well, when cancelled.
    BurnIn(Box<BurnInRequest>),
}

/// Request of [`Operation::BurnIn`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BurnInRequest {
    /// The run.
    pub run: Uuid,
    /// What to do.
    pub load: Load,
    /// The devices, side by side.
    pub devices: Vec<BurnInDevice>,
}

/// A device of a [`BurnInRequest`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BurnInDevice {
    /// The device.
    pub device: DeviceSpec,
    /// Whether it may be written to; looked at again with the device open.
    pub access: Access,
}

impl Operation {
    /// Name, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Validate(_) => "validate",
            Self::Scan => "scan",
            Self::Prepare(_) => "prepare",
            Self::Release(_) => "release",
            Self::Devices(_) => "devices",
            Self::Format(_) => "format",
            Self::Mount(_) => "mount",
            Self::Unmount(_) => "unmount",
            Self::Health(_) => "health",
            Self::Firmware(_) => "firmware",
            Self::Quiesce(_) => "quiesce",
            Self::InspectDevice(_) => "inspect_device",
            Self::WriteLabel { .. } => "write_label",
            Self::ClearLabel(_) => "clear_label",
            Self::ReadMountFile { .. } => "read_mount_file",
            Self::WriteMountFile { .. } => "write_mount_file",
            Self::RemoveMountFile { .. } => "remove_mount_file",
            Self::BurnIn(_) => "burn_in",
        }
    }

    /// Time that an operation may take when the caller does not say: generous for work on whole
    /// devices, short for questions.
    pub fn default_deadline(&self) -> Duration {
        if let Self::BurnIn(request) = self {
            // Reading back takes a quarter of the load's time or a few seconds; opening and closing take a while.
            let load = request.load.duration_ms().map(Duration::from_millis);
            return load.map_or(BURN_IN_LIMIT, |load| load + load / 4) + BURN_IN_MARGIN;
        }
        Duration::from_secs(match self {
            Self::Validate(_) => 10,
            Self::Devices(_) | Self::Health(_) | Self::Quiesce(_) => 30,
            Self::InspectDevice(_) | Self::WriteLabel { .. } | Self::ClearLabel(_) => 60,
            Self::ReadMountFile { .. }
            | Self::WriteMountFile { .. }
            | Self::RemoveMountFile { .. } => 30,
            Self::Scan | Self::Mount(_) | Self::Unmount(_) => 60,
            Self::Firmware(_) => 900,
            // A namespace of persistent memory takes minutes.
            Self::Prepare(_) | Self::Release(_) => 3600,
            Self::Format(_) | Self::BurnIn(_) => 3600,
        })
    }
}

/// Files of an engine on its SCM mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountFile {
    /// The superblock.
    Superblock,
    /// The device configuration, `daos_nvme.conf`.
    DeviceConfig,
}

/// Contents of a label, but for the geometry, which the helper takes from the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelRequest {
    /// The engine that owns the device.
    pub engine: Uuid,
    /// Stamp of the format.
    pub generation: u64,
    /// Position among the engine's devices, from 0.
    pub index: u32,
    /// Number of the engine's devices.
    pub count: u32,
    /// The device.
    pub device: Uuid,
    /// When it was made, seconds since 1970.
    pub created: u64,
}

/// A label that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelWritten {
    /// Bytes of a block.
    pub block_size: u32,
    /// Blocks of the device.
    pub blocks: u64,
    /// Contents of the device die with the process that opened it.
    pub volatile: bool,
}

/// What is on a block device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceInspection {
    /// Bytes of a block.
    pub block_size: u32,
    /// Blocks.
    pub blocks: u64,
    /// NUMA node, -1 = unknown.
    pub numa_node: i32,
    /// Contents die with the process that opened the device.
    pub ephemeral: bool,
    /// Writes may sit in a cache that a power failure empties.
    pub volatile_cache: bool,
    /// The device refuses writes.
    pub read_only: bool,
    /// Nothing but zeroes at both ends.
    pub blank: bool,
    /// Something is there that is not ours.
    pub foreign: bool,
    /// What was recognised, in words.
    pub content: String,
    /// Our label.
    pub label: LabelState,
}

impl DeviceInspection {
    /// What would be lost if the device was overwritten, in words; `None` = nothing.
    pub fn holds(&self) -> Option<String> {
        match &self.label {
            LabelState::Present { label, .. } => Some(format!(
                "data of engine {}, device {} of {}",
                label.engine,
                label.index + 1,
                label.count
            )),
            LabelState::Differ { first, second } => Some(format!(
                "two labels that differ (engines {} and {})",
                first.engine, second.engine
            )),
            LabelState::Damaged { detail } => Some(format!("a damaged label: {detail}")),
            LabelState::None if self.blank => None,
            LabelState::None => Some(self.content.clone()),
        }
    }
}

/// What both copies of a label say together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelState {
    /// There is none.
    None,
    /// There is one. `repair` says what is wrong with its other copy, if anything.
    Present {
        /// The label.
        label: LabelRequest,
        /// Contents were marked as dying with the process.
        volatile: bool,
        /// What is wrong with the other copy.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repair: Option<String>,
    },
    /// The copies differ: a format was interrupted between them.
    Differ {
        /// The copy at the start.
        first: LabelRequest,
        /// The copy at the end.
        second: LabelRequest,
    },
    /// There was one, and neither copy can be used.
    Damaged {
        /// What is wrong.
        detail: String,
    },
}
