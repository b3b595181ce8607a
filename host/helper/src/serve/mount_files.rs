//! Files of an engine on its SCM mount. They may belong to root, so the daemon does not write them
//! itself. Only the two known files, only in the directory that the class config names.

use crate::operation::MountFile;
use daos_media::{atomic, device_config, superblock};
use daos_plugin_api::abi::Status;
use daos_plugin_api::control::DeviceSpec;
use daos_plugin_api::sdk::Error;
use serde_json::Value;
use std::path::{Component, Path, PathBuf};

/// Most bytes of such a file.
const LIMIT: u64 = 4 << 20;

/// Text of the file, or `None`.
pub(super) fn read(device: &DeviceSpec, file: MountFile) -> Result<Option<String>, Error> {
    let path = path(device, file)?;
    let content = atomic::read(&path, LIMIT).map_err(|e| failed("read", &path, &e))?;
    content.map_or(Ok(None), |bytes| {
        String::from_utf8(bytes).map(Some).map_err(|_| {
            Error::new(Status::INVALID, format!("{} is not text", path.display()))
                .remedy("format again with --reformat if its data may go")
        })
    })
}

/// Replaces the file; content that could not be read back is refused.
pub(super) fn write(device: &DeviceSpec, file: MountFile, content: &str) -> Result<(), Error> {
    let path = path(device, file)?;
    let bytes = content.as_bytes();
    let refused = |e: &dyn std::fmt::Display| {
        let what = format!("what is to be written to {} is malformed", path.display());
        Error::new(Status::INVALID, what).cause(e.to_string())
    };
    let mode = match file {
        MountFile::Superblock => {
            superblock::Superblock::decode(&path, bytes).map_err(|e| refused(&e))?;
            superblock::MODE
        }
        MountFile::DeviceConfig => {
            match content.starts_with('[') {
                true => device_config::check_text(content).map_err(|e| refused(&e))?,
                false => {
                    device_config::DeviceConfig::decode(&path, bytes).map_err(|e| refused(&e))?;
                }
            }
            device_config::MODE
        }
    };
    atomic::write(&path, mode, bytes).map_err(|e| failed("write", &path, &e))
}

/// Removes the file; answers whether there was one.
pub(super) fn remove(device: &DeviceSpec, file: MountFile) -> Result<bool, Error> {
    let path = path(device, file)?;
    atomic::remove(&path).map_err(|e| failed("remove", &path, &e))
}

fn path(device: &DeviceSpec, file: MountFile) -> Result<PathBuf, Error> {
    let refused = |why: &str| {
        let what = format!("{} is not the SCM mount of the config", device.address);
        Error::new(Status::INVALID, what).cause(why)
    };
    let mount = Path::new(&device.address);
    if device.config.get("scm_mount").and_then(Value::as_str) != Some(&device.address) {
        return Err(refused("it differs from scm_mount"));
    }
    let plain = |c: Component<'_>| matches!(c, Component::RootDir | Component::Normal(_));
    if !mount.is_absolute() || !mount.components().all(plain) {
        return Err(refused("it is not an absolute path without `..`"));
    }
    let kind = std::fs::symlink_metadata(mount)
        .map_err(|e| Error::io(format!("cannot use {}", device.address), e))?;
    if !kind.is_dir() {
        return Err(refused("it is no directory"));
    }
    Ok(mount.join(match file {
        MountFile::Superblock => superblock::FILE_NAME,
        MountFile::DeviceConfig => device_config::FILE_NAME,
    }))
}

fn failed(verb: &str, path: &Path, cause: &atomic::FileError) -> Error {
    Error::new(Status::IO, format!("cannot {verb} {}", path.display())).cause(cause.to_string())
}
