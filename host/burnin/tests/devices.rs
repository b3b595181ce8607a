//! Bad devices are found, good ones are not blamed, and what was not to be touched is not.

mod faulty;

use bdev_malloc as _;
use daos_burnin::device::{Context, KEEP_OUT, Plan, run};
use daos_burnin::{DeviceRecord, Job, Load, Mode, Phase, SizeShare};
use daos_plugin_api::host::{BdevDevice, SyncBdev};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// A load that ends when it has moved four times what the device has, whatever the speed of the machine.
fn load() -> Load {
    let sizes = [(512, 40), (4096, 60)].map(|(bytes, percent)| SizeShare { bytes, percent });
    let job = Job {
        read_sizes: sizes.to_vec(),
        write_sizes: sizes.to_vec(),
        runtime_ms: None,
        time_based: false,
        rate: Default::default(),
        ..Job::default()
    };
    Load { jobs: vec![job] }
}

fn burn_in(device: &BdevDevice, load: Load, mode: Mode) -> DeviceRecord {
    let known = Mutex::new(DeviceRecord::new(
        "faulty:0".to_owned(),
        "faulty".to_owned(),
    ));
    let report = |update: DeviceRecord| known.lock().unwrap().take(update);
    let plan = Plan {
        run: Uuid::from_u128(42),
        load: match mode {
            Mode::ReadOnly => load.read_only(),
            Mode::ReadWrite => load,
        },
        mode,
    };
    let context = Context {
        cancel: &AtomicBool::new(false),
        admin: &Mutex::new(()),
        report: &report,
    };
    let first = DeviceRecord::new("faulty:0".to_owned(), "faulty".to_owned());
    let last = run(device, &plan, first, &context);
    report(last);
    known.into_inner().unwrap()
}

fn only_error(record: &DeviceRecord) -> (&str, u64, &str) {
    assert_eq!(record.fault, None);
    assert_eq!(record.phase, Phase::Done);
    let error = record
        .errors
        .first()
        .unwrap_or_else(|| panic!("nothing was found: {record:?}"));
    (&error.kind, error.lba, &error.found)
}

#[test]
fn a_good_device_has_no_errors_and_its_ends_are_left_alone() {
    let device = faulty::open("none", 0);
    let mark = vec![0xa5; 1 << 20];
    let ends = [0, device.size() - KEEP_OUT];
    for at in ends {
        SyncBdev::new(&device, Duration::from_secs(9))
            .unwrap()
            .write(at, &mark)
            .unwrap();
    }
    let record = burn_in(&device, load(), Mode::ReadWrite);
    assert_eq!(
        (record.fault.clone(), record.error_count()),
        (None, 0),
        "{record:?}"
    );
    assert!(
        record.reads.count > 100 && record.writes.count > 100,
        "{record:?}"
    );
    assert!(record.reads.p50_us >= 1 && record.reads.p50_us <= record.reads.p999_us);
    assert!(!record.series.is_empty() && !record.cut_short);
    let checked = &record.verification;
    assert!(checked.enabled && checked.bytes_written > 0);
    assert_eq!(checked.bytes_read_back, checked.bytes_written);
    assert!(
        checked.bytes_checked > checked.bytes_read_back,
        "reads of the load are checked as well"
    );
    for at in ends {
        let mut found = vec![0; 1 << 20];
        SyncBdev::new(&device, Duration::from_secs(9))
            .unwrap()
            .read(at, &mut found)
            .unwrap();
        assert!(
            found == mark,
            "the load wrote within {KEEP_OUT} bytes of an end"
        );
    }
}

#[test]
fn a_flipped_bit_is_found_and_told() {
    for at in [1, 100] {
        let record = burn_in(&faulty::open("flip", at), load(), Mode::ReadWrite);
        let (kind, _, found) = only_error(&record);
        assert_eq!(kind, "corrupt", "{record:?}");
        assert!(
            found.contains("1 wrong bit(s) in 1 byte(s), first in byte 100"),
            "{found}"
        );
        assert_eq!(record.error_count(), 1, "told once: {:?}", record.errors);
    }
}

#[test]
fn a_lost_write_is_found_as_old_data() {
    // The first write is lost where nothing was, a later one where the load had written before.
    let record = burn_in(&faulty::open("lose", 1), load(), Mode::ReadWrite);
    let (kind, _, found) = only_error(&record);
    assert_eq!((kind, found), ("lost-write", "zeroes"));
    let mut sequential = load();
    sequential.jobs[0].pattern = daos_burnin::Pattern {
        random: false,
        read_percent: 0,
    };
    sequential.jobs[0].size = Some(daos_burnin::Extent::Bytes(64 << 10));
    sequential.jobs[0].write_sizes = vec![SizeShare {
        bytes: 4096,
        percent: 100,
    }];
    let twice = Load {
        jobs: vec![sequential.jobs[0].clone(), sequential.jobs[0].clone()],
    };
    // Two jobs write the same 16 places, one time each: the last write has a place that was written before.
    let record = burn_in(&faulty::open("lose", 32), twice, Mode::ReadWrite);
    let (kind, _, found) = only_error(&record);
    assert_eq!(kind, "lost-write");
    assert!(found.starts_with("old data: write "), "{found}");
}

