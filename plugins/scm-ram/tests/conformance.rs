//! The plugin keeps every promise of its class, with and without the privilege to mount.

mod support;

use daos_plugin_api::conformance::{Target, check};
use daos_plugin_api::control::ClassKind;
use daos_plugin_api::sdk::thunks;
use scm_ram::ScmRam;
use serde_json::json;
use tempfile::TempDir;

fn run() {
    let dir = TempDir::with_prefix_in("scm-ram-test-", "/dev/shm").expect("a tmpfs at /dev/shm");
    let mount = dir.path().join("storage");
    let config = json!({"scm_mount": mount, "scm_size_mib": 32});
    let target = Target::new(ClassKind::Scm, "ram", config)
        .nonsense(json!({"scm_mount": mount, "scm_size": 0}))
        .nonsense(json!({"scm_mount": "relative", "scm_size": 1}))
        .nonsense(json!({"scm_mount": mount}))
        .nonsense(json!({"scm_size": 1}));
    check(thunks::table::<ScmRam>(), target);
    assert!(!mount.exists(), "the storage is given back");
}

#[test]
fn a_directory_of_a_tmpfs_keeps_every_promise() {
    support::unprivileged(run);
}

#[test]
fn a_tmpfs_of_its_own_keeps_every_promise() {
    support::privileged("a_tmpfs_of_its_own_keeps_every_promise", run);
}
