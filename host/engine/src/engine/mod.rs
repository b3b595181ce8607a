//! An engine: three plugins, devices, and a thread per target.

mod open;
mod seed;
mod self_test;
mod start;
mod watchdog;

use crate::catalogue::{Catalogue, CatalogueError, Handle, NewPool, Opening};
use crate::config::Options;
use crate::error::StartError;
use crate::helpers::Helpers;
use crate::index::store::discard_unfinished;
use crate::index::{IndexError, Store};
use crate::layers::Layers;
use crate::media::{self, Formatted};
use crate::pin::Placement;
use crate::plugins::Plugins;
use crate::scm::RegionFile;
use crate::state::EngineState;
use crate::target::Shared;
use crate::telemetry::Telemetry;
use daos_plugin_api::host::{FabricDomain, ScmMemory};
use daos_wire::EngineUri;
use open::{check_queues, mount_point, open_domain, open_scm};
use self_test::SelfTest;
use start::Starter;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use uuid::Uuid;
use watchdog::Watchdog;

/// A running engine. Its functions are for one thread, the admin thread of the plugins.
pub struct Engine {
    targets: Vec<Running>,
    helpers: Option<Helpers>,
    /// `None` until all targets have started.
    catalogue: Option<Catalogue>,
    layers: Arc<Layers>,
    telemetry: Telemetry,
    watchdog: Mutex<Watchdog>,
    self_test: Option<SelfTest>,
    uri: EngineUri,
    formatted: Formatted,
    // Kept for the life of the targets.
    _domain: FabricDomain,
    _scm: ScmMemory,
}

struct Running {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<(), String>>,
    log_file: Option<RegionFile>,
    /// Number of its block device.
    device: usize,
}

/// Opens the index at a path, of at most so many bytes; the flag says whether it is a new one.
pub type OpenIndex = Arc<dyn Fn(&Path, u64, bool) -> Result<Store, IndexError> + Send + Sync>;

/// Memory for the pages of each target's index.
const INDEX_CACHE: usize = 32 << 20;

/// Opens an index in its file.
fn index_file(path: &Path, limit: u64, is_new: bool) -> Result<Store, IndexError> {
    if !is_new && !path.exists() {
        return Err(IndexError::Io(format!(
            "its index {} is gone",
            path.display()
        )));
    }
    if is_new {
        discard_unfinished(path)?;
    }
    Store::open(path, limit, INDEX_CACHE)
}

/// Address of a target, once it serves.
type Answer = mpsc::Receiver<Result<Vec<u8>, StartError>>;

impl Engine {
    /// Starts an engine on formatted storage; on return all targets serve.
    ///
    /// # Errors
    /// Why it cannot, see [`StartError`]. Nothing runs then.
    pub fn start(options: &Options) -> Result<Self, StartError> {
        options.check()?;
        let formatted = Formatted::read(options)?;
        let plugins = Plugins::load(options, &formatted.devices[0].class)?;
        Self::start_on(options, formatted, plugins, Arc::new(index_file))
    }

