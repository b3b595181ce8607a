//! Latencies and rates, as a whole and over time.

use crate::record::{OpPoint, OpTotals};
use hdrhistogram::Histogram;
use std::time::Duration;

/// Longest latency that is told apart, microseconds.
const LONGEST_US: u64 = 10 * 60 * 1_000_000;

/// One kind of request.
pub(crate) struct Op {
    all: Histogram<u64>,
    interval: Histogram<u64>,
    bytes: u64,
    interval_bytes: u64,
}

fn histogram(digits: u8) -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_US, digits).expect("bounds and digits are in range")
}

impl Op {
    pub(crate) fn new() -> Self {
        Self {
            all: histogram(3),
            interval: histogram(2),
            bytes: 0,
            interval_bytes: 0,
        }
    }

    /// A request that ended well.
    pub(crate) fn ended(&mut self, took: Duration, bytes: u64) {
        let us = u64::try_from(took.as_micros()).unwrap_or(LONGEST_US).max(1);
        self.all.saturating_record(us);
        self.interval.saturating_record(us);
        self.bytes += bytes;
        self.interval_bytes += bytes;
    }

    /// Values of the interval, which took so long; the next one begins.
    pub(crate) fn point(&mut self, took: Duration) -> OpPoint {
        let seconds = took.as_secs_f64().max(1e-6);
        let point = OpPoint {
            iops: self.interval.len() as f64 / seconds,
            bytes_per_second: self.interval_bytes as f64 / seconds,
            p50_us: self.interval.value_at_quantile(0.5),
            p99_us: self.interval.value_at_quantile(0.99),
            max_us: self.interval.max(),
        };
        self.interval.reset();
        self.interval_bytes = 0;
        point
    }

    /// Values of the whole time.
    pub(crate) fn totals(&self, took: Duration) -> OpTotals {
        let seconds = took.as_secs_f64().max(1e-6);
        let at = |quantile| self.all.value_at_quantile(quantile);
        let count = self.all.len();
        OpTotals {
            count,
            bytes: self.bytes,
            iops: count as f64 / seconds,
            bytes_per_second: self.bytes as f64 / seconds,
            min_us: if count == 0 { 0 } else { self.all.min() },
            mean_us: if count == 0 { 0.0 } else { self.all.mean() },
            p50_us: at(0.5),
            p95_us: at(0.95),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.all.max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_forgotten_and_totals_are_not() {
        let mut op = Op::new();
        let empty = op.totals(Duration::from_secs(1));
        assert_eq!((empty.count, empty.p99_us, empty.min_us), (0, 0, 0));
        for us in 1..=1000 {
            op.ended(Duration::from_micros(us), 4096);
        }
        let point = op.point(Duration::from_millis(500));
        assert_eq!(point.iops, 2000.0);
        assert!((490..=510).contains(&point.p50_us), "{point:?}");
        assert_eq!(op.point(Duration::from_millis(500)), OpPoint::default());
        op.ended(Duration::from_secs(3600), 4096);
        let totals = op.totals(Duration::from_secs(2));
        assert_eq!((totals.count, totals.bytes), (1001, 1001 * 4096));
        assert_eq!(totals.min_us, 1);
        assert!((945..=956).contains(&totals.p95_us), "{totals:?}");
        assert!(totals.max_us >= LONGEST_US / 1000 * 999, "{totals:?}");
    }
}