#[test]
fn a_misdirected_write_is_found_where_it_went_and_where_it_is_missing() {
    let mut load = load();
    load.jobs[0].pattern = daos_burnin::Pattern {
        random: false,
        read_percent: 0,
    };
    load.jobs[0].write_sizes = vec![SizeShare {
        bytes: 4096,
        percent: 100,
    }];
    load.jobs[0].size = Some(daos_burnin::Extent::Bytes(8192));
    load.jobs[0].depth = 1;
    // The second of two writes lands where the first one is.
    let record = burn_in(&faulty::open("misdirect", 2), load, Mode::ReadWrite);
    let (kind, lba, found) = only_error(&record);
    let first = KEEP_OUT / 512;
    assert_eq!((kind, lba), ("misdirected-write", first));
    assert_eq!(
        found,
        format!("data of block {}: write 2 of this run", first + 8)
    );
    let counts: Vec<_> = record
        .error_counts
        .iter()
        .map(|(kind, n)| (kind.as_str(), *n))
        .collect();
    assert_eq!(
        counts,
        [("lost-write", 8), ("misdirected-write", 8)],
        "each of eight blocks"
    );
}

#[test]
fn a_torn_write_is_found() {
    let record = burn_in(&faulty::open("tear", 70), load(), Mode::ReadWrite);
    only_error(&record);
}

#[test]
fn failed_reads_are_errors_and_a_device_that_is_gone_ends_the_run() {
    let record = burn_in(&faulty::open("fail", 10), load(), Mode::ReadWrite);
    let (kind, _, found) = only_error(&record);
    assert_eq!((kind, found), ("read-failed", "media error"));
    assert_eq!(record.errors[0].expected, "success");
    let record = burn_in(&faulty::open("gone", 10), load(), Mode::ReadWrite);
    assert_eq!(record.fault.as_deref(), Some("the device is gone"));
    assert!(record.cut_short && record.writes.count == 10, "{record:?}");
}

#[test]
fn a_run_that_only_reads_writes_nothing_and_notices_changes() {
    let device = faulty::open("rot", 900);
    let data: Vec<u8> = (0..device.size()).map(|n| (n / 7) as u8).collect();
    SyncBdev::new(&device, Duration::from_secs(9))
        .unwrap()
        .write(0, &data)
        .unwrap();
    let mut load = load();
    // Over everything several times.
    load.jobs[0].pattern.random = false;
    load.jobs[0].read_sizes = vec![SizeShare {
        bytes: 8192,
        percent: 100,
    }];
    load.jobs[0].copies = 2;
    let record = burn_in(&device, load, Mode::ReadOnly);
    let (kind, _, found) = only_error(&record);
    assert_eq!(kind, "changed");
    assert!(found.contains("nobody writes"), "{found}");
    assert_eq!(
        (record.writes.count, record.verification.bytes_written),
        (0, 0)
    );
    let mut after = vec![0; data.len()];
    SyncBdev::new(&device, Duration::from_secs(9))
        .unwrap()
        .read(0, &mut after)
        .unwrap();
    assert_eq!(
        after.iter().zip(&data).filter(|(a, b)| a != b).count(),
        1,
        "the bit that rotted"
    );
}

#[test]
fn a_run_that_is_cancelled_ends_soon_and_tells_what_it_measured() {
    let device = faulty::open("none", 0);
    let cancel = AtomicBool::new(false);
    let seen = Mutex::new(DeviceRecord::new(String::new(), String::new()));
    let report = |update: DeviceRecord| {
        // As soon as there is something to tell.
        cancel.store(true, Ordering::Relaxed);
        seen.lock().unwrap().take(update);
    };
    let plan = Plan {
        run: Uuid::from_u128(1),
        load: Load::default(),
        mode: Mode::ReadWrite,
    };
    let context = Context {
        cancel: &cancel,
        admin: &Mutex::new(()),
        report: &report,
    };
    let begun = Instant::now();
    let last = run(
        &device,
        &plan,
        DeviceRecord::new(String::new(), String::new()),
        &context,
    );
    assert!(
        begun.elapsed() < Duration::from_secs(60),
        "a quarter of an hour was asked for"
    );
    assert!(last.cut_short && last.phase == Phase::Done && last.fault.is_none());
    assert!(last.reads.count + last.writes.count > 0);
    assert_eq!(last.verification.bytes_read_back, 0);
}

#[test]
fn what_the_device_cannot_take_is_changed_with_a_remark_or_refused() {
    let device = faulty::open("none", 0);
    let mut large = load();
    large.jobs[0].write_sizes = vec![SizeShare {
        bytes: 1 << 20,
        percent: 100,
    }];
    large.jobs[0].depth = 16;
    let record = burn_in(&device, large, Mode::ReadWrite);
    assert_eq!((record.fault.clone(), record.error_count()), (None, 0));
    let notes = record.notes.join("\n");
    assert!(
        notes.contains("of 65536") && notes.contains("8 requests under way"),
        "{notes}"
    );
    let mut copies = load();
    copies.jobs[0].copies = 5;
    let fault = burn_in(&device, copies, Mode::ReadWrite).fault.unwrap();
    assert!(
        fault.contains("5 jobs") && fault.contains("4 queues"),
        "{fault}"
    );
}
