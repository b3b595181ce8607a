//! An endpoint: peers, operations, completions, sleeping.

mod progress;

use super::glances::Glances;
use super::local::Owned;
use super::neighbour::Refusal;
use super::operation::{
    Op, Outstanding, Stage, completion_of, has_scratch, inject, name_of, status_of,
};
use super::pause::Pause;
use super::peers::{Peers, Place};
use super::waiting::Patience;
use crate::libfabric::{AddressVector, BATCH, Endpoint, Entries, Errno, Queue, sys};
use crate::settings::Settings;
use daos_plugin_api::abi::{FabricCompletion, FabricOp, FabricRequest, Status, Wait};
use daos_plugin_api::sdk::FabricEndpoint;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// Peer of operations that have none.
const NO_PEER: sys::fi_addr_t = sys::fi_addr_t::MAX;

/// What an endpoint is made of.
pub(super) struct Parts {
    pub(super) endpoint: Endpoint,
    pub(super) queue: Arc<Queue>,
    pub(super) vector: Arc<AddressVector>,
    /// The queue's wait descriptor.
    pub(super) fd: Option<i32>,
    pub(super) address: Vec<u8>,
    /// Addresses are texts that end with a zero; else all are as long as this one.
    pub(super) has_text_addresses: bool,
    /// Most operations outstanding per direction.
    pub(super) depth: usize,
    /// Messages up to this length are sent without a completion of the provider.
    pub(super) inject: Option<usize>,
    /// Peers are processes of this machine. The provider answers in the order of operations, and may take a number that
    /// it gives again for a connection to the peer that had it before.
    pub(super) are_neighbours: bool,
    /// For a descriptor that may miss connections.
    pub(super) glances: Option<Glances>,
    /// How long a peer that the provider does not get through to keeps operations waiting.
    pub(super) patience: Patience,
    pub(super) settings: Settings,
}

/// An endpoint of a libfabric provider.
pub struct OfiEndpoint {
    // Declared before the queue and the vector: closed first.
    endpoint: Arc<Endpoint>,
    /// If there may be peers in this process that must know when it is closed.
    owned: Option<Owned>,
    queue: Arc<Queue>,
    peers: Peers,
    fd: Option<i32>,
    pause: Pause,
    address: Vec<u8>,
    has_text_addresses: bool,
    outstanding: Outstanding,
    deferred: VecDeque<Op>,
    transmits: usize,
    receives: usize,
    depth: usize,
    inject: Option<usize>,
    are_neighbours: bool,
    glances: Option<Glances>,
    patience: Patience,
    entries: Entries,
    /// The last look at the queue gave nothing.
    drained: bool,
    done: VecDeque<FabricCompletion>,
    failure_told: Option<Instant>,
    /// Since when there is an operation as [`ABANDONED`] says.
    abandoned: Option<Instant>,
}

