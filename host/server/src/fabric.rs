//! Which fabric each engine uses: what the configuration says, and for what it leaves out the best that this
//! machine has. The rules are in `daos_topology::choose`; this asks the plugins, through their helpers.

use crate::plugins::{Plugins, Trouble};
use daos_config::{ClassKind as ConfigKind, ClassSchema, Config};
use daos_loader::PluginInfo;
use daos_plugin_api::control::{ClassKind, ClassRequest, DeviceRecord, provider_class};
use daos_proto::ctl::ResponseStatus;
use daos_proto::host::Fault;
use daos_topology::{Named, Offer, Wish};
use serde_json::Value;
use std::path::Path;

/// Where the kernel shows the machine.
pub(crate) const SYS: &str = "/sys";

/// What an engine is told of its fabric.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    /// Provider, as a configuration names it.
    pub(crate) provider: String,
    /// Interface; `None` where the plugin finds its device itself.
    pub(crate) interface: Option<String>,
    /// Why these, in one line.
    pub(crate) reason: String,
}

/// The fabric of one engine.
pub(crate) struct Fabric {
    /// What the engine is told.
    pub(crate) selection: Selection,
    plugin: PluginInfo,
}

impl Fabric {
    /// File of its plugin; `None` for a built-in one.
    pub(crate) fn plugin_file(&self) -> Option<&Path> {
        self.plugin.path()
    }
}

/// The fabric of engine `index`. Asks plugins only for what the configuration leaves out.
///
/// # Errors
/// Why nothing can be chosen, and what to do.
pub(crate) async fn of_engine(
    plugins: &Plugins,
    config: &Config,
    index: usize,
) -> Result<Fabric, Trouble> {
    let server = &config.servers[index];
    if let (Some(provider), Some(interface)) = (&server.provider, &server.fabric_iface) {
        let plugin = plugin_of(plugins, config, index, provider)?;
        return Ok(Fabric {
            selection: Selection {
                provider: provider.clone(),
                interface: Some(interface.clone()),
                reason: format!(
                    "provider and interface are configured; the provider is plugin {}'s",
                    plugin.described()
                ),
            },
            plugin,
        });
    }
    let (offers, faults) = offers(plugins).await;
    let wishes: Vec<Wish> = (0..config.servers.len())
        .map(|index| wish(plugins, config, index))
        .collect();
    let insecure = config.transport_config.allow_insecure;
    let interfaces = daos_topology::interfaces(Path::new(SYS));
    let choices = daos_topology::choose(&interfaces, &offers, &wishes, insecure);
    let choice = match &choices[index] {
        Ok(choice) => choice.clone(),
        Err(refusal) => {
            let mut cause = refusal.cause.clone();
            for (plugin, fault) in &faults {
                cause += &format!("; plugin {plugin} could not be asked: {fault}");
            }
            return Err(Box::new(Fault::new(
                ResponseStatus::CtlErrConf,
                "fabric",
                0,
                format!("engine {index}: {}", refusal.what),
                cause,
                refusal.remedy.clone(),
            )));
        }
    };
    for (other, their) in choices.iter().enumerate().filter(|(n, _)| *n != index) {
        let port = server.fabric_iface_port;
        let same_place = their
            .as_ref()
            .is_ok_and(|their| their.interface == choice.interface);
        if port.is_some() && same_place && config.servers[other].fabric_iface_port == port {
            return Err(Box::new(Fault::new(
                ResponseStatus::CtlErrConf,
                "fabric",
                0,
                format!("engine {index} cannot have its fabric port"),
                format!(
                    "engine {other} has fabric_iface_port {} on interface {}, too",
                    port.unwrap_or(0),
                    choice.interface.as_deref().unwrap_or("-")
                ),
                "give each server a port of its own, or none to have it chosen",
            )));
        }
    }
    // An engine of somebody else's knows the original's names only.
    let provider = match (choice.provider.as_str(), &config.engine_path) {
        ("tcp", Some(_)) => "ofi+tcp".to_owned(),
        _ => choice.provider,
    };
    let plugin = plugins.get(&choice.plugin).ok_or_else(|| {
        let what = format!("plugin {} of provider {provider} is gone", choice.plugin);
        let remedy = "see `daos_server plugin list`";
        Box::new(Fault::new(
            ResponseStatus::CtlErrConf,
            "fabric",
            0,
            what,
            "",
            remedy,
        ))
    })?;
    Ok(Fabric {
        selection: Selection {
            provider,
            interface: choice.interface,
            reason: choice.reason,
        },
        plugin,
    })
}

