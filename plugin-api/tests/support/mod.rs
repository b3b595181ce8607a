//! A memory-backed bdev plugin for the tests of the interface: complete, and wrong on demand.
//!
//! The setting `defect` names one thing it does wrong; see the uses of `Defect`.

use daos_plugin_api::abi::{
    BdevEvent, BdevGeometry, BdevOp, Completion, IoVec, Request, Status, Wait,
};
use daos_plugin_api::control::{
    ClassKind, ClassRequest, DeviceRecord, DeviceSpec, DeviceState, FormatReport, FormatRequest,
    ScanReport,
};
use daos_plugin_api::sdk::{Bdev, BdevPlugin, BdevQueue, CallContext, Error, Host, Plugin, Result};
use serde_json::{Map, Value};
use std::collections::{HashSet, VecDeque};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) const BLOCK: usize = 512;
pub(crate) const BLOCKS: u64 = 4096;
const MAX_BLOCKS: u64 = 256;
const MAX_SEGMENTS: u32 = 16;
const MAX_DEPTH: u32 = 64;
const MAX_QUEUES: u32 = 4;

type Defect = Arc<str>;

struct Disk {
    bytes: Mutex<Vec<u8>>,
    open: Mutex<bool>,
}

pub(crate) struct MemoryBdev {
    disks: [Arc<Disk>; 2],
    defect: Defect,
    host: Host,
}

daos_plugin_api::declare_plugin!(MemoryBdev, bdev);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn invalid(what: &str) -> Error {
    Error::new(Status::INVALID, what)
}

impl Plugin for MemoryBdev {
    const MANIFEST: &'static str = r#"{
        "name": "test-memory", "version": "0.1.0",
        "classes": [{"kind": "bdev", "name": "memory",
                     "schema": {"type": "object", "properties": {"bdev_number": {"type": "integer"}}}}]
    }"#;

    fn create(host: Host, _: CallContext<'_>, settings: Map<String, Value>) -> Result<Self> {
        let text = settings.get("defect").and_then(Value::as_str);
        let disk = || {
            Arc::new(Disk {
                bytes: Mutex::new(vec![0; BLOCK * BLOCKS as usize]),
                open: Mutex::new(false),
            })
        };
        Ok(Self {
            disks: [disk(), disk()],
            defect: text.unwrap_or_default().into(),
            host,
        })
    }

    fn thread_attach(&self) -> Result<()> {
        assert!(&*self.defect != "panic in thread_attach", "as asked");
        Ok(())
    }

    fn validate(&self, _: CallContext<'_>, request: ClassRequest) -> Result<()> {
        if &*self.defect == "accepts any config" {
            return Ok(());
        }
        match request.config.get("bdev_number").and_then(Value::as_u64) {
            Some(1 | 2) => Ok(()),
            _ => Err(invalid("bdev_number must be 1 or 2")),
        }
    }

    fn scan(&self, _: CallContext<'_>) -> Result<ScanReport> {
        Ok(ScanReport {
            devices: vec![record(0)],
            ..ScanReport::default()
        })
    }

    fn devices(&self, _: CallContext<'_>, request: ClassRequest) -> Result<Vec<DeviceSpec>> {
        self.host.metric(
            daos_plugin_api::abi::MetricKind::COUNTER,
            "devices_calls",
            "calls",
            "calls of devices",
        );
        let count = request.config.get("bdev_number").and_then(Value::as_u64);
        Ok((0..count.unwrap_or(1).min(2) as u32)
            .map(|index| DeviceSpec {
                class: request.class.clone(),
                index,
                address: format!("memory{index}"),
                size: BLOCK as u64 * BLOCKS,
                state: DeviceState::Present,
                detail: String::new(),
                config: request.config.clone(),
            })
            .collect())
    }

    fn format(&self, _: CallContext<'_>, request: FormatRequest) -> Result<FormatReport> {
        let disk = self.disk(&request.device)?;
        if *lock(&disk.open) {
            let what = format!("{} is open", request.device.address);
            return Err(Error::new(Status::BUSY, what));
        }
        lock(&disk.bytes).fill(0);
        Ok(FormatReport::default())
    }
}

fn record(index: usize) -> DeviceRecord {
    DeviceRecord {
        kind: ClassKind::Bdev,
        class: "memory".into(),
        address: format!("memory{index}"),
        model: "test memory".into(),
        serial: String::new(),
        firmware: String::new(),
        size: BLOCK as u64 * BLOCKS,
        block_size: BLOCK as u32,
        numa_node: -1,
        in_use: None,
        details: Map::new(),
    }
}

impl MemoryBdev {
    fn disk(&self, device: &DeviceSpec) -> Result<&Arc<Disk>> {
        let known = self.disks.get(device.index as usize);
        known
            .filter(|_| device.address == format!("memory{}", device.index))
            .ok_or_else(|| Error::new(Status::NOT_FOUND, format!("no device {}", device.address)))
    }
}

impl BdevPlugin for MemoryBdev {
    type Device = Device;

