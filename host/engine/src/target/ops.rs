//! Requests under way: what is known of each, and how the end of an operation moves it on.

use super::Target;
use super::array::ArrayOp;
use crate::extents::device::Done;
use crate::helpers::CHECKSUM_MIN;
use crate::index::value::{Body, Extents, StoredValue};
use crate::memory::Buffer;
use crate::net::{Event, Kind};
use crate::storage::StorageError;
use daos_plugin_api::abi::Status;
use daos_wire::{INLINE_MAX, Opcode, Reply, RmaDescriptor, WireStatus, crc32c};
use std::sync::atomic::Ordering;
use uuid::Uuid;

/// Receives that may fail in a row before the endpoint counts as broken.
const BAD_RECEIVES_MAX: u32 = 10_000;

/// Limits of a target that follow from its resources.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most bytes of the index file.
    pub index_bytes: u64,
}

impl Limits {
    /// Most bytes of live entries in an index file of `index_bytes`: B-tree pages may be half full,
    /// the file grows by doubling, and a commit writes new pages before it frees old ones.
    pub fn live_bytes(self) -> u64 {
        self.index_bytes / 4
    }
}

/// What a request waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its buffer is offered for a message, or it is being handled.
    #[default]
    Idle,
    /// A data buffer, to read the value from the client.
    BufferForPut,
    /// A data buffer, to read the value from the device.
    BufferForGet,
    /// A lock on what it changes.
    Lock,
    /// A data buffer, for records of an array.
    BufferForArray,
    /// The value from the client.
    Fetching,
    /// The checksum of the value from the client.
    CheckingPut,
    /// The value on the device.
    Writing,
    /// Space on the device.
    Space,
    /// Room in the log.
    Log,
    /// The value from the device.
    Reading,
    /// Its checksum.
    CheckingGet,
    /// The value in the client's memory.
    Storing,
    /// A change of the catalogue.
    Catalogue,
}

/// A request; each message buffer belongs to one.
#[derive(Default)]
pub(super) struct Op {
    pub(super) message: Option<Buffer>,
    pub(super) stage: Stage,
    pub(super) opcode: u16,
    pub(super) client: Uuid,
    pub(super) sequence: u64,
    pub(super) settled: u64,
    /// A change that is not answered yet.
    pub(super) is_change: bool,
    pub(super) peer: u64,
    pub(super) checksum: u32,
    pub(super) value_len: usize,
    pub(super) rma: Option<RmaDescriptor>,
    /// Where the inline value stands in the message.
    pub(super) inline: std::ops::Range<usize>,
    /// Encoded key, or prefix of a punch.
    pub(super) key: Vec<u8>,
    pub(super) is_punch: bool,
    /// The container that it was admitted to.
    pub(super) incarnation: u64,
    pub(super) data: Option<Buffer>,
    pub(super) extents: Extents,
    /// The part about an array, if it has one.
    pub(super) array: Option<Box<ArrayOp>>,
}

impl Op {
    /// Bytes of the buffer that it waits for.
    fn buffer_size(&self) -> usize {
        self.array
            .as_ref()
            .map_or(self.value_len, |array| array.need)
    }

    pub(super) fn reply(&self, status: WireStatus) -> Reply<'static> {
        Reply::new(self.opcode, status, self.client, self.sequence)
    }
}

impl Target {
    pub(super) fn on_net(&mut self, event: Event) {
        let index = event.user as u32; // numbers of `ops`
        match event.kind {
            Kind::Received => {
                if event.status.is_ok() {
                    self.bad_receives = 0;
                    self.ops[index as usize].message = Some(event.buffer);
                    self.on_request(index, event.len);
                } else {
                    // Too long or cut off: nobody to answer.
                    tracing::debug!(status = %event.status, "a message was not received");
                    self.bad_receives += 1;
                    if self.bad_receives < BAD_RECEIVES_MAX {
                        self.net.receive(event.user, event.buffer);
                    } else {
                        // It receives nothing.
                        let defect = self.net.failed("poll", event.status);
                        self.lose_endpoint(&defect);
                    }
                }
            }
            Kind::Sent => {
                if !event.status.is_ok() {
                    // The client is gone; it may come back under the same address.
                    self.net.release(self.ops[index as usize].peer);
                }
                self.net.receive(event.user, event.buffer);
            }
            Kind::Fetched => {
                self.ops[index as usize].data = Some(event.buffer);
                self.on_fetched(index, event.status);
            }
            Kind::Stored => {
                self.buffers.put(event.buffer);
                let op = &self.ops[index as usize];
                let reply = Reply {
                    value_len: op.value_len as u64,
                    checksum: op.checksum,
                    ..op.reply(fabric_status(event.status))
                };
                self.answer(index, &reply);
            }
        }
    }

