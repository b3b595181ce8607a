//! Random operations on a device, mirrored in memory.

use crate::driver::{Driver, Io};
use daos_plugin_api::abi::{BdevGeometry, BdevOp, Request, Status};
use proptest::prelude::*;
use std::ops::Range;

/// Blocks of the device that the model covers.
pub const BLOCKS: u64 = 192;
/// Most blocks of one operation.
const LONGEST: u64 = 24;

/// A random operation, before it is placed in memory.
#[derive(Clone, Debug)]
pub struct Step {
    op: BdevOp,
    lba: u64,
    blocks: u64,
    fua: bool,
    cuts: Vec<u64>,
    spoil: bool,
    seed: u64,
}

/// Sequences of operations that the geometry supports.
pub fn steps(geometry: BdevGeometry, count: Range<usize>) -> impl Strategy<Value = Vec<Step>> {
    let ops: Vec<BdevOp> = [
        BdevOp::READ,
        BdevOp::READ,
        BdevOp::WRITE,
        BdevOp::WRITE,
        BdevOp::WRITE,
        BdevOp::FLUSH,
        BdevOp::UNMAP,
        BdevOp::WRITE_ZEROES,
        BdevOp::COMPARE,
    ]
    .into_iter()
    .filter(|op| geometry.supports(*op))
    .collect();
    let step = (
        prop::sample::select(ops),
        0..BLOCKS,
        1..=LONGEST,
        any::<bool>(),
        prop::collection::vec(1..LONGEST, 0..4),
        prop::bool::weighted(0.3),
        any::<u64>(),
    );
    let step = step.prop_map(|(op, lba, blocks, fua, cuts, spoil, seed)| {
        let blocks = if op == BdevOp::FLUSH {
            0
        } else {
            blocks.min(BLOCKS - lba)
        };
        Step {
            op,
            lba,
            blocks,
            fua,
            cuts,
            spoil,
            seed,
        }
    });
    prop::collection::vec(step, count)
}

/// What the device must hold.
struct Model {
    bytes: Vec<u8>,
    /// Per block; false once unmapped, until written.
    known: Vec<bool>,
    block: usize,
}

impl Model {
    fn bytes_of(&self, step: &Step) -> Range<usize> {
        step.lba as usize * self.block..(step.lba + step.blocks) as usize * self.block
    }

    fn is_known(&self, step: &Step) -> bool {
        self.known[step.lba as usize..(step.lba + step.blocks) as usize]
            .iter()
            .all(|known| *known)
    }

    fn set_known(&mut self, step: &Step, known: bool) {
        self.known[step.lba as usize..(step.lba + step.blocks) as usize].fill(known);
    }
}

/// Fills `out` with bytes that depend on `seed` and position.
pub fn fill(out: &mut [u8], seed: u64) {
    let mut state = seed | 1;
    for byte in out {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte = (state >> 24) as u8;
    }
}

/// Bytes of arena that [`check`] needs per step of a batch.
pub fn arena_for(geometry: &BdevGeometry, batch: usize) -> usize {
    // Twice, because segments are laid out with gaps.
    2 * batch * LONGEST as usize * geometry.block_size as usize
}

/// Runs the steps in batches of at most `batch` that do not overlap each other, and compares every
/// answer with the model.
pub fn check(driver: &mut Driver, steps: &[Step], batch: usize) -> Result<(), TestCaseError> {
    let block = driver.block();
    let mut model = Model {
        bytes: vec![0; BLOCKS as usize * block],
        known: vec![false; BLOCKS as usize],
        block,
    };
    let mut rest = steps;
    while !rest.is_empty() {
        let take = disjoint_prefix(rest, batch);
        run_batch(driver, &mut model, &rest[..take])?;
        rest = &rest[take..];
    }
    read_back(driver, &model)
}

/// Length of the prefix whose ranges are disjoint, so that order within it does not matter.
fn disjoint_prefix(steps: &[Step], limit: usize) -> usize {
    let overlaps = |a: &Step, b: &Step| a.lba < b.lba + b.blocks && b.lba < a.lba + a.blocks;
    (1..steps.len().min(limit))
        .find(|n| {
            steps[..*n]
                .iter()
                .any(|earlier| overlaps(earlier, &steps[*n]))
        })
        .unwrap_or(steps.len().min(limit))
}