    fn open(&self, _: CallContext<'_>, device: DeviceSpec) -> Result<Device> {
        let disk = self.disk(&device)?;
        let mut open = lock(&disk.open);
        if *open && &*self.defect != "second open succeeds" {
            return Err(Error::new(
                Status::BUSY,
                format!("{} is open", device.address),
            ));
        }
        *open = true;
        if &*self.defect == "loses data at close" {
            lock(&disk.bytes).fill(0);
        }
        Ok(Device {
            disk: Arc::clone(disk),
            index: device.index as usize,
            queues: Arc::new(AtomicU32::new(0)),
            epoch: Arc::new(AtomicU32::new(0)),
            defect: Arc::clone(&self.defect),
        })
    }
}

pub(crate) struct Device {
    disk: Arc<Disk>,
    index: usize,
    queues: Arc<AtomicU32>,
    epoch: Arc<AtomicU32>,
    defect: Defect,
}

impl Drop for Device {
    fn drop(&mut self) {
        *lock(&self.disk.open) = false;
    }
}

impl Bdev for Device {
    type Queue = Queue;

    fn geometry(&self) -> BdevGeometry {
        BdevGeometry {
            block_size: BLOCK as u32,
            buffer_alignment: 1,
            block_count: BLOCKS,
            max_transfer_blocks: MAX_BLOCKS as u32,
            max_segments: MAX_SEGMENTS,
            atomic_write_blocks: 1,
            deallocate_granularity: 4,
            max_queues: MAX_QUEUES,
            max_queue_depth: MAX_DEPTH,
            scratch_size: 24,
            numa_node: -1,
            admin_poll_us: 0,
            reserved: 0,
            flags: BdevGeometry::WRITE_ZEROES | BdevGeometry::COMPARE,
        }
    }

    fn open_queue(&self, _: CallContext<'_>, depth: u32) -> Result<Queue> {
        if !(1..=MAX_DEPTH).contains(&depth) {
            return Err(invalid("the depth is out of range"));
        }
        if self.queues.fetch_add(1, Ordering::SeqCst) >= MAX_QUEUES {
            self.queues.fetch_sub(1, Ordering::SeqCst);
            return Err(Error::new(Status::BUSY, "all queues are in use"));
        }
        Ok(Queue {
            disk: Arc::clone(&self.disk),
            queues: Arc::clone(&self.queues),
            epoch: Arc::clone(&self.epoch),
            seen_epoch: self.epoch.load(Ordering::SeqCst),
            depth: depth as usize,
            pending: VecDeque::new(),
            aborted: HashSet::new(),
            polls: 0,
            defect: Arc::clone(&self.defect),
        })
    }

    fn next_event(&self) -> Option<BdevEvent> {
        None
    }

    fn reset(&self, _: CallContext<'_>) -> Result<()> {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn identity(&self, _: CallContext<'_>) -> Result<DeviceRecord> {
        Ok(record(self.index))
    }

    fn health(&self, _: CallContext<'_>) -> Result<Map<String, Value>> {
        Ok(Map::new())
    }
}

/// Executes requests while polled, so that abort, reset and close meet outstanding ones.
pub(crate) struct Queue {
    disk: Arc<Disk>,
    queues: Arc<AtomicU32>,
    epoch: Arc<AtomicU32>,
    seen_epoch: u32,
    depth: usize,
    pending: VecDeque<Request>,
    aborted: HashSet<u64>,
    polls: u64,
    defect: Defect,
}

impl Drop for Queue {
    fn drop(&mut self) {
        if &*self.defect == "writes after close" {
            let requests: Vec<_> = self.pending.drain(..).collect();
            let late: Vec<(usize, usize)> = requests
                .iter()
                // SAFETY: the request is still outstanding.
                .flat_map(|r| unsafe { parts(r) })
                .map(|p| (p.ptr.addr(), p.len))
                .collect();
            std::thread::spawn(move || {
                std::thread::sleep(std::time::Duration::from_millis(1));
                // Through the file: on a busy machine the memory may be unmapped by now, which is
                // an error there and would be the end of the process here.
                let memory = std::fs::OpenOptions::new()
                    .write(true)
                    .open("/proc/self/mem")
                    .expect("this process's memory");
                for (address, len) in late {
                    let _ = memory.write_at(&vec![0x66; len], address as u64);
                }
            });
        }
        self.queues.fetch_sub(1, Ordering::SeqCst);
    }
}

/// # Safety
/// The request is outstanding, so its iovecs are readable.
unsafe fn parts(request: &Request) -> &[IoVec] {
    if request.iov_count == 0 {
        return &[];
    }
    // SAFETY: the caller vouches for it.
    unsafe { std::slice::from_raw_parts(request.iov, request.iov_count as usize) }
}

impl Queue {
    fn defect(&self, name: &str) -> bool {
        &*self.defect == name
    }

