//! Loads a plugin's shared object, so that the same suites run on it.

use daos_plugin_api::abi::{ABI_MAJOR, ABI_MINOR, C_ENTRY, CEntry, PluginTable};
use libloading::Library;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

/// Builds package `package` of this workspace, whose product is a `cdylib`, with the profile of
/// this test.
///
/// # Panics
/// If it does not build.
pub fn build(package: &str) -> PathBuf {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["build", "--quiet", "--message-format=json", "-p", package]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let output = cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| Some(message["filenames"].as_array()?.clone()))
        .flatten()
        .filter_map(|name| Some(PathBuf::from(name.as_str()?)))
        .rfind(|path| path.extension().is_some_and(|extension| extension == "so"))
        .expect("a shared object")
}

/// Builds and loads it, by the entry that C plugins have, too. It stays loaded.
///
/// # Panics
/// If it does not build, load, or serve a host of this version.
pub fn load(package: &str) -> &'static PluginTable {
    let path = build(package);
    // SAFETY: a plugin of this workspace; loading it runs no code but that of its runtime.
    let library = unsafe { Library::new(&path) }.unwrap_or_else(|e| panic!("{path:?}: {e}"));
    // SAFETY: the symbol of this name has this type in every plugin.
    let entry = *unsafe { library.get::<CEntry>(C_ENTRY.as_bytes()) }.expect("the entry");
    std::mem::forget(library); // tables are used until the process ends
    // SAFETY: the entry takes the host's version and returns a static table or null.
    unsafe { entry(ABI_MAJOR, ABI_MINOR).as_ref() }.expect("it serves this version")
}
