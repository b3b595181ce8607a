//! Objects of a container.

use crate::call::{Answered, Call};
use crate::error::Error;
use crate::retry::Patience;
use crate::{Client, ObjectId, Uuid};
use daos_wire::{
    INLINE_MAX, KEY_MAX, ListEntries, Opcode, PunchScope, SINGLE_MAX, WireStatus, crc32c,
};

/// How often a get is repeated whose value came back damaged.
const CHECKSUM_TRIES: u32 = 3;

/// How a call that fetches a value ended.
pub(crate) enum Fetched {
    /// The value, verified.
    Value(Vec<u8>),
    /// It is larger than the room offered.
    NoRoom(Answered),
}

/// What a punch removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Punch<'a> {
    /// One value.
    Akey(&'a [u8], &'a [u8]),
    /// Everything under a dkey.
    Dkey(&'a [u8]),
    /// The whole object, on all targets.
    Object,
}

/// A container of a pool, through a client. Cheap to clone.
///
/// Keys have 1 to 4096 bytes, values 0 to 1 MiB. Every request ends within the client's deadline;
/// listings and punches of objects make several.
/// Dropping a future abandons the call; whether the engine carries it out is then unknown.
#[derive(Clone)]
pub struct Container {
    client: Client,
    pool: Uuid,
    container: Uuid,
}

impl Container {
    pub(crate) fn new(client: Client, pool: Uuid, container: Uuid) -> Self {
        Self {
            client,
            pool,
            container,
        }
    }

    /// UUID of the pool.
    pub fn pool(&self) -> Uuid {
        self.pool
    }

    /// UUID of the container.
    pub fn uuid(&self) -> Uuid {
        self.container
    }

