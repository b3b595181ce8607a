//! The devices of an engine as its configuration and its plugins name them.

use super::chosen_scm;
use super::usable::{Which, effective};
use crate::engine::Start;
use crate::fabric::Fabric;
use crate::plugins::{Plugins, Trouble};
use daos_config::{ClassSchema, Config};
use daos_loader::PluginInfo;
use daos_media::superblock;
use daos_plugin_api::control::{ClassKind, ClassRequest, DeviceSpec, DeviceState};
use daos_proto::ctl::ResponseStatus;
use daos_proto::host::Fault;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Devices of one kind, and the plugin that drives them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tier {
    pub(crate) plugin: PluginInfo,
    pub(crate) class: String,
    /// Contents die with the process that opened the device.
    pub(crate) ephemeral: bool,
    pub(crate) devices: Vec<DeviceSpec>,
}

/// All devices of an engine.
pub(super) struct Layout {
    pub(super) scm: Tier,
    /// `None` for an engine without block devices.
    pub(super) bdev: Option<Tier>,
    pub(super) scm_mount: PathBuf,
    /// The immutable keys of the engine, for its superblock: name and value as text.
    pub(super) immutable: BTreeMap<String, String>,
}

/// Asks the plugins for the devices of engine `index`. Reads only, but for SCM that is formatted and not mounted.
pub(super) async fn layout(
    plugins: &Plugins,
    config: &Config,
    index: usize,
    which: Which,
) -> Result<Layout, Trouble> {
    let config = chosen_scm::effective(plugins, config, index).await?;
    let config = effective(plugins, &config, index, which).await?;
    let mut layout = scm_layout(plugins, &config, index).await?;
    layout.bdev = listed(plugins, &config, index).await?;
    Ok(layout)
}

/// The block devices of engine `index`, if it has any. Reads only, as `layout` does.
pub(crate) async fn bdevs(
    plugins: &Plugins,
    config: &Config,
    index: usize,
) -> Result<Option<Tier>, Trouble> {
    let config = effective(plugins, config, index, Which::Recorded).await?;
    listed(plugins, &config, index).await
}

async fn listed(plugins: &Plugins, config: &Config, index: usize) -> Result<Option<Tier>, Trouble> {
    let server = &config.servers[index];
    let schemas = plugins.schemas();
    // The class alone may be a default; devices come from these keys, or from others that it has.
    let is_asked_for = !server.bdev_list.is_empty()
        || server.bdev_number.is_some()
        || config
            .class_of(index, daos_config::ClassKind::Bdev, &schemas)
            .is_some_and(|class| !server.class_section(class).is_empty());
    if !is_asked_for {
        return Ok(None);
    }
    let bdev = tier(plugins, config, index, ClassKind::Bdev, &schemas).await?;
    Ok(Some(bdev).filter(|t| !t.devices.is_empty()))
}

/// The same as if the engine had no block devices.
pub(super) async fn scm_layout(
    plugins: &Plugins,
    config: &Config,
    index: usize,
) -> Result<Layout, Trouble> {
    let schemas = plugins.schemas();
    let scm = tier(plugins, config, index, ClassKind::Scm, &schemas).await?;
    if scm.devices.len() != 1 {
        return Err(Box::new(Fault::new(
            ResponseStatus::CtlErrConf,
            "scm",
            0,
            format!("engine {index} has {} SCM devices", scm.devices.len()),
            "an engine works on exactly one SCM mount",
            "mend scm_list in the configuration",
        )));
    }
    Ok(Layout {
        scm,
        bdev: None,
        scm_mount: config.servers[index].scm_mount.clone(),
        immutable: immutable(config, index, &schemas),
    })
}

async fn tier(
    plugins: &Plugins,
    config: &Config,
    index: usize,
    kind: ClassKind,
    schemas: &[ClassSchema],
) -> Result<Tier, Trouble> {
    let server = &config.servers[index];
    let class = match kind {
        ClassKind::Scm => &server.scm_class,
        _ => &server.bdev_class,
    };
    let plugin = plugins.find(kind, class)?;
    let section = config
        .class_of(index, kind.into(), schemas)
        .map(|schema| server.class_section(schema))
        .unwrap_or_default();
    let request = ClassRequest {
        class: class.clone(),
        config: section,
    };
    let ephemeral = plugin.class(kind, class).is_some_and(|c| c.ephemeral);
    let devices = plugins.devices(&plugin, &request).await?;
    Ok(Tier {
        class: class.clone(),
        ephemeral,
        devices,
        plugin,
    })
}

impl Layout {
    /// Whether somebody holds one of the devices.
    pub(super) fn in_use(&self) -> bool {
        let bdevs = self.bdev.iter().flat_map(|t| &t.devices);
        let mut devices = self.scm.devices.iter().chain(bdevs);
        devices.any(|d| d.state == DeviceState::InUse)
    }

    /// Path of the superblock.
    pub(super) fn superblock(&self) -> PathBuf {
        self.scm_mount.join(superblock::FILE_NAME)
    }

    /// How the engine is started on this storage, with that fabric.
    pub(super) fn start(&self, first: bool, fabric: &Fabric) -> Start {
        let config = serde_json::Value::Object(self.scm.devices[0].config.clone());
        Start {
            first,
            plugins: self.plugin_files(fabric),
            fabric: fabric.selection.clone(),
            bdevs: self.bdev.as_ref().map_or(0, |t| t.devices.len()),
            tier: self.bdev.clone().map(Box::new),
            devices: self.shared_devices(),
            scm: (self.scm.class.clone(), config.to_string()),
        }
    }

    /// Devices that other processes see as well, as leases name them.
    fn shared_devices(&self) -> Vec<String> {
        let tiers = std::iter::once(&self.scm).chain(self.bdev.as_ref());
        tiers
            .filter(|tier| !tier.ephemeral)
            .flat_map(|tier| {
                let name = |d: &DeviceSpec| format!("{}:{}", tier.class, d.address);
                tier.devices.iter().map(name)
            })
            .collect()
    }

    /// Plugins of this engine that come from files, for its command line.
    fn plugin_files(&self, fabric: &Fabric) -> Vec<(&'static str, PathBuf)> {
        let mut files = Vec::new();
        let mut add = |kind, path: Option<&Path>| files.extend(path.map(|p| (kind, p.to_owned())));
        add("scm", self.scm.plugin.path());
        add("bdev", self.bdev.as_ref().and_then(|t| t.plugin.path()));
        add("fabric", fabric.plugin_file());
        files
    }
}

fn immutable(config: &Config, index: usize, schemas: &[ClassSchema]) -> BTreeMap<String, String> {
    config
        .immutable_keys()
        .into_iter()
        .chain(config.immutable_server_keys(index, schemas))
        .filter(|entry| !entry.value.is_null())
        .map(|entry| (entry.key, entry.value.to_string()))
        .collect()
}
