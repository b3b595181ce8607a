//! Queues: depth, completions, abort, closing, threads, sleeping.

use super::BdevBench;
use super::rig::{Io, POOL, Rig};
use crate::abi::{BdevOp, Status, WaitKind};
use crate::conformance::case::{Case, Verdict, ensure, failed, refused, refused_somehow, skipped};
use crate::conformance::wait::{self, LIMIT};
use crate::host::CallOptions;
use std::collections::HashSet;
use std::time::{Duration, Instant};

pub(super) const CASES: &[Case<BdevBench>] = &[
    Case {
        id: "queue.depth",
        name: "a queue holds no more requests than its depth and takes the rest after polling",
        body: depth,
    },
    Case {
        id: "queue.exactly_once",
        name: "each request completes exactly once",
        body: exactly_once,
    },
    Case {
        id: "queue.idle",
        name: "an idle queue reports no completion",
        body: idle,
    },
    Case {
        id: "queue.capacity",
        name: "poll returns no more completions than it has room for",
        body: capacity,
    },
    Case {
        id: "queue.wrong_depth",
        name: "a depth of zero or above the maximum is refused as INVALID",
        body: wrong_depth,
    },
    Case {
        id: "queue.queue_count",
        name: "as many queues open as promised, and one more is refused",
        body: queue_count,
    },
    Case {
        id: "queue.abort",
        name: "an aborted request completes exactly once, as CANCELLED or with its result",
        body: abort,
    },
    Case {
        id: "queue.abort_unknown",
        name: "an abort of what is not outstanding is NOT_FOUND",
        body: abort_unknown,
    },
    Case {
        id: "queue.close_busy",
        name: "a queue with outstanding requests closes and leaves their memory alone",
        body: close_busy,
    },
    Case {
        id: "queue.two_threads",
        name: "two queues on two threads do not disturb each other",
        body: two_threads,
    },
    Case {
        id: "queue.arm_wait",
        name: "arm_wait never sleeps through a completion",
        body: arm_wait,
    },
    Case {
        id: "queue.arm_idle",
        name: "arm_wait on an idle queue does not fail",
        body: arm_idle,
    },
];

/// Reads of the first blocks, each to its own place in the memory.
fn reads(rig: &Rig, count: usize) -> Vec<Io> {
    let blocks = rig.geometry().block_count;
    let block = rig.block();
    (0..count)
        .map(|n| {
            let offset = n % (POOL / block) * block;
            Io::data(BdevOp::READ, n as u64 % blocks, 1, offset, block)
        })
        .collect()
}

fn depth(bench: &BdevBench) -> Verdict {
    for depth in [1, 4, 32] {
        let mut rig = bench.rig(depth)?;
        let depth = depth.min(rig.geometry().max_queue_depth) as usize;
        let ios = reads(&rig, 3 * depth);
        let mut left = &ios[..];
        let mut completed = 0;
        let start = Instant::now();
        while completed < ios.len() {
            let idle = rig.outstanding() == 0;
            let taken = rig.offer(left)?.len();
            ensure!(
                !idle || left.is_empty() || taken > 0,
                "an empty queue takes no request"
            );
            left = &left[taken..];
            ensure!(
                rig.outstanding() <= depth,
                "a queue of depth {depth} holds {} requests",
                rig.outstanding()
            );
            completed += rig.poll(depth)?;
            ensure!(start.elapsed() < LIMIT, "the requests do not complete");
        }
        for (tag, status) in rig.take_done() {
            ensure!(status.is_ok(), "tag {tag} completed as {status:?}");
        }
    }
    Ok(())
}

fn exactly_once(bench: &BdevBench) -> Verdict {
    let mut rig = bench.rig(16)?;
    let mut seen = HashSet::new();
    for _ in 0..100 {
        let ios = reads(&rig, 16);
        // The rig fails on completions of what is not outstanding, so a second one is noticed.
        let tags = rig.offer(&ios)?;
        for (tag, status) in rig.finish()? {
            ensure!(status.is_ok(), "tag {tag} completed as {status:?}");
            ensure!(tags.contains(&tag) && seen.insert(tag), "tag {tag} again");
        }
    }
    std::thread::sleep(Duration::from_millis(10));
    ensure!(rig.poll(16)? == 0, "a completion nobody waits for");
    Ok(())
}

fn idle(bench: &BdevBench) -> Verdict {
    let mut rig = bench.rig(4)?;
    for _ in 0..100 {
        ensure!(rig.poll(4)? == 0, "a completion without a request");
    }
    ensure!(rig.poll(0)? == 0, "a completion into no room");
    ensure!(rig.offer(&[])?.is_empty(), "a request out of none");
    Ok(())
}

fn capacity(bench: &BdevBench) -> Verdict {
    let mut rig = bench.rig(8)?;
    let ios = reads(&rig, 8);
    let taken = rig.offer(&ios)?.len();
    let start = Instant::now();
    let mut completed = 0;
    while completed < taken {
        // The rig fails if more comes than there is room for.
        completed += rig.poll(1)?;
        ensure!(start.elapsed() < LIMIT, "the requests do not complete");
    }
    Ok(())
}

fn wrong_depth(bench: &BdevBench) -> Verdict {
    let device = bench.open()?;
    let _thread = device.instance().attach_thread()?;
    let mut depths = vec![0];
    depths.extend(device.geometry().max_queue_depth.checked_add(1));
    for depth in depths {
        refused(
            &format!("a queue of depth {depth}"),
            device.open_queue(depth, CallOptions::default()),
            &[Status::INVALID],
        )?;
    }
    Ok(())
}

