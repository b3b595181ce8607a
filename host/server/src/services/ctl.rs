//! `ctl.CtlSvc`: what administration tools of the DAOS 2.8 control plane ask of one host.

mod firmware;
mod format;
mod network;
mod ranks;
mod scan;
mod scm;
mod smd;

use super::host::Inner;
use super::local::Local;
use super::mgmt::{check_system, to_its_end};
use crate::firmware::Firmware;
use crate::log_masks;
use crate::plugins::Plugins;
use crate::pools::Pools;
use crate::state::State;
use daos_proto::ctl::ctl_svc_server::CtlSvc;
use daos_proto::ctl::{
    FirmwareQueryReq, FirmwareQueryResp, FirmwareUpdateReq, FirmwareUpdateResp, NetworkScanReq,
    NetworkScanResp, RanksReq, RanksResp, SetLogMasksReq, SetLogMasksResp, SmdManageReq,
    SmdManageResp, SmdQueryReq, SmdQueryResp, StorageFormatReq, StorageFormatResp, StorageScanReq,
    StorageScanResp,
};
use daos_proto::host::Fault;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The service.
pub(crate) struct CtlService {
    pub(crate) state: Arc<State>,
    pub(crate) plugins: Arc<Plugins>,
    pub(crate) firmware: Arc<Firmware>,
    pub(crate) host: Arc<Inner>,
    pub(crate) pools: Arc<Pools>,
    pub(crate) local: Local,
}

#[tonic::async_trait]
impl CtlSvc for CtlService {
    async fn storage_scan(
        &self,
        request: Request<StorageScanReq>,
    ) -> Result<Response<StorageScanResp>, Status> {
        scan::run(&self.state, &self.plugins, &self.pools, request.get_ref())
            .await
            .map(Response::new)
    }

    async fn storage_format(
        &self,
        request: Request<StorageFormatReq>,
    ) -> Result<Response<StorageFormatResp>, Status> {
        format::run(Arc::clone(&self.host), request.into_inner())
            .await
            .map(Response::new)
    }

    async fn network_scan(
        &self,
        request: Request<NetworkScanReq>,
    ) -> Result<Response<NetworkScanResp>, Status> {
        let config = &self.state.config;
        Ok(Response::new(
            network::scan(&self.plugins, config, request.into_inner()).await,
        ))
    }

    async fn prep_shutdown_ranks(
        &self,
        request: Request<RanksReq>,
    ) -> Result<Response<RanksResp>, Status> {
        ranks::prepare(&self.local, request.get_ref()).map(Response::new)
    }

    async fn stop_ranks(&self, request: Request<RanksReq>) -> Result<Response<RanksResp>, Status> {
        let local = self.local.clone();
        to_its_end(async move { ranks::stop(&local, request.get_ref()).await }).await
    }

    async fn start_ranks(&self, request: Request<RanksReq>) -> Result<Response<RanksResp>, Status> {
        let local = self.local.clone();
        to_its_end(async move { ranks::start(&local, request.get_ref()).await }).await
    }

    async fn reset_format_ranks(
        &self,
        request: Request<RanksReq>,
    ) -> Result<Response<RanksResp>, Status> {
        let local = self.local.clone();
        to_its_end(async move { ranks::reset(&local, request.get_ref()).await }).await
    }

    async fn smd_query(
        &self,
        request: Request<SmdQueryReq>,
    ) -> Result<Response<SmdQueryResp>, Status> {
        smd::query(&self.state, &self.pools, request.get_ref())
            .await
            .map(Response::new)
    }

    async fn smd_manage(
        &self,
        request: Request<SmdManageReq>,
    ) -> Result<Response<SmdManageResp>, Status> {
        smd::manage(&self.state, &self.pools, request.get_ref())
            .await
            .map(Response::new)
    }

    async fn firmware_query(
        &self,
        request: Request<FirmwareQueryReq>,
    ) -> Result<Response<FirmwareQueryResp>, Status> {
        firmware::query(&self.firmware, request.get_ref())
            .await
            .map(Response::new)
    }

    async fn firmware_update(
        &self,
        request: Request<FirmwareUpdateReq>,
    ) -> Result<Response<FirmwareUpdateResp>, Status> {
        firmware::update(Arc::clone(&self.firmware), request.into_inner())
            .await
            .map(Response::new)
    }

    async fn set_engine_log_masks(
        &self,
        request: Request<SetLogMasksReq>,
    ) -> Result<Response<SetLogMasksResp>, Status> {
        let done = self.set_masks(request.get_ref()).await;
        done.map(Response::new).map_err(|fault| fault.to_status())
    }
}

impl CtlService {
    async fn set_masks(&self, request: &SetLogMasksReq) -> Result<SetLogMasksResp, Box<Fault>> {
        check_system(&self.state.config.name, &request.sys)?;
        log_masks::set(&self.state, &self.plugins, request).await
    }
}
