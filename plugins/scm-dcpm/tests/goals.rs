//! Making regions of Intel's modules, and giving them back, over boots of a machine that is played.

mod machine;

use daos_plugin_api::control::PrepareMode;
use machine::ipmctl::{DIMM, Goal, Installed};
use machine::runs::{fault, go, prepare, prepared, reset, steps, wish};
use machine::{Machine, Place};
use scm_dcpm::prepare::{Direction, Holds, Wish, scan_with};

#[test]
fn from_memory_mode_to_namespaces_and_back_with_a_boot_between() {
    let mut machine = Machine::dcpm(2, 3);
    let planned = Wish {
        mode: PrepareMode::Plan,
        ..wish(Direction::Prepare)
    };
    let plan = go(&mut machine, planned).expect("a plan");
    assert_eq!(plan.steps.len(), 2, "{plan:?}");
    assert_eq!(machine.changes, 0);

    let report = prepare(&mut machine);
    assert!(
        report.reboot_required && report.faults.is_empty(),
        "{report:?}"
    );
    assert!(report.namespaces.is_empty());
    // Before the boot it stays at that.
    let changes = machine.changes;
    let again = prepare(&mut machine);
    assert!(again.reboot_required && again.steps.is_empty());
    assert_eq!(machine.changes, changes);

    machine.reboot();
    let report = prepare(&mut machine);
    assert!(
        !report.reboot_required && report.faults.is_empty(),
        "{report:?}"
    );
    assert_eq!(report.namespaces.len(), 2);
    assert!(
        machine
            .regions
            .iter()
            .all(|region| region.modules.len() == 3 && region.free() == 0)
    );
    let again = prepare(&mut machine);
    assert!(again.steps.is_empty() && again.namespaces == report.namespaces);

    let plan = go(
        &mut machine,
        Wish {
            mode: PrepareMode::Plan,
            ..wish(Direction::Release)
        },
    )
    .expect("a plan");
    assert_eq!(plan.steps.len(), 6, "{plan:?}");
    let report = reset(&mut machine);
    assert!(
        report.reboot_required && report.faults.is_empty(),
        "{report:?}"
    );
    assert!(
        machine
            .regions
            .iter()
            .all(|region| region.namespaces.is_empty())
    );
    let again = reset(&mut machine);
    assert!(again.reboot_required && again.steps.is_empty());
    machine.reboot();
    assert!(machine.regions.is_empty());
    assert!((0..6).all(|m| machine.dimm(m).memory == DIMM));
    let report = reset(&mut machine);
    assert!(!report.reboot_required && report.steps.is_empty());
    assert_eq!(report.notes, ["SCM is already reset"]);
}

#[test]
fn a_second_per_question_is_not_spent_on_what_is_known() {
    let mut machine = Machine::dcpm(2, 3);
    assert!(prepare(&mut machine).reboot_required);
    // A list and three shows, the version, two goals; then a list, and the goals, for nothing else has changed.
    assert_eq!(machine.calls, 5 + 2 + 2);
    machine.reboot();
    machine.calls = 0;
    assert_eq!(prepare(&mut machine).namespaces.len(), 2);
    // Namespaces change nothing that ipmctl tells.
    assert_eq!(machine.calls, 4 + 2 + 1);
}

#[test]
fn a_boot_on_half_of_the_goals_is_no_end() {
    for at in 0..2 {
        let mut machine = Machine::dcpm(2, 2);
        machine.killed = Some((Place::Within, at));
        assert!(go(&mut machine, wish(Direction::Prepare)).is_err());
        machine.killed = None;
        machine.reboot();
        let half = (0..4).filter(|m| machine.dimm(*m).goal.is_some()).count();
        assert_eq!(half, 1, "the BIOS refuses it");
        let report = prepare(&mut machine);
        assert!(
            report.reboot_required && report.faults.is_empty(),
            "{report:?}"
        );
        machine.reboot();
        assert_eq!(prepare(&mut machine).namespaces.len(), 2);
        machine.killed = Some((Place::Within, machine.changes + 5));
        // Namespaces are gone by then, and one of the goals is half made.
        assert!(go(&mut machine, wish(Direction::Release)).is_err());
        machine.killed = None;
        machine.reboot();
        let report = reset(&mut machine);
        assert!(
            report.reboot_required && report.faults.is_empty(),
            "{report:?}"
        );
        machine.reboot();
        assert!((0..4).all(|m| machine.dimm(m).memory == DIMM));
    }
}