    pub(crate) fn call<'a>(
        &self,
        opcode: Opcode,
        object: ObjectId,
        dkey: &'a [u8],
        akey: &'a [u8],
    ) -> Call<'a> {
        Call {
            pool: self.pool,
            container: self.container,
            object,
            dkey,
            akey,
            ..Call::new(opcode)
        }
    }

    pub(crate) fn core(&self) -> &crate::call::Core {
        &self.client.core
    }

    pub(crate) fn patience(&self) -> Patience {
        Patience::new(self.client.core.deadline)
    }

    /// Stores a value; when this returns it is durable. Two puts under the same keys at the same
    /// time leave either value.
    ///
    /// # Errors
    /// [`Error::Size`] for keys or values out of range; otherwise see [`Error`]. After
    /// [`Error::TimedOut`] the value may or may not be there.
    pub async fn put(
        &self,
        object: ObjectId,
        dkey: &[u8],
        akey: &[u8],
        value: &[u8],
    ) -> Result<(), Error> {
        let call = self.put_call(object, dkey, akey, value)?;
        let room = if value.len() > INLINE_MAX {
            value.len()
        } else {
            0
        };
        let core = &self.client.core;
        let answered = core.call(&call, room, &mut self.patience()).await?;
        stored(&call, &answered)
    }

    pub(crate) fn put_call<'a>(
        &self,
        object: ObjectId,
        dkey: &'a [u8],
        akey: &'a [u8],
        value: &'a [u8],
    ) -> Result<Call<'a>, Error> {
        let mut call = self.call(Opcode::Put, object, dkey, akey);
        call.value = value;
        check_key(&call, "the dkey", dkey)?;
        check_key(&call, "the akey", akey)?;
        if value.len() as u64 > SINGLE_MAX {
            return Err(Error::Size {
                operation: call.operation(),
                what: "the value",
                len: value.len(),
                limit: "0 to 1048576",
            });
        }
        Ok(call)
    }

    /// Fetches a value.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none; [`Error::Checksum`] if it came back damaged three
    /// times; otherwise see [`Error`].
    pub async fn get(&self, object: ObjectId, dkey: &[u8], akey: &[u8]) -> Result<Vec<u8>, Error> {
        self.get_expecting(object, dkey, akey, 0).await
    }

    /// Fetches a value of about `expected` bytes: one of up to that size takes one round trip, a
    /// larger one two. [`Container::get`] expects values that fit into a message (4 KiB).
    ///
    /// # Errors
    /// As [`Container::get`].
    pub async fn get_expecting(
        &self,
        object: ObjectId,
        dkey: &[u8],
        akey: &[u8],
        expected: usize,
    ) -> Result<Vec<u8>, Error> {
        let call = self.call(Opcode::Get, object, dkey, akey);
        check_key(&call, "the dkey", dkey)?;
        check_key(&call, "the akey", akey)?;
        let mut room = if expected > INLINE_MAX {
            expected.min(SINGLE_MAX as usize)
        } else {
            0
        };
        let mut patience = self.patience();
        loop {
            let answered = match self.fetch(&call, room, &mut patience).await? {
                Fetched::Value(value) => return Ok(value),
                Fetched::NoRoom(answered) => answered,
            };
            let len = answered.answer.value_len as usize; // at most SINGLE_MAX
            // The value may have grown since; it cannot have shrunk into what was offered.
            if len <= room.max(INLINE_MAX) {
                let cause = format!("{len} bytes have no room in {room}");
                return Err(senseless(&call, &answered, cause));
            }
            room = len;
        }
    }

    /// Makes a call that fetches a value, again if the value comes back damaged.
    pub(crate) async fn fetch(
        &self,
        call: &Call<'_>,
        room: usize,
        patience: &mut Patience,
    ) -> Result<Fetched, Error> {
        let mut damaged = 0;
        loop {
            let answered = self.client.core.call(call, room, patience).await?;
            if answered.answer.status == WireStatus::NO_ROOM {
                return Ok(Fetched::NoRoom(answered));
            }
            let (target, expected) = (answered.target, answered.answer.checksum);
            let value = value_of(call, answered, room)?;
            let found = crc32c(&value);
            if found == expected {
                return Ok(Fetched::Value(value));
            }
            damaged += 1;
            tracing::warn!(operation = %call.operation(), target, found, expected,
                "a value came back damaged");
            if damaged == CHECKSUM_TRIES || !patience.pause().await {
                return Err(Error::Checksum {
                    operation: call.operation(),
                    target,
                    bytes: value.len(),
                    found,
                    expected,
                    attempts: damaged,
                });
            }
        }
    }

    /// Removes values. Removing what is not there is no error, because a repeated request could
    /// not tell.
    ///
    /// # Errors
    /// See [`Error`]. A punch of an object that fails may have removed part of it.
    pub async fn punch(&self, object: ObjectId, what: Punch<'_>) -> Result<(), Error> {
        let (scope, dkey, akey) = match what {
            Punch::Akey(dkey, akey) => (PunchScope::Akey, dkey, akey),
            Punch::Dkey(dkey) => (PunchScope::Dkey, dkey, &[][..]),
            Punch::Object => (PunchScope::Object, &[][..], &[][..]),
        };
        let mut call = self.call(Opcode::Punch, object, dkey, akey);
        call.scope = scope;
        if scope != PunchScope::Object {
            check_key(&call, "the dkey", dkey)?;
            if scope == PunchScope::Akey {
                check_key(&call, "the akey", akey)?;
            }
            return self.punch_one(&call).await;
        }
        for target in 0..self.client.targets() {
            call.target = Some(target);
            self.punch_one(&call).await?;
        }
        Ok(())
    }

    /// Makes a call that removes something.
    pub(crate) async fn punch_one(&self, call: &Call<'_>) -> Result<(), Error> {
        let core = &self.client.core;
        match core.call(call, 0, &mut self.patience()).await {
            Ok(answered) if answered.answer.status.is_ok() => Ok(()),
            Ok(answered) => {
                let status = answered.answer.status.to_string();
                Err(senseless(call, &answered, status))
            }
            Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The dkeys of an object in byte order, at most `limit` (0 = all).
    ///
    /// # Errors
    /// See [`Error`]. An object without values has no dkeys.
    pub async fn list_dkeys(&self, object: ObjectId, limit: usize) -> Result<Vec<Vec<u8>>, Error> {
        let mut all = Vec::new();
        for target in 0..self.client.targets() {
            let mut call = self.call(Opcode::ListDkeys, object, &[], &[]);
            call.target = Some(target);
            // The first keys of all targets contain the first keys of the object.
            all.append(&mut self.list(call, limit).await?);
        }
        all.sort_unstable();
        if limit > 0 {
            all.truncate(limit);
        }
        Ok(all)
    }

    /// The akeys of a dkey in byte order, at most `limit` (0 = all).
    ///
    /// # Errors
    /// See [`Error`]. A dkey without values has no akeys.
    pub async fn list_akeys(
        &self,
        object: ObjectId,
        dkey: &[u8],
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, Error> {
        let call = self.call(Opcode::ListAkeys, object, dkey, &[]);
        check_key(&call, "the dkey", dkey)?;
        self.list(call, limit).await
    }

    async fn list(&self, call: Call<'_>, limit: usize) -> Result<Vec<Vec<u8>>, Error> {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        loop {
            let marker = keys.last().cloned().unwrap_or_default();
            let mut page = Call { ..call };
            match page.opcode {
                Opcode::ListDkeys => page.dkey = &marker,
                _ => page.akey = &marker,
            }
            if limit > 0 {
                let missing = (limit - keys.len()) as u64;
                page.limit = missing.min(u64::from(daos_wire::LIST_KEYS_LIMIT)) as u32;
            }
            let core = &self.client.core;
            let answered = match core.call(&page, 0, &mut self.patience()).await {
                Ok(answered) => answered,
                Err(Error::NotFound { .. }) => return Ok(keys),
                Err(error) => return Err(error),
            };
            let more = answered.answer.more;
            let found = read_keys(&page, &answered, &marker)?;
            if found.is_empty() && more {
                let cause = "it says that there are more keys and names none".to_owned();
                return Err(senseless(&page, &answered, cause));
            }
            keys.extend(found);
            if limit > 0 && keys.len() >= limit {
                keys.truncate(limit);
                return Ok(keys);
            }
            if !more {
                return Ok(keys);
            }
        }
    }
}

pub(crate) fn check_key(call: &Call<'_>, what: &'static str, key: &[u8]) -> Result<(), Error> {
    if (1..=KEY_MAX).contains(&key.len()) {
        return Ok(());
    }
    Err(Error::Size {
        operation: call.operation(),
        what,
        len: key.len(),
        limit: "1 to 4096",
    })
}

pub(crate) fn senseless(call: &Call<'_>, answered: &Answered, cause: String) -> Error {
    Error::Protocol {
        operation: call.operation(),
        target: answered.target,
        cause,
    }
}

/// What a put was answered.
pub(crate) fn stored(call: &Call<'_>, answered: &Answered) -> Result<(), Error> {
    match answered.answer.status {
        WireStatus::OK => Ok(()),
        status => Err(senseless(call, answered, status.to_string())),
    }
}

/// The value of a get, from the message or from the memory that was offered.
pub(crate) fn value_of(
    call: &Call<'_>,
    mut answered: Answered,
    room: usize,
) -> Result<Vec<u8>, Error> {
    let len = answered.answer.value_len as usize;
    if answered.answer.inline.len() == len {
        return Ok(answered.answer.inline);
    }
    match answered.memory.take() {
        Some(memory) if len <= room.min(memory.capacity()) && answered.answer.inline.is_empty() => {
            Ok(memory.into_bytes(len))
        }
        _ => {
            let cause = format!("a value of {len} bytes is neither in it nor fits into {room}");
            Err(senseless(call, &answered, cause))
        }
    }
}

/// The keys of a listing, checked: intact, as many as announced, ascending, behind `marker`.
fn read_keys(call: &Call<'_>, answered: &Answered, marker: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    let answer = &answered.answer;
    if crc32c(&answer.inline) != answer.checksum {
        let cause = "the list of keys does not match its checksum".to_owned();
        return Err(senseless(call, answered, cause));
    }
    let mut keys: Vec<Vec<u8>> = Vec::new();
    for key in ListEntries::new(&answer.inline) {
        let key = key.map_err(|error| senseless(call, answered, error.to_string()))?;
        if key <= keys.last().map_or(marker, Vec::as_slice) {
            let cause = "its keys are not in ascending order".to_owned();
            return Err(senseless(call, answered, cause));
        }
        keys.push(key.to_vec());
    }
    if keys.len() != answer.count as usize {
        let cause = format!("it has {} keys and says {}", keys.len(), answer.count);
        return Err(senseless(call, answered, cause));
    }
    Ok(keys)
}
