//! The plugin: what the host asks of it, and I/O memory.

use crate::config::{CLASS, Fua, Memory, Name, Settings, device_list, invalid};
use crate::controller::{Attached, Controllers, lock};
use crate::device::{OpenNames, SpdkDevice};
use crate::{env, firmware, held, scan, wipe};
use daos_plugin_api::abi::Status;
use daos_plugin_api::control::{
    ClassRequest, DeviceSpec, DeviceState, FirmwareRequest, FormatReport, FormatRequest,
    PrepareReport, PrepareRequest, QuiesceReport, ScanReport,
};
use daos_plugin_api::sdk::{Bdev, BdevPlugin, CallContext, Error, Host, Plugin, Result};
use nvme_pci::{Controller, Machine, Processes, System};
use serde::Serialize;
use serde_json::{Map, Value};
use std::sync::Arc;

/// The manifest of the plugin (JSON).
pub const MANIFEST: &str = include_str!("../manifest.json");

/// NVMe devices through SPDK.
pub struct BdevNvme {
    settings: Settings,
    machine: Machine,
    controllers: Controllers,
    open_names: OpenNames,
}

daos_plugin_api::declare_plugin!(BdevNvme, bdev);

impl BdevNvme {
    /// The controller of a namespace, as sysfs shows it.
    fn find(&self, name: &Name) -> Option<Controller> {
        Controller::read(self.machine.tree(), name.controller.parse().ok()?)
    }

    /// That there is no such controller, with the one that was probably meant.
    fn absent(&self, name: &Name) -> String {
        let what = format!("there is no NVMe controller at {}", name.controller);
        let all = Controller::all(self.machine.tree());
        let known: Vec<_> = all.iter().map(|one| one.address).collect();
        let near = name.controller.parse().ok();
        match near.and_then(|wanted| nvme_pci::near_miss(wanted, &known)) {
            Some(near) => format!("{what}; did you mean {near}?"),
            None => what,
        }
    }

    fn processes(&self) -> Processes {
        Processes::others(self.machine.tree())
    }

    /// Takes a controller, which a request calls `address`, for this process alone.
    fn controller(&self, name: &Name, address: &str) -> Result<Arc<Attached>> {
        if !self.settings.fabrics.contains_key(&name.controller) {
            self.check_pci(name, address)?;
        }
        self.attach(&name.controller)
    }

    fn attach(&self, controller: &str) -> Result<Arc<Attached>> {
        let settings = &self.settings;
        self.controllers
            .attach(controller, &settings.fabrics, settings.memory_mib)
    }

    /// Whether this process has a namespace of a controller open.
    fn is_open(&self, controller: &str) -> bool {
        let names = lock(&self.open_names);
        names.iter().any(|open| open.controller == controller)
    }

    /// That a controller on PCI is there, and nobody else's.
    fn check_pci(&self, name: &Name, address: &str) -> Result<()> {
        let function = self.find(name).ok_or_else(|| {
            Error::new(Status::NOT_FOUND, format!("{address} does not exist"))
                .cause(format!(
                    "there is no NVMe controller at {}",
                    name.controller
                ))
                .remedy("attach the device, or correct bdev_list (see `storage scan`)")
        })?;
        // Attaching resets the controller, also under somebody who drives it through uio.
        if !self.is_open(&name.controller)
            && let Some(reason) = held::reason(&self.machine, &function, &self.processes())
        {
            return Err(
                Error::new(Status::BUSY, format!("{address} cannot be opened"))
                    .cause(reason)
                    .remedy(if function.is_for_user_space() {
                        "stop whoever holds it"
                    } else {
                        "give it to a user-space driver: daos_server storage prepare"
                    }),
            );
        }
        Ok(())
    }

    /// Opens a namespace for this process alone.
    fn device(&self, name: &Name, address: &str) -> Result<SpdkDevice> {
        let controller = self.controller(name, address)?;
        let flush_after = self.settings.fua == Fua::Flush;
        SpdkDevice::open(
            controller,
            name.namespace,
            address,
            &self.open_names,
            flush_after,
        )
    }

