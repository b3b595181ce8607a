//! A device in memory that does one thing wrong, at the write or read that the settings name: `flip`, `lose`,
//! `misdirect`, `tear` (the n-th write), `rot` (the n-th read returns other data and keeps them), `fail` (the n-th read),
//! `gone` (everything after the n-th write), `health`.

use daos_plugin_api::abi::{BdevGeometry, BdevOp, Completion, Request, Status, Wait};
use daos_plugin_api::control::{
    ClassRequest, DeviceSpec, DeviceState, FormatReport, FormatRequest, ScanReport,
};
use daos_plugin_api::host::{BdevDevice, CallOptions, Instance, InstanceOptions};
use daos_plugin_api::sdk::thunks::table;
use daos_plugin_api::sdk::{Bdev, BdevPlugin, BdevQueue, CallContext, Host, Plugin, Result};
use serde_json::{Map, Value};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) const BLOCK: usize = 512;
pub(crate) const BLOCKS: u64 = 8192;

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    writes: u64,
    reads: u64,
    /// Block of the write that went wrong.
    hit: Option<u64>,
}

pub(crate) struct Faulty {
    state: Arc<Mutex<State>>,
    fault: String,
    at: u64,
}

daos_plugin_api::declare_plugin!(Faulty, bdev);

pub(crate) struct Device(Arc<Faulty>);
pub(crate) struct Queue {
    device: Arc<Faulty>,
    done: VecDeque<Completion>,
}

impl Plugin for Faulty {
    const MANIFEST: &'static str = r#"{"name": "faulty", "version": "1.0.0", "classes": [{"kind": "bdev", "name": "faulty"}]}"#;

    fn create(_: Host, _: CallContext<'_>, settings: Map<String, Value>) -> Result<Self> {
        let (fault, at) = settings
            .iter()
            .next()
            .map_or_else(Default::default, |(fault, at)| {
                (fault.clone(), at.as_u64().unwrap_or(0))
            });
        let bytes = vec![0; BLOCK * BLOCKS as usize];
        let state = Arc::new(Mutex::new(State {
            bytes,
            ..State::default()
        }));
        Ok(Self { state, fault, at })
    }

    fn validate(&self, _: CallContext<'_>, _: ClassRequest) -> Result<()> {
        Ok(())
    }

    fn scan(&self, _: CallContext<'_>) -> Result<ScanReport> {
        Ok(ScanReport::default())
    }

    fn devices(&self, _: CallContext<'_>, _: ClassRequest) -> Result<Vec<DeviceSpec>> {
        Ok(Vec::new())
    }

    fn format(&self, _: CallContext<'_>, _: FormatRequest) -> Result<FormatReport> {
        Ok(FormatReport::default())
    }
}

impl BdevPlugin for Faulty {
    type Device = Device;

    fn open(&self, _: CallContext<'_>, _: DeviceSpec) -> Result<Device> {
        Ok(Device(Arc::new(Self {
            state: Arc::clone(&self.state),
            fault: self.fault.clone(),
            at: self.at,
        })))
    }
}

impl Bdev for Device {
    type Queue = Queue;

    fn geometry(&self) -> BdevGeometry {
        BdevGeometry {
            block_size: BLOCK as u32,
            buffer_alignment: 1,
            block_count: BLOCKS,
            max_transfer_blocks: 128,
            max_segments: 1,
            atomic_write_blocks: 1,
            deallocate_granularity: 0,
            max_queues: 4,
            max_queue_depth: 8,
            scratch_size: 0,
            numa_node: -1,
            admin_poll_us: 0,
            reserved: 0,
            flags: 0,
        }
    }

    fn open_queue(&self, _: CallContext<'_>, _: u32) -> Result<Queue> {
        Ok(Queue {
            device: Arc::clone(&self.0),
            done: VecDeque::new(),
        })
    }
}

impl Faulty {
    /// # Safety
    /// The memory that the request names is valid.
    unsafe fn execute(&self, request: &Request) -> Status {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if request.op == BdevOp::FLUSH {
            return Status::OK;
        }
        let (mut at, len) = (
            request.lba as usize * BLOCK,
            request.blocks as usize * BLOCK,
        );
        assert!(at + len <= state.bytes.len());
        // SAFETY: one segment, as the geometry says; the caller vouches for it.
        let memory = unsafe { std::slice::from_raw_parts_mut((*request.iov).ptr, len) };
        let counter = if request.op == BdevOp::WRITE {
            &mut state.writes
        } else {
            &mut state.reads
        };
        *counter += 1;
        let is_it = *counter == self.at;
        let fault = if is_it { &*self.fault } else { "" };
        if self.fault == "gone" && state.writes > self.at {
            return Status::DEVICE_GONE;
        }
        match (request.op, fault) {
            (BdevOp::READ, "fail") => return Status::MEDIA,
            (BdevOp::READ, fault) => {
                if fault == "rot" {
                    state.bytes[at + 5] ^= 0x10;
                }
                memory.copy_from_slice(&state.bytes[at..at + len]);
            }
            (_, fault @ ("flip" | "lose" | "misdirect" | "tear")) => {
                state.hit = Some(request.lba);
                if fault == "lose" {
                    return Status::OK;
                }
                if fault == "misdirect" {
                    // To its neighbour.
                    at -= len;
                }
                let written = if fault == "tear" { BLOCK / 2 } else { len };
                state.bytes[at..at + written].copy_from_slice(&memory[..written]);
                if fault == "flip" {
                    state.bytes[at + 100] ^= 0x04;
                }
            }
            _ => state.bytes[at..at + len].copy_from_slice(memory),
        }
        Status::OK
    }
}

impl BdevQueue for Queue {
    unsafe fn submit(&mut self, requests: &[Request]) -> Result<usize, Status> {
        for request in requests {
            // SAFETY: the caller keeps the request's memory valid until it completes.
            let status = unsafe { self.device.execute(request) };
            self.done.push_back(Completion {
                tag: request.tag,
                status,
                reserved: 0,
            });
        }
        Ok(requests.len())
    }

    fn poll(&mut self, out: &mut [Completion]) -> Result<usize, Status> {
        let count = out.len().min(self.done.len());
        for slot in &mut out[..count] {
            *slot = self.done.pop_front().expect("counted");
        }
        Ok(count)
    }

    fn arm_wait(&mut self) -> Wait {
        Wait::BUSY
    }
}

/// Opens a device with that fault.
pub(crate) fn open(fault: &str, at: u64) -> BdevDevice {
    let settings = Map::from_iter([(fault.to_owned(), at.into())]);
    let options = InstanceOptions::built_in().settings(settings);
    let instance = Instance::create(table::<Faulty>(), options).expect("an instance");
    let spec = DeviceSpec {
        class: "faulty".to_owned(),
        index: 0,
        address: "faulty0".to_owned(),
        size: 0,
        state: DeviceState::Present,
        detail: String::new(),
        config: Map::new(),
    };
    instance
        .open_bdev(&spec, CallOptions::default())
        .expect("a device")
}
