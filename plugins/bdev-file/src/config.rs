//! The class's config keys and the plugin's settings.

use bdev_uring::{Engine, UnmapMode};
use daos_plugin_api::abi::Status;
use daos_plugin_api::sdk::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::path::{Component, Path};

/// The class of this plugin.
pub(crate) const CLASS: &str = "file";

/// Bytes per block of the devices.
pub(crate) const BLOCK: u32 = 4096;

pub(crate) fn invalid(what: impl Into<String>) -> Error {
    Error::new(Status::INVALID, what)
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Unmap {
    #[default]
    Keep,
    Release,
}

/// Settings of the plugin.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    #[serde(default)]
    pub(crate) io_engine: Engine,
    #[serde(default)]
    unmap: Unmap,
}

impl Settings {
    pub(crate) fn parse(settings: Map<String, Value>) -> Result<Self> {
        serde_json::from_value(Value::Object(settings))
            .map_err(|e| invalid("the settings of plugin bdev-file are wrong").cause(e.to_string()))
    }

    pub(crate) fn unmap(&self) -> UnmapMode {
        match self.unmap {
            Unmap::Keep => UnmapMode::KeepSpace,
            Unmap::Release => UnmapMode::Punch,
        }
    }
}

#[derive(Deserialize)]
struct Keys {
    #[serde(default)]
    bdev_list: Vec<String>,
    bdev_size: Option<u64>,
    bdev_size_mib: Option<u64>,
}

/// Files and size that an engine's config asks for.
pub(crate) struct Config {
    pub(crate) paths: Vec<String>,
    /// Bytes of each file, a multiple of the block size.
    pub(crate) size: u64,
}

impl Config {
    /// Reads and checks the keys; touches no file.
    pub(crate) fn parse(config: &Map<String, Value>) -> Result<Self> {
        let keys: Keys = serde_json::from_value(Value::Object(config.clone())).map_err(|e| {
            invalid("the keys of bdev_class file are malformed").cause(e.to_string())
        })?;
        if keys.bdev_list.is_empty() {
            return Err(invalid("bdev_class file needs bdev_list")
                .remedy("list the absolute paths of the files under bdev_list"));
        }
        for (index, path) in keys.bdev_list.iter().enumerate() {
            check_path(path).map_err(|cause| {
                invalid(format!(
                    "entry {index} of bdev_list, {path:?}, cannot be a file"
                ))
                .cause(cause)
                .remedy("write an absolute path without . and .., once")
            })?;
            if keys.bdev_list[..index].contains(path) {
                return Err(
                    invalid(format!("{path} is in bdev_list twice")).remedy("list each file once")
                );
            }
        }
        let size = match (keys.bdev_size_mib, keys.bdev_size) {
            (Some(mib), _) => mib.checked_mul(1 << 20),
            (None, Some(gb)) => gb.checked_mul(1_000_000_000),
            (None, None) => {
                return Err(invalid("bdev_class file needs the size of its files")
                    .remedy("set bdev_size (GB) or bdev_size_mib (MiB)"));
            }
        };
        let size = size.map(|bytes| bytes / u64::from(BLOCK) * u64::from(BLOCK));
        match size {
            Some(size) if size > 0 && size <= i64::MAX as u64 => Ok(Self {
                paths: keys.bdev_list,
                size,
            }),
            _ => Err(
                invalid("the size of bdev_class file is out of range").remedy(
                    "set bdev_size to GB, or bdev_size_mib to MiB, that the file system holds",
                ),
            ),
        }
    }
}

fn check_path(path: &str) -> Result<(), &'static str> {
    let path = Path::new(path);
    if path.as_os_str().is_empty() {
        return Err("it is empty");
    }
    if !path.is_absolute() {
        return Err("it is not absolute");
    }
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        return Err("it contains a zero byte");
    }
    let odd = |part| !matches!(part, Component::RootDir | Component::Normal(_));
    if path.components().any(odd) || path.file_name().is_none() {
        return Err("it has no plain file name");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(config: Value) -> Result<Config> {
        Config::parse(config.as_object().unwrap())
    }

    #[test]
    fn sizes_are_rounded_down_to_blocks() {
        for (gb, bytes) in [(1, 999_997_440), (4, 3_999_997_952), (16, 16_000_000_000)] {
            assert_eq!(
                parse(json!({"bdev_list": ["/a"], "bdev_size": gb}))
                    .unwrap()
                    .size,
                bytes
            );
        }
        let both = json!({"bdev_list": ["/a"], "bdev_size": 4, "bdev_size_mib": 3});
        assert_eq!(parse(both).unwrap().size, 3 << 20);
    }

    #[test]
    fn bad_configs_are_refused_with_a_remedy() {
        for config in [
            json!({"bdev_size": 1}),
            json!({"bdev_list": [], "bdev_size": 1}),
            json!({"bdev_list": ["/a"]}),
            json!({"bdev_list": ["/a"], "bdev_size": 0}),
            json!({"bdev_list": ["/a"], "bdev_size": u64::MAX}),
            json!({"bdev_list": ["/a"], "bdev_size": 10_000_000_000u64}),
            json!({"bdev_list": ["/a", "/b", "/a"], "bdev_size": 1}),
            json!({"bdev_list": ["a"], "bdev_size": 1}),
            json!({"bdev_list": [""], "bdev_size": 1}),
            json!({"bdev_list": ["/"], "bdev_size": 1}),
            json!({"bdev_list": ["/a/../b"], "bdev_size": 1}),
            json!({"bdev_list": ["/a\u{0}b"], "bdev_size": 1}),
        ] {
            let error = parse(config.clone())
                .err()
                .unwrap_or_else(|| panic!("{config} passes"));
            assert_eq!(error.status, Status::INVALID, "{config}");
            assert!(!error.remedy.is_empty(), "{config}: {error}");
        }
        let twice = parse(json!({"bdev_list": ["/x/y", "/x/y"], "bdev_size": 1}))
            .err()
            .unwrap();
        assert!(twice.what.contains("/x/y"), "{twice}");
    }
}
