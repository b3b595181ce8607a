//! Tagged messages.

use super::FabricBench;
use super::net::{Op, POOL};
use crate::abi::Status;
use crate::conformance::case::{Case, Verdict, ensure, failed, skipped};
use crate::conformance::pattern::difference;
use std::collections::VecDeque;

pub(super) const CASES: &[Case<FabricBench>] = &[
    Case {
        id: "message.sizes",
        name: "messages of every size from nothing to the maximum arrive whole",
        body: sizes,
    },
    Case {
        id: "message.to_self",
        name: "an endpoint can send to itself",
        body: to_self,
    },
    Case {
        id: "message.order",
        name: "messages between two endpoints arrive in the order sent",
        body: order,
    },
    Case {
        id: "message.tags",
        name: "a receive takes only messages whose tag matches outside the ignored bits",
        body: tags,
    },
    Case {
        id: "message.tag_bits",
        name: "all promised bits of a tag are carried",
        body: tag_bits,
    },
    Case {
        id: "message.unexpected",
        name: "a message that meets no receive is kept until one is offered",
        body: unexpected,
    },
    Case {
        id: "message.truncated",
        name: "a message longer than its receive completes as TRUNCATED and spares what is behind",
        body: truncated,
    },
    Case {
        id: "message.cancel",
        name: "a cancelled receive completes once as CANCELLED and takes no message",
        body: cancel,
    },
    Case {
        id: "message.cancel_unknown",
        name: "a cancel of what is not outstanding is NOT_FOUND",
        body: cancel_unknown,
    },
    Case {
        id: "message.back_pressure",
        name: "thousands of messages pass under back-pressure, none lost, none twice",
        body: back_pressure,
    },
];

fn sizes(bench: &FabricBench) -> Verdict {
    let mut net = bench.net(2)?;
    let mut random = bench.random(1);
    let most = (bench.open()?.info().max_message as usize).min(POOL / 2 - 64);
    for len in [
        0,
        1,
        7,
        8,
        63,
        64,
        65,
        1000,
        4096,
        4097,
        65536,
        1 << 20,
        most - 1,
        most,
    ] {
        if len <= most {
            let data = random.bytes(len);
            net.message(0, 1, len as u64, &data)?;
            net.message(1, 0, len as u64, &data)?;
        }
    }
    Ok(())
}

fn to_self(bench: &FabricBench) -> Verdict {
    let mut net = bench.net(1)?;
    for len in [0, 5, 10_000] {
        let data = bench.random(2).bytes(len);
        net.message(0, 0, 1, &data)?;
    }
    Ok(())
}

fn order(bench: &FabricBench) -> Verdict {
    const COUNT: usize = 400;
    let mut net = bench.net(2)?;
    let window = (bench.open()?.info().max_outstanding as usize).min(32);
    let most = bench.open()?.info().max_message as usize;
    let peer = net.peer(0, 1);
    let mut receives = VecDeque::new();
    let mut sends = VecDeque::new();
    let (mut sent, mut received) = (0, 0);
    while received < COUNT {
        while sends.len() < window && sent < COUNT {
            let at = sent % window * 8192;
            net.nodes[0].put(at, &(sent as u64).to_le_bytes());
            // Sizes vary, so that different paths of a provider could overtake each other.
            let len = [8, 5000, 100][sent % 3].min(most);
            let Some(send) = net.nodes[0].offer(&Op::send(peer, 3, at, len))? else {
                break;
            };
            sends.push_back(send);
            sent += 1;
        }
        while receives.len() < window && received + receives.len() < COUNT {
            let at = (received + receives.len()) % window * 8192;
            receives.push_back((net.start(1, &Op::recv(3, at, 8192))?, at));
        }
        if let Some((recv, at)) = receives.pop_front() {
            net.must(1, recv)?;
            let number = net.nodes[1].get(at, 8);
            if let Some(how) = difference(&number, &(received as u64).to_le_bytes()) {
                return failed(format!("message {received} is another one: {how}"));
            }
            received += 1;
        }
        if let Some(send) = sends.pop_front() {
            net.must(0, send)?;
        }
    }
    Ok(())
}

