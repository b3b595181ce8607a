//! Requests that make no sense: each is taken and completes as INVALID, and nothing changes.

use super::BdevBench;
use super::io::writable;
use super::rig::{Io, POOL, Rig};
use crate::abi::{BdevOp, Status};
use crate::conformance::case::{Case, Verdict, ensure, failed, skipped};

pub(super) const CASES: &[Case<BdevBench>] = &[
    Case {
        id: "faults.beyond_the_end",
        name: "I/O beyond the end of the device completes as INVALID",
        body: beyond_the_end,
    },
    Case {
        id: "faults.no_blocks",
        name: "I/O of zero blocks completes as INVALID",
        body: no_blocks,
    },
    Case {
        id: "faults.too_large",
        name: "a transfer larger than the maximum completes as INVALID",
        body: too_large,
    },
    Case {
        id: "faults.wrong_sum",
        name: "segments that do not add up to the blocks complete as INVALID",
        body: wrong_sum,
    },
    Case {
        id: "faults.too_many_segments",
        name: "more segments than promised complete as INVALID",
        body: too_many_segments,
    },
    Case {
        id: "faults.misaligned",
        name: "misaligned memory completes as INVALID or moves every byte",
        body: misaligned,
    },
    Case {
        id: "faults.unknown_op",
        name: "an unknown operation completes as INVALID or NOT_SUPPORTED",
        body: unknown_op,
    },
    Case {
        id: "faults.mixed_batch",
        name: "valid requests of a batch complete beside malformed ones",
        body: mixed_batch,
    },
];

const INVALID: &[Status] = &[Status::INVALID];

/// A rig whose first blocks hold known data.
fn prepared(bench: &BdevBench) -> Verdict<(Rig, Vec<u8>)> {
    let mut rig = writable(bench, 4)?;
    let data = bench
        .random(30)
        .bytes(rig.largest(4 * rig.block()) as usize * rig.block());
    rig.write(0, &data)?;
    Ok((rig, data))
}

fn beyond_the_end(bench: &BdevBench) -> Verdict {
    let (mut rig, data) = prepared(bench)?;
    let count = rig.geometry().block_count;
    let block = rig.block();
    let mut ranges = vec![
        (count, 1),
        (count + 1000, 1),
        (u64::MAX, 1),
        (u64::MAX / block as u64, 1),
    ];
    if rig.largest(POOL) >= 2 {
        ranges.push((count - 1, 2));
        ranges.push((u64::MAX, 2));
    }
    for (lba, blocks) in ranges {
        for op in [BdevOp::READ, BdevOp::WRITE] {
            let what = format!("{op:?} of {blocks} blocks at {lba} of {count}");
            rig.must_fail(&what, &Io::data(op, lba, blocks, 0, block), INVALID)?;
        }
        for op in [BdevOp::UNMAP, BdevOp::WRITE_ZEROES] {
            if rig.geometry().supports(op) {
                let what = format!("{op:?} of {blocks} blocks at {lba} of {count}");
                rig.must_fail(&what, &Io::plain(op, lba, blocks), INVALID)?;
            }
        }
    }
    for op in [BdevOp::UNMAP, BdevOp::WRITE_ZEROES] {
        if rig.geometry().supports(op) {
            let what = format!("{op:?} of 2^64-1 blocks at 1");
            rig.must_fail(&what, &Io::plain(op, 1, u64::MAX), INVALID)?;
        }
    }
    rig.expect("the first blocks", 0, &data)
}

fn no_blocks(bench: &BdevBench) -> Verdict {
    let (mut rig, data) = prepared(bench)?;
    for op in [
        BdevOp::READ,
        BdevOp::WRITE,
        BdevOp::UNMAP,
        BdevOp::WRITE_ZEROES,
        BdevOp::COMPARE,
    ] {
        if rig.geometry().supports(op) {
            rig.must_fail(
                &format!("{op:?} of no blocks"),
                &Io::plain(op, 0, 0),
                INVALID,
            )?;
        }
    }
    rig.expect("the first blocks", 0, &data)
}

fn too_large(bench: &BdevBench) -> Verdict {
    let (mut rig, data) = prepared(bench)?;
    let blocks = u64::from(rig.geometry().max_transfer_blocks) + 1;
    if rig.geometry().block_count < blocks {
        return skipped("a transfer can be as large as the device");
    }
    let len = blocks as usize * rig.block();
    let mut io = Io::plain(BdevOp::READ, 0, blocks);
    // More than the test's memory is described by naming the same memory again.
    while io.parts.iter().map(|p| p.1).sum::<usize>() < len {
        let sum: usize = io.parts.iter().map(|p| p.1).sum();
        io.parts.push((0, (len - sum).min(POOL)));
    }
    if io.parts.len() > rig.geometry().max_segments as usize {
        return skipped(format!("{len} bytes are more than the test's memory"));
    }
    rig.must_fail(&format!("a read of {blocks} blocks"), &io, INVALID)?;
    io.op = BdevOp::WRITE;
    rig.must_fail(&format!("a write of {blocks} blocks"), &io, INVALID)?;
    rig.expect("the first blocks", 0, &data)
}

