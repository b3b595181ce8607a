//! The generated server and client talk to each other over loopback.

use std::pin::Pin;

use daos_proto::ctl::ResponseStatus;
use daos_proto::host::format_storage_event::Event;
use daos_proto::host::host_svc_client::HostSvcClient;
use daos_proto::host::host_svc_server::{HostSvc, HostSvcServer};
use daos_proto::host::*;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};

struct Host;

#[tonic::async_trait]
impl HostSvc for Host {
    type FormatStorageStream =
        Pin<Box<dyn Stream<Item = Result<FormatStorageEvent, Status>> + Send>>;

    async fn format_storage(
        &self,
        request: Request<FormatStorageRequest>,
    ) -> Result<Response<Self::FormatStorageStream>, Status> {
        let total = u64::from(request.into_inner().engines[0]);
        let steps = (0..total).map(move |done| {
            let progress = FormatProgress {
                done,
                total,
                ..Default::default()
            };
            Ok(FormatStorageEvent {
                time_ms: 1,
                event: Some(Event::Progress(progress)),
            })
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(steps))))
    }

    async fn plugin_list(
        &self,
        _: Request<PluginListRequest>,
    ) -> Result<Response<PluginListResponse>, Status> {
        Ok(Response::new(PluginListResponse {
            abi_version: "1.0".into(),
            ..Default::default()
        }))
    }

    async fn storage_scan_detail(
        &self,
        _: Request<StorageScanDetailRequest>,
    ) -> Result<Response<StorageScanDetailResponse>, Status> {
        let status = ResponseStatus::CtlErrScm;
        Err(Fault::new(status, "scm", 208, "scan", "no ipmctl", "install it").into())
    }

    async fn network_scan(
        &self,
        request: Request<NetworkScanRequest>,
    ) -> Result<Response<NetworkScanResponse>, Status> {
        Ok(Response::new(NetworkScanResponse {
            wanted: vec![request.into_inner().provider],
            ..Default::default()
        }))
    }

    async fn server_state(
        &self,
        _: Request<ServerStateRequest>,
    ) -> Result<Response<ServerStateResponse>, Status> {
        let phase = ServerPhase::Maintenance.into();
        Ok(Response::new(ServerStateResponse {
            phase,
            ..Default::default()
        }))
    }

    async fn stop(&self, _: Request<StopRequest>) -> Result<Response<StopResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn start(&self, _: Request<StartRequest>) -> Result<Response<StartResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    type OpenResponderStream = tokio_stream::Empty<Result<OpenResponderEvent, Status>>;

    async fn open_responder(
        &self,
        _: Request<OpenResponderRequest>,
    ) -> Result<Response<Self::OpenResponderStream>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn pool_space(
        &self,
        _: Request<PoolSpaceRequest>,
    ) -> Result<Response<PoolSpaceResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }
}

#[tokio::test]
async fn calls_streams_and_faults_arrive() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(HostSvcServer::new(Host))
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let mut client = HostSvcClient::connect(address).await.unwrap();

    let state = client
        .server_state(ServerStateRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(state.phase(), ServerPhase::Maintenance);
    let list = client
        .plugin_list(PluginListRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(list.abi_version, "1.0");

    let request = FormatStorageRequest {
        engines: vec![3],
        ..Default::default()
    };
    let events = client.format_storage(request).await.unwrap().into_inner();
    let done: Vec<_> = events
        .map(|event| match event.unwrap().event {
            Some(Event::Progress(progress)) => progress.done,
            other => panic!("unexpected {other:?}"),
        })
        .collect()
        .await;
    assert_eq!(done, [0, 1, 2]);

    let status = client
        .storage_scan_detail(StorageScanDetailRequest::default())
        .await
        .unwrap_err();
    let fault = Fault::from_status(&status).unwrap();
    assert_eq!((fault.code, fault.cause.as_str()), (208, "no ipmctl"));
    assert_eq!(fault.status(), ResponseStatus::CtlErrScm);
    server.abort();
}
