//! How an engine of this server becomes a member, wherever the membership is kept.

use super::{Newcomer, Place};
use crate::state::State;
use daos_proto::ctl::ResponseStatus;
use daos_proto::host::Fault;
use daos_proto::srv::NotifyReadyReq;
use uuid::Uuid;

/// The place of an engine in the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) rank: u32,
    /// Version of the membership.
    pub(crate) version: u32,
}

/// Has the engine of that number join. Waits as long as the access point does not answer.
///
/// # Errors
/// It is refused.
pub(crate) async fn join(
    state: &State,
    index: usize,
    ready: &NotifyReadyReq,
) -> Result<Joined, Box<Fault>> {
    let engine = state.engine(index);
    let newcomer = Newcomer {
        uuid: Uuid::try_parse(&engine.uuid).unwrap_or_default(),
        address: state.control_addr.clone(),
        index: index as u32,
        rank: engine.rank,
        local: state.membership.here().is_some(),
        uri: ready.uri.clone(),
        contexts: ready.ntgts,
        fault_domain: state.fault_domain.clone(),
        incarnation: ready.incarnation,
    };
    let refused = |status: tonic::Status| {
        Fault::from_status(&status)
            .map(Box::new)
            .unwrap_or_else(|| {
                Box::new(Fault::new(
                    ResponseStatus::CtlErrApp,
                    "system",
                    0,
                    "the engine cannot join the system",
                    status.message(),
                    "`daos_shell system query --members` shows who belongs to it",
                ))
            })
    };
    match &state.membership {
        Place::Here(membership) => {
            let member = membership.join(newcomer).map_err(refused)?;
            Ok(Joined {
                rank: member.rank,
                version: u32::try_from(membership.version()).unwrap_or(u32::MAX),
            })
        }
        Place::Elsewhere(elsewhere) => {
            let waits = |why: &str| {
                let reason = format!("it waits to join the system: {why}");
                state.update(index, |e| (e.reason, e.waits_to_join) = (reason, true));
            };
            let (rank, version) = elsewhere.join(newcomer, waits).await.map_err(refused)?;
            Ok(Joined { rank, version })
        }
    }
}
