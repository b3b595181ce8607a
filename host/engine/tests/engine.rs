//! The engine on real plugins, in this process, through the client library.

mod common;

use common::{CONTAINER, POOL, Shape, Storage, client, container, container_of, runtime, value};
use daos_client::{Error, ObjectId, Punch};
use daos_engine::engine::Engine;
use daos_engine::error::exit;
use daos_wire::WireStatus;
use std::fs::File;
use std::os::unix::fs::FileExt;

const OBJECT: ObjectId = ObjectId { hi: 1, lo: 2 };

/// Sizes around every limit: none, inline, one unit, several, the largest.
const SIZES: &[usize] = &[
    0, 1, 100, 4095, 4096, 4097, 8192, 65535, 65536, 65537, 262_144, 1_048_575, 1_048_576,
];

#[test]
fn values_of_every_size_come_back_also_after_a_restart() {
    for class in ["file", "malloc"] {
        let storage = Storage::format(Shape {
            class,
            ..Shape::default()
        });
        let mut options = storage.options();
        options.first_start = true;
        let engine = common::start(&options);
        let rt = runtime();
        rt.block_on(async {
            let (_client, c) = container(engine.uri()).await;
            for (n, size) in SIZES.iter().enumerate() {
                let key = format!("dkey-{n}");
                c.put(OBJECT, key.as_bytes(), b"a", &value(n as u64, *size))
                    .await
                    .unwrap();
            }
            for (n, size) in SIZES.iter().enumerate() {
                let key = format!("dkey-{n}");
                let got = c.get(OBJECT, key.as_bytes(), b"a").await.unwrap();
                assert_eq!(got, value(n as u64, *size), "{size} bytes");
            }
            let missing = c.get(OBJECT, b"dkey-0", b"other").await.unwrap_err();
            assert!(matches!(missing, Error::NotFound { .. }), "{missing}");
        });
        engine.stop().unwrap();
        if class == "malloc" {
            // Its contents ended with the device.
            options.first_start = true;
            let error = Engine::start(&options).err().expect("a lost tier");
            assert_eq!(error.code, exit::STORAGE, "{error}");
            assert!(
                error.text.contains("device 0") && error.text.contains("lost"),
                "{error}"
            );
            continue;
        }
        let engine = storage.start();
        rt.block_on(async {
            let (_client, c) = container(engine.uri()).await;
            for (n, size) in SIZES.iter().enumerate() {
                let key = format!("dkey-{n}");
                let got = c.get(OBJECT, key.as_bytes(), b"a").await.unwrap();
                assert_eq!(got, value(n as u64, *size), "{size} bytes after a restart");
            }
        });
        engine.stop().unwrap();
    }
}

#[test]
fn overwrites_punches_and_listings_agree_with_a_map() {
    let storage = Storage::format(Shape {
        helpers: 0,
        ..Shape::default()
    });
    let engine = storage.start();
    let rt = runtime();
    let check = |engine: &Engine, model: &std::collections::BTreeMap<(String, String), Vec<u8>>| {
        rt.block_on(async {
            let (_client, c) = container(engine.uri()).await;
            let mut dkeys = c.list_dkeys(OBJECT, usize::MAX).await.unwrap();
            dkeys.sort();
            let mut want: Vec<Vec<u8>> =
                model.keys().map(|(d, _)| d.clone().into_bytes()).collect();
            want.dedup();
            assert_eq!(dkeys, want);
            for dkey in &want {
                let akeys = c.list_akeys(OBJECT, dkey, usize::MAX).await.unwrap();
                let want: Vec<Vec<u8>> = model
                    .keys()
                    .filter(|(d, _)| d.as_bytes() == dkey)
                    .map(|(_, a)| a.clone().into_bytes())
                    .collect();
                assert_eq!(akeys, want);
            }
            for ((d, a), v) in model {
                assert_eq!(&c.get(OBJECT, d.as_bytes(), a.as_bytes()).await.unwrap(), v);
            }
        });
    };
    let mut model = std::collections::BTreeMap::new();
    rt.block_on(async {
        let (client, c) = container(engine.uri()).await;
        for n in 0..600u64 {
            let (d, a) = (format!("d{}", n % 37), format!("a{}", n % 5));
            let bytes = value(n, (n as usize * 977) % 9000);
            c.put(OBJECT, d.as_bytes(), a.as_bytes(), &bytes)
                .await
                .unwrap();
            model.insert((d, a), bytes);
        }
        for n in [3u64, 9] {
            let (d, a) = (format!("d{n}"), "a1".to_owned());
            let what = Punch::Akey(d.as_bytes(), a.as_bytes());
            c.punch(OBJECT, what).await.unwrap();
            model.remove(&(d, a));
        }
        c.punch(OBJECT, Punch::Dkey(b"d5")).await.unwrap();
        model.retain(|(d, _), _| d != "d5");
        // Another container has the same keys and keeps them.
        let other = container_of(&client, POOL).await;
        other.put(OBJECT, b"d5", b"a0", b"mine").await.unwrap();
        c.punch(ObjectId { hi: 1, lo: 3 }, Punch::Object)
            .await
            .unwrap();
    });
    check(&engine, &model);
    engine.stop().unwrap();
    let engine = storage.start();
    check(&engine, &model);
    rt.block_on(async {
        let (client, c) = container(engine.uri()).await;
        c.punch(OBJECT, Punch::Object).await.unwrap();
        assert!(c.list_dkeys(OBJECT, usize::MAX).await.unwrap().is_empty());
        let other = container_of(&client, POOL).await;
        assert_eq!(other.get(OBJECT, b"d5", b"a0").await.unwrap(), b"mine");
    });
    engine.stop().unwrap();
}

