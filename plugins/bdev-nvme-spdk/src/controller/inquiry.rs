//! What a controller says about itself and its namespaces.

use super::{Attached, Phase, lock};
use crate::sys;
use daos_plugin_api::abi::Status;
use daos_plugin_api::sdk::{Error, Result};
use std::ffi::{CStr, c_char};

/// What the controller says about itself.
pub(crate) struct Info {
    pub(crate) model: String,
    pub(crate) serial: String,
    pub(crate) firmware: String,
    pub(crate) io_queues: u32,
    /// Of the largest queue that is offered.
    pub(crate) queue_depth: u32,
    /// Entries of the controller's largest rings.
    pub(crate) ring_entries: u32,
    pub(crate) numa_node: i32,
    pub(crate) volatile_cache: bool,
    /// Has the command NVMe Format.
    pub(crate) can_format: bool,
    /// Which then concerns all of its namespaces.
    pub(crate) formats_all: bool,
    /// Takes memory in pieces of any shape; otherwise pieces must be whole blocks.
    pub(crate) any_pieces: bool,
}

/// Who a controller is.
#[derive(Debug, Default)]
pub(crate) struct Identity {
    pub(crate) model: String,
    pub(crate) serial: String,
    pub(crate) firmware: String,
    pub(crate) namespaces: Vec<Namespace>,
}

/// An active namespace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Namespace {
    pub(crate) id: u32,
    pub(crate) bytes: u64,
    pub(crate) block_size: u32,
    /// Bytes of metadata per block, if known.
    pub(crate) metadata: Option<u32>,
}

impl Info {
    /// Asks an attached controller.
    pub(super) fn ask(handle: *mut sys::spdk_nvme_ctrlr, address: &str) -> Result<Self> {
        // SAFETY: all members are plain data, for which zeroes are valid values.
        let mut raw: sys::daos_spdk_controller_info = unsafe { std::mem::zeroed() };
        // SAFETY: an attached controller and room for the answer.
        let outcome = unsafe { sys::daos_spdk_controller_info(handle, &mut raw) };
        if outcome != 0 {
            return Err(
                Error::new(Status::IO, format!("controller {address} does not answer"))
                    .cause(std::io::Error::from_raw_os_error(-outcome).to_string()),
            );
        }
        Ok(Self {
            model: text_of(&raw.model),
            serial: text_of(&raw.serial),
            firmware: text_of(&raw.firmware),
            io_queues: raw.io_queues,
            queue_depth: raw.queue_entries.min(super::QUEUE_ENTRIES) - 1,
            ring_entries: raw.queue_entries,
            numa_node: raw.numa_node,
            volatile_cache: raw.volatile_cache,
            can_format: raw.can_format,
            formats_all: raw.formats_all,
            any_pieces: raw.sgl,
        })
    }
}

impl Attached {
    /// The namespace `id`, if it is active. The pointer is good as long as the controller is.
    pub(crate) fn namespace(&self, id: u32) -> Option<*mut sys::spdk_nvme_ns> {
        // SAFETY: an attached controller.
        let ns = unsafe {
            if !sys::spdk_nvme_ctrlr_is_active_ns(self.handle, id) {
                return None;
            }
            sys::spdk_nvme_ctrlr_get_ns(self.handle, id)
        };
        (!ns.is_null()).then_some(ns)
    }

    pub(crate) fn first_namespace(&self) -> u32 {
        // SAFETY: an attached controller.
        unsafe { sys::spdk_nvme_ctrlr_get_first_active_ns(self.handle) }
    }

