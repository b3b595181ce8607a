//! Plugins at arm's length: one process per plugin, so that one that crashes, hangs or answers
//! nonsense costs one operation and nothing else.
//!
//! * [`HelperPool`] is the daemon's side: it starts `daos_server_helper` for a plugin when first
//!   needed, sends it [`Operation`]s with a deadline, passes progress and cancellation on, and turns
//!   whatever happens to the process into a [`HelperError`].
//! * [`serve`] is the helper's side: it loads the one plugin, with all trust checks of its own, and
//!   executes one operation at a time. Besides the plugin's control face it has what the daemon needs
//!   of devices and mounts and must not do itself: [`Operation::InspectDevice`], labels, the files of
//!   an engine on its SCM mount.
//! * [`protocol`] is what goes between them: frames of JSON over a socket pair.
//!
//! Architecture invariants: the daemon's process never runs a plugin's code; a helper serves one
//! plugin; a helper never outlives its daemon (the end of the connection and a change of the parent
//! process both end it, with all processes that the plugin started in its group); a helper refuses to
//! run setuid, since it takes the plugin's path and settings from whoever started it.

#![forbid(unsafe_code)]

mod error;
mod frame;
mod operation;
mod pool;
pub mod protocol;
pub mod serve;

pub use error::{Cause, Death, HelperError, PluginError};
pub use operation::{
    BurnInDevice, BurnInRequest, DeviceInspection, LabelRequest, LabelState, LabelWritten,
    MountFile, Operation,
};
pub use pool::{
    CallOptions, Cancel, Growth, HelperCounts, HelperPool, Kills, PoolOptions, Progress,
    ProgressFn, ReportFn,
};
pub use protocol::Start;

/// Reads frames as both ends of the connection do, for the fuzz target.
#[doc(hidden)]
pub fn fuzz_frames(bytes: &[u8]) {
    let mut events = bytes;
    while let Ok(Some(_)) = frame::read::<protocol::Event>(&mut events) {}
    let mut requests = bytes;
    while let Ok(Some(_)) = frame::read::<protocol::Request>(&mut requests) {}
}
