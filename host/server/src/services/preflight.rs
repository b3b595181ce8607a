//! `daos_host.v1.PreflightSvc`: what nodes must have in common.

use crate::facts;
use crate::plugins::Plugins;
use crate::state::State;
use daos_proto::host::preflight_svc_server::PreflightSvc;
use daos_proto::host::{FactsRequest, FactsResponse};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The service.
pub(crate) struct PreflightService {
    pub(crate) state: Arc<State>,
    pub(crate) plugins: Arc<Plugins>,
}

#[tonic::async_trait]
impl PreflightSvc for PreflightService {
    async fn facts(
        &self,
        request: Request<FactsRequest>,
    ) -> Result<Response<FactsResponse>, Status> {
        let (state, plugins) = (Arc::clone(&self.state), Arc::clone(&self.plugins));
        // Users may be looked up in a directory service, over the network.
        let gathered =
            tokio::task::spawn_blocking(move || facts::gather(&plugins, &state, request.get_ref()));
        match gathered.await {
            Ok(facts) => facts.map(Response::new).map_err(Status::invalid_argument),
            Err(error) => Err(Status::internal(format!("a defect of the server: {error}"))),
        }
    }
}
