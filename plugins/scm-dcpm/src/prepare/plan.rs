//! What becomes of each region: the next steps, and what stands in the way.

use super::goals;
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
    /// Goals wait for the next boot.
    pub(super) reboot_required: bool,
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

/// Plans the way to fsdax namespaces: one per region, or as many as are `wanted`.
pub(super) fn plan(
    inventory: &Inventory,
    tools: &mut dyn Tools,
    wanted: Option<usize>,
) -> Result<Plan> {
    let mut plan = Plan::default();
    if inventory.regions.is_empty() && inventory.dimms.dimms.is_empty() {
        no_regions(inventory, &mut plan);
    }
    let waiting = goals::prepare(inventory, tools, &mut plan)?;
    plan.notes.extend(goals::remarks(inventory));
    for region in &inventory.regions {
        if let Some(fault) = unusable(inventory, region) {
            plan.faults.push(fault);
            for namespace in region.real() {
                plan.judge(region, namespace, PrepareState::Skipped, "see the error");
            }
            continue;
        }
        let mut of = Plan::default();
        of_region(region, tools, wanted, &mut of)?;
        if inventory
            .dimms_of(region)
            .any(|dimm| waiting.contains(&dimm.socket))
        {
            of.steps.clear();
            of.notes = vec![format!("{} is made anew by the next boot", region.dev)];
        } else if let Some(fault) = goals::misused(inventory, region) {
            // What is there may be in use since long.
            match of.steps.is_empty() && !of.judged.is_empty() {
                true => of.notes.push(format!("{}; {}", fault.cause, fault.remedy)),
                false => of.faults.push(fault),
            }
            of.steps.clear();
        }
        plan.steps.append(&mut of.steps);
        plan.judged.append(&mut of.judged);
        plan.faults.append(&mut of.faults);
        plan.notes.append(&mut of.notes);
    }
    Ok(plan)
}

fn of_region(
    region: &Region,
    tools: &mut dyn Tools,
    wanted: Option<usize>,
    plan: &mut Plan,
) -> Result<()> {
    let mut usable = 0;
    let begun = region.namespaces.iter().filter(|n| n.is_begun());
    let destroy = |namespace: &Namespace| Step::Destroy {
        namespace: namespace.dev.clone(),
    };
    plan.steps.extend(begun.map(destroy));
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
                    let parts = wanted.unwrap_or(1);
                    plan.steps.push(Step::Reconfigure {
                        namespace: namespace.dev.clone(),
                        bytes: (parts > 1).then(|| part(region, namespace.size, parts)),
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
    let missing = wanted.unwrap_or(1).saturating_sub(usable);
    if missing == 0 && region.free() >= LEAST {
        plan.notes.push(format!(
            "{} has {} MiB free beside its namespaces: {}",
            region.dev,
            region.free() >> 20,
            match wanted {
                Some(wanted) => format!("{wanted} per region are asked for"),
                None => "one namespace per region is made".to_owned(),
            }
        ));
    }
    if missing == 0
        || plan
            .steps
            .iter()
            .any(|step| matches!(step, Step::Reconfigure { .. }))
    {
        // How much the new labels leave free shows when they are there.
        return Ok(());
    }
    let size = part(region, region.free(), missing);
    if size < LEAST {
        // A region that something else has wholly is not short of anything.
        if wanted.is_some() {
            plan.faults.push(PrepareFault {
                address: region.dev.clone(),
                what: format!(
                    "{} has {usable} of {} namespaces",
                    region.dev,
                    usable + missing
                ),
                cause: format!("{} MiB are free", region.free() >> 20),
                remedy: "ask for fewer, or, if what they hold may go, reset and prepare again"
                    .to_owned(),
            });
        }
        return Ok(());
    }
    for left in (1..=missing).rev() {
        plan.steps.push(Step::Create {
            region: region.dev.clone(),
            bytes: if left > 1 {
                size
            } else {
                region.free() - size * (missing as u64 - 1)
            },
            // The last one takes what there is.
            part: left > 1,
        });
    }
    Ok(())
}

/// Bytes of one of so many equal parts of a piece of a region.
fn part(region: &Region, bytes: u64, parts: usize) -> u64 {
    /// What the kernel aligns namespaces to where it does not say.
    const ALIGN: u64 = 16 << 20;
    if parts == 1 {
        return bytes;
    }
    let align = region.align.max(ALIGN);
    bytes / parts as u64 / align * align
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
    if let Some((cause, remedy)) = goals::ailing(inventory, region) {
        return Some(fault(left(), cause, remedy));
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
    if inventory.dimms_unknown.is_some() {
        // That is told, with what mends it.
        return;
    }
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
        remedy: "make regions of them with their maker's tools or in the BIOS's setup, and reboot; those of Intel's \
                 are made by this command where ipmctl is installed: apt-get install ipmctl"
            .to_owned(),
    });
}
