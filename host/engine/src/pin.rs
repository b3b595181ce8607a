//! Which core each target runs on.

use crate::config::Options;
use crate::error::StartError;
use core_affinity::CoreId;
use std::path::Path;

/// Cores for the targets, in order.
#[derive(Clone, Debug)]
pub struct Placement {
    cores: Vec<CoreId>,
    first: usize,
}

impl Placement {
    /// From `-f` (first core) or `-p` (NUMA node), among the cores that this process may use.
    ///
    /// # Errors
    /// If there is no such node, or none of its cores may be used.
    pub fn new(options: &Options) -> Result<Self, StartError> {
        let mut cores = core_affinity::get_core_ids().unwrap_or_default();
        if !options.hyperthreads {
            cores = physical(cores, Path::new("/sys/devices/system/cpu"));
        }
        if let Some(node) = options.numa_node {
            let path = format!("/sys/devices/system/node/node{node}/cpulist");
            let list = std::fs::read_to_string(Path::new(&path)).map_err(|e| {
                StartError::config(format_args!("-p {node}: no such NUMA node: {path}: {e}"))
            })?;
            let of_node = cpu_list(&list).ok_or_else(|| {
                StartError::failed(format_args!("{path} has no list of cores: {list:?}"))
            })?;
            cores.retain(|core| of_node.contains(&core.id));
            if cores.is_empty() {
                return Err(StartError::config(format_args!(
                    "-p {node}: this process may use none of the node's cores ({})",
                    list.trim()
                )));
            }
        }
        let first = options.first_core as usize;
        let wanted = first + options.targets as usize;
        if wanted > cores.len() {
            tracing::warn!(
                cores = cores.len(),
                wanted,
                "fewer cores than first_core + targets; targets share cores"
            );
        }
        Ok(Self { cores, first })
    }

    /// Puts the calling thread on the core of a target.
    pub fn apply(&self, target: u32) {
        let Some(count) = Some(self.cores.len()).filter(|n| *n > 0) else {
            return tracing::warn!(
                target_number = target,
                "cores are unknown; the target is not pinned"
            );
        };
        let core = self.cores[(self.first + target as usize) % count];
        if !core_affinity::set_for_current(core) {
            tracing::warn!(
                target_number = target,
                core = core.id,
                "the target could not be pinned"
            );
        }
    }
}

/// The first usable hyperthread of each physical core, as the kernel tells siblings (sysfs-devices-system-cpu).
/// Cores of which it tells nothing stay.
fn physical(cores: Vec<CoreId>, sys: &Path) -> Vec<CoreId> {
    let usable: Vec<usize> = cores.iter().map(|core| core.id).collect();
    let is_first = |core: &CoreId| {
        let path = sys.join(format!("cpu{}/topology/thread_siblings_list", core.id));
        let siblings = std::fs::read_to_string(path)
            .ok()
            .and_then(|list| cpu_list(&list));
        siblings.is_none_or(|siblings| {
            let before = |s: &&usize| **s < core.id && usable.contains(s);
            !siblings.iter().any(|s| before(&s))
        })
    };
    cores.into_iter().filter(is_first).collect()
}

/// Numbers of a list such as `0-3,8,10-11`.
fn cpu_list(text: &str) -> Option<Vec<usize>> {
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

#[cfg(test)]
mod tests {
    use super::{CoreId, cpu_list, physical};

    #[test]
    fn hyperthreads_of_a_core_count_once() {
        // Two cores with two threads each, numbered as the kernel does: 0 and 2 are one core.
        let sys = tempfile::tempdir().unwrap();
        for (cpu, siblings) in [(0, "0,2"), (1, "1,3"), (2, "0,2"), (3, "1,3")] {
            let dir = sys.path().join(format!("cpu{cpu}/topology"));
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join("thread_siblings_list"), format!("{siblings}\n")).unwrap();
        }
        let left = |usable: &[usize]| -> Vec<usize> {
            let cores = usable.iter().map(|id| CoreId { id: *id }).collect();
            physical(cores, sys.path()).iter().map(|c| c.id).collect()
        };
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
}
