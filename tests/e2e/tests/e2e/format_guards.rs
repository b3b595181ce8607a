//! A format never destroys what nobody said may go.

use crate::data::Workload;
use crate::traces::snapshot;
use daos_e2e::Site;
use std::fs;

#[test]
fn a_second_format_is_refused_and_the_data_is_intact() {
    let site = Site::with_file();
    let mut server = site.start();
    server.make_ready();
    let workload = Workload::new(&site, "work");
    workload.write();
    let superblock = fs::read(site.scm(0).join("superblock")).expect("a superblock");
    for flags in [&[][..], &["--reformat"], &["--overwrite-foreign"]] {
        let refused = server.format(flags).expect(1);
        let told = refused.text();
        assert!(
            told.contains("engine 0") && told.contains("it runs"),
            "{refused}"
        );
    }
    server.wait_phase("ready");
    assert_eq!(
        superblock,
        fs::read(site.scm(0).join("superblock")).expect("a superblock")
    );
    workload.verify();
    server.stop();

    let mut server = site.start();
    server.wait_phase("ready");
    workload.verify();
    server.stop();
}

#[test]
fn a_stopped_engine_may_be_formatted_again() {
    let site = Site::with_file();
    let mut server = site.start();
    server.make_ready();
    let path = site.scm(0).join("superblock");
    let superblock = fs::read(&path).expect("a superblock");
    let stopped = site.shell(&["system", "stop"]).expect(0);
    assert!(stopped.stdout.contains("engine 0: stopped"), "{stopped}");
    let refused = server.format(&[]).expect(1);
    assert!(refused.text().contains("--reformat"), "{refused}");
    assert_eq!(superblock, fs::read(&path).expect("a superblock"));
    server.format(&["--reformat"]).expect(0);
    server.wait_phase("ready");
    assert_ne!(superblock, fs::read(&path).expect("a superblock"));
    server.stop();
}

#[test]
fn without_yes_nothing_is_formatted() {
    let site = Site::with_file();
    let mut server = site.start();
    server.wait_phase("maintenance");
    let before = snapshot(&[site.memory_dir()]);
    // Standard input is at its end: no answer is a no.
    let refused = site.shell(&["storage", "format"]).expect(1);
    assert!(
        refused
            .stdout
            .contains("Are you sure you want to continue? (yes/no)"),
        "{refused}"
    );
    assert!(
        refused.stderr.contains("Nothing was formatted"),
        "{refused}"
    );
    site.shell(&["storage", "format", "--dry-run"]).expect(0);
    let interesting = |map: std::collections::BTreeMap<std::path::PathBuf, _>| -> Vec<_> {
        let keys = map.into_keys();
        keys.filter(|p| p.starts_with(site.scm(0)) || p.ends_with("bdev0"))
            .collect()
    };
    assert_eq!(interesting(before), Vec::<std::path::PathBuf>::new());
    assert_eq!(
        interesting(snapshot(&[site.memory_dir()])),
        Vec::<std::path::PathBuf>::new()
    );
    server.wait_phase("maintenance");
    server.stop();
}

#[test]
fn a_changed_immutable_key_stops_the_start_and_names_old_and_new() {
    let site = Site::with_file();
    let mut server = site.start();
    server.make_ready();
    let workload = Workload::new(&site, "work");
    workload.write();
    server.stop();

    site.change_engine(0, |e| e.targets = 1);
    let mut server = site.start();
    let state = server.wait_phase("maintenance");
    let engine = &state["engines"][0];
    assert_eq!(engine["state"], "storage-mismatch", "{state:#}");
    let reason = engine["reason"].as_str().unwrap_or("");
    for word in ["targets", "2", "1"] {
        assert!(reason.contains(word), "{word:?} is missing in {state:#}");
    }
    let hint = engine["hint"].as_str().unwrap_or("");
    assert!(hint.contains("set the key back"), "{state:#}");
    let refused = server.format(&[]).expect(1);
    assert!(refused.text().contains("--reformat"), "{refused}");
    server.stop();

    site.change_engine(0, |e| e.targets = 2);
    let mut server = site.start();
    server.wait_phase("ready");
    workload.verify();
    server.stop();

    // The new value is fine once the data may go.
    site.change_engine(0, |e| e.targets = 1);
    let mut server = site.start();
    server.wait_phase("maintenance");
    server.format(&["--reformat"]).expect(0);
    let state = server.wait_phase("ready");
    assert_eq!(state["engines"][0]["targets"], 1, "{state:#}");
    let again = Workload::new(&site, "again");
    again.write();
    again.verify();
    server.stop();
}

#[test]
fn nvme_format_is_for_devices_that_have_it() {
    let site = Site::with_file();
    let mut server = site.start();
    server.wait_phase("maintenance");
    let refused = server.format(&["--nvme-format"]).expect(1);
    for words in [
        "cannot be erased by NVMe Format",
        "bdev_class file has no such command",
        "format without --nvme-format",
    ] {
        assert!(refused.text().contains(words), "{words}: {refused}");
    }
    // Refused before anything was touched.
    assert!(!site.path("bdev0").exists());
    server.make_ready();
    server.stop();
}
