//! Destruction of containers and pools, in pieces: each removes so few entries that the target's clients
//! do not notice, and is a change like any other - in the log before it counts, replayed after a crash.

use super::{Origin, Storage, StorageError, remove};
use crate::index::{Index, IndexError};
use crate::log::LogMemory;
use crate::record::{Change, Record};
use uuid::Uuid;

/// Who asks for the pieces: the engine itself.
pub(super) const NOBODY: Origin = Origin {
    client: Uuid::nil(),
    sequence: 0,
    settled: 0,
};

/// Most entries that one piece removes: a target serves nobody meanwhile.
const PIECE_ENTRIES: usize = 512;
/// Most bytes of their keys.
const PIECE_BYTES: usize = 256 << 10;

impl<M: LogMemory> Storage<M> {
    /// Removes the first entries with `prefix`, not so many that it takes long; `false` if there were
    /// none. Tell nobody before [`Storage::seal`].
    ///
    /// # Errors
    /// [`StorageError::LogFull`]: nothing changed.
    pub fn punch_piece(&mut self, prefix: &[u8]) -> Result<bool, StorageError> {
        let mut victims = Vec::new();
        let mut bytes = 0;
        self.index.scan(prefix, prefix, |key, _| {
            bytes += key.len();
            victims.push(key.to_vec());
            Ok(victims.len() < PIECE_ENTRIES && bytes < PIECE_BYTES)
        })?;
        let Some(last) = victims.last() else {
            return Ok(false);
        };
        Record {
            origin: NOBODY,
            change: Change::PunchUpTo { prefix, last },
        }
        .encode(&mut self.record);
        if !self.ring.has_room(self.record.len()) {
            return Err(StorageError::LogFull);
        }
        let sequence = self.ring.append(&self.record)?;
        remove(&mut self.index, &mut self.space, sequence, &victims)?;
        Ok(true)
    }

    /// Sequence of the last change.
    pub fn last_sequence(&self) -> u64 {
        self.ring.next_sequence() - 1
    }

    /// Whether the index file has everything up to `sequence`, so that space freed by then is free.
    pub fn is_settled(&self, sequence: u64) -> bool {
        self.index.applied() >= sequence
    }
}

/// Keys with `prefix` up to `last`, for replay.
pub(super) fn up_to(index: &Index, prefix: &[u8], last: &[u8]) -> Result<Vec<Vec<u8>>, IndexError> {
    let mut victims = Vec::new();
    index.scan(prefix, prefix, |key, _| {
        if key <= last {
            victims.push(key.to_vec());
        }
        Ok(key < last)
    })?;
    Ok(victims)
}
