//! Endpoints with memory and bookkeeping: every completion must belong to an outstanding operation
//! and come once. All unsafe code of the fabric cases is here.

use crate::abi::{FABRIC_LOCAL, FabricCompletion, FabricOp, FabricRequest, Status};
use crate::conformance::case::{Verdict, ensure, failed};
use crate::conformance::wait::LIMIT;
use crate::host::{CallOptions, Endpoint, FabricDomain, FabricMemory, Instance, ThreadGuard};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Bytes of memory of a node.
pub(super) const POOL: usize = 4 << 20;

#[repr(C, align(4096))]
#[derive(Clone)]
struct Page([u8; 4096]);

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u8; 64]);

/// An operation on the node's memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Op {
    pub(super) op: FabricOp,
    pub(super) peer: u64,
    pub(super) tag: u64,
    pub(super) ignore: u64,
    pub(super) offset: usize,
    pub(super) len: usize,
    pub(super) remote_addr: u64,
    pub(super) remote_key: u64,
}

impl Op {
    pub(super) fn send(peer: u64, tag: u64, offset: usize, len: usize) -> Self {
        Self {
            op: FabricOp::SEND,
            peer,
            tag,
            ignore: 0,
            offset,
            len,
            remote_addr: 0,
            remote_key: 0,
        }
    }

    pub(super) fn recv(tag: u64, offset: usize, len: usize) -> Self {
        Self {
            op: FabricOp::RECV,
            ..Self::send(0, tag, offset, len)
        }
    }

    pub(super) fn ignoring(mut self, ignore: u64) -> Self {
        self.ignore = ignore;
        self
    }

    /// READ or WRITE of `len` bytes at remote address `remote_addr`.
    pub(super) fn remote(
        op: FabricOp,
        peer: u64,
        (offset, len): (usize, usize),
        (remote_addr, remote_key): (u64, u64),
    ) -> Self {
        Self {
            op,
            remote_addr,
            remote_key,
            ..Self::send(peer, 0, offset, len)
        }
    }
}

/// An endpoint on this thread with memory of its own.
pub(super) struct Node {
    // Dropped first, so that scratch and memory may go.
    endpoint: Option<Endpoint>,
    held: HashMap<u64, (FabricOp, Box<[Line]>)>,
    // Ended before the memory goes.
    local: FabricMemory,
    shares: Vec<Option<FabricMemory>>,
    memory: Box<[Page]>,
    domain: FabricDomain,
    done: HashMap<u64, FabricCompletion>,
    next_user: u64,
    _thread: ThreadGuard,
}

impl Node {
    pub(super) fn new(instance: &Instance, domain: &FabricDomain) -> Verdict<Self> {
        let thread = instance.attach_thread()?;
        let mut memory = vec![Page([0; 4096]); POOL / 4096].into_boxed_slice();
        // SAFETY: the memory is dropped after the registration (order of the fields).
        let local = unsafe { domain.register(memory.as_mut_ptr().cast(), POOL, FABRIC_LOCAL) }?;
        Ok(Self {
            endpoint: Some(domain.open_endpoint(CallOptions::default())?),
            held: HashMap::new(),
            local,
            shares: Vec::new(),
            memory,
            domain: domain.clone(),
            done: HashMap::new(),
            next_user: 1,
            _thread: thread,
        })
    }

    pub(super) fn endpoint(&mut self) -> &mut Endpoint {
        self.endpoint
            .as_mut()
            .expect("the endpoint is open until `close`")
    }

    pub(super) fn domain_flags(&self) -> u64 {
        self.domain.info().flags
    }

    /// Most bytes of a READ or WRITE.
    pub(super) fn most_at_once(&self) -> u64 {
        self.domain.info().max_rma
    }

    pub(super) fn is_open(&self) -> bool {
        self.endpoint.is_some()
    }

    /// Closes the endpoint, whatever is outstanding; the memory stays.
    pub(super) fn close(&mut self) {
        self.endpoint = None;
        self.held.clear();
    }

    pub(super) fn address(&mut self) -> Verdict<Vec<u8>> {
        Ok(self.endpoint().address()?)
    }

