//! The host's services, seen from the plugin.

use crate::abi::{HostServices, HostServicesPtr, LogLevel, MetricKind, Str};

/// Handle to the host's services; cheap to copy, usable from any thread until `destroy`.
#[derive(Clone, Copy)]
pub struct Host {
    services: *const HostServices,
}

// SAFETY: the host's functions are safe to call from any thread while the plugin exists.
unsafe impl Send for Host {}
// SAFETY: as above.
unsafe impl Sync for Host {}

impl Host {
    /// # Safety
    /// `services` stays valid until the plugin is destroyed.
    pub(crate) unsafe fn from_abi(services: HostServicesPtr) -> Self {
        Self {
            services: services.0,
        }
    }

    fn services(&self) -> &HostServices {
        // SAFETY: valid until `destroy`, see `from_abi`.
        unsafe { &*self.services }
    }

    /// Whether both are the same host.
    pub(crate) fn is(&self, other: &Self) -> bool {
        std::ptr::eq(self.services, other.services)
    }

    /// Whether this plugin is linked into the host's binary.
    pub fn is_built_in(&self) -> bool {
        self.services().flags & HostServices::BUILT_IN != 0
    }

    /// Most detailed level the host listens to.
    pub fn log_level(&self) -> LogLevel {
        let host = self.services();
        // SAFETY: the host's function with the host's context.
        unsafe { (host.log_level)(host.ctx) }
    }

    /// Writes a log line; plugins rather use `tracing`, which ends up here.
    pub fn log(&self, level: LogLevel, target: &str, message: &str) {
        let host = self.services();
        // SAFETY: the host's function with the host's context; the texts outlive the call.
        unsafe { (host.log)(host.ctx, level, Str::new(target), Str::new(message)) }
    }

    /// Registers a metric (idempotent by name).
    pub fn metric(&self, kind: MetricKind, name: &str, unit: &str, help: &str) -> Metric {
        let host = self.services();
        // SAFETY: the host's function with the host's context; the texts outlive the call.
        let id = unsafe {
            (host.metric_register)(
                host.ctx,
                kind,
                Str::new(name),
                Str::new(unit),
                Str::new(help),
            )
        };
        Metric { host: *self, id }
    }
}

/// A registered metric.
#[derive(Clone, Copy)]
pub struct Metric {
    host: Host,
    id: u64,
}

impl Metric {
    /// Adds to a counter, sets a gauge, or adds an observation to a histogram.
    pub fn record(&self, value: f64) {
        if self.id != 0 {
            let host = self.host.services();
            // SAFETY: the host's function with the host's context and its own id.
            unsafe { (host.metric_record)(host.ctx, self.id, value) }
        }
    }
}
