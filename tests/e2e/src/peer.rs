//! A client of an engine's own making: it sends what it is told, well-formed or not, and stops when it is told.
//! Besides `session`, the only `unsafe` of this crate.

use crate::place::Place;
use daos_loader::{Catalogue, Policy};
use daos_plugin_api::abi::{
    FABRIC_LOCAL, FABRIC_REMOTE_READ, FABRIC_REMOTE_WRITE, FabricCompletion, FabricOp,
    FabricRequest,
};
use daos_plugin_api::control::FabricOpenRequest;
use daos_plugin_api::host::{
    CallOptions, Endpoint, FabricDomain, FabricMemory, Instance, InstanceOptions,
};
use daos_wire::{
    ObjectId, Opcode, REPLY_MAX, REPLY_TAG, REQUEST_TAG, Reply, Request, RmaDescriptor, TAG_IGNORE,
    ValueKind, WireStatus, crc32c,
};
use fabric_tcp as _; // registers itself; the linker drops what nothing refers to
use std::collections::HashMap;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Replies that a peer has room for.
const REPLIES: usize = 16;
/// How long to wait for a reply before the request is repeated.
const AGAIN: Duration = Duration::from_millis(250);
/// How long a reply may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Memory that is lent to the fabric: it moves no more, and ends with its registration.
struct Lent {
    // Declared before the memory: ends first.
    registration: FabricMemory,
    memory: Box<[u8]>,
}

impl Lent {
    fn new(domain: &FabricDomain, mut bytes: Vec<u8>) -> Self {
        if bytes.is_empty() {
            bytes.push(0); // there is no registration of nothing
        }
        let mut memory = bytes.into_boxed_slice();
        let rights = FABRIC_LOCAL | FABRIC_REMOTE_READ | FABRIC_REMOTE_WRITE;
        // SAFETY: the memory stays where it is until the registration has ended.
        let registration = unsafe { domain.register(memory.as_mut_ptr(), memory.len(), rights) }
            .expect("memory can be registered");
        Self {
            registration,
            memory,
        }
    }
}

/// A cache line; plugins want their scratch aligned to it.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// An operation under way: its memory and the plugin's.
struct Operation {
    memory: Lent,
    _scratch: Box<[Line]>,
}

/// What a reply says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Which request it answers.
    pub sequence: u64,
    /// How that ended.
    pub status: WireStatus,
    /// The value, if it stands in the message; else an explanation.
    pub inline: Vec<u8>,
}

/// One endpoint, talking to one target.
pub struct Peer {
    endpoint: Endpoint, // first: dropped before the memory below
    operations: HashMap<u64, Operation>,
    offered: Vec<Lent>,
    fabric: Fabric,
    place: Place,
    next: u64,
    client: Uuid,
    address: Vec<u8>,
    target: u64,
    said: Vec<Said>,
    /// How often a request had to be sent again.
    pub repeats: u32,
}

/// A provider of this process, for any number of peers.
#[derive(Clone)]
pub struct Fabric {
    domain: FabricDomain,
    _instance: Instance,
}

impl Fabric {
    /// Opens the provider of a place.
    ///
    /// # Panics
    /// That fails.
    pub fn open(place: &Place) -> Self {
        let policy = Policy::default();
        let built_ins = daos_plugin_api::sdk::built_ins();
        let catalogue = Catalogue::build(place.plugins_dir.as_deref(), built_ins, &policy);
        let provider = &place.uri.provider;
        let info = catalogue
            .find_provider(provider)
            .unwrap_or_else(|e| panic!("no plugin of {provider}: {e}"));
        let options = match info.is_built_in() {
            true => InstanceOptions::built_in(),
            false => InstanceOptions::loaded(),
        };
        let loaded = daos_loader::load(info, &policy).unwrap_or_else(|e| panic!("{e}"));
        let instance = Instance::create(loaded.table, options).unwrap_or_else(|e| panic!("{e}"));
        let request = FabricOpenRequest {
            provider: provider.clone(),
            interface: place.iface.clone(),
            port: 0,
            answers: false,
            config: serde_json::Map::new(),
        };
        let domain = instance
            .open_fabric(&request, CallOptions::default())
            .unwrap_or_else(|e| panic!("{e}"));
        Self {
            domain,
            _instance: instance,
        }
    }
}

impl Peer {
    /// A client with an endpoint of its own that talks to a target.
    ///
    /// # Panics
    /// The endpoint cannot be opened.
    pub fn new(fabric: &Fabric, place: &Place, target: usize, client: Uuid) -> Self {
        let mut endpoint = fabric
            .domain
            .open_endpoint(CallOptions::default())
            .unwrap_or_else(|e| panic!("{e}"));
        let target = endpoint
            .resolve(&place.uri.targets[target])
            .expect("the engine's address is one");
        let mut peer = Self {
            address: endpoint.address().expect("an address"),
            endpoint,
            operations: HashMap::new(),
            offered: Vec::new(),
            fabric: fabric.clone(),
            place: place.clone(),
            next: 0,
            client,
            target,
            said: Vec::new(),
            repeats: 0,
        };
        for _ in 0..REPLIES {
            peer.submit(FabricOp::RECV, vec![0; REPLY_MAX]);
        }
        peer
    }

