//! The plugin through its table: with privilege (a mount of its own, in a mount namespace of the
//! test thread) and without (a directory of /dev/shm).

mod support;

use daos_plugin_api::abi::{ScmInfo, Status};
use daos_plugin_api::control::{ClassRequest, DeviceSpec, DeviceState, FormatRequest};
use daos_plugin_api::host::{CallOptions, Instance, InstanceOptions, ScmMemory};
use daos_plugin_api::sdk::{Error, thunks};
use scm_ram::ScmRam;
use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use support::{privileged, unprivileged};
use tempfile::TempDir;

const SIZE_MIB: u64 = 16;

struct Bed {
    instance: Instance,
    mount: PathBuf,
    config: Map<String, Value>,
    _dir: TempDir,
}

impl Bed {
    fn new() -> Self {
        Self::at("storage")
    }

    fn at(name: &str) -> Self {
        let dir =
            TempDir::with_prefix_in("scm-ram-test-", "/dev/shm").expect("a tmpfs at /dev/shm");
        let mount = dir.path().join(name);
        let Value::Object(config) = json!({"scm_mount": mount, "scm_size_mib": SIZE_MIB}) else {
            unreachable!("an object literal")
        };
        let instance = Instance::create(thunks::table::<ScmRam>(), InstanceOptions::built_in())
            .expect("instance");
        Self {
            instance,
            mount,
            config,
            _dir: dir,
        }
    }

    fn device(&self) -> DeviceSpec {
        let request = ClassRequest {
            class: "ram".into(),
            config: self.config.clone(),
        };
        let mut devices = self
            .instance
            .devices(&request, CallOptions::default())
            .expect("devices");
        assert_eq!(devices.len(), 1);
        devices.remove(0)
    }

    fn state(&self) -> DeviceState {
        self.device().state
    }

    fn format(&self, overwrite_foreign: bool) -> Result<(), Error> {
        let request = FormatRequest {
            device: self.device(),
            overwrite_foreign,
            nvme_format: false,
            check_only: false,
        };
        let report = self.instance.format(&request, CallOptions::default())?;
        assert_eq!(report.size, SIZE_MIB << 20);
        Ok(())
    }

    fn open(&self) -> Result<ScmMemory, Error> {
        self.instance
            .open_scm(&self.device(), CallOptions::default())
    }

    fn unmount(&self) -> Result<(), Error> {
        self.instance
            .unmount(&self.device(), CallOptions::default())
    }

    fn mount(&self) -> Result<(), Error> {
        self.instance.mount(&self.device(), CallOptions::default())
    }
}

fn status<T>(result: Result<T, Error>) -> Status {
    result.err().map_or(Status::OK, |e| {
        println!("{e}");
        e.status
    })
}

