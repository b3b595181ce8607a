//! What a benchmark found.

use daos_client::Uuid;
use daos_report::{bytes, table};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::fmt::Write as _;
use std::time::Duration;

/// Mismatches that are listed as text; JSON has all.
const LISTED: usize = 20;
/// Columns of the longest bar of a histogram.
const BAR: u64 = 50;

/// A run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) pool: Uuid,
    pub(super) container: Uuid,
    pub(super) object: String,
    pub(super) seed: u64,
    pub(super) targets: u32,
    pub(super) depth: u32,
    /// Bytes of the values.
    pub(super) sizes: String,
    /// Values that existed at the end.
    pub(super) values: u64,
    /// Whether every byte was compared.
    pub(super) verified: bool,
    /// Whether the values were left there.
    pub(super) kept: bool,
    pub(super) phases: Vec<PhaseRow>,
    pub(super) mismatches: Vec<String>,
}

/// One phase of it.
#[derive(Debug, Serialize)]
pub(super) struct PhaseRow {
    pub(super) name: &'static str,
    pub(super) ops: u64,
    pub(super) bytes: u64,
    pub(super) seconds: f64,
    pub(super) ops_per_second: f64,
    pub(super) bytes_per_second: f64,
    pub(super) latency_us: Latency,
    pub(super) histogram: Vec<Bucket>,
    pub(super) percentiles: Vec<Percentile>,
}

/// So many percent of the operations took no longer.
#[derive(Debug, Serialize)]
pub(super) struct Percentile {
    pub(super) percent: f64,
    pub(super) us: f64,
}

/// Latencies in microseconds.
#[derive(Debug, Serialize)]
pub(super) struct Latency {
    pub(super) min: f64,
    pub(super) mean: f64,
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) max: f64,
}

/// Latencies from half of `up_to_us` to it.
#[derive(Debug, Serialize)]
pub(super) struct Bucket {
    pub(super) up_to_us: u64,
    pub(super) count: u64,
}

impl PhaseRow {
    /// From latencies in nanoseconds.
    pub(super) fn new(
        name: &'static str,
        took: Duration,
        bytes: u64,
        latency: &Histogram<u64>,
    ) -> Self {
        let seconds = took.as_secs_f64().max(1e-9);
        let us = |ns: u64| ns as f64 / 1000.0;
        let quantile = |q| us(latency.value_at_quantile(q));
        Self {
            name,
            ops: latency.len(),
            bytes,
            seconds,
            ops_per_second: latency.len() as f64 / seconds,
            bytes_per_second: bytes as f64 / seconds,
            latency_us: Latency {
                min: us(latency.min()),
                mean: latency.mean() / 1000.0,
                p50: quantile(0.5),
                p90: quantile(0.9),
                p99: quantile(0.99),
                p999: quantile(0.999),
                max: us(latency.max()),
            },
            histogram: buckets(latency),
            percentiles: percentiles(latency),
        }
    }
}

/// Steps between two nines of a percentile.
const STEPS: u32 = 10;

/// From 0 % on, each step a tenth of the way to the next nine, up to what so many operations can tell.
fn percentiles(latency: &Histogram<u64>) -> Vec<Percentile> {
    if latency.is_empty() {
        return Vec::new();
    }
    let nines = (latency.len() as f64).log10();
    let last = (nines * f64::from(STEPS)).floor() as u32;
    (0..=last)
        .map(|step| {
            let quantile = 1.0 - 10f64.powf(-f64::from(step) / f64::from(STEPS));
            Percentile {
                percent: quantile * 100.0,
                us: latency.value_at_quantile(quantile) as f64 / 1000.0,
            }
        })
        .collect()
}

/// Powers of two of microseconds, from the first that holds something to the last.
fn buckets(latency: &Histogram<u64>) -> Vec<Bucket> {
    let mut counts = [0u64; 44]; // up to half a year
    for step in latency.iter_recorded() {
        let us = step.value_iterated_to().div_ceil(1000).max(1);
        let index = us.next_power_of_two().ilog2() as usize;
        counts[index.min(counts.len() - 1)] += step.count_since_last_iteration();
    }
    let first = counts.iter().position(|count| *count > 0).unwrap_or(0);
    let last = counts.iter().rposition(|count| *count > 0);
    let used = last.map_or(0..0, |last| first..last + 1);
    used.map(|index| Bucket {
        up_to_us: 1 << index,
        count: counts[index],
    })
    .collect()
}

/// Microseconds in the unit that reads best.
pub(super) fn time(us: f64) -> String {
    match us {
        us if us < 1000.0 => format!("{us:.0} us"),
        us if us < 1e6 => format!("{:.1} ms", us / 1e3),
        us => format!("{:.1} s", us / 1e6),
    }
}