    /// The configured device of a request.
    fn configured(&self, device: &DeviceSpec) -> Result<SpdkDevice> {
        let list = device_list(&device.config, &self.settings.fabrics)?;
        let wanted = Name::parse(&device.address, &self.settings.fabrics)?;
        if !list.iter().any(|(_, name)| *name == wanted) {
            let what = format!("{} is not in bdev_list", device.address);
            return Err(Error::new(Status::NOT_FOUND, what).remedy("add it to bdev_list"));
        }
        self.device(&wanted, &device.address)
    }
}

impl Plugin for BdevNvme {
    const MANIFEST: &'static str = MANIFEST;

    fn create(_host: Host, _call: CallContext<'_>, settings: Map<String, Value>) -> Result<Self> {
        Ok(Self {
            settings: Settings::parse(settings)?,
            machine: Machine::default(),
            controllers: Controllers::default(),
            open_names: OpenNames::default(),
        })
    }

    fn validate(&self, _call: CallContext<'_>, request: ClassRequest) -> Result<()> {
        device_list(&request.config, &self.settings.fabrics).map(drop)
    }

    fn scan(&self, call: CallContext<'_>) -> Result<ScanReport> {
        let functions = Controller::all(self.machine.tree());
        let processes = self.processes();
        let mut report = ScanReport::default();
        for (done, function) in functions.iter().enumerate() {
            call.check_cancelled()?;
            call.progress(
                done as u64,
                functions.len() as u64,
                "examining NVMe controllers",
            );
            let address = function.address.to_string();
            let attach = || self.attach(&address);
            let in_use = held::reason(&self.machine, function, &processes);
            scan::examine(function, in_use, attach, &mut report);
        }
        for (name, transport) in &self.settings.fabrics {
            call.check_cancelled()?;
            scan::examine_fabric(name, transport, || self.attach(name), &mut report);
        }
        Ok(report)
    }

    fn devices(&self, _call: CallContext<'_>, request: ClassRequest) -> Result<Vec<DeviceSpec>> {
        let mut specs = Vec::new();
        let processes = self.processes();
        let list = device_list(&request.config, &self.settings.fabrics)?;
        for (index, (address, name)) in (0..).zip(list) {
            let fabric = self.settings.fabrics.get(&name.controller);
            let (state, detail) = match (fabric, self.find(&name)) {
                // Whether it is there is known when it is opened. Words about a device that is present would say what
                // stands in its format's way.
                (Some(_), _) => (DeviceState::Present, String::new()),
                (None, None) => (DeviceState::Missing, self.absent(&name)),
                (None, Some(function)) => {
                    match held::reason(&self.machine, &function, &processes) {
                        None => (DeviceState::Present, String::new()),
                        Some(reason) => (DeviceState::InUse, reason),
                    }
                }
            };
            specs.push(DeviceSpec {
                class: CLASS.to_owned(),
                index,
                address,
                // Known once it is opened.
                size: 0,
                state,
                detail,
                config: request.config.clone(),
            });
        }
        Ok(specs)
    }

    fn prepare(&self, call: CallContext<'_>, request: Map<String, Value>) -> Result<Value> {
        hand_over(request, |request| nvme_pci::prepare(call, request))
    }

    fn release(&self, call: CallContext<'_>, request: Map<String, Value>) -> Result<Value> {
        hand_over(request, |request| nvme_pci::release(call, request))
    }

    fn format(&self, call: CallContext<'_>, request: FormatRequest) -> Result<FormatReport> {
        let device = self.configured(&request.device)?;
        if request.check_only {
            if request.nvme_format {
                device.check_nvme_format()?;
            }
            return Ok(FormatReport {
                size: device.size(),
                notes: Vec::new(),
            });
        }
        if request.nvme_format {
            call.check_cancelled()?;
            call.progress(0, 0, "NVMe Format");
            device.nvme_format()?;
        }
        let notes = wipe::wipe(call, &device, &request.device.address)?;
        Ok(FormatReport {
            size: device.size(),
            notes,
        })
    }

    fn health(&self, call: CallContext<'_>, device: DeviceSpec) -> Result<Map<String, Value>> {
        self.configured(&device)?.health(call)
    }

