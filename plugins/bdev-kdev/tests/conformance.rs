//! The plugin keeps every promise of its class, linked in and from its shared object.

use bdev_kdev::BdevKdev;
use bdev_model::machine::LoopDevice;
use bdev_model::shared_object;
use daos_plugin_api::abi::PluginTable;
use daos_plugin_api::conformance::{Target, check};
use daos_plugin_api::control::ClassKind;
use daos_plugin_api::sdk::thunks::table;
use serde_json::json;
use std::path::Path;

fn run(plugin: impl FnOnce() -> &'static PluginTable, block: u32, engine: &str, built_in: bool) {
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let test = "the conformance suite on loop devices";
    let Some(device) = LoopDevice::new(test, parent, 64 << 20, block) else {
        return;
    };
    let config = json!({ "bdev_list": [device.path()] });
    let mut target = Target::new(ClassKind::Bdev, "kdev", config)
        .nonsense(json!({ "bdev_list": ["sdb"] }))
        .nonsense(json!({ "bdev_list": [device.path(), device.path()] }))
        .nonsense(json!({ "bdev_list": [] }));
    target
        .settings
        .insert("io_engine".to_owned(), json!(engine));
    target.overwrite_foreign = true;
    target.built_in = built_in;
    check(plugin(), target);
}

#[test]
fn every_promise_is_kept_on_io_uring_with_blocks_of_512() {
    run(table::<BdevKdev>, 512, "uring", true);
}

#[test]
fn every_promise_is_kept_on_io_uring_with_blocks_of_4096() {
    run(table::<BdevKdev>, 4096, "uring", true);
}

#[test]
fn every_promise_is_kept_on_threads() {
    run(table::<BdevKdev>, 512, "threads", true);
}

#[test]
fn every_promise_is_kept_by_the_shared_object() {
    run(|| shared_object::load("bdev-kdev-so"), 4096, "auto", false);
}
