//! Peers that come and go.

use super::FabricBench;
use super::net::{Net, Node, Op};
use crate::abi::{FABRIC_REMOTE_WRITE, FabricCompletion, FabricOp, Status};
use crate::conformance::case::{Case, Verdict, ensure, failed, skipped};
use std::time::{Duration, Instant};

pub(super) const CASES: &[Case<FabricBench>] = &[
    Case {
        id: "peers.absent",
        name: "resolving a peer that is gone does not wait, and a send to it ends",
        body: absent,
    },
    Case {
        id: "peers.release",
        name: "a released peer takes no more, and can be resolved again",
        body: release,
    },
    Case {
        id: "peers.unknown_peer",
        name: "a number that is no peer is refused",
        body: unknown_peer,
    },
    Case {
        id: "peers.close_busy",
        name: "closing an endpoint with operations outstanding leaves their memory alone",
        body: close_busy,
    },
    Case {
        id: "peers.one_leaves",
        name: "a peer that goes away does not disturb the others",
        body: one_leaves,
    },
    Case {
        id: "peers.many",
        name: "many endpoints talk to one",
        body: many,
    },
];

/// Lets an operation towards a peer that is gone end: by itself or by a cancel.
fn end(net: &mut Net, at: usize, user: u64) -> Verdict<FabricCompletion> {
    if let Some(completion) = net.wait_for(at, user, Duration::from_secs(3))? {
        return Ok(completion);
    }
    match net.nodes[at].endpoint().cancel(user) {
        // It may have completed inside the provider meanwhile.
        Ok(()) | Err(Status::NOT_FOUND) => net.wait(at, user),
        Err(status) => Err(status.into()),
    }
}

/// How an operation towards a peer that is gone may end.
pub(super) fn ended_badly(what: &str, status: Status) -> Verdict {
    ensure!(
        [Status::UNREACHABLE, Status::CANCELLED, Status::TIMED_OUT].contains(&status),
        "{what} completed as {status:?}"
    );
    Ok(())
}

fn absent(bench: &FabricBench) -> Verdict {
    let mut net = bench.net(3)?;
    let address = net.nodes[2].address()?;
    net.nodes.truncate(2);
    let start = Instant::now();
    net.nodes[0].endpoint().resolve(&address)?;
    let took = start.elapsed();
    ensure!(took < Duration::from_secs(1), "resolve took {took:?}");
    let user = net.start(0, &Op::send(net.peer(0, 2), 1, 0, 64))?;
    let status = end(&mut net, 0, user)?.status;
    ended_badly("a send to a peer that is gone", status)?;
    net.message(0, 1, 1, b"still alive")
}

fn release(bench: &FabricBench) -> Verdict {
    let mut net = bench.net(2)?;
    net.message(0, 1, 1, b"before")?;
    let peer = net.peer(0, 1);
    net.nodes[0].endpoint().release(peer)?;
    match net.nodes[0].offer(&Op::send(peer, 1, 0, 8)) {
        Ok(Some(user)) => {
            let status = end(&mut net, 0, user)?.status;
            ensure!(!status.is_ok(), "a send to a released peer succeeded");
        }
        Ok(None) => return failed("a send to a released peer waits for room"),
        // Refused at once: as good.
        Err(_) => {}
    }
    ensure!(
        net.nodes[0].endpoint().release(peer).is_err(),
        "the peer can be released twice"
    );
    let address = net.nodes[1].address()?;
    let again = net.nodes[0].endpoint().resolve(&address)?;
    let recv = net.start(1, &Op::recv(2, 0, 8))?;
    let send = net.start(0, &Op::send(again, 2, 0, 8))?;
    net.must(1, recv)?;
    net.must(0, send)?;
    // The other direction never noticed.
    net.message(1, 0, 3, b"after")
}

fn unknown_peer(bench: &FabricBench) -> Verdict {
    let mut net = bench.net(2)?;
    for peer in [u64::MAX, 1 << 40] {
        for op in [
            Op::send(peer, 1, 0, 8),
            Op::remote(FabricOp::WRITE, peer, (0, 8), (0, 0)),
        ] {
            match net.nodes[0].offer(&op) {
                Ok(Some(user)) => {
                    let status = net.wait(0, user)?.status;
                    ensure!(!status.is_ok(), "{op:?} succeeded");
                }
                Ok(None) => return failed("an operation on no peer waits for room"),
                Err(_) => {}
            }
        }
        ensure!(
            net.nodes[0].endpoint().release(peer).is_err(),
            "peer {peer} can be released"
        );
    }
    net.message(0, 1, 1, b"still alive")
}

fn close_busy(bench: &FabricBench) -> Verdict {
    for _ in 0..5 {
        let mut net = bench.net(2)?;
        net.message(0, 1, 1, b"warm")?;
        net.nodes[1].put(0, &[0xee; 4096]);
        net.start(1, &Op::recv(2, 0, 4096))?;
        let send = net.start(0, &Op::send(net.peer(0, 1), 3, 0, 4096))?;
        net.nodes[1].close();
        let late = Op::send(net.peer(0, 1), 2, 0, 4096);
        let late = net.nodes[0].offer(&late)?;
        end(&mut net, 0, send)?;
        if let Some(late) = late {
            end(&mut net, 0, late)?;
        }
        ensure!(
            net.nodes[1].get(0, 4096) == [0xee; 4096],
            "a message arrived in the memory of a closed endpoint"
        );
    }
    Ok(())
}

fn one_leaves(bench: &FabricBench) -> Verdict {
    let mut net = bench.net(3)?;
    net.message(0, 1, 1, b"one")?;
    net.message(0, 2, 1, b"two")?;
    let (_, base, key) = net.nodes[0].share(0, 4096, FABRIC_REMOTE_WRITE)?;
    net.nodes[2].close();
    let pending = net.start(0, &Op::send(net.peer(0, 2), 5, 8192, 64))?;
    for round in 0..20 {
        net.message(1, 0, round, b"still")?;
        net.message(0, 1, round, b"here")?;
        let op = Op::remote(FabricOp::WRITE, net.peer(1, 0), (0, 64), (base, key));
        let user = net.start(1, &op)?;
        net.must(1, user)?;
    }
    end(&mut net, 0, pending).map(drop)
}

fn many(bench: &FabricBench) -> Verdict {
    let domain = bench.open()?;
    let count = domain.info().max_endpoints.min(16) as usize;
    if count < 3 {
        return skipped(format!("the domain has {count} endpoints"));
    }
    let nodes = (0..count)
        .map(|_| Node::new(&bench.base.instance, &domain))
        .collect::<Verdict<Vec<_>>>()?;
    let mut net = Net::of(nodes)?;
    for round in 0..4u64 {
        let mut sends = Vec::new();
        for n in 1..count {
            net.nodes[n].put(0, &(n as u64 * 1000 + round).to_le_bytes());
            sends.push((n, net.start(n, &Op::send(net.peer(n, 0), n as u64, 0, 8))?));
        }
        for n in 1..count {
            let recv = net.start(0, &Op::recv(n as u64, n * 64, 8))?;
            net.must(0, recv)?;
            let found = net.nodes[0].get(n * 64, 8);
            ensure!(
                found == (n as u64 * 1000 + round).to_le_bytes(),
                "round {round}: the message of endpoint {n} is another one"
            );
        }
        for (n, send) in sends {
            net.must(n, send)?;
        }
    }
    Ok(())
}
