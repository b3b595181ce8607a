//! From what was found to engines. Deterministic: the same machine and options give the same plan, but for
//! ports that somebody listens on and for sizes of what is free.

use super::gather::{Device, Found, free_port};
use crate::cli::{GenerateArgs, NetClass};
use crate::plugins::Plugins;
use anyhow::bail;
use daos_config::{ClassKind, Config, ServerConfig};
use daos_topology::{Choice, Link, Named, Offer, Wish};
use serde::Serialize;
use std::path::PathBuf;

/// First fabric port, and the distance between those of two engines, as the original has them.
const FIRST_PORT: u16 = 31416;
const PORT_STEP: u16 = 1000;
/// Largest files that stand in for block devices, in GB.
const MAX_FILE_GB: u64 = 64;

/// A planned configuration.
#[derive(Debug, Serialize)]
pub(super) struct Plan {
    /// Fabric provider of all engines.
    pub(super) provider: String,
    /// Only this machine can reach the engines.
    pub(super) is_local: bool,
    pub(super) access_points: Vec<String>,
    pub(super) socket_dir: Option<PathBuf>,
    pub(super) engines: Vec<Engine>,
    /// What the administrator should know.
    pub(super) notes: Vec<String>,
}

/// One engine.
#[derive(Debug, Default, Serialize)]
pub(super) struct Engine {
    pub(super) numa_node: Option<u32>,
    pub(super) first_core: usize,
    pub(super) targets: usize,
    pub(super) helpers: u32,
    pub(super) cores_reason: String,
    pub(super) fabric_iface: Option<String>,
    pub(super) fabric_iface_port: u16,
    pub(super) fabric_reason: String,
    pub(super) scm_mount: PathBuf,
    pub(super) scm_class: String,
    pub(super) scm_list: Vec<String>,
    /// GB.
    pub(super) scm_size: Option<u64>,
    pub(super) scm_reason: String,
    pub(super) bdev_class: String,
    pub(super) bdev_list: Vec<String>,
    pub(super) bdev_number: Option<u32>,
    /// GB.
    pub(super) bdev_size: Option<u64>,
    pub(super) bdev_reason: String,
}

/// Plans.
///
/// # Errors
/// Options that contradict each other or this machine.
pub(super) fn plan(
    plugins: &Plugins,
    base: &Config,
    args: &GenerateArgs,
    found: &Found,
) -> anyhow::Result<Plan> {
    let mut notes = found.notes.clone();
    let count = args
        .num_engines
        .map_or(found.nodes.len().max(1), |n| n as usize);
    let mut engines = place(found, count, &mut notes)?;
    let choices = choose(plugins, base, args, found, &engines)?;
    ports(args, &mut engines)?;
    scm(args, found, &mut engines)?;
    bdevs(args, found, &mut engines, &mut notes);
    for (engine, choice) in engines.iter_mut().zip(&choices) {
        engine.fabric_iface.clone_from(&choice.interface);
        engine.fabric_reason.clone_from(&choice.reason);
    }
    let is_loopback = |name: &String| {
        let of_it = found.offers.iter().filter(|o| o.interface == *name);
        of_it.into_iter().any(|offer| offer.is_loopback)
    };
    Ok(Plan {
        provider: choices
            .first()
            .map_or_else(String::new, |c| c.provider.clone()),
        is_local: engines
            .iter()
            .any(|e| e.fabric_iface.as_ref().is_some_and(is_loopback)),
        access_points: args.ms_replicas.clone(),
        socket_dir: found.socket_dir.clone(),
        engines,
        notes,
    })
}

