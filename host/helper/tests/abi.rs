//! Plugins of every kept release of the interface work in today's host, today's plugins in a host of the oldest one,
//! and today's sample builds against that.

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
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let (major, minor) = name.split_once('.')?;
            let version = AbiVersion {
                major: major.parse().ok()?,
                minor: minor.parse().ok()?,
            };
            Some((version, entry.path()))
        })
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no release is kept");
    found
}

/// What a sample of a kind must be able to do.
struct Kind {
    name: &'static str,
    /// Cases that it passes at least.
    cases: usize,
    /// Its class's config in a host that gives it as it stands; `DIR` stands for a directory in memory.
    config: &'static str,
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "bdev",
        cases: 45,
        config: r#"{"bdev_number": 2, "bdev_size_mib": 16}"#,
    },
    Kind {
        name: "scm",
        cases: 25,
        config: r#"{"scm_mount": "DIR/scm", "scm_size_mib": 32}"#,
    },
    Kind {
        name: "fabric",
        cases: 40,
        config: "{}",
    },
];

impl Kind {
    /// Cases that the kept binaries of a release are not held to. Samples of a fabric stayed inside one process until
    /// 1.1; what a sample of today does is not a question of the interface.
    fn skip(&self, kept: bool) -> Vec<glob::Pattern> {
        let cases: &[&str] = match (self.name, kept) {
            ("fabric", true) => &["peers.other_process"],
            _ => &[],
        };
        let pattern = |case: &&str| glob::Pattern::new(case).expect("a pattern");
        cases.iter().map(pattern).collect()
    }
}

/// A directory in memory, for the samples of SCM.
fn memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").expect("a directory in memory")
}

fn must_pass(kind: &Kind, file: &Path, version: Option<AbiVersion>) {
    let (dir, memory) = (tempfile::tempdir().expect("a directory"), memory());
    // A checkout may lie where others can write, which a host refuses.
    let copy = dir.path().join("libsample.so");
    std::fs::copy(file, &copy).expect("a copy");
    fixture_files::chmod(&copy, 0o644);
    let info = PluginFile::inspect(&copy, &Policy::default())
        .unwrap_or_else(|why| panic!("{}: {why}", file.display()));
    if let Some(version) = version {
        assert_eq!(info.abi, version, "{}", file.display());
    }
    let devices = match kind.name {
        "scm" => vec![memory.path().join("scm").display().to_string()],
        _ => Vec::new(),
    };
    let choice = Choice {
        devices,
        ..Choice::default()
    };
    let subject = choose(&info, &choice).expect("the schema has an example");
    let helper = Helper {
        program: env!("CARGO_BIN_EXE_daos_server_helper").into(),
        log_level: "info".to_owned(),
    };
    let options = Options {
        skip: kind.skip(file.starts_with(root().join("tests/abi"))),
        ..Options::default()
    };
    let report = check::run(&helper, &subject, &options, &mut |_| ())
        .unwrap_or_else(|why| panic!("{}: {why}", file.display()));
    assert!(report.is_ok(), "{}: {}", file.display(), report.summary());
    println!("{}: {}", file.display(), report.summary());
    assert!(
        report.passed >= kind.cases,
        "{}: {}",
        file.display(),
        report.summary()
    );
}

#[test]
fn binaries_of_every_release_pass_in_todays_host() {
    for (version, place) in releases() {
        for kind in &KINDS {
            for language in ["rust", "c"] {
                let file = place.join(format!("lib{}_{language}.so", kind.name));
                must_pass(kind, &file, Some(version));
            }
        }
    }
}

#[test]
fn todays_release_is_kept_or_newer_than_all_that_are() {
    let (newest, _) = releases().pop().expect("one");
    assert!(AbiVersion::HOST >= newest);
}

/// A directory of these tests that stays where it is: cargo builds anew what has moved.
fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("abi")
        .join(name)
}

fn empty(place: &Path) {
    match std::fs::remove_dir_all(place) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            panic!("{}: {error}", place.display())
        }
        _ => std::fs::create_dir_all(place.parent().expect("a parent")).expect("a directory"),
    }
}

