//! The plugin through its table, in directories: what is refused, what stays, what comes back.

use daos_plugin_api::abi::{ScmInfo, Status};
use daos_plugin_api::control::{ClassRequest, DeviceSpec, DeviceState, FormatRequest};
use daos_plugin_api::host::{CallOptions, Instance, InstanceOptions, ScmMemory};
use daos_plugin_api::sdk::{Error, thunks};
use scm_dcpm::ScmDcpm;
use serde_json::{Map, Value, json};
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

const SIZE_MIB: u64 = 16;

struct Bed {
    instance: Instance,
    mount: PathBuf,
    config: Map<String, Value>,
    dir: TempDir,
}

impl Bed {
    fn new() -> Self {
        let dir = TempDir::with_prefix_in("scm-dcpm-test-", env!("CARGO_TARGET_TMPDIR"));
        let dir = dir.expect("temp dir");
        let mount = dir.path().join("storage");
        let Value::Object(config) =
            json!({"scm_mount": mount, "scm_list": [dir.path()], "scm_size_mib": SIZE_MIB})
        else {
            unreachable!("an object literal")
        };
        let instance = Instance::create(thunks::table::<ScmDcpm>(), InstanceOptions::built_in())
            .expect("instance");
        Self {
            instance,
            mount,
            config,
            dir,
        }
    }

    fn list(&self) -> Result<DeviceSpec, Error> {
        let request = ClassRequest {
            class: "dcpm".into(),
            config: self.config.clone(),
        };
        let devices = self.instance.devices(&request, CallOptions::default());
        devices.map(|mut devices| devices.remove(0))
    }

    fn device(&self) -> DeviceSpec {
        self.list().expect("devices")
    }

    fn format(&self, overwrite_foreign: bool) -> Result<Vec<String>, Error> {
        let request = FormatRequest {
            device: self.device(),
            overwrite_foreign,
            nvme_format: false,
            check_only: false,
        };
        let report = self.instance.format(&request, CallOptions::default())?;
        assert_eq!(report.size, SIZE_MIB << 20);
        Ok(report.notes)
    }

    fn open(&self) -> Result<ScmMemory, Error> {
        self.instance
            .open_scm(&self.device(), CallOptions::default())
    }
}

fn status<T>(result: Result<T, Error>) -> Status {
    result.err().map_or(Status::OK, |e| {
        println!("{e}");
        e.status
    })
}

#[test]
fn a_directory_lives_over_openers_and_is_made_anew_by_a_format() {
    let bed = Bed::new();
    assert_eq!(bed.device().state, DeviceState::Absent);
    let options = CallOptions::default;
    assert_eq!(
        status(bed.instance.mount(&bed.device(), options())),
        Status::NOT_FOUND
    );
    assert_eq!(status(bed.open()), Status::NOT_FOUND);
    let notes = bed.format(false).expect("format");
    assert_eq!(bed.device().state, DeviceState::Present);
    bed.instance.mount(&bed.device(), options()).expect("mount");

    let memory = bed.open().expect("open");
    let info = memory.info().expect("info");
    assert_eq!(info.total, SIZE_MIB << 20);
    assert_eq!(info.flags & ScmInfo::EPHEMERAL, 0);
    // Without direct access it says so, when it is made.
    let direct = info.flags & ScmInfo::DAX != 0;
    assert_eq!(
        direct,
        !notes.iter().any(|note| note.contains("msync")),
        "{notes:?}"
    );
    let region = memory
        .create_region("r", 1 << 20, options())
        .expect("region");
    // SAFETY: mapped and only used here.
    unsafe { region.ptr().cast::<u64>().add(5).write(42) };
    region.persist(40, 8).expect("persist");
    assert_eq!(bed.device().state, DeviceState::InUse);
    assert_eq!(status(bed.format(false)), Status::BUSY);
    assert_eq!(
        status(bed.instance.unmount(&bed.device(), options())),
        Status::BUSY
    );
    drop((region, memory));

    // What is persistent does not go with its mount.
    bed.instance
        .unmount(&bed.device(), options())
        .expect("unmount");
    let memory = bed.open().expect("open again");
    let region = memory.open_region("r", options()).expect("still there");
    // SAFETY: mapped and only used here.
    assert_eq!(unsafe { region.ptr().cast::<u64>().add(5).read() }, 42);
    drop((region, memory));

    fs::write(bed.mount.join("superblock"), "x").expect("a file");
    bed.format(false).expect("format again");
    assert!(!bed.mount.join("superblock").exists());
    let memory = bed.open().expect("open");
    assert_eq!(
        status(memory.open_region("r", options())),
        Status::NOT_FOUND
    );
}

