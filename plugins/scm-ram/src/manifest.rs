//! The manifest and the config keys of the class.

use daos_plugin_api::abi::Status;
use daos_plugin_api::sdk::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::path::{Component, PathBuf};

/// The manifest document.
pub(crate) const JSON: &str = include_str!("../manifest.json");

/// Class name.
pub(crate) const CLASS: &str = "ram";

/// Smallest storage in bytes: below, not even an empty index fits.
const SMALLEST: u64 = 4 << 20;

#[derive(Deserialize)]
struct Keys {
    scm_mount: Option<PathBuf>,
    scm_size: Option<u64>,
    scm_size_mib: Option<u64>,
    pinned_numa_node: Option<u32>,
}

/// The config keys after checking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Absolute, without `..`.
    pub(crate) mount: PathBuf,
    /// Bytes; never 0.
    pub(crate) size: u64,
    /// Node whose memory is preferred.
    pub(crate) numa_node: Option<u32>,
}

impl Settings {
    /// Checks the keys. `scm_size` is in GB as in the original, which hands the number to tmpfs
    /// with the suffix `g`: 1024^3 bytes. `scm_size_mib` wins over it. For tmpfs a size of 0
    /// means "unlimited"; here it is refused.
    pub(crate) fn parse(class: &str, config: &Map<String, Value>) -> Result<Self> {
        let invalid = |what: String| Error::new(Status::INVALID, what);
        if class != CLASS {
            return Err(invalid(format!(
                "plugin scm-ram has the class {CLASS}, not {class:?}"
            )));
        }
        let keys: Keys = serde_json::from_value(Value::Object(config.clone())).map_err(|e| {
            invalid("the ram class cannot read its keys".into()).cause(e.to_string())
        })?;
        let mount = keys
            .scm_mount
            .ok_or_else(|| invalid("scm_mount is missing".into()).remedy("set scm_mount"))?;
        let plain = mount
            .components()
            .all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
        if !mount.is_absolute() || !plain || mount.parent().is_none() {
            return Err(invalid(format!(
                "scm_mount {} cannot be a mount point",
                mount.display()
            ))
            .cause("it is not an absolute path below / without \"..\"")
            .remedy("set scm_mount to a path such as /mnt/daos"));
        }
        let (key, size, unit) = match (keys.scm_size_mib, keys.scm_size) {
            (Some(mib), _) => ("scm_size_mib", mib, 1u64 << 20),
            (None, Some(gib)) => ("scm_size", gib, 1 << 30),
            (None, None) => {
                return Err(invalid("scm_size is missing".into())
                    .remedy("set scm_size to the number of GB to use"));
            }
        };
        let bytes = size.checked_mul(unit).filter(|b| *b <= i64::MAX as u64);
        match bytes {
            Some(0) => Err(invalid(format!("{key} is 0"))
                .cause("0 would mean \"unlimited\" to tmpfs and is never taken as that")
                .remedy(format!("set {key} to the memory to use"))),
            Some(bytes) if bytes >= SMALLEST => Ok(Self {
                mount,
                size: bytes,
                numa_node: keys.pinned_numa_node,
            }),
            Some(_) => Err(invalid(format!("{key} {size} is too small"))
                .remedy(format!("use at least {} MiB", SMALLEST >> 20))),
            None => Err(invalid(format!("{key} {size} is out of range"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(config: Value) -> Result<Settings> {
        let Value::Object(config) = config else {
            panic!("not an object")
        };
        Settings::parse(CLASS, &config)
    }

    #[test]
    fn the_manifest_declares_the_class() {
        let manifest: daos_plugin_api::control::Manifest =
            serde_json::from_str(JSON).expect("a manifest");
        assert_eq!(manifest.classes[0].name, CLASS);
        assert_eq!(manifest.version, env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn a_gb_is_what_tmpfs_takes_for_one() {
        let settings = parse(json!({"scm_mount": "/mnt/x", "scm_size": 3})).expect("valid");
        assert_eq!(settings.size, 3 << 30);
    }

    #[test]
    fn mib_win_over_gb() {
        let settings = parse(json!({"scm_mount": "/mnt/x", "scm_size": 3, "scm_size_mib": 64}))
            .expect("valid");
        assert_eq!(settings.size, 64 << 20);
    }

    #[test]
    fn nonsense_is_refused() {
        for config in [
            json!({"scm_mount": "/mnt/x", "scm_size": 0}),
            json!({"scm_mount": "/mnt/x", "scm_size": 2, "scm_size_mib": 0}),
            json!({"scm_mount": "/mnt/x", "scm_size": -1}),
            json!({"scm_mount": "/mnt/x", "scm_size": u64::MAX}),
            json!({"scm_mount": "/mnt/x", "scm_size": "4"}),
            json!({"scm_mount": "/mnt/x", "scm_size_mib": 1}),
            json!({"scm_mount": "/mnt/x"}),
            json!({"scm_mount": "mnt/x", "scm_size": 1}),
            json!({"scm_mount": "/mnt/../x", "scm_size": 1}),
            json!({"scm_mount": "/", "scm_size": 1}),
            json!({"scm_mount": "", "scm_size": 1}),
            json!({"scm_size": 1}),
        ] {
            let error = parse(config.clone()).expect_err("must be refused");
            assert_eq!(error.status, Status::INVALID, "{config}: {error}");
        }
    }
}
