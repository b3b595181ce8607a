//! An endpoint: the calls of the host. What happens in between is in the modules `progress`,
//! `receive` and `transmit`.

use super::address::EndpointAddress;
use super::domain::Shared;
use super::frame::{Header, LaneKind, MAX_MESSAGE, MAX_RMA};
use super::lane::{Body, Lane, Outgoing, Target};
use super::matching::{Delivery, Matcher, Offer, Posted};
use super::memory::Span;
use super::operations::{Operations, Progress, completion};
use super::slots::{Id, Slots};
use daos_plugin_api::abi::{FabricCompletion, FabricOp, FabricRequest, Status, Wait};
use daos_plugin_api::sdk::FabricEndpoint;
use nix::sys::epoll::{Epoll, EpollEvent};
use std::collections::{HashMap, VecDeque};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// Most operations outstanding per direction.
pub(crate) const MAX_OUTSTANDING: usize = 1024;
/// Most connections of an endpoint, dialled and accepted.
pub(super) const MAX_LANES: usize = 8192;
/// Most peers of an endpoint.
const MAX_PEERS: usize = 65536;
/// Socket events taken per poll.
const EVENTS: usize = 128;

/// A peer that `resolve` numbered.
pub(super) struct Peer {
    pub(super) address: EndpointAddress,
    pub(super) message: Option<Id>,
    pub(super) rma: Option<Id>,
}

impl Peer {
    pub(super) fn lane(&mut self, kind: LaneKind) -> &mut Option<Id> {
        match kind {
            LaneKind::Message => &mut self.message,
            LaneKind::Rma => &mut self.rma,
        }
    }
}

/// An endpoint: a listening socket, a connection per peer and direction, all of them watched by
/// one epoll descriptor. It has no thread of its own: everything happens inside the host's calls.
pub struct TcpEndpoint {
    pub(super) domain: Arc<Shared>,
    pub(super) epoll: Epoll,
    pub(super) listener: TcpListener,
    /// The listener left epoll because no descriptor was free.
    pub(super) deaf: bool,
    pub(super) address: EndpointAddress,
    pub(super) lanes: Slots<Box<Lane>>,
    pub(super) peers: Slots<Peer>,
    pub(super) by_address: HashMap<EndpointAddress, Id>,
    /// Accepted lanes for messages, by incarnation of the endpoint that dialled.
    pub(super) by_source: HashMap<u64, Id>,
    pub(super) operations: Operations,
    pub(super) matcher: Matcher,
    /// Lanes whose next message found neither a RECV nor room, longest waiting first.
    pub(super) stalled: VecDeque<Id>,
    /// Accepted lanes that have not introduced themselves, oldest first (some may be gone).
    pub(super) strangers: VecDeque<Id>,
    /// Lanes to process at the next poll whatever epoll says.
    pub(super) ready: VecDeque<Id>,
    /// Lanes with new frames of the current submission.
    dirty: Vec<Id>,
    pub(super) done: VecDeque<FabricCompletion>,
    /// RECVs that are not completed.
    receives: usize,
    next_receive: u64,
    pub(super) events: Vec<EpollEvent>,
    /// Epoll had more events than fit.
    pub(super) unseen: bool,
    /// Bytes that nobody wants, and messages on their way into held memory.
    pub(super) discard: Box<[u8]>,
}

impl TcpEndpoint {
    pub(super) fn new(
        domain: Arc<Shared>,
        epoll: Epoll,
        listener: TcpListener,
        address: EndpointAddress,
    ) -> Self {
        let limits = domain.limits;
        Self {
            domain,
            epoll,
            listener,
            deaf: false,
            address,
            lanes: Slots::new(MAX_LANES),
            peers: Slots::new(MAX_PEERS),
            by_address: HashMap::new(),
            by_source: HashMap::new(),
            operations: Operations::new(MAX_OUTSTANDING),
            matcher: Matcher::new(limits.unexpected_bytes, limits.unexpected_bytes_per_peer),
            stalled: VecDeque::new(),
            strangers: VecDeque::new(),
            ready: VecDeque::new(),
            dirty: Vec::new(),
            done: VecDeque::new(),
            receives: 0,
            next_receive: 0,
            events: vec![EpollEvent::empty(); EVENTS],
            unseen: false,
            discard: vec![0; 64 << 10].into_boxed_slice(),
        }
    }

    fn has_room_for(&self, op: FabricOp) -> bool {
        let outstanding_full = match op {
            FabricOp::RECV => self.receives >= MAX_OUTSTANDING,
            FabricOp::SEND | FabricOp::READ | FabricOp::WRITE => self.operations.is_full(),
            _ => false,
        };
        // Completions that nobody polls must not pile up without end either.
        !outstanding_full && self.done.len() < 4 * MAX_OUTSTANDING
    }

