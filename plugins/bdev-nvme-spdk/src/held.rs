//! Whether this plugin can have a controller now.

use nvme_pci::{Controller, Processes, System, usage};

/// Why not; `None` if it can. Who holds it through vfio or uio is known only of processes into which this one may
/// look, which for root is all.
pub(crate) fn reason(
    machine: &dyn System,
    controller: &Controller,
    processes: &Processes,
) -> Option<String> {
    let reasons = usage::reasons(machine, controller, processes);
    if !reasons.is_empty() {
        return Some(reasons.join("; "));
    }
    if controller.is_for_user_space() {
        return None;
    }
    Some(match &controller.driver {
        Some(driver) => format!("bound to the kernel driver {driver}"),
        None => "bound to no driver".to_owned(),
    })
}
