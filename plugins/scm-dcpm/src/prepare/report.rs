//! A plan, or what came of it, as the document that the host reads.

use super::plan::{Judged, Plan};
use daos_plugin_api::control::{PrepareReport, PrepareState, PreparedDevice, PreparedNamespace};

/// The report, but for its steps.
pub(super) fn report(plan: Plan) -> PrepareReport {
    PrepareReport {
        namespaces: plan
            .judged
            .iter()
            .filter(|judged| judged.state == PrepareState::Ready)
            .map(namespace)
            .collect(),
        devices: plan.judged.into_iter().map(device).collect(),
        reboot_required: plan.reboot_required,
        faults: plan.faults,
        notes: plan.notes,
        ..PrepareReport::default()
    }
}

fn namespace(judged: &Judged) -> PreparedNamespace {
    let namespace = &judged.namespace;
    PreparedNamespace {
        uuid: namespace.uuid.clone(),
        blockdev: namespace.blockdev.clone(),
        dev: namespace.dev.clone(),
        numa_node: judged.numa_node,
        size: namespace.size,
    }
}

fn device(judged: Judged) -> PreparedDevice {
    let driver = match judged.namespace.blockdev.is_empty() {
        true => String::new(),
        false => "nd_pmem".to_owned(),
    };
    PreparedDevice {
        address: judged.namespace.address(),
        model: format!(
            "{} {} of {}, {} MiB",
            judged.namespace.mode,
            judged.namespace.dev,
            judged.region,
            judged.namespace.size >> 20
        ),
        state: judged.state,
        driver_before: driver.clone(),
        driver,
        iommu_group: None,
        numa_node: judged.numa_node,
        in_use: Vec::new(),
        reason: judged.reason,
    }
}
