//! What a change does before it asks for its lock: everything that takes as long as its client likes.

use super::{ArrayOp, Change, Work};
use crate::array::content;
use crate::array::plan::{Fate, Plan};
use crate::array::{chunk_bytes, chunk_of};
use crate::index::value::Body;
use crate::memory::{Buffer, LARGE};
use crate::storage::StorageError;
use crate::target::Target;
use crate::target::ops::{Stage, fabric_status};
use daos_plugin_api::abi::Status;
use daos_wire::WireStatus;

impl Target {
    /// Refuses what cannot be, and gets what is written.
    pub(super) fn array_change(&mut self, index: u32) {
        let op = &self.ops[index as usize];
        let Some(array) = op.array.as_deref() else {
            return;
        };
        let writes = matches!(&array.work, Work::Change(change) if change.writes);
        if let Err(error) = self.storage.check_array(&op.key, array.record_size) {
            return self.refuse_storage(index, &error);
        }
        if writes && let Err(error) = self.storage.admits(&op.key, op.inline.len()) {
            return self.refuse_storage(index, &error);
        }
        // What comes in the message needs no buffer unless it cuts old entries: mostly not.
        let need = match op.rma {
            Some(_) => self.array_need(index),
            None => Ok(0),
        };
        self.park(index);
        match need {
            Ok(0) => self.array_lock(index),
            Ok(need) => self.array_take_buffer(index, need),
            Err(error) => self.refuse_storage(index, &error),
        }
    }

    /// Bytes of a buffer that the change needs as the index is now.
    fn array_need(&self, index: u32) -> Result<usize, StorageError> {
        let unit = self.device.share().unit as usize;
        let op = &self.ops[index as usize];
        let Some(array) = op.array.as_deref() else {
            return Ok(0);
        };
        let (size, range) = (array.record_size, array.range.clone());
        let mut plan = Plan::new(size, range.start, range.end, true);
        let mut old = 0;
        self.storage
            .array_entries(&op.key, size, range, |start, value| {
                if let Fate::Cut { .. } = plan.show(start, value.len)
                    && let Body::Extents(extents) = value.body
                {
                    old += extents.units() as usize * unit;
                }
            })?;
        Ok(content::buffer_size(
            &plan.pieces(),
            op.value_len,
            old,
            unit,
        ))
    }

    /// The change needs a buffer of `need` bytes; it holds neither one nor a lock.
    pub(super) fn array_take_buffer(&mut self, index: u32, need: usize) {
        if need > LARGE {
            // A defect of ours: chunks are bounded.
            let text = "the change takes more memory than a request has";
            return self.refuse(index, WireStatus::INTERNAL, text);
        }
        if let Some(array) = &mut self.ops[index as usize].array {
            array.need = need;
        }
        if let Some(buffer) = self.array_buffer(index) {
            self.array_fetch(index, buffer);
        }
    }

    /// Gets what is written into the front of the buffer.
    pub(super) fn array_fetch(&mut self, index: u32, mut buffer: Buffer) {
        let op = &mut self.ops[index as usize];
        if let Some(rma) = op.rma {
            op.stage = Stage::Fetching;
            return self.net.fetch(u64::from(index), buffer, op.peer, rma);
        }
        let message = op.message.as_ref().map_or(&[][..], |m| m.bytes());
        let payload = &message[op.inline.clone()];
        buffer.bytes_mut()[..payload.len()].copy_from_slice(payload);
        op.data = Some(buffer);
        self.array_lock(index);
    }

    /// What is written has come from the client: takes its checksums, here or on a helper.
    pub(in crate::target) fn on_array_fetched(&mut self, index: u32, status: Status) {
        let op = &mut self.ops[index as usize];
        if !status.is_ok() {
            let text = "the records could not be read from the client's memory";
            return self.array_refuse(index, fabric_status(status), text);
        }
        let Some(array) = op.array.as_deref() else {
            return;
        };
        let Some(data) = op.data.take() else { return };
        let plan = Plan::new(array.record_size, array.range.start, array.range.end, true);
        let parts = plan.pieces().into_iter().map(|piece| piece.payload);
        op.stage = Stage::CheckingPut;
        self.array_checksums(index, data, parts.collect());
    }

    /// The checksums of the parts of what is written are known.
    pub(super) fn on_array_sent(&mut self, index: u32, data: Buffer, crcs: Vec<u32>) {
        let op = &mut self.ops[index as usize];
        op.data = Some(data);
        if let Some(ArrayOp {
            work: Work::Change(change),
            ..
        }) = op.array.as_deref_mut()
        {
            change.sent = Some(crcs);
        }
        self.array_lock(index);
    }

    /// Asks for the lock on the chunks of the change.
    fn array_lock(&mut self, index: u32) {
        let Some(array) = self.ops[index as usize].array.as_deref() else {
            return;
        };
        let (size, range) = (array.record_size, &array.range);
        let end = chunk_of(size, range.end - 1) + chunk_bytes(size);
        let chunks = chunk_of(size, range.start)..end;
        if self.lock(index, Some(chunks)) {
            self.array_begin(index);
        }
    }

    /// The index is not any more as it was when the buffer was chosen: gives lock and buffer back and
    /// starts again with a larger one.
    pub(super) fn array_again(&mut self, index: u32, need: usize) {
        self.locks.release(index, &mut self.unlocked);
        let op = &mut self.ops[index as usize];
        let mut need = need;
        if let Some(data) = op.data.take() {
            self.buffers.put(data);
            // Nothing needs more than that, so it does not come to this a third time.
            need = LARGE;
        }
        if let Some(array) = op.array.as_deref_mut()
            && let Work::Change(change) = &mut array.work
        {
            *change = Change::new(change.writes);
        }
        self.array_take_buffer(index, need);
    }
}
