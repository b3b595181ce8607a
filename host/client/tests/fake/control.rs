//! A control plane that knows one engine.

use daos_client::EngineUri;
use daos_proto::mgmt::get_attach_info_resp::RankUri;
use daos_proto::mgmt::mgmt_svc_server::{MgmtSvc, MgmtSvcServer};
use daos_proto::mgmt::*;
use daos_proto::shared::{ClusterEventReq, ClusterEventResp};
use std::sync::{Arc, Mutex};
use tonic::{Request, Response, Status};

/// Address of the control plane, and what it tells.
pub struct Control {
    pub access_point: String,
    uri: Arc<Mutex<Option<String>>>,
    task: tokio::task::JoinHandle<()>,
}

struct Service(Arc<Mutex<Option<String>>>);

#[tonic::async_trait]
impl MgmtSvc for Service {
    async fn get_attach_info(
        &self,
        request: Request<GetAttachInfoReq>,
    ) -> Result<Response<GetAttachInfoResp>, Status> {
        let header = |name| request.metadata().get(name).and_then(|v| v.to_str().ok());
        if header("x-daos-component") != Some("client") || header("x-daos-version").is_none() {
            return Err(Status::permission_denied("headers are missing"));
        }
        let Some(uri) = self.0.lock().unwrap().clone() else {
            return Err(Status::internal("no engine serves"));
        };
        let rank = RankUri {
            uri,
            ..RankUri::default()
        };
        Ok(Response::new(GetAttachInfoResp {
            rank_uris: vec![rank],
            ..GetAttachInfoResp::default()
        }))
    }

    async fn system_query(
        &self,
        _request: Request<SystemQueryReq>,
    ) -> Result<Response<SystemQueryResp>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn leader_query(
        &self,
        _request: Request<LeaderQueryReq>,
    ) -> Result<Response<LeaderQueryResp>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn system_stop(
        &self,
        _request: Request<SystemStopReq>,
    ) -> Result<Response<SystemStopResp>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn system_start(
        &self,
        _request: Request<SystemStartReq>,
    ) -> Result<Response<SystemStartResp>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn join(&self, _request: Request<JoinReq>) -> Result<Response<JoinResp>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn cluster_event(
        &self,
        _request: Request<ClusterEventReq>,
    ) -> Result<Response<ClusterEventResp>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn system_exclude(
        &self,
        _request: Request<SystemExcludeReq>,
    ) -> Result<Response<SystemExcludeResp>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn system_erase(
        &self,
        _request: Request<SystemEraseReq>,
    ) -> Result<Response<SystemEraseResp>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn pool_get_prop(
        &self,
        _request: Request<PoolGetPropReq>,
    ) -> Result<Response<PoolGetPropResp>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn pool_set_prop(
        &self,
        _request: Request<PoolSetPropReq>,
    ) -> Result<Response<PoolSetPropResp>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn pool_create(
        &self,
        _request: Request<PoolCreateReq>,
    ) -> Result<Response<PoolCreateResp>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn pool_destroy(
        &self,
        _request: Request<PoolDestroyReq>,
    ) -> Result<Response<PoolDestroyResp>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn pool_query(
        &self,
        _request: Request<PoolQueryReq>,
    ) -> Result<Response<PoolQueryResp>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn list_pools(
        &self,
        _request: Request<ListPoolsReq>,
    ) -> Result<Response<ListPoolsResp>, Status> {
        Err(Status::unimplemented("not needed"))
    }
}

impl Control {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let access_point = listener.local_addr().unwrap().to_string();
        let uri = Arc::new(Mutex::new(None));
        let service = MgmtSvcServer::new(Service(uri.clone()));
        let task = tokio::spawn(async move {
            let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
        Self {
            access_point,
            uri,
            task,
        }
    }

    /// Which engine to tell of.
    pub fn set(&self, uri: Option<&EngineUri>) {
        *self.uri.lock().unwrap() = uri.map(ToString::to_string);
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
    }
}
