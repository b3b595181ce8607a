//! Devices, queues, memory and data.

use crate::load::{NVME_512, NVME_4096, Plugin};
use crate::rig::{Op, Rig, SLOT, fill, holds};
use crate::{Case, Outcome, copies, ensure};
use daos_plugin_api::abi::{BdevOp, IoVec, Request, Status, WaitKind};
use daos_plugin_api::host::{BdevDevice, CallOptions};
use std::alloc::{Layout, alloc_zeroed, dealloc};

pub(crate) const CASES: &[Case] = &[
    ("written data is read back, 512", |p| {
        round_trip(p, NVME_512)
    }),
    ("written data is read back, 4096", |p| {
        round_trip(p, NVME_4096)
    }),
    (
        "two namespaces of one controller hold their own data",
        namespaces,
    ),
    ("forced unit access and flush", durable),
    ("a write goes out of the caller's memory", copies::write),
    ("a read comes into the caller's memory", copies::read),
    ("scattered memory", scattered),
    ("scattered memory of odd pieces", odd_pieces),
    (
        "memory never offered is refused, not corrupted",
        foreign_memory,
    ),
    (
        "write zeroes over more blocks than one command takes",
        long_zeroes,
    ),
    ("unmap over the whole device", unmap_all),
    ("compare tells equal from different", compare),
    ("malformed requests complete as invalid", malformed),
    ("a full queue takes a prefix", full_queue),
    (
        "an idle queue lets its thread sleep, a busy one does not",
        waits,
    ),
];

/// Writes and reads every size from one block to a whole slot at scattered places.
pub(crate) fn round_trip(plugin: &Plugin, address: &str) -> Outcome {
    let device = plugin.device(address)?;
    let mut rig = Rig::new(&device, 16)?;
    let block = device.geometry().block_size as usize;
    let places: Vec<(u64, u64)> = (0..16u64)
        .map(|slot| (slot * 1009, 1 + slot * (SLOT / block) as u64 / 16))
        .collect();
    let ops = |op| {
        places
            .iter()
            .map(|(lba, blocks)| Op::new(op, *lba, *blocks))
            .collect::<Vec<_>>()
    };
    for slot in 0..16 {
        fill(rig.slot(slot), slot as u64);
    }
    rig.must(&ops(BdevOp::WRITE))?;
    for slot in 0..16 {
        rig.slot(slot).fill(0);
    }
    rig.must(&ops(BdevOp::READ))?;
    for (slot, (_, blocks)) in places.iter().enumerate() {
        let bytes = *blocks as usize * block;
        ensure!(
            holds(&rig.slot(slot)[..bytes], slot as u64),
            "{blocks} blocks differ in slot {slot}"
        );
        ensure!(
            rig.slot(slot)[bytes..].iter().all(|byte| *byte == 0),
            "more than {blocks} blocks were read"
        );
    }
    Ok(())
}

fn namespaces(plugin: &Plugin) -> Outcome {
    let (first, second) = (
        plugin.device("0000:42:00.0/1")?,
        plugin.device("0000:42:00.0/2")?,
    );
    let (mut one, mut two) = (Rig::new(&first, 1)?, Rig::new(&second, 1)?);
    fill(one.slot(0), 1);
    fill(two.slot(0), 2);
    one.must(&[Op::new(BdevOp::WRITE, 0, 1)])?;
    two.must(&[Op::new(BdevOp::WRITE, 0, 8)])?;
    one.slot(0).fill(0);
    two.slot(0).fill(0);
    one.must(&[Op::new(BdevOp::READ, 0, 1)])?;
    two.must(&[Op::new(BdevOp::READ, 0, 8)])?;
    ensure!(
        holds(&one.slot(0)[..4096], 1) && holds(&two.slot(0)[..4096], 2),
        "the namespaces share data"
    );
    Ok(())
}

fn durable(plugin: &Plugin) -> Outcome {
    let device = plugin.device(NVME_4096)?;
    let mut rig = Rig::new(&device, 2)?;
    fill(rig.slot(0), 7);
    rig.must(&[Op {
        flags: Request::FUA,
        ..Op::new(BdevOp::WRITE, 50, 4)
    }])?;
    rig.must(&[Op::new(BdevOp::FLUSH, 0, 0)])?;
    rig.slot(0).fill(0);
    rig.must(&[Op::new(BdevOp::READ, 50, 4)])?;
    ensure!(holds(&rig.slot(0)[..4 * 4096], 7), "data differ");
    Ok(())
}

