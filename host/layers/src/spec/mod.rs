//! What layers there shall be: the documents of configuration and control plane.

mod read;

pub use read::{parse, parse_one};

use daos_plugin_api::abi::{BdevOp, Status};
use serde::{Deserialize, Serialize};

/// JSON Schema of one entry of `bdev_layers`, in the part of the language that the configuration
/// checks.
pub const SCHEMA: &str = include_str!("../schema.json");

/// Most layers over a device.
pub const LAYERS_MAX: usize = 8;

/// One layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerSpec {
    /// Faults.
    Fault(FaultSpec),
    /// Delays.
    Delay(DelaySpec),
    /// Statistics.
    Stats(StatsSpec),
}

/// A layer of faults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FaultSpec {
    /// Decides the random choices.
    pub seed: u64,
    /// Devices by their number in the engine; empty = all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<u32>,
    /// The first rule that fires decides about a request.
    pub rules: Vec<FaultRule>,
}

/// What a fault does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The request fails; the device never sees it.
    Error,
    /// A write reaches the device in part and is told to be complete.
    Torn,
    /// A write, flush, unmap or write-zeroes never reaches the device and is told to be complete.
    Drop,
    /// One bit of what is read, or of what is written, is another.
    Flip,
    /// The device is gone from then on.
    Remove,
}

/// An operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // each is the operation of the same name of `BdevOp`
pub enum Op {
    Read,
    Write,
    Flush,
    Unmap,
    WriteZeroes,
    Compare,
}

impl Op {
    /// Every operation.
    pub const ALL: [Self; 6] = [
        Self::Read,
        Self::Write,
        Self::Flush,
        Self::Unmap,
        Self::WriteZeroes,
        Self::Compare,
    ];

    /// The operation of a request; `None` for one of a newer interface.
    pub fn of(op: BdevOp) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.abi() == op)
    }

    fn abi(self) -> BdevOp {
        match self {
            Self::Read => BdevOp::READ,
            Self::Write => BdevOp::WRITE,
            Self::Flush => BdevOp::FLUSH,
            Self::Unmap => BdevOp::UNMAP,
            Self::WriteZeroes => BdevOp::WRITE_ZEROES,
            Self::Compare => BdevOp::COMPARE,
        }
    }

    /// Its name, as in the documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Unmap => "unmap",
            Self::WriteZeroes => "write_zeroes",
            Self::Compare => "compare",
        }
    }
}

/// When which fault happens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// What happens.
    #[serde(rename = "do")]
    pub action: Action,
    /// To which operations; empty = all that the action can hit (`flip`: reads).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub op: Vec<Op>,
    /// Only to requests that touch this block or a later one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_block: Option<u64>,
    /// Only to requests that touch this block or an earlier one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_block: Option<u64>,
    /// Not to the first so many of them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skip: u64,
    /// At most so many times on each device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// To each with this probability, 0 to 1.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub probability: f64,
    /// What the request ends with: [`Status`] in words. `error` has IO by default, `torn` and `drop` report
    /// success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusWord>,
}

/// Statuses that a fault can report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // each is the `Status` of the same name
pub enum StatusWord {
    Io,
    Media,
    TimedOut,
    NoSpace,
    NoMemory,
    Reset,
    DeviceGone,
}

impl StatusWord {
    /// The code.
    pub fn code(self) -> Status {
        match self {
            Self::Io => Status::IO,
            Self::Media => Status::MEDIA,
            Self::TimedOut => Status::TIMED_OUT,
            Self::NoSpace => Status::NO_SPACE,
            Self::NoMemory => Status::NO_MEMORY,
            Self::Reset => Status::RESET,
            Self::DeviceGone => Status::DEVICE_GONE,
        }
    }
}

/// A layer of delays.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DelaySpec {
    /// Decides the random choices.
    pub seed: u64,
    /// Devices by their number in the engine; empty = all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<u32>,
    /// The first rule that names an operation decides about it.
    pub rules: Vec<DelayRule>,
}

/// How long completions of some operations are kept back, in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DelayRule {
    /// Of which operations; empty = all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub op: Vec<Op>,
    /// Always so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed_us: Option<u64>,
    /// From, to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uniform_us: Option<[u64; 2]>,
    /// Mean and standard deviation; what would be below 0 is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normal_us: Option<[u64; 2]>,
    /// Median and 99th percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lognormal_us: Option<[u64; 2]>,
}

/// A distribution of delays in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    /// Always so long.
    Fixed(u64),
    /// Evenly from one to the other.
    Uniform(u64, u64),
    /// By mean and standard deviation.
    Normal(f64, f64),
    /// By the logarithm's mean and standard deviation.
    LogNormal(f64, f64),
}

/// A layer of statistics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StatsSpec {
    /// Devices by their number in the engine; empty = all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<u32>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn one() -> f64 {
    1.0
}

fn is_one(p: &f64) -> bool {
    *p >= 1.0
}

/// Why a list of layers is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecError(pub String);

impl std::fmt::Display for SpecError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SpecError {}

impl LayerSpec {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Fault(_) => "fault",
            Self::Delay(_) => "delay",
            Self::Stats(_) => "stats",
        }
    }

    /// Whether it lies over device number `device`.
    pub fn covers(&self, device: u32) -> bool {
        let devices = match self {
            Self::Fault(spec) => &spec.devices,
            Self::Delay(spec) => &spec.devices,
            Self::Stats(spec) => &spec.devices,
        };
        devices.is_empty() || devices.contains(&device)
    }
}
