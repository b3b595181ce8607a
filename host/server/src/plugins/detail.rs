//! Everything that is known of one plugin.

use super::{Plugins, Trouble, describe, refusal};
use crate::state::State;
use crate::telemetry;
use daos_config::Config;
use daos_loader::{AbiVersion, Found, PluginFile, PluginInfo, Policy, Refusal, Trust};
use daos_proto::ctl::ResponseStatus;
use daos_proto::host::{
    EngineMetrics, Fault, Plugin, PluginDependency, PluginDependencyKind as Kind, PluginHelper,
    PluginIncident, PluginInspectResponse, PluginMetrics, PluginPath, PluginState, PluginUse,
};
use daos_telemetry::Mask;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// What runs around the plugins; nothing where no server does.
#[derive(Default)]
pub(crate) struct Surroundings {
    mask: Option<Mask>,
    metrics: Vec<(usize, EngineMetrics)>,
    layers: Vec<Vec<String>>,
}

impl Surroundings {
    /// As they are now.
    pub(crate) async fn of(state: &State) -> Self {
        Self {
            mask: Some(state.log_masks.current()),
            metrics: telemetry::engine_metrics(state).await,
            layers: state.engines().into_iter().map(|e| e.layers).collect(),
        }
    }
}

fn ms(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Whether it is the one of its name that counts.
fn is_used(plugin: &Plugin) -> bool {
    use PluginState::{Ambiguous, Failing, Usable};
    matches!(plugin.state(), Usable | Failing | Ambiguous)
}

impl Plugins {
    /// Everything about the plugin of that name, or of a refused file of that name.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn detail(
        &self,
        config: &Config,
        name: &str,
        around: &Surroundings,
    ) -> Result<PluginInspectResponse, Trouble> {
        let plugins = self.list_message(config).plugins;
        let names: Vec<_> = plugins.iter().map(|p| p.name.clone()).collect();
        let mut named = plugins.into_iter().filter(|p| {
            let file = Path::new(&p.path).file_name();
            p.name == name || file.is_some_and(|f| f == name)
        });
        // Of several the one that is used.
        let found = match (named.next(), named.find(is_used)) {
            (Some(first), Some(_)) if is_used(&first) => Some(first),
            (_, Some(usable)) => Some(usable),
            (first, None) => first,
        };
        let Some(plugin) = found else {
            let near = daos_config::keys::nearest(name, names.iter().map(String::as_str));
            let meant = near.map_or_else(String::new, |near| format!("did you mean {near}? "));
            return Err(Box::new(Fault::new(
                ResponseStatus::CtlErrConf,
                "plugin",
                0,
                format!("there is no plugin {name} on this host"),
                "",
                format!("{meant}`plugin list` shows them"),
            )));
        };
        Ok(self.about(plugin, around))
    }

    /// Everything about a file, used or not.
    ///
    /// # Errors
    /// When the quarantine cannot be read.
    pub(crate) fn detail_of_file(&self, file: &Path) -> Result<PluginInspectResponse, Trouble> {
        let quarantine = self.state.quarantine().map_err(|error| {
            let status = ResponseStatus::CtlErrConf;
            Box::new(Fault::new(status, "plugin", 0, error.to_string(), "", ""))
        })?;
        let policy = Policy {
            trust: Trust::current(),
            allow: None,
            quarantine,
        };
        let plugin = match PluginFile::inspect(file, &policy) {
            Ok(info) => describe(&info),
            Err(reason) => Plugin {
                state: match reason {
                    Refusal::Quarantined { .. } => PluginState::Quarantined.into(),
                    _ => PluginState::Refused.into(),
                },
                fault: Some(refusal(file, &reason)),
                // What can be read is shown, also of a file that is not trusted.
                ..PluginFile::read_manifest(file).map_or_else(
                    |_| Plugin {
                        path: file.display().to_string(),
                        ..Plugin::default()
                    },
                    |info| describe(&info),
                )
            },
        };
        Ok(self.about(plugin, &Surroundings::default()))
    }

    fn about(&self, plugin: Plugin, around: &Surroundings) -> PluginInspectResponse {
        let info = match plugin.path.as_str() {
            "" => self.get(&plugin.name),
            path => PluginFile::read_manifest(Path::new(path)).ok(),
        };
        let name = info.as_ref().map_or(plugin.name.as_str(), PluginInfo::name);
        PluginInspectResponse {
            manifest: info
                .as_ref()
                .and_then(|info| serde_json::to_string(&info.manifest).ok())
                .unwrap_or_default(),
            paths: paths(Path::new(&plugin.path)),
            log_level: around
                .mask
                .as_ref()
                .map_or_else(String::new, |mask| mask.of_name(name).to_string()),
            uses: plugin
                .used_by
                .iter()
                .map(|engine| around.usage(*engine, name))
                .collect(),
            metrics: self.told(name, around),
            incidents: self.incidents(name),
            dependencies: dependencies(Path::new(&plugin.path)),
            helper: self.helper(name),
            abi_version: AbiVersion::HOST.to_string(),
            plugin: Some(plugin),
        }
    }

    /// What the plugin did to processes, of this server and of earlier ones.
    fn incidents(&self, name: &str) -> Vec<PluginIncident> {
        let known = self.state.incidents(name).unwrap_or_else(|error| {
            tracing::warn!("the history of plugin {name} is not shown: {error}");
            Vec::new()
        });
        let shown = known.into_iter().map(|incident| PluginIncident {
            at_ms: incident.at_ms,
            process: incident.process,
            what: incident.what,
            log: incident.log,
        });
        shown.collect()
    }

    fn told(&self, name: &str, around: &Surroundings) -> Vec<PluginMetrics> {
        let mut told = Vec::new();
        if let Some(samples) = self.helpers.metrics().get(name) {
            told.push(PluginMetrics {
                process: "helper".to_owned(),
                // Names and finite numbers have no way to fail.
                metrics: serde_json::to_string(samples).unwrap_or_default(),
            });
        }
        for (engine, metrics) in &around.metrics {
            let of = metrics.plugins.iter().filter(|told| told.plugin == name);
            told.extend(of.map(|of| PluginMetrics {
                process: format!("engine {engine}"),
                metrics: of.metrics.clone(),
            }));
        }
        told
    }

    fn helper(&self, name: &str) -> Option<PluginHelper> {
        let counts = self.helpers.counts().remove(name)?;
        Some(PluginHelper {
            pid: self.helpers.idle_process(name).unwrap_or(0),
            starts: counts.starts,
            deaths: counts.deaths,
            recycled: counts.recycled,
            calls: counts.calls,
            failures: counts.failures,
        })
    }
}

