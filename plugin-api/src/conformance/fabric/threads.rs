//! Endpoints on several threads, and sleeping.

use super::FabricBench;
use super::net::{Node, Op};
use crate::abi::{FABRIC_REMOTE_READ, FABRIC_REMOTE_WRITE, FabricCompletion, FabricOp};
use crate::conformance::case::{Case, Verdict, ensure, failed, skipped};
use crate::conformance::wait::{self, LIMIT};
use crate::host::FabricDomain;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

pub(super) const CASES: &[Case<FabricBench>] = &[
    Case {
        id: "threads.two_threads",
        name: "two endpoints on two threads exchange messages and remote accesses",
        body: two_threads,
    },
    Case {
        id: "threads.wakes_up",
        name: "arm_wait wakes up for a message from another thread",
        body: wakes_up,
    },
    Case {
        id: "threads.arm_idle",
        name: "arm_wait on an idle endpoint does not fail",
        body: arm_idle,
    },
    Case {
        id: "threads.busy_domain",
        name: "memory is registered and endpoints are opened while others are in use",
        body: busy_domain,
    },
];

/// What a thread tells the other: address, remote address, key.
type Card = (Vec<u8>, u64, u64);

/// Waits for one operation, sleeping as `arm_wait` says.
fn sleep_for(node: &mut Node, user: u64) -> Verdict<FabricCompletion> {
    let start = Instant::now();
    loop {
        node.poll()?;
        if let Some(done) = node.take(user) {
            ensure!(
                done.status.is_ok(),
                "operation {user} completed as {:?}",
                done.status
            );
            return Ok(done);
        }
        let wait = node.endpoint().arm_wait()?;
        if !wait::sleep(wait)? {
            return failed(format!("{wait:?} did not wake up for operation {user}"));
        }
        ensure!(
            start.elapsed() < LIMIT,
            "operation {user} does not complete"
        );
    }
}

fn start(node: &mut Node, op: &Op) -> Verdict<u64> {
    let start = Instant::now();
    loop {
        if let Some(user) = node.offer(op)? {
            return Ok(user);
        }
        node.poll()?;
        ensure!(start.elapsed() < LIMIT, "the queue stays full");
    }
}

/// Runs `work` on two threads, each with a node of its own that knows the other's card. A side
/// that is done keeps making progress until the other is done too.
fn duel(
    bench: &FabricBench,
    work: impl Fn(usize, &mut Node, u64, &Card) -> Verdict + Sync,
) -> Verdict {
    let domain = bench.open()?;
    if domain.info().max_endpoints < 2 {
        return skipped("the domain has one endpoint");
    }
    let (to_b, from_a) = channel();
    let (to_a, from_b) = channel();
    let done = [AtomicBool::new(false), AtomicBool::new(false)];
    let side = |n: usize, sender: Sender<Card>, receiver: Receiver<Card>| -> Verdict {
        let result = one_side(bench, &domain, n, &work, sender, receiver, &done);
        // Also on a failure, so that the other side does not wait.
        done[n].store(true, Ordering::SeqCst);
        result
    };
    std::thread::scope(|scope| {
        let side = &side;
        let workers = [
            scope.spawn(move || side(0, to_b, from_b)),
            scope.spawn(move || side(1, to_a, from_a)),
        ];
        let results = workers.map(|w| w.join().unwrap_or_else(|_| failed("a thread panicked")));
        results.into_iter().collect()
    })
}

fn one_side(
    bench: &FabricBench,
    domain: &FabricDomain,
    n: usize,
    work: &(impl Fn(usize, &mut Node, u64, &Card) -> Verdict + Sync),
    sender: Sender<Card>,
    receiver: Receiver<Card>,
    done: &[AtomicBool; 2],
) -> Verdict {
    // Domain functions are called by one thread at a time.
    static OPENING: Mutex<()> = Mutex::new(());
    let (mut node, card) = {
        let _turn = OPENING.lock().unwrap_or_else(|e| e.into_inner());
        let mut node = Node::new(&bench.base.instance, domain)?;
        let access = FABRIC_REMOTE_READ | FABRIC_REMOTE_WRITE;
        let (_, base, key) = node.share(1 << 20, 1 << 20, access)?;
        let card = (node.address()?, base, key);
        (node, card)
    };
    // A side that failed to start is reported by its own error.
    let _ = sender.send(card);
    let Ok(other) = receiver.recv_timeout(LIMIT) else {
        return failed("the other side did not start");
    };
    let peer = node.endpoint().resolve(&other.0)?;
    let result = work(n, &mut node, peer, &other);
    done[n].store(true, Ordering::SeqCst);
    let start = Instant::now();
    while result.is_ok() && !done[1 - n].load(Ordering::SeqCst) && start.elapsed() < LIMIT {
        node.poll()?;
        std::thread::yield_now();
    }
    let _turn = OPENING.lock().unwrap_or_else(|e| e.into_inner());
    drop(node);
    result
}

