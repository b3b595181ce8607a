//! What is done of what a daemon asks.

use crate::{places, rights};
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
    /// Why nothing is done with rights: others than root could make the places in the settings lead elsewhere.
    pub(crate) doubt: Option<String>,
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
        let is_daemons = matches!(
            operation,
            Operation::ReadMountFile { .. }
                | Operation::WriteMountFile { .. }
                | Operation::RemoveMountFile { .. }
        );
        let mut doubt = self.doubt.clone();
        let mut own = |device: &DeviceSpec| self.device(instance, device, &mut doubt);
        let admitted = match operation {
            Operation::Scan => Operation::Scan,
            Operation::Validate(request) => {
                Operation::Validate(self.class(&request, &mut doubt)?.clone())
            }
            Operation::Devices(request) => {
                Operation::Devices(self.class(&request, &mut doubt)?.clone())
            }
            Operation::Prepare(_) | Operation::Release(_) => {
                return Err(self
                    .refused("devices are made ready, and given back, by root alone")
                    .remedy("run `daos_server storage prepare` as root (sudo)"));
            }
            Operation::Firmware(request) => {
                Operation::Firmware(self.query(instance, request, &mut doubt)?)
            }
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
        if let Some(why) = &doubt {
            tracing::warn!("done with the rights of the daemon's user only: {why}");
        }
        self.use_rights(!is_daemons && doubt.is_none())?;
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

    fn use_rights(&self, yes: bool) -> Result<(), Error> {
        rights::use_them(self.capabilities, yes)
            .map_err(|why| self.refused("nothing can be done").cause(why))
    }

    /// Looks whether the places that keys and a device's address name can be touched with rights; the first `doubt` stays.
    fn look(&self, doubt: &mut Option<String>, keys: &Map<String, Value>, address: Option<&str>) {
        if doubt.is_none() {
            *doubt = places::doubt(keys, address, self.root);
        }
    }

    /// The class with its keys, if this host has it so.
    fn class(
        &self,
        request: &ClassRequest,
        doubt: &mut Option<String>,
    ) -> Result<&ClassRequest, Error> {
        let own = self.classes.iter().find(|c| *c == request).ok_or_else(|| {
            self.refused(&format!(
                "class {} is not used with these keys",
                request.class
            ))
            .cause(format!("{} says otherwise", self.path.display()))
            .remedy("write the keys there, with the devices themselves, and use that configuration")
        })?;
        self.look(doubt, &own.config, None);
        Ok(own)
    }

    /// The devices of a class, as the plugin lists them.
    fn devices(&self, instance: &Instance, class: &ClassRequest) -> Result<Vec<DeviceSpec>, Error> {
        let mut doubt = self.doubt.clone();
        self.look(&mut doubt, &class.config, None);
        self.use_rights(doubt.is_none())?;
        instance.devices(class, CallOptions::default())
    }

    /// The device that one of the classes has by that address and number, as the plugin lists it; and the `doubt`
    /// whether it may be touched with rights.
    fn device(
        &self,
        instance: &Instance,
        asked: &DeviceSpec,
        doubt: &mut Option<String>,
    ) -> Result<DeviceSpec, Error> {
        for class in self.classes.iter().filter(|c| c.class == asked.class) {
            let devices = self.devices(instance, class)?;
            let same = |d: &&DeviceSpec| (d.index, &d.address) == (asked.index, &asked.address);
            let Some(own) = devices.iter().find(same) else {
                continue;
            };
            // The keys that the plugin hands on are its own words; those of the configuration count, too.
            for keys in [&class.config, &own.config] {
                self.look(doubt, keys, Some(&own.address));
            }
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
        doubt: &mut Option<String>,
    ) -> Result<Map<String, Value>, Error> {
        let parsed = serde_json::from_value(Value::Object(request.clone()));
        let Ok(FirmwareRequest::Query { device }) = parsed else {
            return Err(self
                .refused("firmware is changed by root alone")
                .remedy("run daos_server as root for the time of the update"));
        };
        for class in &self.classes {
            let devices = self.devices(instance, class)?;
            if devices.iter().any(|d| d.address == device) {
                self.look(doubt, &class.config, Some(&device));
                return Ok(request);
            }
        }
        Err(self.refused(&format!("{device} is no device of this host's engines")))
    }
}
