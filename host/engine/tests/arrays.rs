//! Arrays through the client library, on real plugins.

mod common;

use common::{CONTAINER, Shape, Storage, client, container, runtime, value};
use daos_client::{Array, Container, Error, ObjectId, Punch};
use daos_engine::engine::Engine;
use daos_wire::WireStatus;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

const OBJECT: ObjectId = ObjectId { hi: 3, lo: 4 };
const MIB: usize = 1 << 20;
/// Longer than any of it takes; a deadlock ends here.
const LIMIT: Duration = Duration::from_secs(300);

fn array(c: &Container, akey: &str, record_size: u64) -> Array {
    c.array(OBJECT, b"d", akey.as_bytes(), record_size)
        .expect("keys and size are allowed")
}

#[track_caller]
fn refused<T>(result: Result<T, Error>, with: WireStatus, words: &str) {
    match result {
        Err(Error::Engine { status, detail, .. }) if status == with => {
            assert!(detail.contains(words), "{detail}");
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("not refused"),
    }
}

fn within<F: Future<Output = ()>>(engine: &Engine, work: impl FnOnce(Container) -> F) {
    runtime().block_on(async {
        let (_client, c) = container(engine.uri()).await;
        tokio::time::timeout(LIMIT, work(c)).await.expect("an end");
    });
}

/// A run of bytes that an array shall be like.
#[derive(Clone, Default)]
struct Model {
    bytes: Vec<Option<u8>>,
}

impl Model {
    fn write(&mut self, at: usize, data: &[u8]) {
        let end = at + data.len();
        self.bytes.resize(self.bytes.len().max(end), None);
        for (byte, new) in self.bytes[at..end].iter_mut().zip(data) {
            *byte = Some(*new);
        }
    }

    fn punch(&mut self, at: usize, len: usize) {
        let all = self.bytes.len();
        self.bytes[at.min(all)..(at + len).min(all)].fill(None);
        while self.bytes.last() == Some(&None) {
            self.bytes.pop();
        }
    }

    fn read(&self, at: usize, len: usize) -> Vec<u8> {
        let all = self.bytes.len();
        let part = &self.bytes[at.min(all)..(at + len).min(all)];
        part.iter().map(|byte| byte.unwrap_or(0)).collect()
    }
}

async fn agrees(array: &Array, model: &Model) {
    let size = array.record_size() as usize;
    let records = model.bytes.len() / size;
    if records == 0 {
        let gone = array.info().await.unwrap_err();
        assert!(matches!(gone, Error::NotFound { .. }), "{gone}");
        let gone = array.read(0, 1).await.unwrap_err();
        assert!(matches!(gone, Error::NotFound { .. }), "{gone}");
        return;
    }
    assert_eq!(array.info().await.unwrap().records as usize, records);
    let far = records as u64 + 1000;
    assert!(array.read(0, far).await.unwrap() == model.read(0, usize::MAX / 2));
}

#[test]
fn records_of_every_size_read_like_a_run_of_bytes_also_after_a_restart() {
    let storage = Storage::format(Shape {
        bdev_mib: 256,
        ..Shape::default()
    });
    let mut engine = storage.start();
    // Bytes per record, and records that the writes are spread over.
    let shapes = [
        (1u64, 400_000u64),
        (7, 60_000),
        (4096, 600),
        (10_000, 400),
        (131_072, 30),
    ];
    let mut models = vec![Model::default(); shapes.len()];
    let mut x = 88_172_645_463_325_252u64;
    let mut random = move |below: u64| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x % below
    };
    for round in 0..3 {
        within(&engine, async |c| {
            for ((size, records), model) in shapes.iter().zip(&mut models) {
                let array = array(&c, &format!("size-{size}"), *size);
                let bytes = *size as usize;
                for step in 0..25u64 {
                    let at = random(*records);
                    // Small and large ones.
                    let most = if step % 3 == 0 {
                        *records
                    } else {
                        1 + 6000 / size
                    };
                    let count = 1 + random(most.min(records - at));
                    let (from, len) = (at as usize * bytes, count as usize * bytes);
                    if step % 4 == 3 {
                        array.punch(at, count).await.unwrap();
                        model.punch(from, len);
                    } else {
                        let data = value(step + 100 * round, len);
                        array.write(at, &data).await.unwrap();
                        model.write(from, &data);
                    }
                    let at = random(*records);
                    let count = 1 + random(records - at);
                    let got = array.read(at, count).await;
                    if model.bytes.is_empty() {
                        assert!(got.is_err());
                    } else {
                        let want = model.read(at as usize * bytes, count as usize * bytes);
                        assert!(got.unwrap() == want, "{size}: {count} records at {at}");
                    }
                }
                agrees(&array, model).await;
            }
        });
        engine.stop().unwrap();
        engine = storage.start();
        within(&engine, async |c| {
            for ((size, _), model) in shapes.iter().zip(&models) {
                agrees(&array(&c, &format!("size-{size}"), *size), model).await;
            }
        });
    }
    // Nothing is left of what was replaced: all space comes back with the object.
    within(&engine, async |c| {
        c.punch(OBJECT, Punch::Object).await.unwrap();
        assert!(c.list_dkeys(OBJECT, 0).await.unwrap().is_empty());
    });
    engine.stop().unwrap();
    let engine = storage.start();
    runtime().block_on(async {
        for target in client(engine.uri()).await.query().await.unwrap() {
            assert_eq!(target.free, target.total);
        }
    });
    engine.stop().unwrap();
}

