//! Documents of the control face: the JSON that goes in and out of
//! [`ControlTable`](crate::abi::ControlTable). Unknown members are ignored on both sides, so
//! documents grow without a new interface version.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

mod firmware;
mod health;
mod prepare;

pub use firmware::{
    FirmwareActivation, FirmwareOutcome, FirmwareReport, FirmwareRequest, FirmwareSlot,
    FirmwareUpdate,
};
pub use health::{HealthRecord, HealthStatus};
pub use prepare::{
    HugepagePool, PrepareCheck, PrepareFault, PrepareMode, PrepareReport, PrepareRequest,
    PrepareState, PrepareStep, PreparedDevice, PreparedNamespace, StepState,
};

/// What a plugin class provides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassKind {
    /// Storage-class memory.
    Scm,
    /// Block device.
    Bdev,
    /// Fabric provider.
    Fabric,
}

impl core::fmt::Display for ClassKind {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Scm => "scm",
            Self::Bdev => "bdev",
            Self::Fabric => "fabric",
        })
    }
}

/// Name of the fabric class that serves a provider, which is the family it belongs to: `ofi` for
/// `ofi+tcp;ofi_rxm`, `verbs` for `verbs;ofi_rxm`, `tcp` for `tcp`. The plugin of a family is opened with the whole
/// name and chooses by it. `None` for an empty name.
pub fn provider_class(provider: &str) -> Option<&str> {
    provider
        .split(['+', ';'])
        .next()
        .filter(|_| !provider.is_empty())
}

/// The manifest: who a plugin is, readable without running it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Unique name, `[a-z0-9-]+`, by convention `<kind>-<class>`.
    pub name: String,
    /// Version of the plugin.
    pub version: String,
    /// Who makes it.
    #[serde(default)]
    pub vendor: String,
    /// One sentence for `plugin list`.
    #[serde(default)]
    pub description: String,
    /// Classes it provides.
    pub classes: Vec<Class>,
    /// Capabilities that the privileged helper keeps for it (`CAP_SYS_ADMIN` ...).
    #[serde(default)]
    pub privileges: Vec<String>,
    /// Runtimes that only one plugin of a process may bring (`dpdk-eal`).
    #[serde(default)]
    pub exclusive: Vec<String>,
    /// Shared libraries that it needs and that a system may lack, each with the Debian package that
    /// brings it (`"libfabric.so.1": "libfabric1"`): what to install when the linker does not find one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub libraries: BTreeMap<String, String>,
}

/// A class of a plugin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Class {
    /// What it is.
    pub kind: ClassKind,
    /// Value of `scm_class`, `bdev_class`, or the provider family.
    pub name: String,
    /// Optional functions it has: `scan`, `prepare`, `health`, `firmware`, `flush`, `unmap` ...
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// Contents die with the process that opened the device: labelled by the engine itself.
    #[serde(default)]
    pub ephemeral: bool,
    /// JSON Schema of the config keys it uses.
    #[serde(default)]
    pub schema: Value,
}

/// Request of `validate` and `devices`: the class config of one engine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClassRequest {
    /// Class name.
    pub class: String,
    /// The engine's keys of that class, as in the config file (`bdev_list`, `scm_size` ...).
    #[serde(default)]
    pub config: Map<String, Value>,
}

/// Answer of `scan`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScanReport {
    /// What was found.
    pub devices: Vec<DeviceRecord>,
    /// Remarks for the administrator.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Fabrics: the providers that the plugin has here, whether they found an interface or not.
    #[serde(default)]
    pub providers: Vec<ProviderRecord>,
}

/// A provider of a fabric plugin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProviderRecord {
    /// Its name, without layers.
    pub name: String,
    /// Its version; empty if it does not say.
    #[serde(default)]
    pub version: String,
    /// Why it cannot be used on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unusable: Option<String>,
}

