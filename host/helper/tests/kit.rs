//! `plugin check` and `plugin bench`: every plugin of this project passes, in a long run 20 times, and what a plugin does
//! to its process is the result of one case.

use bdev_model::machine::LoopDevice;
use bdev_model::shared_object;
use daos_kit::check::{self, NotChecked, Options, Report, Verdict};
use daos_kit::{Choice, Helper, Subject, bench, choose};
use daos_loader::{PluginFile, Policy};
use fixture_files::{HOSTILE, built};
use serde_json::{Map, Value, json};
use std::path::Path;
use std::time::Duration;

fn helper() -> Helper {
    Helper {
        program: env!("CARGO_BIN_EXE_daos_server_helper").into(),
        log_level: "info".to_owned(),
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other} is no object"),
    }
}

fn subject(file: &Path, choice: &Choice) -> Subject {
    let info = PluginFile::inspect(file, &Policy::default()).expect("a plugin");
    choose(&info, choice).expect("a subject")
}

fn run(subject: &Subject, options: &Options) -> Report {
    check::run(&helper(), subject, options, &mut |_| ()).expect("a report")
}

/// How often the whole suite is run on a good plugin: once, or 20 times in a long run.
fn rounds() -> u32 {
    match std::env::var_os("SOAK") {
        Some(_) => 20,
        None => 1,
    }
}

fn must_pass(package: &str, choice: &Choice, options: &Options, at_least: usize) {
    let subject = subject(&shared_object::build(package), choice);
    let options = Options {
        repeat: rounds(),
        ..options.clone()
    };
    let report = run(&subject, &options);
    println!("{}", report.summary());
    assert!(report.is_ok(), "{}", report.summary());
    assert!(report.passed >= at_least, "{}", report.summary());
    let counted = report.passed + report.skipped + report.failed + report.not_run;
    assert_eq!(counted, report.cases.len(), "every case is counted");
}

fn refuse(configs: &[Value]) -> Options {
    Options {
        refuse: configs.iter().cloned().map(object).collect(),
        ..Options::default()
    }
}

#[test]
fn bdev_malloc_passes() {
    let config = json!({ "bdev_size_mib": 64, "bdev_number": 2 });
    let choice = Choice {
        config: object(config),
        ..Choice::default()
    };
    let options = refuse(&[json!({}), json!({ "bdev_size": 0 })]);
    must_pass("bdev-malloc-so", &choice, &options, 50);
    // All in one process, as in an engine.
    let together = Options {
        together: true,
        ..options
    };
    must_pass("bdev-malloc-so", &choice, &together, 50);
}

#[test]
fn bdev_file_passes() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let file = |name: &str| dir.path().join(name).display().to_string();
    let choice = Choice {
        devices: vec![file("one.img"), file("two.img")],
        config: object(json!({ "bdev_size_mib": 64 })),
        ..Choice::default()
    };
    must_pass("bdev-file-so", &choice, &refuse(&[json!({})]), 52);
}

#[test]
fn bdev_kdev_passes() {
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let Some(device) = LoopDevice::new("bdev_kdev_passes", parent, 64 << 20, 4096) else {
        return;
    };
    let choice = Choice {
        devices: vec![device.path().display().to_string()],
        overwrite_foreign: true,
        ..Choice::default()
    };
    must_pass("bdev-kdev-so", &choice, &refuse(&[json!({})]), 48);
}

#[test]
fn scm_ram_passes() {
    let dir = tempfile::TempDir::with_prefix_in("kit-scm-", "/dev/shm").expect("a tmpfs");
    let mount = dir.path().join("storage");
    let choice = Choice {
        devices: vec![mount.display().to_string()],
        config: object(json!({ "scm_size_mib": 32 })),
        ..Choice::default()
    };
    must_pass("scm-ram-so", &choice, &refuse(&[json!({})]), 28);
    assert!(!mount.exists(), "the storage is given back");
}

