//! An endpoint: peers, operations, completions, sleeping.

mod progress;
mod start;

use super::glances::Glances;
use super::local::Owned;
use super::operation::{Op, Outstanding, Stage};
use super::pause::Pause;
use super::peers::Peers;
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
    /// Why the queue could not be read when it was looked at last.
    broken: Option<Status>,
    /// Since when there is an operation as [`progress::ABANDONED`] says.
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
            broken: None,
            abandoned: None,
        }
    }

    /// Ends an operation: its scratch goes back to the host with the completion.
    #[inline]
    fn end(&mut self, op: Op, mut completion: FabricCompletion) -> FabricCompletion {
        let (place, peer) = (op.get().place, op.get().request.peer);
        self.outstanding.remove(op);
        if completion.op == FabricOp::RECV {
            self.receives -= 1;
            return completion;
        }
        self.transmits -= 1;
        if self.peers.is_released(peer) {
            completion.status = Status::CANCELLED;
        }
        self.peers.end(place);
        completion
    }

    /// Ends one that the next poll tells of.
    fn end_later(&mut self, op: Op, status: Status) {
        let completion = self.end(op, op.get().completion(status));
        self.done.push_back(completion);
    }

    /// Cancels an operation as far as the provider can.
    fn cancel_op(&mut self, op: Op) {
        match op.get().stage {
            Stage::Deferred => {
                self.deferred.retain(|&other| other != op);
                self.peers.undefer(op.get().place);
                self.end_later(op, Status::CANCELLED);
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

    #[inline]
    unsafe fn submit(&mut self, requests: &[FabricRequest]) -> Result<usize, Status> {
        for (taken, request) in requests.iter().enumerate() {
            // SAFETY: the caller vouches for the requests.
            if !unsafe { self.start(request) } {
                return Ok(taken);
            }
        }
        Ok(requests.len())
    }

    #[inline]
    fn poll(&mut self, completions: &mut [FabricCompletion]) -> Result<usize, Status> {
        if !self.deferred.is_empty() {
            self.retry();
        }
        if self.abandoned.is_some() {
            self.look_after_abandoned()?;
        }
        if let Some(glances) = &mut self.glances {
            glances.polled();
        }
        let mut count = 0;
        while count < completions.len()
            && let Some(completion) = self.done.pop_front()
        {
            completions[count] = completion;
            count += 1;
        }
        let collected = self.collect(&mut completions[count..]);
        if let (0, Some(status)) = (collected, self.broken) {
            // A queue that cannot be read: what is in hand is told afterwards. What a queue gave before that is told first.
            for completion in completions[..count].iter().rev() {
                self.done.push_front(*completion);
            }
            return Err(status);
        }
        count += collected;
        if count > 0 {
            self.pause.reset();
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
        if !self.drained {
            let mut room = [FabricCompletion::EMPTY; BATCH];
            let count = self.collect(&mut room);
            self.done.extend(&room[..count]);
        }
        if !self.done.is_empty() || self.broken.is_some() {
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
