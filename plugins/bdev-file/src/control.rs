//! Control face: listing, format, health.

use crate::config::{CLASS, Config, Settings};
use crate::create;
use crate::data::{self, FileDevice};
use bdev_uring::Registrations;
use daos_plugin_api::abi::Status;
use daos_plugin_api::control::{
    ClassRequest, DeviceSpec, DeviceState, FormatReport, FormatRequest, QuiesceReport, ScanReport,
};
use daos_plugin_api::sdk::{BdevPlugin, CallContext, Error, Host, Plugin, Result};
use rustix::fs::statvfs;
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

/// The plugin.
pub struct BdevFile {
    settings: Settings,
    memory: Arc<Registrations>,
}

/// State of a configured file.
fn inspect(path: &Path, size: u64) -> Result<(DeviceState, u64, String)> {
    let shown = path.display();
    let found = match path.metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let parent = path.parent().unwrap_or(Path::new("/"));
            let detail = if parent.is_dir() {
                String::new()
            } else {
                format!("the directory {} does not exist", parent.display())
            };
            return Ok((DeviceState::Absent, size, detail));
        }
        Err(error) => return Err(Error::io(format!("cannot examine {shown}"), error)),
    };
    data::require_regular(&found, path)?;
    let len = found.len();
    match File::open(path) {
        Ok(file) => {
            if let Some(who) = data::in_use(&file) {
                return Ok((DeviceState::InUse, len, who));
            }
        }
        Err(error) => return Err(Error::io(format!("cannot open {shown}"), error)),
    }
    // `format` fills an empty file as if it were not there.
    if len == 0 {
        return Ok((DeviceState::Absent, size, "an empty file".to_owned()));
    }
    let detail = if len == size {
        String::new()
    } else {
        format!("it holds {len} bytes, the configured size is {size}: foreign content")
    };
    Ok((DeviceState::Present, len, detail))
}

/// Checks that the device is one of its config, and returns the configured size.
fn configured(device: &DeviceSpec) -> Result<u64> {
    let config = Config::parse(&device.config)?;
    if config.paths.contains(&device.address) {
        return Ok(config.size);
    }
    let what = format!("{} is not in bdev_list", device.address);
    Err(Error::new(Status::NOT_FOUND, what).remedy("add it to bdev_list"))
}

impl Plugin for BdevFile {
    const MANIFEST: &'static str = crate::MANIFEST;

    fn create(_host: Host, _call: CallContext<'_>, settings: Map<String, Value>) -> Result<Self> {
        Ok(Self {
            settings: Settings::parse(settings)?,
            memory: Arc::default(),
        })
    }

    fn validate(&self, _call: CallContext<'_>, request: ClassRequest) -> Result<()> {
        Config::parse(&request.config).map(drop)
    }

    fn scan(&self, _call: CallContext<'_>) -> Result<ScanReport> {
        // Files can be anywhere: there is nothing to discover.
        Ok(ScanReport::default())
    }

    fn devices(&self, _call: CallContext<'_>, request: ClassRequest) -> Result<Vec<DeviceSpec>> {
        let config = Config::parse(&request.config)?;
        let spec = |(index, address): (u32, String)| {
            let (state, size, detail) = inspect(Path::new(&address), config.size)?;
            Ok(DeviceSpec {
                class: CLASS.to_owned(),
                index,
                address,
                size,
                state,
                detail,
                config: request.config.clone(),
            })
        };
        (0..).zip(config.paths).map(spec).collect()
    }

    fn format(&self, call: CallContext<'_>, request: FormatRequest) -> Result<FormatReport> {
        let size = configured(&request.device)?;
        let path = Path::new(&request.device.address);
        let notes = create::create(call, path, size, request.overwrite_foreign)?;
        Ok(FormatReport { size, notes })
    }

    fn health(&self, _call: CallContext<'_>, device: DeviceSpec) -> Result<Map<String, Value>> {
        let size = configured(&device)?;
        let path = Path::new(&device.address);
        let found = path
            .metadata()
            .map_err(|e| Error::io(format!("cannot examine {}", device.address), e))?;
        let status = if found.len() == size {
            "ok"
        } else {
            "critical"
        };
        let mut health = Map::from_iter([
            ("status".to_owned(), json!(status)),
            ("size".to_owned(), json!(found.len())),
            ("allocated".to_owned(), json!(create::allocated(&found))),
        ]);
        if let Ok(fs) = statvfs(path) {
            health.insert("free_space".to_owned(), json!(fs.f_bavail * fs.f_frsize));
        }
        Ok(health)
    }

    /// The kernel ends the requests of a ring after the process that made it is gone, and until then keeps its
    /// file locked: whoever gets the lock knows that they have ended.
    fn quiesce(&self, _call: CallContext<'_>, device: DeviceSpec) -> Result<QuiesceReport> {
        configured(&device)?;
        let path = Path::new(&device.address);
        match File::open(path) {
            Ok(file) => data::lock(&file, path)?,
            // One that is gone moves nothing.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io(format!("cannot open {}", path.display()), error)),
        }
        Ok(QuiesceReport::default())
    }
}

impl BdevPlugin for BdevFile {
    type Device = FileDevice;

    fn open(&self, _call: CallContext<'_>, device: DeviceSpec) -> Result<FileDevice> {
        let size = configured(&device)?;
        let memory = Arc::clone(&self.memory);
        let Settings { io_engine, .. } = self.settings;
        FileDevice::open(
            &device.address,
            size,
            memory,
            io_engine,
            self.settings.unmap(),
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
