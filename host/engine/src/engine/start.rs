//! Starting the targets: what the main thread prepares for each.

use super::open::targets_of;
use super::seed::Seed;
use super::{Answer, OpenIndex, Running};
use crate::catalogue::{Capacity, Opening};
use crate::config::Options;
use crate::error::StartError;
use crate::extents::{device::Share, unit_size};
use crate::helpers::Helpers;
use crate::layers::{Layers, Order};
use crate::memory::{BufferCounts, Buffers};
use crate::pin::Placement;
use crate::plugins::Plugins;
use crate::scm::{RegionFile, ScmLog};
use crate::state::EngineState;
use crate::target::{Limits, Shared};
use crate::wake::Wake;
use daos_media::label::Layout;
use daos_plugin_api::abi::Status;
use daos_plugin_api::host::{BdevDevice, CallOptions, FabricDomain, ScmMapping, ScmMemory};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};

/// What is needed to start targets.
pub(super) struct Starter<'a> {
    pub(super) options: &'a Options,
    pub(super) plugins: &'a Plugins,
    pub(super) scm: &'a ScmMemory,
    pub(super) mount: PathBuf,
    pub(super) state: &'a EngineState,
    pub(super) is_new: bool,
    pub(super) devices: &'a [BdevDevice],
    pub(super) layers: &'a Layers,
    pub(super) domain: &'a FabricDomain,
    /// Functions of the domain are called by one thread at a time.
    pub(super) domain_lock: Arc<Mutex<()>>,
    pub(super) placement: Placement,
    pub(super) open_index: OpenIndex,
}