fn wrong_sum(bench: &BdevBench) -> Verdict {
    let (mut rig, data) = prepared(bench)?;
    let block = rig.block();
    let most = rig.geometry().max_segments;
    for op in [BdevOp::READ, BdevOp::WRITE] {
        let mut lists = vec![
            vec![],
            vec![(0, block - 1)],
            vec![(0, block + 1)],
            vec![(0, 2 * block)],
            vec![(0, 0)],
        ];
        if most >= 2 {
            lists.push(vec![(0, block), (block, block)]);
            lists.push(vec![(0, block / 2), (block, block / 4)]);
            // Lengths whose sum wraps around to one block.
            lists.push(vec![(0, POOL), (0, block.wrapping_sub(POOL))]);
        }
        for parts in lists {
            let what = format!("{op:?} of 1 block into {parts:?}");
            let mut io = Io::plain(op, 0, 1);
            // The impossible length is never touched: only its number is handed over.
            let wraps = parts.iter().any(|p| p.1 > POOL);
            io.parts = parts;
            if wraps {
                rig.must_fail_unchecked(&what, &io, INVALID)?;
            } else {
                rig.must_fail(&what, &io, INVALID)?;
            }
        }
    }
    rig.expect("the first blocks", 0, &data)
}

fn too_many_segments(bench: &BdevBench) -> Verdict {
    let (mut rig, data) = prepared(bench)?;
    let count = u64::from(rig.geometry().max_segments) + 1;
    let block = rig.block();
    if rig.largest(POOL) < count {
        return skipped(format!(
            "{count} segments of one block are no valid transfer"
        ));
    }
    let mut io = Io::plain(BdevOp::WRITE, 0, count);
    io.parts = (0..count as usize).map(|n| (n * block, block)).collect();
    rig.must_fail(&format!("a write of {count} segments"), &io, INVALID)?;
    rig.expect("the first blocks", 0, &data)
}

fn misaligned(bench: &BdevBench) -> Verdict {
    let (mut rig, data) = prepared(bench)?;
    let block = rig.block();
    for shift in [1, 4, 8, rig.geometry().buffer_alignment as usize / 2] {
        let mut io = Io::plain(BdevOp::READ, 0, 1);
        io.parts = vec![(shift, block)];
        rig.put(0, &vec![0xee; 2 * block]);
        match rig.run(&io)? {
            Status::INVALID => {}
            Status::OK => {
                ensure!(
                    rig.get(shift, block) == data[..block],
                    "a read to memory {shift} bytes off brought other data"
                );
            }
            other => return failed(format!("a read to memory {shift} bytes off: {other:?}")),
        }
    }
    Ok(())
}

fn unknown_op(bench: &BdevBench) -> Verdict {
    let (mut rig, data) = prepared(bench)?;
    for number in [0, 7, 99, 255] {
        let io = Io::data(BdevOp(number), 0, 1, 0, rig.block());
        let statuses = [Status::INVALID, Status::NOT_SUPPORTED];
        rig.must_fail(&format!("operation {number}"), &io, &statuses)?;
    }
    rig.expect("the first blocks", 0, &data)
}

fn mixed_batch(bench: &BdevBench) -> Verdict {
    let (mut rig, data) = prepared(bench)?;
    let block = rig.block();
    let count = rig.geometry().block_count;
    let ios = [
        Io::data(BdevOp::READ, 0, 1, 0, block),
        Io::data(BdevOp::READ, count, 1, block, block),
        Io::data(BdevOp::READ, 0, 1, 2 * block, block),
    ];
    let mut statuses = Vec::new();
    let mut left = &ios[..];
    while !left.is_empty() {
        let taken = rig.offer(left)?.len();
        left = &left[taken..];
        statuses.append(&mut rig.finish()?);
    }
    statuses.sort_by_key(|(tag, _)| *tag);
    let statuses: Vec<_> = statuses.into_iter().map(|(_, status)| status).collect();
    ensure!(
        statuses == [Status::OK, Status::INVALID, Status::OK],
        "the batch completed as {statuses:?}"
    );
    for offset in [0, 2 * block] {
        ensure!(
            rig.get(offset, block) == data[..block],
            "a valid read beside a malformed one brought other data"
        );
    }
    Ok(())
}