#[test]
fn killed_anywhere_the_next_run_finishes_it() {
    for place in [Place::Before, Place::Within] {
        for at in 0..2 {
            let mut machine = Machine::dcpm(2, 2);
            machine.killed = Some((place, at));
            assert!(go(&mut machine, wish(Direction::Prepare)).is_err());
            machine.killed = None;
            let report = prepare(&mut machine);
            assert!(
                report.reboot_required && report.faults.is_empty(),
                "{place:?} {at}: {report:?}"
            );
            machine.reboot();
            assert_eq!(machine.regions.len(), 2, "{place:?} {at}");
        }
        // Two are disabled and destroyed; then two goals are set.
        for at in 0..6 {
            let mut machine = prepared();
            machine.changes = 0;
            machine.killed = Some((place, at));
            assert!(go(&mut machine, wish(Direction::Release)).is_err());
            machine.killed = None;
            let report = reset(&mut machine);
            assert!(
                report.reboot_required && report.faults.is_empty(),
                "{place:?} {at}: {report:?}"
            );
            machine.reboot();
            assert!(machine.regions.is_empty(), "{place:?} {at}");
        }
    }
}

#[test]
fn who_changes_his_mind_before_the_boot_keeps_what_there_was() {
    let mut machine = prepared();
    assert!(reset(&mut machine).reboot_required);
    let report = prepare(&mut machine);
    assert!(
        !report.reboot_required && report.faults.is_empty(),
        "{report:?}"
    );
    assert_eq!(report.namespaces.len(), 2);
    machine.reboot();
    assert_eq!(machine.regions.len(), 2);

    let mut machine = Machine::dcpm(1, 2);
    assert!(prepare(&mut machine).reboot_required);
    let report = reset(&mut machine);
    assert!(
        !report.reboot_required && report.faults.is_empty(),
        "{report:?}"
    );
    machine.reboot();
    assert!(machine.regions.is_empty());
}

#[test]
fn a_goal_that_the_bios_refused_is_told_and_not_made_again_at_each_boot() {
    let mut machine = Machine::dcpm(1, 2);
    machine.bios_refuses = true;
    assert!(prepare(&mut machine).reboot_required);
    machine.reboot();
    for _ in 0..2 {
        let report = prepare(&mut machine);
        assert!(!report.reboot_required && report.steps.is_empty());
        let text = fault(&report);
        assert!(
            text.contains("Failed - Bad request") && text.contains("ipmctl delete -goal -socket 0"),
            "{text}"
        );
    }
    assert!(fault(&reset(&mut machine)).contains("Failed - Bad request"));
}

#[test]
fn a_reset_leaves_the_modules_below_what_is_used() {
    let mut machine = prepared();
    machine.regions[0].namespaces[0].user = Some("mounted at /mnt/daos0".into());
    let report = reset(&mut machine);
    assert!(fault(&report).contains("mounted at /mnt/daos0"));
    assert!(report.reboot_required, "the other socket");
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.contains("socket 0 are left as they are"))
    );
    assert!(machine.dimm(0).goal.is_none() && machine.dimm(3).goal.is_some());

    let mut machine = prepared();
    machine.regions[1].namespaces[0].holds = Holds::Known("xfs file system".into());
    let report = reset(&mut machine);
    assert!(
        machine.dimm(0).goal.is_some() && machine.dimm(3).goal.is_none(),
        "{report:?}"
    );

    // Destroying fails: nothing that is left may lie below a goal.
    let mut machine = prepared();
    machine.fails = Some(("namespace0.0".into(), "No such device".into()));
    let report = reset(&mut machine);
    assert!(fault(&report).contains("No such device"));
    assert!(machine.dimm(0).goal.is_none() && machine.dimm(3).goal.is_some());
}

