//! The index of a target: what is stored under which keys.
//!
//! An ordered map from encoded keys ([`key`]) to stored values ([`value`]) in two layers: a database
//! file on the SCM mount ([`store`]) and, above it, the changes that are durable in the log but not
//! in that file yet ([`overlay`]). [`Index`] puts the two together: reads look into the overlay
//! first (and before that into what was used lately, [`recent`]), batches of the overlay are committed to the file, possibly on another thread
//! ([`Writer`]), and leave the overlay once that commit is durable.

pub mod key;
pub mod overlay;
pub mod recent;
pub mod store;
pub mod value;

pub use store::{IndexError, Store, Writer};

use overlay::{Batch, Overlay};
use recent::Recent;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// Bytes that an entry takes in the file beyond key and value, for space accounting.
const ENTRY_OVERHEAD: u64 = 32;

/// The index of a target.
pub struct Index {
    store: Store,
    overlay: Overlay,
    recent: RefCell<Recent>,
    /// Bytes of all live entries of both layers, with overhead.
    live_bytes: u64,
    /// The same by pool.
    pools: HashMap<Uuid, u64>,
}

impl Index {
    /// Puts an overlay over a store.
    ///
    /// # Errors
    /// If the store cannot be read; it is read once as a whole, each entry is shown to `visit`.
    pub fn open(
        store: Store,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), IndexError>,
    ) -> Result<Self, IndexError> {
        let mut live_bytes = 0;
        let mut pools: HashMap<Uuid, u64> = HashMap::new();
        store.scan(&[], |key, value| {
            let bytes = cost(key, value.len());
            live_bytes += bytes;
            *pools.entry(key::pool_of(key)).or_default() += bytes;
            visit(key, value).map(|()| true)
        })?;
        Ok(Self {
            store,
            overlay: Overlay::default(),
            recent: RefCell::default(),
            live_bytes,
            pools,
        })
    }

    /// Lets about twice `bytes` of memory hold what is used often.
    pub fn remember(&mut self, bytes: u64) {
        self.recent = RefCell::new(Recent::of(bytes));
    }

    /// Last log sequence that the file has.
    pub fn applied(&self) -> u64 {
        self.store.applied()
    }

    /// Bytes of all live entries, as they count against the limit of the file.
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Bytes of a pool's live entries.
    pub fn live_bytes_of(&self, pool: Uuid) -> u64 {
        self.pools.get(&pool).copied().unwrap_or(0)
    }

    /// Bytes that a new entry would count.
    pub fn cost(key: &[u8], value_len: usize) -> u64 {
        cost(key, value_len)
    }

    /// Changes that wait to be committed.
    pub fn waiting(&self) -> usize {
        self.overlay.waiting()
    }

    /// Commits from other threads.
    pub fn writer(&self) -> Writer {
        self.store.writer()
    }

    /// The encoded value under `key`.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn get<R>(&self, key: &[u8], f: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, IndexError> {
        let known = self.recent.borrow().get(key);
        if let Some(value) = known {
            return Ok(value.as_deref().map(f));
        }
        if let Some(value) = self.overlay.get(key) {
            return Ok(value.map(f));
        }
        self.store.get(key, |bytes| {
            self.recent.borrow_mut().replace(key, Some(bytes.into()));
            f(bytes)
        })
    }

    /// Takes a change of the log: `value` under `key`, or nothing any more. Returns the encoded
    /// value that was there.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn apply(
        &mut self,
        sequence: u64,
        key: &[u8],
        value: Option<Arc<[u8]>>,
    ) -> Result<Option<Arc<[u8]>>, IndexError> {
        let old = self.exchange(key, value.clone())?;
        self.count(
            key,
            old.as_deref().map(<[u8]>::len),
            value.as_deref().map(<[u8]>::len),
        );
        self.overlay.insert(sequence, key, value);
        Ok(old)
    }

    /// Notes the new value under `key`; returns the one that was there.
    fn exchange(
        &mut self,
        key: &[u8],
        value: Option<Arc<[u8]>>,
    ) -> Result<Option<Arc<[u8]>>, IndexError> {
        let recent = self.recent.get_mut();
        if let Some(old) = recent.replace(key, value) {
            return Ok(old);
        }
        if let Some(old) = self.overlay.get(key) {
            return Ok(old.map(Arc::from));
        }
        let old = self.store.get(key, |bytes| Arc::from(bytes));
        if old.is_err() {
            recent.forget(key);
        }
        old
    }

    /// Counts a value of `new` bytes in the place of one of `old` bytes.
    fn count(&mut self, key: &[u8], old: Option<usize>, new: Option<usize>) {
        let cost_of = |len: Option<usize>| len.map_or(0, |len| cost(key, len));
        let (before, after) = (cost_of(old), cost_of(new));
        self.live_bytes = self.live_bytes.saturating_sub(before) + after;
        let pool = key::pool_of(key);
        let of_pool = self.pools.entry(pool).or_default();
        *of_pool = of_pool.saturating_sub(before) + after;
        if *of_pool == 0 {
            self.pools.remove(&pool);
        }
    }

    /// Takes note of a change of the log that changed no entry.
    pub fn note(&mut self) {
        self.overlay.note();
    }

    /// As [`Index::apply`], by a caller who knows what was there (bytes of the encoded value), so that
    /// nothing can fail.
    pub fn replace(
        &mut self,
        sequence: u64,
        key: &[u8],
        old: Option<usize>,
        value: Option<Arc<[u8]>>,
    ) {
        self.count(key, old, value.as_deref().map(<[u8]>::len));
        self.recent.get_mut().replace(key, value.clone());
        self.overlay.insert(sequence, key, value);
    }

    /// Shows the last live entry whose key begins with `prefix`, which ends in a byte below 255.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn last<R>(
        &self,
        prefix: &[u8],
        f: impl FnOnce(&[u8], &[u8]) -> R,
    ) -> Result<Option<R>, IndexError> {
        let mut end = prefix.to_vec();
        match end.last_mut() {
            Some(last) if *last < u8::MAX => *last += 1,
            _ => return Ok(None),
        }
        let mut upper = self.overlay.range_back(prefix, &end).peekable();
        let mut found = None;
        self.store.scan_back(prefix, &end, |key, value| {
            while let Some((above, change)) = upper.next_if(|(above, _)| *above > key) {
                if let Some(new) = change {
                    found = Some((above.to_vec(), new.to_vec()));
                    return false;
                }
            }
            match upper.next_if(|(above, _)| *above == key) {
                Some((_, None)) => return true,
                Some((_, Some(new))) => found = Some((key.to_vec(), new.to_vec())),
                None => found = Some((key.to_vec(), value.to_vec())),
            }
            false
        })?;
        if found.is_none() {
            found =
                upper.find_map(|(key, change)| change.map(|value| (key.to_vec(), value.to_vec())));
        }
        Ok(found.map(|(key, value)| f(&key, &value)))
    }

    /// Shows live entries whose key begins with `prefix` in order, from the first one not below
    /// `from`, until `f` returns false.
    ///
    /// # Errors
    /// If the file cannot be read, and what `f` returns.
    pub fn scan(
        &self,
        prefix: &[u8],
        from: &[u8],
        mut f: impl FnMut(&[u8], &[u8]) -> Result<bool, IndexError>,
    ) -> Result<(), IndexError> {
        let start = from.max(prefix);
        let mut upper = self.overlay.range(start, prefix).peekable();
        let mut more = true;
        self.store.scan_from(start, prefix, |key, value| {
            while let Some((above, change)) = upper.next_if(|(above, _)| *above < key) {
                if let Some(new) = change {
                    more = f(above, new)?;
                    if !more {
                        return Ok(false);
                    }
                }
            }
            more = match upper.next_if(|(above, _)| *above == key) {
                Some((_, Some(new))) => f(key, new)?,
                Some((_, None)) => true,
                None => f(key, value)?,
            };
            Ok(more)
        })?;
        for (key, change) in upper {
            if !more {
                break;
            }
            if let Some(value) = change {
                more = f(key, value)?;
            }
        }
        Ok(())
    }

    /// Takes the waiting changes for a commit; `None` if there are none or a batch is on its way.
    /// All of them are durable in the log, the last one with sequence `newest`.
    pub fn take_batch(&mut self, newest: u64) -> Option<Batch> {
        self.overlay.take_batch(newest)
    }

    /// The batch up to `sequence` is durable in the file.
    ///
    /// # Errors
    /// If the new state of the file cannot be read.
    pub fn committed(&mut self, sequence: u64) -> Result<(), IndexError> {
        self.store.refresh(sequence)?;
        self.overlay.committed(sequence);
        Ok(())
    }

    /// The batch on its way failed; its changes wait again.
    pub fn commit_failed(&mut self) {
        self.overlay.commit_failed();
    }
}

fn cost(key: &[u8], value_len: usize) -> u64 {
    key.len() as u64 + value_len as u64 + ENTRY_OVERHEAD
}

#[cfg(test)]
mod tests;
