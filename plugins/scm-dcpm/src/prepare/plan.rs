//! What becomes of each region: the next steps, and what stands in the way.

use super::inventory::{Inventory, Module, Namespace, Region};
use super::step::Step;
use super::tools::Tools;
use crate::block::Holds;
use daos_plugin_api::control::{PrepareFault, PrepareState};
use daos_plugin_api::sdk::Result;

/// Free space below this is not worth a namespace: what alignment leaves over.
const LEAST: u64 = 64 << 20;

/// What is said about a namespace.
pub(super) struct Judged {
    pub(super) namespace: Namespace,
    pub(super) numa_node: i32,
    pub(super) region: String,
    pub(super) state: PrepareState,
    pub(super) reason: String,
}

/// A plan for all regions, as far as it can be told from what is there now.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) judged: Vec<Judged>,
    pub(super) faults: Vec<PrepareFault>,
    pub(super) notes: Vec<String>,
}

impl Plan {
    pub(super) fn judge(
        &mut self,
        region: &Region,
        namespace: &Namespace,
        state: PrepareState,
        reason: impl Into<String>,
    ) {
        self.judged.push(Judged {
            namespace: namespace.clone(),
            numa_node: region.numa_node,
            region: region.dev.clone(),
            state,
            reason: reason.into(),
        });
    }
}

/// Plans the way to one fsdax namespace per region.
pub(super) fn plan(inventory: &Inventory, tools: &mut dyn Tools) -> Result<Plan> {
    let mut plan = Plan::default();
    if inventory.regions.is_empty() {
        no_regions(inventory, &mut plan);
    }
    for region in &inventory.regions {
        if let Some(fault) = unusable(inventory, region) {
            plan.faults.push(fault);
            for namespace in region.real() {
                plan.judge(region, namespace, PrepareState::Skipped, "see the error");
            }
            continue;
        }
        of_region(region, tools, &mut plan)?;
    }
    Ok(plan)
}

fn of_region(region: &Region, tools: &mut dyn Tools, plan: &mut Plan) -> Result<()> {
    let mut usable = 0;
    for namespace in region.real() {
        let (state, reason) = if namespace.is_ready() {
            usable += 1;
            (PrepareState::Ready, String::new())
        } else if namespace.state == "disabled" {
            // Whether it is whole shows only when it is enabled.
            usable += 1;
            plan.steps.push(Step::Enable {
                namespace: namespace.dev.clone(),
            });
            (PrepareState::Unbound, "it is disabled".to_owned())
        } else if namespace.mode == "raw" && !namespace.blockdev.is_empty() {
            usable += 1;
            match raw(namespace, tools)? {
                Some(reason) => (PrepareState::Skipped, reason),
                None => {
                    plan.steps.push(Step::Reconfigure {
                        namespace: namespace.dev.clone(),
                    });
                    (PrepareState::Kernel, "it is raw and empty".to_owned())
                }
            }
        } else {
            (
                PrepareState::Skipped,
                format!(
                    "its mode is {}; if its contents may go: ndctl destroy-namespace --force {}",
                    namespace.mode, namespace.dev
                ),
            )
        };
        plan.judge(region, namespace, state, reason);
    }
    if usable == 0 && region.free() >= LEAST {
        plan.steps.push(Step::Create {
            region: region.dev.clone(),
            bytes: region.free(),
        });
    } else if region.free() >= LEAST {
        plan.notes.push(format!(
            "{} has {} MiB free beside its namespaces: one namespace per region is made",
            region.dev,
            region.free() >> 20
        ));
    }
    Ok(())
}

/// Why a raw namespace is left alone.
fn raw(namespace: &Namespace, tools: &mut dyn Tools) -> Result<Option<String>> {
    if let Some(user) = tools.user(&namespace.blockdev)? {
        return Ok(Some(format!("it is raw and {user}")));
    }
    let what = match tools.holds(&namespace.blockdev)? {
        Holds::Nothing => return Ok(None),
        Holds::Ours => "a file system of ours, which needs mode fsdax".to_owned(),
        Holds::Known(what) | Holds::Unknown(what) => what,
    };
    Ok(Some(format!(
        "it is raw and holds {what}; if that may go: ndctl create-namespace --force --mode=fsdax --reconfig {}",
        namespace.dev
    )))
}

/// Why nothing can be done with a region.
fn unusable(inventory: &Inventory, region: &Region) -> Option<PrepareFault> {
    let fault = |what: String, cause: String, remedy: String| PrepareFault {
        address: region.dev.clone(),
        what,
        cause,
        remedy,
    };
    let left = || format!("{} is left as it is", region.dev);
    if let Some((module, why, remedy)) = inventory
        .modules_of(region)
        .find_map(|m| ailing(m).map(|(why, remedy)| (m, why, remedy)))
    {
        return Some(fault(
            left(),
            format!("module {} {why}", module.dev),
            remedy,
        ));
    }
    if region.state == "disabled" {
        return Some(fault(
            left(),
            "it is disabled".to_owned(),
            format!("run: ndctl enable-region {}", region.dev),
        ));
    }
    (region.kind != "pmem").then(|| {
        fault(
            left(),
            format!("it is of type {}, without direct access", region.kind),
            "set the modules to App Direct mode".to_owned(),
        )
    })
}

/// What is wrong with a module, and what mends it.
pub(super) fn ailing(module: &Module) -> Option<(String, String)> {
    let state = module.health.as_ref().map(|h| h.health_state.as_str());
    let replace = || "save what it holds, and replace it".to_owned();
    if module.security == "locked" {
        return Some((
            "is locked".to_owned(),
            format!(
                "unlock it: ndctl setup-passphrase, ndctl update-passphrase {}",
                module.dev
            ),
        ));
    }
    if module.state == "disabled" {
        return Some((
            "is disabled".to_owned(),
            format!("run: ndctl enable-dimm {}", module.dev),
        ));
    }
    if let Some(state @ ("critical" | "fatal")) = state {
        return Some((format!("says that its health is {state}"), replace()));
    }
    let flags = [
        (module.flag_failed_map, "could not be mapped"),
        (module.flag_failed_restore, "could not restore its contents"),
        (
            module.flag_failed_arm,
            "would not save its contents when the power goes",
        ),
        (
            module.flag_failed_save,
            "did not save its contents when the power went",
        ),
        (
            module.flag_failed_flush,
            "was not flushed when the power went",
        ),
    ];
    let failed = flags.iter().find(|(flag, _)| *flag)?;
    Some((failed.1.to_owned(), replace()))
}

fn no_regions(inventory: &Inventory, plan: &mut Plan) {
    if inventory.modules.is_empty() {
        plan.notes.push(
            "nothing to prepare: this machine has no persistent memory, and scm_class ram needs no \
             preparation"
                .to_owned(),
        );
        return;
    }
    let names: Vec<&str> = inventory.modules.iter().map(|m| m.dev.as_str()).collect();
    plan.faults.push(PrepareFault {
        address: String::new(),
        what: format!("no region is defined on {}", names.join(", ")),
        cause: "the modules are in Memory Mode, or were never configured".to_owned(),
        remedy: "create App Direct regions, and reboot: ipmctl create -goal \
                 PersistentMemoryType=AppDirect (or in the BIOS's setup)"
            .to_owned(),
    });
}
