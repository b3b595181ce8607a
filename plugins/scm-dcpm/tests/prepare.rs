//! Preparing persistent memory on a machine that is played: regions and namespaces that behave as the
//! kernel's and `ndctl`'s do, so that every state can be had, and a run can be killed anywhere.

mod machine;

use daos_plugin_api::abi::Status;
use daos_plugin_api::control::{PrepareMode, PrepareReport, PrepareState, StepState};
use daos_plugin_api::sdk::{Error, Result};
use machine::{Machine, Place, named};
use scm_dcpm::prepare::{Direction, Holds, Wish, run, scan_with};

fn go(machine: &mut Machine, direction: Direction, mode: PrepareMode) -> Result<PrepareReport> {
    let wish = Wish {
        direction,
        mode,
        namespaces: None,
    };
    run(machine, wish, &mut |_, _, _| Ok(()))
}

fn prepare(machine: &mut Machine) -> PrepareReport {
    go(machine, Direction::Prepare, PrepareMode::Apply).expect("prepared")
}

fn release(machine: &mut Machine) -> PrepareReport {
    go(machine, Direction::Release, PrepareMode::Apply).expect("released")
}

/// Names of the namespaces that are ready.
fn ready(report: &PrepareReport) -> Vec<&str> {
    report.namespaces.iter().map(|n| n.dev.as_str()).collect()
}

#[test]
fn each_region_gets_one_namespace_and_a_second_run_changes_nothing() {
    let mut machine = Machine::labelled(2);
    let plan = go(&mut machine, Direction::Prepare, PrepareMode::Plan).expect("a plan");
    assert_eq!(plan.steps.len(), 2);
    assert!(plan.steps.iter().all(|s| s.state == StepState::Planned));
    assert_eq!(machine.changes, 0, "a plan changes nothing");

    let report = prepare(&mut machine);
    assert!(report.faults.is_empty(), "{:?}", report.faults);
    assert_eq!(ready(&report), ["namespace0.0", "namespace1.0"]);
    assert_eq!(report.namespaces[1].numa_node, 1);
    assert_eq!(report.namespaces[1].blockdev, "pmem1");
    assert!(report.steps.iter().all(|s| s.state == StepState::Done));

    let changes = machine.changes;
    let again = prepare(&mut machine);
    assert_eq!(ready(&again), ready(&report));
    assert!(again.steps.is_empty());
    assert_eq!(machine.changes, changes);
}

#[test]
fn labels_that_were_never_used_are_initialised_on_the_way() {
    let mut machine = Machine::unlabelled(2);
    let report = prepare(&mut machine);
    assert_eq!(ready(&report), ["namespace0.0", "namespace1.0"]);
    assert!(machine.regions.iter().all(|r| r.labelled));
}

#[test]
fn a_raw_namespace_with_contents_is_left_alone() {
    let mut machine = Machine::unlabelled(2);
    machine.regions[0].namespaces[0].holds = Holds::Known("xfs file system (at byte 0)".into());
    let report = prepare(&mut machine);
    assert_eq!(ready(&report), ["namespace1.0"]);
    let kept = &report.devices[0];
    assert_eq!(kept.state, PrepareState::Skipped);
    assert!(
        kept.reason.contains("xfs") && kept.reason.contains("--reconfig namespace0.0"),
        "{kept:?}"
    );
    assert_eq!(machine.regions[0].namespaces[0].mode, "raw");
}

#[test]
fn namespaces_of_other_modes_are_left_alone_and_the_rest_of_their_region_is_used() {
    let mut machine = Machine::labelled(1);
    machine.regions[0].add(named("sector", 128 << 20, "other"));
    let report = prepare(&mut machine);
    assert_eq!(ready(&report), ["namespace0.1"]);
    let kept = &report.devices[0];
    assert_eq!(
        (kept.state, kept.model.starts_with("sector")),
        (PrepareState::Skipped, true)
    );
    assert!(kept.reason.contains("ndctl destroy-namespace"), "{kept:?}");
}

#[test]
fn a_namespace_that_is_only_disabled_keeps_its_contents() {
    let mut machine = Machine::labelled(1);
    prepare(&mut machine);
    machine.regions[0].namespaces[0].holds = Holds::Ours;
    machine.regions[0].namespaces[0].enabled = false;
    let uuid = machine.regions[0].namespaces[0].uuid.clone();
    let report = prepare(&mut machine);
    assert_eq!(report.namespaces[0].uuid, uuid);
    assert_eq!(report.steps.len(), 1, "{:?}", report.steps);
    assert_eq!(machine.regions[0].namespaces[0].holds, Holds::Ours);
}

