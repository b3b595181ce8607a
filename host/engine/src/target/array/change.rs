//! Writing and punching records, once what is written is there and the lock is held: nothing here
//! waits for clients.

use super::Work;
use crate::array::content::{self, Kept};
use crate::array::plan::{Fate, Piece, Plan};
use crate::index::value::{Body, Extents, StoredValue};
use crate::memory::Buffer;
use crate::storage::StorageError;
use crate::target::Target;
use crate::target::ops::{Stage, device_status};
use daos_plugin_api::abi::Status;
use daos_wire::{INLINE_MAX, Reply, WireStatus};
use std::ops::Range;

/// What a change has found out and made so far.
#[derive(Default)]
pub(in crate::target) struct Change {
    /// Records are written, not punched.
    pub(super) writes: bool,
    /// Old entries that begin here go.
    gone: Range<u64>,
    /// New entries.
    pieces: Vec<Piece>,
    head: Kept,
    tail: Kept,
    /// Old entries on the device of which something is kept.
    old: Vec<Old>,
    /// Checksums of the parts of what is written, if they are known already.
    pub(super) sent: Option<Vec<u32>>,
    /// Checksum of each new entry.
    checksums: Vec<u32>,
    /// Where each new entry is on the device; none if it goes into the index.
    extents: Vec<Extents>,
    /// The new entries, if all of them go into the index.
    small: Vec<u8>,
}

/// An old entry on the device.
#[derive(Clone, Copy)]
struct Old {
    extents: Extents,
    len: u32,
    checksum: u32,
    head: u32,
    tail: u32,
}

impl Change {
    pub(in crate::target) fn new(writes: bool) -> Self {
        Self {
            writes,
            ..Self::default()
        }
    }

    /// Keeps what stays of an old entry; `false` if it is not what was written.
    fn keep(&mut self, bytes: &[u8], checksum: u32, head: u32, tail: u32) -> bool {
        let (front, back) = (head as usize, bytes.len() - tail as usize);
        for (range, place) in [
            (0..front, &mut self.head),
            (back..bytes.len(), &mut self.tail),
        ] {
            if range.is_empty() {
                continue;
            }
            match content::keep(bytes, checksum, range) {
                Some(kept) => *place = kept,
                None => return false,
            }
        }
        true
    }
}

impl Target {
    fn change(&mut self, index: u32) -> Option<&mut Change> {
        match &mut self.ops[index as usize].array.as_mut()?.work {
            Work::Change(change) => Some(change),
            Work::Get(_) => None,
        }
    }

    /// The lock is held: finds out what is to be done.
    pub(in crate::target) fn array_begin(&mut self, index: u32) {
        let unit = self.device.share().unit as usize;
        let op = &mut self.ops[index as usize];
        let Some(array) = op.array.as_deref_mut() else {
            return;
        };
        let Work::Change(change) = &mut array.work else {
            return;
        };
        let (size, range) = (array.record_size, array.range.clone());
        let mut plan = Plan::new(size, range.start, range.end, change.writes);
        let mut intact = true;
        let found = self
            .storage
            .array_entries(&op.key, size, range, |start, value| {
                let Fate::Cut { head, tail } = plan.show(start, value.len) else {
                    return;
                };
                match value.body {
                    Body::Inline(bytes) => {
                        intact &= change.keep(bytes, value.checksum, head, tail);
                    }
                    Body::Extents(extents) => change.old.push(Old {
                        extents,
                        len: value.len,
                        checksum: value.checksum,
                        head,
                        tail,
                    }),
                }
            });
        if let Err(error) = found {
            self.array_give_up(index);
            return self.refuse_storage(index, &error);
        }
        if !intact {
            let text = "an old entry of the array in the index holds other bytes than were written";
            return self.array_refuse(index, WireStatus::CORRUPT, text);
        }
        change.gone = plan.range();
        change.pieces = plan.pieces();
        let old = change.old.iter().map(|old| old.extents.units() as usize);
        let old = old.sum::<usize>() * unit;
        let need = content::buffer_size(&change.pieces, op.value_len, old, unit);
        let on_device = change.pieces.iter().any(|piece| piece.len() > INLINE_MAX);
        match &op.data {
            Some(data) if data.len() >= need => self.array_read_old(index),
            None if old == 0 && !on_device => {
                let message = op.message.as_ref().map_or(&[][..], |m| m.bytes());
                change.small.extend_from_slice(&message[op.inline.clone()]);
                change.small.resize(need, 0);
                self.array_compose(index);
            }
            _ => self.array_again(index, need),
        }
    }

