//! One call: attempts until there is an answer that counts.

use crate::block::Memory;
use crate::driver::{Answer, Attempt, Driver, Lost, Outcome};
use crate::error::{Error, Operation};
use crate::locate::{Locator, View};
use crate::pool::{Lease, Pool};
use crate::retry::Patience;
use crate::sequence::{Sequence, Sequences};
use daos_plugin_api::abi::Status;
use daos_wire::{
    ArrayRange, ObjectId, Opcode, PunchScope, REQUEST_MAX, Request, ValueKind, WireStatus,
    readable, target_of,
};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, oneshot};
use uuid::Uuid;

/// How long the driver may be late before a call stops waiting for it.
const GRACE: Duration = Duration::from_secs(1);
/// How often a value that was damaged on the way is sent again.
const DAMAGED_TRIES: u32 = 3;

/// What all calls of a client share.
pub(crate) struct Core {
    pub(crate) driver: Driver,
    pub(crate) locator: Locator,
    pub(crate) pool: Arc<Pool>,
    pub(crate) client: Uuid,
    /// Fabric address of this client.
    pub(crate) address: Vec<u8>,
    pub(crate) sequences: Sequences,
    pub(crate) permits: Semaphore,
    pub(crate) deadline: Duration,
    pub(crate) attempt: Duration,
}

/// What is asked of the engine.
pub(crate) struct Call<'a> {
    pub(crate) opcode: Opcode,
    pub(crate) pool: Uuid,
    pub(crate) container: Uuid,
    pub(crate) object: ObjectId,
    pub(crate) dkey: &'a [u8],
    pub(crate) akey: &'a [u8],
    pub(crate) scope: PunchScope,
    pub(crate) limit: u32,
    /// Part of an array.
    pub(crate) array: ArrayRange,
    /// A value to store.
    pub(crate) value: &'a [u8],
    /// Which target to ask; `None` = the one of the dkey.
    pub(crate) target: Option<u32>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(opcode: Opcode) -> Self {
        Self {
            opcode,
            pool: Uuid::nil(),
            container: Uuid::nil(),
            object: ObjectId::default(),
            dkey: &[],
            akey: &[],
            scope: PunchScope::None,
            limit: 0,
            array: ArrayRange::default(),
            value: &[],
            target: None,
        }
    }

    pub(crate) fn operation(&self) -> Operation {
        Operation {
            opcode: self.opcode,
            object: self.object,
            dkey: self.dkey.to_vec(),
            akey: self.akey.to_vec(),
        }
    }

    fn is_change(&self) -> bool {
        self.opcode.is_change()
    }

    /// The target to ask, or `None` if the engine has fewer.
    fn route(&self, view: &View) -> Option<u32> {
        let count = view.targets.len() as u32; // far below, see `EngineUri`
        match self.target {
            Some(target) => (target < count).then_some(target),
            None => Some(target_of(self.object, self.dkey, count)),
        }
    }
}

/// An answer that counts: OK, or [`WireStatus::NO_ROOM`], and where it came from.
pub(crate) struct Answered {
    pub(crate) answer: Answer,
    pub(crate) memory: Option<Lease>,
    pub(crate) target: u32,
}

/// What an attempt without an answer that counts means for the next one.
struct Again {
    why: String,
    /// Look for the engine first.
    look: bool,
}

impl Core {
    /// Memory for a value, for a call.
    pub(crate) fn lease(&self, call: &Call<'_>, len: usize) -> Result<Lease, Error> {
        let taken = self.pool.take(len);
        taken.map_err(|status| no_memory(call, len, status))
    }

    /// Memory of the caller for a call.
    pub(crate) fn lend(&self, call: &Call<'_>, memory: Memory) -> Result<Lease, Error> {
        let len = memory.len();
        let lent = self.pool.lend(memory);
        lent.map_err(|status| no_memory(call, len, status))
    }

    /// Makes the call. `memory` holds the value of a large put, or gives room to a get.
    pub(crate) async fn call(
        &self,
        call: &Call<'_>,
        room: usize,
        patience: &mut Patience,
    ) -> Result<Answered, Error> {
        let memory = match (call.opcode, room) {
            (_, 0) => None,
            (Opcode::Put | Opcode::ArrayPut, _) => {
                let mut lease = self.lease(call, room)?;
                lease.fill(call.value);
                Some(lease)
            }
            _ => Some(self.lease(call, room)?),
        };
        self.call_with(call, memory, room, patience).await
    }

