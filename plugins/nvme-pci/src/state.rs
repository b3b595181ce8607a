//! What has to be remembered from a preparation to its end: how things were found. Written before
//! anything is changed, so that a run that is killed can be undone.

use crate::address::PciAddress;
use crate::system::{Owner, System};
use crate::tree::Tree;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::io::ErrorKind::{NotFound, PermissionDenied};

/// Name of the file in the state directory.
pub const FILE_NAME: &str = "nvme-prepare.json";

/// A pool as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolState {
    /// Pages found.
    pub found: u64,
    /// Most pages that we made of it.
    pub set: u64,
}

/// How things were found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Boot that it belongs to.
    pub boot: String,
    /// Drivers of devices by address; empty = none.
    #[serde(default)]
    pub drivers: BTreeMap<String, String>,
    /// Pools by node.
    #[serde(default)]
    pub pools: BTreeMap<i32, PoolState>,
    /// Owners of mount points.
    #[serde(default)]
    pub owners: BTreeMap<String, Owner>,
    /// Mounts that we made.
    #[serde(default)]
    pub mounts: Vec<String>,
    /// Files with limits that we made. They outlive a boot.
    #[serde(default)]
    pub limits: Vec<String>,
}

/// Number of this boot.
fn boot(tree: &Tree) -> String {
    tree.text("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
}

/// The file in a state directory.
pub(crate) fn path(dir: &str) -> String {
    format!("{}/{FILE_NAME}", dir.trim_end_matches('/'))
}

impl State {
    /// Reads it. What an earlier boot left is undone by that boot's end, but for files.
    ///
    /// # Errors
    /// The file is there and cannot be read, or makes no sense.
    pub fn read(tree: &Tree, dir: &str) -> io::Result<Self> {
        let fresh = Self {
            boot: boot(tree),
            ..Self::default()
        };
        let text = match std::fs::read_to_string(tree.path(&path(dir))) {
            Ok(text) => text,
            // Who may not read it changes nothing either.
            Err(error) if matches!(error.kind(), NotFound | PermissionDenied) => return Ok(fresh),
            Err(error) => return Err(error),
        };
        let state: Self = serde_json::from_str(&text)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(if state.boot == fresh.boot {
            state
        } else {
            Self {
                limits: state.limits,
                ..fresh
            }
        })
    }

    /// Writes it; one with nothing in it is removed.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, system: &mut dyn System, dir: &str) -> io::Result<()> {
        let path = path(dir);
        let empty = Self {
            boot: self.boot.clone(),
            ..Self::default()
        };
        if *self == empty {
            return system.remove(&path);
        }
        let mut text = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        text.push('\n');
        system.save(&path, 0o600, &text)
    }

    /// Driver that a device had.
    pub fn driver(&self, address: PciAddress) -> Option<&str> {
        self.drivers.get(&address.to_string()).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn an_earlier_boot_leaves_only_its_files() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::at(root.path());
        let random = root.path().join("proc/sys/kernel/random");
        fs::create_dir_all(&random).unwrap();
        fs::write(random.join("boot_id"), "one\n").unwrap();
        assert_eq!(State::read(&tree, "/state").unwrap().boot, "one");
        let state = State {
            boot: "one".to_owned(),
            drivers: BTreeMap::from([("0000:41:00.0".to_owned(), "nvme".to_owned())]),
            limits: vec!["/etc/x".to_owned()],
            ..State::default()
        };
        let text = serde_json::to_string(&state).unwrap();
        crate::system::save(&root.path().join("state").join(FILE_NAME), 0o600, &text).unwrap();
        assert_eq!(State::read(&tree, "/state").unwrap(), state);
        fs::write(random.join("boot_id"), "two\n").unwrap();
        let later = State::read(&tree, "/state").unwrap();
        assert!(later.drivers.is_empty());
        assert_eq!(later.limits, ["/etc/x"]);
        fs::write(root.path().join("state").join(FILE_NAME), "{").unwrap();
        assert!(State::read(&tree, "/state").is_err());
    }
}
