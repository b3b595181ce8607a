//! Data face: an exclusively opened block device and the watch over it.

use crate::config::CLASS;
use crate::in_use;
use crate::sysfs::{Block, Sysfs};
use bdev_uring::{
    Engine, FdDevice, FdQueue, Registrations, Shape, Target, UnmapMode, ZeroMode, until_released,
};
use daos_plugin_api::abi::{BdevEvent, BdevGeometry, Status};
use daos_plugin_api::control::{ClassKind, DeviceRecord};
use daos_plugin_api::sdk::{Bdev, CallContext, Error, Result};
use rustix::fs::OFlags;
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Period at which removal and resizing are looked for, in microseconds.
const WATCH_PERIOD_US: u32 = 1_000_000;

/// Opens the node of `block` for nobody else; `direct` for I/O past the page cache.
pub(crate) fn open_exclusive(block: &Block, direct: bool) -> Result<File> {
    let node = block.node();
    let what = || format!("cannot open {node}");
    // The kernel opens write-protected devices all the same, and fails each write.
    if block.is_read_only() {
        return Err(Error::new(Status::PERMISSION, what())
            .cause("the device is read-only")
            .remedy("lift the write protection, or take another device"));
    }
    let flags = if direct {
        OFlags::EXCL | OFlags::DIRECT
    } else {
        OFlags::EXCL
    };
    let taken = until_released(in_use::opened(block), 0, || {
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags.bits() as i32)
            .open(&node);
        match opened {
            Ok(file) => Ok(Some(file)),
            Err(error) => match error.kind() {
                ErrorKind::ResourceBusy => match in_use::visible(block) {
                    Some(reason) => Err(busy(&node, reason)),
                    None => Ok(None),
                },
                ErrorKind::PermissionDenied => Err(Error::io(what(), error)
                    .remedy("run as a user who may write to the device (group disk), or as root")),
                _ => Err(Error::io(what(), error)),
            },
        }
    })?;
    taken.ok_or_else(|| busy(&node, in_use::taken(block)))
}

fn busy(node: &str, reason: String) -> Error {
    Error::new(Status::BUSY, format!("{node} is in use"))
        .cause(reason)
        .remedy("stop its user, or take another device")
}

/// Record of a device as scan and identity show it.
pub(crate) fn record(block: &Block, address: &str) -> DeviceRecord {
    let mut details = Map::new();
    if let Some(file) = block.loop_file() {
        details.insert("backing_file".to_owned(), json!(file));
    }
    let partitions: Vec<_> = block.partitions().iter().map(Block::node).collect();
    if !partitions.is_empty() {
        details.insert("partitions".to_owned(), json!(partitions));
    }
    details.insert(
        "discard".to_owned(),
        json!(block.discard_granularity().is_some()),
    );
    details.insert(
        "volatile_cache".to_owned(),
        json!(block.has_volatile_cache()),
    );
    details.insert(
        "rotational".to_owned(),
        json!(block.queue("rotational") == Some(1)),
    );
    DeviceRecord {
        kind: ClassKind::Bdev,
        class: CLASS.to_owned(),
        address: address.to_owned(),
        model: block.model(),
        serial: block.serial(),
        firmware: block.firmware(),
        size: block.size().unwrap_or(0),
        block_size: block.logical_block(),
        numa_node: block.numa_node(),
        in_use: None,
        details,
    }
}

/// An open kernel block device.
pub struct KernelDevice {
    device: FdDevice,
    record: DeviceRecord,
    watch: Mutex<Watch>,
}

/// What is looked at from time to time.
struct Watch {
    sysfs: Sysfs,
    block: Block,
    size: u64,
    removed: bool,
    events: VecDeque<BdevEvent>,
}

impl Watch {
    fn event(&mut self, kind: u32, value: u64) {
        self.events.push_back(BdevEvent {
            kind,
            reserved: 0,
            value,
        });
    }

    fn look(&mut self, target: &Target) {
        if self.removed {
            return;
        }
        // A number can be given to another device later; its directory has the same name only if
        // it is the same one.
        let now = self
            .sysfs
            .block(self.block.number)
            .filter(|now| now.name == self.block.name);
        match now.and_then(|now| now.size()) {
            Some(size) if size > 0 && !target.is_gone() => {
                if size != self.size {
                    self.size = size;
                    self.event(
                        BdevEvent::RESIZED,
                        size / u64::from(target.shape().block_size),
                    );
                }
            }
            _ => {
                self.removed = true;
                target.set_gone();
                self.event(BdevEvent::REMOVED, 0);
            }
        }
    }
}

