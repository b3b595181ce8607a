//! Pools and containers: what data is named by, and how they are found, made and destroyed.

use crate::call::{Answered, Call};
use crate::error::Error;
use crate::retry::Patience;
use crate::{Client, Container, Uuid};
use daos_wire::{DecodeError, Entry, ListEntries, Opcode, PoolSpace, WireStatus, crc32c};

/// What a pool or container is called by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// Its UUID.
    Id(Uuid),
    /// Its label.
    Label(String),
}

impl From<Uuid> for Name {
    fn from(id: Uuid) -> Self {
        Self::Id(id)
    }
}

impl From<&str> for Name {
    /// A text that is a UUID is one: labels cannot look like that.
    fn from(text: &str) -> Self {
        Uuid::try_parse(text).map_or_else(|_| Self::Label(text.to_owned()), Self::Id)
    }
}

impl Name {
    /// UUID and label as a request has them: one of them says nothing.
    fn split(&self) -> (Uuid, &[u8]) {
        match self {
            Self::Id(id) => (*id, &[]),
            Self::Label(label) => (Uuid::nil(), label.as_bytes()),
        }
    }
}

/// A pool of the engine. Cheap to clone.
///
/// The daemon makes pools, on all engines of the system at once; a client sees the part that is on
/// its engine.
#[derive(Clone)]
pub struct Pool {
    client: Client,
    entry: Entry,
}

impl Client {
    /// The pools of the engine, by UUID, also those being destroyed.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn pools(&self) -> Result<Vec<Entry>, Error> {
        self.entries(Opcode::PoolList, Uuid::nil()).await
    }

    /// A pool.
    ///
    /// # Errors
    /// [`Error::Missing`] if it does not exist.
    pub async fn pool(&self, name: impl Into<Name>) -> Result<Pool, Error> {
        let name = name.into();
        let (id, label) = name.split();
        let mut call = Call::new(Opcode::PoolFind);
        (call.pool, call.dkey) = (id, label);
        let entry = self.entry(&call).await?;
        Ok(Pool {
            client: self.clone(),
            entry,
        })
    }

    /// The pool, where the engine has exactly one.
    ///
    /// # Errors
    /// [`Error::WhichPool`] if it has none or several.
    pub async fn only_pool(&self) -> Result<Pool, Error> {
        let mut pools = self.pools().await?;
        pools.retain(|pool| pool.state == daos_wire::EntryState::Live);
        match pools.pop() {
            Some(entry) if pools.is_empty() => Ok(Pool {
                client: self.clone(),
                entry,
            }),
            last => Err(Error::WhichPool {
                labels: pools
                    .into_iter()
                    .chain(last)
                    .map(|pool| pool.label)
                    .collect(),
            }),
        }
    }

    /// Asks the target of the call, or else any: names are the same on all of them. Some may have lost
    /// their devices.
    async fn ask(&self, call: &Call<'_>) -> Result<Answered, Error> {
        let mut patience = Patience::new(self.core.deadline);
        if call.target.is_some() {
            return self.core.call(call, 0, &mut patience).await;
        }
        let mut next = 0;
        loop {
            let mut call = Call { ..*call };
            call.target = Some(next);
            next += 1;
            match self.core.call(&call, 0, &mut patience).await {
                Err(Error::Engine {
                    status: WireStatus::IO | WireStatus::DEVICE_GONE,
                    ..
                }) if next < self.targets() => {}
                other => return other,
            }
        }
    }

    /// The entry that answers a call.
    async fn entry(&self, call: &Call<'_>) -> Result<Entry, Error> {
        let answered = self.ask(call).await?;
        read(call, &answered, Entry::decode(&answered.answer.inline))
    }

    /// All entries of a listing.
    async fn entries(&self, opcode: Opcode, pool: Uuid) -> Result<Vec<Entry>, Error> {
        let mut all: Vec<Entry> = Vec::new();
        loop {
            let after = all.last().map(|entry| *entry.id.as_bytes());
            let mut call = Call::new(opcode);
            call.pool = pool;
            call.dkey = after.as_ref().map_or(&[], |id| &id[..]);
            let answered = self.ask(&call).await?;
            let before = all.len();
            for bytes in ListEntries::new(&answered.answer.inline) {
                let entry = read(&call, &answered, bytes.and_then(Entry::decode))?;
                if all.last().is_some_and(|last| last.id >= entry.id) {
                    let wrong = Err(DecodeError::Field("order of entries"));
                    return read(&call, &answered, wrong);
                }
                all.push(entry);
            }
            if !answered.answer.more {
                return Ok(all);
            }
            if all.len() == before {
                return read(
                    &call,
                    &answered,
                    Err(DecodeError::Field("number of entries")),
                );
            }
        }
    }
}

