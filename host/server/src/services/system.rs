//! The members of a system, and what its management service does with them.

mod member;

use super::host::Inner;
use super::local::{Action, Local, not_stopped, result};
use super::select::select;
use crate::membership::{Membership, Newcomer, Peers, Place, Standing};
use daos_proto::ctl::ctl_svc_client::CtlSvcClient;
use daos_proto::ctl::{RanksReq, ResponseStatus};
use daos_proto::fault::not_replica;
use daos_proto::host::Fault;
use daos_proto::mgmt::{JoinReq, SystemMember};
use daos_proto::shared::ras_event::Value;
use daos_proto::shared::{ClusterEventReq, RankResult};
use daos_proto::{NO_RANK, mgmt};
use futures_util::future::join_all;
use member::{Without, control_address, described};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;
use tracing::{info, warn};
use uuid::Uuid;

/// How long another server may take: its engines are waited for.
const HOST_WITHIN: Duration = Duration::from_secs(120);
/// Event of an engine that died, or, without an error, was stopped.
const ENGINE_DIED: u32 = 2;
/// Most characters of an event that are logged.
const LOGGED: usize = 400;
/// Fault number of a rank that an administrator has excluded.
const ADMIN_EXCLUDED: i32 = 622;

/// A system as its access point knows it.
pub(crate) struct System {
    host: Arc<Inner>,
    local: Local,
    peers: Peers,
}

/// Members that a change is for.
struct Chosen {
    members: Vec<SystemMember>,
    absent_ranks: String,
    absent_hosts: String,
}

/// What became of ranks.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) results: Vec<RankResult>,
    pub(super) absent_ranks: String,
    pub(super) absent_hosts: String,
}

/// Which ranks a request is for.
pub(super) struct Wanted {
    pub(super) ranks: String,
    pub(super) hosts: String,
    pub(super) ignore_excluded: bool,
}

impl System {
    pub(crate) fn new(host: Arc<Inner>) -> Self {
        Self {
            local: Local(Arc::clone(&host)),
            peers: host.state.peers.clone(),
            host,
        }
    }

    /// The membership.
    ///
    /// # Errors
    /// Another server keeps it.
    pub(super) fn membership(&self) -> Result<&Arc<dyn Membership>, Status> {
        match &self.host.state.membership {
            Place::Here(membership) => Ok(membership),
            Place::Elsewhere(elsewhere) => Err(not_replica(elsewhere.access_points())),
        }
    }

    /// Refuses until there is a system, with the texts that clients look for.
    pub(super) fn exists(&self) -> Result<&Arc<dyn Membership>, Status> {
        let membership = self.membership()?;
        match (membership.all().is_empty(), self.local.is_undecided()) {
            (false, _) => Ok(membership),
            // Their storage is being looked at: what it says is not known yet.
            (true, true) => Err(Status::unknown(
                "raft service unavailable (not started yet?)",
            )),
            (true, false) => Err(Status::unknown(
                "system is uninitialized (storage format required?)",
            )),
        }
    }

    /// All members, by rank: what their servers have told, of this server's own as they are now.
    ///
    /// # Errors
    /// There is no system here.
    pub(super) fn members(&self) -> Result<Vec<SystemMember>, Status> {
        let local = self.local.all();
        let without = Without {
            address: &self.host.state.control_addr,
            undecided: self.local.is_undecided(),
        };
        let members = self.exists()?.all().into_iter();
        Ok(members
            .map(|member| described(member, &local, without))
            .collect())
    }

