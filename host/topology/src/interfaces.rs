//! Network interfaces as sysfs shows them (kernel documentation: `sysfs-class-net`, `sysfs-class-infiniband`).

use crate::cores::read_node;
use std::fs;
use std::path::Path;

/// What an interface is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    /// Omni-Path (driver `hfi1`).
    OmniPath,
    /// InfiniBand.
    Infiniband,
    /// Ethernet with an RDMA device on it: RoCE, also in software (`rxe`).
    Roce,
    /// Ethernet without RDMA.
    Ethernet,
    /// Something else: tunnels and the like.
    Other,
    /// Reaches this machine only.
    Loopback,
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// The kernel's number: the order in which interfaces appeared.
    pub index: u32,
    /// What it is.
    pub link: Link,
    /// Administratively up, and with a carrier.
    pub is_up: bool,
    /// There is a device behind it, or behind what it is made of (bonds, VLANs).
    pub is_physical: bool,
    /// NUMA node of that device.
    pub numa_node: Option<u32>,
    /// Megabits per second, if the driver says.
    pub speed_mbps: Option<u64>,
    /// RDMA devices on it (`hfi1_0`, `mlx5_0`).
    pub rdma: Vec<String>,
}

// <linux/if_arp.h>
const ARPHRD_ETHER: u32 = 1;
const ARPHRD_INFINIBAND: u32 = 32;
const ARPHRD_LOOPBACK: u32 = 772;
// <linux/if.h>
const IFF_UP: u32 = 1;

/// The interfaces below `sys` (`/sys` outside of tests), in the order of their numbers. Those of the network
/// namespace that this sysfs was mounted in.
#[must_use]
pub fn interfaces(sys: &Path) -> Vec<Interface> {
    let mut all: Vec<Interface> = names_in(&sys.join("class/net"))
        .iter()
        .filter_map(|name| describe(sys, name))
        .collect();
    all.sort_by(|a, b| (a.index, &a.name).cmp(&(b.index, &b.name)));
    all
}

fn describe(sys: &Path, name: &str) -> Option<Interface> {
    let files = sys.join("class/net").join(name);
    // Plain files are there, too (`bonding_masters`).
    let kind: u32 = read(&files.join("type"))?;
    let state: String = read(&files.join("operstate")).unwrap_or_default();
    let flags: String = read(&files.join("flags")).unwrap_or_default();
    let is_enabled = u32::from_str_radix(flags.trim_start_matches("0x"), 16)
        .is_ok_and(|flags| flags & IFF_UP != 0);
    let carrier = read::<u32>(&files.join("carrier")) == Some(1);
    let mut rdma = names_in(&files.join("device/infiniband"));
    rdma.extend(software_rdma(sys, name));
    let is_omni_path = rdma.iter().any(|device| device.starts_with("hfi1"));
    let link = match kind {
        ARPHRD_LOOPBACK => Link::Loopback,
        _ if is_omni_path => Link::OmniPath,
        ARPHRD_INFINIBAND => Link::Infiniband,
        ARPHRD_ETHER if !rdma.is_empty() => Link::Roce,
        ARPHRD_ETHER => Link::Ethernet,
        _ => Link::Other,
    };
    let (is_physical, numa_node) = device(sys, name, 0);
    Some(Interface {
        name: name.to_owned(),
        index: read(&files.join("ifindex")).unwrap_or(u32::MAX),
        link,
        // Drivers that know no state (the loopback's among them) say "unknown".
        is_up: state == "up" || (state == "unknown" && is_enabled && carrier),
        is_physical,
        numa_node,
        // Drivers without a link say -1, which is no number here.
        speed_mbps: read(&files.join("speed")),
        rdma,
    })
}

/// Interfaces are stacked a few levels at most (VLAN on bond on ports); links that go round end here.
const DEEPEST: usize = 4;

/// Whether there is a device behind an interface or what it is made of, and the node, if it is one.
fn device(sys: &Path, name: &str, depth: usize) -> (bool, Option<u32>) {
    let files = sys.join("class/net").join(name);
    if files.join("device").exists() {
        return (true, read_node(&files.join("device/numa_node")));
    }
    if depth == DEEPEST {
        return (false, None);
    }
    let below: Vec<(bool, Option<u32>)> = names_in(&files)
        .iter()
        .filter_map(|entry| entry.strip_prefix("lower_"))
        .map(|lower| device(sys, lower, depth + 1))
        .filter(|(is_physical, _)| *is_physical)
        .collect();
    let Some((_, node)) = below.first() else {
        return (false, None);
    };
    let agree = below.iter().all(|(_, other)| other == node);
    (true, node.filter(|_| agree))
}

/// RDMA devices without hardware that sit on an interface (`rxe`, `siw`): they name it as their parent.
fn software_rdma(sys: &Path, name: &str) -> Vec<String> {
    let class = sys.join("class/infiniband");
    let on_it = |device: &String| {
        read::<String>(&class.join(device).join("parent")).as_deref() == Some(name)
    };
    names_in(&class).into_iter().filter(on_it).collect()
}

fn names_in(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn read<T: std::str::FromStr>(file: &Path) -> Option<T> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}
