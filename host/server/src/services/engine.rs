//! `daos_host.v1.EngineSvc`: calls to the engines of this host, for the server that keeps the membership.

use crate::pools::Pools;
use daos_proto::host::engine_svc_server::EngineSvc;
use daos_proto::host::{CallEngineRequest, CallEngineResponse};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The service.
pub(crate) struct EngineService {
    pub(crate) pools: Arc<Pools>,
}

#[tonic::async_trait]
impl EngineSvc for EngineService {
    async fn call_engine(
        &self,
        request: Request<CallEngineRequest>,
    ) -> Result<Response<CallEngineResponse>, Status> {
        let body = self.pools.hand_on(request.into_inner()).await?;
        Ok(Response::new(CallEngineResponse { body }))
    }
}
