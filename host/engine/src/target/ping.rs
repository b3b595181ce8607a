//! Pings: what a client sends comes back, so that it can measure the way.
//!
//! A ping costs a target what a request costs and no more: its message buffer, and one data buffer while its
//! memory is read and written. The log, the index and the device are not touched.

use super::Target;
use super::ops::Stage;
use crate::memory::Buffer;
use daos_wire::{Opcode, REPLY_HEADER, Reply, WireStatus};

/// Pings of one client that a target works on at once: those who measure must not take the buffers of those
/// who store.
pub(crate) const PER_CLIENT: usize = 2;

impl Target {
    pub(super) fn ping(&mut self, index: u32) {
        let client = self.ops[index as usize].client;
        let under_way = self.ops.iter().filter(|op| {
            op.opcode == Opcode::Ping as u16 && op.client == client && op.stage != Stage::Idle
        });
        if under_way.count() >= PER_CLIENT {
            let text = format!("{PER_CLIENT} pings of this client are under way on this target");
            return self.refuse(index, WireStatus::BUSY, &text);
        }
        let op = &mut self.ops[index as usize];
        if op.rma.is_none() {
            let Some(message) = &mut op.message else {
                return;
            };
            let len = op.inline.len();
            message
                .bytes_mut()
                .copy_within(op.inline.clone(), REPLY_HEADER);
            let reply = Reply {
                value_len: len as u64,
                ..op.reply(WireStatus::OK)
            };
            return self.answer_in_place(index, &reply, len);
        }
        let waiting = !self.wait_buffer.is_empty();
        let len = op.value_len;
        match (!waiting).then(|| self.buffers.take(len)).flatten() {
            Some(buffer) => self.fetch(index, buffer),
            None => {
                op.stage = Stage::BufferForPut;
                self.wait_buffer.push_back(index);
            }
        }
    }

    /// The client's memory was read: writes it back. The reply follows when that has ended.
    pub(super) fn ping_back(&mut self, index: u32, data: Buffer) {
        let op = &mut self.ops[index as usize];
        let Some(rma) = op.rma else {
            return self.buffers.put(data);
        };
        op.stage = Stage::Storing;
        self.net
            .store(u64::from(index), data, op.value_len, op.peer, rma);
    }
}
