//! Starting engines: when the server starts, and when an administrator asks.

use crate::engine::Supervisor;
use crate::plugins::Plugins;
use crate::state::State;
use crate::storage::{self, Assessment};
use daos_proto::ctl::ResponseStatus;
use daos_proto::host::{EngineStart, EngineState, Fault};
use std::time::Duration;
use tracing::{info, warn};

/// How long a start is waited for; it goes on by itself.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Starts an engine whose storage is what was formatted; says what is missing otherwise.
pub(crate) async fn start_engine(
    state: &State,
    plugins: &Plugins,
    supervisor: &Supervisor,
    index: usize,
) {
    match storage::assess(plugins, &state.config, index).await {
        Assessment::Formatted { superblock, start } => {
            state.update(index, |e| {
                e.uuid = superblock.uuid.to_string();
                e.rank = superblock.rank;
            });
            if let Some(membership) = state.membership.here()
                && membership.is_excluded(superblock.uuid)
            {
                info!(
                    engine = index,
                    "not started: an administrator has excluded its rank"
                );
                let ranks = superblock.rank.unwrap_or(index as u32);
                state.update(index, |e| {
                    e.enter(
                        EngineState::Stopped,
                        "an administrator has excluded its rank from the system",
                    );
                    e.hint = state.shell_command(&format!("system clear-exclude --ranks {ranks}"));
                });
                return;
            }
            if let Err(why) = supervisor.start(start).await {
                warn!(engine = index, "{why}");
            }
        }
        Assessment::Blank => {
            state.update(index, |e| {
                e.enter(EngineState::AwaitFormat, "its storage is not formatted");
                e.hint = state.shell_command("storage format");
            });
            info!("SCM format required on instance {index}");
        }
        Assessment::Mismatch { reason, hint } => {
            warn!(engine = index, "{reason}");
            state.update(index, |e| {
                e.enter(EngineState::StorageMismatch, reason);
                e.hint = hint;
            });
        }
        Assessment::Failed(fault) => {
            warn!(engine = index, "{fault}");
            state.update(index, |e| {
                e.enter(EngineState::Errored, fault.description());
                e.hint.clone_from(&fault.remedy);
                e.fault = Some(*fault);
            });
        }
    }
}

/// Whether an engine in that state can be started: one that runs, or is about to, cannot.
pub(crate) fn may_start(state: EngineState) -> bool {
    matches!(
        state,
        EngineState::Stopped
            | EngineState::Errored
            | EngineState::AwaitFormat
            | EngineState::StorageMismatch
    )
}

/// Waits until an engine serves or will not.
pub(crate) async fn outcome(state: &State, index: usize) -> EngineStart {
    let mut changes = state.changes();
    let decided = async {
        while matches!(
            state.engine(index).state,
            EngineState::Starting | EngineState::Restarting
        ) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    };
    // What is not decided by then is told as it is.
    let _ = tokio::time::timeout(READY_WITHIN, decided).await;
    let engine = state.engine(index);
    let fault = (engine.state != EngineState::Ready).then(|| {
        let given = engine.fault.clone();
        given.unwrap_or_else(|| {
            Fault::new(
                ResponseStatus::CtlErrApp,
                "server",
                0,
                "the engine does not serve",
                engine.reason.clone(),
                engine.hint.clone(),
            )
        })
    });
    EngineStart {
        engine: index as u32,
        state: engine.state.into(),
        pid: engine.pid,
        fault,
    }
}
