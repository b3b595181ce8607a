//! Control face and failures of real file systems.

use bdev_file::BdevFile;
use bdev_model::driver::{Arena, Driver, Io};
use bdev_model::machine::on_small_tmpfs;
use bdev_model::{Subject, class, instance, serde_json::json};
use daos_plugin_api::abi::{BdevGeometry, BdevOp, Status};
use daos_plugin_api::control::{DeviceSpec, DeviceState, FormatReport, FormatRequest};
use daos_plugin_api::host::{CallOptions, Instance};
use daos_plugin_api::sdk::Error;
use daos_plugin_api::sdk::thunks::table;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

fn options() -> CallOptions<'static> {
    CallOptions::default()
}

fn plugin() -> Instance {
    instance(table::<BdevFile>(), json!({}))
}

fn device(instance: &Instance, path: &Path, mib: u64) -> DeviceSpec {
    let request = class("file", json!({ "bdev_list": [path], "bdev_size_mib": mib }));
    instance.devices(&request, options()).unwrap().remove(0)
}

fn format(instance: &Instance, device: &DeviceSpec, force: bool) -> Result<FormatReport, Error> {
    let request = FormatRequest {
        device: device.clone(),
        overwrite_foreign: force,
        nvme_format: false,
        check_only: false,
    };
    instance.format(&request, options())
}

#[test]
fn a_file_is_made_allocated_private_and_zero() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new");
    let plugin = plugin();
    let spec = device(&plugin, &path, 8);
    assert_eq!((spec.state, spec.size), (DeviceState::Absent, 8 * MIB));
    let error = plugin.open_bdev(&spec, options()).err().unwrap();
    assert_eq!(error.status, Status::NOT_FOUND, "{error}");
    assert!(error.remedy.contains("format"), "{error}");
    assert!(!path.exists(), "listing and opening make nothing");
    assert_eq!(format(&plugin, &spec, false).unwrap().size, 8 * MIB);
    let found = path.metadata().unwrap();
    assert_eq!(found.permissions().mode() & 0o7777, 0o600);
    assert_eq!(found.len(), 8 * MIB);
    assert!(found.blocks() * 512 >= 8 * MIB, "{} blocks", found.blocks());
    assert!(fs::read(&path).unwrap().iter().all(|byte| *byte == 0));
    let spec = device(&plugin, &path, 8);
    assert_eq!(
        (spec.state, spec.detail.as_str()),
        (DeviceState::Present, "")
    );
    let open = plugin.open_bdev(&spec, options()).unwrap();
    assert!(open.geometry().flags & BdevGeometry::VOLATILE_CACHE != 0);
    assert_eq!(open.geometry().block_size, 4096);
}

#[test]
fn foreign_content_is_kept_unless_overwriting_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("letters");
    let plugin = plugin();
    fs::write(&path, b"somebody's letters").unwrap();
    let spec = device(&plugin, &path, 8);
    assert_eq!((spec.state, spec.size), (DeviceState::Present, 18));
    assert!(spec.detail.contains("18 bytes"), "{}", spec.detail);
    for error in [
        format(&plugin, &spec, false).unwrap_err(),
        plugin.open_bdev(&spec, options()).err().unwrap(),
    ] {
        assert_eq!(error.status, Status::FOREIGN, "{error}");
        assert!(
            error.what.contains("letters") && !error.remedy.is_empty(),
            "{error}"
        );
    }
    assert_eq!(fs::read(&path).unwrap(), b"somebody's letters");
    let report = format(&plugin, &spec, true).unwrap();
    assert!(report.notes[0].contains("18 bytes"), "{:?}", report.notes);
    assert_eq!(path.metadata().unwrap().len(), 8 * MIB);
}

#[test]
fn empty_files_and_files_of_our_size_are_formatted() {
    let dir = tempfile::tempdir().unwrap();
    let plugin = plugin();
    let empty = dir.path().join("empty");
    fs::write(&empty, b"").unwrap();
    let spec = device(&plugin, &empty, 4);
    assert_eq!(spec.state, DeviceState::Absent);
    format(&plugin, &spec, false).unwrap();
    let sparse = dir.path().join("sparse");
    fs::File::create(&sparse).unwrap().set_len(4 * MIB).unwrap();
    fs::write(dir.path().join("x"), b"x").unwrap();
    let spec = device(&plugin, &sparse, 4);
    assert_eq!(spec.state, DeviceState::Present);
    format(&plugin, &spec, false).unwrap();
    assert!(sparse.metadata().unwrap().blocks() * 512 >= 4 * MIB);
}

