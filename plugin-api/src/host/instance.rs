//! An instance of a plugin and its control face.

use super::call::{self, CallOptions};
use super::crumb::{CallName, Label, inside};
use super::services::{HostLog, HostMetrics, NoMetrics, Services, TracingLog};
use super::tables::Tables;
use super::{BdevDevice, FabricDomain, ScmMemory};
use crate::abi::{CallPtr, Handle, PluginTable, Status, Str};
use crate::control::{
    ClassRequest, DeviceSpec, FabricOpenRequest, FormatReport, FormatRequest, Manifest,
    QuiesceReport, ScanReport,
};
use crate::sdk::Error;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::marker::PhantomData;
use std::sync::Arc;

/// What an instance is made with.
pub struct InstanceOptions {
    /// The plugin is linked into this binary.
    pub built_in: bool,
    /// Free-form settings from the config.
    pub settings: Map<String, Value>,
    /// Log lines; `None` = `tracing` events of this process.
    pub log: Option<Arc<dyn HostLog>>,
    /// Metrics; `None` = not kept.
    pub metrics: Option<Arc<dyn HostMetrics>>,
}

impl InstanceOptions {
    /// For a plugin of this binary.
    pub fn built_in() -> Self {
        Self {
            built_in: true,
            settings: Map::new(),
            log: None,
            metrics: None,
        }
    }

    /// For a loaded plugin.
    pub fn loaded() -> Self {
        Self {
            built_in: false,
            ..Self::built_in()
        }
    }

    /// With settings.
    #[must_use]
    pub fn settings(mut self, settings: Map<String, Value>) -> Self {
        self.settings = settings;
        self
    }
}

/// Functions of the control face.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // each is the member of `ControlTable` of the same name
pub enum ControlOp {
    Validate,
    Scan,
    Prepare,
    Release,
    Devices,
    Format,
    Mount,
    Unmount,
    Health,
    Firmware,
    Quiesce,
}

impl ControlOp {
    /// Every operation.
    pub const ALL: &'static [Self] = &[
        Self::Validate,
        Self::Scan,
        Self::Prepare,
        Self::Release,
        Self::Devices,
        Self::Format,
        Self::Mount,
        Self::Unmount,
        Self::Health,
        Self::Firmware,
        Self::Quiesce,
    ];

    /// Name, as in messages and in the helper's protocol.
    pub fn name(self) -> &'static str {
        self.call_name().text()
    }

    /// The same, as calls of plugins are noted.
    fn call_name(self) -> CallName {
        match self {
            Self::Validate => CallName::Validate,
            Self::Scan => CallName::Scan,
            Self::Prepare => CallName::Prepare,
            Self::Release => CallName::Release,
            Self::Devices => CallName::Devices,
            Self::Format => CallName::Format,
            Self::Mount => CallName::Mount,
            Self::Unmount => CallName::Unmount,
            Self::Health => CallName::Health,
            Self::Firmware => CallName::Firmware,
            Self::Quiesce => CallName::Quiesce,
        }
    }
}

/// An instance of a plugin; clones share it. The last clone and everything opened from it gone,
/// the plugin is destroyed.
#[derive(Clone)]
pub struct Instance {
    inner: Arc<Inner>,
}

struct Inner {
    table: &'static PluginTable,
    tables: Tables,
    handle: Handle,
    manifest: Manifest,
    label: Label,
    // Dropped after `handle` is destroyed (see `Drop`), since the plugin keeps a pointer to it.
    _services: Services,
}

// SAFETY: the control face is called by one thread at a time (callers serialise, see `control`'s
// documentation); the SDK's objects behind handles are `Send + Sync`.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: the handle is the one `create` gave, everything opened from it holds an `Arc`
        // of this and is gone.
        inside(self.label, CallName::Destroy, || unsafe {
            (self.table.destroy)(self.handle)
        });
    }
}

