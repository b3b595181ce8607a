//! The way back: which namespaces are destroyed.

use super::goals;
use super::inventory::{Inventory, Namespace};
use super::plan::Plan;
use super::step::{NAME, Step};
use super::tools::Tools;
use crate::block::Holds;
use daos_plugin_api::control::{PrepareFault, PrepareState};
use daos_plugin_api::sdk::Result;

/// Plans the destruction of every namespace that is usable by, or was made for, this class.
pub(super) fn plan(inventory: &Inventory, tools: &mut dyn Tools) -> Result<Plan> {
    let mut plan = Plan::default();
    for region in &inventory.regions {
        for namespace in region.real() {
            let reason = match fate(namespace, tools)? {
                Fate::Destroy => {
                    if namespace.state != "disabled" {
                        plan.steps.push(Step::Disable {
                            namespace: namespace.dev.clone(),
                        });
                    }
                    plan.steps.push(Step::Destroy {
                        namespace: namespace.dev.clone(),
                    });
                    plan.judge(region, namespace, PrepareState::Unbound, "");
                    continue;
                }
                Fate::InUse(user) => {
                    plan.faults.push(PrepareFault {
                        address: namespace.address(),
                        what: format!("{} is not destroyed", namespace.dev),
                        cause: format!("{} is {user}", namespace.address()),
                        remedy: "unmount it, or stop who uses it, and run the command again"
                            .to_owned(),
                    });
                    user
                }
                Fate::Keep(reason) => reason,
            };
            plan.judge(region, namespace, PrepareState::Skipped, reason);
        }
    }
    goals::reset(inventory, tools, &mut plan)?;
    let idle = plan.steps.is_empty() && plan.faults.is_empty() && !plan.reboot_required;
    if idle && inventory.regions.is_empty() {
        plan.notes.push("SCM is already reset".to_owned());
    }
    Ok(plan)
}

enum Fate {
    Destroy,
    InUse(String),
    Keep(String),
}

fn fate(namespace: &Namespace, tools: &mut dyn Tools) -> Result<Fate> {
    if namespace.state == "disabled" {
        return Ok(match namespace.name == NAME {
            true => Fate::Destroy,
            false => Fate::Keep(format!(
                "it is disabled and was not made by us; if its contents may go: ndctl destroy-namespace {}",
                namespace.dev
            )),
        });
    }
    if !namespace.is_ready() {
        return Ok(Fate::Keep(format!("its mode is {}", namespace.mode)));
    }
    if let Some(user) = tools.user(&namespace.blockdev)? {
        return Ok(Fate::InUse(user));
    }
    // Whoever agreed to lose what is prepared agreed to lose data without a name, too; somebody's file
    // system he may not know of.
    Ok(match tools.holds(&namespace.blockdev)? {
        Holds::Nothing | Holds::Ours | Holds::Unknown(_) => Fate::Destroy,
        Holds::Known(what) => Fate::Keep(format!(
            "it holds {what}; if that may go: wipefs --all {}",
            namespace.address()
        )),
    })
}
