//! An endpoint: peers, operations, completions, sleeping.

use super::operation::{Op, Outstanding, Stage};
use super::pause::Pause;
use super::peers::Peers;
use crate::libfabric::{AddressVector, Endpoint, Errno, Outcome, Queue, sys};
use crate::settings::Settings;
use daos_plugin_api::abi::{FabricCompletion, FabricOp, FabricRequest, Status, Wait};
use daos_plugin_api::sdk::FabricEndpoint;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Peer of operations that have none.
const NO_PEER: sys::fi_addr_t = sys::fi_addr_t::MAX;
/// How long a peer that the provider does not get through to keeps operations waiting. A provider that tries to
/// connect again and again, as ofi_rxm does, never ends them by itself; and whoever sends needs its memory back.
/// Long enough for a lost packet of the handshake to be sent again.
const PATIENCE: Duration = Duration::from_secs(3);
/// Failures within this time of one that was told are told to the debug log only: a connection that
/// breaks fails everything on it.
const QUIET: Duration = Duration::from_secs(1);

/// What an endpoint is made of.
pub(super) struct Parts {
    pub(super) endpoint: Endpoint,
    pub(super) queue: Arc<Queue>,
    pub(super) vector: Arc<AddressVector>,
    /// The queue's wait descriptor.
    pub(super) fd: Option<i32>,
    pub(super) address: Vec<u8>,
    /// Most operations outstanding per direction.
    pub(super) depth: usize,
    pub(super) settings: Settings,
}

/// An endpoint of a libfabric provider.
pub struct OfiEndpoint {
    // Declared before the queue and the vector: closed first.
    endpoint: Endpoint,
    queue: Arc<Queue>,
    peers: Peers,
    fd: Option<i32>,
    pause: Pause,
    address: Vec<u8>,
    outstanding: Outstanding,
    deferred: VecDeque<Op>,
    transmits: usize,
    receives: usize,
    depth: usize,
    done: VecDeque<FabricCompletion>,
    failure_told: Option<Instant>,
}

