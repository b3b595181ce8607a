//! `plugin new`: what it writes builds out of this tree and passes the suite.

use daos_kit::check::{self, Options};
use daos_kit::scaffold::{NotWritten, Plan, Written};
use daos_kit::{Choice, Helper, choose};
use daos_loader::{PluginFile, Policy};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
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
        let start = Instant::now();
        let status = Command::new("make")
            .current_dir(&written.directory)
            // As the Makefile has them, so that a vendor's first build has no warning.
            .env("CFLAGS", "-O2 -g -Werror")
            .status()
            .expect("make runs");
        assert!(status.success(), "{kind}: make failed");
        // It takes one.
        assert!(start.elapsed() < Duration::from_secs(60), "{kind}");
        must_pass(&written.directory.join(plan.built()), kind, at_least);
    }
}

/// Most processor time of a build from nothing, in seconds: below a minute for whoever has a processor to spare. How long it takes
/// is the machine's doing as well, so this is asked with `SOAK=1` alone, on a machine that is known.
const BUILD: f64 = 60.0;
/// Most crates that such a build compiles, which does not depend on the machine.
const CRATES: usize = 43;

/// What a build made.
struct Built {
    file: PathBuf,
    /// Seconds of processor time.
    seconds: f64,
    /// Names of the crates that were compiled.
    crates: Vec<String>,
}

/// Builds as the README says, with the dependencies that this repository is locked to.
fn build(directory: &Path, target: &Path, object: &str) -> Built {
    std::fs::copy(root().join("Cargo.lock"), directory.join("Cargo.lock")).expect("the lock file");
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let timed = r#"TIMEFORMAT="%U %S"; time "$@""#;
    let made = Command::new("bash")
        .args(["-c", timed, "bash"])
        .arg(cargo)
        .args(["build", "--release", "--offline", "--color=never"])
        .current_dir(directory)
        .env("CARGO_TARGET_DIR", target)
        .env("RUSTFLAGS", "-D warnings")
        .env("LC_ALL", "C")
        .env_remove("CARGO_TERM_QUIET")
        .output()
        .expect("bash runs");
    let told = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{}: {told}", directory.display());
    let figures = told.lines().last().unwrap_or_default();
    let seconds = figures
        .split(' ')
        .map(|n| n.parse::<f64>().expect("seconds"));
    let compiled = told.lines().filter_map(|line| {
        let name = line.trim().strip_prefix("Compiling ")?.split(' ').next();
        name.map(str::to_owned)
    });
    Built {
        file: target.join("release").join(object),
        seconds: seconds.sum(),
        crates: compiled.collect(),
    }
}

#[test]
fn crates_build_out_of_the_tree_from_few_others_and_pass() {
    let dir = tempfile::tempdir().expect("a directory");
    let target = dir.path().join("target");
    for (kind, at_least) in KINDS.into_iter().zip([46, 27, 43]) {
        let name = format!("{kind}-acme");
        let (plan, written) = write(&dir, &name, false, None);
        let object = plan.built();
        let object = Path::new(&object).file_name().expect("a file");
        let built = build(&written.directory, &target, &object.to_string_lossy());
        let (seconds, crates) = (built.seconds, &built.crates);
        println!(
            "{kind}: {seconds} s of processor time, {} crates",
            crates.len()
        );
        assert!(crates.contains(&name), "{crates:?}");
        // The first one builds what all of them need, the others have little of their own.
        let most = if kind == KINDS[0] { CRATES } else { 2 };
        assert!(
            crates.len() <= most,
            "{kind}: {} crates: {crates:?}",
            crates.len()
        );
        if std::env::var_os("SOAK").is_some() {
            assert!(seconds < BUILD, "{kind}: {seconds} s of processor time");
        }
        must_pass(&built.file, kind, at_least);
    }
    // Against a checkout of the interface.
    let api = root().join("plugin-api");
    let (_, written) = write(&dir, "bdev-other", false, Some(&api));
    assert!(!written.directory.join("daos-plugin-api").exists());
    let built = build(&written.directory, &target, "libbdev_other.so");
    must_pass(&built.file, "bdev", 46);
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
