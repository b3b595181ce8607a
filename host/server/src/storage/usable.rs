//! The devices of an engine whose configuration names a class of block devices and no devices: all that are usable when
//! its storage is formatted; afterwards those that the superblock has recorded, whatever was added to the machine since.

use super::assess;
use super::layout::scm_layout;
use crate::fabric;
use crate::plugins::{Plugins, Trouble};
use crate::scan;
use daos_config::Config;
use daos_plugin_api::control::{ClassKind, DeviceState};
use daos_proto::ctl::ResponseStatus;
use daos_proto::host::{DeviceUse, Fault, Kind, StorageScanDetailRequest};
use std::borrow::Cow;
use std::path::Path;
use tracing::info;

/// Which devices are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// Those that the storage was formatted with, if it is formatted.
    Recorded,
    /// Those that a new format takes.
    New,
}

/// A device that a plugin has found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    address: String,
    node: Option<u32>,
    /// Who uses it, or why else it cannot be had.
    busy: Option<String>,
}

/// What is known of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Engine {
    /// It takes what is usable.
    takes: bool,
    /// Its NUMA node, as far as the configuration tells.
    node: Option<u32>,
}

/// The configuration with the devices of engine `index` in its `bdev_list`, also where the file leaves that to us.
///
/// # Errors
/// It does, and no device can be chosen; or the plugins cannot be asked.
pub(super) async fn effective<'c>(
    plugins: &Plugins,
    config: &'c Config,
    index: usize,
    which: Which,
) -> Result<Cow<'c, Config>, Trouble> {
    if !config.takes_usable_bdevs(index, &plugins.schemas()) {
        return Ok(Cow::Borrowed(config));
    }
    let recorded = match which {
        Which::Recorded => recorded(plugins, config, index).await?,
        Which::New => None,
    };
    let list = match recorded {
        Some(list) => list,
        None => usable(plugins, config, index).await?,
    };
    let mut config = config.clone();
    config.servers[index].bdev_list = list;
    Ok(Cow::Owned(config))
}

/// What the superblock has recorded, if there is one.
async fn recorded(
    plugins: &Plugins,
    config: &Config,
    index: usize,
) -> Result<Option<Vec<String>>, Trouble> {
    let layout = scm_layout(plugins, config, index).await?;
    let there = match layout.scm.devices[0].state {
        // An engine that runs has it mounted.
        DeviceState::InUse => true,
        _ => assess::mounted(plugins, &layout).await?,
    };
    if !there {
        return Ok(None);
    }
    let superblock = assess::superblock(plugins, &layout).await?;
    Ok(superblock.map(|sb| sb.devices.into_iter().map(|d| d.address).collect()))
}

