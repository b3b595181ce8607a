//! Plugins of every kept release of the interface work in today's host, and today's sample builds against
//! the oldest one.

use daos_kit::check::{self, Options};
use daos_kit::scaffold::Plan;
use daos_kit::{Choice, Helper, choose};
use daos_loader::{AbiVersion, PluginFile, Policy};
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Kept releases, the oldest first.
fn releases() -> Vec<(AbiVersion, PathBuf)> {
    let mut found: Vec<_> = std::fs::read_dir(root().join("tests/abi"))
        .expect("the kept releases")
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let (major, minor) = name.split_once('.').expect("a version");
            let number = |text: &str| text.parse().expect("a number");
            let version = AbiVersion {
                major: number(major),
                minor: number(minor),
            };
            (version, entry.path())
        })
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no release is kept");
    found
}

fn must_pass(file: &Path, version: Option<AbiVersion>) {
    let dir = tempfile::tempdir().expect("a directory");
    // A checkout may lie where others can write, which a host refuses.
    let copy = dir.path().join("libsample.so");
    std::fs::copy(file, &copy).expect("a copy");
    fixture_files::chmod(&copy, 0o644);
    let info = PluginFile::inspect(&copy, &Policy::default())
        .unwrap_or_else(|why| panic!("{}: {why}", file.display()));
    if let Some(version) = version {
        assert_eq!(info.abi, version, "{}", file.display());
    }
    let subject = choose(&info, &Choice::default()).expect("the schema has an example");
    let helper = Helper {
        program: env!("CARGO_BIN_EXE_daos_server_helper").into(),
        log_level: "info".to_owned(),
    };
    let report = check::run(&helper, &subject, &Options::default(), &mut |_| ())
        .unwrap_or_else(|why| panic!("{}: {why}", file.display()));
    assert!(report.is_ok(), "{}: {}", file.display(), report.summary());
    assert!(
        report.passed >= 45,
        "{}: {}",
        file.display(),
        report.summary()
    );
}

#[test]
fn binaries_of_every_release_pass_in_todays_host() {
    for (version, place) in releases() {
        must_pass(&place.join("libsample_rust.so"), Some(version));
        must_pass(&place.join("libsample_c.so"), Some(version));
    }
}

#[test]
fn todays_release_is_kept_or_newer_than_all_that_are() {
    let (newest, _) = releases().pop().expect("one");
    assert!(AbiVersion::HOST >= newest);
}

#[test]
fn todays_sample_builds_against_the_oldest_release_and_passes() {
    let (version, place) = releases().remove(0);
    let dir = tempfile::tempdir().expect("a directory");
    let archive = std::fs::read_dir(&place)
        .expect("the release")
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "crate"))
        .expect("its crate");
    let unpacked = Command::new("tar")
        .arg("-xzf")
        .arg(&archive)
        .arg("-C")
        .arg(dir.path())
        .status()
        .expect("tar runs");
    assert!(unpacked.success());
    let api = dir.path().join(archive.file_stem().expect("a name"));
    let sample = dir.path().join("sample");
    let plan = Plan::new("bdev-acme", false, Some(&sample), Some(&api)).expect("a plan");
    plan.write().expect("written");
    std::fs::copy(root().join("Cargo.lock"), sample.join("Cargo.lock")).expect("the lock file");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kit-new");
    let status = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["build", "--quiet", "--offline"])
        .current_dir(&sample)
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTFLAGS", "-D warnings")
        .status()
        .expect("cargo runs");
    assert!(
        status.success(),
        "the sample does not build against {version}"
    );
    must_pass(&target.join("debug/libbdev_acme.so"), Some(version));
}
