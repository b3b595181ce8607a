//! Calls about pools to one engine.

use super::{code, fault};
use daos_drpc::Client;
use daos_drpc::methods::{host, mgmt, module};
use daos_proto::host::{EngineDevices, EngineDevicesRequest, EnginePools};
use daos_proto::mgmt::{
    PoolCreateReq, PoolCreateResp, PoolDestroyReq, PoolDestroyResp, PoolGetPropReq,
    PoolGetPropResp, PoolQueryReq, PoolQueryResp, PoolSetPropReq, PoolSetPropResp,
};
use prost::Message;
use std::path::PathBuf;
use std::time::Duration;
use tonic::Status;

/// How long an engine may take to answer.
const CALL_WITHIN: Duration = Duration::from_secs(30);
/// How long it may take to destroy a pool. It goes on by itself if it takes longer.
const DESTROY_WITHIN: Duration = Duration::from_secs(600);

/// An engine that serves.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) index: u32,
    pub(crate) rank: u32,
    pub(crate) socket: PathBuf,
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

    /// Its block devices.
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
        let answer = async {
            let mut client = Client::connect(&self.socket, CALL_WITHIN).await?;
            client.request(module, method, request, within).await
        };
        answer.await.map_err(|error: daos_drpc::Error| {
            fault(
                code::NOT_STARTED,
                &format!("engine {} does not answer", self.index),
                &error.to_string(),
                "ask `daos_shell system query` for its state, then try again",
            )
        })
    }
}
