//! How queues and devices behave, whatever is on them.

use super::{MIB, pattern, read, write_pattern};
use crate::Subject;
use crate::driver::{Arena, Driver, Io};
use daos_plugin_api::abi::{BdevGeometry, BdevOp, Status};
use daos_plugin_api::host::{BdevDevice, CallOptions};
use std::collections::HashSet;
use std::time::{Duration, Instant};

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
