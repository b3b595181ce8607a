//! Remote memory access.

use super::FabricBench;
use super::net::{Net, Op, POOL};
use crate::abi::{FABRIC_REMOTE_READ, FABRIC_REMOTE_WRITE, FabricInfo, FabricOp, Status};
use crate::conformance::case::{Case, Verdict, ensure, failed, skipped};
use crate::conformance::pattern::difference;
use crate::conformance::wait::LIMIT;
use std::time::Instant;

pub(super) const CASES: &[Case<FabricBench>] = &[
    Case {
        id: "remote.write",
        name: "a remote write puts every byte and nothing beside",
        body: write,
    },
    Case {
        id: "remote.read",
        name: "a remote read gets every byte and nothing beside",
        body: read,
    },
    Case {
        id: "remote.many",
        name: "many remote accesses at once all complete with their own data",
        body: many,
    },
    Case {
        id: "remote.write_then_message",
        name: "a completed remote write is seen by a message sent after it",
        body: write_then_message,
    },
    Case {
        id: "remote.wrong_key",
        name: "a remote access with a wrong key is refused",
        body: wrong_key,
    },
    Case {
        id: "remote.out_of_bounds",
        name: "a remote access beyond the registration is refused",
        body: out_of_bounds,
    },
    Case {
        id: "remote.missing_right",
        name: "a remote access without the right to it is refused",
        body: missing_right,
    },
    Case {
        id: "remote.ended",
        name: "a remote access to an ended registration is refused",
        body: ended,
    },
];

const BOTH: u32 = FABRIC_REMOTE_READ | FABRIC_REMOTE_WRITE;
/// Where the target shares memory.
const SHARED: usize = 1 << 20;
const SHARED_LEN: usize = 2 << 20;

/// Two nodes; the second shares memory: its remote address and key.
fn pair(bench: &FabricBench, access: u32) -> Verdict<(Net, u64, u64)> {
    let mut net = bench.net(2)?;
    net.nodes[1].put(SHARED - 64, &vec![0xee; SHARED_LEN + 128]);
    let (_, base, key) = net.nodes[1].share(SHARED, SHARED_LEN, access)?;
    Ok((net, base, key))
}

fn sizes(bench: &FabricBench) -> Verdict<Vec<usize>> {
    let most = (bench.open()?.info().max_rma as usize).min(1 << 20);
    let mut sizes = vec![1, 8, 100, 4095, 4096, 65536, 300_001, most];
    sizes.retain(|len| *len <= most);
    Ok(sizes)
}

fn write(bench: &FabricBench) -> Verdict {
    let (mut net, base, key) = pair(bench, BOTH)?;
    let mut random = bench.random(40);
    for (n, len) in sizes(bench)?.into_iter().enumerate() {
        let at = 64 + n * 8;
        let data = random.bytes(len);
        net.nodes[1].put(SHARED, &vec![0xee; SHARED_LEN]);
        net.nodes[0].put(0, &data);
        let remote = (base + at as u64, key);
        let op = Op::remote(FabricOp::WRITE, net.peer(0, 1), (0, len), remote);
        let user = net.start(0, &op)?;
        net.must(0, user)?;
        let found = net.nodes[1].get(SHARED + at - 64, len + 128);
        if let Some(how) = difference(&found[64..64 + len], &data) {
            return failed(format!("a write of {len} bytes: {how}"));
        }
        ensure!(
            found[..64]
                .iter()
                .chain(&found[64 + len..])
                .all(|b| *b == 0xee),
            "a write of {len} bytes changed memory beside it"
        );
        ensure!(
            net.nodes[1].outstanding() == 0,
            "the target has something outstanding"
        );
    }
    // The last byte of the registration is in reach.
    let remote = (base + SHARED_LEN as u64 - 8, key);
    let user = net.start(
        0,
        &Op::remote(FabricOp::WRITE, net.peer(0, 1), (0, 8), remote),
    )?;
    net.must(0, user).map(drop)
}

fn read(bench: &FabricBench) -> Verdict {
    let (mut net, base, key) = pair(bench, BOTH)?;
    let mut random = bench.random(41);
    for (n, len) in sizes(bench)?.into_iter().enumerate() {
        let at = 64 + n * 8;
        let data = random.bytes(len);
        net.nodes[1].put(SHARED + at, &data);
        net.nodes[0].put(0, &vec![0xdd; len + 128]);
        let remote = (base + at as u64, key);
        let op = Op::remote(FabricOp::READ, net.peer(0, 1), (64, len), remote);
        let user = net.start(0, &op)?;
        net.must(0, user)?;
        let found = net.nodes[0].get(0, len + 128);
        if let Some(how) = difference(&found[64..64 + len], &data) {
            return failed(format!("a read of {len} bytes: {how}"));
        }
        ensure!(
            found[..64]
                .iter()
                .chain(&found[64 + len..])
                .all(|b| *b == 0xdd),
            "a read of {len} bytes changed memory beside it"
        );
        ensure!(
            net.nodes[1].get(SHARED + at, len) == data,
            "a read changed what it read"
        );
    }
    Ok(())
}

