//! An endpoint: used by one thread. Everything happens in `poll`, also what peers want of this side's memory.

use crate::network::{
    Header, Kind, PAYLOAD, Regions, Sent, Way, address, endpoint_of, listen, random,
};
use crate::{MOST_BYTES, MOST_OUTSTANDING};
use daos_plugin_api::abi::{
    FABRIC_REMOTE_READ, FABRIC_REMOTE_WRITE, FabricCompletion, FabricOp, FabricRequest, Status,
    Wait,
};
use daos_plugin_api::sdk::{Error, FabricEndpoint, Result};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a peer that owes an answer is asked whether it is alive.
const PROBE: Duration = Duration::from_millis(100);
/// How soon a peer that takes nothing is tried again, in microseconds.
const AGAIN_US: u64 = 500;

pub struct Endpoint {
    regions: Arc<Regions>,
    socket: UnixDatagram,
    id: u64,
    /// Peers by their number, from 1; `None` once released.
    peers: Vec<Option<u64>>,
    links: HashMap<u64, Link>,
    /// SEND, READ and WRITE under way, by number, so the oldest first.
    operations: BTreeMap<u64, Operation>,
    last_number: u64,
    receives: Vec<FabricRequest>,
    /// Messages that met no receive: tag, bytes. A real fabric bounds what it keeps of each peer.
    unexpected: VecDeque<(u64, Vec<u8>)>,
    done: VecDeque<FabricCompletion>,
    datagram: Vec<u8>,
}

/// What is to be sent to another endpoint.
struct Link {
    way: Way,
    /// Operations that have something left to send, the oldest first: messages keep their order.
    waiting: VecDeque<u64>,
    /// Answers.
    owed: VecDeque<Header>,
    probed: Instant,
}

/// A SEND, READ or WRITE in parts of `PAYLOAD` bytes; one without data has one part.
struct Operation {
    request: FabricRequest,
    peer: u64,
    parts: usize,
    sent: usize,
    answered: usize,
}

impl Endpoint {
    pub(crate) fn open(regions: Arc<Regions>) -> Result<Self> {
        let opened = random().and_then(|id| Ok((id, listen(id)?)));
        let (id, socket) = opened.map_err(|e| Error::io("cannot open a socket", e))?;
        Ok(Self {
            regions,
            socket,
            id,
            peers: Vec::new(),
            links: HashMap::new(),
            operations: BTreeMap::new(),
            last_number: 0,
            receives: Vec::new(),
            unexpected: VecDeque::new(),
            done: VecDeque::new(),
            datagram: vec![0; Header::LEN + PAYLOAD],
        })
    }

    /// The endpoint behind the number of a peer.
    fn peer(&self, peer: u64) -> Option<u64> {
        let at = usize::try_from(peer.checked_sub(1)?).ok()?;
        *self.peers.get(at)?
    }

    fn link(&mut self, endpoint: u64) -> Result<&mut Link, Status> {
        if !self.links.contains_key(&endpoint) {
            let link = Link {
                way: Way::to(endpoint).map_err(|_| Status::NO_MEMORY)?,
                waiting: VecDeque::new(),
                owed: VecDeque::new(),
                probed: Instant::now(),
            };
            self.links.insert(endpoint, link);
        }
        self.links.get_mut(&endpoint).ok_or(Status::INTERNAL)
    }

    fn complete(&mut self, request: &FabricRequest, tag: u64, len: u64, status: Status) {
        self.done.push_back(FabricCompletion {
            user: request.user,
            tag,
            len,
            status,
            op: request.op,
            reserved: [0; 3],
        });
    }

    /// Ends an operation. Answers that still come find none and touch nothing.
    fn end(&mut self, number: u64, status: Status) {
        if let Some(operation) = self.operations.remove(&number) {
            self.complete(&operation.request, 0, 0, status);
        }
    }

