//! An endpoint with its completions, and data that can be verified.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]

use daos_plugin_api::abi::*;
use daos_plugin_api::control::FabricOpenRequest;
use daos_plugin_api::sdk::{FabricDomain, FabricEndpoint, Registration};
use fabric_tcp::{Registered, Settings, TcpDomain, TcpEndpoint};
use std::time::{Duration, Instant};

/// How long anything in a test may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub const ANY: u64 = u64::MAX;

pub fn domain_with(settings: Settings) -> TcpDomain {
    let request = FabricOpenRequest {
        provider: "tcp".to_owned(),
        interface: "lo".to_owned(),
        ..Default::default()
    };
    TcpDomain::open(&request, settings).unwrap()
}

pub fn domain() -> TcpDomain {
    domain_with(Settings::default())
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

pub fn request(op: FabricOp, user: u64, memory: &[u8]) -> FabricRequest {
    FabricRequest {
        op,
        reserved: [0; 7],
        peer: 0,
        tag: 0,
        ignore: 0,
        ptr: memory.as_ptr().cast_mut(),
        len: memory.len(),
        descriptor: 0,
        remote_addr: 0,
        remote_key: 0,
        user,
        scratch: std::ptr::null_mut(),
    }
}

pub fn send(user: u64, peer: u64, tag: u64, memory: &[u8]) -> FabricRequest {
    FabricRequest {
        peer,
        tag,
        ..request(FabricOp::SEND, user, memory)
    }
}

pub fn recv(user: u64, tag: u64, ignore: u64, memory: &mut [u8]) -> FabricRequest {
    FabricRequest {
        tag,
        ignore,
        ptr: memory.as_mut_ptr(),
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

pub fn read(user: u64, from: Remote, memory: &mut [u8]) -> FabricRequest {
    FabricRequest {
        peer: from.peer,
        remote_key: from.key,
        remote_addr: from.addr,
        ptr: memory.as_mut_ptr(),
        ..request(FabricOp::READ, user, memory)
    }
}

pub fn write(user: u64, to: Remote, memory: &[u8]) -> FabricRequest {
    FabricRequest {
        peer: to.peer,
        remote_key: to.key,
        remote_addr: to.addr,
        ..request(FabricOp::WRITE, user, memory)
    }
}

/// An endpoint and what it completed.
pub struct Node {
    pub endpoint: TcpEndpoint,
    pub done: Vec<FabricCompletion>,
}

impl Node {
    pub fn new(domain: &TcpDomain) -> Self {
        Self {
            endpoint: domain.endpoint().unwrap(),
            done: Vec::new(),
        }
    }

    pub fn resolve(&mut self, other: &Node) -> u64 {
        self.endpoint.resolve(&other.endpoint.address()).unwrap()
    }

    /// Submits one operation that must be taken.
    pub fn submit(&mut self, request: FabricRequest) {
        assert_eq!(self.try_submit(&[request]), 1, "not taken");
    }

    pub fn try_submit(&mut self, requests: &[FabricRequest]) -> usize {
        // SAFETY: the tests keep the memory of their operations until they are completed or the
        // node is dropped.
        unsafe { self.endpoint.submit(requests) }.unwrap()
    }

    pub fn poll(&mut self) {
        let mut room = [NOTHING; 16];
        let count = self.endpoint.poll(&mut room).unwrap();
        self.done.extend(&room[..count]);
    }

    /// Takes the completion of `user` if it is there.
    pub fn take(&mut self, user: u64) -> Option<FabricCompletion> {
        let at = self.done.iter().position(|done| done.user == user)?;
        Some(self.done.remove(at))
    }

    /// Polls until `user` is completed, alone.
    pub fn finish(&mut self, user: u64) -> FabricCompletion {
        finish(&mut [self], 0, user)
    }
}

const NOTHING: FabricCompletion = FabricCompletion {
    user: 0,
    tag: 0,
    len: 0,
    status: Status::OK,
    op: FabricOp::SEND,
    reserved: [0; 3],
};

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

pub fn register(domain: &TcpDomain, memory: &mut [u8], access: u32) -> Registration<Registered> {
    // SAFETY: the tests drop the registration before the memory.
    unsafe { domain.register(memory.as_mut_ptr(), memory.len(), access) }.unwrap()
}