#[test]
fn what_ipmctl_cannot_tell_stops_only_what_it_is_needed_for() {
    let cases = [
        (Installed::Crashes, "ended without an answer"),
        (Installed::Fails("Error 7 - Driver failed"), "Driver failed"),
    ];
    for (ipmctl, words) in cases {
        let mut machine = Machine::dcpm(2, 2);
        prepare(&mut machine);
        machine.reboot();
        machine.ipmctl = ipmctl.clone();
        let report = prepare(&mut machine);
        assert!(fault(&report).contains(words), "{report:?}");
        assert_eq!(report.namespaces.len(), 2);
        let report = reset(&mut machine);
        assert!(fault(&report).contains(words), "{report:?}");
        assert!(
            machine
                .regions
                .iter()
                .all(|region| region.namespaces.is_empty())
        );
    }
    let mut machine = prepared();
    machine.ipmctl = Installed::No;
    let report = prepare(&mut machine);
    assert!(
        report.faults.is_empty() && report.notes[0].contains("apt-get install ipmctl"),
        "{report:?}"
    );
    let mut machine = Machine::dcpm(2, 2);
    machine.ipmctl = Installed::No;
    assert!(fault(&prepare(&mut machine)).contains("apt-get install ipmctl"));
    machine.ipmctl = Installed::Version("02.00.00.3816");
    let report = prepare(&mut machine);
    assert!(
        report.faults.len() == 2 && report.faults[0].cause.contains("3816"),
        "{report:?}"
    );
    assert!(report.steps.is_empty());
}

#[test]
fn a_goal_that_cannot_be_deleted_is_a_failure_although_ipmctl_ends_with_0() {
    let mut machine = Machine::dcpm(1, 2);
    machine.dimm(0).goal = Some(Goal {
        memory: 0,
        app_direct: DIMM,
        status: "New: A reboot is required",
    });
    machine.keeps_goals = true;
    let report = prepare(&mut machine);
    assert!(
        steps(&report)[0].starts_with("delete the memory allocation goal"),
        "{report:?}"
    );
    assert!(fault(&report).contains("Error 5"), "{report:?}");
    // That there was none to delete is no failure.
    machine.keeps_goals = false;
    let report = prepare(&mut machine);
    assert!(
        report.faults.is_empty() && report.reboot_required,
        "{report:?}"
    );
}

#[test]
fn as_many_namespaces_as_asked_for() {
    let asked = |number| Wish {
        namespaces: Some(number),
        ..wish(Direction::Prepare)
    };
    let mut machine = Machine::dcpm(2, 2);
    prepare(&mut machine);
    machine.reboot();
    let report = go(&mut machine, asked(2)).expect("prepared");
    assert!(
        report.faults.is_empty() && report.namespaces.len() == 4,
        "{report:?}"
    );
    for region in &machine.regions {
        assert_eq!(
            region.namespaces.iter().map(|n| n.size).collect::<Vec<_>>(),
            [DIMM, DIMM]
        );
    }
    let again = go(&mut machine, asked(2)).expect("prepared");
    assert!(again.steps.is_empty() && again.faults.is_empty());
    // Without the wish they are right as they are, and more do not fit.
    assert!(prepare(&mut machine).steps.is_empty());
    let more = go(&mut machine, asked(3)).expect("an answer");
    assert!(
        more.faults.len() == 2 && more.faults[0].what.contains("2 of 3"),
        "{more:?}"
    );

    // New modules of anybody's, and a run that is killed.
    for make in [Machine::labelled, Machine::unlabelled] {
        for at in 0..6 {
            let mut machine = make(2);
            machine.killed = Some((Place::Before, at));
            assert!(go(&mut machine, asked(3)).is_err(), "{at}");
            machine.killed = None;
            let report = go(&mut machine, asked(3)).expect("prepared");
            assert!(report.faults.is_empty(), "{at}: {report:?}");
            assert!(
                machine
                    .regions
                    .iter()
                    .all(|r| r.namespaces.len() == 3 && r.free() == 0),
                "{at}"
            );
        }
    }
}

#[test]
fn the_scan_tells_what_modules_say_of_themselves_and_goes_on_where_they_do_not() {
    let mut machine = Machine::dcpm(2, 2);
    machine.dimm(1).lock = "Locked";
    let report = scan_with(&mut machine).expect("a scan");
    assert_eq!(report.devices.len(), 4);
    let module = &report.devices[2];
    assert_eq!((module.address.as_str(), module.size), ("nmem2", DIMM));
    assert_eq!(
        (module.model.as_str(), module.firmware.as_str()),
        ("NMA1XBD128GQS", "01.02.00.5435")
    );
    assert_eq!(module.details["memory_mode"], DIMM);
    assert_eq!(module.details["socket"], 1);
    assert_eq!(module.details["health"], "Healthy");
    let locked = report.devices[1].in_use.as_deref().unwrap_or_default();
    assert!(locked.contains("is locked"), "{locked}");
    machine.ipmctl = Installed::No;
    let report = scan_with(&mut machine).expect("a scan");
    assert_eq!(report.devices.len(), 4);
    assert!(
        report.notes[0].contains("apt-get install ipmctl"),
        "{report:?}"
    );
}