    fn end_all(&mut self, peer: u64, status: Status) {
        let theirs = self.operations.iter().filter(|(_, o)| o.peer == peer);
        let numbers: Vec<u64> = theirs.map(|(number, _)| *number).collect();
        numbers
            .into_iter()
            .for_each(|number| self.end(number, status));
        self.links.remove(&peer);
    }

    fn begin(&mut self, request: &FabricRequest) -> Result<(), Status> {
        if request.len as u64 > MOST_BYTES || request.op == FabricOp::SEND && request.len > PAYLOAD
        {
            return Err(Status::INVALID);
        }
        match request.op {
            FabricOp::RECV => {
                self.receive(request);
                return Ok(());
            }
            FabricOp::SEND | FabricOp::READ | FabricOp::WRITE => {}
            _ => return Err(Status::NOT_SUPPORTED),
        }
        let peer = self.peer(request.peer).ok_or(Status::UNREACHABLE)?;
        self.last_number += 1;
        let number = self.last_number;
        self.link(peer)?.waiting.push_back(number);
        let operation = Operation {
            request: *request,
            peer,
            parts: request.len.div_ceil(PAYLOAD).max(1),
            sent: 0,
            answered: 0,
        };
        self.operations.insert(number, operation);
        self.push(peer);
        Ok(())
    }

    /// Sends what waits for another endpoint, as far as that takes it.
    fn push(&mut self, to: u64) {
        let outcome = self.try_push(to);
        let is_idle = |link: &Link| link.owed.is_empty() && link.waiting.is_empty();
        if outcome == Sent::Gone {
            self.end_all(to, Status::UNREACHABLE);
        } else if self.links.get(&to).is_some_and(is_idle) && !self.peers.contains(&Some(to)) {
            // Somebody who was only answered.
            self.links.remove(&to);
        }
    }

    fn try_push(&mut self, to: u64) -> Sent {
        let Some(link) = self.links.get_mut(&to) else {
            return Sent::Yes;
        };
        while let Some(answer) = link.owed.front_mut() {
            self.datagram.truncate(0);
            self.datagram.resize(Header::LEN, 0);
            if answer.kind == Kind::Read {
                let len = PAYLOAD.min(answer.total.saturating_sub(answer.at) as usize);
                let datagram = &mut self.datagram;
                answer.status = self
                    .regions
                    .access(answer, FABRIC_REMOTE_READ, len, |memory| {
                        // SAFETY: `len` bytes inside a registration that stays while this runs.
                        datagram.extend_from_slice(unsafe { bytes(memory, len) });
                    });
            }
            let header = Header {
                kind: Kind::Done,
                from: self.id,
                ..*answer
            };
            self.datagram[..Header::LEN].copy_from_slice(&header.encode());
            match link.way.send(&self.datagram) {
                Sent::Yes => link.owed.pop_front(),
                other => return other,
            };
        }
        while let Some(number) = link.waiting.front().copied() {
            // It may have been cancelled, or refused after its first part.
            let Some(operation) = self.operations.get_mut(&number) else {
                link.waiting.pop_front();
                continue;
            };
            let request = operation.request;
            while operation.sent < operation.parts {
                let at = operation.sent * PAYLOAD;
                let (kind, tag, len) = match request.op {
                    FabricOp::SEND => (Kind::Message, request.tag, request.len),
                    FabricOp::READ => (Kind::Read, request.remote_key, 0),
                    _ => (
                        Kind::Write,
                        request.remote_key,
                        PAYLOAD.min(request.len - at),
                    ),
                };
                let header = Header {
                    kind,
                    from: self.id,
                    operation: number,
                    tag,
                    addr: request.remote_addr,
                    total: request.len as u64,
                    at: at as u64,
                    status: Status::OK,
                };
                self.datagram.truncate(0);
                self.datagram.extend_from_slice(&header.encode());
                // SAFETY: a part of the request's memory, which the host keeps valid until its completion.
                self.datagram
                    .extend_from_slice(unsafe { bytes(request.ptr.wrapping_add(at), len) });
                match link.way.send(&self.datagram) {
                    Sent::Yes => operation.sent += 1,
                    other => return other,
                }
            }
            link.waiting.pop_front();
            // The kernel has the message: its memory may be used again.
            if request.op == FabricOp::SEND {
                self.operations.remove(&number);
                self.done.push_back(FabricCompletion {
                    user: request.user,
                    tag: 0,
                    len: 0,
                    status: Status::OK,
                    op: request.op,
                    reserved: [0; 3],
                });
            }
        }
        Sent::Yes
    }