/// Gives each engine a node and a share of its cores. Engines count physical cores in the order of the kernel's
/// numbers, so a share is a run of them.
fn place(found: &Found, count: usize, notes: &mut Vec<String>) -> anyhow::Result<Vec<Engine>> {
    let cores = &found.cores;
    if cores.len() < count {
        bail!(
            "{count} engines need a core each, but {} physical core(s) can be used; lower -e",
            cores.len()
        );
    }
    let nodes: Vec<Option<u32>> = match found.nodes.is_empty() {
        true => vec![None],
        false => found.nodes.iter().map(|node| Some(node.number)).collect(),
    };
    // The runs of each node that engines are put on, in turn.
    let mut runs: Vec<(Option<u32>, usize, usize)> = Vec::new();
    for node in &nodes {
        let is_of = |core: &usize| daos_topology::node_of(&found.nodes, *core) == *node;
        match longest_run(cores, is_of) {
            Some((first, length)) => runs.push((*node, first, length)),
            None => notes.push(format!(
                "NUMA node {} has no core that engines may use",
                node.unwrap_or(0)
            )),
        }
    }
    let all_in_runs: usize = runs.iter().map(|(_, _, length)| length).sum();
    if all_in_runs < cores.len() || runs.is_empty() {
        notes.push(
            "the numbers of the cores alternate between NUMA nodes: engines cannot be kept on a node each"
                .to_owned(),
        );
        runs = vec![(None, 0, cores.len())];
    }
    let mut engines = Vec::new();
    for index in 0..count {
        let (node, first, length) = runs[index % runs.len()];
        let on_it = (index % runs.len()..count).step_by(runs.len()).count();
        if length < on_it {
            bail!(
                "{on_it} engines would be on NUMA node {}, which has {length} core(s); lower -e",
                node.unwrap_or(0)
            );
        }
        let share = length / on_it;
        let position = index / runs.len();
        // One core is left to the kernel, daemon and helpers where there are enough.
        let targets = if share > 1 { share - 1 } else { 1 };
        let of_node = node.map_or_else(String::new, |node| format!(" of NUMA node {node}"));
        engines.push(Engine {
            numa_node: node,
            first_core: first + position * share,
            targets,
            helpers: if share >= 4 { 2 } else { 0 },
            cores_reason: match share {
                1 => format!("the only core of its share{of_node}"),
                _ => format!("{share} physical cores{of_node}, one of them left to the system"),
            },
            ..Engine::default()
        });
    }
    Ok(engines)
}

/// Start and length of the longest run of cores that fit.
fn longest_run(cores: &[usize], fits: impl Fn(&usize) -> bool) -> Option<(usize, usize)> {
    let mut best: Option<(usize, usize)> = None;
    let mut start = 0;
    for run in cores.chunk_by(|a, b| fits(a) == fits(b)) {
        let longer = best.is_none_or(|(_, length)| run.len() > length);
        if run.first().is_some_and(&fits) && longer {
            best = Some((start, run.len()));
        }
        start += run.len();
    }
    best
}

fn choose(
    plugins: &Plugins,
    base: &Config,
    args: &GenerateArgs,
    found: &Found,
    engines: &[Engine],
) -> anyhow::Result<Vec<Choice>> {
    let is_wanted = |offer: &Offer| {
        let known = found.interfaces.iter().find(|i| i.name == offer.interface);
        let link = known.map_or(Link::Ethernet, |interface| interface.link);
        match args.net_class {
            None => true,
            Some(NetClass::Infiniband) => matches!(link, Link::Infiniband | Link::OmniPath),
            Some(NetClass::Ethernet) => matches!(link, Link::Ethernet | Link::Roce),
        }
    };
    let offers: Vec<Offer> = found
        .offers
        .iter()
        .filter(|offer| is_wanted(offer))
        .cloned()
        .collect();
    let provider = match &args.net_provider {
        None => None,
        Some(name) => Some(Named {
            name: name.clone(),
            plugin: plugin_of(plugins, base, name)?,
        }),
    };
    let wishes: Vec<Wish> = engines
        .iter()
        .map(|engine| Wish {
            provider: provider.clone(),
            interface: None,
            node: engine.numa_node,
        })
        .collect();
    // The loopback is better than nothing; that it needs insecure mode is written beside it.
    let allow_loopback = true;
    daos_topology::choose(&found.interfaces, &offers, &wishes, allow_loopback)
        .into_iter()
        .map(|choice| {
            choice.map_err(|refusal| {
                let what = match args.net_class {
                    None => refusal.what,
                    Some(class) => format!("{} (of -c {class:?})", refusal.what).to_lowercase(),
                };
                anyhow::anyhow!("{what}: {}; {}", refusal.cause, refusal.remedy)
            })
        })
        .collect()
}

