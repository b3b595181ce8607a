//! Opening, closing, memory, administration.

use super::BdevBench;
use super::durable::lasting;
use super::io::writable;
use super::rig::{Io, POOL, Rig};
use crate::abi::{BdevEvent, BdevGeometry, BdevOp, Status};
use crate::conformance::case::{
    Case, Verdict, ensure, failed, refused, refused_somehow, skipped, supported,
};
use crate::control::{ClassKind, FormatRequest};
use crate::host::CallOptions;
use std::time::{Duration, Instant};

pub(super) const CASES: &[Case<BdevBench>] = &[
    Case {
        id: "life.geometry",
        name: "the geometry makes sense and stays the same",
        body: geometry,
    },
    Case {
        id: "life.reopen",
        name: "data survives closing and reopening the device",
        body: reopen,
    },
    Case {
        id: "life.exclusive",
        name: "a second opener is refused as BUSY and told why",
        body: exclusive,
    },
    Case {
        id: "life.format",
        name: "a device can be formatted, again and again, and is listed as before",
        body: format,
    },
    Case {
        id: "life.format_open",
        name: "a device that is open is not formatted under its user",
        body: format_open,
    },
    Case {
        id: "life.unknown_device",
        name: "a device that does not exist is refused and explained",
        body: unknown_device,
    },
    Case {
        id: "life.leaks",
        name: "opening and closing again and again leaks no descriptor",
        body: leaks,
    },
    Case {
        id: "life.two_devices",
        name: "two devices do not share their contents",
        body: two_devices,
    },
    Case {
        id: "life.memory",
        name: "pool memory is aligned to 2 MiB, zeroed, and good for I/O",
        body: memory,
    },
    Case {
        id: "life.foreign_memory",
        name: "memory that was never offered works or completes as INVALID",
        body: foreign_memory,
    },
    Case {
        id: "life.admin",
        name: "an idle device has nothing to administer",
        body: admin,
    },
    Case {
        id: "life.identity",
        name: "the identity names the device",
        body: identity,
    },
    Case {
        id: "life.health",
        name: "health is a document, also while I/O runs",
        body: health,
    },
    Case {
        id: "life.reset",
        name: "a reset completes each outstanding request once and the queue reconnects",
        body: reset,
    },
    Case {
        id: "life.quiesce",
        name: "a device that nobody has comes to rest, again and again, and keeps its data",
        body: quiesce,
    },
    Case {
        id: "life.quiesce_open",
        name: "a device that is open is not brought to rest under its user",
        body: quiesce_open,
    },
];

fn geometry(bench: &BdevBench) -> Verdict {
    // What is impossible the host refuses at open.
    let device = bench.open()?;
    let g = *device.geometry();
    let spec = bench.spec();
    ensure!(
        g.atomic_write_blocks >= 1,
        "atomic_write_blocks is 0, at least one block is atomic"
    );
    ensure!(
        g.buffer_alignment as usize <= 2 << 20,
        "an alignment of {} bytes is more than pool memory has",
        g.buffer_alignment
    );
    ensure!(
        device.size() > 0 && spec.size.abs_diff(device.size()) <= spec.size / 100 || spec.size == 0,
        "the device has {} bytes, devices said {}",
        device.size(),
        spec.size
    );
    ensure!(g.reserved == 0, "reserved is {}", g.reserved);
    drop(device);
    let again = *bench.open()?.geometry();
    ensure!(again == g, "after reopening: {again:?} instead of {g:?}");
    Ok(())
}

fn reopen(bench: &BdevBench) -> Verdict {
    let mut rig = lasting(bench)?;
    let data = bench
        .random(50)
        .bytes(rig.largest(1 << 20) as usize * rig.block());
    rig.write(0, &data)?;
    rig.must(&Io::flush())?;
    drop(rig);
    for _ in 0..3 {
        bench.rig(1)?.expect("the data", 0, &data)?;
    }
    Ok(())
}

fn exclusive(bench: &BdevBench) -> Verdict {
    let first = bench.open()?;
    for _ in 0..3 {
        let second = bench
            .instance()
            .open_bdev(bench.spec(), CallOptions::default());
        refused("a second open", second, &[Status::BUSY])?;
    }
    drop(first);
    bench.open().map(drop)
}

fn format_request(bench: &BdevBench) -> FormatRequest {
    FormatRequest {
        device: bench.spec().clone(),
        overwrite_foreign: false,
        nvme_format: false,
        check_only: false,
    }
}

