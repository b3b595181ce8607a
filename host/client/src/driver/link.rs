//! The endpoint with its message memory: requests out, replies in.

use crate::block::Block;
use crate::pool::{Message, Pool};
use daos_plugin_api::abi::{FabricCompletion, FabricOp, FabricRequest, Status, WaitKind};
use daos_plugin_api::host::Endpoint;
use daos_plugin_api::sdk::Error;
use daos_wire::{REPLY_MAX, REPLY_TAG, REQUEST_MAX, REQUEST_TAG, TAG_IGNORE};
use std::collections::VecDeque;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{Interest, unix::AsyncFd};

/// Most messages that are handed to the fabric at once, per direction.
const SLOTS: usize = 256;
/// The same where messages are in registered memory, of which a user may have little (`ulimit -l`, 8 MiB as a
/// rule): 2 MiB.
const REGISTERED_SLOTS: usize = 64;
/// Completions taken per poll.
const BATCH: usize = 64;
/// Marks a receive slot in the number of an operation.
const RECEIVE: u64 = 1 << 32;

/// Memory of one operation.
struct Slot {
    message: Message,
    scratch: Block,
    peer: u64,
}

/// What happened.
pub(crate) enum Event {
    /// A request to this peer did not leave.
    NotSent { peer: u64, status: Status },
    /// A reply arrived.
    Received(Vec<u8>),
}

/// How long nothing will happen.
pub(super) enum Sleep<'a> {
    /// Not at all.
    Not,
    /// Until the descriptor is readable or the time is over.
    Until {
        fd: Option<BorrowedFd<'a>>,
        timer: Option<Duration>,
    },
}

/// A request that waits for a slot.
struct Waiting {
    peer: u64,
    message: Vec<u8>,
}

/// See the module.
pub(crate) struct Link {
    // First, so that it is dropped first: from then on nobody uses the slots' memory.
    endpoint: Endpoint,
    sends: Vec<Slot>,
    receives: Vec<Slot>,
    free: Vec<usize>,
    /// Requests without a slot, oldest first.
    waiting: VecDeque<Waiting>,
    /// Operations with a slot that the fabric has not taken, oldest first.
    ready: VecDeque<FabricRequest>,
    completions: Vec<FabricCompletion>,
}

impl Link {
    /// Takes memory for its messages from `pool`.
    ///
    /// # Errors
    /// The fabric does not register it.
    pub(super) fn new(endpoint: Endpoint, pool: &Arc<Pool>) -> Result<Self, Error> {
        let info = endpoint.domain().info();
        let scratch = info.scratch_size as usize;
        let most = match pool.wants_messages() {
            true => REGISTERED_SLOTS,
            false => SLOTS,
        };
        let slots = most.min(info.max_outstanding as usize).max(1);
        let make = |bytes: usize| -> Result<Vec<Slot>, Error> {
            let slot = |_| {
                Ok(Slot {
                    message: pool.message(bytes)?,
                    scratch: Block::new(scratch),
                    peer: 0,
                })
            };
            (0..slots).map(slot).collect()
        };
        let mut link = Self {
            endpoint,
            sends: make(REQUEST_MAX)?,
            receives: make(REPLY_MAX)?,
            free: (0..slots).collect(),
            waiting: VecDeque::new(),
            ready: VecDeque::new(),
            completions: vec![FabricCompletion::EMPTY; BATCH],
        };
        for index in 0..slots {
            link.offer(index);
        }
        Ok(link)
    }

    pub(super) fn address(&self) -> Result<Vec<u8>, Status> {
        self.endpoint.address()
    }

    pub(crate) fn resolve(&mut self, address: &[u8]) -> Result<u64, Status> {
        self.endpoint.resolve(address)
    }

    /// Forgets a peer; requests to it that have not left never do.
    pub(super) fn release(&mut self, peer: u64) {
        self.waiting.retain(|waiting| waiting.peer != peer);
        if let Err(status) = self.endpoint.release(peer) {
            tracing::debug!(%status, "releasing a peer");
        }
    }