/// Writes one request from `pieces` of memory and reads it back in one piece.
fn in_pieces(device: &BdevDevice, pieces: &[(usize, usize)]) -> Outcome {
    let mut rig = Rig::new(device, 2)?;
    let block = device.geometry().block_size as usize;
    let total: usize = pieces.iter().map(|(_, len)| len).sum();
    fill(rig.slot(1), 3);
    let expected = rig.slot(1)[..total].to_vec();
    let base = rig.slot(0).as_mut_ptr();
    let mut copied = 0;
    let iov: Vec<IoVec> = pieces
        .iter()
        .map(|(offset, len)| {
            rig.slot(0)[*offset..offset + len].copy_from_slice(&expected[copied..copied + len]);
            copied += len;
            IoVec {
                ptr: base.wrapping_add(*offset),
                len: *len,
            }
        })
        .collect();
    let write = Op::new(BdevOp::WRITE, 4000, (total / block) as u64);
    let status = rig.on_pieces(write, 0, &iov)?;
    ensure!(status.is_ok(), "write in {} pieces: {status}", pieces.len());
    rig.slot(0).fill(0);
    rig.must(&[Op::new(BdevOp::READ, 4000, (total / block) as u64)])?;
    ensure!(rig.slot(0)[..total] == expected[..], "data differ");
    Ok(())
}

fn scattered(plugin: &Plugin) -> Outcome {
    for address in [NVME_512, NVME_4096] {
        let device = plugin.device(address)?;
        let block = device.geometry().block_size as usize;
        // Whole blocks at places that are no page boundaries, not in order.
        let pieces: Vec<(usize, usize)> = (0..8)
            .map(|i| ((7 - i) * (block + 512) + 512, block))
            .collect();
        in_pieces(&device, &pieces)?;
    }
    Ok(())
}

fn odd_pieces(plugin: &Plugin) -> Outcome {
    let device = plugin.device(NVME_4096)?;
    in_pieces(
        &device,
        &[
            (4, 100),
            (8192, 3996),
            (20000, 4096),
            (30000, 4),
            (40000, 8188),
        ],
    )
    .map_err(|e| format!("{e} (a header before a payload is such a request)"))
}

/// 2 MiB of this process's own heap.
struct HostMemory(*mut u8);

const HOST_MEMORY: Layout = match Layout::from_size_align(2 << 20, 2 << 20) {
    Ok(layout) => layout,
    Err(_) => panic!("a power of two"),
};

impl HostMemory {
    fn new() -> Self {
        // SAFETY: the layout has a size above zero.
        Self(unsafe { alloc_zeroed(HOST_MEMORY) })
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: allocated with this size; borrowed through `self`.
        unsafe { std::slice::from_raw_parts_mut(self.0, HOST_MEMORY.size()) }
    }
}

impl Drop for HostMemory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.0, HOST_MEMORY) }
    }
}

/// Runs one request on memory that is not the rig's; returns its status.
fn on_memory(rig: &mut Rig, op: Op, ptr: *mut u8) -> Result<Status, String> {
    let block = rig.device.geometry().block_size as usize;
    let iov = [IoVec {
        ptr,
        len: op.blocks as usize * block,
    }];
    rig.on_pieces(op, 0, &iov)
}

fn foreign_memory(plugin: &Plugin) -> Outcome {
    let mut memory = HostMemory::new();
    memory.bytes().fill(0x5a);
    let device = plugin.device(NVME_512)?;
    let mut rig = Rig::new(&device, 1)?;
    let status = on_memory(&mut rig, Op::new(BdevOp::READ, 300, 8), memory.0)?;
    ensure!(
        status == Status::INVALID,
        "read into memory never offered: {status}"
    );
    ensure!(
        memory.bytes().iter().all(|byte| *byte == 0x5a),
        "the memory was changed"
    );
    rig.must(&[Op::new(BdevOp::READ, 300, 8)])
}

fn long_zeroes(plugin: &Plugin) -> Outcome {
    let device = plugin.device(NVME_512)?;
    let mut rig = Rig::new(&device, 4)?;
    let (first, blocks) = (1000u64, 150_000u64);
    // A block before, the first, the last, and the one after.
    let marks = [first - 1, first, first + blocks - 1, first + blocks];
    for slot in 0..4 {
        fill(rig.slot(slot), 20 + slot as u64);
    }
    rig.must(&marks.map(|lba| Op::new(BdevOp::WRITE, lba, 1)))?;
    rig.must(&[Op::new(BdevOp::WRITE_ZEROES, first, blocks)])?;
    rig.must(&marks.map(|lba| Op::new(BdevOp::READ, lba, 1)))?;
    ensure!(
        holds(&rig.slot(0)[..512], 20) && holds(&rig.slot(3)[..512], 23),
        "a neighbour was changed"
    );
    for slot in [1, 2] {
        ensure!(
            rig.slot(slot)[..512].iter().all(|byte| *byte == 0),
            "block {} is not zero",
            marks[slot]
        );
    }
    Ok(())
}

