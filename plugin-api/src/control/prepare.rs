//! Documents of `prepare` and `release`: making devices ready for a user-space driver, and undoing it.

use serde::{Deserialize, Serialize};

/// How far a preparation goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrepareMode {
    /// Plans and does it.
    #[default]
    Apply,
    /// Makes the same plan and tells it. Changes nothing.
    Plan,
    /// Tells how things are. Changes nothing, and works without privileges as far as it can.
    Status,
}

/// Request of `prepare` and of `release`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PrepareRequest {
    /// How far to go.
    #[serde(default)]
    pub mode: PrepareMode,
    /// Only these devices, as the class names them; empty = all.
    #[serde(default)]
    pub devices: Vec<String>,
    /// Never these devices. One that is in both lists is an error.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Huge pages of the default size to have in all; `None` = leave them as they are.
    #[serde(default)]
    pub hugepages: Option<u64>,
    /// Namespaces that each region of persistent memory shall have; `None` = one, if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<u32>,
    /// Name of the user that shall be able to use the devices; empty = the effective one.
    #[serde(default)]
    pub user: String,
    /// Directory for what has to be remembered until a `release`, absolute; only the owner may write to it. Empty =
    /// the plugin's own.
    #[serde(default)]
    pub state_dir: String,
}

/// What became, or would become, of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrepareState {
    /// A user-space driver can use it.
    Ready,
    /// The kernel has it.
    Kernel,
    /// It has no driver at all.
    Unbound,
    /// It was left alone; `reason` says why.
    Skipped,
    /// Changing it failed; a fault says why.
    Failed,
}

/// A device in a [`PrepareReport`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreparedDevice {
    /// As the config names it: the PCI address.
    pub address: String,
    /// Model text, where the kernel knows it, else vendor and device number.
    #[serde(default)]
    pub model: String,
    /// State after the call; with [`PrepareMode::Plan`] the one that it would have.
    pub state: PrepareState,
    /// Driver after the call; empty = none.
    #[serde(default)]
    pub driver: String,
    /// Driver before the call; empty = none.
    #[serde(default)]
    pub driver_before: String,
    /// IOMMU group, where there is an IOMMU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iommu_group: Option<u32>,
    /// NUMA node; -1 = unknown.
    #[serde(default = "super::unknown_node")]
    pub numa_node: i32,
    /// Who uses it, each with what mends it where something does: "mounted at /home".
    #[serde(default)]
    pub in_use: Vec<String>,
    /// Why it was left alone.
    #[serde(default)]
    pub reason: String,
}

/// Huge pages of one NUMA node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugepagePool {
    /// NUMA node; -1 = the machine as a whole, where the kernel knows no nodes.
    pub node: i32,
    /// KiB of a page.
    pub size_kib: u64,
    /// Pages before the call.
    pub before: u64,
    /// Pages after it; with [`PrepareMode::Plan`] those that it would have.
    pub total: u64,
    /// Of these, not in use.
    pub free: u64,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// It would be done.
    Planned,
    /// It is done.
    Done,
    /// It failed; a fault says why.
    Failed,
}

/// One change, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrepareStep {
    /// "bind 0000:41:00.0 to vfio-pci (now nvme)".
    pub what: String,
    /// Whether it was done.
    pub state: StepState,
}

/// Something that has to be right for devices to be usable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrepareCheck {
    /// What was looked at: "IOMMU".
    pub what: String,
    /// Whether it is right.
    pub ok: bool,
    /// What was found.
    pub found: String,
    /// What mends it; empty if it is right.
    #[serde(default)]
    pub remedy: String,
}

/// Something that failed, while the rest went on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrepareFault {
    /// Device that it is about; empty = none in particular.
    #[serde(default)]
    pub address: String,
    /// What failed, on what.
    pub what: String,
    /// Why.
    #[serde(default)]
    pub cause: String,
    /// What to do next.
    #[serde(default)]
    pub remedy: String,
}

/// A namespace of persistent memory that a file system with direct access can be on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparedNamespace {
    /// Identifier.
    pub uuid: String,
    /// Block device, without `/dev/`: `pmem0`.
    pub blockdev: String,
    /// The kernel's name of the namespace: `namespace0.0`.
    pub dev: String,
    /// NUMA node; -1 = unknown.
    #[serde(default = "super::unknown_node")]
    pub numa_node: i32,
    /// Bytes.
    #[serde(default)]
    pub size: u64,
}

/// Answer of `prepare` and of `release`. A call that could do only part of its work answers with this,
/// too, and with `faults`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PrepareReport {
    /// Every device that the class could drive, also those that were left alone.
    #[serde(default)]
    pub devices: Vec<PreparedDevice>,
    /// Namespaces of persistent memory that are ready after the call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<PreparedNamespace>,
    /// Nothing more can be done before the machine is restarted.
    #[serde(default)]
    pub reboot_required: bool,
    /// Huge pages by node.
    #[serde(default)]
    pub hugepages: Vec<HugepagePool>,
    /// What was done, or would be.
    #[serde(default)]
    pub steps: Vec<PrepareStep>,
    /// What has to be right.
    #[serde(default)]
    pub checks: Vec<PrepareCheck>,
    /// What failed.
    #[serde(default)]
    pub faults: Vec<PrepareFault>,
    /// Remarks for the administrator.
    #[serde(default)]
    pub notes: Vec<String>,
}
