//! An engine for tests: a few targets over fabric-tcp on the loopback, values in memory, faults on
//! demand. It is an implementation of daos-wire on its own, so that the client is not tested
//! against its own reading of the protocol.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]

mod array;
pub mod control;
pub mod names;
mod target;

pub use names::Names;

use daos_client::{EngineUri, Uuid};
use daos_plugin_api::control::FabricOpenRequest;
use daos_plugin_api::host::{CallOptions, FabricDomain, Instance, InstanceOptions};
use daos_wire::ObjectId;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use target::Target;

/// Names everything under a dkey.
type DkeyName = (Uuid, Uuid, ObjectId, Vec<u8>);

/// Value and checksum, by akey.
type Akeys = BTreeMap<Vec<u8>, (Vec<u8>, u32)>;

/// An array, without holes.
pub struct Array {
    pub record_size: u64,
    pub bytes: Vec<u8>,
}

/// What the engine stores; survives its restarts.
#[derive(Default)]
pub struct Store {
    /// By dkey.
    pub values: Mutex<BTreeMap<DkeyName, Akeys>>,
    /// By dkey and akey.
    pub arrays: Mutex<BTreeMap<(DkeyName, Vec<u8>), Array>>,
    /// Pools and containers that exist.
    pub names: Mutex<Names>,
    /// How often each change of each client arrived, by client and sequence.
    pub changes: Mutex<HashMap<(Uuid, u64), u32>>,
    /// Gets that arrived.
    pub gets: AtomicU32,
    /// Queries that arrived.
    pub queries: AtomicU32,
    pub faults: Faults,
}

/// Each number counts down with every message it applies to.
#[derive(Default)]
pub struct Faults {
    /// Changes are carried out and not answered.
    pub swallow_replies: AtomicU32,
    /// Gets answer with another value than stored, under the stored checksum.
    pub damage_values: AtomicU32,
    /// Everything is answered with BUSY.
    pub busy: AtomicU32,
    /// Changes are answered as damaged on their way.
    pub claim_damage: AtomicU32,
    /// Nothing is read or answered while set.
    pub frozen: AtomicBool,
    /// Replies begin with nonsense.
    pub garbage: AtomicBool,
    /// Keys per listing at most; 0 = as many as fit.
    pub page: AtomicU32,
}

impl Faults {
    fn take(number: &AtomicU32) -> bool {
        number
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
            .is_ok()
    }
}

/// A running engine; dropped, it dies without a word, as if killed.
pub struct FakeEngine {
    pub uri: EngineUri,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

pub fn open_domain() -> FabricDomain {
    let built_in = daos_plugin_api::sdk::built_ins()
        .find(|b| b.manifest.contains("\"fabric-tcp\""))
        .expect("fabric-tcp is linked in");
    let instance = Instance::create((built_in.table)(), InstanceOptions::built_in()).unwrap();
    let request = FabricOpenRequest {
        provider: "tcp".into(),
        interface: "lo".into(),
        port: 0,
        answers: true,
        config: serde_json::Map::new(),
    };
    instance
        .open_fabric(&request, CallOptions::default())
        .unwrap()
}

impl FakeEngine {
    pub fn start(store: &Arc<Store>, targets: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, addresses) = mpsc::channel();
        let (own_store, own_stop) = (store.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let domain = open_domain();
            let mut all: Vec<Target> = (0..targets)
                .map(|index| Target::new(&domain, own_store.clone(), index, targets))
                .collect();
            ready
                .send(all.iter().map(Target::address).collect())
                .unwrap();
            while !own_stop.load(Ordering::SeqCst) {
                let mut busy = false;
                if !own_store.faults.frozen.load(Ordering::SeqCst) {
                    for target in &mut all {
                        busy |= target.turn();
                    }
                }
                if !busy {
                    std::thread::sleep(std::time::Duration::from_micros(200));
                }
            }
        });
        Self {
            uri: EngineUri {
                provider: "tcp".into(),
                targets: addresses.recv().unwrap(),
            },
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.expect("the engine's thread did not panic");
            }
        }
    }
}
