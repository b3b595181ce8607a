//! The common suite on loop devices with logical blocks of 512 and 4096 bytes, on both engines.

use bdev_kdev::BdevKdev;
use bdev_model::machine::LoopDevice;
use bdev_model::{Subject, class, instance, serde_json::json};
use daos_plugin_api::host::CallOptions;
use daos_plugin_api::sdk::thunks::table;
use std::path::Path;

fn subject(block: u32, engine: &str) -> Option<Subject> {
    // On a disk file system, so that the loop device can discard and do direct I/O.
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let device = LoopDevice::new("the suite on loop devices", parent, 64 << 20, block)?;
    let instance = instance(table::<BdevKdev>(), json!({ "io_engine": engine }));
    let request = class("kdev", json!({ "bdev_list": [device.path()] }));
    let spec = instance
        .devices(&request, CallOptions::default())
        .unwrap()
        .remove(0);
    Some(Subject {
        instance,
        spec,
        wrap: None,
        guard: Box::new(device),
    })
}

fn uring_512() -> Option<Subject> {
    subject(512, "uring")
}

fn uring_4096() -> Option<Subject> {
    subject(4096, "uring")
}

fn threads_512() -> Option<Subject> {
    subject(512, "threads")
}

fn threads_4096() -> Option<Subject> {
    subject(4096, "threads")
}

bdev_model::suite!(uring_512, crate::uring_512);
bdev_model::suite!(uring_4096, crate::uring_4096);
bdev_model::suite!(threads_512, crate::threads_512);
bdev_model::suite!(threads_4096, crate::threads_4096);