impl Report {
    /// The run for people.
    pub(super) fn text(&self, histogram: bool) -> String {
        let mut text = format!(
            "values of {} bytes, {} at once, {} target{}, seed {}\n\n",
            self.sizes,
            self.depth,
            self.targets,
            if self.targets == 1 { "" } else { "s" },
            self.seed
        );
        let rows = self.phases.iter().map(|phase| {
            let l = &phase.latency_us;
            let mut row = vec![
                phase.name.to_owned(),
                phase.ops.to_string(),
                format!("{:.2} s", phase.seconds),
                format!("{:.0}", phase.ops_per_second),
                format!("{}/s", bytes(phase.bytes_per_second as u64)),
            ];
            row.extend([l.p50, l.p90, l.p99, l.p999, l.max].map(time));
            row
        });
        text += &table(
            &[
                "PHASE", "OPS", "TIME", "OPS/S", "RATE", "P50", "P90", "P99", "P99.9", "MAX",
            ],
            rows,
        );
        if histogram {
            for phase in &self.phases {
                text += &phase.bars();
            }
        }
        let values = format!("{} values", self.values);
        // Writing to a String cannot fail.
        let _ = match (self.mismatches.len(), self.verified) {
            (0, true) => write!(text, "\n\nverified: all of {values} came back as written"),
            (0, false) => write!(
                text,
                "\n\n{values}; checksums were right, contents not compared"
            ),
            (wrong, _) => write!(text, "\n\nMISMATCH: {wrong} reads of {values} went wrong"),
        };
        for mismatch in self.mismatches.iter().take(LISTED) {
            let _ = write!(text, "\n  {mismatch}");
        }
        if self.mismatches.len() > LISTED {
            let _ = write!(text, "\n  and {} more", self.mismatches.len() - LISTED);
        }
        if self.kept {
            let (pool, container) = (self.pool, self.container);
            let _ = write!(
                text,
                "\nkept in object {} of --pool {pool} --cont {container}",
                self.object
            );
        }
        text
    }
}

impl PhaseRow {
    fn bars(&self) -> String {
        let most = self.histogram.iter().map(|b| b.count).max().unwrap_or(1);
        let mut text = format!("\n\nlatency of {}:", self.name);
        for bucket in &self.histogram {
            let width = (bucket.count * BAR).div_ceil(most.max(1)) as usize;
            let up_to = time(bucket.up_to_us as f64);
            let bar = "#".repeat(width);
            // Writing to a String cannot fail.
            let _ = write!(text, "\n  <= {up_to:>8} {:>10} {bar}", bucket.count);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(mismatches: Vec<String>) -> Report {
        let mut latency = Histogram::new(3).unwrap();
        for us in 1..=1000u64 {
            latency.record(us * 1000).unwrap();
        }
        Report {
            pool: Uuid::nil(),
            container: Uuid::nil(),
            object: "0.1".into(),
            seed: 5,
            targets: 1,
            depth: 2,
            sizes: "1..10".into(),
            values: 7,
            verified: true,
            kept: false,
            phases: vec![PhaseRow::new(
                "put",
                Duration::from_secs(2),
                4 << 20,
                &latency,
            )],
            mismatches,
        }
    }

    #[test]
    fn numbers_are_right() {
        let report = report(Vec::new());
        let phase = &report.phases[0];
        assert_eq!((phase.ops, phase.ops_per_second), (1000, 500.0));
        assert_eq!(phase.bytes_per_second, f64::from(2 << 20));
        let near = |a: f64, b: f64| (a - b).abs() <= b / 100.0;
        assert!(near(phase.latency_us.p50, 500.0) && near(phase.latency_us.p99, 990.0));
        let counts: Vec<_> = phase
            .histogram
            .iter()
            .map(|b| (b.up_to_us, b.count))
            .collect();
        assert_eq!(counts.iter().map(|c| c.1).sum::<u64>(), 1000);
        assert_eq!(counts.last().unwrap().0, 1024);
        let text = report.text(true);
        for words in [
            "2.0 MiB/s",
            "500 us",
            "latency of put",
            "verified: all of 7 values",
        ] {
            assert!(text.contains(words), "{words:?} is missing in {text}");
        }
    }

    #[test]
    fn mismatches_are_listed_and_cut() {
        let text = report((0..30).map(|n| format!("key {n}")).collect()).text(false);
        assert!(text.contains("MISMATCH: 30"), "{text}");
        assert!(
            text.contains("key 19") && !text.contains("key 20"),
            "{text}"
        );
        assert!(text.contains("and 10 more"), "{text}");
    }

    #[test]
    fn an_empty_phase_has_no_buckets() {
        let empty = Histogram::new(3).unwrap();
        let row = PhaseRow::new("get", Duration::ZERO, 0, &empty);
        assert!(row.histogram.is_empty());
        assert!(!row.bars().is_empty());
    }
}
