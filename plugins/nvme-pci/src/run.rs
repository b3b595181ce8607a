//! Preparation and release as the control face has them: documents in, documents out.

use crate::address::{PciAddress, parse_list};
use crate::apply::{Outcome, apply};
use crate::checks;
use crate::plan::{self, Fate, Plan, Wish};
use crate::snapshot::{Seen, Snapshot, Target};
use crate::step::Step;
use crate::system::{Machine, System};
use daos_plugin_api::abi::Status;
use daos_plugin_api::control::{
    HugepagePool, PrepareMode, PrepareReport, PrepareRequest, PrepareState, PrepareStep,
    PreparedDevice, StepState,
};
use daos_plugin_api::sdk::{CallContext, Error, Result};
use nix::unistd::{Uid, User};
use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

/// Where is remembered how things were found, unless the request names another place. Not the daemon's state
/// directory, which may be an unprivileged user's.
const STATE_DIR: &str = "/var/lib/daos_prepare";

/// Which way to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the kernel to user space.
    Prepare,
    /// Back.
    Release,
}

/// `prepare` of this machine.
///
/// # Errors
/// Nothing was changed: see [`run`]; or the caller is not root and wants changes.
pub fn prepare(call: CallContext<'_>, request: &PrepareRequest) -> Result<PrepareReport> {
    on_machine(call, Direction::Prepare, request)
}

/// `release` of this machine.
///
/// # Errors
/// Nothing was changed: see [`run`]; or the caller is not root and wants changes.
pub fn release(call: CallContext<'_>, request: &PrepareRequest) -> Result<PrepareReport> {
    on_machine(call, Direction::Release, request)
}

fn on_machine(
    call: CallContext<'_>,
    direction: Direction,
    request: &PrepareRequest,
) -> Result<PrepareReport> {
    let user = target(&request.user)?;
    let mut request = request.clone();
    if request.state_dir.is_empty() {
        request.state_dir = STATE_DIR.to_owned();
    }
    let _alone = if request.mode == PrepareMode::Apply {
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::new(Status::PERMISSION, "only root can do this")
                .remedy("run `sudo daos_server storage prepare`"));
        }
        Some(lock(Path::new(&request.state_dir))?)
    } else {
        None
    };
    let mut go_on = |done: usize, of: usize, what: &str| {
        call.progress(done as u64, of as u64, what);
        call.check_cancelled().is_ok()
    };
    run(
        &mut Machine::default(),
        direction,
        &request,
        user,
        &mut go_on,
    )
}

/// The user of a request.
fn target(name: &str) -> Result<Target> {
    let found = match name {
        "" => User::from_uid(nix::unistd::geteuid()),
        name => User::from_name(name),
    };
    let user = found
        .map_err(|error| Error::io(format!("cannot look user {name:?} up"), error))?
        .or_else(|| (name.is_empty()).then(nobody_known));
    match user {
        Some(user) => Ok(Target {
            name: user.name,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
        }),
        None => Err(
            Error::new(Status::NOT_FOUND, format!("there is no user {name}")).remedy("correct -u"),
        ),
    }
}

/// A user without an entry, as in some containers.
fn nobody_known() -> User {
    User {
        name: nix::unistd::geteuid().to_string(),
        passwd: std::ffi::CString::default(),
        uid: nix::unistd::geteuid(),
        gid: nix::unistd::getegid(),
        gecos: std::ffi::CString::default(),
        dir: std::path::PathBuf::new(),
        shell: std::path::PathBuf::new(),
    }
}

/// One at a time. What is remembered there is believed, so nobody else may write to the folder.
fn lock(dir: &Path) -> Result<File> {
    let invalid = |why: &str| {
        let what = format!("{} cannot keep what has to be remembered", dir.display());
        Err(Error::new(Status::INVALID, what).cause(why))
    };
    if !dir.is_absolute() {
        return invalid("it is not an absolute path");
    }
    let failed = |error| Error::io(format!("cannot use {}", dir.display()), error);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(failed)?;
    let found = std::fs::metadata(dir).map_err(failed)?;
    if found.uid() != Uid::effective().as_raw() || found.mode() & 0o022 != 0 {
        return invalid("others may write to it");
    }
    let file = File::open(dir).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Error::new(Status::BUSY, "another prepare is running").remedy("wait for its end"))
        }
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

fn addresses(list: &[String]) -> Result<Vec<PciAddress>> {
    parse_list(&list.join(" ")).map_err(|error| {
        Error::new(Status::INVALID, error.to_string())
            .remedy("`daos_server storage prepare --status` shows the addresses")
    })
}

