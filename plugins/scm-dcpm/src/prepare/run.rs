//! Rounds of steps, until there is nothing left to do.

use super::back;
use super::inventory::Inventory;
use super::plan::{self, Plan};
use super::report::report;
use super::step::Step;
use super::tools::{Said, System, Tools};
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
/// A namespace takes three rounds at most: it is enabled, is found to be unfinished, is made anew.
const ROUNDS: usize = 4;

/// Which way to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To one fsdax namespace per region.
    Prepare,
    /// Back to regions without namespaces.
    Release,
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
    let _alone = if request.mode == PrepareMode::Apply {
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
    run(&mut System, direction, request.mode, &mut go_on)
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
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(dir.join("scm-dcpm.lock"))
        .map_err(fail)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::new(
            Status::BUSY,
            "persistent memory is being prepared by another process",
        )
        .remedy("wait for it to end")),
        Err(e) => Err(fail(e.into())),
    }
}

/// What `ndctl` lists.
pub(super) fn list(tools: &mut dyn Tools) -> Result<Inventory> {
    if !tools.has_memory() {
        return Ok(Inventory::default());
    }
    let said = tools.ndctl(&Inventory::COMMAND)?;
    if !said.success {
        return Err(
            Error::new(Status::IO, "ndctl cannot list persistent memory")
                .cause(words(&said))
                .remedy("run it by hand: ndctl list -DRNHiv"),
        );
    }
    Inventory::parse(&said.out)
}

fn words(said: &Said) -> String {
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
    direction: Direction,
    mode: PrepareMode,
    go_on: &mut dyn FnMut(usize, usize, &str) -> Result<()>,
) -> Result<PrepareReport> {
    let mut steps: Vec<PrepareStep> = Vec::new();
    let mut faults: Vec<PrepareFault> = Vec::new();
    // What failed is not tried again, and no other step is done to it.
    let mut given_up: Vec<String> = Vec::new();
    for _ in 0..ROUNDS {
        let mut plan = plan_of(tools, direction)?;
        plan.steps
            .retain(|step| !given_up.contains(&step.subject().to_owned()));
        if mode != PrepareMode::Apply || plan.steps.is_empty() {
            if mode == PrepareMode::Plan {
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
        for (done, step) in plan.steps.iter().enumerate() {
            if given_up.contains(&step.subject().to_owned()) {
                continue;
            }
            let what = match step.is_long() {
                true => "creating SCM namespace, may take a few minutes...".to_owned(),
                false => step.to_string(),
            };
            go_on(done, plan.steps.len(), &what)?;
            let said = tools.ndctl(&step.command())?;
            if said.success {
                steps.push(stated(step, StepState::Done));
                continue;
            }
            steps.push(stated(step, StepState::Failed));
            faults.push(PrepareFault {
                address: step.subject().to_owned(),
                what: format!("cannot {step}"),
                cause: words(&said),
                remedy: format!(
                    "see the kernel's log (dmesg); by hand: ndctl {}",
                    step.command().join(" ")
                ),
            });
            given_up.push(step.subject().to_owned());
        }
    }
    Err(Error::new(
        Status::INTERNAL,
        "persistent memory does not become what it is told to",
    )
    .cause(format!("after {ROUNDS} rounds there are still steps to do"))
    .remedy("look at it with `ndctl list -DRNHiv`"))
}

fn plan_of(tools: &mut dyn Tools, direction: Direction) -> Result<Plan> {
    let inventory = list(tools)?;
    match direction {
        Direction::Prepare => plan::plan(&inventory, tools),
        Direction::Release => back::plan(&inventory, tools),
    }
}

fn stated(step: &Step, state: StepState) -> PrepareStep {
    PrepareStep {
        what: step.to_string(),
        state,
    }
}