    /// Takes what has come, sends what waits, asks after those who do not answer.
    fn progress(&mut self) {
        let mut datagram = vec![0; Header::LEN + PAYLOAD];
        while let Ok(len) = self.socket.recv(&mut datagram) {
            if let Some((header, data)) = Header::decode(&datagram[..len]) {
                self.arrived(&header, data);
            }
        }
        let busy: Vec<u64> = self.links.keys().copied().collect();
        for endpoint in busy {
            self.push(endpoint);
            self.probe(endpoint);
        }
    }

    fn probe(&mut self, endpoint: u64) {
        let owes = self
            .operations
            .values()
            .any(|o| o.peer == endpoint && o.sent > 0);
        let Some(link) = self.links.get_mut(&endpoint).filter(|_| owes) else {
            return;
        };
        if link.probed.elapsed() > PROBE {
            link.probed = Instant::now();
            let header = Header {
                kind: Kind::Probe,
                from: self.id,
                operation: 0,
                tag: 0,
                addr: 0,
                total: 0,
                at: 0,
                status: Status::OK,
            };
            if link.way.send(&header.encode()) == Sent::Gone {
                self.end_all(endpoint, Status::UNREACHABLE);
            }
        }
    }

    fn arrived(&mut self, header: &Header, data: &[u8]) {
        match header.kind {
            Kind::Probe => {}
            Kind::Message => self.message(header.tag, data),
            Kind::Read => self.owe(*header),
            Kind::Write => {
                let status =
                    self.regions
                        .access(header, FABRIC_REMOTE_WRITE, data.len(), |memory| {
                            // SAFETY: as many bytes inside a registration that stays while this runs.
                            unsafe { copy(data, memory) };
                        });
                self.owe(Header { status, ..*header });
            }
            Kind::Done => self.answered(header, data),
        }
    }

    fn owe(&mut self, answer: Header) {
        // Without memory for it the other side waits, and asks after this one.
        if let Ok(link) = self.link(answer.from) {
            link.owed.push_back(answer);
        }
    }

    fn answered(&mut self, answer: &Header, data: &[u8]) {
        let Some(operation) = self.operations.get_mut(&answer.operation) else {
            return;
        };
        let request = operation.request;
        let at = usize::try_from(answer.at).unwrap_or(usize::MAX);
        let is_read = request.op == FabricOp::READ && answer.status.is_ok();
        // Believed only as far as it fits.
        let wanted = match is_read {
            true => PAYLOAD.min(request.len.saturating_sub(at)),
            false => 0,
        };
        if operation.peer != answer.from || data.len() != wanted || at > request.len {
            return;
        }
        // SAFETY: a part of the request's memory, which the host keeps valid until its completion.
        unsafe { copy(data, request.ptr.wrapping_add(at)) };
        operation.answered += 1;
        if operation.answered == operation.parts || !answer.status.is_ok() {
            self.end(answer.operation, answer.status);
        }
    }

    fn message(&mut self, tag: u64, data: &[u8]) {
        let fits = |r: &FabricRequest| (r.tag ^ tag) & !r.ignore == 0;
        match self.receives.iter().position(fits) {
            Some(at) => {
                let request = self.receives.remove(at);
                self.deliver(&request, tag, data);
            }
            None => self.unexpected.push_back((tag, data.to_vec())),
        }
    }

    fn receive(&mut self, request: &FabricRequest) {
        let fits = |(tag, _): &(u64, Vec<u8>)| (tag ^ request.tag) & !request.ignore == 0;
        let waiting = self.unexpected.iter().position(fits);
        match waiting.and_then(|at| self.unexpected.remove(at)) {
            Some((tag, data)) => self.deliver(request, tag, &data),
            None => self.receives.push(*request),
        }
    }

