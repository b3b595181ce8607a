//! Arrays of the fake engine: plain runs of bytes.

use super::target::{Target, Then, name};
use super::{Array, Faults};
use daos_plugin_api::abi::FabricOp;
use daos_wire::{INLINE_MAX, Opcode, Reply, Request, WireStatus, crc32c};
use std::sync::atomic::Ordering;

impl Target {
    pub(super) fn array(&mut self, request: &Request<'_>, message: &[u8]) {
        match request.opcode {
            Opcode::ArrayPut => self.array_put(request, message),
            Opcode::ArrayGet => self.array_get(request, message),
            Opcode::ArrayPunch => self.array_punch(request),
            _ => self.array_query(request),
        }
    }

    /// Does something with an array, if its records are what the request says.
    fn with_array<R>(
        &self,
        request: &Request<'_>,
        f: impl FnOnce(&mut Array) -> R,
    ) -> Result<R, WireStatus> {
        let mut arrays = self.store.arrays.lock().unwrap();
        let key = (name(request), request.akey.to_vec());
        let size = request.array.record_size;
        if request.opcode == Opcode::ArrayPut {
            let new = Array {
                record_size: size,
                bytes: Vec::new(),
            };
            arrays.entry(key.clone()).or_insert(new);
        }
        let array = arrays.get_mut(&key).ok_or(WireStatus::NOT_FOUND)?;
        if request.opcode != Opcode::ArrayQuery && array.record_size != size {
            return Err(WireStatus::KIND);
        }
        Ok(f(array))
    }

    fn array_put(&mut self, request: &Request<'_>, message: &[u8]) {
        match request.rma {
            None => self.array_store(request, Some(request.inline.to_vec())),
            Some(rma) => {
                let Ok(peer) = self.endpoint.resolve(request.address) else {
                    return;
                };
                let then = Then::StoreArray(message.to_vec());
                let memory = vec![0; rma.len as usize];
                self.submit(FabricOp::READ, peer, memory, Some(rma), then);
            }
        }
    }

    pub(super) fn array_store(&mut self, request: &Request<'_>, value: Option<Vec<u8>>) {
        let status = match value {
            None => WireStatus::UNREACHABLE,
            Some(value) if crc32c(&value) != request.checksum => WireStatus::DAMAGED,
            Some(value) => {
                let (start, end) = request.array.span().unwrap();
                let (start, end) = (start as usize, end as usize);
                let done = self.with_array(request, |array| {
                    let len = array.bytes.len().max(end);
                    array.bytes.resize(len, 0);
                    array.bytes[start..end].copy_from_slice(&value);
                });
                done.err().unwrap_or(WireStatus::OK)
            }
        };
        if !Faults::take(&self.store.faults.swallow_replies) {
            let reply = self.reply(request, status);
            self.send(request, &reply);
        }
    }

    fn array_get(&mut self, request: &Request<'_>, message: &[u8]) {
        self.store.gets.fetch_add(1, Ordering::SeqCst);
        let (start, end) = request.array.span().unwrap();
        let found = self.with_array(request, |array| {
            let all = array.bytes.len() as u64;
            array.bytes[start.min(all) as usize..end.min(all) as usize].to_vec()
        });
        let mut value = match found {
            Ok(value) => value,
            Err(status) => {
                let reply = self.reply(request, status);
                return self.send(request, &reply);
            }
        };
        let mut reply = self.reply(request, WireStatus::OK);
        (reply.value_len, reply.checksum) = (value.len() as u64, crc32c(&value));
        if !value.is_empty() && Faults::take(&self.store.faults.damage_values) {
            let middle = value.len() / 2;
            value[middle] ^= 1;
        }
        if value.len() <= INLINE_MAX {
            reply.inline = &value;
            return self.send(request, &reply);
        }
        let Ok(peer) = self.endpoint.resolve(request.address) else {
            return;
        };
        let then = Then::AnswerArray(message.to_vec(), reply.value_len, reply.checksum);
        self.submit(FabricOp::WRITE, peer, value, request.rma, then);
    }

    fn array_punch(&mut self, request: &Request<'_>) {
        let (start, end) = request.array.span().unwrap();
        let done = self.with_array(request, |array| {
            let all = array.bytes.len() as u64;
            array.bytes[start.min(all) as usize..end.min(all) as usize].fill(0);
            if end >= all {
                array.bytes.truncate(start as usize);
            }
        });
        let status = match done {
            Err(WireStatus::KIND) => WireStatus::KIND,
            _ => WireStatus::OK,
        };
        let reply = self.reply(request, status);
        self.send(request, &reply);
    }

    fn array_query(&mut self, request: &Request<'_>) {
        let found = self.with_array(request, |array| (array.record_size, array.bytes.len()));
        let reply = match found {
            Ok((size, bytes)) => Reply {
                count: size as u32,
                total: bytes as u64 / size,
                ..self.reply(request, WireStatus::OK)
            },
            Err(status) => self.reply(request, status),
        };
        self.send(request, &reply);
    }
}
