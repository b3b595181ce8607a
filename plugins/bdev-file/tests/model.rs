//! The common suite on files: both engines, with and without direct I/O, both ways of unmapping.

use bdev_file::BdevFile;
use bdev_model::{Subject, class, instance, serde_json::Value, serde_json::json};
use daos_plugin_api::control::FormatRequest;
use daos_plugin_api::host::CallOptions;
use daos_plugin_api::sdk::thunks::table;
use std::path::Path;

fn subject(parent: &Path, settings: Value) -> Subject {
    let dir = tempfile::Builder::new()
        .prefix("bdev-file-")
        .tempdir_in(parent)
        .unwrap();
    let instance = instance(table::<BdevFile>(), settings);
    let path = dir.path().join("device");
    let request = class("file", json!({ "bdev_list": [path], "bdev_size_mib": 64 }));
    let spec = instance
        .devices(&request, CallOptions::default())
        .unwrap()
        .remove(0);
    let format = FormatRequest {
        device: spec.clone(),
        overwrite_foreign: false,
        nvme_format: false,
        check_only: false,
    };
    instance.format(&format, CallOptions::default()).unwrap();
    Subject {
        instance,
        spec,
        wrap: None,
        guard: Box::new(dir),
    }
}

/// The build directory is on a disk file system nearly everywhere; /tmp often is tmpfs.
fn disk() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

fn uring() -> Option<Subject> {
    Some(subject(disk(), json!({ "io_engine": "uring" })))
}

fn uring_release() -> Option<Subject> {
    Some(subject(
        disk(),
        json!({ "io_engine": "uring", "unmap": "release" }),
    ))
}

fn threads() -> Option<Subject> {
    Some(subject(disk(), json!({ "io_engine": "threads" })))
}

fn shared_memory(settings: Value) -> Option<Subject> {
    let parent = Path::new("/dev/shm");
    if !parent.is_dir() {
        println!("NOT RUN tests on tmpfs: there is no {}", parent.display());
        return None;
    }
    Some(subject(parent, settings))
}

fn uring_on_tmpfs() -> Option<Subject> {
    shared_memory(json!({ "io_engine": "uring" }))
}

fn threads_on_tmpfs() -> Option<Subject> {
    shared_memory(json!({ "io_engine": "threads" }))
}

bdev_model::suite!(uring, crate::uring);
bdev_model::suite!(uring_release, crate::uring_release);
bdev_model::suite!(uring_tmpfs, crate::uring_on_tmpfs);
bdev_model::suite!(threads, crate::threads);
bdev_model::suite!(threads_tmpfs, crate::threads_on_tmpfs);
