//! What each kind of request does.

use super::Target;
use super::array::{ArrayOp, Change, Get, Work};
use super::names::Question;
use super::ops::Stage;
use crate::index::key::{self, Scope};
use crate::index::value::Body;
use crate::storage::StorageError;
use daos_wire::{
    DecodeError, ListWriter, Opcode, PunchScope, REPLY_HEADER, REPLY_MAX, Reply, Request,
    WireStatus, crc32c, target_of,
};
use std::sync::atomic::Ordering;

/// How a get is answered.
enum Found {
    /// The value stands in the message already.
    Inline { len: usize, checksum: u32 },
    /// The value is on the device.
    Extents { len: u32 },
    /// The value in the index does not match its checksum.
    Corrupt,
}

impl Target {
    /// A message of `len` bytes arrived for request `index`.
    pub(super) fn on_request(&mut self, index: u32, len: usize) {
        let op = &mut self.ops[index as usize];
        let Some(message) = &op.message else { return };
        let bytes = &message.bytes()[..len];
        op.stage = Stage::Idle;
        op.is_punch = false;
        op.is_change = false;
        op.array = None;
        op.opcode = 0;
        let request = match Request::decode(bytes) {
            Ok(request) => request,
            Err(error) => {
                let sender = Request::decode_sender(bytes)
                    .and_then(|(c, s, a)| Some((c, s, self.net.resolve(a).ok()?)));
                let Some((client, sequence, peer)) = sender else {
                    tracing::debug!(%error, "a message is no request and its sender unknown");
                    if let Some(message) = op.message.take() {
                        self.net.receive(u64::from(index), message);
                    }
                    return;
                };
                (op.client, op.sequence, op.peer) = (client, sequence, peer);
                let status = match error {
                    DecodeError::Version(_) => WireStatus::VERSION,
                    DecodeError::Field("opcode") => WireStatus::NOT_SUPPORTED,
                    _ => WireStatus::INVALID,
                };
                return self.refuse(index, status, &error.to_string());
            }
        };
        let peer = match self.net.resolve(request.address) {
            Ok(peer) => peer,
            Err(status) => {
                tracing::debug!(%status, "the sender of a request has no usable address");
                if let Some(message) = op.message.take() {
                    self.net.receive(u64::from(index), message);
                }
                return;
            }
        };
        op.opcode = request.opcode as u16;
        op.client = request.client;
        op.sequence = request.sequence;
        op.settled = request.settled;
        op.peer = peer;
        op.checksum = request.checksum;
        op.value_len = request.value_len as usize; // at most 1 MiB
        op.rma = request.rma;
        op.inline = len - request.inline.len()..len;
        let scope = Scope {
            pool: request.pool,
            container: request.container,
            object: request.object,
        };
        let question = Question::of(&request);
        // Names are the same on all targets, and a label is no dkey.
        let misplaced = question.is_none()
            && !request.dkey.is_empty()
            && request.opcode != Opcode::ListDkeys
            && target_of(request.object, request.dkey, self.targets) != self.number;
        let opcode = request.opcode;
        match (opcode, request.scope) {
            (Opcode::Put | Opcode::Get, _) => {
                key::single(&mut op.key, &scope, request.dkey, request.akey);
            }
            (Opcode::Punch, PunchScope::Object) => key::object(&mut op.key, &scope),
            (Opcode::Punch, _) => {
                key::dkey(&mut op.key, &scope, request.dkey);
                if request.scope == PunchScope::Akey {
                    key::escape(&mut op.key, request.akey);
                }
                op.is_punch = true;
            }
            (Opcode::ListDkeys, _) => {
                key::object(&mut op.key, &scope);
                self.from.clone_from(&op.key);
                if !request.dkey.is_empty() {
                    key::escape(&mut self.from, request.dkey);
                    key::skip_past(&mut self.from);
                }
            }
            (Opcode::ListAkeys, _) => {
                key::dkey(&mut op.key, &scope, request.dkey);
                self.from.clone_from(&op.key);
                if !request.akey.is_empty() {
                    key::escape(&mut self.from, request.akey);
                    key::skip_past(&mut self.from);
                }
            }
            (Opcode::ArrayPut | Opcode::ArrayGet | Opcode::ArrayPunch | Opcode::ArrayQuery, _) => {
                key::array(&mut op.key, &scope, request.dkey, request.akey);
                // Requests were checked when they were decoded: all but a query have a range.
                let range = request.array.span().unwrap_or_default();
                let work = match opcode {
                    Opcode::ArrayQuery => None,
                    Opcode::ArrayGet => Some(Work::Get(Get::default())),
                    _ => Some(Work::Change(Change::new(opcode == Opcode::ArrayPut))),
                };
                let size = request.array.record_size as u32; // at most a chunk
                op.array = work.map(|work| ArrayOp::new(range.0..range.1, size, work));
            }
            _ => {}
        }
        op.is_punch = opcode == Opcode::Punch;
        let limit = request.limit;
        if self.stopping {
            return self.refuse(index, WireStatus::STOPPING, "");
        }
        if let Some(why) = self.shared.failed.get().cloned() {
            return self.refuse(index, WireStatus::IO, &why);
        }
        if misplaced {
            let text = format!(
                "target {} of {} does not hold this dkey",
                self.number, self.targets
            );
            return self.refuse(index, WireStatus::WRONG_TARGET, &text);
        }
        if let Some(question) = question {
            return self.on_question(index, &question);
        }
        // Nobody who only measures is remembered, and no storage is asked.
        if opcode == Opcode::Ping {
            return self.ping(index);
        }
        let (client, settled) = (op.client, op.settled);
        self.storage.clients().heard(client, settled);
        if opcode.is_change() {
            if self.shared.device_gone.load(Ordering::Relaxed) {
                // What is in SCM can still be read; nothing is promised any more.
                let text = "the block device of this target is gone";
                return self.refuse(index, WireStatus::DEVICE_GONE, text);
            }
            if !self.is_new_change(index) {
                return;
            }
        }
        if opcode != Opcode::Query && !self.admit(index, scope.pool, scope.container) {
            return;
        }
        match opcode {
            Opcode::Put => self.put(index),
            Opcode::Get => self.get(index),
            // It must not come between what a change of an array reads and what it writes.
            Opcode::Punch => {
                if self.lock(index, None) {
                    self.log_punch(index);
                } else {
                    self.park(index);
                }
            }
            Opcode::ListDkeys | Opcode::ListAkeys => self.list(index, limit),
            Opcode::ArrayPut | Opcode::ArrayGet | Opcode::ArrayPunch | Opcode::ArrayQuery => {
                self.array(index);
            }
            _ => self.query(index),
        }
    }

