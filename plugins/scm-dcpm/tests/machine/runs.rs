//! Runs on a machine that is played, and what they report.

use super::Machine;
use daos_plugin_api::control::{PrepareMode, PrepareReport};
use daos_plugin_api::sdk::Result;
use scm_dcpm::prepare::{Direction, Wish, run};

/// Prepares, or releases.
pub(crate) fn go(machine: &mut Machine, wish: Wish) -> Result<PrepareReport> {
    run(machine, wish, &mut |_, _, _| Ok(()))
}

/// What is wished for where nothing more is said.
pub(crate) fn wish(direction: Direction) -> Wish {
    Wish {
        direction,
        mode: PrepareMode::Apply,
        namespaces: None,
    }
}

pub(crate) fn prepare(machine: &mut Machine) -> PrepareReport {
    go(machine, wish(Direction::Prepare)).expect("prepared")
}

pub(crate) fn reset(machine: &mut Machine) -> PrepareReport {
    go(machine, wish(Direction::Release)).expect("reset")
}

/// Modules of two sockets, prepared and started again.
pub(crate) fn prepared() -> Machine {
    let mut machine = Machine::dcpm(2, 3);
    prepare(&mut machine);
    machine.reboot();
    let report = prepare(&mut machine);
    assert!(
        report.faults.is_empty() && !report.reboot_required,
        "{report:?}"
    );
    assert_eq!(report.namespaces.len(), 2);
    machine
}

/// The one fault of a report.
pub(crate) fn fault(report: &PrepareReport) -> String {
    let [fault] = report.faults.as_slice() else {
        panic!("{report:?}")
    };
    assert!(!fault.remedy.is_empty(), "{fault:?}");
    format!(
        "{}: {}: {} | {}",
        fault.address, fault.what, fault.cause, fault.remedy
    )
}

/// What was done.
pub(crate) fn steps(report: &PrepareReport) -> Vec<&str> {
    report.steps.iter().map(|step| step.what.as_str()).collect()
}
