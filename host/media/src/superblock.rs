//! The superblock: the record that makes an engine formatted.
//!
//! A YAML file on the SCM mount of the engine, the last thing that a format writes. The first eight
//! keys are those of the DAOS 2.8 control plane, in its order:
//!
//! | key | meaning |
//! |---|---|
//! | `version` | layout of this file, [`VERSION`] |
//! | `uuid` | the engine |
//! | `system` | name of the system |
//! | `rank` | rank, `null` until known |
//! | `uri` | address on the fabric when it was last ready |
//! | `validrank` | whether `rank` was given by the management service |
//! | `hostfaultdomain` | fault domain of the host |
//! | `incarnation` | stamp of the last start |
//! | `generation` | stamp of the format; the labels of its devices carry the same |
//! | `immutable` | every configuration key that only a format may change, with its value |
//! | `devices` | the block devices, in order |
//!
//! Unknown keys are refused rather than lost at the next update.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::atomic::{self, FileError};

/// Name of the file under the SCM mount.
pub const FILE_NAME: &str = "superblock";
/// Version written, and the only one read.
pub const VERSION: u32 = 1;
/// Access rights of the file.
pub const MODE: u32 = 0o660;
/// Most bytes of the file.
const LIMIT: u64 = 4 << 20;

/// The superblock of one engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Superblock {
    /// Layout of the file, [`VERSION`].
    pub version: u32,
    /// The engine; new at each format.
    pub uuid: Uuid,
    /// Name of the system.
    pub system: String,
    /// Rank, once known.
    pub rank: Option<u32>,
    /// Address on the fabric when it was last ready.
    pub uri: String,
    /// Whether the rank was given by the management service.
    pub validrank: bool,
    /// Fault domain of the host, such as `/rack1/host5`.
    pub hostfaultdomain: String,
    /// Stamp of the last start.
    pub incarnation: u64,
    /// Stamp of the format, also in the labels of the devices.
    pub generation: u64,
    /// Configuration keys that only a format may change, with their values as text.
    pub immutable: BTreeMap<String, String>,
    /// Block devices, in order of their index.
    pub devices: Vec<Device>,
}

/// One block device of an engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Position among the engine's devices, from 0.
    pub index: u32,
    /// UUID in its label.
    pub label: Uuid,
    /// Class as in the configuration.
    pub class: String,
    /// PCI address, path or name.
    pub address: String,
    /// Bytes of a block.
    pub block_size: u32,
    /// Blocks.
    pub blocks: u64,
    /// Whether the content does not survive the engine process.
    pub volatile: bool,
}

/// An immutable key whose value is not the recorded one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{key} was {} when the storage was formatted and is {} now",
    said(recorded),
    said(configured)
)]
pub struct Change {
    /// The key.
    pub key: String,
    /// Value at the time of the format; `None` when the key was not set.
    pub recorded: Option<String>,
    /// Value now; `None` when the key is not set.
    pub configured: Option<String>,
}

fn said(value: &Option<String>) -> String {
    match value {
        Some(value) => format!("{value:?}"),
        None => "not set".to_owned(),
    }
}

/// Why a superblock could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SuperblockError {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not a superblock, or damaged.
    #[error("{}: the superblock cannot be read: {reason}; format again with --reformat if its data may go", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column where there are any.
        reason: String,
    },
    /// Another version wrote it.
    #[error(
        "{}: the superblock has version {found}, this program reads version {VERSION}; \
         use the program that formatted it, or format again with --reformat if its data may go",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Version in the file.
        found: u64,
    },
}

impl Superblock {
    /// The configuration keys whose value is not the recorded one, by name.
    pub fn changes(&self, configured: &BTreeMap<String, String>) -> Vec<Change> {
        let keys: BTreeSet<&String> = self.immutable.keys().chain(configured.keys()).collect();
        keys.into_iter()
            .filter(|key| self.immutable.get(*key) != configured.get(*key))
            .map(|key| Change {
                key: key.clone(),
                recorded: self.immutable.get(key).cloned(),
                configured: configured.get(key).cloned(),
            })
            .collect()
    }

