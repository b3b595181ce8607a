//! fabric-tcp on the loopback, against a plain socket:
//!
//! * latency: half the time of a 64-byte ping-pong between two busy-polling threads, against one
//!   over a `TcpStream` with TCP_NODELAY, both blocking and busy-polling (non-blocking);
//! * bandwidth: READs of 1 MiB, 8 outstanding, against a `TcpStream` that streams 1 MiB blocks.

use crate::stats::{median, spread};
use daos_plugin_api::abi::{FABRIC_REMOTE_READ, FabricCompletion, FabricOp, FabricRequest, Status};
use daos_plugin_api::control::FabricOpenRequest;
use daos_plugin_api::sdk::{FabricDomain, FabricEndpoint};
use fabric_tcp::{Settings, TcpDomain, TcpEndpoint};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

const ROUNDS: u32 = 5_000;
const BLOCK: usize = 1 << 20;
const BLOCKS: usize = 500;
const WINDOW: usize = 8;

/// Measures and prints the table.
pub(crate) fn run(rounds: u32) {
    let mut latencies: [Vec<f64>; 3] = Default::default();
    let mut bandwidths: [Vec<f64>; 2] = Default::default();
    for _ in 0..rounds {
        latencies[0].push(fabric_ping_pong());
        latencies[1].push(stream_ping_pong(true));
        latencies[2].push(stream_ping_pong(false));
        bandwidths[0].push(fabric_reads());
        bandwidths[1].push(stream_blocks());
    }
    println!("fabric-tcp on the loopback, {rounds} turns each\n");
    println!("| what | fabric-tcp | TcpStream | ratio |");
    println!("|---|---|---|---|");
    let [ours, polling, blocking] = &latencies;
    for (how, peer) in [("busy polling", polling), ("blocking", blocking)] {
        row(&format!("64 B one way, peer {how}, us"), ours, peer);
    }
    let [ours, peer] = &bandwidths;
    row("1 MiB READs against a stream, GiB/s", ours, peer);
}

fn row(what: &str, ours: &[f64], peer: &[f64]) {
    let ratios: Vec<f64> = ours.iter().zip(peer).map(|(a, b)| a / b).collect();
    println!(
        "| {what} | {:.2} | {:.2} | {} |",
        median(ours),
        median(peer),
        spread(&ratios, 2)
    );
}

fn domain() -> TcpDomain {
    let request = FabricOpenRequest {
        provider: "tcp".to_owned(),
        interface: "lo".to_owned(),
        ..Default::default()
    };
    TcpDomain::open(&request, Settings::default()).expect("a loopback interface")
}

fn request(op: FabricOp, peer: u64, ptr: *mut u8, len: usize, user: u64) -> FabricRequest {
    FabricRequest {
        op,
        reserved: [0; 7],
        peer,
        tag: 0,
        ignore: 0,
        ptr,
        len,
        descriptor: 0,
        remote_addr: 0,
        remote_key: 0,
        user,
        scratch: std::ptr::null_mut(),
    }
}

fn submit(endpoint: &mut TcpEndpoint, requests: &[FabricRequest]) {
    // SAFETY: callers keep the memory until the completion or the end of the endpoint.
    let taken = unsafe { endpoint.submit(requests) }.expect("a working endpoint");
    assert_eq!(taken, requests.len());
}

/// Polls until at least as many operations of a kind are complete; returns how many are.
fn complete(endpoint: &mut TcpEndpoint, op: FabricOp, least: usize) -> usize {
    let mut count = 0;
    let mut done = [FabricCompletion::EMPTY; 16];
    while count < least {
        let found = endpoint.poll(&mut done).expect("a working endpoint");
        for done in &done[..found] {
            assert_eq!(done.status, Status::OK);
            count += usize::from(done.op == op);
        }
    }
    count
}

fn fabric_ping_pong() -> f64 {
    let domain = &domain();
    let (to_a, from_b) = channel::<Vec<u8>>();
    let (to_b, from_a) = channel::<Vec<u8>>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut b = domain.endpoint().expect("an endpoint");
            to_a.send(b.address()).expect("the other thread");
            let a = b
                .resolve(&from_a.recv().expect("the other thread"))
                .expect("an address");
            let mut memory = [0u8; 64];
            let ptr = memory.as_mut_ptr();
            for _ in 0..ROUNDS + 100 {
                submit(&mut b, &[request(FabricOp::RECV, 0, ptr, 64, 1)]);
                complete(&mut b, FabricOp::RECV, 1);
                submit(&mut b, &[request(FabricOp::SEND, a, ptr, 64, 2)]);
            }
            complete(&mut b, FabricOp::SEND, 1);
        });
        let mut a = domain.endpoint().expect("an endpoint");
        to_b.send(a.address()).expect("the other thread");
        let b = a
            .resolve(&from_b.recv().expect("the other thread"))
            .expect("an address");
        let mut memory = [0u8; 64];
        let ptr = memory.as_mut_ptr();
        let mut start = Instant::now();
        for round in 0..ROUNDS + 100 {
            if round == 100 {
                start = Instant::now();
            }
            submit(
                &mut a,
                &[
                    request(FabricOp::RECV, 0, ptr, 64, 1),
                    request(FabricOp::SEND, b, ptr, 64, 2),
                ],
            );
            complete(&mut a, FabricOp::RECV, 1);
        }
        per_round(start.elapsed())
    })
}

