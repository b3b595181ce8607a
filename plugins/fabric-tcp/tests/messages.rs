//! Tagged messages: delivery, order, matching, early messages, back-pressure, cancellation.

mod common;

use common::*;
use daos_plugin_api::abi::{FabricOp, FabricRequest, Status, WaitKind};
use daos_plugin_api::sdk::{FabricDomain, FabricEndpoint};
use fabric_tcp::Settings;
use proptest::prelude::*;
use std::time::Duration;

fn pair() -> (Node, Node) {
    let domain = domain();
    (open_node(&domain), open_node(&domain))
}

#[test]
fn a_message_arrives_with_its_tag() {
    let (mut a, mut b) = pair();
    let to_b = a.resolve(&b);
    let mut memory = vec![0; 100];
    let data = pattern(1, 64);
    b.submit(recv(10, 7, 0, &mut memory));
    a.submit(send(20, to_b, 7, &data));
    let got = finish(&mut [&mut a, &mut b], 1, 10);
    assert_eq!(
        (got.status, got.tag, got.len, got.op),
        (Status::OK, 7, 64, FabricOp::RECV)
    );
    assert_eq!(memory[..64], data);
    assert_eq!(memory[64..], [0; 36]);
    assert_eq!(a.finish(20).status, Status::OK);
}

#[test]
fn an_endpoint_can_write_to_itself() {
    let mut a = open_node(&domain());
    let address = a.endpoint.address();
    let me = a.endpoint.resolve(&address).unwrap();
    assert_eq!(a.endpoint.resolve(&address), Ok(me));
    let mut memory = [0; 5];
    a.submit(send(1, me, 3, b"hello"));
    a.submit(recv(2, 3, 0, &mut memory));
    assert_eq!(a.finish(2).len, 5);
    assert_eq!(&memory, b"hello");
}

#[test]
fn both_may_call_each_other_at_once() {
    for _ in 0..20 {
        let (mut a, mut b) = pair();
        let (to_b, to_a) = (a.resolve(&b), b.resolve(&a));
        let (mut from_a, mut from_b) = ([0; 1], [0; 1]);
        a.submit(send(1, to_b, 1, b"a"));
        b.submit(send(1, to_a, 1, b"b"));
        a.submit(recv(2, 1, 0, &mut from_b));
        b.submit(recv(2, 1, 0, &mut from_a));
        finish(&mut [&mut a, &mut b], 0, 2);
        finish(&mut [&mut a, &mut b], 1, 2);
        assert_eq!((&from_a, &from_b), (b"a", b"b"));
    }
}

/// Connections that this host has at a node's listening port.
fn accepted_by(node: &Node) -> usize {
    let address = node.endpoint.address();
    let port = u16::from_be_bytes([address[2], address[3]]);
    let ours = format!(":{port:04X}");
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let established = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[1].ends_with(&ours) && fields[3] == "01"
    };
    table.lines().skip(1).filter(established).count()
}

#[test]
fn answers_take_the_connection_of_the_question() {
    let (mut a, mut b) = pair();
    let to_b = a.resolve(&b);
    let mut memory = [0; 8];
    for round in 0..4 {
        b.submit(recv(1, 1, 0, &mut memory));
        a.submit(send(2, to_b, 1, b"question"));
        finish(&mut [&mut a, &mut b], 1, 1);
        assert_eq!(&memory, b"question");
        let to_a = b.resolve(&a);
        a.submit(recv(3, 2, 0, &mut memory));
        b.submit(send(4, to_a, 2, b"answer"));
        finish(&mut [&mut a, &mut b], 0, 3);
        assert_eq!(&memory[..6], b"answer");
        b.finish(4);
        a.finish(2);
        assert_eq!((accepted_by(&a), accepted_by(&b)), (0, 1));
        // Forgetting a peer leaves it its own connection.
        if round % 2 == 0 {
            b.endpoint.release(to_a).unwrap();
        }
    }
    // Once that is gone, the way back is a connection of its own.
    a.endpoint.release(to_b).unwrap();
    let to_a = b.resolve(&a);
    a.submit(recv(5, 2, 0, &mut memory));
    idle(&mut [&mut a, &mut b], Duration::from_millis(50));
    b.submit(send(6, to_a, 2, b"again"));
    finish(&mut [&mut a, &mut b], 0, 5);
    assert_eq!((accepted_by(&a), accepted_by(&b)), (1, 0));
}

