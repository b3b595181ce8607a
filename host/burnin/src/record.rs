//! What is known about a run, while it runs and afterwards.

use crate::load::Load;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Number of the document's layout; it changes only if members change their meaning.
const FORMAT: u32 = 1;
/// Most errors per device that are kept one by one; all are counted.
pub const MAX_ERRORS: usize = 64;
/// Most points of a device's time series.
pub const MAX_POINTS: usize = 600;

/// A run on one host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// 1.
    pub format: u32,
    /// Name of the run on its host.
    pub run: String,
    /// The host.
    pub host: String,
    /// Milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// The same; 0 while it runs.
    pub ended_ms: u64,
    /// How it is, or how it ended.
    pub state: RunState,
    /// Why, in a sentence.
    pub reason: String,
    /// What was asked for.
    pub load: Load,
    /// The devices.
    pub devices: Vec<DeviceRecord>,
}

/// How a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// It runs.
    Running,
    /// It ended by itself, and no device had an error.
    Passed,
    /// A device had errors; also if it was stopped after that.
    Failed,
    /// It was stopped before its end; no errors until then.
    Stopped,
    /// Its process or the server ended; no errors until then.
    Interrupted,
    /// It could not run, or not on all devices.
    NotRun,
}

impl RunState {
    /// As in the document.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Interrupted => "interrupted",
            Self::NotRun => "not-run",
        }
    }
}

/// Whether a device is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It is.
    ReadWrite,
    /// It is not.
    ReadOnly,
}

impl Mode {
    /// As in the document.
    pub fn name(self) -> &'static str {
        match self {
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "read-only",
        }
    }
}

/// How far a device is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// It is being opened and looked at.
    #[default]
    Preparing,
    /// The load is on it.
    Load,
    /// What was written is read back.
    ReadBack,
    /// It is done.
    Done,
}

impl Phase {
    /// As in the document.
    pub fn name(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Load => "load",
            Self::ReadBack => "read-back",
            Self::Done => "done",
        }
    }
}

/// A device of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// `CLASS:ADDRESS`.
    pub device: String,
    /// The plugin that drives it.
    pub plugin: String,
    /// Model, serial number and firmware revision, if the plugin tells.
    pub identity: BTreeMap<String, String>,
    /// Bytes.
    pub size_bytes: u64,
    /// Bytes of a block.
    pub block_size: u32,
    /// Whether it is written to.
    pub mode: Mode,
    /// What was on it before, in words.
    pub held: String,
    /// That was given away.
    pub destroyed: bool,
    /// How far it is.
    pub phase: Phase,
    /// The run ended before its time on this device.
    pub cut_short: bool,
    /// Why the run could not go on here.
    pub fault: Option<String>,
    /// Time since its load began, milliseconds.
    pub elapsed_ms: u64,
    /// Reads.
    pub reads: OpTotals,
    /// Writes.
    pub writes: OpTotals,
    /// What was checked.
    pub verification: Verification,
    /// Errors by kind.
    pub error_counts: BTreeMap<String, u64>,
    /// The first [`MAX_ERRORS`] of them.
    pub errors: Vec<ErrorRecord>,
    /// Values over time, at most [`MAX_POINTS`].
    pub series: Vec<Point>,
    /// Health document before.
    pub health_before: Map<String, Value>,
    /// Health document afterwards.
    pub health_after: Map<String, Value>,
    /// Remarks.
    pub notes: Vec<String>,
}

/// Sum of one kind of request. Latencies are microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OpTotals {
    /// Requests that ended well.
    pub count: u64,
    /// Bytes that they moved.
    pub bytes: u64,
    /// Requests per second.
    pub iops: f64,
    /// Bytes per second.
    pub bytes_per_second: f64,
    /// Shortest.
    pub min_us: u64,
    /// Mean.
    pub mean_us: f64,
    /// Median.
    pub p50_us: u64,
    /// 95 % are not longer.
    pub p95_us: u64,
    /// 99 % are not longer.
    pub p99_us: u64,
    /// 99.9 % are not longer.
    pub p999_us: u64,
    /// Longest.
    pub max_us: u64,
}

/// What was checked on a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// Something was to be checked at all.
    pub enabled: bool,
    /// Bytes that were compared with what they must be.
    pub bytes_checked: u64,
    /// Bytes that were written and not overwritten since.
    pub bytes_written: u64,
    /// Of these, read back after the load.
    pub bytes_read_back: u64,
    /// Bytes of the device among which the load chooses; less than the device if that is very large.
    pub bytes_covered: u64,
}

/// An error on a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorRecord {
    /// Time since the load began, milliseconds.
    pub at_ms: u64,
    /// `corrupt`, `lost-write`, `misdirected-write`, `foreign-data`, `changed`, `read-failed`, `write-failed`,
    /// `flush-failed`, `timeout`.
    pub kind: String,
    /// First block.
    pub lba: u64,
    /// Blocks.
    pub blocks: u64,
    /// What ought to be there, or to happen.
    pub expected: String,
    /// What was found, or happened.
    pub found: String,
}

/// Values of one interval.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// End of the interval, milliseconds since the load began.
    pub at_ms: u64,
    /// Reads.
    pub read: OpPoint,
    /// Writes.
    pub write: OpPoint,
    /// Errors of the interval.
    pub errors: u64,
}

