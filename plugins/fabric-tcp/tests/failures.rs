//! What goes wrong: peers that die, come back, or send nonsense.

mod common;

use common::*;
use daos_plugin_api::abi::{FABRIC_REMOTE_READ, FABRIC_REMOTE_WRITE, Status};
use daos_plugin_api::control::FabricOpenRequest;
use daos_plugin_api::sdk::FabricEndpoint;
use fabric_tcp::{Settings, TcpDomain};
use proptest::prelude::*;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Where an endpoint listens, read from its address (layout: version, family, port, IPv4).
fn socket_of(node: &Node) -> SocketAddr {
    let bytes = node.endpoint.address();
    let port = u16::from_be_bytes([bytes[2], bytes[3]]);
    SocketAddr::from(([bytes[4], bytes[5], bytes[6], bytes[7]], port))
}

fn incarnation_of(node: &Node) -> u64 {
    let bytes = node.endpoint.address();
    u64::from_be_bytes(bytes[8..16].try_into().unwrap())
}

/// The first bytes of a connection to `node`.
fn greeting(node: &Node, lane: u8) -> Vec<u8> {
    let mut bytes = b"DAOS/tcp\x01".to_vec();
    bytes.extend([lane, 0, 0, 0, 0, 0, 0]);
    bytes.extend(incarnation_of(node).to_le_bytes());
    bytes.extend(1u64.to_le_bytes());
    bytes
}

/// One frame header: kind, id, length, place, key.
fn frame(kind: u8, id: u64, len: u64, place: u64, key: u64) -> Vec<u8> {
    let mut bytes = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    for value in [id, len, place, key] {
        bytes.extend(value.to_le_bytes());
    }
    bytes
}

fn dial(node: &Node) -> TcpStream {
    let stream = TcpStream::connect(socket_of(node)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(5)))
        .unwrap();
    stream
}

/// Polls the node until it has closed the connection; returns what it had sent.
fn until_closed(node: &mut Node, stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    for _ in 0..2000 {
        node.poll();
        match stream.read(&mut buffer) {
            Ok(0) => return answer,
            Ok(count) => answer.extend(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return answer,
        }
    }
    panic!("the connection is still open");
}

/// A message still gets through to the node.
fn works(domain: &TcpDomain, node: &mut Node) {
    let mut other = open_node(domain);
    let to_node = other.resolve(node);
    let mut memory = [0; 4];
    node.submit(recv(901, 77, 0, &mut memory));
    other.submit(send(902, to_node, 77, b"fine"));
    let got = finish(&mut [&mut other, node], 1, 901);
    assert_eq!((got.status, &memory), (Status::OK, b"fine"));
}

#[test]
fn a_dead_peer_is_unreachable() {
    let domain = domain();
    let (mut a, mut b) = (open_node(&domain), open_node(&domain));
    let to_b = a.resolve(&b);
    let mut target = vec![0; 4096];
    let region = register(
        &domain,
        &mut target,
        FABRIC_REMOTE_READ | FABRIC_REMOTE_WRITE,
    );
    let place = Remote {
        peer: to_b,
        key: region.key,
        addr: 0,
    };
    let mut memory = [0; 1];
    b.submit(recv(1, 1, 0, &mut memory));
    a.submit(send(1, to_b, 1, b"x"));
    finish(&mut [&mut a, &mut b], 1, 1);
    a.finish(1);
    // Outstanding when it dies: sent and unanswered, or not sent at all.
    let mut copy = vec![0; 4096];
    let big = vec![1; 4 << 20];
    a.submit(read(2, place, &mut copy));
    a.submit(write(3, place, &copy.clone()));
    for n in 4..20 {
        a.submit(send(n, to_b, 9, &big));
    }
    for _ in 0..10 {
        a.poll();
    }
    drop(b);
    for n in [2, 3].into_iter().chain(13..20) {
        assert_eq!(a.finish(n).status, Status::UNREACHABLE, "operation {n}");
    }
    // Operations that start later fail as well, and nothing hangs.
    a.submit(send(30, to_b, 1, b"x"));
    a.submit(read(31, place, &mut copy));
    assert_eq!(a.finish(30).status, Status::UNREACHABLE);
    assert_eq!(a.finish(31).status, Status::UNREACHABLE);
    drop(region);
}

#[test]
fn a_restarted_peer_is_another_one() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let request = FabricOpenRequest {
        provider: "tcp".to_owned(),
        interface: "127.0.0.1".to_owned(),
        port: free,
        ..Default::default()
    };
    let fixed = TcpDomain::open(&request, Settings::default()).unwrap();
    let mut a = open_node(&domain());
    let mut b = open_node(&fixed);
    let to_old = a.resolve(&b);
    let place = socket_of(&b);
    let mut memory = [0; 1];
    b.submit(recv(1, 1, 0, &mut memory));
    a.submit(send(1, to_old, 1, b"1"));
    finish(&mut [&mut a, &mut b], 1, 1);
    a.finish(1);
    drop(b);
    let mut b = open_node(&fixed);
    assert_eq!(socket_of(&b), place, "the port is free again at once");
    b.submit(recv(1, 1, 0, &mut memory));
    // What is for the old one does not reach the new one. The first send may still find the old
    // connection, whose end is not noticed yet: it is complete once the kernel has it.
    a.submit(send(2, to_old, 1, b"2"));
    let first = finish(&mut [&mut a, &mut b], 0, 2).status;
    assert!(
        [Status::OK, Status::UNREACHABLE].contains(&first),
        "{first}"
    );
    idle(&mut [&mut a, &mut b], Duration::from_millis(20));
    a.submit(send(3, to_old, 1, b"3"));
    assert_eq!(
        finish(&mut [&mut a, &mut b], 0, 3).status,
        Status::UNREACHABLE
    );
    assert!(b.done.is_empty());
    let to_new = a.resolve(&b);
    assert_ne!(to_new, to_old);
    a.submit(send(4, to_new, 1, b"4"));
    assert_eq!(finish(&mut [&mut a, &mut b], 1, 1).status, Status::OK);
    assert_eq!(&memory, b"4");
}

