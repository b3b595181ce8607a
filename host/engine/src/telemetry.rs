//! What the plugins of this engine tell of themselves.

use crate::logging;
use daos_loader::PluginInfo;
use daos_plugin_api::host::InstanceOptions;
use daos_proto::host::{EngineMetrics, EnginePluginMetrics};
use daos_telemetry::Keeper;
use std::sync::{Arc, Mutex, PoisonError};

/// The metrics of the engine's plugins. Clones share them.
#[derive(Clone, Default)]
pub struct Telemetry {
    plugins: Arc<Mutex<Vec<Told>>>,
}

struct Told {
    plugin: String,
    version: String,
    metrics: Arc<Keeper>,
}

impl Telemetry {
    /// What a plugin's instance is to be made with, so that it is heard.
    pub fn options(&self, info: &PluginInfo) -> InstanceOptions {
        let mut options = if info.is_built_in() {
            InstanceOptions::built_in()
        } else {
            InstanceOptions::loaded()
        };
        let metrics = Arc::new(Keeper::new());
        options.log = Some(logging::masks().plugin_log(info.name()));
        options.metrics = Some(Arc::clone(&metrics) as _);
        let mut plugins = self.plugins.lock().unwrap_or_else(PoisonError::into_inner);
        plugins.push(Told {
            plugin: info.name().to_owned(),
            version: info.manifest.version.clone(),
            metrics,
        });
        options
    }

    /// The metrics and log levels as they are now, for the daemon.
    pub(crate) fn report(&self) -> EngineMetrics {
        let mask = logging::masks().current();
        let plugins = self.plugins.lock().unwrap_or_else(PoisonError::into_inner);
        let plugins = plugins.iter().map(|told| EnginePluginMetrics {
            plugin: told.plugin.clone(),
            version: told.version.clone(),
            log_level: mask.of_name(&told.plugin).to_string(),
            // Names and finite numbers have no way to fail.
            metrics: serde_json::to_string(&told.metrics.samples()).unwrap_or_default(),
        });
        EngineMetrics {
            plugins: plugins.collect(),
        }
    }
}
