//! The bdev cases against a bdev that keeps every promise, and against the same one with a defect
//! at a time: each defect must be found by the case that is about it.

mod support;

use daos_plugin_api::conformance::{Outcome, Reporter, Summary, Target, cases, check, run};
use daos_plugin_api::control::ClassKind;
use daos_plugin_api::sdk::thunks;
use serde_json::json;
use support::MemoryBdev;

fn target() -> Target {
    Target::new(ClassKind::Bdev, "memory", json!({"bdev_number": 2}))
        .nonsense(json!({"bdev_number": 3}))
        .nonsense(json!({}))
}

#[test]
fn a_bdev_that_keeps_its_promises_passes() {
    let summary = check(thunks::table::<MemoryBdev>(), target());
    assert_eq!(summary.records.len(), cases(ClassKind::Bdev).len());
}

#[test]
fn there_are_as_many_cases_as_promised() {
    // Every kind has the cases of the control face as well.
    let control = cases(ClassKind::Bdev)
        .into_iter()
        .filter(|name| cases(ClassKind::Fabric).contains(name))
        .count();
    assert!(cases(ClassKind::Bdev).len() >= control + 15);
    assert!(cases(ClassKind::Scm).len() >= control + 8);
    assert!(cases(ClassKind::Fabric).len() >= control + 8);
}

struct Quiet;

impl Reporter for Quiet {
    fn ended(&mut self, _: &daos_plugin_api::conformance::Record) {}
}

fn with_defect(defect: &str, filter: &str) -> Summary {
    let mut target = target().filter(filter);
    target.settings.insert("defect".into(), json!(defect));
    run(thunks::table::<MemoryBdev>(), &target, &mut Quiet)
}

fn must_be_found(defect: &str, case: &str) {
    let summary = with_defect(defect, case);
    let found = summary.records.iter().find(|r| r.case.contains(case));
    let found = found.unwrap_or_else(|| panic!("no case {case}"));
    assert!(
        matches!(found.outcome, Outcome::Failed(_)),
        "{defect:?} passes {:?}: {:?}",
        found.case,
        found.outcome
    );
}

#[test]
fn each_defect_is_found_by_its_case() {
    for (defect, case) in [
        ("accepts any config", "a config with a key of another type"),
        ("panic in thread_attach", "threads attach and detach"),
        ("panic in submit", "what was written is read back"),
        ("second open succeeds", "a second opener is refused"),
        ("loses data at close", "data survives closing"),
        (
            "loses data at close",
            "a flush makes completed writes durable",
        ),
        ("loses data at close", "a write with FUA is durable"),
        ("reads beyond the end", "beyond the end"),
        ("zero blocks succeed", "zero blocks"),
        ("ignores the sum", "do not add up"),
        ("moves one segment", "as many segments as promised"),
        ("moves one segment", "odd lengths"),
        ("ignores the depth", "no more requests than its depth"),
        ("zeroes are ones", "write-zeroes reads back"),
        ("completes twice", "an idle queue reports no completion"),
        ("writes after close", "leaves their memory alone"),
    ] {
        must_be_found(defect, case);
    }
}

// The three below wait until the suite loses patience; apart, they do so side by side.

#[test]
fn an_abort_that_swallows_the_completion_is_found() {
    must_be_found(
        "abort swallows the request",
        "an aborted request completes exactly once",
    );
}

#[test]
fn a_wait_that_sleeps_through_completions_is_found() {
    must_be_found("sleeps through completions", "arm_wait never sleeps");
}

#[test]
fn a_queue_that_never_completes_is_found() {
    must_be_found("never completes", "each request completes exactly once");
}

#[test]
fn a_filter_selects_cases() {
    let summary = with_defect("", "zero blocks");
    let names: Vec<_> = summary.records.iter().map(|r| r.case).collect();
    assert_eq!(names.len(), 2, "{names:?}"); // the preparation and the one
    assert!(summary.is_ok(), "{summary}");
}
