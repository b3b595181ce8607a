//! What Intel's modules are used for, socket by socket: the goals that make regions of them, and give them back.
//!
//! An interleaved set takes all modules of its socket. One that cannot take part therefore leaves its whole
//! socket as it is; other sockets go on.

use super::inventory::{Inventory, Region};
use super::ipmctl::{Dimm, Dimms, Goal, elements};
use super::plan::Plan;
use super::step::{Mode, Step};
use super::tools::{Program, Tools};
use daos_plugin_api::abi::Status;
use daos_plugin_api::control::{PrepareFault, PrepareState};
use daos_plugin_api::sdk::Result;

/// Versions that write broken goals, as DAOS's later releases found.
const BROKEN: [&str; 3] = ["02.00.00.3809", "02.00.00.3814", "02.00.00.3816"];

/// Plans regions for sockets that have none. Returns the sockets whose regions a goal changes at the next boot.
pub(super) fn prepare(
    inventory: &Inventory,
    tools: &mut dyn Tools,
    plan: &mut Plan,
) -> Result<Vec<u32>> {
    let mut waiting = Vec::new();
    let mut version = Version::default();
    for socket in inventory.dimms.sockets() {
        let dimms = inventory.dimms.of_socket(socket);
        let goals = inventory.dimms.goals_of(socket);
        let has_region = !regions_of(inventory, &dimms).is_empty();
        if let Some(fault) = refused_by_bios(socket, &goals, able(&dimms)) {
            plan.faults.push(fault);
            continue;
        }
        if !goals.is_empty() {
            // A reset that was not followed by a boot, and a command that was killed half-way, are taken back.
            if goals
                .iter()
                .all(|goal| goal.app_direct > 0 && !goal.has_failed())
                && (has_region || goals.len() == able(&dimms))
            {
                plan.reboot_required = true;
                waiting.push(socket);
                continue;
            }
            plan.steps.push(Step::DropGoal { socket });
        }
        if has_region {
            plan.notes.extend(left_out(socket, &dimms));
            let beside = |dimm: &&&Dimm| regions_of(inventory, &[**dimm]).is_empty();
            plan.notes.extend(
                dimms
                    .iter()
                    .filter(beside)
                    .filter_map(|dimm| beside_regions(dimm)),
            );
            continue;
        }
        let before = plan.faults.len();
        plan.faults.extend(
            dimms
                .iter()
                .filter_map(|dimm| no_part(socket, dimm, Mode::AppDirect)),
        );
        if plan.faults.len() > before {
            continue;
        }
        if let Some(fault) = broken_set(socket, &dimms) {
            plan.faults.push(fault);
            continue;
        }
        match version.broken(tools)? {
            Some(broken) => plan.faults.push(broken_version(socket, broken)),
            None => plan.steps.push(Step::Goal {
                socket,
                mode: Mode::AppDirect,
                gone: Vec::new(),
            }),
        }
    }
    unknown(inventory, plan, "regions are made of Intel's modules by it");
    Ok(waiting)
}

/// Plans the way back to Memory Mode for sockets on which no namespace is left.
pub(super) fn reset(inventory: &Inventory, tools: &mut dyn Tools, plan: &mut Plan) -> Result<()> {
    let mut version = Version::default();
    for socket in inventory.dimms.sockets() {
        let dimms = inventory.dimms.of_socket(socket);
        let goals = inventory.dimms.goals_of(socket);
        let regions = regions_of(inventory, &dimms);
        let on_socket = |region: &str| regions.iter().any(|r| r.dev == region);
        let left = plan.judged.iter().filter(|one| on_socket(&one.region));
        let (gone, kept): (Vec<_>, Vec<_>) =
            left.partition(|one| one.state == PrepareState::Unbound);
        if let Some(one) = kept.first() {
            plan.notes.push(format!(
                "the modules of socket {socket} are left as they are, for {} is",
                one.namespace.dev
            ));
            continue;
        }
        let gone: Vec<String> = gone.iter().map(|one| one.namespace.dev.clone()).collect();
        if let Some(fault) = refused_by_bios(socket, &goals, able(&dimms)) {
            plan.faults.push(fault);
            continue;
        }
        let holds = |dimm: &&Dimm| dimm.app_direct > 0 || Dimms::in_broken_set(dimm);
        let in_use = !regions.is_empty() || dimms.iter().any(holds);
        if !goals.is_empty() {
            let wanted =
                goals.iter().all(|goal| goal.app_direct == 0) && goals.len() == able(&dimms);
            if wanted && in_use && gone.is_empty() {
                plan.reboot_required = true;
                continue;
            }
            plan.steps.push(Step::DropGoal { socket });
        }
        if !in_use {
            continue;
        }
        let before = plan.faults.len();
        plan.faults.extend(
            dimms
                .iter()
                .filter_map(|dimm| no_part(socket, dimm, Mode::Memory)),
        );
        if plan.faults.len() > before {
            continue;
        }
        match version.broken(tools)? {
            Some(broken) => plan.faults.push(broken_version(socket, broken)),
            None => plan.steps.push(Step::Goal {
                socket,
                mode: Mode::Memory,
                gone,
            }),
        }
    }
    unknown(
        inventory,
        plan,
        "Intel's modules are set to Memory Mode by it",
    );
    Ok(())
}

