//! Contexts for calling SDK traits without a table: unit tests of plugins, and the static side of
//! measurements.

use super::call::{self, CallOptions};
use super::services::{NoMetrics, Services, TracingLog};
use crate::abi::Status;
use crate::sdk::{CallContext, Host};
use std::sync::{Arc, OnceLock};

/// Runs `f` with a host (that logs to `tracing` and lives as long as the process) and a call
/// context without deadline, cancellation or receiver of output.
pub fn with_context<R>(f: impl FnOnce(Host, CallContext<'_>) -> R) -> R {
    static SERVICES: OnceLock<Services> = OnceLock::new();
    let services = SERVICES.get_or_init(|| {
        let log = Arc::new(TracingLog {
            plugin: "direct".to_owned(),
        });
        Services::new(true, log, Arc::new(NoMetrics))
    });
    let mut result = None;
    // Cannot fail: the closure says so.
    let _ = call::run(CallOptions::default(), "direct", |call| {
        // SAFETY: the services live as long as the process, the call until the closure returns.
        let (host, context) = unsafe {
            (
                Host::from_abi(services.as_ptr()),
                CallContext::from_abi(call),
            )
        };
        result = Some(f(host, context));
        Status::OK
    });
    result.expect("the closure ran")
}