#[test]
fn a_long_message_is_cut_and_the_next_one_is_whole() {
    let (mut a, mut b) = pair();
    let to_b = a.resolve(&b);
    let long = pattern(1, 300_000);
    let next = pattern(2, 1000);
    let mut small = vec![0; 100_000];
    let mut whole = vec![0; 1000];
    // Once straight into the receive, once held for it.
    for early in [false, true] {
        if early {
            a.submit(send(1, to_b, 5, &long));
            idle(&mut [&mut a, &mut b], Duration::from_millis(50));
            b.submit(recv(3, 5, 0, &mut small));
        } else {
            b.submit(recv(3, 5, 0, &mut small));
            a.submit(send(1, to_b, 5, &long));
        }
        a.submit(send(2, to_b, 6, &next));
        b.submit(recv(4, 6, 0, &mut whole));
        let cut = finish(&mut [&mut a, &mut b], 1, 3);
        assert_eq!((cut.status, cut.len), (Status::TRUNCATED, 100_000));
        assert_eq!(small, long[..100_000]);
        assert_eq!(finish(&mut [&mut a, &mut b], 1, 4).status, Status::OK);
        assert_eq!(whole, next);
        finish(&mut [&mut a, &mut b], 0, 2);
        small.fill(0);
        whole.fill(0);
    }
}

#[test]
fn early_messages_wait_in_order() {
    let (mut a, mut b) = pair();
    let to_b = a.resolve(&b);
    let data: Vec<_> = (0..200)
        .map(|n| pattern(n, (n as usize * 97) % 9000))
        .collect();
    for (n, bytes) in data.iter().enumerate() {
        a.submit(send(n as u64, to_b, n as u64 % 2, bytes));
    }
    idle(&mut [&mut a, &mut b], Duration::from_millis(100));
    assert_eq!(a.done.len(), 200, "held by the receiver, so all are sent");
    let mut memory = vec![0; 10_000];
    // First the odd ones, then whatever is left.
    for n in (1..200).step_by(2).chain((0..200).step_by(2)) {
        let (tag, ignore) = if n % 2 == 1 { (1, 0) } else { (0, ANY) };
        b.submit(recv(1000, tag, ignore, &mut memory));
        let got = finish(&mut [&mut a, &mut b], 1, 1000);
        assert_eq!(got.len as usize, data[n].len());
        assert_eq!(memory[..got.len as usize], data[n], "message {n}");
    }
}

#[test]
fn a_peer_without_receives_is_slowed_down_and_memory_access_goes_on() {
    let domain = domain_with(Settings {
        unexpected_bytes: 5 << 20,
        unexpected_bytes_per_peer: 5 << 20,
        ..Settings::default()
    });
    let (mut a, mut b) = (open_node(&domain), open_node(&domain));
    let to_b = a.resolve(&b);
    let data = pattern(3, 1 << 20);
    let mut shared = pattern(4, 4096);
    let region = register(
        &domain,
        &mut shared,
        daos_plugin_api::abi::FABRIC_REMOTE_READ,
    );
    for n in 0..64 {
        a.submit(send(n, to_b, n, &data));
    }
    idle(&mut [&mut a, &mut b], Duration::from_millis(300));
    let sent = a.done.len();
    assert!(sent >= 4, "held messages are sent: {sent}");
    assert!(
        sent < 48,
        "the sender was not slowed down: {sent} of 64 MiB are gone"
    );
    let mut copy = vec![0; 4096];
    let from = Remote {
        peer: to_b,
        key: region.key,
        addr: region.base,
    };
    a.submit(read(100, from, &mut copy));
    assert_eq!(finish(&mut [&mut a, &mut b], 0, 100).status, Status::OK);
    assert_eq!(copy, pattern(4, 4096));
    // Nothing to do: the stalled connection must not keep the thread awake.
    idle(&mut [&mut a, &mut b], Duration::from_millis(50));
    assert_eq!(b.endpoint.arm_wait().kind, WaitKind::FD);
    assert!(!readable(b.endpoint.arm_wait().fd));
    let mut memory = vec![0; 1 << 20];
    for n in 0..64 {
        memory.fill(0);
        b.submit(recv(200, n, 0, &mut memory));
        assert_eq!(finish(&mut [&mut a, &mut b], 1, 200).status, Status::OK);
        assert!(memory == data, "message {n} differs");
    }
    drop(region);
}

fn readable(fd: i32) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    // SAFETY: the endpoint keeps the descriptor open.
    let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() == 1
}

