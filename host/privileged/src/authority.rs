//! What is done of what a daemon asks.

use crate::{orders, rights};
use daos_helper::serve::{Authority, Subject};
use daos_helper::{Operation, Start};
use daos_loader::{PluginInfo, Policy, Trust};
use daos_plugin_api::abi::Status;
use daos_plugin_api::control::{ClassRequest, DeviceSpec, FirmwareRequest};
use daos_plugin_api::host::{CallOptions, Instance};
use daos_plugin_api::sdk::Error;
use rustix::thread::CapabilitySet;
use serde_json::{Map, Value};
use std::path::PathBuf;

/// What root allows with one plugin.
pub(crate) struct Orders {
    pub(crate) plugin: PluginInfo,
    pub(crate) policy: Policy,
    /// Settings of the plugin.
    pub(crate) settings: Map<String, Value>,
    /// Classes with the keys that engines of this host have.
    pub(crate) classes: Vec<ClassRequest>,
    /// What the plugin declares that it needs.
    pub(crate) capabilities: CapabilitySet,
    /// The configuration that all this was read from.
    pub(crate) path: PathBuf,
    /// Trust in root alone.
    pub(crate) root: Trust,
}

impl Authority for Orders {
    /// Nothing of what the daemon says but that it speaks the same protocol, which the caller has looked at.
    fn subject(&self, _start: Start) -> Subject {
        Subject {
            plugin: self.plugin.clone(),
            policy: self.policy.clone(),
            settings: self.settings.clone(),
        }
    }

    fn admit(&self, instance: &Instance, operation: Operation) -> Result<Operation, Error> {
        // Files below a mount are the daemon's own: it could have put links there.
        let with_rights = !matches!(
            operation,
            Operation::ReadMountFile { .. }
                | Operation::WriteMountFile { .. }
                | Operation::RemoveMountFile { .. }
        );
        let own = |device: &DeviceSpec| self.device(instance, device);
        let admitted = match operation {
            Operation::Scan => Operation::Scan,
            Operation::Validate(request) => Operation::Validate(self.class(&request)?.clone()),
            Operation::Devices(request) => Operation::Devices(self.class(&request)?.clone()),
            Operation::Prepare(_) | Operation::Release(_) => {
                return Err(self
                    .refused("devices are made ready, and given back, by root alone")
                    .remedy("run `daos_server storage prepare` as root (sudo)"));
            }
            Operation::Firmware(request) => Operation::Firmware(self.query(instance, request)?),
            Operation::Format(mut request) => {
                request.device = own(&request.device)?;
                Operation::Format(request)
            }
            Operation::Mount(device) => Operation::Mount(own(&device)?),
            Operation::Unmount(device) => Operation::Unmount(own(&device)?),
            Operation::Health(device) => Operation::Health(own(&device)?),
            Operation::Quiesce(device) => Operation::Quiesce(own(&device)?),
            Operation::InspectDevice(device) => Operation::InspectDevice(own(&device)?),
            Operation::WriteLabel { device, label } => Operation::WriteLabel {
                device: own(&device)?,
                label,
            },
            Operation::ClearLabel(device) => Operation::ClearLabel(own(&device)?),
            Operation::ReadMountFile { device, file } => Operation::ReadMountFile {
                device: own(&device)?,
                file,
            },
            Operation::WriteMountFile {
                device,
                file,
                content,
            } => Operation::WriteMountFile {
                device: own(&device)?,
                file,
                content,
            },
            Operation::RemoveMountFile { device, file } => Operation::RemoveMountFile {
                device: own(&device)?,
                file,
            },
            Operation::BurnIn(mut request) => {
                for device in &mut request.devices {
                    device.device = own(&device.device)?;
                }
                Operation::BurnIn(request)
            }
        };
        rights::use_them(self.capabilities, with_rights)
            .map_err(|why| self.refused("nothing can be done").cause(why))?;
        Ok(admitted)
    }
}

impl Orders {
    fn refused(&self, what: &str) -> Error {
        Error::new(
            Status::PERMISSION,
            format!("plugin {}: {what}", self.plugin.name()),
        )
    }

    /// The class with its keys, if this host has it so.
    fn class(&self, request: &ClassRequest) -> Result<&ClassRequest, Error> {
        self.classes.iter().find(|c| *c == request).ok_or_else(|| {
            self.refused(&format!(
                "class {} is not used with these keys",
                request.class
            ))
            .cause(format!("{} says otherwise", self.path.display()))
            .remedy("write the keys there, with the devices themselves, and use that configuration")
        })
    }

    /// The device that one of the classes has by that address and number, as the plugin lists it.
    fn device(&self, instance: &Instance, asked: &DeviceSpec) -> Result<DeviceSpec, Error> {
        rights::use_them(self.capabilities, true)
            .map_err(|why| self.refused("nothing can be done").cause(why))?;
        for class in self.classes.iter().filter(|c| c.class == asked.class) {
            let devices = instance.devices(class, CallOptions::default())?;
            let same = |d: &&DeviceSpec| (d.index, &d.address) == (asked.index, &asked.address);
            let Some(own) = devices.iter().find(same) else {
                continue;
            };
            orders::check_place(&own.address, self.root).map_err(|why| {
                self.refused(&format!("{} is not touched with rights", own.address))
                    .cause(why)
            })?;
            return Ok(own.clone());
        }
        Err(self
            .refused(&format!(
                "{} is no device of this host's engines",
                asked.address
            ))
            .cause(format!("{} does not name it", self.path.display()))
            .remedy("write it there and use that configuration"))
    }

    /// A question about the firmware of a device of this host's engines.
    fn query(
        &self,
        instance: &Instance,
        request: Map<String, Value>,
    ) -> Result<Map<String, Value>, Error> {
        let parsed = serde_json::from_value(Value::Object(request.clone()));
        let Ok(FirmwareRequest::Query { device }) = parsed else {
            return Err(self
                .refused("firmware is changed by root alone")
                .remedy("run daos_server as root for the time of the update"));
        };
        for class in &self.classes {
            let devices = instance.devices(class, CallOptions::default())?;
            if devices.iter().any(|d| d.address == device) {
                return Ok(request);
            }
        }
        Err(self.refused(&format!("{device} is no device of this host's engines")))
    }
}