impl OfiEndpoint {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            endpoint: parts.endpoint,
            queue: parts.queue,
            peers: Peers::new(parts.vector),
            fd: parts.fd,
            pause: Pause::new(parts.settings),
            address: parts.address,
            outstanding: Outstanding::new(),
            deferred: VecDeque::new(),
            transmits: 0,
            receives: 0,
            depth: parts.depth,
            done: VecDeque::new(),
            failure_told: None,
        }
    }

    /// Takes one request; `false` if the endpoint is full.
    ///
    /// # Safety
    /// As for [`FabricEndpoint::submit`].
    unsafe fn start(&mut self, request: &FabricRequest) -> bool {
        let is_receive = request.op == FabricOp::RECV;
        let count = if is_receive {
            self.receives
        } else {
            self.transmits
        };
        if count >= self.depth || self.done.len() >= 2 * self.depth {
            return false;
        }
        let known = [
            FabricOp::SEND,
            FabricOp::RECV,
            FabricOp::READ,
            FabricOp::WRITE,
        ];
        let peer = match self.peers.provider(request.peer) {
            _ if !known.contains(&request.op) => Err(Status::INVALID),
            _ if is_receive => Ok(NO_PEER),
            Some(provider) => Ok(provider),
            None => Err(Status::NOT_FOUND),
        };
        let started = peer.and_then(|peer| {
            // SAFETY: the caller vouches for the request's memory and scratch.
            unsafe { self.outstanding.add(request, peer) }.ok_or(Status::INVALID)
        });
        match started {
            Ok(op) if is_receive => match op.post(&self.endpoint) {
                Ok(()) => self.receives += 1,
                Err(Errno::AGAIN) => {
                    self.outstanding.remove(op);
                    return false;
                }
                Err(errno) => {
                    self.receives += 1;
                    self.end(op, op.get().completion(errno.status()));
                }
            },
            Ok(op) => {
                self.transmits += 1;
                if self.peers.begin(op.get().peer) {
                    self.defer(op);
                } else {
                    self.post(op);
                }
            }
            Err(status) => self.done.push_back(FabricCompletion {
                user: request.user,
                tag: 0,
                len: 0,
                status,
                op: request.op,
                reserved: [0; 3],
            }),
        }
        true
    }

    /// Hands a transmit operation to the provider, now or later.
    ///
    /// A provider may say "again" because this one peer is still being connected to. The host is
    /// told that an operation is taken only in order, so one such peer would hold up all others:
    /// the plugin keeps the operation itself instead.
    fn post(&mut self, op: Op) {
        match op.post(&self.endpoint) {
            Ok(()) => {
                op.set_stage(Stage::Posted);
                self.peers.reached(op.get().peer);
            }
            Err(Errno::AGAIN) => self.defer(op),
            Err(errno) => {
                self.peers.reached(op.get().peer);
                let status = status_of(op.get().request.op, errno);
                self.end(op, op.get().completion(status));
            }
        }
    }

    fn defer(&mut self, op: Op) {
        op.set_stage(Stage::Deferred);
        self.peers.defer(op.get().peer);
        self.deferred.push_back(op);
    }

    /// Tries deferred operations again, each peer's in their order.
    fn retry(&mut self) {
        let mut blocked: Vec<sys::fi_addr_t> = Vec::new();
        for _ in 0..self.deferred.len() {
            let Some(op) = self.deferred.pop_front() else {
                return;
            };
            let peer = op.get().peer;
            if blocked.contains(&peer) {
                self.deferred.push_back(op);
                continue;
            }
            self.peers.undefer(peer);
            self.post(op);
            if self.deferred.back() == Some(&op) {
                if self.peers.has_waited(peer, PATIENCE) {
                    self.give_up(peer);
                }
                blocked.push(peer);
            } else {
                self.pause.reset();
            }
        }
    }

    /// Ends what waits for a peer that cannot be reached.
    fn give_up(&mut self, peer: sys::fi_addr_t) {
        let (lost, rest): (VecDeque<Op>, VecDeque<Op>) =
            self.deferred.iter().partition(|op| op.get().peer == peer);
        self.deferred = rest;
        tracing::debug!(operations = lost.len(), "a peer cannot be connected to");
        self.peers.reached(peer); // who tries again has as much time
        for op in lost {
            self.peers.undefer(peer);
            self.end(op, op.get().completion(Status::UNREACHABLE));
        }
    }

    /// Ends an operation: its scratch goes back to the host with the completion.
    fn end(&mut self, op: Op, mut completion: FabricCompletion) {
        let peer = op.get().peer;
        self.outstanding.remove(op);
        if completion.op == FabricOp::RECV {
            self.receives -= 1;
        } else {
            self.transmits -= 1;
            if self.peers.is_released(peer) {
                completion.status = Status::CANCELLED;
            }
            self.peers.end(peer);
        }
        self.done.push_back(completion);
    }

    fn completed(&mut self, outcome: &Outcome) {
        // SAFETY: every context given to the provider is an operation, completed once.
        let Some(op) = (unsafe { Op::from_context(outcome.context) }) else {
            return;
        };
        let operation = op.get();
        let status = match outcome.failure.as_ref().map_or(Status::OK, |failure| {
            status_of(operation.request.op, failure.errno)
        }) {
            // Providers also flush what they have like this when a connection breaks.
            Status::CANCELLED if !operation.is_cancelled => Status::UNREACHABLE,
            status => status,
        };
        if let Some(failure) = &outcome.failure
            && status != Status::CANCELLED
        {
            let op = name_of(operation.request.op);
            let now = Instant::now();
            if self
                .failure_told
                .is_none_or(|told| now.duration_since(told) >= QUIET)
            {
                self.failure_told = Some(now);
                tracing::warn!("a {op} ended as {status}: {failure}");
            } else {
                tracing::debug!("a {op} ended as {status}: {failure}");
            }
        }
        let mut completion = operation.completion(status);
        if operation.request.op == FabricOp::RECV {
            completion.tag = outcome.tag;
            completion.len = outcome.len.min(operation.request.len) as u64;
        }
        self.end(op, completion);
    }

    /// Cancels an operation as far as the provider can.
    fn cancel_op(&mut self, op: Op) {
        match op.get().stage {
            Stage::Deferred => {
                self.deferred.retain(|&other| other != op);
                self.peers.undefer(op.get().peer);
                self.end(op, op.get().completion(Status::CANCELLED));
            }
            Stage::Posted => {
                if let Err(errno) = op.cancel(&self.endpoint) {
                    tracing::debug!(%errno, "the provider cannot cancel this operation");
                }
            }
        }
    }
}