/// Plans and, unless only that is wanted, does it.
///
/// # Errors
/// Nothing was changed: the request names what is not there, or how things are could not be found out or
/// recorded.
pub fn run(
    system: &mut dyn System,
    direction: Direction,
    request: &PrepareRequest,
    user: Target,
    go_on: &mut dyn FnMut(usize, usize, &str) -> bool,
) -> Result<PrepareReport> {
    let unreadable = |error| {
        let path = crate::state::path(&request.state_dir);
        Error::io(format!("cannot use {path}"), error)
            .remedy("remove it; devices are then given back to the driver nvme")
    };
    let before = Snapshot::take(system, &request.state_dir).map_err(unreadable)?;
    let wish = Wish {
        devices: addresses(&request.devices)?,
        exclude: addresses(&request.exclude)?,
        pages: request.hugepages,
        user,
    };
    plan::check(&before, &wish)?;
    let plan = match (request.mode, direction) {
        (PrepareMode::Status, _) => plan::status(&before),
        (_, Direction::Prepare) => plan::prepare(&before, &wish),
        (_, Direction::Release) => plan::release(&before, &wish),
    };
    let outcome = match request.mode {
        PrepareMode::Apply => apply(system, &before, &plan, &request.state_dir, go_on)
            .map_err(|error| Error::io("cannot record how things are", error))?,
        _ => Outcome {
            steps: plan
                .steps
                .iter()
                .map(|step| PrepareStep {
                    what: step.to_string(),
                    state: StepState::Planned,
                })
                .collect(),
            ..Outcome::default()
        },
    };
    let after = match request.mode {
        PrepareMode::Apply => Snapshot::take(system, &request.state_dir).map_err(unreadable)?,
        _ => before,
    };
    Ok(report(system, &wish, request.mode, plan, outcome, &after))
}

fn report(
    system: &dyn System,
    wish: &Wish,
    mode: PrepareMode,
    plan: Plan,
    outcome: Outcome,
    after: &Snapshot,
) -> PrepareReport {
    let mut notes = plan.notes.clone();
    if !after.sees_all {
        notes.push(
            "not root: who holds devices and huge pages is only known as far as this user may look"
                .to_owned(),
        );
    }
    let mut faults = plan.faults.clone();
    faults.extend(outcome.faults.iter().cloned());
    let devices = after
        .controllers
        .iter()
        .map(|seen| device(seen, &plan, mode, &outcome, after))
        .collect();
    PrepareReport {
        devices,
        hugepages: pools(&plan, mode, after),
        steps: outcome.steps,
        checks: checks::all(system, after, &wish.user),
        faults,
        notes,
        ..PrepareReport::default()
    }
}

fn device(
    seen: &Seen,
    plan: &Plan,
    mode: PrepareMode,
    outcome: &Outcome,
    now: &Snapshot,
) -> PreparedDevice {
    let controller = &seen.controller;
    let position = now
        .controllers
        .iter()
        .position(|one| one.controller.address == controller.address);
    let fate: Option<&Fate> = position.and_then(|at| plan.fates.get(at));
    let before = plan.steps.iter().find_map(|step| match step {
        Step::Bind { address, from, .. } | Step::Restore { address, from, .. }
            if *address == controller.address =>
        {
            Some(from.clone().unwrap_or_default())
        }
        _ => None,
    });
    let is = controller.driver.clone().unwrap_or_default();
    let driver = match (mode, fate) {
        (PrepareMode::Plan, Some(fate)) => fate.driver.clone().unwrap_or_default(),
        _ => is.clone(),
    };
    let state = match fate {
        _ if outcome.failed.contains(&controller.address) => PrepareState::Failed,
        Some(fate) => fate.state,
        None => PrepareState::Skipped,
    };
    PreparedDevice {
        address: controller.address.to_string(),
        model: controller.title(),
        state,
        driver_before: before.unwrap_or(is),
        driver,
        iommu_group: controller.iommu_group,
        numa_node: controller.numa_node,
        in_use: seen.in_use.clone(),
        reason: fate.map(|fate| fate.reason.clone()).unwrap_or_default(),
    }
}

fn pools(plan: &Plan, mode: PrepareMode, after: &Snapshot) -> Vec<HugepagePool> {
    let pools = &after.pools;
    let step = |node: i32| {
        plan.steps.iter().find_map(|step| match step {
            Step::Pages {
                node: of, from, to, ..
            } if *of == node => Some((*from, *to)),
            _ => None,
        })
    };
    let pool = |pool: &crate::hugepages::Pool| {
        let planned = step(pool.node);
        HugepagePool {
            node: pool.node,
            size_kib: pools.page_kib,
            before: planned.map_or(pool.total, |(from, _)| from),
            total: match (mode, planned) {
                (PrepareMode::Plan, Some((_, to))) => to,
                _ => pool.total,
            },
            free: pool.free,
        }
    };
    pools.pools.iter().map(pool).collect()
}