impl Pool {
    /// Its UUID.
    pub fn id(&self) -> Uuid {
        self.entry.id
    }

    /// Its label.
    pub fn label(&self) -> &str {
        &self.entry.label
    }

    /// What the engine says of it.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Its space on each target.
    ///
    /// # Errors
    /// The first target that does not answer well.
    pub async fn space(&self) -> Result<Vec<PoolSpace>, Error> {
        let mut all = Vec::new();
        for target in 0..self.client.targets() {
            let mut call = Call::new(Opcode::PoolQuery);
            (call.pool, call.target) = (self.entry.id, Some(target));
            let answered = self.client.ask(&call).await?;
            let space = PoolSpace::decode(&answered.answer.inline);
            all.push(read(&call, &answered, space)?);
        }
        Ok(all)
    }

    /// Its containers, by UUID, also those being destroyed.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn containers(&self) -> Result<Vec<Entry>, Error> {
        self.client.entries(Opcode::ContList, self.entry.id).await
    }

    /// What the engine says of a container.
    ///
    /// # Errors
    /// [`Error::Missing`] if it does not exist.
    pub async fn find_container(&self, name: impl Into<Name>) -> Result<Entry, Error> {
        let name = name.into();
        let (id, label) = name.split();
        let mut call = Call::new(Opcode::ContQuery);
        (call.pool, call.container, call.dkey) = (self.entry.id, id, label);
        self.client.entry(&call).await
    }

    /// A container that exists.
    ///
    /// # Errors
    /// [`Error::Missing`] if it does not.
    pub async fn container(&self, name: impl Into<Name>) -> Result<Container, Error> {
        let entry = self.find_container(name).await?;
        Ok(self.client.container(self.entry.id, entry.id))
    }

    /// Makes a container with a label, or with none if that is empty. Who repeats it with the same
    /// UUID and label succeeds again.
    ///
    /// # Errors
    /// [`Error::Engine`] with [`WireStatus::EXISTS`] if UUID or label
    /// belong to another container.
    pub async fn create_container(&self, id: Uuid, label: &str) -> Result<Container, Error> {
        let mut call = Call::new(Opcode::ContCreate);
        (call.pool, call.container) = (self.entry.id, id);
        call.dkey = label.as_bytes();
        self.client.ask(&call).await?;
        Ok(self.client.container(self.entry.id, id))
    }

    /// Destroys a container with everything in it; its space is free on return. Once the engine has
    /// begun, it is destroyed, whatever happens.
    ///
    /// # Errors
    /// [`Error::Missing`] if it does not exist.
    pub async fn destroy_container(&self, name: impl Into<Name>) -> Result<(), Error> {
        let name = name.into();
        let id = match &name {
            // One that is being destroyed is not found, and may be waited for.
            Name::Id(id) => *id,
            Name::Label(_) => self.find_container(name).await?.id,
        };
        let mut call = Call::new(Opcode::ContDestroy);
        (call.pool, call.container) = (self.entry.id, id);
        self.client.ask(&call).await.map(drop)
    }
}

/// What was read from an answer, or the error that says that it made no sense.
fn read<T>(
    call: &Call<'_>,
    answered: &Answered,
    decoded: Result<T, DecodeError>,
) -> Result<T, Error> {
    let answer = &answered.answer;
    let senseless = |cause: String| Error::Protocol {
        operation: call.operation(),
        target: answered.target,
        cause,
    };
    if crc32c(&answer.inline) != answer.checksum {
        return Err(senseless("it does not match its checksum".to_owned()));
    }
    decoded.map_err(|error| senseless(error.to_string()))
}
