//! Requests that come in, and those that the provider does not take yet.

use super::{NO_PEER, OfiEndpoint};
use crate::data::neighbour::{Neighbour, Refusal};
use crate::data::operation::{Op, Stage, completion_of, has_scratch, inject, name_of, status_of};
use crate::data::peers::Place;
use crate::libfabric::Errno;
use daos_plugin_api::abi::{FabricOp, FabricRequest, Status};
use std::time::Instant;

impl OfiEndpoint {
    /// Takes one request; `false` if the endpoint is full.
    ///
    /// # Safety
    /// As for `submit`.
    #[inline]
    pub(super) unsafe fn start(&mut self, request: &FabricRequest) -> bool {
        let count = match request.op {
            FabricOp::RECV => self.receives,
            _ => self.transmits,
        };
        if count >= self.depth || self.done.len() >= 2 * self.depth {
            return false;
        }
        match request.op {
            _ if !has_scratch(request) => self.answer(request, Status::INVALID),
            // SAFETY: the caller vouches for the request, whose scratch was looked at.
            FabricOp::RECV => unsafe { self.receive(request) },
            FabricOp::SEND | FabricOp::READ | FabricOp::WRITE => {
                // SAFETY: as above.
                unsafe { self.transmit(request) };
                true
            }
            _ => self.answer(request, Status::INVALID),
        }
    }

    /// Ends a request that needs no operation; `true`, it is taken.
    fn answer(&mut self, request: &FabricRequest, status: Status) -> bool {
        self.done.push_back(completion_of(request, status));
        true
    }

    /// Offers memory for a message; `false` if the provider has no room.
    ///
    /// # Safety
    /// As for `submit`, of a request with scratch.
    #[inline]
    unsafe fn receive(&mut self, request: &FabricRequest) -> bool {
        // SAFETY: the caller vouches for the request's scratch.
        let op = unsafe { self.outstanding.add(request, NO_PEER, Place::NONE) };
        match op.post_receive(&self.endpoint) {
            Ok(()) => self.receives += 1,
            Err(Errno::AGAIN) => {
                self.outstanding.remove(op);
                return false;
            }
            Err(errno) => {
                self.receives += 1;
                self.end_later(op, errno.status());
            }
        }
        true
    }

    /// Takes a SEND, READ or WRITE.
    ///
    /// # Safety
    /// As for `submit`, of a request with scratch.
    #[inline]
    unsafe fn transmit(&mut self, request: &FabricRequest) {
        let Some((place, entry)) = self.peers.find(request.peer) else {
            self.answer(request, Status::NOT_FOUND);
            return;
        };
        if let Some(neighbour) = &mut entry.neighbour {
            let ended = match neighbour.is_alive() {
                false => Some(Status::UNREACHABLE),
                true if request.op == FabricOp::SEND => None,
                // SAFETY: the caller vouches for the memory.
                true => unsafe { copy(neighbour, request) },
            };
            if let Some(status) = ended {
                self.answer(request, status);
                return;
            }
        }
        let (peer, must_wait) = (entry.provider, entry.deferred > 0);
        let is_short = self.inject.is_some_and(|most| request.len <= most);
        if is_short && request.op == FabricOp::SEND && !must_wait {
            // SAFETY: the caller vouches for the memory, the length was looked at.
            let injected = unsafe { inject(request, peer, &self.endpoint) };
            // Otherwise an operation is made, which can wait, and tell why it failed.
            if injected.is_ok() {
                self.answer(request, Status::OK);
                return;
            }
        }
        // SAFETY: the caller vouches for the request's memory and scratch.
        let op = unsafe { self.outstanding.add(request, peer, place) };
        self.transmits += 1;
        self.peers.begin(place);
        if must_wait {
            self.defer(op);
        } else {
            self.post(op);
        }
    }

    /// Hands a transmit operation to the provider, now or later.
    ///
    /// A provider may say "again" because this one peer is still being connected to. The host is
    /// told that an operation is taken only in order, so one such peer would hold up all others:
    /// the plugin keeps the operation itself instead.
    pub(super) fn post(&mut self, op: Op) {
        let neighbour = self.peers.neighbour(op.get().place);
        if neighbour.is_some_and(|peer| !peer.is_alive()) {
            self.peers.reached(op.get().place);
            return self.end_later(op, Status::UNREACHABLE);
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
                self.end_later(op, status);
            }
        }
    }

    fn defer(&mut self, op: Op) {
        op.set_stage(Stage::Deferred);
        self.peers.defer(op.get().place);
        self.deferred.push_back(op);
    }

    /// Tries deferred operations again, each peer's in their order.
    pub(super) fn retry(&mut self) {
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
        self.end_later(op, Status::UNREACHABLE);
    }
}

/// Carries out a READ or WRITE of a process of this machine; `None` leaves it to the provider.
///
/// # Safety
/// The request's memory is valid, and nobody else uses it meanwhile.
unsafe fn copy(neighbour: &Neighbour, request: &FabricRequest) -> Option<Status> {
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
