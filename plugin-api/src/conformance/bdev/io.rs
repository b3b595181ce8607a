//! Reading and writing.

use super::BdevBench;
use super::rig::{Io, POOL, Rig};
use crate::abi::{BdevGeometry, BdevOp, Status};
use crate::conformance::case::{Case, Verdict, ensure, failed, skipped};
use crate::conformance::pattern::difference;

pub(super) const CASES: &[Case<BdevBench>] = &[
    Case {
        id: "io.write_read",
        name: "what was written is read back",
        body: write_read,
    },
    Case {
        id: "io.model",
        name: "random writes and reads agree with a model",
        body: model,
    },
    Case {
        id: "io.first_and_last",
        name: "the first and the last block hold data",
        body: first_and_last,
    },
    Case {
        id: "io.largest",
        name: "a transfer of the maximum size moves every byte",
        body: largest,
    },
    Case {
        id: "io.segments",
        name: "data is gathered from and scattered to as many segments as promised",
        body: segments,
    },
    Case {
        id: "io.odd_segments",
        name: "segments of odd lengths complete as INVALID or move every byte",
        body: odd_segments,
    },
    Case {
        id: "io.neighbours",
        name: "a read changes only the memory it was given",
        body: neighbours,
    },
    Case {
        id: "io.other_blocks",
        name: "a write changes only the blocks it names",
        body: other_blocks,
    },
    Case {
        id: "io.read_only",
        name: "a read-only device refuses writes",
        body: read_only,
    },
];

/// A rig on a device that can be written.
pub(super) fn writable(bench: &BdevBench, depth: u32) -> Verdict<Rig> {
    let rig = bench.rig(depth)?;
    if rig.geometry().flags & BdevGeometry::READ_ONLY != 0 {
        return skipped("the device is read-only");
    }
    Ok(rig)
}

fn write_read(bench: &BdevBench) -> Verdict {
    let mut rig = writable(bench, 1)?;
    let mut random = bench.random(1);
    let most = rig.largest(POOL);
    for blocks in [1, 2, 3, 8, 9, most] {
        let blocks = blocks.min(most);
        let lba = random.below(rig.geometry().block_count - blocks + 1);
        let data = random.bytes(blocks as usize * rig.block());
        rig.write(lba, &data)?;
        rig.expect("what was written", lba, &data)?;
        let other = random.bytes(data.len());
        rig.write(lba, &other)?;
        rig.expect("what was overwritten", lba, &other)?;
    }
    Ok(())
}

fn model(bench: &BdevBench) -> Verdict {
    const DEPTH: usize = 8;
    let mut rig = writable(bench, DEPTH as u32)?;
    let mut random = bench.random(2);
    let block = rig.block();
    let area = ((2 << 20) / block as u64).min(rig.geometry().block_count);
    let most = rig.largest(POOL / DEPTH).min(area);
    let mut model = random.bytes(area as usize * block);
    for start in (0..area).step_by(most as usize) {
        let end = (start + most).min(area);
        let data = &model[start as usize * block..end as usize * block];
        rig.write(start, data)?;
    }
    // Rounds of outstanding requests on ranges that do not overlap.
    for _ in 0..200 {
        let stripe = area / DEPTH as u64;
        let mut expected = Vec::new();
        let mut ios = Vec::new();
        for n in 0..DEPTH as u64 {
            if stripe == 0 {
                break;
            }
            let blocks = 1 + random.below(stripe.min(most).min(16));
            let lba = n * stripe + random.below(stripe - blocks + 1);
            let offset = n as usize * (POOL / DEPTH);
            let range = lba as usize * block..(lba + blocks) as usize * block;
            if random.below(2) == 0 {
                let data = random.bytes(range.len());
                rig.put(offset, &data);
                model[range].copy_from_slice(&data);
                ios.push(Io::data(BdevOp::WRITE, lba, blocks, offset, block));
            } else {
                rig.put(offset, &vec![0xee; range.len()]);
                expected.push((lba, offset, model[range].to_vec()));
                ios.push(Io::data(BdevOp::READ, lba, blocks, offset, block));
            }
        }
        let mut left = &ios[..];
        while !left.is_empty() {
            let taken = rig.offer(left)?.len();
            left = &left[taken..];
            if taken == 0 {
                rig.poll(DEPTH)?;
            }
        }
        for (tag, status) in rig.finish()? {
            ensure!(status.is_ok(), "tag {tag} completed as {status:?}");
        }
        for (lba, offset, data) in expected {
            if let Some(how) = difference(&rig.get(offset, data.len()), &data) {
                return failed(format!("block {lba}: {how}"));
            }
        }
    }
    for start in (0..area).step_by(most as usize) {
        let end = (start + most).min(area);
        rig.expect(
            "the area after all rounds",
            start,
            &model[start as usize * block..end as usize * block],
        )?;
    }
    Ok(())
}

fn first_and_last(bench: &BdevBench) -> Verdict {
    let mut rig = writable(bench, 1)?;
    let mut random = bench.random(3);
    let last = rig.geometry().block_count - 1;
    let first_data = random.bytes(rig.block());
    let last_data = random.bytes(rig.block());
    rig.write(0, &first_data)?;
    rig.write(last, &last_data)?;
    if last > 0 {
        rig.expect("the first block", 0, &first_data)?;
    }
    rig.expect("the last block", last, &last_data)
}

