//! The SCM and fabric cases bite: working plugins with one function each replaced by one that lies
//! are found out by the case that is about it.

use daos_plugin_api::abi::*;
use daos_plugin_api::conformance::{Outcome, Record, Reporter, Target, run};
use daos_plugin_api::control::ClassKind;
use daos_plugin_api::sdk::{Plugin, thunks};
use fabric_tcp::FabricTcp;
use scm_ram::ScmRam;
use serde_json::json;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;

struct Quiet;

impl Reporter for Quiet {
    fn ended(&mut self, _: &Record) {}
}

fn must_be_found(table: &'static PluginTable, target: Target, case: &str) {
    let summary = run(table, &target.filter(case), &mut Quiet);
    let found = summary.records.iter().find(|r| r.case.contains(case));
    let found = found.unwrap_or_else(|| panic!("no case {case}"));
    assert!(
        matches!(found.outcome, Outcome::Failed(_)),
        "not found by {:?}: {:?}",
        found.case,
        found.outcome
    );
}

/// A copy of a plugin's table with other faces.
fn with<P: Plugin>(change: impl FnOnce(&mut PluginTable)) -> &'static PluginTable {
    // SAFETY: tables are plain data.
    let mut table = unsafe { std::ptr::read(thunks::table::<P>()) };
    change(&mut table);
    Box::leak(Box::new(table))
}

fn scm() -> &'static ScmTable {
    // SAFETY: the plugin has the face, a static.
    unsafe { &*thunks::table::<ScmRam>().scm.0 }
}

fn fabric() -> &'static FabricTable {
    // SAFETY: the plugin has the face, a static.
    unsafe { &*thunks::table::<FabricTcp>().fabric.0 }
}

fn scm_defect(case: &str, change: impl FnOnce(&mut ScmTable)) {
    // Without the capability to mount, the plugin takes a directory: nothing to unmount.
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    let mut sets = capabilities(None).expect("capabilities");
    sets.effective.remove(CapabilitySet::SYS_ADMIN);
    set_capabilities(None, sets).expect("drop a capability");
    // SAFETY: tables are plain data.
    let mut face = unsafe { std::ptr::read(scm()) };
    change(&mut face);
    let face: &'static ScmTable = Box::leak(Box::new(face));
    let table = with::<ScmRam>(|table| table.scm = ScmTablePtr(face));
    let dir = TempDir::with_prefix_in("scm-defect-", "/dev/shm").expect("a tmpfs");
    let config = json!({"scm_mount": dir.path().join("scm"), "scm_size_mib": 8});
    must_be_found(table, Target::new(ClassKind::Scm, "ram", config), case);
}

fn fabric_defect(case: &str, change: impl FnOnce(&mut FabricTable)) {
    // SAFETY: tables are plain data.
    let mut face = unsafe { std::ptr::read(fabric()) };
    change(&mut face);
    let face: &'static FabricTable = Box::leak(Box::new(face));
    let table = with::<FabricTcp>(|table| table.fabric = FabricTablePtr(face));
    let config = json!({"interface": "lo"});
    must_be_found(table, Target::new(ClassKind::Fabric, "tcp", config), case);
}

// In the functions below: the host passes what the table asks for, and each passes it on.

unsafe extern "C" fn dirty_region(
    handle: Handle,
    call: CallPtr,
    name: Str,
    len: u64,
    flags: u32,
    out: *mut ScmRegion,
) -> Status {
    // SAFETY: passed on.
    let status = unsafe { (scm().open_region)(handle, call, name, len, flags, out) };
    if status.is_ok() {
        // SAFETY: the region has at least a byte.
        unsafe { (*out).ptr.write(0xff) };
    }
    status
}

unsafe extern "C" fn boastful_info(handle: Handle, out: *mut ScmInfo) -> Status {
    // SAFETY: passed on.
    let status = unsafe { (scm().info)(handle, out) };
    // SAFETY: the host's record.
    unsafe { (*out).available = (*out).total };
    status
}

unsafe extern "C" fn forgetful_removal(_: Handle, _: CallPtr, _: Str) -> Status {
    Status::OK
}

unsafe extern "C" fn failing_drain(_: Handle) -> Status {
    Status::IO
}

unsafe extern "C" fn relative_mount_point(_: Handle, out: Sink) -> Status {
    // SAFETY: the host's sink.
    unsafe { (out.write)(out.ctx, b"scm".as_ptr(), 3) };
    Status::OK
}

unsafe extern "C" fn tolerant_region(
    handle: Handle,
    call: CallPtr,
    name: Str,
    len: u64,
    flags: u32,
    out: *mut ScmRegion,
) -> Status {
    // SAFETY: passed on.
    let status = unsafe { (scm().open_region)(handle, call, name, len, flags, out) };
    if status != Status::EXISTS {
        return status;
    }
    // SAFETY: passed on.
    unsafe { (scm().open_region)(handle, call, name, len, 0, out) }
}

unsafe extern "C" fn leaking_close(_: Handle) {}

#[test]
fn each_defect_of_an_scm_is_found_by_its_case() {
    scm_defect("all zeroes", |t| t.open_region = dirty_region);
    scm_defect("contents persist over closing", |t| {
        t.open_region = dirty_region
    });
    scm_defect("free space shrinks", |t| t.info = boastful_info);
    scm_defect("comes back as zeroes", |t| {
        t.remove_region = forgetful_removal
    });
    scm_defect("does not exist is refused as NOT_FOUND", |t| {
        t.remove_region = forgetful_removal;
    });
    scm_defect("persist, flush and drain", |t| t.drain = failing_drain);
    scm_defect("mount point is an absolute", |t| {
        t.mount_point = relative_mount_point
    });
    scm_defect("exists is refused as EXISTS", |t| {
        t.open_region = tolerant_region
    });
    scm_defect("leaks no descriptor", |t| t.close = leaking_close);
}

