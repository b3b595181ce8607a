//! `mgmt.MgmtSvc`: how clients reach the engines, who belongs to the system.

use crate::pools::Pools;
use crate::state::State;
use daos_proto::host::EngineState;
use daos_proto::mgmt::mgmt_svc_server::MgmtSvc;
use daos_proto::mgmt::{
    BuildInfo, ClientNetHint, GetAttachInfoReq, GetAttachInfoResp, ListPoolsReq, ListPoolsResp,
    PoolCreateReq, PoolCreateResp, PoolDestroyReq, PoolDestroyResp, PoolQueryReq, PoolQueryResp,
    SystemMember, SystemQueryReq, SystemQueryResp, get_attach_info_resp::RankUri,
};
use daos_proto::{NO_RANK, ctl::ResponseStatus, host::Fault};
use std::sync::Arc;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tonic::{Request, Response, Status};

/// Fault number of a request for another system.
const WRONG_SYSTEM: i32 = 603;
/// Fault number of a server that is not ready yet.
const NOT_READY: i32 = 601;

/// The management service of a system of one host.
pub(crate) struct MgmtService {
    state: Arc<State>,
    pools: Arc<Pools>,
}

impl MgmtService {
    pub(crate) fn new(state: Arc<State>, pools: Arc<Pools>) -> Self {
        Self { state, pools }
    }
}

/// Refuses calls for another system. `sys` may carry the caller's version after a dash.
pub(super) fn check_system(own: &str, sys: &str) -> Result<(), Box<Fault>> {
    let bare = match sys.rsplit_once('-') {
        Some((name, version)) if is_version(version) => name,
        _ => sys,
    };
    if bare.is_empty() || bare == own {
        return Ok(());
    }
    Err(Box::new(Fault::new(
        ResponseStatus::CtlErrConf,
        "server",
        WRONG_SYSTEM,
        format!("request for system {bare:?}"),
        format!("this server belongs to system {own:?}"),
        "ask for that system, or talk to another server",
    )))
}

fn is_version(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    parts.len() == 3 && parts.iter().all(|p| p.parse::<u32>().is_ok())
}

fn build_info() -> BuildInfo {
    let number = |text: &str| text.parse().unwrap_or(0);
    BuildInfo {
        major: number(env!("CARGO_PKG_VERSION_MAJOR")),
        minor: number(env!("CARGO_PKG_VERSION_MINOR")),
        patch: number(env!("CARGO_PKG_VERSION_PATCH")),
        tag: String::new(),
    }
}

#[tonic::async_trait]
impl MgmtSvc for MgmtService {
    async fn get_attach_info(
        &self,
        request: Request<GetAttachInfoReq>,
    ) -> Result<Response<GetAttachInfoResp>, Status> {
        check_system(&self.state.config.name, &request.get_ref().sys).map_err(|f| f.to_status())?;
        let engines = self.state.engines();
        // With those that do not serve now: a client must not take another rank for the one it knows.
        let ms_ranks = engines.iter().filter_map(|e| e.rank).collect();
        let rank_uris: Vec<RankUri> = engines
            .into_iter()
            .filter(|e| e.state == EngineState::Ready)
            .map(|e| RankUri {
                rank: e.rank.unwrap_or(NO_RANK),
                uri: e.uri,
                provider_idx: 0,
                num_ctxs: e.targets,
            })
            .collect();
        if rank_uris.is_empty() {
            let (_, reason, hint) = self.state.phase();
            // One tells clients to ask again, the other that an administrator is needed first.
            let comes = |e: &crate::state::EngineStatus| {
                matches!(e.state, EngineState::Starting | EngineState::Restarting)
            };
            let status = match self.state.engines().iter().any(comes) {
                true => ResponseStatus::CtlInProgress,
                false => ResponseStatus::CtlWaiting,
            };
            let fault = Fault::new(
                status,
                "server",
                NOT_READY,
                "no engine serves",
                reason,
                hint,
            );
            return Err(fault.to_status());
        }
        let provider = rank_uris.iter().find_map(|r| provider_of(&r.uri));
        Ok(Response::new(GetAttachInfoResp {
            ms_ranks,
            rank_uris,
            client_net_hint: Some(ClientNetHint {
                provider: provider.unwrap_or_default(),
                srv_srx_set: -1,
                ..ClientNetHint::default()
            }),
            data_version: 1,
            sys: self.state.config.name.clone(),
            build_info: Some(build_info()),
            ..GetAttachInfoResp::default()
        }))
    }

