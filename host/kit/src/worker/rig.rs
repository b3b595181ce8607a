//! An instance with its storage formatted, for measurements.

use crate::protocol::Subject;
use daos_loader::Loaded;
use daos_plugin_api::abi::Status;
use daos_plugin_api::control::{ClassKind, ClassRequest, DeviceSpec, DeviceState, FormatRequest};
use daos_plugin_api::host::{CallOptions, Instance, InstanceOptions};
use daos_plugin_api::sdk::Error;

pub(super) struct Rig {
    pub(super) instance: Instance,
    pub(super) subject: Subject,
    /// Empty for a fabric.
    pub(super) devices: Vec<DeviceSpec>,
}

/// A plugin need not have every function of the control face.
fn unless_unsupported<T>(result: Result<T, Error>) -> Result<(), String> {
    match result {
        Err(e) if e.status != Status::NOT_SUPPORTED => Err(e.to_string()),
        _ => Ok(()),
    }
}

impl Rig {
    pub(super) fn new(loaded: &Loaded, subject: &Subject) -> Result<Self, String> {
        let options = InstanceOptions::loaded().settings(subject.settings.clone());
        let instance = Instance::create(loaded.table, options).map_err(|e| e.to_string())?;
        let mut rig = Self {
            instance,
            subject: subject.clone(),
            devices: Vec::new(),
        };
        if subject.kind == ClassKind::Fabric {
            return Ok(rig);
        }
        for device in rig.list()? {
            if matches!(device.state, DeviceState::InUse | DeviceState::Missing) {
                let DeviceSpec {
                    address,
                    state,
                    detail,
                    ..
                } = device;
                return Err(format!("{address} cannot be measured: {state:?} {detail}"));
            }
            let request = FormatRequest {
                overwrite_foreign: subject.overwrite_foreign,
                device,
                nvme_format: false,
                check_only: false,
            };
            unless_unsupported(rig.instance.format(&request, CallOptions::default()))?;
        }
        rig.devices = rig.list()?;
        if rig.devices.is_empty() {
            return Err("the config names no device".to_owned());
        }
        if subject.kind == ClassKind::Scm {
            for device in &rig.devices {
                unless_unsupported(rig.instance.mount(device, CallOptions::default()))?;
            }
        }
        Ok(rig)
    }

    fn list(&self) -> Result<Vec<DeviceSpec>, String> {
        let request = ClassRequest {
            class: self.subject.class.clone(),
            config: self.subject.config.clone(),
        };
        self.instance
            .devices(&request, CallOptions::default())
            .map_err(|e| e.to_string())
    }

    /// Undoes format and mount of SCM.
    pub(super) fn give_back(&self) -> Result<(), String> {
        for device in &self.devices {
            unless_unsupported(self.instance.unmount(device, CallOptions::default()))?;
        }
        Ok(())
    }
}
