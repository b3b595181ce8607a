//! Burn-ins: runs in short, and everything about one of them, as text and as a page.

mod page;

pub use page::page;

use crate::units::duration;
use crate::{bytes, table};
use daos_burnin::{DeviceRecord, OpTotals, Phase, Record, RunState};
use std::fmt::Write as _;

/// Most errors of a device that are printed; the JSON document has more.
const PRINTED: usize = 10;

/// Runs, one line per device.
pub fn list(records: &[Record]) -> String {
    if records.is_empty() {
        return "no burn-in".to_owned();
    }
    let headings = [
        "RUN", "STATE", "DONE", "DEVICE", "MODE", "PHASE", "READ/s", "WRITE/s", "MB/s", "ERRORS",
    ];
    let rows = records.iter().flat_map(|record| {
        record.devices.iter().map(move |device| {
            let rate = device.reads.bytes_per_second + device.writes.bytes_per_second;
            vec![
                record.run.clone(),
                record.state.name().to_owned(),
                format!("{} %", record.percent()),
                device.device.clone(),
                device.mode.name().to_owned(),
                device.phase.name().to_owned(),
                format!("{:.0}", device.reads.iops),
                format!("{:.0}", device.writes.iops),
                format!("{:.1}", rate / 1e6),
                device.error_count().to_string(),
            ]
        })
    });
    let mut text = table(&headings, rows);
    for record in records.iter().filter(|r| !r.reason.is_empty()) {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n{}: {}", record.run, record.reason);
    }
    text
}

/// Everything about a run, for people.
pub fn text(record: &Record) -> String {
    let mut text = format!(
        "burn-in {} on {}: {}",
        record.run,
        record.host,
        record.state.name()
    );
    if !record.reason.is_empty() {
        let _ = write!(text, " ({})", record.reason);
    }
    let _ = write!(text, "\nstarted {}", when(record.started_ms));
    if record.ended_ms > 0 {
        let _ = write!(
            text,
            ", ended after {}",
            duration(record.ended_ms.saturating_sub(record.started_ms))
        );
    }
    for job in &record.load.jobs {
        let _ = write!(text, "\nload {:?}: {}", job.name, load(job));
    }
    for device in &record.devices {
        let _ = write!(text, "\n\n{}", device_text(device, record.state));
    }
    text
}

/// A time as people write it.
pub(crate) fn when(ms: u64) -> String {
    let time = i64::try_from(ms / 1000)
        .ok()
        .and_then(|s| time::OffsetDateTime::from_unix_timestamp(s).ok());
    let text = time.and_then(|t| {
        t.format(&time::format_description::well_known::Rfc3339)
            .ok()
    });
    text.unwrap_or_else(|| format!("{ms} ms after 1970"))
}

/// A job in words.
pub(crate) fn load(job: &daos_burnin::Job) -> String {
    let sizes = |sizes: &[daos_burnin::SizeShare]| {
        let words = sizes.iter().map(|s| match s.percent {
            100 => bytes(s.bytes.into()),
            percent => format!("{} {percent} %", bytes(s.bytes.into())),
        });
        words.collect::<Vec<_>>().join(", ")
    };
    let mut text = format!("{} % reads", job.pattern.read_percent);
    if job.pattern.read_percent > 0 {
        let _ = write!(text, " of {}", sizes(&job.read_sizes));
    }
    if job.writes() && (job.pattern.read_percent == 0 || job.write_sizes != job.read_sizes) {
        let _ = write!(text, ", writes of {}", sizes(&job.write_sizes));
    }
    let order = if job.pattern.random {
        "random"
    } else {
        "sequential"
    };
    let _ = write!(text, ", {order}, {} at a time", job.depth);
    if job.copies > 1 {
        let _ = write!(text, ", {} copies", job.copies);
    }
    if let Some(ms) = job.runtime_ms {
        let _ = write!(text, ", {}", duration(ms));
    }
    let limits = [
        (job.rate.read_iops, "reads/s"),
        (job.rate.write_iops, "writes/s"),
        (job.rate.read_bytes, "bytes read/s"),
        (job.rate.write_bytes, "bytes written/s"),
    ];
    for (limit, what) in limits {
        if let Some(limit) = limit {
            let _ = write!(text, ", at most {limit} {what}");
        }
    }
    if !job.verify {
        text.push_str(", not verified");
    }
    text
}

/// What came of a device, in a sentence.
pub(crate) fn verdict(device: &DeviceRecord, state: RunState) -> String {
    if let Some(fault) = &device.fault {
        return fault.clone();
    }
    match device.error_count() {
        0 if state == RunState::Running && device.phase != Phase::Done => {
            "no errors so far".to_owned()
        }
        0 if device.cut_short => "no errors until it was ended".to_owned(),
        0 => "no errors".to_owned(),
        count => {
            let kinds = device
                .error_counts
                .iter()
                .map(|(kind, n)| format!("{n} {kind}"));
            format!("{count} error(s): {}", kinds.collect::<Vec<_>>().join(", "))
        }
    }
}

/// What was verified, in a sentence.
pub(crate) fn verified(device: &DeviceRecord) -> String {
    let v = &device.verification;
    if !v.enabled {
        return "nothing was verified, as asked".to_owned();
    }
    let mut text = format!(
        "{} verified among {} of {}",
        bytes(v.bytes_checked),
        bytes(v.bytes_covered),
        bytes(device.size_bytes)
    );
    if v.bytes_written > 0 {
        let _ = write!(
            text,
            "; {} written, {} of it read back at the end",
            bytes(v.bytes_written),
            bytes(v.bytes_read_back)
        );
    }
    text
}

