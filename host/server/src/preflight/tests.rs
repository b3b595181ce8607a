mod on_place;
mod on_system;
mod on_trust;

use super::*;
use finding::State::{Fail, NotApplicable, Ok as Good, Warn};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;
use tempfile::TempDir;

/// A machine of these files.
fn machine(files: &[(&str, &str)]) -> (TempDir, Node) {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let node = Node::below(dir.path());
    (dir, node)
}

fn config(text: &str) -> Config {
    let loaded = Config::parse(text, "test", &daos_config::Overrides::default());
    loaded.unwrap_or_else(|e| panic!("{e}")).config
}

fn nvme() -> Wanted {
    Wanted {
        nvme: true,
        hugepages: 1024,
        hugepages_set: true,
        ..Wanted::default()
    }
}

#[track_caller]
fn assert_found(finding: &Finding, state: State, words: &str) {
    let text = finding.text();
    assert!(finding.state == state && text.contains(words), "{text}");
    assert_eq!(finding.remedy.is_empty(), state < Warn, "{text}");
}

/// The user and group of the tests.
fn me(node: &mut Node) -> (u32, u32) {
    node.euid = nix::unistd::geteuid().as_raw();
    node.egid = nix::unistd::getegid().as_raw();
    (node.euid, node.egid)
}

fn mode(dir: &TempDir, path: &str, mode: u32) {
    fs::set_permissions(dir.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
}

const RAM: &str = "provider: tcp\nservers:\n- scm_mount: /mnt/a\n  scm_class: ram\n  scm_size: 1\n  bdev_class: kdev\n  \
                   bdev_list: [/dev/sdx]\n  fabric_iface: lo\n  fabric_iface_port: 31416\n";

#[test]
fn what_is_wanted_follows_the_configuration() {
    let (_dir, node) = machine(&[("/sys/class/nvme/nvme0/x", "")]);
    let wanted = Wanted::of(&node, &config(RAM), &[]);
    assert!(!wanted.nvme && !wanted.rdma && !wanted.other_user);
    let text = RAM
        .replace("kdev", "nvme")
        .replace("/dev/sdx", "'0000:81:00.0'")
        .replace("tcp", "'ofi+verbs;ofi_rxm'");
    let wanted = Wanted::of(
        &node,
        &config(&format!("user_name: daos\nnr_hugepages: 77\n{text}")),
        &[],
    );
    assert!(wanted.nvme && wanted.rdma, "{wanted:?}");
    assert_eq!(wanted.hugepages, 77);
    // Without engines it is what a plan could use, which takes a plugin.
    assert!(!Wanted::of(&node, &Config::default(), &[]).nvme);
}

#[test]
fn warnings_and_failures_are_counted() {
    let check = finding::Check {
        name: "x",
        why: "because",
    };
    let report = Report::new(
        None,
        vec![
            check.ok("a"),
            check.warn("b", "do it"),
            check.fail("c", "do that"),
            check.none("d"),
        ],
    );
    assert_eq!((report.failures, report.warnings), (1, 1));
    let text = report.text();
    assert!(
        text.contains("FAIL  x") && text.contains("remedy:       do that"),
        "{text}"
    );
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["findings"][3]["state"], "not_applicable");
}
