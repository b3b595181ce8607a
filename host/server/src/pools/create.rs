//! Making a pool: everything is checked before the first engine is asked.

use super::Located;
use super::engine::Member;
use super::{NONEXIST, Pools, asked, code, fault, located, properties, side_by_side};
use daos_proto::fault::daos_status;
use daos_proto::host::EngineSpace;
use daos_proto::mgmt::{PoolCreateReq, PoolCreateResp, PoolDestroyReq, pool_property::Value};
use daos_proto::properties::LABEL;
use daos_wire::{POOL_BDEV_MIN, POOL_SCM_MIN, check_label};
use std::collections::{BTreeMap, BTreeSet};
use tonic::Status;
use tracing::{error, info};
use uuid::Uuid;

/// Status number of a request that makes no sense, and of one for more than is there.
const INVALID: i32 = -1003;
const NOSPACE: i32 = -1007;

pub(super) async fn create(
    pools: &Pools,
    mut request: PoolCreateReq,
) -> Result<PoolCreateResp, Status> {
    let label = label(&request)?;
    for property in request.properties.iter().filter(|p| p.number != LABEL) {
        properties::check_fixed(property)?;
    }
    let id = Uuid::try_parse(&request.uuid)
        .map_err(|e| daos_status(INVALID, &format!("uuid {:?}: {e}", request.uuid)))?;
    let members = choose(pools, &request)?;
    let ranks: Vec<u32> = members.iter().map(|member| member.rank).collect();

    let everybody = pools.members(|_| true);
    let told = asked(&everybody).await;
    let spaces: BTreeMap<u32, EngineSpace> = told
        .iter()
        .filter_map(|(member, answer)| Some((member.rank, answer.as_ref().ok()?.space?)))
        .collect();
    let known = located(told)?;
    refuse_duplicate(known.values(), id, &label)?;
    let [scm, bdev] = tier_bytes(&request, ranks.len() as u64)?;
    let had: BTreeSet<u32> = known
        .get(&id)
        .map(|p| p.ranks())
        .into_iter()
        .flatten()
        .collect();
    for member in members.iter().filter(|m| !had.contains(&m.rank)) {
        let space = spaces.get(&member.rank).copied().unwrap_or_default();
        check_space(member.rank, &space, scm, bdev)?;
    }

    request.tier_bytes = vec![scm, bdev];
    (request.total_bytes, request.tier_ratio) = (0, Vec::new());
    request.ranks.clone_from(&ranks);
    let mut tiers = vec![scm, bdev];
    let mut failed = None;
    let create = |member: Member| {
        let request = request.clone();
        async move { member.create(&request).await }
    };
    for (member, outcome) in side_by_side(members.clone(), create).await {
        match outcome {
            Ok(answer) if answer.status == 0 => tiers = answer.tier_bytes,
            Ok(answer) => {
                let text = format!(
                    "pool {label} could not be created on rank {}; see the engine's log",
                    member.rank
                );
                failed = failed.or(Some(daos_status(answer.status, &text)));
            }
            Err(status) => failed = failed.or(Some(status)),
        }
    }
    if let Some(status) = failed {
        // Also where the answer was lost: it may have been made.
        let made = members.into_iter().filter(|m| !had.contains(&m.rank));
        undo(id, made.collect()).await;
        return Err(status);
    }
    info!(pool = %id, label, ?ranks, "pool created");
    let leader = ranks.first().copied().unwrap_or(0);
    Ok(PoolCreateResp {
        svc_ldr: leader,
        svc_reps: vec![leader],
        tgt_ranks: ranks,
        tier_bytes: tiers,
        ..PoolCreateResp::default()
    })
}

/// Refuses a label that another pool has.
pub(super) fn refuse_duplicate<'p>(
    mut known: impl Iterator<Item = &'p Located>,
    id: Uuid,
    label: &str,
) -> Result<(), Status> {
    match known.find(|p| p.is_called(label) && p.id != id && !p.is_destroying()) {
        None => Ok(()),
        Some(other) => Err(fault(
            code::DUPLICATE_LABEL,
            &format!("pool label {label} already exists in the system"),
            &format!("it belongs to pool {}", other.id),
            "choose another label, or destroy that pool first",
        )),
    }
}

/// Removes what this call made.
async fn undo(id: Uuid, made: Vec<Member>) {
    let request = PoolDestroyReq {
        id: id.to_string(),
        force: true,
        recursive: true,
        ..PoolDestroyReq::default()
    };
    let destroy = |member: Member| {
        let request = request.clone();
        async move { member.destroy(&request).await }
    };
    for (member, outcome) in side_by_side(made, destroy).await {
        match outcome {
            Ok(0 | NONEXIST) => {}
            Ok(status) => error!(pool = %id, rank = member.rank, status, "its part stays"),
            Err(status) => {
                error!(pool = %id, rank = member.rank, "its part stays: {}", status.message());
            }
        }
    }
}

fn label(request: &PoolCreateReq) -> Result<String, Status> {
    let property = request.properties.iter().find(|p| p.number == LABEL);
    let label = match property.and_then(|p| p.value.as_ref()) {
        Some(Value::Strval(label)) if !label.is_empty() => label,
        _ => {
            return Err(fault(
                code::NO_LABEL,
                "cannot create a pool without a label",
                "",
                "name one: pool create LABEL",
            ));
        }
    };
    check_label(label).map_err(|e| daos_status(INVALID, &format!("label {label:?}: {e}")))?;
    Ok(label.clone())
}

