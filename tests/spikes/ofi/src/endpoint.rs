//! An endpoint: peers, operations, completions, sleeping.

use crate::handles::{AddressVector, Endpoint, Outcome, Queue};
use crate::operation::{Op, Outstanding, Stage};
use crate::status::Errno;
use crate::sys;
use daos_plugin_api::abi::{FabricCompletion, FabricOp, FabricRequest, Status, Wait};
use daos_plugin_api::sdk::FabricEndpoint;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Peer of operations that have none.
const NO_PEER: sys::fi_addr_t = sys::fi_addr_t::MAX;
/// Period of polling where there is nothing to sleep on, in microseconds.
const POLL_PERIOD: u64 = 50;

struct Peer {
    provider: sys::fi_addr_t,
    address: Vec<u8>,
}

/// How often an entry of the address vector is used: by a peer that is resolved, and by each
/// operation on its way. The provider may still need the entry until the last one is gone.
#[derive(Default)]
struct Use {
    count: usize,
    /// Operations that the provider would not take yet: later ones queue behind them.
    deferred: usize,
    /// Nobody has it resolved any more.
    released: bool,
}

/// An endpoint of a libfabric provider.
pub struct OfiEndpoint {
    // Declared before the queue and the vector: closed first.
    endpoint: Endpoint,
    queue: Arc<Queue>,
    vector: Arc<AddressVector>,
    fd: Option<i32>,
    address: Vec<u8>,
    peers: HashMap<u64, Peer>,
    next_peer: u64,
    by_address: HashMap<Vec<u8>, u64>,
    uses: HashMap<sys::fi_addr_t, Use>,
    outstanding: Outstanding,
    deferred: VecDeque<Op>,
    transmits: usize,
    receives: usize,
    depth: usize,
    done: VecDeque<FabricCompletion>,
}

impl OfiEndpoint {
    pub(crate) fn new(
        endpoint: Endpoint,
        queue: Arc<Queue>,
        vector: Arc<AddressVector>,
        fd: Option<i32>,
        address: Vec<u8>,
        depth: usize,
    ) -> Self {
        Self {
            endpoint,
            queue,
            vector,
            fd,
            address,
            peers: HashMap::new(),
            next_peer: 1,
            by_address: HashMap::new(),
            uses: HashMap::new(),
            outstanding: Outstanding::new(),
            deferred: VecDeque::new(),
            transmits: 0,
            receives: 0,
            depth,
            done: VecDeque::new(),
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
        let peer = match self.peers.get(&request.peer) {
            _ if !known.contains(&request.op) => Err(Status::INVALID),
            _ if is_receive => Ok(NO_PEER),
            Some(peer) => Ok(peer.provider),
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
                let used = self.uses.entry(op.get().peer).or_default();
                used.count += 1;
                if used.deferred > 0 {
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
            Ok(()) => op.set_stage(Stage::Posted),
            Err(Errno::AGAIN) => self.defer(op),
            Err(errno) => {
                let status = status_of(op.get().request.op, errno);
                self.end(op, op.get().completion(status));
            }
        }
    }

    fn defer(&mut self, op: Op) {
        op.set_stage(Stage::Deferred);
        if let Some(used) = self.uses.get_mut(&op.get().peer) {
            used.deferred += 1;
        }
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
            if let Some(used) = self.uses.get_mut(&peer) {
                used.deferred -= 1;
            }
            self.post(op);
            if op_is_deferred(&self.deferred, op) {
                blocked.push(peer);
            }
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
            if self.uses.get(&peer).is_some_and(|used| used.released) {
                completion.status = Status::CANCELLED;
            }
            self.unuse(peer);
        }
        self.done.push_back(completion);
    }

    fn unuse(&mut self, provider: sys::fi_addr_t) {
        let Some(used) = self.uses.get_mut(&provider) else {
            return;
        };
        used.count -= 1;
        if used.count == 0 {
            self.uses.remove(&provider);
            if let Err(errno) = self.vector.remove(provider) {
                tracing::warn!(%errno, "cannot remove a peer's address");
            }
        }
    }

    fn completed(&mut self, outcome: &Outcome) {
        // SAFETY: every context given to the provider is an operation, completed once.
        let Some(op) = (unsafe { Op::from_context(outcome.context) }) else {
            return;
        };
        let operation = op.get();
        let status = match outcome
            .errno
            .map_or(Status::OK, |errno| status_of(operation.request.op, errno))
        {
            // Providers also flush what they have like this when a connection breaks.
            Status::CANCELLED if !operation.is_cancelled => Status::UNREACHABLE,
            status => status,
        };
        if let Some(errno) = outcome.errno {
            tracing::debug!(%errno, op = operation.request.op.0, "an operation failed");
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
                if let Some(used) = self.uses.get_mut(&op.get().peer) {
                    used.deferred -= 1;
                }
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

fn op_is_deferred(deferred: &VecDeque<Op>, op: Op) -> bool {
    deferred.back() == Some(&op)
}

impl FabricEndpoint for OfiEndpoint {
    fn address(&self) -> Vec<u8> {
        self.address.clone()
    }

    fn resolve(&mut self, address: &[u8]) -> Result<u64, Status> {
        if let Some(&peer) = self.by_address.get(address) {
            return Ok(peer);
        }
        // The provider reads as many bytes as its kind of address has: no fewer may come in.
        if address.len() != self.address.len() && !address.ends_with(&[0]) {
            return Err(Status::INVALID);
        }
        // SAFETY: as long as this endpoint's own address, or a text that ends with a zero.
        let provider = unsafe { self.vector.insert(address) }.map_err(Errno::status)?;
        let used = self.uses.entry(provider).or_default();
        used.count += 1;
        used.released = false;
        let number = self.next_peer;
        self.next_peer += 1;
        self.by_address.insert(address.to_vec(), number);
        self.peers.insert(
            number,
            Peer {
                provider,
                address: address.to_vec(),
            },
        );
        Ok(number)
    }

    fn release(&mut self, peer: u64) -> Result<(), Status> {
        let peer = self.peers.remove(&peer).ok_or(Status::NOT_FOUND)?;
        self.by_address.remove(&peer.address);
        if let Some(used) = self.uses.get_mut(&peer.provider) {
            used.released = true;
        }
        let towards: Vec<Op> = self
            .outstanding
            .iter()
            .filter(|op| op.get().peer == peer.provider)
            .filter(|op| op.get().request.op != FabricOp::RECV)
            .collect();
        for op in towards {
            self.cancel_op(op);
        }
        self.unuse(peer.provider);
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
            return Wait::timer(POLL_PERIOD);
        };
        match self.queue.try_wait() {
            // No descriptor announces that a deferred operation can go on.
            Ok(()) if !self.deferred.is_empty() => Wait {
                timeout_us: POLL_PERIOD,
                ..Wait::fd(fd)
            },
            Ok(()) => Wait::fd(fd),
            Err(_) => Wait::BUSY,
        }
    }
}
