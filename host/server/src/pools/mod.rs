//! Pools of the system: a pool spans engines, each of which keeps its own part.
//!
//! The engines' catalogues are the truth; the server remembers nothing. The server that keeps the
//! membership reaches the engines of the others through their servers. All engines are asked side by
//! side, by [`AT_ONCE`]; a label alone changes on one after the other, and a pool that shall be empty is
//! destroyed on its first engine first. What fails on one while a pool is made or changed is undone on
//! the others; what a dead server or a refusal leaves half made or half destroyed is seen in `pool list`
//! and can be destroyed. Ranks that an administrator has excluded are passed over: what they hold is seen again when they are let in again.

mod create;
mod engine;
mod properties;
mod query;

use crate::membership::{self, Standing};
use crate::state::State;
use daos_proto::ctl::ResponseStatus;
use daos_proto::fault::{daos_status, pool_not_found};
use daos_proto::host::{
    CallEngineRequest, EnginePool, EnginePools, EngineSpace, EngineState, Fault,
};
use daos_proto::mgmt::{
    ListPoolsResp, PoolCreateReq, PoolCreateResp, PoolDestroyReq, PoolDestroyResp, PoolGetPropReq,
    PoolGetPropResp, PoolQueryReq, PoolQueryResp, PoolSetPropReq, PoolSetPropResp,
    list_pools_resp::Pool,
};
pub(crate) use engine::Member;
use engine::{Way, on_socket, patience};
use futures_util::stream::{self, StreamExt};
use std::collections::BTreeMap;
use std::path::Path;
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

