//! The three plugins of an engine: found among files and built-ins, loaded, instantiated.

use crate::config::Options;
use crate::error::StartError;
use daos_loader::{Catalogue, ClassError, PluginFile, PluginInfo, Policy};
use daos_plugin_api::control::ClassKind;
use daos_plugin_api::host::{Instance, InstanceOptions};
use serde_json::{Map, Value};
use std::path::Path;

/// Instances of the plugins that an engine uses.
pub struct Plugins {
    /// Storage-class memory.
    pub scm: Instance,
    /// Block devices.
    pub bdev: Instance,
    /// Fabric.
    pub fabric: Instance,
}

impl Plugins {
    /// Loads the plugins of the SCM class and provider in the options and of a bdev class.
    ///
    /// # Errors
    /// If a class has no usable plugin.
    pub fn load(options: &Options, bdev_class: &str) -> Result<Self, StartError> {
        let policy = Policy::default();
        let catalogue = Catalogue::build(
            options.plugins_dir.as_deref(),
            daos_builtins::all(),
            &policy,
        );
        let one = |kind, classes: &[&str], file: Option<&Path>| {
            let info = find(&catalogue, &policy, kind, classes, file)?;
            let settings = options.plugin_settings.get(info.name());
            instance(&info, &policy, settings.cloned().unwrap_or_default())
        };
        let provider = options.provider.as_deref().unwrap_or_default();
        Ok(Self {
            scm: one(
                ClassKind::Scm,
                &[&options.scm_class],
                options.scm_plugin.as_deref(),
            )?,
            bdev: one(
                ClassKind::Bdev,
                &[bdev_class],
                options.bdev_plugin.as_deref(),
            )?,
            fabric: one(
                ClassKind::Fabric,
                &families(provider),
                options.fabric_plugin.as_deref(),
            )?,
        })
    }
}

/// Class names that serve a provider, the preferred one first: for `ofi+tcp;ofi_rxm` the plugin of
/// all of libfabric, then one that stands in for `ofi+tcp`, then one for the whole name.
pub fn families(provider: &str) -> Vec<&str> {
    let plain = provider.split(';').next().unwrap_or(provider);
    let mut names = vec![plain.split('+').next().unwrap_or(plain), plain, provider];
    names.dedup();
    names
}

fn find(
    catalogue: &Catalogue,
    policy: &Policy,
    kind: ClassKind,
    classes: &[&str],
    file: Option<&Path>,
) -> Result<PluginInfo, StartError> {
    if let Some(path) = file {
        let info = PluginFile::inspect(path, policy)
            .map_err(|why| StartError::config(format_args!("{}: {why}", path.display())))?;
        if classes
            .iter()
            .any(|class| info.class(kind, class).is_some())
        {
            return Ok(info);
        }
        return Err(StartError::config(format_args!(
            "{}: plugin {} does not provide {kind} class `{}`",
            path.display(),
            info.name(),
            classes.join("` or `")
        )));
    }
    let mut unknown = None;
    for class in classes {
        match catalogue.find(kind, class) {
            Ok(info) => return Ok(info.clone()),
            Err(error @ ClassError::Unknown { .. }) => unknown = unknown.or(Some(error)),
            Err(error) => return Err(StartError::config(error)),
        }
    }
    Err(match unknown {
        Some(error) => StartError::config(error),
        None => StartError::config(format_args!("no {kind} class is named")),
    })
}

fn instance(
    info: &PluginInfo,
    policy: &Policy,
    settings: Map<String, Value>,
) -> Result<Instance, StartError> {
    let loaded = daos_loader::load(info, policy).map_err(StartError::config)?;
    let options = if info.is_built_in() {
        InstanceOptions::built_in()
    } else {
        InstanceOptions::loaded()
    };
    Instance::create(loaded.table, options.settings(settings))
        .map_err(|e| StartError::plugin(format_args!("plugin {} does not start", info.name()), &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_name_their_classes() {
        assert_eq!(families("tcp"), ["tcp"]);
        assert_eq!(families("ofi+tcp"), ["ofi", "ofi+tcp"]);
        assert_eq!(
            families("ofi+tcp;ofi_rxm"),
            ["ofi", "ofi+tcp", "ofi+tcp;ofi_rxm"]
        );
    }
}
