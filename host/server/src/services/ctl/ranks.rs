//! Engines of this host by rank, as the management service of the DAOS 2.8 control plane asks for them.

use crate::services::local::Local;
use crate::services::select::ranks_of;
use daos_proto::ctl::{RanksReq, RanksResp};
use tonic::Status;

/// The ranks of a request.
fn wanted(request: &RanksReq) -> Result<Vec<u32>, Status> {
    let ranks = ranks_of(&request.ranks)?;
    match ranks.is_empty() {
        true => Err(Status::unknown("no ranks specified in request")),
        false => Ok(ranks),
    }
}

pub(super) fn prepare(local: &Local, request: &RanksReq) -> Result<RanksResp, Status> {
    let results = local.prepare(&wanted(request)?);
    Ok(RanksResp { results })
}

pub(super) async fn stop(local: &Local, request: &RanksReq) -> Result<RanksResp, Status> {
    let results = local.stop(&wanted(request)?, request.force).await;
    Ok(RanksResp { results })
}

pub(super) async fn reset(local: &Local, request: &RanksReq) -> Result<RanksResp, Status> {
    let results = local.reset(&wanted(request)?).await?;
    Ok(RanksResp { results })
}

pub(super) async fn start(local: &Local, request: &RanksReq) -> Result<RanksResp, Status> {
    if request.check_mode {
        return Err(Status::unknown(
            "this server's engines have no checker mode",
        ));
    }
    let results = local.start(&wanted(request)?).await?;
    Ok(RanksResp { results })
}
