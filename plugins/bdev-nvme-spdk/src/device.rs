//! A device: one namespace of a controller.

use crate::config::Name;
use crate::controller::{Attached, Events, Phase, lock, namespace_info};
use crate::queue::{Limits, SpdkQueue};
use crate::sys;
use crate::task::SCRATCH_SIZE;
use daos_plugin_api::abi::{BdevEvent, BdevGeometry, Status};
use daos_plugin_api::control::{ClassKind, DeviceRecord, HealthRecord};
use daos_plugin_api::sdk::{Bdev, CallContext, Error, Result};
use serde_json::{Map, Value};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// How often the host looks after the controller, in microseconds: soon enough for a removal that
/// the kernel waits for, rare enough to cost nothing.
const ADMIN_POLL_US: u32 = 10_000;

/// Most pieces of memory of a request. The driver takes more; this bounds the commands that one
/// request can fall into on controllers without scatter lists.
const MAX_SEGMENTS: u32 = 32;

/// NVMe wants memory aligned to double words.
const ALIGNMENT: u32 = 4;

/// Open namespaces: each is opened once.
pub(crate) type OpenNames = Arc<Mutex<Vec<Name>>>;

/// An open namespace.
pub struct SpdkDevice {
    controller: Arc<Attached>,
    ns: *mut sys::spdk_nvme_ns,
    /// Attached and namespace, in one spelling.
    name: Name,
    text: String,
    /// As the config spells it.
    address: String,
    open_names: OpenNames,
    info: sys::daos_spdk_namespace_info,
    blocks: AtomicU64,
    events: Arc<Events>,
    flush_after: bool,
}

// SAFETY: the namespace belongs to the controller, which lives as long; the driver only reads it
// in the calls made here.
unsafe impl Send for SpdkDevice {}
// SAFETY: as above.
unsafe impl Sync for SpdkDevice {}

impl SpdkDevice {
    /// Opens namespace `id` of the controller (the first active one if `None`), which the config
    /// calls `address`. `flush_after`: forced unit access is a flush after the write.
    pub(crate) fn open(
        controller: Arc<Attached>,
        id: Option<u32>,
        address: &str,
        open_names: &OpenNames,
        flush_after: bool,
    ) -> Result<Self> {
        let id = id.unwrap_or_else(|| controller.first_namespace());
        let name = Name {
            controller: controller.address.clone(),
            namespace: Some(id),
        };
        let ns = controller.namespace(id).ok_or_else(|| {
            Error::new(
                Status::NOT_FOUND,
                format!(
                    "controller {} has no active namespace {id}",
                    controller.address
                ),
            )
        })?;
        let info = namespace_info(ns);
        if info.metadata_size != 0 || !info.block_size.is_power_of_two() {
            return Err(Error::new(
                Status::NOT_SUPPORTED,
                format!("namespace {name} has a format we cannot use"),
            )
            .cause(format!(
                "{} bytes of data and {} of metadata per block",
                info.block_size, info.metadata_size
            ))
            .remedy("format it with blocks of 512 or 4096 bytes and no metadata"));
        }
        let mut names = lock(open_names);
        if names.contains(&name) {
            return Err(Error::new(
                Status::BUSY,
                format!("namespace {name} is open already"),
            ));
        }
        names.push(name.clone());
        drop(names);
        let events = Arc::new(Events::default());
        controller.listen(&events);
        Ok(Self {
            blocks: AtomicU64::new(info.blocks),
            controller,
            ns,
            text: name.to_string(),
            name,
            address: address.to_owned(),
            open_names: open_names.clone(),
            info,
            events,
            flush_after,
        })
    }

    /// Attached and number of the namespace.
    pub(crate) fn name(&self) -> &str {
        &self.text
    }

    /// Bytes.
    pub(crate) fn size(&self) -> u64 {
        self.blocks.load(Ordering::Relaxed) * u64::from(self.info.block_size)
    }

    /// Whether the command NVMe Format may be used on the namespace.
    ///
    /// # Errors
    /// NOT_SUPPORTED where the controller has no such command; BUSY where the command would reach further than this
    /// namespace, or another controller may have it as well.
    pub(crate) fn check_nvme_format(&self) -> Result<()> {
        if self.info.shared {
            return Err(Error::new(
                Status::BUSY,
                format!("NVMe Format of {} is refused", self.text),
            )
            .cause("other controllers may have this namespace, too")
            .remedy("detach it from them, or format without --nvme-format"));
        }
        self.controller
            .check_nvme_format(self.name.namespace.unwrap_or(1))
    }