/// As a directory of a file system that there is: persistent memory itself is tried in the VM (`tests/vm`).
#[test]
fn scm_dcpm_passes_in_a_directory() {
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let dir = tempfile::tempdir_in(parent).expect("a directory");
    let mount = dir.path().join("storage");
    let config = json!({ "scm_list": [dir.path()], "scm_size_mib": 24 });
    let choice = Choice {
        devices: vec![mount.display().to_string()],
        config: object(config),
        ..Choice::default()
    };
    must_pass("scm-dcpm-so", &choice, &refuse(&[json!({})]), 30);
}

#[test]
fn what_needs_paths_and_is_given_none_gets_a_directory_for_the_time_of_the_check() {
    for (package, at_least) in [("bdev-file-so", 1), ("scm-ram-so", 1), ("scm-dcpm-so", 1)] {
        let subject = subject(&shared_object::build(package), &Choice::default());
        let paths = ["bdev_list", "scm_mount"].map(|key| subject.config.get(key).cloned());
        let ([Some(path), _] | [_, Some(path)]) = paths else {
            panic!("{:?}", subject.config);
        };
        let path = path.get(0).unwrap_or(&path).as_str().expect("a path");
        let directory = Path::new(path).parent().expect("its directory").to_owned();
        assert!(directory.is_dir());
        let report = run(&subject, &some("control.same_devices"));
        assert!(report.is_ok(), "{package}: {}", report.summary());
        assert!(report.passed > at_least, "{package}: {}", report.summary());
        drop(subject);
        assert!(!directory.exists(), "{}", directory.display());
    }
}

#[test]
fn what_is_not_said_and_cannot_be_guessed_is_asked_for() {
    for (package, config, words) in [
        (
            "bdev-kdev-so",
            json!({}),
            "needs bdev_list (Paths of block devices): give --device",
        ),
        (
            "scm-dcpm-so",
            json!({ "scm_mount": "/mnt/x" }),
            "storage that it finds where scm_list names none",
        ),
    ] {
        let file = shared_object::build(package);
        let info = PluginFile::inspect(&file, &Policy::default()).expect("a plugin");
        let choice = Choice {
            config: object(config),
            ..Choice::default()
        };
        let error = choose(&info, &choice).expect_err("nothing to run on");
        assert!(error.contains(words), "{package}: {error}");
    }
}

#[test]
fn fabric_tcp_passes() {
    let options = refuse(&[json!({ "fabric_iface": "no-such-0" })]);
    must_pass("fabric-tcp-so", &Choice::default(), &options, 42);
}

/// The suite over a provider of libfabric, by default the one that every machine has. What libfabric 1.17 itself cannot over
/// others is listed in `plugins/fabric-ofi/tests/conformance.rs`, which runs the suite over all of them.
fn ofi_passes(test: &str, class: Option<&str>, at_least: usize) {
    let file = shared_object::build("fabric-ofi-so");
    // Without libfabric's headers there is nothing in it.
    if PluginFile::read_manifest(&file).is_err() {
        println!("NOT RUN {test}: fabric-ofi was built without libfabric-dev");
        return;
    }
    let choice = Choice {
        class: class.map(str::to_owned),
        ..Choice::default()
    };
    let options = Options {
        // Some never end.
        deadline: Duration::from_secs(60),
        repeat: rounds(),
        ..Options::default()
    };
    let report = run(&subject(&file, &choice), &options);
    println!("{}", report.summary());
    assert!(report.is_ok(), "{}", report.summary());
    assert!(report.passed >= at_least, "{}", report.summary());
}

#[test]
fn fabric_ofi_passes() {
    ofi_passes("fabric_ofi_passes", None, 44);
}

#[test]
fn a_class_whose_hardware_is_missing_is_refused_with_the_reason() {
    let test = "a_class_whose_hardware_is_missing_is_refused_with_the_reason";
    let file = shared_object::build("fabric-ofi-so");
    if PluginFile::read_manifest(&file).is_err() {
        println!("NOT RUN {test}: fabric-ofi was built without libfabric-dev");
        return;
    }
    let choice = Choice {
        class: Some("psm2".to_owned()),
        ..Choice::default()
    };
    let subject = subject(&file, &choice);
    match check::run(&helper(), &subject, &Options::default(), &mut |_| ()) {
        Err(error @ NotChecked::Missing { .. }) => {
            let text = error.to_string();
            assert!(
                text.contains("ofi+psm2 cannot be tried on this machine"),
                "{text}"
            );
        }
        Err(other) => panic!("{other}"),
        Ok(_) => println!("NOT RUN {test}: this machine has Omni-Path"),
    }
}

