//! Storage-class memory of class `@CLASS@`: the plugin as a whole and its control face. The memory is a
//! directory of files, best on a tmpfs; yours will be a device.

mod memory;

use daos_plugin_api::abi::Status;
use daos_plugin_api::control::{
    ClassRequest, DeviceSpec, DeviceState, FormatReport, FormatRequest,
};
use daos_plugin_api::sdk::{CallContext, Error, Host, Plugin, Result, ScmPlugin};
use memory::{Memory, OpenOnes};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

const CLASS: &str = "@CLASS@";
const MOST_MIB: u64 = 65536;

/// The plugin.
pub struct ThePlugin {
    open: OpenOnes,
}

/// The keys of the class, as in the configuration file.
#[derive(Deserialize)]
struct Config {
    scm_mount: PathBuf,
    scm_size_mib: u64,
}

impl Config {
    fn read(keys: &Map<String, Value>) -> Result<Self> {
        let config: Self = serde_json::from_value(Value::Object(keys.clone())).map_err(|e| {
            Error::new(
                Status::INVALID,
                format!("the keys of scm_class {CLASS} are malformed"),
            )
            .cause(e.to_string())
        })?;
        if !config.scm_mount.is_absolute() {
            return Err(Error::new(Status::INVALID, "scm_mount is no absolute path"));
        }
        if !(1..=MOST_MIB).contains(&config.scm_size_mib) {
            return Err(Error::new(Status::INVALID, "scm_size_mib is out of range")
                .remedy(format!("set it to a value from 1 to {MOST_MIB}")));
        }
        Ok(config)
    }
}

/// The file that says: formatted.
fn mark(directory: &Path) -> PathBuf {
    directory.join(".@NAME@")
}

daos_plugin_api::declare_plugin!(ThePlugin, scm);
daos_plugin_api::export_plugin!(ThePlugin);

impl Plugin for ThePlugin {
    const MANIFEST: &'static str = include_str!("../manifest.json");

    fn create(_host: Host, _call: CallContext<'_>, _settings: Map<String, Value>) -> Result<Self> {
        Ok(Self {
            open: OpenOnes::default(),
        })
    }

    fn validate(&self, _call: CallContext<'_>, request: ClassRequest) -> Result<()> {
        Config::read(&request.config).map(drop)
    }

    /// Reads only.
    fn devices(&self, _call: CallContext<'_>, request: ClassRequest) -> Result<Vec<DeviceSpec>> {
        let config = Config::read(&request.config)?;
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let state = if open.contains(&config.scm_mount) {
            DeviceState::InUse
        } else if mark(&config.scm_mount).exists() {
            DeviceState::Present
        } else {
            DeviceState::Absent
        };
        Ok(vec![DeviceSpec {
            class: CLASS.to_owned(),
            index: 0,
            address: config.scm_mount.display().to_string(),
            size: config.scm_size_mib << 20,
            state,
            detail: match state {
                DeviceState::InUse => "open in this process".to_owned(),
                _ => String::new(),
            },
            config: request.config,
        }])
    }

    /// Makes the memory empty. The host has asked the administrator; what is not ours is refused
    /// unless that was allowed.
    fn format(&self, call: CallContext<'_>, request: FormatRequest) -> Result<FormatReport> {
        let config = Config::read(&request.device.config)?;
        let directory = &config.scm_mount;
        let io = |what: &str, e| Error::io(format!("cannot {what} {}", directory.display()), e);
        std::fs::create_dir_all(directory).map_err(|e| io("make", e))?;
        let list = || std::fs::read_dir(directory).map_err(|e| io("list", e));
        let is_ours = mark(directory).exists();
        if !is_ours && !request.overwrite_foreign && list()?.next().is_some() {
            return Err(Error::new(
                Status::FOREIGN,
                format!("{} is not empty", directory.display()),
            )
            .remedy("choose another directory, or allow overwriting"));
        }
        for entry in list()? {
            call.check_cancelled()?;
            let path = entry.map_err(|e| io("list", e))?.path();
            let removed = match path.is_dir() && !path.is_symlink() {
                true => std::fs::remove_dir_all(&path),
                false => std::fs::remove_file(&path),
            };
            removed.map_err(|e| io("empty", e))?;
        }
        std::fs::write(mark(directory), b"").map_err(|e| io("mark", e))?;
        Ok(FormatReport {
            size: config.scm_size_mib << 20,
            notes: Vec::new(),
        })
    }
}

impl ScmPlugin for ThePlugin {
    type Memory = Memory;

    fn open(&self, _call: CallContext<'_>, spec: DeviceSpec) -> Result<Memory> {
        let config = Config::read(&spec.config)?;
        if !mark(&config.scm_mount).exists() {
            return Err(Error::new(
                Status::NOT_FOUND,
                format!("{} is not formatted", config.scm_mount.display()),
            )
            .remedy("format it"));
        }
        Memory::open(
            Arc::clone(&self.open),
            config.scm_mount,
            config.scm_size_mib << 20,
        )
    }
}