    /// Reads the old entries of which something is kept, behind what is written.
    fn array_read_old(&mut self, index: u32) {
        let unit = self.device.share().unit as usize;
        let op = &mut self.ops[index as usize];
        let mut at = op.value_len.next_multiple_of(unit);
        let Some(super::ArrayOp {
            work: Work::Change(change),
            ..
        }) = op.array.as_deref_mut()
        else {
            return;
        };
        let mut parts = Vec::with_capacity(change.old.len());
        for old in &change.old {
            parts.push((at, old.extents));
            at += old.extents.units() as usize * unit;
        }
        if parts.is_empty() {
            return self.array_compose(index);
        }
        let Some(data) = op.data.take() else { return };
        for (_, extents) in &parts {
            self.storage.space().pin(extents);
        }
        op.stage = Stage::Reading;
        self.device.read_parts(u64::from(index), data, &parts);
    }

    /// Old entries are read, or new ones written.
    pub(super) fn on_array_changing(&mut self, index: u32, buffer: Buffer, status: Status) {
        let unit = self.device.share().unit as usize;
        let op = &mut self.ops[index as usize];
        let stage = op.stage;
        op.data = Some(buffer);
        let Some(super::ArrayOp {
            work: Work::Change(change),
            ..
        }) = op.array.as_deref_mut()
        else {
            return;
        };
        if stage == Stage::Writing {
            if status.is_ok() {
                return self.array_log(index);
            }
            let text = "the block device failed a write";
            return self.array_refuse(index, device_status(status), text);
        }
        let old = std::mem::take(&mut change.old);
        let bytes = op.data.as_ref().map_or(&[][..], |data| data.bytes());
        let mut at = op.value_len.next_multiple_of(unit);
        let mut intact = true;
        for old in &old {
            self.storage.space().unpin(&old.extents);
            if status.is_ok() {
                let content = &bytes[at..at + old.len as usize];
                intact &= change.keep(content, old.checksum, old.head, old.tail);
            }
            at += old.extents.units() as usize * unit;
        }
        if !status.is_ok() {
            let text = "the block device failed a read";
            return self.array_refuse(index, device_status(status), text);
        }
        if !intact {
            tracing::error!(
                target_number = self.number,
                "an old entry of an array does not match its checksum"
            );
            let text = "the block device returned other bytes of an old entry than were written";
            return self.array_refuse(index, WireStatus::CORRUPT, text);
        }
        self.array_compose(index);
    }

    /// Verifies what was sent, and puts the new entries together.
    fn array_compose(&mut self, index: u32) {
        let unit = self.device.share().unit as usize;
        let op = &mut self.ops[index as usize];
        let Some(super::ArrayOp {
            work: Work::Change(change),
            ..
        }) = op.array.as_deref_mut()
        else {
            return;
        };
        let bytes = match &mut op.data {
            Some(data) => data.bytes_mut(),
            None => &mut change.small,
        };
        let pieces = &change.pieces;
        let payload = &bytes[..op.value_len];
        let sums = match change.sent.take() {
            Some(sums) => sums,
            None => content::payload_checksums(payload, pieces),
        };
        if content::payload_checksum(&sums, pieces) != op.checksum {
            return self.array_refuse(index, WireStatus::DAMAGED, "");
        }
        change.checksums = content::checksums(pieces, &sums, &change.head, &change.tail);
        content::compose(bytes, pieces, unit, &change.head, &change.tail);
        self.array_place(index);
    }

