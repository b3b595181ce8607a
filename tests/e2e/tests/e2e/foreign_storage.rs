//! What others wrote is not formatted without the word for it, and stays as it is, byte for byte.

use crate::data;
use daos_e2e::{Bdev, Finished, LoopDevice, Site, finish, may_mount, not_run};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const MIB: usize = 1 << 20;

/// Bytes that look like nothing.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

fn head(path: &Path) -> Vec<u8> {
    let mut bytes = vec![0; 8 * MIB];
    let file = File::open(path).expect("a readable device");
    file.read_exact_at(&mut bytes, 0)
        .expect("a device of some MiB");
    bytes
}

/// Formats a site whose device is not blank: refused in words, untouched; then with the flag.
fn refused_then_allowed(site: &Site, device: &Path, words: &[&str]) {
    let mut server = site.start();
    server.wait_phase("maintenance");
    let before = head(device);
    for flags in [&[][..], &["--reformat"]] {
        let refused = server.format(flags).expect(1);
        let told = refused.text();
        for word in [&device.display().to_string()[..], "--overwrite-foreign"]
            .iter()
            .chain(words)
        {
            assert!(told.contains(word), "{word:?} is missing in {refused}");
        }
        assert!(
            before == head(device),
            "{} was written to",
            device.display()
        );
        server.wait_phase("maintenance");
    }
    server.format(&["--overwrite-foreign"]).expect(0);
    server.wait_phase("ready");
    data::bench(site);
    server.stop();
}

fn mkfs(device: &Path) -> Finished {
    let mut command = Command::new("mkfs.ext4");
    command.args(["-q", "-F"]).arg(device);
    finish(command, Duration::from_secs(60)).expect(0)
}

#[test]
fn random_bytes_in_a_file() {
    let site = Site::with_file();
    let path = site.path("bdev0");
    let mut file = File::create(&path).expect("our directory");
    file.write_all(&noise(8 * MIB)).expect("space");
    file.set_len(512 * MIB as u64).expect("space");
    refused_then_allowed(&site, &path, &[]);
}

#[test]
fn a_file_system_in_a_file() {
    let site = Site::with_file();
    let path = site.path("bdev0");
    let file = File::create(&path).expect("our directory");
    file.set_len(512 * MIB as u64).expect("space");
    mkfs(&path);
    refused_then_allowed(&site, &path, &["ext4"]);
}

#[test]
fn a_file_system_on_a_kernel_device() {
    let holder = Site::new();
    let disk = match LoopDevice::attach(&holder.path("disk.img"), 512 << 20) {
        Ok(disk) => disk,
        Err(reason) => return not_run("a_file_system_on_a_kernel_device", &reason),
    };
    mkfs(disk.path());
    let site = Site::new();
    site.add_engine(Bdev::Kdev(disk.path().to_owned()), 1);
    refused_then_allowed(&site, disk.path(), &["ext4"]);
}

#[test]
fn a_mounted_kernel_device_is_in_use_whatever_the_flags() {
    let test = "a_mounted_kernel_device_is_in_use_whatever_the_flags";
    let site = Site::new();
    let disk = match LoopDevice::attach(&site.path("disk.img"), 512 << 20) {
        Ok(disk) => disk,
        Err(reason) => return not_run(test, &reason),
    };
    mkfs(disk.path());
    let place = site.make_dir("mounted");
    let mut mount = Command::new("mount");
    mount.arg(disk.path()).arg(&place);
    finish(mount, Duration::from_secs(20)).expect(0);
    fs::write(place.join("letter"), "dear").expect("a file system");
    site.add_engine(Bdev::Kdev(disk.path().to_owned()), 1);
    let mut server = site.start();
    // Not blank, not ours: it is not even asked for a format.
    server.wait_state("told what is wrong", |s| s["phase"] != "starting");
    let all = &["--reformat", "--overwrite-foreign"];
    let refused = server.format(all).expect(1);
    let shown = place.display().to_string();
    assert!(
        refused.text().contains(&shown),
        "{shown} is missing in {refused}"
    );
    server.stop();
    assert_eq!(fs::read(place.join("letter")).expect("our file"), b"dear");
}

