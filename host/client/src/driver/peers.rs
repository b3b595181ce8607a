//! Who was asked what, and has not answered yet.
//!
//! A fabric reports that a message could not be sent, but not that the peer died after it had
//! taken one. So a target that owes answers and has been silent for a while is sent a query: either
//! it answers, or the query cannot be delivered and everything asked of that target is lost.

use super::link::Link;
use super::{Answer, Attempt, Lost, Outcome};
use crate::pool::Lease;
use daos_plugin_api::abi::Status;
use daos_wire::{Opcode, REQUEST_MAX, Reply, Request};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use uuid::Uuid;

/// Silence after which a target is asked whether it lives.
const SILENCE: Duration = Duration::from_millis(250);
/// Sequences of such queries have this bit, those of callers do not.
pub(crate) const PROBE: u64 = 1 << 63;

struct Waiting {
    peer: u64,
    since: Instant,
    expires: Instant,
    memory: Option<Lease>,
    answer: oneshot::Sender<Outcome>,
}

struct Peer {
    address: Arc<[u8]>,
    /// When the last reply came.
    heard: Instant,
    /// When the unanswered query went out.
    probed: Option<Instant>,
}

/// See the module.
pub(super) struct Peers {
    client: Uuid,
    own_address: Option<Vec<u8>>,
    by_address: HashMap<Arc<[u8]>, u64>,
    peers: HashMap<u64, Peer>,
    waiting: HashMap<u64, Waiting>,
    probes: HashMap<u64, u64>,
    next_probe: u64,
    /// What was last received and could not be read.
    unreadable: Option<String>,
}

impl Peers {
    pub(super) fn new(client: Uuid) -> Self {
        Self {
            client,
            own_address: None,
            by_address: HashMap::new(),
            peers: HashMap::new(),
            waiting: HashMap::new(),
            probes: HashMap::new(),
            next_probe: PROBE,
            unreadable: None,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn start(&mut self, link: &mut Link, attempt: Attempt) {
        let peer = match self.number(link, &attempt.target) {
            Ok(peer) => peer,
            Err(status) => {
                let lost = Err(Lost::Unreachable(status));
                return end(attempt.memory, attempt.answer, lost);
            }
        };
        let mut memory = attempt.memory;
        if let Some(memory) = &mut memory {
            memory.sent();
        }
        let waiting = Waiting {
            peer,
            since: Instant::now(),
            expires: attempt.expires,
            memory,
            answer: attempt.answer,
        };
        self.waiting.insert(attempt.sequence, waiting);
        link.send(peer, attempt.message);
    }

    fn number(&mut self, link: &mut Link, address: &Arc<[u8]>) -> Result<u64, Status> {
        if let Some(&peer) = self.by_address.get(address) {
            return Ok(peer);
        }
        let number = link.resolve(address)?;
        let peer = Peer {
            address: address.clone(),
            heard: Instant::now(),
            probed: None,
        };
        self.by_address.insert(address.clone(), number);
        self.peers.insert(number, peer);
        Ok(number)
    }

    pub(super) fn received(&mut self, message: &[u8]) {
        let reply = match Reply::decode(message) {
            Ok(reply) if reply.client == self.client => reply,
            Ok(_) => return, // meant for a client that had this address before
            Err(error) => {
                tracing::warn!(%error, "a reply that cannot be read");
                self.unreadable = Some(error.to_string());
                return;
            }
        };
        let waiting = self.waiting.remove(&reply.sequence);
        let sender = match &waiting {
            Some(waiting) => Some(waiting.peer),
            None => self.probes.remove(&reply.sequence),
        };
        if let Some(peer) = sender.and_then(|number| self.peers.get_mut(&number)) {
            peer.heard = Instant::now();
            if waiting.is_none() {
                peer.probed = None;
            }
        }
        // Else: an answer to an attempt that was given up.
        if let Some(mut waiting) = waiting {
            if let Some(memory) = &mut waiting.memory {
                memory.answered();
            }
            end(waiting.memory, waiting.answer, Ok(Answer::from(&reply)));
        }
    }

    /// A message to this peer could not be delivered: nothing asked of it will be answered.
    pub(super) fn lose(&mut self, link: &mut Link, number: u64, status: Status) {
        let Some(peer) = self.peers.remove(&number) else {
            return; // lost before
        };
        tracing::debug!(%status, "a target cannot be reached");
        self.by_address.remove(&peer.address);
        self.probes.retain(|_, of| *of != number);
        link.release(number);
        for (_, lost) in self.waiting.extract_if(|_, waiting| waiting.peer == number) {
            end(lost.memory, lost.answer, Err(Lost::Unreachable(status)));
        }
    }

    /// Forgets an address that the engine no longer has.
    pub(super) fn retire(&mut self, link: &mut Link, address: &Arc<[u8]>) {
        if let Some(&number) = self.by_address.get(address) {
            self.lose(link, number, Status::UNREACHABLE);
        }
    }

    /// Ends what expired; asks silent targets whether they live.
    pub(super) fn tick(&mut self, link: &mut Link, now: Instant) {
        let mut oldest: HashMap<u64, Instant> = HashMap::new();
        for (_, late) in self.waiting.extract_if(|_, waiting| waiting.expires <= now) {
            let note = match &self.unreadable {
                Some(error) => format!("no answer that could be read ({error})"),
                None => "no answer".to_owned(),
            };
            end(late.memory, late.answer, Err(Lost::Expired(note)));
        }
        for waiting in self.waiting.values() {
            let since = oldest.entry(waiting.peer).or_insert(waiting.since);
            *since = waiting.since.min(*since);
        }
        for (number, since) in oldest {
            self.probe(link, number, since, now);
        }
    }

    fn probe(&mut self, link: &mut Link, number: u64, since: Instant, now: Instant) {
        let Some(peer) = self.peers.get_mut(&number) else {
            return;
        };
        let quiet = now.duration_since(peer.heard.max(since));
        let asked = peer.probed.map(|at| now.duration_since(at));
        // One at a time: a target that is merely slow must not be buried in questions. Asked again
        // after a while, because the first question may have been taken by a dying engine.
        if quiet < SILENCE || asked.is_some_and(|ago| ago < 2 * SILENCE) {
            return;
        }
        if self.own_address.is_none() {
            self.own_address = link.address().ok();
        }
        let Some(address) = &self.own_address else {
            return;
        };
        let request = Request::new(Opcode::Query, self.client, self.next_probe, address);
        let mut message = vec![0; REQUEST_MAX];
        let Ok(len) = request.encode(&mut message) else {
            return;
        };
        message.truncate(len);
        self.probes.retain(|_, of| *of != number);
        self.probes.insert(self.next_probe, number);
        self.next_probe += 1;
        peer.probed = Some(now);
        link.send(number, message);
    }

    /// Ends everything because the fabric failed.
    pub(super) fn fail(&mut self, cause: &str) {
        for (_, lost) in self.waiting.drain() {
            end(
                lost.memory,
                lost.answer,
                Err(Lost::Fabric(cause.to_owned())),
            );
        }
    }
}

/// Tells an outcome; if nobody listens, the memory goes back on its own.
pub(super) fn end(
    memory: Option<Lease>,
    answer: oneshot::Sender<Outcome>,
    result: Result<Answer, Lost>,
) {
    drop(answer.send(Outcome { memory, result }));
}
