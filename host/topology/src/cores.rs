//! NUMA nodes, their cores, and the nodes of devices (kernel documentation: `sysfs-devices-node`,
//! `sysfs-devices-system-cpu`).

use std::fs;
use std::path::Path;

/// A NUMA node with cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its number.
    pub number: u32,
    /// Its logical cores, ascending.
    pub cores: Vec<usize>,
}

/// The nodes that have cores, by number; empty where the kernel knows no nodes. `sys` is `/sys` outside of
/// tests.
#[must_use]
pub fn nodes(sys: &Path) -> Vec<Node> {
    let mut nodes: Vec<Node> = fs::read_dir(sys.join("devices/system/node"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let number = name.to_str()?.strip_prefix("node")?.parse().ok()?;
            let cores = cpu_list(&fs::read_to_string(entry.path().join("cpulist")).ok()?)?;
            (!cores.is_empty()).then_some(Node { number, cores })
        })
        .collect();
    nodes.sort_by_key(|node| node.number);
    nodes
}

/// The node of a core.
#[must_use]
pub fn node_of(nodes: &[Node], core: usize) -> Option<u32> {
    let node = nodes.iter().find(|node| node.cores.contains(&core))?;
    Some(node.number)
}

/// The first usable hyperthread of each physical core, in the order given. Cores of whose siblings the
/// kernel tells nothing stay.
#[must_use]
pub fn physical(usable: &[usize], sys: &Path) -> Vec<usize> {
    let is_first = |core: &usize| {
        let path = format!("devices/system/cpu/cpu{core}/topology/thread_siblings_list");
        let siblings = fs::read_to_string(sys.join(path))
            .ok()
            .and_then(|list| cpu_list(&list));
        siblings.is_none_or(|siblings| {
            let before = |s: &usize| s < core && usable.contains(s);
            !siblings.iter().any(before)
        })
    };
    usable.iter().copied().filter(is_first).collect()
}

/// Numbers of a list such as `0-3,8,10-11`; `None` for anything else.
#[must_use]
pub fn cpu_list(text: &str) -> Option<Vec<usize>> {
    let mut out = Vec::new();
    for item in text.trim().split(',').filter(|i| !i.is_empty()) {
        let (from, to) = item.split_once('-').unwrap_or((item, item));
        let (from, to): (usize, usize) = (from.parse().ok()?, to.parse().ok()?);
        if to < from || to - from > 65536 {
            return None;
        }
        out.extend(from..=to);
    }
    Some(out)
}

/// The NUMA node of a storage device as configurations name them: a PCI address or the path of a block
/// device. `None` if the kernel does not say.
#[must_use]
pub fn device_node(sys: &Path, device: &str) -> Option<u32> {
    let file = match device.strip_prefix("/dev/") {
        Some(name) => sys.join("class/block").join(name).join("device/numa_node"),
        None if device.contains('/') => return None,
        None => sys.join("bus/pci/devices").join(device).join("numa_node"),
    };
    read_node(&file)
}

/// A node's number in a file; the kernel writes -1 for "none".
pub(crate) fn read_node(file: &Path) -> Option<u32> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(sys: &Path, file: &str, text: &str) {
        let path = sys.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn hyperthreads_of_a_core_count_once() {
        // Two cores with two threads each, numbered as the kernel does: 0 and 2 are one core.
        let sys = tempfile::tempdir().unwrap();
        for (cpu, siblings) in [(0, "0,2"), (1, "1,3"), (2, "0,2"), (3, "1,3")] {
            let file = format!("devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
            put(sys.path(), &file, &format!("{siblings}\n"));
        }
        let left = |usable: &[usize]| physical(usable, sys.path());
        assert_eq!(left(&[0, 1, 2, 3]), [0, 1]);
        assert_eq!(left(&[1, 2, 3]), [1, 2], "0 belongs to others");
        assert_eq!(left(&[0, 7]), [0, 7], "of 7 nothing is known");
    }

    #[test]
    fn lists_of_the_kernel_are_understood() {
        assert_eq!(cpu_list("0-3,8,10-11\n"), Some(vec![0, 1, 2, 3, 8, 10, 11]));
        assert_eq!(cpu_list("\n"), Some(vec![]));
        for bad in ["x", "3-1", "1-", "0-99999999999"] {
            assert_eq!(cpu_list(bad), None, "{bad}");
        }
    }

    #[test]
    fn nodes_without_cores_are_left_out() {
        let sys = tempfile::tempdir().unwrap();
        put(sys.path(), "devices/system/node/node1/cpulist", "4-7\n");
        put(sys.path(), "devices/system/node/node0/cpulist", "0-3\n");
        put(sys.path(), "devices/system/node/node2/cpulist", "\n");
        put(sys.path(), "devices/system/node/online", "0-2\n");
        let found = nodes(sys.path());
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(node_of(&found, 5), Some(1));
        assert_eq!(node_of(&found, 8), None);
        assert!(nodes(&sys.path().join("none")).is_empty());
    }

    #[test]
    fn devices_have_the_node_that_the_kernel_says() {
        let sys = tempfile::tempdir().unwrap();
        put(sys.path(), "class/block/pmem1/device/numa_node", "1\n");
        put(sys.path(), "bus/pci/devices/0000:81:00.0/numa_node", "1\n");
        put(sys.path(), "bus/pci/devices/0000:01:00.0/numa_node", "-1\n");
        let node = |device| device_node(sys.path(), device);
        assert_eq!(node("/dev/pmem1"), Some(1));
        assert_eq!(node("0000:81:00.0"), Some(1));
        assert_eq!(node("0000:01:00.0"), None);
        assert_eq!(node("/var/tmp/file"), None);
    }
}
