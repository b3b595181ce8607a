//! The members of a system, and what its management service does with them.

use super::host::Inner;
use crate::state::EngineStatus;
use daos_proto::host::EngineState;
use daos_proto::mgmt::SystemMember;
use daos_proto::shared::RankResult;
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tonic::Status;

/// How long an engine may take to stop.
const GRACE: Duration = Duration::from_secs(20);

/// The engines of a system, wherever they run. With one access point they are this server's own.
#[tonic::async_trait]
pub(crate) trait Members: Send + Sync {
    /// All of them, by rank.
    fn all(&self) -> Vec<SystemMember>;

    /// Stops those of these ranks; `force` kills them. A result for each.
    async fn stop(&self, ranks: &[u32], force: bool) -> Vec<RankResult>;

    /// Starts those of these ranks that do not run, and waits for what becomes of them. A result for each.
    ///
    /// # Errors
    /// Nothing can be started now.
    async fn start(&self, ranks: &[u32]) -> Result<Vec<RankResult>, Status>;
}

/// The engines of this server.
pub(crate) struct Local(pub(crate) Arc<Inner>);

impl Local {
    /// Engines by rank; one without a rank yet has its number as such.
    fn engines(&self) -> impl Iterator<Item = (u32, usize, EngineStatus)> {
        let engines = self.0.state.engines().into_iter().enumerate();
        engines.map(|(index, engine)| (engine.rank.unwrap_or(index as u32), index, engine))
    }

    fn indices(&self, ranks: &[u32]) -> Vec<(u32, usize)> {
        self.engines()
            .filter(|(rank, ..)| ranks.contains(rank))
            .map(|(rank, index, _)| (rank, index))
            .collect()
    }

    fn result(&self, rank: u32, action: &str, done: Result<EngineState, String>) -> RankResult {
        let addr = self.0.state.control_addr.clone();
        let action_of_system = format!("system {action}");
        let (errored, msg, state) = match done {
            Ok(state) => (false, action_of_system, state_name(state)),
            Err(why) => (true, format!("{action_of_system}: {why}"), "errored"),
        };
        RankResult {
            rank,
            action: action.to_owned(),
            errored,
            msg,
            state: state.to_owned(),
            addr,
        }
    }
}

#[tonic::async_trait]
impl Members for Local {
    fn all(&self) -> Vec<SystemMember> {
        let state = &self.0.state;
        let mut members: Vec<_> = self
            .engines()
            .map(|(rank, _, engine)| SystemMember {
                addr: state.control_addr.clone(),
                uuid: engine.uuid,
                rank,
                state: state_name(engine.state).to_owned(),
                fabric_uri: engine.uri,
                fabric_contexts: engine.targets,
                info: engine.reason,
                fault_domain: state.fault_domain.clone(),
                last_update: rfc3339(engine.since_ms),
                ..SystemMember::default()
            })
            .collect();
        members.sort_by_key(|member| member.rank);
        members
    }

    async fn stop(&self, ranks: &[u32], force: bool) -> Vec<RankResult> {
        let stops = self
            .indices(ranks)
            .into_iter()
            .map(|(rank, index)| async move {
                let stopped = self.0.supervisors[index].stop(GRACE, force).await;
                let state = self.0.state.engine(index).state;
                let done = match (stopped, state) {
                    (Err(why), _) => Err(why),
                    (Ok(_), EngineState::Ready | EngineState::Stopping) => {
                        Err("rank failed to stop".to_owned())
                    }
                    (Ok(_), state) => Ok(state),
                };
                self.result(rank, "stop", done)
            });
        join_all(stops).await
    }

    async fn start(&self, ranks: &[u32]) -> Result<Vec<RankResult>, Status> {
        let engines = self.indices(ranks);
        let numbers = engines.iter().map(|(_, index)| *index as u32).collect();
        let started = self.0.start(numbers).await?;
        let results = engines.iter().zip(started.results);
        Ok(results
            .map(|((rank, _), engine)| {
                let done = match engine.fault.clone() {
                    None => Ok(engine.state()),
                    Some(fault) => Err(fault.to_string()),
                };
                self.result(*rank, "start", done)
            })
            .collect())
    }
}

/// Members that a request names by ranks or hosts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Selection {
    pub(super) ranks: Vec<u32>,
    /// Ranks that there are not.
    pub(super) absent_ranks: String,
    /// Hosts that there are not.
    pub(super) absent_hosts: String,
}