    /// Takes an engine of another server in.
    pub(super) fn join(
        &self,
        request: &JoinReq,
        peer: Option<SocketAddr>,
    ) -> Result<mgmt::JoinResp, Status> {
        let membership = self.exists()?;
        if request.check_mode {
            return Err(Status::unknown("this system has no checker mode"));
        }
        let uuid = Uuid::try_parse(&request.uuid)
            .map_err(|e| Status::unknown(format!("uuid {:?}: {e}", request.uuid)))?;
        let newcomer = Newcomer {
            uuid,
            address: control_address(&request.addr, peer)?,
            index: request.idx,
            rank: (request.rank != NO_RANK).then_some(request.rank),
            local: false,
            uri: request.uri.clone(),
            contexts: request.nctxs,
            fault_domain: request.srv_fault_domain.clone(),
            incarnation: request.incarnation,
        };
        let member = membership.join(newcomer)?;
        info!(rank = member.rank, uuid = %member.uuid, address = member.address, "an engine joined");
        Ok(mgmt::JoinResp {
            rank: member.rank,
            map_version: u32::try_from(membership.version()).unwrap_or(u32::MAX),
            ..mgmt::JoinResp::default()
        })
    }

    /// Takes note of what has become of an engine of another server.
    pub(super) fn event(&self, request: &ClusterEventReq) -> Result<(), Status> {
        let membership = self.exists()?;
        let event = request
            .event
            .as_ref()
            .ok_or_else(|| Status::unknown("nil event in request"))?;
        warn!(
            id = event.id,
            rank = event.rank,
            host = event.hostname,
            "event: {}",
            event.msg.chars().take(LOGGED).collect::<String>()
        );
        let Some(Value::EngineStateInfo(info)) = &event.value else {
            return Ok(());
        };
        let members = membership.all();
        let known = members.iter().find(|m| m.rank == event.rank);
        // An older life of an engine that has joined again is of no interest.
        if event.id == ENGINE_DIED && known.is_some_and(|m| m.incarnation <= event.incarnation) {
            let (standing, why) = match info.errored {
                true => (Standing::Errored, info.error.as_str()),
                false => (Standing::Stopped, "it was stopped at its server"),
            };
            membership.note(event.rank, standing, why)?;
        }
        Ok(())
    }

    fn chosen(&self, wanted: &Wanted) -> Result<Chosen, Status> {
        let all = self.members()?;
        let selection = select(&all, &wanted.ranks, &wanted.hosts)?;
        let named = !wanted.ranks.trim().is_empty() || !wanted.hosts.trim().is_empty();
        let mut members = all;
        members.retain(|member| selection.ranks.contains(&member.rank));
        let is_out = |member: &SystemMember| member.state == Standing::AdminExcluded.name();
        let out: Vec<String> = members
            .iter()
            .filter(|m| is_out(m))
            .map(|m| m.rank.to_string())
            .collect();
        if named && !wanted.ignore_excluded && !out.is_empty() {
            let ranks = out.join(",");
            let fault = Fault::new(
                ResponseStatus::CtlErrApp,
                "server",
                ADMIN_EXCLUDED,
                format!("rank(s) {ranks} are not in the system"),
                "an administrator has excluded them",
                format!("daos_shell system clear-exclude --ranks {ranks}"),
            );
            return Err(fault.to_status());
        }
        members.retain(|member| !is_out(member));
        Ok(Chosen {
            members,
            absent_ranks: selection.absent_ranks,
            absent_hosts: selection.absent_hosts,
        })
    }

    /// Stops engines; with `force` at once, else those of other servers are prepared first.
    pub(super) async fn stop(&self, wanted: &Wanted, force: bool) -> Result<Outcome, Status> {
        let chosen = self.chosen(wanted)?;
        let mut results = Vec::new();
        if !force {
            results = self
                .everywhere(&chosen.members, Action::Prepare, false)
                .await;
        }
        if !results.iter().any(|result| result.errored) {
            results = self.everywhere(&chosen.members, Action::Stop, force).await;
        }
        Ok(outcome(results, chosen))
    }

    /// Starts engines that do not run.
    pub(super) async fn start(&self, wanted: &Wanted) -> Result<Outcome, Status> {
        let chosen = self.chosen(wanted)?;
        let results = self.everywhere(&chosen.members, Action::Start, false).await;
        Ok(outcome(results, chosen))
    }