/// What hosts do without only where the contents go with the process anyway.
fn format(bench: &BdevBench) -> Verdict {
    let request = format_request(bench);
    let before = bench.base.list()?;
    for _ in 0..2 {
        match bench.instance().format(&request, CallOptions::default()) {
            Ok(report) => ensure!(
                report.size.abs_diff(request.device.size) <= request.device.size / 100
                    || report.size == 0
                    || request.device.size == 0,
                "after its format the device has {} bytes, devices said {}",
                report.size,
                request.device.size
            ),
            Err(e) if e.status == Status::NOT_SUPPORTED => {
                let mut classes = bench.instance().manifest().classes.iter();
                ensure!(
                    classes.any(|c| c.name == request.device.class && c.ephemeral),
                    "the plugin has no format: no engine could get its devices"
                );
                return skipped("the contents go with the process, and the plugin has no format");
            }
            Err(e) => return Err(e.into()),
        }
    }
    ensure!(
        bench.base.list()? == before,
        "another device is listed after a format"
    );
    bench.open().map(drop)
}

fn format_open(bench: &BdevBench) -> Verdict {
    let device = bench.open()?;
    let result = bench
        .instance()
        .format(&format_request(bench), CallOptions::default());
    drop(device);
    if let Err(e) = &result
        && e.status == Status::NOT_SUPPORTED
    {
        return skipped("the plugin has no format");
    }
    refused("format of an open device", result, &[Status::BUSY])
}

