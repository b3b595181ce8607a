//! Files that are deleted, cut or made read-only under a running engine: typed errors, no wrong data,
//! and nothing lost but what the medium lost.

mod common;

use common::{CONTAINER, Shape, Storage, client, container, runtime, value};
use daos_client::{Container, Error, ObjectId, WireStatus};
use daos_engine::engine::Engine;
use daos_engine::error::exit;
use daos_engine::log::LogMemory;
use daos_engine::scm::ScmLog;
use daos_plugin_api::abi::Status;
use nix::unistd::{Uid, geteuid, setfsuid};
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const OBJECT: ObjectId = ObjectId { hi: 1, lo: 2 };
const LARGE: usize = 100_000;

fn one_target() -> Storage {
    Storage::format(Shape {
        targets: 1,
        ..Shape::default()
    })
}

fn cut(path: &Path, len: u64) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(len).unwrap();
}

async fn put(c: &Container, n: u64, len: usize) -> Result<(), Error> {
    c.put(OBJECT, &n.to_be_bytes(), b"a", &value(n, len)).await
}

/// Puts until one fails, for as long as the engine looks at its files; returns the failure.
async fn put_until_refused(engine: &Engine, c: &Container, len: usize) -> Error {
    let start = Instant::now();
    for n in 1000.. {
        engine.poll_devices();
        if let Err(error) = put(c, n, len).await {
            return error;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "never refused");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    unreachable!()
}

fn status_of(error: &Error) -> WireStatus {
    match error {
        Error::Engine { status, .. } => *status,
        other => panic!("not an answer of the engine: {other}"),
    }
}

fn refused_start(storage: &Storage, words: &[&str]) {
    let error = Engine::start(&storage.options())
        .err()
        .expect("does not start");
    assert_eq!(error.code, exit::STORAGE, "{error}");
    for word in words {
        assert!(error.text.contains(word), "{error}");
    }
}

#[test]
fn a_log_is_read_through_its_file_so_that_a_medium_error_is_an_error() {
    let storage = one_target();
    storage.start().stop().unwrap();
    let scm = common::plugin("scm-ram");
    let memory = storage.open_scm(&scm);
    let mapping = memory
        .open_region("target-0.log", Default::default())
        .unwrap();
    let log = ScmLog::new(mapping).expect("mapped");
    let file = log.file().expect("a file stands behind the region");
    assert_eq!(file.loss(), None);
    let mut bytes = [0u8; 64];
    let last = log.len() - 64;
    log.read(last, &mut bytes).unwrap();
    // Memory that cannot be read any more: a load from the mapping would be SIGBUS.
    let path = storage.mount.join("regions/target-0.log");
    cut(&path, 4096);
    assert_eq!(log.read(last, &mut bytes), Err(Status::MEDIA));
    log.read(0, &mut bytes).unwrap();
    assert!(file.loss().unwrap().contains("cut to 4096"));
    std::fs::remove_file(&path).unwrap();
    assert!(file.loss().unwrap().contains("deleted"));
}

#[test]
fn a_deleted_or_cut_index_ends_the_target_and_what_the_log_has_is_not_forgotten() {
    for deleted in [true, false] {
        let storage = one_target();
        let engine = storage.start();
        let index = storage.mount.join("target-0.index");
        let saved = std::fs::read(&index).unwrap();
        let rt = runtime();
        rt.block_on(async {
            let (_client, c) = container(engine.uri()).await;
            if deleted {
                std::fs::remove_file(&index).unwrap();
            } else {
                cut(&index, 4096);
            }
            let error = put_until_refused(&engine, &c, 100).await;
            assert_eq!(status_of(&error), WireStatus::IO, "{error}");
        });
        let why = engine.stop().unwrap_err();
        assert!(why.contains("under the running engine"), "{why}");
        let word = if deleted { "is gone" } else { "index" };
        refused_start(&storage, &["target 0", word]);
        // With the file as it was when the log was last trimmed, everything is there.
        std::fs::write(&index, &saved).unwrap();
        let engine = storage.start();
        rt.block_on(async {
            let (_client, c) = container(engine.uri()).await;
            let got = c.get(OBJECT, &1000u64.to_be_bytes(), b"a").await.unwrap();
            assert_eq!(got, value(1000, 100));
        });
        engine.stop().unwrap();
    }
}

#[test]
fn a_deleted_or_cut_log_ends_the_target_and_the_next_start_says_so() {
    for deleted in [true, false] {
        let storage = one_target();
        let engine = storage.start();
        let log = storage.mount.join("regions/target-0.log");
        let rt = runtime();
        rt.block_on(async {
            let (_client, c) = container(engine.uri()).await;
            put(&c, 1, 100).await.unwrap();
            if deleted {
                std::fs::remove_file(&log).unwrap();
            } else {
                // Behind what is in use, or the engine would not live to notice.
                cut(&log, 512 << 10);
            }
            let error = put_until_refused(&engine, &c, 100).await;
            assert_eq!(status_of(&error), WireStatus::IO, "{error}");
        });
        let why = engine.stop().unwrap_err();
        assert!(why.contains("its log is lost"), "{why}");
        refused_start(&storage, &["target 0", "log"]);
    }
}

#[test]
fn a_device_that_goes_takes_its_targets_along_and_no_others() {
    for deleted in [true, false] {
        let storage = Storage::format(Shape {
            devices: 2,
            targets: 2,
            ..Shape::default()
        });
        let engine = storage.start();
        let rt = runtime();
        rt.block_on(async {
            let (client, c) = container(engine.uri()).await;
            for n in 0..40 {
                put(&c, n, if n % 2 == 0 { LARGE } else { 100 })
                    .await
                    .unwrap();
            }
            if deleted {
                std::fs::remove_file(&storage.files[0]).unwrap();
            } else {
                cut(&storage.files[0], 1 << 20);
            }
            engine.poll_devices();
            let mut gone = 0;
            for n in 0..40u64 {
                let dkey = n.to_be_bytes();
                let on_lost = daos_wire::target_of(OBJECT, &dkey, 2) == 0;
                let got = c.get(OBJECT, &dkey, b"a").await;
                if on_lost && n % 2 == 0 {
                    gone += 1;
                    assert_eq!(status_of(&got.unwrap_err()), WireStatus::DEVICE_GONE);
                } else {
                    let len = if n % 2 == 0 { LARGE } else { 100 };
                    assert_eq!(got.unwrap(), value(n, len));
                }
                let put = put(&c, n, 200).await;
                if on_lost {
                    assert_eq!(status_of(&put.unwrap_err()), WireStatus::DEVICE_GONE);
                } else {
                    put.unwrap();
                    assert_eq!(c.get(OBJECT, &dkey, b"a").await.unwrap(), value(n, 200));
                }
            }
            assert!(gone > 3, "{gone} of 20 large values on the lost device");
            assert_eq!(client.query().await.unwrap().len(), 2);
        });
        engine.stop().unwrap();
        let error = Engine::start(&storage.options()).err().expect("refused");
        assert!(error.text.contains("bdev-0"), "{error}");
    }
}

/// This thread, and those that it starts, without root's right to any file, until the value is dropped.
struct OrdinaryUser(Uid);

impl OrdinaryUser {
    /// Takes the place of the owner of `storage`, which for root becomes user 65534.
    fn own(storage: &Storage) -> Self {
        let before = geteuid();
        if before.is_root() {
            let owned = storage.mount.parent().unwrap();
            let given = Command::new("chown")
                .args(["-R", "65534"])
                .arg(owned)
                .status();
            assert!(given.unwrap().success());
            setfsuid(Uid::from_raw(65534));
        }
        Self(before)
    }
}

impl Drop for OrdinaryUser {
    fn drop(&mut self) {
        setfsuid(self.0);
    }
}

#[test]
fn read_only_files_are_refused_at_start_and_lose_nothing() {
    let storage = one_target();
    let engine = storage.start();
    let rt = runtime();
    rt.block_on(async {
        let (_client, c) = container(engine.uri()).await;
        put(&c, 1, LARGE).await.unwrap();
    });
    engine.stop().unwrap();
    let _user = OrdinaryUser::own(&storage);
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for path in [
        storage.mount.join("target-0.index"),
        storage.mount.join("regions/target-0.log"),
        storage.files[0].clone(),
    ] {
        mode(&path, 0o400);
        let error = Engine::start(&storage.options()).err().expect("refused");
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(error.text.contains(name), "{name}: {error}");
        mode(&path, 0o600);
    }
    let engine = storage.start();
    rt.block_on(async {
        let client = client(engine.uri()).await;
        let c = common::container_of(&client, CONTAINER).await;
        let got = c.get(OBJECT, &1u64.to_be_bytes(), b"a").await.unwrap();
        assert_eq!(got, value(1, LARGE));
    });
    engine.stop().unwrap();
}
