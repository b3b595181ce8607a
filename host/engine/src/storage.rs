//! What a target stores: log, index and space put together.
//!
//! The order of things is the promise: a change is in the log before it is in the overlay of the
//! index, the log is durable ([`Storage::seal`]) before anybody is told, a batch of the overlay is
//! durable in the index file before the log forgets it and before space that it freed is reused.

mod destroy;
pub mod quota;

use crate::clients::{Bounds, Clients, Outcome, Verdict};
use crate::extents::space::Space;
use crate::index::key::pool_of;
use crate::index::value::{Body, Damaged, Extents, StoredValue};
use crate::index::{Index, IndexError, Store, Writer, key, overlay::Batch};
use crate::log::{Identity, LogError, LogMemory, Ring};
use crate::record::{Change, RECORD_MAX, Record};
use quota::{OverQuota, Quotas};
use std::sync::Arc;
use std::time::Instant;
use thiserror::Error;

pub use crate::clients::Origin;

/// Log space that puts leave for punches, so that a full target can be emptied.
const PUNCH_RESERVE: usize = 16 << 10;

/// Why a change or a look-up failed.
#[derive(Debug, Error)]
pub enum StorageError {
    /// The log has no room until the index has caught up; try again after a commit.
    #[error("the log is full")]
    LogFull,
    /// The index has no room.
    #[error("the index is full")]
    NoSpace,
    /// The akey holds something else than the request means.
    #[error("{0}")]
    Kind(String),
    /// The block device has no room.
    #[error("the block device is full")]
    DeviceFull,
    /// The pool has used what belongs to it.
    #[error("{0}")]
    OverQuota(#[from] OverQuota),
    /// Something stored is damaged.
    #[error("{0}")]
    Corrupt(String),
    /// The medium failed; the target cannot go on.
    #[error("{0}")]
    Failed(String),
    /// The change is finished already; this is its outcome.
    #[error("the change is finished already")]
    Finished(Outcome),
    /// The client of the change has settled it.
    #[error("the change is older than what its client has settled")]
    Stale,
    /// The client must settle changes first.
    #[error("the client has too many changes that it has not settled")]
    Crowded,
}

impl From<IndexError> for StorageError {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::NoSpace(_) => Self::NoSpace,
            IndexError::Corrupt(_) => Self::Corrupt(error.to_string()),
            IndexError::Io(_) => Self::Failed(error.to_string()),
        }
    }
}

impl From<Damaged> for StorageError {
    fn from(error: Damaged) -> Self {
        Self::Corrupt(error.to_string())
    }
}

impl From<LogError> for StorageError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Full => Self::LogFull,
            LogError::Corrupt(_) => Self::Corrupt(error.to_string()),
            other => Self::Failed(other.to_string()),
        }
    }
}

/// How a target came up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recovered {
    /// Records replayed from the log.
    pub replayed: u64,
    /// Entries in the index file.
    pub entries: u64,
}

/// What a target stores.
pub struct Storage<M> {
    ring: Ring<M>,
    index: Index,
    space: Space,
    clients: Clients,
    /// Most bytes of live entries in the index.
    limit: u64,
    quotas: Quotas,
    /// A commit failed and none succeeded since.
    stuck: bool,
    /// There may be arrays.
    arrays: bool,
    record: Vec<u8>,
    value: Vec<u8>,
}

impl<M: LogMemory> Storage<M> {
    /// Puts an empty log and an empty index together.
    ///
    /// # Errors
    /// If either fails.
    pub fn create(
        store: Store,
        memory: M,
        identity: Identity,
        units: u64,
        limit: u64,
    ) -> Result<Self, StorageError> {
        let ring = Ring::create(memory, identity)?;
        let index = Index::open(store, |_, _| Ok(()))?;
        let clients = Clients::new(Bounds::beside(limit));
        Ok(Self::new(ring, index, Space::new(units), clients, limit))
    }

    /// Opens log and index, rebuilds the free-space map and replays the log.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if something acknowledged is lost or damaged.
    pub fn open(
        store: Store,
        memory: M,
        identity: Identity,
        units: u64,
        limit: u64,
    ) -> Result<(Self, Recovered), StorageError> {
        let mut space = Space::new(units);
        let mut recovered = Recovered::default();
        let mut clients = Clients::load(Bounds::beside(limit), store.clients()?)?;
        let mut arrays = false;
        let mut index = Index::open(store, |key, value| {
            recovered.entries += 1;
            arrays |= !arrays && key::kind(key) == Some(key::KIND_ARRAY);
            reserve(&mut space, key, value).map_err(IndexError::Corrupt)
        })?;
        let applied = index.applied();
        let ring = Ring::open(memory, identity, |sequence, bytes| {
            if sequence <= applied {
                return Ok(());
            }
            recovered.replayed += 1;
            let record = Record::decode(bytes).map_err(|e| e.to_string())?;
            arrays |= matches!(record.change, Change::Array { .. });
            let count = replay(&mut index, &mut space, sequence, &record)?;
            // The engine's own changes are asked for again by nobody.
            if record.origin != destroy::NOBODY {
                clients.finished(record.origin, sequence, count);
            }
            Ok(())
        })?;
        if ring.next_sequence() <= applied {
            return Err(StorageError::Corrupt(format!(
                "the index has the changes up to {applied}, the log ends before {}: the log is older than the index",
                ring.next_sequence()
            )));
        }
        if ring.first_sequence() > applied + 1 {
            return Err(StorageError::Corrupt(format!(
                "the index has the changes up to {applied}, the log begins with {}: the index is older than what the log has handed to it",
                ring.first_sequence()
            )));
        }
        let mut storage = Self::new(ring, index, space, clients, limit);
        storage.arrays = arrays;
        Ok((storage, recovered))
    }