fn per_round(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6 / f64::from(ROUNDS) / 2.0
}

fn streams() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let a = TcpStream::connect(listener.local_addr().expect("an address")).expect("a listener");
    let (b, _) = listener.accept().expect("a connection");
    for stream in [&a, &b] {
        stream.set_nodelay(true).expect("an open socket");
    }
    (a, b)
}

fn read_all(stream: &mut TcpStream, mut bytes: &mut [u8]) {
    while !bytes.is_empty() {
        match stream.read(bytes) {
            Ok(count) => bytes = &mut bytes[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn stream_ping_pong(is_polling: bool) -> f64 {
    let (mut a, mut b) = streams();
    for stream in [&a, &b] {
        stream.set_nonblocking(is_polling).expect("an open socket");
    }
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut memory = [0u8; 64];
            for _ in 0..ROUNDS {
                read_all(&mut b, &mut memory);
                b.write_all(&memory).expect("an open socket");
            }
        });
        let mut memory = [0u8; 64];
        let start = Instant::now();
        for _ in 0..ROUNDS {
            a.write_all(&memory).expect("an open socket");
            read_all(&mut a, &mut memory);
        }
        per_round(start.elapsed())
    })
}

fn per_second(time: Duration) -> f64 {
    (BLOCKS * BLOCK) as f64 / time.as_secs_f64() / f64::from(1 << 30)
}

fn fabric_reads() -> f64 {
    let domain = &domain();
    let mut target = vec![7u8; BLOCK];
    // SAFETY: `target` outlives the registration.
    let region = unsafe { domain.register(target.as_mut_ptr(), BLOCK, FABRIC_REMOTE_READ) }
        .expect("a registration");
    let stop = &AtomicBool::new(false);
    let (tell, hear) = channel::<Vec<u8>>();
    let key = region.key;
    let rate = std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut b = domain.endpoint().expect("an endpoint");
            tell.send(b.address()).expect("the other thread");
            while !stop.load(Ordering::Relaxed) {
                complete_nothing(&mut b);
            }
        });
        let mut a = domain.endpoint().expect("an endpoint");
        let b = a
            .resolve(&hear.recv().expect("the other thread"))
            .expect("an address");
        let mut memory = vec![0u8; WINDOW * BLOCK];
        let ptr = memory.as_mut_ptr();
        let read = |n: usize| FabricRequest {
            remote_key: key,
            ..request(
                FabricOp::READ,
                b,
                ptr.wrapping_add(n % WINDOW * BLOCK),
                BLOCK,
                n as u64,
            )
        };
        let start = Instant::now();
        let (mut sent, mut done) = (0, 0);
        while done < BLOCKS {
            while sent < BLOCKS && sent - done < WINDOW {
                submit(&mut a, &[read(sent)]);
                sent += 1;
            }
            // One target, one connection: they complete in order.
            done += complete(&mut a, FabricOp::READ, 1);
        }
        let time = start.elapsed();
        stop.store(true, Ordering::Relaxed);
        per_second(time)
    });
    drop(region);
    rate
}

/// Lets a target make progress.
fn complete_nothing(endpoint: &mut TcpEndpoint) {
    let mut room = [FabricCompletion::EMPTY];
    let found = endpoint.poll(&mut room).expect("a working endpoint");
    assert_eq!(found, 0);
}

fn stream_blocks() -> f64 {
    let (mut a, mut b) = streams();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let block = vec![7u8; BLOCK];
            for _ in 0..BLOCKS {
                b.write_all(&block).expect("an open socket");
            }
        });
        let mut memory = vec![0u8; WINDOW * BLOCK];
        let start = Instant::now();
        for n in 0..BLOCKS {
            let at = n % WINDOW * BLOCK;
            a.read_exact(&mut memory[at..at + BLOCK])
                .expect("an open socket");
        }
        per_second(start.elapsed())
    })
}
