//! What `storage format` prints: the deployment guide's lines on standard output, progress beside them.

use daos_e2e::{Bdev, Site, finish, may_mount, not_run};
use nix::mount::{MntFlags, umount2};
use std::process::Command;
use std::time::Duration;

#[test]
fn the_guides_lines_and_the_progress_of_each_device() {
    let site = Site::new();
    let files = vec![site.path("bdev0"), site.path("bdev1")];
    site.add_engine(Bdev::Files(files.clone()), 2);
    let mut server = site.start();
    server.wait_phase("maintenance");
    let done = server.format(&[]).expect(0);
    let address = site.address();
    let scm = site.scm(0).display().to_string();
    let devices: Vec<String> = files.iter().map(|p| p.display().to_string()).collect();
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(
        lines[0],
        format!("Active connections: [{address}]"),
        "{done}"
    );
    let expected = [
        "This is a destructive operation and storage devices specified in the server config file will be erased.",
        "Please be patient as it may take several minutes.",
        "NVMe storage format results:",
        &format!("{address}:"),
        &format!("\tdevice {}: status CTRL_SUCCESS", devices[0]),
        &format!("\tdevice {}: status CTRL_SUCCESS", devices[1]),
        "SCM storage format results:",
        &format!("{address}:"),
        &format!("\tmntpoint {scm}: status CTRL_SUCCESS"),
        "1 engine(s) started",
    ];
    let mut rest = lines.iter();
    for line in expected {
        assert!(
            rest.any(|l| l.starts_with(line)),
            "{line:?} is missing or not in its place in {done}"
        );
    }
    // No terminal: a line per step, in order, and nothing of it among the results.
    for device in [&scm].into_iter().chain(&devices) {
        let prefix = format!("{address}: {device}: ");
        let steps: Vec<&str> = done
            .stderr
            .lines()
            .filter_map(|l| l.strip_prefix(&prefix))
            .collect();
        assert_eq!(steps.first(), Some(&"formatting"), "{done}");
        assert!(steps.contains(&"done"), "{done}");
        assert_eq!(
            steps.contains(&"writing the label"),
            *device != scm,
            "{done}"
        );
        assert!(!done.stdout.contains(&prefix), "{done}");
    }
    let last = done.stderr.lines().last().unwrap_or("");
    assert!(last.ends_with("starting the engine"), "{done}");
    server.wait_phase("ready");
    server.stop();
}

#[test]
fn a_device_that_cannot_be_made_is_refused_before_the_first_byte() {
    let site = Site::new();
    // The second file cannot be made: its directory is a file.
    std::fs::write(site.path("in-the-way"), "").expect("our directory");
    let files = vec![
        site.path("bdev0"),
        site.path("in-the-way/bdev1"),
        site.path("bdev2"),
    ];
    site.add_engine(Bdev::Files(files), 1);
    let mut server = site.start();
    server.wait_state("told what is wrong", |s| s["phase"] != "starting");
    let done = server.format(&[]).expect(1);
    assert!(done.text().contains("in-the-way/bdev1"), "{done}");
    // Seen before the first byte was written.
    assert!(!site.path("bdev0").exists() && !site.scm(0).exists());
    server.stop();
}

#[test]
fn json_is_alone_on_standard_output_and_without_progress() {
    let site = Site::with_file();
    let mut server = site.start();
    server.wait_phase("maintenance");
    let done = site.shell(&["--json", "storage", "format", "-f"]).expect(0);
    assert_eq!(done.json()["status"], 0, "{done}");
    assert_eq!(done.stderr, "", "{done}");
    server.wait_phase("ready");
    server.stop();
}

#[test]
fn a_device_that_fails_halfway_is_told_and_the_format_can_be_repeated() {
    let test = "a_device_that_fails_halfway_is_told_and_the_format_can_be_repeated";
    if !may_mount() {
        return not_run(test, "a full file system needs root");
    }
    let site = Site::new();
    let small = site.make_dir("small");
    let mut mount = Command::new("mount");
    mount
        .args(["-t", "tmpfs", "-o", "size=64m", "small"])
        .arg(&small);
    finish(mount, Duration::from_secs(20)).expect(0);
    let files = vec![site.path("bdev0"), small.join("bdev1"), site.path("bdev2")];
    site.add_engine(Bdev::Files(files.clone()), 1);
    let mut server = site.start();
    server.wait_phase("maintenance");
    let done = server.format(&[]).expect(1);
    let shown: Vec<String> = files.iter().map(|p| p.display().to_string()).collect();
    for line in [
        format!("\tdevice {}: status CTRL_SUCCESS", shown[0]),
        format!("\tdevice {}: status CTRL_ERR_NVME", shown[1]),
        format!("\tdevice {}: status CTRL_WAITING (not tried)", shown[2]),
        "0 engine(s) started".to_owned(),
    ] {
        assert!(done.stdout.contains(&line), "{line:?} is missing in {done}");
    }
    assert!(done.text().contains("bdev_size"), "no remedy in {done}");
    let state = server.wait_phase("maintenance");
    let engine = &state["engines"][0];
    assert_eq!(engine["state"], "await-format", "{state:#}");
    let reason = engine["reason"].as_str().unwrap_or("");
    assert!(reason.contains("the last format failed"), "{state:#}");
    assert!(!site.scm(0).join("superblock").exists());

    umount2(&small, MntFlags::empty()).expect("nobody uses it");
    server.format(&["--reformat"]).expect(0);
    server.wait_phase("ready");
    server.stop();
}