    /// How the thread may sleep, now that nothing is left to do.
    pub(super) fn arm_wait(&mut self) -> Result<Sleep<'_>, Status> {
        let wait = self.endpoint.arm_wait()?;
        let timer = (wait.timeout_us > 0).then(|| Duration::from_micros(wait.timeout_us));
        match wait.kind {
            WaitKind::FD if wait.fd < 0 => Err(Status::INTERNAL),
            WaitKind::FD => {
                // SAFETY: the endpoint owns the descriptor and keeps it open; the borrow of `self`
                // keeps the endpoint.
                let fd = unsafe { BorrowedFd::borrow_raw(wait.fd) };
                Ok(Sleep::Until {
                    fd: Some(fd),
                    timer,
                })
            }
            WaitKind::TIMER if timer.is_some() => Ok(Sleep::Until { fd: None, timer }),
            _ => Ok(Sleep::Not),
        }
    }

    /// Takes a request; it goes out with the next [`Link::flush`].
    pub(crate) fn send(&mut self, peer: u64, message: Vec<u8>) {
        match self.free.pop() {
            Some(index) => self.load(index, peer, &message),
            None => self.waiting.push_back(Waiting { peer, message }),
        }
    }

    fn load(&mut self, index: usize, peer: u64, message: &[u8]) {
        let slot = &mut self.sends[index];
        slot.peer = peer;
        slot.message.fill(message);
        self.ready.push_back(FabricRequest {
            op: FabricOp::SEND,
            peer,
            tag: REQUEST_TAG,
            len: message.len(),
            user: index as u64,
            ..request(slot)
        });
    }

    /// Offers a receive slot.
    fn offer(&mut self, index: usize) {
        let slot = &self.receives[index];
        self.ready.push_back(FabricRequest {
            op: FabricOp::RECV,
            tag: REPLY_TAG,
            ignore: TAG_IGNORE,
            len: slot.message.len(),
            user: RECEIVE | index as u64,
            ..request(slot)
        });
    }

    /// Hands the fabric what it takes; whether that was anything.
    pub(crate) fn flush(&mut self) -> Result<bool, Status> {
        let requests = self.ready.make_contiguous();
        if requests.is_empty() {
            return Ok(false);
        }
        // SAFETY: message and scratch belong to slots, which are not touched before their
        // completion is polled (`free` and `offer` hand them on only then) and live until the
        // endpoint is dropped (order of the fields).
        let taken = match unsafe { self.endpoint.submit(requests) } {
            Ok(taken) => taken,
            Err(Status::AGAIN) => 0,
            Err(status) => return Err(status),
        };
        self.ready.drain(..taken);
        Ok(taken > 0)
    }

    /// Makes progress; returns whether anything completed.
    pub(crate) fn poll(&mut self, events: &mut Vec<Event>) -> Result<bool, Status> {
        let mut completions = std::mem::take(&mut self.completions);
        let outcome = self.endpoint.poll(&mut completions);
        if let Ok(count) = outcome {
            for completion in &completions[..count] {
                self.completed(completion, events);
            }
        }
        self.completions = completions;
        outcome.map(|count| count > 0)
    }

    fn completed(&mut self, completion: &FabricCompletion, events: &mut Vec<Event>) {
        let index = (completion.user & !RECEIVE) as usize;
        if completion.user & RECEIVE == 0 {
            let Some(slot) = self.sends.get(index) else {
                return;
            };
            if !completion.status.is_ok() {
                events.push(Event::NotSent {
                    peer: slot.peer,
                    status: completion.status,
                });
            }
            match self.waiting.pop_front() {
                Some(next) => self.load(index, next.peer, &next.message),
                None => self.free.push(index),
            }
            return;
        }
        let Some(slot) = self.receives.get(index) else {
            return;
        };
        if completion.status.is_ok() {
            let len = (completion.len as usize).min(slot.message.len());
            events.push(Event::Received(slot.message.copy(len)));
        } else {
            tracing::warn!(status = %completion.status, "a reply was lost on its way in");
        }
        self.offer(index);
    }
}

/// Lets the runtime watch a descriptor: a duplicate of it, so that closing it is the watcher's.
pub(super) fn watch(fd: BorrowedFd<'_>) -> std::io::Result<AsyncFd<OwnedFd>> {
    let own = fd.try_clone_to_owned()?;
    // SAFETY: an `OwnedFd` is the same open descriptor until it is dropped, which its watcher does.
    let watch = unsafe { AsyncFd::register_with_interest(own, Interest::READABLE) };
    Ok(watch?)
}

fn request(slot: &Slot) -> FabricRequest {
    FabricRequest {
        op: FabricOp::SEND,
        reserved: [0; 7],
        peer: 0,
        tag: 0,
        ignore: 0,
        ptr: slot.message.as_ptr(),
        len: 0,
        descriptor: slot.message.descriptor(),
        remote_addr: 0,
        remote_key: 0,
        user: 0,
        scratch: slot.scratch.as_ptr(),
    }
}
