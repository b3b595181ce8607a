//! A tier that is gone is named; the rest is neither served nor destroyed until somebody says so.

use crate::data::Workload;
use daos_e2e::{Bdev, Finished, LoopDevice, Server, Site, finish, may_mount, not_run};
use nix::mount::{MntFlags, umount2};
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::process::Command;
use std::time::Duration;

/// A formatted site with data on it, whose server has ended.
fn formatted() -> Site {
    let site = Site::with_file();
    let mut server = site.start();
    server.make_ready();
    Workload::new(&site, "work").write();
    server.stop();
    site
}

/// Requires that the next start names the loss, that only a reformat ends it, and that it does.
fn assert_lost<'a>(site: &'a Site, words: &[&str]) -> Server<'a> {
    let mut server = site.start();
    let state = server.wait_phase("maintenance");
    let engine = &state["engines"][0];
    assert_eq!(engine["state"], "storage-mismatch", "{state:#}");
    for word in words {
        let reason = engine["reason"].as_str().unwrap_or("");
        assert!(reason.contains(word), "{word:?} is missing in {state:#}");
    }
    let hint = engine["hint"].as_str().unwrap_or("");
    assert!(hint.contains("--reformat"), "{state:#}");
    let refused = server.format(&[]).expect(1);
    assert!(refused.text().contains("--reformat"), "{refused}");
    server.wait_phase("maintenance");
    server
}

fn assert_reformat(site: &Site, mut server: Server<'_>, flags: &[&str]) {
    server.format(flags).expect(0);
    server.wait_phase("ready");
    let workload = Workload::new(site, "after");
    workload.write();
    workload.verify();
    server.stop();
}

#[test]
fn a_removed_superblock_is_a_lost_scm() {
    let site = formatted();
    fs::remove_file(site.scm(0).join("superblock")).expect("a superblock");
    let device = site.path("bdev0").display().to_string();
    let server = assert_lost(&site, &["SCM", "lost", &device]);
    assert_reformat(&site, server, &["--reformat"]);
}

#[test]
fn a_memory_file_system_that_is_gone_is_a_lost_scm() {
    if !may_mount() {
        let test = "a_memory_file_system_that_is_gone_is_a_lost_scm";
        return not_run(test, "unmounting needs root");
    }
    let site = formatted();
    umount2(&site.scm(0), MntFlags::empty()).expect("nobody uses it");
    let device = site.path("bdev0").display().to_string();
    let server = assert_lost(&site, &["SCM", "lost", &device]);
    assert_reformat(&site, server, &["--reformat"]);
}

#[test]
fn a_removed_file_is_a_lost_block_device() {
    let site = formatted();
    fs::remove_file(site.path("bdev0")).expect("our file");
    let device = site.path("bdev0").display().to_string();
    let server = assert_lost(&site, &["block device", "lost", &device, "does not exist"]);
    assert!(
        !site.path("bdev0").exists(),
        "the file was made without a format"
    );
    assert_reformat(&site, server, &["--reformat"]);
}

#[test]
fn a_blank_file_in_its_place_is_a_lost_block_device() {
    let site = formatted();
    let path = site.path("bdev0");
    let size = fs::metadata(&path).expect("our file").len();
    let made = File::create(&path).and_then(|f| f.set_len(size));
    made.expect("our file");
    let device = path.display().to_string();
    let server = assert_lost(&site, &["block device", "lost", &device, "blank"]);
    assert_reformat(&site, server, &["--reformat"]);
}

#[test]
fn foreign_content_in_its_place_is_a_lost_block_device() {
    let site = formatted();
    let path = site.path("bdev0");
    let size = fs::metadata(&path).expect("our file").len();
    let file = File::create(&path).expect("our file");
    file.set_len(size).expect("our file");
    file.write_all_at(b"somebody's notes", 0).expect("our file");
    let device = path.display().to_string();
    let server = assert_lost(&site, &["block device", "lost", &device]);
    let refused = server.format(&["--reformat"]).expect(1);
    assert!(refused.text().contains("--overwrite-foreign"), "{refused}");
    let mut notes = [0; 16];
    let file = File::open(&path).expect("our file");
    file.read_exact_at(&mut notes, 0).expect("our file");
    assert_eq!(&notes, b"somebody's notes");
    assert_reformat(&site, server, &["--reformat", "--overwrite-foreign"]);
}

#[test]
fn the_device_of_another_engine_is_a_lost_block_device() {
    let site = formatted();
    let other = formatted();
    fs::copy(other.path("bdev0"), site.path("bdev0")).expect("our files");
    let device = site.path("bdev0").display().to_string();
    let server = assert_lost(&site, &["block device", "lost", &device, "engine"]);
    server.stop();
}

#[track_caller]
fn tool(program: &str, args: &[&str]) -> Finished {
    let mut command = Command::new(program);
    command.args(args);
    finish(command, Duration::from_secs(60))
}

/// ext4 turns read-only when it finds its metadata damaged (`errors=remount-ro`), under files that are open for
/// writing; the kernel can be asked to behave as if it had.
#[test]
fn a_file_system_that_turns_read_only_loses_nothing() {
    let test = "a_file_system_that_turns_read_only_loses_nothing";
    let site = Site::new();
    let disk = match LoopDevice::attach(&site.path("disk.img"), 700 << 20) {
        Ok(disk) => disk,
        Err(reason) => return not_run(test, &reason),
    };
    let node = disk.path().display().to_string();
    let place = site.make_dir("disk");
    let mount = place.display().to_string();
    tool("mkfs.ext4", &["-q", "-F", &node]).expect(0);
    let options = ["-o", "errors=remount-ro", &node, &mount];
    tool("mount", &options).expect(0);
    site.add_engine(Bdev::File(place.join("bdev0")), 1);
    let mut server = site.start();
    server.make_ready();
    let workload = Workload::new(&site, "work");
    workload.write();

    let name = disk.path().file_name().and_then(|name| name.to_str());
    let trigger = format!("/sys/fs/ext4/{}/trigger_fs_error", name.expect("a name"));
    fs::write(&trigger, "1").unwrap_or_else(|e| panic!("{trigger}: {e}"));
    let large = site.path("large");
    fs::write(&large, vec![7; 1 << 20]).expect("a file");
    let put = |verb| {
        let file = large.display().to_string();
        site.daos(&[
            "object", verb, "--cont", "c", "1", "d", "a", "--file", &file,
        ])
    };
    site.daos(&["container", "create", "--pool", "tank", "c"])
        .expect(0);
    let refused = put("put").expect(1);
    assert!(refused.text().contains("failed a write"), "{refused}");
    // What was acknowledged before can still be read.
    workload.verify();
    server.stop();

    tool("umount", &[&mount]).expect(0);
    let mended = tool("e2fsck", &["-p", "-f", &node]);
    assert!(matches!(mended.code, Some(0 | 1)), "{mended}");
    tool("mount", &options).expect(0);
    let mut server = site.start();
    server.wait_phase("ready");
    workload.verify();
    put("put").expect(0);
    server.stop();
}