    fn start(&mut self, request: &FabricRequest, memory: Span) {
        let failed = match request.op {
            _ if memory.len() > 0 && request.ptr.is_null() => Err(Status::INVALID),
            FabricOp::RECV => {
                self.start_receive(request, memory);
                Ok(())
            }
            FabricOp::SEND => {
                let header = Header::Message {
                    tag: request.tag,
                    len: memory.len() as u64,
                };
                self.start_request(request, memory, LaneKind::Message, |_| header)
            }
            FabricOp::READ => {
                self.start_request(request, memory, LaneKind::Rma, |id| Header::Read {
                    id: id.raw(),
                    addr: request.remote_addr,
                    key: request.remote_key,
                    len: memory.len() as u64,
                })
            }
            FabricOp::WRITE => {
                self.start_request(request, memory, LaneKind::Rma, |id| Header::Write {
                    id: id.raw(),
                    addr: request.remote_addr,
                    key: request.remote_key,
                    len: memory.len() as u64,
                })
            }
            _ => Err(Status::INVALID),
        };
        if let Err(status) = failed {
            self.done
                .push_back(completion(request.op, request.user, status));
        }
    }

    fn start_receive(&mut self, request: &FabricRequest, memory: Span) {
        self.receives += 1;
        self.next_receive += 1;
        self.post(Posted {
            sequence: self.next_receive,
            user: request.user,
            tag: request.tag,
            ignore: request.ignore,
            memory,
            cancelled: false,
        });
    }

    fn start_request(
        &mut self,
        request: &FabricRequest,
        memory: Span,
        kind: LaneKind,
        header: impl FnOnce(Id) -> Header,
    ) -> Result<(), Status> {
        let limit = match kind {
            LaneKind::Message => MAX_MESSAGE,
            LaneKind::Rma => MAX_RMA,
        };
        if memory.len() as u64 > limit {
            return Err(Status::INVALID);
        }
        let lane_id = self.lane_to(Id::from_raw(request.peer), kind)?;
        let operation = self
            .operations
            .insert(request.op, request.user, lane_id, memory)
            .ok_or(Status::AGAIN)?;
        let lane = self.lanes.get_mut(lane_id).ok_or(Status::INTERNAL)?;
        lane.outbox.push_back(Outgoing {
            header: header(operation).encode(),
            body: match request.op {
                FabricOp::READ => Body::Empty,
                _ => Body::Memory(memory),
            },
            operation: Some(operation),
        });
        if !lane.dirty {
            lane.dirty = true;
            self.dirty.push(lane_id);
        }
        Ok(())
    }

    /// Offers a RECV to the messages that wait, else lets it wait for one.
    pub(super) fn post(&mut self, posted: Posted) {
        let posted = match self.matcher.offer(posted) {
            Offer::Delivered(delivery) => {
                self.deliver(delivery);
                return;
            }
            Offer::Claimed => return,
            Offer::Unmatched(posted) => posted,
        };
        let lanes = &self.lanes;
        let waiting = self.stalled.iter().position(|&id| {
            let header = lanes.get(id).and_then(|lane| lane.stalled);
            matches!(header, Some(Header::Message { tag, .. }) if posted.matches(tag))
        });
        match waiting.and_then(|at| self.stalled.remove(at)) {
            Some(id) => self.resume(id, Target::Receive(posted)),
            None => self.matcher.post(posted),
        }
    }

    /// Copies a held message to its RECV.
    pub(super) fn deliver(&mut self, delivery: Delivery) {
        delivery.posted.memory.fill(&delivery.bytes);
        self.received(&delivery.posted, delivery.tag, delivery.bytes.len());
        self.admit_stalled();
    }

    /// Completes a RECV with a message of `len` bytes.
    pub(super) fn received(&mut self, posted: &Posted, tag: u64, len: usize) {
        let fits = len <= posted.memory.len();
        self.end_receive(FabricCompletion {
            tag,
            len: len.min(posted.memory.len()) as u64,
            ..completion(
                FabricOp::RECV,
                posted.user,
                if fits { Status::OK } else { Status::TRUNCATED },
            )
        });
    }

    /// A RECV lost the message it was getting: it waits again, or ends if that was asked for.
    pub(super) fn bereave(&mut self, posted: Posted) {
        if posted.cancelled {
            self.end_receive(completion(FabricOp::RECV, posted.user, Status::CANCELLED));
        } else {
            self.post(posted);
        }
    }

    fn end_receive(&mut self, completion: FabricCompletion) {
        self.receives -= 1;
        self.done.push_back(completion);
    }