#[test]
fn the_descriptor_announces_what_comes() {
    let (mut a, mut b) = pair();
    let to_b = a.resolve(&b);
    let mut memory = [0; 8];
    b.submit(recv(1, 0, ANY, &mut memory));
    assert_eq!(b.endpoint.arm_wait().kind, WaitKind::FD);
    assert!(!readable(b.endpoint.arm_wait().fd));
    a.submit(send(2, to_b, 0, b"wake up!"));
    let mut slept = 0;
    while b.take(1).is_none() {
        a.poll();
        let wait = b.endpoint.arm_wait();
        if wait.kind == WaitKind::FD && !readable(wait.fd) {
            slept += 1;
            assert!(slept < 10_000_000, "never announced");
            continue;
        }
        b.poll();
    }
    assert_eq!(&memory, b"wake up!");
}

#[test]
fn a_full_endpoint_takes_a_part() {
    let (mut a, mut b) = pair();
    let limit = domain().info().max_outstanding as usize;
    let mut memory = vec![0; 8];
    let many: Vec<FabricRequest> = (0..limit as u64 + 50)
        .map(|n| recv(n, n, 0, &mut memory))
        .collect();
    assert_eq!(b.try_submit(&many), limit);
    assert_eq!(b.try_submit(&many[limit..]), 0);
    let to_b = a.resolve(&b);
    a.submit(send(1, to_b, 5, b"x"));
    finish(&mut [&mut a, &mut b], 1, 5);
    assert_eq!(b.try_submit(&many[limit..]), 1);
    let sends: Vec<_> = (0..limit as u64 + 50)
        .map(|n| send(n, to_b, 1 << 40, b""))
        .collect();
    assert!(a.try_submit(&sends) <= limit);
}

#[test]
fn a_receive_can_be_cancelled() {
    let (mut a, mut b) = pair();
    let to_b = a.resolve(&b);
    let (mut first, mut second) = ([0; 4], [0; 4]);
    b.submit(recv(1, 7, 0, &mut first));
    b.submit(recv(2, 7, 0, &mut second));
    assert_eq!(b.endpoint.cancel(1), Ok(()));
    assert_eq!(b.endpoint.cancel(9), Err(Status::NOT_FOUND));
    assert_eq!(b.finish(1).status, Status::CANCELLED);
    assert_eq!(b.endpoint.cancel(1), Err(Status::NOT_FOUND));
    a.submit(send(3, to_b, 7, b"data"));
    assert_eq!(finish(&mut [&mut a, &mut b], 1, 2).status, Status::OK);
    assert_eq!((&first, &second), (&[0; 4], b"data"));
}

#[test]
fn a_waiting_send_can_be_cancelled() {
    let (mut a, mut b) = pair();
    let to_b = a.resolve(&b);
    // Not polled: the connection is not even up, so both wait.
    a.submit(send(1, to_b, 1, b"one"));
    a.submit(send(2, to_b, 2, b"two"));
    assert_eq!(a.endpoint.cancel(1), Ok(()));
    assert_eq!(a.finish(1).status, Status::CANCELLED);
    let mut memory = [0; 3];
    b.submit(recv(3, 0, ANY, &mut memory));
    assert_eq!(finish(&mut [&mut a, &mut b], 1, 3).tag, 2);
    assert_eq!(finish(&mut [&mut a, &mut b], 0, 2).status, Status::OK);
}

#[test]
fn malformed_operations_are_completed_as_such() {
    let (mut a, b) = pair();
    let to_b = a.resolve(&b);
    let data = [0; 8];
    let too_long = FabricRequest {
        len: domain().info().max_message as usize + 1,
        ..send(1, to_b, 0, &data)
    };
    let null = FabricRequest {
        ptr: std::ptr::null_mut(),
        ..send(2, to_b, 0, &data)
    };
    let unknown = FabricRequest {
        op: FabricOp(77),
        ..send(3, to_b, 0, &data)
    };
    for (request, status) in [
        (too_long, Status::INVALID),
        (null, Status::INVALID),
        (unknown, Status::INVALID),
        (send(4, to_b + 1, 0, &data), Status::NOT_FOUND),
    ] {
        a.submit(request);
        assert_eq!(a.finish(request.user).status, status, "{request:?}");
    }
    assert_eq!(a.endpoint.resolve(b"nonsense"), Err(Status::INVALID));
    assert_eq!(a.endpoint.release(to_b + 1), Err(Status::NOT_FOUND));
}

