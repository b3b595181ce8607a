//! Provider shm, whose peers are processes of this machine, or this one: what becomes of those that are killed, stopped or closed.
#![cfg(libfabric)]

mod common;
mod peer;

use common::*;
use daos_plugin_api::abi::{FABRIC_LOCAL, Status};
use daos_plugin_api::sdk::FabricEndpoint;
use fabric_ofi::OfiDomain;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use peer::{Process, echoes};
use std::io::IoSliceMut;
use std::time::{Duration, Instant};

/// How many pieces of memory of this process's endpoints are mapped.
fn mapped() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mark = format!("/dev/shm/{}:", std::process::id());
    maps.lines().filter(|line| line.contains(&mark)).count()
}

/// Whether the kernel copies between processes here.
fn kernel_copies() -> bool {
    let (from, mut into) = ([7u8; 8], [0u8; 8]);
    let remote = [RemoteIoVec {
        base: from.as_ptr().addr(),
        len: from.len(),
    }];
    let local = &mut [IoSliceMut::new(&mut into)];
    process_vm_readv(nix::unistd::Pid::this(), local, &remote) == Ok(8) && into == from
}

/// Makes two endpoints known to each other: before that libfabric takes no message.
fn meet(domain: &OfiDomain, a: &mut Node, to_b: u64, b: &mut Node) {
    let out = Memory::of(domain, pattern(99, 64), FABRIC_LOCAL);
    let mut into = Memory::of(domain, vec![0; 64], FABRIC_LOCAL);
    b.submit(recv(99, 9999, 0, &mut into));
    a.submit(send(99, to_b, 9999, &out));
    assert_eq!(finish(&mut [a, b], 1, 99).status, Status::OK);
    assert_eq!(finish(&mut [a, b], 0, 99).status, Status::OK);
}

/// Accesses to memory that is not there fail, and those before and behind them do not.
fn unmapped(domain: &OfiDomain) {
    let mut a = open_node(domain);
    let peer = Process::start(&domain.provider(), 0);
    let to_peer = a.endpoint.resolve(&peer.address).unwrap();
    let mut into = Memory::of(domain, vec![0; 10_000], FABRIC_LOCAL);
    for round in 0..3 {
        let place = |addr| Remote {
            peer: to_peer,
            key: peer.key,
            addr,
        };
        let places = [peer.base, 4096, peer.base + 10, 8192, peer.base];
        for (user, addr) in (0..).zip(places) {
            match (round + user) % 2 {
                0 => a.submit(write(user, place(addr), &into)),
                _ => a.submit(read(user, place(addr), &mut into)),
            }
        }
        for (user, addr) in (0..).zip(places) {
            let done = finish(&mut [&mut a], 0, user);
            assert_eq!(done.status.is_ok(), addr >= peer.base, "{user}: {done:?}");
        }
    }
}

/// A message that a stopped process does not take is no reason to wait for ever: the endpoint fails.
fn abandoned(domain: &OfiDomain) {
    let mut a = open_node(domain);
    let peer = Process::start(&domain.provider(), 0);
    let to_peer = a.endpoint.resolve(&peer.address).unwrap();
    let mut bytes = (peer.address.len() as u16).to_le_bytes().to_vec();
    bytes.extend(&peer.address);
    bytes.resize(200_000, 0);
    let out = Memory::of(domain, bytes, FABRIC_LOCAL);
    a.submit(send(1, to_peer, 7, &out));
    assert_eq!(finish(&mut [&mut a], 0, 1).status, Status::OK);
    let process = nix::unistd::Pid::from_raw(peer.id().try_into().unwrap());
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGSTOP).unwrap();
    a.submit(send(2, to_peer, 7, &out));
    idle(&mut [&mut a], Duration::from_millis(100));
    assert_eq!(a.take(2), None, "taken by nobody");
    assert_eq!(a.endpoint.release(to_peer), Ok(()));
    let start = Instant::now();
    while a.endpoint.poll(&mut []) == Ok(0) {
        assert!(start.elapsed() < PATIENCE, "waits for ever");
        std::thread::sleep(Duration::from_millis(10));
    }
    println!("    failed after {:?}", start.elapsed());
    peer.kill();
    drop(a); // the provider may have the message until then
    drop(out);
}