impl Surroundings {
    fn usage(&self, engine: u32, plugin: &str) -> PluginUse {
        let told = self.metrics.iter().find(|(e, _)| *e == engine as usize);
        let told = told.and_then(|(_, m)| m.plugins.iter().find(|p| p.plugin == plugin));
        PluginUse {
            engine,
            layers: self
                .layers
                .get(engine as usize)
                .cloned()
                .unwrap_or_default(),
            log_level: told.map_or_else(String::new, |t| t.log_level.clone()),
        }
    }
}

/// Owner and mode of a file and of what lies above it, as far as they can be read.
fn paths(file: &Path) -> Vec<PluginPath> {
    let above = file.ancestors().filter(|p| p.is_absolute());
    let mut facts: Vec<PluginPath> = above.filter_map(path_facts).collect();
    if let (Some(first), Ok(meta)) = (facts.first_mut(), std::fs::symlink_metadata(file)) {
        first.size = meta.size();
        first.modified_ms = meta.modified().map_or(0, ms);
    }
    facts
}

/// Owner and mode.
fn path_facts(path: &Path) -> Option<PluginPath> {
    let meta = std::fs::symlink_metadata(path).ok()?;
    Some(PluginPath {
        path: path.display().to_string(),
        uid: meta.uid(),
        gid: meta.gid(),
        mode: meta.mode() & 0o7777,
        size: 0,
        modified_ms: 0,
    })
}

/// What the linker looks at on behalf of a file, each with the verdict on it.
fn dependencies(file: &Path) -> Vec<PluginDependency> {
    // Why a file is none that has any is said elsewhere.
    let known = PluginFile::dependencies(file, Trust::current()).unwrap_or_default();
    let shown = known.into_iter().map(|dependency| {
        let (kind, path) = match dependency.found {
            Found::Nowhere => (Kind::Missing, None),
            Found::System(path) => (Kind::System, Some(path)),
            Found::Library(path) => (Kind::Library, Some(path)),
            Found::Directory(path) => (Kind::Directory, Some(path)),
        };
        PluginDependency {
            name: dependency.name,
            needed_by: dependency.needed_by.display().to_string(),
            kind: kind.into(),
            // One that does not exist has a path alone.
            path: path.map(|path| {
                path_facts(&path).unwrap_or_else(|| PluginPath {
                    path: path.display().to_string(),
                    ..PluginPath::default()
                })
            }),
            refusal: dependency
                .refusal
                .map_or_else(String::new, |refusal| refusal.to_string()),
        }
    });
    shown.collect()
}
