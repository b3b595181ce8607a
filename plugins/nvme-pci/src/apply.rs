//! Doing what was planned. Each step can be done again, so a run that was killed anywhere is finished,
//! or undone, by the next one.

use crate::address::PciAddress;
use crate::controller::{Controller, DEVICES, USER_DRIVERS};
use crate::hugefiles;
use crate::hugepages::{Pools, fragmented, too_many};
use crate::plan::Plan;
use crate::processes::Processes;
use crate::snapshot::Snapshot;
use crate::state::{PoolState, State};
use crate::step::Step;
use crate::system::System;
use crate::usage;
use daos_plugin_api::control::{PrepareFault, PrepareStep, StepState};
use std::collections::BTreeSet;
use std::io;

/// Why a step did not succeed.
struct Trouble {
    cause: String,
    remedy: String,
}

impl Trouble {
    fn new(cause: impl ToString, remedy: impl ToString) -> Self {
        Self {
            cause: cause.to_string(),
            remedy: remedy.to_string(),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::new(error, "")
    }
}

/// What was done.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Every step with its end.
    pub steps: Vec<PrepareStep>,
    /// What failed.
    pub faults: Vec<PrepareFault>,
    /// Devices with a failed step.
    pub failed: BTreeSet<PciAddress>,
}

/// Records how things are, then does all steps; one that fails stops none of the others. Before each step
/// `go_on` is asked, with the number of steps done, of how many, and what comes next.
///
/// # Errors
/// What is found could not be recorded, so nothing was changed.
pub fn apply(
    system: &mut dyn System,
    snapshot: &Snapshot,
    plan: &Plan,
    state_dir: &str,
    go_on: &mut dyn FnMut(usize, usize, &str) -> bool,
) -> io::Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut state = recorded(snapshot, plan);
    if state != snapshot.state {
        state.write(system, state_dir)?;
    }
    let saved = state.clone();
    if plan.undoes_all {
        settle(&mut state, plan);
    }
    for (done, step) in plan.steps.iter().enumerate() {
        let what = step.to_string();
        if !go_on(done, plan.steps.len(), &what) {
            outcome.faults.push(PrepareFault {
                address: String::new(),
                what: "not everything was done".to_owned(),
                cause: "it was cancelled".to_owned(),
                remedy: "run the command again; it goes on where it ended".to_owned(),
            });
            break;
        }
        let result = perform(system, snapshot, step);
        let end = match result {
            Ok(()) => {
                tracing::info!("done: {what}");
                forget(&mut state, step);
                StepState::Done
            }
            Err(Trouble { cause, remedy }) => {
                tracing::error!("failed: {what}: {cause}");
                let address = address_of(step);
                outcome.failed.extend(address);
                outcome.faults.push(PrepareFault {
                    address: address.map(|a| a.to_string()).unwrap_or_default(),
                    what: format!("cannot {what}"),
                    cause,
                    remedy,
                });
                StepState::Failed
            }
        };
        outcome.steps.push(PrepareStep { what, state: end });
    }
    if state != saved
        && let Err(error) = state.write(system, state_dir)
    {
        outcome.faults.push(PrepareFault {
            address: String::new(),
            what: format!("cannot write {}", crate::state::path(state_dir)),
            cause: error.to_string(),
            remedy: String::new(),
        });
    }
    Ok(outcome)
}

fn address_of(step: &Step) -> Option<PciAddress> {
    match step {
        Step::Bind { address, .. } | Step::Restore { address, .. } => Some(*address),
        _ => None,
    }
}

/// What is remembered, with how things are found before this plan changes them.
fn recorded(snapshot: &Snapshot, plan: &Plan) -> State {
    let mut state = snapshot.state.clone();
    for step in &plan.steps {
        match step {
            Step::Bind { address, from, .. } => {
                let from = from.clone().unwrap_or_default();
                if !USER_DRIVERS.contains(&from.as_str()) {
                    state.drivers.entry(address.to_string()).or_insert(from);
                }
            }
            Step::Pages { node, from, to, .. } if to > from => {
                let fresh = PoolState {
                    found: *from,
                    set: *to,
                };
                let known = state.pools.entry(*node).or_insert(fresh);
                known.set = known.set.max(*to);
            }
            Step::Own { path, .. } => {
                let mut mounts = snapshot.mounts.iter();
                let found = mounts.find(|(mount, _)| mount.path == *path);
                if let Some((_, Some(owner))) = found {
                    state.owners.entry(path.clone()).or_insert(*owner);
                }
            }
            Step::Mount { path } if !state.mounts.contains(path) => {
                state.mounts.push(path.clone());
            }
            Step::Limits { path, .. } if !state.limits.contains(path) => {
                state.limits.push(path.clone());
            }
            _ => {}
        }
    }
    state
}

