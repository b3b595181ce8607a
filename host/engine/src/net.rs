//! The endpoint of a target: requests in, replies out, and RMA with the memory of clients.
//!
//! Every operation takes a buffer and gives it back when it has ended.

use crate::defect::Defect;
use crate::memory::{Buffer, Scratch};
use daos_plugin_api::abi::{FabricCompletion, FabricOp, FabricRequest, Status, Wait};
use daos_plugin_api::host::Endpoint;
use daos_wire::{REPLY_TAG, REQUEST_TAG, RmaDescriptor, TAG_IGNORE, readable};
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Completions taken at once.
const BATCH: usize = 32;

/// A slot without a request.
const FREE: u32 = u32::MAX;

/// How long a client may take to let an operation end. A network that drops everything ends no connection for many
/// minutes; but who asks for the memory of one client must not keep the buffers of all.
const PATIENCE: Duration = Duration::from_secs(10);
/// Addresses of clients that are remembered; of more, those of clients without an operation are forgotten.
const ADDRESSES: usize = 4096;
/// Polls between two looks at the clock while there is something to do.
const POLLS_PER_LOOK: u32 = 256;

/// What an operation was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request arrived in the buffer.
    Received,
    /// The reply in the buffer was sent.
    Sent,
    /// Client memory was read into the buffer.
    Fetched,
    /// The buffer was written to client memory.
    Stored,
}

/// An operation that has ended.
pub struct Event {
    /// What it was.
    pub kind: Kind,
    /// As given when it began.
    pub user: u64,
    /// Its buffer.
    pub buffer: Buffer,
    /// Bytes received.
    pub len: usize,
    /// OK, or the first failure.
    pub status: Status,
}

struct Operation {
    kind: Kind,
    user: u64,
    buffer: Buffer,
    left: u32,
    len: usize,
    status: Status,
    peer: u64,
    /// When it began, as far as the clock was looked at.
    since: Instant,
    /// Its peer was let go of because it took too long.
    is_overdue: bool,
    /// It has not ended even so, which was said.
    is_kept: bool,
}

/// A fabric request that waits for its turn.
#[derive(Clone, Copy)]
struct Piece {
    operation: u32,
    offset: usize,
    len: usize,
    peer: u64,
    remote: Option<(u64, u64)>,
}

/// An endpoint and the operations on it.
pub struct Net {
    // Dropped first: when it is closed the provider no longer touches the memory below.
    endpoint: Endpoint,
    max_rma: usize,
    scratch: Scratch,
    /// Operation of each request slot, [`FREE`] while the provider has none of it.
    slots: Box<[u32]>,
    free_slots: Vec<u32>,
    operations: Vec<Option<Operation>>,
    free_operations: Vec<u32>,
    /// Receives wait apart: they must not stand in front of what frees buffers.
    backlog: VecDeque<Piece>,
    /// Operations outstanding other than receives.
    working: usize,
    /// Addresses by number, for messages.
    addresses: HashMap<u64, Box<[u8]>>,
    /// When the clock was last looked at.
    now: Instant,
    polls: u32,
    /// [`PATIENCE`], but for who counts himself, and in tests.
    patience: Duration,
    /// Of what is received, and of what is sent.
    tags: (u64, u64),
}

impl Net {
    /// Operations on `endpoint`, at most `slots` outstanding requests.
    pub fn new(endpoint: Endpoint, slots: u32) -> Self {
        let info = *endpoint.domain().info();
        let max_rma = usize::try_from(info.max_rma).unwrap_or(usize::MAX).max(1);
        Self {
            endpoint,
            max_rma,
            scratch: Scratch::new(slots as usize, info.scratch_size),
            slots: vec![FREE; slots as usize].into_boxed_slice(),
            free_slots: (0..slots).rev().collect(),
            operations: Vec::new(),
            free_operations: Vec::new(),
            backlog: VecDeque::new(),
            working: 0,
            addresses: HashMap::new(),
            now: Instant::now(),
            polls: 0,
            patience: PATIENCE,
            tags: (REQUEST_TAG, REPLY_TAG),
        }
    }