impl Starter<'_> {
    /// Starts the targets, all at once; returns their addresses.
    pub(super) fn start_all(
        &self,
        helpers: &Helpers,
        catalogue: &mut Opening,
        started: &mut Vec<Running>,
    ) -> Result<Vec<Vec<u8>>, StartError> {
        let mut answers = Vec::new();
        for number in 0..self.options.targets {
            let (running, answer) = self.start(number, helpers, catalogue)?;
            started.push(running);
            answers.push(answer);
        }
        let mut addresses = Vec::new();
        for (number, answer) in answers.into_iter().enumerate() {
            let address = answer.recv().unwrap_or_else(|_| {
                Err(StartError::failed(format_args!(
                    "target {number} panicked at start"
                )))
            })?;
            addresses.push(address);
        }
        Ok(addresses)
    }

    fn start(
        &self,
        number: u32,
        helpers: &Helpers,
        catalogue: &mut Opening,
    ) -> Result<(Running, Answer), StartError> {
        let device = &self.devices[number as usize % self.devices.len()];
        let buffers = {
            let _guard = self
                .domain_lock
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            Buffers::allocate(device, self.domain, BufferCounts::default())
        }
        .map_err(|e| StartError::plugin(format_args!("target {number}"), &e))?;
        let wake = Wake::new().map_err(StartError::failed)?;
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            wake: wake.clone(),
            device_gone: AtomicBool::new(false),
            lost: OnceLock::new(),
            failed: OnceLock::new(),
            layers: Order::default(),
            rounds: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            idle: AtomicBool::new(true),
            in_fabric: AtomicBool::new(false),
            thread: AtomicI32::new(0),
            patience: self.options.io_patience,
        });
        self.layers
            .add_target(number as usize % self.devices.len(), Arc::clone(&shared));
        let log = ScmLog::new(self.log(number)?)
            .map_err(|e| StartError::plugin(format_args!("log of target {number}"), &e))?;
        if let Some(why) = log.file().and_then(RegionFile::failure) {
            return Err(StartError::storage(format_args!("target {number}: {why}")));
        }
        let log_file = log.file().and_then(RegionFile::try_clone);
        let seed = Seed {
            number,
            targets: self.options.targets,
            placement: self.placement.clone(),
            log,
            index: EngineState::index_path(&self.mount, number),
            open_index: Arc::clone(&self.open_index),
            state: self.state.clone(),
            is_new: self.is_new,
            device: device.clone(),
            share: self.share(number, device)?,
            domain: self.domain.clone(),
            domain_lock: Arc::clone(&self.domain_lock),
            instances: [self.plugins.bdev.clone(), self.plugins.fabric.clone()],
            buffers,
            desk: catalogue.desk(wake.clone()),
            helper: helpers.helper(number, wake),
            shared: Arc::clone(&shared),
        };
        let (answer, address) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name(format!("target-{number}"))
            .spawn(move || seed.grow(&answer))
            .map_err(|e| StartError::failed(format_args!("cannot start target {number}: {e}")))?;
        let running = Running {
            shared,
            thread,
            log_file,
            device: number as usize % self.devices.len(),
        };
        Ok((running, address))
    }

    /// The region of a target's log: the existing one, or for a new engine a new one.
    fn log(&self, number: u32) -> Result<ScmMapping, StartError> {
        let name = EngineState::log_name(number);
        let options = CallOptions::default();
        match self.scm.open_region(&name, options) {
            Ok(mapping) if !self.is_new || mapping.len() as u64 == self.state.log_bytes => {
                Ok(mapping)
            }
            // Left by a first start that did not get to its end.
            Ok(mapping) => {
                drop(mapping);
                self.scm
                    .remove_region(&name, options)
                    .map_err(|e| StartError::plugin(&name, &e))?;
                self.create_log(&name)
            }
            Err(e) if e.status == Status::NOT_FOUND && self.is_new => self.create_log(&name),
            Err(e) if e.status == Status::NOT_FOUND => Err(StartError::storage(format_args!(
                "the log of target {number} is gone: {e}; the SCM tier is damaged"
            ))),
            // Another start reads the same block.
            Err(e) if e.status == Status::MEDIA => Err(StartError::storage(format_args!(
                "log of target {number}: {e}"
            ))),
            Err(e) => Err(StartError::plugin(
                format_args!("log of target {number}"),
                &e,
            )),
        }
    }

    /// What the targets have to give to pools.
    pub(super) fn capacity(&self) -> Result<Capacity, StartError> {
        let shares = (0..self.options.targets)
            .map(|n| self.share(n, &self.devices[n as usize % self.devices.len()]))
            .collect::<Result<Vec<_>, _>>()?;
        // Of devices that differ each target gives as much as the least has, in units of the largest.
        let unit = shares.iter().map(|share| share.unit).max().unwrap_or(1);
        let bytes = shares.iter().map(|s| s.units * u64::from(s.unit));
        Ok(Capacity {
            targets: self.options.targets,
            scm_bytes: Limits {
                index_bytes: self.state.index_bytes,
            }
            .live_bytes(),
            units: bytes.min().unwrap_or(0) / u64::from(unit),
            unit,
        })
    }

    fn create_log(&self, name: &str) -> Result<ScmMapping, StartError> {
        let options = CallOptions::default();
        self.scm
            .create_region(name, self.state.log_bytes, options)
            // Mapped anew: a file that got its name when it was complete has none in the mapping
            // that made it.
            .map(drop)
            .map_err(|e| StartError::plugin(format_args!("no room for {name} on the SCM"), &e))?;
        self.scm
            .open_region(name, options)
            .map_err(|e| StartError::plugin(name, &e))
    }

    fn share(&self, number: u32, device: &BdevDevice) -> Result<Share, StartError> {
        let geometry = device.geometry();
        let layout =
            Layout::of(geometry.block_count, geometry.block_size).map_err(StartError::config)?;
        let count = self.devices.len() as u32;
        let sharers = u64::from(targets_of(self.options.targets, count, number % count));
        let unit = unit_size(geometry.block_size);
        let units = (layout.data.end - layout.data.start) / sharers / u64::from(unit);
        if units == 0 {
            return Err(StartError::config(format_args!(
                "device {} is too small for the {sharers} targets on it",
                number % count
            )));
        }
        Ok(Share {
            start: layout.data.start + u64::from(number / count) * units * u64::from(unit),
            units,
            unit,
        })
    }
}
