//! The answer of `storage prepare` for people.

use daos_plugin_api::control::{PrepareFault, PrepareReport, PrepareState, StepState};
use daos_report::table;
use std::fmt::Write as _;

/// The whole of a report but its faults. The checks are shown when they were asked for.
pub(super) fn report(title: &str, report: &PrepareReport, checks: bool) -> String {
    let mut text = format!("{title}:\n");
    if !report.devices.is_empty() {
        let rows = report.devices.iter().map(|device| {
            let name = |driver: &str| match driver {
                "" => "none".to_owned(),
                driver => driver.to_owned(),
            };
            let changed = device.driver_before != device.driver;
            let reason = match device.reason.as_str() {
                "" => device.in_use.join("; "),
                reason => reason.to_owned(),
            };
            vec![
                device.address.clone(),
                state(device.state).to_owned(),
                name(&device.driver),
                match changed {
                    true => name(&device.driver_before),
                    false => String::new(),
                },
                device.iommu_group.map_or("-".to_owned(), |g| g.to_string()),
                match device.numa_node {
                    -1 => "-".to_owned(),
                    node => node.to_string(),
                },
                device.model.clone(),
                reason,
            ]
        });
        let headings = [
            "ADDRESS", "STATE", "DRIVER", "BEFORE", "GROUP", "NUMA", "MODEL", "REASON",
        ];
        text += &table(&headings, rows);
        text += "\n";
    }
    for pool in &report.hugepages {
        let place = match pool.node {
            -1 => String::new(),
            node => format!(" of node {node}"),
        };
        let before = match pool.before == pool.total {
            true => String::new(),
            false => format!(", {} before", pool.before),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "huge pages{place}: {} of {} KiB ({} free{before})",
            pool.total, pool.size_kib, pool.free
        );
    }
    for step in &report.steps {
        let mark = match step.state {
            StepState::Planned => "would",
            StepState::Done => "done:",
            StepState::Failed => "FAILED:",
        };
        let _ = writeln!(text, "{mark} {}", step.what);
    }
    if !report.namespaces.is_empty() {
        let shown = report.namespaces.iter().map(|n| {
            format!(
                "{{UUID:{} Blockdev:{} Dev:{} NumaNode:{}}}",
                n.uuid, n.blockdev, n.dev, n.numa_node
            )
        });
        let shown: Vec<String> = shown.collect();
        let _ = writeln!(
            text,
            "Persistent memory kernel devices:\n[{}]",
            shown.join(" ")
        );
    }
    if report.reboot_required {
        text += "A reboot is required to process new memory allocation goals.\n";
    }
    for note in &report.notes {
        let _ = writeln!(text, "note: {note}");
    }
    if checks {
        for check in &report.checks {
            let mark = if check.ok { "ok" } else { "NOT OK" };
            let _ = writeln!(text, "{mark}: {}: {}", check.what, check.found);
            if !check.remedy.is_empty() {
                let _ = writeln!(text, "    hint: {}", check.remedy);
            }
        }
    }
    if text.lines().count() == 1 && report.faults.is_empty() {
        text += "nothing to do\n";
    }
    text.trim_end().to_owned()
}

fn state(state: PrepareState) -> &'static str {
    match state {
        PrepareState::Ready => "ready",
        PrepareState::Kernel => "kernel",
        PrepareState::Unbound => "unbound",
        PrepareState::Skipped => "skipped",
        PrepareState::Failed => "failed",
    }
}

/// A failure.
pub(super) fn fault(fault: &PrepareFault) -> String {
    let mut text = format!("ERROR: {}", fault.what);
    if !fault.cause.is_empty() {
        text += &format!(": {}", fault.cause);
    }
    if !fault.remedy.is_empty() {
        text += &format!("\n    hint: {}", fault.remedy);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use daos_plugin_api::control::{PrepareCheck, PrepareStep, PreparedDevice};

    #[test]
    fn every_device_is_listed_with_its_reason() {
        let device = |address: &str, state, reason: &str| PreparedDevice {
            address: address.to_owned(),
            model: "FAST SSD".to_owned(),
            state,
            driver: "nvme".to_owned(),
            driver_before: "nvme".to_owned(),
            iommu_group: Some(7),
            numa_node: -1,
            in_use: Vec::new(),
            reason: reason.to_owned(),
        };
        let whole = PrepareReport {
            devices: vec![
                device(
                    "0000:41:00.0",
                    PrepareState::Skipped,
                    "nvme0n1 is mounted at /home",
                ),
                device("0000:42:00.0", PrepareState::Failed, ""),
            ],
            steps: vec![PrepareStep {
                what: "bind it".to_owned(),
                state: StepState::Planned,
            }],
            checks: vec![PrepareCheck {
                what: "IOMMU".to_owned(),
                ok: false,
                found: "none".to_owned(),
                remedy: "switch it on".to_owned(),
            }],
            ..PrepareReport::default()
        };
        let text = report("NVMe SSDs", &whole, true);
        let skipped = text
            .lines()
            .find(|line| line.contains("0000:41:00.0"))
            .unwrap();
        assert!(
            skipped.contains("skipped") && skipped.contains("mounted at /home"),
            "{text}"
        );
        assert!(text.contains("would bind it"), "{text}");
        assert!(
            text.contains("NOT OK: IOMMU: none\n    hint: switch it on"),
            "{text}"
        );
        assert!(!report("NVMe SSDs", &whole, false).contains("IOMMU"));
        assert_eq!(
            report("SCM", &PrepareReport::default(), false),
            "SCM:\nnothing to do"
        );
    }
}