    /// The same for who sends requests and receives replies, and gives up waiting by himself.
    pub fn of_client(endpoint: Endpoint, slots: u32) -> Self {
        Self {
            tags: (REPLY_TAG, REQUEST_TAG),
            patience: Duration::from_secs(24 * 3600),
            ..Self::new(endpoint, slots)
        }
    }

    /// Address for clients.
    ///
    /// # Errors
    /// What the plugin says.
    pub fn address(&self) -> Result<Vec<u8>, Status> {
        self.endpoint.address()
    }

    /// Numbers a client.
    ///
    /// # Errors
    /// What the plugin says.
    pub fn resolve(&mut self, address: &[u8]) -> Result<u64, Status> {
        let peer = self.endpoint.resolve(address)?;
        if self.addresses.len() >= ADDRESSES && !self.addresses.contains_key(&peer) {
            let busy: Vec<u64> = self.operations.iter().flatten().map(|o| o.peer).collect();
            self.addresses.retain(|peer, _| busy.contains(peer));
        }
        self.addresses.entry(peer).or_insert_with(|| address.into());
        Ok(peer)
    }

    /// A client as people know it: its address, if that is remembered.
    fn name(&self, peer: u64) -> String {
        match self.addresses.get(&peer) {
            Some(address) => readable(address),
            None => format!("peer {peer}"),
        }
    }

    /// Forgets a client that cannot be reached any more.
    pub fn release(&mut self, peer: u64) {
        // If it is unknown already, that is what was wanted.
        let _ = self.endpoint.release(peer);
    }

    /// Whether replies or transfers are under way.
    pub fn is_busy(&self) -> bool {
        self.working > 0 || !self.backlog.is_empty()
    }

    /// Offers `buffer` for a request.
    pub fn receive(&mut self, user: u64, buffer: Buffer) {
        let len = buffer.len();
        self.begin(Kind::Received, user, buffer, len, 0, None);
    }

    /// Sends the first `len` bytes of `buffer` as a reply.
    pub fn send(&mut self, user: u64, buffer: Buffer, len: usize, peer: u64) {
        self.begin(Kind::Sent, user, buffer, len, peer, None);
    }

    /// Reads client memory into the front of `buffer`, which has room for it.
    pub fn fetch(&mut self, user: u64, buffer: Buffer, peer: u64, remote: RmaDescriptor) {
        let len = remote.len as usize; // at most the largest value
        let place = Some((remote.addr, remote.key));
        self.begin(Kind::Fetched, user, buffer, len, peer, place);
    }

    /// Writes the first `len` bytes of `buffer` to client memory, which has room for them.
    pub fn store(
        &mut self,
        user: u64,
        buffer: Buffer,
        len: usize,
        peer: u64,
        remote: RmaDescriptor,
    ) {
        let place = Some((remote.addr, remote.key));
        self.begin(Kind::Stored, user, buffer, len, peer, place);
    }

    fn begin(
        &mut self,
        kind: Kind,
        user: u64,
        buffer: Buffer,
        len: usize,
        peer: u64,
        remote: Option<(u64, u64)>,
    ) {
        assert!(len <= buffer.len(), "the buffer is too small");
        let operation = self.free_operations.pop().unwrap_or_else(|| {
            self.operations.push(None);
            (self.operations.len() - 1) as u32 // as many as there are buffers
        });
        let most = if remote.is_some() { self.max_rma } else { len };
        let mut left = 0;
        let mut offset = 0;
        while left == 0 || offset < len {
            let part = most.min(len - offset);
            self.backlog.push_back(Piece {
                operation,
                offset,
                len: part,
                peer,
                remote: remote.map(|(addr, key)| (addr.wrapping_add(offset as u64), key)),
            });
            left += 1;
            offset += part;
        }
        if kind != Kind::Received {
            if self.working == 0 {
                self.now = Instant::now();
            }
            self.working += 1;
        }
        self.operations[operation as usize] = Some(Operation {
            kind,
            user,
            buffer,
            left,
            len: 0,
            status: Status::OK,
            peer,
            since: self.now,
            is_overdue: false,
            is_kept: false,
        });
    }

