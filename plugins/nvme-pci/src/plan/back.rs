//! The way back to the kernel.

use super::{Fate, Plan, Wish, as_is, fault, left_out};
use crate::controller::USER_DRIVERS;
use crate::snapshot::Snapshot;
use crate::step::Step;
use daos_plugin_api::control::PrepareState;

/// Kernel driver of controllers whose own is not known.
const KERNEL_DRIVER: &str = "nvme";

/// The plan of the way back.
pub fn release(snapshot: &Snapshot, wish: &Wish) -> Plan {
    let mut plan = Plan::default();
    let mut stay = 0;
    for seen in &snapshot.controllers {
        let controller = &seen.controller;
        let ours = controller.is_for_user_space()
            || controller.driver.is_none()
            || USER_DRIVERS.contains(&controller.driver_override.as_str());
        let fate = if !ours {
            as_is(controller, "")
        } else if let Some(reason) = left_out(wish, controller.address) {
            stay += 1;
            as_is(controller, reason)
        } else if !seen.in_use.is_empty() {
            stay += 1;
            let reason = seen.in_use.join("; ");
            plan.faults.push(fault(
                controller.address,
                format!("{} is not given back", controller.address),
                reason.clone(),
                "stop the process, then reset again",
            ));
            as_is(controller, &reason)
        } else {
            let recorded = snapshot
                .state
                .driver(controller.address)
                .filter(|name| !name.is_empty());
            let to = recorded.unwrap_or(KERNEL_DRIVER).to_owned();
            plan.steps.push(Step::Restore {
                address: controller.address,
                from: controller.driver.clone(),
                to: to.clone(),
            });
            Fate {
                state: PrepareState::Kernel,
                driver: Some(to),
                reason: String::new(),
            }
        };
        plan.fates.push(fate);
    }
    if stay > 0 {
        plan.notes.push(
            "huge pages and permissions stay as they are while there are prepared devices"
                .to_owned(),
        );
        return plan;
    }
    plan.undoes_all = true;
    for file in &snapshot.stale {
        plan.steps.push(Step::RemoveStale {
            path: file.path.clone(),
        });
    }
    let state = &snapshot.state;
    for pool in &snapshot.pools.pools {
        let Some(known) = state.pools.get(&pool.node) else {
            continue;
        };
        if pool.total > known.set {
            plan.notes.push(format!(
                "huge pages of {} stay: somebody else made them {} since",
                pool.place(),
                pool.total
            ));
        } else if pool.total > known.found {
            plan.steps.push(Step::Pages {
                node: pool.node,
                file: pool.file(),
                from: pool.total,
                to: known.found,
            });
        }
    }
    for (path, owner) in &state.owners {
        let mounted = snapshot
            .mounts
            .iter()
            .find(|(mount, _)| mount.path == *path);
        if mounted.is_some_and(|(_, now)| *now != Some(*owner)) {
            plan.steps.push(Step::Own {
                path: path.clone(),
                owner: *owner,
            });
        }
    }
    for path in &state.mounts {
        if snapshot.mounts.iter().any(|(mount, _)| mount.path == *path) {
            plan.steps.push(Step::Unmount { path: path.clone() });
        }
    }
    for path in &state.limits {
        plan.steps.push(Step::RemoveLimits { path: path.clone() });
    }
    plan
}
