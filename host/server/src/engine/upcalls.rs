//! What engines tell the server over dRPC.

use super::Supervisor;
use daos_drpc::methods::{module, srv};
use daos_drpc::{Module, Refusal, Reply, Request};
use daos_proto::srv::NotifyReadyReq;
use std::sync::{Arc, OnceLock};

/// Module 3 of the server's dRPC socket.
pub(crate) struct Upcalls {
    // Filled once the supervisors exist, before the first engine is started.
    supervisors: OnceLock<Vec<Supervisor>>,
}

impl Upcalls {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            supervisors: OnceLock::new(),
        })
    }

    /// Connects the calls to the engines' supervisors.
    pub(crate) fn connect(&self, supervisors: Vec<Supervisor>) {
        // A second call would be a mistake of `start`, and changes nothing.
        let _ = self.supervisors.set(supervisors);
    }

    async fn notify_ready(&self, request: Request) -> Result<Vec<u8>, Refusal> {
        let ready: NotifyReadyReq = request.decode()?;
        let index = ready.instance_idx as usize;
        let supervisor = self
            .supervisors
            .get()
            .and_then(|all| all.get(index))
            .ok_or_else(|| Refusal::Failed(format!("there is no engine {index}")))?;
        supervisor
            .ready(request.caller.pid, ready)
            .await
            .map_err(Refusal::Failed)?;
        Ok(Vec::new())
    }
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
