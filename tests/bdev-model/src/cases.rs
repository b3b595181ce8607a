//! The cases of the suite. Each opens the device itself and leaves it closed.

use crate::Subject;
use crate::driver::{Arena, Driver, Io};
use crate::model::{self, fill};
use daos_plugin_api::abi::{BdevGeometry, BdevOp, Status};
use daos_plugin_api::host::{BdevDevice, CallOptions};
use proptest::test_runner::{Config, TestRunner};
use std::collections::HashSet;
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;

fn write_pattern(driver: &mut Driver, lba: u64, blocks: u64, seed: u64) {
    let len = blocks as usize * driver.block();
    fill(&mut driver.memory()[..len], seed);
    assert_eq!(
        driver.run(&Io::with(BdevOp::WRITE, lba, blocks, 0..len)),
        Status::OK
    );
}

fn read(driver: &mut Driver, lba: u64, blocks: u64) -> Vec<u8> {
    let len = blocks as usize * driver.block();
    driver.memory()[..len].fill(0x5a);
    assert_eq!(
        driver.run(&Io::with(BdevOp::READ, lba, blocks, 0..len)),
        Status::OK
    );
    driver.memory()[..len].to_vec()
}

fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; len];
    fill(&mut out, seed);
    out
}

fn random(subject: &Subject, depth: u32, foreign: bool, cases: u32) {
    let device = subject.open();
    let batch = depth as usize;
    let len = model::arena_for(device.geometry(), batch);
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&model::steps(*device.geometry(), 1..120), |steps| {
            let arena = if foreign {
                Arena::foreign(len)
            } else {
                Arena::pool(&device, len)
            };
            let mut driver = Driver::new(&device, depth, arena);
            model::check(&mut driver, &steps, batch)
        })
        .unwrap();
}

/// Any sequence of operations leaves what the model says; memory offered to the plugin.
pub fn random_operations(subject: &Subject) {
    random(subject, 4, false, 24);
}

/// The same on memory that was never offered.
pub fn random_operations_on_foreign_memory(subject: &Subject) {
    random(subject, 4, true, 12);
}

/// The same with many requests at once.
pub fn random_operations_deep(subject: &Subject) {
    random(subject, 32, false, 12);
}

/// Thousands of requests in batches of all sizes: one completion each.
pub fn exactly_once(subject: &Subject) {
    let device = subject.open();
    let depth = 16;
    let mut driver = Driver::new(&device, depth, Arena::pool(&device, 2 * MIB));
    let block = driver.block();
    let mut staged = HashSet::new();
    let mut done = HashSet::new();
    for round in 0..600u64 {
        for i in 0..(round % 23) {
            let at = (i as usize % 16) * block;
            let op = if (round + i) % 3 == 0 {
                BdevOp::WRITE
            } else {
                BdevOp::READ
            };
            // Blocks and memory of different requests are apart as long as both are outstanding.
            let lba = (round * 23 + i) % 512;
            staged.insert(driver.stage(&Io::with(op, lba, 1, at..at + block)));
        }
        while driver.submit() > 0 {}
        done.extend(
            driver
                .poll(1 + round as usize % 7)
                .into_iter()
                .map(|(tag, status)| {
                    assert_eq!(status, Status::OK);
                    tag
                }),
        );
    }
    for (tag, status) in driver.finish() {
        assert_eq!(status, Status::OK);
        assert!(done.insert(tag), "{tag:#x} completed twice");
    }
    assert_eq!(staged, done);
}

/// A queue of depth n takes n requests and no more until completions are polled.
pub fn full_queue_takes_a_prefix(subject: &Subject) {
    let device = subject.open();
    let mut driver = Driver::new(&device, 8, Arena::pool(&device, 2 * MIB));
    let block = driver.block();
    for i in 0..20 {
        driver.stage(&Io::with(
            BdevOp::READ,
            i,
            1,
            i as usize * block..(i as usize + 1) * block,
        ));
    }
    assert_eq!(driver.submit(), 8);
    assert_eq!(driver.submit(), 0, "a full queue takes nothing");
    let start = Instant::now();
    let mut polled = 0;
    while polled < 3 {
        assert!(start.elapsed() < Duration::from_secs(30));
        polled += driver.poll(3 - polled).len();
    }
    assert_eq!(driver.submit(), 3, "exactly the polled ones made room");
    let rest = driver.finish();
    assert_eq!(rest.len(), 17);
    assert!(rest.values().all(|status| status.is_ok()));
}

