//! Measuring the way to a target: an endpoint of its own, one ping at a time, no repetition.

use crate::driver::link::{Event, Link};
use crate::driver::{Opened, open_link};
use crate::locate::Locator;
use crate::pool::{Lease, Pool};
use crate::provider::{self, Fabric};
use crate::{EngineUri, Error, Operation, Options};
use daos_plugin_api::host::ThreadGuard;
use daos_wire::{
    INLINE_MAX, ObjectId, Opcode, REQUEST_MAX, Reply, Request, SINGLE_MAX, WireStatus,
};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Most bytes of a ping.
pub const PING_MAX: usize = SINGLE_MAX as usize;

/// How long to look for an answer before pausing between two looks: answers that are later than this are not
/// about latency.
const SPIN: Duration = Duration::from_millis(50);
const PAUSE: Duration = Duration::from_millis(1);

/// Finds an engine as a client does.
///
/// # Errors
/// The control plane cannot be reached, or knows no such engine.
pub async fn find_engine(options: &Options) -> Result<EngineUri, Error> {
    let view = Locator::new(options).await?.view();
    Ok(EngineUri {
        provider: view.provider.clone(),
        targets: view.targets.iter().map(|t| t.to_vec()).collect(),
    })
}

/// Pings one target, from the thread that opened it.
pub struct Pinger {
    // The endpoint is closed first, then what it may have used.
    link: Link,
    memory: Option<Lease>,
    pool: Arc<Pool>,
    _attached: ThreadGuard,
    _fabric: Fabric,
    peer: u64,
    target: u32,
    client: Uuid,
    address: Vec<u8>,
    sequence: u64,
    events: Vec<Event>,
}

impl Pinger {
    /// Opens the fabric of the address' provider on an interface of this machine (empty = the plugin chooses).
    ///
    /// # Errors
    /// The provider's plugin is missing or fails, or its address is none of that provider.
    pub fn open(
        uri: &EngineUri,
        target: u32,
        interface: &str,
        plugins_dir: Option<&Path>,
    ) -> Result<Self, Error> {
        let failed = |cause: String, remedy: &str| Error::Provider {
            provider: uri.provider.clone(),
            cause,
            remedy: remedy.to_owned(),
        };
        let address = uri
            .targets
            .get(target as usize)
            .ok_or_else(|| Error::Address {
                given: target.to_string(),
                expected: "target of the engine",
                cause: format!("it has {}, counted from 0", uri.targets.len()),
            })?;
        let fabric = provider::open(&uri.provider, interface, plugins_dir)?;
        let Opened {
            mut link,
            pool,
            attached,
            address: own,
        } = open_link(&fabric).map_err(|cause| {
            failed(cause, "try another interface of this machine (--interface)")
        })?;
        let peer = link.resolve(address).map_err(|status| {
            failed(
                format!("the peer's address is not understood: {status}"),
                "the peer may have another plugin for it: name the directory of plugins with --plugins-dir",
            )
        })?;
        Ok(Self {
            pool,
            memory: None,
            link,
            _attached: attached,
            _fabric: fabric,
            peer,
            target,
            client: Uuid::new_v4(),
            address: own,
            sequence: 0,
            events: Vec::new(),
        })
    }

    /// Sends `size` bytes (at most [`PING_MAX`]) and takes them back; the time of both. Up to
    /// [`INLINE_MAX`](daos_wire::INLINE_MAX) bytes travel in messages, more by remote memory access of the peer.
    ///
    /// # Errors
    /// Nothing came within `patience`, or not what was sent. The pinger is of no use then.
    pub fn ping(&mut self, size: usize, patience: Duration) -> Result<Duration, Error> {
        if size > PING_MAX {
            return Err(Error::Size {
                operation: operation(),
                what: "the value",
                len: size,
                limit: "0 to 1048576",
            });
        }
        self.sequence += 1;
        let value: Vec<u8> = (0..size)
            .map(|at| (at as u64 ^ self.sequence) as u8)
            .collect();
        let by_memory = size > INLINE_MAX;
        if by_memory && self.memory.as_ref().is_none_or(|m| m.capacity() < size) {
            let lease = self.pool.take(size).map_err(|status| Error::Fabric {
                operation: operation(),
                cause: format!("{size} bytes cannot be registered: {status}"),
            })?;
            self.memory = Some(lease);
        }
        let rma = match &mut self.memory {
            Some(lease) if by_memory => {
                lease.fill(&value);
                Some(lease.describe(size))
            }
            _ => None,
        };
        let request = Request {
            value_len: size as u64,
            inline: if by_memory { &[] } else { &value },
            rma,
            ..Request::new(Opcode::Ping, self.client, self.sequence, &self.address)
        };
        let mut message = vec![0; REQUEST_MAX];
        let len = request
            .encode(&mut message)
            .map_err(|error| self.nonsense(error.to_string()))?;
        message.truncate(len);
        let begun = Instant::now();
        self.link.send(self.peer, message);
        let reply = self.answer(begun, patience)?;
        let took = begun.elapsed();
        let returned = match &self.memory {
            Some(lease) if by_memory => lease.copy(size),
            _ => reply,
        };
        if returned != value {
            return Err(self.nonsense("other bytes came back than were sent".to_owned()));
        }
        Ok(took)
    }

    /// The inline part of the answer to the last ping.
    fn answer(&mut self, begun: Instant, patience: Duration) -> Result<Vec<u8>, Error> {
        loop {
            self.link.flush().map_err(broken)?;
            let mut events = std::mem::take(&mut self.events);
            let polled = self.link.poll(&mut events);
            for event in events.drain(..) {
                match event {
                    Event::Received(message) => {
                        if let Some(answer) = self.received(&message)? {
                            return Ok(answer);
                        }
                    }
                    Event::NotSent { status, .. } => {
                        return Err(self.lost(begun, &format!("the peer is not reached: {status}")));
                    }
                }
            }
            self.events = events;
            polled.map_err(broken)?;
            let waited = begun.elapsed();
            if waited >= patience {
                return Err(self.lost(begun, "no answer came"));
            }
            if waited < SPIN {
                // On a small machine the peer may need this core.
                std::thread::yield_now();
            } else {
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// `None` for the answer to an earlier ping.
    fn received(&self, message: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let reply = Reply::decode(message).map_err(|error| self.nonsense(error.to_string()))?;
        if reply.client != self.client || reply.sequence != self.sequence {
            return Ok(None);
        }
        if reply.status != WireStatus::OK {
            return Err(Error::Engine {
                operation: operation(),
                target: self.target,
                status: reply.status,
                detail: String::from_utf8_lossy(reply.inline).into_owned(),
            });
        }
        Ok(Some(reply.inline.to_vec()))
    }

    fn lost(&self, begun: Instant, last: &str) -> Error {
        Error::TimedOut {
            operation: operation(),
            after: begun.elapsed(),
            last: format!(
                "{last}; check that both machines' interfaces are in one network, and that no firewall is \
                 between (another interface of this machine: --interface)"
            ),
        }
    }

    fn nonsense(&self, cause: String) -> Error {
        Error::Protocol {
            operation: operation(),
            target: self.target,
            cause,
        }
    }
}

fn broken(status: daos_plugin_api::abi::Status) -> Error {
    Error::Fabric {
        operation: operation(),
        cause: status.to_string(),
    }
}

fn operation() -> Operation {
    Operation {
        opcode: Opcode::Ping,
        object: ObjectId::default(),
        dkey: Vec::new(),
        akey: Vec::new(),
    }
}