    /// Hands waiting requests to the provider, makes progress, and appends operations that have
    /// ended to `out`.
    ///
    /// # Errors
    /// If the endpoint itself fails.
    pub fn poll(&mut self, out: &mut Vec<Event>) -> Result<(), Defect> {
        self.submit(out)?;
        if self.working > 0 {
            self.polls += 1;
            if self.polls >= POLLS_PER_LOOK {
                self.look_at_clock()?;
            }
        }
        let mut batch = [FabricCompletion::EMPTY; BATCH];
        loop {
            let polled = self.endpoint.poll(&mut batch);
            let count = polled.map_err(|status| self.failed("poll", status))?;
            for completion in &batch[..count] {
                self.completed(completion, out)?;
            }
            // Sent replies may hide what has come in: they are known without asking the network.
            let only_sent = batch[..count].iter().all(|c| c.op == FabricOp::SEND);
            if count == 0 || count < BATCH && !only_sent {
                break;
            }
        }
        Ok(())
    }

    fn completed(
        &mut self,
        completion: &FabricCompletion,
        out: &mut Vec<Event>,
    ) -> Result<(), Defect> {
        let slot = completion.user as usize; // slot numbers
        let operation = match self.slots.get_mut(slot) {
            Some(operation) if *operation != FREE => std::mem::replace(operation, FREE),
            // Its buffer may belong to something else by now.
            _ => {
                return Err(self.lie(&format!(
                    "it completed operation {}, which is not under way",
                    completion.user
                )));
            }
        };
        let len = completion.len as usize;
        if completion.status.is_ok()
            && let Some(running) = &self.operations[operation as usize]
            && running.kind == Kind::Received
            && len > running.buffer.len()
        {
            let room = running.buffer.len();
            return Err(self.lie(&format!("it received {len} bytes where {room} fit")));
        }
        self.free_slots.push(slot as u32);
        self.piece_done(operation, completion.status, len, out);
        Ok(())
    }

    /// What is to be said of a call of the endpoint that failed.
    pub fn failed(&self, call: &str, status: Status) -> Defect {
        Defect::failed(self.endpoint.domain().instance(), call, status)
    }

    fn lie(&self, what: &str) -> Defect {
        Defect::lie(self.endpoint.domain().instance(), "poll", what)
    }

    /// Lets go of clients that keep an operation for too long; it ends with what the provider makes of that.
    ///
    /// # Errors
    /// If the provider has kept everything for so long after that that nothing can come in any more.
    pub fn look_at_clock(&mut self) -> Result<(), Defect> {
        self.polls = 0;
        self.now = Instant::now();
        for place in 0..self.operations.len() {
            let Some(operation) = &mut self.operations[place] else {
                continue;
            };
            let waited = self.now.saturating_duration_since(operation.since);
            if operation.kind == Kind::Received || waited < self.patience {
                continue;
            }
            let (kind, peer) = (operation.kind, operation.peer);
            if !std::mem::replace(&mut operation.is_overdue, true) {
                let client = self.name(peer);
                tracing::warn!(
                    ?kind,
                    client,
                    "a client takes too long: its connection is given up"
                );
                self.release(peer);
            } else if waited >= 3 * self.patience
                && !std::mem::replace(&mut operation.is_kept, true)
            {
                let client = self.name(peer);
                tracing::warn!(
                    ?kind,
                    client,
                    "plugin {} has not completed an operation for {} s, though its peer was released",
                    self.endpoint.domain().instance().described(),
                    waited.as_secs()
                );
            }
        }
        // As long as anything can be received, or ends, it goes on.
        let mut outstanding = self.operations.iter().flatten().peekable();
        match outstanding.peek().is_some() && outstanding.all(|operation| operation.is_kept) {
            true => {
                Err(self.lie("it completes nothing, not even what its peers were released for"))
            }
            false => Ok(()),
        }
    }