/// Applies `change` to the completions of a poll.
///
/// # Safety
/// As for the table's `poll`.
unsafe fn changed(
    endpoint: Handle,
    out: *mut FabricCompletion,
    capacity: u32,
    change: impl Fn(&mut FabricCompletion),
) -> i32 {
    // SAFETY: passed on.
    let n = unsafe { (fabric().poll)(endpoint, out, capacity) };
    for at in 0..usize::try_from(n).unwrap_or(0) {
        // SAFETY: the first `n` records were filled.
        change(unsafe { &mut *out.add(at) });
    }
    n
}

macro_rules! polls {
    ($($name:ident: |$completion:ident| $change:expr;)*) => {
        $(unsafe extern "C" fn $name(
            endpoint: Handle,
            out: *mut FabricCompletion,
            capacity: u32,
        ) -> i32 {
            // SAFETY: passed on.
            unsafe { changed(endpoint, out, capacity, |$completion| $change) }
        })*
    };
}

polls! {
    everything_is_fine: |c| c.status = Status::OK;
    lengths_are_zero: |c| c.len = 0;
    tags_are_short: |c| c.tag &= 0xffff_ffff;
    operations_are_mixed_up: |c| c.op = FabricOp::SEND;
}

unsafe extern "C" fn nothing_completes(_: Handle, _: *mut FabricCompletion, _: u32) -> i32 {
    0
}

unsafe extern "C" fn new_peer_each_time(
    endpoint: Handle,
    address: *const u8,
    len: usize,
    peer: *mut u64,
) -> Status {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    // SAFETY: passed on.
    let status = unsafe { (fabric().resolve)(endpoint, address, len, peer) };
    // SAFETY: the host's number.
    unsafe { *peer = NEXT.fetch_add(1, Ordering::SeqCst) };
    status
}

unsafe extern "C" fn any_address_will_do(
    endpoint: Handle,
    address: *const u8,
    len: usize,
    peer: *mut u64,
) -> Status {
    // SAFETY: passed on.
    let status = unsafe { (fabric().resolve)(endpoint, address, len, peer) };
    if status == Status::INVALID {
        Status::OK
    } else {
        status
    }
}

unsafe extern "C" fn cancels_anything(endpoint: Handle, user: u64) -> Status {
    // SAFETY: passed on.
    unsafe { (fabric().cancel)(endpoint, user) };
    Status::OK
}

unsafe extern "C" fn keeps_registrations(_: Handle, _: Handle) -> Status {
    Status::OK
}

unsafe extern "C" fn every_right(
    domain: Handle,
    call: CallPtr,
    ptr: *mut u8,
    len: usize,
    _: u32,
    out: *mut MemoryRegion,
) -> Status {
    let all = FABRIC_LOCAL | FABRIC_REMOTE_READ | FABRIC_REMOTE_WRITE;
    // SAFETY: passed on.
    unsafe { (fabric().register)(domain, call, ptr, len, all, out) }
}

unsafe extern "C" fn sleeps_too_long(_: Handle, out: *mut Wait) -> Status {
    // SAFETY: the host's record.
    unsafe { *out = Wait::timer(5_000_000) };
    Status::OK
}

unsafe extern "C" fn same_address(_: Handle, out: Sink) -> Status {
    // SAFETY: the host's sink.
    unsafe { (out.write)(out.ctx, b"here".as_ptr(), 4) };
    Status::OK
}

unsafe extern "C" fn no_message_size(domain: Handle, out: *mut FabricInfo) -> Status {
    // SAFETY: passed on; the host's record.
    unsafe {
        let status = (fabric().info)(domain, out);
        (*out).max_rma = 0;
        status
    }
}

#[test]
fn each_defect_of_a_fabric_is_found_by_its_case() {
    fabric_defect("TRUNCATED", |t| t.poll = everything_is_fine);
    fabric_defect("wrong key", |t| t.poll = everything_is_fine);
    fabric_defect("beyond the registration", |t| t.poll = everything_is_fine);
    fabric_defect("cancelled receive completes once", |t| {
        t.poll = everything_is_fine
    });
    fabric_defect("of every size", |t| t.poll = lengths_are_zero);
    fabric_defect("all promised bits of a tag", |t| t.poll = tags_are_short);
    fabric_defect("to itself", |t| t.poll = operations_are_mixed_up);
    fabric_defect("twice gives the same peer", |t| {
        t.resolve = new_peer_each_time
    });
    fabric_defect("address that is none", |t| t.resolve = any_address_will_do);
    fabric_defect("not outstanding is NOT_FOUND", |t| {
        t.cancel = cancels_anything
    });
    fabric_defect("ended registration", |t| t.unregister = keeps_registrations);
    fabric_defect("without the right", |t| t.register = every_right);
    fabric_defect("arm_wait wakes up", |t| t.arm_wait = sleeps_too_long);
    fabric_defect("one address of its own", |t| t.address = same_address);
    fabric_defect("describes itself sensibly", |t| t.info = no_message_size);
}

#[test]
fn a_fabric_on_which_nothing_completes_is_found() {
    fabric_defect("in the order sent", |t| t.poll = nothing_completes);
}
