//! Flipped bits in everything that an engine reads at its start: a typed error, or the right data.
//! Never other data, and nothing acknowledged is silently missing.

mod common;

use common::{Shape, Storage, container, runtime, value};
use daos_client::{Error, ObjectId, WireStatus};
use daos_engine::engine::Engine;
use daos_engine::error::exit;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const OBJECT: ObjectId = ObjectId { hi: 3, lo: 4 };

/// Storage as a killed engine leaves it: changes in the index, and newer ones in the log.
struct Image {
    storage: Storage,
    files: BTreeMap<PathBuf, Vec<u8>>,
    /// What was acknowledged: seed and length by key.
    values: BTreeMap<u64, (u64, usize)>,
    /// The last change, which no later one vouches for.
    last: u64,
}

fn size(n: u64) -> usize {
    [50, 700, 4000, 30_000, 150_000][n as usize % 5]
}

impl Image {
    fn new() -> Self {
        let storage = Storage::format(Shape {
            targets: 1,
            scm_mib: 32,
            bdev_mib: 24,
            ..Shape::default()
        });
        let mut values = BTreeMap::new();
        let put =
            |engine: &Engine, from: u64, to: u64, values: &mut BTreeMap<u64, (u64, usize)>| {
                runtime().block_on(async {
                    let (_client, c) = container(engine.uri()).await;
                    for n in from..to {
                        let (key, len) = (n % 45, size(n));
                        c.put(OBJECT, &key.to_be_bytes(), b"a", &value(n, len))
                            .await
                            .unwrap();
                        values.insert(key, (n, len));
                    }
                });
            };
        let engine = storage.start();
        put(&engine, 0, 60, &mut values);
        engine.stop().unwrap();
        let engine = storage.start();
        let log = storage.mount.join("regions/target-0.log");
        let index = storage.mount.join("target-0.index");
        // In this order: a commit in between only makes records of the log superfluous.
        let mut files = BTreeMap::new();
        for _ in 0..20 {
            put(&engine, 60, 75, &mut values);
            files.insert(log.clone(), std::fs::read(&log).unwrap());
            files.insert(index.clone(), std::fs::read(&index).unwrap());
        }
        engine.stop().unwrap();
        for name in ["engine.json", "superblock"] {
            let path = storage.mount.join(name);
            files.insert(path.clone(), std::fs::read(&path).unwrap());
        }
        let device = storage.files[0].clone();
        files.insert(device.clone(), std::fs::read(&device).unwrap());
        Self {
            storage,
            files,
            values,
            last: 74 % 45,
        }
    }

    fn restore(&self) {
        use std::os::unix::fs::FileExt;
        for (path, content) in &self.files {
            // In place: the region must stay the file that it is.
            let file = std::fs::File::options().write(true).open(path).unwrap();
            file.set_len(content.len() as u64).unwrap();
            file.write_all_at(content, 0).unwrap();
        }
    }

    /// Starts on the image with some bits flipped; whether that was noticed.
    fn try_with(&self, path: &Path, flips: &[(usize, u8)]) -> bool {
        use std::os::unix::fs::FileExt;
        self.restore();
        let file = std::fs::File::options().write(true).open(path).unwrap();
        for (at, mask) in flips {
            let byte = self.files[path][*at] ^ mask;
            file.write_all_at(&[byte], *at as u64).unwrap();
        }
        let what = format!("{} with {flips:?}", path.display());
        let engine = match Engine::start(&self.storage.options()) {
            Ok(engine) => engine,
            Err(error) => {
                assert!(
                    [exit::STORAGE, exit::CONFIG].contains(&error.code),
                    "{what}: {error}"
                );
                return true;
            }
        };
        let mut noticed = false;
        runtime().block_on(async {
            let (_client, c) = container(engine.uri()).await;
            for (key, (seed, len)) in &self.values {
                match c.get(OBJECT, &key.to_be_bytes(), b"a").await {
                    Ok(found) if found == value(*seed, *len) => {}
                    // The value before it: the newest record of a log cannot be told from one that
                    // was never made durable.
                    _ if *key == self.last && path.ends_with("target-0.log") => {}
                    Ok(found) => panic!("{what}: key {key} has {} other bytes", found.len()),
                    Err(Error::Engine {
                        status: WireStatus::CORRUPT | WireStatus::IO,
                        ..
                    }) => noticed = true,
                    Err(error) => panic!("{what}: key {key}: {error}"),
                }
            }
        });
        // What it says is not the point here.
        let _ = engine.stop();
        noticed
    }
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }

    /// A place in `content` that is not zero: what is used.
    fn used(&mut self, content: &[u8], from: usize) -> usize {
        loop {
            let at = from + self.below(content.len() - from);
            if content[at] != 0 {
                return at;
            }
        }
    }
}

#[test]
fn flipped_bits_are_errors_or_harmless_and_never_other_data() {
    let seed = std::env::var("CRASH_SEED").ok().map_or_else(
        || {
            std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |t| t.as_nanos() as u64)
        },
        |seed| seed.parse().expect("CRASH_SEED is a number"),
    );
    eprintln!("CRASH_SEED={seed}");
    let mut dice = Dice(seed);
    let rounds = if std::env::var_os("SOAK").is_some() {
        400
    } else {
        10
    };
    let image = Image::new();
    let mount = &image.storage.mount;
    assert!(
        !image.try_with(&mount.join("superblock"), &[]),
        "the image itself is intact"
    );
    let device = image.storage.files[0].clone();
    let log = mount.join("regions/target-0.log");
    // The last few records are those that the index may not have yet.
    let content = &image.files[&log];
    let end = content.iter().rposition(|byte| *byte != 0).unwrap_or(0);
    let newest = end.saturating_sub(12 << 10);
    let mut noticed = BTreeMap::new();
    for (name, path, from) in [
        ("log", log.clone(), newest),
        ("index", mount.join("target-0.index"), 0),
        ("engine.json", mount.join("engine.json"), 0),
        ("superblock", mount.join("superblock"), 0),
        ("extents", device.clone(), 64 << 10),
    ] {
        let content = &image.files[&path];
        let count = (0..rounds)
            .filter(|_| {
                let at = dice.used(content, from);
                image.try_with(&path, &[(at, 1 << dice.below(8))])
            })
            .count();
        noticed.insert(name, count);
    }
    // One copy of the label is enough, none is not; a bit of the log's header is always noticed.
    let len = image.files[&device].len();
    assert!(!image.try_with(&device, &[(9, 1)]));
    assert!(!image.try_with(&device, &[(len - 4096 + 9, 1)]));
    assert!(image.try_with(&device, &[(9, 1), (len - 4096 + 9, 1)]));
    for at in [0, 9, 13, 20, 33, 45] {
        assert!(
            image.try_with(&log, &[(at, 0x10)]),
            "byte {at} of the header"
        );
    }
    // Both slots of the head.
    assert!(image.try_with(&log, &[(64, 1), (128, 1)]));
    eprintln!("noticed of {rounds} each: {noticed:?}");
    assert_eq!(noticed["engine.json"], rounds, "{noticed:?}");
}
