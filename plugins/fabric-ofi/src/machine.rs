//! Where sysfs puts a domain of libfabric: network interfaces and NUMA node of its device.

use crate::libfabric::Info;
use fabric_interfaces::Interface;
use std::fs;
use std::path::{Path, PathBuf};

/// The network interfaces of a domain: the one of that name or address, or those of its RDMA device.
pub(crate) fn interfaces_of<'i>(info: &Info, all: &'i [Interface]) -> Vec<&'i Interface> {
    let domain = info.domain_name();
    let ports = names_in(&rdma_device(&domain).join("device/net"));
    let ip = info.source_ip();
    all.iter()
        .filter(|interface| {
            interface.name == domain
                || ports.contains(&interface.name)
                || ip.is_some_and(|ip| interface.addresses.contains(&ip))
        })
        .collect()
}

/// NUMA node of a domain's device, -1 = unknown.
pub(crate) fn numa_node(info: &Info, all: &[Interface]) -> i32 {
    let read = |path: PathBuf| -> Option<i32> {
        let text = fs::read_to_string(path).ok()?;
        text.trim().parse().ok()
    };
    let by_pci = || {
        let address = info.pci_address()?;
        read(
            Path::new("/sys/bus/pci/devices")
                .join(address)
                .join("numa_node"),
        )
    };
    read(rdma_device(&info.domain_name()).join("device/numa_node"))
        .or_else(by_pci)
        .or_else(|| Some(interfaces_of(info, all).first()?.numa_node))
        .unwrap_or(-1)
}

/// An RDMA device of that name. Layers add a suffix to the name of the port (`mlx5_0-dgram`).
fn rdma_device(domain: &str) -> PathBuf {
    let device = domain.split('-').next().unwrap_or(domain);
    let name = if device.is_empty() { "-" } else { device };
    Path::new("/sys/class/infiniband").join(name)
}

fn names_in(directory: &Path) -> Vec<String> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}