/// Why no namespace is made on a region whose modules are not used as they should be. Those that it has may stay.
pub(super) fn misused(inventory: &Inventory, region: &Region) -> Option<PrepareFault> {
    let first = inventory.dimms_of(region).next()?;
    let socket = first.socket;
    let dimms = inventory.dimms.of_socket(socket);
    let fault = |cause: String| {
        PrepareFault {
        address: region.dev.clone(),
        what: format!("{} is left as it is", region.dev),
        cause,
        remedy: "if what the modules hold may go: `daos_server storage prepare --scm-only --reset`, a reboot, \
                 `storage prepare --scm-only`, and another reboot"
            .to_owned(),
    }
    };
    let alone = inventory
        .dimms
        .sets_of(first)
        .any(|set| set.kind == "AppDirectNotInterleaved");
    if alone && dimms.len() > 1 {
        return Some(fault(format!(
            "the {} modules of socket {socket} are not interleaved: {} is of module {} alone",
            dimms.len(),
            region.dev,
            first.id
        )));
    }
    let mixed = dimms.iter().find(|dimm| dimm.memory > 0)?;
    Some(fault(format!(
        "socket {socket} is used in both modes: module {} has {} MiB of Memory Mode beside App Direct",
        mixed.id,
        mixed.memory >> 20
    )))
}

/// What is wrong with the modules of a region, and what mends it.
pub(super) fn ailing(inventory: &Inventory, region: &Region) -> Option<(String, String)> {
    for dimm in inventory.dimms_of(region) {
        if let Some((why, remedy)) = dimm.ailing() {
            return Some((format!("module {} {why}", dimm.id), remedy));
        }
    }
    // What is wrong with the set says less than what is wrong with one of its modules.
    for dimm in inventory.dimms_of(region) {
        let broken = |health: &str| !["", "Healthy", "Pending"].contains(&health);
        if let Some(set) = inventory
            .dimms
            .sets_of(dimm)
            .find(|set| broken(&set.health))
        {
            return Some((
                format!("the health of its interleaved set is {}", set.health),
                "look at `ipmctl show -a -region`: a module may be missing, moved, or locked"
                    .to_owned(),
            ));
        }
    }
    None
}

/// Remarks about modules that work, but not for long.
pub(super) fn remarks(inventory: &Inventory) -> Vec<String> {
    let worn = inventory
        .dimms
        .dimms
        .iter()
        .filter(|dimm| dimm.health.starts_with("Noncritical"));
    worn.map(|dimm| {
        format!(
            "module {} at {} is to be looked after: its health is {}",
            dimm.id,
            dimm.locator,
            dimm.told()
        )
    })
    .collect()
}

fn regions_of<'a>(inventory: &'a Inventory, dimms: &[&Dimm]) -> Vec<&'a Region> {
    let is_one = |dimm: &Dimm| dimms.iter().any(|one| one.handle == dimm.handle);
    let regions = inventory.regions.iter();
    regions
        .filter(|region| inventory.dimms_of(region).any(is_one))
        .collect()
}

/// How many modules `ipmctl` gives a goal to.
fn able(dimms: &[&Dimm]) -> usize {
    dimms.iter().filter(|dimm| dimm.ailing().is_none()).count()
}

/// Whether the `ipmctl` that is installed can be trusted with goals; asked once, when the first is due.
#[derive(Default)]
struct Version(Option<Option<String>>);

impl Version {
    /// Its version, if that is known to write broken goals.
    fn broken(&mut self, tools: &mut dyn Tools) -> Result<Option<&str>> {
        if self.0.is_none() {
            let said = tools.run(Program::Ipmctl, &["version", "-o", "nvmxml"])?;
            let mut broken = None;
            elements(&said.out, "Software", &mut |of| {
                let version = of("Version");
                if BROKEN.iter().any(|one| version.starts_with(one)) {
                    broken = Some(version);
                }
            })?;
            self.0 = Some(broken);
        }
        Ok(self.0.as_ref().and_then(Option::as_deref))
    }
}

