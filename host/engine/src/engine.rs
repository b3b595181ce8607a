//! An engine: three plugins, devices, and a thread per target.

use crate::commit::Helpers;
use crate::config::Options;
use crate::error::StartError;
use crate::extents::{
    device::{DEPTH, Device, Share},
    unit_size,
};
use crate::index::Store;
use crate::log::{Identity, Ring};
use crate::media::{self, Formatted};
use crate::memory::{BufferCounts, Buffers};
use crate::net::Net;
use crate::pin::Placement;
use crate::plugins::Plugins;
use crate::scm::ScmLog;
use crate::state::EngineState;
use crate::storage::{Recovered, Storage};
use crate::target::{Limits, Parts, Shared, Target};
use crate::wake::Wake;
use daos_media::label::Layout;
use daos_plugin_api::abi::Status;
use daos_plugin_api::control::{DeviceSpec, DeviceState, FabricOpenRequest};
use daos_plugin_api::host::{BdevDevice, CallOptions, FabricDomain, ScmMapping, ScmMemory};
use daos_wire::EngineUri;
use serde_json::{Map, Value};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

/// Memory for the pages of each target's index.
const INDEX_CACHE: usize = 32 << 20;
/// Fabric operations outstanding per target, if the provider allows as many.
const FABRIC_SLOTS: u32 = 512;

/// A running engine. Its functions are for one thread, the admin thread of the plugins.
pub struct Engine {
    targets: Vec<Running>,
    helpers: Option<Helpers>,
    devices: Vec<BdevDevice>,
    uri: EngineUri,
    formatted: Formatted,
    // Kept for the life of the targets.
    _domain: FabricDomain,
    _scm: ScmMemory,
}

