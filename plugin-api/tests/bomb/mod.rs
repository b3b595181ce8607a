//! A plugin that panics in the one function that the setting `fuse` names, and raw calls to it.

mod faces;
mod raw;

pub(crate) use raw::{Caller, Outcome};

use daos_plugin_api::control::{
    ClassRequest, DeviceSpec, FormatReport, FormatRequest, QuiesceReport, ScanReport,
};
use daos_plugin_api::sdk::{CallContext, Host, Plugin, Result};
use serde_json::{Map, Value};
use std::sync::Arc;

/// Name of the function that panics.
#[derive(Clone)]
pub(crate) struct Fuse(Arc<str>);

impl Fuse {
    /// Panics if `place` is the one.
    pub(crate) fn burn(&self, place: &str) {
        assert!(&*self.0 != place, "{} went off", place);
    }
}

pub(crate) struct Bomb {
    pub(crate) fuse: Fuse,
}

daos_plugin_api::declare_plugin!(Bomb, bdev, scm, fabric);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.fuse.burn("destroy");
    }
}

impl Plugin for Bomb {
    const MANIFEST: &'static str = r#"{"name": "bomb", "version": "1.0.0", "classes": []}"#;

    fn create(_: Host, _: CallContext<'_>, settings: Map<String, Value>) -> Result<Self> {
        let text = settings.get("fuse").and_then(Value::as_str);
        let fuse = Fuse(text.unwrap_or_default().into());
        fuse.burn("create");
        Ok(Self { fuse })
    }

    fn thread_attach(&self) -> Result<()> {
        self.fuse.burn("thread_attach");
        Ok(())
    }

    fn thread_detach(&self) {
        self.fuse.burn("thread_detach");
    }

    fn validate(&self, _: CallContext<'_>, _: ClassRequest) -> Result<()> {
        self.fuse.burn("validate");
        Ok(())
    }

    fn scan(&self, _: CallContext<'_>) -> Result<ScanReport> {
        self.fuse.burn("scan");
        Ok(ScanReport::default())
    }

    fn prepare(&self, _: CallContext<'_>, _: Map<String, Value>) -> Result<Value> {
        self.fuse.burn("prepare");
        Ok(Value::Null)
    }

    fn release(&self, _: CallContext<'_>, _: Map<String, Value>) -> Result<Value> {
        self.fuse.burn("release");
        Ok(Value::Null)
    }

    fn devices(&self, _: CallContext<'_>, _: ClassRequest) -> Result<Vec<DeviceSpec>> {
        self.fuse.burn("devices");
        Ok(Vec::new())
    }

    fn format(&self, _: CallContext<'_>, _: FormatRequest) -> Result<FormatReport> {
        self.fuse.burn("format");
        Ok(FormatReport::default())
    }

    fn mount(&self, _: CallContext<'_>, _: DeviceSpec) -> Result<()> {
        self.fuse.burn("mount");
        Ok(())
    }

    fn unmount(&self, _: CallContext<'_>, _: DeviceSpec) -> Result<()> {
        self.fuse.burn("unmount");
        Ok(())
    }

    fn health(&self, _: CallContext<'_>, _: DeviceSpec) -> Result<Map<String, Value>> {
        self.fuse.burn("health");
        Ok(Map::new())
    }

    fn firmware(&self, _: CallContext<'_>, _: Map<String, Value>) -> Result<Value> {
        self.fuse.burn("firmware");
        Ok(Value::Null)
    }

    fn quiesce(&self, _: CallContext<'_>, _: DeviceSpec) -> Result<QuiesceReport> {
        self.fuse.burn("quiesce");
        Ok(QuiesceReport::default())
    }
}
