//! Network interfaces in the terms of the DAOS 2.8 control plane.

use crate::network;
use crate::plugins::Plugins;
use daos_config::Config;
use daos_proto::ctl::{FabricInterface, NetworkScanReq, NetworkScanResp};
use daos_proto::host::NetworkScanRequest;
use std::fs;
use std::path::Path;

/// The loopback's type of hardware, which that control plane leaves out.
const LOOPBACK: u32 = 772;

pub(super) async fn scan(
    plugins: &Plugins,
    config: &Config,
    request: NetworkScanReq,
) -> NetworkScanResp {
    let wanted = NetworkScanRequest {
        provider: request.provider,
    };
    let found = network::scan(plugins, config, &wanted).await;
    let sys = Path::new("/sys");
    let nodes = daos_topology::nodes(sys).len().max(1);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let number = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    NetworkScanResp {
        interfaces: found
            .interfaces
            .into_iter()
            .filter_map(|row| {
                let class = class_of(sys, &row.interface).filter(|class| *class != LOOPBACK)?;
                Some(FabricInterface {
                    provider: row.provider,
                    numanode: row.numa_node.and_then(|n| n.try_into().ok()).unwrap_or(0),
                    priority: row.priority,
                    netdevclass: class,
                    device: row.interface,
                })
            })
            .collect(),
        numacount: number(nodes),
        corespernuma: number(cores / nodes),
    }
}

/// Type of hardware (ARP's number) of an interface; none if the kernel has no such interface.
fn class_of(sys: &Path, interface: &str) -> Option<u32> {
    // A name is no path.
    if interface.is_empty() || interface.contains(['/', '\0']) || interface.starts_with('.') {
        return None;
    }
    let file = sys.join("class/net").join(interface).join("type");
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_hardware_are_the_kernel_s() {
        let sys = tempfile::tempdir().unwrap();
        let eth = sys.path().join("class/net/eth0");
        fs::create_dir_all(&eth).unwrap();
        fs::write(eth.join("type"), "1\n").unwrap();
        assert_eq!(class_of(sys.path(), "eth0"), Some(1));
        for none in ["", "eth1", "../net/eth0", ".."] {
            assert_eq!(class_of(sys.path(), none), None, "{none}");
        }
    }
}