/// A device or interface that a scan found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// What it is.
    pub kind: ClassKind,
    /// Class that drives it.
    pub class: String,
    /// What to write into the config: PCI address, path, interface name.
    pub address: String,
    /// Model text.
    #[serde(default)]
    pub model: String,
    /// Serial number.
    #[serde(default)]
    pub serial: String,
    /// Firmware revision.
    #[serde(default)]
    pub firmware: String,
    /// Bytes; 0 = not applicable.
    #[serde(default)]
    pub size: u64,
    /// Bytes per block; 0 = not applicable.
    #[serde(default)]
    pub block_size: u32,
    /// NUMA node; -1 = unknown.
    #[serde(default = "unknown_node")]
    pub numa_node: i32,
    /// Why it cannot be taken: "mounted at /home".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_use: Option<String>,
    /// Whatever else the class knows.
    #[serde(default)]
    pub details: Map<String, Value>,
}

fn unknown_node() -> i32 {
    -1
}

/// State of a configured device before a format or start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// Does not exist yet; `format` makes it.
    Absent,
    /// Exists and can be opened; what it holds is for the host to judge.
    Present,
    /// Exists, but somebody uses it.
    InUse,
    /// Ought to exist and does not.
    Missing,
}

/// One configured device, as `devices` lists it; the request of `format`, `open`, `mount`,
/// `health`, `quiesce`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceSpec {
    /// Class name.
    pub class: String,
    /// Position among the engine's devices of this class, from 0.
    pub index: u32,
    /// PCI address, path, mount point.
    pub address: String,
    /// Bytes it has or will have; 0 = unknown until opened.
    #[serde(default)]
    pub size: u64,
    /// State when listed.
    pub state: DeviceState,
    /// Explains the state: who uses it, what is missing. Of a present device: foreign content that a format would destroy,
    /// where that is known without opening it; empty otherwise.
    #[serde(default)]
    pub detail: String,
    /// The class config it came from.
    #[serde(default)]
    pub config: Map<String, Value>,
}

/// Request of `format`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FormatRequest {
    /// The device.
    pub device: DeviceSpec,
    /// The administrator allowed to overwrite content that is not ours.
    #[serde(default)]
    pub overwrite_foreign: bool,
    /// The administrator wants the device erased by its own command NVMe Format, its format of blocks as it is; a
    /// class without that command refuses.
    #[serde(default)]
    pub nvme_format: bool,
    /// Nothing is to be changed: the answer is whether this format would be refused, as far as that can be told without
    /// touching the device. Only classes with the capability `format_check` are asked; others would format.
    #[serde(default)]
    pub check_only: bool,
}

/// Answer of `format`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FormatReport {
    /// Bytes of the formatted device.
    #[serde(default)]
    pub size: u64,
    /// Remarks for the administrator.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// Answer of `quiesce`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QuiesceReport {
    /// What was still going on and has been ended, for the log; none if the device was at rest.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// Request of the fabric's `open`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FabricOpenRequest {
    /// Provider name as in the config (`ofi+tcp`, `tcp` ...).
    pub provider: String,
    /// Network interface (`eth0`, `lo`) or address; empty = the plugin chooses.
    #[serde(default)]
    pub interface: String,
    /// First port to use; 0 = any.
    #[serde(default)]
    pub port: u16,
    /// Its endpoints answer: a peer is resolved because a message of its has arrived, so that there is a connection to it,
    /// or the peer has gone. What a provider would have to connect for may end as unreachable soon.
    #[serde(default)]
    pub answers: bool,
    /// Whatever else the class knows.
    #[serde(default)]
    pub config: Map<String, Value>,
}

#[cfg(test)]
mod tests {
    use super::provider_class;

    #[test]
    fn providers_name_their_class() {
        for (provider, class) in [
            ("", None),
            ("tcp", Some("tcp")),
            ("ofi+tcp", Some("ofi")),
            ("ofi+tcp;ofi_rxm", Some("ofi")),
            ("verbs;ofi_rxm", Some("verbs")),
            ("+tcp", Some("")),
        ] {
            assert_eq!(provider_class(provider), class, "{provider}");
        }
    }
}
