//! A plugin in C, built with `cc` and the header alone, through the loader.

use daos_kit::scaffold::Plan;
use daos_loader::{LoadError, PluginFile, Policy, load};
use daos_plugin_api::abi::{ABI_MAJOR, ABI_MINOR, C_ENTRY, CEntry};
use daos_plugin_api::control::{ClassRequest, DeviceSpec};
use daos_plugin_api::host::{CallOptions, Instance, InstanceOptions};
use daos_plugin_api::sdk::Error;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// What `plugin new bdev-NAME --c` writes, with warnings as errors; `change` has a last word on the source.
fn build(
    dir: &TempDir,
    name: &str,
    flags: &[&str],
    change: impl FnOnce(String) -> String,
) -> PathBuf {
    let place = dir.path().join(name);
    let plan = Plan::new(&format!("bdev-{name}"), true, Some(&place), None).unwrap();
    plan.write().unwrap();
    let source = place.join("plugin.c");
    let text = change(std::fs::read_to_string(&source).unwrap());
    std::fs::write(&source, text).unwrap();
    let built = place.join(plan.built());
    let strict = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic"];
    let status = Command::new("cc")
        .args(strict)
        .args(["-O1", "-fPIC", "-shared", "-o"])
        .args([&built, &source])
        .args(flags)
        .status()
        .expect("a C compiler");
    assert!(status.success());
    built
}

fn instance(file: &Path) -> Result<Instance, Error> {
    let policy = Policy::default();
    let info = PluginFile::inspect(file, &policy).unwrap();
    let loaded = load(&info, &policy).unwrap();
    Instance::create(loaded.table, InstanceOptions::loaded())
}

fn devices(instance: &Instance, class: &str) -> Vec<DeviceSpec> {
    let config = json!({"bdev_number": 2, "bdev_size_mib": 1});
    let request = ClassRequest {
        class: class.to_owned(),
        config: config.as_object().unwrap().clone(),
    };
    instance.devices(&request, CallOptions::default()).unwrap()
}

#[test]
fn a_plugin_in_c_is_inspected_and_loaded() {
    let dir = tempfile::tempdir().unwrap();
    for (name, flags) in [
        ("plain", &[][..]),
        (
            "stripped",
            &["-s", "-Wl,--gc-sections", "-ffunction-sections"],
        ),
    ] {
        let file = build(&dir, name, flags, |text| text);
        let info = PluginFile::inspect(&file, &Policy::default()).unwrap();
        let expected = format!("bdev-{name}");
        assert_eq!((info.name(), info.rust), (expected.as_str(), false));
        assert!(info.manifest.classes[0].ephemeral);
        assert_eq!(devices(&instance(&file).unwrap(), name).len(), 2);
    }
}

#[test]
fn a_plugin_in_c_has_no_table_for_a_host_of_another_major() {
    let dir = tempfile::tempdir().unwrap();
    let file = build(&dir, "major", &[], |text| text);
    // SAFETY: the sample has no initialisers.
    let library = unsafe { libloading::Library::new(&file) }.unwrap();
    // SAFETY: the symbol's name promises this type, and the entry takes any version.
    let [own, other] = unsafe {
        let entry = library.get::<CEntry>(C_ENTRY.as_bytes()).unwrap();
        [entry(ABI_MAJOR, ABI_MINOR), entry(ABI_MAJOR + 1, 0)]
    };
    assert!(!own.is_null() && other.is_null());
}

const CONTROL: &str = ".size = sizeof control,";

/// The present header, the first version's size: what a plugin of the first version looks like.
#[test]
fn a_table_of_the_first_version_serves_without_what_came_later() {
    let dir = tempfile::tempdir().unwrap();
    let file = build(&dir, "first", &[], |text| {
        assert!(text.contains(CONTROL));
        text.replace(
            CONTROL,
            ".size = offsetof(daos_control_table, quiesce), .quiesce = devices,",
        )
    });
    let instance = instance(&file).unwrap();
    let device = devices(&instance, "first").remove(0);
    // What lies behind the end of the table is not looked at.
    let error = instance.quiesce(&device, CallOptions::default());
    let error = error.unwrap_err();
    assert!(error.to_string().contains("not supported"), "{error}");
    drop(instance.open_bdev(&device, CallOptions::default()).unwrap());
}