#[test]
fn ports_count_up_from_the_first() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let request = FabricOpenRequest {
        provider: "tcp".to_owned(),
        interface: "lo".to_owned(),
        port: free,
        ..Default::default()
    };
    let domain = TcpDomain::open(&request, Settings::default()).unwrap();
    let nodes: Vec<_> = (0..4).map(|_| open_node(&domain)).collect();
    let ports: Vec<_> = nodes.iter().map(|node| socket_of(node).port()).collect();
    assert!(
        ports[0] >= free && ports.is_sorted(),
        "{ports:?} from {free}"
    );
    assert!(ports[3] < free + 100, "{ports:?} from {free}");
}

#[test]
fn a_released_peer_is_forgotten() {
    let domain = domain();
    let (mut a, mut b) = (open_node(&domain), open_node(&domain));
    let to_b = a.resolve(&b);
    let data = vec![7; 4 << 20];
    for n in 0..30 {
        a.submit(send(n, to_b, 1, &data));
    }
    idle(&mut [&mut a, &mut b], Duration::from_millis(100));
    let sent = a.done.len() as u64;
    assert!(sent < 30);
    a.done.clear();
    assert_eq!(a.endpoint.release(to_b), Ok(()));
    for n in sent..30 {
        assert_eq!(a.finish(n).status, Status::CANCELLED);
    }
    a.submit(send(50, to_b, 1, b"x"));
    assert_eq!(a.finish(50).status, Status::NOT_FOUND);
    let again = a.resolve(&b);
    assert_ne!(again, to_b);
    let mut memory = [0; 1];
    b.submit(recv(1, 2, 0, &mut memory));
    a.submit(send(51, again, 2, b"y"));
    assert_eq!(finish(&mut [&mut a, &mut b], 1, 1).status, Status::OK);
}

