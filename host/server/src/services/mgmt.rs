//! `mgmt.MgmtSvc`: how clients reach the engines, who belongs to the system.

use super::select::{is_in, select};
use super::system::{System, Wanted};
use crate::membership::Standing;
use crate::pools::Pools;
use crate::state::{EngineStatus, State};
use crate::transport::{Peer, of_system};
use daos_proto::host::EngineState;
use daos_proto::mgmt::mgmt_svc_server::MgmtSvc;
use daos_proto::mgmt::{
    BuildInfo, ClientNetHint, GetAttachInfoReq, GetAttachInfoResp, JoinReq, JoinResp,
    LeaderQueryReq, LeaderQueryResp, ListPoolsReq, ListPoolsResp, PoolCreateReq, PoolCreateResp,
    PoolDestroyReq, PoolDestroyResp, PoolGetPropReq, PoolGetPropResp, PoolQueryReq, PoolQueryResp,
    PoolSetPropReq, PoolSetPropResp, SystemEraseReq, SystemEraseResp, SystemExcludeReq,
    SystemExcludeResp, SystemMember, SystemQueryReq, SystemQueryResp, SystemStartReq,
    SystemStartResp, SystemStopReq, SystemStopResp, get_attach_info_resp::RankUri,
};
use daos_proto::shared::{ClusterEventReq, ClusterEventResp};
use daos_proto::{ctl::ResponseStatus, host::Fault};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// Fault number of a request for another system.
pub(crate) const WRONG_SYSTEM: i32 = 603;
/// Fault number of a server that is not ready yet.
const NOT_READY: i32 = 601;

/// The management service of a system of one host.
pub(crate) struct MgmtService {
    state: Arc<State>,
    pools: Arc<Pools>,
    system: Arc<System>,
}

impl MgmtService {
    pub(crate) fn new(state: Arc<State>, pools: Arc<Pools>, system: Arc<System>) -> Self {
        Self {
            state,
            pools,
            system,
        }
    }

    /// Version of what this service tells of the system.
    fn version(&self) -> u64 {
        let membership = self.state.membership.here();
        membership.map_or(0, |membership| membership.version())
    }

    /// The answer to who looks for an engine of a system in which none serves.
    fn nobody_serves(&self) -> Status {
        let (_, reason, hint) = self.state.phase();
        // One tells clients to ask again, the other that an administrator is needed first.
        let comes =
            |e: &EngineStatus| matches!(e.state, EngineState::Starting | EngineState::Restarting);
        let status = match self.state.engines().iter().any(comes) {
            true => ResponseStatus::CtlInProgress,
            false => ResponseStatus::CtlWaiting,
        };
        // The first words are those that agents of the DAOS 2.8 control plane wait for.
        let what = "empty group map (all ranks excluded?), no engine serves";
        Fault::new(status, "server", NOT_READY, what, reason, hint).to_status()
    }

