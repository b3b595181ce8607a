//! Remote memory access: data, refusals, the end of registrations, cancellation.

mod common;

use common::*;
use daos_plugin_api::abi::{
    FABRIC_LOCAL, FABRIC_REMOTE_READ, FABRIC_REMOTE_WRITE, FabricOp, Status,
};
use daos_plugin_api::sdk::{FabricDomain, FabricEndpoint};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const BOTH: u32 = FABRIC_REMOTE_READ | FABRIC_REMOTE_WRITE;

#[test]
fn what_is_written_is_read_back() {
    let domain = domain();
    let (mut a, mut b) = (open_node(&domain), open_node(&domain));
    let to_b = a.resolve(&b);
    let mut target = vec![0u8; 8 << 20];
    let region = register(&domain, &mut target, BOTH);
    let sizes = [0, 1, 39, 40, 4096, 8191, 8192, 8193, 1 << 20, 5_000_001];
    for (n, &len) in sizes.iter().enumerate() {
        let data = pattern(n as u64, len);
        let mut copy = vec![0xee; len];
        let place = Remote {
            peer: to_b,
            key: region.key,
            addr: region.base + 1234,
        };
        a.submit(write(1, place, &data));
        let wrote = finish(&mut [&mut a, &mut b], 0, 1);
        assert_eq!(
            (wrote.status, wrote.op),
            (Status::OK, FabricOp::WRITE),
            "{len} bytes"
        );
        a.submit(read(2, place, &mut copy));
        assert_eq!(
            finish(&mut [&mut a, &mut b], 0, 2).status,
            Status::OK,
            "{len} bytes"
        );
        assert!(copy == data, "{len} bytes came back changed");
    }
    drop(region);
    assert_eq!(target[..1234], [0; 1234]);
    assert_eq!(target[1234..5_001_235], pattern(9, 5_000_001));
    assert!(target[5_001_235..].iter().all(|&byte| byte == 0));
    assert!(a.done.is_empty() && b.done.is_empty());
}

#[test]
fn many_accesses_at_once_end_each_on_its_own() {
    const COUNT: usize = 100;
    const SIZE: usize = 30_000;
    let domain = domain();
    let (mut a, mut b) = (open_node(&domain), open_node(&domain));
    let to_b = a.resolve(&b);
    let mut target = pattern(1, COUNT * SIZE);
    let region = register(&domain, &mut target, BOTH);
    let mut copies = vec![vec![0u8; SIZE]; COUNT];
    let place = |n: usize| Remote {
        peer: to_b,
        key: region.key,
        addr: (n * SIZE) as u64,
    };
    let requests: Vec<_> = copies
        .iter_mut()
        .enumerate()
        .map(|(n, copy)| read(n as u64, place(n), copy))
        .collect();
    assert_eq!(a.try_submit(&requests), COUNT);
    for n in (0..COUNT as u64).rev() {
        assert_eq!(finish(&mut [&mut a, &mut b], 0, n).status, Status::OK);
    }
    assert!(copies.concat() == target);
    drop(region);
}

#[test]
fn wrong_keys_ranges_and_rights_are_refused_and_harm_nobody() {
    let domain = domain();
    let (mut a, mut b) = (open_node(&domain), open_node(&domain));
    let to_b = a.resolve(&b);
    let mut memory: Vec<Vec<u8>> = (0..3).map(|n| pattern(n, 1000)).collect();
    let rights = [FABRIC_REMOTE_READ, FABRIC_REMOTE_WRITE, FABRIC_LOCAL];
    let regions: Vec<_> = memory
        .iter_mut()
        .zip(rights)
        .map(|(memory, rights)| register(&domain, memory, rights))
        .collect();
    let place = |n: usize, addr: u64| Remote {
        peer: to_b,
        key: regions[n].key,
        addr,
    };
    let gone = {
        let mut short_lived = vec![0; 1000];
        register(&domain, &mut short_lived, BOTH).key
    };
    let data = pattern(9, 100_000);
    let mut copy = vec![0u8; 100_000];
    let refused = [
        write(1, place(0, 0), &data[..10]),
        read(1, place(1, 0), &mut copy[..10]),
        read(1, place(2, 0), &mut copy[..10]),
        write(1, place(2, 0), &data[..10]),
        read(1, place(0, 991), &mut copy[..10]),
        read(1, place(0, u64::MAX - 3), &mut copy[..10]),
        write(1, place(1, 0), &data),
        write(1, place(1, 1001), &data[..0]),
        read(
            1,
            Remote {
                key: gone,
                ..place(0, 0)
            },
            &mut copy[..10],
        ),
        write(
            1,
            Remote {
                key: 0,
                ..place(1, 0)
            },
            &data,
        ),
        write(
            1,
            Remote {
                key: regions[1].key ^ 1,
                ..place(1, 0)
            },
            &data[..10],
        ),
    ];
    for request in refused {
        a.submit(request);
        let done = finish(&mut [&mut a, &mut b], 0, 1);
        assert_eq!(done.status, Status::ACCESS, "{request:?}");
    }
    assert!(
        copy.iter().all(|&byte| byte == 0),
        "a refused READ changed memory"
    );
    // The connection is still good for what is allowed.
    a.submit(read(2, place(0, 990), &mut copy[..10]));
    assert_eq!(finish(&mut [&mut a, &mut b], 0, 2).status, Status::OK);
    a.submit(write(3, place(1, 990), &data[..10]));
    assert_eq!(finish(&mut [&mut a, &mut b], 0, 3).status, Status::OK);
    drop(regions);
    assert_eq!(memory[0], pattern(0, 1000));
    assert_eq!(memory[1][..990], pattern(1, 1000)[..990]);
    assert_eq!(memory[1][990..], data[..10]);
    assert_eq!(memory[2], pattern(2, 1000));
}

