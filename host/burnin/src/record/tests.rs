use super::*;
use serde_json::json;

fn device() -> DeviceRecord {
    DeviceRecord::new("file:/a".to_owned(), "bdev-file".to_owned())
}

fn record() -> Record {
    Record::new(
        "1".to_owned(),
        "h".to_owned(),
        5,
        Load::default(),
        vec![device()],
    )
}

#[test]
fn updates_add_up_and_stay_bounded() {
    let mut known = device();
    for n in 0..MAX_POINTS as u64 + 10 {
        let mut update = DeviceRecord::new("file:/other".to_owned(), "other".to_owned());
        update.elapsed_ms = n;
        update.series.push(Point {
            at_ms: n,
            ..Point::default()
        });
        update.errors.push(ErrorRecord {
            at_ms: n,
            kind: "corrupt".to_owned(),
            lba: n,
            blocks: 1,
            expected: String::new(),
            found: String::new(),
        });
        known.take(update);
    }
    assert_eq!(
        (known.device.as_str(), known.plugin.as_str()),
        ("file:/a", "bdev-file")
    );
    assert_eq!(known.errors.len(), MAX_ERRORS);
    assert_eq!(known.errors[0].lba, 0);
    assert!((MAX_POINTS / 2..=MAX_POINTS).contains(&known.series.len()));
    assert!(known.series.is_sorted_by_key(|p| p.at_ms));
    assert_eq!(known.series.last().unwrap().at_ms, MAX_POINTS as u64 + 9);
}

#[test]
fn errors_decide_how_a_run_ended() {
    for (errors, fault, otherwise, expected) in [
        (0, None, RunState::Passed, RunState::Passed),
        (0, None, RunState::Stopped, RunState::Stopped),
        (0, Some("gone"), RunState::Passed, RunState::NotRun),
        (
            0,
            Some("gone"),
            RunState::Interrupted,
            RunState::Interrupted,
        ),
        (3, None, RunState::Passed, RunState::Failed),
        (3, Some("gone"), RunState::Interrupted, RunState::Failed),
    ] {
        let mut run = record();
        if errors > 0 {
            run.devices[0]
                .error_counts
                .insert("corrupt".to_owned(), errors);
        }
        run.devices[0].fault = fault.map(str::to_owned);
        run.end(9, otherwise, "told to");
        assert_eq!((run.state, run.ended_ms), (expected, 9));
        assert_eq!(
            run.reason.contains("error(s)"),
            errors > 0,
            "{}",
            run.reason
        );
        assert_eq!(
            run.reason.contains("told to"),
            fault.is_none() && errors == 0 || otherwise != RunState::Passed,
            "{}",
            run.reason
        );
    }
}

#[test]
fn health_tells_what_changed() {
    let mut device = device();
    device.health_before = json!({"status": "ok", "media_errors": 0, "hours": 5})
        .as_object()
        .unwrap()
        .clone();
    assert!(device.health_changes().is_empty(), "not asked afterwards");
    device.health_after = json!({"status": "ok", "media_errors": 2, "spare": 9})
        .as_object()
        .unwrap()
        .clone();
    let text = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
    assert_eq!(
        device.health_changes(),
        [
            text("hours", "5", "-"),
            text("media_errors", "0", "2"),
            text("spare", "-", "9")
        ]
    );
}

#[test]
fn progress_is_that_of_the_slowest_device() {
    let mut run = record();
    run.devices.push(device());
    run.devices[0].elapsed_ms = 450_000;
    run.devices[1].elapsed_ms = 90_000;
    assert_eq!(run.percent(), 10);
    run.devices[1].phase = Phase::Done;
    assert_eq!(run.percent(), 50);
    run.devices[0].elapsed_ms = 2_000_000;
    assert_eq!(run.percent(), 99);
    run.end(1, RunState::Passed, "");
    assert_eq!(run.percent(), 100);
    run.devices[0].elapsed_ms = 450_000;
    run.devices[0].cut_short = true;
    run.end(1, RunState::Stopped, "");
    assert_eq!(run.percent(), 50, "it was stopped half way");
}
