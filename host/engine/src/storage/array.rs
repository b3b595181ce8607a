//! Entries of arrays: looking them up, and replacing some by others in one record.

use super::{Origin, PUNCH_RESERVE, Storage, StorageError, drop_old, reserve};
use crate::array::chunk_of;
use crate::extents::space::Space;
use crate::index::value::StoredValue;
use crate::index::{Index, IndexError, key};
use crate::log::LogMemory;
use crate::record::{Change, Entries, Record};
use std::ops::Range;
use std::sync::Arc;

/// Key and value of an entry that goes.
type Old = (Vec<u8>, Vec<u8>);

/// What an akey holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Nothing.
    Nothing,
    /// A single value.
    Single,
    /// An array with this many bytes per record.
    Array(u32),
}

impl<M: LogMemory> Storage<M> {
    /// What the akey holds whose array has the prefix `array`.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn held(&self, array: &[u8]) -> Result<Held, StorageError> {
        let akey = &array[..array.len().saturating_sub(1)];
        let mut held = Ok(Held::Nothing);
        self.index.scan(akey, akey, |entry, _| {
            held = match entry.get(akey.len()) {
                Some(&key::KIND_SINGLE) => Ok(Held::Single),
                Some(&key::KIND_ARRAY) => entry_of(array, entry).map(|(size, _)| Held::Array(size)),
                _ => Err(damaged_key()),
            };
            Ok(false)
        })?;
        held
    }

    /// Checks that the akey of a single value holds no array.
    ///
    /// # Errors
    /// [`StorageError::Kind`] if it does; if the index cannot be read.
    pub fn check_single(&self, key: &[u8]) -> Result<(), StorageError> {
        if !self.arrays {
            return Ok(());
        }
        let Some((&key::KIND_SINGLE, akey)) = key.split_last() else {
            return Ok(());
        };
        let array = [akey, &[key::KIND_ARRAY]].concat();
        let mut found = false;
        self.index.scan(&array, &array, |_, _| {
            found = true;
            Ok(false)
        })?;
        if found {
            let text =
                "the akey holds an array, not a single value; punch the akey to store another kind";
            return Err(StorageError::Kind(text.into()));
        }
        Ok(())
    }

    /// Checks that an akey holds an array with records of `record_size` bytes, or nothing; whether it
    /// is the former.
    ///
    /// # Errors
    /// [`StorageError::Kind`] if it holds something else; if the index cannot be read.
    pub fn check_array(&self, array: &[u8], record_size: u32) -> Result<bool, StorageError> {
        let text = match self.held(array)? {
            Held::Nothing => return Ok(false),
            Held::Array(size) if size == record_size => return Ok(true),
            Held::Array(size) => format!(
                "the records of this array have {size} bytes, not {record_size}; punch the akey to change that"
            ),
            Held::Single => {
                "the akey holds a single value, not an array; punch the akey to store another kind"
                    .into()
            }
        };
        Err(StorageError::Kind(text))
    }

    /// Shows the entries of an array that overlap `range`, in order.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if one is damaged; if the index cannot be read.
    pub fn array_entries(
        &self,
        array: &[u8],
        record_size: u32,
        range: Range<u64>,
        mut f: impl FnMut(u64, &StoredValue<'_>),
    ) -> Result<(), StorageError> {
        let mut from = array.to_vec();
        key::entry(&mut from, record_size, chunk_of(record_size, range.start));
        let mut last = 0;
        let mut bad = None;
        self.index.scan(array, &from, |entry, bytes| {
            let mut show = || {
                let (size, start) = entry_of(array, entry)?;
                if start >= range.end {
                    return Ok(false);
                }
                let value = StoredValue::decode(entry, bytes)?;
                let end = start + u64::from(value.len);
                if size != record_size || start < last || value.len == 0 {
                    return Err(damaged_key());
                }
                last = end;
                if end > range.start {
                    f(start, &value);
                }
                Ok(true)
            };
            match show() {
                Ok(more) => Ok(more),
                Err(error) => {
                    bad = Some(error);
                    Ok(false)
                }
            }
        })?;
        bad.map_or(Ok(()), Err)
    }

    /// Where the last record of an array ends; 0 if it has none.
    ///
    /// # Errors
    /// As for [`Storage::array_entries`].
    pub fn array_end(&self, array: &[u8]) -> Result<u64, StorageError> {
        let end = self.index.last(array, |entry, bytes| {
            let (_, start) = entry_of(array, entry)?;
            Ok(start + u64::from(StoredValue::decode(entry, bytes)?.len))
        })?;
        end.unwrap_or(Ok(0))
    }

    /// Whether an array has anything at or behind byte `at`, where no entry begins before `at` and
    /// ends behind it.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn array_reaches(
        &self,
        array: &[u8],
        record_size: u32,
        at: u64,
    ) -> Result<bool, StorageError> {
        let mut from = array.to_vec();
        key::entry(&mut from, record_size, at);
        let mut found = false;
        self.index.scan(array, &from, |_, _| {
            found = true;
            Ok(false)
        })?;
        Ok(found)
    }

    /// Replaces the entries of an array that begin in `range` by `entries`, which are ascending and
    /// begin there, too; returns how many are gone. Tell nobody before [`Storage::seal`]. A change
    /// that finds nothing to do is a record, too, as a punch is.
    ///
    /// # Errors
    /// [`StorageError::LogFull`], [`StorageError::NoSpace`], [`StorageError::Kind`] if the akey holds
    /// something else by now, and what [`Clients::judge`](crate::clients::Clients::judge) finds:
    /// nothing changed.
    pub fn change_array(
        &mut self,
        origin: Origin,
        array: &[u8],
        record_size: u32,
        range: Range<u64>,
        entries: &[(u64, StoredValue<'_>)],
    ) -> Result<u32, StorageError> {
        self.admit(origin)?;
        self.check_array(array, record_size)?;
        let mut prefix = array.to_vec();
        prefix.extend_from_slice(&record_size.to_be_bytes());
        let victims = collect(&self.index, &prefix, &range)?;
        let mut cost = 0;
        let mut encoded = Vec::new();
        for (start, value) in entries {
            let key = entry_key(&prefix, *start);
            self.value.clear();
            value.encode(&key, &mut self.value);
            cost += Index::cost(&key, self.value.len());
            Entries::push(&mut encoded, *start, &self.value);
        }
        let gone = victims.iter().map(|(key, old)| Index::cost(key, old.len()));
        let growth = cost.saturating_sub(gone.sum());
        if growth > 0 {
            self.check_growth(&prefix, growth)?;
        }
        let entries = Entries::new(&encoded);
        Record {
            origin,
            change: Change::Array {
                prefix: &prefix,
                start: range.start,
                end: range.end,
                entries,
            },
        }
        .encode(&mut self.record);
        let left = if encoded.is_empty() { 0 } else { PUNCH_RESERVE };
        if !self.ring.has_room(self.record.len() + left) {
            return Err(StorageError::LogFull);
        }
        let sequence = self.ring.append(&self.record)?;
        self.arrays = true;
        let count = apply(
            &mut self.index,
            &mut self.space,
            sequence,
            &prefix,
            &victims,
            entries,
        );
        self.clients.finished(origin, sequence, count);
        Ok(count)
    }
}

/// Replays such a change.
pub(super) fn replay(
    index: &mut Index,
    space: &mut Space,
    sequence: u64,
    prefix: &[u8],
    range: Range<u64>,
    entries: Entries<'_>,
) -> Result<u32, String> {
    for (start, value) in entries {
        reserve(space, &entry_key(prefix, start), value)?;
    }
    let victims = collect(index, prefix, &range).map_err(|e| e.to_string())?;
    Ok(apply(index, space, sequence, prefix, &victims, entries))
}

/// The entries that begin in a range.
fn collect(index: &Index, prefix: &[u8], range: &Range<u64>) -> Result<Vec<Old>, IndexError> {
    let end = entry_key(prefix, range.end);
    let mut victims = Vec::new();
    index.scan(prefix, &entry_key(prefix, range.start), |key, value| {
        let inside = key < end.as_slice();
        if inside {
            victims.push((key.to_vec(), value.to_vec()));
        }
        Ok(inside)
    })?;
    Ok(victims)
}

/// Takes the change over into index and space; returns how many entries are gone. Nothing in here can
/// fail: the log has it already.
fn apply(
    index: &mut Index,
    space: &mut Space,
    sequence: u64,
    prefix: &[u8],
    victims: &[Old],
    entries: Entries<'_>,
) -> u32 {
    if victims.is_empty() && entries == Entries::default() {
        index.note();
    }
    for (key, old) in victims {
        index.replace(sequence, key, Some(old.len()), None);
        drop_old(space, sequence, key, Some(old));
    }
    for (start, value) in entries {
        index.replace(
            sequence,
            &entry_key(prefix, start),
            None,
            Some(Arc::from(value)),
        );
    }
    u32::try_from(victims.len()).unwrap_or(u32::MAX)
}

fn entry_key(prefix: &[u8], start: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(prefix.len() + 8);
    key.extend_from_slice(prefix);
    key.extend_from_slice(&start.to_be_bytes());
    key
}

/// Bytes per record and first byte of an entry of an array.
fn entry_of(array: &[u8], entry: &[u8]) -> Result<(u32, u64), StorageError> {
    let tail = entry.get(array.len()..).and_then(key::entry_of);
    tail.filter(|(size, _)| *size > 0).ok_or_else(damaged_key)
}

fn damaged_key() -> StorageError {
    StorageError::Corrupt("a key of an array in the index is damaged".into())
}
