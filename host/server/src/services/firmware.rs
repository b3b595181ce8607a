//! `daos_host.v1.FirmwareSvc`: firmware of this host's block devices.

use crate::firmware::{Events, Firmware};
use daos_proto::host::firmware_svc_server::FirmwareSvc;
use daos_proto::host::{
    QueryFirmwareRequest, QueryFirmwareResponse, UpdateFirmwareEvent, UpdateFirmwareRequest,
};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status};

/// The service.
pub(crate) struct FirmwareService {
    firmware: Arc<Firmware>,
}

impl FirmwareService {
    pub(crate) fn new(firmware: Arc<Firmware>) -> Self {
        Self { firmware }
    }
}

#[tonic::async_trait]
impl FirmwareSvc for FirmwareService {
    async fn query(
        &self,
        request: Request<QueryFirmwareRequest>,
    ) -> Result<Response<QueryFirmwareResponse>, Status> {
        let selection = request.into_inner().selection.unwrap_or_default();
        match self.firmware.query(&selection).await {
            Ok(answer) => Ok(Response::new(answer)),
            Err(fault) => Err(fault.to_status()),
        }
    }

    type UpdateStream = UnboundedReceiverStream<Result<UpdateFirmwareEvent, Status>>;

    async fn update(
        &self,
        request: Request<UpdateFirmwareRequest>,
    ) -> Result<Response<Self::UpdateStream>, Status> {
        let (sender, events) = mpsc::unbounded_channel();
        let firmware = Arc::clone(&self.firmware);
        // To its end also when the client goes away.
        tokio::spawn(async move {
            let request = request.into_inner();
            if let Err(fault) = firmware
                .update(&request, &Events::new(sender.clone()))
                .await
            {
                // Nobody listens any more if this fails.
                let _ = sender.send(Err(fault.to_status()));
            }
        });
        Ok(Response::new(UnboundedReceiverStream::new(events)))
    }
}