#[test]
fn a_corrupted_extent_is_an_error_and_never_wrong_data() {
    // Checked on a helper thread, and on the target's own.
    for helpers in [1, 0] {
        corrupt_an_extent(helpers);
    }
}

fn corrupt_an_extent(helpers: u32) {
    let storage = Storage::format(Shape {
        targets: 1,
        helpers,
        ..Shape::default()
    });
    let engine = storage.start();
    let rt = runtime();
    let bytes = value(1, 200_000);
    rt.block_on(async {
        let (_client, c) = container(engine.uri()).await;
        c.put(OBJECT, b"d", b"a", &bytes).await.unwrap();
        c.put(OBJECT, b"small", b"a", b"intact").await.unwrap();
    });
    engine.stop().unwrap();
    let file = File::options()
        .read(true)
        .write(true)
        .open(&storage.files[0])
        .unwrap();
    let mut all = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut all, 0).unwrap();
    let at = all
        .windows(64)
        .position(|w| w == &bytes[100_000..100_064])
        .expect("the value is on the device");
    file.write_all_at(&[all[at] ^ 1], at as u64).unwrap();
    let engine = storage.start();
    rt.block_on(async {
        let (_client, c) = container(engine.uri()).await;
        let error = c.get(OBJECT, b"d", b"a").await.unwrap_err();
        assert!(
            matches!(
                error,
                Error::Engine {
                    status: WireStatus::CORRUPT,
                    ..
                }
            ),
            "{error}"
        );
        assert_eq!(c.get(OBJECT, b"small", b"a").await.unwrap(), b"intact");
        // Writing it again mends it.
        c.put(OBJECT, b"d", b"a", &bytes).await.unwrap();
        assert_eq!(c.get(OBJECT, b"d", b"a").await.unwrap(), bytes);
    });
    engine.stop().unwrap();
}

#[test]
fn a_full_device_refuses_loses_nothing_and_recovers_space() {
    let storage = Storage::format(Shape {
        targets: 1,
        bdev_mib: 24,
        ..Shape::default()
    });
    let engine = storage.start();
    let rt = runtime();
    rt.block_on(async {
        let (client, c) = container(engine.uri()).await;
        let mut stored = 0u64;
        let error = loop {
            match c
                .put(OBJECT, &stored.to_be_bytes(), b"a", &value(stored, 1 << 20))
                .await
            {
                Ok(()) => stored += 1,
                Err(error) => break error,
            }
        };
        assert!(
            matches!(
                error,
                Error::Engine {
                    status: WireStatus::NO_SPACE,
                    ..
                }
            ),
            "{error}"
        );
        assert!(stored >= 20, "{stored} MiB of 24");
        for n in 0..stored {
            assert_eq!(
                c.get(OBJECT, &n.to_be_bytes(), b"a").await.unwrap(),
                value(n, 1 << 20)
            );
        }
        c.put(OBJECT, b"tiny", b"a", b"still fits").await.unwrap();
        // Space of a removed value comes back with the next commit, without waiting by the caller.
        for round in 0..3u64 {
            c.punch(OBJECT, Punch::Dkey(&round.to_be_bytes()))
                .await
                .unwrap();
            c.put(
                OBJECT,
                format!("again-{round}").as_bytes(),
                b"a",
                &value(99, 1 << 20),
            )
            .await
            .unwrap();
        }
        let info = client.query().await.unwrap();
        assert!(info[0].free < info[0].total / 4);
    });
    engine.stop().unwrap();
}