/// One kind of request in an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OpPoint {
    /// Requests per second.
    pub iops: f64,
    /// Bytes per second.
    pub bytes_per_second: f64,
    /// Median latency, microseconds; 0 without requests.
    pub p50_us: u64,
    /// 99 % are not longer.
    pub p99_us: u64,
    /// Longest.
    pub max_us: u64,
}

/// What a helper tells about a device while it works: totals so far, and what came since the last one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// Which of the devices that the helper was given.
    pub index: usize,
    /// The device as it is now; `errors` and `series` hold what is new alone.
    pub device: DeviceRecord,
}

impl DeviceRecord {
    /// A device about which nothing is known yet.
    pub fn new(device: String, plugin: String) -> Self {
        Self {
            device,
            plugin,
            identity: BTreeMap::new(),
            size_bytes: 0,
            block_size: 0,
            mode: Mode::ReadOnly,
            held: String::new(),
            destroyed: false,
            phase: Phase::Preparing,
            cut_short: false,
            fault: None,
            elapsed_ms: 0,
            reads: OpTotals::default(),
            writes: OpTotals::default(),
            verification: Verification::default(),
            error_counts: BTreeMap::new(),
            errors: Vec::new(),
            series: Vec::new(),
            health_before: Map::new(),
            health_after: Map::new(),
            notes: Vec::new(),
        }
    }

    /// Errors of all kinds.
    pub fn error_count(&self) -> u64 {
        self.error_counts.values().sum()
    }

    /// Takes an update of this device in.
    pub fn take(&mut self, mut update: Self) {
        // Names are the daemon's; whatever a helper says about others is not for this record.
        update.device = std::mem::take(&mut self.device);
        update.plugin = std::mem::take(&mut self.plugin);
        let (mut errors, mut series) = (
            std::mem::take(&mut self.errors),
            std::mem::take(&mut self.series),
        );
        errors.append(&mut update.errors);
        errors.truncate(MAX_ERRORS);
        series.append(&mut update.series);
        while series.len() > MAX_POINTS {
            // Every second one: less detail, the same time.
            let mut keep = false;
            series.retain(|_| {
                keep = !keep;
                keep
            });
        }
        *self = Self {
            errors,
            series,
            ..update
        };
    }

    /// Members of the health documents that differ, as `(name, before, after)`.
    pub fn health_changes(&self) -> Vec<(String, String, String)> {
        let text = |value: Option<&Value>| match value {
            None => "-".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let mut names: Vec<&String> = self
            .health_before
            .keys()
            .chain(self.health_after.keys())
            .collect();
        names.sort();
        names.dedup();
        names
            .into_iter()
            .filter(|_| !self.health_after.is_empty())
            .filter(|name| self.health_before.get(*name) != self.health_after.get(*name))
            .map(|name| {
                let (before, after) = (self.health_before.get(name), self.health_after.get(name));
                (name.clone(), text(before), text(after))
            })
            .collect()
    }
}

impl Record {
    /// A run that begins.
    pub fn new(
        run: String,
        host: String,
        started_ms: u64,
        load: Load,
        devices: Vec<DeviceRecord>,
    ) -> Self {
        Self {
            format: FORMAT,
            run,
            host,
            started_ms,
            ended_ms: 0,
            state: RunState::Running,
            reason: String::new(),
            load,
            devices,
        }
    }

    /// Whether this program understands the document.
    pub fn is_known(&self) -> bool {
        self.format == FORMAT
    }

    /// The same without what grows: series and single errors.
    #[must_use]
    pub fn summary(&self) -> Self {
        let mut summary = self.clone();
        for device in &mut summary.devices {
            device.series.clear();
            device.errors.truncate(1);
        }
        summary
    }

    /// Errors of all devices.
    pub fn error_count(&self) -> u64 {
        self.devices.iter().map(DeviceRecord::error_count).sum()
    }

    /// Ends the run. Errors that were found decide, then faults, then `otherwise`, which says how it ended.
    pub fn end(&mut self, now_ms: u64, otherwise: RunState, reason: &str) {
        self.ended_ms = now_ms;
        let errors = self.error_count();
        let fault = self
            .devices
            .iter()
            .find_map(|d| d.fault.as_ref().map(|fault| (&d.device, fault)));
        (self.state, self.reason) = match (errors, fault) {
            (1.., _) => (RunState::Failed, format!("{errors} error(s) were found")),
            (0, Some((device, fault))) if otherwise == RunState::Passed => {
                (RunState::NotRun, format!("{device}: {fault}"))
            }
            _ => (otherwise, reason.to_owned()),
        };
        if errors > 0 && otherwise != RunState::Passed {
            self.reason = format!("{}; {reason}", self.reason);
        }
    }

    /// Hundredths that are done, as far as that can be told from the time.
    pub fn percent(&self) -> u64 {
        let ended_by_itself = match self.state {
            RunState::Running => false,
            RunState::Passed => true,
            _ => self
                .devices
                .iter()
                .all(|d| d.phase == Phase::Done && !d.cut_short),
        };
        if ended_by_itself {
            return 100;
        }
        let Some(duration) = self.load.duration_ms().filter(|ms| *ms > 0) else {
            return 0;
        };
        let slowest = self
            .devices
            .iter()
            .filter(|d| d.phase != Phase::Done || d.cut_short)
            .map(|d| d.elapsed_ms)
            .min();
        slowest.map_or(99, |ms| (ms * 100 / duration).min(99))
    }
}

#[cfg(test)]
mod tests;