#[test]
fn an_open_device_is_in_use_and_not_formatted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("open");
    let plugin = plugin();
    let spec = device(&plugin, &path, 4);
    format(&plugin, &spec, false).unwrap();
    let open = plugin.open_bdev(&spec, options()).unwrap();
    assert_eq!(device(&plugin, &path, 4).state, DeviceState::InUse);
    assert_eq!(
        format(&plugin, &spec, true).unwrap_err().status,
        Status::BUSY
    );
    drop(open);
    assert_eq!(device(&plugin, &path, 4).state, DeviceState::Present);
    format(&plugin, &spec, true).unwrap();
}

/// Asynchronous I/O of a process that was killed may outlive it for a moment: the lock tells when it is over.
#[test]
fn a_file_is_at_rest_once_its_last_user_and_its_requests_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rest");
    let plugin = plugin();
    let spec = device(&plugin, &path, 4);
    plugin.quiesce(&spec, options()).unwrap();
    assert!(!path.exists(), "nothing is made");
    format(&plugin, &spec, false).unwrap();
    let open = plugin.open_bdev(&spec, options()).unwrap();
    let error = plugin.quiesce(&spec, options()).unwrap_err();
    assert_eq!(error.status, Status::BUSY, "{error}");
    drop(open);
    // Whoever held the file is gone, what it began is not: its descriptor lives on in nobody's table.
    let (held, keeper) = std::os::unix::net::UnixStream::pair().unwrap();
    lend(&held, &path);
    let waited = std::thread::scope(|scope| {
        let begun = Instant::now();
        let rest = scope.spawn(|| plugin.quiesce(&spec, options()));
        std::thread::sleep(Duration::from_millis(300));
        assert!(!rest.is_finished(), "somebody's request is still under way");
        drop((held, keeper));
        rest.join().unwrap().unwrap();
        begun.elapsed()
    });
    assert!(waited >= Duration::from_millis(300));
    plugin.quiesce(&spec, options()).unwrap();
    drop(plugin.open_bdev(&spec, options()).unwrap());
}

/// Sends a locked descriptor of `path` into a socket that nobody reads, and closes it here.
fn lend(socket: &std::os::unix::net::UnixStream, path: &Path) {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use std::os::fd::AsFd;
    let file = fs::File::open(path).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [file.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let text = std::io::IoSlice::new(b"x");
    sendmsg(socket, &[text], &mut control, SendFlags::empty()).unwrap();
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_process_that_holds_a_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("held");
    let plugin = plugin();
    let spec = device(&plugin, &path, 4);
    format(&plugin, &spec, false).unwrap();
    // `flock` stays the holder itself: `--no-fork` replaces it by `sleep`.
    let child = Command::new("flock")
        .arg("--no-fork")
        .arg(&path)
        .args(["sleep", "60"])
        .spawn();
    let child = Killed(child.unwrap());
    let start = Instant::now();
    while device(&plugin, &path, 4).state != DeviceState::InUse {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "the child takes the lock"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    let error = plugin.open_bdev(&spec, options()).err().unwrap();
    assert_eq!(error.status, Status::BUSY);
    let pid = format!("pid {}", child.0.id());
    assert!(error.cause.contains(&pid), "{error} does not name {pid}");
    assert!(device(&plugin, &path, 4).detail.contains(&pid));
}

#[test]
fn what_is_no_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let plugin = plugin();
    for path in [dir.path(), Path::new("/dev/null")] {
        let request = class("file", json!({ "bdev_list": [path], "bdev_size_mib": 1 }));
        let error = plugin.devices(&request, options()).unwrap_err();
        assert_eq!(error.status, Status::INVALID, "{error}");
        assert!(error.what.contains(path.to_str().unwrap()), "{error}");
    }
    let orphan = dir.path().join("missing").join("file");
    let spec = device(&plugin, &orphan, 1);
    assert_eq!(spec.state, DeviceState::Absent);
    assert!(spec.detail.contains("missing"), "{}", spec.detail);
    let error = format(&plugin, &spec, false).unwrap_err();
    assert_eq!(error.status, Status::NOT_FOUND);
    assert!(error.remedy.contains("missing"), "{error}");
}

#[test]
fn a_cancelled_format_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cancelled");
    let plugin = plugin();
    let spec = device(&plugin, &path, 4);
    let cancel = AtomicBool::new(true);
    let request = FormatRequest {
        device: spec,
        overwrite_foreign: false,
        nvme_format: false,
        check_only: false,
    };
    let call = CallOptions {
        cancel: Some(&cancel),
        ..options()
    };
    assert_eq!(
        plugin.format(&request, call).unwrap_err().status,
        Status::CANCELLED
    );
    assert!(!path.exists());
}

