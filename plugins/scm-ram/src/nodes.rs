//! Memory per NUMA node, from sysfs.

use daos_plugin_api::sdk::{Error, Result};
use std::fs;
use std::path::Path;

/// Memory of one node.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// Node number; -1 if the kernel knows no nodes.
    pub(crate) number: i32,
    /// Bytes.
    pub(crate) total: u64,
    /// Bytes that are free now.
    pub(crate) free: u64,
}

/// Nodes with memory, lowest number first. `root` is `/` outside of tests.
pub(crate) fn list(root: &Path) -> Result<Vec<Node>> {
    let mut nodes: Vec<Node> = fs::read_dir(root.join("sys/devices/system/node"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let number = entry
                .file_name()
                .to_str()?
                .strip_prefix("node")?
                .parse()
                .ok()?;
            let text = fs::read_to_string(entry.path().join("meminfo")).ok()?;
            node(number, &text, "MemFree")
        })
        .filter(|node| node.total > 0)
        .collect();
    nodes.sort_by_key(|node| node.number);
    if nodes.is_empty() {
        let path = root.join("proc/meminfo");
        let text = fs::read_to_string(&path)
            .map_err(|e| Error::io(format!("cannot read {}", path.display()), e))?;
        nodes.extend(node(-1, &text, "MemAvailable"));
    }
    Ok(nodes)
}

fn node(number: i32, meminfo: &str, free: &str) -> Option<Node> {
    Some(Node {
        number,
        total: field(meminfo, "MemTotal")?,
        free: field(meminfo, free).unwrap_or(0),
    })
}

/// Value in bytes of a line `[Node 0 ]MemTotal:   123 kB`.
fn field(meminfo: &str, name: &str) -> Option<u64> {
    meminfo.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        if key.split_whitespace().last()? != name {
            return None;
        }
        let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_nodes_and_one_without_memory() {
        let root = tempfile::tempdir().expect("temp dir");
        for (number, total) in [(1, 2048), (0, 1024), (2, 0)] {
            let dir = root
                .path()
                .join(format!("sys/devices/system/node/node{number}"));
            fs::create_dir_all(&dir).expect("node dir");
            fs::write(
                dir.join("meminfo"),
                format!("Node {number} MemTotal:  {total} kB\nNode {number} MemFree:  512 kB\n"),
            )
            .expect("meminfo");
        }
        let nodes = list(root.path()).expect("nodes");
        let seen: Vec<_> = nodes.iter().map(|n| (n.number, n.total, n.free)).collect();
        assert_eq!(seen, [(0, 1 << 20, 512 << 10), (1, 2 << 20, 512 << 10)]);
    }

    #[test]
    fn without_nodes_the_machine_is_one() {
        let root = tempfile::tempdir().expect("temp dir");
        fs::create_dir(root.path().join("proc")).expect("proc");
        fs::write(
            root.path().join("proc/meminfo"),
            "MemTotal:       4 kB\nMemFree:        1 kB\nMemAvailable:   2 kB\n",
        )
        .expect("meminfo");
        let nodes = list(root.path()).expect("nodes");
        assert_eq!(
            nodes,
            [Node {
                number: -1,
                total: 4096,
                free: 2048
            }]
        );
    }
}