/// More peers one after the other than an endpoint remembers after their end.
fn many_peers(domain: &OfiDomain) {
    let mut a = open_node(domain);
    for round in 0..24 {
        let peer = Process::start(&domain.provider(), 0);
        let to_peer = a.endpoint.resolve(&peer.address).unwrap();
        assert!(echoes(&mut a, domain, to_peer, round, PATIENCE), "{round}");
        peer.kill();
        assert_eq!(a.endpoint.release(to_peer), Ok(()));
        assert_eq!(a.endpoint.release(to_peer), Err(Status::NOT_FOUND));
    }
}

/// What a killed process leaves in /dev/shm goes when another one opens the provider; what the living have
/// stays.
fn leftovers(domain: &OfiDomain) {
    let a = open_node(domain);
    let own = format!("/dev/shm/{}:", std::process::id());
    let files = |mark: &str| {
        let entries = std::fs::read_dir("/dev/shm").unwrap().flatten();
        let paths = entries.map(|e| e.path().display().to_string());
        paths.filter(|p| p.starts_with(mark)).count()
    };
    assert!(files(&own) > 0, "an endpoint has its file");
    let killed = Process::start(&domain.provider(), 0);
    let mark = format!("/dev/shm/{}:", killed.id());
    assert!(files(&mark) > 0, "an endpoint has its file");
    killed.kill();
    let next = Process::start(&domain.provider(), 0);
    assert_eq!(files(&mark), 0, "what the killed one left");
    assert!(files(&own) > 0, "a living process lost its file");
    drop((a, next));
}

/// An endpoint of this process that is closed: libfabric's peers of it go on with its memory.
fn closed_here(domain: &OfiDomain) {
    let mut b = open_node(domain);
    let out = Memory::of(domain, pattern(1, 200_000), FABRIC_LOCAL);
    let mut into = Memory::of(domain, vec![0; 200_000], FABRIC_LOCAL);
    // Its last message is in the memory of who has closed: the kernel copies it from there, where it may.
    let copies = kernel_copies();
    let before = mapped();
    let mut gone = Vec::new();
    for round in 0..200 {
        // The other one need not know who sends to it, and looks for the message when its sender is closed.
        let mut a = open_node(domain);
        let to_b = a.resolve(&b);
        let to_a = (round % 2 == 0).then(|| b.resolve(&a));
        gone.push(a.endpoint.address());
        let have_met = round % 4 < 2;
        if have_met {
            meet(domain, &mut a, to_b, &mut b);
        }
        a.submit(send(1, to_b, round, &out));
        drop(a);
        into.memory.fill(0);
        b.submit(recv(1, round, 0, &mut into));
        if copies && have_met {
            let arrived = finish(&mut [&mut b], 0, 1);
            assert_eq!((arrived.status, arrived.len), (Status::OK, 200_000));
            assert!(into.bytes() == out.bytes(), "{round}");
        } else {
            idle(&mut [&mut b], Duration::from_millis(1));
            // Of others than it has met there is only the wish to be known.
            let arrived = b.take(1);
            assert!(have_met || arrived.is_none(), "{arrived:?}");
            if arrived.is_none() {
                b.endpoint.cancel(1).unwrap();
                finish(&mut [&mut b], 0, 1);
            }
        }
        if let Some(to_a) = to_a {
            b.submit(send(2, to_a, round, &out));
            assert_eq!(finish(&mut [&mut b], 0, 2).status, Status::UNREACHABLE);
            assert_eq!(b.endpoint.release(to_a), Ok(()));
        }
    }
    // Not all of them stay; other tests of this process have some of their own.
    let stay = mapped().saturating_sub(before);
    println!("    {stay} closed endpoints stay mapped");
    assert!(stay < 130, "{stay} closed endpoints stay mapped");
    // Resolved by who has never heard of them: the first is kept by nobody any more, the last is.
    let mut c = open_node(domain);
    let small = Memory::of(domain, pattern(2, 64), FABRIC_LOCAL);
    for gone in [&gone[0], &gone[199]] {
        let to_gone = c.endpoint.resolve(gone).unwrap();
        let start = Instant::now();
        c.submit(send(1, to_gone, 5, &small));
        let status = finish(&mut [&mut c], 0, 1).status;
        assert_eq!(status, Status::UNREACHABLE);
        assert!(
            start.elapsed() < Duration::from_secs(1),
            "offered to libfabric"
        );
        assert_eq!(c.endpoint.release(to_gone), Ok(()));
        assert_eq!(c.endpoint.release(to_gone), Err(Status::NOT_FOUND));
        let name = String::from_utf8_lossy(&gone[..gone.len() - 1]).into_owned();
        let (_, file) = name.split_once("://").unwrap();
        assert!(!std::path::Path::new("/dev/shm").join(file).exists());
    }
    // The others talk on.
    let to_b = c.resolve(&b);
    b.submit(recv(3, 6, 0, &mut into));
    c.submit(send(2, to_b, 6, &small));
    assert_eq!(finish(&mut [&mut c, &mut b], 1, 3).status, Status::OK);
}