/// Malformed requests complete as INVALID, touch nothing and disturb no neighbour.
pub fn invalid_requests_complete_as_invalid(subject: &Subject) {
    let device = subject.open();
    let geometry = *device.geometry();
    let mut driver = Driver::new(&device, 64, Arena::pool(&device, 4 * MIB));
    let block = driver.block();
    let end = geometry.block_count;
    write_pattern(&mut driver, 0, 16, 7);
    write_pattern(&mut driver, end - 16, 16, 8);
    let mut bad = Vec::new();
    for op in [
        BdevOp::READ,
        BdevOp::WRITE,
        BdevOp::COMPARE,
        BdevOp::UNMAP,
        BdevOp::WRITE_ZEROES,
    ] {
        if !geometry.supports(op) {
            continue;
        }
        let data = matches!(op, BdevOp::READ | BdevOp::WRITE | BdevOp::COMPARE);
        let io = |lba, blocks, len| {
            if data {
                Io::with(op, lba, blocks, 0..len)
            } else {
                Io::bare(op, lba, blocks)
            }
        };
        bad.push(io(end, 1, block));
        bad.push(io(end - 1, 2, 2 * block));
        bad.push(io(u64::MAX, 1, block));
        bad.push(io(u64::MAX / block as u64 + 1, 1, block));
        bad.push(io(0, 0, 0));
        bad.push(io(1, u64::MAX, block));
        bad.push(io(1, u64::MAX / block as u64 + 1, block));
        if data {
            bad.push(io(0, 1, block - geometry.buffer_alignment as usize));
            bad.push(io(0, 1, 2 * block));
            bad.push(Io::bare(op, 0, 1));
            let too_many = geometry.max_transfer_blocks as u64 + 1;
            if too_many <= end {
                bad.push(io(0, too_many, block));
            }
            if geometry.buffer_alignment > 1 {
                bad.push(Io::with(op, 0, 1, 1..1 + block));
            }
        }
    }
    bad.push(Io::bare(BdevOp(0), 0, 1));
    bad.push(Io::with(BdevOp(99), 0, 1, 0..block));
    bad.push(Io {
        flags: 0x80,
        ..Io::with(BdevOp::WRITE, 0, 1, 0..block)
    });
    for chunk in bad.chunks(3) {
        driver.memory()[..4 * block].fill(0x11);
        let mut expected = Vec::new();
        for io in chunk {
            expected.push((driver.stage(io), io.clone()));
        }
        let good_at = MIB..MIB + block;
        let good = driver.stage(&Io::with(BdevOp::READ, 3, 1, good_at.clone()));
        let done = driver.finish();
        for (tag, io) in expected {
            assert_eq!(done[&tag], Status::INVALID, "{io:?}");
        }
        assert_eq!(done[&good], Status::OK);
        assert!(
            driver.memory()[..4 * block]
                .iter()
                .all(|byte| *byte == 0x11)
        );
        assert!(driver.memory()[good_at] == pattern(16 * block, 7)[3 * block..4 * block]);
    }
    assert!(read(&mut driver, 0, 16) == pattern(16 * block, 7));
    assert!(read(&mut driver, end - 16, 16) == pattern(16 * block, 8));
}

/// The longest request, in one piece and in as many as allowed.
pub fn largest_transfers(subject: &Subject) {
    let device = subject.open();
    let geometry = *device.geometry();
    let block = geometry.block_size as usize;
    let blocks = u64::from(geometry.max_transfer_blocks).min(geometry.block_count / 2);
    let len = blocks as usize * block;
    for foreign in [false, true] {
        let room = 2 * len + block;
        let arena = if foreign {
            Arena::foreign(room)
        } else {
            Arena::pool(&device, room)
        };
        let mut driver = Driver::new(&device, 2, arena);
        write_pattern(&mut driver, 1, blocks, 11);
        assert!(read(&mut driver, 1, blocks) == pattern(len, 11));
        let pieces = (geometry.max_segments as usize).min(blocks as usize);
        let each = len / block / pieces * block;
        // Pieces lie backwards in memory; the last one takes the rest.
        let memory: Vec<_> = (0..pieces)
            .map(|i| {
                let end = room - i * each;
                let size = if i + 1 == pieces {
                    len - i * each
                } else {
                    each
                };
                end - size..end
            })
            .collect();
        let data = pattern(len, 12);
        model::scatter(driver.memory(), &memory, &data);
        let io = Io {
            memory: memory.clone(),
            ..Io::bare(BdevOp::WRITE, 2, blocks)
        };
        assert_eq!(driver.run(&io), Status::OK);
        driver.memory().fill(0);
        assert_eq!(
            driver.run(&Io {
                op: BdevOp::READ,
                ..io.clone()
            }),
            Status::OK
        );
        assert!(model::gather(driver.memory(), &memory) == data);
        assert!(read(&mut driver, 2, blocks) == data);
        let mut many = vec![0..0; geometry.max_segments as usize];
        many.push(0..block);
        let too_many = Io {
            memory: many,
            ..Io::bare(BdevOp::READ, 0, 1)
        };
        assert_eq!(
            driver.run(&too_many),
            Status::INVALID,
            "one segment too many"
        );
    }
}

