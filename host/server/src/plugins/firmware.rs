//! Firmware, through helpers.

use super::calls::trouble;
use super::{Plugins, Trouble};
use daos_helper::{CallOptions, HelperError, HelperPool};
use daos_loader::PluginInfo;
use daos_plugin_api::abi::Status;
use daos_plugin_api::control::{FirmwareReport, FirmwareRequest};
use daos_proto::ctl::ResponseStatus;
use daos_proto::host::Fault;
use serde_json::{Map, Value};

/// A failed call: its code tells "in use" and "cannot" from the rest.
pub(crate) type Failure = (Status, Trouble);

impl Plugins {
    /// Asks for the firmware of a device that nobody holds.
    pub(crate) async fn firmware(
        &self,
        plugin: &PluginInfo,
        device: &str,
    ) -> Result<FirmwareReport, Failure> {
        let device = device.to_owned();
        let request = document(&FirmwareRequest::Query { device });
        let call = self
            .helpers
            .firmware(plugin, request, CallOptions::default());
        answer(plugin, call.await)
    }
}

/// Updates the firmware of a device in a helper of that pool.
pub(crate) async fn update(
    helpers: &HelperPool,
    plugin: &PluginInfo,
    request: Map<String, Value>,
    options: CallOptions,
) -> Result<FirmwareReport, Failure> {
    answer(plugin, helpers.firmware(plugin, request, options).await)
}

/// A request as a document.
pub(crate) fn document(request: &FirmwareRequest) -> Map<String, Value> {
    match serde_json::to_value(request) {
        Ok(Value::Object(document)) => document,
        // It is a struct of texts and numbers.
        _ => Map::new(),
    }
}

fn answer(
    plugin: &PluginInfo,
    answer: Result<Value, HelperError>,
) -> Result<FirmwareReport, Failure> {
    let answer = answer.map_err(|e| (e.status(), trouble(plugin, e)))?;
    serde_json::from_value(answer).map_err(|e| {
        let fault = Fault::new(
            ResponseStatus::CtlErrApp,
            "plugin",
            0,
            format!(
                "the answer of plugin {} about firmware makes no sense",
                plugin.name()
            ),
            e.to_string(),
            "tell its vendor",
        );
        (Status::INTERNAL, Box::new(fault))
    })
}
