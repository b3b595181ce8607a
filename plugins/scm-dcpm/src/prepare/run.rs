//! Rounds of steps, until there is nothing left to do.

use super::back;
use super::inventory::Inventory;
use super::ipmctl::{self, Dimms};
use super::plan::{self, Plan};
use super::report::report;
use super::step::Step;
use super::tools::{Program, Said, System, Tools};
use daos_plugin_api::abi::Status;
use daos_plugin_api::control::{
    PrepareFault, PrepareMode, PrepareReport, PrepareRequest, PrepareStep, StepState,
};
use daos_plugin_api::sdk::{CallContext, Error, Result};
use rustix::fs::FlockOperation;
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Where only root may write: the lock that keeps two runs apart is there.
const STATE_DIR: &str = "/var/lib/daos_prepare";
/// A namespace takes four rounds at most: it is enabled, is found to be unfinished, is made anew, others are made
/// beside it; and one shows that nothing is left to do.
const ROUNDS: usize = 6;

/// Which way to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To fsdax namespaces, on regions that are made where there are none.
    Prepare,
    /// Back to Memory Mode, or, where modules know none, to regions without namespaces.
    Release,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Which way.
    pub direction: Direction,
    /// How far.
    pub mode: PrepareMode,
    /// Namespaces that each region shall have; `None` = one, if it has none.
    pub namespaces: Option<usize>,
}

/// `prepare` of this machine.
pub(crate) fn prepare(call: CallContext<'_>, request: &PrepareRequest) -> Result<PrepareReport> {
    on_machine(call, Direction::Prepare, request)
}

/// `release` of this machine.
pub(crate) fn release(call: CallContext<'_>, request: &PrepareRequest) -> Result<PrepareReport> {
    on_machine(call, Direction::Release, request)
}

fn on_machine(
    call: CallContext<'_>,
    direction: Direction,
    request: &PrepareRequest,
) -> Result<PrepareReport> {
    let lock = if request.mode == PrepareMode::Apply {
        if !rustix::process::geteuid().is_root() {
            return Err(Error::new(Status::PERMISSION, "only root can do this")
                .remedy("run `sudo daos_server storage prepare --scm-only`"));
        }
        let dir = match request.state_dir.as_str() {
            "" => STATE_DIR,
            dir => dir,
        };
        Some(lock(Path::new(dir))?)
    } else {
        None
    };
    let mut go_on = |done: usize, of: usize, what: &str| {
        call.progress(done as u64, of as u64, what);
        call.check_cancelled()
    };
    let wish = Wish {
        direction,
        mode: request.mode,
        namespaces: request.namespaces.map(|n| n as usize),
    };
    run(&mut System { lock }, wish, &mut go_on)
}

/// One at a time.
fn lock(dir: &Path) -> Result<File> {
    let fail = |e: std::io::Error| Error::io(format!("cannot lock {}", dir.display()), e);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(fail)?;
    let metadata = dir.symlink_metadata().map_err(fail)?;
    if !metadata.is_dir() || metadata.uid() != 0 || metadata.mode() & 0o022 != 0 {
        return Err(Error::new(
            Status::INVALID,
            format!("{} is not root's alone", dir.display()),
        )
        .remedy("remove it, or give it to root with mode 0700"));
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(dir.join("scm-dcpm.lock"))
        .map_err(fail)?;
    exclusive(file)
}

/// Takes the lock, which is held until this file and its copies, those of programs among them, are closed.
pub(super) fn exclusive(file: File) -> Result<File> {
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::new(
            Status::BUSY,
            "persistent memory is being prepared by another process",
        )
        .cause("a run goes on, or an ndctl or ipmctl of one that was killed")
        .remedy("wait for it to end; `pgrep -a 'ndctl|ipmctl|daos_server'` shows it")),
        Err(e) => Err(Error::io(
            "cannot lock the preparation of persistent memory",
            e,
        )),
    }
}

/// What `ipmctl` shows, or why that is not known.
type Shown = std::result::Result<Dimms, Error>;

/// What is there. Of what `ipmctl` shows only the first `shown` parts are asked for, as each takes a second.
pub(super) fn list(tools: &mut dyn Tools, shown: usize) -> Result<Inventory> {
    list_with(tools, shown, None)
}

/// The same where what `ipmctl` shows may be `known` already.
fn list_with(tools: &mut dyn Tools, shown: usize, known: Option<Shown>) -> Result<Inventory> {
    if !tools.has_memory() {
        return Ok(Inventory::default());
    }
    let said = tools.run(Program::Ndctl, &Inventory::COMMAND)?;
    if !said.success {
        return Err(
            Error::new(Status::IO, "ndctl cannot list persistent memory")
                .cause(words(&said))
                .remedy("run it by hand: ndctl list -DRNHiv"),
        );
    }
    let mut inventory = Inventory::parse(&said.out)?;
    if inventory
        .modules
        .iter()
        .any(|module| module.id.starts_with(ipmctl::VENDOR))
    {
        match known.unwrap_or_else(|| add(tools, Dimms::default(), &ipmctl::SHOW[..shown])) {
            Ok(dimms) => inventory.dimms = dimms,
            Err(error) => inventory.dimms_unknown = Some(error),
        }
    }
    Ok(inventory)
}