    /// Starts an engine on these plugins and with indexes that `open_index` opens: for tests that take
    /// the power away from under it.
    ///
    /// # Errors
    /// As for `start`.
    pub fn start_on(
        options: &Options,
        formatted: Formatted,
        plugins: Plugins,
        open_index: OpenIndex,
    ) -> Result<Self, StartError> {
        let scm = open_scm(&plugins, options)?;
        let mount = mount_point(&scm)?;
        let known = EngineState::read(&mount, &formatted.superblock)?;
        let may_label = options.first_start && known.is_none();
        let devices = formatted
            .devices
            .iter()
            .map(|device| media::open_device(&plugins.bdev, &formatted, device, may_label))
            .collect::<Result<Vec<_>, _>>()?;
        check_queues(options.targets, &devices)?;
        // Above the labels: a layer of faults makes no device a stranger.
        let layers = Layers::new(devices, &options.bdev_layers.0)
            .map_err(|e| StartError::config(format_args!("the layers of bdev_layers: {e}")))?;
        let devices = layers.devices();
        let state = match &known {
            Some(state) => state.clone(),
            None => {
                let info = scm.info().map_err(StartError::failed)?;
                EngineState::plan(&formatted.superblock, options.targets, info.available)?
            }
        };
        if state.targets != options.targets {
            return Err(StartError::storage(format_args!(
                "-t {}: the storage was made for {} targets; set `targets` back, or format with --reformat",
                options.targets, state.targets
            )));
        }
        let domain = open_domain(&plugins, options)?;
        let starter = Starter {
            options,
            plugins: &plugins,
            scm: &scm,
            mount,
            state: &state,
            is_new: known.is_none(),
            devices: &devices,
            layers: &layers,
            domain: &domain,
            domain_lock: Arc::new(Mutex::new(())),
            placement: Placement::new(options)?,
            open_index,
        };
        let helpers = Helpers::start(options.helpers as usize)
            .map_err(|e| StartError::failed(format_args!("cannot start helper threads: {e}")))?;
        let mut catalogue = Opening::open(
            &EngineState::catalogue_path(&starter.mount),
            &state.identity(),
            starter.is_new,
            starter.capacity()?,
        )
        .map_err(|e| {
            StartError::storage(format_args!(
                "{e}; restore the SCM, or format with --reformat"
            ))
        })?;
        let mut started = Vec::new();
        let addresses = starter.start_all(&helpers, &mut catalogue, &mut started);
        let mut engine = Self {
            targets: started,
            helpers: Some(helpers),
            catalogue: None,
            uri: EngineUri {
                provider: options.provider.clone().unwrap_or_default(),
                targets: Vec::new(),
            },
            layers: Arc::clone(&layers),
            telemetry: plugins.telemetry.clone(),
            watchdog: Mutex::new(Watchdog::new(
                4 * Duration::from_secs(options.io_patience.into()),
            )),
            self_test: None,
            formatted,
            _domain: domain.clone(),
            _scm: scm.clone(),
        };
        let made = addresses.and_then(|addresses| {
            engine.uri.targets = addresses;
            engine.catalogue = Some(catalogue.start().map_err(StartError::failed)?);
            if starter.is_new {
                state.write(&starter.mount)?;
            }
            Ok(())
        });
        match made {
            Ok(()) => {
                let targets = engine.targets.iter().map(|target| &target.shared);
                let targets = engine.uri.targets.iter().zip(targets);
                engine.self_test = SelfTest::start(options, &plugins, targets);
                Ok(engine)
            }
            Err(error) => {
                // What the targets say while they end is a consequence of the error.
                let _ = engine.stop();
                Err(error)
            }
        }
    }

    /// Where clients reach the targets.
    pub fn uri(&self) -> &EngineUri {
        &self.uri
    }

    /// What the format recorded.
    pub fn formatted(&self) -> &Formatted {
        &self.formatted
    }

    /// Pools and containers of the engine.
    pub fn catalogue(&self) -> &Handle {
        self.catalogue
            .as_ref()
            .expect("an engine that has started has one")
            .handle()
    }

    /// Makes a pool of everything that no pool has yet: for tests, benchmarks and engines without a
    /// daemon.
    ///
    /// # Errors
    /// Why not, see [`CatalogueError`].
    pub fn create_pool_of_all(&self, id: Uuid, label: &str) -> Result<(), CatalogueError> {
        let handle = self.catalogue();
        let (scm, bdev) = handle.snapshot().promised();
        let capacity = handle.capacity();
        let new = NewPool {
            id,
            label: label.to_owned(),
            owner: String::new(),
            owner_group: String::new(),
            scm_bytes: capacity.scm_total() - scm,
            bdev_bytes: capacity.bdev_total() - bdev,
        };
        let (answer, answered) = mpsc::channel();
        handle.create_pool(
            new,
            Box::new(move |result| {
                // The receiver waits below.
                let _ = answer.send(result);
            }),
        );
        let gone = || CatalogueError::Io("its thread has ended".to_owned());
        answered.recv().map_err(|_| gone())?.map(drop)
    }

    /// The layers over its block devices.
    pub fn layers(&self) -> &Arc<Layers> {
        &self.layers
    }

