//! Requests under way through a layer: each has a slot, whose number is its tag below.

use daos_plugin_api::abi::{Completion, Status};

/// Completions taken from below at once.
pub(crate) const BATCH: usize = 32;

/// What a batch of completions starts as.
pub(crate) const EMPTY: Completion = Completion {
    tag: 0,
    status: Status::OK,
    reserved: 0,
};

/// As many slots as the queue takes requests.
pub(crate) struct Slots<T> {
    entries: Box<[Option<(u64, T)>]>,
    free: Vec<u32>,
}

impl<T> Slots<T> {
    pub(crate) fn new(depth: u32) -> Self {
        Self {
            entries: (0..depth).map(|_| None).collect(),
            free: (0..depth).rev().collect(),
        }
    }

    /// Takes a slot for the request of that tag; `None` if all are taken.
    pub(crate) fn take(&mut self, tag: u64, what: T) -> Option<u32> {
        let slot = self.free.pop()?;
        self.entries[slot as usize] = Some((tag, what));
        Some(slot)
    }

    /// Frees a slot; `None` for a tag that no request below has: a plugin that completes what is not under way.
    pub(crate) fn release(&mut self, slot: u64) -> Option<(u64, T)> {
        let entry = self.entries.get_mut(usize::try_from(slot).ok()?)?.take()?;
        self.free.push(slot as u32); // it is an index of `entries`
        Some(entry)
    }

    /// What is in a slot.
    pub(crate) fn get_mut(&mut self, slot: u64) -> Option<&mut T> {
        let entry = self.entries.get_mut(usize::try_from(slot).ok()?)?;
        entry.as_mut().map(|(_, what)| what)
    }

    /// The slot of the caller's tag.
    pub(crate) fn of_tag(&self, tag: u64) -> Option<u32> {
        let has = |entry: &Option<(u64, T)>| entry.as_ref().is_some_and(|(known, _)| *known == tag);
        // At most as many as the depth of a queue.
        self.entries.iter().position(has).map(|slot| slot as u32)
    }
}
