//! One target of the fake engine.

use super::{Faults, Store};
use daos_plugin_api::abi::{FabricCompletion, FabricOp, FabricRequest};
use daos_plugin_api::host::{CallOptions, Endpoint, FabricDomain};
use daos_wire::{
    INLINE_MAX, ListWriter, Opcode, PunchScope, REPLY_MAX, REPLY_TAG, REQUEST_MAX, REQUEST_TAG,
    Reply, Request, RmaDescriptor, TAG_IGNORE, WireStatus, crc32c, target_of,
};
use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What an operation's completion leads to.
pub(super) enum Then {
    /// A request arrived.
    Serve,
    /// Nothing: a reply has left.
    Nothing,
    /// The value of a put is here.
    Store(Vec<u8>),
    /// The value of a get is at the client.
    Answer(Vec<u8>),
    /// The records of an array are here.
    StoreArray(Vec<u8>),
    /// The records of an array are at the client; their length and checksum.
    AnswerArray(Vec<u8>, u64, u32),
}

pub struct Target {
    pub(super) endpoint: Endpoint, // first: dropped before the memory below
    pub(super) store: Arc<Store>,
    index: u32,
    targets: u32,
    memory: HashMap<u64, (Vec<u8>, Then)>,
    next: u64,
}

impl Target {
    pub fn new(domain: &FabricDomain, store: Arc<Store>, index: u32, targets: u32) -> Self {
        let endpoint = domain.open_endpoint(CallOptions::default()).unwrap();
        let mut target = Self {
            endpoint,
            store,
            index,
            targets,
            memory: HashMap::new(),
            next: 0,
        };
        for _ in 0..64 {
            target.receive();
        }
        target
    }

    pub fn address(&self) -> Vec<u8> {
        self.endpoint.address().unwrap()
    }

    fn receive(&mut self) {
        let memory = vec![0; REQUEST_MAX];
        self.submit(FabricOp::RECV, 0, memory, None, Then::Serve);
    }

    pub(super) fn submit(
        &mut self,
        op: FabricOp,
        peer: u64,
        mut memory: Vec<u8>,
        rma: Option<RmaDescriptor>,
        then: Then,
    ) {
        self.next += 1;
        let tag = match op {
            FabricOp::RECV => REQUEST_TAG,
            _ => REPLY_TAG,
        };
        let request = FabricRequest {
            op,
            reserved: [0; 7],
            peer,
            tag,
            ignore: TAG_IGNORE,
            ptr: memory.as_mut_ptr(),
            len: memory.len(),
            descriptor: 0,
            remote_addr: rma.map_or(0, |rma| rma.addr),
            remote_key: rma.map_or(0, |rma| rma.key),
            user: self.next,
            scratch: std::ptr::null_mut(),
        };
        // SAFETY: the memory stays in the map until its completion is polled or the endpoint is
        // gone; fabric-tcp wants no scratch.
        let taken = unsafe { self.endpoint.submit(&[request]) };
        assert_eq!(taken, Ok(1), "tests stay below the limits");
        self.memory.insert(self.next, (memory, then));
    }

    /// Serves what has come; returns whether anything has.
    pub fn turn(&mut self) -> bool {
        let mut done = [FabricCompletion::EMPTY; 32];
        let count = self.endpoint.poll(&mut done).unwrap();
        for completion in &done[..count] {
            let (memory, then) = self.memory.remove(&completion.user).unwrap();
            match then {
                Then::Serve => {
                    self.receive();
                    self.serve(&memory[..completion.len as usize]);
                }
                Then::Nothing => {}
                Then::Store(message) => {
                    let request = Request::decode(&message).unwrap();
                    let value = completion.status.is_ok().then_some(memory);
                    self.put(&request, value);
                }
                Then::StoreArray(message) => {
                    let request = Request::decode(&message).unwrap();
                    let value = completion.status.is_ok().then_some(memory);
                    self.array_store(&request, value);
                }
                Then::AnswerArray(message, value_len, checksum) => {
                    let request = Request::decode(&message).unwrap();
                    let status = match completion.status.is_ok() {
                        true => WireStatus::OK,
                        false => WireStatus::UNREACHABLE,
                    };
                    let mut reply = self.reply(&request, status);
                    (reply.value_len, reply.checksum) = (value_len, checksum);
                    self.send(&request, &reply);
                }
                Then::Answer(message) => {
                    let request = Request::decode(&message).unwrap();
                    let mut reply = self.reply(&request, WireStatus::OK);
                    if completion.status.is_ok() {
                        // As stored: what was sent may have been damaged on purpose.
                        (reply.value_len, reply.checksum) = self
                            .lookup(&request)
                            .map_or((0, 0), |(v, c)| (v.len() as u64, c));
                    } else {
                        reply.status = WireStatus::UNREACHABLE;
                    }
                    self.send(&request, &reply);
                }
            }
        }
        count > 0
    }

