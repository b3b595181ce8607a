//! Pools of the system: a pool spans engines, each of which keeps its own part.
//!
//! The engines' catalogues are the truth; the server remembers nothing. A change goes to one engine
//! after the other: what fails on one is undone on those before it, and what a dead server leaves
//! half made is seen in `pool list` and can be destroyed.

mod create;
mod engine;
mod properties;
mod query;

use crate::state::State;
use daos_proto::ctl::ResponseStatus;
use daos_proto::fault::{daos_status, pool_not_found};
use daos_proto::host::{EnginePool, EngineSpace, EngineState, Fault};
use daos_proto::mgmt::{
    ListPoolsResp, PoolCreateReq, PoolCreateResp, PoolDestroyReq, PoolDestroyResp, PoolGetPropReq,
    PoolGetPropResp, PoolQueryReq, PoolQueryResp, PoolSetPropReq, PoolSetPropResp,
    list_pools_resp::Pool,
};
pub(crate) use engine::Member;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Mutex;
use tonic::Status;
use tracing::info;
use uuid::Uuid;

/// Fault numbers of the control plane.
mod code {
    pub(super) const SCM_TOO_SMALL: i32 = 604;
    pub(super) const NVME_TOO_SMALL: i32 = 605;
    pub(super) const BAD_RANKS: i32 = 606;
    pub(super) const BAD_RANK_COUNT: i32 = 607;
    pub(super) const DUPLICATE_LABEL: i32 = 609;
    pub(super) const NOT_STARTED: i32 = 611;
    pub(super) const NO_LABEL: i32 = 615;
    pub(super) const HAS_CONTAINERS: i32 = 618;
}

/// Status number of what does not exist.
const NONEXIST: i32 = -1005;

fn fault(code: i32, what: &str, cause: &str, remedy: &str) -> Status {
    Fault::new(
        ResponseStatus::CtlErrApp,
        "server",
        code,
        what,
        cause,
        remedy,
    )
    .to_status()
}

/// A pool with its parts on engines.
struct Located {
    id: Uuid,
    label: String,
    parts: Vec<(Member, EnginePool)>,
}

impl Located {
    fn ranks(&self) -> Vec<u32> {
        self.parts.iter().map(|(member, _)| member.rank).collect()
    }

    /// Whether a part has this label: a server that dies while it changes one leaves parts with the old and the new.
    fn is_called(&self, label: &str) -> bool {
        self.parts.iter().any(|(_, part)| part.label == label)
    }

    fn is_destroying(&self) -> bool {
        self.parts.iter().any(|(_, part)| part.destroying)
    }
}

/// Pools of the system.
pub(crate) struct Pools {
    state: Arc<State>,
    /// Changes come one after the other.
    changing: Mutex<()>,
}

impl Pools {
    pub(crate) fn new(state: Arc<State>) -> Self {
        Self {
            state,
            changing: Mutex::new(()),
        }
    }

    /// Makes a pool.
    pub(crate) async fn create(&self, request: PoolCreateReq) -> Result<PoolCreateResp, Status> {
        let _one = self.changing.lock().await;
        create::create(self, request).await
    }

    /// Destroys a pool; answers when its space is free.
    pub(crate) async fn destroy(&self, request: PoolDestroyReq) -> Result<PoolDestroyResp, Status> {
        let _one = self.changing.lock().await;
        let pool = self.find(&request.id, &self.all_members()?).await?;
        let containers: u32 = pool.parts.iter().map(|(_, part)| part.containers).sum();
        if containers > 0 && !request.recursive && !pool.is_destroying() {
            return Err(fault(
                code::HAS_CONTAINERS,
                &format!("pool {} has containers", pool.label),
                &format!("{containers} of them"),
                "destroy them first, or destroy the pool with --recursive",
            ));
        }
        let request = PoolDestroyReq {
            id: pool.id.to_string(),
            svc_ranks: pool.ranks(),
            ..request
        };
        for (member, _) in &pool.parts {
            match member.destroy(&request).await? {
                0 | NONEXIST => {}
                status => {
                    let text = format!(
                        "pool {} could not be destroyed on rank {}; see the engine's log, then try again",
                        pool.label, member.rank
                    );
                    return Err(daos_status(status, &text));
                }
            }
        }
        info!(pool = %pool.id, label = pool.label, "pool destroyed");
        Ok(PoolDestroyResp { status: 0 })
    }

    /// How full a pool is.
    pub(crate) async fn query(&self, request: PoolQueryReq) -> Result<PoolQueryResp, Status> {
        let pool = self.find(&request.id, &self.ready_members()?).await?;
        query::query(&pool, request).await
    }

    /// Properties of a pool.
    pub(crate) async fn get_properties(
        &self,
        request: PoolGetPropReq,
    ) -> Result<PoolGetPropResp, Status> {
        let pool = self.find(&request.id, &self.ready_members()?).await?;
        properties::get(&pool, request).await
    }

