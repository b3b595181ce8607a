//! The gRPC services of the control plane.

mod host;
mod mgmt;

pub(crate) use host::HostService;
pub(crate) use mgmt::MgmtService;
