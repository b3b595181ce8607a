//! What a new engine and its supervisor say to each other before it serves.

use super::supervise::Task;
use crate::log_masks;
use crate::membership::{Joined, Place, join};
use crate::state::State;
use crate::storage;
use daos_drpc::Client;
use daos_drpc::methods::{mgmt as methods, module};
use daos_proto::host::{EngineState, Fault};
use daos_proto::mgmt::{DaosResp, SetRankReq};
use daos_proto::srv::NotifyReadyReq;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// How long an engine may take to answer a call.
const CALL_WITHIN: Duration = Duration::from_secs(20);

/// How long the end of a server waits for the system to hear of its engines' ends.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// An engine that listens and is about to become a member of the system.
pub(super) struct Introduced {
    message: NotifyReadyReq,
    joined: Pin<Box<dyn Future<Output = Result<Joined, Box<Fault>>> + Send>>,
}

impl Introduced {
    pub(super) fn new(state: &Arc<State>, index: usize, message: NotifyReadyReq) -> Self {
        let (state, ready) = (Arc::clone(state), message.clone());
        Self {
            message,
            joined: Box::pin(async move { join(&state, index, &ready).await }),
        }
    }
}

/// Waits until the engine is a member or refused; for ever if there is none that wants to be.
pub(super) async fn first(
    introduced: &mut Option<Introduced>,
) -> (NotifyReadyReq, Result<Joined, Box<Fault>>) {
    match introduced {
        Some(introduced) => {
            let joined = introduced.joined.as_mut().await;
            (introduced.message.clone(), joined)
        }
        None => std::future::pending().await,
    }
}

impl Task {
    /// Tells the system that this engine died, if another server keeps its membership.
    pub(super) fn tell_died(&self, why: &str) {
        tokio::spawn(self.tell_end(Some(why.to_owned())));
    }

    /// Tells the system that this engine was stopped, if another server keeps its membership; waits a moment for it to
    /// hear that, since this server may be about to end.
    pub(super) async fn tell_stopped(&self) {
        // Who does not hear it in time sees that the engine does not answer.
        let _ = tokio::time::timeout(TOLD_WITHIN, self.tell_end(None)).await;
    }

    fn tell_end(&self, died_of: Option<String>) -> impl Future<Output = ()> + use<> {
        let engine = self.state.engine(self.index);
        let (state, index) = (Arc::clone(&self.state), self.index as u32);
        async move {
            if let (Place::Elsewhere(elsewhere), Some(rank)) = (&state.membership, engine.rank) {
                elsewhere
                    .tell_end(rank, index, engine.incarnation, died_of)
                    .await;
            }
        }
    }

    /// Checks who says that it is ready, and keeps what it says.
    pub(super) fn accept(
        &self,
        pid: u32,
        caller: i32,
        ready: &NotifyReadyReq,
    ) -> Result<(), String> {
        // 0: the kernel could not translate the pid between namespaces.
        if caller != 0 && u32::try_from(caller) != Ok(pid) {
            return Err(format!(
                "process {caller} says it is engine {}, which is process {pid}",
                self.index
            ));
        }
        let socket = Path::new(&ready.drpc_listener_sock);
        let is_socket = std::fs::metadata(socket)
            .is_ok_and(|m| std::os::unix::fs::FileTypeExt::is_socket(&m.file_type()));
        if !socket.is_absolute() || !is_socket {
            return Err(format!(
                "drpcListenerSock {:?} is no socket",
                ready.drpc_listener_sock
            ));
        }
        self.state.update(self.index, |e| {
            e.uri.clone_from(&ready.uri);
            e.targets = ready.ntgts;
            e.incarnation = ready.incarnation;
            e.drpc_socket.clone_from(&ready.drpc_listener_sock);
        });
        Ok(())
    }

    /// Gives the engine its rank and lets it serve.
    pub(super) async fn set_up(&self, ready: &NotifyReadyReq, place: Joined) -> Result<(), String> {
        let rank = place.rank;
        if self.state.engine(self.index).rank != Some(rank) {
            storage::record_rank(&self.plugins, &self.state.config, self.index, rank)
                .await
                .map_err(|fault| format!("its rank cannot be recorded: {fault}"))?;
            self.plugins.rest().await;
        }
        let request = SetRankReq {
            rank,
            map_version: place.version,
            ..SetRankReq::default()
        };
        let socket = Path::new(&ready.drpc_listener_sock);
        self.call(socket, methods::SET_RANK, &request, "SetRank")
            .await?;
        self.call(socket, methods::SET_UP, &(), "SetUp").await?;
        if let Err(why) = log_masks::tell_new(&self.state, socket).await {
            warn!(
                engine = self.index,
                "it logs as its configuration says: {why}"
            );
        }
        let layers = layer_names(&self.state.config.servers[self.index].bdev_layers);
        self.state.update(self.index, |e| {
            e.layers = layers;
            let (pid, uri, socket) = (e.pid, e.uri.clone(), e.drpc_socket.clone());
            e.enter(EngineState::Ready, "it serves");
            (e.pid, e.uri, e.drpc_socket, e.rank) = (pid, uri, socket, Some(rank));
        });
        info!(engine = self.index, rank, uri = ready.uri, "engine ready");
        Ok(())
    }

    async fn call(
        &self,
        socket: &Path,
        method: i32,
        request: &impl prost::Message,
        name: &str,
    ) -> Result<(), String> {
        let mut client = Client::connect(socket, CALL_WITHIN)
            .await
            .map_err(|e| e.to_string())?;
        let response: DaosResp = client
            .request(module::MGMT, method, request, CALL_WITHIN)
            .await
            .map_err(|e| format!("{name} failed: {e}"))?;
        match response.status {
            0 => Ok(()),
            status => Err(format!("{name} failed with status {status}")),
        }
    }
}

/// Names of the layers of a configuration, the top one first.
fn layer_names(layers: &[serde_json::Value]) -> Vec<String> {
    let keys = layers.iter().filter_map(serde_json::Value::as_object);
    keys.flat_map(|layer| layer.keys().cloned()).collect()
}