    /// Finds space for the new entries that do not fit into the index, and writes them there.
    pub(in crate::target) fn array_place(&mut self, index: u32) {
        let unit = self.device.share().unit as usize;
        let op = &mut self.ops[index as usize];
        let Some(super::ArrayOp {
            work: Work::Change(change),
            ..
        }) = op.array.as_deref_mut()
        else {
            return;
        };
        let (places, _) = content::layout(&change.pieces, unit);
        let mut parts = Vec::new();
        let mut full = None;
        for (piece, place) in change.pieces.iter().zip(places) {
            let mut extents = Extents::default();
            if piece.len() > INLINE_MAX {
                let units = self.device.units_for(piece.len());
                match self.storage.allocate(&op.key, units) {
                    Ok(Some(found)) => extents = found,
                    other => {
                        full = Some(other);
                        break;
                    }
                }
                parts.push((place, extents));
            }
            change.extents.push(extents);
        }
        if let Some(why) = full {
            for extents in change.extents.drain(..) {
                self.storage.abandon(&op.key, &extents);
            }
            let error = match why {
                Err(error) => error,
                Ok(_) if self.commit_retry.is_none() => {
                    // A commit brings space back.
                    op.stage = Stage::Space;
                    return self.wait_space.push(index);
                }
                Ok(_) => StorageError::DeviceFull,
            };
            self.array_give_up(index);
            return self.refuse_storage(index, &error);
        }
        if parts.is_empty() {
            return self.array_log(index);
        }
        let Some(data) = op.data.take() else { return };
        op.stage = Stage::Writing;
        self.device.write_parts(u64::from(index), data, &parts);
    }

    /// The new entries are where they shall be: records the change.
    pub(in crate::target) fn array_log(&mut self, index: u32) {
        if !self.is_still_admitted(index) {
            self.array_give_up(index);
            return self.refuse_gone(index);
        }
        let unit = self.device.share().unit as usize;
        let op = &mut self.ops[index as usize];
        let origin = op.origin();
        let Some(array) = op.array.as_deref() else {
            return;
        };
        let Work::Change(change) = &array.work else {
            return;
        };
        let bytes = match &op.data {
            Some(data) => data.bytes(),
            None => &change.small,
        };
        let (places, _) = content::layout(&change.pieces, unit);
        let mut entries = Vec::with_capacity(places.len());
        for (n, piece) in change.pieces.iter().enumerate() {
            let extents = change.extents[n];
            let value = StoredValue {
                checksum: change.checksums[n],
                len: piece.len() as u32, // at most a chunk
                body: if extents.units() > 0 {
                    Body::Extents(extents)
                } else {
                    Body::Inline(&bytes[places[n]..places[n] + piece.len()])
                },
            };
            entries.push((piece.start, value));
        }
        let (size, gone) = (array.record_size, change.gone.clone());
        let result = self
            .storage
            .change_array(origin, &op.key, size, gone, &entries);
        match result {
            Ok(count) => {
                if let Some(data) = op.data.take() {
                    self.buffers.put(data);
                }
                let reply = Reply {
                    count,
                    ..op.reply(WireStatus::OK)
                };
                self.answer(index, &reply);
            }
            Err(StorageError::LogFull) => {
                op.stage = Stage::Log;
                self.wait_log.push_back(index);
                self.park(index);
            }
            Err(error) => {
                self.array_give_up(index);
                self.refuse_storage(index, &error);
            }
        }
    }

    /// Gives back what a change took.
    pub(in crate::target) fn array_give_up(&mut self, index: u32) {
        if let Some(data) = self.ops[index as usize].data.take() {
            self.buffers.put(data);
        }
        let taken = self
            .change(index)
            .map(|change| std::mem::take(&mut change.extents));
        for extents in taken.unwrap_or_default() {
            self.storage
                .abandon(&self.ops[index as usize].key, &extents);
        }
    }

    pub(super) fn array_refuse(&mut self, index: u32, status: WireStatus, text: &str) {
        self.array_give_up(index);
        self.refuse(index, status, text);
    }
}
