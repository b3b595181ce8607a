//! Modules of Intel's of which no region can be made, and such beside regions: what is told of them, and what they keep.

mod machine;

use machine::Machine;
use machine::ipmctl::DIMM;
use machine::runs::{fault, prepare, reset};

#[test]
fn a_module_that_cannot_take_part_leaves_its_socket_as_it_is_and_no_other() {
    type Ail = fn(&mut machine::ipmctl::Dimm);
    let cases: [(Ail, &str); 11] = [
        (|d| d.health = "Critical", "health is Critical"),
        (|d| d.health = "Fatal failure", "health is Fatal failure"),
        (|d| d.health = "Non-functional", "health is Non-functional"),
        (|d| d.health = "Unmanageable", "health is Unmanageable"),
        (|d| d.health = "Unknown", "health is Unknown"),
        (|d| d.manageability = "Unmanageable", "cannot be managed"),
        (|d| d.lock = "Locked", "LockState=Unlocked"),
        (|d| d.lock = "Unlocked, Frozen", "LockState=Disabled"),
        (|d| d.violation = "Yes", "population violation"),
        (
            |d| d.app_direct = DIMM,
            "the set is broken, or was not mapped",
        ),
        (
            |d| d.configuration = "Failed - Broken interleave",
            "belongs to an interleaved set that is not all there",
        ),
    ];
    for (ail, words) in cases {
        let mut machine = Machine::dcpm(2, 2);
        ail(machine.dimm(1));
        let report = prepare(&mut machine);
        let text = fault(&report);
        assert!(text.contains(words) && text.contains("socket 0"), "{text}");
        assert!(text.starts_with("0x0011"), "{text}");
        assert!(report.reboot_required, "the other socket: {report:?}");
        assert!(machine.dimm(0).goal.is_none() && machine.dimm(2).goal.is_some());
    }
    // Worn, but whole.
    let mut machine = Machine::dcpm(1, 2);
    machine.dimm(0).health = "Noncritical";
    let report = prepare(&mut machine);
    assert!(report.faults.is_empty() && report.reboot_required);
    let note = "module 0x0001 at CPU1_DIMM_A2 is to be looked after: its health is Noncritical";
    assert_eq!(report.notes[0], note);
}

#[test]
fn ailing_modules_of_a_region_leave_it_as_it_is() {
    type Ail = fn(&mut machine::ipmctl::Dimm);
    let cases: [(Ail, &str); 3] = [
        (|d| d.health = "Critical", "health is Critical"),
        (|d| d.lock = "Locked", "is locked"),
        (|d| d.set_health = "Error", "interleaved set is Error"),
    ];
    for (ail, words) in cases {
        let mut machine = Machine::dcpm(2, 2);
        prepare(&mut machine);
        machine.reboot();
        ail(machine.dimm(0));
        let report = prepare(&mut machine);
        assert!(fault(&report).contains(words), "{report:?}");
        assert_eq!(report.namespaces.len(), 1);
    }
    // The set says that it is locked, too; which module is the one to unlock says more.
    let mut machine = Machine::dcpm(2, 2);
    prepare(&mut machine);
    machine.reboot();
    machine.dimm(0).set_health = "Locked";
    machine.dimm(1).lock = "Locked";
    let text = fault(&prepare(&mut machine));
    assert!(text.contains("module 0x0011 is locked"), "{text}");
}

#[test]
fn modules_of_both_modes_and_such_that_are_not_interleaved_get_no_namespace_and_keep_what_they_have()
 {
    let single = |machine: &mut Machine| {
        let region = machine.regions.pop().expect("a region");
        for m in region.modules.clone() {
            let modules = vec![m];
            machine.regions.push(machine::Region {
                modules,
                size: DIMM,
                ..region.clone()
            });
        }
    };
    let mut machine = Machine::dcpm(1, 2);
    prepare(&mut machine);
    machine.reboot();
    let mut mixed = Machine::dcpm(1, 2);
    prepare(&mut mixed);
    mixed.reboot();
    mixed.dimm(1).memory = DIMM / 2;
    let report = prepare(&mut mixed);
    assert!(fault(&report).contains("both modes") && fault(&report).contains("--reset"));
    mixed.dimm(1).memory = 0;
    prepare(&mut mixed);
    mixed.dimm(1).memory = DIMM / 2;
    let report = prepare(&mut mixed);
    assert!(
        report.faults.is_empty() && report.notes[0].contains("both modes"),
        "{report:?}"
    );
    assert_eq!(report.namespaces.len(), 1);
    // The way out that the message names.
    assert!(reset(&mut mixed).reboot_required);
    mixed.reboot();
    assert!(prepare(&mut mixed).reboot_required);
    mixed.reboot();
    assert_eq!(prepare(&mut mixed).namespaces.len(), 1);

    single(&mut machine);
    let report = prepare(&mut machine);
    assert_eq!(report.faults.len(), 2);
    assert!(
        report.faults[0].cause.contains("are not interleaved"),
        "{report:?}"
    );
    assert!(report.namespaces.is_empty());
    assert!(reset(&mut machine).reboot_required);
    machine.reboot();
    assert!(prepare(&mut machine).reboot_required);

    // A socket's only module has nothing to be interleaved with.
    let mut machine = Machine::dcpm(2, 1);
    prepare(&mut machine);
    machine.reboot();
    let report = prepare(&mut machine);
    assert!(
        report.faults.is_empty() && report.namespaces.len() == 2,
        "{report:?}"
    );
}

#[test]
fn a_module_beside_the_set_is_told() {
    let mut machine = Machine::dcpm(1, 3);
    prepare(&mut machine);
    machine.reboot();
    machine.dimm(2).app_direct = 0;
    machine.regions[0].modules.pop();
    let report = prepare(&mut machine);
    assert!(
        report.faults.is_empty() && report.namespaces.len() == 1,
        "{report:?}"
    );
    assert!(
        report.notes.iter().any(|note| note.contains("0x0021")),
        "{report:?}"
    );
    // One that fails is named with what is wrong with it.
    machine.dimm(2).health = "Fatal";
    let report = prepare(&mut machine);
    let note = "module 0x0021 at CPU1_DIMM_A2 is in no region: it says that its health is Fatal; save what it holds, and replace it";
    assert!(
        report.notes == [note] && report.namespaces.len() == 1,
        "{report:?}"
    );
}