/// What closed endpoints have sent is there when its receiver looks for it, however many they are; they do not stay after that.
fn unread(domain: &OfiDomain) {
    const COUNT: u64 = 150;
    let mut b = open_node(domain);
    let before = mapped();
    // Small ones, large ones, and wishes to be known.
    let len = |n: u64| if n % 3 == 1 { 20_000 } else { 64 };
    let arrives = |n: &u64| n.is_multiple_of(3) || n % 3 == 1 && kernel_copies();
    let nodes = (0..COUNT).map(|n| {
        let mut a = open_node(domain);
        let to_b = a.resolve(&b);
        if n % 3 < 2 {
            meet(domain, &mut a, to_b, &mut b);
        }
        let out = Memory::of(domain, pattern(n, len(n)), FABRIC_LOCAL);
        (a, to_b, out)
    });
    let mut nodes: Vec<_> = nodes.collect();
    for (n, (a, to_b, out)) in (0..).zip(&mut nodes) {
        a.submit(send(1, *to_b, n, out));
        a.poll();
    }
    let out: Vec<_> = nodes.into_iter().map(|(_, _, out)| out).collect();
    let memory = |n| Memory::of(domain, vec![0; len(n)], FABRIC_LOCAL);
    let mut into: Vec<_> = (0..COUNT).map(memory).collect();
    // Large ones have a RECV when they are looked at, small ones some of them later.
    for n in (0..COUNT).filter(|n| n % 3 == 1 || *n < COUNT / 2) {
        b.submit(recv(n, n, 0, &mut into[n as usize]));
    }
    idle(&mut [&mut b], Duration::from_millis(5));
    for n in (0..COUNT).filter(|n| n % 3 != 1 && *n >= COUNT / 2) {
        b.submit(recv(n, n, 0, &mut into[n as usize]));
    }
    for n in (0..COUNT).filter(arrives) {
        assert_eq!(finish(&mut [&mut b], 0, n).status, Status::OK);
        assert!(into[n as usize].bytes() == out[n as usize].bytes(), "{n}");
    }
    idle(&mut [&mut b], Duration::from_millis(5));
    let stay = mapped().saturating_sub(before);
    println!("    {stay} closed endpoints stay mapped");
    assert!(stay < 130, "{stay} closed endpoints stay mapped");
    drop(b); // what it still waits for ends before its memory does
}

/// An endpoint that is closed keeps nobody who had sent to it, nor those who had sent to them.
fn chains(domain: &OfiDomain) {
    const COUNT: usize = 120;
    let out = Memory::of(domain, pattern(1, 64), FABRIC_LOCAL);
    let mut last = open_node(domain);
    let before = mapped();
    for _ in 0..COUNT {
        let next = open_node(domain);
        let to_next = last.resolve(&next);
        last.submit(send(1, to_next, 1, &out));
        last = next;
    }
    let stay = mapped().saturating_sub(before);
    assert!(stay < COUNT / 2, "{stay} closed endpoints stay mapped");
}

