//! What layers there shall be: the documents of configuration and control plane.

use daos_plugin_api::abi::{BdevOp, Request, Status};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// JSON Schema of one entry of `bdev_layers`, in the part of the language that the configuration
/// checks.
pub const SCHEMA: &str = include_str!("schema.json");

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

fn fail<T>(text: impl Into<String>) -> Result<T, SpecError> {
    Err(SpecError(text.into()))
}

/// Reads and checks a list of layers, the JSON form of `bdev_layers`.
///
/// # Errors
/// Which entry is wrong, and how.
pub fn parse(layers: &str) -> Result<Vec<LayerSpec>, SpecError> {
    let entries: Vec<Value> = serde_json::from_str(layers)
        .map_err(|e| SpecError(format!("the layers are no JSON list: {e}")))?;
    if entries.len() > LAYERS_MAX {
        return fail(format!(
            "{} layers, at most {LAYERS_MAX} fit over a device",
            entries.len()
        ));
    }
    let numbered = entries.iter().enumerate();
    numbered
        .map(|(n, entry)| parse_one(entry).map_err(|e| SpecError(format!("layer {n}: {e}"))))
        .collect()
}

/// Reads and checks one layer.
///
/// # Errors
/// What is wrong with it.
pub fn parse_one(entry: &Value) -> Result<LayerSpec, SpecError> {
    // `stats:` without a value, as one writes it in YAML.
    let entry = match entry {
        Value::Object(map) if map.len() == 1 => {
            let (name, value) = map.iter().next().unwrap_or_else(|| unreachable!());
            let value = match value {
                Value::Null => Value::Object(serde_json::Map::new()),
                other => other.clone(),
            };
            serde_json::json!({ name.as_str(): value })
        }
        Value::Object(map) => {
            return fail(format!(
                "an entry names one layer (fault, delay or stats), this one has {} keys",
                map.len()
            ));
        }
        _ => return fail("an entry is a layer with its settings, as in `- stats: {}`"),
    };
    let spec: LayerSpec = serde_json::from_value(entry).map_err(|e| SpecError(e.to_string()))?;
    match &spec {
        LayerSpec::Fault(fault) => fault.rules.iter().try_for_each(FaultRule::check)?,
        LayerSpec::Delay(delay) => {
            if delay.rules.is_empty() {
                return fail("delay has no rules");
            }
            for rule in &delay.rules {
                rule.distribution()?;
            }
        }
        LayerSpec::Stats(_) => {}
    }
    Ok(spec)
}

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

impl FaultRule {
    /// The operations that the action can hit.
    fn possible(&self) -> &'static [Op] {
        match self.action {
            Action::Error | Action::Remove => &Op::ALL,
            Action::Torn => &[Op::Write],
            Action::Drop => &[Op::Write, Op::Flush, Op::Unmap, Op::WriteZeroes],
            Action::Flip => &[Op::Read, Op::Write],
        }
    }

    fn check(&self) -> Result<(), SpecError> {
        let possible = self.possible();
        if let Some(op) = self.op.iter().find(|op| !possible.contains(op)) {
            return fail(
                format!("{:?} cannot hit the operation {}", self.action, op.name()).to_lowercase(),
            );
        }
        if !(0.0..=1.0).contains(&self.probability) {
            return fail(format!(
                "probability is {}, it must be 0 to 1",
                self.probability
            ));
        }
        if let (Some(first), Some(last)) = (self.first_block, self.last_block)
            && first > last
        {
            return fail(format!("first_block {first} lies behind last_block {last}"));
        }
        if self.status.is_some() && matches!(self.action, Action::Flip | Action::Remove) {
            return fail("status belongs to error, torn and drop");
        }
        Ok(())
    }

    /// Whether it is about requests of this kind and place.
    pub(crate) fn matches(&self, request: &Request) -> bool {
        let Some(op) = Op::of(request.op) else {
            return false;
        };
        let named = match (self.op.is_empty(), self.action) {
            (true, Action::Flip) => op == Op::Read,
            (true, Action::Drop) => op == Op::Write,
            (true, _) => self.possible().contains(&op),
            (false, _) => self.op.contains(&op),
        };
        if self.first_block.is_none() && self.last_block.is_none() {
            return named;
        }
        // A flush has no place.
        let last = match request.blocks {
            0 => return false,
            blocks => request.lba.saturating_add(blocks - 1),
        };
        named
            && self.first_block.is_none_or(|first| last >= first)
            && self.last_block.is_none_or(|end| request.lba <= end)
    }
}