    /// Registers `len` bytes at `offset` for peers; returns the number of the registration, the
    /// remote address of its first byte and the key.
    pub(super) fn share(
        &mut self,
        offset: usize,
        len: usize,
        access: u32,
    ) -> Verdict<(usize, u64, u64)> {
        assert!(offset + len <= POOL, "outside of the memory");
        let ptr = self.memory.as_mut_ptr().cast::<u8>().wrapping_add(offset);
        // SAFETY: inside the memory, which is dropped after the registrations.
        let share = unsafe { self.domain.register(ptr, len, access) }?;
        let place = (self.shares.len(), share.base(), share.key());
        self.shares.push(Some(share));
        Ok(place)
    }

    /// Ends a registration.
    pub(super) fn unshare(&mut self, number: usize) {
        self.shares[number] = None;
    }

    pub(super) fn put(&mut self, offset: usize, data: &[u8]) {
        assert!(offset + data.len() <= POOL, "outside of the memory");
        // SAFETY: inside the memory; the caller puts nothing under outstanding operations.
        unsafe {
            let at = self.memory.as_mut_ptr().cast::<u8>().add(offset);
            std::ptr::copy_nonoverlapping(data.as_ptr(), at, data.len());
        }
    }

    pub(super) fn get(&self, offset: usize, len: usize) -> Vec<u8> {
        assert!(offset + len <= POOL, "outside of the memory");
        let mut out = vec![0; len];
        // SAFETY: inside the memory.
        unsafe {
            let at = self.memory.as_ptr().cast::<u8>().add(offset);
            std::ptr::copy_nonoverlapping(at, out.as_mut_ptr(), len);
        }
        out
    }

    /// Offers an operation once; its number if it was taken.
    pub(super) fn offer(&mut self, op: &Op) -> Verdict<Option<u64>> {
        // Longer ones are only used where the length alone must be refused.
        assert!(op.offset <= POOL, "outside of the memory");
        let lines = (self.domain.info().scratch_size as usize).div_ceil(64);
        let mut scratch = vec![Line([0xa5; 64]); lines].into_boxed_slice();
        let user = self.next_user;
        let request = FabricRequest {
            op: op.op,
            reserved: [0; 7],
            peer: op.peer,
            tag: op.tag,
            ignore: op.ignore,
            ptr: self
                .memory
                .as_mut_ptr()
                .cast::<u8>()
                .wrapping_add(op.offset),
            len: op.len,
            descriptor: self.local.descriptor(),
            remote_addr: op.remote_addr,
            remote_key: op.remote_key,
            user,
            scratch: if lines == 0 {
                std::ptr::null_mut()
            } else {
                scratch.as_mut_ptr().cast()
            },
        };
        // SAFETY: memory and scratch live until the completion or until the endpoint is closed.
        let taken = unsafe { self.endpoint().submit(&[request]) }?;
        if taken == 0 {
            return Ok(None);
        }
        self.next_user += 1;
        self.held.insert(user, (op.op, scratch));
        Ok(Some(user))
    }

    /// Polls once and books the completions; returns their number.
    pub(super) fn poll(&mut self) -> Verdict<usize> {
        const POISON: FabricCompletion = FabricCompletion {
            user: u64::MAX,
            status: Status(i32::MIN),
            ..FabricCompletion::EMPTY
        };
        let mut out = [POISON; 16];
        let n = self.endpoint().poll(&mut out)?;
        for completion in &out[..n] {
            let user = completion.user;
            let Some((op, _)) = self.held.remove(&user) else {
                return failed(format!("a completion for {user}, which is not outstanding"));
            };
            ensure!(
                op == completion.op,
                "operation {user} is a {op:?}, its completion says {:?}",
                completion.op
            );
            self.done.insert(user, *completion);
        }
        ensure!(
            out[n..].iter().all(|c| *c == POISON),
            "poll wrote beyond the {n} completions it returned"
        );
        Ok(n)
    }

    pub(super) fn outstanding(&self) -> usize {
        self.held.len()
    }

    /// Takes the completion of an operation if it is there.
    pub(super) fn take(&mut self, user: u64) -> Option<FabricCompletion> {
        self.done.remove(&user)
    }
}

/// Nodes on this thread that know each other.
pub(super) struct Net {
    pub(super) nodes: Vec<Node>,
    peers: Vec<Vec<u64>>,
}

impl Net {
    pub(super) fn new(instance: &Instance, domain: &FabricDomain, count: usize) -> Verdict<Self> {
        let nodes = (0..count)
            .map(|_| Node::new(instance, domain))
            .collect::<Verdict<Vec<_>>>()?;
        Self::of(nodes)
    }