fn unknown_device(bench: &BdevBench) -> Verdict {
    let mut spec = bench.spec().clone();
    spec.address = "/nonexistent/of-conformance".into();
    spec.index = 4_000_000;
    let opened = bench.instance().open_bdev(&spec, CallOptions::default());
    refused_somehow("an unknown device", opened)
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

fn leaks(bench: &BdevBench) -> Verdict {
    const ROUNDS: usize = 40;
    // A controller is reset whenever it is opened, which may take a second; so many rounds are enough then.
    const SLOW_ROUNDS: usize = 16;
    drop(bench.rig(4)?);
    let before = descriptors();
    let begun = Instant::now();
    let mut rounds = 0;
    while rounds < ROUNDS && (rounds < SLOW_ROUNDS || begun.elapsed() < Duration::from_secs(5)) {
        let mut rig = bench.rig(4)?;
        rig.read(0, 1)?;
        rounds += 1;
    }
    // Other threads of a test program may open a few meanwhile; a leak is one per round.
    let after = descriptors();
    ensure!(
        after < before + rounds,
        "{before} descriptors before, {after} after {rounds} rounds"
    );
    Ok(())
}

fn two_devices(bench: &BdevBench) -> Verdict {
    if bench.base.devices.len() < 2 {
        return skipped("the config has one device");
    }
    let mut random = bench.random(51);
    let mut rigs = Vec::new();
    for index in 0..2 {
        let mut rig = Rig::new(&bench.open_one(index)?, 1)?;
        let data = random.bytes(rig.block());
        rig.write(0, &data)?;
        rigs.push((rig, data));
    }
    rigs.iter_mut()
        .try_for_each(|(rig, data)| rig.expect("block of one of two devices", 0, data))
}

fn memory(bench: &BdevBench) -> Verdict {
    let device = bench.open()?;
    let mut pools = Vec::new();
    for len in [1, 2 << 20, 5 << 20] {
        let pool = device.allocate(len)?;
        ensure!(
            pool.ptr().addr().is_multiple_of(2 << 20),
            "memory at {:p} is not aligned to 2 MiB",
            pool.ptr()
        );
        ensure!(pool.len() >= len, "{} bytes instead of {len}", pool.len());
        pools.push(pool);
    }
    drop(pools);
    for _ in 0..8 {
        drop(device.allocate(POOL)?);
    }
    let mut rig = Rig::new(&device, 1)?;
    ensure!(
        rig.get(0, POOL).iter().all(|b| *b == 0),
        "memory is not zeroed"
    );
    // The last block of the memory is as good as the first.
    let block = rig.block();
    rig.must(&Io::data(BdevOp::READ, 0, 1, POOL - block, block))
}

fn foreign_memory(bench: &BdevBench) -> Verdict {
    let mut rig = writable(bench, 1)?;
    let data = bench.random(52).bytes(rig.block());
    rig.write(0, &data)?;
    let align = rig.geometry().buffer_alignment as usize;
    let mut buffer = vec![0xee; rig.block() + align];
    let start = buffer.as_ptr().align_offset(align);
    let part = &mut buffer[start..start + data.len()];
    match rig.run_on(BdevOp::READ, 0, part)? {
        Status::INVALID => Ok(()),
        Status::OK if *part == *data => Ok(()),
        Status::OK => failed("a read brought other data"),
        status => failed(format!("completed as {status:?}")),
    }
}

fn admin(bench: &BdevBench) -> Verdict {
    let device = bench.open()?;
    for _ in 0..100 {
        device.poll_admin()?;
    }
    match device.next_event() {
        None => Ok(()),
        Some(BdevEvent { kind, value, .. }) => failed(format!(
            "an event of kind {kind} with the value {value} on an idle device"
        )),
    }
}

fn identity(bench: &BdevBench) -> Verdict {
    let device = bench.open()?;
    let record = supported("identity", device.identity(CallOptions::default()))?;
    ensure!(
        record.kind == ClassKind::Bdev,
        "the kind is {}",
        record.kind
    );
    ensure!(
        record.class == bench.spec().class,
        "the class is {:?}",
        record.class
    );
    ensure!(
        record.address == bench.spec().address,
        "the address is {:?}, devices said {:?}",
        record.address,
        bench.spec().address
    );
    ensure!(
        record.size == 0 || record.size == device.size(),
        "the size is {}, the geometry says {}",
        record.size,
        device.size()
    );
    Ok(())
}

fn health(bench: &BdevBench) -> Verdict {
    let device = bench.open()?;
    supported("health", device.health(CallOptions::default()))?;
    let mut rig = Rig::new(&device, 4)?;
    let io = Io::data(BdevOp::READ, 0, 1, 0, rig.block());
    rig.offer(&[io])?;
    device.health(CallOptions::default())?;
    rig.finish().map(drop)
}

fn reset(bench: &BdevBench) -> Verdict {
    let device = bench.open()?;
    let mut rig = Rig::new(&device, 8)?;
    let block = rig.block();
    for _ in 0..3 {
        let ios: Vec<Io> = (0..8)
            .map(|n| Io::data(BdevOp::READ, 0, 1, n * block, block))
            .collect();
        rig.offer(&ios)?;
        let result = device.reset(CallOptions::default());
        if result
            .as_ref()
            .is_err_and(|e| e.status == Status::NOT_SUPPORTED)
        {
            rig.finish()?;
        }
        supported("reset", result)?;
        for (tag, status) in rig.finish()? {
            ensure!(
                status.is_ok() || status == Status::RESET,
                "tag {tag} completed as {status:?}"
            );
        }
        match rig.queue().reconnect() {
            Ok(()) | Err(Status::NOT_SUPPORTED) => {}
            Err(status) => return Err(status.into()),
        }
        rig.must(&Io::data(BdevOp::READ, 0, 1, 0, block))?;
        device.poll_admin()?;
        while device.next_event().is_some() {}
    }
    Ok(())
}

fn quiesce(bench: &BdevBench) -> Verdict {
    let at_rest = |n: u32| {
        let result = bench
            .instance()
            .quiesce(bench.spec(), CallOptions::default());
        let report = supported("quiesce", result)?;
        ensure!(
            report.notes.iter().all(|note| !note.is_empty()),
            "call {n} notes nothing in particular: {:?}",
            report.notes
        );
        Ok(())
    };
    at_rest(0)?;
    let mut rig = bench.rig(1)?;
    let keeps = rig.geometry().flags & (BdevGeometry::EPHEMERAL | BdevGeometry::READ_ONLY) == 0;
    let data = bench.random(53).bytes(rig.block());
    if keeps {
        rig.write(0, &data)?;
        rig.must(&Io::flush())?;
    }
    drop(rig);
    (1..4).try_for_each(at_rest)?;
    let mut rig = bench.rig(1)?;
    if keeps {
        rig.expect("the data", 0, &data)?;
    }
    rig.read(0, 1).map(drop)
}

fn quiesce_open(bench: &BdevBench) -> Verdict {
    let mut rig = bench.rig(4)?;
    let io = Io::data(BdevOp::READ, 0, 1, 0, rig.block());
    rig.offer(&[io])?;
    let result = bench
        .instance()
        .quiesce(bench.spec(), CallOptions::default());
    let result = match result {
        Err(e) if e.status == Status::NOT_SUPPORTED => {
            rig.finish()?;
            return supported("quiesce", Err(e));
        }
        result => result,
    };
    refused("quiesce of an open device", result, &[Status::BUSY])?;
    for (tag, status) in rig.finish()? {
        ensure!(status.is_ok(), "tag {tag} completed as {status:?}");
    }
    rig.must(&Io::data(BdevOp::READ, 0, 1, 0, rig.block()))
}