/// Where the bytes of a step lie: cut into segments that are stored backwards, with gaps.
fn segments(step: &Step, slot: Range<usize>, block: usize) -> Vec<Range<usize>> {
    let mut at = 0;
    let mut end = slot.end;
    let mut out = Vec::new();
    let mut cuts = step.cuts.iter();
    while at < step.blocks {
        let blocks = cuts
            .next()
            .copied()
            .unwrap_or(LONGEST)
            .min(step.blocks - at);
        let len = blocks as usize * block;
        out.push(end - len..end);
        // A gap keeps segments from being adjacent; the slot has twice the room.
        end -= len + block * usize::from(out.len() < 4);
        at += blocks;
    }
    assert!(end >= slot.start || step.blocks == 0);
    out
}

fn run_batch(driver: &mut Driver, model: &mut Model, steps: &[Step]) -> Result<(), TestCaseError> {
    let block = model.block;
    let slot_len = 2 * LONGEST as usize * block;
    let mut ios = Vec::new();
    for (i, step) in steps.iter().enumerate() {
        let has_data = matches!(step.op, BdevOp::READ | BdevOp::WRITE | BdevOp::COMPARE);
        let pieces = if has_data {
            segments(step, i * slot_len..(i + 1) * slot_len, block)
        } else {
            Vec::new()
        };
        let mut data = vec![0u8; step.blocks as usize * block];
        match step.op {
            BdevOp::WRITE => fill(&mut data, step.seed),
            BdevOp::COMPARE => {
                data.copy_from_slice(&model.bytes[model.bytes_of(step)]);
                if step.spoil {
                    let at = step.seed as usize % data.len();
                    data[at] ^= 1;
                }
            }
            _ => data.fill(0xee),
        }
        scatter(driver.memory(), &pieces, &data);
        let flags = if step.fua && step.op == BdevOp::WRITE {
            Request::FUA
        } else {
            0
        };
        ios.push((
            Io {
                op: step.op,
                flags,
                lba: step.lba,
                blocks: step.blocks,
                memory: pieces,
            },
            data,
        ));
    }
    let tags: Vec<u64> = ios.iter().map(|(io, _)| driver.stage(io)).collect();
    let done = driver.finish();
    for ((step, (io, data)), tag) in steps.iter().zip(ios).zip(tags) {
        let status = done[&tag];
        let range = model.bytes_of(step);
        match step.op {
            BdevOp::COMPARE if !model.is_known(step) => {
                prop_assert!(
                    status.is_ok() || status == Status::MISCOMPARE,
                    "{step:?}: {status}"
                );
            }
            BdevOp::COMPARE if step.spoil => prop_assert_eq!(status, Status::MISCOMPARE),
            _ => prop_assert!(status.is_ok(), "{step:?}: {status}"),
        }
        match step.op {
            BdevOp::READ => {
                let got = gather(driver.memory(), &io.memory);
                for (i, known) in (0..step.blocks as usize).zip(&model.known[step.lba as usize..]) {
                    let part = i * block..(i + 1) * block;
                    let expected = &model.bytes[range.clone()][part.clone()];
                    prop_assert!(
                        !*known || got[part] == *expected,
                        "{step:?}: block {i} differs"
                    );
                }
            }
            BdevOp::WRITE => {
                model.bytes[range].copy_from_slice(&data);
                model.set_known(step, true);
            }
            BdevOp::WRITE_ZEROES => {
                model.bytes[range].fill(0);
                model.set_known(step, true);
            }
            BdevOp::UNMAP => model.set_known(step, false),
            _ => {}
        }
    }
    Ok(())
}

/// Reads everything block by block and compares.
fn read_back(driver: &mut Driver, model: &Model) -> Result<(), TestCaseError> {
    let block = model.block;
    for lba in (0..BLOCKS).filter(|lba| model.known[*lba as usize]) {
        let status = driver.run(&Io::with(BdevOp::READ, lba, 1, 0..block));
        prop_assert_eq!(status, Status::OK);
        let at = lba as usize * block;
        prop_assert!(
            driver.memory()[..block] == model.bytes[at..at + block],
            "block {lba} differs"
        );
    }
    Ok(())
}

/// Copies `data` into the pieces of `memory`.
pub fn scatter(memory: &mut [u8], pieces: &[Range<usize>], data: &[u8]) {
    let mut rest = data;
    for piece in pieces {
        let (head, tail) = rest.split_at(piece.len());
        memory[piece.clone()].copy_from_slice(head);
        rest = tail;
    }
}

/// Concatenates the pieces of `memory`.
pub fn gather(memory: &[u8], pieces: &[Range<usize>]) -> Vec<u8> {
    pieces
        .iter()
        .flat_map(|piece| memory[piece.clone()].iter().copied())
        .collect()
}
