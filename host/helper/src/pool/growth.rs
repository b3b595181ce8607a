//! Helpers that grow: what a plugin leaks in its control face is the helper's, and a helper can be replaced.

use daos_telemetry::Histogram;
use std::collections::BTreeMap;
use std::time::Duration;

/// When a helper has grown too much to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    /// Calls after which its size is compared with that after its first ones.
    pub calls: u64,
    /// Most open files more than then.
    pub files: u64,
    /// Most bytes of memory more than then.
    pub bytes: u64,
}

impl Default for Growth {
    fn default() -> Self {
        Self {
            calls: 1000,
            files: 32,
            bytes: 32 << 20,
        }
    }
}

/// Calls whose growth is not looked at: libraries are loaded, caches are filled.
const WARM_UP: u64 = 10;

/// What a process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    files: u64,
    bytes: u64,
}

impl Size {
    /// Of a process; `None` if the system does not tell.
    fn of(pid: u32) -> Option<Self> {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        // Memory of the process alone: what it shares with others is not what it leaks.
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
        Some(Self {
            files,
            bytes: kib << 10,
        })
    }
}

/// The growth of one process.
#[derive(Debug, Default)]
pub(super) struct Watch {
    calls: u64,
    first: Option<Size>,
}

impl Watch {
    /// Takes note of a call that has ended; a sentence when the process has grown too much.
    pub(super) fn after_call(&mut self, pid: u32, limit: &Growth) -> Option<String> {
        self.calls += 1;
        let warm = WARM_UP.min(limit.calls);
        if self.calls == warm {
            self.first = Size::of(pid);
        }
        if self.calls < warm + limit.calls || !(self.calls - warm).is_multiple_of(limit.calls) {
            return None;
        }
        let (first, now) = (self.first?, Size::of(pid)?);
        let files = now.files.saturating_sub(first.files);
        let bytes = now.bytes.saturating_sub(first.bytes);
        if files <= limit.files && bytes <= limit.bytes {
            return None;
        }
        Some(format!(
            "within {} calls its helper came to {} open files and {} MiB from {} and {} MiB",
            self.calls,
            now.files,
            now.bytes >> 20,
            first.files,
            first.bytes >> 20
        ))
    }
}

/// What has become of helpers of a plugin since the daemon started.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HelperCounts {
    /// Processes that were started.
    pub starts: u64,
    /// Processes that ended by themselves, or were killed since they did not answer in time.
    pub deaths: u64,
    /// Processes that were replaced since they had grown.
    pub recycled: u64,
    /// Operations.
    pub calls: u64,
    /// Operations that failed. That the plugin has no such function, or that there is nothing to mount, is no failure.
    pub failures: u64,
    /// How long they took in seconds, with the start of a process that they needed, by operation.
    pub times: BTreeMap<&'static str, Histogram>,
}

impl HelperCounts {
    /// Takes note of an operation that has ended.
    pub(super) fn ended(
        &mut self,
        operation: &'static str,
        took: Duration,
        failed: bool,
        died: bool,
    ) {
        self.calls += 1;
        self.failures += u64::from(failed);
        self.deaths += u64::from(died);
        let times = self.times.entry(operation);
        times
            .or_insert_with(Histogram::seconds)
            .observe(took.as_secs_f64());
    }
}