impl Instance {
    /// Makes the plugin's instance.
    ///
    /// # Errors
    /// INVALID if the plugin is of another major version, a table is shorter than version 1.0's, or the
    /// manifest is no manifest; otherwise what the plugin's `create` says.
    pub fn create(table: &'static PluginTable, options: InstanceOptions) -> Result<Self, Error> {
        let tables = Tables::of(table)?;
        // SAFETY: the manifest is a static text of the plugin.
        let text = unsafe { super::services::lossy(table.manifest) };
        let manifest: Manifest = serde_json::from_str(&text).map_err(|e| {
            Error::new(Status::INVALID, "the plugin's manifest is malformed").cause(e.to_string())
        })?;
        let log = options.log.unwrap_or_else(|| {
            Arc::new(TracingLog {
                plugin: manifest.name.clone(),
            })
        });
        let metrics = options.metrics.unwrap_or_else(|| Arc::new(NoMetrics));
        let services = Services::new(options.built_in, log, metrics);
        let settings = encode(&options.settings)?;
        let mut handle: Handle = std::ptr::null_mut();
        let label = Label::new(&manifest.name, &manifest.version);
        inside(label, CallName::Create, || {
            call::run(CallOptions::default(), "create", |call| {
                // SAFETY: pointers live for the call, the services until `destroy`.
                unsafe { (table.create)(services.as_ptr(), call, Str::new(&settings), &mut handle) }
            })
        })?;
        if handle.is_null() {
            return Err(Error::new(
                Status::INTERNAL,
                "create succeeded without an instance",
            ));
        }
        Ok(Self {
            inner: Arc::new(Inner {
                table,
                tables,
                handle,
                manifest,
                label,
                _services: services,
            }),
        })
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.inner.manifest
    }

    /// Name and version, as messages name the plugin.
    pub fn described(&self) -> String {
        let manifest = &self.inner.manifest;
        format!("{} {}", manifest.name, manifest.version)
    }

