//! Reset, abort and closing with requests outstanding.

use crate::load::{NVME_512, NVME_MIXED, Plugin};
use crate::rig::{Op, PATIENCE, Rig, by_slot, fill, holds};
use crate::{Case, Outcome, ensure, qemu};
use daos_plugin_api::abi::{BdevEvent, BdevOp, Completion, Status};
use daos_plugin_api::host::{BdevDevice, CallOptions};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub(crate) const CASES: &[Case] = &[
    (
        "a reset ends each outstanding request exactly once",
        outstanding,
    ),
    ("a reset of an idle device loses nothing", idle),
    (
        "requests not polled before reconnect still complete once",
        reconnect_first,
    ),
    ("resets under load from two threads", under_load),
    (
        "a reset disturbs a sleeping thread's queue no more than a busy one's",
        sleeping,
    ),
    (
        "a reset reaches the other namespace's queues and events",
        siblings,
    ),
    ("an aborted request completes exactly once", abort),
    (
        "abort of what is not outstanding is not found",
        abort_nothing,
    ),
    (
        "a queue closed with requests outstanding leaves the device usable",
        close_busy,
    ),
];

fn events(device: &BdevDevice) -> Vec<u32> {
    std::iter::from_fn(|| device.next_event())
        .map(|event| event.kind)
        .collect()
}

fn reset(device: &BdevDevice) -> Outcome {
    device
        .reset(CallOptions::default())
        .map_err(|e| e.to_string())
}

/// The queue takes nothing until `reconnect`, then works.
fn comes_back(rig: &mut Rig) -> Outcome {
    let refused = rig.submit(&[Op::new(BdevOp::READ, 0, 1)]);
    ensure!(
        refused == Err(Status::RESET),
        "before reconnect submit said {refused:?}"
    );
    rig.queue
        .reconnect()
        .map_err(|status| format!("reconnect: {status}"))?;
    rig.must(&[Op::new(BdevOp::READ, 0, 1), Op::new(BdevOp::READ, 8, 1)])
}

fn outstanding(plugin: &Plugin) -> Outcome {
    let device = plugin.device(NVME_512)?;
    let mut rig = Rig::new(&device, 32)?;
    for slot in 0..32 {
        fill(rig.slot(slot), 100 + slot as u64);
    }
    let throttle = qemu::throttle(20)?;
    let ops: Vec<Op> = (0..32u64)
        .map(|slot| {
            Op::new(
                if slot % 2 == 0 {
                    BdevOp::WRITE
                } else {
                    BdevOp::READ
                },
                slot * 8,
                8,
            )
        })
        .collect();
    rig.start(&ops)?;
    // Rings the doorbell.
    let mut all = collect_some(&mut rig)?;
    reset(&device)?;
    drop(throttle);
    all.extend(rig.collect(32 - all.len())?);
    let statuses = by_slot(&all, 32)?;
    ensure!(
        statuses
            .iter()
            .all(|status| matches!(*status, Status::OK | Status::RESET)),
        "statuses {statuses:?}"
    );
    let lost = statuses
        .iter()
        .filter(|status| **status == Status::RESET)
        .count();
    ensure!(lost > 0, "nothing was outstanding at the reset");
    let seen = events(&device);
    ensure!(
        seen == [BdevEvent::RESET_BEGIN, BdevEvent::RESET_END],
        "events {seen:?}"
    );
    let mut more = [Completion {
        tag: 0,
        status: Status::OK,
        reserved: 0,
    }; 4];
    let extra = rig
        .queue
        .poll(&mut more)
        .map_err(|status| format!("poll: {status}"))?;
    ensure!(extra == 0, "{extra} completions too many");
    comes_back(&mut rig)
}

/// One poll's completions.
fn collect_some(rig: &mut Rig) -> Result<Vec<Completion>, String> {
    let mut room = [Completion {
        tag: 0,
        status: Status::OK,
        reserved: 0,
    }; 16];
    let got = rig
        .queue
        .poll(&mut room)
        .map_err(|status| format!("poll: {status}"))?;
    Ok(room[..got].to_vec())
}

fn idle(plugin: &Plugin) -> Outcome {
    idle_one(plugin, NVME_512)
}