    pub(super) fn reply<'a>(&self, request: &Request<'_>, status: WireStatus) -> Reply<'a> {
        Reply::new(
            request.opcode as u16,
            status,
            request.client,
            request.sequence,
        )
    }

    pub(super) fn send(&mut self, request: &Request<'_>, reply: &Reply<'_>) {
        let mut message = vec![0; REPLY_MAX];
        let len = reply.encode(&mut message).unwrap();
        message.truncate(len);
        if self.store.faults.garbage.load(Ordering::SeqCst) {
            message[0] ^= 0xff;
        }
        let Ok(peer) = self.endpoint.resolve(request.address) else {
            return;
        };
        self.submit(FabricOp::SEND, peer, message, None, Then::Nothing);
    }

    fn serve(&mut self, message: &[u8]) {
        let request = Request::decode(message).unwrap();
        let store = self.store.clone();
        let is_change = matches!(
            request.opcode,
            Opcode::Put | Opcode::Punch | Opcode::ArrayPut | Opcode::ArrayPunch
        );
        if is_change {
            let mut changes = store.changes.lock().unwrap();
            *changes
                .entry((request.client, request.sequence))
                .or_default() += 1;
        }
        let faults = &store.faults;
        let query = request.opcode == Opcode::Query;
        let routed =
            is_change && request.scope != PunchScope::Object || request.opcode == Opcode::Get;
        let early = if !query && Faults::take(&faults.busy) {
            Some(WireStatus::BUSY)
        } else if is_change && Faults::take(&faults.claim_damage) {
            Some(WireStatus::DAMAGED)
        } else if routed && target_of(request.object, request.dkey, self.targets) != self.index {
            Some(WireStatus::WRONG_TARGET)
        } else {
            None
        };
        if let Some(status) = early {
            let reply = self.reply(&request, status);
            return self.send(&request, &reply);
        }
        let said = {
            let mut names = store.names.lock().unwrap();
            match request.opcode {
                Opcode::Query => None,
                opcode if (opcode as u16) < Opcode::ContCreate as u16 => names.refusal(&request),
                _ => Some(names.answer(&request, &store)),
            }
        };
        if let Some((status, more, count, inline)) = said {
            let mut reply = self.reply(&request, status);
            (reply.more, reply.count) = (more, count);
            reply.checksum = crc32c(&inline);
            reply.inline = &inline;
            return self.send(&request, &reply);
        }
        match request.opcode {
            Opcode::Put => match request.rma {
                Some(rma) => {
                    let Ok(peer) = self.endpoint.resolve(request.address) else {
                        return;
                    };
                    let memory = vec![0; rma.len as usize];
                    let then = Then::Store(message.to_vec());
                    self.submit(FabricOp::READ, peer, memory, Some(rma), then);
                }
                None => self.put(&request, Some(request.inline.to_vec())),
            },
            Opcode::Get => self.get(&request, message),
            Opcode::Punch => self.punch(&request),
            Opcode::ArrayPut | Opcode::ArrayGet | Opcode::ArrayPunch | Opcode::ArrayQuery => {
                self.array(&request, message);
            }
            Opcode::ListDkeys | Opcode::ListAkeys => self.list(&request),
            _ => {
                store.queries.fetch_add(1, Ordering::SeqCst);
                let mut reply = self.reply(&request, WireStatus::OK);
                (reply.count, reply.targets) = (self.index, self.targets);
                (reply.total, reply.free) = (1 << 30, 1 << 29);
                self.send(&request, &reply);
            }
        }
    }

    fn put(&mut self, request: &Request<'_>, value: Option<Vec<u8>>) {
        let status = match value {
            None => WireStatus::UNREACHABLE,
            Some(value) if crc32c(&value) != request.checksum => WireStatus::DAMAGED,
            Some(value) => {
                let mut values = self.store.values.lock().unwrap();
                values
                    .entry(name(request))
                    .or_default()
                    .insert(request.akey.to_vec(), (value, request.checksum));
                WireStatus::OK
            }
        };
        if !Faults::take(&self.store.faults.swallow_replies) {
            let reply = self.reply(request, status);
            self.send(request, &reply);
        }
    }

    fn lookup(&self, request: &Request<'_>) -> Option<(Vec<u8>, u32)> {
        let values = self.store.values.lock().unwrap();
        values.get(&name(request))?.get(request.akey).cloned()
    }

    fn get(&mut self, request: &Request<'_>, message: &[u8]) {
        self.store.gets.fetch_add(1, Ordering::SeqCst);
        let Some((mut value, checksum)) = self.lookup(request) else {
            let reply = self.reply(request, WireStatus::NOT_FOUND);
            return self.send(request, &reply);
        };
        let mut reply = self.reply(request, WireStatus::OK);
        (reply.value_len, reply.checksum) = (value.len() as u64, checksum);
        if !value.is_empty() && Faults::take(&self.store.faults.damage_values) {
            let middle = value.len() / 2;
            value[middle] ^= 1;
        }
        if value.len() <= INLINE_MAX {
            reply.inline = &value;
            return self.send(request, &reply);
        }
        match request.rma {
            Some(rma) if rma.len >= value.len() as u64 => {
                let Ok(peer) = self.endpoint.resolve(request.address) else {
                    return;
                };
                let then = Then::Answer(message.to_vec());
                self.submit(FabricOp::WRITE, peer, value, Some(rma), then);
            }
            _ => {
                reply.status = WireStatus::NO_ROOM;
                reply.checksum = 0;
                self.send(request, &reply);
            }
        }
    }

    fn punch(&mut self, request: &Request<'_>) {
        {
            let mut values = self.store.values.lock().unwrap();
            let (index, targets) = (self.index, self.targets);
            match request.scope {
                PunchScope::Akey => {
                    if let Some(akeys) = values.get_mut(&name(request)) {
                        akeys.remove(request.akey);
                        if akeys.is_empty() {
                            values.remove(&name(request));
                        }
                    }
                }
                PunchScope::Dkey => drop(values.remove(&name(request))),
                _ => values.retain(|(pool, container, object, dkey), _| {
                    (*pool, *container, *object)
                        != (request.pool, request.container, request.object)
                        || target_of(*object, dkey, targets) != index
                }),
            }
        }
        if !Faults::take(&self.store.faults.swallow_replies) {
            let reply = self.reply(request, WireStatus::OK);
            self.send(request, &reply);
        }
    }

    fn list(&mut self, request: &Request<'_>) {
        let keys: Vec<Vec<u8>> = {
            let values = self.store.values.lock().unwrap();
            if request.opcode == Opcode::ListAkeys {
                let akeys = values.get(&name(request));
                let behind = (Bound::Excluded(request.akey.to_vec()), Bound::Unbounded);
                akeys.map_or_else(Vec::new, |akeys| {
                    akeys.range(behind).map(|(akey, _)| akey.clone()).collect()
                })
            } else {
                let behind = (Bound::Excluded(name(request)), Bound::Unbounded);
                values
                    .range(behind)
                    .map(|(name, _)| name)
                    .take_while(|name| {
                        (name.0, name.1, name.2)
                            == (request.pool, request.container, request.object)
                    })
                    .map(|name| name.3.clone())
                    .filter(|dkey| target_of(request.object, dkey, self.targets) == self.index)
                    .collect()
            }
        };
        let page = self.store.faults.page.load(Ordering::SeqCst);
        let limit = [request.limit, page]
            .into_iter()
            .filter(|limit| *limit > 0)
            .min()
            .map_or(usize::MAX, |limit| limit as usize);
        let mut buffer = vec![0; INLINE_MAX];
        let mut writer = ListWriter::new(&mut buffer);
        let mut written = 0;
        for key in keys.iter().take(limit) {
            if !writer.push(key) {
                break;
            }
            written += 1;
        }
        let (used, count) = writer.finish();
        let mut reply = self.reply(request, WireStatus::OK);
        reply.more = written < keys.len();
        reply.count = count;
        reply.inline = &buffer[..used];
        reply.checksum = crc32c(reply.inline);
        self.send(request, &reply);
    }
}

pub(super) fn name(request: &Request<'_>) -> super::DkeyName {
    (
        request.pool,
        request.container,
        request.object,
        request.dkey.to_vec(),
    )
}
