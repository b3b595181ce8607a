//! Peers that send anything: bytes at the engine's sockets that no provider would send, messages that are no
//! requests, requests for memory that is not there. Nobody else notices.

use crate::data::bench;
use crate::soak::{Random, rounds};
use daos_e2e::peer::{Fabric, Peer, dkey_of, put, put_rma};
use daos_e2e::{Place, Server, Site, not_run};
use daos_wire::{REQUEST_MAX, RmaDescriptor, WireStatus};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;
use uuid::Uuid;

fn bytes(random: &mut Random, len: u64) -> Vec<u8> {
    (0..len).map(|_| random.below(256) as u8).collect()
}

fn site() -> Site {
    let mut site = Site::with_file();
    site.tell_addresses();
    site
}

fn served(site: &Site) -> (Server<'_>, Place) {
    let mut server = site.start();
    server.make_ready();
    let place = site.place();
    (server, place)
}

/// The engine is the one that it was, and serves this peer and everybody else.
#[track_caller]
fn assert_unharmed(site: &Site, server: &Server<'_>, pid: u32, peer: &mut Peer, sequence: u64) {
    let said = peer.ask(&put(sequence, &dkey_of(0, 2), b"value"));
    assert_eq!(said.status, WireStatus::OK, "{said:?}");
    bench(site);
    assert_eq!(server.engine_pid(0), pid, "the engine died");
}

#[test]
fn messages_that_are_no_requests_are_refused_or_dropped() {
    let mut random = Random::new("messages_that_are_no_requests_are_refused_or_dropped");
    let site = site();
    let (server, place) = served(&site);
    let pid = server.engine_pid(0);
    let fabric = Fabric::open(&place);
    let mut peer = Peer::new(&fabric, &place, 0, Uuid::new_v4());
    let dkey = dkey_of(0, 2);
    assert_eq!(peer.ask(&put(1, &dkey, b"first")).status, WireStatus::OK);

    // Cut off anywhere, and longer than it says.
    let whole = peer.encoded(&put(2, &dkey, b"a value that is cut off somewhere"));
    for len in 0..whole.len() {
        peer.send_bytes(&whole[..len]);
        peer.idle(Duration::from_micros(200));
    }
    peer.send_bytes(&[&whole[..], &[0; 64]].concat());
    assert_unharmed(&site, &server, pid, &mut peer, 3);

    // Anything at all.
    for _ in 0..rounds(300, 20_000) {
        let len = random.below(REQUEST_MAX as u64 + 1);
        let nonsense = bytes(&mut random, len);
        peer.send_bytes(&nonsense);
        peer.idle(Duration::from_micros(200));
    }
    assert_unharmed(&site, &server, pid, &mut peer, 4);

    // Nearly a request. Its own address stays: answers shall go nowhere else.
    let address = peer.address().to_vec();
    let own = whole
        .windows(address.len())
        .position(|part| part == address);
    let own = own.expect("requests carry their sender's address");
    let own = own..own + address.len();
    for _ in 0..rounds(300, 20_000) {
        let mut nearly = whole.clone();
        for _ in 0..=random.below(4) {
            let at = random.below(nearly.len() as u64) as usize;
            if !own.contains(&at) {
                nearly[at] ^= 1 << random.below(8);
            }
        }
        peer.send_bytes(&nearly);
        peer.idle(Duration::from_micros(200));
    }
    assert_unharmed(&site, &server, pid, &mut peer, 5);
    server.stop();
}

/// More of them than a target has buffers for messages, each too long for one.
#[test]
fn messages_longer_than_any_request_are_dropped() {
    let site = site();
    let (server, place) = served(&site);
    let pid = server.engine_pid(0);
    let fabric = Fabric::open(&place);
    let mut honest = Peer::new(&fabric, &place, 0, Uuid::new_v4());
    let dkey = dkey_of(0, 2);
    let honest_put = put(1, &dkey, b"first");
    assert_eq!(honest.ask(&honest_put).status, WireStatus::OK);
    let mut peer = Peer::new(&fabric, &place, 0, Uuid::new_v4());
    let whole = peer.encoded(&put(1, &dkey, b"value"));
    for round in 0..rounds(50, 1000) {
        for len in [REQUEST_MAX + 1, REQUEST_MAX + 100, 100_000, 1 << 20] {
            let mut message = whole.clone();
            message.resize(len, round as u8);
            peer.send_bytes(&message);
        }
        peer.idle(Duration::from_millis(2));
    }
    assert_unharmed(&site, &server, pid, &mut honest, 2);
    drop(peer);
    assert_unharmed(&site, &server, pid, &mut honest, 3);
    server.stop();
}

