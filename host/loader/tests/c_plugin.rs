//! The plugin in C, built with `cc` and the header alone, through the loader.

use daos_loader::{PluginFile, Policy, load};
use daos_plugin_api::control::ClassRequest;
use daos_plugin_api::host::{CallOptions, Instance, InstanceOptions};
use serde_json::json;
use std::path::Path;
use std::process::Command;

#[test]
fn a_plugin_in_c_is_inspected_and_loaded() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let scratch = tempfile::tempdir().unwrap();
    let plugin = scratch.path().join("libdaos_c_malloc.so");
    let status = Command::new("cc")
        .args(["-std=c11", "-O2", "-shared", "-fPIC", "-I"])
        .arg(root.join("plugin-api/include"))
        .arg("-o")
        .args([&plugin, &root.join("tests/c/malloc.c")])
        .status()
        .expect("a C compiler");
    assert!(status.success());
    let policy = Policy::default();
    let info = PluginFile::inspect(&plugin, &policy).unwrap();
    assert_eq!((info.name(), info.rust), ("c-malloc", false));
    let loaded = load(&info, &policy).unwrap();
    let instance = Instance::create(loaded.table, InstanceOptions::loaded()).unwrap();
    let config = json!({"bdev_number": 2, "bdev_size_mib": 1});
    let request = ClassRequest {
        class: "c-malloc".to_owned(),
        config: config.as_object().unwrap().clone(),
    };
    assert_eq!(
        instance
            .devices(&request, CallOptions::default())
            .unwrap()
            .len(),
        2
    );
}
