//! Domains, endpoints, addresses.

use super::FabricBench;
use super::net::{Net, Node, Op, POOL};
use crate::abi::{FabricOp, Status};
use crate::conformance::case::{Case, Verdict, ensure, failed, refused_somehow, skipped};
use crate::host::CallOptions;

pub(super) const CASES: &[Case<FabricBench>] = &[
    Case {
        id: "basics.info",
        name: "the domain describes itself sensibly and the same each time",
        body: info,
    },
    Case {
        id: "basics.unknown_provider",
        name: "a provider that does not exist is refused and explained",
        body: unknown_provider,
    },
    Case {
        id: "basics.unknown_interface",
        name: "an interface that does not exist is refused and explained",
        body: unknown_interface,
    },
    Case {
        id: "basics.addresses",
        name: "an endpoint has one address of its own, no longer than promised",
        body: addresses,
    },
    Case {
        id: "basics.resolve_twice",
        name: "resolving an address twice gives the same peer",
        body: resolve_twice,
    },
    Case {
        id: "basics.garbage_address",
        name: "an address that is none is refused as INVALID",
        body: garbage_address,
    },
    Case {
        id: "basics.unknown_op",
        name: "an unknown operation completes as INVALID or NOT_SUPPORTED",
        body: unknown_op,
    },
    Case {
        id: "basics.too_long",
        name: "an operation longer than the maximum completes as INVALID",
        body: too_long,
    },
    Case {
        id: "basics.idle",
        name: "an idle endpoint reports no completion",
        body: idle,
    },
    Case {
        id: "basics.leaks",
        name: "opening and closing again and again leaks no descriptor",
        body: leaks,
    },
    Case {
        id: "basics.two_domains",
        name: "two domains on one interface reach each other",
        body: two_domains,
    },
];

fn info(bench: &FabricBench) -> Verdict {
    let info = *bench.open()?.info();
    ensure!(info.max_rma > 0, "max_rma is 0");
    ensure!(info.max_address > 0, "max_address is 0");
    ensure!(info.max_endpoints > 0, "max_endpoints is 0");
    ensure!(
        (48..=64).contains(&info.tag_bits),
        "tag_bits is {}",
        info.tag_bits
    );
    ensure!(
        info.scratch_size <= 65536,
        "scratch_size is {}",
        info.scratch_size
    );
    for _ in 0..3 {
        let again = *bench.open()?.info();
        ensure!(again == info, "another time: {again:?} instead of {info:?}");
    }
    Ok(())
}

fn unknown_provider(bench: &FabricBench) -> Verdict {
    let mut request = bench.base.target.fabric_request();
    request.provider = "no-such-provider".into();
    let opened = bench
        .base
        .instance
        .open_fabric(&request, CallOptions::default());
    refused_somehow("an unknown provider", opened)
}

fn unknown_interface(bench: &FabricBench) -> Verdict {
    let mut request = bench.base.target.fabric_request();
    if request.interface.is_empty() {
        return skipped("the target names no interface");
    }
    request.interface = "nosuchif9".into();
    if let Some(value) = request.config.get_mut("interface") {
        *value = "nosuchif9".into();
    }
    let opened = bench
        .base
        .instance
        .open_fabric(&request, CallOptions::default());
    refused_somehow("an unknown interface", opened)
}

fn addresses(bench: &FabricBench) -> Verdict {
    let domain = bench.open()?;
    let mut seen: Vec<Vec<u8>> = Vec::new();
    let mut nodes = Vec::new();
    for _ in 0..domain.info().max_endpoints.min(4) {
        let mut node = Node::new(&bench.base.instance, &domain)?;
        let address = node.address()?;
        let most = domain.info().max_address as usize;
        ensure!(
            (1..=most).contains(&address.len()),
            "an address of {} bytes, promised were at most {most}",
            address.len()
        );
        ensure!(
            node.address()? == address,
            "another call gives another address"
        );
        ensure!(
            !seen.contains(&address),
            "two endpoints have the same address"
        );
        seen.push(address);
        nodes.push(node);
    }
    Ok(())
}

