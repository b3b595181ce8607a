//! `daos_host.v1.BurnInSvc`: burn-in of this host's block devices.

use crate::burnin::Burnins;
use daos_burnin::Record;
use daos_proto::host::burn_in_svc_server::BurnInSvc;
use daos_proto::host::{
    BurnInReportRequest, BurnInReportResponse, BurnInStartRequest, BurnInStartResponse,
    BurnInStopRequest, BurnInStopResponse, BurnInWatchRequest, BurnInWatchResponse,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Least time between two messages of a stream.
const PAUSE: Duration = Duration::from_millis(250);

/// The service.
pub(crate) struct BurnInService {
    burnins: Arc<Burnins>,
}

impl BurnInService {
    pub(crate) fn new(burnins: Arc<Burnins>) -> Self {
        Self { burnins }
    }
}

fn documents(records: &[Record]) -> Result<String, Status> {
    serde_json::to_string(records)
        .map_err(|e| Status::internal(format!("cannot encode a record: {e}")))
}

#[tonic::async_trait]
impl BurnInSvc for BurnInService {
    async fn start(
        &self,
        request: Request<BurnInStartRequest>,
    ) -> Result<Response<BurnInStartResponse>, Status> {
        let burnins = Arc::clone(&self.burnins);
        // To its end also when the client goes away: half a start would hold devices.
        let started = tokio::spawn(async move { burnins.start(request.get_ref()).await }).await;
        match started {
            Ok(Ok((run, devices))) => Ok(Response::new(BurnInStartResponse { run, devices })),
            Ok(Err(fault)) => Err(fault.to_status()),
            Err(error) => Err(Status::internal(format!("a defect of the server: {error}"))),
        }
    }

    type WatchStream = ReceiverStream<Result<BurnInWatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<BurnInWatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let BurnInWatchRequest { mut runs, follow } = request.into_inner();
        let burnins = Arc::clone(&self.burnins);
        burnins.known(&runs).map_err(|fault| fault.to_status())?;
        if follow && runs.is_empty() {
            runs = burnins.running();
        }
        let (sender, stream) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut changes = burnins.changes();
            // Nothing runs: there is nothing to follow.
            let nothing = follow && runs.is_empty();
            loop {
                changes.mark_unchanged();
                let records = if nothing {
                    Vec::new()
                } else {
                    burnins.records(&runs)
                };
                let running = burnins.running();
                let more = follow && runs.iter().any(|run| running.contains(run));
                let message =
                    documents(&records).map(|documents| BurnInWatchResponse { documents });
                if sender.send(message).await.is_err() || !more {
                    return;
                }
                tokio::select! {
                    () = sender.closed() => return,
                    changed = changes.changed() => if changed.is_err() { return },
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn stop(
        &self,
        request: Request<BurnInStopRequest>,
    ) -> Result<Response<BurnInStopResponse>, Status> {
        let stopped = self.burnins.stop(&request.get_ref().runs).await;
        let records = stopped.map_err(|fault| fault.to_status())?;
        Ok(Response::new(BurnInStopResponse {
            documents: documents(&records)?,
        }))
    }

    async fn report(
        &self,
        request: Request<BurnInReportRequest>,
    ) -> Result<Response<BurnInReportResponse>, Status> {
        let run = request.into_inner().run;
        if !run.is_empty() {
            self.burnins
                .known(std::slice::from_ref(&run))
                .map_err(|fault| fault.to_status())?;
        }
        let record = self.burnins.report(&run);
        let record =
            record.ok_or_else(|| Status::not_found("no burn-in has run on this host yet"))?;
        let document = serde_json::to_string(&record)
            .map_err(|e| Status::internal(format!("cannot encode the record: {e}")))?;
        Ok(Response::new(BurnInReportResponse { document }))
    }
}