    fn check(&self, r: &Request) -> Result<(), Status> {
        let data = [BdevOp::READ, BdevOp::WRITE, BdevOp::COMPARE].contains(&r.op);
        let ranged = data || [BdevOp::UNMAP, BdevOp::WRITE_ZEROES].contains(&r.op);
        if !ranged {
            return if r.op == BdevOp::FLUSH {
                Ok(())
            } else {
                Err(Status::INVALID)
            };
        }
        let end = r.lba.checked_add(r.blocks);
        if end.is_none_or(|end| end > BLOCKS) && !self.defect("reads beyond the end") {
            return Err(Status::INVALID);
        }
        if r.blocks == 0 && !self.defect("zero blocks succeed") {
            return Err(Status::INVALID);
        }
        if data {
            if r.blocks > MAX_BLOCKS || r.iov_count > MAX_SEGMENTS {
                return Err(Status::INVALID);
            }
            // SAFETY: the request is outstanding.
            let sum = unsafe { parts(r) }
                .iter()
                .try_fold(0usize, |sum, p| sum.checked_add(p.len));
            if sum != Some(r.blocks as usize * BLOCK) && !self.defect("ignores the sum") {
                return Err(Status::INVALID);
            }
        }
        Ok(())
    }

    fn execute(&mut self, r: &Request) -> Status {
        if let Err(status) = self.check(r) {
            return status;
        }
        let mut disk = lock(&self.disk.bytes);
        if r.op == BdevOp::FLUSH {
            return Status::OK;
        }
        let start = (r.lba.min(BLOCKS) as usize) * BLOCK;
        let end = (start + r.blocks as usize * BLOCK).min(disk.len());
        let mut rest = &mut disk[start..end];
        if r.op == BdevOp::WRITE_ZEROES || r.op == BdevOp::UNMAP {
            rest.fill(u8::from(self.defect("zeroes are ones")));
            return Status::OK;
        }
        // SAFETY: the request is outstanding.
        for part in unsafe { parts(r) } {
            let (bytes, tail) = rest.split_at_mut(part.len.min(rest.len()));
            rest = tail;
            // SAFETY: the memory belongs to the device while the request is outstanding.
            let memory = unsafe { std::slice::from_raw_parts_mut(part.ptr, bytes.len()) };
            match r.op {
                BdevOp::READ => memory.copy_from_slice(bytes),
                BdevOp::WRITE => bytes.copy_from_slice(memory),
                _ if memory != bytes => return Status::MISCOMPARE,
                _ => {}
            }
            if self.defect("moves one segment") {
                break;
            }
        }
        Status::OK
    }
}

impl BdevQueue for Queue {
    unsafe fn submit(&mut self, requests: &[Request]) -> Result<usize, Status> {
        assert!(!self.defect("panic in submit"), "as asked");
        if self.epoch.load(Ordering::SeqCst) != self.seen_epoch {
            return Ok(0);
        }
        let room = if self.defect("ignores the depth") {
            usize::MAX
        } else {
            self.depth - self.pending.len()
        };
        let taken = requests.len().min(room);
        self.pending.extend(&requests[..taken]);
        Ok(taken)
    }

    fn poll(&mut self, completions: &mut [Completion]) -> Result<usize, Status> {
        self.polls += 1;
        if self.defect("never completes") {
            return Ok(0);
        }
        if self.defect("completes twice") && self.polls == 60 && !completions.is_empty() {
            completions[0] = Completion {
                tag: 1,
                status: Status::OK,
                reserved: 0,
            };
            return Ok(1);
        }
        let quiesced = self.epoch.load(Ordering::SeqCst) != self.seen_epoch;
        let mut n = 0;
        while n < completions.len() {
            let Some(request) = self.pending.pop_front() else {
                break;
            };
            let status = if self.aborted.remove(&request.tag) {
                Status::CANCELLED
            } else if quiesced {
                Status::RESET
            } else {
                self.execute(&request)
            };
            completions[n] = Completion {
                tag: request.tag,
                status,
                reserved: 0,
            };
            n += 1;
        }
        Ok(n)
    }

    fn arm_wait(&mut self) -> Wait {
        if self.defect("sleeps through completions") {
            // Standard input of a test never becomes readable in time; a pipe's read end neither.
            return Wait {
                timeout_us: 0,
                ..Wait::fd(silent_descriptor())
            };
        }
        Wait::BUSY
    }

    fn abort(&mut self, tag: u64) -> Result<(), Status> {
        if !self.pending.iter().any(|r| r.tag == tag) {
            return Err(Status::NOT_FOUND);
        }
        if self.defect("abort swallows the request") {
            self.pending.retain(|r| r.tag != tag);
        } else {
            self.aborted.insert(tag);
        }
        Ok(())
    }

    fn reconnect(&mut self) -> Result<(), Status> {
        self.seen_epoch = self.epoch.load(Ordering::SeqCst);
        Ok(())
    }
}

/// A descriptor that is never readable: the reading end of a pipe whose other end stays open.
fn silent_descriptor() -> i32 {
    use std::os::fd::AsRawFd;
    static PIPE: std::sync::OnceLock<(std::io::PipeReader, std::io::PipeWriter)> =
        std::sync::OnceLock::new();
    PIPE.get_or_init(|| std::io::pipe().expect("a pipe"))
        .0
        .as_raw_fd()
}
