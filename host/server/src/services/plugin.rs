//! `daos_host.v1.PluginSvc`: plugins one by one.

use crate::plugins::{Plugins, Surroundings};
use crate::state::State;
use daos_proto::ctl::ResponseStatus;
use daos_proto::host::plugin_svc_server::PluginSvc;
use daos_proto::host::{
    Fault, PluginInspectRequest, PluginInspectResponse, PluginResetRequest, PluginResetResponse,
};
use std::sync::Arc;
use tonic::{Request, Response, Status};
use tracing::info;

/// The service.
pub(crate) struct PluginService {
    pub(crate) state: Arc<State>,
    pub(crate) plugins: Arc<Plugins>,
}

#[tonic::async_trait]
impl PluginSvc for PluginService {
    async fn inspect(
        &self,
        request: Request<PluginInspectRequest>,
    ) -> Result<Response<PluginInspectResponse>, Status> {
        let around = Surroundings::of(&self.state).await;
        let name = &request.get_ref().name;
        let detail = self.plugins.detail(&self.state.config, name, &around);
        detail.map(Response::new).map_err(|fault| fault.to_status())
    }

    async fn reset(
        &self,
        request: Request<PluginResetRequest>,
    ) -> Result<Response<PluginResetResponse>, Status> {
        let name = &request.get_ref().name;
        let config = &self.state.config;
        let files = self.plugins.reset(name).map_err(|error| {
            let status = ResponseStatus::CtlErrApp;
            let what = format!("the quarantine of {name} could not be lifted");
            let cause = format!("{error:#}");
            Fault::new(status, "plugin", 0, what, cause, "").to_status()
        })?;
        if files == 0 {
            // A name that nobody has is a mistake, not a plugin that is well.
            let known = self.plugins.detail(config, name, &Surroundings::default());
            known.map_err(|fault| fault.to_status())?;
        } else {
            info!(plugin = name.as_str(), files, "quarantine lifted");
        }
        let now = self.plugins.detail(config, name, &Surroundings::default());
        Ok(Response::new(PluginResetResponse {
            files: u32::try_from(files).unwrap_or(u32::MAX),
            plugin: now.ok().and_then(|detail| detail.plugin),
        }))
    }
}