#[test]
fn memory_that_is_not_there_is_the_loss_of_who_named_it() {
    let site = site();
    let (server, place) = served(&site);
    let pid = server.engine_pid(0);
    let fabric = Fabric::open(&place);
    let mut honest = Peer::new(&fabric, &place, 0, Uuid::new_v4());
    let dkey = dkey_of(0, 2);
    let value = vec![7; 1 << 20];
    for round in 0..rounds(3, 100) {
        let mut peer = Peer::new(&fabric, &place, 0, Uuid::new_v4());
        let good = peer.offer(value.clone());
        let wrong = [
            RmaDescriptor {
                key: good.key ^ 0x5a5a,
                ..good
            },
            RmaDescriptor {
                addr: good.addr + (512 << 10),
                ..good
            },
            RmaDescriptor {
                addr: u64::MAX - 4096,
                ..good
            },
        ];
        for (n, rma) in (1..).zip(wrong) {
            peer.send(&put_rma(n, &dkey, &value, rma));
        }
        // What cannot be read breaks the connection of some providers, with the answers on it.
        peer.idle(Duration::from_millis(300));
        for n in 1..=wrong.len() as u64 {
            let said = peer.ask(&put_rma(n, &dkey, &value, wrong[n as usize - 1]));
            assert_eq!(said.status, WireStatus::UNREACHABLE, "{said:?}");
        }
        assert_unharmed(&site, &server, pid, &mut honest, 1 + round);
    }
    server.stop();
}

/// Where a target listens: port and IPv4 address stand at the same place in `struct sockaddr_in`, which
/// libfabric's providers for sockets use, and in fabric-tcp's addresses.
fn socket_of(place: &Place, target: usize) -> SocketAddr {
    let raw = &place.uri.targets[target];
    let port = u16::from_be_bytes([raw[2], raw[3]]);
    (Ipv4Addr::new(raw[4], raw[5], raw[6], raw[7]), port).into()
}

/// Throws bytes at the sockets of an engine; returns how many connections it made.
fn throw(random: &mut Random, place: &Place) -> usize {
    let mut held = Vec::new();
    let mut made = 0;
    for n in 0..rounds(150, 5000) {
        let to = socket_of(place, n as usize % place.uri.targets.len());
        let Ok(mut socket) = TcpStream::connect_timeout(&to, Duration::from_secs(5)) else {
            continue; // it is being restarted
        };
        made += 1;
        let _ = socket.set_read_timeout(Some(Duration::from_millis(20)));
        let mut noise = match random.below(6) {
            0 => Vec::new(),
            // A greeting of fabric-tcp that goes on as nonsense.
            1 => b"DAOS/tcp\x01\x01\0\0\0\0\0\0".to_vec(),
            2 => vec![0; 4096],
            3 => vec![0xff; 4096],
            _ => {
                let len = random.below(5000);
                bytes(random, len)
            }
        };
        let more = random.below(200);
        noise.extend(bytes(random, more));
        // Whatever the other side does about it is fine.
        let _ = socket.write_all(&noise);
        match random.below(4) {
            0 => drop(socket.read(&mut [0; 64])),
            1 => drop(socket.shutdown(Shutdown::Write)),
            2 if held.len() < 40 => held.push(socket),
            _ => {}
        }
    }
    made
}

#[test]
fn bytes_that_no_provider_sends_reach_nobody() {
    let mut random = Random::new("bytes_that_no_provider_sends_reach_nobody");
    let site = site();
    let (server, place) = served(&site);
    let pid = server.engine_pid(0);
    let fabric = Fabric::open(&place);
    let mut peer = Peer::new(&fabric, &place, 0, Uuid::new_v4());
    assert!(throw(&mut random, &place) > 0);
    assert_unharmed(&site, &server, pid, &mut peer, 1);
    server.stop();
}

/// Whatever libfabric's `net` makes of it: afterwards the node serves, by the same engine or by the next one.
#[test]
fn bytes_at_the_listener_of_net_do_not_keep_the_node_from_serving() {
    let test = "bytes_at_the_listener_of_net_do_not_keep_the_node_from_serving";
    let mut random = Random::new(test);
    let mut site = site();
    if let Err(why) = site.use_ofi("ofi+net") {
        return not_run(test, &why);
    }
    let (mut server, place) = served(&site);
    assert!(throw(&mut random, &place) > 0);
    let state = server.wait_phase("ready");
    println!("restarts: {}", state["engines"][0]["restarts"]);
    bench(&site);
    server.stop();
}