    /// What its plugins tell of themselves.
    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// Requests answered so far.
    pub fn requests(&self) -> u64 {
        let count = |t: &Running| t.shared.requests.load(Ordering::Relaxed);
        self.targets.iter().map(count).sum()
    }

    /// Period in microseconds at which [`Engine::poll_devices`] wants to be called.
    pub fn poll_period_us(&self) -> u64 {
        let devices = self.layers.devices();
        let periods = devices.iter().map(|d| d.geometry().admin_poll_us);
        let shortest = periods.filter(|us| *us > 0).min();
        shortest.map_or(1_000_000, |us| u64::from(us).clamp(1_000, 1_000_000))
    }

    /// Admin work of the devices: completions, timeouts, removals.
    pub fn poll_devices(&self) {
        use daos_plugin_api::abi::BdevEvent;
        for (index, device) in self.layers.devices().iter().enumerate() {
            let address = &self.formatted.devices[index].address;
            if let Err(status) = device.poll_admin() {
                tracing::error!(device = index, address, %status, "device administration failed");
            }
            while let Some(event) = device.next_event() {
                let what = match event.kind {
                    BdevEvent::REMOVED => "was removed: its targets answer with errors",
                    BdevEvent::RESIZED => "has another size: format again to use it",
                    BdevEvent::HEALTH_CRITICAL => "reports critical health: move its data away",
                    BdevEvent::RESET_BEGIN => "is being reset",
                    BdevEvent::RESET_END => "was reset",
                    _ => "reports something this version does not know",
                };
                tracing::warn!(device = index, address, "device {address} {what}");
                if event.kind == BdevEvent::REMOVED {
                    for target in self.targets.iter().filter(|t| t.device == index) {
                        target.shared.device_gone.store(true, Ordering::Relaxed);
                    }
                }
            }
        }
        self.watch_logs();
        let targets = self.targets.iter().map(|target| &target.shared);
        // A panic of this thread would have ended it.
        if let Ok(mut watchdog) = self.watchdog.lock() {
            watchdog.look(targets);
        }
    }

    /// Looks whether the logs are all there: a target whose log was deleted or cut must not promise
    /// anything more.
    fn watch_logs(&self) {
        for target in &self.targets {
            if let Some(file) = &target.log_file
                && target.shared.lost.get().is_none()
                && let Some(loss) = file.loss()
            {
                // Nobody else sets it.
                let _ = target.shared.lost.set(format!("its log is lost: {loss}"));
                target.shared.wake.wake();
            }
        }
    }

    /// Targets that serve nothing any more although their threads run, and why.
    pub fn failed_targets(&self) -> impl Iterator<Item = (u32, &str)> {
        let numbered = (0..).zip(&self.targets);
        numbered.filter_map(|(number, target)| Some((number, target.shared.failed.get()?.as_str())))
    }

    /// Why its fabric is of no use to anybody, if it is not.
    pub fn useless_fabric(&self) -> Option<&str> {
        self.self_test.as_ref()?.failure()
    }

    /// Whether a target's thread has ended although nobody stopped it.
    pub fn has_dead_target(&self) -> bool {
        self.targets.iter().any(|t| t.thread.is_finished())
    }

    /// Stops all targets: requests under way end, everything is committed.
    ///
    /// # Errors
    /// Which targets had failed, and why.
    pub fn stop(mut self) -> Result<(), String> {
        self.shut_down()
    }

    fn shut_down(&mut self) -> Result<(), String> {
        let mut failures = Vec::new();
        self.self_test = None;
        for target in &self.targets {
            target.shared.stop.store(true, Ordering::Release);
            target.shared.wake.wake();
        }
        for (index, target) in self.targets.drain(..).enumerate() {
            match target.thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(why)) => failures.push(format!("target {index}: {why}")),
                Err(_) => failures.push(format!("target {index} panicked")),
            }
        }
        if let Some(helpers) = self.helpers.take() {
            helpers.join();
        }
        if let Some(catalogue) = &self.catalogue {
            catalogue.stop();
        }
        if failures.is_empty() {
            Ok(())
        } else {
            Err(failures.join("; "))
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Err(why) = self.shut_down() {
            tracing::error!(why, "stopped after targets had failed");
        }
    }
}