#[test]
fn holes_ends_kinds_and_listings() {
    let storage = Storage::format(Shape::default());
    let engine = storage.start();
    within(&engine, async |c| {
        let a = array(&c, "a", 4);
        assert!(matches!(a.read(0, 1).await, Err(Error::NotFound { .. })));
        a.write(10, b"tenx").await.unwrap();
        a.write(70_000, b"farx").await.unwrap();
        let info = a.info().await.unwrap();
        assert_eq!((info.record_size, info.records), (4, 70_001));
        assert_eq!(a.read(9, 3).await.unwrap(), b"\0\0\0\0tenx\0\0\0\0");
        // A hole as large as a message may be, and larger; the end; behind the end.
        assert_eq!(a.read(100, 1024).await.unwrap(), vec![0; 4096]);
        assert_eq!(a.read(100, 60_000).await.unwrap(), vec![0; 240_000]);
        assert_eq!(a.read(69_999, 9).await.unwrap(), b"\0\0\0\0farx");
        assert_eq!(a.read(69_999, 900_000).await.unwrap(), b"\0\0\0\0farx");
        assert!(a.read(70_001, 9).await.unwrap().is_empty());
        assert!(a.read(1 << 50, 1).await.unwrap().is_empty());
        // The last record goes, the array is shorter; the very last, and there is none.
        a.punch(60_000, u64::MAX).await.unwrap();
        assert_eq!(a.info().await.unwrap().records, 11);
        let (opened, info) = c.open_array(OBJECT, b"d", b"a").await.unwrap();
        assert_eq!((opened.record_size(), info.records), (4, 11));

        let (kind, single) = (WireStatus::KIND, "single value");
        refused(
            array(&c, "a", 2).write(0, b"ab").await,
            kind,
            "4 bytes, not 2",
        );
        refused(array(&c, "a", 2).read(0, 1).await, kind, "4 bytes, not 2");
        refused(array(&c, "a", 2).punch(0, 1).await, kind, "4 bytes, not 2");
        refused(
            c.put(OBJECT, b"d", b"a", b"v").await,
            kind,
            "holds an array",
        );
        refused(
            c.put(OBJECT, b"d", b"a", &value(1, 9000)).await,
            kind,
            "holds an array",
        );
        refused(c.get(OBJECT, b"d", b"a").await, kind, "holds an array");
        c.put(OBJECT, b"d", b"b", b"v").await.unwrap();
        let b = array(&c, "b", 1);
        refused(b.write(0, b"x").await, kind, single);
        refused(b.read(0, 1).await, kind, single);
        refused(b.punch(0, 1).await, kind, single);
        refused(b.info().await, kind, single);
        assert_eq!(c.get(OBJECT, b"d", b"b").await.unwrap(), b"v");

        // Akeys with many entries are listed once, between the others.
        for n in 0..40 {
            array(&c, "aa", 1).write(n * 200_000, b"x").await.unwrap();
        }
        let akeys = c.list_akeys(OBJECT, b"d", 0).await.unwrap();
        assert_eq!(akeys, [b"a".as_slice(), b"aa", b"b"]);
        assert_eq!(c.list_dkeys(OBJECT, 0).await.unwrap(), [b"d"]);
        c.punch(OBJECT, Punch::Akey(b"d", b"aa")).await.unwrap();
        assert_eq!(c.list_akeys(OBJECT, b"d", 0).await.unwrap(), [b"a", b"b"]);
        a.punch(0, 11).await.unwrap();
        assert_eq!(c.list_akeys(OBJECT, b"d", 0).await.unwrap(), [b"b"]);
        // Both akeys may be of the other kind now.
        c.put(OBJECT, b"d", b"a", b"v").await.unwrap();
        array(&c, "aa", 8).write(0, b"12345678").await.unwrap();
        c.punch(OBJECT, Punch::Dkey(b"d")).await.unwrap();
        assert!(c.list_dkeys(OBJECT, 0).await.unwrap().is_empty());
        // What cannot be is refused before anything is sent.
        assert!(matches!(
            c.array(OBJECT, b"d", b"a", 0),
            Err(Error::Records { .. })
        ));
        assert!(matches!(
            c.array(OBJECT, b"d", b"a", 200_000),
            Err(Error::Records { .. })
        ));
        assert!(matches!(
            a.write(0, b"abc").await,
            Err(Error::Records { .. })
        ));
        assert!(matches!(
            a.write(u64::MAX, b"abcd").await,
            Err(Error::Records { .. })
        ));
        a.punch(u64::MAX, 1).await.unwrap();
    });
    engine.stop().unwrap();
}

