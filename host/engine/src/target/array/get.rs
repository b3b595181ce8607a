//! Reading records.

use super::{ArrayOp, Work};
use crate::array::content;
use crate::array::read::{Assembly, Overlap};
use crate::index::value::{Body, Extents};
use crate::memory::Buffer;
use crate::storage::StorageError;
use crate::target::Target;
use crate::target::ops::{Stage, device_status};
use daos_plugin_api::abi::Status;
use daos_wire::{INLINE_MAX, REPLY_HEADER, Reply, WireStatus};

/// A read on its way.
#[derive(Default)]
pub(in crate::target) struct Get {
    assembly: Assembly,
    /// Entries on the device that are still to be read, pinned.
    waiting: Vec<Source>,
    /// Those under way, with their place in the buffer, pinned while the device has them.
    reading: Vec<(usize, Source)>,
}

/// An entry on the device.
struct Source {
    extents: Extents,
    len: u32,
    checksum: u32,
    overlap: Overlap,
    /// Bytes of the result from the beginning of the overlap to the next entry.
    room: usize,
}

impl Source {
    /// Whether the entry can be read into its place in the result: all of it belongs there, and the
    /// rest of its last unit disturbs nobody.
    fn is_direct(&self, unit: usize) -> bool {
        self.overlap.source == (0..self.len as usize)
            && self.overlap.at.is_multiple_of(unit)
            && self.bytes(unit) <= self.room
    }

    fn bytes(&self, unit: usize) -> usize {
        self.extents.units() as usize * unit
    }
}

/// What a look at the index says about a read.
struct Survey {
    /// Bytes of the result.
    len: usize,
    /// Bytes of the largest entry on the device, in whole units.
    largest: usize,
}

const DAMAGED_ENTRY: &str =
    "an entry of the array in the index holds other bytes than were written";

impl Target {
    /// How long the result is and what it takes.
    fn array_survey(&self, index: u32) -> Result<Survey, StorageError> {
        let unit = self.device.share().unit as usize;
        let op = &self.ops[index as usize];
        let mut survey = Survey { len: 0, largest: 0 };
        let Some(ArrayOp {
            range, record_size, ..
        }) = op.array.as_deref()
        else {
            return Ok(survey);
        };
        let mut end = range.start;
        self.storage
            .array_entries(&op.key, *record_size, range.clone(), |start, value| {
                end = start + u64::from(value.len);
                if let Body::Extents(extents) = value.body {
                    survey.largest = survey.largest.max(extents.units() as usize * unit);
                }
            })?;
        if end < range.end
            && self
                .storage
                .array_reaches(&op.key, *record_size, range.end)?
        {
            end = range.end;
        }
        survey.len = (end.min(range.end) - range.start) as usize; // at most 1 MiB
        Ok(survey)
    }

    /// Starts a read.
    pub(super) fn array_get(&mut self, index: u32) {
        let unit = self.device.share().unit as usize;
        let op = &self.ops[index as usize];
        let size = op.array.as_ref().map_or(0, |array| array.record_size);
        match self.storage.check_array(&op.key, size) {
            Ok(true) => {}
            Ok(false) => return self.refuse(index, WireStatus::NOT_FOUND, ""),
            Err(error) => return self.refuse_storage(index, &error),
        }
        let survey = match self.array_survey(index) {
            Ok(survey) => survey,
            Err(error) => return self.refuse_storage(index, &error),
        };
        let op = &mut self.ops[index as usize];
        op.value_len = survey.len;
        if survey.largest == 0 && survey.len <= INLINE_MAX {
            return self.array_from_index(index);
        }
        if let Some(array) = &mut op.array {
            array.need = survey.len.next_multiple_of(unit) + survey.largest;
        }
        if let Some(buffer) = self.array_buffer(index) {
            self.array_read(index, buffer);
        }
    }