fn two_threads(bench: &FabricBench) -> Verdict {
    duel(bench, |n, node, peer, (_, base, key)| {
        let mut random = bench.random(60 + n as u64);
        for round in 0..300u64 {
            let recv = start(node, &Op::recv(round, 4096, 2048))?;
            let len = 8 + random.below(2000) as usize;
            node.put(0, &round.to_le_bytes());
            let send = start(node, &Op::send(peer, round, 0, len))?;
            sleep_for(node, recv)?;
            sleep_for(node, send)?;
            ensure!(
                node.get(4096, 8) == round.to_le_bytes(),
                "round {round}: another message"
            );
            let place = base + 64 * (round % 100);
            let data = random.bytes(64);
            node.put(8192, &data);
            let op = Op::remote(FabricOp::WRITE, peer, (8192, 64), (place, *key));
            let user = start(node, &op)?;
            sleep_for(node, user)?;
            let op = Op::remote(FabricOp::READ, peer, (16384, 64), (place, *key));
            let user = start(node, &op)?;
            sleep_for(node, user)?;
            ensure!(
                node.get(16384, 64) == data,
                "round {round}: the remote memory holds other data"
            );
        }
        Ok(())
    })
}

fn wakes_up(bench: &FabricBench) -> Verdict {
    duel(bench, |n, node, peer, _| {
        let mut random = bench.random(70);
        for round in 0..60u64 {
            // Both draw the same pauses, so the sleeper's limit is never in doubt.
            let pause = Duration::from_micros(random.below(20_000));
            if n as u64 == round % 2 {
                std::thread::sleep(pause);
                let send = start(node, &Op::send(peer, round, 0, 8))?;
                sleep_for(node, send)?;
            } else {
                let recv = start(node, &Op::recv(round, 0, 8))?;
                sleep_for(node, recv)?;
            }
        }
        Ok(())
    })
}

fn arm_idle(bench: &FabricBench) -> Verdict {
    let mut net = bench.net(2)?;
    for _ in 0..3 {
        net.nodes[0].endpoint().arm_wait()?;
        net.message(0, 1, 1, b"after arming")?;
    }
    Ok(())
}

fn busy_domain(bench: &FabricBench) -> Verdict {
    let domain = bench.open()?;
    if domain.info().max_endpoints < 4 {
        return skipped("the domain has less than 4 endpoints");
    }
    let stop = AtomicBool::new(false);
    let (ready, started) = channel();
    std::thread::scope(|scope| {
        let (domain, stop) = (&domain, &stop);
        let worker = scope.spawn(move || -> Verdict {
            let made = super::net::Net::new(&bench.base.instance, domain, 2);
            let _ = ready.send(());
            let mut net = made?;
            while !stop.load(Ordering::SeqCst) {
                net.message(0, 1, 1, b"busy")?;
            }
            // Dropping the nodes is a domain function: the other thread is done by now.
            Ok(())
        });
        let _ = started.recv();
        let work = || -> Verdict {
            for _ in 0..20 {
                let mut node = Node::new(&bench.base.instance, domain)?;
                for _ in 0..10 {
                    let (number, _, _) = node.share(0, 4096, FABRIC_REMOTE_READ)?;
                    node.unshare(number);
                }
            }
            Ok(())
        };
        let result = work();
        stop.store(true, Ordering::SeqCst);
        let worker = worker
            .join()
            .unwrap_or_else(|_| failed("a thread panicked"));
        result.and(worker)
    })
}