    /// Takes ranks out, or lets them in again.
    pub(super) async fn exclude(
        &self,
        ranks: &str,
        hosts: &str,
        clear: bool,
    ) -> Result<Vec<RankResult>, Status> {
        if ranks.trim().is_empty() && hosts.trim().is_empty() {
            return Err(Status::unknown("no ranks or hosts specified"));
        }
        let all = self.members()?;
        let selection = select(&all, ranks, hosts)?;
        for (what, absent) in [
            ("ranks", &selection.absent_ranks),
            ("hosts", &selection.absent_hosts),
        ] {
            if !absent.is_empty() {
                return Err(Status::unknown(format!(
                    "the system has no {what} {absent}"
                )));
            }
        }
        let membership = self.membership()?;
        let action = match clear {
            true => "clear admin-excluded state",
            false => "set admin-excluded state",
        };
        let mut results = Vec::new();
        for member in all.iter().filter(|m| selection.ranks.contains(&m.rank)) {
            // First, so that it is not let in again when it comes back.
            let decided = membership.exclude(member.rank, clear);
            let mut row = RankResult {
                rank: member.rank,
                action: action.to_owned(),
                errored: decided.is_err(),
                msg: String::new(),
                state: member.state.clone(),
                addr: member.addr.clone(),
            };
            match decided {
                Ok(now) => row.state = now.standing.name().to_owned(),
                Err(status) => status.message().clone_into(&mut row.msg),
            }
            if !clear && !row.errored && member.state != Standing::Unresponsive.name() {
                let one = std::slice::from_ref(member);
                let stopped = self.everywhere(one, Action::Stop, false).await;
                if let Some(failed) = stopped.into_iter().find(|result| result.errored) {
                    row.errored = true;
                    row.msg = format!("it is excluded, but was not stopped: {}", failed.msg);
                }
            }
            results.push(row);
        }
        Ok(results)
    }

    /// Ends the system. With an error among the results nothing was erased that counts.
    pub(super) async fn erase(&self) -> Result<Vec<RankResult>, Status> {
        let members = self.members()?;
        let runs = |m: &&SystemMember| {
            !matches!(
                &*m.state,
                "stopped"
                    | "excluded"
                    | "adminexcluded"
                    | "errored"
                    | "unresponsive"
                    | "awaitformat"
            )
        };
        if members.iter().any(|m| runs(&m)) {
            let refused = members.iter().filter(runs).map(|member| {
                let fault = not_stopped(member.rank, &member.info);
                let state = member.state.as_str();
                let why = fault.to_status().message().to_owned();
                result(member.rank, &member.addr, Action::Reset, Err((state, why)))
            });
            return Ok(refused.collect());
        }
        let results = self.everywhere(&members, Action::Reset, false).await;
        if !results.iter().any(|result| result.errored) {
            self.membership()?.erase()?;
            info!("the system was erased");
        }
        Ok(results)
    }