struct Running {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<(), String>>,
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
        let scm = open_scm(&plugins, options)?;
        let mount = scm
            .mount_point()
            .map_err(|s| StartError::failed(format_args!("the SCM has no mount point: {s}")))?;
        let known = EngineState::read(&mount, &formatted.superblock)?;
        let may_label = options.first_start && known.is_none();
        let devices = formatted
            .devices
            .iter()
            .map(|device| media::open_device(&plugins.bdev, &formatted, device, may_label))
            .collect::<Result<Vec<_>, _>>()?;
        check_queues(options.targets, &devices)?;
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
            domain: &domain,
            domain_lock: Arc::new(Mutex::new(())),
            placement: Placement::new(options)?,
        };
        let helpers = Helpers::start(options.helpers as usize)
            .map_err(|e| StartError::failed(format_args!("cannot start helper threads: {e}")))?;
        let mut started = Vec::new();
        let addresses = starter.start_all(&helpers, &mut started);
        let mut engine = Self {
            targets: started,
            helpers: Some(helpers),
            uri: EngineUri {
                provider: options.provider.clone().unwrap_or_default(),
                targets: Vec::new(),
            },
            devices: devices.clone(),
            formatted,
            _domain: domain.clone(),
            _scm: scm.clone(),
        };
        let made = addresses.and_then(|addresses| {
            engine.uri.targets = addresses;
            if starter.is_new {
                state.write(&starter.mount)?;
            }
            Ok(())
        });
        match made {
            Ok(()) => Ok(engine),
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

    /// Requests answered so far.
    pub fn requests(&self) -> u64 {
        let count = |t: &Running| t.shared.requests.load(Ordering::Relaxed);
        self.targets.iter().map(count).sum()
    }

    /// Period in microseconds at which [`Engine::poll_devices`] wants to be called.
    pub fn poll_period_us(&self) -> u64 {
        let periods = self.devices.iter().map(|d| d.geometry().admin_poll_us);
        let shortest = periods.filter(|us| *us > 0).min();
        shortest.map_or(1_000_000, |us| u64::from(us).clamp(1_000, 1_000_000))
    }

    /// Admin work of the devices: completions, timeouts, removals.
    pub fn poll_devices(&self) {
        use daos_plugin_api::abi::BdevEvent;
        for (index, device) in self.devices.iter().enumerate() {
            if let Err(status) = device.poll_admin() {
                tracing::error!(device = index, %status, "device administration failed");
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
                tracing::warn!(device = index, "device {what}");
            }
        }
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

fn open_scm(plugins: &Plugins, options: &Options) -> Result<ScmMemory, StartError> {
    let mut config: Map<String, Value> = match &options.scm_config {
        None => Map::new(),
        Some(text) => serde_json::from_str(text)
            .map_err(|e| StartError::config(format_args!("--scm-config is no JSON object: {e}")))?,
    };
    let mount = options.scm_mount.display().to_string();
    config
        .entry("scm_mount")
        .or_insert_with(|| mount.clone().into());
    if !config.contains_key("scm_size") && !config.contains_key("scm_size_mib") {
        let fs = rustix::fs::statvfs(&options.scm_mount)
            .map_err(|e| StartError::storage(format_args!("{mount}: {e}; is the SCM mounted?")))?;
        let mib = (fs.f_blocks * fs.f_frsize) >> 20;
        config.insert("scm_size_mib".into(), mib.max(4).into());
    }
    let spec = DeviceSpec {
        class: options.scm_class.clone(),
        index: 0,
        address: mount.clone(),
        size: 0,
        state: DeviceState::Present,
        detail: String::new(),
        config,
    };
    plugins
        .scm
        .open_scm(&spec, CallOptions::default())
        .map_err(|e| {
            let text = format!("SCM {mount} cannot be opened: {e}");
            if e.status == Status::NOT_FOUND {
                StartError::storage(text)
            } else {
                StartError::failed(text)
            }
        })
}

fn open_domain(plugins: &Plugins, options: &Options) -> Result<FabricDomain, StartError> {
    let request = FabricOpenRequest {
        provider: options.provider.clone().unwrap_or_default(),
        interface: options.interface.clone(),
        port: options.port,
        config: Map::new(),
    };
    let domain = plugins
        .fabric
        .open_fabric(&request, CallOptions::default())
        .map_err(|e| {
            let text = format!(
                "fabric {} on \"{}\" cannot be opened: {e}",
                request.provider, request.interface
            );
            match e.status {
                Status::INVALID | Status::NOT_FOUND => StartError::config(text),
                _ => StartError::failed(text),
            }
        })?;
    let info = domain.info();
    if info.max_endpoints < options.targets {
        return Err(StartError::config(format_args!(
            "-t {}: the fabric has {} endpoints, each target needs one; lower targets",
            options.targets, info.max_endpoints
        )));
    }
    if info.max_message < daos_wire::REQUEST_MAX as u64 {
        return Err(StartError::config(format_args!(
            "the fabric's messages have at most {} bytes, {} are needed",
            info.max_message,
            daos_wire::REQUEST_MAX
        )));
    }
    Ok(domain)
}

/// Targets are mapped to devices by number: target n uses device n mod devices.
fn check_queues(targets: u32, devices: &[BdevDevice]) -> Result<(), StartError> {
    let count = devices.len() as u32;
    for (index, device) in devices.iter().enumerate() {
        let wanted = targets_of(targets, count, index as u32);
        let geometry = device.geometry();
        if wanted == 0 {
            tracing::warn!(
                device = index,
                targets,
                "the device stays unused: there are more devices than targets"
            );
        }
        if wanted > geometry.max_queues {
            return Err(StartError::config(format_args!(
                "device {index} has {} queues and {wanted} of the {targets} targets would use it, each needs one; lower targets to {} or add devices",
                geometry.max_queues,
                geometry.max_queues * count
            )));
        }
        if geometry.buffer_alignment > crate::memory::SMALL as u32 {
            return Err(StartError::config(format_args!(
                "device {index} wants memory aligned to {} bytes, at most {} are supported",
                geometry.buffer_alignment,
                crate::memory::SMALL
            )));
        }
    }
    Ok(())
}

fn targets_of(targets: u32, devices: u32, device: u32) -> u32 {
    (targets + devices - 1 - device) / devices
}

/// What is needed to start targets.
struct Starter<'a> {
    options: &'a Options,
    plugins: &'a Plugins,
    scm: &'a ScmMemory,
    mount: PathBuf,
    state: &'a EngineState,
    is_new: bool,
    devices: &'a [BdevDevice],
    domain: &'a FabricDomain,
    /// Functions of the domain are called by one thread at a time.
    domain_lock: Arc<Mutex<()>>,
    placement: Placement,
}

impl Starter<'_> {
    /// Starts the targets, all at once; returns their addresses.
    fn start_all(
        &self,
        helpers: &Helpers,
        started: &mut Vec<Running>,
    ) -> Result<Vec<Vec<u8>>, StartError> {
        let mut answers = Vec::new();
        for number in 0..self.options.targets {
            let (running, answer) = self.start(number, helpers)?;
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

    fn start(&self, number: u32, helpers: &Helpers) -> Result<(Running, Answer), StartError> {
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
        });
        let seed = Seed {
            number,
            targets: self.options.targets,
            placement: self.placement.clone(),
            log: self.log(number)?,
            index: EngineState::index_path(&self.mount, number),
            state: self.state.clone(),
            is_new: self.is_new,
            device: device.clone(),
            share: self.share(number, device)?,
            domain: self.domain.clone(),
            domain_lock: Arc::clone(&self.domain_lock),
            instances: [self.plugins.bdev.clone(), self.plugins.fabric.clone()],
            buffers,
            committer: helpers.committer(number, wake),
            shared: Arc::clone(&shared),
        };
        let (answer, address) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name(format!("target-{number}"))
            .spawn(move || seed.grow(&answer))
            .map_err(|e| StartError::failed(format_args!("cannot start target {number}: {e}")))?;
        Ok((Running { shared, thread }, address))
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
            Err(e) => Err(StartError::plugin(
                format_args!("log of target {number}"),
                &e,
            )),
        }
    }

    fn create_log(&self, name: &str) -> Result<ScmMapping, StartError> {
        self.scm
            .create_region(name, self.state.log_bytes, CallOptions::default())
            .map_err(|e| StartError::plugin(format_args!("no room for {name} on the SCM"), &e))
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

/// What a target's thread grows from.
struct Seed {
    number: u32,
    targets: u32,
    placement: Placement,
    log: ScmMapping,
    index: PathBuf,
    state: EngineState,
    is_new: bool,
    device: BdevDevice,
    share: Share,
    domain: FabricDomain,
    domain_lock: Arc<Mutex<()>>,
    instances: [daos_plugin_api::host::Instance; 2],
    buffers: Buffers,
    committer: crate::commit::Committer,
    shared: Arc<Shared>,
}

impl Seed {
    /// The life of a target's thread.
    fn grow(self, answer: &mpsc::Sender<Result<Vec<u8>, StartError>>) -> Result<(), String> {
        self.placement.apply(self.number);
        let lock = Arc::clone(&self.domain_lock);
        let instances = self.instances.clone();
        let mut guards = Vec::new();
        for instance in &instances {
            match instance.attach_thread() {
                Ok(guard) => guards.push(guard),
                Err(e) => {
                    let error = StartError::plugin(format_args!("target {}", self.number), &e);
                    let text = error.text.clone();
                    // Nobody listens only if the start was given up.
                    let _ = answer.send(Err(error));
                    return Err(text);
                }
            }
        }
        let mut target = match self.build() {
            Ok((target, address)) => {
                // As above.
                let _ = answer.send(Ok(address));
                target
            }
            Err(error) => {
                let text = error.text.clone();
                // As above.
                let _ = answer.send(Err(error));
                return Err(text);
            }
        };
        let result = target.run();
        // Ends registrations, which is a function of the domain.
        let _one = lock.lock().unwrap_or_else(PoisonError::into_inner);
        drop(target);
        drop(guards);
        result
    }

    fn build(self) -> Result<(Target, Vec<u8>), StartError> {
        let number = self.number;
        let (storage, recovered) = recover(
            self.log,
            &self.index,
            &self.state,
            number,
            self.share.units,
            self.is_new,
        )?;
        tracing::info!(
            target_number = number,
            entries = recovered.entries,
            replayed = recovered.replayed,
            "target recovered"
        );
        let plugin = |e: daos_plugin_api::sdk::Error| {
            StartError::plugin(format_args!("target {number}"), &e)
        };
        let depth = self.device.geometry().max_queue_depth.min(DEPTH);
        let queue = self
            .device
            .open_queue(depth, CallOptions::default())
            .map_err(plugin)?;
        let (net, address) = {
            let _guard = self
                .domain_lock
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let endpoint = self
                .domain
                .open_endpoint(CallOptions::default())
                .map_err(plugin)?;
            let slots = self.domain.info().max_outstanding.min(FABRIC_SLOTS);
            let net = Net::new(endpoint, slots);
            let address = net.address().map_err(|s| plugin(s.into()))?;
            (net, address)
        };
        let target = Target::new(Parts {
            number,
            targets: self.targets,
            storage,
            device: Device::new(queue, self.share, depth),
            net,
            buffers: self.buffers,
            committer: self.committer,
            shared: self.shared,
        });
        Ok((target, address))
    }
}

fn recover(
    log: ScmMapping,
    path: &std::path::Path,
    state: &EngineState,
    number: u32,
    units: u64,
    is_new: bool,
) -> Result<(Storage<ScmLog>, Recovered), StartError> {
    let damaged = |what: &dyn std::fmt::Display| {
        StartError::storage(format_args!(
            "target {number}: {what}; restore the SCM, or format with --reformat"
        ))
    };
    if !is_new && !path.exists() {
        return Err(damaged(&format_args!(
            "its index {} is gone",
            path.display()
        )));
    }
    let identity = Identity {
        engine: state.engine,
        target: number,
    };
    let mut store = Store::open(path, state.index_bytes, INDEX_CACHE).map_err(|e| damaged(&e))?;
    let memory = ScmLog::new(log);
    let limit = Limits {
        index_bytes: state.index_bytes,
    }
    .live_bytes();
    if !is_new {
        if store.identity() != state.index_identity(number) {
            return Err(damaged(&"its index is another target's"));
        }
        return Storage::open(store, memory, identity, units, limit).map_err(|e| damaged(&e));
    }
    // Never served, unless the record that says otherwise was lost.
    let has_records = Ring::has_records(&memory, identity).map_err(|e| damaged(&e))?;
    if store.applied() > 0 || has_records {
        return Err(damaged(&"it has data although engine.json is missing"));
    }
    store
        .set_identity(&state.index_identity(number))
        .map_err(|e| damaged(&e))?;
    let storage =
        Storage::create(store, memory, identity, units, limit).map_err(|e| damaged(&e))?;
    Ok((storage, Recovered::default()))
}