/// Adds what `ipmctl` shows by these commands.
fn add(tools: &mut dyn Tools, mut dimms: Dimms, commands: &[&[&str]]) -> Shown {
    for command in commands {
        let said = tools.run(Program::Ipmctl, command)?;
        if said.out.trim().is_empty() {
            return Err(Error::new(Status::IO, "ipmctl ended without an answer")
                .cause(words(&said))
                .remedy(format!("run it by hand: ipmctl {}", command.join(" "))));
        }
        dimms.add(&said.out)?;
        if dimms.dimms.is_empty() {
            break;
        }
    }
    Ok(dimms)
}

pub(super) fn words(said: &Said) -> String {
    let lines = said.err.lines().chain(said.out.lines());
    let lines: Vec<&str> = lines
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines.join("; ")
}

/// Prepares or releases; `go_on` is told of each step (how many were done, how many there are in this
/// round, what comes) and may stop the run.
///
/// # Errors
/// Persistent memory cannot be looked at, or the run was stopped. What was changed until then is whole,
/// and the next run goes on from there.
pub fn run(
    tools: &mut dyn Tools,
    wish: Wish,
    go_on: &mut dyn FnMut(usize, usize, &str) -> Result<()>,
) -> Result<PrepareReport> {
    let mut steps: Vec<PrepareStep> = Vec::new();
    let mut faults: Vec<PrepareFault> = Vec::new();
    // What failed is not tried again, and no other step is done to it.
    let mut given_up: Vec<String> = Vec::new();
    // What ndctl does changes nothing of it; what ipmctl does changes goals alone, until the next boot.
    let mut known: Option<Shown> = None;
    let mut goals_changed = false;
    for _ in 0..ROUNDS {
        if let Some(Ok(dimms)) = known
            .as_mut()
            .filter(|_| std::mem::take(&mut goals_changed))
        {
            let mut dimms = std::mem::take(dimms);
            dimms.goals.clear();
            known = Some(add(tools, dimms, &[ipmctl::SHOW_GOALS]));
        }
        let inventory = list_with(tools, ipmctl::SHOW.len(), known)?;
        let mut plan = plan_of(&inventory, tools, wish)?;
        known = Some(match inventory.dimms_unknown {
            None => Ok(inventory.dimms),
            Some(error) => Err(error),
        });
        plan.steps.retain(|step| step.is_possible(&given_up));
        if wish.mode != PrepareMode::Apply || plan.steps.is_empty() {
            if wish.mode == PrepareMode::Plan {
                steps.extend(
                    plan.steps
                        .iter()
                        .map(|step| stated(step, StepState::Planned)),
                );
            }
            let mut report = report(plan);
            report.steps = steps;
            report.faults.extend(faults);
            return Ok(report);
        }
        // Whether what had to go is gone is looked at before.
        plan.steps.retain(|step| !step.waits());
        for (done, step) in plan.steps.iter().enumerate() {
            if !step.is_possible(&given_up) {
                continue;
            }
            go_on(done, plan.steps.len(), &step.progress())?;
            let command = step.command();
            let arguments: Vec<&str> = command.iter().map(String::as_str).collect();
            let program = step.program();
            goals_changed |= program == Program::Ipmctl;
            let said = tools.run(program, &arguments)?;
            let Some(cause) = failure(program, &said) else {
                steps.push(stated(step, StepState::Done));
                continue;
            };
            steps.push(stated(step, StepState::Failed));
            faults.push(PrepareFault {
                address: step.subject(),
                what: format!("cannot {step}"),
                cause,
                remedy: format!(
                    "see the kernel's log (dmesg); by hand: {} {}",
                    program.name(),
                    command.join(" ")
                ),
            });
            given_up.push(step.subject());
        }
    }
    Err(Error::new(
        Status::INTERNAL,
        "persistent memory does not become what it is told to",
    )
    .cause(format!("after {ROUNDS} rounds there are still steps to do"))
    .remedy("look at it with `ndctl list -DRNHiv`"))
}

/// Why a step failed; `None` if it did not.
fn failure(program: Program, said: &Said) -> Option<String> {
    let failed = match program {
        Program::Ndctl => !said.success,
        // It ends with 0 also when a goal could not be deleted; its words tell.
        Program::Ipmctl => !said.success || ipmctl::hidden_failure(&said.out),
    };
    failed.then(|| match program {
        Program::Ndctl => words(said),
        Program::Ipmctl => ipmctl::words(&said.out).unwrap_or_else(|| words(said)),
    })
}

fn plan_of(inventory: &Inventory, tools: &mut dyn Tools, wish: Wish) -> Result<Plan> {
    match wish.direction {
        Direction::Prepare => plan::plan(inventory, tools, wish.namespaces),
        Direction::Release => back::plan(inventory, tools),
    }
}

fn stated(step: &Step, state: StepState) -> PrepareStep {
    PrepareStep {
        what: step.to_string(),
        state,
    }
}