#[test]
fn a_full_file_system_is_an_error_of_format_that_leaves_nothing() {
    on_small_tmpfs(
        "a_full_file_system_is_an_error_of_format_that_leaves_nothing",
        8 * MIB,
        |dir| {
            let plugin = plugin();
            let path = dir.join("big");
            let spec = device(&plugin, &path, 16);
            let error = format(&plugin, &spec, false).unwrap_err();
            assert_eq!(error.status, Status::NO_SPACE, "{error}");
            assert!(
                error.what.contains("big") && error.remedy.contains("bdev_size"),
                "{error}"
            );
            assert!(!path.exists(), "the partial file is removed");
            format(&plugin, &device(&plugin, &path, 4), false).unwrap();
        },
    );
}

/// Fills the file system; the bytes that fitted.
fn fill(dir: &Path) -> u64 {
    let path = dir.join("filler");
    let mut file = fs::File::create(&path).unwrap();
    let chunk = vec![1u8; 64 << 10];
    while std::io::Write::write_all(&mut file, &chunk).is_ok() {}
    path.metadata().unwrap().len()
}

#[test]
fn released_space_can_be_gone_and_kept_space_cannot() {
    for engine in ["uring", "threads"] {
        for (unmap, expected) in [("release", Status::NO_SPACE), ("keep", Status::OK)] {
            on_small_tmpfs(
                "released_space_can_be_gone_and_kept_space_cannot",
                16 * MIB,
                |dir| {
                    let settings = json!({ "unmap": unmap, "io_engine": engine });
                    let plugin = instance(table::<BdevFile>(), settings);
                    let spec = device(&plugin, &dir.join("device"), 8);
                    format(&plugin, &spec, false).unwrap();
                    let open = plugin.open_bdev(&spec, options()).unwrap();
                    let mut driver = Driver::new(&open, 4, Arena::foreign(MIB as usize));
                    let all = open.geometry().block_count;
                    assert_eq!(driver.run(&Io::bare(BdevOp::UNMAP, 0, all)), Status::OK);
                    let filled = fill(dir);
                    let room = if unmap == "keep" { 8 * MIB } else { 16 * MIB };
                    assert!(filled <= room && filled > room - MIB, "{filled} bytes fit");
                    let write = Io::with(BdevOp::WRITE, 10, 256, 0..MIB as usize);
                    assert_eq!(driver.run(&write), expected, "{engine}, unmap {unmap}");
                },
            );
        }
    }
}

#[test]
fn a_truncated_file_is_an_io_error_and_shows_in_its_health() {
    let dir = tempfile::tempdir().unwrap();
    for engine in ["uring", "threads"] {
        let plugin = instance(table::<BdevFile>(), json!({ "io_engine": engine }));
        let spec = device(&plugin, &dir.path().join(engine), 4);
        format(&plugin, &spec, false).unwrap();
        let subject = Subject {
            instance: plugin,
            spec,
            wrap: None,
            guard: Box::new(()),
        };
        let open = subject.open();
        let mut driver = Driver::new(&open, 4, Arena::foreign(MIB as usize));
        let len = 64 * 4096;
        // The file ends inside the first request, and before the second.
        let file = fs::File::options()
            .write(true)
            .open(&subject.spec.address)
            .unwrap();
        file.set_len(500 * 4096).unwrap();
        for lba in [500 - 10, 900] {
            let status = driver.run(&Io::with(BdevOp::READ, lba, 64, 0..len));
            assert_eq!(status, Status::IO, "{engine}");
        }
        assert_eq!(
            driver.run(&Io::with(BdevOp::READ, 0, 64, 0..len)),
            Status::OK
        );
        let health = open.health(options()).unwrap();
        assert_eq!(health["status"], "warning");
        assert_eq!(health["io_errors"], 2);
        let health = subject.instance.control(
            daos_plugin_api::host::ControlOp::Health,
            &serde_json::to_string(&subject.spec).unwrap(),
            options(),
        );
        assert!(health.unwrap().contains("critical"));
    }
}

/// A limit below the size would end the process with a signal, so this one runs in a child.
#[test]
fn a_file_size_limit_is_an_error_not_a_signal() {
    const IN_CHILD: &str = "BDEV_FILE_TEST_IN_LIMITED_CHILD";
    let name = "a_file_size_limit_is_an_error_not_a_signal";
    if std::env::var_os(IN_CHILD).is_some() {
        let dir = tempfile::tempdir().unwrap();
        let plugin = plugin();
        let path = dir.path().join("long");
        let error = format(&plugin, &device(&plugin, &path, 8), false).unwrap_err();
        assert_eq!(error.status, Status::NO_SPACE);
        assert!(error.remedy.contains("ulimit -f"), "{error}");
        assert!(!path.exists());
        return;
    }
    let test = std::env::current_exe().unwrap();
    let output = Command::new("sh")
        .args(["-c", "ulimit -f 2048; exec \"$0\" --exact \"$1\""])
        .arg(test)
        .arg(name)
        .env(IN_CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{output:?}"
    );
}
