//! The plugin keeps every promise of its class, linked in and from its shared object.

use bdev_file::BdevFile;
use bdev_model::shared_object;
use daos_plugin_api::abi::PluginTable;
use daos_plugin_api::conformance::{Target, check};
use daos_plugin_api::control::ClassKind;
use daos_plugin_api::sdk::thunks::table;
use serde_json::json;
use std::path::Path;

fn run(plugin: &'static PluginTable, parent: &Path, engine: &str, built_in: bool) {
    let dir = tempfile::Builder::new()
        .prefix("bdev-file-")
        .tempdir_in(parent)
        .unwrap();
    let path = dir.path().join("device");
    let config = json!({ "bdev_list": [path], "bdev_size_mib": 64 });
    let mut target = Target::new(ClassKind::Bdev, "file", config)
        .nonsense(json!({ "bdev_list": ["relative"], "bdev_size": 1 }))
        .nonsense(json!({ "bdev_list": [path, path], "bdev_size": 1 }))
        .nonsense(json!({ "bdev_list": [], "bdev_size": 1 }))
        .nonsense(json!({ "bdev_list": [path] }));
    target
        .settings
        .insert("io_engine".to_owned(), json!(engine));
    target.built_in = built_in;
    check(plugin, target);
}

fn disk() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

#[test]
fn every_promise_is_kept_on_io_uring() {
    run(table::<BdevFile>(), disk(), "uring", true);
}

#[test]
fn every_promise_is_kept_on_threads() {
    run(table::<BdevFile>(), disk(), "threads", true);
}

#[test]
fn every_promise_is_kept_on_tmpfs() {
    let parent = Path::new("/dev/shm");
    if !parent.is_dir() {
        println!(
            "NOT RUN every_promise_is_kept_on_tmpfs: there is no {}",
            parent.display()
        );
        return;
    }
    run(table::<BdevFile>(), parent, "auto", true);
}

#[test]
fn every_promise_is_kept_by_the_shared_object() {
    run(shared_object::load("bdev-file-so"), disk(), "auto", false);
}