fn resolve_twice(bench: &FabricBench) -> Verdict {
    let mut net = bench.net(2)?;
    let address = net.nodes[1].address()?;
    for _ in 0..3 {
        let peer = net.nodes[0].endpoint().resolve(&address)?;
        ensure!(
            peer == net.peer(0, 1),
            "peer {peer} now, {} before",
            net.peer(0, 1)
        );
    }
    ensure!(
        net.peer(0, 0) != net.peer(0, 1),
        "two addresses are one peer"
    );
    net.message(0, 1, 1, b"hello")
}

fn garbage_address(bench: &FabricBench) -> Verdict {
    let mut net = bench.net(1)?;
    let long = vec![0xff; 5000];
    for address in [&b""[..], b"\xff", &long] {
        match net.nodes[0].endpoint().resolve(address) {
            Err(Status::INVALID) => {}
            other => {
                return failed(format!("an address of {} bytes: {other:?}", address.len()));
            }
        }
    }
    net.message(0, 0, 1, b"still alive")
}

fn unknown_op(bench: &FabricBench) -> Verdict {
    let mut net = bench.net(2)?;
    for number in [0, 99] {
        let mut op = Op::send(net.peer(0, 1), 1, 0, 8);
        op.op = FabricOp(number);
        let status = net.run(0, &op)?.status;
        ensure!(
            [Status::INVALID, Status::NOT_SUPPORTED].contains(&status),
            "operation {number} completed as {status:?}"
        );
    }
    net.message(0, 1, 1, b"still alive")
}

fn too_long(bench: &FabricBench) -> Verdict {
    let mut net = bench.net(2)?;
    let info = *bench.open()?.info();
    let mut tried = 0;
    for (op, most) in [
        (FabricOp::SEND, info.max_message),
        (FabricOp::WRITE, info.max_rma),
        (FabricOp::READ, info.max_rma),
    ] {
        if most >= POOL as u64 {
            continue;
        }
        let op = Op {
            op,
            ..Op::send(net.peer(0, 1), 1, 0, most as usize + 1)
        };
        let status = net.run(0, &op)?.status;
        ensure!(status == Status::INVALID, "{op:?} completed as {status:?}");
        tried += 1;
    }
    if tried == 0 {
        return skipped("the maxima are larger than the test's memory");
    }
    net.message(0, 1, 1, b"still alive")
}

fn idle(bench: &FabricBench) -> Verdict {
    let mut net = bench.net(2)?;
    for _ in 0..100 {
        ensure!(net.progress()? == 0, "a completion without an operation");
    }
    Ok(())
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

fn leaks(bench: &FabricBench) -> Verdict {
    const ROUNDS: usize = 20;
    bench.net(2)?.message(0, 1, 1, b"warm")?;
    let before = descriptors();
    for _ in 0..ROUNDS {
        bench.net(2)?.message(0, 1, 1, b"again")?;
    }
    // Other threads of a test program may open a few meanwhile; a leak is one per round.
    let after = descriptors();
    ensure!(
        after < before + ROUNDS,
        "{before} descriptors before, {after} after {ROUNDS} rounds"
    );
    Ok(())
}

fn two_domains(bench: &FabricBench) -> Verdict {
    let mut request = bench.base.target.fabric_request();
    // Only one of them can have a fixed port.
    request.port = 0;
    let second = bench
        .base
        .instance
        .open_fabric(&request, CallOptions::default())?;
    let instance = &bench.base.instance;
    let nodes = vec![
        Node::new(instance, &bench.open()?)?,
        Node::new(instance, &second)?,
    ];
    let mut net = Net::of(nodes)?;
    net.message(0, 1, 7, b"from the first")?;
    net.message(1, 0, 8, b"from the second")
}
