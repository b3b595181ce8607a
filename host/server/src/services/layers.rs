//! `daos_host.v1.LayerSvc`: layers over block devices.

use crate::layers;
use crate::state::State;
use daos_proto::host::layer_svc_server::LayerSvc;
use daos_proto::host::{LayersResponse, ListLayersRequest, SetLayersRequest};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The service.
pub(crate) struct LayerService {
    pub(crate) state: Arc<State>,
}

#[tonic::async_trait]
impl LayerSvc for LayerService {
    async fn list_layers(
        &self,
        request: Request<ListLayersRequest>,
    ) -> Result<Response<LayersResponse>, Status> {
        let engines =
            layers::list(&self.state, &request.get_ref().ranks, layers::CALL_WITHIN).await?;
        Ok(Response::new(LayersResponse { engines }))
    }

    async fn set_layers(
        &self,
        request: Request<SetLayersRequest>,
    ) -> Result<Response<LayersResponse>, Status> {
        let engines = layers::set(&self.state, request.into_inner()).await?;
        Ok(Response::new(LayersResponse { engines }))
    }
}
