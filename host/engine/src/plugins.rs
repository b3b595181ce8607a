//! The three plugins of an engine: found among files and built-ins, loaded, instantiated.

use crate::config::Options;
use crate::error::StartError;
use crate::telemetry::Telemetry;
use daos_loader::{Catalogue, ClassError, PluginFile, PluginInfo, Policy};
use daos_plugin_api::control::ClassKind;
use daos_plugin_api::host::{Instance, while_loading};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Instances of the plugins that an engine uses.
pub struct Plugins {
    /// Storage-class memory.
    pub scm: Instance,
    /// Block devices.
    pub bdev: Instance,
    /// Fabric.
    pub fabric: Instance,
    /// The provider as the fabric plugin knows it.
    pub provider: String,
    /// What they tell of themselves.
    pub telemetry: Telemetry,
}

impl Plugins {
    /// Loads the plugins of the SCM class and provider in the options and of a bdev class.
    ///
    /// # Errors
    /// If a class has no usable plugin.
    pub fn load(options: &Options, bdev_class: &str) -> Result<Self, StartError> {
        let (policy, catalogue) = offered(options);
        let class = |kind, name: &str, file: &Option<PathBuf>| match file {
            Some(path) => {
                let info = inspect(path, &policy)?;
                match info.class(kind, name) {
                    Some(_) => Ok(info),
                    None => Err(not_provided(
                        path,
                        &info,
                        format_args!("{kind} class `{name}`"),
                    )),
                }
            }
            None => found(catalogue.find(kind, name)),
        };
        let (fabric, provider) = fabric(options, &catalogue, &policy)?;
        let telemetry = Telemetry::default();
        let start = |info: &PluginInfo| {
            let settings = options.plugin_settings.get(info.name());
            instance(
                info,
                &policy,
                settings.cloned().unwrap_or_default(),
                &telemetry,
            )
        };
        Ok(Self {
            scm: start(&class(
                ClassKind::Scm,
                &options.scm_class,
                &options.scm_plugin,
            )?)?,
            bdev: start(&class(ClassKind::Bdev, bdev_class, &options.bdev_plugin)?)?,
            fabric: start(&fabric)?,
            provider,
            telemetry: telemetry.clone(),
        })
    }

    /// Loads the fabric plugin alone; returns it with the provider as it knows it.
    ///
    /// # Errors
    /// If the provider has no usable plugin.
    pub fn load_fabric(options: &Options) -> Result<(Instance, String), StartError> {
        let (policy, catalogue) = offered(options);
        let (info, provider) = fabric(options, &catalogue, &policy)?;
        let settings = options.plugin_settings.get(info.name());
        let settings = settings.cloned().unwrap_or_default();
        let instance = instance(&info, &policy, settings, &Telemetry::default())?;
        Ok((instance, provider))
    }
}

/// What may be loaded, and what there is to load.
fn offered(options: &Options) -> (Policy, Catalogue) {
    let policy = Policy {
        allow: options.allow_plugins.clone(),
        ..Policy::default()
    };
    let catalogue = Catalogue::build(
        options.plugins_dir.as_deref(),
        daos_builtins::all(),
        &policy,
    );
    (policy, catalogue)
}

/// The fabric plugin of the options, and the provider as it knows it.
fn fabric(
    options: &Options,
    catalogue: &Catalogue,
    policy: &Policy,
) -> Result<(PluginInfo, String), StartError> {
    let provider = options.provider.as_deref().unwrap_or_default();
    let info = match &options.fabric_plugin {
        Some(path) => inspect(path, policy)?,
        None => found(catalogue.find_provider(provider))?,
    };
    if !info.serves(provider) {
        let path = info.path().unwrap_or(Path::new(""));
        let what = format_args!("provider {provider}");
        return Err(not_provided(path, &info, what));
    }
    tracing::info!(provider, "fabric of plugin {}", info.described());
    Ok((info, provider.to_owned()))
}

fn inspect(path: &Path, policy: &Policy) -> Result<PluginInfo, StartError> {
    PluginFile::inspect(path, policy)
        .map_err(|why| StartError::config(format_args!("{}: {why}", path.display())))
}

fn found(result: Result<&PluginInfo, ClassError>) -> Result<PluginInfo, StartError> {
    result.cloned().map_err(StartError::config)
}

fn not_provided(path: &Path, info: &PluginInfo, what: impl std::fmt::Display) -> StartError {
    StartError::config(format_args!(
        "{}: plugin {} does not provide {what}",
        path.display(),
        info.name()
    ))
}

fn instance(
    info: &PluginInfo,
    policy: &Policy,
    settings: Map<String, Value>,
    telemetry: &Telemetry,
) -> Result<Instance, StartError> {
    let (name, version) = (info.name(), info.manifest.version.as_str());
    let loaded = while_loading(name, version, || daos_loader::load(info, policy));
    let loaded = loaded.map_err(StartError::config)?;
    let options = telemetry.options(info);
    Instance::create(loaded.table, options.settings(settings))
        .map_err(|e| StartError::plugin(format_args!("plugin {name} {version} does not start"), &e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn refused(arguments: &[&str]) -> String {
        let words = [&["daos_io_server"], arguments].concat();
        let options = Options::try_parse_from(words).unwrap();
        match Plugins::load_fabric(&options) {
            Ok(_) => panic!("{arguments:?} found a plugin"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_provider_without_its_plugin_is_refused_with_the_reason() {
        let missing = refused(&["--provider", "ofi+tcp"]);
        for words in [
            "ofi+tcp",
            "fabric class `ofi`",
            "available: ",
            "tcp; put ",
            "libdaos_fabric_ofi.so",
        ] {
            assert!(missing.contains(words), "{words:?} is missing in {missing}");
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("libdaos_fabric_ofi.so");
        std::fs::write(&file, "half of a plugin").unwrap();
        let dir = dir.path().to_str().unwrap();
        let broken = refused(&["--provider", "ofi+tcp", "--plugins-dir", dir]);
        for words in ["libdaos_fabric_ofi.so is refused", "not an ELF file"] {
            assert!(broken.contains(words), "{words:?} is missing in {broken}");
        }
        let options = ["daos_io_server", "--provider", "tcp", "--plugins-dir", dir];
        let options = Options::try_parse_from(options).unwrap();
        assert_eq!(Plugins::load_fabric(&options).unwrap().1, "tcp");
    }
}