/// Who was sent to may look at it after its sender has forgotten it, and is closed.
fn forgotten(domain: &OfiDomain) {
    let (mut a, mut b) = (open_node(domain), open_node(domain));
    let to_b = a.resolve(&b);
    let out = Memory::of(domain, pattern(1, 64), FABRIC_LOCAL);
    // They have not met: libfabric wishes them to.
    a.submit(send(1, to_b, 1, &out));
    assert_eq!(a.endpoint.release(to_b), Ok(()));
    assert_eq!(finish(&mut [&mut a], 0, 1).status, Status::CANCELLED);
    // More than an endpoint remembers after their end.
    for _ in 0..24 {
        let other = open_node(domain);
        let to_other = a.resolve(&other);
        assert_eq!(a.endpoint.release(to_other), Ok(()));
    }
    drop(a);
    idle(&mut [&mut b], Duration::from_millis(5));
    let mut c = open_node(domain);
    let to_b = c.resolve(&b);
    meet(domain, &mut c, to_b, &mut b);
}

/// Libfabric looks at what follows `://` alone, at all of an address without it.
fn spelled_otherwise(domain: &OfiDomain) {
    let (mut a, mut b) = (open_node(domain), open_node(domain));
    let address = b.endpoint.address();
    let text = String::from_utf8(address.clone()).unwrap();
    let (_, name) = text.split_once("://").unwrap();
    let spellings = [text.clone(), format!("x://{name}"), name.to_owned()];
    let peers = spellings.map(|text| a.endpoint.resolve(text.as_bytes()).unwrap());
    let out = Memory::of(domain, pattern(1, 64), FABRIC_LOCAL);
    for (tag, &peer) in (0..).zip(&peers) {
        let mut into = Memory::of(domain, vec![0; 64], FABRIC_LOCAL);
        b.submit(recv(1, tag, 0, &mut into));
        a.submit(send(2, peer, tag, &out));
        assert_eq!(finish(&mut [&mut a, &mut b], 1, 1).status, Status::OK);
        assert_eq!(finish(&mut [&mut a, &mut b], 0, 2).status, Status::OK);
        assert!(into.bytes() == out.bytes(), "{tag}");
    }
    // One that has it by the other name alone.
    let mut c = open_node(domain);
    let to_b = c
        .endpoint
        .resolve(format!("x://{name}").as_bytes())
        .unwrap();
    drop(b);
    for peer in peers {
        a.submit(send(3, peer, 7, &out));
        let status = finish(&mut [&mut a], 0, 3).status;
        assert_eq!(status, Status::UNREACHABLE);
        assert_eq!(a.endpoint.release(peer), Ok(()));
    }
    c.submit(send(3, to_b, 7, &out));
    let status = finish(&mut [&mut c], 0, 3).status;
    assert_eq!(status, Status::UNREACHABLE);
}

/// Set for a process whose table of descriptors may be full.
const ALONE: &str = "OFI_TEST_ALONE";

/// A peer of this process needs no descriptor to be guarded.
fn without_descriptors(domain: &OfiDomain) {
    if std::env::var_os(ALONE).is_none() {
        let output = again("shm::without_descriptors")
            .env(ALONE, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{:?}: {text}{said}", output.status);
        return;
    }
    let (mut a, b) = (open_node(domain), open_node(domain));
    let out = Memory::of(domain, pattern(1, 64), FABRIC_LOCAL);
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 0, hard).unwrap();
    let to_b = a.resolve(&b);
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    drop(b);
    a.submit(send(1, to_b, 1, &out));
    assert_eq!(finish(&mut [&mut a], 0, 1).status, Status::UNREACHABLE);
}

macro_rules! shm {
    ($($case:ident),*) => {
        mod shm {
            $(#[test]
            fn $case() {
                super::with_provider("ofi+shm", stringify!($case), super::$case);
            })*
        }
    };
}

shm! { unmapped, abandoned, many_peers, leftovers, closed_here, unread, chains, forgotten, spelled_otherwise, without_descriptors }
