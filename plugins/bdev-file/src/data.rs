//! Data face: opening a file as a device.

use crate::config::{BLOCK, CLASS, invalid};
use crate::create::{allocated, foreign};
use bdev_uring::{
    Engine, FdDevice, FdQueue, Opened, Registrations, Shape, Target, UnmapMode, ZeroMode, holders,
    until_released,
};
use daos_plugin_api::abi::{BdevEvent, BdevGeometry, Status};
use daos_plugin_api::control::{ClassKind, DeviceRecord};
use daos_plugin_api::sdk::{Bdev, CallContext, Error, Result};
use rustix::fs::{AtFlags, FlockOperation, OFlags, StatxFlags, flock, fstat, fstatfs, statx};
use rustix::io::Errno;
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// `TMPFS_MAGIC` of <linux/magic.h>.
const TMPFS: i64 = 0x0102_1994;

/// How often an open file is looked at.
const WATCH_PERIOD_US: u32 = 1_000_000;

/// An open file.
pub struct FileDevice {
    device: FdDevice,
    record: DeviceRecord,
    events: Mutex<VecDeque<BdevEvent>>,
}

/// Refuses what is no regular file.
pub(crate) fn require_regular(found: &Metadata, path: &Path) -> Result<()> {
    if found.is_file() {
        return Ok(());
    }
    let error = invalid(format!("{} is no regular file", path.display()));
    Err(if found.file_type().is_block_device() {
        error.remedy("use bdev_class kdev for block devices")
    } else {
        error.remedy("correct bdev_list")
    })
}

/// Takes the lock that makes a file ours.
pub(crate) fn lock(file: &File, path: &Path) -> Result<()> {
    let cannot = |error| Error::io(format!("cannot lock {}", path.display()), error);
    let found = identity(file).map_err(cannot)?;
    let taken = until_released(found, 1, || {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(())),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(cannot(error.into())),
        }
    })?;
    if taken.is_some() {
        return Ok(());
    }
    Err(
        Error::new(Status::BUSY, format!("{} is in use", path.display()))
            .cause(holder(file))
            .remedy("stop the process that holds it, or correct bdev_list"),
    )
}

/// Whether somebody holds the lock, and who.
pub(crate) fn in_use(file: &File) -> Option<String> {
    match flock(file, FlockOperation::NonBlockingLockShared) {
        Err(Errno::WOULDBLOCK) => Some(holder(file)),
        _ => {
            // Goes with the descriptor anyway.
            let _ = flock(file, FlockOperation::Unlock);
            None
        }
    }
}

fn identity(file: &File) -> io::Result<Opened> {
    file.metadata().map(|found| Opened::File {
        dev: found.dev(),
        ino: found.ino(),
    })
}

fn holder(file: &File) -> String {
    let names = identity(file).map(holders).unwrap_or_default();
    if names.is_empty() {
        return "it is locked by this process or one that cannot be seen".to_owned();
    }
    format!("it is open in {}", names.join(", "))
}

/// Alignment that direct I/O on the file asks for, 1 if it is not direct at all.
enum Access {
    Direct(u32),
    Cached,
}

fn open_file(path: &Path) -> io::Result<(File, Access)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    let direct = options
        .clone()
        .custom_flags(OFlags::DIRECT.bits() as i32)
        .open(path);
    match direct {
        Ok(file) => {
            if let Some(alignment) = direct_alignment(&file) {
                return Ok((file, Access::Direct(alignment)));
            }
        }
        Err(error) if error.kind() == ErrorKind::InvalidInput => {}
        Err(error) => return Err(error),
    }
    Ok((options.open(path)?, Access::Cached))
}

/// `None` if the file system only pretends to do direct I/O, or not in our blocks.
fn direct_alignment(file: &File) -> Option<u32> {
    if fstatfs(file).is_ok_and(|fs| fs.f_type == TMPFS) {
        return None;
    }
    match statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN) {
        Ok(found) if found.stx_mask & StatxFlags::DIOALIGN.bits() != 0 => {
            let (memory, offset) = (found.stx_dio_mem_align, found.stx_dio_offset_align);
            let usable = memory > 0 && memory.is_power_of_two() && (1..=BLOCK).contains(&offset);
            usable.then(|| memory.max(offset).next_power_of_two())
        }
        // Before Linux 6.1, and file systems that do not say: a block is enough for all we know.
        _ => Some(BLOCK),
    }
}

