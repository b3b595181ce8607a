//! How full a pool is: the sum of what its engines say.

use super::{Located, Member, side_by_side};
use daos_proto::fault::daos_status;
use daos_proto::mgmt::{PoolQueryReq, PoolQueryResp, PoolServiceState, StorageUsageStats};
use tonic::Status;

pub(super) async fn query(pool: &Located, request: PoolQueryReq) -> Result<PoolQueryResp, Status> {
    let ranks = pool.ranks();
    let leader = ranks.first().copied().unwrap_or(0);
    let request = PoolQueryReq {
        id: pool.id.to_string(),
        svc_ranks: ranks.clone(),
        ..request
    };
    let mut sum: Option<PoolQueryResp> = None;
    let query = |member: Member| {
        let request = request.clone();
        async move { member.query(&request).await }
    };
    for (member, part) in side_by_side(pool.members(), query).await {
        let part = part?;
        if part.status != 0 {
            let text = format!("rank {} cannot tell about pool {}", member.rank, pool.label);
            return Err(daos_status(part.status, &text));
        }
        sum = Some(match sum {
            None => part,
            Some(sum) => add(sum, &part),
        });
    }
    let mut answer = sum.unwrap_or_default();
    (answer.svc_ldr, answer.leader) = (leader, leader);
    answer.svc_reps = vec![leader];
    let names: Vec<String> = ranks.iter().map(u32::to_string).collect();
    answer.enabled_ranks = names.join(",");
    answer.query_mask = request.query_mask;
    if pool.is_destroying() {
        answer.set_state(PoolServiceState::Destroying);
    }
    Ok(answer)
}

fn add(mut sum: PoolQueryResp, part: &PoolQueryResp) -> PoolQueryResp {
    let before = u64::from(sum.active_targets.max(1));
    sum.total_targets += part.total_targets;
    sum.active_targets += part.active_targets;
    sum.disabled_targets += part.disabled_targets;
    sum.total_engines += part.total_engines;
    let targets = u64::from(part.active_targets.max(1));
    for (tier, other) in sum.tier_stats.iter_mut().zip(&part.tier_stats) {
        *tier = StorageUsageStats {
            total: tier.total + other.total,
            free: tier.free + other.free,
            min: tier.min.min(other.min),
            max: tier.max.max(other.max),
            mean: (tier.mean * before + other.mean * targets) / (before + targets),
            media_type: tier.media_type,
        };
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiers_are_added() {
        let part = |targets, total, free, min, max, mean| PoolQueryResp {
            total_targets: targets,
            active_targets: targets,
            total_engines: 1,
            tier_stats: vec![StorageUsageStats {
                total,
                free,
                min,
                max,
                mean,
                media_type: 0,
            }],
            ..PoolQueryResp::default()
        };
        let sum = add(part(2, 100, 60, 20, 40, 30), &part(4, 200, 40, 5, 15, 10));
        assert_eq!((sum.total_targets, sum.total_engines), (6, 2));
        let tier = &sum.tier_stats[0];
        assert_eq!((tier.total, tier.free), (300, 100));
        assert_eq!((tier.min, tier.max, tier.mean), (5, 40, 16));
    }
}