    fn submit(&mut self, op: FabricOp, bytes: Vec<u8>) {
        self.next += 1;
        let len = bytes.len();
        let mut memory = Lent::new(&self.fabric.domain, bytes);
        let lines = (self.fabric.domain.info().scratch_size as usize).div_ceil(64);
        let mut scratch = vec![Line([0; 64]); lines].into_boxed_slice();
        let is_receive = op == FabricOp::RECV;
        let request = FabricRequest {
            op,
            reserved: [0; 7],
            peer: if is_receive { 0 } else { self.target },
            tag: if is_receive { REPLY_TAG } else { REQUEST_TAG },
            ignore: TAG_IGNORE,
            ptr: memory.memory.as_mut_ptr(),
            len,
            descriptor: memory.registration.descriptor(),
            remote_addr: 0,
            remote_key: 0,
            user: self.next,
            scratch: if lines == 0 {
                std::ptr::null_mut()
            } else {
                scratch.as_mut_ptr().cast()
            },
        };
        // SAFETY: memory and scratch stay where they are, in the map, until the completion is polled or
        // the endpoint is gone.
        let taken = unsafe { self.endpoint.submit(&[request]) };
        self.operations.insert(
            self.next,
            Operation {
                memory,
                _scratch: scratch,
            },
        );
        assert_eq!(taken, Ok(1), "tests stay below the limits");
    }

    /// Sends bytes that need not be a request.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.submit(FabricOp::SEND, bytes.to_vec());
        // What has come meanwhile is for who waits: a reply may be faster than this.
        self.progress();
    }

    /// Its own address, as its requests carry it.
    pub fn address(&self) -> &[u8] {
        &self.address
    }

    /// A request of this client as it goes over the wire.
    ///
    /// # Panics
    /// It is none that can be encoded.
    pub fn encoded(&self, request: &Request<'_>) -> Vec<u8> {
        let request = Request {
            client: self.client,
            pool: self.place.pool,
            container: self.place.container,
            address: &self.address,
            ..request.clone()
        };
        let mut message = vec![0; request.encoded_len()];
        request.encode(&mut message).expect("a valid request");
        message
    }

    /// Sends a request.
    pub fn send(&mut self, request: &Request<'_>) {
        let message = self.encoded(request);
        self.send_bytes(&message);
    }

    /// Offers memory to the engine.
    pub fn offer(&mut self, bytes: Vec<u8>) -> RmaDescriptor {
        let lent = Lent::new(&self.fabric.domain, bytes);
        let rma = RmaDescriptor {
            key: lent.registration.key(),
            addr: lent.registration.base(),
            len: lent.memory.len() as u64,
        };
        self.offered.push(lent);
        rma
    }

    /// Makes progress; returns replies that have come.
    ///
    /// # Panics
    /// The endpoint fails, or what arrives is no reply.
    pub fn poll(&mut self) -> Vec<Said> {
        self.progress();
        std::mem::take(&mut self.said)
    }

    fn progress(&mut self) {
        let mut done = [FabricCompletion::EMPTY; 32];
        let count = self.endpoint.poll(&mut done).expect("a working endpoint");
        for completion in &done[..count] {
            let ended = self.operations.remove(&completion.user);
            let ended = ended.expect("an operation ends once");
            if completion.op != FabricOp::RECV {
                continue;
            }
            if completion.status.is_ok() {
                let bytes = &ended.memory.memory[..completion.len as usize];
                let reply = Reply::decode(bytes).expect("a reply");
                if reply.client == self.client {
                    self.said.push(Said {
                        sequence: reply.sequence,
                        status: reply.status,
                        inline: reply.inline.to_vec(),
                    });
                }
            }
            self.submit(FabricOp::RECV, vec![0; REPLY_MAX]);
        }
    }

    /// Makes progress until everything has been sent, and lets go of what comes.
    ///
    /// # Panics
    /// That takes too long.
    pub fn flush(&mut self) {
        let until = Instant::now() + PATIENCE;
        while self.operations.len() > REPLIES {
            assert!(Instant::now() < until, "messages are stuck");
            self.poll();
        }
    }

    /// Makes progress for a while and lets go of what comes.
    pub fn idle(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.poll();
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// The reply to a request, if it comes in time; replies to others are let go of.
    pub fn wait(&mut self, sequence: u64, limit: Duration) -> Option<Said> {
        let until = Instant::now() + limit;
        loop {
            let mut said = self.poll();
            said.retain(|said| said.sequence == sequence);
            if let Some(said) = said.pop() {
                return Some(said);
            }
            if Instant::now() > until {
                return None;
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// Sends a request until there is a reply, as clients do: what was sent while a connection ended is lost.
    ///
    /// # Panics
    /// None comes.
    #[track_caller]
    pub fn ask(&mut self, request: &Request<'_>) -> Said {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            self.send(request);
            if let Some(said) = self.wait(request.sequence, AGAIN) {
                return said;
            }
            self.repeats += 1;
        }
        panic!("no reply to request {} in {PATIENCE:?}", request.sequence)
    }
}

/// Where the peers of an engine store things.
pub const OBJECT: ObjectId = ObjectId { hi: 7, lo: 9 };

/// A dkey that a target is asked for, as one of `targets`.
pub fn dkey_of(target: u32, targets: u32) -> Vec<u8> {
    let mut keys = (0u32..).map(|n| n.to_be_bytes().to_vec());
    keys.find(|dkey| daos_wire::target_of(OBJECT, dkey, targets) == target)
        .expect("keys are spread over all targets")
}

/// A put of a small value.
pub fn put<'a>(sequence: u64, dkey: &'a [u8], value: &'a [u8]) -> Request<'a> {
    Request {
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

/// A put of a value in memory of the client.
pub fn put_rma<'a>(sequence: u64, dkey: &'a [u8], value: &[u8], rma: RmaDescriptor) -> Request<'a> {
    Request {
        value_len: value.len() as u64,
        checksum: crc32c(value),
        inline: &[],
        rma: Some(rma),
        ..put(sequence, dkey, &[])
    }
}

/// A get of a small value.
pub fn get(sequence: u64, dkey: &[u8]) -> Request<'_> {
    Request {
        opcode: Opcode::Get,
        value_len: 0,
        checksum: 0,
        ..put(sequence, dkey, &[])
    }
}