    /// Refuses calls for another system, and of callers of which not even the version is known.
    fn admit<T>(&self, request: &Request<T>, sys: &str) -> Result<(), Status> {
        let own = &self.state.config;
        if own.transport_config.allow_insecure {
            of_system(request.metadata().as_ref(), sys).map_err(|fault| fault.to_status())?;
        }
        check_system(&own.name, sys).map_err(|fault| fault.to_status())
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
        self.admit(&request, &request.get_ref().sys)?;
        let members = self.system.members()?;
        let serves =
            |m: &&SystemMember| m.state == Standing::Joined.name() && !m.fabric_uri.is_empty();
        let here = &self.state.control_addr;
        let is_of_service = |m: &&SystemMember| m.addr == *here;
        // With those that do not serve now: a client must not take another rank for the one it knows.
        let in_system = |m: &&SystemMember| m.state != Standing::AdminExcluded.name();
        let ms_ranks = members.iter().filter(is_of_service).filter(in_system);
        let ms_ranks = ms_ranks.map(|m| m.rank).collect();
        let all = request.get_ref().all_ranks;
        let rank_uris: Vec<RankUri> = members
            .iter()
            .filter(serves)
            .filter(|m| all || is_of_service(m))
            .map(|m| RankUri {
                rank: m.rank,
                uri: m.fabric_uri.clone(),
                provider_idx: 0,
                num_ctxs: m.fabric_contexts,
            })
            .collect();
        if rank_uris.is_empty() {
            return Err(self.nobody_serves());
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
            data_version: self.version(),
            sys: self.state.config.name.clone(),
            build_info: Some(build_info()),
            ..GetAttachInfoResp::default()
        }))
    }

    async fn system_query(
        &self,
        request: Request<SystemQueryReq>,
    ) -> Result<Response<SystemQueryResp>, Status> {
        self.admit(&request, &request.get_ref().sys)?;
        let request = request.into_inner();
        let members = self.system.members()?;
        let chosen = select(&members, &request.ranks, &request.hosts)?;
        let providers = members.iter().filter_map(|m| provider_of(&m.fabric_uri));
        Ok(Response::new(SystemQueryResp {
            providers: providers.take(1).collect(),
            members: members
                .into_iter()
                .filter(|m| chosen.ranks.contains(&m.rank) && is_in(request.state_mask, &m.state))
                .collect(),
            absentranks: chosen.absent_ranks,
            absenthosts: chosen.absent_hosts,
            data_version: self.version(),
            sys_self_heal_policy: "none".to_owned(),
        }))
    }

    async fn leader_query(
        &self,
        request: Request<LeaderQueryReq>,
    ) -> Result<Response<LeaderQueryResp>, Status> {
        self.admit(&request, &request.get_ref().sys)?;
        let formatted = !self.system.membership()?.all().is_empty();
        let here = self.state.control_addr.clone();
        Ok(Response::new(LeaderQueryResp {
            current_leader: if formatted {
                here.clone()
            } else {
                String::new()
            },
            replicas: vec![here],
            ..LeaderQueryResp::default()
        }))
    }

    async fn system_stop(
        &self,
        request: Request<SystemStopReq>,
    ) -> Result<Response<SystemStopResp>, Status> {
        self.admit(&request, &request.get_ref().sys)?;
        let (system, request) = (Arc::clone(&self.system), request.into_inner());
        to_its_end(async move {
            let wanted = Wanted {
                ranks: request.ranks,
                hosts: request.hosts,
                ignore_excluded: request.ignore_admin_excluded,
            };
            let done = system.stop(&wanted, request.force).await?;
            Ok(SystemStopResp {
                results: done.results,
                absentranks: done.absent_ranks,
                absenthosts: done.absent_hosts,
            })
        })
        .await
    }

    async fn system_start(
        &self,
        request: Request<SystemStartReq>,
    ) -> Result<Response<SystemStartResp>, Status> {
        self.admit(&request, &request.get_ref().sys)?;
        let (system, request) = (Arc::clone(&self.system), request.into_inner());
        if request.check_mode {
            return Err(Status::unknown(
                "this server's engines have no checker mode",
            ));
        }
        to_its_end(async move {
            let wanted = Wanted {
                ranks: request.ranks,
                hosts: request.hosts,
                ignore_excluded: request.ignore_admin_excluded,
            };
            let done = system.start(&wanted).await?;
            Ok(SystemStartResp {
                results: done.results,
                absentranks: done.absent_ranks,
                absenthosts: done.absent_hosts,
            })
        })
        .await
    }

    async fn system_exclude(
        &self,
        request: Request<SystemExcludeReq>,
    ) -> Result<Response<SystemExcludeResp>, Status> {
        self.admit(&request, &request.get_ref().sys)?;
        let (system, request) = (Arc::clone(&self.system), request.into_inner());
        to_its_end(async move {
            let done = system.exclude(&request.ranks, &request.hosts, request.clear);
            Ok(SystemExcludeResp {
                results: done.await?,
            })
        })
        .await
    }

    async fn system_erase(
        &self,
        request: Request<SystemEraseReq>,
    ) -> Result<Response<SystemEraseResp>, Status> {
        self.admit(&request, &request.get_ref().sys)?;
        let system = Arc::clone(&self.system);
        to_its_end(async move {
            let results = system.erase().await?;
            Ok(SystemEraseResp { results })
        })
        .await
    }

    async fn join(&self, request: Request<JoinReq>) -> Result<Response<JoinResp>, Status> {
        self.admit(&request, &request.get_ref().sys)?;
        let peer = request.extensions().get::<Peer>().and_then(|p| p.address);
        let joined = self.system.join(request.get_ref(), peer)?;
        Ok(Response::new(joined))
    }

    async fn cluster_event(
        &self,
        request: Request<ClusterEventReq>,
    ) -> Result<Response<ClusterEventResp>, Status> {
        self.system.event(request.get_ref())?;
        Ok(Response::new(ClusterEventResp {
            sequence: request.get_ref().sequence,
            status: 0,
        }))
    }

    async fn pool_get_prop(
        &self,
        request: Request<PoolGetPropReq>,
    ) -> Result<Response<PoolGetPropResp>, Status> {
        self.admit(&request, &request.get_ref().sys)?;
        self.system.exists()?;
        let request = request.into_inner();
        self.pools.get_properties(request).await.map(Response::new)
    }

    async fn pool_set_prop(
        &self,
        request: Request<PoolSetPropReq>,
    ) -> Result<Response<PoolSetPropResp>, Status> {
        self.admit(&request, &request.get_ref().sys)?;
        self.system.exists()?;
        let request = request.into_inner();
        let pools = Arc::clone(&self.pools);
        to_its_end(async move { pools.set_properties(request).await }).await
    }

    async fn pool_create(
        &self,
        request: Request<PoolCreateReq>,
    ) -> Result<Response<PoolCreateResp>, Status> {
        self.admit(&request, &request.get_ref().sys)?;
        self.system.exists()?;
        let request = request.into_inner();
        let pools = Arc::clone(&self.pools);
        to_its_end(async move { pools.create(request).await }).await
    }

    async fn pool_destroy(
        &self,
        request: Request<PoolDestroyReq>,
    ) -> Result<Response<PoolDestroyResp>, Status> {
        self.admit(&request, &request.get_ref().sys)?;
        self.system.exists()?;
        let request = request.into_inner();
        let pools = Arc::clone(&self.pools);
        to_its_end(async move { pools.destroy(request).await }).await
    }

    async fn pool_query(
        &self,
        request: Request<PoolQueryReq>,
    ) -> Result<Response<PoolQueryResp>, Status> {
        self.admit(&request, &request.get_ref().sys)?;
        self.system.exists()?;
        let request = request.into_inner();
        self.pools.query(request).await.map(Response::new)
    }

    async fn list_pools(
        &self,
        request: Request<ListPoolsReq>,
    ) -> Result<Response<ListPoolsResp>, Status> {
        self.admit(&request, &request.get_ref().sys)?;
        self.system.exists()?;
        self.pools.list().await.map(Response::new)
    }
}

/// Carries a change on to its end, also when the client goes away meanwhile.
pub(super) async fn to_its_end<T: Send + 'static>(
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_cut_off_system_names() {
        assert!(is_version("2.8.0"));
        assert!(!is_version("server"));
        assert!(!is_version("2.8"));
    }
}