/// The crate of a release, unpacked below `place`.
fn unpack(release: &Path, place: &Path) -> PathBuf {
    let archive = std::fs::read_dir(release)
        .expect("the release")
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "crate"))
        .expect("its crate");
    std::fs::create_dir_all(place).expect("a directory");
    let unpacked = Command::new("tar")
        .arg("-xzf")
        .arg(&archive)
        .arg("-C")
        .arg(place)
        .status()
        .expect("tar runs");
    assert!(unpacked.success());
    place.join(archive.file_stem().expect("a name"))
}

/// Builds a crate out of this tree with the dependencies that this tree is locked to, and all such crates in one
/// place: their dependencies are the same. Returns the directory of what was built.
fn build(directory: &Path) -> PathBuf {
    std::fs::copy(root().join("Cargo.lock"), directory.join("Cargo.lock")).expect("the lock file");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kit-new");
    let status = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["build", "--quiet", "--offline"])
        .current_dir(directory)
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTFLAGS", "-D warnings")
        .status()
        .expect("cargo runs");
    assert!(
        status.success(),
        "{} does not build there",
        directory.display()
    );
    target.join("debug")
}

/// What `plugin new` writes today: in Rust on the interface crate in `api`, or in C on the header there.
fn sample(name: &str, is_c: bool, api: &Path) -> PathBuf {
    let directory = place(name);
    empty(&directory);
    let api = api.canonicalize().expect("the interface");
    let plan = Plan::new(name, is_c, Some(&directory), Some(&api)).expect("a plan");
    plan.write().expect("written");
    if !is_c {
        return build(&directory).join(format!("lib{}.so", name.replace('-', "_")));
    }
    let header = "include/daos_plugin.h";
    std::fs::copy(api.join(header), directory.join("daos_plugin.h")).expect("the header");
    let made = Command::new("make")
        .env("CFLAGS", "-O2 -Werror")
        .current_dir(&directory)
        .status()
        .expect("make runs");
    assert!(made.success());
    directory.join(plan.built())
}

#[test]
fn todays_samples_build_against_the_oldest_release_and_pass() {
    let (version, release) = releases().remove(0);
    let api = unpack(&release, &place("sdk"));
    for kind in &KINDS {
        let rust = sample(&format!("{}-oldest", kind.name), false, &api);
        must_pass(kind, &rust, Some(version));
        let c = sample(&format!("{}-oldest-c", kind.name), true, &api);
        must_pass(kind, &c, Some(version));
    }
}

#[test]
fn todays_plugins_run_in_a_host_of_the_oldest_release() {
    let (version, release) = releases().remove(0);
    let directory = place("host");
    empty(&directory);
    let host = directory.join("abi-host");
    std::fs::create_dir_all(host.join("src")).expect("a directory");
    for file in ["Cargo.toml", "src/main.rs"] {
        let kept = root().join("tests/abi/host").join(file);
        std::fs::copy(kept, host.join(file)).expect("a copy");
    }
    let api = unpack(&release, &directory);
    std::fs::rename(api, directory.join("interface")).expect("renamed");
    let host = build(&host).join("abi-host");

    let api = root().join("plugin-api");
    for kind in &KINDS {
        let rust = sample(&format!("{}-today", kind.name), false, &api);
        let c = sample(&format!("{}-today-c", kind.name), true, &api);
        for (entry, file, class) in [
            ("rust", &rust, "today"),
            ("c", &rust, "today"),
            ("c", &c, "today-c"),
        ] {
            let memory = memory();
            let config = kind
                .config
                .replace("DIR", &memory.path().display().to_string());
            let run = Command::new(&host)
                .args([
                    entry,
                    &file.display().to_string(),
                    kind.name,
                    class,
                    &config,
                ])
                .output()
                .expect("the host runs");
            let text = String::from_utf8_lossy(&run.stdout).into_owned();
            let said = String::from_utf8_lossy(&run.stderr);
            let what = format!("{entry} {} {class}", kind.name);
            assert!(run.status.success(), "{what}: {text}{said}");
            let versions = format!("host {version}, plugin {}: ", AbiVersion::HOST);
            let last = text.lines().last().expect("a line");
            println!("{what}: {last}");
            let passed = last.strip_prefix(&versions).and_then(|rest| {
                let number = rest.strip_suffix(" cases passed")?;
                number.parse::<usize>().ok()
            });
            assert!(
                passed >= Some(kind.cases),
                "{what}: {last:?} does not begin with {versions:?} and {} cases",
                kind.cases
            );
        }
    }
}
