//! Opening what all targets share, and checking that it suffices for them.

use crate::config::Options;
use crate::error::StartError;
use crate::plugins::Plugins;
use daos_plugin_api::abi::Status;
use daos_plugin_api::control::{DeviceSpec, DeviceState, FabricOpenRequest};
use daos_plugin_api::host::{BdevDevice, CallOptions, FabricDomain, ScmMemory};
use serde_json::{Map, Value};
use std::path::PathBuf;

/// Opens the SCM named by the options.
pub(super) fn open_scm(plugins: &Plugins, options: &Options) -> Result<ScmMemory, StartError> {
    let mut config: Map<String, Value> = match &options.scm_config {
        None => Map::new(),
        Some(text) => serde_json::from_str(text)
            .map_err(|e| StartError::config(format_args!("--scm-config is no JSON object: {e}")))?,
    };
    let mount = options.scm_mount.display().to_string();
    config
        .entry("scm_mount")
        .or_insert_with(|| mount.clone().into());
    if !config.contains_key("scm_size") && !config.contains_key("scm_size_mib") {
        let fs = rustix::fs::statvfs(&options.scm_mount)
            .map_err(|e| StartError::storage(format_args!("{mount}: {e}; is the SCM mounted?")))?;
        let mib = (fs.f_blocks * fs.f_frsize) >> 20;
        config.insert("scm_size_mib".into(), mib.max(4).into());
    }
    let spec = DeviceSpec {
        class: options.scm_class.clone(),
        index: 0,
        address: mount.clone(),
        size: 0,
        state: DeviceState::Present,
        detail: String::new(),
        config,
    };
    plugins
        .scm
        .open_scm(&spec, CallOptions::default())
        .map_err(|e| {
            let plugin = plugins.scm.described();
            let text = format!("plugin {plugin}: SCM {mount} cannot be opened: {e}");
            if e.status == Status::NOT_FOUND {
                StartError::storage(text)
            } else {
                StartError::failed(text)
            }
        })
}

/// Where the files of the engine lie on the SCM.
pub(super) fn mount_point(scm: &ScmMemory) -> Result<PathBuf, StartError> {
    let found = scm.mount_point();
    match found {
        Ok(mount) if mount.is_absolute() && mount.is_dir() => Ok(mount),
        other => Err(StartError::failed(format_args!(
            "plugin {}, call mount_point: the SCM has no directory for files but {other:?}; report this to the plugin's vendor",
            scm.instance().described()
        ))),
    }
}

/// Opens the fabric and checks that it suffices.
pub(super) fn open_domain(
    plugins: &Plugins,
    options: &Options,
) -> Result<FabricDomain, StartError> {
    let request = FabricOpenRequest {
        provider: plugins.provider.clone(),
        interface: options.interface.clone(),
        port: options.port,
        answers: true,
        config: Map::new(),
    };
    let domain = plugins
        .fabric
        .open_fabric(&request, CallOptions::default())
        .map_err(|e| {
            let text = format!(
                "plugin {}: fabric {} on \"{}\" cannot be opened: {e}",
                plugins.fabric.described(),
                request.provider,
                request.interface
            );
            match e.status {
                Status::INVALID | Status::NOT_FOUND | Status::NOT_SUPPORTED => {
                    StartError::config(text)
                }
                _ => StartError::failed(text),
            }
        })?;
    let info = domain.info();
    if info.max_endpoints < options.targets {
        return Err(StartError::config(format_args!(
            "-t {}: the fabric has {} endpoints, each target needs one; lower targets",
            options.targets, info.max_endpoints
        )));
    }
    if info.max_message < daos_wire::REQUEST_MAX as u64 {
        return Err(StartError::config(format_args!(
            "the fabric's messages have at most {} bytes, {} are needed",
            info.max_message,
            daos_wire::REQUEST_MAX
        )));
    }
    Ok(domain)
}

/// Targets are mapped to devices by number: target n uses device n mod devices.
pub(super) fn check_queues(targets: u32, devices: &[BdevDevice]) -> Result<(), StartError> {
    let count = devices.len() as u32;
    for (index, device) in devices.iter().enumerate() {
        let wanted = targets_of(targets, count, index as u32);
        let geometry = device.geometry();
        if wanted == 0 {
            tracing::warn!(
                device = index,
                targets,
                "the device stays unused: there are more devices than targets"
            );
        }
        if wanted > geometry.max_queues {
            return Err(StartError::config(format_args!(
                "device {index} has {} queues and {wanted} of the {targets} targets would use it, each needs one; lower targets to {} or add devices",
                geometry.max_queues,
                geometry.max_queues * count
            )));
        }
        if geometry.buffer_alignment > crate::memory::SMALL as u32 {
            return Err(StartError::config(format_args!(
                "device {index} wants memory aligned to {} bytes, at most {} are supported",
                geometry.buffer_alignment,
                crate::memory::SMALL
            )));
        }
    }
    Ok(())
}

/// Targets that use a device.
pub(super) fn targets_of(targets: u32, devices: u32, device: u32) -> u32 {
    (targets + devices - 1 - device) / devices
}