    /// The value of a put is here.
    fn on_fetched(&mut self, index: u32, status: Status) {
        if self.ops[index as usize].array.is_some() {
            return self.on_array_fetched(index, status);
        }
        let op = &mut self.ops[index as usize];
        let Some(data) = op.data.take() else {
            return;
        };
        if !status.is_ok() {
            self.buffers.put(data);
            return self.refuse(
                index,
                fabric_status(status),
                "the value could not be read from the client's memory",
            );
        }
        if op.opcode == Opcode::Ping as u16 {
            return self.ping_back(index, data);
        }
        op.stage = Stage::CheckingPut;
        self.check(index, data);
    }

    /// Whether a helper shall take the checksum of so many bytes: while it does, the target must have
    /// something else to do than to wait for it.
    pub(super) fn shall_hand_over(&self, bytes: usize) -> bool {
        let under_way = |op: &&Op| op.stage != Stage::Idle;
        bytes >= CHECKSUM_MIN && self.ops.iter().filter(under_way).nth(1).is_some()
    }

    /// Takes the checksum of a value, here or on a helper.
    fn check(&mut self, index: u32, data: Buffer) {
        let len = self.ops[index as usize].value_len;
        let handed_over = match self.shall_hand_over(len) {
            true => self.helper.checksum(u64::from(index), data, len),
            false => Err(data),
        };
        match handed_over {
            Ok(()) => self.checking += 1,
            Err(data) => {
                let crc = crc32c(&data.bytes()[..len]);
                self.on_checked(index, data, crc);
            }
        }
    }

    /// The checksum of a value is known.
    pub(super) fn on_checked(&mut self, index: u32, data: Buffer, crc: u32) {
        if self.ops[index as usize].stage == Stage::CheckingGet {
            return self.on_checked_get(index, data, crc);
        }
        let op = &mut self.ops[index as usize];
        if crc != op.checksum {
            self.buffers.put(data);
            return self.refuse(index, WireStatus::DAMAGED, "");
        }
        if op.value_len <= INLINE_MAX {
            op.data = Some(data);
            return self.log_put(index);
        }
        op.data = Some(data);
        self.place(index);
    }

    /// Finds space for the value of a put and writes it there.
    fn place(&mut self, index: u32) {
        let op = &mut self.ops[index as usize];
        let Some(mut data) = op.data.take() else {
            return;
        };
        let units = self.device.units_for(op.value_len);
        let extents = match self.storage.allocate(&op.key, units) {
            Ok(Some(extents)) => extents,
            Ok(None) if self.commit_retry.is_none() => {
                // A commit brings space back.
                op.data = Some(data);
                op.stage = Stage::Space;
                self.wait_space.push(index);
                return;
            }
            Ok(None) => {
                self.buffers.put(data);
                return self.refuse_storage(index, &StorageError::DeviceFull);
            }
            Err(error) => {
                self.buffers.put(data);
                return self.refuse_storage(index, &error);
            }
        };
        op.extents = extents;
        // The rest of the last unit shall not hold what the buffer held before.
        let end = units as usize * self.device.share().unit as usize;
        data.bytes_mut()[op.value_len..end].fill(0);
        op.stage = Stage::Writing;
        self.device.write(u64::from(index), data, &extents);
    }

    /// Tries again after a commit.
    pub(super) fn retry_space(&mut self) {
        for index in std::mem::take(&mut self.wait_space) {
            if self.ops[index as usize].array.is_some() {
                self.array_place(index);
            } else {
                self.place(index);
            }
        }
    }

    pub(super) fn on_device(&mut self, done: Done) {
        let index = done.user as u32; // numbers of `ops`
        if done.status == Status::DEVICE_GONE {
            self.shared.device_gone.store(true, Ordering::Relaxed);
        }
        let op = &mut self.ops[index as usize];
        if op.array.is_some() {
            return self.on_array_device(index, done.buffer, done.status);
        }
        if op.stage == Stage::Writing {
            self.buffers.put(done.buffer);
            if done.status.is_ok() {
                return self.log_put(index);
            }
            let extents = op.extents;
            self.storage.abandon(&op.key, &extents);
            return self.refuse(
                index,
                device_status(done.status),
                "the block device failed a write",
            );
        }
        let extents = op.extents;
        op.stage = Stage::CheckingGet;
        self.storage.space().unpin(&extents);
        if !done.status.is_ok() {
            self.buffers.put(done.buffer);
            return self.refuse(
                index,
                device_status(done.status),
                "the block device failed a read",
            );
        }
        self.check(index, done.buffer);
    }

