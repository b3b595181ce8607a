//! Control face and kernel semantics on loop devices.

use bdev_kdev::BdevKdev;
use bdev_model::driver::{Arena, Driver, Io};
use bdev_model::machine::{LoopDevice, on_small_tmpfs};
use bdev_model::{class, instance, serde_json::json};
use daos_plugin_api::abi::{BdevEvent, BdevGeometry, BdevOp, Status};
use daos_plugin_api::control::{
    DeviceRecord, DeviceSpec, DeviceState, FormatReport, FormatRequest,
};
use daos_plugin_api::host::{BdevDevice, CallOptions, Instance};
use daos_plugin_api::sdk::Error;
use daos_plugin_api::sdk::thunks::table;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const MIB: u64 = 1 << 20;

fn options() -> CallOptions<'static> {
    CallOptions::default()
}

fn plugin() -> Instance {
    instance(table::<BdevKdev>(), json!({}))
}

fn disk() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

fn device(plugin: &Instance, path: &Path) -> DeviceSpec {
    let request = class("kdev", json!({ "bdev_list": [path] }));
    plugin.devices(&request, options()).unwrap().remove(0)
}

fn open(plugin: &Instance, path: &Path) -> Result<BdevDevice, Error> {
    plugin.open_bdev(&device(plugin, path), options())
}

fn format(plugin: &Instance, path: &Path) -> Result<FormatReport, Error> {
    let request = FormatRequest {
        device: device(plugin, path),
        overwrite_foreign: true,
        nvme_format: false,
        check_only: false,
    };
    plugin.format(&request, options())
}

fn scanned(plugin: &Instance, path: &Path) -> Option<DeviceRecord> {
    let devices = plugin.scan(options()).unwrap().devices;
    devices
        .into_iter()
        .find(|device| Path::new(&device.address) == path)
}

fn run(program: &str, args: &[&Path]) {
    let output = Command::new(program).args(args).output().expect(program);
    assert!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Every way to ask gives the same answer: in use, by somebody whose name contains `who`.
fn assert_in_use(plugin: &Instance, path: &Path, who: &str) {
    let spec = device(plugin, path);
    assert_eq!(spec.state, DeviceState::InUse);
    assert!(
        spec.detail.contains(who),
        "{} does not say {who}",
        spec.detail
    );
    for error in [
        open(plugin, path).err().unwrap(),
        format(plugin, path).unwrap_err(),
    ] {
        assert_eq!(error.status, Status::BUSY, "{error}");
        assert!(error.cause.contains(who), "{error} does not say {who}");
        assert!(error.what.contains(path.to_str().unwrap()) && !error.remedy.is_empty());
    }
}

#[test]
fn scan_lists_size_blocks_and_what_is_behind() {
    for block in [512, 4096] {
        let Some(dev) = LoopDevice::new(
            "scan_lists_size_blocks_and_what_is_behind",
            disk(),
            8 * MIB,
            block,
        ) else {
            return;
        };
        let plugin = plugin();
        let record = scanned(&plugin, dev.path()).expect("the loop device is listed");
        assert_eq!((record.size, record.block_size), (8 * MIB, block));
        assert_eq!(record.in_use, None);
        let behind = record.details["backing_file"].as_str().unwrap();
        assert!(behind.ends_with("/backing"), "{behind}");
        let open = open(&plugin, dev.path()).unwrap();
        let geometry = open.geometry();
        assert_eq!(
            (geometry.block_size, geometry.block_count),
            (block, 8 * MIB / u64::from(block))
        );
        assert!(geometry.flags & BdevGeometry::EPHEMERAL == 0);
        assert!(
            scanned(&plugin, dev.path()).unwrap().in_use.is_some(),
            "now it is open"
        );
    }
}

#[test]
fn a_mounted_device_is_in_use_by_its_mount_point() {
    on_small_tmpfs(
        "a_mounted_device_is_in_use_by_its_mount_point",
        MIB,
        |dir| {
            let dev = LoopDevice::new(
                "a_mounted_device_is_in_use_by_its_mount_point",
                disk(),
                16 * MIB,
                512,
            )
            .unwrap();
            run("mkfs.ext4", &[Path::new("-q"), dev.path()]);
            let plugin = plugin();
            assert_eq!(
                device(&plugin, dev.path()).state,
                DeviceState::Present,
                "signatures are not ours"
            );
            let place = dir.join("mnt");
            fs::create_dir(&place).unwrap();
            run("mount", &[dev.path(), &place]);
            assert_in_use(
                &plugin,
                dev.path(),
                &format!("mounted at {}", place.display()),
            );
            let found = scanned(&plugin, dev.path()).unwrap().in_use.unwrap();
            assert!(found.contains("/mnt"), "{found}");
            run("umount", &[&place]);
            assert_eq!(device(&plugin, dev.path()).state, DeviceState::Present);
        },
    );
}

struct SwapOff<'a>(&'a Path);