    /// Reads the superblock at `path`; `None` if there is none. A staging file that an interrupted
    /// format left counts as none.
    ///
    /// # Errors
    /// [`SuperblockError`].
    pub fn read(path: &Path) -> Result<Option<Superblock>, SuperblockError> {
        let Some(content) = atomic::read(path, LIMIT)? else {
            return Ok(None);
        };
        Self::decode(path, &content).map(Some)
    }

    /// Writes the superblock to `path`; durable on return.
    ///
    /// # Errors
    /// [`SuperblockError`]; the old file is as it was.
    pub fn write(&self, path: &Path) -> Result<(), SuperblockError> {
        let text = self.encode(path)?;
        Ok(atomic::write(path, MODE, text.as_bytes())?)
    }

    /// The content of the file at `path`, for whoever writes it.
    ///
    /// # Errors
    /// [`SuperblockError::Malformed`] when it could not be read back.
    pub fn encode(&self, path: &Path) -> Result<String, SuperblockError> {
        let text =
            serde_yaml::to_string(self).map_err(|error| malformed(path, error.to_string()))?;
        // What could not be read back must not replace what can.
        if Self::decode(path, text.as_bytes())? != *self {
            return Err(malformed(
                path,
                "a value does not survive being written".to_owned(),
            ));
        }
        Ok(text)
    }

    /// Reads a superblock from the bytes of the file at `path`.
    ///
    /// # Errors
    /// [`SuperblockError::Version`] and [`SuperblockError::Malformed`].
    pub fn decode(path: &Path, bytes: &[u8]) -> Result<Superblock, SuperblockError> {
        let malformed = |reason| malformed(path, reason);
        let text = str::from_utf8(bytes).map_err(|error| malformed(error.to_string()))?;
        // The version first: the rest of another version may look like anything.
        let Versioned { version } =
            serde_yaml::from_str(text).map_err(|error| malformed(error.to_string()))?;
        if version != u64::from(VERSION) {
            return Err(SuperblockError::Version {
                path: path.to_owned(),
                found: version,
            });
        }
        let superblock: Superblock =
            serde_yaml::from_str(text).map_err(|error| malformed(error.to_string()))?;
        for (position, device) in superblock.devices.iter().enumerate() {
            if device.index as usize != position {
                return Err(malformed(format!(
                    "device {} is listed at position {position}",
                    device.index
                )));
            }
        }
        Ok(superblock)
    }
}

fn malformed(path: &Path, reason: String) -> SuperblockError {
    SuperblockError::Malformed {
        path: path.to_owned(),
        reason,
    }
}

