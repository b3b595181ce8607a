//! A client that sends what it is told, when it is told: to repeat, delay and overtake.

use daos_plugin_api::abi::{
    FABRIC_LOCAL, FABRIC_REMOTE_READ, FabricCompletion, FabricOp, FabricRequest,
};
use daos_plugin_api::control::FabricOpenRequest;
use daos_plugin_api::host::{CallOptions, Endpoint, FabricDomain, FabricMemory};
use daos_wire::{
    ArrayRange, EngineUri, ObjectId, Opcode, PunchScope, REPLY_MAX, REPLY_TAG, REQUEST_TAG, Reply,
    Request, RmaDescriptor, TAG_IGNORE, ValueKind, WireStatus, crc32c,
};
use std::collections::HashMap;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// What a reply says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    pub sequence: u64,
    pub status: WireStatus,
    pub count: u32,
}

/// Memory that the plugin has during an operation.
#[repr(align(64))]
struct Scratch([u8; 256]);

/// One endpoint of a client.
pub struct Raw {
    endpoint: Endpoint, // first: dropped before the memory below
    memory: HashMap<u64, (Vec<u8>, Box<Scratch>)>,
    values: Vec<(FabricMemory, Vec<u8>)>,
    domain: FabricDomain,
    next: u64,
    pub client: Uuid,
    address: Vec<u8>,
    target: u64,
    said: Vec<Said>,
    is_connected: bool,
}

impl Raw {
    /// An endpoint for target `target` of an engine, with room for a hundred replies.
    pub fn new(client: Uuid, uri: &EngineUri, target: usize) -> Self {
        let request = FabricOpenRequest {
            provider: super::fabric::provider().into(),
            interface: "lo".into(),
            port: 0,
            answers: false,
            config: serde_json::Map::new(),
        };
        let domain = super::fabric::instance()
            .open_fabric(&request, CallOptions::default())
            .expect("a domain");
        assert!(domain.info().scratch_size as usize <= size_of::<Scratch>());
        let mut endpoint = domain
            .open_endpoint(CallOptions::default())
            .expect("an endpoint");
        let target = endpoint.resolve(&uri.targets[target]).expect("resolved");
        let mut raw = Self {
            address: endpoint.address().expect("an address"),
            endpoint,
            memory: HashMap::new(),
            values: Vec::new(),
            domain,
            next: 0,
            client,
            target,
            said: Vec::new(),
            is_connected: false,
        };
        for _ in 0..100 {
            raw.submit(FabricOp::RECV, vec![0; REPLY_MAX]);
        }
        raw
    }

    /// The same with a connection that is set up, so that what is sent goes out at once and nothing of this side's need be
    /// looked at for that.
    pub fn connected(client: Uuid, uri: &EngineUri, target: usize) -> Self {
        let mut raw = Self::new(client, uri, target);
        let said = raw.ask(&Request::new(Opcode::Query, Uuid::nil(), 0, &[]));
        assert_eq!(said.status, WireStatus::OK);
        raw.is_connected = true;
        raw
    }

    fn submit(&mut self, op: FabricOp, mut memory: Vec<u8>) {
        self.next += 1;
        let mut scratch = Box::new(Scratch([0; 256]));
        let request = FabricRequest {
            op,
            reserved: [0; 7],
            peer: if op == FabricOp::RECV { 0 } else { self.target },
            tag: if op == FabricOp::RECV {
                REPLY_TAG
            } else {
                REQUEST_TAG
            },
            ignore: TAG_IGNORE,
            ptr: memory.as_mut_ptr(),
            len: memory.len(),
            descriptor: 0,
            remote_addr: 0,
            remote_key: 0,
            user: self.next,
            scratch: scratch.0.as_mut_ptr(),
        };
        // SAFETY: memory and scratch stay in the map until the completion is polled or the endpoint is
        // gone.
        let taken = unsafe { self.endpoint.submit(&[request]) };
        assert_eq!(taken, Ok(1), "tests stay below the limits");
        self.memory.insert(self.next, (memory, scratch));
    }

    /// Sends a request, and does nothing else yet.
    pub fn send(&mut self, request: &Request<'_>) {
        let mut message = vec![0; request.encoded_len()];
        let request = Request {
            client: self.client,
            address: &self.address,
            ..request.clone()
        };
        let len = request.encoded_len();
        message.resize(len, 0);
        request.encode(&mut message).expect("a valid request");
        self.submit(FabricOp::SEND, message);
        // Over libfabric it leaves at once where there is a connection, and a look might serve what it asks for.
        if !self.is_connected || super::fabric::provider() == "tcp" {
            self.poll();
        }
    }