/// The plugin that serves a provider.
fn plugin_of(plugins: &Plugins, base: &Config, provider: &str) -> anyhow::Result<String> {
    let mut config = base.clone();
    config.servers = vec![ServerConfig {
        provider: Some(provider.to_owned()),
        ..ServerConfig::default()
    }];
    match config.class_of(0, ClassKind::Fabric, &plugins.schemas()) {
        Some(class) => Ok(class.plugin.clone()),
        None => match plugins.no_provider(provider) {
            Some(why) if why.is_named() => bail!("{why}"),
            _ => {
                bail!("no plugin has provider {provider}; see `daos_server network scan -p all`")
            }
        },
    }
}

fn ports(args: &GenerateArgs, engines: &mut [Engine]) -> anyhow::Result<()> {
    let given = &args.fabric_ports;
    if !given.is_empty() && given.len() != engines.len() {
        bail!(
            "-f has {} port(s) for {} engine(s); give one per engine",
            given.len(),
            engines.len()
        );
    }
    let mut taken: Vec<u16> = Vec::new();
    for (index, engine) in engines.iter_mut().enumerate() {
        engine.fabric_iface_port = match given.get(index) {
            Some(port) if taken.contains(port) => bail!("-f has port {port} twice"),
            Some(port) => *port,
            None => {
                let step = PORT_STEP.saturating_mul(u16::try_from(index % 30).unwrap_or(0));
                free_port(FIRST_PORT.saturating_add(step), &taken)
            }
        };
        taken.push(engine.fabric_iface_port);
    }
    Ok(())
}

/// Takes devices for each engine: those of its node first, then those of no known node or of nodes without an
/// engine, dealt out in turn.
fn deal(devices: &[&Device], engines: &[Engine]) -> Vec<Vec<String>> {
    let mut dealt = vec![Vec::new(); engines.len()];
    let mut next = 0;
    for device in devices {
        let at: Vec<usize> = (0..engines.len())
            .filter(|n| device.numa_node.is_some() && engines[*n].numa_node == device.numa_node)
            .collect();
        let engine = match at.iter().min_by_key(|n| dealt[**n].len()) {
            Some(engine) => *engine,
            None => {
                next += 1;
                (next - 1) % engines.len()
            }
        };
        dealt[engine].push(device.address.clone());
    }
    dealt
}

fn scm(args: &GenerateArgs, found: &Found, engines: &mut [Engine]) -> anyhow::Result<()> {
    let persistent: Vec<&Device> = found.scm.iter().filter(|d| d.class == "dcpm").collect();
    let dealt = deal(&persistent, engines);
    let all_have = dealt.iter().all(|devices| !devices.is_empty());
    let count = engines.len() as u64;
    let base = args.scm_mount_path.as_ref().unwrap_or(&found.scm_base);
    if !base.is_absolute() {
        bail!(
            "--scm-mount-path {} is no absolute path; write one such as /mnt/daos",
            base.display()
        );
    }
    for (index, engine) in engines.iter_mut().enumerate() {
        engine.scm_mount = base.join(index.to_string());
        if all_have && !args.use_tmpfs_scm {
            engine.scm_class = "dcpm".to_owned();
            engine.scm_list = dealt[index][..1].to_vec();
            engine.scm_reason = "persistent memory".to_owned();
            continue;
        }
        // Half of what is available: the rest is for buffers, indexes and everybody else.
        let size = (found.memory / 2 / count) >> 30;
        if size == 0 {
            bail!(
                "{count} engine(s) need 2 GiB of available memory each, there are {}; lower -e or free some",
                daos_report::bytes(found.memory)
            );
        }
        engine.scm_class = "ram".to_owned();
        engine.scm_size = Some(size);
        let why = match (args.use_tmpfs_scm, persistent.is_empty()) {
            (true, _) => "as asked with -t".to_owned(),
            (false, true) if !found.unprepared.is_empty() => format!(
                "persistent memory ({}) is not prepared: run `daos_server storage prepare --scm-only` and generate again",
                found.unprepared.join(", ")
            ),
            (false, true) => "no persistent memory was found".to_owned(),
            (false, false) => "there is not enough persistent memory for all engines".to_owned(),
        };
        engine.scm_reason =
            format!("{why}: its share of half of the available memory, lost with a reboot");
    }
    Ok(())
}