#[test]
fn ailing_modules_keep_their_region_from_being_touched_and_not_the_others() {
    type Ail = fn(&mut machine::Module);
    let cases: [(Ail, &str, &str); 5] = [
        (
            |m| m.security = "locked",
            "is locked",
            "update-passphrase nmem0",
        ),
        (|m| m.health = "fatal", "health is fatal", "replace it"),
        (
            |m| m.flag = "flag_failed_map",
            "could not be mapped",
            "replace it",
        ),
        (
            |m| m.flag = "flag_failed_arm",
            "would not save",
            "replace it",
        ),
        (
            |m| m.disabled = true,
            "is disabled",
            "ndctl enable-dimm nmem0",
        ),
    ];
    for (ail, cause, remedy) in cases {
        let mut machine = Machine::labelled(2);
        ail(&mut machine.modules[0]);
        let report = prepare(&mut machine);
        assert_eq!(ready(&report), ["namespace1.0"], "{cause}");
        let [fault] = report.faults.as_slice() else {
            panic!("{cause}: {:?}", report.faults)
        };
        assert!(fault.cause.contains(cause), "{fault:?}");
        assert!(fault.remedy.contains(remedy), "{fault:?}");
        assert!(machine.regions[0].namespaces.is_empty());
    }
}

#[test]
fn modules_without_regions_are_told_what_to_do_and_no_modules_are_no_failure() {
    let mut machine = Machine::labelled(2);
    machine.regions.clear();
    let report = prepare(&mut machine);
    assert_eq!(report.faults.len(), 1);
    assert!(report.faults[0].remedy.contains("in the BIOS's setup"));
    let mut machine = Machine::labelled(0);
    let report = prepare(&mut machine);
    assert!(report.faults.is_empty() && report.notes[0].contains("nothing to prepare"));
    assert_eq!(machine.calls, 0, "ndctl is not even run");
}

#[test]
fn a_step_that_fails_is_told_and_keeps_no_other_region() {
    let mut machine = Machine::labelled(3);
    machine.fails = Some((
        "region1".into(),
        "failed to create namespace: No such device".into(),
    ));
    let report = prepare(&mut machine);
    assert_eq!(ready(&report), ["namespace0.0", "namespace2.0"]);
    let [fault] = report.faults.as_slice() else {
        panic!("{:?}", report.faults)
    };
    assert_eq!(fault.address, "region1");
    assert!(fault.cause.contains("No such device") && fault.remedy.contains("create-namespace"));
    let failed = report.steps.iter().filter(|s| s.state == StepState::Failed);
    assert_eq!(failed.count(), 1);
}

#[test]
fn a_run_that_is_killed_anywhere_is_finished_by_the_next() {
    for make in [Machine::labelled, Machine::unlabelled] {
        // Stopped before a step; killed while ndctl works, with a namespace half made.
        for place in [Place::Before, Place::Within, Place::Begun] {
            for at in 0..2 {
                let mut machine = make(2);
                machine.killed = Some((place, at));
                let killed = go(&mut machine, Direction::Prepare, PrepareMode::Apply);
                assert!(killed.is_err(), "{place:?} {at}");
                machine.killed = None;
                let report = prepare(&mut machine);
                assert!(report.faults.is_empty(), "{:?}", report.faults);
                assert_eq!(
                    ready(&report),
                    ["namespace0.0", "namespace1.0"],
                    "{place:?} {at}"
                );
                let machine = &machine.regions;
                assert!(
                    machine
                        .iter()
                        .all(|r| r.namespaces.len() == 1 && r.free() == 0 && !r.begun)
                );
            }
        }
    }
}