    async fn system_query(
        &self,
        request: Request<SystemQueryReq>,
    ) -> Result<Response<SystemQueryResp>, Status> {
        let request = request.into_inner();
        check_system(&self.state.config.name, &request.sys).map_err(|f| f.to_status())?;
        if !request.ranks.is_empty() || !request.hosts.is_empty() {
            return Err(Status::unimplemented(
                "this server lists all members; ask without ranks and hosts",
            ));
        }
        let engines = self.state.engines();
        let serving = engines.clone().into_iter();
        let providers = serving.filter_map(|engine| provider_of(&engine.uri));
        let members = engines
            .into_iter()
            .enumerate()
            .map(|(index, e)| SystemMember {
                addr: self.state.control_addr.clone(),
                uuid: e.uuid,
                rank: e.rank.unwrap_or(index as u32),
                state: member_state(e.state).to_owned(),
                fabric_uri: e.uri,
                fabric_contexts: e.targets,
                info: e.reason,
                fault_domain: self.state.fault_domain.clone(),
                last_update: rfc3339(e.since_ms),
                ..SystemMember::default()
            });
        Ok(Response::new(SystemQueryResp {
            members: members.collect(),
            data_version: 1,
            providers: providers.take(1).collect(),
            ..SystemQueryResp::default()
        }))
    }

    async fn pool_create(
        &self,
        request: Request<PoolCreateReq>,
    ) -> Result<Response<PoolCreateResp>, Status> {
        let request = request.into_inner();
        check_system(&self.state.config.name, &request.sys).map_err(|f| f.to_status())?;
        let pools = Arc::clone(&self.pools);
        to_its_end(async move { pools.create(request).await }).await
    }

    async fn pool_destroy(
        &self,
        request: Request<PoolDestroyReq>,
    ) -> Result<Response<PoolDestroyResp>, Status> {
        let request = request.into_inner();
        check_system(&self.state.config.name, &request.sys).map_err(|f| f.to_status())?;
        let pools = Arc::clone(&self.pools);
        to_its_end(async move { pools.destroy(request).await }).await
    }

    async fn pool_query(
        &self,
        request: Request<PoolQueryReq>,
    ) -> Result<Response<PoolQueryResp>, Status> {
        let request = request.into_inner();
        check_system(&self.state.config.name, &request.sys).map_err(|f| f.to_status())?;
        self.pools.query(request).await.map(Response::new)
    }

    async fn list_pools(
        &self,
        request: Request<ListPoolsReq>,
    ) -> Result<Response<ListPoolsResp>, Status> {
        check_system(&self.state.config.name, &request.get_ref().sys).map_err(|f| f.to_status())?;
        self.pools.list().await.map(Response::new)
    }
}

/// Carries a change on to its end, also when the client goes away meanwhile.
async fn to_its_end<T: Send + 'static>(
    change: impl Future<Output = Result<T, Status>> + Send + 'static,
) -> Result<Response<T>, Status> {
    match tokio::spawn(change).await {
        Ok(result) => result.map(Response::new),
        Err(error) => Err(Status::internal(format!("a defect of the server: {error}"))),
    }
}

/// Provider of an engine that serves, which its address starts with.
fn provider_of(uri: &str) -> Option<String> {
    let (provider, _) = uri.split_once("://")?;
    Some(provider.to_owned())
}

fn member_state(state: EngineState) -> &'static str {
    match state {
        EngineState::Ready => "joined",
        EngineState::Starting | EngineState::Restarting => "starting",
        EngineState::AwaitFormat | EngineState::Formatting => "awaitformat",
        EngineState::Stopping => "stopping",
        EngineState::Stopped => "stopped",
        EngineState::StorageMismatch | EngineState::Errored => "errored",
        EngineState::Unspecified => "unknown",
    }
}

/// Milliseconds since the Unix epoch as RFC 3339 text in UTC.
fn rfc3339(ms: u64) -> String {
    let nanos = i128::from(ms) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_123, "2000-02-29T00:00:00.123Z"),
            (1_709_251_199_000, "2024-02-29T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(ms), text);
        }
    }

    #[test]
    fn versions_are_cut_off_system_names() {
        assert!(is_version("2.8.0"));
        assert!(!is_version("server"));
        assert!(!is_version("2.8"));
    }
}