/// The engines of the new pool: those named, as many as wanted, or all.
fn choose(pools: &Pools, request: &PoolCreateReq) -> Result<Vec<Member>, Status> {
    if request.ranks.is_empty() {
        let mut members = pools.all_members()?;
        let wanted = request.num_ranks as usize;
        if wanted > members.len() {
            return Err(fault(
                code::BAD_RANK_COUNT,
                &format!("{wanted} ranks are asked for"),
                &format!("the system has {}", members.len()),
                "ask for fewer",
            ));
        }
        if wanted > 0 {
            members.truncate(wanted);
        }
        return Ok(members);
    }
    let wanted: BTreeSet<u32> = request.ranks.iter().copied().collect();
    let members = pools.members(|rank| wanted.contains(&rank));
    let found: BTreeSet<u32> = members.iter().map(|member| member.rank).collect();
    if let Some(rank) = wanted.difference(&found).next() {
        return Err(fault(
            code::BAD_RANKS,
            &format!("rank {rank} is asked for"),
            "no engine of that rank serves",
            "`daos_shell system query` shows the ranks",
        ));
    }
    Ok(members)
}

/// Bytes of SCM and block device on each rank.
fn tier_bytes(request: &PoolCreateReq, ranks: u64) -> Result<[u64; 2], Status> {
    match (&request.tier_bytes[..], &request.tier_ratio[..]) {
        ([scm, bdev], []) if request.total_bytes == 0 => Ok([*scm, *bdev]),
        ([], [scm, bdev])
            if request.total_bytes > 0 && [scm, bdev].iter().all(|r| (0.0..=1.0).contains(*r)) =>
        {
            // Ratios come with a few digits, so what is lost by rounding does not matter.
            let share = |ratio: f64| (request.total_bytes as f64 * ratio) as u64 / ranks;
            Ok([share(*scm), share(*bdev)])
        }
        _ => Err(daos_status(
            INVALID,
            "a pool needs either bytes for its two tiers, or bytes in all and the ratio of the two",
        )),
    }
}

/// Refuses what one engine cannot give, with numbers.
fn check_space(rank: u32, space: &EngineSpace, scm: u64, bdev: u64) -> Result<(), Status> {
    let targets = u64::from(space.targets.max(1));
    let (scm_min, bdev_min) = (POOL_SCM_MIN * targets, POOL_BDEV_MIN * targets);
    let too_small = |code, tier: &str, bytes: u64, least: u64| {
        Err(fault(
            code,
            &format!("{bytes} bytes of {tier} on each rank are too few"),
            &format!("{targets} targets need at least {least}"),
            "ask for more",
        ))
    };
    if scm < scm_min {
        return too_small(code::SCM_TOO_SMALL, "SCM", scm, scm_min);
    }
    if bdev > 0 && bdev < bdev_min {
        return too_small(code::NVME_TOO_SMALL, "block device", bdev, bdev_min);
    }
    for (tier, wanted, free, total) in [
        ("SCM", scm, space.scm_free, space.scm_total),
        ("block device", bdev, space.bdev_free, space.bdev_total),
    ] {
        if wanted > free {
            let text = format!(
                "{wanted} bytes of {tier} are asked for on rank {rank}, {free} of its {total} belong to no pool yet; ask for less, or destroy a pool"
            );
            return Err(daos_status(NOSPACE, &text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use daos_proto::host::Fault;
    use daos_proto::mgmt::PoolProperty;

    #[test]
    fn sizes_come_in_two_ways() {
        let mut request = PoolCreateReq {
            tier_bytes: vec![5, 7],
            ..PoolCreateReq::default()
        };
        assert_eq!(tier_bytes(&request, 2).unwrap(), [5, 7]);
        request.total_bytes = 9;
        assert!(tier_bytes(&request, 2).is_err(), "both ways");
        request.tier_bytes.clear();
        request.tier_ratio = vec![0.06, 0.94];
        request.total_bytes = 10_000_000;
        assert_eq!(tier_bytes(&request, 2).unwrap(), [300_000, 4_700_000]);
        for ratio in [vec![], vec![1.0], vec![f64::NAN, 0.5], vec![-0.1, 0.5]] {
            request.tier_ratio = ratio;
            assert!(tier_bytes(&request, 2).is_err());
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_numbers() {
        let space = EngineSpace {
            targets: 2,
            scm_total: 10 << 20,
            scm_free: 8 << 20,
            bdev_total: 100 << 20,
            bdev_free: 90 << 20,
            ..EngineSpace::default()
        };
        let code = |scm, bdev| {
            let status = check_space(3, &space, scm, bdev).unwrap_err();
            Fault::from_status(&status).map_or(0, |fault| fault.code)
        };
        assert!(check_space(3, &space, 8 << 20, 90 << 20).is_ok());
        assert!(check_space(3, &space, 8 << 20, 0).is_ok());
        assert_eq!(code(1 << 20, 0), 604);
        assert_eq!(code(2 << 20, 4096), 605);
        let status = check_space(3, &space, 9 << 20, 0).unwrap_err();
        assert_eq!(daos_proto::fault::status_number(&status), Some(NOSPACE));
        assert!(status.message().contains("8388608 of its 10485760"));
    }

    #[test]
    fn a_label_is_needed() {
        let mut request = PoolCreateReq::default();
        let status = label(&request).unwrap_err();
        assert_eq!(Fault::from_status(&status).unwrap().code, 615);
        request.properties.push(PoolProperty {
            number: LABEL,
            value: Some(Value::Strval("tank".into())),
        });
        assert_eq!(label(&request).unwrap(), "tank");
        request.properties[0].value = Some(Value::Strval("no spaces".into()));
        assert!(label(&request).is_err());
    }
}