    /// Hands waiting requests to the provider.
    ///
    /// # Errors
    /// If the endpoint itself fails. What the provider refuses ends with that status in `out`.
    pub fn submit(&mut self, out: &mut Vec<Event>) -> Result<(), Defect> {
        while !self.backlog.is_empty() && !self.free_slots.is_empty() {
            let mut requests = [EMPTY_REQUEST; BATCH];
            let mut count = 0;
            while count < BATCH
                && let Some(slot) = self
                    .free_slots
                    .get(self.free_slots.len().wrapping_sub(count + 1))
                && let Some(piece) = self.backlog.get(count)
            {
                requests[count] = self.request(*slot, *piece);
                count += 1;
            }
            // SAFETY: the buffer is in `operations`, the scratch belongs to the slot: both stay
            // until the completion is polled or the endpoint, which is the first field, is dropped.
            let taken = match unsafe { self.endpoint.submit(&requests[..count]) } {
                Ok(taken) => taken,
                // It takes nothing any more, or has taken requests all the same, and their memory with them.
                Err(status @ (Status::INTERNAL | Status::PANIC | Status::POISONED)) => {
                    return Err(self.failed("submit", status));
                }
                Err(status) => {
                    if let Some(piece) = self.backlog.pop_front() {
                        self.piece_done(piece.operation, status, 0, out);
                    }
                    continue;
                }
            };
            for request in &requests[..taken] {
                self.free_slots.pop();
                if let Some(piece) = self.backlog.pop_front() {
                    self.slots[request.user as usize] = piece.operation;
                }
            }
            if taken < count {
                break;
            }
        }
        Ok(())
    }

    /// How the thread may sleep.
    ///
    /// # Errors
    /// What the plugin says.
    pub fn arm_wait(&mut self) -> Result<Wait, Defect> {
        let wait = self.endpoint.arm_wait();
        wait.map_err(|status| self.failed("arm_wait", status))
    }

    fn request(&mut self, slot: u32, piece: Piece) -> FabricRequest {
        let mut request = FabricRequest {
            peer: piece.peer,
            len: piece.len,
            user: u64::from(slot),
            scratch: self.scratch.slot(slot as usize),
            ..EMPTY_REQUEST
        };
        let Some(operation) = &self.operations[piece.operation as usize] else {
            return request;
        };
        (request.op, request.tag) = match operation.kind {
            Kind::Received => (FabricOp::RECV, self.tags.0),
            Kind::Sent => (FabricOp::SEND, self.tags.1),
            Kind::Fetched => (FabricOp::READ, 0),
            Kind::Stored => (FabricOp::WRITE, 0),
        };
        if operation.kind == Kind::Received {
            request.ignore = TAG_IGNORE;
        }
        if let Some((addr, key)) = piece.remote {
            request.remote_addr = addr;
            request.remote_key = key;
        }
        request.ptr = operation.buffer.ptr().wrapping_add(piece.offset);
        request.descriptor = operation.buffer.descriptor();
        request
    }

    fn piece_done(&mut self, operation: u32, status: Status, len: usize, out: &mut Vec<Event>) {
        let place = &mut self.operations[operation as usize];
        let Some(running) = place else { return };
        if running.status.is_ok() {
            running.status = status;
        }
        running.len += len;
        running.left -= 1;
        if running.left == 0
            && let Some(ended) = place.take()
        {
            self.free_operations.push(operation);
            if ended.kind != Kind::Received {
                self.working -= 1;
            }
            out.push(Event {
                kind: ended.kind,
                user: ended.user,
                len: ended.len.min(ended.buffer.len()),
                buffer: ended.buffer,
                status: ended.status,
            });
        }
    }
}

const EMPTY_REQUEST: FabricRequest = FabricRequest {
    op: FabricOp::RECV,
    reserved: [0; 7],
    peer: 0,
    tag: 0,
    ignore: 0,
    ptr: std::ptr::null_mut(),
    len: 0,
    descriptor: 0,
    remote_addr: 0,
    remote_key: 0,
    user: 0,
    scratch: std::ptr::null_mut(),
};

#[cfg(test)]
mod tests;
