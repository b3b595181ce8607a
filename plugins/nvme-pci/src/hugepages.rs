//! Pools of huge pages: how many there are on which node, how many there should be, and why there
//! are fewer.

use crate::tree::Tree;

/// KiB of a page of memory.
const SMALL_PAGE_KIB: u64 = 4;
const NODES: &str = "/sys/devices/system/node";

/// Huge pages of one NUMA node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The node; -1 where the kernel knows none.
    pub node: i32,
    /// Folder of its attributes.
    pub dir: String,
    /// Pages.
    pub total: u64,
    /// Of these, not in use.
    pub free: u64,
    /// The node has processors.
    pub has_cpus: bool,
}

/// Pools of the default page size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pools {
    /// KiB of a page; 0 if the kernel has no huge pages.
    pub page_kib: u64,
    /// By node.
    pub pools: Vec<Pool>,
}

impl Pools {
    /// Reads them.
    pub fn read(tree: &Tree) -> Self {
        let page_kib = meminfo(
            &tree.text("/proc/meminfo").unwrap_or_default(),
            "Hugepagesize",
        );
        let Some(page_kib) = page_kib.filter(|size| *size > 0) else {
            return Self::default();
        };
        let leaf = format!("hugepages/hugepages-{page_kib}kB");
        let mut pools: Vec<Pool> = tree
            .names(NODES)
            .iter()
            .filter_map(|name| {
                let node: i32 = name.strip_prefix("node")?.parse().ok()?;
                let cpus = tree.text(&format!("{NODES}/{name}/cpulist"));
                let mut pool = Pool::read(tree, node, format!("{NODES}/{name}/{leaf}"))?;
                pool.has_cpus = cpus.is_some_and(|list| !list.is_empty());
                Some(pool)
            })
            .collect();
        if pools.is_empty() {
            pools.extend(Pool::read(tree, -1, format!("/sys/kernel/mm/{leaf}")));
        }
        pools.sort_by_key(|pool| pool.node);
        Self { page_kib, pools }
    }

    /// Pages of all nodes.
    pub fn total(&self) -> u64 {
        self.pools.iter().map(|pool| pool.total).sum()
    }

    /// How many pages each pool should have, in their order, so that `wanted` are there in all, spread
    /// over the nodes with processors. A pool that is larger already stays as it is.
    pub fn targets(&self, wanted: u64) -> Vec<u64> {
        let any_cpus = self.pools.iter().any(|pool| pool.has_cpus);
        let takes = |pool: &Pool| pool.has_cpus || !any_cpus;
        let nodes = self.pools.iter().filter(|pool| takes(pool)).count() as u64;
        let mut earlier = 0;
        let target = |pool: &Pool| {
            if !takes(pool) {
                return pool.total;
            }
            // The first nodes take what cannot be divided.
            let share = wanted / nodes + u64::from(earlier < wanted % nodes);
            earlier += 1;
            share.max(pool.total)
        };
        self.pools.iter().map(target).collect()
    }
}

impl Pool {
    fn read(tree: &Tree, node: i32, dir: String) -> Option<Self> {
        Some(Self {
            node,
            total: tree.number(&format!("{dir}/nr_hugepages"))?,
            free: tree.number(&format!("{dir}/free_hugepages")).unwrap_or(0),
            has_cpus: true,
            dir,
        })
    }

    /// The file that holds the number of pages.
    pub fn file(&self) -> String {
        format!("{}/nr_hugepages", self.dir)
    }

    /// The node in words.
    pub fn place(&self) -> String {
        place(self.node)
    }
}

/// A node in words.
pub(crate) fn place(node: i32) -> String {
    match node {
        -1 => "this machine".to_owned(),
        node => format!("NUMA node {node}"),
    }
}

/// Value in KiB of a line of meminfo; those of nodes begin with `Node N`.
fn meminfo(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.split_whitespace().next_back() == Some(name))
            .then(|| value.split_whitespace().next()?.parse().ok())
            .flatten()
    })
}

/// Pages of `page_kib` that could be made from whole free blocks of the node, by /proc/buddyinfo.
fn whole_pages(buddyinfo: &str, node: i32, page_kib: u64) -> u64 {
    let heading = format!("Node {node},");
    let lines = buddyinfo
        .lines()
        .filter(|line| node < 0 || line.starts_with(&heading));
    let zone = |line: &str| -> u64 {
        let counts = line.split_whitespace().skip(4);
        counts
            .enumerate()
            .filter_map(|(order, count)| {
                let block_kib = SMALL_PAGE_KIB.checked_shl(u32::try_from(order).ok()?)?;
                let count: u64 = count.parse().ok()?;
                Some(block_kib.saturating_mul(count) / page_kib * u64::from(block_kib >= page_kib))
            })
            .sum()
    };
    lines.map(zone).sum()
}

/// Part of a node's memory that is left to everything else: a machine without any hangs.
const RESERVE: u64 = 16;