fn largest(bench: &BdevBench) -> Verdict {
    let mut rig = writable(bench, 1)?;
    let mut random = bench.random(4);
    let blocks = rig.largest(POOL);
    let lba = rig.geometry().block_count - blocks;
    let data = random.bytes(blocks as usize * rig.block());
    rig.write(lba, &data)?;
    rig.expect("the largest transfer", lba, &data)
}

/// Scattered parts of `len` bytes each, alternating through the memory, last one first.
fn scattered(count: usize, len: usize, gap: usize) -> Vec<(usize, usize)> {
    (0..count).rev().map(|n| (n * (len + gap), len)).collect()
}

fn segments(bench: &BdevBench) -> Verdict {
    let mut rig = writable(bench, 1)?;
    let mut random = bench.random(5);
    let block = rig.block();
    let gap = block.max(rig.geometry().buffer_alignment as usize);
    let room = (POOL / (block + gap)).min(rig.largest(POOL) as usize);
    let most = (rig.geometry().max_segments as usize).min(room);
    for count in [1, 2, 3, most / 2, most] {
        let count = count.clamp(1, most);
        let data = random.bytes(count * block);
        let parts = scattered(count, block, gap);
        for (part, bytes) in parts.iter().zip(data.chunks(block)) {
            rig.put(part.0, bytes);
        }
        let mut io = Io::plain(BdevOp::WRITE, 0, count as u64);
        io.parts = parts.clone();
        rig.must(&io)?;
        rig.expect("gathered data", 0, &data)?;

        for part in &parts {
            rig.put(part.0, &vec![0xee; block]);
        }
        io.op = BdevOp::READ;
        rig.must(&io)?;
        for (n, (part, bytes)) in parts.iter().zip(data.chunks(block)).enumerate() {
            if let Some(how) = difference(&rig.get(part.0, block), bytes) {
                return failed(format!("segment {n} of {count}: {how}"));
            }
        }
    }
    Ok(())
}

fn odd_segments(bench: &BdevBench) -> Verdict {
    let mut rig = writable(bench, 1)?;
    if rig.geometry().max_segments < 2 || rig.largest(POOL) < 2 {
        return skipped("the device takes one segment or one block at a time");
    }
    let mut random = bench.random(6);
    let block = rig.block();
    let data = random.bytes(2 * block);
    for first in [1, 4, 100, block - 4, block + 8] {
        let parts = vec![(0, first), (1 << 20, 2 * block - first)];
        rig.write(0, &vec![0x11; 2 * block])?;
        rig.put(0, &data[..first]);
        rig.put(1 << 20, &data[first..]);
        let mut io = Io::plain(BdevOp::WRITE, 0, 2);
        io.parts = parts;
        match rig.run(&io)? {
            Status::INVALID => rig.expect("a refused write", 0, &vec![0x11; 2 * block])?,
            Status::OK => rig.expect("odd segments", 0, &data)?,
            other => return failed(format!("a first segment of {first} bytes: {other:?}")),
        }
    }
    Ok(())
}

fn neighbours(bench: &BdevBench) -> Verdict {
    let mut rig = writable(bench, 1)?;
    let mut random = bench.random(7);
    let block = rig.block();
    let guard = block.max(rig.geometry().buffer_alignment as usize);
    let data = random.bytes(block);
    rig.write(0, &data)?;
    rig.put(0, &vec![0xee; 2 * guard + block]);
    rig.must(&Io::data(BdevOp::READ, 0, 1, guard, block))?;
    let found = rig.get(0, 2 * guard + block);
    ensure!(
        found[..guard]
            .iter()
            .chain(&found[guard + block..])
            .all(|b| *b == 0xee),
        "the read of one block wrote beside its memory"
    );
    match difference(&found[guard..guard + block], &data) {
        None => Ok(()),
        Some(how) => failed(how),
    }
}

fn other_blocks(bench: &BdevBench) -> Verdict {
    let mut rig = writable(bench, 1)?;
    if rig.largest(POOL) < 8 {
        return skipped("the device has, or moves, less than 8 blocks");
    }
    let mut random = bench.random(8);
    let block = rig.block();
    let mut data = random.bytes(8 * block);
    rig.write(0, &data)?;
    for lba in [0, 3, 7] {
        let one = random.bytes(block);
        rig.write(lba, &one)?;
        data[lba as usize * block..][..block].copy_from_slice(&one);
        rig.expect("eight blocks, one rewritten", 0, &data)?;
    }
    Ok(())
}

fn read_only(bench: &BdevBench) -> Verdict {
    let mut rig = bench.rig(1)?;
    if rig.geometry().flags & BdevGeometry::READ_ONLY == 0 {
        return skipped("the device can be written");
    }
    let before = rig.read(0, 1)?;
    let io = Io::data(BdevOp::WRITE, 0, 1, 0, rig.block());
    let status = rig.run(&io)?;
    ensure!(!status.is_ok(), "a write succeeded");
    rig.expect("the block", 0, &before)
}