/// Forgets what needs no step to be as it was, such as what a run that was killed never came to.
fn settle(state: &mut State, plan: &Plan) {
    let any = |wanted: &dyn Fn(&Step) -> bool| plan.steps.iter().any(wanted);
    state.drivers.retain(|device, _| {
        any(&|s| matches!(s, Step::Restore { address, .. } if address.to_string() == *device))
    });
    state
        .pools
        .retain(|of, _| any(&|s| matches!(s, Step::Pages { node, .. } if node == of)));
    state
        .owners
        .retain(|of, _| any(&|s| matches!(s, Step::Own { path, .. } if path == of)));
    state
        .mounts
        .retain(|of| any(&|s| matches!(s, Step::Unmount { path } if path == of)));
}

/// What is as it was need not be remembered.
fn forget(state: &mut State, step: &Step) {
    match step {
        Step::Restore { address, .. } => drop(state.drivers.remove(&address.to_string())),
        Step::Pages { node, to, .. } => state
            .pools
            .retain(|of, known| of != node || known.found != *to),
        Step::Own { path, owner } => state
            .owners
            .retain(|of, found| of != path || found != owner),
        Step::Unmount { path } => {
            state.mounts.retain(|one| one != path);
            state.owners.remove(path);
        }
        Step::RemoveLimits { path } => state.limits.retain(|one| one != path),
        _ => {}
    }
}

fn perform(system: &mut dyn System, snapshot: &Snapshot, step: &Step) -> Result<(), Trouble> {
    match step {
        Step::RemoveStale { path } => {
            // Held until the file is gone, so that nobody begins to use it.
            match hugefiles::lock(system.tree(), path)? {
                None => Err(Trouble::new("a process uses it after all", "")),
                Some(_lock) => Ok(system.remove(path)?),
            }
        }
        Step::Pages { node, file, to, .. } => pages(system, snapshot, *node, file, *to),
        Step::Mount { path } => Ok(system.mount_hugetlbfs(path)?),
        Step::Unmount { path } => Ok(system.unmount(path)?),
        Step::Own { path, owner } => Ok(system.set_owner(path, *owner)?),
        Step::Limits { path, text } => Ok(system.save(path, 0o644, text)?),
        Step::RemoveLimits { path } => Ok(system.remove(path)?),
        Step::Load { name } => {
            if system
                .tree()
                .exists(&format!("/sys/bus/pci/drivers/{name}"))
            {
                return Ok(());
            }
            let remedy = "see `dmesg`; with secure boot only signed modules are loaded";
            system
                .load_module(name)
                .map_err(|error| Trouble::new(error, remedy))
        }
        Step::Bind { address, to, .. } => bind(system, *address, to),
        Step::Restore { address, to, .. } => restore(system, *address, to),
    }
}

/// Grows or shrinks a pool, and says why it did not reach its size.
fn pages(
    system: &mut dyn System,
    snapshot: &Snapshot,
    node: i32,
    file: &str,
    to: u64,
) -> Result<(), Trouble> {
    let pool = |system: &dyn System| {
        let pools = Pools::read(system.tree()).pools;
        pools
            .into_iter()
            .find(|pool| pool.node == node)
            .ok_or_else(|| Trouble::new("the pool is gone", ""))
    };
    let now = pool(system)?;
    let used = now.total.saturating_sub(now.free);
    if to < now.total && used > to {
        let users: Vec<_> = snapshot
            .page_users
            .iter()
            .map(ToString::to_string)
            .collect();
        let who = match users.as_slice() {
            [] => "somebody".to_owned(),
            users => users.join(", "),
        };
        return Err(Trouble::new(
            format!("{used} of its {} pages are in use by {who}", now.total),
            "end that, then reset again",
        ));
    }
    let page_kib = snapshot.pools.page_kib;
    let (before, more) = (now.total, to.saturating_sub(now.total));
    if let Some((why, remedy)) = too_many(system.tree(), &now, page_kib, more) {
        return Err(Trouble::new(why, remedy));
    }
    system.write(file, &to.to_string())?;
    let mut now = pool(system)?;
    if now.total < to {
        // Moving what can be moved makes whole pieces. Not every kernel can.
        let _ = system.write("/proc/sys/vm/compact_memory", "1");
        system.write(file, &to.to_string())?;
        now = pool(system)?;
    }
    if now.total >= to {
        return Ok(());
    }
    let (why, remedy) = fragmented(system.tree(), &now, page_kib, to - now.total);
    // A pool that is too small is of no use to anybody, and its memory is missed.
    system.write(file, &before.to_string())?;
    Err(Trouble::new(
        format!("only {} of {to} pages could be reserved: {why}", now.total),
        remedy,
    ))
}