fn queue_count(bench: &BdevBench) -> Verdict {
    const MOST: u32 = 64;
    let device = bench.open()?;
    let _thread = device.instance().attach_thread()?;
    let promised = device.geometry().max_queues;
    let mut queues = Vec::new();
    for _ in 0..promised.min(MOST) {
        queues.push(device.open_queue(1, CallOptions::default())?);
    }
    if promised < MOST {
        let more = device.open_queue(1, CallOptions::default());
        refused_somehow(&format!("queue {} of {promised}", promised + 1), more)?;
    }
    queues.pop();
    // What was closed can be opened again.
    queues.push(device.open_queue(1, CallOptions::default())?);
    Ok(())
}

fn abort(bench: &BdevBench) -> Verdict {
    let mut rig = bench.rig(8)?;
    for round in 0..50 {
        let ios = reads(&rig, 8);
        let tags = rig.offer(&ios)?;
        let victim = tags[round % tags.len()];
        match rig.queue().abort(victim) {
            // It may have completed already inside the device.
            Ok(()) | Err(Status::NOT_FOUND) => {}
            Err(Status::NOT_SUPPORTED) => {
                rig.finish()?;
                return skipped("the plugin cannot abort");
            }
            Err(status) => return Err(status.into()),
        }
        for (tag, status) in rig.finish()? {
            let fine = status.is_ok() || tag == victim && status == Status::CANCELLED;
            ensure!(
                fine,
                "tag {tag} completed as {status:?}, {victim} was aborted"
            );
        }
        ensure!(rig.poll(8)? == 0, "a completion nobody waits for");
    }
    Ok(())
}

fn abort_unknown(bench: &BdevBench) -> Verdict {
    let mut rig = bench.rig(2)?;
    match rig.queue().abort(0xdead) {
        Err(Status::NOT_FOUND) => {}
        Err(Status::NOT_SUPPORTED) => return skipped("the plugin cannot abort"),
        other => return failed(format!("abort of an unknown tag: {other:?}")),
    }
    let io = &reads(&rig, 1)[0];
    rig.must(io)
}

fn close_busy(bench: &BdevBench) -> Verdict {
    let device = bench.open()?;
    if !device.geometry().supports(BdevOp::WRITE) {
        return skipped("the device is read-only");
    }
    // The device stays open: opening one may take a second, and what a queue leaves behind would go with it.
    for _ in 0..20 {
        let mut rig = Rig::new(&device, 16)?;
        let zeroes = vec![0u8; 16 * rig.block()];
        rig.put(0, &zeroes);
        for lba in 0..rig.geometry().block_count.min(16) {
            rig.write(lba, &zeroes[..rig.block()])?;
        }
        let ios = reads(&rig, 16);
        rig.offer(&ios)?;
        rig.close_queue();
        rig.put(0, &vec![0xee; zeroes.len()]);
        std::thread::sleep(Duration::from_millis(2));
        ensure!(
            rig.get(0, zeroes.len()).iter().all(|b| *b == 0xee),
            "the device wrote to the memory of a closed queue"
        );
    }
    // The device is none the worse for it.
    drop(device);
    bench.rig(1)?.read(0, 1).map(drop)
}

fn two_threads(bench: &BdevBench) -> Verdict {
    let device = bench.open()?;
    if device.geometry().max_queues < 2 {
        return skipped("the device has one queue");
    }
    if !device.geometry().supports(BdevOp::WRITE) {
        return skipped("the device is read-only");
    }
    let half = device.geometry().block_count / 2;
    let device = &device;
    let work = |n: u64| -> Verdict {
        let mut rig = Rig::new(device, 8)?;
        rig.tags_from(1 + (n << 32));
        let mut random = bench.random(40 + n);
        let most = rig.largest(POOL).min(half).min(16);
        for _ in 0..200 {
            let blocks = 1 + random.below(most);
            let lba = n * half + random.below(half - blocks + 1);
            let data = random.bytes(blocks as usize * rig.block());
            rig.write(lba, &data)?;
            rig.expect("data of this thread", lba, &data)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers = [0, 1].map(|n| scope.spawn(move || work(n)));
        workers
            .into_iter()
            .try_for_each(|w| w.join().unwrap_or_else(|_| failed("a thread panicked")))
    })
}

fn arm_wait(bench: &BdevBench) -> Verdict {
    let mut rig = bench.rig(4)?;
    for round in 0..200 {
        let ios = reads(&rig, 1 + round % 4);
        rig.offer(&ios)?;
        // Sometimes the completion is there before the question, sometimes after.
        if round % 3 == 0 {
            std::thread::sleep(Duration::from_micros(300));
        }
        let start = Instant::now();
        while rig.outstanding() > 0 {
            let wait = rig.queue().arm_wait()?;
            if !wait::sleep(wait)? {
                return failed(format!(
                    "round {round}: {wait:?} did not wake up with {} outstanding",
                    rig.outstanding()
                ));
            }
            rig.poll(1)?;
            ensure!(start.elapsed() < LIMIT, "the requests do not complete");
        }
        rig.take_done();
    }
    Ok(())
}

fn arm_idle(bench: &BdevBench) -> Verdict {
    let mut rig = bench.rig(4)?;
    for _ in 0..3 {
        let wait = rig.queue().arm_wait()?;
        ensure!(
            wait.kind != WaitKind::FD || wait.fd >= 0,
            "a wait descriptor of {}",
            wait.fd
        );
        let io = reads(&rig, 1).remove(0);
        rig.must(&io)?;
    }
    Ok(())
}