    /// Answers a small read of entries that are all in the index.
    fn array_from_index(&mut self, index: u32) {
        let op = &mut self.ops[index as usize];
        let Some(message) = &mut op.message else {
            return;
        };
        let Some(array) = op.array.as_deref() else {
            return;
        };
        let result = &mut message.bytes_mut()[REPLY_HEADER..REPLY_HEADER + op.value_len];
        let mut assembly = Assembly::default();
        let mut intact = true;
        let range = array.range.clone();
        let found = self.storage.array_entries(
            &op.key,
            array.record_size,
            range.clone(),
            |start, value| {
                let overlap = Overlap::of(start, value.len, range.start, range.end);
                if let (Some(overlap), Body::Inline(bytes)) = (overlap, value.body) {
                    intact &= assembly.copy(bytes, value.checksum, &overlap, result);
                }
            },
        );
        if let Err(error) = found {
            return self.refuse_storage(index, &error);
        }
        if !intact {
            return self.refuse(index, WireStatus::CORRUPT, DAMAGED_ENTRY);
        }
        let checksum = assembly.finish(result);
        let len = op.value_len;
        let reply = Reply {
            value_len: len as u64,
            checksum,
            ..op.reply(WireStatus::OK)
        };
        self.answer_in_place(index, &reply, len);
    }

    /// Looks again - records may have changed while the request waited -, takes what the index has
    /// and reads the rest.
    pub(super) fn array_read(&mut self, index: u32, mut buffer: Buffer) {
        let unit = self.device.share().unit as usize;
        let survey = match self.array_survey(index) {
            Ok(survey) => survey,
            Err(error) => {
                self.buffers.put(buffer);
                return self.refuse_storage(index, &error);
            }
        };
        let end = survey.len.next_multiple_of(unit);
        if end + survey.largest > buffer.len() {
            // More than it was: from the beginning.
            self.buffers.put(buffer);
            return self.array_get(index);
        }
        let op = &mut self.ops[index as usize];
        op.value_len = survey.len;
        let Some(array) = op.array.as_deref_mut() else {
            return self.buffers.put(buffer);
        };
        let range = array.range.clone();
        let Work::Get(get) = &mut array.work else {
            return self.buffers.put(buffer);
        };
        let result = &mut buffer.bytes_mut()[..survey.len];
        let mut intact = true;
        let found = self.storage.array_entries(
            &op.key,
            array.record_size,
            range.clone(),
            |start, value| {
                let Some(overlap) = Overlap::of(start, value.len, range.start, range.end) else {
                    return;
                };
                if let Some(before) = get.waiting.last_mut() {
                    before.room = before.room.min(overlap.at - before.overlap.at);
                }
                match value.body {
                    Body::Inline(bytes) => {
                        intact &= get.assembly.copy(bytes, value.checksum, &overlap, result);
                    }
                    Body::Extents(extents) => get.waiting.push(Source {
                        extents,
                        len: value.len,
                        checksum: value.checksum,
                        room: end - overlap.at,
                        overlap,
                    }),
                }
            },
        );
        if found.is_err() || !intact {
            self.buffers.put(buffer);
            return match found {
                Err(error) => self.refuse_storage(index, &error),
                Ok(()) => self.refuse(index, WireStatus::CORRUPT, DAMAGED_ENTRY),
            };
        }
        for source in &get.waiting {
            self.storage.space().pin(&source.extents);
        }
        self.array_read_on(index, buffer);
    }