/// The controller as it is now; that it is free is looked at again, right before it is taken.
fn free_now(system: &dyn System, address: PciAddress) -> Result<Controller, Trouble> {
    let controller = Controller::read(system.tree(), address)
        .ok_or_else(|| Trouble::new("the device is gone", ""))?;
    let processes = Processes::read(system.tree());
    match usage::reasons(system, &controller, &processes) {
        reasons if reasons.is_empty() => Ok(controller),
        reasons => Err(Trouble::new(
            format!("it is in use now: {}", reasons.join("; ")),
            "end its use, then run the command again",
        )),
    }
}

fn write_of(
    system: &mut dyn System,
    address: PciAddress,
    attribute: &str,
    text: &str,
) -> Result<(), Trouble> {
    let path = format!("{DEVICES}/{address}/{attribute}");
    system
        .write(&path, text)
        .map_err(|error| Trouble::new(format!("writing {path}: {error}"), ""))
}

fn driver_of(system: &dyn System, address: PciAddress) -> Option<String> {
    system
        .tree()
        .link_name(&format!("{DEVICES}/{address}/driver"))
}

fn unbind(system: &mut dyn System, address: PciAddress) -> Result<(), Trouble> {
    match driver_of(system, address) {
        Some(_) => write_of(system, address, "driver/unbind", &address.to_string()),
        None => Ok(()),
    }
}

fn bind(system: &mut dyn System, address: PciAddress, to: &str) -> Result<(), Trouble> {
    let controller = free_now(system, address)?;
    if controller.driver.as_deref() == Some(to) {
        return Ok(());
    }
    let bound = try_bind(system, address, to);
    if bound.is_err() {
        // Better a device of the kernel than one of nobody.
        let before = controller.driver.as_deref().unwrap_or("nvme");
        let _ = write_of(system, address, "driver_override", "\n");
        let _ = unbind(system, address);
        let _ = system.write(
            &format!("/sys/bus/pci/drivers/{before}/bind"),
            &address.to_string(),
        );
    }
    bound
}

fn try_bind(system: &mut dyn System, address: PciAddress, to: &str) -> Result<(), Trouble> {
    write_of(system, address, "driver_override", to)?;
    unbind(system, address)?;
    let probed = system.write("/sys/bus/pci/drivers_probe", &address.to_string());
    match driver_of(system, address) {
        Some(driver) if driver == to => Ok(()),
        found => {
            let found = found.unwrap_or_else(|| "no driver".to_owned());
            let why = probed.err().map(|e| format!(" ({e})")).unwrap_or_default();
            Err(Trouble::new(
                format!("{to} did not take it{why}, it has {found}"),
                "see `dmesg`",
            ))
        }
    }
}

fn restore(system: &mut dyn System, address: PciAddress, to: &str) -> Result<(), Trouble> {
    let controller = free_now(system, address)?;
    let of_kernel = controller.driver.is_some() && !controller.is_for_user_space();
    if !of_kernel {
        unbind(system, address)?;
    }
    // Last, so that a run that is killed in between leaves a device that is seen to be ours.
    if !controller.driver_override.is_empty() {
        write_of(system, address, "driver_override", "\n")?;
    }
    if of_kernel {
        return Ok(());
    }
    let bind = format!("/sys/bus/pci/drivers/{to}/bind");
    if !system.tree().exists(&format!("/sys/bus/pci/drivers/{to}")) {
        system
            .load_module(to)
            .map_err(|error| Trouble::new(error, "see `dmesg`"))?;
    }
    // A driver that was just loaded may have taken it already.
    if driver_of(system, address).as_deref() != Some(to) {
        let written = system.write(&bind, &address.to_string());
        if driver_of(system, address).as_deref() != Some(to) {
            let why = written.err().map(|e| e.to_string());
            return Err(Trouble::new(
                why.unwrap_or_else(|| format!("{to} did not take it")),
                "see `dmesg`",
            ));
        }
    }
    Ok(())
}