    fn firmware(&self, call: CallContext<'_>, request: Map<String, Value>) -> Result<Value> {
        let request: FirmwareRequest =
            serde_json::from_value(Value::Object(request)).map_err(|error| {
                invalid("the request about firmware is malformed").cause(error.to_string())
            })?;
        let address = request.device();
        let name = Name::parse(address, &self.settings.fabrics)?;
        let image = match &request {
            FirmwareRequest::Query { .. } => None,
            FirmwareRequest::Update(update) => Some((
                update,
                firmware::Image::read(&update.image, &update.sha256)?,
            )),
        };
        if self.is_open(&name.controller) {
            let what = format!("the firmware of {address} is out of reach");
            return Err(Error::new(Status::BUSY, what)
                .cause("this process has the device open")
                .remedy("close it first"));
        }
        let controller = self.controller(&name, address)?;
        let report = match image {
            None => firmware::query(&controller)?,
            Some((update, image)) => {
                let attach = || self.attach(&name.controller);
                firmware::update(call, controller, update, &image, attach)?
            }
        };
        written(report)
    }

    fn quiesce(&self, _call: CallContext<'_>, device: DeviceSpec) -> Result<QuiesceReport> {
        let name = Name::parse(&device.address, &self.settings.fabrics)?;
        if self.is_open(&name.controller) {
            let what = format!("{} is open in this process", device.address);
            return Err(Error::new(Status::BUSY, what).remedy("close it first"));
        }
        // A controller on a fabric reaches no memory of ours; its connection has ended with the process.
        let Ok(address) = name.controller.parse() else {
            return Ok(QuiesceReport::default());
        };
        let notes = nvme_pci::quiesce(&mut Machine::default(), address, &self.processes())?;
        Ok(QuiesceReport { notes })
    }
}

impl BdevPlugin for BdevNvme {
    type Device = SpdkDevice;

    fn open(&self, _call: CallContext<'_>, device: DeviceSpec) -> Result<SpdkDevice> {
        self.device(
            &Name::parse(&device.address, &self.settings.fabrics)?,
            &device.address,
        )
    }

    fn memory_alloc(
        &self,
        _call: CallContext<'_>,
        len: usize,
        numa_node: i32,
    ) -> Option<Result<*mut u8>> {
        match self.settings.memory {
            Memory::Host => None,
            Memory::Hugepages => Some(
                env::start(self.settings.memory_mib).and_then(|()| env::allocate(len, numa_node)),
            ),
        }
    }

    unsafe fn memory_free(&self, ptr: *mut u8, _len: usize) {
        // SAFETY: the caller vouches that this came from `memory_alloc`.
        unsafe { env::free(ptr) }
    }

    fn memory_register(&self, _call: CallContext<'_>, ptr: *mut u8, len: usize) -> Result<()> {
        env::start(self.settings.memory_mib)?;
        env::register(ptr, len)
    }

    fn memory_unregister(&self, ptr: *mut u8, len: usize) -> Result<()> {
        env::unregister(ptr, len)
    }
}

/// Runs preparation or release on its documents.
fn hand_over(
    request: Map<String, Value>,
    work: impl FnOnce(&PrepareRequest) -> Result<PrepareReport>,
) -> Result<Value> {
    let request = serde_json::from_value(Value::Object(request)).map_err(|error| {
        invalid("the request to prepare devices is malformed").cause(error.to_string())
    })?;
    written(work(&request)?)
}

/// A report as a document.
fn written(report: impl Serialize) -> Result<Value> {
    serde_json::to_value(report).map_err(|error| {
        Error::new(Status::INTERNAL, "the report cannot be written").cause(error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use daos_plugin_api::control::{ClassKind, Manifest};

    #[test]
    fn manifest_is_well_formed_and_of_this_version() {
        let manifest: Manifest = serde_json::from_str(super::MANIFEST).unwrap();
        assert_eq!(manifest.name, env!("CARGO_PKG_NAME"));
        assert_eq!(manifest.version, env!("CARGO_PKG_VERSION"));
        assert_eq!(manifest.exclusive, ["dpdk-eal"]);
        assert_eq!(manifest.classes.len(), 1);
        assert_eq!(manifest.classes[0].kind, ClassKind::Bdev);
        assert_eq!(manifest.classes[0].name, super::CLASS);
        assert!(!manifest.classes[0].ephemeral);
    }
}
