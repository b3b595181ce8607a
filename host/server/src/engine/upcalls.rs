//! What engines tell the server over dRPC.

use super::Supervisor;
use super::tail::plugin_of;
use crate::state::{State, now_ms};
use daos_drpc::methods::{host, module, srv};
use daos_drpc::{Module, Refusal, Reply, Request};
use daos_loader::Incident;
use daos_proto::host::{EngineState, EngineTargetFailed, FailedTarget};
use daos_proto::srv::NotifyReadyReq;
use std::sync::{Arc, OnceLock};
use tracing::error;

/// Who hears of the calls.
struct Listeners {
    state: Arc<State>,
    supervisors: Vec<Supervisor>,
}

/// Module 3 of the server's dRPC socket.
pub(crate) struct Upcalls {
    // Filled once the supervisors exist, before the first engine is started.
    listeners: OnceLock<Listeners>,
}

impl Upcalls {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            listeners: OnceLock::new(),
        })
    }

    /// Connects the calls to the server's state and the engines' supervisors.
    pub(crate) fn connect(&self, state: Arc<State>, supervisors: Vec<Supervisor>) {
        // A second call would be a mistake of `start`, and changes nothing.
        let _ = self.listeners.set(Listeners { state, supervisors });
    }

    async fn notify_ready(&self, request: Request) -> Result<Vec<u8>, Refusal> {
        let ready: NotifyReadyReq = request.decode()?;
        let index = ready.instance_idx as usize;
        let supervisor = self
            .listeners
            .get()
            .and_then(|listeners| listeners.supervisors.get(index))
            .ok_or_else(|| Refusal::Failed(format!("there is no engine {index}")))?;
        supervisor
            .ready(request.caller.pid, ready)
            .await
            .map_err(Refusal::Failed)?;
        Ok(Vec::new())
    }

    fn target_failed(&self, request: &Request) -> Result<Vec<u8>, Refusal> {
        let failed: EngineTargetFailed = request.decode()?;
        let listeners = self.listeners.get();
        let state = listeners.map(|l| &l.state).ok_or(Refusal::UnknownMethod)?;
        note_failure(state, request.caller.pid, &failed).map_err(Refusal::Failed)?;
        let index = failed.engine;
        let what = format!("target {} failed: {}", failed.target, failed.reason);
        error!(engine = index, "{what}");
        if let Some(plugin) = plugin_of(&failed.reason) {
            let process = format!("engine {index}");
            let incident = Incident::now(&plugin, &process, what, Vec::new());
            if let Err(why) = state.leases.incident_add(incident) {
                error!(
                    engine = index,
                    "an incident of plugin {plugin} is not kept: {why}"
                );
            }
        }
        Ok(Vec::new())
    }
}

/// Takes note of a failed target of the engine that process `caller` is; 0: the kernel could not tell.
fn note_failure(state: &State, caller: i32, failed: &EngineTargetFailed) -> Result<(), String> {
    let index = failed.engine as usize;
    if index >= state.engines().len() {
        return Err(format!("there is no engine {index}"));
    }
    let rank = state.engine(index).rank.unwrap_or(failed.engine);
    let stop = state.shell_command(&format!("system stop --ranks {rank}"));
    state.update(index, |e| {
        if e.state != EngineState::Ready || (caller != 0 && u32::try_from(caller) != Ok(e.pid)) {
            return Err(format!("process {caller} does not serve as engine {index}"));
        }
        e.failed_targets.push(FailedTarget {
            target: failed.target,
            reason: failed.reason.clone(),
            since_ms: now_ms(),
        });
        let numbers: Vec<_> = e.failed_targets.iter().map(|f| f.target.to_string()).collect();
        e.reason = format!(
            "it serves without target {}: {}",
            numbers.join(", "),
            failed.reason
        );
        e.hint = format!(
            "mend the cause, then start the engine again to recover what was acknowledged: {stop}, then: system start --ranks {rank}"
        );
        Ok(())
    })
}

impl Module for Upcalls {
    fn id(&self) -> i32 {
        module::SRV
    }

    fn call(self: Arc<Self>, request: Request) -> Reply {
        Box::pin(async move {
            match request.method {
                srv::NOTIFY_READY => self.notify_ready(request).await,
                _ => Err(Refusal::UnknownMethod),
            }
        })
    }
}

/// Module 1000 of that socket: what only our own engine tells.
pub(crate) struct OwnUpcalls(pub(crate) Arc<Upcalls>);

impl Module for OwnUpcalls {
    fn id(&self) -> i32 {
        module::HOST
    }

    fn call(self: Arc<Self>, request: Request) -> Reply {
        Box::pin(async move {
            match request.method {
                host::TARGET_FAILED => self.0.target_failed(&request),
                _ => Err(Refusal::UnknownMethod),
            }
        })
    }
}