    /// Makes the call with `room` bytes of `memory`, if there is any.
    pub(crate) async fn call_with(
        &self,
        call: &Call<'_>,
        mut memory: Option<Lease>,
        room: usize,
        patience: &mut Patience,
    ) -> Result<Answered, Error> {
        let checksum = daos_wire::crc32c(call.value);
        let mut sequence = self.sequences.take(call.is_change());
        let mut damaged = 0;
        loop {
            let view = self.locator.view();
            let Some(target) = call.route(&view) else {
                return Err(Error::Engine {
                    operation: call.operation(),
                    target: call.target.unwrap_or(0),
                    status: WireStatus::WRONG_TARGET,
                    detail: format!("the engine has {} targets", view.targets.len()),
                });
            };
            let message = self.encode(call, &sequence, checksum, memory.as_ref(), room)?;
            let expires = patience.expiry(self.attempt);
            let address = view.targets[target as usize].clone();
            let outcome = self
                .attempt(
                    call,
                    address,
                    sequence.number(),
                    message,
                    memory.take(),
                    expires,
                )
                .await?;
            let mut lost = false;
            let again = match outcome.result {
                Ok(answer) if answer.status.is_ok() || answer.status == WireStatus::NO_ROOM => {
                    return Ok(Answered {
                        answer,
                        memory: outcome.memory,
                        target,
                    });
                }
                Ok(answer) => {
                    if matches!(answer.status, WireStatus::DAMAGED | WireStatus::UNREACHABLE) {
                        damaged += 1;
                    }
                    repeatable(&answer, damaged).ok_or_else(|| refused(call, target, answer))?
                }
                Err(Lost::Fabric(cause)) => {
                    return Err(Error::Fabric {
                        operation: call.operation(),
                        cause,
                    });
                }
                Err(loss) => {
                    lost = true;
                    let peer = readable(&view.targets[target as usize]);
                    Again {
                        why: match loss {
                            Lost::Unreachable(status) => {
                                format!("target {target} at {peer}: {status}")
                            }
                            Lost::Expired(note) => format!("target {target} at {peer}: {note}"),
                            Lost::Fabric(cause) => cause,
                        },
                        look: true,
                    }
                }
            };
            tracing::debug!(operation = %call.operation(), why = again.why, "trying again");
            let why = self.prepare_retry(&view, again, patience, call).await?;
            tracing::trace!(why, "retry");
            // The value of a put may be read as often as anybody likes. Room for a get may be
            // written late by an engine that works on the first request: it gets other room, and
            // its late answer another sequence.
            if call.is_change() {
                memory = outcome.memory;
            } else if room > 0 {
                memory = Some(match outcome.memory {
                    Some(lease) => lease
                        .renew()
                        .map_err(|status| no_memory(call, room, status))?,
                    None => self.lease(call, room)?,
                });
            }
            if !(call.is_change() && lost) {
                sequence = self.sequences.take(call.is_change());
            }
        }
    }

    /// Waits, and looks for the engine if that helps; fails when the time is over.
    async fn prepare_retry(
        &self,
        view: &View,
        again: Again,
        patience: &mut Patience,
        call: &Call<'_>,
    ) -> Result<String, Error> {
        let mut why = again.why;
        if again.look {
            let limit = patience.expiry(Duration::MAX);
            let look = self.locator.look_again(view);
            match tokio::time::timeout_at(limit.into(), look).await {
                Ok(Ok(gone)) => gone.into_iter().for_each(|old| self.driver.forget(old)),
                Ok(Err(error @ (Error::Provider { .. } | Error::Address { .. }))) => {
                    return Err(error);
                }
                // The server may be on its way up again, as the engine may.
                Ok(Err(error)) => why = format!("{why}; {error}"),
                Err(_) => {}
            }
        }
        if patience.pause().await {
            return Ok(why);
        }
        Err(Error::TimedOut {
            operation: call.operation(),
            after: patience.elapsed(),
            last: why,
        })
    }