    fn deliver(&mut self, request: &FabricRequest, tag: u64, data: &[u8]) {
        let part = &data[..data.len().min(request.len)];
        // SAFETY: the request's memory, which the host keeps valid until its completion.
        unsafe { copy(part, request.ptr) };
        let status = match part.len() == data.len() {
            true => Status::OK,
            false => Status::TRUNCATED,
        };
        self.complete(request, tag, part.len() as u64, status);
    }
}

/// # Safety
/// `len` readable bytes at `ptr`, unless there are none.
unsafe fn bytes<'a>(ptr: *const u8, len: usize) -> &'a [u8] {
    match len {
        0 => &[],
        // SAFETY: the caller vouches for it.
        _ => unsafe { std::slice::from_raw_parts(ptr, len) },
    }
}

/// # Safety
/// As many writable bytes at `to` as there are in `data`, and no others of this process.
unsafe fn copy(data: &[u8], to: *mut u8) {
    if !data.is_empty() {
        // SAFETY: the caller vouches for it.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), to, data.len()) };
    }
}

impl FabricEndpoint for Endpoint {
    fn address(&self) -> Vec<u8> {
        address(self.id)
    }

    fn resolve(&mut self, address: &[u8]) -> Result<u64, Status> {
        let endpoint = endpoint_of(address).ok_or(Status::INVALID)?;
        let known = self.peers.iter().position(|p| *p == Some(endpoint));
        let at = known.unwrap_or_else(|| {
            self.peers.push(Some(endpoint));
            self.peers.len() - 1
        });
        Ok(at as u64 + 1)
    }

    fn release(&mut self, peer: u64) -> Result<(), Status> {
        let endpoint = self.peer(peer).ok_or(Status::NOT_FOUND)?;
        self.peers[peer as usize - 1] = None;
        self.end_all(endpoint, Status::CANCELLED);
        Ok(())
    }

    unsafe fn submit(&mut self, requests: &[FabricRequest]) -> Result<usize, Status> {
        let outstanding = self.operations.len() + self.receives.len() + self.done.len();
        let taken = requests
            .len()
            .min((MOST_OUTSTANDING as usize).saturating_sub(outstanding));
        for request in &requests[..taken] {
            if let Err(status) = self.begin(request) {
                self.complete(request, 0, 0, status);
            }
        }
        Ok(taken)
    }

    fn poll(&mut self, completions: &mut [FabricCompletion]) -> Result<usize, Status> {
        self.progress();
        let count = completions.len().min(self.done.len());
        for (out, done) in completions.iter_mut().zip(self.done.drain(..count)) {
            *out = done;
        }
        Ok(count)
    }

    fn cancel(&mut self, user: u64) -> Result<(), Status> {
        if let Some(at) = self.receives.iter().position(|r| r.user == user) {
            let request = self.receives.remove(at);
            self.complete(&request, 0, 0, Status::CANCELLED);
            return Ok(());
        }
        let mut operations = self.operations.iter();
        let found = operations.find(|(_, o)| o.request.user == user);
        let number = *found.ok_or(Status::NOT_FOUND)?.0;
        self.end(number, Status::CANCELLED);
        Ok(())
    }

    fn arm_wait(&mut self) -> Wait {
        if !self.done.is_empty() {
            return Wait::BUSY;
        }
        // Readable as long as something has come. What another endpoint does not take yet, and who does not
        // answer, is looked at again after a while.
        let mut wait = Wait::fd(self.socket.as_raw_fd());
        if self
            .links
            .values()
            .any(|l| !l.waiting.is_empty() || !l.owed.is_empty())
        {
            wait.timeout_us = AGAIN_US;
        } else if !self.operations.is_empty() {
            wait.timeout_us = PROBE.as_micros() as u64;
        }
        wait
    }
}