#[test]
fn each_part_is_atomic_among_many_writers() {
    let storage = Storage::format(Shape {
        targets: 1,
        bdev_mib: 256,
        ..Shape::default()
    });
    let engine = storage.start();
    within(&engine, async |c| {
        // Across a chunk's border, so that each change has two entries; inside of a part.
        const AT: u64 = 131_072 - 50_000;
        const LEN: usize = 100_000;
        const EDGE: u64 = 1000;
        let a = array(&c, "a", 1);
        a.write(AT - EDGE, &[0; LEN + 2 * EDGE as usize])
            .await
            .unwrap();
        let mut tasks = Vec::new();
        for who in 1..=4u8 {
            let a = a.clone();
            tasks.push(tokio::spawn(async move {
                for n in 0..25u8 {
                    a.write(AT, &vec![who * 32 + n; LEN]).await.unwrap();
                }
            }));
        }
        // Neighbours in the same entries: what they write keeps, and copies, what the others write.
        let edges = a.clone();
        tasks.push(tokio::spawn(async move {
            for n in 0..100u64 {
                edges.write(AT - 1 - n, b"<").await.unwrap();
                edges.write(AT + LEN as u64 + n, b">").await.unwrap();
            }
        }));
        for _ in 0..2 {
            let a = a.clone();
            tasks.push(tokio::spawn(async move {
                for _ in 0..60 {
                    let got = a.read(AT, LEN as u64).await.unwrap();
                    assert_eq!(got.len(), LEN);
                    assert!(got.iter().all(|byte| *byte == got[0]), "a mix");
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(a.read(AT - 100, 100).await.unwrap(), [b'<'; 100]);
        let behind = a.read(AT + LEN as u64, 101).await.unwrap();
        assert_eq!(behind, [vec![b'>'; 100], vec![0]].concat());
    });
    engine.stop().unwrap();
}

#[test]
fn what_was_punched_does_not_come_back_with_a_write_beside_it() {
    let storage = Storage::format(Shape {
        targets: 1,
        ..Shape::default()
    });
    let engine = storage.start();
    within(&engine, async |c| {
        let (mut before, mut after) = (0, 0);
        for n in 0..120u64 {
            let a = array(&c, "a", 1);
            a.write(0, &[b'o'; 60_000]).await.unwrap();
            let write = a.write(30_000, b"new");
            let punch = async {
                match n % 4 {
                    0 => c.punch(OBJECT, Punch::Akey(b"d", b"a")).await.unwrap(),
                    1 => c.punch(OBJECT, Punch::Dkey(b"d")).await.unwrap(),
                    2 => c.punch(OBJECT, Punch::Object).await.unwrap(),
                    _ => a.punch(0, u64::MAX).await.unwrap(),
                }
            };
            if n % 8 < 4 {
                let (written, ()) = tokio::join!(write, punch);
                written.unwrap();
            } else {
                let ((), written) = tokio::join!(punch, write);
                written.unwrap();
            }
            match a.read(0, 100_000).await {
                Err(Error::NotFound { .. }) => before += 1,
                Err(error) => panic!("{error}"),
                Ok(got) => {
                    let want = [vec![0; 30_000], b"new".to_vec()].concat();
                    assert!(got == want, "punched bytes are back in round {n}");
                    after += 1;
                }
            }
        }
        assert_eq!(before + after, 120);
    });
    engine.stop().unwrap();
}

#[test]
fn more_writers_than_buffers_and_room_in_the_log_all_come_to_an_end() {
    let storage = Storage::format(Shape {
        targets: 1,
        scm_mib: 24,
        bdev_mib: 256,
        ..Shape::default()
    });
    let engine = storage.start();
    within(&engine, async |c| {
        let mut tasks = Vec::new();
        for who in 0..60u64 {
            let c = c.clone();
            tasks.push(tokio::spawn(async move {
                // Shifted against the chunks and against each other: everybody cuts somebody.
                let large = array(&c, &format!("large-{}", who % 3), 1);
                let small = array(&c, &format!("small-{}", who % 5), 1);
                for n in 0..4 {
                    let at = (who * 40_000 + n * 333_333) % 3_000_000;
                    large.write(at, &value(who, MIB)).await.unwrap();
                    small.write(who * 3000, &value(who, 4000)).await.unwrap();
                    if n == 2 {
                        large.punch(at + 100_000, 555_555).await.unwrap();
                    }
                    large.read(at, MIB as u64).await.unwrap();
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        for n in 0..3 {
            let a = array(&c, &format!("large-{n}"), 1);
            let records = a.info().await.unwrap().records;
            assert_eq!(a.read(0, records).await.unwrap().len() as u64, records);
        }
    });
    engine.stop().unwrap();
}

#[test]
fn a_full_device_refuses_and_punched_records_make_room() {
    let storage = Storage::format(Shape {
        targets: 1,
        bdev_mib: 24,
        ..Shape::default()
    });
    let engine = storage.start();
    within(&engine, async |c| {
        let a = array(&c, "a", 1);
        let mut stored = 0u64;
        let full = loop {
            match a.write(stored * MIB as u64, &value(stored, MIB)).await {
                Ok(()) => stored += 1,
                Err(error) => break error,
            }
        };
        let no_space = |error: &Error| matches!(error, Error::Engine { status, .. } if *status == WireStatus::NO_SPACE);
        assert!(no_space(&full), "{full}");
        assert!(stored >= 20, "{stored} MiB of 24");
        // What did not fit left nothing behind, and everything else is there.
        assert_eq!(a.info().await.unwrap().records, stored * MIB as u64);
        for n in 0..stored {
            let got = a.read(n * MIB as u64, MIB as u64).await.unwrap();
            assert!(got == value(n, MIB), "{n}");
        }
        a.write(stored * MIB as u64, b"small").await.unwrap();
        for round in 0..3u64 {
            a.punch(round * MIB as u64, MIB as u64).await.unwrap();
            a.write((stored + 1 + round) * MIB as u64, &value(7, MIB))
                .await
                .unwrap();
        }
        assert_eq!(a.read(0, MIB as u64).await.unwrap(), vec![0; MIB]);
    });
    engine.stop().unwrap();
}

#[test]
fn a_corrupted_entry_is_an_error_for_reads_and_for_writes_that_keep_some_of_it() {
    let storage = Storage::format(Shape {
        targets: 1,
        ..Shape::default()
    });
    let engine = storage.start();
    let bytes = value(1, 300_000);
    within(&engine, async |c| {
        array(&c, "a", 1).write(0, &bytes).await.unwrap();
    });
    engine.stop().unwrap();
    let file = File::options()
        .read(true)
        .write(true)
        .open(&storage.files[0])
        .unwrap();
    let mut all = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut all, 0).unwrap();
    let damaged = 150_000;
    let needle = &bytes[damaged..damaged + 64];
    let at = all
        .windows(64)
        .position(|w| w == needle)
        .expect("the records are on the device");
    file.write_all_at(&[all[at] ^ 1], at as u64).unwrap();
    let engine = storage.start();
    within(&engine, async |c| {
        let a = array(&c, "a", 1);
        let corrupt = WireStatus::CORRUPT;
        refused(a.read(0, 300_000).await, corrupt, "other bytes");
        // Also where the damaged byte is not among what is asked for: the entry is not trusted.
        refused(a.read(140_000, 10).await, corrupt, "other bytes");
        assert_eq!(a.read(0, 131_072).await.unwrap(), &bytes[..131_072]);
        assert_eq!(a.read(262_144, 9).await.unwrap(), &bytes[262_144..262_153]);
        refused(a.write(140_000, b"abc").await, corrupt, "other bytes");
        refused(a.punch(140_000, 3).await, corrupt, "other bytes");
        refused(a.read(140_000, 10).await, corrupt, "other bytes");
        // Replacing all of it mends it.
        a.write(131_072, &bytes[131_072..262_144]).await.unwrap();
        assert!(a.read(0, 300_000).await.unwrap() == bytes);
    });
    engine.stop().unwrap();
}

#[test]
fn many_clients_write_their_shares_of_one_array() {
    let storage = Storage::format(Shape {
        targets: 2,
        helpers: 2,
        bdev_mib: 128,
        ..Shape::default()
    });
    let engine = storage.start();
    runtime().block_on(async {
        let mut tasks = Vec::new();
        for who in 0..6u64 {
            let client = client(engine.uri()).await;
            tasks.push(tokio::spawn(async move {
                let c = common::container_of(&client, CONTAINER).await;
                let a = array(&c, "shared", 16);
                // Records of all clients side by side: everybody's neighbours are somebody else's.
                let writes = (0..30u64).map(|n| {
                    let a = &a;
                    async move {
                        a.write((n * 6 + who) * 25, &value(who * 100 + n, 400))
                            .await
                    }
                });
                for write in writes {
                    write.await.unwrap();
                }
                a.write(1_000_000 + who * 70_000, &value(who, 70_000 * 16))
                    .await
                    .unwrap();
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        let (_client, c) = container(engine.uri()).await;
        let a = array(&c, "shared", 16);
        for who in 0..6u64 {
            for n in 0..30u64 {
                let got = a.read((n * 6 + who) * 25, 25).await.unwrap();
                assert_eq!(got, value(who * 100 + n, 400));
            }
            let got = a.read(1_000_000 + who * 70_000, 70_000).await.unwrap();
            assert!(got == value(who, 70_000 * 16));
        }
    });
    engine.stop().unwrap();
}
