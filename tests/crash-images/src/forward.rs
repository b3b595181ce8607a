//! The control face: everything goes to the wrapped plugin.

use crate::bdev::CachedDevice;
use crate::plugin::{Wrapper, lock};
use crate::scm::CachedMemory;
use daos_plugin_api::control::{
    ClassRequest, DeviceSpec, DeviceState, FormatReport, FormatRequest, QuiesceReport, ScanReport,
};
use daos_plugin_api::host::{CallOptions, ControlOp};
use daos_plugin_api::sdk::{BdevPlugin, CallContext, Error, Host, Plugin, Result, ScmPlugin};
use serde_json::{Map, Value};

impl<const SLOT: usize> Wrapper<SLOT> {
    /// Calls a function whose documents are the class's own.
    fn document(&self, op: ControlOp, request: Map<String, Value>) -> Result<Value> {
        let request = Value::Object(request).to_string();
        let answer = self
            .shared
            .inner
            .control(op, &request, CallOptions::default())?;
        serde_json::from_str(&answer).map_err(|e| {
            Error::new(daos_plugin_api::abi::Status::INTERNAL, "malformed answer")
                .cause(e.to_string())
        })
    }

    /// Lets go of a device that is kept open for its next opener; `false` if it has one.
    fn let_go(&self, address: &str) -> bool {
        let mut disks = lock(&self.shared.disks);
        let mut stores = lock(&self.shared.stores);
        let busy = disks.get(address).is_some_and(|d| d.is_open())
            || stores.get(address).is_some_and(|s| s.is_open());
        if !busy {
            disks.remove(address);
            stores.remove(address);
        }
        !busy
    }

    fn held(&self, address: &str) -> Option<bool> {
        let disk = lock(&self.shared.disks).get(address).map(|d| d.is_open());
        disk.or_else(|| lock(&self.shared.stores).get(address).map(|s| s.is_open()))
    }
}

impl<const SLOT: usize> Plugin for Wrapper<SLOT> {
    // Replaced by the wrapped plugin's in the table that is handed out.
    const MANIFEST: &'static str = "{}";

    fn create(_: Host, _: CallContext<'_>, _: Map<String, Value>) -> Result<Self> {
        Self::new()
    }

    fn validate(&self, _: CallContext<'_>, request: ClassRequest) -> Result<()> {
        self.shared.inner.validate(&request, CallOptions::default())
    }

    fn scan(&self, _: CallContext<'_>) -> Result<ScanReport> {
        self.shared.inner.scan(CallOptions::default())
    }

    fn prepare(&self, _: CallContext<'_>, request: Map<String, Value>) -> Result<Value> {
        self.document(ControlOp::Prepare, request)
    }

    fn release(&self, _: CallContext<'_>, request: Map<String, Value>) -> Result<Value> {
        self.document(ControlOp::Release, request)
    }

    fn firmware(&self, _: CallContext<'_>, request: Map<String, Value>) -> Result<Value> {
        self.document(ControlOp::Firmware, request)
    }

    fn devices(&self, _: CallContext<'_>, request: ClassRequest) -> Result<Vec<DeviceSpec>> {
        let mut devices = self
            .shared
            .inner
            .devices(&request, CallOptions::default())?;
        for device in &mut devices {
            // The wrapped plugin sees the wrapper's hold, not its user's.
            match self.held(&device.address) {
                Some(true) => {
                    device.state = DeviceState::InUse;
                    device.detail = format!("process {} has it open", std::process::id());
                }
                Some(false) => {
                    device.state = DeviceState::Present;
                    device.detail.clear();
                }
                None => {}
            }
        }
        Ok(devices)
    }

    fn format(&self, _: CallContext<'_>, request: FormatRequest) -> Result<FormatReport> {
        self.let_go(&request.device.address);
        self.shared.inner.format(&request, CallOptions::default())
    }

    fn quiesce(&self, _: CallContext<'_>, device: DeviceSpec) -> Result<QuiesceReport> {
        self.shared.inner.quiesce(&device, CallOptions::default())
    }

    fn mount(&self, _: CallContext<'_>, device: DeviceSpec) -> Result<()> {
        self.shared.inner.mount(&device, CallOptions::default())
    }

    fn unmount(&self, _: CallContext<'_>, device: DeviceSpec) -> Result<()> {
        self.let_go(&device.address);
        self.shared.inner.unmount(&device, CallOptions::default())
    }

    fn health(&self, _: CallContext<'_>, device: DeviceSpec) -> Result<Map<String, Value>> {
        let request = serde_json::to_value(device).ok();
        let Some(Value::Object(request)) = request else {
            return Ok(Map::new());
        };
        match self.document(ControlOp::Health, request)? {
            Value::Object(answer) => Ok(answer),
            _ => Ok(Map::new()),
        }
    }
}

impl<const SLOT: usize> BdevPlugin for Wrapper<SLOT> {
    type Device = CachedDevice;

    fn open(&self, _: CallContext<'_>, device: DeviceSpec) -> Result<CachedDevice> {
        CachedDevice::open(&self.shared, &device)
    }
}

impl<const SLOT: usize> ScmPlugin for Wrapper<SLOT> {
    type Memory = CachedMemory;

    fn open(&self, _: CallContext<'_>, device: DeviceSpec) -> Result<CachedMemory> {
        CachedMemory::open(&self.shared, &device)
    }
}