    /// Changes properties of a pool, on all of its engines.
    pub(crate) async fn set_properties(
        &self,
        request: PoolSetPropReq,
    ) -> Result<PoolSetPropResp, Status> {
        let _one = self.changing.lock().await;
        properties::set(self, request).await
    }

    /// All pools.
    pub(crate) async fn list(&self) -> Result<ListPoolsResp, Status> {
        let pools = locate(&self.ready_members()?).await?;
        let pools = pools.into_values().map(|pool| Pool {
            uuid: pool.id.to_string(),
            svc_reps: pool.ranks(),
            state: match pool.is_destroying() {
                true => "Destroying".to_owned(),
                false => "Ready".to_owned(),
            },
            rebuild_state: "idle".to_owned(),
            label: pool.label,
        });
        Ok(ListPoolsResp {
            status: 0,
            pools: pools.collect(),
            data_version: 1,
        })
    }

    /// What each engine that serves has for pools.
    pub(crate) async fn space(&self) -> Result<Vec<EngineSpace>, Status> {
        let mut all = Vec::new();
        for member in self.ready_members()? {
            all.push(EngineSpace {
                engine: member.index,
                rank: member.rank,
                ..member.pools().await?.space.unwrap_or_default()
            });
        }
        Ok(all)
    }

    async fn find(&self, id: &str, members: &[Member]) -> Result<Located, Status> {
        let uuid = Uuid::try_parse(id).ok();
        let mut pools = locate(members).await?;
        if let Some(uuid) = uuid {
            return pools
                .remove(&uuid)
                .ok_or_else(|| pool_not_found(&uuid.to_string(), true));
        }
        let mut found: Vec<Located> = pools.into_values().filter(|p| p.is_called(id)).collect();
        // A label may be another's already while its former pool is still being destroyed.
        found.sort_by_key(Located::is_destroying);
        match found.into_iter().next() {
            Some(pool) => Ok(pool),
            None => Err(pool_not_found(id, false)),
        }
    }

    /// The engines that serve, at least one.
    fn ready_members(&self) -> Result<Vec<Member>, Status> {
        let members = self.members(|_| true);
        match members.is_empty() {
            true => self.all_members(),
            false => Ok(members),
        }
    }

    /// All engines, which must serve.
    fn all_members(&self) -> Result<Vec<Member>, Status> {
        self.members_but(|_| false)
    }

    /// The engines of new pools: all but those that an administrator has excluded.
    fn available_members(&self) -> Result<Vec<Member>, Status> {
        let membership = self.state.membership.here();
        self.members_but(|uuid| {
            membership.is_some_and(|m| Uuid::try_parse(uuid).is_ok_and(|id| m.is_excluded(id)))
        })
    }

    /// All engines, which must serve, but those that are left out by their UUID.
    fn members_but(&self, left_out: impl Fn(&str) -> bool) -> Result<Vec<Member>, Status> {
        let engines = self.state.engines();
        let idle = |(_, e): &(usize, &crate::state::EngineStatus)| {
            e.state != EngineState::Ready && !left_out(&e.uuid)
        };
        if let Some((index, engine)) = engines.iter().enumerate().find(idle) {
            let next = match engine.state {
                EngineState::AwaitFormat => self.state.shell_command("storage format"),
                EngineState::Stopped | EngineState::Errored => {
                    self.state.shell_command("system start")
                }
                _ => self.state.shell_command("system query"),
            };
            return Err(fault(
                code::NOT_STARTED,
                &format!("engine {index} does not serve"),
                &engine.reason,
                &next,
            ));
        }
        Ok(self.members(|_| true))
    }

    pub(crate) fn members(&self, wanted: impl Fn(u32) -> bool) -> Vec<Member> {
        let engines = self.state.engines().into_iter().enumerate();
        engines
            .filter(|(_, engine)| engine.state == EngineState::Ready)
            .map(|(index, engine)| Member {
                index: index as u32,
                rank: engine.rank.unwrap_or(index as u32),
                socket: engine.drpc_socket.into(),
            })
            .filter(|member| wanted(member.rank))
            .collect()
    }
}

/// Pools of these engines.
async fn locate(members: &[Member]) -> Result<BTreeMap<Uuid, Located>, Status> {
    let mut all: BTreeMap<Uuid, Located> = BTreeMap::new();
    for member in members {
        for part in member.pools().await?.pools {
            let Ok(id) = Uuid::try_parse(&part.uuid) else {
                continue; // an engine of another kind; there is nothing to say about it
            };
            let label = part.label.clone();
            all.entry(id)
                .or_insert_with(|| Located {
                    id,
                    label,
                    parts: Vec::new(),
                })
                .parts
                .push((member.clone(), part));
        }
    }
    Ok(all)
}
