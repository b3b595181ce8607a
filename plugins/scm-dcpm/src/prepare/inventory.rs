//! Modules, regions and namespaces as `ndctl list` prints them.
//!
//! Its JSON has many shapes - an object, an array, buses with both below them, nothing at all - which
//! depend on options and on what there is. Names of devices tell everywhere what an object is; so objects
//! are found by those, wherever they stand. Source: the ndctl-list manual page and recorded output.

use super::ipmctl::{Dimm, Dimms};
use daos_plugin_api::abi::Status;
use daos_plugin_api::sdk::{Error, Result};
use serde::Deserialize;
use serde_json::Value;

/// A memory module.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Module {
    /// `nmem0`.
    pub dev: String,
    /// Unique identifier: vendor, place and date of manufacture, serial number.
    #[serde(default)]
    pub id: String,
    /// Handle of the NFIT: node, socket, memory controller, channel, slot; four bits each.
    #[serde(default)]
    pub handle: Option<u32>,
    /// SMBIOS handle.
    #[serde(default)]
    pub phys_id: Option<u32>,
    /// `disabled` where it is.
    #[serde(default)]
    pub state: String,
    /// `disabled`, `unlocked`, `locked`, `frozen`, `overwrite`.
    #[serde(default)]
    pub security: String,
    /// Its contents could not be mapped into the address space.
    #[serde(default)]
    pub flag_failed_map: bool,
    /// It will not save its contents when the power goes.
    #[serde(default)]
    pub flag_failed_arm: bool,
    /// Contents were not saved when the power went.
    #[serde(default)]
    pub flag_failed_save: bool,
    /// Contents could not be restored.
    #[serde(default)]
    pub flag_failed_restore: bool,
    /// Caches could not be flushed when the power went.
    #[serde(default)]
    pub flag_failed_flush: bool,
    /// SMART data, where the module has any.
    #[serde(default)]
    pub health: Option<Health>,
}

/// SMART data of a module.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Health {
    /// `ok`, `non-critical`, `critical`, `fatal`, `unknown`.
    #[serde(default)]
    pub health_state: String,
    /// Degrees Celsius.
    #[serde(default)]
    pub temperature_celsius: Option<f64>,
    /// Spare capacity that is left, in percent.
    #[serde(default)]
    pub spares_percentage: Option<f64>,
    /// Spare capacity below which the module warns, in percent.
    #[serde(default)]
    pub spares_threshold: Option<f64>,
    /// Times that the power went before all was saved.
    #[serde(default)]
    pub shutdown_count: Option<u64>,
    /// Life that is used, in percent.
    #[serde(default)]
    pub life_used_percentage: Option<f64>,
    /// `clean` or `dirty`.
    #[serde(default)]
    pub shutdown_state: String,
}

/// Modules that are one range of memory.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Region {
    /// `region0`.
    pub dev: String,
    /// Bytes.
    #[serde(default)]
    pub size: u64,
    /// Bytes that no namespace has.
    #[serde(default)]
    pub available_size: u64,
    /// Of these, in one piece.
    #[serde(default)]
    pub max_available_extent: Option<u64>,
    /// Bytes that sizes of namespaces are a multiple of; 0 = not told.
    #[serde(default)]
    pub align: u64,
    /// `pmem`, or `blk` with old kernels.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// NUMA node; -1 = unknown.
    #[serde(default = "unknown")]
    pub numa_node: i32,
    /// `disabled` where it is.
    #[serde(default)]
    pub state: String,
    /// What is durable when the power goes: `memory_controller`, `cpu_cache`.
    #[serde(default)]
    pub persistence_domain: String,
    /// Its modules.
    #[serde(default)]
    pub mappings: Vec<Mapping>,
    /// Its namespaces, with those that only stand for free space.
    #[serde(default)]
    pub namespaces: Vec<Namespace>,
}

/// A module's part in a region.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Mapping {
    /// The module.
    pub dimm: String,
    /// Bytes.
    #[serde(default)]
    pub length: u64,
}

/// A part of a region.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Namespace {
    /// `namespace0.0`.
    pub dev: String,
    /// `raw`, `fsdax`, `sector`, `devdax`; a disabled one is called `raw`, whatever it is.
    #[serde(default)]
    pub mode: String,
    /// Bytes that can be used; 0 = it only stands for free space.
    #[serde(default)]
    pub size: u64,
    /// Identifier.
    #[serde(default)]
    pub uuid: String,
    /// Block device, where it has one: `pmem0`.
    #[serde(default)]
    pub blockdev: String,
    /// `disabled` where it is.
    #[serde(default)]
    pub state: String,
    /// Name that its maker gave it.
    #[serde(default)]
    pub name: String,
    /// Bytes that mappings are aligned to.
    #[serde(default)]
    pub align: u64,
    /// Bad blocks that the kernel knows of.
    #[serde(default)]
    pub badblock_count: u64,
}

