//! Requests about arrays.
//!
//! A change takes a buffer if it needs one, gets what is written into it, and then takes a lock on its
//! chunks; it gives both back with its answer. Who holds a lock waits for devices and commits, never
//! for a client or a buffer. Reads take no lock: they look at the index once and pin the extents that
//! they found.

mod change;
mod get;
mod prepare;

pub(super) use change::Change;
pub(super) use get::Get;

use super::Target;
use super::ops::Stage;
use crate::array::locks::Area;
use crate::memory::Buffer;
use crate::storage::Held;
use daos_wire::{Reply, WireStatus, crc32c};
use std::ops::Range;

/// What is known of a request about an array.
pub(super) struct ArrayOp {
    /// Bytes of the array.
    pub(super) range: Range<u64>,
    /// Bytes per record.
    pub(super) record_size: u32,
    /// Bytes of a buffer that it waits for.
    pub(super) need: usize,
    pub(super) work: Work,
}

/// What it does.
pub(super) enum Work {
    /// Writes or punches records.
    Change(Change),
    /// Reads records.
    Get(Get),
}

impl ArrayOp {
    pub(super) fn new(range: Range<u64>, record_size: u32, work: Work) -> Box<Self> {
        Box::new(Self {
            range,
            record_size,
            need: 0,
            work,
        })
    }
}

impl Target {
    /// Starts a request about an array.
    pub(super) fn array(&mut self, index: u32) {
        match self.ops[index as usize].array.as_deref().map(|a| &a.work) {
            Some(Work::Change(_)) => self.array_change(index),
            Some(Work::Get(_)) => self.array_get(index),
            None => self.array_query(index),
        }
    }

    fn array_query(&mut self, index: u32) {
        let op = &self.ops[index as usize];
        let found = self.storage.held(&op.key).and_then(|held| match held {
            Held::Array(size) => Ok(Some((size, self.storage.array_end(&op.key)?))),
            // The sizes cannot differ: this says what is there instead.
            Held::Single => self.storage.check_array(&op.key, 0).map(|_| None),
            Held::Nothing => Ok(None),
        });
        match found {
            Ok(Some((size, end))) => {
                let reply = Reply {
                    count: size,
                    total: end / u64::from(size), // above 0, as the key was read
                    ..op.reply(WireStatus::OK)
                };
                self.answer(index, &reply);
            }
            Ok(None) => self.refuse(index, WireStatus::NOT_FOUND, ""),
            Err(error) => self.refuse_storage(index, &error),
        }
    }

    /// Takes a lock for a change; `false` if the request waits for it.
    pub(super) fn lock(&mut self, index: u32, range: Option<Range<u64>>) -> bool {
        let op = &mut self.ops[index as usize];
        let area = Area {
            prefix: op.key.clone(),
            range,
        };
        let held = self.locks.acquire(index, area);
        if !held {
            op.stage = Stage::Lock;
        }
        held
    }

    /// Moves on requests that hold their lock by now.
    pub(super) fn resume_unlocked(&mut self) {
        while let Some(index) = self.unlocked.pop_front() {
            if self.ops[index as usize].array.is_some() {
                self.array_begin(index);
            } else {
                self.log_punch(index);
            }
        }
    }

    /// Takes a buffer of the size that the request needs, or lets it wait for one.
    fn array_buffer(&mut self, index: u32) -> Option<Buffer> {
        let op = &mut self.ops[index as usize];
        let need = op.array.as_ref().map_or(0, |array| array.need);
        if self.wait_buffer.is_empty()
            && let Some(buffer) = self.buffers.take(need)
        {
            return Some(buffer);
        }
        op.stage = Stage::BufferForArray;
        self.wait_buffer.push_back(index);
        None
    }

    /// The buffer that a request waited for is there.
    pub(super) fn array_has_buffer(&mut self, index: u32, buffer: Buffer) {
        match self.ops[index as usize].array.as_deref().map(|a| &a.work) {
            Some(Work::Change(_)) => self.array_fetch(index, buffer),
            Some(Work::Get(_)) => self.array_read(index, buffer),
            None => self.buffers.put(buffer),
        }
    }

    /// Takes the checksums of parts of a buffer, here or on a helper.
    fn array_checksums(&mut self, index: u32, buffer: Buffer, parts: Vec<Range<usize>>) {
        let handed_over = match self.shall_hand_over(parts.iter().map(Range::len).sum()) {
            true => self.helper.checksums(u64::from(index), buffer, parts),
            false => Err((buffer, parts)),
        };
        match handed_over {
            Ok(()) => self.checking += 1,
            Err((buffer, parts)) => {
                let of = |part: Range<usize>| crc32c(&buffer.bytes()[part]);
                let crcs = parts.into_iter().map(of).collect();
                self.on_array_checked(index, buffer, crcs);
            }
        }
    }

    /// They are known.
    pub(in crate::target) fn on_array_checked(
        &mut self,
        index: u32,
        buffer: Buffer,
        crcs: Vec<u32>,
    ) {
        match self.ops[index as usize].array.as_deref().map(|a| &a.work) {
            Some(Work::Change(_)) => self.on_array_sent(index, buffer, crcs),
            Some(Work::Get(_)) => self.on_array_verified(index, buffer, &crcs),
            None => self.buffers.put(buffer),
        }
    }

    /// A transfer of the device has ended.
    pub(super) fn on_array_device(
        &mut self,
        index: u32,
        buffer: Buffer,
        status: daos_plugin_api::abi::Status,
    ) {
        match self.ops[index as usize].array.as_deref().map(|a| &a.work) {
            Some(Work::Change(_)) => self.on_array_changing(index, buffer, status),
            Some(Work::Get(_)) => self.on_array_read(index, buffer, status),
            None => self.buffers.put(buffer),
        }
    }
}
