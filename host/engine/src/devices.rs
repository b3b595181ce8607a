//! What the daemon may ask of the engine's block devices, which nobody else opens while it runs: who they are,
//! and how they are. Called on the thread that does their admin work, so one at a time.

use crate::layers::Layers;
use daos_media::device_config::Device;
use daos_plugin_api::abi::Status;
use daos_plugin_api::host::CallOptions;
use daos_plugin_api::sdk::Error;
use daos_proto::ctl::ResponseStatus;
use daos_proto::host::{EngineDevice, EngineDevices, Fault};
use serde::Serialize;
use std::time::Duration;

/// How long a device may take to answer; the engine's other admin work waits meanwhile.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// The devices as the format recorded them, in their order.
pub struct Devices {
    /// The devices.
    pub all: Vec<Device>,
    /// Targets of the engine: number n works on device n modulo the number of devices.
    pub targets: u32,
}

impl Devices {
    /// Asks each device; one that fails says so in its place.
    pub(crate) fn list(&self, layers: &Layers, health: bool) -> EngineDevices {
        let devices = self.all.iter().zip(layers.plain_devices());
        let devices = devices.map(|(known, device)| {
            let options = || CallOptions {
                deadline: Some(ANSWER_WITHIN),
                ..CallOptions::default()
            };
            let (record, first) = answer(device.identity(options()));
            let (health, second) = match health {
                true => answer(device.health(options())),
                false => (String::new(), None),
            };
            EngineDevice {
                class: known.class.clone(),
                address: known.address.clone(),
                record,
                health,
                fault: first.or(second),
                uuid: known.label.to_string(),
                targets: (0..self.targets)
                    .filter(|n| *n as usize % self.all.len() == known.index as usize)
                    .collect(),
                size_bytes: known.size_bytes,
            }
        });
        EngineDevices {
            devices: devices.collect(),
        }
    }
}

/// A document as text; what a plugin does not have is no failure.
fn answer(result: Result<impl Serialize, Error>) -> (String, Option<Fault>) {
    let fault = |what: &str, cause: &str, remedy: &str| {
        Fault::new(ResponseStatus::CtlErrNvme, "bdev", 0, what, cause, remedy)
    };
    match result {
        Ok(document) => match serde_json::to_string(&document) {
            Ok(text) => (text, None),
            Err(error) => {
                let what = "its answer cannot be encoded";
                (String::new(), Some(fault(what, &error.to_string(), "")))
            }
        },
        Err(error) if error.status == Status::NOT_SUPPORTED => (String::new(), None),
        Err(e) => (String::new(), Some(fault(&e.what, &e.cause, &e.remedy))),
    }
}
