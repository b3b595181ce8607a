//! Endpoints with their completions, registered memory, and data that can be verified.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]

use daos_plugin_api::abi::*;
use daos_plugin_api::control::FabricOpenRequest;
use daos_plugin_api::sdk::{Error, FabricDomain, FabricEndpoint, Registration};
use fabric_ofi::{OfiDomain, OfiEndpoint, OfiRegion, Settings};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long anything in a test may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Names the interface to use instead of the loopback, for providers that are not on that.
const INTERFACE: &str = "OFI_TEST_INTERFACE";

pub fn interface() -> String {
    std::env::var(INTERFACE).unwrap_or_else(|_| "lo".to_owned())
}

pub fn open(provider: &str) -> Result<OfiDomain, Error> {
    let request = FabricOpenRequest {
        provider: provider.to_owned(),
        interface: interface(),
        ..Default::default()
    };
    OfiDomain::open(&request, Settings::default())
}

/// This test program, to run one of its tests in a process of its own.
pub fn again(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        // The psm provider handles fatal signals, whichever provider is in use: it would write a
        // file where the test runs, and exit as if nothing had happened.
        .env("IPATH_NO_BACKTRACE", "1");
    command
}

/// A process that crashed or was killed leaves its shared memory behind.
pub fn remove_shared_memory(process: u32) {
    let mark = format!("{process}:");
    for entry in std::fs::read_dir("/dev/shm")
        .into_iter()
        .flatten()
        .flatten()
    {
        if entry.file_name().to_string_lossy().starts_with(&mark) {
            // Someone else's of the same number is not ours to complain about.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Bytes that depend on a seed and on their place.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Registered memory.
pub struct Memory {
    // Declared before the memory: ends first.
    pub region: Registration<OfiRegion>,
    pub memory: Vec<u8>,
    len: usize,
}

impl Memory {
    pub fn of(domain: &OfiDomain, mut memory: Vec<u8>, access: u32) -> Self {
        let len = memory.len();
        memory.resize(len.max(1), 0); // there is no registration of nothing
        // SAFETY: the registration is dropped before the memory, which does not move.
        let region = unsafe { domain.register(memory.as_mut_ptr(), memory.len(), access) };
        Self {
            region: region.unwrap(),
            memory,
            len,
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

fn request(op: FabricOp, user: u64, memory: &Memory) -> FabricRequest {
    FabricRequest {
        op,
        reserved: [0; 7],
        peer: 0,
        tag: 0,
        ignore: 0,
        ptr: memory.memory.as_ptr().cast_mut(),
        len: memory.len,
        descriptor: memory.region.descriptor,
        remote_addr: 0,
        remote_key: 0,
        user,
        scratch: std::ptr::null_mut(),
    }
}

pub fn send(user: u64, peer: u64, tag: u64, memory: &Memory) -> FabricRequest {
    FabricRequest {
        peer,
        tag,
        ..request(FabricOp::SEND, user, memory)
    }
}

pub fn recv(user: u64, tag: u64, ignore: u64, memory: &mut Memory) -> FabricRequest {
    FabricRequest {
        tag,
        ignore,
        ptr: memory.memory.as_mut_ptr(),
        ..request(FabricOp::RECV, user, memory)
    }
}

/// A place in a peer's memory.
#[derive(Clone, Copy)]
pub struct Remote {
    pub peer: u64,
    pub key: u64,
    pub addr: u64,
}

pub fn read(user: u64, from: Remote, memory: &mut Memory) -> FabricRequest {
    FabricRequest {
        peer: from.peer,
        remote_key: from.key,
        remote_addr: from.addr,
        ptr: memory.memory.as_mut_ptr(),
        ..request(FabricOp::READ, user, memory)
    }
}

pub fn write(user: u64, to: Remote, memory: &Memory) -> FabricRequest {
    FabricRequest {
        peer: to.peer,
        remote_key: to.key,
        remote_addr: to.addr,
        ..request(FabricOp::WRITE, user, memory)
    }
}

#[repr(align(64))]
#[derive(Clone)]
struct Scratch([u8; 256]);

/// An endpoint, scratch for its operations, and what it completed.
pub struct Node {
    pub endpoint: OfiEndpoint,
    pub done: Vec<FabricCompletion>,
    #[allow(clippy::vec_box)] // operations point at it: it must not move
    scratch: Vec<Box<Scratch>>,
    used: Vec<(u64, Box<Scratch>)>,
}

impl Node {
    pub fn new(domain: &OfiDomain) -> Self {
        assert!(domain.info().scratch_size as usize <= size_of::<Scratch>());
        Self {
            endpoint: domain.endpoint().unwrap(),
            done: Vec::new(),
            scratch: Vec::new(),
            used: Vec::new(),
        }
    }

    pub fn resolve(&mut self, other: &Node) -> u64 {
        self.endpoint.resolve(&other.endpoint.address()).unwrap()
    }

    /// Submits one operation that must be taken.
    pub fn submit(&mut self, request: FabricRequest) {
        let start = Instant::now();
        while self.try_submit(&[request]) == 0 {
            self.poll();
            assert!(start.elapsed() < PATIENCE, "never taken");
        }
    }

    pub fn try_submit(&mut self, requests: &[FabricRequest]) -> usize {
        let mut requests = requests.to_vec();
        for request in &mut requests {
            let fresh = || Box::new(Scratch([0xa5; 256]));
            let mut scratch = self.scratch.pop().unwrap_or_else(fresh);
            request.scratch = scratch.0.as_mut_ptr();
            self.used.push((request.user, scratch));
        }
        // SAFETY: memory and scratch of the operations live until they are completed or the node
        // is dropped, whose endpoint goes first.
        unsafe { self.endpoint.submit(&requests) }.unwrap()
    }

    pub fn poll(&mut self) {
        let nothing = FabricCompletion {
            user: 0,
            tag: 0,
            len: 0,
            status: Status::OK,
            op: FabricOp::SEND,
            reserved: [0; 3],
        };
        let mut room = [nothing; 16];
        let count = self.endpoint.poll(&mut room).unwrap();
        for done in &room[..count] {
            if let Some(at) = self.used.iter().position(|(user, _)| *user == done.user) {
                let (_, mut scratch) = self.used.swap_remove(at);
                scratch.0.fill(0xa5); // whoever still used it would notice
                self.scratch.push(scratch);
            }
            self.done.push(*done);
        }
    }

    /// Takes the completion of `user` if it is there.
    pub fn take(&mut self, user: u64) -> Option<FabricCompletion> {
        let at = self.done.iter().position(|done| done.user == user)?;
        Some(self.done.remove(at))
    }
}

/// Polls all nodes in turn until node `at` has completed `user`.
pub fn finish(nodes: &mut [&mut Node], at: usize, user: u64) -> FabricCompletion {
    let start = Instant::now();
    loop {
        for node in nodes.iter_mut() {
            node.poll();
        }
        if let Some(done) = nodes[at].take(user) {
            return done;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "operation {user} never completed"
        );
    }
}

/// Polls all nodes for a while.
pub fn idle(nodes: &mut [&mut Node], time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        for node in nodes.iter_mut() {
            node.poll();
        }
    }
}

/// Sleeps as an endpoint says that one may.
pub fn sleep(wait: Wait) {
    match wait.kind {
        WaitKind::BUSY => {}
        WaitKind::FD => {
            let mut poll = libc::pollfd {
                fd: wait.fd,
                events: libc::POLLIN,
                revents: 0,
            };
            let timeout = if wait.timeout_us == 0 {
                PATIENCE.as_millis() as i32
            } else {
                wait.timeout_us.div_ceil(1000) as i32
            };
            // SAFETY: one valid pollfd; the endpoint keeps the descriptor open.
            let ready = unsafe { libc::poll(&mut poll, 1, timeout) };
            assert!(
                ready > 0 || wait.timeout_us > 0,
                "slept for {PATIENCE:?} in vain"
            );
        }
        _ => std::thread::sleep(Duration::from_micros(wait.timeout_us)),
    }
}
