//! The manifest, the config keys of the class, and the plugin's own settings.

use crate::persist::Choice;
use daos_plugin_api::abi::Status;
use daos_plugin_api::sdk::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::path::{Component, Path, PathBuf};

/// The manifest document.
pub(crate) const JSON: &str = include_str!("../manifest.json");

/// Class name.
pub(crate) const CLASS: &str = "dcpm";

/// Smallest storage in bytes: below, not even an empty index fits.
const SMALLEST: u64 = 4 << 20;

#[derive(Deserialize)]
struct Keys {
    scm_mount: Option<PathBuf>,
    #[serde(default)]
    scm_list: Vec<PathBuf>,
    scm_size: Option<u64>,
    scm_size_mib: Option<u64>,
    pinned_numa_node: Option<u32>,
}

/// The config keys after checking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Absolute, without `..`.
    pub(crate) mount: PathBuf,
    /// What `scm_list` names: a block device, or a directory. Absolute. `None` = what was formatted for `mount`.
    pub(crate) source: Option<PathBuf>,
    /// Bytes; only a directory has and needs a limit.
    pub(crate) size: Option<u64>,
    /// Node of the engine.
    pub(crate) numa_node: Option<u32>,
}

impl Settings {
    /// Checks the keys. Sizes are counted as `scm-ram` counts them.
    pub(crate) fn parse(class: &str, config: &Map<String, Value>) -> Result<Self> {
        let invalid = |what: String| Error::new(Status::INVALID, what);
        if class != CLASS {
            return Err(invalid(format!(
                "plugin scm-dcpm has the class {CLASS}, not {class:?}"
            )));
        }
        let keys: Keys = serde_json::from_value(Value::Object(config.clone())).map_err(|e| {
            invalid("the dcpm class cannot read its keys".into()).cause(e.to_string())
        })?;
        let mount = keys.scm_mount.ok_or_else(|| {
            invalid("scm_mount is missing".into())
                .remedy("set scm_mount to a path such as /mnt/daos0")
        })?;
        if !is_plain(&mount) || mount.parent().is_none() {
            return Err(invalid(format!(
                "scm_mount {} cannot be a mount point",
                mount.display()
            ))
            .cause("it is not an absolute path below / without \"..\"")
            .remedy("set scm_mount to a path such as /mnt/daos0"));
        }
        let source = match keys.scm_list.as_slice() {
            [] => None,
            [source] => Some(source.clone()),
            list => {
                return Err(invalid(format!(
                    "scm_list has {} entries, and class dcpm takes one",
                    list.len()
                ))
                .remedy("name one namespace per engine: scm_list: [/dev/pmem0]"));
            }
        };
        if let Some(source) = &source
            && (!is_plain(source) || source.parent().is_none())
        {
            return Err(invalid(format!(
                "{} in scm_list is no absolute path without \"..\"",
                source.display()
            ))
            .remedy("name the namespace's block device: scm_list: [/dev/pmem0]"));
        }
        let size = match (keys.scm_size_mib, keys.scm_size) {
            (Some(mib), _) => Some(("scm_size_mib", mib, 1u64 << 20)),
            (None, Some(gib)) => Some(("scm_size", gib, 1 << 30)),
            (None, None) => None,
        };
        let size = match size {
            None => None,
            Some((key, count, unit)) => Some(
                count
                    .checked_mul(unit)
                    .filter(|bytes| (SMALLEST..=i64::MAX as u64).contains(bytes))
                    .ok_or_else(|| {
                        invalid(format!("{key} {count} is out of range"))
                            .remedy(format!("use at least {} MiB", SMALLEST >> 20))
                    })?,
            ),
        };
        Ok(Self {
            mount,
            source,
            size,
            numa_node: keys.pinned_numa_node,
        })
    }

    /// What `scm_list` names, for people.
    pub(crate) fn shown(&self) -> String {
        match &self.source {
            Some(source) => source.display().to_string(),
            None => "any namespace".to_owned(),
        }
    }
}

fn is_plain(path: &Path) -> bool {
    path.is_absolute()
        && path
            .components()
            .all(|c| matches!(c, Component::RootDir | Component::Normal(_)))
}

/// The plugin's own settings: `plugins: scm-dcpm: {settings: {...}}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PluginSettings {
    /// How stores become durable.
    #[serde(default)]
    pub(crate) persist: Choice,
}

impl PluginSettings {
    pub(crate) fn parse(settings: Map<String, Value>) -> Result<Self> {
        serde_json::from_value(Value::Object(settings)).map_err(|e| {
            Error::new(Status::INVALID, "the settings of scm-dcpm make no sense")
                .cause(e.to_string())
                .remedy("they have one key: persist (auto, cache_lines or msync)")
        })
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
    fn a_device_needs_no_size() {
        let settings = parse(json!({"scm_mount": "/mnt/x", "scm_list": ["/dev/pmem0"]}));
        let settings = settings.expect("valid");
        assert_eq!(settings.source.as_deref(), Some(Path::new("/dev/pmem0")));
        assert_eq!(settings.size, None);
        for none in [
            json!({"scm_mount": "/mnt/x"}),
            json!({"scm_mount": "/mnt/x", "scm_list": []}),
        ] {
            assert_eq!(parse(none).expect("valid").source, None);
        }
        let settings = parse(json!({"scm_mount": "/mnt/x", "scm_list": ["/x"], "scm_size": 3}));
        assert_eq!(settings.expect("valid").size, Some(3 << 30));
    }

    #[test]
    fn nonsense_is_refused() {
        for config in [
            json!({"scm_mount": "/mnt/x", "scm_list": ["/dev/pmem0", "/dev/pmem1"]}),
            json!({"scm_mount": "/mnt/x", "scm_list": ["pmem0"]}),
            json!({"scm_mount": "/mnt/x", "scm_list": [""]}),
            json!({"scm_mount": "/mnt/x", "scm_list": ["/"]}),
            json!({"scm_mount": "/mnt/x", "scm_list": "/dev/pmem0"}),
            json!({"scm_mount": "mnt/x", "scm_list": ["/dev/pmem0"]}),
            json!({"scm_mount": "/", "scm_list": ["/dev/pmem0"]}),
            json!({"scm_list": ["/dev/pmem0"]}),
            json!({"scm_mount": "/mnt/x", "scm_list": ["/x"], "scm_size": 0}),
            json!({"scm_mount": "/mnt/x", "scm_list": ["/x"], "scm_size": u64::MAX}),
        ] {
            let error = parse(config.clone()).expect_err("must be refused");
            assert_eq!(error.status, Status::INVALID, "{config}: {error}");
        }
    }

    #[test]
    fn settings_of_the_plugin() {
        let of = |value: Value| match value {
            Value::Object(map) => PluginSettings::parse(map),
            _ => panic!("not an object"),
        };
        assert_eq!(of(json!({})).expect("valid").persist, Choice::Auto);
        let forced = of(json!({"persist": "cache_lines"})).expect("valid");
        assert_eq!(forced.persist, Choice::CacheLines);
        assert!(of(json!({"persist": "never"})).is_err());
        assert!(of(json!({"presist": "auto"})).is_err());
    }
}
