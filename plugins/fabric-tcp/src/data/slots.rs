//! Table of things with stable numbers that are never confused with their successors.

/// Number of an entry: slot and generation. Never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct Id(u64);

impl Id {
    /// The number as it travels in frames, epoll data and the plugin interface.
    pub(crate) fn raw(self) -> u64 {
        self.0
    }

    /// Reads a number back; whether it names anything is for the table to say.
    pub(crate) fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    fn new(index: usize, generation: u32) -> Self {
        Self(u64::from(generation) << 32 | index as u64)
    }

    fn index(self) -> usize {
        (self.0 & u64::from(u32::MAX)) as usize
    }

    fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// Table of at most `capacity` entries; slots are reused, numbers are not (until a slot was
/// reused four thousand million times).
pub(crate) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<usize>,
    capacity: usize,
    live: usize,
}

impl<T> Slots<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            capacity: capacity.min(u32::MAX as usize),
            live: 0,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.live >= self.capacity
    }

    /// Adds an entry; `None` when the table is full.
    pub(crate) fn insert(&mut self, value: T) -> Option<Id> {
        if self.is_full() {
            return None;
        }
        self.live += 1;
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index];
            slot.value = Some(value);
            return Some(Id::new(index, slot.generation));
        }
        self.slots.push(Slot {
            generation: 1,
            value: Some(value),
        });
        Some(Id::new(self.slots.len() - 1, 1))
    }

    fn slot(&mut self, id: Id) -> Option<&mut Slot<T>> {
        self.slots
            .get_mut(id.index())
            .filter(|slot| slot.generation == id.generation())
    }

    pub(crate) fn get(&self, id: Id) -> Option<&T> {
        self.slots
            .get(id.index())
            .filter(|slot| slot.generation == id.generation())?
            .value
            .as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        self.slot(id)?.value.as_mut()
    }

    /// Removes an entry; its number names nothing from now on.
    pub(crate) fn remove(&mut self, id: Id) -> Option<T> {
        let slot = self.slot(id)?;
        let value = slot.value.take()?;
        self.retire(id);
        Some(value)
    }

    /// Lends an entry out, so that it can be worked on beside the table; it keeps its number
    /// and goes back with [`Slots::put`] or away with [`Slots::retire`].
    pub(crate) fn take(&mut self, id: Id) -> Option<T> {
        self.slot(id)?.value.take()
    }

    /// Gives back what [`Slots::take`] lent.
    pub(crate) fn put(&mut self, id: Id, value: T) {
        if let Some(slot) = self.slot(id) {
            slot.value = Some(value);
        }
    }

    /// Frees the slot of an entry that was taken.
    pub(crate) fn retire(&mut self, id: Id) {
        if let Some(slot) = self.slot(id) {
            // 0 is skipped, so that no number is ever zero.
            slot.generation = slot.generation.checked_add(1).unwrap_or(1);
            slot.value = None;
            self.free.push(id.index());
            self.live -= 1;
        }
    }

    /// All entries that are not lent out, with their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Id, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            slot.value
                .as_ref()
                .map(|value| (Id::new(index, slot.generation), value))
        })
    }

    /// As [`Slots::iter`], for change.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (Id, &mut T)> {
        self.slots
            .iter_mut()
            .enumerate()
            .filter_map(|(index, slot)| {
                let generation = slot.generation;
                slot.value
                    .as_mut()
                    .map(|value| (Id::new(index, generation), value))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_never_names_its_successor() {
        let mut slots = Slots::new(1);
        let first = slots.insert('a').unwrap();
        assert!(slots.is_full());
        assert_eq!(slots.insert('x'), None);
        assert_eq!(slots.remove(first), Some('a'));
        let second = slots.insert('b').unwrap();
        assert_ne!(first, second);
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get(second), Some(&'b'));
        assert_eq!(slots.live, 1);
    }

    #[test]
    fn a_lent_entry_keeps_its_place() {
        let mut slots = Slots::new(4);
        let id = slots.insert(7).unwrap();
        let value = slots.take(id).unwrap();
        assert_eq!(slots.get(id), None);
        assert_eq!(slots.iter().count(), 0);
        assert_ne!(slots.insert(8).unwrap(), id);
        slots.put(id, value + 1);
        assert_eq!(slots.get(id), Some(&8));
        slots.take(id);
        slots.retire(id);
        assert_eq!(slots.live, 1);
    }

    #[test]
    fn numbers_from_outside_are_harmless() {
        let mut slots: Slots<u8> = Slots::new(4);
        slots.insert(1);
        for raw in [0, 1, u64::MAX, 1 << 32 | 5, 2 << 32] {
            assert_eq!(slots.get(Id::from_raw(raw)), None);
            assert_eq!(slots.remove(Id::from_raw(raw)), None);
        }
    }
}