#[test]
fn a_cancelled_run_stops_between_steps() {
    let mut machine = Machine::labelled(3);
    let mut seen = Vec::new();
    let stopped = run(
        &mut machine,
        Wish {
            direction: Direction::Prepare,
            mode: PrepareMode::Apply,
            namespaces: None,
        },
        &mut |done, of, what| {
            seen.push((done, of, what.to_owned()));
            match done {
                2 => Err(Error::new(Status::CANCELLED, "stop")),
                _ => Ok(()),
            }
        },
    );
    assert_eq!(stopped.expect_err("stopped").status, Status::CANCELLED);
    assert_eq!(machine.changes, 2);
    assert_eq!(
        seen[0],
        (
            0,
            3,
            "creating SCM namespace, may take a few minutes...".into()
        )
    );
}

#[test]
fn a_reset_destroys_what_was_prepared_and_can_be_repeated() {
    let mut machine = Machine::labelled(2);
    prepare(&mut machine);
    machine.regions[0].namespaces[0].holds = Holds::Unknown("what wipefs left".into());
    machine.regions[1].namespaces[0].holds = Holds::Ours;
    let plan = go(&mut machine, Direction::Release, PrepareMode::Plan).expect("a plan");
    assert_eq!(plan.steps.len(), 4);
    let report = release(&mut machine);
    assert!(report.faults.is_empty(), "{:?}", report.faults);
    assert!(machine.regions.iter().all(|r| r.namespaces.is_empty()));
    assert!(release(&mut machine).steps.is_empty());
    assert_eq!(ready(&prepare(&mut machine)).len(), 2);
}

#[test]
fn a_reset_spares_what_is_used_and_what_is_not_ours() {
    let mut machine = Machine::labelled(4);
    prepare(&mut machine);
    machine.regions[0].namespaces[0].user = Some("mounted at /mnt/daos0".into());
    machine.regions[1].namespaces[0].holds = Holds::Known("xfs file system (at byte 0)".into());
    machine.regions[2].namespaces[0].mode = "devdax";
    let report = release(&mut machine);
    let left: Vec<usize> = machine.regions.iter().map(|r| r.namespaces.len()).collect();
    assert_eq!(left, [1, 1, 1, 0]);
    let [fault] = report.faults.as_slice() else {
        panic!("{:?}", report.faults)
    };
    assert!(
        fault.cause.contains("/dev/pmem0 is mounted at /mnt/daos0"),
        "{fault:?}"
    );
    assert!(report.devices[1].reason.contains("xfs"));
    assert!(report.devices[2].reason.contains("devdax"));
}

#[test]
fn a_reset_that_is_killed_anywhere_is_finished_by_the_next() {
    for place in [Place::Before, Place::Within] {
        for at in 0..4 {
            let mut machine = Machine::labelled(2);
            prepare(&mut machine);
            machine.changes = 0;
            machine.killed = Some((place, at));
            assert!(go(&mut machine, Direction::Release, PrepareMode::Apply).is_err());
            machine.killed = None;
            let report = release(&mut machine);
            assert!(
                report.faults.is_empty(),
                "{place:?} {at}: {:?}",
                report.faults
            );
            assert!(
                machine.regions.iter().all(|r| r.namespaces.is_empty()),
                "{place:?} {at}"
            );
        }
    }
}

#[test]
fn the_scan_lists_namespaces_to_configure_and_modules_that_are_never_free() {
    let mut machine = Machine::labelled(2);
    prepare(&mut machine);
    machine.regions[1].namespaces[0].user = Some("mounted at /mnt/daos1".into());
    let report = scan_with(&mut machine).expect("scan");
    let free: Vec<&str> = report
        .devices
        .iter()
        .filter(|d| d.in_use.is_none())
        .map(|d| d.address.as_str())
        .collect();
    assert_eq!(free, ["/dev/pmem0"]);
    let of = |address: &str| {
        let found = report.devices.iter().find(|d| d.address == address);
        found.unwrap_or_else(|| panic!("{address} is not listed"))
    };
    assert_eq!(
        of("/dev/pmem1").in_use.as_deref(),
        Some("mounted at /mnt/daos1")
    );
    assert_eq!(of("/dev/pmem1").numa_node, 1);
    assert_eq!(of("/dev/pmem0").details["dax"], true);
    let module = of("nmem1");
    assert_eq!(module.in_use.as_deref(), Some("a module of region1"));
    assert_eq!(module.details["socket"], 1);
    assert_eq!(module.size, machine.regions[1].size);

    machine.has_ndctl = false;
    let report = scan_with(&mut machine).expect("a scan without ndctl");
    assert!(report.devices.is_empty() && report.notes[0].contains("apt-get install ndctl"));
}