    /// Who the controller is, and its active namespaces.
    pub(crate) fn identity(&self) -> Identity {
        let mut namespaces = Vec::new();
        let mut id = self.first_namespace();
        while id != 0 {
            if let Some(ns) = self.namespace(id) {
                let info = namespace_info(ns);
                namespaces.push(Namespace {
                    id,
                    bytes: info.blocks * u64::from(info.block_size),
                    block_size: info.block_size,
                    metadata: Some(info.metadata_size),
                });
            }
            // SAFETY: an attached controller.
            id = unsafe { sys::spdk_nvme_ctrlr_get_next_active_ns(self.handle, id) };
        }
        Identity {
            model: self.info.model.clone(),
            serial: self.info.serial.clone(),
            firmware: self.info.firmware.clone(),
            namespaces,
        }
    }

    /// Whether NVMe Format may be used on namespace `id`: the controller has it, and it reaches no other namespace.
    pub(crate) fn check_nvme_format(&self, id: u32) -> Result<()> {
        let what = format!("NVMe Format of {}/{id} is refused", self.address);
        if !self.info.can_format {
            return Err(Error::new(Status::NOT_SUPPORTED, what)
                .cause("the controller has no such command")
                .remedy("format without --nvme-format"));
        }
        let others: Vec<String> = self
            .identity()
            .namespaces
            .iter()
            .filter(|namespace| namespace.id != id)
            .map(|namespace| namespace.id.to_string())
            .collect();
        if self.info.formats_all && !others.is_empty() {
            return Err(Error::new(Status::BUSY, what)
                .cause(format!(
                    "this controller formats all of its namespaces at once, and has also {}",
                    others.join(", ")
                ))
                .remedy("format without --nvme-format"));
        }
        Ok(())
    }

    /// NVMe Format of namespace `id`, then a reset; its format of blocks stays.
    pub(crate) fn nvme_format(&self, id: u32) -> Result<()> {
        self.check_nvme_format(id)?;
        let what = format!("NVMe Format of {}/{id} is refused", self.address);
        let queues = lock(&self.queues);
        if self.phase() != Phase::Working || !queues.is_empty() {
            return Err(
                Error::new(Status::BUSY, what).cause("the controller is in use, or has failed")
            );
        }
        // SAFETY: an attached controller without a queue; none is opened while the lock is held.
        let code = unsafe { sys::daos_spdk_format(self.handle, id) };
        if code != 0 {
            return Err(Error::io(
                format!("NVMe Format of {}/{id} failed", self.address),
                std::io::Error::from_raw_os_error(code.unsigned_abs() as i32),
            ));
        }
        Ok(())
    }

    /// Its SMART / health information log page.
    pub(crate) fn health_page(&self) -> Result<[u8; sys::DAOS_SPDK_HEALTH_BYTES as usize]> {
        let _serial = lock(&self.queues);
        if self.phase() == Phase::Removed {
            return Err(Error::new(
                Status::DEVICE_GONE,
                format!("cannot read the health of {}", self.address),
            )
            .cause("the device was removed"));
        }
        let mut page = [0; sys::DAOS_SPDK_HEALTH_BYTES as usize];
        // SAFETY: an attached controller and room for the page.
        let code = unsafe { sys::daos_spdk_health_page(self.handle, page.as_mut_ptr()) };
        if code != 0 {
            return Err(Error::io(
                format!("cannot read the health of {}", self.address),
                std::io::Error::from_raw_os_error(-code),
            ));
        }
        Ok(page)
    }
}

/// What the driver knows of a namespace, which belongs to an attached controller.
pub(crate) fn namespace_info(ns: *mut sys::spdk_nvme_ns) -> sys::daos_spdk_namespace_info {
    // SAFETY: all members are plain data, for which zeroes are valid values.
    let mut info = unsafe { std::mem::zeroed() };
    // SAFETY: the caller got the namespace from its controller; there is room for the answer.
    unsafe { sys::daos_spdk_namespace_info(ns, &mut info) };
    info
}

fn text_of(field: &[c_char]) -> String {
    let bytes: Vec<u8> = field.iter().map(|c| *c as u8).collect();
    CStr::from_bytes_until_nul(&bytes)
        .map(|text| text.to_string_lossy().trim().to_owned())
        .unwrap_or_default()
}
