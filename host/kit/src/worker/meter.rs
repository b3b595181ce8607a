//! Time, processor time and latencies of a measurement.
#![allow(unsafe_code)] // a descriptor that a plugin names

use crate::bench::Measured;
use daos_plugin_api::abi::{Wait, WaitKind};
use hdrhistogram::Histogram;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// Runs while a measurement does.
pub(super) struct Meter {
    start: Instant,
    limit: Duration,
    cpu: u64,
    latencies: Histogram<u64>,
}

impl Meter {
    pub(super) fn start(millis: u64) -> Self {
        Self {
            latencies: Histogram::new(3).expect("three digits are possible"),
            cpu: cpu_nanos(),
            limit: Duration::from_millis(millis),
            start: Instant::now(),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.start.elapsed() >= self.limit
    }

    /// Counts an operation that began at `since` and ends now.
    pub(super) fn record(&mut self, since: Instant) {
        let nanos = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        // Grows by itself up to any 64-bit value.
        let _ = self.latencies.record(nanos.max(1));
    }

    pub(super) fn end(self) -> Measured {
        let nanos = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let cpu = cpu_nanos().saturating_sub(self.cpu);
        Measured {
            operations: self.latencies.len(),
            nanos,
            cpu_nanos: cpu,
            latencies: self
                .latencies
                .iter_recorded()
                .map(|v| (v.value_iterated_to(), v.count_at_value()))
                .collect(),
        }
    }
}

/// Processor time of this process.
fn cpu_nanos() -> u64 {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return 0;
    };
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    u64::try_from(micros).unwrap_or(0) * 1000
}

/// Where the next operation goes.
pub(super) struct Places {
    count: u64,
    at: u64,
    random: bool,
}

impl Places {
    /// `count` places, at least one.
    pub(super) fn new(count: u64, random: bool) -> Self {
        Self {
            count: count.max(1),
            at: 0,
            random,
        }
    }

    pub(super) fn next(&mut self) -> u64 {
        self.at = self.at.wrapping_add(1);
        if !self.random {
            return self.at % self.count;
        }
        // SplitMix64.
        let mut z = self.at.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % self.count
    }
}

/// Sleeps as an engine would.
pub(super) fn sleep(wait: Wait) -> Result<(), String> {
    match wait.kind {
        WaitKind::FD if wait.fd >= 0 => {
            // SAFETY: the plugin's descriptor stays open while its queue is, by the contract of
            // `arm_wait`.
            let fd = unsafe { BorrowedFd::borrow_raw(wait.fd) };
            let mut entries = [PollFd::new(fd, PollFlags::POLLIN)];
            // Not for ever: a plugin may have told a descriptor that never becomes readable.
            match poll(&mut entries, PollTimeout::from(1000u16)) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
                Err(e) => Err(format!("cannot wait for descriptor {}: {e}", wait.fd)),
            }
        }
        WaitKind::TIMER => {
            std::thread::sleep(Duration::from_micros(wait.timeout_us.min(1_000_000)));
            Ok(())
        }
        _ => Ok(()),
    }
}