/// Engines that are asked at the same time.
const AT_ONCE: usize = 32;

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

    fn members(&self) -> Vec<Member> {
        self.parts
            .iter()
            .map(|(member, _)| member.clone())
            .collect()
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
        let destroy = |member: Member| {
            let request = request.clone();
            async move { member.destroy(&request).await }
        };
        // A container may have come since they were counted, which only its engine knows. That is the first, unless its client
        // asked for another: as long as that one refuses, nothing is lost on the others either.
        let alone = usize::from(!request.recursive);
        let mut members = pool.members();
        let others = members.split_off(alone.min(members.len()));
        for members in [members, others] {
            for (member, outcome) in side_by_side(members, destroy).await {
                match outcome? {
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
        let members = self.ready_members()?;
        for (member, answer) in asked(&members).await {
            all.push(EngineSpace {
                engine: member.index,
                rank: member.rank,
                ..answer?.space.unwrap_or_default()
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

    /// The engines of the system that serve, at least one.
    fn ready_members(&self) -> Result<Vec<Member>, Status> {
        let members = self.members(|_| true);
        match members.is_empty() {
            true => self.all_members(),
            false => Ok(members),
        }
    }

    /// All engines of the system, which must serve, but those that an administrator has excluded.
    fn all_members(&self) -> Result<Vec<Member>, Status> {
        let membership = self.state.membership.here();
        let is_out = |uuid: &str| {
            membership.is_some_and(|m| Uuid::try_parse(uuid).is_ok_and(|id| m.is_excluded(id)))
        };
        let engines = self.state.engines();
        let idle = |(_, e): &(usize, &crate::state::EngineStatus)| {
            e.state != EngineState::Ready && !is_out(&e.uuid)
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
        let serves = [Standing::Joined, Standing::AdminExcluded];
        let elsewhere = self.elsewhere();
        if let Some(member) = elsewhere.iter().find(|m| !serves.contains(&m.standing)) {
            return Err(fault(
                code::NOT_STARTED,
                &format!("rank {} at {} does not serve", member.rank, member.address),
                &format!("it is {}: {}", member.standing.name(), member.info),
                &format!(
                    "start it: {}; or go on without it: {}",
                    self.state.shell_command("system start"),
                    self.state
                        .shell_command(&format!("system exclude --ranks {}", member.rank))
                ),
            ));
        }
        let members = self.members(|_| true);
        if members.is_empty() {
            return Err(fault(
                code::NOT_STARTED,
                "pools need an engine",
                "an administrator has excluded all of them",
                "`daos_shell system query --members` shows the ranks",
            ));
        }
        Ok(members)
    }

    /// The engines of this server that serve.
    pub(crate) fn local_members(&self, wanted: impl Fn(u32) -> bool) -> Vec<Member> {
        let engines = self.state.engines().into_iter().enumerate();
        engines
            .filter(|(_, engine)| engine.state == EngineState::Ready)
            .map(|(index, engine)| Member {
                index: index as u32,
                rank: engine.rank.unwrap_or(index as u32),
                way: Way::Socket(engine.drpc_socket.into()),
            })
            .filter(|member| wanted(member.rank))
            .collect()
    }

    /// The engines of the system that serve, by rank; of this server, if another one keeps the membership.
    fn members(&self, wanted: impl Fn(u32) -> bool) -> Vec<Member> {
        let mut members = self.local_members(&wanted);
        let serving = self.elsewhere().into_iter();
        members.extend(
            serving
                .filter(|m| m.standing == Standing::Joined && wanted(m.rank))
                .map(|member| Member {
                    index: member.index,
                    rank: member.rank,
                    way: Way::Server {
                        address: member.address,
                        uuid: member.uuid,
                        peers: self.state.peers.clone(),
                    },
                }),
        );
        members.sort_by_key(|member| member.rank);
        members
    }

    /// Members of the system that are on other servers.
    fn elsewhere(&self) -> Vec<membership::Member> {
        let Some(membership) = self.state.membership.here() else {
            return Vec::new();
        };
        let own: Vec<String> = self.state.engines().into_iter().map(|e| e.uuid).collect();
        let mut members = membership.all();
        members.retain(|member| {
            member.address != self.state.control_addr && !own.contains(&member.uuid.to_string())
        });
        members
    }

    /// Hands a call of the server that keeps the membership on to an engine of this one; gives what it answers.
    pub(crate) async fn hand_on(&self, request: CallEngineRequest) -> Result<Vec<u8>, Status> {
        let CallEngineRequest {
            uuid,
            module,
            method,
            body,
        } = request;
        let Some(within) = patience(module, method) else {
            return Err(Status::invalid_argument(format!(
                "method {method} of module {module} is not one about pools"
            )));
        };
        let engines = self.state.engines();
        let known = engines
            .iter()
            .enumerate()
            .find(|(_, engine)| !uuid.is_empty() && engine.uuid == uuid);
        let Some((index, engine)) = known else {
            return Err(fault(
                code::NOT_STARTED,
                &format!("no engine here is {uuid}"),
                "its storage was formatted since, or the configuration is another one",
                "ask `daos_shell system query --members`",
            ));
        };
        if engine.state != EngineState::Ready {
            return Err(fault(
                code::NOT_STARTED,
                &format!("engine {index} does not serve"),
                &engine.reason,
                &self.state.shell_command("system start"),
            ));
        }
        let socket = Path::new(&engine.drpc_socket);
        on_socket(index as u32, socket, module, method, body, within).await
    }
}

/// Pools of these engines.
async fn locate(members: &[Member]) -> Result<BTreeMap<Uuid, Located>, Status> {
    located(asked(members).await)
}

/// Pools by what each engine says.
fn located(
    told: Vec<(Member, Result<EnginePools, Status>)>,
) -> Result<BTreeMap<Uuid, Located>, Status> {
    let mut all: BTreeMap<Uuid, Located> = BTreeMap::new();
    for (member, answer) in told {
        for part in answer?.pools {
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

/// What each engine says about pools.
async fn asked(members: &[Member]) -> Vec<(Member, Result<EnginePools, Status>)> {
    let members = members.to_vec();
    side_by_side(members, |member| async move { member.pools().await }).await
}

/// Asks engines, [`AT_ONCE`] of them at a time; answers in their order.
async fn side_by_side<T, F: Future<Output = T>>(
    members: Vec<Member>,
    ask: impl Fn(Member) -> F,
) -> Vec<(Member, T)> {
    let asking: Vec<F> = members.iter().cloned().map(ask).collect();
    let answers = stream::iter(asking).buffered(AT_ONCE);
    let answers: Vec<T> = answers.collect().await;
    members.into_iter().zip(answers).collect()
}

#[cfg(test)]
mod tests;
