//! The service of a host.

use crate::Manner;
use daos_proto::ctl::ResponseStatus;
use daos_proto::host::host_svc_server::HostSvc;
use daos_proto::host::{
    Detail, Device, DeviceUse, Fault, FormatStorageEvent, FormatStorageRequest, Kind,
    NetworkScanRequest, NetworkScanResponse, OpenResponderEvent, OpenResponderRequest,
    PluginListRequest, PluginListResponse, PoolSpaceRequest, PoolSpaceResponse, ServerStateRequest,
    ServerStateResponse, StartRequest, StartResponse, StopRequest, StopResponse,
    StorageScanDetailRequest, StorageScanDetailResponse,
};
use tokio_stream::Empty;
use tonic::{Request, Response, Status};

/// SSDs of a host, as many as a storage node has.
const DEVICES: u32 = 8;

pub(crate) struct Host {
    pub(crate) manner: Manner,
    pub(crate) number: usize,
}

fn device(host: usize, number: u32, size_bytes: u64) -> Device {
    let address = format!("0000:{:02x}:00.0", 0x81 + number);
    let detail = |key: &str, value: &str| Detail {
        key: key.to_owned(),
        value: value.to_owned(),
    };
    Device {
        kind: Kind::Bdev.into(),
        class: "nvme".to_owned(),
        plugin: "bdev-nvme-spdk".to_owned(),
        model: "SIMULATED 3.2TB".to_owned(),
        serial: format!("S{host:06}-{number}"),
        firmware: "1.0".to_owned(),
        size_bytes,
        block_size: 4096,
        numa_node: Some((number % 2) as i32),
        r#use: DeviceUse::Free.into(),
        details: vec![detail("namespace", "1"), detail("controller", &address)],
        address,
        ..Device::default()
    }
}

fn none<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented(
        "a simulated host only tells its storage",
    ))
}

#[tonic::async_trait]
impl HostSvc for Host {
    type FormatStorageStream = Empty<Result<FormatStorageEvent, Status>>;
    type OpenResponderStream = Empty<Result<OpenResponderEvent, Status>>;

    async fn storage_scan_detail(
        &self,
        _: Request<StorageScanDetailRequest>,
    ) -> Result<Response<StorageScanDetailResponse>, Status> {
        /// Bytes of an SSD.
        const SIZE: u64 = 3_200_631_791_616;
        let first = match self.manner {
            Manner::Well | Manner::Absent => SIZE,
            Manner::Otherwise => SIZE / 2,
            Manner::Silent => std::future::pending().await,
            Manner::Faulty => {
                let fault = Fault::new(
                    ResponseStatus::CtlErrNvme,
                    "bdev",
                    300,
                    "scan of simulated SSDs",
                    "this host was told to fail",
                    "tell it otherwise",
                );
                return Err(fault.to_status());
            }
        };
        Ok(Response::new(StorageScanDetailResponse {
            devices: (0..DEVICES)
                .map(|number| device(self.number, number, if number == 0 { first } else { SIZE }))
                .collect(),
            ..StorageScanDetailResponse::default()
        }))
    }

    async fn format_storage(
        &self,
        _: Request<FormatStorageRequest>,
    ) -> Result<Response<Self::FormatStorageStream>, Status> {
        none()
    }

    async fn plugin_list(
        &self,
        _: Request<PluginListRequest>,
    ) -> Result<Response<PluginListResponse>, Status> {
        none()
    }

    async fn network_scan(
        &self,
        _: Request<NetworkScanRequest>,
    ) -> Result<Response<NetworkScanResponse>, Status> {
        none()
    }

    async fn server_state(
        &self,
        _: Request<ServerStateRequest>,
    ) -> Result<Response<ServerStateResponse>, Status> {
        none()
    }

    async fn stop(&self, _: Request<StopRequest>) -> Result<Response<StopResponse>, Status> {
        none()
    }

    async fn start(&self, _: Request<StartRequest>) -> Result<Response<StartResponse>, Status> {
        none()
    }

    async fn open_responder(
        &self,
        _: Request<OpenResponderRequest>,
    ) -> Result<Response<Self::OpenResponderStream>, Status> {
        none()
    }

    async fn pool_space(
        &self,
        _: Request<PoolSpaceRequest>,
    ) -> Result<Response<PoolSpaceResponse>, Status> {
        none()
    }
}