/// The fabric for measuring the way to this host: that of the first engine, with another provider if one is
/// named.
///
/// # Errors
/// As [`of_engine`], and what the plugin has against it.
pub(crate) async fn for_ping(
    plugins: &Plugins,
    config: &Config,
    provider: &str,
) -> Result<Fabric, Trouble> {
    let mut config = config.clone();
    let mut server = config.servers.first().cloned().unwrap_or_else(|| {
        let interfaces = config.fabric_ifaces.first().cloned();
        daos_config::ServerConfig {
            provider: config.provider.clone(),
            fabric_iface: interfaces.or_else(|| config.fabric_iface.clone()),
            ..daos_config::ServerConfig::default()
        }
    });
    // It has a port of its own, beside the engine's.
    server.fabric_iface_port = None;
    if !provider.is_empty() {
        server.provider = Some(provider.to_owned());
    }
    config.servers = vec![server];
    let fabric = of_engine(plugins, &config, 0).await?;
    let Some(refused) = refusal(plugins, &config, 0, &fabric).await else {
        return Ok(fabric);
    };
    // The interface is the engine's, which may have another provider.
    if provider.is_empty() || config.servers[0].fabric_iface.take().is_none() {
        return Err(Box::new(refused));
    }
    let fabric = of_engine(plugins, &config, 0).await?;
    match refusal(plugins, &config, 0, &fabric).await {
        None => Ok(fabric),
        Some(refused) => Err(Box::new(refused)),
    }
}

/// What the fabric's plugin has against an engine's fabric: asked before a format, so that no storage is
/// formatted for an engine that cannot start.
pub(crate) async fn refusal(
    plugins: &Plugins,
    config: &Config,
    index: usize,
    fabric: &Fabric,
) -> Option<Fault> {
    let mut server = config.servers.get(index)?.clone();
    server.provider = Some(fabric.selection.provider.clone());
    server.fabric_iface.clone_from(&fabric.selection.interface);
    let schemas = plugins.schemas();
    // An engine of somebody else's is told another name of the plugin's provider.
    let class = provider_class(&fabric.selection.provider)?;
    let of_plugin = || {
        let own =
            |s: &&ClassSchema| s.kind == ConfigKind::Fabric && s.plugin == fabric.plugin.name();
        schemas.iter().filter(own)
    };
    let schema = of_plugin()
        .find(|s| s.class == class)
        .or_else(|| of_plugin().next())?;
    let request = ClassRequest {
        class: schema.class.clone(),
        config: server.class_section(schema),
    };
    plugins
        .validate(&fabric.plugin, &request)
        .await
        .err()
        .map(|fault| *fault)
}

/// What the configuration says about an engine's fabric.
fn wish(plugins: &Plugins, config: &Config, index: usize) -> Wish {
    let server = &config.servers[index];
    let provider = server.provider.as_ref().map(|name| Named {
        name: name.clone(),
        // Without a plugin the configuration was refused; here it only fits no offer.
        plugin: plugin_of(plugins, config, index, name)
            .map_or_else(|_| String::new(), |plugin| plugin.name().to_owned()),
    });
    Wish {
        provider,
        interface: server.fabric_iface.clone(),
        node: node(config, index),
    }
}

fn plugin_of(
    plugins: &Plugins,
    config: &Config,
    index: usize,
    provider: &str,
) -> Result<PluginInfo, Trouble> {
    let schemas = plugins.schemas();
    let class = config.class_of(index, ConfigKind::Fabric, &schemas);
    class
        .and_then(|class| plugins.get(&class.plugin))
        .ok_or_else(|| {
            let (cause, remedy) = match plugins.no_provider(provider) {
                Some(why) if why.is_named() => (why.cause(), why.remedy()),
                _ => (
                    String::new(),
                    "put its plugin into plugins_dir, or take a provider that `network scan` shows"
                        .to_owned(),
                ),
            };
            Box::new(Fault::new(
                ResponseStatus::CtlErrConf,
                "fabric",
                0,
                format!("no plugin of this host has provider {provider}"),
                cause,
                remedy,
            ))
        })
}

/// NUMA node of an engine: that of the first core it was told; else that of its devices; else that of the
/// first core there is, which is where it runs then.
fn node(config: &Config, index: usize) -> Option<u32> {
    told_node(config, index).or_else(|| node_of_core(config, 0))
}