pub(crate) const OP_HEADINGS: [&str; 10] = [
    "", "COUNT", "IOPS", "MB/s", "MEAN us", "p50", "p95", "p99", "p99.9", "MAX",
];

/// Totals as words of a table.
pub(crate) fn op_row(name: &str, op: &OpTotals) -> Vec<String> {
    let mut row = vec![
        name.to_owned(),
        op.count.to_string(),
        format!("{:.1}", op.iops),
        format!("{:.2}", op.bytes_per_second / 1e6),
        format!("{:.0}", op.mean_us),
    ];
    row.extend([op.p50_us, op.p95_us, op.p99_us, op.p999_us, op.max_us].map(|us| us.to_string()));
    row
}

/// Heading of a device: what it is and how it was treated.
pub(crate) fn about(device: &DeviceRecord) -> String {
    let mut text = format!("{}, {}", device.mode.name(), bytes(device.size_bytes));
    for (name, value) in &device.identity {
        let _ = write!(text, ", {name} {value}");
    }
    match (device.destroyed, device.held.as_str()) {
        (_, "" | "nothing") => {}
        (true, held) => {
            let _ = write!(text, ", destroyed {held}");
        }
        (false, held) => {
            let _ = write!(text, ", holds {held}");
        }
    }
    text
}

fn device_text(device: &DeviceRecord, state: RunState) -> String {
    let mut text = format!(
        "{} ({})\n  {}",
        device.device,
        about(device),
        verdict(device, state)
    );
    let rows = [("reads", &device.reads), ("writes", &device.writes)];
    let rows = rows.into_iter().filter(|(_, op)| op.count > 0);
    let measured = table(&OP_HEADINGS, rows.map(|(name, op)| op_row(name, op)));
    if device.reads.count + device.writes.count > 0 {
        let _ = write!(text, " in {}", duration(device.elapsed_ms));
        for line in measured.lines() {
            let _ = write!(text, "\n  {line}");
        }
        let _ = write!(text, "\n  {}", verified(device));
    }
    for error in device.errors.iter().take(PRINTED) {
        let _ = write!(
            text,
            "\n  {} at block {} ({} block(s)) after {}: expected {}, found {}",
            error.kind,
            error.lba,
            error.blocks,
            duration(error.at_ms),
            error.expected,
            error.found
        );
    }
    let count = device.error_count();
    if count > PRINTED as u64 {
        let _ = write!(
            text,
            "\n  ... {} more; see --json or --html",
            count - PRINTED as u64
        );
    }
    for (name, before, after) in device.health_changes() {
        let _ = write!(text, "\n  health: {name} was {before}, is {after}");
    }
    for note in &device.notes {
        let _ = write!(text, "\n  note: {note}");
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use daos_burnin::{ErrorRecord, Load, OpPoint, Point};

    pub(crate) fn record() -> Record {
        let mut device = DeviceRecord::new("kdev:/dev/<sdb>".to_owned(), "bdev-kdev".to_owned());
        device.mode = daos_burnin::Mode::ReadWrite;
        device.phase = Phase::Done;
        device.size_bytes = 1 << 30;
        device.elapsed_ms = 900_000;
        device.reads = OpTotals {
            count: 1000,
            bytes: 4_096_000,
            iops: 1.1,
            p99_us: 250,
            ..OpTotals::default()
        };
        device.verification.enabled = true;
        device.error_counts.insert("corrupt".to_owned(), 12);
        device.errors = (0..12)
            .map(|n| ErrorRecord {
                at_ms: 5000,
                kind: "corrupt".to_owned(),
                lba: 700 + n,
                blocks: 1,
                expected: "write 3 of block 700".to_owned(),
                found: "1 wrong bit(s)".to_owned(),
            })
            .collect();
        let op = OpPoint {
            iops: 200.0,
            bytes_per_second: 1e6,
            p50_us: 100,
            p99_us: 900,
            max_us: 1500,
        };
        device.series = (1..10)
            .map(|n| Point {
                at_ms: n * 3000,
                read: op,
                write: op,
                errors: 0,
            })
            .collect();
        device
            .health_before
            .insert("media_errors".to_owned(), 0.into());
        device
            .health_after
            .insert("media_errors".to_owned(), 12.into());
        let mut record = Record::new(
            "b1".to_owned(),
            "node1".to_owned(),
            1_700_000_000_000,
            Load::default(),
            vec![device],
        );
        record.end(1_700_000_900_000, RunState::Passed, "");
        record
    }

    #[test]
    fn a_report_tells_errors_with_their_place_and_what_changed() {
        let text = text(&record());
        for words in [
            "burn-in b1 on node1: failed (12 error(s) were found)",
            "started 2023-11-14T22:13:20Z, ended after 15 min 0 s",
            "50 % reads of 4.0 KiB 50 %, 64.0 KiB 40 %, 1.0 MiB 10 %, random, 4 at a time, 15 min 0 s, at most 200 reads/s",
            "12 error(s): 12 corrupt",
            "corrupt at block 700 (1 block(s)) after 5 s: expected write 3 of block 700, found 1 wrong bit(s)",
            "... 2 more",
            "health: media_errors was 0, is 12",
        ] {
            assert!(text.contains(words), "{words:?} is missing in\n{text}");
        }
        assert!(!text.contains("writes  "), "no writes were made:\n{text}");
    }

    #[test]
    fn runs_are_listed_by_device() {
        let list = list(&[record()]);
        let words: Vec<&str> = list.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(words[..3], ["b1", "failed", "100"], "{list}");
        assert_eq!(words.last(), Some(&"12"));
        assert_eq!(super::list(&[]), "no burn-in");
    }
}
