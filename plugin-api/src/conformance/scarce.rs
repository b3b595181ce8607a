//! What a plugin does when its process runs out of something: it says so, keeps nothing, and goes on later.
//!
//! The process that runs out is one of its own ([`other`](super::other)): a limit is the whole process's, and the host and
//! other plugins need descriptors as well.

use super::case::{Case, Verdict, ensure, failed, refused_somehow};
use super::control::ControlBench;
use super::other::{Line, Other, instance};
use super::target::Target;
use crate::abi::{PluginTable, Status};
use crate::control::ClassKind;
use crate::host::{CallOptions, Instance};
use crate::sdk::Error;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

pub(super) const CASES: &[Case<ControlBench>] = &[Case {
    id: "errors.no_descriptors",
    name: "where the process may open no more files a call fails and says why, keeps none, and works when it may again",
    body: no_descriptors,
}];

/// Uses the first device, or the domain, with ever more descriptors to be had.
pub(super) const STARVED: &str = "control.starved";

/// So many descriptors there are at most: each number below ends a call elsewhere on its way.
const MOST: u64 = 12;
/// Bytes of a region.
const REGION: u64 = 64 << 10;

fn no_descriptors(bench: &ControlBench) -> Verdict {
    Other::start(bench, STARVED, "the process that may open no more files")?.wait_for("well")
}

/// The role [`STARVED`].
pub(super) fn starve(table: &'static PluginTable, target: &Target, line: &mut dyn Line) -> Verdict {
    let instance = instance(table, target)?;
    // Before anything was used, so that what is opened once and for good fails as well.
    without_descriptors(&instance, target, 0)?;
    use_once(&instance, target)?;
    let before = open_descriptors()?;
    for left in 0..MOST {
        without_descriptors(&instance, target, left)?;
        let after = open_descriptors()?;
        ensure!(
            after <= before,
            "a call for which {left} descriptors were not enough keeps {} of them",
            after - before
        );
    }
    if let Err(error) = use_once(&instance, target) {
        return failed(format!(
            "it works no more although there are descriptors again: {error} [{}]",
            error.status
        ));
    }
    line.tell("well");
    Ok(())
}

fn without_descriptors(instance: &Instance, target: &Target, left: u64) -> Verdict {
    let used = {
        let _limited = Limited::to(left).or_else(|e| failed(format!("there is no limit: {e}")))?;
        use_once(instance, target)
    };
    match used {
        // It needs none, or no more than these.
        Ok(()) => Ok(()),
        Err(error) => refused_somehow(
            &format!("with {left} descriptors to be had"),
            Err::<(), _>(error),
        ),
    }
}

/// Opens and closes what the class has.
fn use_once(instance: &Instance, target: &Target) -> Result<(), Error> {
    let options = CallOptions::default;
    if target.kind == ClassKind::Fabric {
        let domain = instance.open_fabric(&target.fabric_request(), options())?;
        return domain.open_endpoint(options()).map(drop);
    }
    let request = target.class_request(&target.config);
    let devices = instance.devices(&request, options())?;
    let Some(device) = devices.first() else {
        return Err(Error::new(
            Status::INTERNAL,
            "the config names no device any more",
        ));
    };
    if target.kind == ClassKind::Bdev {
        let device = instance.open_bdev(device, options())?;
        return device.open_queue(4, options()).map(drop);
    }
    let memory = instance.open_scm(device, options())?;
    let name = "starved";
    match memory.remove_region(name, options()) {
        Err(error) if error.status != Status::NOT_FOUND => return Err(error),
        _ => {}
    }
    drop(memory.create_region(name, REGION, options())?);
    memory.remove_region(name, options())
}

fn open_descriptors() -> Verdict<usize> {
    match std::fs::read_dir("/proc/self/fd") {
        Ok(entries) => Ok(entries.count()),
        Err(e) => failed(format!("/proc/self/fd: {e}")),
    }
}

/// `struct rlimit` of getrlimit(2) where `rlim_t` has 64 bits.
#[repr(C)]
struct Limits {
    soft: u64,
    hard: u64,
}

/// RLIMIT_NOFILE of <sys/resource.h> on Linux.
const OPEN_FILES: i32 = 7;

unsafe extern "C" {
    fn getrlimit64(resource: i32, limits: *mut Limits) -> i32;
    fn setrlimit64(resource: i32, limits: *const Limits) -> i32;
}

/// A limit of open files, until it is dropped.
struct Limited {
    before: Limits,
}

impl Limited {
    /// Leaves at most `left` descriptors that can still be opened.
    fn to(left: u64) -> io::Result<Self> {
        let mut before = Limits { soft: 0, hard: 0 };
        // SAFETY: the pointer is to a live struct of that form.
        if unsafe { getrlimit64(OPEN_FILES, &raw mut before) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // The lowest number that is free.
        let free = File::open("/dev/null")?.as_raw_fd();
        let limits = Limits {
            soft: u64::try_from(free).unwrap_or(0) + left,
            hard: before.hard,
        };
        // SAFETY: likewise.
        if unsafe { setrlimit64(OPEN_FILES, &raw const limits) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { before })
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        // SAFETY: as above. It was the limit before, so it may be again.
        unsafe { setrlimit64(OPEN_FILES, &raw const self.before) };
    }
}
