//! What a plugin did in the data path that ends the use of a queue or an endpoint.

use daos_plugin_api::abi::Status;
use daos_plugin_api::host::Instance;
use std::fmt;

/// A call of a plugin that failed, or an answer that cannot be true. `Display` names plugin, version and call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defect {
    status: Status,
    text: String,
}

impl Defect {
    /// The call answered `status`.
    pub fn failed(plugin: &Instance, call: &str, status: Status) -> Self {
        let what = match status {
            Status::INTERNAL => "its answer makes no sense".to_owned(),
            Status::PANIC => "it panicked".to_owned(),
            other => other.to_string(),
        };
        Self::named(plugin, call, status, &what)
    }

    /// The call answered what cannot be, so nobody knows what happened to memory.
    pub fn lie(plugin: &Instance, call: &str, what: &str) -> Self {
        Self::named(plugin, call, Status::INTERNAL, what)
    }

    /// There is no queue any more.
    pub fn gone() -> Self {
        let status = Status::DEVICE_GONE;
        Self {
            status,
            text: status.to_string(),
        }
    }

    fn named(plugin: &Instance, call: &str, status: Status, what: &str) -> Self {
        Self {
            status,
            text: format!("plugin {}, call {call}: {what}", plugin.described()),
        }
    }

    /// Whether only a new process helps: memory may have been touched in any way, or the plugin panicked, and its queue is
    /// of no use any more.
    pub fn needs_new_process(&self) -> bool {
        matches!(
            self.status,
            Status::INTERNAL | Status::PANIC | Status::POISONED
        )
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