/// What was written is there after resets, and the queue comes back.
pub(crate) fn idle_one(plugin: &Plugin, address: &str) -> Outcome {
    let device = plugin.device(address)?;
    let mut rig = Rig::new(&device, 2)?;
    fill(rig.slot(0), 5);
    rig.must(&[Op::new(BdevOp::WRITE, 77, 4)])?;
    for _ in 0..3 {
        reset(&device)?;
        comes_back(&mut rig)?;
    }
    rig.slot(0).fill(0);
    rig.must(&[Op::new(BdevOp::READ, 77, 4)])?;
    ensure!(holds(&rig.slot(0)[..2048], 5), "data differ");
    Ok(())
}

fn reconnect_first(plugin: &Plugin) -> Outcome {
    let device = plugin.device(NVME_512)?;
    let mut rig = Rig::new(&device, 8)?;
    let throttle = qemu::throttle(5)?;
    rig.start(&[Op::new(BdevOp::READ, 0, 8); 6])?;
    let mut all = collect_some(&mut rig)?;
    reset(&device)?;
    drop(throttle);
    rig.queue
        .reconnect()
        .map_err(|status| format!("reconnect: {status}"))?;
    all.extend(rig.collect(6 - all.len())?);
    let statuses = by_slot(&all, 6)?;
    ensure!(
        statuses.contains(&Status::RESET),
        "nothing was outstanding at the reset: {statuses:?}"
    );
    rig.must(&[Op::new(BdevOp::READ, 0, 8); 8])
}

/// Reads and writes in batches until told to stop; counts requests and those that a reset ended.
fn load(
    device: &BdevDevice,
    first: u64,
    stop: &AtomicBool,
    done: &AtomicU64,
    lost: &AtomicU64,
) -> Outcome {
    let mut rig = Rig::new(device, 8)?;
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        for slot in 0..8 {
            fill(&mut rig.slot(slot)[..4096], round + slot as u64);
        }
        let ops = |op| {
            (0..8u64)
                .map(|slot| Op::new(op, first + slot * 8, 8))
                .collect::<Vec<_>>()
        };
        for op in [BdevOp::WRITE, BdevOp::READ] {
            // Each batch is repeated until no reset fell into it.
            loop {
                let statuses = match rig.submit(&ops(op)) {
                    Ok(8) => {
                        let completions = rig.collect(8)?;
                        by_slot(&completions, 8)?
                    }
                    Ok(taken) => return Err(format!("an empty queue of depth 8 took {taken}")),
                    Err(Status::RESET) => {
                        match rig.queue.reconnect() {
                            Ok(()) | Err(Status::AGAIN) => std::thread::yield_now(),
                            Err(status) => return Err(format!("reconnect: {status}")),
                        }
                        continue;
                    }
                    Err(status) => return Err(format!("submit: {status}")),
                };
                done.fetch_add(8, Ordering::Relaxed);
                let ended = statuses
                    .iter()
                    .filter(|status| **status == Status::RESET)
                    .count() as u64;
                lost.fetch_add(ended, Ordering::Relaxed);
                if let Some(status) = statuses
                    .iter()
                    .find(|s| !matches!(**s, Status::OK | Status::RESET))
                {
                    return Err(format!("a request ended with {status}"));
                }
                if ended == 0 {
                    break;
                }
            }
        }
        for slot in 0..8 {
            ensure!(
                holds(&rig.slot(slot)[..4096], round + slot as u64),
                "round {round}: data differ"
            );
        }
    }
    Ok(())
}

