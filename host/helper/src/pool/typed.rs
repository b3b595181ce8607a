//! Operations with typed answers.

use super::{CallOptions, HelperPool};
use crate::error::{Cause, HelperError};
use crate::operation::{
    BurnInRequest, DeviceInspection, LabelRequest, LabelWritten, MountFile, Operation,
};
use daos_loader::PluginInfo;
use daos_plugin_api::control::{
    ClassRequest, DeviceSpec, FormatReport, FormatRequest, QuiesceReport, ScanReport,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

type Result<T> = std::result::Result<T, HelperError>;

/// Every function here fails as [`HelperPool::call`] does.
impl HelperPool {
    async fn typed<T: DeserializeOwned>(
        &self,
        plugin: &PluginInfo,
        operation: Operation,
        options: CallOptions,
    ) -> Result<T> {
        let name = operation.name();
        let answer = self.call(plugin, operation, options).await?;
        serde_json::from_value(answer).map_err(|e| HelperError {
            plugin: plugin.name().to_owned(),
            version: plugin.manifest.version.as_str().into(),
            operation: name.to_owned(),
            cause: Cause::Nonsense {
                what: e.to_string(),
                quarantined: false,
            },
            log: Vec::new(),
        })
    }

    /// Checks a class config beyond its schema.
    pub async fn validate(
        &self,
        plugin: &PluginInfo,
        request: ClassRequest,
        options: CallOptions,
    ) -> Result<()> {
        self.typed(plugin, Operation::Validate(request), options)
            .await
    }

    /// Lists what the plugin could drive.
    pub async fn scan(&self, plugin: &PluginInfo, options: CallOptions) -> Result<ScanReport> {
        self.typed(plugin, Operation::Scan, options).await
    }

    /// Makes devices ready for use.
    pub async fn prepare(
        &self,
        plugin: &PluginInfo,
        request: Map<String, Value>,
        options: CallOptions,
    ) -> Result<Value> {
        self.typed(plugin, Operation::Prepare(request), options)
            .await
    }

    /// Undoes `prepare`.
    pub async fn release(
        &self,
        plugin: &PluginInfo,
        request: Map<String, Value>,
        options: CallOptions,
    ) -> Result<Value> {
        self.typed(plugin, Operation::Release(request), options)
            .await
    }

    /// Lists the devices of a class config, in engine order.
    pub async fn devices(
        &self,
        plugin: &PluginInfo,
        request: ClassRequest,
        options: CallOptions,
    ) -> Result<Vec<DeviceSpec>> {
        self.typed(plugin, Operation::Devices(request), options)
            .await
    }

    /// Makes a device ready to be labelled. Destructive.
    pub async fn format(
        &self,
        plugin: &PluginInfo,
        request: FormatRequest,
        options: CallOptions,
    ) -> Result<FormatReport> {
        self.typed(plugin, Operation::Format(request), options)
            .await
    }

    /// Mounts formatted SCM.
    pub async fn mount(
        &self,
        plugin: &PluginInfo,
        device: DeviceSpec,
        options: CallOptions,
    ) -> Result<()> {
        self.typed(plugin, Operation::Mount(device), options).await
    }

    /// Unmounts it.
    pub async fn unmount(
        &self,
        plugin: &PluginInfo,
        device: DeviceSpec,
        options: CallOptions,
    ) -> Result<()> {
        self.typed(plugin, Operation::Unmount(device), options)
            .await
    }

    /// Health of a device that no engine holds.
    pub async fn health(
        &self,
        plugin: &PluginInfo,
        device: DeviceSpec,
        options: CallOptions,
    ) -> Result<Map<String, Value>> {
        self.typed(plugin, Operation::Health(device), options).await
    }

    /// Firmware query or update.
    pub async fn firmware(
        &self,
        plugin: &PluginInfo,
        request: Map<String, Value>,
        options: CallOptions,
    ) -> Result<Value> {
        self.typed(plugin, Operation::Firmware(request), options)
            .await
    }

    /// Brings a block device to rest whose user has died.
    pub async fn quiesce(
        &self,
        plugin: &PluginInfo,
        device: DeviceSpec,
        options: CallOptions,
    ) -> Result<QuiesceReport> {
        self.typed(plugin, Operation::Quiesce(device), options)
            .await
    }

    /// Burns block devices in.
    pub async fn burn_in(
        &self,
        plugin: &PluginInfo,
        request: BurnInRequest,
        options: CallOptions,
    ) -> Result<()> {
        self.typed(plugin, Operation::BurnIn(Box::new(request)), options)
            .await
    }

    /// Tells geometry, label and content of a block device.
    pub async fn inspect_device(
        &self,
        plugin: &PluginInfo,
        device: DeviceSpec,
        options: CallOptions,
    ) -> Result<DeviceInspection> {
        self.typed(plugin, Operation::InspectDevice(device), options)
            .await
    }

    /// Writes the label of a block device.
    pub async fn write_label(
        &self,
        plugin: &PluginInfo,
        device: DeviceSpec,
        label: LabelRequest,
        options: CallOptions,
    ) -> Result<LabelWritten> {
        self.typed(plugin, Operation::WriteLabel { device, label }, options)
            .await
    }

    /// Removes our label from a block device; tells whether there was one.
    pub async fn clear_label(
        &self,
        plugin: &PluginInfo,
        device: DeviceSpec,
        options: CallOptions,
    ) -> Result<bool> {
        self.typed(plugin, Operation::ClearLabel(device), options)
            .await
    }

    /// Reads a file of the engine on its SCM mount, `None` if there is none.
    pub async fn read_mount_file(
        &self,
        plugin: &PluginInfo,
        device: DeviceSpec,
        file: MountFile,
        options: CallOptions,
    ) -> Result<Option<String>> {
        self.typed(plugin, Operation::ReadMountFile { device, file }, options)
            .await
    }

    /// Replaces a file of the engine on its SCM mount.
    pub async fn write_mount_file(
        &self,
        plugin: &PluginInfo,
        device: DeviceSpec,
        file: MountFile,
        content: String,
        options: CallOptions,
    ) -> Result<()> {
        let operation = Operation::WriteMountFile {
            device,
            file,
            content,
        };
        self.typed(plugin, operation, options).await
    }

    /// Removes a file of the engine on its SCM mount; tells whether there was one.
    pub async fn remove_mount_file(
        &self,
        plugin: &PluginInfo,
        device: DeviceSpec,
        file: MountFile,
        options: CallOptions,
    ) -> Result<bool> {
        self.typed(plugin, Operation::RemoveMountFile { device, file }, options)
            .await
    }
}