fn word(region: u64, at: usize) -> u64 {
    (region << 48 | at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Fills the storage with regions until NO_SPACE and reads every word back.
fn fill_and_verify(memory: &ScmMemory) {
    let total = memory.info().expect("info").total;
    assert_eq!(total, SIZE_MIB << 20);
    let mut regions = Vec::new();
    let mut size = 4u64 << 20;
    loop {
        let name = format!("fill-{}", regions.len());
        match memory.create_region(&name, size, CallOptions::default()) {
            Ok(region) => {
                // SAFETY: the region is mapped, page aligned and only used here.
                let words = unsafe {
                    std::slice::from_raw_parts_mut(region.ptr().cast::<u64>(), region.len() / 8)
                };
                assert!(words.iter().all(|w| *w == 0), "a new region is zeroes");
                for (at, w) in words.iter_mut().enumerate() {
                    *w = word(regions.len() as u64, at);
                }
                regions.push(region);
            }
            Err(e) => {
                assert_eq!(e.status, Status::NO_SPACE, "{e}");
                if size == 4096 {
                    break;
                }
                size /= 4;
            }
        }
    }
    let used: u64 = regions.iter().map(|r| r.len() as u64).sum();
    assert!(used <= total, "{used} of {total}");
    assert!(
        used + (64 << 10) > total,
        "only {used} of {total} could be used"
    );
    assert!(memory.info().expect("info").available < 4096);
    for (n, region) in regions.iter().enumerate() {
        // SAFETY: as above; nobody writes now.
        let words =
            unsafe { std::slice::from_raw_parts(region.ptr().cast::<u64>(), region.len() / 8) };
        let wrong = words
            .iter()
            .enumerate()
            .find(|(at, w)| **w != word(n as u64, *at));
        assert_eq!(wrong, None, "region {n}");
    }
    drop(regions);
    memory
        .remove_region("fill-0", CallOptions::default())
        .expect("remove");
    assert!(memory.info().expect("info").available >= 4 << 20);
}

fn full_life(bed: &Bed) {
    assert_eq!(bed.state(), DeviceState::Absent);
    assert_eq!(status(bed.mount()), Status::NOT_FOUND);
    assert_eq!(status(bed.open()), Status::NOT_FOUND);
    bed.format(false).expect("format");
    bed.mount().expect("mount of what is mounted");
    assert_eq!(bed.state(), DeviceState::Present);
    let memory = bed.open().expect("open");
    assert_eq!(memory.mount_point().expect("mount point"), bed.mount);
    assert_ne!(memory.info().expect("info").flags & ScmInfo::EPHEMERAL, 0);

    let device = bed.device();
    assert_eq!(device.state, DeviceState::InUse);
    assert!(
        device.detail.contains(&std::process::id().to_string()),
        "{}",
        device.detail
    );
    let second = bed.open().err().expect("a second opener is refused");
    assert_eq!(second.status, Status::BUSY);
    assert!(
        second.cause.contains(&std::process::id().to_string()),
        "{second}"
    );
    assert_eq!(status(bed.format(false)), Status::BUSY);
    assert_eq!(status(bed.unmount()), Status::BUSY);

    fill_and_verify(&memory);
    // A file on the mount point counts as well.
    memory
        .remove_region("fill-1", CallOptions::default())
        .expect("remove");
    let before = memory.info().expect("info").available;
    fs::write(bed.mount.join("index"), vec![1u8; 1 << 20]).expect("a file");
    let after = memory.info().expect("info").available;
    assert!(before - after >= 1 << 20, "{before} {after}");
    drop(memory);

    // Contents outlive the opener; a format makes it anew.
    let memory = bed.open().expect("open again");
    let region = memory
        .open_region("fill-2", CallOptions::default())
        .expect("still there");
    // SAFETY: mapped and only used here.
    let survivor = unsafe { region.ptr().cast::<u64>().add(5).read() };
    assert_eq!(survivor, word(2, 5));
    drop((region, memory));
    bed.format(false).expect("format again");
    assert!(!bed.mount.join("index").exists());
    assert_eq!(
        fs::read_dir(bed.mount.join("regions"))
            .expect("regions")
            .count(),
        0
    );

    bed.unmount().expect("unmount");
    bed.unmount().expect("unmount of what is unmounted");
    assert_eq!(bed.state(), DeviceState::Absent);
    assert_eq!(status(bed.mount()), Status::NOT_FOUND);
}

#[test]
fn a_directory_without_privilege_lives_and_goes() {
    unprivileged(|| {
        let bed = Bed::new();
        full_life(&bed);
        assert!(!bed.mount.exists(), "the directory we made is gone");
    });
}

#[test]
fn a_tmpfs_with_privilege_lives_and_goes() {
    privileged("a_tmpfs_with_privilege_lives_and_goes", || {
        let bed = Bed::at("with a space");
        full_life(&bed);
        assert!(!bed.mount.exists(), "the directory we made is gone");
    });
}

#[test]
fn a_directory_that_existed_stays_after_unmount() {
    let check = || {
        let bed = Bed::new();
        fs::create_dir(&bed.mount).expect("mkdir");
        bed.format(false).expect("format");
        bed.format(false).expect("format again");
        bed.unmount().expect("unmount");
        assert!(bed.mount.is_dir());
        assert_eq!(fs::read_dir(&bed.mount).expect("list").count(), 0);
    };
    unprivileged(check);
    privileged("a_directory_that_existed_stays_after_unmount", check);
}

#[test]
fn the_tmpfs_is_mounted_as_asked() {
    privileged("the_tmpfs_is_mounted_as_asked", || {
        let mut bed = Bed::new();
        bed.config.insert("pinned_numa_node".into(), json!(0));
        bed.format(false).expect("format");
        let info = fs::read_to_string("/proc/thread-self/mountinfo").expect("mountinfo");
        let line = info
            .lines()
            .find(|l| l.contains(bed.mount.to_str().expect("text")))
            .expect("mounted");
        for option in [
            "nosuid",
            "nodev",
            "noexec",
            "noatime",
            "size=16384k",
            "mode=755",
        ] {
            assert!(line.contains(option), "{option} is not in {line}");
        }
        if Path::new("/sys/devices/system/node/node0").exists() {
            assert!(line.contains("mpol=prefer:0"), "{line}");
        }
        assert_eq!(bed.open().expect("open").info().expect("info").numa_node, 0);
        bed.unmount().expect("unmount");
    });
}

#[test]
fn foreign_files_are_never_deleted() {
    unprivileged(|| {
        let bed = Bed::new();
        fs::create_dir(&bed.mount).expect("mkdir");
        fs::write(bed.mount.join("thesis"), "mine").expect("a file");
        for overwrite in [false, true] {
            assert_eq!(status(bed.format(overwrite)), Status::FOREIGN);
        }
        assert_eq!(status(bed.unmount()), Status::FOREIGN);
        assert_eq!(
            fs::read(bed.mount.join("thesis")).expect("still there"),
            b"mine"
        );
    });
    privileged("foreign_files_are_never_deleted", || {
        let bed = Bed::new();
        fs::create_dir(&bed.mount).expect("mkdir");
        fs::write(bed.mount.join("thesis"), "mine").expect("a file");
        assert_eq!(status(bed.format(false)), Status::FOREIGN);
        bed.format(true).expect("mounted over it");
        assert!(!bed.mount.join("thesis").exists());
        bed.unmount().expect("unmount");
        assert_eq!(
            fs::read(bed.mount.join("thesis")).expect("still there"),
            b"mine"
        );
    });
}

#[test]
fn what_is_no_directory_or_no_tmpfs_is_refused() {
    unprivileged(|| {
        let bed = Bed::new();
        fs::write(&bed.mount, "a file").expect("a file");
        assert_eq!(status(bed.format(true)), Status::FOREIGN);

        let mut bed = Bed::new();
        let target = bed.mount.parent().expect("parent").join("target");
        fs::create_dir(&target).expect("mkdir");
        std::os::unix::fs::symlink(&target, &bed.mount).expect("link");
        assert_eq!(status(bed.format(true)), Status::FOREIGN);

        let disk = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("temp dir");
        bed.config
            .insert("scm_mount".into(), json!(disk.path().join("x")));
        assert_eq!(status(bed.format(false)), Status::PERMISSION);
        assert!(!disk.path().join("x").exists());

        let mut bed = Bed::new();
        bed.config.insert("scm_size".into(), json!(65536));
        bed.config.remove("scm_size_mib");
        assert_eq!(status(bed.format(false)), Status::NO_SPACE);
        assert!(!bed.mount.exists());
    });
}

#[test]
fn a_mount_of_somebody_else_is_left_alone() {
    privileged("a_mount_of_somebody_else_is_left_alone", || {
        let bed = Bed::new();
        fs::create_dir(&bed.mount).expect("mkdir");
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("other", &bed.mount, "tmpfs", flags, c"size=1m").expect("mount");
        fs::write(bed.mount.join("file"), "x").expect("a file");
        assert_eq!(bed.state(), DeviceState::InUse);
        assert_eq!(status(bed.format(true)), Status::FOREIGN);
        assert_eq!(status(bed.unmount()), Status::FOREIGN);
        assert!(bed.mount.join("file").exists());
        rustix::mount::unmount(&bed.mount, rustix::mount::UnmountFlags::empty()).expect("unmount");
    });
}

#[test]
fn clearing_follows_no_link() {
    unprivileged(|| {
        let bed = Bed::new();
        bed.format(false).expect("format");
        let outside = bed.mount.parent().expect("parent").join("outside");
        fs::create_dir(&outside).expect("mkdir");
        fs::write(outside.join("precious"), "x").expect("a file");
        std::os::unix::fs::symlink(&outside, bed.mount.join("regions/link")).expect("link");
        bed.unmount().expect("unmount");
        assert!(outside.join("precious").exists());
    });
}

#[test]
fn a_holder_that_died_frees_the_storage() {
    unprivileged(|| {
        let bed = Bed::new();
        bed.format(false).expect("format");
        // What a killed holder leaves: its number in the file, no lock.
        fs::write(bed.mount.join(".daos-scm-lock"), "4294967295").expect("a stale number");
        drop(bed.open().expect("open"));
        bed.unmount().expect("unmount");
    });
}

#[test]
fn region_names_stay_inside() {
    unprivileged(|| {
        let bed = Bed::new();
        bed.format(false).expect("format");
        let memory = bed.open().expect("open");
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "../x",
            "a b",
            "\u{e9}",
            &"x".repeat(65),
        ] {
            let created = memory.create_region(name, 4096, CallOptions::default());
            assert_eq!(status(created), Status::INVALID, "{name:?}");
            let removed = memory.remove_region(name, CallOptions::default());
            assert_eq!(status(removed), Status::INVALID, "{name:?}");
        }
        let longest = "x".repeat(64);
        drop(
            memory
                .create_region(&longest, 1, CallOptions::default())
                .expect("longest"),
        );
        drop(memory);
        bed.unmount().expect("unmount");
    });
}

#[test]
fn the_scan_lists_each_node_with_memory_once() {
    let bed = Bed::new();
    let report = bed.instance.scan(CallOptions::default()).expect("scan");
    let mut nodes: Vec<i32> = report.devices.iter().map(|d| d.numa_node).collect();
    nodes.dedup();
    assert_eq!(nodes.len(), report.devices.len());
    let known = fs::read_to_string("/sys/devices/system/node/has_memory").unwrap_or_default();
    if known.trim() == "0" {
        assert_eq!(nodes, [0]);
    }
    assert!(!nodes.is_empty());
    assert!(
        report
            .devices
            .iter()
            .all(|d| d.class == "ram" && d.size > 0)
    );
}

/// What a format leaves that is killed: each prefix of what it makes.
fn interrupted(bed: &Bed) {
    let left: [&[&str]; 3] = [
        &[".daos-scm-ram.unfinished"],
        &[".daos-scm-ram.unfinished", "regions"],
        &[".daos-scm-ram.unfinished", "regions", ".daos-scm-lock"],
    ];
    for names in left {
        for name in names {
            let path = bed.mount.join(name);
            let made = match *name {
                "regions" => fs::create_dir(path),
                _ => fs::write(path, ""),
            };
            made.expect("our directory");
        }
        assert_eq!(bed.state(), DeviceState::Absent, "{names:?}");
        assert_eq!(bed.device().detail, "", "{names:?}");
        assert_eq!(status(bed.mount()), Status::NOT_FOUND);
        bed.format(false)
            .expect("a format after an interrupted one");
        assert_eq!(bed.state(), DeviceState::Present);
        drop(bed.open().expect("open"));
        bed.unmount().expect("unmount");
        fs::create_dir_all(&bed.mount).expect("our directory");
    }
    // Anything else beside it is not ours to remove.
    fs::write(bed.mount.join(".daos-scm-ram.unfinished"), "").expect("our directory");
    fs::write(bed.mount.join("letter"), "dear").expect("our directory");
    assert!(bed.device().detail.contains("not ours"));
}

#[test]
fn an_interrupted_format_is_undone_by_the_next_one() {
    let bed = Bed::new();
    fs::create_dir(&bed.mount).expect("our directory");
    unprivileged(|| interrupted(&bed));
}

#[test]
fn a_mount_that_was_not_marked_yet_is_made_anew() {
    let name = "a_mount_that_was_not_marked_yet_is_made_anew";
    privileged(name, || {
        let bed = Bed::new();
        fs::create_dir(&bed.mount).expect("our directory");
        let mounts = || {
            let table = fs::read_to_string("/proc/thread-self/mountinfo").expect("a mount table");
            let shown = format!(" {} ", bed.mount.display());
            table.lines().filter(|l| l.contains(&shown)).count()
        };
        for marker in [None, Some(".daos-scm-ram.unfinished")] {
            let flags = rustix::mount::MountFlags::empty();
            let none: Option<&std::ffi::CStr> = None;
            rustix::mount::mount("daos-scm-ram", &bed.mount, "tmpfs", flags, none)
                .expect("a mount");
            if let Some(marker) = marker {
                fs::write(bed.mount.join(marker), "").expect("our mount");
            }
            assert_eq!(bed.state(), DeviceState::Absent);
            bed.format(false)
                .expect("a format after an interrupted one");
            assert_eq!((bed.state(), mounts()), (DeviceState::Present, 1));
            bed.unmount().expect("unmount");
            fs::create_dir_all(&bed.mount).expect("our directory");
        }
        assert_eq!(mounts(), 0);
    });
}
