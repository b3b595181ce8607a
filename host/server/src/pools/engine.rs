//! Calls about pools to one engine, of this server or of another one of the system.

use super::{code, fault};
use crate::membership::Peers;
use daos_drpc::Client;
use daos_drpc::methods::{host, mgmt, module};
use daos_proto::host::engine_svc_client::EngineSvcClient;
use daos_proto::host::{
    CallEngineRequest, EngineDevices, EngineDevicesRequest, EnginePools, Fault,
};
use daos_proto::mgmt::{
    PoolCreateReq, PoolCreateResp, PoolDestroyReq, PoolDestroyResp, PoolGetPropReq,
    PoolGetPropResp, PoolQueryReq, PoolQueryResp, PoolSetPropReq, PoolSetPropResp,
};
use prost::Message;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::Status;
use uuid::Uuid;

/// How long an engine may take to answer.
const CALL_WITHIN: Duration = Duration::from_secs(30);
/// How long it may take to destroy a pool. It goes on by itself if it takes longer.
const DESTROY_WITHIN: Duration = Duration::from_secs(600);
/// How much longer a call may take that another server hands on: that one shall be the first to give up.
const HAND_ON: Duration = Duration::from_secs(5);

/// An engine that serves.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// Its number on its server.
    pub(crate) index: u32,
    pub(crate) rank: u32,
    pub(super) way: Way,
}

/// How an engine is reached.
#[derive(Clone, Debug)]
pub(super) enum Way {
    /// It is one of this server's.
    Socket(PathBuf),
    /// Through its server.
    Server {
        /// `host:port`.
        address: String,
        uuid: Uuid,
        peers: Peers,
    },
}

/// How long a call about pools may take; none if it is not about pools.
///
/// A rule for what is added: it may reach the engine twice ([`Peers::ask`]), so the second time must find the work done and
/// answer as the first did. A pool of the same UUID, label and size that exists has been made, one that does not exist has been
/// destroyed, and a property is set to a value rather than changed by one.
pub(super) fn patience(module: i32, method: i32) -> Option<Duration> {
    match (module, method) {
        (module::MGMT, mgmt::POOL_DESTROY) => Some(DESTROY_WITHIN),
        (module::HOST, host::POOLS)
        | (
            module::MGMT,
            mgmt::POOL_CREATE | mgmt::POOL_QUERY | mgmt::POOL_GET_PROP | mgmt::POOL_SET_PROP,
        ) => Some(CALL_WITHIN),
        _ => None,
    }
}

impl Member {
    /// Its pools, and what it has for more.
    pub(crate) async fn pools(&self) -> Result<EnginePools, Status> {
        self.call(module::HOST, host::POOLS, &(), CALL_WITHIN).await
    }

    pub(super) async fn create(&self, request: &PoolCreateReq) -> Result<PoolCreateResp, Status> {
        self.call(module::MGMT, mgmt::POOL_CREATE, request, CALL_WITHIN)
            .await
    }

    /// Destroys a pool; returns the status number.
    pub(super) async fn destroy(&self, request: &PoolDestroyReq) -> Result<i32, Status> {
        let method = mgmt::POOL_DESTROY;
        let answer: PoolDestroyResp = self
            .call(module::MGMT, method, request, DESTROY_WITHIN)
            .await?;
        Ok(answer.status)
    }

    pub(super) async fn query(&self, request: &PoolQueryReq) -> Result<PoolQueryResp, Status> {
        self.call(module::MGMT, mgmt::POOL_QUERY, request, CALL_WITHIN)
            .await
    }

    /// Its block devices; of an engine of this server only.
    pub(crate) async fn devices(
        &self,
        request: &EngineDevicesRequest,
        within: Duration,
    ) -> Result<EngineDevices, Status> {
        self.call(module::HOST, host::DEVICES, request, within)
            .await
    }

    /// Values of properties.
    pub(super) async fn get_properties(
        &self,
        request: &PoolGetPropReq,
    ) -> Result<PoolGetPropResp, Status> {
        self.call(module::MGMT, mgmt::POOL_GET_PROP, request, CALL_WITHIN)
            .await
    }

    /// Changes properties; returns the status number.
    pub(super) async fn set_properties(&self, request: &PoolSetPropReq) -> Result<i32, Status> {
        let method = mgmt::POOL_SET_PROP;
        let answer: PoolSetPropResp = self
            .call(module::MGMT, method, request, CALL_WITHIN)
            .await?;
        Ok(answer.status)
    }

    async fn call<M: Message + Default>(
        &self,
        module: i32,
        method: i32,
        request: &impl Message,
        within: Duration,
    ) -> Result<M, Status> {
        let body = request.encode_to_vec();
        let answer = match &self.way {
            Way::Socket(socket) => {
                on_socket(self.index, socket, module, method, body, within).await?
            }
            Way::Server {
                address,
                uuid,
                peers,
            } => {
                let request = CallEngineRequest {
                    uuid: uuid.to_string(),
                    module,
                    method,
                    body,
                };
                let call = |peer| {
                    let request = request.clone();
                    async move { EngineSvcClient::new(peer).call_engine(request).await }
                };
                // May be carried out twice, which each call that `patience` knows takes well.
                peers
                    .ask(address, within + HAND_ON, call)
                    .await
                    .map_err(|status| self.beyond(address, &status))?
                    .into_inner()
                    .body
            }
        };
        M::decode(&*answer).map_err(|error| silent(&self.name(), &error.to_string()))
    }

    /// What went wrong on the way to an engine of another server, with the server's name.
    fn beyond(&self, address: &str, status: &Status) -> Status {
        match Fault::from_status(status) {
            Some(mut fault) => {
                fault.what = format!("{address}: {}", fault.what);
                fault.to_status()
            }
            None => silent(&self.name(), status.message()),
        }
    }

    /// As errors name it.
    fn name(&self) -> String {
        match &self.way {
            Way::Socket(_) => format!("engine {}", self.index),
            Way::Server { address, .. } => format!("rank {} at {address}", self.rank),
        }
    }
}

/// Calls an engine of this server with a serialized message; gives the one of the answer.
pub(super) async fn on_socket(
    index: u32,
    socket: &Path,
    module: i32,
    method: i32,
    body: Vec<u8>,
    within: Duration,
) -> Result<Vec<u8>, Status> {
    let answer = async {
        let mut client = Client::connect(socket, CALL_WITHIN).await?;
        client.call(module, method, body, within).await
    };
    answer
        .await
        .map_err(|error: daos_drpc::Error| silent(&format!("engine {index}"), &error.to_string()))
}

fn silent(who: &str, why: &str) -> Status {
    fault(
        code::NOT_STARTED,
        &format!("{who} does not answer"),
        why,
        "ask `daos_shell system query` for its state, then try again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_calls_about_pools_are_handed_on() {
        assert_eq!(patience(module::HOST, host::POOLS), Some(CALL_WITHIN));
        let destroy = patience(module::MGMT, mgmt::POOL_DESTROY);
        assert_eq!(destroy, Some(DESTROY_WITHIN));
        for (module, method) in [
            (module::MGMT, mgmt::PREP_SHUTDOWN),
            (module::MGMT, mgmt::SET_RANK),
            (module::HOST, host::LAYERS_SET),
            (module::SRV, mgmt::POOL_CREATE),
            (module::HOST, mgmt::POOL_CREATE),
        ] {
            assert_eq!(patience(module, method), None, "{module} {method}");
        }
    }
}