/// The last block is there and the one before is another.
pub fn last_block(subject: &Subject) {
    let device = subject.open();
    let last = device.geometry().block_count - 1;
    let mut driver = Driver::new(&device, 2, Arena::pool(&device, 2 * MIB));
    let block = driver.block();
    write_pattern(&mut driver, last - 1, 1, 21);
    write_pattern(&mut driver, last, 1, 22);
    assert!(read(&mut driver, last - 1, 1) == pattern(block, 21));
    assert!(read(&mut driver, last, 1) == pattern(block, 22));
}

/// Write-zeroes of one block, of many, and of more than a transfer; neighbours stay.
pub fn write_zeroes(subject: &Subject) {
    let device = subject.open();
    let geometry = *device.geometry();
    if !geometry.supports(BdevOp::WRITE_ZEROES) {
        return;
    }
    let mut driver = Driver::new(&device, 4, Arena::pool(&device, 2 * MIB));
    let block = driver.block();
    let long = (geometry.block_count - 64).min(u64::from(geometry.max_transfer_blocks) + 100);
    for (lba, blocks) in [(5, 1), (9, 31), (32, long)] {
        write_pattern(&mut driver, lba - 1, 1, 31);
        write_pattern(&mut driver, lba, 1, 32);
        write_pattern(&mut driver, lba + blocks - 1, 1, 33);
        write_pattern(&mut driver, lba + blocks, 1, 34);
        for io in [
            Io::bare(BdevOp::WRITE_ZEROES, lba, blocks),
            Io::bare(BdevOp::WRITE_ZEROES, lba, blocks).fua(),
        ] {
            assert_eq!(driver.run(&io), Status::OK, "{blocks} blocks");
            assert!(read(&mut driver, lba, 1).iter().all(|byte| *byte == 0));
            assert!(
                read(&mut driver, lba + blocks - 1, 1)
                    .iter()
                    .all(|byte| *byte == 0)
            );
            assert!(read(&mut driver, lba - 1, 1) == pattern(block, 31));
            assert!(read(&mut driver, lba + blocks, 1) == pattern(block, 34));
        }
    }
}

/// Unmap leaves the neighbours alone, and what it freed can be written again.
pub fn unmap(subject: &Subject) {
    let device = subject.open();
    let geometry = *device.geometry();
    if !geometry.supports(BdevOp::UNMAP) {
        return;
    }
    let mut driver = Driver::new(&device, 4, Arena::pool(&device, 4 * MIB));
    let block = driver.block();
    write_pattern(&mut driver, 0, 200, 41);
    assert_eq!(driver.run(&Io::bare(BdevOp::UNMAP, 40, 100)), Status::OK);
    assert!(read(&mut driver, 0, 40) == pattern(200 * block, 41)[..40 * block]);
    assert!(read(&mut driver, 140, 60) == pattern(200 * block, 41)[140 * block..]);
    read(&mut driver, 40, 100); // undefined, but readable
    write_pattern(&mut driver, 40, 100, 42);
    assert!(read(&mut driver, 40, 100) == pattern(100 * block, 42));
    assert_eq!(driver.run(&Io::bare(BdevOp::FLUSH, 0, 0)), Status::OK);
}

/// Compare finds a difference in the first and in the last byte, and none where there is none.
pub fn compare(subject: &Subject) {
    let device = subject.open();
    let geometry = *device.geometry();
    if !geometry.supports(BdevOp::COMPARE) {
        return;
    }
    let mut driver = Driver::new(&device, 16, Arena::pool(&device, 4 * MIB));
    let block = driver.block();
    let blocks = ((MIB + 3 * block) / block) as u64;
    let len = blocks as usize * block;
    write_pattern(&mut driver, 3, blocks, 51);
    let (first, second) = (block * 2, 3 * MIB);
    let data = pattern(len, 51);
    model::scatter(
        driver.memory(),
        &[0..first, second - len + first..second],
        &data,
    );
    let io = Io {
        memory: vec![0..first, second - len + first..second],
        ..Io::bare(BdevOp::COMPARE, 3, blocks)
    };
    assert_eq!(driver.run(&io), Status::OK);
    for at in [0, first - 1, second - len + first, second - 1] {
        driver.memory()[at] ^= 0x80;
        assert_eq!(driver.run(&io), Status::MISCOMPARE, "byte {at}");
        driver.memory()[at] ^= 0x80;
    }
    // More compares at once than a plugin keeps bounce buffers.
    for _ in 0..16 {
        driver.stage(&io);
    }
    assert!(driver.finish().values().all(|status| status.is_ok()));
}

