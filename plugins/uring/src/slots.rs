//! Requests in progress of a ring queue.

use crate::task::Task;

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Unused.
    Free,
    /// In the ring.
    Ring,
    /// In the ring, reading into this bounce buffer.
    Lane(u8),
    /// Waits for a bounce buffer.
    Waiting,
    /// With the helper thread.
    Helper,
}

#[derive(Clone, Copy)]
pub(crate) struct Slot {
    pub(crate) task: Task,
    pub(crate) place: Place,
    generation: u32,
}

/// A fixed number of slots.
pub(crate) struct Slots {
    slots: Box<[Slot]>,
    free: Vec<u32>,
}

impl Slots {
    pub(crate) fn new(count: u32) -> Self {
        let slot = Slot {
            task: Task::IDLE,
            place: Place::Free,
            generation: 0,
        };
        Self {
            slots: vec![slot; count as usize].into_boxed_slice(),
            free: (0..count).rev().collect(),
        }
    }

    /// Takes a slot; `None` if all are in use.
    #[inline]
    pub(crate) fn take(&mut self, task: Task) -> Option<u32> {
        let index = self.free.pop()?;
        let slot = &mut self.slots[index as usize];
        slot.task = task;
        slot.place = Place::Ring;
        Some(index)
    }

    #[inline]
    pub(crate) fn get(&mut self, index: u32) -> &mut Slot {
        &mut self.slots[index as usize]
    }

    /// Frees a slot. Its next user has other user data, so that a late cancellation cannot hit it.
    #[inline]
    pub(crate) fn release(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.place = Place::Free;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
    }

    /// User data of the slot's entry in the ring.
    #[inline]
    pub(crate) fn user_data(&self, index: u32) -> u64 {
        u64::from(self.slots[index as usize].generation) << 32 | u64::from(index)
    }

    /// The slot of an outstanding request; looks at all of them.
    pub(crate) fn find(&self, tag: u64) -> Option<u32> {
        let matches = |slot: &Slot| slot.place != Place::Free && slot.task.tag == tag;
        self.slots.iter().position(matches).map(|at| at as u32)
    }

    /// Slots whose entry is in the ring.
    pub(crate) fn in_ring(&self) -> Vec<u32> {
        let in_ring = |slot: &Slot| matches!(slot.place, Place::Ring | Place::Lane(_));
        (0..self.slots.len() as u32)
            .filter(|at| in_ring(&self.slots[*at as usize]))
            .collect()
    }
}
