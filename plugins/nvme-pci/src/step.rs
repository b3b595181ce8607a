//! One change of the machine.

use crate::address::PciAddress;
use crate::hugepages::place;
use crate::system::Owner;
use std::fmt;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Remove a file of a dead process.
    RemoveStale {
        /// The file.
        path: String,
    },
    /// Change the number of huge pages of a node.
    Pages {
        /// The node.
        node: i32,
        /// Attribute that holds it.
        file: String,
        /// Pages now.
        from: u64,
        /// Pages wanted.
        to: u64,
    },
    /// Mount a hugetlbfs.
    Mount {
        /// Where.
        path: String,
    },
    /// Unmount one that we mounted.
    Unmount {
        /// Where.
        path: String,
    },
    /// Give a file to somebody.
    Own {
        /// The file.
        path: String,
        /// Its owner then.
        owner: Owner,
    },
    /// Let a user lock memory.
    Limits {
        /// File of limits.
        path: String,
        /// Its text.
        text: String,
    },
    /// Take that back.
    RemoveLimits {
        /// File of limits.
        path: String,
    },
    /// Load a kernel module.
    Load {
        /// Its name.
        name: String,
    },
    /// Give a device to a driver for user space.
    Bind {
        /// The device.
        address: PciAddress,
        /// Its driver now.
        from: Option<String>,
        /// Its driver then.
        to: String,
    },
    /// Give it back to the kernel.
    Restore {
        /// The device.
        address: PciAddress,
        /// Its driver now.
        from: Option<String>,
        /// Its driver then.
        to: String,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = |from: &Option<String>| from.clone().unwrap_or_else(|| "no driver".to_owned());
        match self {
            Self::RemoveStale { path } => write!(f, "remove {path}, left by a process that ended"),
            Self::Pages { node, from, to, .. } => {
                write!(f, "set huge pages of {} to {to} (now {from})", place(*node))
            }
            Self::Mount { path } => write!(f, "mount a hugetlbfs at {path}"),
            Self::Unmount { path } => write!(f, "unmount {path}"),
            Self::Own { path, owner } => write!(
                f,
                "give {path} to user {} and group {} with mode {:04o}",
                owner.uid, owner.gid, owner.mode
            ),
            Self::Limits { path, .. } => write!(f, "lift the limit of locked memory in {path}"),
            Self::RemoveLimits { path } => write!(f, "remove {path}"),
            Self::Load { name } => write!(f, "load kernel module {name}"),
            Self::Bind { address, from, to } => {
                write!(f, "bind {address} to {to} (now {})", now(from))
            }
            Self::Restore { address, from, to } => {
                write!(f, "give {address} back to {to} (now {})", now(from))
            }
        }
    }
}