/// While one thread serves accesses, another one unregisters: from that moment on the memory
/// keeps what its owner puts there.
#[test]
fn nothing_touches_memory_after_it_was_unregistered() {
    let domain = domain();
    let stop = AtomicBool::new(false);
    let (domain, stop) = (&domain, &stop);
    let (tell, hear) = std::sync::mpsc::channel::<Vec<u8>>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut b = open_node(domain);
            tell.send(b.endpoint.address()).unwrap();
            while !stop.load(Ordering::Acquire) {
                b.poll();
            }
        });
        let mut a = open_node(domain);
        let to_b = a.endpoint.resolve(&hear.recv().unwrap()).unwrap();
        let data = vec![0xffu8; 16 << 20];
        let mut copy = vec![0u8; 16 << 20];
        let mut refused = 0;
        for round in 0..12 {
            let mut target = vec![0x11u8; 16 << 20];
            let region = register(domain, &mut target, BOTH);
            let place = Remote {
                peer: to_b,
                key: region.key,
                addr: 0,
            };
            copy.fill(0);
            let is_read = round % 2 == 1;
            a.submit(if is_read {
                read(1, place, &mut copy)
            } else {
                write(1, place, &data)
            });
            let start = std::time::Instant::now();
            while start.elapsed() < Duration::from_micros(300 * round) {
                a.poll();
            }
            drop(region);
            target.fill(0x22);
            let status = a.finish(1).status;
            if status == Status::ACCESS {
                refused += 1;
            } else {
                assert_eq!(status, Status::OK);
                assert!(!is_read || copy.iter().all(|&byte| byte == 0x11));
            }
            std::thread::sleep(Duration::from_millis(2));
            assert!(
                target.iter().all(|&byte| byte == 0x22),
                "touched after unregister"
            );
        }
        assert!(
            refused > 0,
            "no access was under way when its memory was unregistered"
        );
        stop.store(true, Ordering::Release);
    });
}

#[test]
fn an_access_can_be_cancelled_at_any_stage() {
    let domain = domain();
    let (mut a, mut b) = (open_node(&domain), open_node(&domain));
    let to_b = a.resolve(&b);
    let mut target = pattern(1, 4 << 20);
    let region = register(&domain, &mut target, BOTH);
    let place = Remote {
        peer: to_b,
        key: region.key,
        addr: 0,
    };
    let mut copy = vec![0u8; 4 << 20];
    for polls in [0, 1, 2, 3, 5, 8, 13] {
        copy.fill(0);
        a.submit(read(1, place, &mut copy));
        for _ in 0..polls {
            a.poll();
            b.poll();
        }
        if a.take(1).is_some() {
            continue;
        }
        assert_eq!(a.endpoint.cancel(1), Ok(()));
        let done = finish(&mut [&mut a, &mut b], 0, 1);
        assert_eq!(done.status, Status::CANCELLED, "after {polls} polls");
        copy.fill(0x33);
        idle(&mut [&mut a, &mut b], Duration::from_millis(30));
        assert!(
            copy.iter().all(|&byte| byte == 0x33),
            "written to after its cancellation"
        );
        assert!(a.done.is_empty(), "completed twice");
    }
    // Nothing of it is in the way of the next one.
    a.submit(read(2, place, &mut copy));
    assert_eq!(finish(&mut [&mut a, &mut b], 0, 2).status, Status::OK);
    assert!(copy == pattern(1, 4 << 20));
    drop(region);
}

#[test]
fn registrations_are_checked() {
    let domain = domain();
    let mut memory = [0u8; 16];
    let mut try_register = |null: bool, len: usize, access: u32| {
        let ptr = if null {
            std::ptr::null_mut()
        } else {
            memory.as_mut_ptr()
        };
        // SAFETY: `memory` outlives the registration, which is dropped at once.
        unsafe { domain.register(ptr, len, access) }
            .map(|region| region.key)
            .map_err(|error| error.status)
    };
    assert_eq!(try_register(true, 16, BOTH), Err(Status::INVALID));
    assert_eq!(try_register(false, 0, BOTH), Err(Status::INVALID));
    assert_eq!(try_register(false, 16, 64), Err(Status::INVALID));
    assert_ne!(try_register(false, 16, BOTH), try_register(false, 16, BOTH));
}