#[test]
fn a_table_that_is_too_short_is_refused_by_both_versions_and_the_member() {
    let dir = tempfile::tempdir().unwrap();
    let file = build(&dir, "short", &[], |text| {
        text.replace(CONTROL, ".size = offsetof(daos_control_table, firmware),")
    });
    let text = instance(&file).err().expect("refused").to_string();
    println!("{text}");
    for part in [
        &format!("{ABI_MAJOR}.{ABI_MINOR} of the plugin"),
        &format!("{ABI_MAJOR}.{ABI_MINOR} of this host"),
        "`ControlTable.firmware`",
    ] {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
    assert!(text.len() < 350 && !text.contains('\n'), "{text}");

    let file = build(&dir, "root", &[], |text| {
        let root = ".size = sizeof table,";
        assert!(text.contains(root));
        text.replace(root, ".size = offsetof(daos_plugin_table, scm),")
    });
    let policy = Policy::default();
    let info = PluginFile::inspect(&file, &policy).unwrap();
    let error = load(&info, &policy).unwrap_err();
    assert!(matches!(error, LoadError::Entry { .. }), "{error}");
    assert!(error.to_string().contains("`PluginTable.scm`"), "{error}");
}

/// The file is loaded by its path, not through a descriptor: `$ORIGIN` is where it lies, also behind a link.
#[test]
fn what_lies_beside_a_plugin_is_found_when_it_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let lib = dir.path().join("lib");
    std::fs::create_dir(&lib).unwrap();
    let beside = lib.join("libbeside.so");
    let source = lib.join("beside.c");
    std::fs::write(
        &source,
        "int beside(void); int beside(void) { return 1; }\n",
    )
    .unwrap();
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&beside, &source])
        .status()
        .expect("a C compiler");
    assert!(status.success());
    let search = format!("-L{}", lib.display());
    let flags = [
        &search,
        "-lbeside",
        "-Wl,--enable-new-dtags,-rpath,$ORIGIN/../lib",
    ];
    let file = build(&dir, "origin", &flags, |text| {
        text + "\nextern int beside(void);\nint use_it(void);\nint use_it(void) { return beside(); }\n"
    });
    let link = dir.path().join("link.so");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    for path in [&file, &link] {
        assert_eq!(devices(&instance(path).unwrap(), "origin").len(), 2);
    }
    // And held to the same rules as the plugin.
    fixture_files::chmod(&beside, 0o666);
    let refusal = PluginFile::inspect(&link, &Policy::default()).unwrap_err();
    assert!(refusal.to_string().contains("libbeside.so"), "{refusal}");
}

#[test]
fn a_runtime_that_is_there_already_is_not_brought_again() {
    let dir = tempfile::tempdir().unwrap();
    let policy = Policy::default();
    let bringing = |name: &str, runtimes: &str| {
        let file = build(&dir, name, &[], |text| {
            let vendor = r#"\"vendor\":"#;
            assert!(text.contains(vendor));
            text.replacen(
                vendor,
                &format!(r#"\"exclusive\":[{runtimes}],{vendor}"#),
                1,
            )
        });
        load(&PluginFile::inspect(&file, &policy).unwrap(), &policy)
    };
    let first = bringing("first-eal", r#"\"test-eal\""#).unwrap();
    // The same plugin again brings nothing new.
    load(&first.info, &policy).unwrap();
    let error = bringing("second-eal", r#"\"another\",\"test-eal\""#).unwrap_err();
    for word in ["bdev-first-eal", "bdev-second-eal", "`test-eal`"] {
        assert!(error.to_string().contains(word), "{error}");
    }
    // Nothing of one that was refused is taken.
    bringing("third-eal", r#"\"another\""#).unwrap();
}
