//! Engines of this host by rank, as the management service of the DAOS 2.8 control plane asks for them.

use crate::services::system::{Members, ranks_of};
use daos_proto::ctl::{RanksReq, RanksResp};
use daos_proto::shared::RankResult;
use tonic::Status;

/// The ranks of a request that are here.
fn wanted(members: &dyn Members, request: &RanksReq) -> Result<Vec<u32>, Status> {
    let ranks = ranks_of(&request.ranks)?;
    if ranks.is_empty() {
        return Err(Status::unknown("no ranks specified in request"));
    }
    let here = members.all();
    let is_here = |rank: &u32| here.iter().any(|member| member.rank == *rank);
    Ok(ranks.into_iter().filter(is_here).collect())
}

/// Nothing has to be prepared: an engine that is asked to end does so in order.
pub(super) fn prepare(members: &dyn Members, request: &RanksReq) -> Result<RanksResp, Status> {
    let ranks = wanted(members, request)?;
    let here = members.all();
    let results = here.into_iter().filter(|m| ranks.contains(&m.rank));
    Ok(RanksResp {
        results: results
            .map(|member| RankResult {
                rank: member.rank,
                action: "prep shutdown".to_owned(),
                errored: false,
                msg: String::new(),
                state: member.state,
                addr: member.addr,
            })
            .collect(),
    })
}

pub(super) async fn stop(members: &dyn Members, request: &RanksReq) -> Result<RanksResp, Status> {
    let ranks = wanted(members, request)?;
    let results = members.stop(&ranks, request.force).await;
    Ok(RanksResp { results })
}

pub(super) async fn start(members: &dyn Members, request: &RanksReq) -> Result<RanksResp, Status> {
    if request.check_mode {
        return Err(Status::unknown(
            "this server's engines have no checker mode",
        ));
    }
    let ranks = wanted(members, request)?;
    let results = members.start(&ranks).await?;
    Ok(RanksResp { results })
}