impl FileDevice {
    /// Opens `path`, which has `size` bytes (0 = whatever it has), exclusively.
    pub(crate) fn open(
        path: &str,
        size: u64,
        memory: Arc<Registrations>,
        engine: Engine,
        unmap: UnmapMode,
    ) -> Result<Self> {
        let shown = path;
        let path = Path::new(path);
        let examine = |e| Error::io(format!("cannot open {shown}"), e);
        let found = path.metadata().map_err(|e| {
            let missing = e.kind() == ErrorKind::NotFound;
            let error = examine(e);
            if missing {
                error.remedy("format the storage, which makes the file")
            } else {
                error
            }
        })?;
        require_regular(&found, path)?;
        let (file, access) = open_file(path).map_err(examine)?;
        lock(&file, path)?;
        let found = file.metadata().map_err(examine)?;
        let len = found.len();
        if len == 0 || len % u64::from(BLOCK) != 0 || (size != 0 && len != size) {
            return Err(foreign(path, len, size));
        }
        if allocated(&found) < len {
            tracing::warn!(
                "{shown} has holes ({} of {len} bytes are allocated): writes may find the file \
                 system full",
                allocated(&found)
            );
        }
        let (alignment, direct) = match access {
            Access::Direct(alignment) => (alignment, true),
            Access::Cached => (1, false),
        };
        let shape = Shape {
            block_size: BLOCK,
            size: len,
            buffer_alignment: alignment,
            zero: ZeroMode::Range,
            unmap,
            unmap_granularity: 1,
            // Neither the page cache nor, without a flush, the disk below survives a power failure.
            volatile_cache: true,
            numa_node: -1,
            admin_poll_us: WATCH_PERIOD_US,
        };
        let device = FdDevice::new(shown, Target::new(file.into(), shape), memory, engine)?;
        let record = DeviceRecord {
            kind: ClassKind::Bdev,
            class: CLASS.to_owned(),
            address: shown.to_owned(),
            model: "file".to_owned(),
            serial: String::new(),
            firmware: String::new(),
            size: len,
            block_size: BLOCK,
            numa_node: -1,
            in_use: None,
            details: Map::from_iter([
                ("direct_io".to_owned(), json!(direct)),
                ("io_engine".to_owned(), json!(device.engine().name())),
            ]),
        };
        Ok(Self {
            device,
            record,
            events: Mutex::default(),
        })
    }
}

impl Bdev for FileDevice {
    type Queue = FdQueue;

    fn geometry(&self) -> BdevGeometry {
        self.device.target().geometry()
    }

    fn open_queue(&self, _call: CallContext<'_>, depth: u32) -> Result<FdQueue> {
        self.device.open_queue(depth)
    }

    /// A file that was deleted or cut is a device that is gone: what is written to it would be found
    /// by nobody, or would fill it with holes.
    fn poll_admin(&self) -> Result<(), Status> {
        let target = self.device.target();
        if target.is_gone() {
            return Ok(());
        }
        let address = &self.record.address;
        match fstat(target.fd()) {
            Ok(found) if found.st_nlink == 0 => tracing::error!("{address} was deleted"),
            Ok(found) if (found.st_size as u64) < self.record.size => {
                let size = self.record.size;
                tracing::error!("{address} was cut to {} of {size} bytes", found.st_size);
            }
            Ok(_) => return Ok(()),
            Err(error) => tracing::error!("{address}: {error}"),
        }
        target.set_gone();
        let removed = BdevEvent {
            kind: BdevEvent::REMOVED,
            reserved: 0,
            value: 0,
        };
        self.events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(removed);
        Ok(())
    }

    fn next_event(&self) -> Option<BdevEvent> {
        self.events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    }

    fn identity(&self, _call: CallContext<'_>) -> Result<DeviceRecord> {
        Ok(self.record.clone())
    }

    fn health(&self, _call: CallContext<'_>) -> Result<Map<String, Value>> {
        Ok(self.device.health())
    }
}
