//! What the daemon asks our own engine over dRPC, and no other: module 1000 of its socket.

use crate::catalogue::Handle;
use crate::devices::Devices;
use crate::layers::Layers;
use crate::pools;
use crate::telemetry::Telemetry;
use daos_drpc::methods::{host, module};
use daos_drpc::{Module, Refusal, Reply, Request, reply};
use daos_proto::ctl::ResponseStatus;
use daos_proto::host::{DeviceLayers, EngineDevicesRequest, EngineLayers, Fault, SetLayersRequest};
use std::sync::Arc;

/// Answers those calls.
pub(crate) struct HostCalls {
    pub(crate) catalogue: Handle,
    pub(crate) layers: Arc<Layers>,
    pub(crate) devices: Devices,
    pub(crate) telemetry: Telemetry,
}

impl Module for HostCalls {
    fn id(&self) -> i32 {
        module::HOST
    }

    fn call(self: Arc<Self>, request: Request) -> Reply {
        Box::pin(async move {
            match request.method {
                host::POOLS => reply(&pools::space(&self.catalogue)),
                host::LAYERS_LIST => reply(&list(&self.layers)?),
                host::LAYERS_SET => {
                    let set: SetLayersRequest = request.decode()?;
                    let done = match daos_layers::parse(&set.layers) {
                        Ok(specs) => self.layers.set(&specs).await,
                        Err(error) => Err(error.to_string()),
                    };
                    let mut answer = list(&self.layers)?;
                    // A refusal has no text, so it travels in the answer.
                    answer.fault = done.err().map(|why| {
                        let what = "the layers could not be changed";
                        Fault::new(ResponseStatus::CtlErrNvme, "bdev", 0, what, why, "")
                    });
                    reply(&answer)
                }
                host::METRICS => reply(&self.telemetry.report()),
                host::DEVICES => {
                    let asked: EngineDevicesRequest = request.decode()?;
                    reply(&self.devices.list(&self.layers, asked.health))
                }
                _ => Err(Refusal::UnknownMethod),
            }
        })
    }
}

fn list(layers: &Layers) -> Result<EngineLayers, Refusal> {
    let mut devices = Vec::new();
    for (number, layers) in (0..).zip(layers.state()) {
        let layers = serde_json::to_string(&layers).map_err(|e| Refusal::Failed(e.to_string()))?;
        devices.push(DeviceLayers { number, layers });
    }
    Ok(EngineLayers {
        devices,
        ..EngineLayers::default()
    })
}
