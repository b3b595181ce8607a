//! The plugin keeps every promise of its class in a directory: with `msync` on whatever file system the
//! build is on, and with the processor's instructions.

use daos_plugin_api::conformance::{Target, check};
use daos_plugin_api::control::ClassKind;
use daos_plugin_api::sdk::thunks;
use scm_dcpm::ScmDcpm;
use serde_json::{Map, Value, json};
use std::path::Path;
use tempfile::TempDir;

fn run(base: &Path, persist: &str) {
    let dir = TempDir::with_prefix_in("scm-dcpm-test-", base).expect("temp dir");
    let mount = dir.path().join("storage");
    let config = json!({"scm_mount": mount, "scm_list": [dir.path()], "scm_size_mib": 24});
    let mut target = Target::new(ClassKind::Scm, "dcpm", config)
        .nonsense(json!({"scm_mount": mount, "scm_list": [dir.path()]}))
        .nonsense(json!({"scm_mount": "/elsewhere", "scm_list": [dir.path()], "scm_size": 1}))
        .nonsense(json!({"scm_mount": mount, "scm_list": [dir.path(), "/mnt"], "scm_size": 1}));
    target.settings = Map::from_iter([("persist".to_owned(), Value::from(persist))]);
    check(thunks::table::<ScmDcpm>(), target);
}

#[test]
fn a_directory_of_an_ordinary_file_system_keeps_every_promise() {
    run(Path::new(env!("CARGO_TARGET_TMPDIR")), "auto");
}

#[test]
fn a_directory_made_durable_by_cache_lines_keeps_every_promise() {
    run(Path::new("/dev/shm"), "cache_lines");
}