/// How an operation failed. For a transmission, an error without a meaning of its own says that
/// its peer cannot be reached: providers report EIO for a connection that was refused.
fn status_of(op: FabricOp, errno: Errno) -> Status {
    match errno.status() {
        Status::IO if op != FabricOp::RECV => Status::UNREACHABLE,
        status => status,
    }
}

fn name_of(op: FabricOp) -> &'static str {
    match op {
        FabricOp::SEND => "SEND",
        FabricOp::RECV => "RECV",
        FabricOp::READ => "READ",
        _ => "WRITE",
    }
}

impl FabricEndpoint for OfiEndpoint {
    fn address(&self) -> Vec<u8> {
        self.address.clone()
    }

    fn resolve(&mut self, address: &[u8]) -> Result<u64, Status> {
        // The provider reads as many bytes as its kind of address has: no fewer may come in.
        if address.len() != self.address.len() && !address.ends_with(&[0]) {
            return Err(Status::INVALID);
        }
        // SAFETY: as long as this endpoint's own address, or a text that ends with a zero.
        unsafe { self.peers.resolve(address) }.map_err(Errno::status)
    }

    fn release(&mut self, peer: u64) -> Result<(), Status> {
        let provider = self.peers.forget(peer)?;
        let towards: Vec<Op> = self
            .outstanding
            .iter()
            .filter(|op| op.get().peer == provider)
            .filter(|op| op.get().request.op != FabricOp::RECV)
            .collect();
        for op in towards {
            self.cancel_op(op);
        }
        self.peers.end(provider);
        Ok(())
    }

    unsafe fn submit(&mut self, requests: &[FabricRequest]) -> Result<usize, Status> {
        let taken = requests.iter().take_while(|request| {
            // SAFETY: the caller vouches for the requests.
            unsafe { self.start(request) }
        });
        Ok(taken.count())
    }

    fn poll(&mut self, completions: &mut [FabricCompletion]) -> Result<usize, Status> {
        self.retry();
        while self.done.len() < completions.len() {
            let mut outcomes = Vec::new();
            let room = completions.len() - self.done.len();
            let queue = self.queue.clone();
            let count = queue
                .read(room, |outcome| outcomes.push(outcome))
                .map_err(|errno| {
                    tracing::error!(%errno, "cannot read the completion queue");
                    errno.status()
                })?;
            for outcome in &outcomes {
                self.completed(outcome);
            }
            if count == 0 {
                break;
            }
        }
        if !self.done.is_empty() {
            self.pause.reset();
        }
        let count = self.done.len().min(completions.len());
        for (slot, completion) in completions.iter_mut().zip(self.done.drain(..count)) {
            *slot = completion;
        }
        Ok(count)
    }

    fn cancel(&mut self, user: u64) -> Result<(), Status> {
        let found = self
            .outstanding
            .iter()
            .find(|op| op.get().request.user == user);
        match found {
            Some(op) => self.cancel_op(op),
            None if self.done.iter().any(|done| done.user == user) => {}
            None => return Err(Status::NOT_FOUND),
        }
        Ok(())
    }

    fn arm_wait(&mut self) -> Wait {
        if !self.done.is_empty() {
            return Wait::BUSY;
        }
        let Some(fd) = self.fd else {
            return Wait::timer(self.pause.take());
        };
        match self.queue.try_wait() {
            // No descriptor announces that a deferred operation can go on.
            Ok(()) if !self.deferred.is_empty() => Wait {
                timeout_us: self.pause.take(),
                ..Wait::fd(fd)
            },
            Ok(()) => Wait::fd(fd),
            Err(_) => Wait::BUSY,
        }
    }
}