#[test]
fn a_full_index_refuses_and_can_be_emptied() {
    let storage = Storage::format(Shape {
        targets: 1,
        scm_mib: 16,
        ..Shape::default()
    });
    let engine = storage.start();
    let rt = runtime();
    rt.block_on(async {
        let (_client, c) = container(engine.uri()).await;
        let mut stored = 0u64;
        let error = loop {
            match c
                .put(OBJECT, &stored.to_be_bytes(), b"a", &value(stored, 4000))
                .await
            {
                Ok(()) => stored += 1,
                Err(error) => break error,
            }
        };
        assert!(
            matches!(
                error,
                Error::Engine {
                    status: WireStatus::NO_SPACE,
                    ..
                }
            ),
            "{error}"
        );
        assert!(
            stored > 500,
            "{stored} values of 4000 bytes in 16 MiB of SCM"
        );
        for n in (0..stored).step_by(17) {
            assert_eq!(
                c.get(OBJECT, &n.to_be_bytes(), b"a").await.unwrap(),
                value(n, 4000)
            );
        }
        c.punch(OBJECT, Punch::Object).await.unwrap();
        c.put(OBJECT, b"after", b"a", &value(1, 4000))
            .await
            .unwrap();
    });
    engine.stop().unwrap();
}

#[test]
fn many_clients_at_once_over_two_devices() {
    let storage = Storage::format(Shape {
        devices: 2,
        targets: 3,
        helpers: 2,
        ..Shape::default()
    });
    let engine = storage.start();
    let rt = runtime();
    rt.block_on(async {
        let mut tasks = Vec::new();
        for who in 0..4u64 {
            let client = client(engine.uri()).await;
            tasks.push(tokio::spawn(async move {
                let c = container_of(&client, CONTAINER).await;
                let object = ObjectId { hi: 9, lo: who };
                let keys: Vec<_> = (0..40u64)
                    .map(|n| (n, value(who * 1000 + n, (n as usize * 4999) % 150_000)))
                    .collect();
                let puts = keys.iter().map(|(n, bytes)| {
                    let c = &c;
                    async move { c.put(object, &n.to_be_bytes(), b"a", bytes).await.unwrap() }
                });
                join_all(puts).await;
                for (n, bytes) in &keys {
                    assert_eq!(&c.get(object, &n.to_be_bytes(), b"a").await.unwrap(), bytes);
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
    engine.stop().unwrap();
}

/// Runs futures side by side.
async fn join_all<F: Future<Output = ()>>(futures: impl Iterator<Item = F>) {
    let mut running: Vec<_> = futures.map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        running.retain_mut(|f| f.as_mut().poll(cx).is_pending());
        if running.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

#[test]
fn storage_that_is_not_what_was_formatted_is_refused_by_name() {
    let storage = Storage::format(Shape {
        devices: 2,
        ..Shape::default()
    });
    storage.start().stop().unwrap();
    let refused = |what: &str, words: &[&str]| {
        let error = Engine::start(&storage.options())
            .err()
            .unwrap_or_else(|| panic!("{what}: started"));
        assert_eq!(error.code, exit::STORAGE, "{what}: {error}");
        for word in words {
            assert!(error.text.contains(word), "{what}: {error}");
        }
    };
    let mut other = storage.options();
    other.targets = 5;
    assert_eq!(Engine::start(&other).err().unwrap().code, exit::STORAGE);
    let swap = || {
        let third = storage.dir().join("third");
        std::fs::rename(&storage.files[0], &third).unwrap();
        std::fs::rename(&storage.files[1], &storage.files[0]).unwrap();
        std::fs::rename(&third, &storage.files[1]).unwrap();
    };
    swap();
    refused("swapped", &["device 0", "label of device 1"]);
    swap();
    let move_away = |path: std::path::PathBuf, what: &str, words: &[&str]| {
        let away = storage.dir().join("away");
        std::fs::rename(&path, &away)
            .or_else(|_| std::fs::copy(&path, &away).and_then(|_| std::fs::remove_file(&path)))
            .unwrap();
        refused(what, words);
        std::fs::copy(&away, &path).unwrap();
        std::fs::remove_file(&away).unwrap();
    };
    move_away(
        storage.mount.join("superblock"),
        "superblock",
        &["not formatted"],
    );
    move_away(
        storage.mount.join("target-1.index"),
        "index",
        &["target 1", "index"],
    );
    move_away(
        storage.mount.join("regions/target-0.log"),
        "log",
        &["target 0", "log"],
    );
    // Both copies of a label.
    let file = File::options()
        .read(true)
        .write(true)
        .open(&storage.files[1])
        .unwrap();
    let len = file.metadata().unwrap().len();
    let mut saved = [vec![0u8; 4096], vec![0u8; 4096]];
    for (n, at) in [0, len - 4096].into_iter().enumerate() {
        file.read_exact_at(&mut saved[n], at).unwrap();
        file.write_all_at(&[0; 4096], at).unwrap();
    }
    refused("label", &["device 1", "no label", "lost"]);
    // One copy comes back: enough, and the other is written again.
    file.write_all_at(&saved[1], len - 4096).unwrap();
    storage.start().stop().unwrap();
    let mut first = vec![0; 4096];
    file.read_exact_at(&mut first, 0).unwrap();
    assert_eq!(first, saved[0]);
}
