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
            let usable: Vec<usize> = cores.iter().map(|core| core.id).collect();
            let physical = daos_topology::physical(&usable, Path::new("/sys"));
            cores.retain(|core| physical.contains(&core.id));
        }
        if let Some(node) = options.numa_node {
            let path = format!("/sys/devices/system/node/node{node}/cpulist");
            let list = std::fs::read_to_string(Path::new(&path)).map_err(|e| {
                StartError::config(format_args!("-p {node}: no such NUMA node: {path}: {e}"))
            })?;
            let of_node = daos_topology::cpu_list(&list).ok_or_else(|| {
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