    fn on_checked_get(&mut self, index: u32, data: Buffer, crc: u32) {
        let op = &mut self.ops[index as usize];
        if crc != op.checksum {
            self.buffers.put(data);
            tracing::error!(
                target_number = self.number,
                first_unit = op.extents.as_slice().first().map_or(0, |e| e.start),
                "a stored value does not match its checksum"
            );
            return self.refuse(
                index,
                WireStatus::CORRUPT,
                "the block device returned other bytes than were written",
            );
        }
        let Some(rma) = op.rma else {
            return self.buffers.put(data);
        };
        op.stage = Stage::Storing;
        self.net
            .store(u64::from(index), data, op.value_len, op.peer, rma);
    }

    /// The value of a put is where it shall be: records it.
    pub(super) fn log_put(&mut self, index: u32) {
        let admitted = self.is_still_admitted(index);
        let op = &mut self.ops[index as usize];
        if !admitted {
            if let Some(data) = op.data.take() {
                self.buffers.put(data);
            }
            let extents = op.extents;
            self.storage.abandon(&op.key, &extents);
            return self.refuse_gone(index);
        }
        let bytes = match (&op.data, &op.message) {
            (Some(data), _) => &data.bytes()[..op.value_len],
            (None, Some(message)) => &message.bytes()[op.inline.clone()],
            (None, None) => &[],
        };
        let on_device = op.extents.units() > 0;
        let value = StoredValue {
            checksum: op.checksum,
            len: op.value_len as u32, // at most 1 MiB
            body: if on_device {
                Body::Extents(op.extents)
            } else {
                Body::Inline(bytes)
            },
        };
        let result = self.storage.put(op.origin(), &op.key, &value);
        if matches!(result, Err(StorageError::LogFull)) {
            op.stage = Stage::Log;
            self.wait_log.push_back(index);
            return self.park(index);
        }
        if let Some(data) = op.data.take() {
            self.buffers.put(data);
        }
        match result {
            Ok(()) => {
                let reply = self.ops[index as usize].reply(WireStatus::OK);
                self.answer(index, &reply);
            }
            Err(error) => {
                let op = &self.ops[index as usize];
                self.storage.abandon(&op.key, &op.extents);
                self.refuse_storage(index, &error);
            }
        }
    }

