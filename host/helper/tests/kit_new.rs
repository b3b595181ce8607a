//! `plugin new`: what it writes builds out of this tree and passes the suite.

use daos_kit::check::{self, Options};
use daos_kit::scaffold::{NotWritten, Plan, Written};
use daos_kit::{Choice, Helper, choose};
use daos_loader::{PluginFile, Policy};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const KINDS: [&str; 3] = ["bdev", "scm", "fabric"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn write(dir: &TempDir, name: &str, is_c: bool, api: Option<&Path>) -> (Plan, Written) {
    let place = dir.path().join(name);
    let plan = Plan::new(name, is_c, Some(&place), api).expect("a plan");
    let written = plan.write().expect("written");
    (plan, written)
}

fn must_pass(file: &Path, kind: &str, at_least: usize) {
    let info = PluginFile::inspect(file, &Policy::default()).expect("a plugin");
    let memory = TempDir::with_prefix_in("kit-new-", "/dev/shm").expect("a tmpfs");
    let choice = Choice {
        devices: match kind {
            "scm" => vec![memory.path().join("scm").display().to_string()],
            _ => Vec::new(),
        },
        ..Choice::default()
    };
    let subject = choose(&info, &choice).expect("the schema has an example");
    let helper = Helper {
        program: env!("CARGO_BIN_EXE_daos_server_helper").into(),
        log_level: "info".to_owned(),
    };
    let report = check::run(&helper, &subject, &Options::default(), &mut |_| ()).expect("a report");
    println!("{}", report.summary());
    assert!(report.is_ok(), "{}", report.summary());
    assert!(report.passed >= at_least, "{}", report.summary());
}

#[test]
fn plugins_in_c_need_the_systems_compiler_alone_and_pass() {
    let dir = tempfile::tempdir().expect("a directory");
    for (kind, at_least) in KINDS.into_iter().zip([45, 27, 43]) {
        let (plan, written) = write(&dir, &format!("{kind}-acme"), true, None);
        assert_eq!(
            written.files,
            ["plugin.c", "daos_plugin.h", "Makefile", "README.md"]
        );
        let status = Command::new("make")
            .current_dir(&written.directory)
            // As the Makefile has them, so that a vendor's first build has no warning.
            .env("CFLAGS", "-O2 -g -Werror")
            .status()
            .expect("make runs");
        assert!(status.success(), "{kind}: make failed");
        must_pass(&written.directory.join(plan.built()), kind, at_least);
    }
}

/// Builds with the dependencies that this repository is locked to, all in one place: they are the same for all.
fn build(directory: &Path, file: &str) -> PathBuf {
    std::fs::copy(root().join("Cargo.lock"), directory.join("Cargo.lock")).expect("the lock file");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kit-new");
    let status = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["build", "--quiet", "--offline"])
        .current_dir(directory)
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTFLAGS", "-D warnings")
        .status()
        .expect("cargo runs");
    assert!(status.success(), "{}: cargo failed", directory.display());
    target.join("debug").join(file)
}

#[test]
fn crates_build_out_of_the_tree_and_pass() {
    let dir = tempfile::tempdir().expect("a directory");
    for (kind, at_least) in KINDS.into_iter().zip([46, 27, 43]) {
        let name = format!("{kind}-acme");
        let (plan, written) = write(&dir, &name, false, None);
        let object = plan.built();
        let object = Path::new(&object).file_name().expect("a file");
        let file = build(&written.directory, &object.to_string_lossy());
        must_pass(&file, kind, at_least);
    }
    // Against a checkout of the interface.
    let api = root().join("plugin-api");
    let (_, written) = write(&dir, "bdev-other", false, Some(&api));
    assert!(!written.directory.join("daos-plugin-api").exists());
    must_pass(&build(&written.directory, "libbdev_other.so"), "bdev", 46);
}

#[test]
fn nothing_is_written_over() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path().join("mine");
    std::fs::create_dir(&place).expect("writable");
    std::fs::write(place.join("README.md"), "precious").expect("writable");
    let plan = Plan::new("bdev-acme", true, Some(&place), None).expect("a plan");
    let error = plan.write().expect_err("it exists");
    assert!(matches!(error, NotWritten::Exists(_)), "{error}");
    let kept = std::fs::read_to_string(place.join("README.md")).expect("still there");
    assert_eq!(kept, "precious");
    let nowhere = Plan::new("bdev-acme", false, None, Some(dir.path()));
    assert!(matches!(nowhere, Err(NotWritten::NoInterface(_))));
}