fn tags(bench: &FabricBench) -> Verdict {
    let mut net = bench.net(2)?;
    let peer = net.peer(0, 1);
    // Three receives wait; messages come in another order and find theirs.
    let exact = net.start(1, &Op::recv(0x11, 0, 64))?;
    let family = net.start(1, &Op::recv(0x2_0000, 64, 64).ignoring(0xffff))?;
    let other = net.start(1, &Op::recv(0x22, 128, 64))?;
    for (tag, recv) in [(0x2_1234, family), (0x22, other), (0x11, exact)] {
        net.nodes[0].put(0, &u64::to_le_bytes(tag));
        let send = net.start(0, &Op::send(peer, tag, 0, 8))?;
        let completion = net.must(1, recv)?;
        ensure!(
            completion.tag == tag,
            "the receive for {tag:#x} took a message with tag {:#x}",
            completion.tag
        );
        net.must(0, send)?;
    }
    for (offset, tag) in [(0, 0x11u64), (64, 0x2_1234), (128, 0x22)] {
        ensure!(
            net.nodes[1].get(offset, 8) == tag.to_le_bytes(),
            "the memory for tag {tag:#x} holds another message"
        );
    }
    // A message that matches nothing but the ignored family must wait for its own receive.
    let send = net.start(0, &Op::send(peer, 0x3_0001, 0, 8))?;
    let wrong = net.start(1, &Op::recv(0x2_0000, 0, 64).ignoring(0xffff))?;
    let right = net.start(1, &Op::recv(0x3_0000, 64, 64).ignoring(1))?;
    net.must(1, right)?;
    net.must(0, send)?;
    net.nodes[1].endpoint().cancel(wrong)?;
    let status = net.wait(1, wrong)?.status;
    ensure!(status == Status::CANCELLED, "the other receive: {status:?}");
    Ok(())
}

fn tag_bits(bench: &FabricBench) -> Verdict {
    let mut net = bench.net(2)?;
    let bits = bench.open()?.info().tag_bits;
    let all = u64::MAX >> (64 - bits);
    for tag in [
        0,
        1,
        1 << (bits - 1),
        all,
        all - 1,
        0x5555_5555_5555_5555 & all,
    ] {
        net.message(0, 1, tag, b"x")?;
    }
    // The highest bit alone tells two messages apart.
    let peer = net.peer(0, 1);
    let low = net.start(1, &Op::recv(5, 0, 8))?;
    let high = net.start(1, &Op::recv(5 | 1 << (bits - 1), 64, 8))?;
    let send = net.start(0, &Op::send(peer, 5 | 1 << (bits - 1), 0, 8))?;
    net.must(1, high)?;
    net.must(0, send)?;
    let send = net.start(0, &Op::send(peer, 5, 0, 8))?;
    net.must(1, low)?;
    net.must(0, send).map(drop)
}

fn unexpected(bench: &FabricBench) -> Verdict {
    let mut net = bench.net(2)?;
    let most = bench.open()?.info().max_message as usize;
    let peer = net.peer(0, 1);
    let mut sends = Vec::new();
    let lens: Vec<usize> = [0, 1, 100, 5000, 200_000]
        .map(|len: usize| len.min(most))
        .into();
    let mut offset = 0;
    let mut messages = Vec::new();
    for (n, len) in lens.iter().enumerate() {
        let data = bench.random(10 + n as u64).bytes(*len);
        net.nodes[0].put(offset, &data);
        sends.push(net.start(0, &Op::send(peer, n as u64, offset, *len))?);
        offset += len;
        messages.push(data);
    }
    for _ in 0..200 {
        net.progress()?;
    }
    // Offered in another order than they came.
    for (n, data) in messages.iter().enumerate().rev() {
        net.nodes[1].put(0, &vec![0xee; data.len()]);
        let recv = net.start(1, &Op::recv(n as u64, 0, POOL / 2))?;
        let completion = net.must(1, recv)?;
        ensure!(
            completion.len == data.len() as u64,
            "message {n} has {} bytes instead of {}",
            completion.len,
            data.len()
        );
        if let Some(how) = difference(&net.nodes[1].get(0, data.len()), data) {
            return failed(format!("message {n}: {how}"));
        }
    }
    for send in sends {
        net.must(0, send)?;
    }
    Ok(())
}

