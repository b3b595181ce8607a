//! Calls about pools to one engine.

use super::{code, fault};
use daos_drpc::Client;
use daos_drpc::methods::{host, mgmt, module};
use daos_proto::host::EnginePools;
use daos_proto::mgmt::{
    PoolCreateReq, PoolCreateResp, PoolDestroyReq, PoolDestroyResp, PoolQueryReq, PoolQueryResp,
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
pub(super) struct Member {
    pub(super) index: u32,
    pub(super) rank: u32,
    pub(super) socket: PathBuf,
}

impl Member {
    /// Its pools, and what it has for more.
    pub(super) async fn pools(&self) -> Result<EnginePools, Status> {
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
                &format!("engine {} does not answer about pools", self.index),
                &error.to_string(),
                "ask `daos_shell system query` for its state, then try again",
            )
        })
    }
}