/// The sender dies in the middle of a message: the receive gets the next one instead.
#[test]
fn a_message_that_breaks_off_leaves_its_receive_posted() {
    let domain = domain();
    let mut node = open_node(&domain);
    let mut memory = [0u8; 4];
    for early in [true, false] {
        if early {
            node.submit(recv(901, 77, 0, &mut memory));
        }
        let mut stream = dial(&node);
        stream.write_all(&greeting(&node, 1)).unwrap();
        stream.write_all(&frame(1, 0, 1000, 77, 0)).unwrap();
        stream.write_all(&[9; 10]).unwrap();
        idle(&mut [&mut node], Duration::from_millis(50));
        if !early {
            node.submit(recv(901, 77, 0, &mut memory));
        }
        idle(&mut [&mut node], Duration::from_millis(20));
        drop(stream);
        idle(&mut [&mut node], Duration::from_millis(50));
        assert!(node.done.is_empty(), "completed with half a message");
        let mut other = open_node(&domain);
        let to_node = other.resolve(&node);
        other.submit(send(1, to_node, 77, b"all!"));
        assert_eq!(
            finish(&mut [&mut other, &mut node], 1, 901).status,
            Status::OK
        );
        assert_eq!(&memory, b"all!");
    }
    // And one whose cancellation was asked for meanwhile ends cancelled.
    node.submit(recv(5, 78, 0, &mut memory));
    let mut stream = dial(&node);
    stream.write_all(&greeting(&node, 1)).unwrap();
    stream.write_all(&frame(1, 0, 1000, 78, 0)).unwrap();
    idle(&mut [&mut node], Duration::from_millis(50));
    assert_eq!(node.endpoint.cancel(5), Ok(()));
    drop(stream);
    assert_eq!(node.finish(5).status, Status::CANCELLED);
}

#[test]
fn nonsense_closes_its_connection_and_no_other() {
    let domain = domain();
    let mut node = open_node(&domain);
    let (message, rma) = (greeting(&node, 1), greeting(&node, 2));
    let mut other_incarnation = message.clone();
    other_incarnation[16] ^= 1;
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "another protocol",
            b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n".to_vec(),
        ),
        ("another lane", greeting(&node, 3)),
        ("another incarnation", other_incarnation),
        (
            "an unknown frame",
            [message.clone(), frame(9, 0, 0, 0, 0)].concat(),
        ),
        (
            "a message that is too long",
            [message.clone(), frame(1, 0, 5 << 20, 1, 0)].concat(),
        ),
        (
            "an endless message",
            [message.clone(), frame(1, 0, u64::MAX, 1, 0)].concat(),
        ),
        (
            "memory access among messages",
            [message.clone(), frame(2, 1, 8, 0, 1)].concat(),
        ),
        (
            "a message among memory access",
            [rma.clone(), frame(1, 0, 8, 0, 0)].concat(),
        ),
        (
            "a response from a requester",
            [rma.clone(), frame(6, 1, 0, 0, 0)].concat(),
        ),
        (
            "data from a requester",
            [rma.clone(), frame(4, 1 << 32, 8, 0, 0)].concat(),
        ),
        (
            "a read that is too long",
            [rma.clone(), frame(2, 1, 2 << 30, 0, 1)].concat(),
        ),
        (
            "a field that must be zero",
            [message.clone(), frame(1, 5, 8, 0, 0)].concat(),
        ),
    ];
    for (name, bytes) in cases {
        let mut stream = dial(&node);
        stream.write_all(&bytes).unwrap();
        until_closed(&mut node, &mut stream);
        assert!(node.done.is_empty(), "{name}");
        works(&domain, &mut node);
        node.done.clear();
    }
}