fn unknown() -> i32 {
    -1
}

impl Namespace {
    /// It exists, rather than stands for free space.
    pub fn is_real(&self) -> bool {
        self.size > 0
    }

    /// Somebody who was killed had begun to make it: it has an identifier, and no space yet. Until it is destroyed the
    /// kernel gives it no other identifier (EBUSY), and each try to make one begins with that.
    pub fn is_begun(&self) -> bool {
        self.size == 0 && self.uuid.chars().any(|digit| !"0-".contains(digit))
    }

    /// A file system with direct access can be on it now.
    pub fn is_ready(&self) -> bool {
        self.mode == "fsdax" && self.state != "disabled" && !self.blockdev.is_empty()
    }

    /// What a config names: the block device, or the namespace if it has none.
    pub fn address(&self) -> String {
        match self.blockdev.as_str() {
            "" => self.dev.clone(),
            device => format!("/dev/{device}"),
        }
    }
}

impl Region {
    /// Bytes that a new namespace can have.
    pub fn free(&self) -> u64 {
        self.max_available_extent.unwrap_or(self.available_size)
    }

    /// The namespaces that exist.
    pub fn real(&self) -> impl Iterator<Item = &Namespace> {
        self.namespaces.iter().filter(|n| n.is_real())
    }
}

/// All there is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inventory {
    /// By name.
    pub modules: Vec<Module>,
    /// By name.
    pub regions: Vec<Region>,
    /// What Intel's modules say of themselves; empty where there are none, or it was not asked for.
    pub dimms: Dimms,
    /// Why that is not known although there are such modules.
    pub dimms_unknown: Option<Error>,
}

impl Inventory {
    /// Options of `ndctl` whose output this reads.
    pub const COMMAND: [&str; 3] = ["list", "--dimms", "-RNHiv"];

    /// Reads what `ndctl list` printed, which is nothing where there is nothing.
    ///
    /// # Errors
    /// It is no JSON, or an object has members of another type.
    pub fn parse(text: &str) -> Result<Self> {
        let mut found = Self::default();
        if text.trim().is_empty() {
            return Ok(found);
        }
        let broken = |e: serde_json::Error| {
            Error::new(Status::INTERNAL, "what ndctl lists cannot be read")
                .cause(e.to_string())
                .remedy("check its version with `ndctl --version`; 71 and later are known")
        };
        let document: Value = serde_json::from_str(text).map_err(broken)?;
        found.collect(&document).map_err(broken)?;
        found.modules.sort_by_key(|one| order(&one.dev));
        found.regions.sort_by_key(|one| order(&one.dev));
        for region in &mut found.regions {
            let namespaces = &mut region.namespaces;
            namespaces.sort_by_key(|one| order(&one.dev));
        }
        Ok(found)
    }

    fn collect(&mut self, value: &Value) -> serde_json::Result<()> {
        let members: Vec<&Value> = match value {
            Value::Array(members) => members.iter().collect(),
            Value::Object(object) => {
                let name = object
                    .get("dev")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                if name.starts_with("nmem") {
                    self.modules.push(serde_json::from_value(value.clone())?);
                    return Ok(());
                }
                if name.starts_with("region") {
                    self.regions.push(serde_json::from_value(value.clone())?);
                    return Ok(());
                }
                object.values().collect()
            }
            _ => Vec::new(),
        };
        members
            .into_iter()
            .try_for_each(|member| self.collect(member))
    }

    /// What a module says of itself, where it is one of Intel's.
    pub fn dimm_of(&self, module: &Module) -> Option<&Dimm> {
        self.dimms.with_handle(module.handle)
    }

    /// What the modules of a region say of themselves.
    pub fn dimms_of<'a>(&'a self, region: &'a Region) -> impl Iterator<Item = &'a Dimm> {
        self.modules_of(region)
            .filter_map(|module| self.dimm_of(module))
    }

    /// The modules of a region.
    pub fn modules_of<'a>(&'a self, region: &'a Region) -> impl Iterator<Item = &'a Module> {
        let is_in = |m: &&Module| region.mappings.iter().any(|mapping| mapping.dimm == m.dev);
        self.modules.iter().filter(is_in)
    }
}

/// Numbers in names count as numbers: region10 comes after region9.
fn order(name: &str) -> Vec<u32> {
    let numbers = name.split(|c: char| !c.is_ascii_digit());
    numbers.filter_map(|digits| digits.parse().ok()).collect()
}