fn unmap_all(plugin: &Plugin) -> Outcome {
    let device = plugin.device("0000:42:00.0/2")?;
    let mut rig = Rig::new(&device, 1)?;
    let g = *device.geometry();
    ensure!(g.deallocate_granularity > 0, "unmap is not supported");
    rig.must(&[Op::new(BdevOp::UNMAP, 0, g.block_count)])?;
    fill(rig.slot(0), 30);
    rig.must(&[Op::new(BdevOp::WRITE, g.block_count - 1, 1)])?;
    rig.slot(0).fill(0);
    rig.must(&[Op::new(BdevOp::READ, g.block_count - 1, 1)])?;
    ensure!(
        holds(&rig.slot(0)[..512], 30),
        "data written after an unmap differ"
    );
    Ok(())
}

fn compare(plugin: &Plugin) -> Outcome {
    let device = plugin.device(NVME_4096)?;
    ensure!(
        device.geometry().supports(BdevOp::COMPARE),
        "QEMU's controllers have compare"
    );
    let mut rig = Rig::new(&device, 1)?;
    fill(rig.slot(0), 40);
    rig.must(&[Op::new(BdevOp::WRITE, 9, 2)])?;
    rig.must(&[Op::new(BdevOp::COMPARE, 9, 2)])?;
    rig.slot(0)[5000] ^= 1;
    let status = rig.run(&[Op::new(BdevOp::COMPARE, 9, 2)])?[0];
    ensure!(status == Status::MISCOMPARE, "different data: {status}");
    Ok(())
}

fn malformed(plugin: &Plugin) -> Outcome {
    let device = plugin.device(NVME_512)?;
    let mut rig = Rig::new(&device, 8)?;
    let g = *device.geometry();
    let ops = [
        Op::new(BdevOp::READ, g.block_count, 1),
        Op::new(BdevOp::READ, u64::MAX, 2),
        Op::new(BdevOp::WRITE, 0, 0),
        Op::new(BdevOp::WRITE, 0, u64::from(g.max_transfer_blocks) + 1),
        Op::new(BdevOp::UNMAP, g.block_count - 1, 2),
        Op::new(BdevOp(99), 0, 1),
    ];
    let statuses = rig.run(&ops)?;
    ensure!(
        statuses.iter().all(|status| *status == Status::INVALID),
        "{statuses:?}"
    );
    let iov = [IoVec {
        ptr: rig.slot(0).as_mut_ptr(),
        len: 7 * 512,
    }];
    let status = rig.on_pieces(Op::new(BdevOp::READ, 0, 8), 0, &iov)?;
    ensure!(
        status == Status::INVALID,
        "memory shorter than the range: {status}"
    );
    rig.must(&[Op::new(BdevOp::READ, 0, 1)])
}

fn full_queue(plugin: &Plugin) -> Outcome {
    let device = plugin.device(NVME_512)?;
    let mut rig = Rig::new(&device, 32)?;
    let mut queue = device
        .open_queue(8, CallOptions::default())
        .map_err(|e| e.to_string())?;
    std::mem::swap(&mut rig.queue, &mut queue);
    let taken = rig.submit(&[Op::new(BdevOp::READ, 0, 1); 32]);
    ensure!(taken == Ok(8), "a queue of depth 8 took {taken:?}");
    rig.collect(8)?;
    rig.must(&[Op::new(BdevOp::READ, 0, 1); 8])
}

fn waits(plugin: &Plugin) -> Outcome {
    let device = plugin.device(NVME_512)?;
    let mut rig = Rig::new(&device, 1)?;
    ensure!(
        rig.wait_kind()? == WaitKind::TIMER,
        "idle: {:?}",
        rig.wait_kind()?
    );
    rig.start(&[Op::new(BdevOp::READ, 0, 1)])?;
    ensure!(
        rig.wait_kind()? == WaitKind::BUSY,
        "outstanding: {:?}",
        rig.wait_kind()?
    );
    rig.collect(1)?;
    ensure!(
        rig.wait_kind()? == WaitKind::TIMER,
        "idle again: {:?}",
        rig.wait_kind()?
    );
    Ok(())
}