    /// Sends all, and does nothing else yet: what they want of this side's memory waits.
    pub fn send_all(&mut self, requests: &[Request<'_>]) {
        for request in requests {
            let request = Request {
                client: self.client,
                address: &self.address,
                ..request.clone()
            };
            let mut message = vec![0; request.encoded_len()];
            request.encode(&mut message).expect("a valid request");
            self.submit(FabricOp::SEND, message);
        }
        self.poll();
    }

    /// Offers a value for RMA.
    pub fn offer(&mut self, value: &[u8]) -> RmaDescriptor {
        let mut value = value.to_vec();
        let rights = FABRIC_LOCAL | FABRIC_REMOTE_READ;
        // SAFETY: the memory is kept beside its registration, which is dropped first.
        let memory = unsafe {
            self.domain
                .register(value.as_mut_ptr(), value.len(), rights)
        }
        .expect("registered");
        let rma = RmaDescriptor {
            key: memory.key(),
            addr: memory.base(),
            len: value.len() as u64,
        };
        self.values.push((memory, value));
        rma
    }

    /// Makes progress; returns replies that have come.
    pub fn turn(&mut self) -> Vec<Said> {
        self.poll();
        std::mem::take(&mut self.said)
    }

    fn poll(&mut self) {
        let mut done = [FabricCompletion::EMPTY; 32];
        let count = self.endpoint.poll(&mut done).expect("polled");
        for completion in &done[..count] {
            let (memory, _) = self.memory.remove(&completion.user).expect("under way");
            if completion.op == FabricOp::RECV {
                let reply = Reply::decode(&memory[..completion.len as usize]).expect("a reply");
                assert_eq!(reply.client, self.client);
                self.said.push(Said {
                    sequence: reply.sequence,
                    status: reply.status,
                    count: reply.count,
                });
                self.submit(FabricOp::RECV, vec![0; REPLY_MAX]);
            }
        }
    }

    /// Waits for one reply.
    pub fn wait(&mut self) -> Said {
        let start = Instant::now();
        loop {
            let said = self.turn();
            assert!(said.len() <= 1, "more replies than requests: {said:?}");
            if let Some(said) = said.first() {
                return *said;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "no reply");
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Sends and waits.
    pub fn ask(&mut self, request: &Request<'_>) -> Said {
        self.send(request);
        let said = self.wait();
        assert_eq!(said.sequence, request.sequence);
        said
    }
}

pub const OBJECT: ObjectId = ObjectId { hi: 1, lo: 2 };

/// A put of a small value.
pub fn put<'a>(sequence: u64, settled: u64, dkey: &'a [u8], value: &'a [u8]) -> Request<'a> {
    Request {
        settled,
        pool: super::POOL,
        container: super::CONTAINER,
        object: OBJECT,
        dkey,
        akey: b"a",
        kind: ValueKind::Single,
        value_len: value.len() as u64,
        checksum: crc32c(value),
        inline: value,
        ..Request::new(Opcode::Put, Uuid::nil(), sequence, &[])
    }
}

/// A put of a large value.
pub fn put_rma<'a>(sequence: u64, dkey: &'a [u8], value: &[u8], rma: RmaDescriptor) -> Request<'a> {
    Request {
        value_len: value.len() as u64,
        checksum: crc32c(value),
        rma: Some(rma),
        ..put(sequence, 0, dkey, &[])
    }
}

/// A punch of a dkey.
pub fn punch(sequence: u64, settled: u64, dkey: &[u8]) -> Request<'_> {
    Request {
        opcode: Opcode::Punch,
        scope: PunchScope::Dkey,
        kind: ValueKind::None,
        akey: &[],
        value_len: 0,
        checksum: 0,
        ..put(sequence, settled, dkey, &[])
    }
}

/// A write of bytes of an array that stand in memory of the client, or in the message.
pub fn array_put<'a>(
    sequence: u64,
    offset: u64,
    bytes: &'a [u8],
    rma: Option<RmaDescriptor>,
) -> Request<'a> {
    Request {
        opcode: Opcode::ArrayPut,
        kind: ValueKind::Array,
        array: ArrayRange {
            offset,
            count: bytes.len() as u64,
            record_size: 1,
        },
        rma,
        value_len: bytes.len() as u64,
        checksum: crc32c(bytes),
        inline: if rma.is_some() { &[] } else { bytes },
        ..put(sequence, 0, b"k", b"")
    }
}