impl KernelDevice {
    pub(crate) fn open(
        sysfs: &Sysfs,
        block: &Block,
        address: &str,
        memory: Arc<Registrations>,
        engine: Engine,
    ) -> Result<Self> {
        let file = open_exclusive(block, true)?;
        let block_size = block.logical_block();
        let size = block.size().unwrap_or(0) / u64::from(block_size) * u64::from(block_size);
        if size == 0 {
            return Err(
                Error::new(Status::DEVICE_GONE, format!("{address} has no medium"))
                    .remedy("attach one, or take another device"),
            );
        }
        let discard = block.discard_granularity();
        let granularity = discard.unwrap_or(0) / u64::from(block_size);
        let shape = Shape {
            block_size,
            size,
            // Segments are cut at logical blocks; some controllers want more than that.
            buffer_alignment: block
                .queue("dma_alignment")
                .and_then(|mask| u32::try_from(mask + 1).ok())
                .filter(|alignment| alignment.is_power_of_two())
                .unwrap_or(1)
                .max(block_size),
            zero: ZeroMode::Range,
            unmap: if discard.is_some() {
                UnmapMode::Discard
            } else {
                UnmapMode::None
            },
            unmap_granularity: u32::try_from(granularity).unwrap_or(u32::MAX).max(1),
            volatile_cache: block.has_volatile_cache(),
            numa_node: block.numa_node(),
            admin_poll_us: WATCH_PERIOD_US,
        };
        let device = FdDevice::new(address, Target::new(file.into(), shape), memory, engine)?;
        let mut record = record(block, address);
        record.size = size;
        record
            .details
            .insert("io_engine".to_owned(), json!(device.engine().name()));
        Ok(Self::watched(
            device,
            record,
            sysfs.clone(),
            block.clone(),
            size,
        ))
    }

    fn watched(
        device: FdDevice,
        record: DeviceRecord,
        sysfs: Sysfs,
        block: Block,
        size: u64,
    ) -> Self {
        let watch = Watch {
            sysfs,
            block,
            size,
            removed: false,
            events: VecDeque::new(),
        };
        Self {
            device,
            record,
            watch: Mutex::new(watch),
        }
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bdev for KernelDevice {
    type Queue = FdQueue;

    fn geometry(&self) -> BdevGeometry {
        self.device.target().geometry()
    }

    fn open_queue(&self, _call: CallContext<'_>, depth: u32) -> Result<FdQueue> {
        self.device.open_queue(depth)
    }

    fn poll_admin(&self) -> Result<(), Status> {
        self.watch().look(self.device.target());
        Ok(())
    }

    fn next_event(&self) -> Option<BdevEvent> {
        self.watch().events.pop_front()
    }

    fn identity(&self, _call: CallContext<'_>) -> Result<DeviceRecord> {
        Ok(self.record.clone())
    }

    fn health(&self, _call: CallContext<'_>) -> Result<Map<String, Value>> {
        Ok(self.device.health())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sysfs::{DevNumber, tests::fake};
    use daos_plugin_api::abi::{BdevOp, Completion, IoVec, Request};
    use daos_plugin_api::sdk::BdevQueue;

    #[test]
    fn removal_and_resizing_become_events_and_a_gone_device_stays_gone() {
        let root = tempfile::tempdir().unwrap();
        fake(root.path(), "sdx", "8:77", &[("size", "2048")]);
        let sysfs = Sysfs::at(root.path());
        let block = sysfs
            .block(DevNumber {
                major: 8,
                minor: 77,
            })
            .unwrap();
        let shape = Shape {
            block_size: 512,
            size: 1 << 20,
            buffer_alignment: 1,
            zero: ZeroMode::Range,
            unmap: UnmapMode::None,
            unmap_granularity: 1,
            volatile_cache: true,
            numa_node: -1,
            admin_poll_us: WATCH_PERIOD_US,
        };
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        let target = Target::new(file.into(), shape);
        let device = FdDevice::new("sdx", target, Arc::default(), Engine::Auto).unwrap();
        let record = record(&block, "/dev/sdx");
        let device = KernelDevice::watched(device, record, sysfs, block, 1 << 20);
        let mut queue = device.device.open_queue(4).unwrap();
        let mut data = [0u8; 512];
        let iov = [IoVec {
            ptr: data.as_mut_ptr(),
            len: 512,
        }];
        let read = |tag| Request {
            op: BdevOp::READ,
            flags: 0,
            reserved: 0,
            iov_count: 1,
            lba: 0,
            blocks: 1,
            iov: iov.as_ptr(),
            tag,
            scratch: std::ptr::null_mut(),
        };
        let mut run = |tag| {
            // SAFETY: `iov` and `data` live longer than the queue's use of them below.
            assert_eq!(unsafe { queue.submit(&[read(tag)]) }, Ok(1));
            let mut done = [Completion {
                tag: 0,
                status: Status::OK,
                reserved: 0,
            }];
            while queue.poll(&mut done).unwrap() == 0 {}
            assert_eq!(done[0].tag, tag);
            done[0].status
        };

        device.poll_admin().unwrap();
        assert_eq!(device.next_event(), None);
        assert_eq!(run(1), Status::OK);
        fake(root.path(), "sdx", "8:77", &[("size", "4096")]);
        device.poll_admin().unwrap();
        device.poll_admin().unwrap();
        let resized = BdevEvent {
            kind: BdevEvent::RESIZED,
            reserved: 0,
            value: 4096,
        };
        assert_eq!(device.next_event(), Some(resized));
        assert_eq!(device.next_event(), None);
        // Another device gets the number.
        fake(root.path(), "sdy", "8:77", &[("size", "4096")]);
        device.poll_admin().unwrap();
        device.poll_admin().unwrap();
        let removed = BdevEvent {
            kind: BdevEvent::REMOVED,
            reserved: 0,
            value: 0,
        };
        assert_eq!(device.next_event(), Some(removed));
        assert_eq!(device.next_event(), None);
        assert_eq!(run(2), Status::DEVICE_GONE);
        assert_eq!(device.device.health()["status"], "gone");
    }
}
