//! Control face: scan, listing, format, health.

use crate::config::{CLASS, Settings, device_list, invalid};
use crate::data::{self, KernelDevice};
use crate::in_use;
use crate::sysfs::{Block, DevNumber, Sysfs};
use crate::wipe;
use bdev_uring::Registrations;
use daos_plugin_api::abi::Status;
use daos_plugin_api::control::{
    ClassRequest, DeviceRecord, DeviceSpec, DeviceState, FormatReport, FormatRequest,
    QuiesceReport, ScanReport,
};
use daos_plugin_api::sdk::{BdevPlugin, CallContext, Error, Host, Plugin, Result};
use serde_json::{Map, Value, json};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

/// The plugin.
pub struct BdevKdev {
    settings: Settings,
    sysfs: Sysfs,
    memory: Arc<Registrations>,
}

impl BdevKdev {
    /// The device behind a path; `None` if there is nothing.
    fn find(&self, path: &str) -> Result<Option<Block>> {
        let found = match fs::metadata(Path::new(path)) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(format!("cannot examine {path}"), error)),
        };
        if !found.file_type().is_block_device() {
            let error = invalid(format!("{path} is no block device"));
            return Err(if found.is_file() {
                error.remedy("use bdev_class file for files")
            } else {
                error.remedy("correct bdev_list")
            });
        }
        Ok(self.sysfs.block(DevNumber::from_rdev(found.rdev())))
    }

    /// The configured device of a request; `None` if it is not there.
    fn look_up(&self, device: &DeviceSpec) -> Result<Option<Block>> {
        if !device_list(&device.config)?.contains(&device.address) {
            let what = format!("{} is not in bdev_list", device.address);
            return Err(Error::new(Status::NOT_FOUND, what).remedy("add it to bdev_list"));
        }
        self.find(&device.address)
    }

    /// The configured device of a request, which has to be there.
    fn configured(&self, device: &DeviceSpec) -> Result<Block> {
        self.look_up(device)?.ok_or_else(|| {
            Error::new(
                Status::NOT_FOUND,
                format!("{} does not exist", device.address),
            )
            .remedy("attach the device, or correct bdev_list (see `storage scan`)")
        })
    }

    fn scanned(&self, block: &Block) -> Option<DeviceRecord> {
        // Drives without a medium and loop devices without a file have no size.
        block.size().filter(|size| *size > 0)?;
        let mut record = data::record(block, &block.node());
        record.in_use = if block.is_read_only() {
            Some("read-only".to_owned())
        } else {
            in_use::reason(block)
        };
        Some(record)
    }
}

impl Plugin for BdevKdev {
    const MANIFEST: &'static str = crate::MANIFEST;

    fn create(_host: Host, _call: CallContext<'_>, settings: Map<String, Value>) -> Result<Self> {
        Ok(Self {
            settings: Settings::parse(settings)?,
            sysfs: Sysfs::default(),
            memory: Arc::default(),
        })
    }

    fn validate(&self, _call: CallContext<'_>, request: ClassRequest) -> Result<()> {
        device_list(&request.config).map(drop)
    }

    fn scan(&self, call: CallContext<'_>) -> Result<ScanReport> {
        let disks = self
            .sysfs
            .disks()
            .map_err(|e| Error::io("cannot list the block devices in /sys/block", e))?;
        let mut report = ScanReport::default();
        for (done, block) in disks.iter().enumerate() {
            call.check_cancelled()?;
            call.progress(done as u64, disks.len() as u64, "examining block devices");
            report.devices.extend(self.scanned(block));
        }
        Ok(report)
    }

    fn devices(&self, _call: CallContext<'_>, request: ClassRequest) -> Result<Vec<DeviceSpec>> {
        let mut seen: Vec<(DevNumber, String)> = Vec::new();
        let mut specs = Vec::new();
        for (index, address) in (0..).zip(device_list(&request.config)?) {
            let (state, size, detail) = match self.find(&address)? {
                None => (DeviceState::Missing, 0, format!("{address} does not exist")),
                Some(block) => {
                    if let Some((_, twin)) = seen.iter().find(|(number, _)| *number == block.number)
                    {
                        let what = format!("{address} and {twin} of bdev_list are one device");
                        return Err(invalid(what).remedy("list each device once"));
                    }
                    seen.push((block.number, address.clone()));
                    let size = block.size().unwrap_or(0);
                    match in_use::reason(&block) {
                        Some(reason) => (DeviceState::InUse, size, reason),
                        None if size == 0 => {
                            (DeviceState::Missing, 0, format!("{address} has no medium"))
                        }
                        None => (DeviceState::Present, size, String::new()),
                    }
                }
            };
            specs.push(DeviceSpec {
                class: CLASS.to_owned(),
                index,
                address,
                size,
                state,
                detail,
                config: request.config.clone(),
            });
        }
        Ok(specs)
    }

    fn format(&self, call: CallContext<'_>, request: FormatRequest) -> Result<FormatReport> {
        let block = self.configured(&request.device)?;
        if let Some(reason) = in_use::reason(&block) {
            let what = format!("{} is in use", request.device.address);
            return Err(Error::new(Status::BUSY, what)
                .cause(reason)
                .remedy("stop its user, or take another device"));
        }
        let size = block.size().unwrap_or(0);
        let file = data::open_exclusive(&block, false)?;
        let notes = wipe::wipe(call, &file, &block, size)?;
        Ok(FormatReport { size, notes })
    }

    fn health(&self, _call: CallContext<'_>, device: DeviceSpec) -> Result<Map<String, Value>> {
        let block = self.configured(&device)?;
        let size = block.size().unwrap_or(0);
        let status = if size > 0 { "ok" } else { "gone" };
        Ok(Map::from_iter([
            ("status".to_owned(), json!(status)),
            ("size".to_owned(), json!(size)),
            ("read_only".to_owned(), json!(block.is_read_only())),
        ]))
    }

    /// The kernel ends the requests of a ring after the process that made it is gone, and until then keeps its
    /// device open: whoever gets it exclusively knows that they have ended.
    fn quiesce(&self, _call: CallContext<'_>, device: DeviceSpec) -> Result<QuiesceReport> {
        // One that is gone moves nothing.
        if let Some(block) = self.look_up(&device)? {
            drop(data::open_exclusive(&block, false)?);
        }
        Ok(QuiesceReport::default())
    }
}

impl BdevPlugin for BdevKdev {
    type Device = KernelDevice;

    fn open(&self, _call: CallContext<'_>, device: DeviceSpec) -> Result<KernelDevice> {
        let block = self.configured(&device)?;
        let memory = Arc::clone(&self.memory);
        KernelDevice::open(
            &self.sysfs,
            &block,
            &device.address,
            memory,
            self.settings.io_engine,
        )
    }

    fn memory_register(&self, _call: CallContext<'_>, ptr: *mut u8, len: usize) -> Result<()> {
        self.memory.add(ptr, len);
        Ok(())
    }

    fn memory_unregister(&self, ptr: *mut u8, len: usize) -> Result<()> {
        if self.memory.remove(ptr, len) {
            return Ok(());
        }
        Err(Error::new(
            Status::NOT_FOUND,
            "this memory was never offered",
        ))
    }
}