/// A peer that answers with nonsense is as good as dead, and cannot make operations succeed.
#[test]
fn false_answers_do_not_count() {
    let mut welcome = b"DAOS/ack\x01\x01".to_vec();
    welcome.extend([0; 6]);
    let first = 1u64 << 32; // number of the first operation of an endpoint
    let answers = [
        ("silence and the end", vec![]),
        ("no answer of this protocol", vec![0x55; 64]),
        ("its own greeting", b"DAOS/tcp\x01\x01\0\0\0\0\0\0".to_vec()),
        (
            "no data",
            [welcome.clone(), frame(5, first, 0, 0, 0)].concat(),
        ),
        (
            "other data",
            [welcome.clone(), frame(4, first, 7, 0, 0), vec![1; 7]].concat(),
        ),
        (
            "another operation",
            [welcome.clone(), frame(5, first + 1, 0, 0, 0)].concat(),
        ),
        (
            "another kind",
            [welcome.clone(), frame(6, first, 0, 0, 0)].concat(),
        ),
        (
            "a request",
            [welcome.clone(), frame(2, first, 8, 0, 0)].concat(),
        ),
    ];
    for (name, answer) in answers {
        let mut a = open_node(&domain());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut address = vec![1, 4];
        address.extend(port.to_be_bytes());
        address.extend([127, 0, 0, 1]);
        address.extend(99u64.to_be_bytes());
        let liar = a.endpoint.resolve(&address).unwrap();
        let mut memory = [0u8; 8];
        a.submit(read(
            1,
            Remote {
                peer: liar,
                key: 1,
                addr: 0,
            },
            &mut memory,
        ));
        let (mut stream, _) = listener.accept().unwrap();
        let mut hello = [0; 32];
        stream
            .set_read_timeout(Some(Duration::from_millis(5)))
            .unwrap();
        while stream.read_exact(&mut hello).is_err() {
            a.poll();
        }
        if answer.starts_with(b"DAOS/ack") {
            stream.write_all(&answer[..16]).unwrap();
            let mut request = [0; 40];
            while stream.read_exact(&mut request).is_err() {
                a.poll();
            }
            stream.write_all(&answer[16..]).unwrap();
        } else {
            stream.write_all(&answer).unwrap();
        }
        if answer.is_empty() {
            drop(stream);
        }
        assert_eq!(a.finish(1).status, Status::UNREACHABLE, "{name}");
        assert_eq!(memory, [0; 8], "{name}");
    }
}

#[test]
fn silent_connections_do_not_keep_others_out() {
    let domain = domain();
    let mut node = open_node(&domain);
    let silent: Vec<TcpStream> = (0..200)
        .map(|_| {
            node.poll();
            dial(&node)
        })
        .collect();
    idle(&mut [&mut node], Duration::from_millis(50));
    works(&domain, &mut node);
    let closed = silent
        .iter()
        .filter(|stream| matches!((&**stream).read(&mut [0]), Ok(0)))
        .count();
    assert!(
        closed >= 130,
        "only {closed} of 200 strangers were shown out"
    );
}

/// Someone who asks for a lot of memory and never reads the answers.
#[test]
fn a_reader_that_does_not_read_is_not_answered_without_end() {
    let domain = domain();
    let mut node = open_node(&domain);
    let mut shared = vec![5u8; 1 << 20];
    let region = register(&domain, &mut shared, FABRIC_REMOTE_READ);
    let mut stream = dial(&node);
    stream.set_nonblocking(true).unwrap();
    let mut bytes = greeting(&node, 2);
    for id in 0..200_000 {
        bytes.extend(frame(2, id, 1 << 20, 0, region.key));
    }
    let mut sent = 0;
    for _ in 0..3000 {
        if let Ok(count) = stream.write(&bytes[sent..]) {
            sent += count;
        }
        node.poll();
    }
    assert!(
        sent < bytes.len() - (1 << 20),
        "all requests were taken in: {sent}"
    );
    works(&domain, &mut node);
    drop(stream);
    works(&domain, &mut node);
    drop(region);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Any bytes behind a good greeting, whole frames with changed bytes among them: the
    /// endpoint neither panics nor stops working, and memory it did not offer stays as it is.
    #[test]
    fn any_bytes_do_no_harm(
        lane in 1u8..=2,
        parts in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..200),
                (1u8..8, 0u64..4, 0u64..20_000, any::<u64>(), any::<u64>())
                    .prop_map(|(kind, id, len, place, key)| frame(kind, id, len, place, key)),
                (0u64..300).prop_map(|len| {
                    [frame(1, 0, len, 3, 0), vec![1; len as usize]].concat()
                }),
            ],
            1..12,
        ),
        cut in any::<prop::sample::Index>(),
    ) {
        let domain = domain();
        let mut node = open_node(&domain);
        let mut shared = vec![5u8; 1000];
        let region = register(&domain, &mut shared, FABRIC_REMOTE_READ | FABRIC_REMOTE_WRITE);
        let bytes = [vec![greeting(&node, lane)], parts].concat().concat();
        let mut stream = dial(&node);
        let cut = cut.index(bytes.len());
        for half in [&bytes[..cut], &bytes[cut..]] {
            // The endpoint may have hung up already.
            let _ = stream.write_all(half);
            for _ in 0..20 {
                node.poll();
            }
        }
        drop(stream);
        works(&domain, &mut node);
        drop(region);
        prop_assert!(shared.iter().all(|&byte| byte == 5));
    }
}
