//! State of a server and its engines.

use crate::units::duration;
use crate::{FaultRow, table};
use daos_proto::host;
use serde::Serialize;
use std::time::{SystemTime, UNIX_EPOCH};

/// State of one server.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)] // the message's own documentation stands in host.proto
pub struct ServerRow {
    pub phase: &'static str,
    pub reason: String,
    pub hint: String,
    pub since_ms: u64,
    pub system: String,
    pub version: String,
    pub hostname: String,
    pub pid: u32,
    pub control_addr: String,
    pub config_path: String,
    pub insecure: bool,
    pub engines: Vec<EngineRow>,
    /// The plan of the engines, where the configuration names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proposed: Option<ProposedPlan>,
}

/// Engines of a host whose configuration names none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs)] // as above
pub struct ProposedPlan {
    pub hash: String,
    pub yaml: String,
    pub accepted: bool,
}

impl From<host::ProposedEngines> for ProposedPlan {
    fn from(proposed: host::ProposedEngines) -> Self {
        Self {
            hash: proposed.hash,
            yaml: proposed.yaml,
            accepted: proposed.accepted,
        }
    }
}

/// State of one engine.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)] // the message's own documentation stands in host.proto
pub struct EngineRow {
    pub index: u32,
    pub state: &'static str,
    pub reason: String,
    pub hint: String,
    pub since_ms: u64,
    pub fault: Option<FaultRow>,
    pub uuid: String,
    pub rank: Option<u32>,
    pub pid: u32,
    pub uri: String,
    pub targets: u32,
    pub restarts: u32,
    /// Milliseconds since the epoch; 0 when none is due.
    pub restart_at_ms: u64,
    pub program: String,
    pub log_file: String,
    /// Layers over its block devices, the top one first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
    /// Targets that serve nothing any more, in a process that serves on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed_targets: Vec<FailedTargetRow>,
}

/// A target that serves nothing any more.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)] // the message's own documentation stands in host.proto
pub struct FailedTargetRow {
    pub target: u32,
    pub reason: String,
    pub since_ms: u64,
}

impl From<host::ServerStateResponse> for ServerRow {
    fn from(state: host::ServerStateResponse) -> Self {
        Self {
            phase: match state.phase() {
                host::ServerPhase::Starting => "starting",
                host::ServerPhase::Maintenance => "maintenance",
                host::ServerPhase::Ready => "ready",
                host::ServerPhase::Degraded => "degraded",
                host::ServerPhase::Stopping => "stopping",
                host::ServerPhase::Unspecified => "unknown",
            },
            reason: state.reason,
            hint: state.hint,
            since_ms: state.since_ms,
            system: state.system,
            version: state.version,
            hostname: state.hostname,
            pid: state.pid,
            control_addr: state.control_addr,
            config_path: state.config_path,
            insecure: state.insecure,
            engines: state.engines.into_iter().map(EngineRow::from).collect(),
            proposed: state.proposed.map(ProposedPlan::from),
        }
    }
}

impl From<host::Engine> for EngineRow {
    fn from(engine: host::Engine) -> Self {
        Self {
            state: match engine.state() {
                host::EngineState::AwaitFormat => "await-format",
                host::EngineState::StorageMismatch => "storage-mismatch",
                host::EngineState::Formatting => "formatting",
                host::EngineState::Starting => "starting",
                host::EngineState::Ready => "ready",
                host::EngineState::Stopping => "stopping",
                host::EngineState::Stopped => "stopped",
                host::EngineState::Restarting => "restarting",
                host::EngineState::Errored => "errored",
                host::EngineState::Unspecified => "unknown",
            },
            fault: engine.fault.as_ref().map(FaultRow::from),
            index: engine.index,
            reason: engine.reason,
            hint: engine.hint,
            since_ms: engine.since_ms,
            uuid: engine.uuid,
            rank: engine.rank,
            pid: engine.pid,
            uri: engine.uri,
            targets: engine.targets,
            restarts: engine.restarts,
            restart_at_ms: engine.restart_at_ms,
            program: engine.program,
            log_file: engine.log_file,
            layers: engine.layers,
            failed_targets: engine
                .failed_targets
                .into_iter()
                .map(FailedTargetRow::from)
                .collect(),
        }
    }
}

impl From<host::FailedTarget> for FailedTargetRow {
    fn from(failed: host::FailedTarget) -> Self {
        Self {
            target: failed.target,
            reason: failed.reason,
            since_ms: failed.since_ms,
        }
    }
}

impl ServerRow {
    /// The state for people. Times are relative to this machine's clock.
    pub fn text(&self) -> String {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_millis() as u64);
        self.text_at(now)
    }

    fn text_at(&self, now_ms: u64) -> String {
        let mut text = format!(
            "server {} ({}): {}",
            self.control_addr, self.system, self.phase
        );
        if !self.reason.is_empty() {
            text += &format!(" - {}", self.reason);
        }
        if !self.hint.is_empty() {
            text += &format!("\n    hint: {}", self.hint);
        }
        let rows = self.engines.iter().map(|e| {
            vec![
                e.index.to_string(),
                e.rank.map_or_else(|| "-".to_owned(), |r| r.to_string()),
                e.state.to_owned(),
                if e.pid == 0 {
                    "-".to_owned()
                } else {
                    e.pid.to_string()
                },
                e.targets.to_string(),
                e.restarts.to_string(),
                duration(now_ms.saturating_sub(e.since_ms)),
                e.reason.clone(),
            ]
        });
        text += "\n";
        text += &table(
            &[
                "ENGINE", "RANK", "STATE", "PID", "TARGETS", "RESTARTS", "SINCE", "REASON",
            ],
            rows,
        );
        for engine in &self.engines {
            if engine.restart_at_ms > 0 {
                let left = engine.restart_at_ms.saturating_sub(now_ms);
                let (index, number) = (engine.index, engine.restarts);
                text += &format!("\n\nengine {index}: restart {number} in {}", duration(left));
            }
            if !engine.layers.is_empty() {
                let (index, names) = (engine.index, engine.layers.join(", "));
                text += &format!("\n\nengine {index}: layers over its block devices: {names}");
                if engine.layers.iter().any(|layer| layer == "fault") {
                    text += " - FAULTS ARE INJECTED, its data is for tests";
                }
            }
            for failed in &engine.failed_targets {
                let (index, target, reason) = (engine.index, failed.target, &failed.reason);
                let since = duration(now_ms.saturating_sub(failed.since_ms));
                text +=
                    &format!("\n\nengine {index}: target {target} failed {since} ago: {reason}");
            }
            if let Some(fault) = &engine.fault {
                text += &format!("\n\nengine {}: {fault}", engine.index);
            }
            if !engine.hint.is_empty() {
                text += &format!("\n    hint: {}", engine.hint);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_before_a_restart_is_told_with_its_end() {
        let mut engine = host::Engine {
            since_ms: 1_000,
            restarts: 3,
            restart_at_ms: 5_000,
            reason: "it died: it was killed by SIGKILL".to_owned(),
            layers: vec!["fault".to_owned()],
            ..host::Engine::default()
        };
        engine.set_state(host::EngineState::Restarting);
        let row = ServerRow::from(host::ServerStateResponse {
            engines: vec![engine],
            ..host::ServerStateResponse::default()
        });
        let text = row.text_at(3_000);
        for words in ["restarting", "2 s", "restart 3 in 2 s", "SIGKILL", "FAULTS"] {
            assert!(text.contains(words), "{words:?} is missing in {text}");
        }
    }
}
