//! The SCM of an engine whose configuration names a class and no device: what was formatted for its mount point, else, for
//! a format, a device that nobody uses - of its own NUMA node where there is one.

use super::layout::scm_layout;
use crate::fabric;
use crate::plugins::{Plugins, Trouble};
use crate::scan;
use daos_config::Config;
use daos_plugin_api::control::ClassKind;
use daos_proto::ctl::ResponseStatus;
use daos_proto::host::{DeviceUse, Fault, Kind, StorageScanDetailRequest};
use std::borrow::Cow;
use tracing::info;

/// A device that a plugin has found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    address: String,
    node: Option<u32>,
    /// Who uses it, or why else it cannot be had.
    busy: Option<String>,
}

/// What is known of an engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Engine {
    /// A device is chosen for it, of this class.
    class: Option<String>,
    /// What it has: listed, or formatted for it.
    has: Vec<String>,
    /// Its NUMA node, as far as the configuration tells.
    node: Option<u32>,
}

/// The configuration with the device of engine `index` in its `scm_list`, also where the file leaves that to us.
///
/// # Errors
/// It does, and there is no device to choose; or the plugins cannot be asked.
pub(super) async fn effective<'c>(
    plugins: &Plugins,
    config: &'c Config,
    index: usize,
) -> Result<Cow<'c, Config>, Trouble> {
    let schemas = plugins.schemas();
    if !config.takes_usable_scm(index, &schemas) {
        return Ok(Cow::Borrowed(config));
    }
    let mut engines = Vec::new();
    for (other, server) in config.servers.iter().enumerate() {
        let takes = config.takes_usable_scm(other, &schemas);
        let has = match takes {
            true => formatted(plugins, config, other).await?,
            false => server.scm_list.clone(),
        };
        engines.push(Engine {
            class: takes.then(|| server.scm_class.clone()),
            has,
            node: server
                .extra
                .get("pinned_numa_node")
                .and_then(|node| node.as_u64())
                .and_then(|node| u32::try_from(node).ok())
                .or_else(|| fabric::told_node(config, other)),
        });
    }
    let mut config = config.clone();
    if !engines[index].has.is_empty() {
        config.servers[index].scm_list = engines.swap_remove(index).has;
        return Ok(Cow::Owned(config));
    }
    let class = config.servers[index].scm_class.clone();
    let found = found(plugins, &class).await?;
    let device = choose(&found, &engines, index).map_err(|cause| {
        Box::new(Fault::new(
            ResponseStatus::CtlErrConf,
            "storage",
            0,
            format!("engine {index} has no SCM: {class} without scm_list"),
            cause,
            "prepare the memory (daos_server storage prepare --scm-only), or name a device under scm_list; \
             `daos_server storage scan` lists what there is",
        ))
    })?;
    info!(
        engine = index,
        "scm_class {class} without scm_list: {device} is chosen"
    );
    config.servers[index].scm_list = vec![device];
    Ok(Cow::Owned(config))
}

/// The device that was formatted for an engine's mount point, if there is one.
async fn formatted(
    plugins: &Plugins,
    config: &Config,
    index: usize,
) -> Result<Vec<String>, Trouble> {
    let layout = scm_layout(plugins, config, index).await?;
    let list = layout.scm.devices[0].config.get("scm_list");
    let list = list.and_then(|list| list.as_array()).into_iter().flatten();
    Ok(list.filter_map(|d| d.as_str().map(str::to_owned)).collect())
}

