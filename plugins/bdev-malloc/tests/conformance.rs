//! The plugin keeps every promise of its class, linked in and from its shared object.

use bdev_malloc::BdevMalloc;
use bdev_model::shared_object;
use daos_plugin_api::conformance::{Target, check};
use daos_plugin_api::control::ClassKind;
use daos_plugin_api::sdk::thunks::table;
use serde_json::json;

fn target(block_size: u32) -> Target {
    let mut target = Target::new(ClassKind::Bdev, "malloc", json!({ "bdev_size_mib": 64 }))
        .nonsense(json!({}))
        .nonsense(json!({ "bdev_size": 0 }))
        .nonsense(json!({ "bdev_size": 1, "bdev_number": 65 }));
    target
        .settings
        .insert("block_size".to_owned(), json!(block_size));
    target
}

#[test]
fn every_promise_is_kept_with_blocks_of_4096() {
    check(table::<BdevMalloc>(), target(4096));
}

#[test]
fn every_promise_is_kept_with_blocks_of_512() {
    check(table::<BdevMalloc>(), target(512));
}

#[test]
fn every_promise_is_kept_by_the_shared_object() {
    check(shared_object::load("bdev-malloc-so"), target(4096).loaded());
}