/// Memory of a node: KiB that are free, and KiB that huge pages may take.
fn memory(tree: &Tree, node: i32) -> (u64, u64) {
    let file = match node {
        -1 => "/proc/meminfo".to_owned(),
        node => format!("{NODES}/node{node}/meminfo"),
    };
    let text = tree.text(&file).unwrap_or_default();
    let value = |name| meminfo(&text, name).unwrap_or(0);
    let free = value("MemFree");
    // What the kernel can drop; memory of tmpfs is counted among it, and cannot.
    let cached = value("FilePages").max(value("Cached"));
    let droppable = cached.saturating_sub(value("Shmem")) + value("SReclaimable");
    let reserve = value("MemTotal") / RESERVE;
    (free, (free + droppable).saturating_sub(reserve))
}

/// Why a node cannot have that many more pages, and what helps; `None` if it can.
pub(crate) fn too_many(
    tree: &Tree,
    pool: &Pool,
    page_kib: u64,
    more: u64,
) -> Option<(String, String)> {
    let (_, room) = memory(tree, pool.node);
    let needed = more.saturating_mul(page_kib);
    (needed > room).then(|| {
        (
            format!(
                "not enough memory: {more} more pages need {} MiB, and {} can spare {} MiB",
                needed >> 10,
                pool.place(),
                room >> 10
            ),
            "ask for fewer with -p, or end what uses memory there".to_owned(),
        )
    })
}

/// Why a pool got fewer pages than there is memory for, and what helps.
pub(crate) fn fragmented(
    tree: &Tree,
    pool: &Pool,
    page_kib: u64,
    missing: u64,
) -> (String, String) {
    let (free, _) = memory(tree, pool.node);
    let buddies = tree.text("/proc/buddyinfo").unwrap_or_default();
    let whole = whole_pages(&buddies, pool.node, page_kib);
    (
        format!(
            "fragmented memory: {} has {} MiB free, with only {whole} unbroken pieces of {page_kib} KiB left in it",
            pool.place(),
            free >> 10
        ),
        format!(
            "ask for fewer with -p, prepare soon after a reboot, or reserve pages at boot (kernel parameter hugepages={})",
            pool.total + missing
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pools(totals: &[(u64, bool)]) -> Pools {
        let pool = |(node, (total, has_cpus)): (i32, &(u64, bool))| Pool {
            node,
            dir: String::new(),
            total: *total,
            free: *total,
            has_cpus: *has_cpus,
        };
        Pools {
            page_kib: 2048,
            pools: (0..).zip(totals).map(pool).collect(),
        }
    }

    #[test]
    fn pages_are_spread_and_larger_pools_stay() {
        assert_eq!(pools(&[(0, true), (0, true)]).targets(1024), [512, 512]);
        assert_eq!(pools(&[(0, true), (0, true)]).targets(5), [3, 2]);
        assert_eq!(
            pools(&[(4096, true), (10, true)]).targets(1024),
            [4096, 512]
        );
        // Memory without processors near it is left alone, unless there is no other.
        assert_eq!(pools(&[(0, true), (7, false)]).targets(8), [8, 7]);
        assert_eq!(pools(&[(0, false)]).targets(8), [8]);
        assert!(pools(&[]).targets(8).is_empty());
    }

    #[test]
    fn meminfo_of_machine_and_nodes_is_read() {
        let text = "MemTotal:  1 kB\nMemFree:        12 kB\nHugepagesize:    2048 kB\n";
        assert_eq!(meminfo(text, "Hugepagesize"), Some(2048));
        assert_eq!(meminfo("Node 1 MemFree:  77 kB\n", "MemFree"), Some(77));
        assert_eq!(meminfo(text, "Free"), None);
    }

    #[test]
    fn whole_pieces_are_counted_by_node() {
        let text = "Node 0, zone    DMA32   9 9 9 9 9 9 9 9 9    3    2\n\
                    Node 1, zone   Normal   9 9 9 9 9 9 9 9 9    0    0\n";
        // Order 9 is 2 MiB, order 10 is two of them.
        assert_eq!(whole_pages(text, 0, 2048), 7);
        assert_eq!(whole_pages(text, 1, 2048), 0);
        assert_eq!(whole_pages(text, -1, 2048), 7);
        assert_eq!(whole_pages("garbage", 0, 2048), 0);
    }

    proptest! {
        #[test]
        fn all_pages_are_there_and_no_pool_shrinks(
            totals in proptest::collection::vec((0u64..5000, any::<bool>()), 1..9),
            wanted in 0u64..100_000,
        ) {
            let pools = pools(&totals);
            let targets = pools.targets(wanted);
            prop_assert!(targets.iter().sum::<u64>() >= wanted);
            for (pool, target) in pools.pools.iter().zip(&targets) {
                prop_assert!(*target >= pool.total);
                prop_assert!(*target <= pool.total.max(wanted));
            }
        }

        #[test]
        fn any_buddyinfo_is_taken(text in "(Node [01], zone [A-Z]{1,5} [0-9 ]{0,40}\n){0,4}") {
            whole_pages(&text, 0, 2048);
        }
    }
}