    fn put(&mut self, index: u32) {
        let op = &mut self.ops[index as usize];
        let inline = op.rma.is_none();
        let in_index = if inline { op.value_len } else { 0 };
        if let Err(error) = self.storage.admits(&op.key, in_index) {
            return self.refuse_storage(index, &error);
        }
        if let Err(error) = self.storage.check_single(&op.key) {
            return self.refuse_storage(index, &error);
        }
        if inline {
            let message = op.message.as_ref().map_or(&[][..], |m| m.bytes());
            if crc32c(&message[op.inline.clone()]) != op.checksum {
                return self.refuse(index, WireStatus::DAMAGED, "");
            }
            return self.log_put(index);
        }
        self.park(index);
        let op = &mut self.ops[index as usize];
        let waiting = !self.wait_buffer.is_empty();
        match (!waiting)
            .then(|| self.buffers.take(op.value_len))
            .flatten()
        {
            Some(buffer) => self.fetch(index, buffer),
            None => {
                op.stage = Stage::BufferForPut;
                self.wait_buffer.push_back(index);
            }
        }
    }

    pub(super) fn get(&mut self, index: u32) {
        let op = &mut self.ops[index as usize];
        let Some(message) = &mut op.message else {
            return;
        };
        let room = &mut message.bytes_mut()[REPLY_HEADER..];
        let found = self.storage.get(&op.key, |value| match value.body {
            Body::Inline(bytes) if crc32c(bytes) == value.checksum => {
                room[..bytes.len()].copy_from_slice(bytes);
                Found::Inline {
                    len: bytes.len(),
                    checksum: value.checksum,
                }
            }
            Body::Inline(_) => Found::Corrupt,
            Body::Extents(_) => Found::Extents { len: value.len },
        });
        match found {
            Ok(Some(Found::Inline { len, checksum })) => {
                let reply = Reply {
                    value_len: len as u64,
                    checksum,
                    ..op.reply(WireStatus::OK)
                };
                self.answer_in_place(index, &reply, len);
            }
            Ok(Some(Found::Corrupt)) => {
                self.refuse(
                    index,
                    WireStatus::CORRUPT,
                    "the index holds other bytes than were written",
                );
            }
            Ok(Some(Found::Extents { len })) => {
                if op.rma.is_none_or(|rma| rma.len < u64::from(len)) {
                    let reply = Reply {
                        value_len: u64::from(len),
                        ..op.reply(WireStatus::NO_ROOM)
                    };
                    return self.answer(index, &reply);
                }
                op.value_len = len as usize;
                // Whole units are read, so the buffer must hold those.
                let bytes = self.device.units_for(op.value_len) as usize
                    * self.device.share().unit as usize;
                match self.buffers.take(bytes) {
                    Some(buffer) => self.read(index, buffer),
                    None => {
                        op.stage = Stage::BufferForGet;
                        self.wait_buffer.push_back(index);
                    }
                }
            }
            Ok(None) => match self.storage.check_single(&op.key) {
                Ok(()) => self.refuse(index, WireStatus::NOT_FOUND, ""),
                Err(error) => self.refuse_storage(index, &error),
            },
            Err(error) => self.refuse_storage(index, &error),
        }
    }