impl DelayRule {
    /// Its distribution.
    ///
    /// # Errors
    /// If it has none, or several, or one that cannot be.
    pub fn distribution(&self) -> Result<Distribution, SpecError> {
        let given = [
            self.fixed_us.map(Distribution::Fixed),
            self.uniform_us.map(|[a, b]| Distribution::Uniform(a, b)),
            self.normal_us
                .map(|[m, d]| Distribution::Normal(m as f64, d as f64)),
            self.lognormal_us.map(|[median, p99]| {
                let median = (median as f64).max(1.0);
                // The 99th percentile of the normal distribution lies 2.326 deviations above the mean.
                let deviation = ((p99 as f64).max(1.0) / median).ln() / 2.326_347_9;
                Distribution::LogNormal(median.ln(), deviation)
            }),
        ];
        let mut given = given.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(Distribution::Uniform(from, to)), None) if from > to => {
                fail(format!("uniform_us goes from {from} to {to}"))
            }
            (Some(Distribution::LogNormal(_, deviation)), None) if deviation < 0.0 => {
                fail("the 99th percentile of lognormal_us lies below its median")
            }
            (Some(one), None) => Ok(one),
            (None, _) => {
                fail("a delay needs one of fixed_us, uniform_us, normal_us and lognormal_us")
            }
            (Some(_), Some(_)) => fail("a delay has one distribution, this one has several"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_documentation_shows_is_accepted() {
        let text = r#"[
            {"fault": {"seed": 7, "rules": [
                {"do": "error", "op": ["read"], "first_block": 100, "last_block": 200, "status": "media"},
                {"do": "torn", "probability": 0.01},
                {"do": "drop", "op": ["flush"], "count": 3},
                {"do": "flip", "op": ["write"], "skip": 10},
                {"do": "remove", "skip": 1000}]}},
            {"delay": {"rules": [{"op": ["write"], "lognormal_us": [80, 2000]}, {"fixed_us": 20}]}},
            {"stats": null}]"#;
        let layers = parse(text).unwrap();
        let names: Vec<_> = layers.iter().map(LayerSpec::name).collect();
        assert_eq!(names, ["fault", "delay", "stats"]);
        let again = parse(&serde_json::to_string(&layers).unwrap()).unwrap();
        assert_eq!(again, layers);
    }

    #[test]
    fn what_cannot_be_is_refused_in_words() {
        for (entry, words) in [
            (r#"{"fault": {"ruels": []}}"#, "ruels"),
            (r#"{"faults": {}}"#, "faults"),
            (r#"{"fault": {}, "stats": {}}"#, "one layer"),
            (r#""stats""#, "as in"),
            (r#"{"fault": {"rules": [{"op": ["read"]}]}}"#, "do"),
            (
                r#"{"fault": {"rules": [{"do": "torn", "op": ["read"]}]}}"#,
                "torn cannot hit",
            ),
            (
                r#"{"fault": {"rules": [{"do": "error", "probability": 2}]}}"#,
                "probability",
            ),
            (
                r#"{"fault": {"rules": [{"do": "error", "first_block": 2, "last_block": 1}]}}"#,
                "behind",
            ),
            (
                r#"{"fault": {"rules": [{"do": "flip", "status": "io"}]}}"#,
                "status",
            ),
            (r#"{"delay": {"rules": []}}"#, "no rules"),
            (r#"{"delay": {"rules": [{}]}}"#, "needs one of"),
            (
                r#"{"delay": {"rules": [{"fixed_us": 1, "normal_us": [1, 1]}]}}"#,
                "several",
            ),
            (
                r#"{"delay": {"rules": [{"uniform_us": [2, 1]}]}}"#,
                "from 2 to 1",
            ),
            (
                r#"{"delay": {"rules": [{"lognormal_us": [9, 1]}]}}"#,
                "percentile",
            ),
        ] {
            let error = parse(&format!("[{entry}]")).unwrap_err().to_string();
            assert!(error.contains(words), "{entry}: {error}");
        }
        assert!(parse("{}").is_err());
        let many = [r#"{"stats":{}}"#; 9].join(",");
        assert!(parse(&format!("[{many}]")).is_err());
    }

    #[test]
    fn the_schema_is_json_and_knows_every_key() {
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        let rule = &schema["properties"]["fault"]["properties"]["rules"]["items"]["properties"];
        let full = FaultRule {
            action: Action::Error,
            op: vec![Op::Read],
            first_block: Some(1),
            last_block: Some(2),
            skip: 1,
            count: Some(1),
            probability: 0.5,
            status: Some(StatusWord::Io),
        };
        let keys = serde_json::to_value(full).unwrap();
        for key in keys.as_object().unwrap().keys() {
            assert!(rule.get(key).is_some(), "{key}");
        }
        assert_eq!(
            rule.as_object().unwrap().len(),
            keys.as_object().unwrap().len()
        );
        let rule = &schema["properties"]["delay"]["properties"]["rules"]["items"]["properties"];
        assert_eq!(rule.as_object().unwrap().len(), 5);
    }
}