fn broken_version(socket: u32, version: &str) -> PrepareFault {
    PrepareFault {
        address: String::new(),
        what: format!("the modules of socket {socket} are left as they are"),
        cause: format!("ipmctl {version} is known to write broken goals"),
        remedy: "install another version of ipmctl".to_owned(),
    }
}

/// Why goals are not made again, of a socket with so many modules that are `able` to have one.
fn refused_by_bios(socket: u32, goals: &[&Goal], able: usize) -> Option<PrepareFault> {
    let goal = goals.iter().find(|goal| goal.has_failed())?;
    if goals.len() < able {
        // The power went while they were made: the others never got theirs.
        return None;
    }
    // Made again it would be refused again, at each boot.
    Some(PrepareFault {
        address: String::new(),
        what: format!("the modules of socket {socket} are left as they are"),
        cause: format!(
            "the BIOS did not apply the memory allocation goal of module {}: {}",
            goal.dimm, goal.status
        ),
        remedy: format!(
            "compare `ipmctl show -system -capabilities` with the modules, look into the BIOS's setup, then: \
             ipmctl delete -goal -socket {socket}, and prepare again"
        ),
    })
}

/// Why a module keeps its socket from getting a goal.
fn no_part(socket: u32, dimm: &Dimm, mode: Mode) -> Option<PrepareFault> {
    let (why, remedy) = dimm.takes_no_goal(mode == Mode::AppDirect)?;
    let at = match dimm.locator.as_str() {
        "" => String::new(),
        locator => format!(" at {locator}"),
    };
    Some(PrepareFault {
        address: dimm.id.clone(),
        what: format!("the modules of socket {socket} are left as they are"),
        cause: format!("module {}{at} {why}", dimm.id),
        remedy,
    })
}

/// Modules that have been made a set which the kernel does not show.
fn broken_set(socket: u32, dimms: &[&Dimm]) -> Option<PrepareFault> {
    let fault = |dimm: &Dimm, cause: String| {
        PrepareFault {
        address: dimm.id.clone(),
        what: format!("the modules of socket {socket} are left as they are"),
        cause,
        remedy: "look at `ipmctl show -a -region` and put a missing module back; if what the modules hold may go: \
                 `daos_server storage prepare --scm-only --reset`, and a reboot"
            .to_owned(),
    }
    };
    if let Some(dimm) = dimms.iter().find(|dimm| Dimms::in_broken_set(dimm)) {
        let cause = format!(
            "module {} belongs to an interleaved set that is not all there: the set is broken",
            dimm.id
        );
        return Some(fault(dimm, cause));
    }
    let dimm = dimms.iter().find(|dimm| dimm.app_direct > 0)?;
    let cause = format!(
        "module {} has {} MiB of App Direct Mode, and the kernel shows no region of it: the set is broken, or was not mapped",
        dimm.id,
        dimm.app_direct >> 20
    );
    Some(fault(dimm, cause))
}

/// A remark about modules that are in no region although their socket has one.
fn left_out(socket: u32, dimms: &[&Dimm]) -> Option<String> {
    let out = dimms
        .iter()
        .filter(|dimm| dimm.app_direct == 0 && dimm.memory == 0 && dimm.ailing().is_none());
    let out: Vec<&str> = out.map(|dimm| dimm.id.as_str()).collect();
    (!out.is_empty()).then(|| {
        format!(
            "{} of socket {socket} in no region and not used: {}; to have one set of all, if what they hold may go: \
             storage prepare --reset, a reboot, prepare, and another reboot",
            match out.len() {
                1 => "a module is",
                _ => "modules are",
            },
            out.join(", ")
        )
    })
}

/// A remark about a module that fails, and is in no region although its socket has one: what is there is used without it.
fn beside_regions(dimm: &Dimm) -> Option<String> {
    let (why, remedy) = dimm.ailing()?;
    let at = &dimm.locator;
    Some(format!(
        "module {} at {at} is in no region: it {why}; {remedy}",
        dimm.id
    ))
}

/// What is not known of modules stops nothing but what it is needed for.
fn unknown(inventory: &Inventory, plan: &mut Plan, purpose: &str) {
    let Some(error) = &inventory.dimms_unknown else {
        return;
    };
    if error.status == Status::NOT_FOUND && !inventory.regions.is_empty() {
        plan.notes
            .push(format!("{}, and {purpose}; {}", error.what, error.remedy));
        return;
    }
    plan.faults.push(PrepareFault {
        address: String::new(),
        what: format!(
            "what Intel's modules are used for is not known: {}",
            error.what
        ),
        cause: match error.cause.as_str() {
            "" => purpose.to_owned(),
            cause => cause.to_owned(),
        },
        remedy: error.remedy.clone(),
    });
}
