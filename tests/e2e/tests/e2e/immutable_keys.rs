//! Keys that must not change once storage is formatted: each one's change is refused with key, old and new
//! value, and setting it back is all it takes.

use crate::data::Workload;
use daos_config::keys::{Scope, of};
use daos_e2e::{Bdev, Site};
use std::collections::BTreeSet;
use std::fs;

struct Changed {
    key: &'static str,
    /// Makes the text of the formatted site another one.
    change: fn(&str) -> String,
    old: &'static str,
    new: &'static str,
}

fn add_top(text: &str, line: &str) -> String {
    format!("{line}\n{text}")
}

fn add_server(text: &str, line: &str) -> String {
    swap(text, "- targets", &format!("- {line}\n  targets"))
}

fn swap(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "no {from:?} in {text}");
    text.replacen(from, to, 1)
}

const ON_FILE: &[Changed] = &[
    Changed {
        key: "name",
        change: |t| swap(t, "name: daos_server", "name: other"),
        old: "daos_server",
        new: "other",
    },
    Changed {
        key: "access_points",
        change: |t| add_top(t, "access_points: [elsewhere]"),
        old: "[]",
        new: "elsewhere",
    },
    Changed {
        key: "fault_path",
        change: |t| add_top(t, "fault_path: /rack7/node"),
        old: "not set",
        new: "/rack7/node",
    },
    Changed {
        key: "fault_cb",
        change: |t| add_top(t, "fault_cb: ./fault_domain"),
        old: "not set",
        new: "fault_domain",
    },
    Changed {
        key: "bdev_include",
        change: |t| add_top(t, "bdev_include: ['0000:81:00.0']"),
        old: "[]",
        new: "0000:81:00.0",
    },
    Changed {
        key: "bdev_exclude",
        change: |t| add_top(t, "bdev_exclude: ['0000:81:00.1']"),
        old: "[]",
        new: "0000:81:00.1",
    },
    Changed {
        key: "rank",
        change: |t| add_server(t, "rank: 3"),
        old: "not set",
        new: "3",
    },
    Changed {
        key: "targets",
        change: |t| swap(t, "targets: 2", "targets: 1"),
        old: "2",
        new: "1",
    },
    Changed {
        key: "nr_xs_helpers",
        change: |t| swap(t, "nr_xs_helpers: 0", "nr_xs_helpers: 1"),
        old: "0",
        new: "1",
    },
    Changed {
        key: "first_core",
        change: |t| add_server(t, "first_core: 1"),
        old: "not set",
        new: "1",
    },
    Changed {
        key: "bdev_class",
        // No such device: that the key was changed is what there is to say.
        change: |t| {
            let t = swap(t, "bdev_class: file", "bdev_class: kdev");
            swap(&t, "  bdev_size_mib: 512\n", "")
        },
        old: "file",
        new: "kdev",
    },
    Changed {
        key: "bdev_list",
        change: |t| swap(t, "/bdev0'", "/bdev1'"),
        old: "/bdev0",
        new: "/bdev1",
    },
    Changed {
        key: "bdev_size",
        change: |t| {
            swap(
                t,
                "bdev_size_mib: 512",
                "bdev_size: 1\n  bdev_size_mib: 512",
            )
        },
        old: "not set",
        new: "1",
    },
    // A key of the class: those are immutable unless their schema says otherwise.
    Changed {
        key: "bdev_size_mib",
        change: |t| swap(t, "bdev_size_mib: 512", "bdev_size_mib: 256"),
        old: "512",
        new: "256",
    },
];

const ON_MEMORY: &[Changed] = &[Changed {
    key: "bdev_number",
    change: |t| swap(t, "bdev_number: 1", "bdev_number: 2"),
    old: "1",
    new: "2",
}];

fn assert_refused(site: &Site, table: &[Changed]) {
    for changed in table {
        let key = changed.key;
        site.write_text(&(changed.change)(&site.config_text()));
        let before = fs::read(site.scm(0).join("superblock")).expect("a superblock");
        let mut server = site.start_with(&["-o", "daos_server.yml", "start", "-i"]);
        let state = server.wait_phase("maintenance");
        let engine = &state["engines"][0];
        assert_eq!(engine["state"], "storage-mismatch", "{key}: {state:#}");
        let reason = engine["reason"].as_str().unwrap_or("");
        assert!(reason.starts_with(key), "{key}: {state:#}");
        for word in [changed.old, changed.new] {
            assert!(reason.contains(word), "{key}: {word:?} in {state:#}");
        }
        let hint = engine["hint"].as_str().unwrap_or("");
        assert!(hint.contains("set the key back"), "{key}: {state:#}");
        server.stop();
        let after = fs::read(site.scm(0).join("superblock")).expect("a superblock");
        assert_eq!(before, after, "{key}");
    }
}

#[test]
fn each_is_refused_with_old_and_new_value() {
    let site = Site::with_file();
    let script = site.path("fault_domain");
    fs::write(&script, "#!/bin/sh\necho /rack/node\n").expect("our directory");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&script, mode).expect("our file");
    let mut server = site.start();
    server.make_ready();
    let workload = Workload::new(&site, "work");
    workload.write();
    server.stop();
    assert_refused(&site, ON_FILE);
    let mut server = site.start();
    server.wait_phase("ready");
    workload.verify();
    server.stop();

    let site = Site::new();
    site.add_engine(Bdev::Malloc, 1);
    let mut server = site.start();
    server.make_ready();
    server.stop();
    assert_refused(&site, ON_MEMORY);
}

#[test]
fn the_table_has_every_immutable_key() {
    let tested: BTreeSet<&str> = ON_FILE.iter().chain(ON_MEMORY).map(|c| c.key).collect();
    for scope in [Scope::Top, Scope::Server] {
        for spec in of(scope).filter(|k| k.immutable) {
            assert!(tested.contains(spec.name), "{} is not tested", spec.name);
        }
    }
}
