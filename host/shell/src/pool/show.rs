//! `pool list` and `pool query`.

use super::{connect, failed};
use crate::cli::Cli;
use crate::connect::MgmtClient;
use daos_proto::mgmt::{
    ListPoolsReq, PoolQueryReq, PoolQueryResp, PoolServiceState, StorageUsageStats,
};
use daos_report::{Envelope, bytes, print_json, table};
use serde::Serialize;

/// Space on one tier.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Tier {
    total_bytes: u64,
    free_bytes: u64,
    /// Free on the target that has least and most.
    min_free_bytes: u64,
    max_free_bytes: u64,
}

impl From<&StorageUsageStats> for Tier {
    fn from(stats: &StorageUsageStats) -> Self {
        Self {
            total_bytes: stats.total,
            free_bytes: stats.free,
            min_free_bytes: stats.min,
            max_free_bytes: stats.max,
        }
    }
}

/// A pool, and how full it is if that was asked.
#[derive(Serialize)]
struct PoolRow {
    uuid: String,
    label: String,
    state: String,
    ranks: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    targets: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scm: Option<Tier>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bdev: Option<Tier>,
}

impl PoolRow {
    fn queried(pool: PoolQueryResp) -> Self {
        let tier = |n: usize| pool.tier_stats.get(n).map(Tier::from).unwrap_or_default();
        Self {
            state: match pool.state() {
                PoolServiceState::Ready => "Ready",
                PoolServiceState::Creating => "Creating",
                PoolServiceState::Destroying => "Destroying",
                PoolServiceState::TargetsExcluded => "TargetsExcluded",
                PoolServiceState::Unknown => "Unknown",
            }
            .to_owned(),
            scm: Some(tier(0)),
            bdev: Some(tier(1)),
            targets: Some(pool.active_targets),
            ranks: pool.enabled_ranks,
            uuid: pool.uuid,
            label: pool.label,
        }
    }

    fn words(&self) -> Vec<String> {
        let tier = |tier: &Option<Tier>| match tier {
            None => ["-".to_owned(), "-".to_owned()],
            Some(tier) => [bytes(tier.total_bytes), bytes(tier.free_bytes)],
        };
        let mut words = vec![self.label.clone(), self.uuid.clone(), self.state.clone()];
        words.push(self.ranks.clone());
        words.extend(tier(&self.scm));
        words.extend(tier(&self.bdev));
        words
    }
}

const COLUMNS: [&str; 8] = [
    "LABEL",
    "UUID",
    "STATE",
    "RANKS",
    "SCM",
    "SCM FREE",
    "BDEV",
    "BDEV FREE",
];

#[derive(Serialize)]
struct Pools {
    pools: Vec<PoolRow>,
}

async fn ask(client: &mut MgmtClient, id: &str) -> anyhow::Result<PoolRow> {
    let request = PoolQueryReq {
        id: id.to_owned(),
        ..PoolQueryReq::default()
    };
    let answer = client.pool_query(request).await.map_err(|s| failed(&s))?;
    Ok(PoolRow::queried(answer.into_inner()))
}

pub(crate) async fn list(cli: &Cli, no_query: bool, hosts: &[String]) -> anyhow::Result<bool> {
    let mut client = connect(cli, hosts).await?;
    let answer = client.list_pools(ListPoolsReq::default()).await;
    let mut pools = Vec::new();
    for pool in answer.map_err(|s| failed(&s))?.into_inner().pools {
        if pool.state == "Ready" && !no_query {
            pools.push(ask(&mut client, &pool.uuid).await?);
            continue;
        }
        let ranks: Vec<String> = pool.svc_reps.iter().map(u32::to_string).collect();
        pools.push(PoolRow {
            uuid: pool.uuid,
            label: pool.label,
            state: pool.state,
            ranks: ranks.join(","),
            targets: None,
            scm: None,
            bdev: None,
        });
    }
    if cli.json {
        print_json(&Envelope::ok(Pools { pools }))?;
    } else if pools.is_empty() {
        daos_report::print_line!("no pools; `daos_shell pool create LABEL --size 50%` makes one");
    } else {
        daos_report::print_line!("{}", table(&COLUMNS, pools.iter().map(PoolRow::words)));
    }
    Ok(true)
}

pub(crate) async fn query(cli: &Cli, pool: &str, hosts: &[String]) -> anyhow::Result<bool> {
    let mut client = connect(cli, hosts).await?;
    let row = ask(&mut client, pool).await?;
    if cli.json {
        print_json(&Envelope::ok(row))?;
        return Ok(true);
    }
    daos_report::print_line!(
        "pool {} ({}): {}, {} target(s) on rank(s) {}",
        row.label,
        row.uuid,
        row.state,
        row.targets.unwrap_or(0),
        row.ranks
    );
    let tiers = [("SCM", row.scm), ("block device", row.bdev)];
    let rows = tiers.into_iter().map(|(name, tier)| {
        let tier = tier.unwrap_or_default();
        vec![
            name.to_owned(),
            bytes(tier.total_bytes),
            bytes(tier.free_bytes),
            bytes(tier.min_free_bytes),
            bytes(tier.max_free_bytes),
        ]
    });
    let columns = ["TIER", "TOTAL", "FREE", "LEAST FREE", "MOST FREE"];
    daos_report::print_line!("{}", table(&columns, rows));
    Ok(true)
}