/// Flush, FUA and a flush behind writes succeed.
pub fn flush_and_fua(subject: &Subject) {
    let device = subject.open();
    let mut driver = Driver::new(&device, 8, Arena::pool(&device, 2 * MIB));
    let block = driver.block();
    assert_eq!(
        driver.run(&Io::bare(BdevOp::FLUSH, 0, 0)),
        Status::OK,
        "nothing to flush"
    );
    fill(&mut driver.memory()[..4 * block], 61);
    let fua = Io::with(BdevOp::WRITE, 2, 4, 0..4 * block).fua();
    assert_eq!(driver.run(&fua), Status::OK);
    let split = Io {
        memory: vec![0..block, block..4 * block],
        ..fua
    };
    assert_eq!(driver.run(&split), Status::OK, "FUA with several segments");
    for i in 0..6 {
        driver.stage(&Io::with(BdevOp::WRITE, 20 + i, 1, 0..block));
    }
    driver.stage(&Io::bare(BdevOp::FLUSH, 0, 0));
    assert!(driver.finish().values().all(|status| status.is_ok()));
    assert!(read(&mut driver, 2, 4) == pattern(4 * block, 61));
}

/// Aborted requests complete once, with their result or CANCELLED; unknown tags are NOT_FOUND.
pub fn abort(subject: &Subject) {
    let device = subject.open();
    let mut driver = Driver::new(&device, 16, Arena::pool(&device, 16 * MIB));
    let block = driver.block();
    assert_eq!(driver.abort(1), Err(Status::NOT_FOUND));
    for round in 0..40 {
        let len = MIB / block * block;
        let tags: Vec<u64> = (0..16)
            .map(|i| {
                let memory = i * len..(i + 1) * len;
                let op = if i % 2 == 0 {
                    BdevOp::READ
                } else {
                    BdevOp::COMPARE
                };
                let op = if driver.geometry().supports(op) {
                    op
                } else {
                    BdevOp::READ
                };
                driver.stage(&Io::with(op, 0, (len / block) as u64, memory))
            })
            .collect();
        assert_eq!(driver.submit(), 16);
        for tag in tags.iter().skip(round % 3).step_by(3) {
            match driver.abort(*tag) {
                Ok(()) | Err(Status::NOT_FOUND) => {}
                Err(status) => panic!("abort says {status}"),
            }
        }
        let done = driver.finish();
        for tag in &tags {
            let status = done[tag];
            let fine = [Status::OK, Status::CANCELLED, Status::MISCOMPARE].contains(&status);
            assert!(fine, "an aborted request completed with {status}");
        }
        assert_eq!(
            driver.abort(tags[0]),
            Err(Status::NOT_FOUND),
            "it is complete"
        );
    }
    assert_eq!(
        driver.run(&Io::with(BdevOp::READ, 0, 1, 0..block)),
        Status::OK
    );
}

/// After a queue is closed the device writes to no memory any more.
pub fn drop_with_outstanding_requests(subject: &Subject) {
    let device = subject.open();
    let mut arena = Arena::pool(&device, 16 * MIB);
    for round in 0..25u8 {
        let mut driver = Driver::new(&device, 16, arena);
        let block = driver.block();
        let len = MIB / block * block;
        write_pattern(&mut driver, 0, (len / block) as u64, 71);
        for i in 0..16 {
            let memory = i * len..(i + 1) * len;
            driver.stage(&Io::with(BdevOp::READ, 0, (len / block) as u64, memory));
        }
        driver.submit();
        let mut driver = Driver::new(&device, 1, driver.close());
        driver.memory().fill(round);
        std::thread::sleep(Duration::from_millis(3));
        assert!(
            driver.memory().iter().all(|byte| *byte == round),
            "written after close"
        );
        arena = driver.close();
    }
}