    pub(super) fn log_punch(&mut self, index: u32) {
        if !self.is_still_admitted(index) {
            return self.refuse_gone(index);
        }
        let op = &mut self.ops[index as usize];
        match self.storage.punch(op.origin(), &op.key) {
            Ok(count) => {
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
            Err(error) => self.refuse_storage(index, &error),
        }
    }

    /// Moves on requests that waited for something that may be there now.
    pub(super) fn retry_waiting(&mut self) {
        for _ in 0..self.wait_log.len() {
            let Some(index) = self.wait_log.pop_front() else {
                break;
            };
            if self.commit_retry.is_some() {
                self.refuse_waiting(index);
            } else if self.ops[index as usize].array.is_some() {
                self.array_log(index);
            } else if self.ops[index as usize].is_punch {
                self.log_punch(index);
            } else {
                self.log_put(index);
            }
            // Who was first and did not fit stays first.
            if self.wait_log.back() == Some(&index) {
                self.wait_log.rotate_right(1);
                break;
            }
        }
        while let Some(index) = self.wait_buffer.front().copied() {
            let op = &self.ops[index as usize];
            let Some(buffer) = self.buffers.take(op.buffer_size()) else {
                break;
            };
            self.wait_buffer.pop_front();
            match op.stage {
                Stage::BufferForPut => self.fetch(index, buffer),
                Stage::BufferForArray => self.array_has_buffer(index, buffer),
                _ => self.read(index, buffer),
            }
        }
        self.resume_unlocked();
    }

    /// The log is full and the index cannot take it over: gives up on a waiting request.
    fn refuse_waiting(&mut self, index: u32) {
        self.array_give_up(index);
        let op = &mut self.ops[index as usize];
        let extents = std::mem::take(&mut op.extents);
        if let Some(data) = op.data.take() {
            self.buffers.put(data);
        }
        self.storage.abandon(&op.key, &extents);
        self.refuse(
            index,
            WireStatus::NO_SPACE,
            "the log is full and the index has no space",
        );
    }

    pub(super) fn fetch(&mut self, index: u32, buffer: Buffer) {
        let op = &mut self.ops[index as usize];
        let Some(rma) = op.rma else {
            return self.buffers.put(buffer);
        };
        op.stage = Stage::Fetching;
        self.net.fetch(u64::from(index), buffer, op.peer, rma);
    }

    /// Looks the value up again - it may have changed while the request waited - and reads it.
    pub(super) fn read(&mut self, index: u32, buffer: Buffer) {
        let op = &mut self.ops[index as usize];
        let found = self.storage.get(&op.key, |value| {
            crate::storage::extents_of(value).map(|e| (e, value.checksum, value.len))
        });
        match found {
            Ok(Some(Some((extents, checksum, len))))
                if len as usize <= buffer.len()
                    && op.rma.is_some_and(|rma| rma.len >= u64::from(len)) =>
            {
                op.extents = extents;
                op.checksum = checksum;
                op.value_len = len as usize;
                op.stage = Stage::Reading;
                self.storage.space().pin(&extents);
                self.device.read(u64::from(index), buffer, &extents);
            }
            // Another value by now: from the beginning.
            Ok(_) => {
                self.buffers.put(buffer);
                self.get(index);
            }
            Err(error) => {
                self.buffers.put(buffer);
                self.refuse_storage(index, &error);
            }
        }
    }

    pub(super) fn refuse_storage(&mut self, index: u32, error: &StorageError) {
        if let StorageError::Finished(outcome) = error {
            return self.answer_again(index, *outcome);
        }
        let status = match error {
            StorageError::NoSpace
            | StorageError::DeviceFull
            | StorageError::OverQuota(_)
            | StorageError::LogFull => WireStatus::NO_SPACE,
            StorageError::Kind(_) => WireStatus::KIND,
            StorageError::Corrupt(_) => WireStatus::CORRUPT,
            StorageError::Failed(_) => WireStatus::IO,
            // Settled by its client while it was under way.
            StorageError::Stale => WireStatus::STALE,
            StorageError::Crowded => WireStatus::BUSY,
            StorageError::Finished(outcome) => outcome.status,
        };
        self.refuse(index, status, &error.to_string());
    }

    /// Answers with an error and a text that explains it.
    pub(super) fn refuse(&mut self, index: u32, status: WireStatus, text: &str) {
        let mut end = text.len().min(512);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let reply = Reply {
            inline: &text.as_bytes()[..end],
            ..self.ops[index as usize].reply(status)
        };
        self.answer(index, &reply);
    }

    /// Puts a reply into the message buffer; it is sent after the seal.
    pub(super) fn answer(&mut self, index: u32, reply: &Reply<'_>) {
        self.settle(index, reply.status);
        self.locks.release(index, &mut self.unlocked);
        let op = &mut self.ops[index as usize];
        op.stage = Stage::Idle;
        op.extents = Extents::default();
        op.array = None;
        let Some(message) = &mut op.message else {
            return;
        };
        match reply.encode(message.bytes_mut()) {
            Ok(len) => self.replies.push((index, len)),
            Err(error) => {
                // A defect of ours; the client runs into its timeout.
                tracing::error!(%error, "a reply cannot be encoded");
                if let Some(message) = op.message.take() {
                    self.net.receive(u64::from(index), message);
                }
            }
        }
    }

    pub(super) fn send_reply(&mut self, index: u32, len: usize) {
        self.shared.requests.fetch_add(1, Ordering::Relaxed);
        let failed = self.failure().is_some();
        let op = &mut self.ops[index as usize];
        let Some(mut message) = op.message.take() else {
            return;
        };
        let mut len = len;
        if failed {
            // Nothing may be promised any more, whatever the reply says.
            let reply = op.reply(WireStatus::IO);
            len = reply.encode_header(message.bytes_mut(), 0);
        }
        self.net.send(u64::from(index), message, len, op.peer);
    }
}

pub(super) fn device_status(status: Status) -> WireStatus {
    match status {
        Status::DEVICE_GONE => WireStatus::DEVICE_GONE,
        Status::MEDIA => WireStatus::CORRUPT,
        Status::NO_SPACE => WireStatus::NO_SPACE,
        _ => WireStatus::IO,
    }
}

pub(super) fn fabric_status(status: Status) -> WireStatus {
    if status.is_ok() {
        WireStatus::OK
    } else {
        WireStatus::UNREACHABLE
    }
}