fn many(bench: &FabricBench) -> Verdict {
    const LEN: usize = 4096;
    let (mut net, base, key) = pair(bench, BOTH)?;
    let count = (bench.open()?.info().max_outstanding as usize).min(64);
    let data = bench.random(42).bytes(count * LEN);
    net.nodes[0].put(0, &data);
    let peer = net.peer(0, 1);
    for (op, offset) in [(FabricOp::WRITE, 0), (FabricOp::READ, POOL / 2)] {
        let mut users = Vec::new();
        for n in 0..count {
            let remote = (base + (n * LEN) as u64, key);
            users.push(net.start(0, &Op::remote(op, peer, (offset + n * LEN, LEN), remote))?);
        }
        for user in users {
            net.must(0, user)?;
        }
    }
    for (what, found) in [
        ("written", net.nodes[1].get(SHARED, data.len())),
        ("read", net.nodes[0].get(POOL / 2, data.len())),
    ] {
        if let Some(how) = difference(&found, &data) {
            return failed(format!("{what}: {how}"));
        }
    }
    Ok(())
}

fn write_then_message(bench: &FabricBench) -> Verdict {
    let (mut net, base, key) = pair(bench, BOTH)?;
    let peer = net.peer(0, 1);
    for round in 0..50u64 {
        net.nodes[0].put(0, &round.to_le_bytes());
        let recv = net.start(1, &Op::recv(1, 0, 8))?;
        let write = net.start(0, &Op::remote(FabricOp::WRITE, peer, (0, 8), (base, key)))?;
        net.must(0, write)?;
        let send = net.start(0, &Op::send(peer, 1, 0, 8))?;
        net.must(1, recv)?;
        ensure!(
            net.nodes[1].get(SHARED, 8) == round.to_le_bytes(),
            "round {round}: the message overtook the data"
        );
        net.must(0, send)?;
    }
    Ok(())
}

/// Both operations at `remote` are refused as the domain says, the shared memory keeps its bytes, and
/// messages pass afterwards.
fn refused(net: &mut Net, what: &str, ops: &[FabricOp], len: usize, remote: (u64, u64)) -> Verdict {
    let flags = net.nodes[0].domain_flags();
    if flags & FabricInfo::CHECKS_ACCESS == 0 {
        return skipped("the provider does not check remote accesses");
    }
    let reports = flags & FabricInfo::REPORTS_ACCESS != 0;
    let before = net.nodes[1].get(SHARED - 64, SHARED_LEN + 128);
    for op in ops {
        net.nodes[0].put(0, &vec![0xdd; len]);
        let op = Op::remote(*op, net.peer(0, 1), (0, len), remote);
        let status = net.run(0, &op)?.status;
        ensure!(
            status == Status::ACCESS || (!reports && status == Status::UNREACHABLE),
            "{:?} {what} completed as {status:?}",
            op.op
        );
        ensure!(
            net.nodes[0].get(0, len).iter().all(|b| *b == 0xdd),
            "{:?} {what} brought data",
            op.op
        );
    }
    ensure!(
        net.nodes[1].get(SHARED - 64, SHARED_LEN + 128) == before,
        "an access {what} changed memory"
    );
    // The connection has survived, or comes back; this uses other memory than the shared one.
    let recv = net.start(1, &Op::recv(77, 0, 8))?;
    let start = Instant::now();
    loop {
        let sent = net.run(0, &Op::send(net.peer(0, 1), 77, 0, 8))?.status;
        if sent.is_ok() {
            return net.must(1, recv).map(drop);
        }
        ensure!(
            !reports && start.elapsed() < LIMIT,
            "a message after an access {what} completed as {sent:?}"
        );
    }
}

const READ_WRITE: &[FabricOp] = &[FabricOp::READ, FabricOp::WRITE];

fn wrong_key(bench: &FabricBench) -> Verdict {
    let (mut net, base, key) = pair(bench, BOTH)?;
    for wrong in [key ^ 1, key.wrapping_add(1 << 20), u64::MAX] {
        refused(&mut net, "with a wrong key", READ_WRITE, 64, (base, wrong))?;
    }
    Ok(())
}

fn out_of_bounds(bench: &FabricBench) -> Verdict {
    let (mut net, base, key) = pair(bench, BOTH)?;
    let end = base + SHARED_LEN as u64;
    for (what, addr) in [
        ("at the end", end),
        ("across the end", end - 32),
        ("before the start", base.wrapping_sub(32)),
        ("far behind", end + (1 << 30)),
        ("at an address that wraps", u64::MAX - 10),
    ] {
        refused(&mut net, what, READ_WRITE, 64, (addr, key))?;
    }
    Ok(())
}

fn missing_right(bench: &FabricBench) -> Verdict {
    for (access, op) in [
        (FABRIC_REMOTE_READ, FabricOp::WRITE),
        (FABRIC_REMOTE_WRITE, FabricOp::READ),
    ] {
        let (mut net, base, key) = pair(bench, access)?;
        refused(&mut net, "without the right", &[op], 64, (base, key))?;
        let granted = if op == FabricOp::WRITE {
            FabricOp::READ
        } else {
            FabricOp::WRITE
        };
        let op = Op::remote(granted, net.peer(0, 1), (0, 64), (base, key));
        let user = net.start(0, &op)?;
        net.must(0, user)?;
    }
    Ok(())
}

fn ended(bench: &FabricBench) -> Verdict {
    let mut net = bench.net(2)?;
    let (number, base, key) = net.nodes[1].share(SHARED, SHARED_LEN, BOTH)?;
    let op = Op::remote(FabricOp::READ, net.peer(0, 1), (0, 64), (base, key));
    let user = net.start(0, &op)?;
    net.must(0, user)?;
    net.nodes[1].unshare(number);
    refused(&mut net, "after the end", READ_WRITE, 64, (base, key))
}