    /// Erases the namespace by the command NVMe Format; its format of blocks stays as it is.
    ///
    /// # Errors
    /// As of [`Self::check_nvme_format`], with nothing erased; the command fails.
    pub(crate) fn nvme_format(&self) -> Result<()> {
        self.check_nvme_format()?;
        self.controller
            .nvme_format(self.name.namespace.unwrap_or(1))
    }

    fn limits(&self) -> Limits {
        Limits {
            block_size: self.info.block_size,
            blocks: self.blocks.load(Ordering::Relaxed),
            max_transfer_blocks: self.info.max_transfer_bytes / self.info.block_size,
            max_segments: MAX_SEGMENTS,
            misaligned: ALIGNMENT as usize - 1,
            any_pieces: self.controller.info.any_pieces,
            unmap: self.info.deallocate_blocks != 0,
            write_zeroes: self.info.write_zeroes,
            compare: self.info.compare,
            flush_after: self.flush_after,
        }
    }
}

impl Bdev for SpdkDevice {
    type Queue = SpdkQueue;

    fn geometry(&self) -> BdevGeometry {
        let limits = self.limits();
        let controller = &self.controller.info;
        let flag = |condition, flag| if condition { flag } else { 0 };
        BdevGeometry {
            block_size: limits.block_size,
            buffer_alignment: ALIGNMENT,
            block_count: limits.blocks,
            max_transfer_blocks: limits.max_transfer_blocks,
            max_segments: limits.max_segments,
            atomic_write_blocks: self.info.atomic_blocks,
            deallocate_granularity: self.info.deallocate_blocks,
            max_queues: controller.io_queues,
            max_queue_depth: controller.queue_depth,
            scratch_size: SCRATCH_SIZE,
            numa_node: controller.numa_node,
            admin_poll_us: ADMIN_POLL_US,
            reserved: 0,
            flags: flag(controller.volatile_cache, BdevGeometry::VOLATILE_CACHE)
                | flag(limits.write_zeroes, BdevGeometry::WRITE_ZEROES)
                | flag(limits.compare, BdevGeometry::COMPARE),
        }
    }

    fn open_queue(&self, _call: CallContext<'_>, depth: u32) -> Result<SpdkQueue> {
        if depth == 0 || depth > self.controller.info.queue_depth {
            return Err(Error::new(
                Status::INVALID,
                format!("{} cannot have a queue of depth {depth}", self.name),
            )
            .remedy(format!("use 1 to {}", self.controller.info.queue_depth)));
        }
        SpdkQueue::open(&self.controller, self.ns, self.limits(), depth)
    }

    fn poll_admin(&self) -> Result<(), Status> {
        self.controller.poll()?;
        if self.controller.phase() == Phase::Removed {
            return Ok(());
        }
        // SAFETY: the namespace lives as long as the controller.
        let blocks = unsafe { sys::spdk_nvme_ns_get_num_sectors(self.ns) };
        if blocks != 0 && self.blocks.swap(blocks, Ordering::Relaxed) != blocks {
            self.events.push(BdevEvent::RESIZED, blocks);
        }
        Ok(())
    }

    fn next_event(&self) -> Option<BdevEvent> {
        self.events.pop()
    }

    fn reset(&self, _call: CallContext<'_>) -> Result<()> {
        self.controller.reset()
    }

    fn identity(&self, _call: CallContext<'_>) -> Result<DeviceRecord> {
        let controller = &self.controller.info;
        Ok(DeviceRecord {
            kind: ClassKind::Bdev,
            class: crate::config::CLASS.to_owned(),
            address: self.address.clone(),
            model: controller.model.clone(),
            serial: controller.serial.clone(),
            firmware: controller.firmware.clone(),
            size: self.size(),
            block_size: self.info.block_size,
            numa_node: controller.numa_node,
            in_use: None,
            details: Map::new(),
        })
    }

    fn health(&self, _call: CallContext<'_>) -> Result<Map<String, Value>> {
        let page = self.controller.health_page()?;
        let health = HealthRecord::from_nvme_smart(&page).map(serde_json::to_value);
        match health {
            Some(Ok(Value::Object(health))) => Ok(health),
            _ => Err(Error::new(
                Status::INTERNAL,
                format!("the health of {} cannot be written down", self.text),
            )),
        }
    }
}

impl Drop for SpdkDevice {
    fn drop(&mut self) {
        lock(&self.open_names).retain(|name| *name != self.name);
    }
}
