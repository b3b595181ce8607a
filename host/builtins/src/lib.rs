//! The plugins that are linked into this project's programs, so that a machine without
//! `plugins_dir` has a complete set.
//!
//! Registration happens at the start of the process, by `inventory`; the linker drops a crate that
//! nothing refers to, registration and all. Hence the references below, and hence the tests: one for
//! the usual profiles, `tests/builtins-lto` for link-time optimisation.

use bdev_file as _;
use bdev_kdev as _;
use bdev_malloc as _;
use daos_plugin_api::sdk::BuiltIn;
use fabric_tcp as _;
use scm_ram as _;

/// Names of the built-in plugins, sorted.
pub const NAMES: &[&str] = &[
    "bdev-file",
    "bdev-kdev",
    "bdev-malloc",
    "fabric-tcp",
    "scm-ram",
];

/// The built-in plugins, by name. Only helpers and engines call their tables; the daemon reads their
/// manifests.
pub fn all() -> Vec<&'static BuiltIn> {
    let mut all: Vec<_> = daos_plugin_api::sdk::built_ins().collect();
    all.sort_by_key(|b| name(b));
    all
}

/// Name of a built-in, empty if its manifest is broken.
pub fn name(built_in: &BuiltIn) -> String {
    serde_json::from_str::<daos_plugin_api::control::Manifest>(built_in.manifest)
        .map(|manifest| manifest.name)
        .unwrap_or_default()
}