    /// Makes nodes of any domains known to each other.
    pub(super) fn of(mut nodes: Vec<Node>) -> Verdict<Self> {
        let addresses = nodes
            .iter_mut()
            .map(Node::address)
            .collect::<Verdict<Vec<_>>>()?;
        let mut peers = Vec::new();
        for node in &mut nodes {
            let numbers = addresses
                .iter()
                .map(|address| Ok(node.endpoint().resolve(address)?))
                .collect::<Verdict<Vec<_>>>()?;
            peers.push(numbers);
        }
        Ok(Self { nodes, peers })
    }

    /// Number under which node `from` knows node `to`.
    pub(super) fn peer(&self, from: usize, to: usize) -> u64 {
        self.peers[from][to]
    }

    /// Lets every node make progress.
    pub(super) fn progress(&mut self) -> Verdict<usize> {
        let mut n = 0;
        for node in self.nodes.iter_mut().filter(|n| n.is_open()) {
            n += node.poll()?;
        }
        if n == 0 {
            std::thread::yield_now();
        }
        Ok(n)
    }

    /// Starts an operation; if the queue is full, after progress.
    pub(super) fn start(&mut self, at: usize, op: &Op) -> Verdict<u64> {
        let start = Instant::now();
        loop {
            if let Some(user) = self.nodes[at].offer(op)? {
                return Ok(user);
            }
            self.progress()?;
            ensure!(
                start.elapsed() < LIMIT,
                "node {at} does not take an operation within {LIMIT:?}"
            );
        }
    }

    /// Waits for an operation up to `limit`.
    pub(super) fn wait_for(
        &mut self,
        at: usize,
        user: u64,
        limit: Duration,
    ) -> Verdict<Option<FabricCompletion>> {
        let start = Instant::now();
        loop {
            if let Some(completion) = self.nodes[at].take(user) {
                return Ok(Some(completion));
            }
            if start.elapsed() > limit {
                return Ok(None);
            }
            self.progress()?;
        }
    }

    /// Waits for an operation, whatever its outcome.
    pub(super) fn wait(&mut self, at: usize, user: u64) -> Verdict<FabricCompletion> {
        match self.wait_for(at, user, LIMIT)? {
            Some(completion) => Ok(completion),
            None => failed(format!(
                "operation {user} of node {at} does not complete within {LIMIT:?}"
            )),
        }
    }

    /// Waits for an operation that must succeed.
    pub(super) fn must(&mut self, at: usize, user: u64) -> Verdict<FabricCompletion> {
        let completion = self.wait(at, user)?;
        ensure!(
            completion.status.is_ok(),
            "operation {user} of node {at} completed as {:?}",
            completion.status
        );
        Ok(completion)
    }

    /// Runs an operation to its end.
    pub(super) fn run(&mut self, at: usize, op: &Op) -> Verdict<FabricCompletion> {
        let user = self.start(at, op)?;
        self.wait(at, user)
    }

    /// Sends `data` from node `from` (offset 0) to node `to` (second half) and compares.
    pub(super) fn message(&mut self, from: usize, to: usize, tag: u64, data: &[u8]) -> Verdict {
        let place = POOL / 2;
        self.nodes[to].put(place, &vec![0xee; data.len() + 64]);
        self.nodes[from].put(0, data);
        let recv = self.start(to, &Op::recv(tag, place, data.len() + 64))?;
        let send = self.start(from, &Op::send(self.peer(from, to), tag, 0, data.len()))?;
        let received = self.must(to, recv)?;
        self.must(from, send)?;
        ensure!(
            received.len == data.len() as u64 && received.tag == tag,
            "{} bytes sent with tag {tag:#x} were received as {} bytes with tag {:#x}",
            data.len(),
            received.len,
            received.tag
        );
        let found = self.nodes[to].get(place, data.len() + 64);
        if let Some(how) = crate::conformance::pattern::difference(&found[..data.len()], data) {
            return failed(format!("a message of {} bytes: {how}", data.len()));
        }
        ensure!(
            found[data.len()..].iter().all(|b| *b == 0xee),
            "a message of {} bytes changed the memory behind it",
            data.len()
        );
        Ok(())
    }
}
