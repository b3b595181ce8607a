//! What `network ping` measures, in the columns of libfabric's `fi_pingpong`.

use crate::table;
use serde::Serialize;
use std::time::Duration;

/// A measurement.
#[derive(Clone, Debug, Serialize)]
pub struct PingReport {
    /// Host or rank at the other end.
    pub peer: String,
    /// Provider of both ends.
    pub provider: String,
    /// Interface of the other end; empty if it was not told.
    pub interface: String,
    /// By size, in the order measured.
    pub rows: Vec<PingRow>,
}

/// Pings of one size. A ping is two transfers: there and back.
#[derive(Clone, Debug, Serialize)]
pub struct PingRow {
    /// Bytes of a transfer.
    pub bytes: u64,
    /// Pings sent.
    pub sent: u64,
    /// Of them answered.
    pub acknowledged: u64,
    /// Bytes moved, both ways together.
    pub total_bytes: u64,
    /// Seconds for all.
    pub seconds: f64,
    /// 10^6 bytes a second.
    pub mb_per_second: f64,
    /// Microseconds of a transfer, on average.
    pub usec_per_xfer: f64,
    /// Millions of transfers a second.
    pub mxfers_per_second: f64,
    /// Microseconds of a transfer: half of the fastest, the median and the slowest of a hundred pings.
    pub usec_min: f64,
    /// See `usec_min`.
    pub usec_p50: f64,
    /// See `usec_min`.
    pub usec_p99: f64,
}

impl PingRow {
    /// From the times of the pings, there and back; all zero without any.
    pub fn of(bytes: u64, mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let count = times.len() as u64;
        let seconds = times.iter().sum::<Duration>().as_secs_f64();
        let transfers = 2.0 * count as f64;
        let total_bytes = 2 * count * bytes;
        let per = |value: f64, by: f64| if by > 0.0 { value / by } else { 0.0 };
        let half = |share: f64| {
            let last = times.len().saturating_sub(1) as f64;
            let at = (share * last).round() as usize;
            times.get(at).map_or(0.0, |t| t.as_secs_f64() * 1e6 / 2.0)
        };
        Self {
            bytes,
            sent: count,
            acknowledged: count,
            total_bytes,
            seconds,
            mb_per_second: per(total_bytes as f64 / 1e6, seconds),
            usec_per_xfer: per(seconds * 1e6, transfers),
            mxfers_per_second: per(transfers / 1e6, seconds),
            usec_min: half(0.0),
            usec_p50: half(0.5),
            usec_p99: half(0.99),
        }
    }
}

impl PingReport {
    /// A table as fi_pingpong prints it, below a line that says between whom.
    pub fn text(&self) -> String {
        let head = [
            "bytes",
            "#sent",
            "#ack",
            "total",
            "time",
            "MB/sec",
            "usec/xfer",
            "Mxfers/sec",
        ];
        let mut rows = Vec::new();
        for row in &self.rows {
            let acknowledged = match row.acknowledged == row.sent {
                true => format!("={}", row.acknowledged),
                false => row.acknowledged.to_string(),
            };
            rows.push(vec![
                short(row.bytes),
                row.sent.to_string(),
                acknowledged,
                short(row.total_bytes),
                format!("{:.2}s", row.seconds),
                format!("{:.2}", row.mb_per_second),
                format!("{:.2}", row.usec_per_xfer),
                format!("{:.2}", row.mxfers_per_second),
            ]);
        }
        let at = match self.interface.is_empty() {
            true => String::new(),
            false => format!(" at {}", self.interface),
        };
        format!(
            "{}{at} over {}\n{}",
            self.peer,
            self.provider,
            table(&head, rows)
        )
    }
}

/// Bytes as fi_pingpong writes them: `64`, `1.2k`, `20m`.
fn short(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "g"), (1 << 20, "m"), (1 << 10, "k")];
    for (unit, name) in UNITS {
        if bytes >= unit {
            let tenths = bytes * 10 / unit;
            return match tenths % 10 {
                0 => format!("{}{name}", tenths / 10),
                rest => format!("{}.{rest}{name}", tenths / 10),
            };
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_fi_pingpong() {
        // 64 bytes ten times at 2.95 microseconds a transfer, as in its manual.
        let row = PingRow::of(64, vec![Duration::from_nanos(5900); 10]);
        assert_eq!((row.sent, row.total_bytes), (10, 1280));
        assert!((row.usec_per_xfer - 2.95).abs() < 1e-6, "{row:?}");
        assert!((row.mb_per_second - 21.69).abs() < 0.01, "{row:?}");
        assert!((row.mxfers_per_second - 0.34).abs() < 0.01, "{row:?}");
        let text = PingReport {
            peer: "node1:10001".to_owned(),
            provider: "ofi+psm2".to_owned(),
            interface: "ib0".to_owned(),
            rows: vec![row],
        }
        .text();
        assert!(
            text.starts_with("node1:10001 at ib0 over ofi+psm2\n"),
            "{text}"
        );
        let words: Vec<&str> = text.split_whitespace().collect();
        assert!(
            words.ends_with(&["64", "10", "=10", "1.2k", "0.00s", "21.69", "2.95", "0.34"]),
            "{text}"
        );
        assert_eq!(PingRow::of(64, Vec::new()).mb_per_second, 0.0);
    }

    #[test]
    fn the_slowest_and_the_fastest_are_told_apart() {
        let times = (1..=101).map(Duration::from_micros).collect();
        let row = PingRow::of(1, times);
        assert_eq!(
            (row.usec_min, row.usec_p50, row.usec_p99),
            (0.5, 25.5, 50.0)
        );
    }

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (64, "64"),
            (1280, "1.2k"),
            (81920, "80k"),
            (20 << 20, "20m"),
            (1 << 30, "1g"),
        ] {
            assert_eq!(short(bytes), text);
        }
    }
}