#[test]
fn files_in_the_way_of_scm() {
    let site = Site::with_file();
    fs::create_dir(site.scm(0)).expect("our directory");
    let letter = site.scm(0).join("letter");
    fs::write(&letter, "dear").expect("our directory");
    let mut server = site.start();
    server.wait_phase("maintenance");
    for flags in [&[][..], &["--reformat"]] {
        let refused = server.format(flags).expect(1);
        let told = refused.text();
        assert!(
            told.contains("letter") && told.contains("--overwrite-foreign"),
            "{refused}"
        );
    }
    assert_eq!(fs::read(&letter).expect("our file"), b"dear");
    assert!(
        !site.path("bdev0").exists(),
        "a device was made before all were checked"
    );
    if may_mount() {
        // Memory is mounted over it: nothing of it is lost even then.
        server.format(&["--overwrite-foreign"]).expect(0);
        server.wait_phase("ready");
        server.stop();
        nix::mount::umount2(&site.scm(0), nix::mount::MntFlags::empty()).expect("nobody uses it");
        assert_eq!(fs::read(&letter).expect("our file"), b"dear");
    } else {
        not_run(
            "files_in_the_way_of_scm with --overwrite-foreign",
            "mounting needs root",
        );
        server.stop();
    }
}

/// Several devices of which the last alone is not blank: nothing is written anywhere, not even made.
#[test]
fn foreign_content_on_the_last_device_keeps_the_others_untouched() {
    let site = Site::new();
    let names = ["bdev0", "bdev1", "bdev2"];
    let paths: Vec<_> = names.iter().map(|name| site.path(name)).collect();
    // The first does not exist yet, the second is blank, the third is somebody's.
    let blank = File::create(&paths[1]).expect("our directory");
    blank.set_len(256 * MIB as u64).expect("space");
    let mut notes = File::create(&paths[2]).expect("our directory");
    notes.write_all(&noise(MIB)).expect("space");
    notes.set_len(256 * MIB as u64).expect("space");
    site.add_engine(Bdev::Files(paths.clone()), 2);
    let mut server = site.start();
    server.wait_phase("maintenance");
    let second = fs::metadata(&paths[1]).expect("our file");
    for flags in [&[][..], &["--reformat"]] {
        let refused = server.format(flags).expect(1);
        let told = refused.text();
        for word in [&paths[2].display().to_string()[..], "--overwrite-foreign"] {
            assert!(told.contains(word), "{word:?} is missing in {refused}");
        }
        assert!(!paths[0].exists(), "{} was made", paths[0].display());
        assert!(!site.scm(0).exists(), "SCM was made");
        let now = fs::metadata(&paths[1]).expect("our file");
        let times = |m: &fs::Metadata| (m.modified().expect("a time"), m.len());
        assert_eq!(times(&second), times(&now));
        assert!(head(&paths[1]).iter().all(|byte| *byte == 0));
        assert!(head(&paths[2])[..MIB] == noise(MIB)[..]);
    }
    server.format(&["--overwrite-foreign"]).expect(0);
    server.wait_phase("ready");
    data::bench(&site);
    server.stop();
}

/// The same between engines: one engine's foreign device keeps the other engine's storage untouched.
#[test]
fn foreign_content_of_one_engine_keeps_the_others_storage_untouched() {
    let site = Site::new();
    let paths = [site.path("bdev0"), site.path("bdev1")];
    let mut notes = File::create(&paths[1]).expect("our directory");
    notes.write_all(&noise(MIB)).expect("space");
    for path in &paths {
        site.add_engine(Bdev::File(path.clone()), 1);
    }
    let mut server = site.start();
    server.wait_phase("maintenance");
    let refused = server.format(&[]).expect(1);
    let shown = paths[1].display().to_string();
    assert!(refused.text().contains(&shown), "{refused}");
    assert!(!paths[0].exists() && !site.scm(0).exists() && !site.scm(1).exists());
    server.stop();
}