#[test]
fn fabric_ofi_passes_over_shared_memory() {
    ofi_passes("fabric_ofi_passes_over_shared_memory", Some("shm"), 40);
}

fn hostile(on: Value) -> Subject {
    let choice = Choice {
        settings: object(json!({ "on": on })),
        ..Choice::default()
    };
    subject(&built(HOSTILE), &choice)
}

fn some(cases: &str) -> Options {
    Options {
        cases: Some(glob::Pattern::new(cases).expect("a pattern")),
        deadline: Duration::from_secs(5),
        ..Options::default()
    }
}

#[test]
fn what_a_plugin_does_to_its_process_is_the_result_of_one_case() {
    for (behaviour, said) in [
        ("segfault", "killed by SIGSEGV"),
        ("abort", "killed by SIGABRT"),
        ("overflow", "killed by SIGABRT"),
        ("exit:3", "exit code 3"),
        ("hang", "deadline of 5 s"),
        ("panic", "plugin panicked"),
    ] {
        let subject = hostile(json!({ "submit": behaviour }));
        // Needs no request: cases that do not meet the defect are not disturbed by it.
        let report = run(&subject, &some("life.geometry"));
        assert!(report.is_ok(), "{behaviour}: {}", report.summary());
        let report = run(&subject, &some("io.first_and_last"));
        assert_eq!(report.failed, 1, "{behaviour}: {}", report.summary());
        let row = &report.cases[1];
        assert!(row.reason.contains(said), "{behaviour}: {}", row.reason);
        assert!(report.junit().contains("<failure message="), "{behaviour}");
    }
}

#[test]
fn the_rest_goes_on_also_in_one_process_and_the_last_lines_are_told() {
    let subject = hostile(json!({ "submit": "segfault" }));
    let together = Options {
        together: true,
        ..some("io.*")
    };
    let report = run(&subject, &together);
    let cases = check::catalogue(subject.kind);
    let wanted = cases.iter().filter(|c| c.id.starts_with("io.")).count();
    assert_eq!(report.cases.len(), wanted + 1, "{}", report.summary());
    let died = |row: &&check::CaseRow| row.reason.contains("SIGSEGV");
    assert!(report.cases.iter().filter(died).count() >= 5);
    let row = report.cases.iter().find(died).expect("one");
    let told = row.log.iter().any(|line| line.contains("about to write"));
    assert!(told, "{:?}", row.log);
    assert!(report.processes > 5, "{}", report.processes);
}

#[test]
fn a_plugin_that_does_not_start_is_one_failure_and_no_silence() {
    let report = run(&hostile(json!({ "devices": "segfault" })), &some("queue.*"));
    assert!(!report.is_ok());
    assert_eq!((report.failed, report.passed), (1, 0));
    assert_eq!(report.cases[0].case, "setup");
    assert_eq!(report.not_run, report.cases.len() - 1);
    let rest = &report.cases[1..];
    assert!(rest.iter().all(|row| row.verdict == Verdict::NotRun));
    assert!(report.summary().contains("not run"));
}