#[test]
fn many_peers_talk_to_one_and_get_their_answers() {
    const PEERS: usize = 64;
    let domain = domain();
    let mut server = open_node(&domain);
    let mut clients: Vec<Node> = (0..PEERS).map(|_| open_node(&domain)).collect();
    let mut memory = vec![0u8; 64];
    let to_server: Vec<u64> = clients.iter_mut().map(|c| c.resolve(&server)).collect();
    let addresses: Vec<_> = clients.iter().map(|c| c.endpoint.address()).collect();
    let mut answers = vec![[0u8; 8]; PEERS];
    for round in 0..3u64 {
        for (n, client) in clients.iter_mut().enumerate() {
            client.submit(recv(1, round, 0, &mut answers[n]));
            client.submit(send(2, to_server[n], n as u64, &addresses[n]));
        }
        for _ in 0..PEERS {
            server.submit(recv(1, 0, ANY, &mut memory));
            let got = loop {
                for client in &mut clients {
                    client.poll();
                }
                server.poll();
                if let Some(got) = server.take(1) {
                    break got;
                }
            };
            let back = server
                .endpoint
                .resolve(&memory[..got.len as usize])
                .unwrap();
            let answer = (got.tag * 3 + round).to_le_bytes();
            server.submit(send(5, back, round, &answer));
            // Waits, so that `answer` may go.
            loop {
                server.poll();
                for client in &mut clients {
                    client.poll();
                }
                if server.take(5).is_some() {
                    break;
                }
            }
        }
        for (n, client) in clients.iter_mut().enumerate() {
            let got = finish(&mut [client, &mut server], 0, 1);
            assert_eq!(got.status, Status::OK);
            assert_eq!(u64::from_le_bytes(answers[n]), n as u64 * 3 + round);
        }
        clients.iter_mut().for_each(|client| client.done.clear());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Any sizes, any moment of posting: every message whole, once and in order.
    #[test]
    fn any_sizes_arrive_in_order(
        sizes in prop::collection::vec(prop_oneof![0usize..200, 0usize..=1 << 20], 1..24),
        early in 0usize..24,
        window in 1usize..8,
    ) {
        let (mut a, mut b) = pair();
        let to_b = a.resolve(&b);
        let data: Vec<_> =
            sizes.iter().enumerate().map(|(n, &len)| pattern(n as u64, len)).collect();
        let mut memory = vec![vec![0u8; 1 << 20]; window];
        let (mut sent, mut posted, mut received) = (0, 0, 0);
        while received < data.len() {
            if sent < data.len() {
                sent += a.try_submit(&[send(sent as u64, to_b, 1, &data[sent])]);
            }
            if sent > early.min(data.len() - 1) && posted < data.len()
                && posted - received < window
            {
                b.submit(recv(posted as u64, 1, 0, &mut memory[posted % window]));
                posted += 1;
            }
            a.poll();
            b.poll();
            while received < posted && let Some(got) = b.take(received as u64) {
                prop_assert_eq!(got.status, Status::OK);
                prop_assert_eq!(got.len as usize, data[received].len());
                let bytes = &memory[received % window][..got.len as usize];
                prop_assert!(bytes == data[received], "message {} differs", received);
                received += 1;
            }
        }
    }
}

#[test]
fn two_threads_play_ping_pong() {
    let domain = domain();
    let domain = &domain;
    let (tell, hear) = std::sync::mpsc::channel::<Vec<u8>>();
    let (back, answer) = std::sync::mpsc::channel::<Vec<u8>>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut b = open_node(domain);
            tell.send(b.endpoint.address()).unwrap();
            let to_a = b.endpoint.resolve(&answer.recv().unwrap()).unwrap();
            let mut memory = vec![0; 70_000];
            for n in 0..300 {
                b.submit(recv(1, n, 0, &mut memory));
                let len = b.finish(1).len as usize;
                b.submit(send(2, to_a, n, &memory[..len]));
                assert_eq!(b.finish(2).status, Status::OK);
            }
        });
        let mut a = open_node(domain);
        back.send(a.endpoint.address()).unwrap();
        let to_b = a.endpoint.resolve(&hear.recv().unwrap()).unwrap();
        let mut memory = vec![0; 70_000];
        for n in 0..300u64 {
            let data = pattern(n, n as usize * 229);
            a.submit(recv(1, n, 0, &mut memory));
            a.submit(send(2, to_b, n, &data));
            let got = a.finish(1);
            assert_eq!(memory[..got.len as usize], data);
            a.finish(2);
        }
    });
}
