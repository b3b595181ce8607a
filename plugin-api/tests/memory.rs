//! I/O memory: the plugin's own words about a failure reach whoever asked for it.

use bdev_malloc::BdevMalloc;
use daos_plugin_api::abi::{
    BdevTable, BdevTablePtr, CallPtr, ErrorInfo, Handle, PluginTable, Status, Str,
};
use daos_plugin_api::control::ClassRequest;
use daos_plugin_api::host::{BdevDevice, CallOptions, Instance, InstanceOptions};
use daos_plugin_api::sdk::{Error, thunks};
use serde_json::{Map, json};

/// A malloc device whose plugin has these memory functions.
fn device(change: impl FnOnce(&mut BdevTable)) -> BdevDevice {
    let table = thunks::table::<BdevMalloc>();
    // SAFETY: the plugin has the face, a static; tables are plain data.
    let (mut face, mut table): (BdevTable, PluginTable) =
        unsafe { (std::ptr::read(table.bdev.0), std::ptr::read(table)) };
    change(&mut face);
    table.bdev = BdevTablePtr(Box::leak(Box::new(face)));
    let instance = Instance::create(Box::leak(Box::new(table)), InstanceOptions::built_in())
        .expect("an instance");
    let request = ClassRequest {
        class: "malloc".to_owned(),
        config: Map::from_iter([
            ("bdev_number".to_owned(), json!(1)),
            ("bdev_size".to_owned(), json!(1)),
        ]),
    };
    let spec = instance
        .devices(&request, CallOptions::default())
        .expect("devices")
        .remove(0);
    instance
        .open_bdev(&spec, CallOptions::default())
        .expect("a device")
}

fn say(call: CallPtr, what: &'static str, remedy: &'static str) -> Status {
    let error = ErrorInfo {
        status: Status::NO_MEMORY,
        reserved: 0,
        what: Str::new(what),
        cause: Str::new(""),
        remedy: Str::new(remedy),
    };
    // SAFETY: the host's context, valid during the call.
    unsafe { ((*call.0).fail)((*call.0).ctx, &error) };
    Status::NO_MEMORY
}

unsafe extern "C" fn no_huge_pages(
    _: Handle,
    call: CallPtr,
    _: usize,
    _: i32,
    _: *mut Handle,
) -> Status {
    say(call, "no huge pages left on node 1", "reserve 512 more")
}

unsafe extern "C" fn leaves_it_to_the_host(
    _: Handle,
    _: CallPtr,
    _: usize,
    _: i32,
    _: *mut Handle,
) -> Status {
    Status::OK
}

/// Behind the start of what is there.
unsafe extern "C" fn gives_odd_memory(
    _: Handle,
    _: CallPtr,
    len: usize,
    _: i32,
    out: *mut Handle,
) -> Status {
    let memory = Box::leak(vec![0u8; len + (4 << 20)].into_boxed_slice());
    let aligned = memory.as_mut_ptr().addr().next_multiple_of(2 << 20);
    let at = aligned - memory.as_ptr().addr() + 4096;
    // SAFETY: the host's out pointer, valid during the call.
    unsafe { *out = (&raw mut memory[at]).cast() };
    Status::OK
}

/// Where nothing is mapped.
unsafe extern "C" fn gives_no_memory(
    _: Handle,
    _: CallPtr,
    _: usize,
    _: i32,
    out: *mut Handle,
) -> Status {
    // SAFETY: the host's out pointer, valid during the call.
    unsafe { *out = std::ptr::without_provenance_mut(2 << 20) };
    Status::OK
}

unsafe extern "C" fn locked_out(_: Handle, call: CallPtr, _: Handle, _: usize) -> Status {
    say(call, "the limit of locked memory is 64 KiB", "")
}

fn failure(device: &BdevDevice) -> Error {
    device.allocate(4 << 20).err().expect("no memory")
}

#[test]
fn a_failed_allocation_says_what_the_plugin_says() {
    let error = failure(&device(|t| t.memory_alloc = Some(no_huge_pages)));
    assert_eq!(error.status, Status::NO_MEMORY);
    assert!(error.what.contains("4 MiB") && error.what.contains("malloc"));
    assert_eq!(error.cause, "no huge pages left on node 1");
    assert_eq!(error.remedy, "reserve 512 more");
}

#[test]
fn a_refused_registration_says_what_the_plugin_says() {
    let error = failure(&device(|t| {
        t.memory_alloc = None;
        t.memory_register = Some(locked_out);
    }));
    assert_eq!(error.cause, "the limit of locked memory is 64 KiB");
    assert!(!error.remedy.is_empty(), "a remedy of the host's");
}

#[test]
fn a_plugin_may_leave_memory_to_the_host() {
    let device = device(|t| t.memory_alloc = Some(leaves_it_to_the_host));
    let memory = device.allocate(1).expect("memory");
    assert_eq!(memory.len(), 2 << 20);
    assert_eq!(memory.ptr() as usize % (2 << 20), 0);
}

#[test]
fn memory_that_is_none_is_refused_by_plugin_and_call_and_not_touched() {
    for (alloc, cause) in [
        (gives_odd_memory as _, "is not a multiple of 2 MiB"),
        (gives_no_memory as _, "are not mapped"),
    ] {
        let error = failure(&device(|t| t.memory_alloc = Some(alloc)));
        assert_eq!(error.status, Status::INTERNAL);
        for words in ["plugin bdev-malloc ", "call memory_alloc"] {
            assert!(error.what.contains(words), "{error}");
        }
        assert!(error.cause.contains(cause), "{error}");
    }
}