/// The one key that every version has.
#[derive(Deserialize)]
struct Versioned {
    version: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    fn example() -> Superblock {
        Superblock {
            version: VERSION,
            uuid: "cd491c67-7e24-4fcf-bc82-393803ab564c".parse().unwrap(),
            system: "daos_server".into(),
            rank: None,
            uri: String::new(),
            validrank: false,
            hostfaultdomain: "/vm".into(),
            incarnation: 0,
            generation: 3,
            immutable: [("scm_class", "ram"), ("targets", "4")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            devices: vec![Device {
                index: 0,
                label: "11111111-2222-4333-8444-555555555555".parse().unwrap(),
                class: "file".into(),
                address: "/tmp/bdev0".into(),
                block_size: 4096,
                blocks: 1000,
                volatile: false,
            }],
        }
    }

    #[test]
    fn the_keys_come_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        example().write(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let keys: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with([' ', '-']))
            .map(|line| line.split(':').next().unwrap())
            .collect();
        let wanted = "version uuid system rank uri validrank hostfaultdomain incarnation \
                      generation immutable devices";
        assert_eq!(keys, wanted.split(' ').collect::<Vec<_>>(), "{text}");
        assert!(
            text.starts_with("version: 1\nuuid: cd491c67-7e24-4fcf-bc82-393803ab564c\n"),
            "{text}"
        );
        assert!(
            text.contains("\nrank: null\nuri: \"\"\nvalidrank: false\n"),
            "{text}"
        );
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            MODE
        );
        assert_eq!(Superblock::read(&path).unwrap(), Some(example()));
    }

    #[test]
    fn there_is_none_before_the_rename() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        assert!(Superblock::read(&path).unwrap().is_none());
        fs::write(atomic::staging_path(&path), "version: 1\nuuid: cd49").unwrap();
        assert!(Superblock::read(&path).unwrap().is_none());
        example().write(&path).unwrap();
        assert!(!atomic::staging_path(&path).exists());
    }

    #[test]
    fn other_versions_are_refused_whatever_else_is_there() {
        for (text, version) in [
            ("version: 2\nshape: [of, the, future]\n", "version 2"),
            ("version: 0\nuuid: x\nms: true\n", "version 0"),
            (
                "version: 18446744073709551615\n",
                "version 18446744073709551615",
            ),
        ] {
            let error = Superblock::decode(Path::new("/mnt/sb"), text.as_bytes()).unwrap_err();
            let said = error.to_string();
            assert!(matches!(error, SuperblockError::Version { .. }), "{said}");
            assert!(
                said.starts_with("/mnt/sb: ") && said.contains(version),
                "{said}"
            );
            assert!(said.contains("--reformat"), "{said}");
        }
    }

    #[test]
    fn what_is_malformed_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        example().write(&path).unwrap();
        let good = fs::read_to_string(&path).unwrap();
        for (bad, what) in [
            (String::new(), ""),
            ("version: one\n".to_owned(), ""),
            (format!("{good}extra: 1\n"), "extra"),
            (good.replace("generation: 3\n", ""), "generation"),
            (
                good.replace("incarnation: 0", "incarnation: -1"),
                "incarnation",
            ),
            (
                good.replace("index: 0", "index: 1"),
                "device 1 is listed at position 0",
            ),
            (good[..good.len() / 2].to_owned(), ""),
            ("- a\n- b\n".to_owned(), ""),
        ] {
            let error = Superblock::decode(&path, bad.as_bytes()).unwrap_err();
            let said = error.to_string();
            assert!(matches!(error, SuperblockError::Malformed { .. }), "{said}");
            assert!(said.contains(what) && said.contains("superblock"), "{said}");
        }
        assert!(Superblock::decode(&path, &[0xff, 0xfe]).is_err());
    }

    #[test]
    fn changes_name_key_old_and_new() {
        let superblock = example();
        assert!(superblock.changes(&superblock.immutable).is_empty());
        let mut now = superblock.immutable.clone();
        now.insert("targets".into(), "8".into());
        now.insert("bdev_class".into(), "file".into());
        now.remove("scm_class");
        let said: Vec<String> = superblock
            .changes(&now)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            said,
            [
                r#"bdev_class was not set when the storage was formatted and is "file" now"#,
                r#"scm_class was "ram" when the storage was formatted and is not set now"#,
                r#"targets was "4" when the storage was formatted and is "8" now"#,
            ]
        );
    }

    proptest! {
        #[test]
        fn any_values_come_back(
            system in any::<String>(),
            uri in "\\PC*",
            key in any::<String>(),
            value in prop_oneof![
                any::<String>(),
                "(null|~|yes|no|on|off|true|1e3|0x1f|0o17|\\.5|-|---|\\.\\.\\.|a: b|# c| x|x |'|\"|\\[\\]|!t|&a|\\*a|%|@|1_000|2001-01-01)",
            ],
            rank in any::<Option<u32>>(),
            incarnation in any::<u64>(),
            blocks in any::<u64>(),
        ) {
            let mut superblock = example();
            superblock.system = system;
            superblock.uri = uri;
            superblock.rank = rank;
            superblock.incarnation = incarnation;
            superblock.devices[0].blocks = blocks;
            superblock.devices[0].address = value.clone();
            superblock.immutable.insert(key, value);
            let text = serde_yaml::to_string(&superblock).unwrap();
            let back = Superblock::decode(Path::new("x"), text.as_bytes()).unwrap();
            prop_assert_eq!(back, superblock);
        }

        #[test]
        fn any_bytes_are_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(Superblock::decode(Path::new("x"), &bytes).is_err());
        }

        #[test]
        fn any_damage_is_read_or_refused(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut text = serde_yaml::to_string(&example()).unwrap().into_bytes();
            let at = at.index(text.len());
            text[at] = byte;
            let _ = Superblock::decode(Path::new("x"), &text);
        }
    }
}
