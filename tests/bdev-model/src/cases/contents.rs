//! What a device holds after which operations.

use super::{MIB, pattern, read, write_pattern};
use crate::Subject;
use crate::driver::{Arena, Driver, Io};
use crate::model::{self, fill};
use daos_plugin_api::abi::{BdevOp, Status};
use proptest::test_runner::{Config, TestRunner};

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
