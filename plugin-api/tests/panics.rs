//! A panic in any function of a plugin stays inside: abi_stable would turn it into `exit(1)`, an
//! `extern "C"` function into an abort. The host gets PANIC, then POISONED, and lives on.

mod bomb;

use bomb::{Caller, Outcome};
use daos_plugin_api::abi::Status;

/// Functions that return a status (or a negated one).
const FUNCTIONS: &[&str] = &[
    "thread_attach",
    "validate",
    "scan",
    "prepare",
    "release",
    "devices",
    "format",
    "mount",
    "unmount",
    "health",
    "firmware",
    "quiesce",
    "device_admin.identity",
    "device_admin.health",
    "bdev.open",
    "bdev.geometry",
    "bdev.poll_admin",
    "bdev.reset",
    "bdev.open_queue",
    "bdev.submit",
    "bdev.poll",
    "bdev.abort",
    "bdev.reconnect",
    "bdev.arm_wait",
    "bdev.memory_alloc",
    "bdev.memory_register",
    "bdev.memory_unregister",
    "scm.open",
    "scm.info",
    "scm.mount_point",
    "scm.create_region",
    "scm.open_region",
    "scm.remove_region",
    "scm.persist",
    "scm.flush",
    "scm.drain",
    "fabric.open",
    "fabric.info",
    "fabric.register",
    "fabric.open_endpoint",
    "fabric.address",
    "fabric.resolve",
    "fabric.release",
    "fabric.submit",
    "fabric.poll",
    "fabric.cancel",
    "fabric.arm_wait",
];

/// Functions that return nothing: they must come back, and what comes after is POISONED.
const SILENT: &[(&str, &str)] = &[
    ("thread_detach", "scan"),
    ("bdev.memory_free", "scan"),
    ("bdev.next_event", "bdev.poll_admin"),
];

const DESTRUCTORS: &[&str] = &[
    "destroy",
    "bdev.close",
    "bdev.close_queue",
    "scm.close",
    "scm.close_region",
    "fabric.close",
    "fabric.unregister",
    "fabric.close_endpoint",
];

/// Panics print a backtrace by default; there are dozens here, all wanted.
fn quietly(f: impl FnOnce()) {
    std::panic::set_hook(Box::new(|_| {}));
    f();
    let _ = std::panic::take_hook();
}

#[test]
fn a_panic_becomes_a_status_and_poisons_the_object() {
    quietly(|| {
        for name in FUNCTIONS {
            let mut caller = Caller::new(name);
            assert!(caller.created.is_ok(), "{name}");
            let first = caller.call(name);
            assert_eq!(first, Outcome::Status(Status::PANIC), "{name}");
            let second = caller.call(name);
            assert_eq!(second, Outcome::Status(Status::POISONED), "{name}, again");
        }
        for (name, after) in SILENT {
            let mut caller = Caller::new(name);
            assert_eq!(caller.call(name), Outcome::Returned, "{name}");
            let second = caller.call(after);
            assert_eq!(
                second,
                Outcome::Status(Status::POISONED),
                "{after} after {name}"
            );
        }
        let caller = Caller::new("create");
        assert_eq!(caller.created, Status::PANIC);
        for name in DESTRUCTORS {
            drop(Caller::new(name));
        }
    });
}

#[test]
fn a_panic_of_the_control_face_says_where_and_why() {
    let mut caller = Caller::new("format");
    caller.call("format");
    let failure = caller.failure();
    assert!(
        failure.contains("the plugin panicked in format") && failure.contains("format went off"),
        "{failure}"
    );
}

#[test]
fn without_a_fuse_nothing_panics() {
    let mut caller = Caller::new("");
    for name in FUNCTIONS {
        // The open functions were called already.
        if !name.contains("open") && !name.contains("create") && !name.ends_with(".register") {
            let Outcome::Status(status) = caller.call(name) else {
                unreachable!("these return a status")
            };
            assert!(
                ![Status::PANIC, Status::POISONED].contains(&status),
                "{name}: {status}"
            );
        }
    }
}