    fn encode(
        &self,
        call: &Call<'_>,
        sequence: &Sequence<'_>,
        checksum: u32,
        memory: Option<&Lease>,
        room: usize,
    ) -> Result<Vec<u8>, Error> {
        let mut request = Request::new(call.opcode, self.client, sequence.number(), &self.address);
        request.settled = sequence.settled();
        request.limit = call.limit;
        request.pool = call.pool;
        request.container = call.container;
        request.object = call.object;
        request.dkey = call.dkey;
        request.akey = call.akey;
        request.scope = call.scope;
        request.rma = memory.map(|lease| lease.describe(room));
        request.array = call.array;
        request.kind = match call.opcode {
            Opcode::Put | Opcode::Get => ValueKind::Single,
            Opcode::ArrayPut | Opcode::ArrayGet | Opcode::ArrayPunch | Opcode::ArrayQuery => {
                ValueKind::Array
            }
            _ => ValueKind::None,
        };
        if matches!(call.opcode, Opcode::Put | Opcode::ArrayPut) {
            request.value_len = call.value.len() as u64;
            request.checksum = checksum;
            request.inline = if memory.is_some() { &[] } else { call.value };
        }
        let mut message = vec![0; request.encoded_len().min(REQUEST_MAX)];
        request
            .encode(&mut message)
            .map_err(|error| Error::Engine {
                operation: call.operation(),
                target: call.target.unwrap_or(0),
                status: WireStatus::INVALID,
                detail: format!("the request cannot be encoded: {error}"),
            })?;
        Ok(message)
    }

    async fn attempt(
        &self,
        call: &Call<'_>,
        target: Arc<[u8]>,
        sequence: u64,
        message: Vec<u8>,
        memory: Option<Lease>,
        expires: Instant,
    ) -> Result<Outcome, Error> {
        let broken = |cause: &str| Error::Fabric {
            operation: call.operation(),
            cause: cause.to_owned(),
        };
        let _permit = match tokio::time::timeout_at(expires.into(), self.permits.acquire()).await {
            Ok(permit) => permit.map_err(|_| broken("the client is closed"))?,
            Err(_) => {
                let lost = Lost::Expired("too many other calls are under way".to_owned());
                return Ok(Outcome {
                    memory,
                    result: Err(lost),
                });
            }
        };
        let (answer, outcome) = oneshot::channel();
        self.driver.attempt(Attempt {
            target,
            sequence,
            message,
            memory,
            expires,
            answer,
        });
        match tokio::time::timeout_at((expires + GRACE).into(), outcome).await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(_)) => Err(broken("its thread has ended")),
            Err(_) => Err(broken("its thread hangs in the fabric plugin")),
        }
    }
}

fn no_memory(call: &Call<'_>, len: usize, status: Status) -> Error {
    Error::Fabric {
        operation: call.operation(),
        cause: format!("{len} bytes of memory cannot be registered: {status}"),
    }
}

/// Whether an answer that is no success is worth another attempt.
fn repeatable(answer: &Answer, damaged: u32) -> Option<Again> {
    let (look, again) = match answer.status {
        WireStatus::BUSY => (false, true),
        WireStatus::STOPPING | WireStatus::WRONG_TARGET => (true, true),
        WireStatus::DAMAGED | WireStatus::UNREACHABLE => (false, damaged < DAMAGED_TRIES),
        _ => (false, false),
    };
    again.then(|| Again {
        why: answer.status.to_string(),
        look,
    })
}

/// The error for an answer that is final.
fn refused(call: &Call<'_>, target: u32, answer: Answer) -> Error {
    let operation = call.operation();
    if answer.status == WireStatus::NOT_FOUND {
        // Of values the engine says nothing more; of pools and containers it does.
        let detail = String::from_utf8_lossy(&answer.inline).into_owned();
        return match detail.is_empty() {
            true => Error::NotFound { operation },
            false => Error::Missing { operation, detail },
        };
    }
    Error::Engine {
        operation,
        target,
        status: answer.status,
        detail: String::from_utf8_lossy(&answer.inline).into_owned(),
    }
}
