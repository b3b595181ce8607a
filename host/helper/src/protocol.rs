//! What daemon and helper say to each other. Both are of one build; the number is there to notice a
//! helper of another installation.

use crate::error::PluginError;
use crate::operation::Operation;
use daos_loader::{AllowList, PluginInfo};
use daos_telemetry::Sample;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Number of this protocol.
pub const VERSION: u32 = 3;

/// Daemon to helper. The first message is `Start`, the only one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Load a plugin and make its instance. Answered by `Ready` or `Failed`.
    Start(Box<Start>),
    /// Execute an operation. Answered by `Done` or `Error` of the same id; one at a time.
    Call {
        /// Number of the call, from 1 upwards.
        id: u64,
        /// Told to the plugin; enforced by the daemon.
        deadline_ms: u64,
        /// What to do.
        operation: Operation,
    },
    /// Ask the operation to stop. It is still answered.
    Cancel {
        /// Number of the call.
        id: u64,
    },
    /// From now on send log lines up to another level. Not answered.
    LogLevel {
        /// `error` to `trace`.
        level: String,
    },
    /// Destroy the instance and exit.
    Stop,
}

/// What a helper is to serve.
#[derive(Debug, Serialize, Deserialize)]
pub struct Start {
    /// [`VERSION`] of the daemon.
    pub protocol: u32,
    /// The plugin, as the daemon inspected it. The helper inspects it again.
    pub plugin: PluginInfo,
    /// Free-form settings of the plugin.
    pub settings: Map<String, Value>,
    /// Allow list of the config.
    pub allow: Option<AllowList>,
    /// Most detailed level of log lines to send: `error` to `trace`.
    pub log_level: String,
}

/// Helper to daemon.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// From here on, what happens to the process is the plugin's doing.
    Loading,
    /// The plugin is loaded and has an instance.
    Ready,
    /// The plugin was not loaded; the helper exits.
    Refused {
        /// Why, in one sentence.
        message: String,
    },
    /// The plugin has no instance; the helper exits.
    Failed {
        /// What `create` said.
        error: PluginError,
    },
    /// Progress of a call.
    Progress {
        /// Number of the call.
        id: u64,
        /// Done, in any unit.
        done: u64,
        /// Of how much; 0 = unknown.
        total: u64,
        /// Which step.
        what: String,
    },
    /// A document of a call that tells more than progress, such as what a burn-in has measured.
    Report {
        /// Number of the call.
        id: u64,
        /// The document; its type depends on the operation.
        document: Value,
    },
    /// A log line of the plugin, or of the helper.
    Log {
        /// `error` to `trace`.
        level: String,
        /// Place in the code.
        target: String,
        /// The line.
        message: String,
    },
    /// The metrics of the plugin, all of them.
    Metrics {
        /// As they are now.
        metrics: Vec<Sample>,
    },
    /// A call succeeded.
    Done {
        /// Number of the call.
        id: u64,
        /// The answer; its type depends on the operation.
        answer: Value,
    },
    /// A call failed.
    Error {
        /// Number of the call.
        id: u64,
        /// How.
        error: PluginError,
    },
}