impl OfiEndpoint {
    pub(super) fn new(parts: Parts) -> Self {
        let endpoint = Arc::new(parts.endpoint);
        Self {
            owned: parts
                .are_neighbours
                .then(|| Owned::new(&endpoint, &parts.address)),
            endpoint,
            queue: parts.queue,
            peers: Peers::new(parts.vector, parts.are_neighbours),
            fd: parts.fd,
            pause: Pause::new(parts.settings),
            address: parts.address,
            has_text_addresses: parts.has_text_addresses,
            outstanding: Outstanding::new(),
            deferred: VecDeque::new(),
            transmits: 0,
            receives: 0,
            depth: parts.depth,
            inject: parts.inject,
            are_neighbours: parts.are_neighbours,
            glances: parts.glances,
            patience: parts.patience,
            drained: false,
            entries: Box::new([sys::fi_cq_tagged_entry::default(); BATCH]),
            done: VecDeque::new(),
            failure_told: None,
            abandoned: None,
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
        let peer = match self.peers.find(request.peer) {
            _ if !known.contains(&request.op) || !has_scratch(request) => Err(Status::INVALID),
            _ if is_receive => Ok((Place::NONE, NO_PEER)),
            Some(peer) => Ok(peer),
            None => Err(Status::NOT_FOUND),
        };
        let (place, peer) = match peer {
            Ok(peer) => peer,
            Err(status) => {
                self.done.push_back(completion_of(request, status));
                return true;
            }
        };
        // SAFETY: the caller vouches for the memory.
        if let Some(status) = unsafe { self.between_neighbours(request, place) } {
            self.done.push_back(completion_of(request, status));
            return true;
        }
        let is_short = self.inject.is_some_and(|most| request.len <= most);
        if is_short && request.op == FabricOp::SEND && !self.peers.waits(place) {
            // SAFETY: the caller vouches for the memory, the length was looked at.
            let injected = unsafe { inject(request, peer, &self.endpoint) };
            // Otherwise an operation is made, which can wait, and tell why it failed.
            if injected.is_ok() {
                self.done.push_back(completion_of(request, Status::OK));
                return true;
            }
        }
        // SAFETY: the caller vouches for the request's memory and scratch.
        let Some(op) = (unsafe { self.outstanding.add(request, peer, place) }) else {
            self.done.push_back(completion_of(request, Status::INVALID));
            return true;
        };
        if !is_receive {
            self.transmits += 1;
            let must_wait = self.peers.waits(place);
            self.peers.begin(place);
            if must_wait {
                self.defer(op);
            } else {
                self.post(op);
            }
            return true;
        }
        match op.post(&self.endpoint) {
            Ok(()) => self.receives += 1,
            Err(Errno::AGAIN) => {
                self.outstanding.remove(op);
                return false;
            }
            Err(errno) => {
                self.receives += 1;
                self.end(op, op.get().completion(errno.status()));
            }
        }
        true
    }

    /// Carries out what the kernel can do between two processes; `None` leaves it to the provider.
    ///
    /// # Safety
    /// The request's memory is valid, and nobody else uses it meanwhile.
    unsafe fn between_neighbours(&mut self, request: &FabricRequest, to: Place) -> Option<Status> {
        if !self.are_neighbours || request.op == FabricOp::RECV {
            return None;
        }
        let neighbour = self.peers.neighbour(to)?;
        if !neighbour.is_alive() {
            return Some(Status::UNREACHABLE);
        }
        if request.op == FabricOp::SEND {
            return None;
        }
        // SAFETY: the caller vouches for the memory.
        match unsafe { neighbour.copy(request) } {
            Ok(()) => Some(Status::OK),
            Err(Refusal::Forbidden) => None,
            Err(Refusal::Failed(errno)) => {
                let op = name_of(request.op);
                tracing::debug!("a {op} of a process's memory failed: {errno}");
                Some(match errno {
                    nix::errno::Errno::EFAULT => Status::ACCESS,
                    _ => Status::UNREACHABLE,
                })
            }
        }
    }

    /// Hands a transmit operation to the provider, now or later.
    ///
    /// A provider may say "again" because this one peer is still being connected to. The host is
    /// told that an operation is taken only in order, so one such peer would hold up all others:
    /// the plugin keeps the operation itself instead.
    fn post(&mut self, op: Op) {
        let neighbour = self.peers.neighbour(op.get().place);
        if neighbour.is_some_and(|peer| !peer.is_alive()) {
            self.peers.reached(op.get().place);
            return self.end(op, op.get().completion(Status::UNREACHABLE));
        }
        match op.post(&self.endpoint) {
            Ok(()) => {
                op.set_stage(Stage::Posted);
                self.peers.reached(op.get().place);
            }
            Err(Errno::AGAIN) => self.defer(op),
            Err(errno) => {
                self.peers.reached(op.get().place);
                let status = status_of(op.get().request.op, errno);
                self.end(op, op.get().completion(status));
            }
        }
    }

    fn defer(&mut self, op: Op) {
        op.set_stage(Stage::Deferred);
        self.peers.defer(op.get().place);
        self.deferred.push_back(op);
    }

    /// Tries deferred operations again, each peer's in their order.
    fn retry(&mut self) {
        let now = Instant::now();
        let (mut blocked, mut lost): (Vec<Place>, Vec<Place>) = (Vec::new(), Vec::new());
        for op in std::mem::take(&mut self.deferred) {
            let peer = op.get().place;
            if lost.contains(&peer) {
                self.give_up(op);
                continue;
            }
            if blocked.contains(&peer) || !self.peers.is_due(peer, now) {
                self.deferred.push_back(op);
                continue;
            }
            self.peers.undefer(peer);
            self.post(op);
            if self.deferred.back() != Some(&op) {
                self.pause.reset();
            } else if self.peers.tried(peer, self.patience, now) {
                tracing::debug!("a peer cannot be connected to");
                self.deferred.pop_back();
                self.give_up(op);
                lost.push(peer);
            } else {
                blocked.push(peer);
            }
        }
    }

    /// Ends what waits for a peer that cannot be reached.
    fn give_up(&mut self, op: Op) {
        let peer = op.get().place;
        self.peers.undefer(peer);
        match self.patience.remembers {
            true => self.peers.gave_up(peer, Instant::now()),
            false => self.peers.reached(peer), // who tries again has as much time
        }
        self.end(op, op.get().completion(Status::UNREACHABLE));
    }

    /// Ends an operation: its scratch goes back to the host with the completion.
    fn end(&mut self, op: Op, mut completion: FabricCompletion) {
        let (place, peer) = (op.get().place, op.get().request.peer);
        self.outstanding.remove(op);
        if completion.op == FabricOp::RECV {
            self.receives -= 1;
        } else {
            self.transmits -= 1;
            if self.peers.is_released(peer) {
                completion.status = Status::CANCELLED;
            }
            self.peers.end(place);
        }
        self.done.push_back(completion);
    }

    /// Cancels an operation as far as the provider can.
    fn cancel_op(&mut self, op: Op) {
        match op.get().stage {
            Stage::Deferred => {
                self.deferred.retain(|&other| other != op);
                self.peers.undefer(op.get().place);
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

impl Drop for OfiEndpoint {
    fn drop(&mut self) {
        if let Some(owned) = self.owned.take() {
            owned.close(self.peers.receivers());
        }
    }
}

impl FabricEndpoint for OfiEndpoint {
    fn address(&self) -> Vec<u8> {
        self.address.clone()
    }

    fn resolve(&mut self, address: &[u8]) -> Result<u64, Status> {
        // The provider reads as many bytes as its kind of address has, no fewer may come in; and what it would not
        // read makes no other peer.
        let is_whole = match self.has_text_addresses {
            true => {
                address.iter().position(|&byte| byte == 0) == Some(address.len().wrapping_sub(1))
            }
            false => address.len() == self.address.len(),
        };
        if !is_whole {
            return Err(Status::INVALID);
        }
        // SAFETY: as long as this endpoint's own address, or a text that ends with its only zero.
        unsafe { self.peers.resolve(address) }.map_err(Errno::status)
    }

    fn release(&mut self, peer: u64) -> Result<(), Status> {
        let place = self.peers.forget(peer)?;
        let towards: Vec<Op> = self
            .outstanding
            .iter()
            .filter(|op| op.get().place == place)
            .filter(|op| op.get().request.op != FabricOp::RECV)
            .collect();
        for op in towards {
            if self.are_neighbours && op.get().stage == Stage::Posted {
                self.abandoned.get_or_insert_with(Instant::now);
            }
            self.cancel_op(op);
        }
        self.peers.end(place);
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
        if !self.deferred.is_empty() {
            self.retry();
        }
        self.look_after_abandoned()?;
        if let Some(glances) = &mut self.glances {
            glances.polled();
        }
        self.collect(completions.len())?;
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
        // Who sleeps on a descriptor must have made all the progress that there is. A failure is told by the next poll.
        if !self.drained && (self.collect(BATCH).is_err() || !self.done.is_empty()) {
            return Wait::BUSY;
        }
        if self.queue.try_wait().is_err() {
            return Wait::BUSY;
        }
        let glance = self.glances.as_mut().map(Glances::next);
        let timeout_us = match self.deferred.is_empty() {
            true => glance.unwrap_or_default(),
            // No descriptor announces that a deferred operation can go on.
            false => self.pause.take(),
        };
        Wait {
            timeout_us,
            ..Wait::fd(fd)
        }
    }
}