fn under_load(plugin: &Plugin) -> Outcome {
    let device = plugin.device(NVME_512)?;
    let (stop, done, lost) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let resets = 8u64;
    // Slow enough that the queues are hardly ever empty: each reset finds requests outstanding on any machine.
    let _throttle = qemu::throttle(400)?;
    let outcome = std::thread::scope(|scope| {
        let workers: Vec<_> = [0, 10_000]
            .map(|first| {
                scope.spawn({
                    let (device, stop, done, lost) = (&device, &stop, &done, &lost);
                    move || load(device, first, stop, done, lost)
                })
            })
            .into();
        let mut outcome = Ok(());
        for round in 1..=resets {
            // Some work between two resets.
            let wanted = done.load(Ordering::Relaxed) + 64;
            let started = Instant::now();
            while done.load(Ordering::Relaxed) < wanted && outcome.is_ok() {
                if started.elapsed() > PATIENCE || workers.iter().any(|worker| worker.is_finished())
                {
                    outcome = Err(format!("no progress after reset {round}"));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            if outcome.is_ok() {
                outcome = reset(&device);
            }
        }
        stop.store(true, Ordering::Relaxed);
        for worker in workers {
            let ended = worker
                .join()
                .unwrap_or_else(|_| Err("a worker panicked".to_owned()));
            outcome = ended.and(outcome);
        }
        outcome
    });
    outcome?;
    let (done, lost) = (done.into_inner(), lost.into_inner());
    println!("       {done} requests over {resets} resets, {lost} of them ended by a reset");
    ensure!(lost > 0, "no reset interrupted a request");
    Ok(())
}

fn sleeping(plugin: &Plugin) -> Outcome {
    let device = plugin.device(NVME_512)?;
    let step = AtomicU32::new(0);
    let wait_for = |value| {
        let started = Instant::now();
        while step.load(Ordering::Acquire) < value && started.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| {
            let rig = Rig::new(&device, 2);
            step.store(1, Ordering::Release);
            let mut rig = rig?;
            wait_for(2);
            comes_back(&mut rig)
        });
        wait_for(1);
        // The other thread sleeps and polls nothing: the reset must not wait for it.
        let outcome = reset(&device);
        step.store(2, Ordering::Release);
        sleeper
            .join()
            .unwrap_or_else(|_| Err("the sleeper panicked".to_owned()))
            .and(outcome)
    })
}

fn siblings(plugin: &Plugin) -> Outcome {
    let first = plugin.device(&format!("{NVME_MIXED}/1"))?;
    let second = plugin.device(&format!("{NVME_MIXED}/2"))?;
    let mut rig = Rig::new(&second, 2)?;
    reset(&first)?;
    for device in [&first, &second] {
        let seen = events(device);
        ensure!(
            seen == [BdevEvent::RESET_BEGIN, BdevEvent::RESET_END],
            "events {seen:?}"
        );
    }
    comes_back(&mut rig)
}

fn abort(plugin: &Plugin) -> Outcome {
    let device = plugin.device(NVME_512)?;
    let mut rig = Rig::new(&device, 8)?;
    let throttle = qemu::throttle(5)?;
    rig.start(&[Op::new(BdevOp::READ, 0, 8); 8])?;
    let mut all = collect_some(&mut rig)?;
    rig.queue
        .abort(7)
        .map_err(|status| format!("abort: {status}"))?;
    device
        .poll_admin()
        .map_err(|status| format!("poll_admin: {status}"))?;
    drop(throttle);
    all.extend(rig.collect(8 - all.len())?);
    let statuses = by_slot(&all, 8)?;
    ensure!(
        matches!(statuses[7], Status::OK | Status::CANCELLED),
        "aborted request: {}",
        statuses[7]
    );
    ensure!(
        statuses[..7].iter().all(|status| status.is_ok()),
        "others: {statuses:?}"
    );
    rig.must(&[Op::new(BdevOp::READ, 0, 8); 8])
}

fn abort_nothing(plugin: &Plugin) -> Outcome {
    let device = plugin.device(NVME_512)?;
    let mut rig = Rig::new(&device, 1)?;
    let outcome = rig.queue.abort(12345);
    ensure!(outcome == Err(Status::NOT_FOUND), "{outcome:?}");
    Ok(())
}

fn close_busy(plugin: &Plugin) -> Outcome {
    let device = plugin.device(NVME_512)?;
    let throttle = qemu::throttle(5)?;
    let mut rig = Rig::new(&device, 16)?;
    rig.start(&[Op::new(BdevOp::READ, 0, 8); 16])?;
    collect_some(&mut rig)?;
    drop(rig);
    drop(throttle);
    Rig::new(&device, 8)?.must(&[Op::new(BdevOp::READ, 0, 8); 8])
}