    /// Lists the first part of each distinct key under the prefix in `op.key`, from `self.from` on.
    fn list(&mut self, index: u32, limit: u32) {
        let op = &mut self.ops[index as usize];
        let Some(message) = &mut op.message else {
            return;
        };
        let room = &mut message.bytes_mut()[REPLY_HEADER..REPLY_MAX];
        let mut writer = ListWriter::new(room);
        let mut count = 0;
        let mut more = false;
        let result: Result<(), StorageError> = loop {
            let mut found = false;
            let mut broken = false;
            let scanned = self.storage.keys(&op.key, &self.from, |entry| {
                found = true;
                match key::unescape(&entry[op.key.len()..], &mut self.key) {
                    Some(len) => {
                        let end = op.key.len() + len;
                        broken = self.key.is_empty();
                        self.from_next.clear();
                        self.from_next.extend_from_slice(&entry[..end]);
                    }
                    None => broken = true,
                }
                false
            });
            if let Err(error) = scanned {
                break Err(error);
            }
            if broken {
                break Err(StorageError::Corrupt(
                    "a key in the index is damaged".into(),
                ));
            }
            if !found {
                break Ok(());
            }
            if (limit > 0 && count == limit) || !writer.push(&self.key) {
                more = true;
                break Ok(());
            }
            count += 1;
            std::mem::swap(&mut self.from, &mut self.from_next);
            key::skip_past(&mut self.from);
        };
        let (used, count) = writer.finish();
        match result {
            Ok(()) => {
                let reply = Reply {
                    more,
                    count,
                    checksum: crc32c(&room[..used]),
                    ..op.reply(WireStatus::OK)
                };
                self.answer_in_place(index, &reply, used);
            }
            Err(error) => self.refuse_storage(index, &error),
        }
    }

    fn query(&mut self, index: u32) {
        let (units, free) = self.storage.usage();
        let unit = u64::from(self.device.share().unit);
        let reply = Reply {
            count: self.number,
            targets: self.targets,
            total: units * unit,
            free: free * unit,
            ..self.ops[index as usize].reply(WireStatus::OK)
        };
        self.answer(index, &reply);
    }

    /// Finishes a reply whose inline part stands in the message already.
    pub(super) fn answer_in_place(&mut self, index: u32, reply: &Reply<'_>, inline: usize) {
        let op = &mut self.ops[index as usize];
        op.stage = Stage::Idle;
        op.array = None;
        let Some(message) = &mut op.message else {
            return;
        };
        let len = reply.encode_header(message.bytes_mut(), inline);
        self.replies.push((index, len));
    }
}
