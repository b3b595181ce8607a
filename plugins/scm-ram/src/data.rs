//! The data face: regions are files below `<scm_mount>/regions`, allocated when they are made and
//! mapped. Persisting does nothing: memory is as durable as this class gets.

use crate::control::lost;
use crate::manifest::Settings;
use crate::map::SharedMap;
use crate::place::{Kind, Marker, Place, State};
use daos_plugin_api::abi::{ScmInfo, Status};
use daos_plugin_api::control::DeviceSpec;
use daos_plugin_api::sdk::{CallContext, Error, Region, Result, Scm};
use scm_files::tree::free_space;
use scm_files::{Claim, Lock, Regions};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Open storage; one opener at a time.
pub struct Memory {
    mount: PathBuf,
    marker: Marker,
    regions: Regions,
    _lock: Lock,
}

impl Memory {
    /// Opens what `format` made.
    ///
    /// # Errors
    /// NOT_FOUND if there is nothing (any more), BUSY if another process or opener has it.
    pub(crate) fn open(device: &DeviceSpec) -> Result<Self> {
        let settings = Settings::parse(&device.class, &device.config)?;
        let place = Place::new(&settings.mount);
        let State::Ours(marker) = place.inspect()? else {
            return Err(lost(&settings.mount));
        };
        let lock = place.lock()?;
        Ok(Self {
            marker,
            regions: Regions::new(place.regions())?,
            _lock: lock,
            mount: settings.mount,
        })
    }

    /// Bytes that regions and files can still take.
    fn available(&self) -> io::Result<u64> {
        let free = free_space(&self.mount)?;
        Ok(match self.marker.kind {
            Kind::Mount => free,
            Kind::Directory => {
                let used = Place::new(&self.mount).used()?;
                free.min(self.marker.size.saturating_sub(used))
            }
        })
    }
}

fn map(name: &str, file: &File, len: usize) -> Result<SharedMap> {
    SharedMap::new(file, len).map_err(|e| Error::io(format!("cannot map region {name}"), e))
}

impl Scm for Memory {
    type Region = Mapping;

    fn info(&self) -> Result<ScmInfo, Status> {
        Ok(ScmInfo {
            total: self.marker.size,
            available: self.available().map_err(|_| Status::IO)?,
            persist_granularity: 8,
            numa_node: self.marker.numa_node,
            flags: ScmInfo::EPHEMERAL,
        })
    }

    fn mount_point(&self) -> &Path {
        &self.mount
    }

    fn open_region(&self, _: CallContext<'_>, name: &str) -> Result<Mapping> {
        let (claim, file, len) = self.regions.open(name)?;
        let map = map(name, &file, len)?;
        Ok(Mapping { map, _claim: claim })
    }

    fn create_region(&self, _: CallContext<'_>, name: &str, len: u64) -> Result<Mapping> {
        let available = || self.available();
        let (claim, map) =
            self.regions
                .create(name, len, available, "enlarge scm_size", |file, len| {
                    map(name, file, len)
                })?;
        Ok(Mapping { map, _claim: claim })
    }

    fn remove_region(&self, _: CallContext<'_>, name: &str) -> Result<()> {
        self.regions.remove(name)
    }

    fn flush(&self, _: *const u8, _: usize) -> Result<(), Status> {
        Ok(())
    }

    fn drain(&self) -> Result<(), Status> {
        Ok(())
    }
}

/// A mapped region.
pub struct Mapping {
    map: SharedMap,
    _claim: Claim,
}

impl Region for Mapping {
    fn ptr(&self) -> *mut u8 {
        self.map.ptr()
    }

    fn len(&self) -> usize {
        self.map.len()
    }
}