#[test]
fn foreign_files_are_never_deleted() {
    let bed = Bed::new();
    fs::create_dir(&bed.mount).expect("mkdir");
    fs::write(bed.mount.join("thesis"), "mine").expect("a file");
    assert!(bed.device().detail.contains("thesis"));
    for overwrite in [false, true] {
        assert_eq!(status(bed.format(overwrite)), Status::FOREIGN);
    }
    assert_eq!(
        fs::read(bed.mount.join("thesis")).expect("still there"),
        b"mine"
    );
}

#[test]
fn what_can_be_no_persistent_memory_is_refused_with_its_reason() {
    let mut bed = Bed::new();
    let file = bed.dir.path().join("file");
    fs::write(&file, "x").expect("a file");
    let mut with = |list: Value| {
        bed.config.insert("scm_list".into(), list);
        bed.list()
    };
    let error = with(json!([file])).expect_err("a file");
    assert_eq!(error.status, Status::INVALID, "{error}");
    let missing = with(json!(["/dev/pmem-of-tests"])).expect("listed");
    assert_eq!(missing.state, DeviceState::Missing);
    assert!(
        missing.detail.contains("storage prepare --scm-only"),
        "{}",
        missing.detail
    );
    // Any disk: it has no direct access.
    let disks = fs::read_dir("/sys/class/block")
        .into_iter()
        .flatten()
        .flatten();
    let disk = disks
        .filter(|d| !d.file_name().to_string_lossy().starts_with("pmem"))
        .map(|d| PathBuf::from("/dev").join(d.file_name()))
        .find(|path| path.exists());
    match disk {
        None => println!("NOT RUN a disk as persistent memory: there is no block device"),
        Some(disk) => {
            let error = with(json!([disk])).expect_err("a disk");
            assert_eq!(error.status, Status::NOT_SUPPORTED, "{error}");
            assert!(error.to_string().contains("fsdax"), "{error}");
        }
    }
}

#[test]
fn an_interrupted_format_is_undone_by_the_next_one() {
    let bed = Bed::new();
    let left: [&[&str]; 3] = [
        &[".daos-scm-dcpm.unfinished"],
        &[".daos-scm-dcpm.unfinished", "regions"],
        &[".daos-scm-dcpm.unfinished", "regions", ".daos-scm-lock"],
    ];
    for names in left {
        fs::create_dir(&bed.mount).expect("mkdir");
        for name in names {
            let path = bed.mount.join(name);
            let made = match *name {
                "regions" => fs::create_dir(path),
                _ => fs::write(path, ""),
            };
            made.expect("what a format makes");
        }
        let device = bed.device();
        assert_eq!(
            (device.state, device.detail.as_str()),
            (DeviceState::Absent, ""),
            "{names:?}"
        );
        bed.format(false)
            .expect("a format after an interrupted one");
        drop(bed.open().expect("open"));
        fs::remove_dir_all(&bed.mount).expect("our directory");
    }
}

#[test]
fn more_than_is_free_is_refused_before_anything_is_made() {
    let mut bed = Bed::new();
    bed.config.remove("scm_size_mib");
    bed.config.insert("scm_size".into(), json!(65536));
    assert_eq!(status(bed.format(false)), Status::NO_SPACE);
    assert!(!bed.mount.exists());
}