    fn new(ring: Ring<M>, mut index: Index, space: Space, clients: Clients, limit: u64) -> Self {
        index.remember(limit / 4);
        Self {
            ring,
            index,
            space,
            clients,
            limit,
            quotas: Quotas::new(),
            stuck: false,
            arrays: false,
            record: Vec::with_capacity(RECORD_MAX),
            value: Vec::new(),
        }
    }

    /// The space on the block device.
    pub fn space(&mut self) -> &mut Space {
        &mut self.space
    }

    /// Units in all and free.
    pub fn usage(&self) -> (u64, u64) {
        self.space.usage()
    }

    /// The memory of the log.
    pub fn log_memory(&self) -> &M {
        self.ring.memory()
    }

    /// Who has asked for what already.
    pub fn clients(&mut self) -> &mut Clients {
        &mut self.clients
    }

    /// Shows the value under `key` to `f`.
    ///
    /// # Errors
    /// If the index cannot be read or the entry is damaged.
    pub fn get<R>(
        &self,
        key: &[u8],
        f: impl FnOnce(&StoredValue<'_>) -> R,
    ) -> Result<Option<R>, StorageError> {
        let found = self
            .index
            .get(key, |bytes| StoredValue::decode(key, bytes).map(|v| f(&v)))?;
        Ok(found.transpose()?)
    }

    /// Shows keys with `prefix` from `from` on, in order, until `f` returns false.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn keys(
        &self,
        prefix: &[u8],
        from: &[u8],
        mut f: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), StorageError> {
        Ok(self.index.scan(prefix, from, |key, _| Ok(f(key)))?)
    }

    /// Puts `value` under `key`. Tell nobody before [`Storage::seal`].
    ///
    /// # Errors
    /// [`StorageError::LogFull`], [`StorageError::NoSpace`], [`StorageError::Kind`] if the akey holds
    /// an array, and what [`Clients::judge`] finds: nothing changed.
    pub fn put(
        &mut self,
        origin: Origin,
        key: &[u8],
        value: &StoredValue<'_>,
    ) -> Result<(), StorageError> {
        self.admit(origin)?;
        self.check_single(key)?;
        self.value.clear();
        value.encode(key, &mut self.value);
        self.check_index(key, self.value.len())?;
        Record {
            origin,
            change: Change::Put {
                key,
                value: &self.value,
            },
        }
        .encode(&mut self.record);
        if !self.ring.has_room(self.record.len() + PUNCH_RESERVE) {
            return Err(StorageError::LogFull);
        }
        // The overlay first: it can fail to read the old value, the log cannot fail any more.
        let sequence = self.ring.next_sequence();
        let old = self
            .index
            .apply(sequence, key, Some(self.value.as_slice().into()))?;
        self.ring.append(&self.record)?;
        drop_old(&mut self.space, sequence, key, old.as_deref());
        self.clients.finished(origin, sequence, 0);
        Ok(())
    }

    /// Refuses a change that shall not be carried out (again).
    fn admit(&self, origin: Origin) -> Result<(), StorageError> {
        match self.clients.judge(origin) {
            Verdict::New => Ok(()),
            Verdict::Finished(outcome) => Err(StorageError::Finished(outcome)),
            Verdict::Stale => Err(StorageError::Stale),
            Verdict::Crowded => Err(StorageError::Crowded),
        }
    }

    /// Removes everything with `prefix`; returns how many entries there were. Tell nobody before
    /// [`Storage::seal`]. A punch that finds nothing is a record, too: repeated after a crash, it
    /// must not remove what others have put there since.
    ///
    /// # Errors
    /// [`StorageError::LogFull`] and what [`Clients::judge`] finds: nothing changed.
    pub fn punch(&mut self, origin: Origin, prefix: &[u8]) -> Result<u32, StorageError> {
        self.admit(origin)?;
        Record {
            origin,
            change: Change::Punch { prefix },
        }
        .encode(&mut self.record);
        if !self.ring.has_room(self.record.len()) {
            return Err(StorageError::LogFull);
        }
        let victims = collect(&self.index, prefix)?;
        let sequence = self.ring.append(&self.record)?;
        let count = remove(&mut self.index, &mut self.space, sequence, &victims)?;
        self.clients.finished(origin, sequence, count);
        Ok(count)
    }