/// The members of a system that was formatted, by ranks or by hosts; all without either.
///
/// # Errors
/// There is no system yet, or the request makes no sense.
pub(super) fn select(
    members: &[SystemMember],
    ranks: &str,
    hosts: &str,
) -> Result<Selection, Status> {
    exists(members)?;
    let all = || members.iter().map(|member| member.rank);
    match (ranks.trim().is_empty(), hosts.trim().is_empty()) {
        (true, true) => Ok(Selection {
            ranks: all().collect(),
            ..Selection::default()
        }),
        (false, false) => Err(Status::unknown(
            "ranks and hosts cannot both be set in request",
        )),
        (false, true) => {
            let wanted = ranks_of(ranks)?;
            let (ranks, absent): (Vec<u32>, Vec<u32>) =
                wanted.iter().partition(|rank| all().any(|r| r == **rank));
            let absent: Vec<String> = absent.iter().map(u32::to_string).collect();
            Ok(Selection {
                ranks,
                absent_ranks: absent.join(","),
                ..Selection::default()
            })
        }
        (true, false) => {
            let wanted = daos_hostlist::hosts(hosts).map_err(|e| Status::unknown(e.to_string()))?;
            let is_on = |member: &SystemMember, host: &str| {
                let bare = member.addr.rsplit_once(':').map_or("", |(bare, _)| bare);
                member.addr == host || bare == host
            };
            let mut selection = Selection::default();
            let mut absent = Vec::new();
            for host in &wanted {
                let here = members.iter().filter(|member| is_on(member, host));
                let before = selection.ranks.len();
                selection.ranks.extend(here.map(|member| member.rank));
                if selection.ranks.len() == before {
                    absent.push(host.as_str());
                }
            }
            selection.ranks.sort_unstable();
            selection.ranks.dedup();
            selection.absent_hosts = daos_hostlist::fold(absent);
            Ok(selection)
        }
    }
}

/// A set of ranks as text.
///
/// # Errors
/// It makes no sense.
pub(super) fn ranks_of(ranks: &str) -> Result<Vec<u32>, Status> {
    daos_hostlist::numbers(ranks).map_err(|why| Status::unknown(format!("ranks {ranks:?}: {why}")))
}

/// Refuses until a member has been formatted, with the texts that clients look for.
fn exists(members: &[SystemMember]) -> Result<(), Status> {
    if members.iter().any(|member| !member.uuid.is_empty()) {
        return Ok(());
    }
    // Their storage is being looked at: what it says is not known yet.
    let undecided = members.iter().any(|member| member.state == "starting");
    Err(Status::unknown(match undecided {
        true => "raft service unavailable (not started yet?)",
        false => "system is uninitialized (storage format required?)",
    }))
}

/// Whether a state is one of a mask's; 0 stands for all.
pub(super) fn is_in(mask: u32, state: &str) -> bool {
    let bit = match state {
        "awaitformat" => 0x1,
        "starting" => 0x2,
        "ready" => 0x4,
        "joined" => 0x8,
        "stopping" => 0x10,
        "stopped" => 0x20,
        "excluded" => 0x40,
        "errored" => 0x80,
        _ => 0,
    };
    mask == 0 || mask & bit != 0
}

fn state_name(state: EngineState) -> &'static str {
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

    fn member(rank: u32, addr: &str, uuid: &str) -> SystemMember {
        SystemMember {
            rank,
            addr: addr.to_owned(),
            uuid: uuid.to_owned(),
            state: "joined".to_owned(),
            ..SystemMember::default()
        }
    }

    #[test]
    fn members_are_chosen_by_ranks_or_hosts() {
        let members = [
            member(0, "node1:10001", "u"),
            member(1, "node1:10001", "u"),
            member(2, "node2:10001", "u"),
        ];
        let chosen = |ranks, hosts| {
            let s = select(&members, ranks, hosts).unwrap();
            (s.ranks, s.absent_ranks, s.absent_hosts)
        };
        let none = String::new;
        assert_eq!(chosen("", ""), (vec![0, 1, 2], none(), none()));
        assert_eq!(chosen("1-4", ""), (vec![1, 2], "3,4".to_owned(), none()));
        assert_eq!(
            chosen("", "node[1,3-4],node2:10001"),
            (vec![0, 1, 2], none(), "node[3-4]".to_owned())
        );
        for (ranks, hosts) in [("0", "node1"), ("x", ""), ("", "n[")] {
            assert!(select(&members, ranks, hosts).is_err(), "{ranks} {hosts}");
        }
    }

    #[test]
    fn there_is_no_system_before_a_format() {
        let mut members = [member(0, "a:1", "")];
        let told =
            |members: &[SystemMember]| select(members, "", "").unwrap_err().message().to_owned();
        assert_eq!(
            told(&members),
            "system is uninitialized (storage format required?)"
        );
        members[0].state = "starting".to_owned();
        assert_eq!(
            told(&members),
            "raft service unavailable (not started yet?)"
        );
    }

    #[test]
    fn masks_choose_states() {
        assert!(is_in(0, "joined") && is_in(65_535, "errored") && is_in(0x8, "joined"));
        assert!(!is_in(0x8, "stopped"));
    }

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
}
