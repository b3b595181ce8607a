#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]
//! A peer in a process of its own: prints its address (hexadecimal), and key and base of a megabyte
//! that others may read and write; sends each message back to the address at its start (length in two
//! bytes, then the address); ends when its standard input does.

use crate::common::{
    Memory, Node, again, finish, interface, pattern, recv, remove_shared_memory, send,
};
use daos_plugin_api::abi::{
    FABRIC_LOCAL, FABRIC_REMOTE_READ, FABRIC_REMOTE_WRITE, FabricCompletion, FabricOp,
    FabricRequest, Status,
};
use daos_plugin_api::control::FabricOpenRequest;
use daos_plugin_api::sdk::{FabricDomain, FabricEndpoint};
use fabric_ofi::{OfiDomain, Settings};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const SIZE: usize = 1 << 20;

#[repr(align(64))]
struct Scratch([u8; 256]);

/// Names provider and port to the process that is the peer.
const PROVIDER: &str = "OFI_TEST_PEER";
const PORT: &str = "OFI_TEST_PORT";
/// Starts the line with the peer's address.
const HERE: &str = "peer at ";

/// The peer, if the environment asks for one; does nothing otherwise.
#[test]
fn the_peer() {
    let Ok(provider) = std::env::var(PROVIDER) else {
        return;
    };
    let port = std::env::var(PORT).map_or(0, |port| port.parse().expect("a port"));
    let request = FabricOpenRequest {
        provider,
        interface: interface(),
        port,
        ..Default::default()
    };
    let domain = OfiDomain::open(&request, Settings::default()).expect("the provider");
    let mut endpoint = domain.endpoint().expect("an endpoint");
    let mut shared = vec![0u8; SIZE];
    let mut buffer = vec![0u8; SIZE];
    let access = FABRIC_LOCAL | FABRIC_REMOTE_READ | FABRIC_REMOTE_WRITE;
    // SAFETY: both vectors outlive their registrations and do not move.
    let regions = unsafe {
        [&mut shared, &mut buffer].map(|memory| {
            domain
                .register(memory.as_mut_ptr(), memory.len(), access)
                .expect("a registration")
        })
    };
    let address: String = endpoint
        .address()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    println!("\n{HERE}{address} {} {}", regions[0].key, regions[0].base);

    static ENDED: AtomicBool = AtomicBool::new(false);
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        ENDED.store(true, Ordering::Release);
    });
    let mut scratch = Scratch([0; 256]);
    let mut request = FabricRequest {
        op: FabricOp::RECV,
        reserved: [0; 7],
        peer: 0,
        tag: 0,
        ignore: u64::MAX,
        ptr: buffer.as_mut_ptr(),
        len: SIZE,
        descriptor: regions[1].descriptor,
        remote_addr: 0,
        remote_key: 0,
        user: 0,
        scratch: scratch.0.as_mut_ptr(),
    };
    let mut room = [FabricCompletion::EMPTY];
    let mut is_offered = false;
    while !ENDED.load(Ordering::Acquire) {
        if !is_offered {
            // SAFETY: buffer and scratch live until the end; one operation at a time.
            is_offered = unsafe { endpoint.submit(&[request]) } == Ok(1);
        }
        if endpoint.poll(&mut room).expect("a working endpoint") == 0 {
            std::thread::yield_now();
            continue;
        }
        is_offered = false;
        if room[0].op == FabricOp::RECV && room[0].status == Status::OK {
            let len = usize::from(u16::from_le_bytes([buffer[0], buffer[1]]));
            request = FabricRequest {
                op: FabricOp::SEND,
                peer: endpoint.resolve(&buffer[2..2 + len]).expect("an address"),
                tag: room[0].tag,
                len: room[0].len as usize,
                ..request
            };
        } else {
            request = FabricRequest {
                op: FabricOp::RECV,
                len: SIZE,
                ..request
            };
        }
    }
    drop(endpoint);
    drop(regions);
}

/// Such a peer at work; killed when dropped.
pub struct Process {
    child: Child,
    /// Nothing is left of it when it is dropped.
    is_swept: bool,
    pub address: Vec<u8>,
    pub key: u64,
    pub base: u64,
}

impl Process {
    /// A peer at a port, 0 = any.
    pub fn start(provider: &str, port: u16) -> Self {
        let mut child = again("peer::the_peer")
            .env(PROVIDER, provider)
            .env(PORT, port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines
            .find_map(|line| Some(line.unwrap().strip_prefix(HERE)?.to_owned()))
            .expect("the peer says where it is");
        let words: Vec<&str> = line.split_whitespace().collect();
        let address = (0..words[0].len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&words[0][at..at + 2], 16).unwrap())
            .collect();
        Self {
            child,
            is_swept: true,
            address,
            key: words[1].parse().unwrap(),
            base: words[2].parse().unwrap(),
        }
    }
}

impl Process {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it and leaves what it leaves.
    pub fn kill(mut self) {
        self.child.kill().expect("our child can be killed");
        self.child.wait().expect("our child can be waited for");
        self.is_swept = false;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if self.is_swept {
            remove_shared_memory(self.child.id());
        }
    }
}

/// Sends a message to a peer that sends it back; whether the answer came in time.
pub fn echoes(a: &mut Node, domain: &OfiDomain, to_peer: u64, tag: u64, within: Duration) -> bool {
    let address = a.endpoint.address();
    let mut bytes = (address.len() as u16).to_le_bytes().to_vec();
    bytes.extend(&address);
    bytes.extend(pattern(tag, 500));
    let mut into = Memory::of(domain, vec![0; bytes.len()], FABRIC_LOCAL);
    let out = Memory::of(domain, bytes, FABRIC_LOCAL);
    let (sent, got) = (2 * tag, 2 * tag + 1);
    a.submit(recv(got, tag, 0, &mut into));
    a.submit(send(sent, to_peer, tag, &out));
    let start = Instant::now();
    let mut answer = None;
    while answer.is_none() && start.elapsed() < within {
        a.poll();
        answer = a.take(got);
    }
    if answer.is_none() {
        // One of them may be stuck in the provider: their memory stays.
        a.endpoint.cancel(got).unwrap();
        std::mem::forget((into, out));
        return false;
    }
    assert_eq!(answer.map(|done| done.status), Some(Status::OK));
    assert!(into.bytes() == out.bytes(), "came back changed");
    finish(&mut [a], 0, sent);
    true
}