impl Drop for SwapOff<'_> {
    fn drop(&mut self) {
        let _ = Command::new("swapoff").arg(self.0).status();
    }
}

#[test]
fn a_swap_device_is_in_use() {
    let Some(dev) = LoopDevice::new("a_swap_device_is_in_use", disk(), 16 * MIB, 512) else {
        return;
    };
    // The kernel swaps to no file with holes, and this one gets its swap space written.
    let backing = File::options().write(true).open(dev.backing()).unwrap();
    backing.write_all_at(&vec![0; 16 << 20], 0).unwrap();
    run("mkswap", &[dev.path()]);
    let on = Command::new("swapon").arg(dev.path()).output().unwrap();
    if !on.status.success() {
        let text = String::from_utf8_lossy(&on.stderr);
        println!("NOT RUN a_swap_device_is_in_use: swapon fails: {text}");
        return;
    }
    let off = SwapOff(dev.path());
    let plugin = plugin();
    assert_in_use(&plugin, dev.path(), "swap");
    drop(off);
    assert_eq!(device(&plugin, dev.path()).state, DeviceState::Present);
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_exclusive_opener_is_named_but_a_mere_reader_does_not_matter() {
    let Some(dev) = LoopDevice::new(
        "an_exclusive_opener_is_named_but_a_mere_reader_does_not_matter",
        disk(),
        8 * MIB,
        512,
    ) else {
        return;
    };
    let plugin = plugin();
    let reader = File::open(dev.path()).unwrap();
    let mut child = Command::new("sleep");
    let child = Killed(child.arg("60").stdin(Stdio::from(reader)).spawn().unwrap());
    assert_eq!(device(&plugin, dev.path()).state, DeviceState::Present);
    let ours = open(&plugin, dev.path()).unwrap();
    assert_in_use(
        &plugin,
        dev.path(),
        &format!("pid {} (sleep)", child.0.id()),
    );
    drop(ours);
    open(&plugin, dev.path()).unwrap();
}

#[test]
fn partitions_are_devices_and_block_their_disk() {
    let name = "partitions_are_devices_and_block_their_disk";
    let Some(dev) = LoopDevice::with_partitions(name, disk(), 8 * MIB) else {
        return;
    };
    // By hand, because not every kernel reads partition tables.
    run(
        "addpart",
        &[
            dev.path(),
            Path::new("1"),
            Path::new("2048"),
            Path::new("2048"),
        ],
    );
    let first = dev.path().with_file_name(format!(
        "{}p1",
        dev.path().file_name().unwrap().to_str().unwrap()
    ));
    let plugin = plugin();
    assert_eq!(device(&plugin, dev.path()).state, DeviceState::Present);
    let spec = device(&plugin, &first);
    assert_eq!((spec.state, spec.size), (DeviceState::Present, MIB));
    let part = open(&plugin, &first).unwrap();
    assert_eq!(part.size(), MIB);
    assert_eq!(
        device(&plugin, dev.path()).state,
        DeviceState::InUse,
        "a partition is in use"
    );
    assert_eq!(
        open(&plugin, dev.path()).err().unwrap().status,
        Status::BUSY
    );
    let mut driver = Driver::new(&part, 1, Arena::foreign(512));
    driver.memory().fill(0x77);
    assert_eq!(
        driver.run(&Io::with(BdevOp::WRITE, 2047, 1, 0..512)),
        Status::OK
    );
    assert_eq!(
        driver.run(&Io::with(BdevOp::WRITE, 2048, 1, 0..512)),
        Status::INVALID
    );
    drop((driver, part));
    let mut sector = [0u8; 512];
    File::open(dev.path())
        .unwrap()
        .read_exact_at(&mut sector, 4095 * 512)
        .unwrap();
    assert_eq!(sector, [0x77; 512], "the last sector of the partition");
    let whole = open(&plugin, dev.path()).unwrap();
    assert_eq!(
        device(&plugin, &first).state,
        DeviceState::InUse,
        "the disk is in use"
    );
    drop(whole);
}

#[test]
fn unmap_is_a_real_discard_and_write_zeroes_zeroes() {
    for engine in ["uring", "threads"] {
        let name = "unmap_is_a_real_discard_and_write_zeroes_zeroes";
        let Some(dev) = LoopDevice::new(name, disk(), 16 * MIB, 4096) else {
            return;
        };
        let plugin = instance(table::<BdevKdev>(), json!({ "io_engine": engine }));
        let open = open(&plugin, dev.path()).unwrap();
        assert!(
            open.geometry().deallocate_granularity > 0,
            "loop devices on a file can discard"
        );
        let mut driver = Driver::new(&open, 4, Arena::foreign(8 * MIB as usize));
        driver.memory().fill(0xab);
        let write = Io::with(BdevOp::WRITE, 0, 2048, 0..8 * MIB as usize);
        assert_eq!(driver.run(&write), Status::OK);
        assert_eq!(driver.run(&Io::bare(BdevOp::FLUSH, 0, 0)), Status::OK);
        let used = || dev.backing().metadata().unwrap().blocks() * 512;
        let before = used();
        assert!(before >= 8 * MIB, "{before} bytes");
        assert_eq!(
            driver.run(&Io::bare(BdevOp::UNMAP, 256, 1024).fua()),
            Status::OK
        );
        assert!(
            used() <= before - 4 * MIB,
            "{engine}: discarding 4 MiB freed too little"
        );
        assert_eq!(
            driver.run(&Io::bare(BdevOp::WRITE_ZEROES, 1280, 512)),
            Status::OK
        );
        assert_eq!(
            driver.run(&Io::with(BdevOp::READ, 0, 2048, 0..8 * MIB as usize)),
            Status::OK
        );
        let memory = driver.memory();
        assert!(memory[..(MIB as usize)].iter().all(|byte| *byte == 0xab));
        assert!(
            memory[5 * MIB as usize..7 * MIB as usize]
                .iter()
                .all(|byte| *byte == 0)
        );
        assert!(memory[7 * MIB as usize..].iter().all(|byte| *byte == 0xab));
    }
}

#[test]
fn format_removes_signatures_at_both_ends() {
    let Some(dev) = LoopDevice::new(
        "format_removes_signatures_at_both_ends",
        disk(),
        8 * MIB,
        512,
    ) else {
        return;
    };
    let file = File::options().write(true).open(dev.path()).unwrap();
    file.write_all_at(&vec![0xcd; 8 << 20], 0).unwrap();
    file.sync_all().unwrap();
    drop(file);
    let plugin = plugin();
    assert_eq!(format(&plugin, dev.path()).unwrap().size, 8 * MIB);
    let data = fs::read(dev.path()).unwrap();
    assert!(data[..MIB as usize].iter().all(|byte| *byte == 0));
    assert!(data[7 * MIB as usize..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_resized_device_says_so() {
    let Some(dev) = LoopDevice::new("a_resized_device_says_so", disk(), 8 * MIB, 4096) else {
        return;
    };
    let plugin = plugin();
    let open = open(&plugin, dev.path()).unwrap();
    assert!(open.geometry().admin_poll_us > 0);
    open.poll_admin().unwrap();
    assert_eq!(open.next_event(), None);
    dev.resize(12 * MIB);
    open.poll_admin().unwrap();
    let event = open.next_event().expect("an event");
    assert_eq!((event.kind, event.value), (BdevEvent::RESIZED, 3072));
    assert_eq!(open.next_event(), None);
}

#[test]
fn a_device_that_runs_out_of_space_fails_writes_and_its_health_says_so() {
    on_small_tmpfs(
        "a_device_that_runs_out_of_space_fails_writes_and_its_health_says_so",
        4 * MIB,
        |dir| {
            let name = "a_device_that_runs_out_of_space_fails_writes_and_its_health_says_so";
            let dev = LoopDevice::new(name, dir, 32 * MIB, 4096).unwrap();
            let plugin = plugin();
            let open = open(&plugin, dev.path()).unwrap();
            let mut driver = Driver::new(&open, 1, Arena::foreign(8 * MIB as usize));
            driver.memory().fill(1);
            let status = driver.run(&Io::with(BdevOp::WRITE, 0, 2048, 0..8 * MIB as usize));
            assert!([Status::IO, Status::NO_SPACE].contains(&status), "{status}");
            let errors = open.health(options()).unwrap()["io_errors"]
                .as_u64()
                .unwrap();
            assert_eq!(errors, u64::from(status == Status::IO));
            drop((driver, open, dev));
        },
    );
}

#[test]
fn what_is_no_block_device_is_refused_and_what_is_missing_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    let plugin = plugin();
    for (path, remedy) in [
        (file.as_path(), "bdev_class file"),
        (Path::new("/dev/null"), "bdev_list"),
    ] {
        let request = class("kdev", json!({ "bdev_list": [path] }));
        let error = plugin.devices(&request, options()).unwrap_err();
        assert_eq!(error.status, Status::INVALID);
        assert!(error.remedy.contains(remedy), "{error}");
    }
    let missing = dir.path().join("missing");
    assert_eq!(device(&plugin, &missing).state, DeviceState::Missing);
    assert_eq!(
        open(&plugin, &missing).err().unwrap().status,
        Status::NOT_FOUND
    );
}

#[test]
fn two_names_of_one_device_are_an_error() {
    let Some(dev) = LoopDevice::new("two_names_of_one_device_are_an_error", disk(), 8 * MIB, 512)
    else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("by-id");
    std::os::unix::fs::symlink(dev.path(), &link).unwrap();
    let plugin = plugin();
    let request = class("kdev", json!({ "bdev_list": [dev.path(), &link] }));
    let error = plugin.devices(&request, options()).unwrap_err();
    assert_eq!(error.status, Status::INVALID);
    assert!(
        error.what.contains("by-id") && error.what.contains("loop"),
        "{error}"
    );
    assert_eq!(device(&plugin, &link).size, 8 * MIB);
}

#[test]
fn a_read_only_device_is_refused() {
    let Some(dev) = LoopDevice::read_only("a_read_only_device_is_refused", disk(), 8 * MIB) else {
        return;
    };
    let plugin = plugin();
    assert_eq!(
        scanned(&plugin, dev.path()).unwrap().in_use.as_deref(),
        Some("read-only")
    );
    let error = open(&plugin, dev.path()).err().unwrap();
    assert_eq!(error.status, Status::PERMISSION, "{error}");
    assert!(
        error.to_string().contains("read-only") || error.remedy.contains("root"),
        "{error}"
    );
}