    /// The plugin's root table.
    pub fn table(&self) -> &'static PluginTable {
        self.inner.table
    }

    /// The tables it leads to, as this host knows them.
    pub(super) fn tables(&self) -> &Tables {
        &self.inner.tables
    }

    /// As which a thread in a call of this plugin is known.
    pub(super) fn label(&self) -> Label {
        self.inner.label
    }

    /// Calls a function of the plugin's; see [`super::current_call`].
    #[inline]
    pub(super) fn inside<R>(&self, call: CallName, f: impl FnOnce() -> R) -> R {
        inside(self.inner.label, call, f)
    }

    /// Calls one that takes a call context.
    pub(super) fn call(
        &self,
        options: CallOptions<'_>,
        operation: CallName,
        f: impl FnOnce(CallPtr) -> Status,
    ) -> Result<Vec<u8>, Error> {
        self.inside(operation, || call::run(options, operation.text(), f))
    }

    /// Opens an object through a table's `open` function.
    pub(super) fn open(
        &self,
        operation: CallName,
        options: CallOptions<'_>,
        f: impl FnOnce(CallPtr, &mut Handle) -> Status,
    ) -> Result<Handle, Error> {
        let mut handle: Handle = std::ptr::null_mut();
        self.call(options, operation, |call| f(call, &mut handle))?;
        if handle.is_null() {
            return Err(Error::new(
                Status::INTERNAL,
                format!("{} succeeded without a handle", operation.text()),
            ));
        }
        Ok(handle)
    }

    pub(super) fn handle(&self) -> Handle {
        self.inner.handle
    }

    /// Calls a function of the control face with a JSON document. One call at a time per instance.
    ///
    /// # Errors
    /// NOT_SUPPORTED if the plugin has no such function; otherwise as the plugin describes it.
    pub fn control(
        &self,
        op: ControlOp,
        request: &str,
        options: CallOptions<'_>,
    ) -> Result<String, Error> {
        let table = self.inner.tables.control;
        let function = match op {
            ControlOp::Validate => table.validate,
            ControlOp::Scan => table.scan,
            ControlOp::Prepare => table.prepare,
            ControlOp::Release => table.release,
            ControlOp::Devices => table.devices,
            ControlOp::Format => table.format,
            ControlOp::Mount => table.mount,
            ControlOp::Unmount => table.unmount,
            ControlOp::Health => table.health,
            ControlOp::Firmware => table.firmware,
            ControlOp::Quiesce => table.quiesce,
        };
        let function = function.ok_or_else(|| Error::unsupported(op.name()))?;
        let bytes = self.call(options, op.call_name(), |call| {
            // SAFETY: live handle, call and request.
            unsafe { function(self.inner.handle, call, Str::new(request)) }
        })?;
        String::from_utf8(bytes).map_err(|_| {
            Error::new(
                Status::INTERNAL,
                format!("the answer of {} is not UTF-8", op.name()),
            )
        })
    }

    fn typed<Q: Serialize, A: DeserializeOwned>(
        &self,
        op: ControlOp,
        request: &Q,
        options: CallOptions<'_>,
    ) -> Result<A, Error> {
        let answer = self.control(op, &encode(request)?, options)?;
        decode(op.name(), &answer)
    }

    /// `validate` with typed documents.
    pub fn validate(&self, request: &ClassRequest, options: CallOptions<'_>) -> Result<(), Error> {
        self.control(ControlOp::Validate, &encode(request)?, options)
            .map(drop)
    }

    /// `scan` with typed documents.
    pub fn scan(&self, options: CallOptions<'_>) -> Result<ScanReport, Error> {
        self.typed(ControlOp::Scan, &Map::new(), options)
    }

    /// `devices` with typed documents.
    pub fn devices(
        &self,
        request: &ClassRequest,
        options: CallOptions<'_>,
    ) -> Result<Vec<DeviceSpec>, Error> {
        self.typed(ControlOp::Devices, request, options)
    }

    /// `format` with typed documents.
    pub fn format(
        &self,
        request: &FormatRequest,
        options: CallOptions<'_>,
    ) -> Result<FormatReport, Error> {
        self.typed(ControlOp::Format, request, options)
    }

    /// `mount` with typed documents.
    pub fn mount(&self, device: &DeviceSpec, options: CallOptions<'_>) -> Result<(), Error> {
        self.control(ControlOp::Mount, &encode(device)?, options)
            .map(drop)
    }

    /// `unmount` with typed documents.
    pub fn unmount(&self, device: &DeviceSpec, options: CallOptions<'_>) -> Result<(), Error> {
        self.control(ControlOp::Unmount, &encode(device)?, options)
            .map(drop)
    }

    /// `quiesce` with typed documents.
    pub fn quiesce(
        &self,
        device: &DeviceSpec,
        options: CallOptions<'_>,
    ) -> Result<QuiesceReport, Error> {
        self.typed(ControlOp::Quiesce, device, options)
    }

    /// Opens a block device.
    pub fn open_bdev(
        &self,
        device: &DeviceSpec,
        options: CallOptions<'_>,
    ) -> Result<BdevDevice, Error> {
        BdevDevice::open(self, device, options)
    }

    /// Opens storage-class memory.
    pub fn open_scm(
        &self,
        device: &DeviceSpec,
        options: CallOptions<'_>,
    ) -> Result<ScmMemory, Error> {
        ScmMemory::open(self, device, options)
    }

    /// Opens a fabric domain.
    pub fn open_fabric(
        &self,
        request: &FabricOpenRequest,
        options: CallOptions<'_>,
    ) -> Result<FabricDomain, Error> {
        FabricDomain::open(self, request, options)
    }

    /// Prepares this thread for queues and endpoints of the plugin; undone when the guard drops.
    pub fn attach_thread(&self) -> Result<ThreadGuard, Error> {
        if let Some(attach) = self.inner.table.thread_attach {
            // SAFETY: live handle.
            let status = self.inside(CallName::ThreadAttach, || unsafe {
                attach(self.inner.handle)
            });
            if !status.is_ok() {
                let name = &self.inner.manifest.name;
                return Err(
                    Error::new(status, format!("plugin {name} refused a thread"))
                        .cause(status.name()),
                );
            }
        }
        Ok(ThreadGuard {
            instance: self.clone(),
            _thread: PhantomData,
        })
    }
}

/// Keeps this thread attached to a plugin.
pub struct ThreadGuard {
    instance: Instance,
    _thread: PhantomData<*mut ()>, // stays on its thread
}

impl Drop for ThreadGuard {
    fn drop(&mut self) {
        if let Some(detach) = self.instance.inner.table.thread_detach {
            // SAFETY: live handle, same thread as `thread_attach`.
            self.instance.inside(CallName::ThreadDetach, || unsafe {
                detach(self.instance.inner.handle)
            });
        }
    }
}

pub(super) fn encode(document: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(document)
        .map_err(|e| Error::new(Status::INVALID, "cannot encode the request").cause(e.to_string()))
}

pub(super) fn decode<T: DeserializeOwned>(operation: &str, answer: &str) -> Result<T, Error> {
    serde_json::from_str(answer).map_err(|e| {
        Error::new(
            Status::INTERNAL,
            format!("the plugin's answer to {operation} is malformed"),
        )
        .cause(e.to_string())
        .remedy("report this to the plugin's vendor")
    })
}