fn truncated(bench: &FabricBench) -> Verdict {
    if !bench.base.declares("truncation") {
        return skipped("the class does not declare the capability `truncation`");
    }
    let mut net = bench.net(2)?;
    let peer = net.peer(0, 1);
    let most = bench.open()?.info().max_message as usize;
    let data = bench.random(20).bytes(100_000.min(most));
    net.nodes[0].put(0, &data);
    for (room, expected) in [(10, true), (10, false), (0, true), (data.len() - 1, false)] {
        net.nodes[1].put(0, &vec![0xee; data.len()]);
        let (recv, send);
        if expected {
            recv = net.start(1, &Op::recv(1, 0, room))?;
            send = net.start(0, &Op::send(peer, 1, 0, data.len()))?;
        } else {
            send = net.start(0, &Op::send(peer, 1, 0, data.len()))?;
            for _ in 0..50 {
                net.progress()?;
            }
            recv = net.start(1, &Op::recv(1, 0, room))?;
        }
        let status = net.wait(1, recv)?.status;
        ensure!(
            status == Status::TRUNCATED,
            "{} bytes into {room}: {status:?}",
            data.len()
        );
        let sent = net.wait(0, send)?.status;
        ensure!(
            sent.is_ok() || sent == Status::TRUNCATED,
            "the sender of the truncated message: {sent:?}"
        );
        let behind = net.nodes[1].get(room, data.len() - room);
        ensure!(
            behind.iter().all(|b| *b == 0xee),
            "{} bytes into {room} changed the memory behind",
            data.len()
        );
    }
    net.message(0, 1, 2, b"still alive")
}

fn cancel(bench: &FabricBench) -> Verdict {
    let mut net = bench.net(2)?;
    let peer = net.peer(0, 1);
    for _ in 0..20 {
        net.nodes[1].put(0, &[0xee; 64]);
        let victim = net.start(1, &Op::recv(1, 0, 64))?;
        net.progress()?;
        net.nodes[1].endpoint().cancel(victim)?;
        let status = net.wait(1, victim)?.status;
        ensure!(status == Status::CANCELLED, "it completed as {status:?}");
        let recv = net.start(1, &Op::recv(1, 64, 64))?;
        let send = net.start(0, &Op::send(peer, 1, 0, 32))?;
        net.must(1, recv)?;
        net.must(0, send)?;
        ensure!(
            net.nodes[1].get(0, 64) == [0xee; 64],
            "the message went to the memory of the cancelled receive"
        );
    }
    Ok(())
}

fn cancel_unknown(bench: &FabricBench) -> Verdict {
    let mut net = bench.net(2)?;
    match net.nodes[0].endpoint().cancel(0xdead) {
        Err(Status::NOT_FOUND) => {}
        other => return failed(format!("cancel of an unknown operation: {other:?}")),
    }
    net.message(0, 1, 1, b"still alive")
}

fn back_pressure(bench: &FabricBench) -> Verdict {
    const COUNT: usize = 3000;
    const LEN: usize = 512;
    let mut net = bench.net(2)?;
    let peer = net.peer(0, 1);
    let (mut sent, mut received) = (0, 0);
    let mut receive = None;
    let mut random = bench.random(30);
    let start = std::time::Instant::now();
    while received < COUNT {
        // The sender pushes as hard as it is let, into memory it does not change any more.
        while sent < COUNT {
            let at = sent * LEN;
            net.nodes[0].put(at, &(sent as u64).to_le_bytes());
            if net.nodes[0].offer(&Op::send(peer, 9, at, LEN))?.is_none() {
                break;
            }
            sent += 1;
        }
        // The receiver is slow: one receive at a time, and not each round.
        if receive.is_none() && random.below(3) > 0 {
            receive = net.nodes[1].offer(&Op::recv(9, 0, LEN))?;
        }
        net.progress()?;
        if let Some(done) = receive.and_then(|user| net.nodes[1].take(user)) {
            ensure!(done.status.is_ok(), "receive {received}: {:?}", done.status);
            let number = net.nodes[1].get(0, 8);
            ensure!(
                number == (received as u64).to_le_bytes(),
                "message {received} is another one: {number:?}"
            );
            received += 1;
            receive = None;
        }
        ensure!(
            start.elapsed() < 6 * crate::conformance::wait::LIMIT,
            "{received} of {COUNT} messages within a minute"
        );
    }
    let start = std::time::Instant::now();
    while net.nodes[0].outstanding() > 0 {
        net.progress()?;
        ensure!(
            start.elapsed() < crate::conformance::wait::LIMIT,
            "{} sends never complete",
            net.nodes[0].outstanding()
        );
    }
    Ok(())
}