    /// Makes all changes so far durable; those who asked may be told afterwards.
    ///
    /// # Errors
    /// [`StorageError::Failed`]: what became durable is unknown, the target must stop.
    pub fn seal(&mut self) -> Result<(), StorageError> {
        if self.ring.durable_sequence() + 1 < self.ring.next_sequence() {
            self.ring.persist()?;
        }
        Ok(())
    }

    /// Changes that wait to be committed to the index file.
    pub fn waiting(&self) -> usize {
        self.index.waiting()
    }

    /// Whether the log is so full that a commit is urgent.
    pub fn is_log_crowded(&self) -> bool {
        let usage = self.ring.usage();
        usage.used > usage.capacity / 2
    }

    /// Commits from other threads.
    pub fn writer(&self) -> Writer {
        self.index.writer()
    }

    /// Takes what waits for a commit; `None` if that is nothing, if a commit is under way, or if
    /// there are changes that are not sealed: one of them may hide a sealed one, which the log would
    /// then forget although the index never had it.
    pub fn start_commit(&mut self) -> Option<Batch> {
        if self.ring.durable_sequence() + 1 < self.ring.next_sequence() {
            return None;
        }
        let mut batch = self.index.take_batch(self.ring.durable_sequence())?;
        self.clients.age(Instant::now());
        batch.clients = self.clients.take_rows();
        Some(batch)
    }

    /// The commit of the batch up to `upto` has ended: trims the log and frees space.
    ///
    /// # Errors
    /// If the log or the index file fails, not if the commit did: its changes wait again then and
    /// puts are refused until one succeeds.
    pub fn finish_commit(
        &mut self,
        upto: u64,
        result: &Result<(), IndexError>,
    ) -> Result<(), StorageError> {
        self.stuck = result.is_err();
        self.clients.rows_written(!self.stuck);
        if self.stuck {
            self.index.commit_failed();
            return Ok(());
        }
        self.index.committed(upto)?;
        self.ring.trim(upto)?;
        self.space.settle(upto);
        Ok(())
    }
}

/// Takes the space of a stored value out of the map.
fn reserve(space: &mut Space, key: &[u8], value: &[u8]) -> Result<(), String> {
    let value = StoredValue::decode(key, value).map_err(|e| e.to_string())?;
    match value.body {
        Body::Extents(extents) => space
            .reserve(pool_of(key), &extents)
            .map_err(|e| e.to_string()),
        Body::Inline(_) => Ok(()),
    }
}

fn replay(
    index: &mut Index,
    space: &mut Space,
    sequence: u64,
    record: &Record<'_>,
) -> Result<u32, String> {
    match record.change {
        Change::Put { key, value } => {
            reserve(space, key, value)?;
            let old = index
                .apply(sequence, key, Some(Arc::from(value)))
                .map_err(|e| e.to_string())?;
            drop_old(space, sequence, key, old.as_deref());
            Ok(0)
        }
        Change::Punch { prefix } => {
            let victims = collect(index, prefix).map_err(|e| e.to_string())?;
            remove(index, space, sequence, &victims).map_err(|e| e.to_string())
        }
        Change::Array {
            prefix,
            start,
            end,
            entries,
        } => array::replay(index, space, sequence, prefix, start..end, entries),
        Change::PunchUpTo { prefix, last } => {
            let victims = destroy::up_to(index, prefix, last).map_err(|e| e.to_string())?;
            remove(index, space, sequence, &victims).map_err(|e| e.to_string())
        }
    }
}

fn collect(index: &Index, prefix: &[u8]) -> Result<Vec<Vec<u8>>, IndexError> {
    let mut victims = Vec::new();
    index.scan(prefix, prefix, |key, _| {
        victims.push(key.to_vec());
        Ok(true)
    })?;
    Ok(victims)
}

fn remove(
    index: &mut Index,
    space: &mut Space,
    sequence: u64,
    keys: &[Vec<u8>],
) -> Result<u32, IndexError> {
    if keys.is_empty() {
        index.note();
    }
    for key in keys {
        let old = index.apply(sequence, key, None)?;
        drop_old(space, sequence, key, old.as_deref());
    }
    Ok(u32::try_from(keys.len()).unwrap_or(u32::MAX))
}

/// Notes that the space of a replaced value becomes free with the commit of `sequence`.
fn drop_old(space: &mut Space, sequence: u64, key: &[u8], old: Option<&[u8]>) {
    // A damaged old entry keeps its space: nobody knows where it was.
    if let Some(Ok(StoredValue {
        body: Body::Extents(extents),
        ..
    })) = old.map(|old| StoredValue::decode(key, old))
    {
        space.drop_after(sequence, pool_of(key), extents);
    }
}

/// Extents of a value, for callers that only want to know where it is.
pub fn extents_of(value: &StoredValue<'_>) -> Option<Extents> {
    match value.body {
        Body::Extents(extents) => Some(extents),
        Body::Inline(_) => None,
    }
}

mod array;
pub use array::Held;

#[cfg(test)]
mod array_tests;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod tests;