    /// Does something to members, wherever they are, side by side; takes note of what they are then.
    async fn everywhere(
        &self,
        members: &[SystemMember],
        action: Action,
        force: bool,
    ) -> Vec<RankResult> {
        let local: Vec<String> = self.local.all().into_iter().map(|m| m.uuid).collect();
        let (here, others): (Vec<_>, Vec<_>) =
            members.iter().partition(|m| local.contains(&m.uuid));
        // Of this server, but no longer among its engines: an erasure that was cut short, or another configuration.
        let address = &self.host.state.control_addr;
        let (gone, elsewhere): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|m| m.addr == *address);
        let gone = gone.iter().map(|m| without_engine(m.rank, address, action));
        let mut by_host: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        for member in elsewhere {
            by_host.entry(&member.addr).or_default().push(member.rank);
        }
        let calls = by_host
            .iter()
            .map(|(address, ranks)| self.on_host(address, ranks, action, force));
        let here: Vec<u32> = here.iter().map(|m| m.rank).collect();
        let (own, theirs) = tokio::join!(self.on_this(&here, action, force), join_all(calls));
        let mut results: Vec<RankResult> = theirs.into_iter().flatten().collect();
        self.take_note(&results, action);
        results.extend(gone.chain(own));
        results.sort_by_key(|result| result.rank);
        results
    }

    /// What other servers said is what their engines are.
    fn take_note(&self, results: &[RankResult], action: Action) {
        let Some(membership) = self.host.state.membership.here() else {
            return;
        };
        for result in results {
            let standing = match (&*result.state, action) {
                ("unresponsive", _) => Standing::Unresponsive,
                (_, Action::Prepare | Action::Reset) => continue,
                _ if result.errored => Standing::Errored,
                ("stopped", _) => Standing::Stopped,
                ("ready" | "joined", _) => Standing::Joined,
                _ => continue,
            };
            if let Err(status) = membership.note(result.rank, standing, &result.msg) {
                warn!(rank = result.rank, "{}", status.message());
            }
        }
    }

    async fn on_this(&self, ranks: &[u32], action: Action, force: bool) -> Vec<RankResult> {
        let address = &self.host.state.control_addr;
        let done = match action {
            Action::Prepare => Ok(self.local.prepare(ranks)),
            Action::Stop => Ok(self.local.stop(ranks, force).await),
            Action::Start => self.local.start(ranks).await,
            Action::Reset => self.local.reset(ranks).await,
        };
        done.unwrap_or_else(|status| {
            all_failed(ranks, address, action, "errored", status.message())
        })
    }

    async fn on_host(
        &self,
        address: &str,
        ranks: &[u32],
        action: Action,
        force: bool,
    ) -> Vec<RankResult> {
        let names: Vec<String> = ranks.iter().map(u32::to_string).collect();
        let request = RanksReq {
            ranks: names.join(","),
            force,
            check_mode: false,
        };
        let answer = async {
            let peer = self.peers.connect(address, HOST_WITHIN).await;
            let mut client = CtlSvcClient::new(peer.map_err(Status::unavailable)?);
            match action {
                Action::Prepare => client.prep_shutdown_ranks(request).await,
                Action::Stop => client.stop_ranks(request).await,
                Action::Start => client.start_ranks(request).await,
                Action::Reset => client.reset_format_ranks(request).await,
            }
        };
        let mut results = match answer.await {
            Ok(answer) => answer.into_inner().results,
            Err(status) => {
                return all_failed(ranks, address, action, "unresponsive", status.message());
            }
        };
        results.retain(|result| ranks.contains(&result.rank));
        let silent: Vec<u32> = ranks
            .iter()
            .copied()
            .filter(|rank| !results.iter().any(|result| result.rank == *rank))
            .collect();
        results.extend(
            silent
                .iter()
                .map(|rank| without_engine(*rank, address, action)),
        );
        for result in &mut results {
            address.clone_into(&mut result.addr);
        }
        results
    }
}

/// The result of a rank that its server does not have: of one that shall await a format, it does.
fn without_engine(rank: u32, address: &str, action: Action) -> RankResult {
    let done = match action {
        Action::Reset => Ok("awaitformat"),
        _ => Err(("errored", "its server has no such rank".to_owned())),
    };
    result(rank, address, action, done)
}

fn all_failed(
    ranks: &[u32],
    address: &str,
    action: Action,
    state: &str,
    why: &str,
) -> Vec<RankResult> {
    let failed = |rank: &u32| result(*rank, address, action, Err((state, why.to_owned())));
    ranks.iter().map(failed).collect()
}

fn outcome(results: Vec<RankResult>, chosen: Chosen) -> Outcome {
    Outcome {
        results,
        absent_ranks: chosen.absent_ranks,
        absent_hosts: chosen.absent_hosts,
    }
}
