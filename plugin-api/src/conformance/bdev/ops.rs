//! Operations beside reading and writing.

use super::BdevBench;
use super::io::writable;
use super::rig::{Io, POOL, Rig};
use crate::abi::{BdevOp, Status};
use crate::conformance::case::{Case, Verdict, ensure, skipped};

pub(super) const CASES: &[Case<BdevBench>] = &[
    Case {
        id: "ops.flush",
        name: "a flush succeeds with and without writes before it",
        body: flush,
    },
    Case {
        id: "ops.unmap",
        name: "unmapped blocks can be written again and their neighbours keep their data",
        body: unmap,
    },
    Case {
        id: "ops.write_zeroes",
        name: "write-zeroes reads back as zeroes and spares the neighbours",
        body: write_zeroes,
    },
    Case {
        id: "ops.large_zeroes",
        name: "write-zeroes takes ranges larger than the largest transfer",
        body: large_zeroes,
    },
    Case {
        id: "ops.compare",
        name: "compare tells equal data from different data and changes nothing",
        body: compare,
    },
    Case {
        id: "ops.unclaimed",
        name: "operations that the geometry does not claim complete as NOT_SUPPORTED",
        body: unclaimed,
    },
];

fn flush(bench: &BdevBench) -> Verdict {
    let mut rig = bench.rig(4)?;
    rig.must(&Io::flush())?;
    if rig.geometry().supports(BdevOp::WRITE) {
        let data = bench.random(20).bytes(rig.block());
        rig.write(0, &data)?;
        rig.must(&Io::flush())?;
        rig.must(&Io::flush())?;
        rig.expect("a flushed block", 0, &data)?;
    }
    Ok(())
}

/// Writes a known area, applies `op` to its middle, and checks what is around it.
fn middle(bench: &BdevBench, op: BdevOp, unit: u64, salt: u64) -> Verdict<(Rig, u64)> {
    let mut rig = writable(bench, 2)?;
    let area = 3 * unit;
    if rig.largest(POOL) < area {
        return skipped(format!("{area} blocks are more than one transfer"));
    }
    let block = rig.block();
    let len = unit as usize * block;
    let data = bench.random(salt).bytes(3 * len);
    rig.write(0, &data)?;
    rig.must(&Io::plain(op, unit, unit))?;
    rig.expect("the blocks before", 0, &data[..len])?;
    rig.expect("the blocks behind", 2 * unit, &data[2 * len..])?;
    Ok((rig, unit))
}

fn unmap(bench: &BdevBench) -> Verdict {
    let geometry = *bench.open()?.geometry();
    if !geometry.supports(BdevOp::UNMAP) {
        return skipped("the device cannot unmap");
    }
    let granularity = u64::from(geometry.deallocate_granularity);
    for unit in [granularity, 1] {
        let (mut rig, unit) = middle(bench, BdevOp::UNMAP, unit, 23)?;
        let data = bench.random(24).bytes(unit as usize * rig.block());
        // Contents are undefined now, but reading them works.
        rig.read(unit, unit)?;
        rig.write(unit, &data)?;
        rig.expect("rewritten blocks", unit, &data)?;
    }
    Ok(())
}

fn write_zeroes(bench: &BdevBench) -> Verdict {
    if !bench.open()?.geometry().supports(BdevOp::WRITE_ZEROES) {
        return skipped("the device has no write-zeroes");
    }
    for unit in [1, 5] {
        let (mut rig, unit) = middle(bench, BdevOp::WRITE_ZEROES, unit, 25)?;
        let zeroes = vec![0; unit as usize * rig.block()];
        rig.expect("zeroed blocks", unit, &zeroes)?;
    }
    Ok(())
}

fn large_zeroes(bench: &BdevBench) -> Verdict {
    let mut rig = writable(bench, 1)?;
    if !rig.geometry().supports(BdevOp::WRITE_ZEROES) {
        return skipped("the device has no write-zeroes");
    }
    let blocks = 2 * u64::from(rig.geometry().max_transfer_blocks) + 1;
    let blocks = blocks.min(rig.geometry().block_count);
    if blocks <= u64::from(rig.geometry().max_transfer_blocks) {
        return skipped("a transfer can be as large as the device");
    }
    let block = rig.block();
    if blocks > (256 << 20) / block as u64 {
        return skipped(format!("{blocks} blocks are too much to write"));
    }
    let step = rig.largest(POOL);
    for (data, zeroed) in [(0x77, false), (0, true)] {
        if zeroed {
            rig.must(&Io::plain(BdevOp::WRITE_ZEROES, 0, blocks))?;
        }
        for lba in (0..blocks).step_by(step as usize) {
            let data = vec![data; step.min(blocks - lba) as usize * block];
            if !zeroed {
                rig.write(lba, &data)?;
            } else {
                rig.expect("zeroed blocks", lba, &data)?;
            }
        }
    }
    Ok(())
}

fn compare(bench: &BdevBench) -> Verdict {
    let mut rig = writable(bench, 1)?;
    if !rig.geometry().supports(BdevOp::COMPARE) {
        return skipped("the device has no compare");
    }
    let blocks = rig.largest(4 * rig.block());
    let data = bench.random(26).bytes(blocks as usize * rig.block());
    rig.write(0, &data)?;
    let io = Io::data(BdevOp::COMPARE, 0, blocks, 0, rig.block());
    rig.put(0, &data);
    rig.must(&io)?;
    for at in [0, data.len() / 2, data.len() - 1] {
        let mut other = data.clone();
        other[at] ^= 1;
        rig.put(0, &other);
        rig.must_fail("a compare with one bit flipped", &io, &[Status::MISCOMPARE])?;
        ensure!(
            rig.get(0, other.len()) == other,
            "the compare changed its memory"
        );
    }
    rig.expect("compared blocks", 0, &data)
}

fn unclaimed(bench: &BdevBench) -> Verdict {
    let mut rig = writable(bench, 1)?;
    let block = rig.block();
    let data = bench.random(27).bytes(block);
    rig.write(0, &data)?;
    let mut tried = 0;
    for op in [BdevOp::UNMAP, BdevOp::WRITE_ZEROES, BdevOp::COMPARE] {
        if rig.geometry().supports(op) {
            continue;
        }
        let io = if op == BdevOp::COMPARE {
            Io::data(op, 0, 1, 0, block)
        } else {
            Io::plain(op, 0, 1)
        };
        rig.must_fail(&format!("{op:?}"), &io, &[Status::NOT_SUPPORTED])?;
        rig.expect("the block", 0, &data)?;
        tried += 1;
    }
    if tried == 0 {
        return skipped("the device claims all operations");
    }
    Ok(())
}
