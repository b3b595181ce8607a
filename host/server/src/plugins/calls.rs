//! Calls to plugins through their helpers, with failures as the administrator sees them.

use super::{Plugins, Trouble};
use daos_config::Config;
use daos_helper::{
    CallOptions, Cause, DeviceInspection, HelperError, HelperPool, LabelRequest, LabelWritten,
    MountFile, PoolOptions, Progress,
};
use daos_loader::{PluginInfo, Policy, StateDir};
use daos_plugin_api::abi::Status;
use daos_plugin_api::control::{
    ClassKind, ClassRequest, DeviceSpec, DeviceState, FormatReport, FormatRequest, PrepareReport,
    PrepareRequest, QuiesceReport, ScanReport,
};
use daos_proto::ctl::ResponseStatus;
use daos_proto::host::Fault;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The helpers of this host's plugins.
pub(super) fn pool(
    config: &Config,
    policy: &Policy,
    state: StateDir,
    settings: BTreeMap<String, Map<String, Value>>,
) -> std::io::Result<HelperPool> {
    let mut options = PoolOptions::beside_current_exe()?;
    options.privileged = privileged_helper(config, &options.program);
    options.state = Some(state);
    options.allow.clone_from(&policy.allow);
    options.settings = settings;
    options.environment.extend(daos_media::steps::environment());
    Ok(HelperPool::new(options))
}

/// The helper with rights, beside this program: for a daemon that is not root's and works as the configuration of
/// the host says.
pub(crate) fn privileged_helper(config: &Config, exe: &Path) -> Option<PathBuf> {
    let program = exe.with_file_name("daos_server_privileged");
    let found = std::fs::metadata(&program).ok()?;
    let has_rights = found.uid() == 0 && found.mode() & 0o4000 != 0;
    let may_run = nix::unistd::access(&program, nix::unistd::AccessFlags::X_OK).is_ok();
    let is_wanted = !nix::unistd::geteuid().is_root() && config.is_the_systems();
    (is_wanted && has_rights && may_run).then_some(program)
}

impl Plugins {
    /// Ends idle helpers: what they hold (memory of emulated devices, locks) goes with them. The
    /// next call starts new ones.
    pub(crate) async fn rest(&self) {
        self.helpers.stop().await;
    }

    /// The helpers that calls go to.
    pub(crate) fn helpers(&self) -> &HelperPool {
        &self.helpers
    }

    /// Helpers of their own, for work that takes long.
    pub(crate) fn separate_helpers(&self) -> HelperPool {
        self.helpers.separate()
    }

    /// What has become of the helpers, by plugin.
    pub(crate) fn helper_counts(&self) -> BTreeMap<String, daos_helper::HelperCounts> {
        self.helpers.counts()
    }

    /// What plugins have told of themselves in their helpers, by plugin.
    pub(crate) fn helper_metrics(&self) -> BTreeMap<String, Vec<daos_telemetry::Sample>> {
        self.helpers.metrics()
    }

    /// Changes which log lines of plugins are wanted, in helpers that run as well.
    pub(crate) fn set_log_mask(&self, mask: daos_telemetry::Mask) {
        self.helpers.set_log_mask(mask);
    }

    /// Ends the helpers for good; what they are doing is cancelled.
    pub(crate) async fn end(&self) {
        self.helpers.end().await;
    }

    /// Checks a class config. A plugin without that function has said all in its schema.
    pub(crate) async fn validate(
        &self,
        plugin: &PluginInfo,
        request: &ClassRequest,
    ) -> Result<(), Trouble> {
        let call = self
            .helpers
            .validate(plugin, request.clone(), CallOptions::default());
        match call.await {
            Err(e) if e.status() == Status::NOT_SUPPORTED => Ok(()),
            result => result.map_err(|e| trouble(plugin, e)),
        }
    }

    /// Lists the devices of a class config.
    pub(crate) async fn devices(
        &self,
        plugin: &PluginInfo,
        request: &ClassRequest,
    ) -> Result<Vec<DeviceSpec>, Trouble> {
        let call = self
            .helpers
            .devices(plugin, request.clone(), CallOptions::default());
        call.await.map_err(|e| trouble(plugin, e))
    }

    /// Lists what a plugin could drive; the code tells "cannot scan" from "failed to".
    pub(crate) async fn scan(&self, plugin: &PluginInfo) -> Result<ScanReport, (Status, Trouble)> {
        let call = self.helpers.scan(plugin, CallOptions::default());
        call.await.map_err(|e| (e.status(), trouble(plugin, e)))
    }

    /// Health of a device that no engine holds.
    pub(crate) async fn health(
        &self,
        plugin: &PluginInfo,
        device: DeviceSpec,
    ) -> Result<Map<String, Value>, (Status, Trouble)> {
        let call = self.helpers.health(plugin, device, CallOptions::default());
        call.await.map_err(|e| (e.status(), trouble(plugin, e)))
    }

    /// Brings a device to rest whose user has died, in one of `helpers`; the code tells "has no such function" from
    /// "failed to".
    pub(crate) async fn quiesce(
        &self,
        helpers: &HelperPool,
        plugin: &PluginInfo,
        device: DeviceSpec,
    ) -> Result<QuiesceReport, (Status, Trouble)> {
        let call = helpers.quiesce(plugin, device, CallOptions::default());
        call.await.map_err(|e| (e.status(), trouble(plugin, e)))
    }

