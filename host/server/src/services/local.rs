//! The engines of this server by rank, as the management service of a system sees them.

use super::host::Inner;
use crate::state::EngineStatus;
use crate::storage;
use daos_proto::ctl::ResponseStatus;
use daos_proto::host::{EngineState, Fault};
use daos_proto::mgmt::SystemMember;
use daos_proto::shared::RankResult;
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tonic::Status;
use tracing::info;

/// How long an engine may take to stop.
const GRACE: Duration = Duration::from_secs(20);

/// Fault number of engines that must be stopped first.
const NOT_STOPPED: i32 = 612;

/// What is done to a rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Prepare,
    Stop,
    Start,
    Reset,
}

impl Action {
    /// As results name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Prepare => "prep shutdown",
            Self::Stop => "stop",
            Self::Start => "start",
            Self::Reset => "reset format",
        }
    }

    /// Text of a result without an error.
    fn done(self) -> String {
        match self {
            Self::Prepare => String::new(),
            Self::Stop | Self::Start => format!("system {}", self.name()),
            Self::Reset => self.name().to_owned(),
        }
    }
}

/// A result of one rank.
pub(super) fn result(
    rank: u32,
    addr: &str,
    action: Action,
    done: Result<&str, (&str, String)>,
) -> RankResult {
    let (errored, msg, state) = match done {
        Ok(state) => (false, action.done(), state),
        Err((state, why)) => (true, why, state),
    };
    RankResult {
        rank,
        action: action.name().to_owned(),
        errored,
        msg,
        state: state.to_owned(),
        addr: addr.to_owned(),
    }
}

/// The engines of this server.
#[derive(Clone)]
pub(crate) struct Local(pub(crate) Arc<Inner>);

impl Local {
    /// Engines that were formatted, by rank; one without a rank yet has its number as such.
    fn engines(&self) -> impl Iterator<Item = (u32, usize, EngineStatus)> {
        let engines = self.0.state.engines().into_iter().enumerate();
        engines
            .filter(|(_, engine)| !engine.uuid.is_empty())
            .map(|(index, engine)| (engine.rank.unwrap_or(index as u32), index, engine))
    }

    fn indices(&self, ranks: &[u32]) -> Vec<(u32, usize)> {
        self.engines()
            .filter(|(rank, ..)| ranks.contains(rank))
            .map(|(rank, index, _)| (rank, index))
            .collect()
    }

    fn result(
        &self,
        rank: u32,
        action: Action,
        done: Result<EngineState, (&str, String)>,
    ) -> RankResult {
        result(
            rank,
            &self.0.state.control_addr,
            action,
            done.map(state_name),
        )
    }

    /// All of them, by rank.
    pub(super) fn all(&self) -> Vec<SystemMember> {
        let state = &self.0.state;
        let mut members: Vec<_> = self
            .engines()
            .map(|(rank, _, engine)| SystemMember {
                addr: state.control_addr.clone(),
                uuid: engine.uuid,
                rank,
                incarnation: engine.incarnation,
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

    /// Whether nothing is known yet about the storage of an engine.
    pub(super) fn is_undecided(&self) -> bool {
        let mut engines = self.0.state.engines().into_iter();
        engines.any(|e| matches!(e.state, EngineState::Starting | EngineState::Restarting))
    }

    /// Nothing has to be prepared: an engine that is asked to end does so in order.
    pub(super) fn prepare(&self, ranks: &[u32]) -> Vec<RankResult> {
        self.engines()
            .filter(|(rank, ..)| ranks.contains(rank))
            .map(|(rank, _, engine)| self.result(rank, Action::Prepare, Ok(engine.state)))
            .collect()
    }

    /// Stops those of these ranks; `force` kills them. A result for each.
    pub(super) async fn stop(&self, ranks: &[u32], force: bool) -> Vec<RankResult> {
        let stops = self
            .indices(ranks)
            .into_iter()
            .map(|(rank, index)| async move {
                let stopped = self.0.supervisors[index].stop(GRACE, force).await;
                let state = self.0.state.engine(index).state;
                let failed = |why| Err(("errored", format!("system stop: {why}")));
                let done = match (stopped, state) {
                    (Err(why), _) => failed(why),
                    (Ok(_), EngineState::Ready | EngineState::Stopping) => {
                        failed("rank failed to stop".to_owned())
                    }
                    (Ok(_), state) => Ok(state),
                };
                self.result(rank, Action::Stop, done)
            });
        join_all(stops).await
    }

    /// Starts those of these ranks that do not run, and waits for what becomes of them. A result for each.
    ///
    /// # Errors
    /// Nothing can be started now.
    pub(super) async fn start(&self, ranks: &[u32]) -> Result<Vec<RankResult>, Status> {
        let engines = self.indices(ranks);
        if engines.is_empty() {
            return Ok(Vec::new());
        }
        let numbers = engines.iter().map(|(_, index)| *index as u32).collect();
        let started = self.0.start(numbers).await?;
        let results = engines.iter().zip(started.results);
        Ok(results
            .map(|((rank, _), engine)| {
                let done = match engine.fault.clone() {
                    None => Ok(engine.state()),
                    Some(fault) => Err(("errored", format!("system start: {fault}"))),
                };
                self.result(*rank, Action::Start, done)
            })
            .collect())
    }

    /// Has those of these ranks await a format. A result for each.
    ///
    /// # Errors
    /// One of them runs, or a format does: nothing was done.
    pub(super) async fn reset(&self, ranks: &[u32]) -> Result<Vec<RankResult>, Status> {
        let _alone = self.0.alone()?;
        let engines = self.indices(ranks);
        for (rank, index) in &engines {
            let engine = self.0.state.engine(*index);
            if engine.pid != 0 || engine.state == EngineState::Restarting {
                return Err(not_stopped(*rank, &engine.reason).to_status());
            }
        }
        let mut results = Vec::new();
        for (rank, index) in engines {
            let done = match storage::forget(self.0.plugins(), &self.0.state.config, index).await {
                Err(fault) => Err(("errored", format!("reset format: {fault}"))),
                Ok(()) => {
                    self.0.state.update(index, |e| {
                        e.enter(EngineState::AwaitFormat, "the system was erased");
                        e.hint = self.0.state.shell_command("storage format --reformat");
                        e.uuid.clear();
                        e.rank = None;
                    });
                    info!(engine = index, rank, "its superblock was removed");
                    Ok(EngineState::AwaitFormat)
                }
            };
            results.push(self.result(rank, Action::Reset, done));
        }
        self.0.plugins().rest().await;
        Ok(results)
    }
}

/// The refusal of a rank that runs.
pub(super) fn not_stopped(rank: u32, reason: &str) -> Fault {
    Fault::new(
        ResponseStatus::CtlErrApp,
        "server",
        NOT_STOPPED,
        format!("rank {rank} has to be stopped first"),
        reason,
        "daos_shell system stop",
    )
}

pub(super) fn state_name(state: EngineState) -> &'static str {
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
pub(super) fn rfc3339(ms: u64) -> String {
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
}
