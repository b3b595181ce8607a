//! Changes that are in the log but not in the index file yet.

use crate::clients::Row;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// A change: the key and its new encoded value, or `None` if nothing is there any more.
pub type Change = (Arc<[u8]>, Option<Arc<[u8]>>);

/// Changes on their way into the index file.
pub struct Batch {
    /// Log sequence that the file has once they are in.
    pub upto: u64,
    /// The changes; each key at most once.
    pub changes: Vec<Change>,
    /// Rows of the clients whose changes they are ([`crate::clients`]).
    pub clients: Vec<Row>,
}

struct Pending {
    sequence: u64,
    value: Option<Arc<[u8]>>,
}

/// The newest change of each key, in key order.
#[derive(Default)]
pub struct Overlay {
    entries: BTreeMap<Arc<[u8]>, Pending>,
    /// A batch is on its way.
    in_flight: bool,
    /// Changes since the last batch.
    waiting: usize,
}

impl Overlay {
    /// Changes that wait for a batch.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// The change of `key`, if there is one.
    pub fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        self.entries.get(key).map(|p| p.value.as_deref())
    }

    /// Takes a change; `sequence` is above all before.
    pub fn insert(&mut self, sequence: u64, key: &[u8], value: Option<Arc<[u8]>>) {
        self.waiting += 1;
        self.entries.insert(key.into(), Pending { sequence, value });
    }

    /// Takes note of a change that changed no key: its log record waits like any other.
    pub fn note(&mut self) {
        self.waiting += 1;
    }

    /// Changes of keys from `start` on that begin with `prefix`, in order.
    pub fn range<'a>(
        &'a self,
        start: &[u8],
        prefix: &'a [u8],
    ) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        self.entries
            .range::<[u8], _>((Bound::Included(start), Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(key, pending)| (&**key, pending.value.as_deref()))
    }

    /// Changes of keys from `start` on and below `end`, last first.
    pub fn range_back<'a>(
        &'a self,
        start: &[u8],
        end: &[u8],
    ) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        self.entries
            .range::<[u8], _>((Bound::Included(start), Bound::Excluded(end)))
            .rev()
            .map(|(key, pending)| (&**key, pending.value.as_deref()))
    }

    /// Takes all changes; `None` while a batch is on its way or if nothing waits. `newest` is the
    /// sequence of the last change: a batch that left changes out would pretend that the file has
    /// older changes of the same keys.
    pub fn take_batch(&mut self, newest: u64) -> Option<Batch> {
        if self.in_flight || self.waiting == 0 {
            return None;
        }
        debug_assert!(self.entries.values().all(|p| p.sequence <= newest));
        let changes = self
            .entries
            .iter()
            .map(|(key, pending)| (Arc::clone(key), pending.value.clone()))
            .collect();
        self.in_flight = true;
        self.waiting = 0;
        Some(Batch {
            upto: newest,
            changes,
            clients: Vec::new(),
        })
    }

    /// The batch is in the file: forgets what it holds and what did not change since.
    pub fn committed(&mut self, sequence: u64) {
        self.in_flight = false;
        self.entries
            .retain(|_, pending| pending.sequence > sequence);
    }

    /// The batch is not in the file: its changes wait again.
    pub fn commit_failed(&mut self) {
        self.in_flight = false;
        // The record of a change without keys may be among them.
        self.waiting = self.entries.len().max(1);
    }
}