/// NUMA node of an engine as far as its configuration tells: that of the first core it was told, else that of its
/// devices.
pub(crate) fn told_node(config: &Config, index: usize) -> Option<u32> {
    let server = &config.servers[index];
    let sys = Path::new(SYS);
    match server.first_core {
        Some(first) => node_of_core(config, first as usize),
        None => {
            let devices = server.scm_list.iter().chain(&server.bdev_list);
            let mut nodes = devices.map(|device| daos_topology::device_node(sys, device));
            let first = nodes.next()??;
            nodes.all(|other| other == Some(first)).then_some(first)
        }
    }
}

/// NUMA node of the core that engines count so.
fn node_of_core(config: &Config, first: usize) -> Option<u32> {
    let sys = Path::new(SYS);
    let mut cores = usable_cores();
    if !config.hyperthreads {
        cores = daos_topology::physical(&cores, sys);
    }
    let core = cores.get(first % cores.len().max(1))?;
    daos_topology::node_of(&daos_topology::nodes(sys), *core)
}

/// Cores that this process, and so an engine, may run on.
pub(crate) fn usable_cores() -> Vec<usize> {
    use nix::sched::{CpuSet, sched_getaffinity};
    let this = nix::unistd::Pid::from_raw(0);
    let Ok(set) = sched_getaffinity(this) else {
        return Vec::new();
    };
    (0..CpuSet::count())
        .filter(|core| set.is_set(*core).unwrap_or(false))
        .collect()
}

/// What all fabric plugins offer, and the plugins that could not be asked with the reason.
pub(crate) async fn offers(plugins: &Plugins) -> (Vec<Offer>, Vec<(String, String)>) {
    let mut offers = Vec::new();
    let mut faults = Vec::new();
    for plugin in plugins.usable() {
        let mut classes = plugin.manifest.classes.iter();
        if !classes.any(|class| class.kind == ClassKind::Fabric) {
            continue;
        }
        match plugins.scan(&plugin).await {
            Ok(report) => offers.extend(
                report
                    .devices
                    .into_iter()
                    .filter(|device| device.kind == ClassKind::Fabric)
                    .map(|device| offer(plugin.name(), device)),
            ),
            Err((_, fault)) => faults.push((plugin.name().to_owned(), fault.description())),
        }
    }
    (offers, faults)
}

fn offer(plugin: &str, record: DeviceRecord) -> Offer {
    let detail = |key: &str| record.details.get(key);
    let addresses: Option<Vec<String>> = detail("addresses").and_then(Value::as_array).map(|all| {
        all.iter()
            .filter_map(|address| Some(address.as_str()?.to_owned()))
            .collect()
    });
    // Not every plugin says that an interface is the loopback; its addresses do.
    let loops = |address: &String| {
        address
            .parse()
            .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
    };
    let all_loop = addresses
        .as_ref()
        .is_some_and(|all| !all.is_empty() && all.iter().all(loops));
    Offer {
        plugin: plugin.to_owned(),
        is_up: detail("link").and_then(Value::as_str).map(|l| l == "up"),
        is_loopback: all_loop || detail("loopback").and_then(Value::as_bool) == Some(true),
        addresses,
        provider: record.class,
        interface: record.address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daos_config::ServerConfig;
    use serde_json::json;

    fn record(details: Value) -> DeviceRecord {
        serde_json::from_value(json!({
            "kind": "fabric", "class": "tcp", "address": "x0", "model": "", "serial": "",
            "firmware": "", "size": 0, "block_size": 0, "numa_node": -1, "in_use": null,
            "details": details,
        }))
        .unwrap()
    }

    #[test]
    fn records_become_offers() {
        let offer = |details| super::offer("fabric-tcp", record(details));
        let lo = offer(json!({"link": "up", "addresses": ["127.0.0.1", "::1"]}));
        assert!(lo.is_loopback && lo.is_up == Some(true));
        let eth = offer(json!({"link": "down", "addresses": ["192.0.2.1"], "loopback": false}));
        assert!(!eth.is_loopback && eth.is_up == Some(false));
        let shm = offer(json!({}));
        assert_eq!((shm.is_up, shm.addresses), (None, None));
    }

    #[test]
    fn an_engine_is_where_its_first_core_is() {
        let cores = usable_cores();
        assert!(!cores.is_empty());
        let nodes = daos_topology::nodes(Path::new(SYS));
        let physical = daos_topology::physical(&cores, Path::new(SYS));
        let mut config = Config::default();
        for (first_core, core) in physical.iter().enumerate() {
            config.servers = vec![ServerConfig {
                first_core: Some(first_core as u32),
                ..ServerConfig::default()
            }];
            let expected = daos_topology::node_of(&nodes, *core);
            assert_eq!(node(&config, 0), expected, "core {first_core}");
        }
    }
}