/// Asks the plugin for what it finds, and chooses.
async fn usable(plugins: &Plugins, config: &Config, index: usize) -> Result<Vec<String>, Trouble> {
    let class = &config.servers[index].bdev_class;
    let plugin = plugins.find(ClassKind::Bdev, class)?;
    let request = StorageScanDetailRequest {
        kinds: vec![Kind::Bdev.into()],
        plugins: vec![plugin.name().to_owned()],
        ..StorageScanDetailRequest::default()
    };
    let scanned = scan::scan(plugins, None, &request).await;
    if let Some(fault) = scanned.faults.into_iter().find_map(|f| f.fault) {
        return Err(Box::new(fault));
    }
    let devices = scanned.devices.into_iter().filter(|d| d.class == *class);
    let mut found: Vec<Found> = devices
        .map(|device| Found {
            node: device
                .numa_node
                .and_then(|node| u32::try_from(node).ok())
                .or_else(|| daos_topology::device_node(Path::new(fabric::SYS), &device.address)),
            busy: (device.r#use() == DeviceUse::Busy).then_some(device.use_reason),
            address: device.address,
        })
        .collect();
    burnt_in(plugins, class, &mut found);
    let engines: Vec<Engine> = (0..config.servers.len())
        .map(|other| Engine {
            takes: config.servers[other].bdev_class == *class
                && config.takes_usable_bdevs(other, &plugins.schemas()),
            node: fabric::told_node(config, other),
        })
        .collect();
    let list = allowed(config, found)
        .and_then(|(found, left)| choose(&found, &engines, index).map(|list| (list, left)));
    let (list, left) = list.map_err(|(cause, remedy)| {
        let what = format!("engine {index} has no block devices: {class} without bdev_list");
        let status = ResponseStatus::CtlErrConf;
        Box::new(Fault::new(status, "storage", 0, what, cause, remedy))
    })?;
    info!(
        engine = index,
        "bdev_class {class} without bdev_list: {} are chosen, {} left out",
        list.join(", "),
        if left.is_empty() {
            "none is".to_owned()
        } else {
            left.join("; ") + " are"
        },
    );
    Ok(list)
}

/// A burn-in makes way for a format: what it has can be had, by the names that it has leased.
fn burnt_in(plugins: &Plugins, class: &str, found: &mut Vec<Found>) {
    // What cannot be read here has been told of by the scan.
    let Ok(leases) = plugins.state_dir().leases() else {
        return;
    };
    for (name, lease) in leases.devices {
        let Some(address) = name.strip_prefix(class).and_then(|n| n.strip_prefix(':')) else {
            continue;
        };
        if lease.burn_in.is_none() || lease.firmware {
            continue;
        }
        // The scan could not look into it, and lists its controller only.
        let seen = found
            .iter()
            .position(|d| controller(&d.address) == controller(address));
        let Some(node) = seen.map(|at| found[at].node) else {
            continue;
        };
        found.retain(|d| {
            d.address != address && (d.busy.is_none() || d.address != controller(address))
        });
        found.push(Found {
            address: address.to_owned(),
            node,
            busy: None,
        });
    }
    found.sort_by(|a, b| a.address.cmp(&b.address));
}

/// What a namespace's address says of its controller.
fn controller(address: &str) -> &str {
    address
        .split_once('/')
        .map_or(address, |(controller, _)| controller)
}

/// Why nothing can be chosen, and what to do.
type Refusal = (String, String);

/// Devices that the configuration allows and nobody uses; of the others, each with the reason.
fn allowed(config: &Config, found: Vec<Found>) -> Result<(Vec<Found>, Vec<String>), Refusal> {
    let listed: Vec<String> = config
        .servers
        .iter()
        .flat_map(|server| &server.bdev_list)
        .map(|device| controller(device).to_owned())
        .collect();
    let (mut free, mut left) = (Vec::new(), Vec::new());
    for device in found {
        let own = controller(&device.address).to_owned();
        let why = if config.bdev_exclude.contains(&own) {
            Some("in bdev_exclude".to_owned())
        } else if !config.bdev_include.is_empty() && !config.bdev_include.contains(&own) {
            Some("not in bdev_include".to_owned())
        } else if listed.contains(&own) {
            Some("in the bdev_list of another server".to_owned())
        } else {
            device.busy.clone()
        };
        match why {
            Some(why) => left.push(format!("{} ({why})", device.address)),
            None => free.push(device),
        }
    }
    if !free.is_empty() {
        return Ok((free, left));
    }
    let cause = match left.is_empty() {
        true => "takes all devices that are usable, and none was found".to_owned(),
        false => format!(
            "takes all devices that are usable, and none is: {}",
            left.join("; ")
        ),
    };
    Err((
        cause,
        "hand devices over (daos_server storage prepare), name them under bdev_list, or remove bdev_class for an \
         engine without block devices"
            .to_owned(),
    ))
}

/// The devices of engine `index`: all, or, where several engines take what is usable, those of its NUMA node.
fn choose(free: &[Found], engines: &[Engine], index: usize) -> Result<Vec<String>, Refusal> {
    let takers: Vec<usize> = (0..engines.len()).filter(|n| engines[*n].takes).collect();
    let names = |devices: Vec<&Found>| {
        devices
            .into_iter()
            .map(|d| d.address.clone())
            .collect::<Vec<_>>()
    };
    if takers.len() <= 1 {
        return Ok(names(free.iter().collect()));
    }
    let shown = |devices: &[&Found]| {
        let one = |d: &&Found| match d.node {
            Some(node) => format!("{} (NUMA node {node})", d.address),
            None => format!("{} (no NUMA node)", d.address),
        };
        devices.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    let all: Vec<&Found> = free.iter().collect();
    let write = |why: String| {
        let remedy = format!(
            "write a bdev_list for each of the servers {}; there are: {}",
            takers
                .iter()
                .map(|n| format!("servers[{n}]"))
                .collect::<Vec<_>>()
                .join(", "),
            shown(&all)
        );
        Err((why, remedy))
    };
    // Who takes the devices of a node.
    let of_node = |node: u32| {
        takers
            .iter()
            .filter(|n| engines[**n].node == Some(node))
            .count()
    };
    for taker in &takers {
        match engines[*taker].node {
            None => {
                return write(format!(
                    "several servers take all usable devices, and servers[{taker}] does not say by first_core or by its \
                     SCM on which NUMA node it is"
                ));
            }
            Some(node) if of_node(node) > 1 => {
                return write(format!(
                    "several servers take all usable devices of NUMA node {node}"
                ));
            }
            Some(_) => {}
        }
    }
    let strays: Vec<&Found> = free
        .iter()
        .filter(|d| d.node.is_none_or(|node| of_node(node) == 0))
        .collect();
    if !strays.is_empty() {
        return write(format!(
            "several servers take the usable devices of their NUMA nodes, and none is on the node of {}",
            shown(&strays)
        ));
    }
    let own = free
        .iter()
        .filter(|d| d.node == engines[index].node)
        .collect();
    let list = names(own);
    match list.is_empty() {
        false => Ok(list),
        true => write(format!(
            "no usable device is on NUMA node {}, where it is",
            engines[index].node.unwrap_or(0)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(address: &str, node: Option<u32>) -> Found {
        Found {
            address: address.to_owned(),
            node,
            busy: None,
        }
    }

    fn engine(takes: bool, node: Option<u32>) -> Engine {
        Engine { takes, node }
    }

    const A: &str = "0000:41:00.0";
    const B: &str = "0000:42:00.0";
    const C: &str = "0000:81:00.0";

    #[test]
    fn one_engine_takes_all() {
        let free = [found(A, Some(0)), found(C, Some(1)), found(B, None)];
        let engines = [engine(false, Some(0)), engine(true, Some(1))];
        assert_eq!(choose(&free, &engines, 1).unwrap(), [A, C, B]);
        assert_eq!(choose(&free, &[engine(true, None)], 0).unwrap(), [A, C, B]);
    }

    #[test]
    fn several_take_those_of_their_nodes() {
        let free = [found(A, Some(0)), found(B, Some(0)), found(C, Some(1))];
        let engines = [engine(true, Some(0)), engine(true, Some(1))];
        assert_eq!(choose(&free, &engines, 0).unwrap(), [A, B]);
        assert_eq!(choose(&free, &engines, 1).unwrap(), [C]);
    }

    #[test]
    fn what_is_not_clear_has_to_be_written() {
        let both = [engine(true, Some(0)), engine(true, Some(1))];
        let cases: [(&[Found], [Engine; 2], &str); 5] = [
            (
                &[found(A, Some(0))],
                [engine(true, None), engine(true, Some(1))],
                "servers[0] does not say",
            ),
            (
                &[found(A, Some(0))],
                [engine(true, Some(0)), engine(true, Some(0))],
                "NUMA node 0",
            ),
            (&[found(A, Some(0)), found(B, None)], both.clone(), B),
            (&[found(A, Some(0)), found(C, Some(2))], both.clone(), C),
            (
                &[found(A, Some(0))],
                both,
                "no usable device is on NUMA node 1",
            ),
        ];
        for (free, engines, why) in cases {
            let (cause, remedy) = choose(free, &engines, 1).unwrap_err();
            assert!(cause.contains(why), "{cause}");
            assert!(
                remedy.contains("bdev_list") && remedy.contains(A),
                "{remedy}"
            );
        }
    }

    #[test]
    fn what_is_used_excluded_or_anothers_is_left_out() {
        let mut config = Config::default();
        config.bdev_exclude = vec![A.to_owned()];
        config.servers = vec![daos_config::ServerConfig {
            bdev_list: vec![format!("{B}/2")],
            ..Default::default()
        }];
        let mounted = Found {
            busy: Some("nvme0n1p1 is mounted on /".to_owned()),
            ..found(C, None)
        };
        let last = "0000:82:00.0";
        let all = vec![
            found(A, None),
            found(&format!("{B}/1"), None),
            mounted,
            found(last, None),
        ];
        let (free, left) = allowed(&config, all.clone()).unwrap();
        assert_eq!(free, [found(last, None)]);
        assert_eq!(left.len(), 3, "{left:?}");
        config.bdev_include = vec![B.to_owned(), C.to_owned()];
        let (cause, remedy) = allowed(&config, all).unwrap_err();
        for part in [
            "in bdev_exclude",
            "another server",
            "mounted on /",
            "not in bdev_include",
        ] {
            assert!(cause.contains(part), "{cause}");
        }
        assert!(remedy.contains("storage prepare"), "{remedy}");
        assert!(
            allowed(&Config::default(), Vec::new())
                .unwrap_err()
                .0
                .contains("none was found")
        );
    }
}