    /// Reads as many entries as the buffer has room for; ends if there are none left. Those that
    /// need not be moved are read first, all of them: what else is copied into the result comes
    /// after them.
    fn array_read_on(&mut self, index: u32, mut buffer: Buffer) {
        let unit = self.device.share().unit as usize;
        let op = &mut self.ops[index as usize];
        let len = op.value_len;
        let Some(Work::Get(get)) = op.array.as_deref_mut().map(|array| &mut array.work) else {
            return self.buffers.put(buffer);
        };
        let mut at = len.next_multiple_of(unit);
        let mut full = false;
        let room = buffer.len();
        for source in std::mem::take(&mut get.waiting) {
            let place = if source.is_direct(unit) {
                source.overlap.at
            } else if !full && at + source.bytes(unit) <= room {
                at += source.bytes(unit);
                at - source.bytes(unit)
            } else {
                full = true;
                get.waiting.push(source);
                continue;
            };
            get.reading.push((place, source));
        }
        if !get.reading.is_empty() {
            let parts: Vec<_> = get
                .reading
                .iter()
                .map(|(place, source)| (*place, source.extents))
                .collect();
            op.stage = Stage::Reading;
            return self.device.read_parts(u64::from(index), buffer, &parts);
        }
        let assembly = std::mem::take(&mut get.assembly);
        op.checksum = assembly.finish(&mut buffer.bytes_mut()[..len]);
        if let Some(rma) = op.rma
            && len > INLINE_MAX
        {
            op.stage = Stage::Storing;
            return self.net.store(u64::from(index), buffer, len, op.peer, rma);
        }
        if let Some(message) = &mut op.message {
            message.bytes_mut()[REPLY_HEADER..REPLY_HEADER + len]
                .copy_from_slice(&buffer.bytes()[..len]);
        }
        self.buffers.put(buffer);
        let reply = Reply {
            value_len: len as u64,
            checksum: op.checksum,
            ..op.reply(WireStatus::OK)
        };
        self.answer_in_place(index, &reply, len);
    }

    /// Entries are read: takes their checksums, here or on a helper.
    pub(super) fn on_array_read(&mut self, index: u32, buffer: Buffer, status: Status) {
        let op = &mut self.ops[index as usize];
        let Some(Work::Get(get)) = op.array.as_deref_mut().map(|array| &mut array.work) else {
            return self.buffers.put(buffer);
        };
        for (_, source) in &get.reading {
            self.storage.space().unpin(&source.extents);
        }
        if !status.is_ok() {
            let text = "the block device failed a read";
            return self.array_read_fails(index, buffer, device_status(status), text);
        }
        let of = |(place, source): &(usize, Source)| {
            let thirds = content::thirds(source.len as usize, &source.overlap.source);
            thirds.map(|third| place + third.start..place + third.end)
        };
        let parts = get.reading.iter().flat_map(of).collect();
        op.stage = Stage::CheckingGet;
        self.array_checksums(index, buffer, parts);
    }

    /// The checksums of what was read are known.
    pub(super) fn on_array_verified(&mut self, index: u32, mut buffer: Buffer, crcs: &[u32]) {
        let unit = self.device.share().unit as usize;
        let op = &mut self.ops[index as usize];
        let end = op.value_len.next_multiple_of(unit);
        let Some(Work::Get(get)) = op.array.as_deref_mut().map(|array| &mut array.work) else {
            return self.buffers.put(buffer);
        };
        let (result, work) = buffer.bytes_mut().split_at_mut(end);
        let mut intact = true;
        let (crcs, _) = crcs.as_chunks::<3>();
        for ((place, source), crcs) in get.reading.drain(..).zip(crcs) {
            let (len, overlap) = (source.len as usize, &source.overlap);
            let part = content::verify(*crcs, source.checksum, len, &overlap.source);
            match part {
                None => intact = false,
                Some(part) if place < end => get.assembly.note(part, overlap),
                Some(part) => {
                    let content = &work[place - end..place - end + len];
                    get.assembly.place(content, part, overlap, result);
                }
            }
        }
        if intact {
            return self.array_read_on(index, buffer);
        }
        tracing::error!(
            target_number = self.number,
            "an entry of an array does not match its checksum"
        );
        let text = "the block device returned other bytes than were written";
        self.array_read_fails(index, buffer, WireStatus::CORRUPT, text);
    }

    fn array_read_fails(&mut self, index: u32, buffer: Buffer, status: WireStatus, text: &str) {
        let op = &mut self.ops[index as usize];
        if let Some(Work::Get(get)) = op.array.as_deref_mut().map(|array| &mut array.work) {
            for source in get.waiting.drain(..) {
                self.storage.space().unpin(&source.extents);
            }
        }
        self.buffers.put(buffer);
        self.refuse(index, status, text);
    }
}