    fn cancel_operation(&mut self, id: Id) {
        let Some(operation) = self.operations.get_mut(id) else {
            return;
        };
        let lane_id = operation.lane;
        let withdrawn = match operation.progress {
            // Once a frame has begun the stream needs all of it: it ends with its result.
            Progress::Queued => match self.lanes.get_mut(lane_id) {
                Some(lane) => lane.withdraw(id),
                None => false,
            },
            Progress::Sent | Progress::DataIn => {
                let cancelled = operation.completion(Status::CANCELLED);
                operation.progress = Progress::Abandoned;
                self.done.push_back(cancelled);
                self.stop_filling(lane_id, id);
                false
            }
            Progress::Abandoned => false,
        };
        if withdrawn && let Some(operation) = self.operations.remove(id) {
            self.done.push_back(operation.completion(Status::CANCELLED));
        }
    }

    /// Lets the rest of a READ's data go nowhere.
    fn stop_filling(&mut self, lane: Id, operation: Id) {
        let incoming = self
            .lanes
            .get_mut(lane)
            .and_then(|lane| lane.incoming.as_mut());
        if let Some(incoming) = incoming
            && matches!(incoming.header, Header::ReadData { id, .. } if id == operation.raw())
        {
            incoming.target = Target::Discard;
        }
    }

    /// Marks a RECV into which a message is arriving just now.
    fn cancel_arriving(&mut self, user: u64) -> bool {
        for (_, lane) in self.lanes.iter_mut() {
            if let Some(incoming) = &mut lane.incoming
                && let Target::Receive(posted) = &mut incoming.target
                && posted.user == user
            {
                posted.cancelled = true;
                return true;
            }
        }
        self.matcher.cancel_claim(user)
    }
}

impl FabricEndpoint for TcpEndpoint {
    fn address(&self) -> Vec<u8> {
        self.address.encode()
    }

    fn resolve(&mut self, address: &[u8]) -> Result<u64, Status> {
        let address = EndpointAddress::decode(address).ok_or(Status::INVALID)?;
        if let Some(&known) = self.by_address.get(&address) {
            return Ok(known.raw());
        }
        if address.socket.is_ipv4() != self.address.socket.is_ipv4() {
            return Err(Status::UNREACHABLE);
        }
        let peer = Peer {
            address,
            message: None,
            rma: None,
        };
        let id = self.peers.insert(peer).ok_or(Status::NO_MEMORY)?;
        self.by_address.insert(address, id);
        Ok(id.raw())
    }

    fn release(&mut self, peer: u64) -> Result<(), Status> {
        let peer = self
            .peers
            .remove(Id::from_raw(peer))
            .ok_or(Status::NOT_FOUND)?;
        self.by_address.remove(&peer.address);
        for id in [peer.message, peer.rma].into_iter().flatten() {
            let Some(mut lane) = self.lanes.take(id) else {
                continue;
            };
            if lane.source.is_some() && lane.outbox.is_empty() {
                // The peer's own lane, on which nothing of ours is on its way.
                lane.back_to = None;
                self.lanes.put(id, lane);
            } else {
                self.end_lane(id, *lane, Status::CANCELLED);
            }
        }
        Ok(())
    }

    unsafe fn submit(&mut self, requests: &[FabricRequest]) -> Result<usize, Status> {
        let mut taken = 0;
        for request in requests {
            if !self.has_room_for(request.op) {
                break;
            }
            // SAFETY: the host leaves the memory to the operation until its completion is
            // polled or the endpoint is dropped; no span outlives its operation.
            let memory = unsafe { Span::new(request.ptr, request.len) };
            self.start(request, memory);
            taken += 1;
        }
        while let Some(id) = self.dirty.pop() {
            self.flush(id);
        }
        Ok(taken)
    }

    fn poll(&mut self, completions: &mut [FabricCompletion]) -> Result<usize, Status> {
        // What is complete already needs no system call.
        if self.done.is_empty() {
            self.progress()?;
        }
        let count = self.done.len().min(completions.len());
        for (slot, completion) in completions.iter_mut().zip(self.done.drain(..count)) {
            *slot = completion;
        }
        Ok(count)
    }

    fn cancel(&mut self, user: u64) -> Result<(), Status> {
        if let Some(posted) = self.matcher.withdraw(user) {
            self.end_receive(completion(FabricOp::RECV, posted.user, Status::CANCELLED));
            return Ok(());
        }
        if let Some(id) = self.operations.find(user) {
            self.cancel_operation(id);
            return Ok(());
        }
        let known = self.cancel_arriving(user) || self.done.iter().any(|done| done.user == user);
        if known {
            Ok(())
        } else {
            Err(Status::NOT_FOUND)
        }
    }

    fn arm_wait(&mut self) -> Wait {
        // Sockets with something to read or to go on with keep the epoll descriptor readable; what
        // epoll does not know of, or has told already, is in these.
        if self.done.is_empty() && self.ready.is_empty() && !self.unseen {
            Wait::fd(self.epoll.0.as_raw_fd())
        } else {
            Wait::BUSY
        }
    }
}

impl Drop for TcpEndpoint {
    fn drop(&mut self) {
        self.domain.endpoint_closed();
    }
}
