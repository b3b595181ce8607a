//! Loading for real, into this process.

use daos_loader::{LoadError, PluginFile, PluginInfo, Policy, load};
use daos_plugin_api::abi::Status;
use daos_plugin_api::host::{CallOptions, Instance, InstanceOptions};
use fixture_files::{HOSTILE, RAW, chmod, install, patch_note, put, replace};
use serde_json::json;

fn inspect(path: &std::path::Path) -> PluginInfo {
    PluginFile::inspect(path, &Policy::default()).unwrap()
}

#[test]
fn two_files_give_two_tables() {
    let dir = tempfile::tempdir().unwrap();
    let first = install(HOSTILE, dir.path(), "a.so");
    let second = install(HOSTILE, dir.path(), "b.so");
    replace(&second, b"fixture-hostile\",", b"fixture-another\",");
    let policy = Policy::default();
    let first = load(&inspect(&first), &policy).unwrap();
    let second = load(&inspect(&second), &policy).unwrap();
    assert_eq!(first.info.name(), "fixture-hostile");
    assert_eq!(second.info.name(), "fixture-another");
    assert!(!std::ptr::eq(first.table, second.table));
    let create = |table| Instance::create(table, InstanceOptions::loaded()).unwrap();
    assert_eq!(create(first.table).manifest().name, "fixture-hostile");
    assert_eq!(create(second.table).manifest().name, "fixture-another");
    // The same file again is the same library.
    let again = load(&first.info, &policy).unwrap();
    assert!(std::ptr::eq(first.table, again.table));
}

#[test]
fn a_plugin_without_the_sdk_loads_through_the_c_entry() {
    let dir = tempfile::tempdir().unwrap();
    let path = install(RAW, dir.path(), "raw.so");
    let loaded = load(&inspect(&path), &Policy::default()).unwrap();
    let settings = json!({"answer": r#"{"devices":[],"notes":["hello"]}"#});
    let options = InstanceOptions::loaded().settings(settings.as_object().unwrap().clone());
    let instance = Instance::create(loaded.table, options).unwrap();
    assert_eq!(
        instance.scan(CallOptions::default()).unwrap().notes,
        ["hello"]
    );
}

#[test]
fn a_loaded_plugin_keeps_its_panics() {
    let dir = tempfile::tempdir().unwrap();
    let path = install(HOSTILE, dir.path(), "h.so");
    let loaded = load(&inspect(&path), &Policy::default()).unwrap();
    let settings = json!({"on": {"scan": "panic"}});
    let options = InstanceOptions::loaded().settings(settings.as_object().unwrap().clone());
    let instance = Instance::create(loaded.table, options).unwrap();
    let error = instance.scan(CallOptions::default()).unwrap_err();
    assert_eq!(error.status, Status::PANIC);
    assert!(error.to_string().contains("as the settings say"), "{error}");
}

#[test]
fn a_file_replaced_after_inspection_is_not_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let path = install(HOSTILE, dir.path(), "a.so");
    let info = inspect(&path);
    // Would abort this process if it were mapped.
    put(dir.path(), "a.so.onload", b"abort");
    std::fs::remove_file(&path).unwrap();
    install(HOSTILE, dir.path(), "a.so");
    let error = load(&info, &Policy::default()).unwrap_err();
    assert!(
        matches!(&error, LoadError::Refused { reason, .. } if reason.code() == "changed"),
        "{error}"
    );
}

#[test]
fn a_file_that_lost_trust_after_inspection_is_not_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let path = install(HOSTILE, dir.path(), "a.so");
    let info = inspect(&path);
    put(dir.path(), "a.so.onload", b"abort");
    chmod(&path, 0o666);
    let error = load(&info, &Policy::default()).unwrap_err();
    assert!(
        matches!(&error, LoadError::Refused { reason, .. } if reason.code() == "writable"),
        "{error}"
    );
}

#[test]
fn a_note_that_claims_a_missing_entry_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = install(RAW, dir.path(), "raw.so");
    patch_note(&path, |note| note[4] |= 2);
    let error = load(&inspect(&path), &Policy::default()).unwrap_err();
    assert!(matches!(error, LoadError::Entry { .. }), "{error}");
    assert!(error.to_string().contains("no Rust entry"), "{error}");
}

#[test]
fn note_and_table_must_agree() {
    let dir = tempfile::tempdir().unwrap();
    let path = install(RAW, dir.path(), "raw.so");
    patch_note(&path, |note| {
        let at = note.windows(5).position(|w| w == b"tests").unwrap();
        note[at..at + 5].copy_from_slice(b"trust");
    });
    let error = load(&inspect(&path), &Policy::default()).unwrap_err();
    assert!(
        matches!(error, LoadError::ManifestDiffers { .. }),
        "{error}"
    );
    let path = install(RAW, dir.path(), "minor.so");
    patch_note(&path, |note| note[2] = 3);
    let error = load(&inspect(&path), &Policy::default()).unwrap_err();
    assert!(error.to_string().contains("1.3"), "{error}");
}
