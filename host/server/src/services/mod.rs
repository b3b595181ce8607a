//! The gRPC services of the control plane.

mod burnin;
mod ctl;
mod engine;
mod firmware;
mod host;
mod layers;
mod local;
mod mgmt;
mod plugin;
mod preflight;
mod select;
mod system;

pub(crate) use burnin::BurnInService;
pub(crate) use ctl::CtlService;
pub(crate) use engine::EngineService;
pub(crate) use firmware::FirmwareService;
pub(crate) use host::HostService;
pub(crate) use layers::LayerService;
pub(crate) use local::Local;
pub(crate) use mgmt::{MgmtService, WRONG_SYSTEM};
pub(crate) use plugin::PluginService;
pub(crate) use preflight::PreflightService;
pub(crate) use system::System;