    /// Makes devices ready, or gives them back.
    pub(crate) async fn prepare(
        &self,
        plugin: &PluginInfo,
        request: &PrepareRequest,
        back: bool,
        progress: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<PrepareReport, Trouble> {
        let options = CallOptions {
            progress: Some(Arc::new(move |p: Progress| progress(&p.what))),
            ..CallOptions::default()
        };
        // Both are plain documents of ours.
        let document = match serde_json::to_value(request) {
            Ok(Value::Object(document)) => document,
            _ => Map::new(),
        };
        let answer = match back {
            false => self.helpers.prepare(plugin, document, options).await,
            true => self.helpers.release(plugin, document, options).await,
        };
        let answer = answer.map_err(|e| trouble(plugin, e))?;
        serde_json::from_value(answer).map_err(|e| {
            Box::new(Fault::new(
                ResponseStatus::CtlErrApp,
                "plugin",
                0,
                "its answer to prepare makes no sense",
                e.to_string(),
                "tell its vendor",
            ))
        })
    }

    /// Mounts formatted SCM; `false` if there is none. Where there is nothing to mount `devices` tells what is formatted.
    pub(crate) async fn mount(
        &self,
        plugin: &PluginInfo,
        device: &DeviceSpec,
    ) -> Result<bool, Trouble> {
        match self
            .helpers
            .mount(plugin, device.clone(), CallOptions::default())
            .await
        {
            Ok(()) => Ok(true),
            Err(error) if error.status() == Status::NOT_FOUND => Ok(false),
            Err(error) if error.status() == Status::NOT_SUPPORTED => {
                let request = ClassRequest {
                    class: device.class.clone(),
                    config: device.config.clone(),
                };
                let now = self.devices(plugin, &request).await?;
                let is_formatted = |d: &DeviceSpec| d.state == DeviceState::Present;
                Ok(now
                    .iter()
                    .any(|d| d.address == device.address && is_formatted(d)))
            }
            Err(error) => Err(trouble(plugin, error)),
        }
    }

    /// Looks at a block device: geometry, label, content.
    pub(crate) async fn inspect(
        &self,
        plugin: &PluginInfo,
        device: &DeviceSpec,
    ) -> Result<DeviceInspection, Trouble> {
        let call = self
            .helpers
            .inspect_device(plugin, device.clone(), CallOptions::default());
        call.await.map_err(|e| named(device, trouble(plugin, e)))
    }

    /// Labels a block device.
    pub(crate) async fn write_label(
        &self,
        plugin: &PluginInfo,
        device: &DeviceSpec,
        label: LabelRequest,
    ) -> Result<LabelWritten, Trouble> {
        let call = self
            .helpers
            .write_label(plugin, device.clone(), label, CallOptions::default());
        call.await.map_err(|e| named(device, trouble(plugin, e)))
    }

    /// Formats a device; the code tells "has no such function" from "failed to".
    pub(crate) async fn format(
        &self,
        plugin: &PluginInfo,
        request: &FormatRequest,
        progress: impl Fn(u64, u64, &str) + Send + Sync + 'static,
    ) -> Result<FormatReport, (Status, Trouble)> {
        let options = CallOptions {
            progress: Some(Arc::new(move |p: Progress| {
                progress(p.done, p.total, &p.what)
            })),
            ..CallOptions::default()
        };
        let call = self.helpers.format(plugin, request.clone(), options);
        call.await.map_err(|e| (e.status(), trouble(plugin, e)))
    }

    /// Reads a file of the engine on its SCM.
    pub(crate) async fn read_mount_file(
        &self,
        plugin: &PluginInfo,
        device: &DeviceSpec,
        file: MountFile,
    ) -> Result<Option<String>, Trouble> {
        let call =
            self.helpers
                .read_mount_file(plugin, device.clone(), file, CallOptions::default());
        call.await.map_err(|e| trouble(plugin, e))
    }

    /// Replaces a file of the engine on its SCM, as a whole and durably.
    pub(crate) async fn write_mount_file(
        &self,
        plugin: &PluginInfo,
        device: &DeviceSpec,
        file: MountFile,
        text: String,
    ) -> Result<(), Trouble> {
        let call = self.helpers.write_mount_file(
            plugin,
            device.clone(),
            file,
            text,
            CallOptions::default(),
        );
        call.await.map_err(|e| trouble(plugin, e))
    }

    /// Removes a file of the engine on its SCM, if it is there.
    pub(crate) async fn remove_mount_file(
        &self,
        plugin: &PluginInfo,
        device: &DeviceSpec,
        file: MountFile,
    ) -> Result<bool, Trouble> {
        let call =
            self.helpers
                .remove_mount_file(plugin, device.clone(), file, CallOptions::default());
        call.await.map_err(|e| trouble(plugin, e))
    }
}

/// A failed call as the administrator sees it. What a plugin says about itself is kept in its
/// parts; what happened to its process is one sentence.
pub(super) fn trouble(plugin: &PluginInfo, error: HelperError) -> Trouble {
    let status = match plugin.manifest.classes.first().map(|c| c.kind) {
        Some(ClassKind::Bdev) => ResponseStatus::CtlErrNvme,
        Some(ClassKind::Scm) => ResponseStatus::CtlErrScm,
        _ => ResponseStatus::CtlErrApp,
    };
    let mut fault = match &error.cause {
        Cause::Plugin(said) => {
            Fault::new(status, "plugin", 0, &said.what, &said.cause, &said.remedy)
        }
        _ => {
            let text = error.to_string();
            let (what, remedy) = text.rsplit_once("; ").unwrap_or((&text, ""));
            Fault::new(status, "plugin", 0, what, "", remedy)
        }
    };
    fault.log.clone_from(&error.log);
    Box::new(fault)
}

/// The trouble of an operation on a device, with the device's name in it: a medium's error knows bytes and no names.
fn named(device: &DeviceSpec, mut trouble: Trouble) -> Trouble {
    if !trouble.what.contains(&device.address) {
        trouble.what = format!("{}:{}: {}", device.class, device.address, trouble.what);
    }
    trouble
}