#[test]
fn a_file_that_is_no_plugin_or_dies_at_load_is_told_from_a_broken_promise() {
    let mut subject = hostile(json!({}));
    subject.file = env!("CARGO_BIN_EXE_daos_server_helper").into();
    let error = check::run(&helper(), &subject, &some("io.*"), &mut |_| ()).expect_err("no plugin");
    assert!(matches!(error, NotChecked::Refused(_)), "{error}");

    let dir = tempfile::tempdir().expect("a directory");
    let file = fixture_files::install(HOSTILE, dir.path(), "dies.so");
    subject.file = file;
    for (behaviour, said) in [
        ("segfault", "SIGSEGV while it was loaded"),
        ("exit:0", "exit code 0 while it was loaded"),
        ("close-fds", "closed its process's connection"),
        ("close-range", "closed its process's connection"),
        ("replace-fds", "closed its process's connection"),
        ("write-fds", "disturbed the connection"),
    ] {
        std::fs::write(dir.path().join("dies.so.onload"), behaviour).expect("writable");
        let error = check::run(&helper(), &subject, &some("io.*"), &mut |_| ());
        let text = error.expect_err("it dies").to_string();
        assert!(text.contains(said), "{behaviour}: {text}");
    }
}

#[test]
fn runs_are_repeated_and_added_up() {
    let options = Options {
        repeat: 3,
        ..some("control.*")
    };
    let report = run(&hostile(json!({})), &options);
    assert!(report.cases.iter().all(|row| row.runs == 3), "{report:?}");
    let pattern = some("no-such-case");
    let error = check::run(&helper(), &hostile(json!({})), &pattern, &mut |_| ());
    assert!(matches!(error, Err(NotChecked::NoCase { .. })));
}

#[test]
fn what_is_skipped_by_name_is_told_in_every_report() {
    let mut options = some("control.*");
    options.skip = ["control.scan", "*threads*"]
        .map(|text| glob::Pattern::new(text).expect("a pattern"))
        .into();
    let report = run(&hostile(json!({})), &options);
    assert!(report.is_ok(), "{}", report.summary());
    let skipped = |row: &&check::CaseRow| row.reason == "by --skip";
    let names: Vec<_> = report
        .cases
        .iter()
        .filter(skipped)
        .map(|row| row.case)
        .collect();
    assert_eq!(
        names,
        ["control.scan", "control.threads"],
        "in the order of the list"
    );
    assert!(report.summary().contains("control.scan: by --skip"));
    assert!(report.junit().contains("<skipped message=\"by --skip\"/>"));
    let json = serde_json::to_string(&report).expect("a document");
    assert!(json.contains("\"reason\":\"by --skip\""), "{json}");
    // What would skip nothing is a typing error.
    options.skip = vec![glob::Pattern::new("control.scam").expect("a pattern")];
    let error = check::run(&helper(), &hostile(json!({})), &options, &mut |_| ());
    assert!(matches!(error, Err(NotChecked::NoCase { .. })));
}

#[test]
fn two_plugins_are_measured_in_turns() {
    let memory = Choice {
        config: object(json!({ "bdev_size_mib": 64 })),
        ..Choice::default()
    };
    let malloc = subject(&shared_object::build("bdev-malloc-so"), &memory);
    let subjects = [malloc, hostile(json!({}))];
    let options = bench::Options {
        rounds: 3,
        time: Duration::from_millis(50),
        ..bench::Options::default()
    };
    let report = bench::run(&helper(), &subjects, &options, &mut |_| ()).expect("figures");
    println!("{}", report.text());
    let row = report
        .cases
        .iter()
        .find(|r| r.case == "read-4k-qd1")
        .expect("the case");
    assert!(
        row.ratio
            .is_some_and(|r| r.least <= r.median && r.median <= r.most)
    );
    for figures in row.plugins.iter().flatten() {
        assert!(figures.iops > 0.0 && figures.cpu_us > 0.0, "{figures:?}");
        assert!(figures.p50_us <= figures.p99_us && figures.p99_us <= figures.max_us);
    }
    // The other one takes 64 KiB at most.
    let row = report
        .cases
        .iter()
        .find(|r| r.case == "read-128k-qd8")
        .expect("the case");
    assert!(row.plugins[1].is_none() && row.notes.len() == 1, "{row:?}");

    let died = bench::run(
        &helper(),
        &[hostile(json!({ "poll": "segfault" }))],
        &options,
        &mut |_| (),
    );
    let text = died.expect_err("it dies").to_string();
    assert!(
        text.contains("fixture-hostile") && text.contains("SIGSEGV"),
        "{text}"
    );
}