fn bdevs(args: &GenerateArgs, found: &Found, engines: &mut [Engine], notes: &mut Vec<String>) {
    if args.scm_only {
        return memory(found, engines, "as asked with -s");
    }
    for (class, what) in [
        ("nvme", "NVMe controllers that nothing uses"),
        ("kdev", "kernel block devices that nothing uses"),
    ] {
        let devices: Vec<&Device> = found.bdevs.iter().filter(|d| d.class == class).collect();
        let dealt = deal(&devices, engines);
        if dealt.iter().any(Vec::is_empty) {
            if !devices.is_empty() {
                notes.push(format!(
                    "{} are not used: not every engine would have one (bdev_class {class})",
                    devices.len()
                ));
            }
            continue;
        }
        let least = dealt.iter().map(Vec::len).min().unwrap_or(0);
        for (engine, mut devices) in engines.iter_mut().zip(dealt) {
            if devices.len() > least {
                notes.push(format!(
                    "{} are left out, so that all engines have as many",
                    devices[least..].join(", ")
                ));
                devices.truncate(least);
            }
            // Target n uses device n mod devices: all get as many targets.
            if engine.targets > devices.len() {
                engine.targets -= engine.targets % devices.len();
            }
            engine.bdev_class = class.to_owned();
            engine.bdev_list = devices;
            engine.bdev_reason = what.to_owned();
        }
        return;
    }
    let (directory, free) = &found.files;
    // Rounded down to a power of two, so that what comes and goes there makes no other plan.
    let size = (free / 4 / engines.len() as u64 / 1_000_000_000).min(MAX_FILE_GB);
    let size = size.checked_ilog2().map_or(0, |power| 1 << power);
    if size == 0 {
        let why = format!(
            "no block device is unused, and {} has no room for files instead (or no plugin uses them)",
            directory.display()
        );
        return memory(found, engines, &why);
    }
    for (index, engine) in engines.iter_mut().enumerate() {
        let file = directory.join(format!("daos-bdev{index}"));
        engine.bdev_class = "file".to_owned();
        engine.bdev_list = vec![file.display().to_string()];
        engine.bdev_size = Some(size);
        engine.bdev_reason =
            "no NVMe controller and no block device is unused: a file, at most a quarter of what is free there"
                .to_owned();
    }
}

/// Memory in the place of block devices, which our engine cannot be without.
fn memory(found: &Found, engines: &mut [Engine], why: &str) {
    // A quarter of what is available; half has gone to SCM, so there is a GB for each.
    let size = found.memory / 4 / engines.len() as u64 / 1_000_000_000;
    for engine in engines {
        engine.bdev_class = "malloc".to_owned();
        engine.bdev_number = Some(1);
        engine.bdev_size = Some(size.max(1));
        engine.bdev_reason =
            format!("{why}: memory in its place, whose contents end with the engine");
    }
}

#[cfg(test)]
mod tests;