/// Queues of two threads do not disturb each other.
pub fn two_queues_on_two_threads(subject: &Subject) {
    let device = subject.open();
    let half = device.geometry().block_count / 2;
    let work = |device: &BdevDevice, base: u64, seed: u64| {
        let mut driver = Driver::new(device, 8, Arena::foreign(2 * MIB));
        let block = driver.block();
        for round in 0..60 {
            let data = pattern(8 * block, seed + round);
            driver.memory()[..8 * block].copy_from_slice(&data);
            for i in 0..8usize {
                let at = i * block..(i + 1) * block;
                driver.stage(&Io::with(BdevOp::WRITE, base + i as u64 * 3, 1, at));
            }
            assert!(driver.finish().values().all(|status| status.is_ok()));
            driver.memory().fill(0);
            for i in 0..8usize {
                let at = i * block..(i + 1) * block;
                driver.stage(&Io::with(BdevOp::READ, base + i as u64 * 3, 1, at));
            }
            assert!(driver.finish().values().all(|status| status.is_ok()));
            assert!(driver.memory()[..8 * block] == data);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| work(&device, 0, 1000));
        scope.spawn(|| work(&device, half, 2000));
    });
}

/// What was written is there after closing and opening the device.
pub fn contents_survive_reopening(subject: &Subject) {
    let block = {
        let device = subject.open();
        let mut driver = Driver::new(&device, 2, Arena::pool(&device, 2 * MIB));
        write_pattern(&mut driver, 77, 5, 81);
        assert_eq!(driver.run(&Io::bare(BdevOp::FLUSH, 0, 0)), Status::OK);
        driver.block()
    };
    let device = subject.open();
    let mut driver = Driver::new(&device, 2, Arena::pool(&device, 2 * MIB));
    assert!(read(&mut driver, 77, 5) == pattern(5 * block, 81));
}

/// A thread that sleeps as `arm_wait` says is woken by completions.
pub fn waiting_ends_when_something_completes(subject: &Subject) {
    let device = subject.open();
    let mut driver = Driver::new(&device, 4, Arena::pool(&device, 2 * MIB));
    let block = driver.block();
    for round in 0..200 {
        let io = match round % 4 {
            0 => Io::with(BdevOp::WRITE, round, 1, 0..block).fua(),
            1 => Io::bare(BdevOp::FLUSH, 0, 0),
            2 if driver.geometry().supports(BdevOp::UNMAP) => Io::bare(BdevOp::UNMAP, round, 8),
            _ => Io::with(BdevOp::READ, round, 1, 0..block),
        };
        driver.stage(&io);
        assert_eq!(driver.submit(), 1);
        let start = Instant::now();
        while driver.outstanding() > 0 {
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "{io:?} never completes"
            );
            driver.wait();
            assert!(
                driver.poll(4).iter().all(|(_, status)| status.is_ok()),
                "{io:?}"
            );
        }
    }
}

/// A device belongs to one opener at a time.
pub fn second_open_is_busy(subject: &Subject) {
    let device = subject.open();
    let error = subject
        .instance
        .open_bdev(&subject.spec, CallOptions::default())
        .err()
        .expect("a second open is refused");
    assert_eq!(error.status, Status::BUSY, "{error}");
    assert!(error.what.contains(&subject.spec.address), "{error}");
    drop(device);
    subject.open();
}

/// Depth 0 and a depth above the geometry's are errors, the largest one works.
pub fn queue_depths_have_limits(subject: &Subject) {
    let device = subject.open();
    let most = device.geometry().max_queue_depth;
    for depth in [0, most + 1] {
        let error = device
            .open_queue(depth, CallOptions::default())
            .err()
            .expect("refused");
        assert_eq!(error.status, Status::INVALID, "{error}");
    }
    let mut driver = Driver::new(&device, most, Arena::pool(&device, 2 * MIB));
    let block = driver.block();
    for i in 0..most as u64 {
        driver.stage(&Io::with(BdevOp::READ, i % 100, 1, 0..block));
    }
    assert_eq!(driver.submit(), most as usize);
    assert!(driver.finish().values().all(|status| status.is_ok()));
}

/// Identity and health answer and agree with the geometry.
pub fn identity_and_health(subject: &Subject) {
    let device = subject.open();
    let geometry: &BdevGeometry = device.geometry();
    let identity = device.identity(CallOptions::default()).expect("identity");
    assert_eq!(identity.address, subject.spec.address);
    assert_eq!(identity.class, subject.spec.class);
    assert_eq!(identity.block_size, geometry.block_size);
    assert_eq!(identity.size, device.size());
    assert_eq!(device.size(), subject.spec.size);
    let health = device.health(CallOptions::default()).expect("health");
    assert_eq!(health["status"], "ok", "{health:?}");
}