/// Asks the plugin for what it finds.
async fn found(plugins: &Plugins, class: &str) -> Result<Vec<Found>, Trouble> {
    let plugin = plugins.find(ClassKind::Scm, class)?;
    let request = StorageScanDetailRequest {
        kinds: vec![Kind::Scm.into()],
        plugins: vec![plugin.name().to_owned()],
        ..StorageScanDetailRequest::default()
    };
    let scanned = scan::scan(plugins, None, &request).await;
    if let Some(fault) = scanned.faults.into_iter().find_map(|f| f.fault) {
        return Err(Box::new(fault));
    }
    let devices = scanned.devices.into_iter().filter(|d| d.class == class);
    Ok(devices
        .map(|device| Found {
            node: device.numa_node.and_then(|node| u32::try_from(node).ok()),
            busy: (device.r#use() == DeviceUse::Busy).then_some(device.use_reason),
            address: device.address,
        })
        .collect())
}

/// The device of engine `index`. Engines that have none yet get theirs in turn, first those of their own NUMA node, so that
/// each gets the same one whichever is asked for.
fn choose(found: &[Found], engines: &[Engine], index: usize) -> Result<String, String> {
    let class = &engines[index].class;
    let wanting: Vec<usize> = (0..engines.len())
        .filter(|n| engines[*n].has.is_empty() && engines[*n].class == *class)
        .collect();
    let mut free: Vec<&Found> = found
        .iter()
        .filter(|d| d.busy.is_none() && engines.iter().all(|e| !e.has.contains(&d.address)))
        .collect();
    let mut given: Vec<(usize, String)> = Vec::new();
    for near in [true, false] {
        for engine in &wanting {
            if given.iter().any(|(n, _)| n == engine) {
                continue;
            }
            let fits = |d: &&Found| !near || (d.node.is_some() && d.node == engines[*engine].node);
            if let Some(at) = free.iter().position(fits) {
                given.push((*engine, free.remove(at).address.clone()));
            }
        }
    }
    if let Some((_, device)) = given.into_iter().find(|(n, _)| *n == index) {
        return Ok(device);
    }
    let why = |d: &Found| match &d.busy {
        Some(busy) => format!("{} ({busy})", d.address),
        None => format!("{} (of another server)", d.address),
    };
    Err(match found {
        [] => "takes a device that nobody uses, and none was found".to_owned(),
        found => format!(
            "takes a device that nobody uses, and none is left: {}",
            found.iter().map(why).collect::<Vec<_>>().join("; ")
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(address: &str, node: u32) -> Found {
        Found {
            address: address.to_owned(),
            node: Some(node),
            busy: None,
        }
    }

    fn engine(node: Option<u32>, has: &[&str]) -> Engine {
        Engine {
            class: Some("dcpm".to_owned()),
            has: has.iter().map(|d| (*d).to_owned()).collect(),
            node,
        }
    }

    #[test]
    fn each_engine_gets_one_of_its_node_whichever_is_asked_for() {
        let found = [found("/dev/pmem0", 1), found("/dev/pmem1", 0)];
        let engines = [engine(Some(0), &[]), engine(Some(1), &[])];
        assert_eq!(choose(&found, &engines, 0).unwrap(), "/dev/pmem1");
        assert_eq!(choose(&found, &engines, 1).unwrap(), "/dev/pmem0");
        // Who is of no node, or of one without a device, gets what the others leave.
        let engines = [engine(None, &[]), engine(Some(1), &[])];
        assert_eq!(choose(&found, &engines, 0).unwrap(), "/dev/pmem1");
        let engines = [engine(Some(1), &[]), engine(Some(1), &[])];
        assert_eq!(choose(&found, &engines, 0).unwrap(), "/dev/pmem0");
        assert_eq!(choose(&found, &engines, 1).unwrap(), "/dev/pmem1");
    }

    #[test]
    fn what_another_has_or_uses_is_not_taken() {
        let mut found = [found("/dev/pmem0", 0), found("/dev/pmem1", 0)];
        let engines = [engine(Some(0), &["/dev/pmem0"]), engine(Some(0), &[])];
        assert_eq!(choose(&found, &engines, 1).unwrap(), "/dev/pmem1");
        found[1].busy = Some("mounted at /data".to_owned());
        let why = choose(&found, &engines, 1).unwrap_err();
        for part in ["/dev/pmem0 (of another server)", "mounted at /data"] {
            assert!(why.contains(part), "{why}");
        }
        let why = choose(&[], &engines, 1).unwrap_err();
        assert!(why.contains("none was found"), "{why}");
    }
}
