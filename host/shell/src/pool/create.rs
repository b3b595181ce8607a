//! `pool create`.

use super::size::Total;
use super::{failed, system};
use crate::cli::{Cli, CreateArgs};
use crate::manage::access_point;
use anyhow::bail;
use daos_proto::host::{EngineSpace, PoolSpaceRequest};
use daos_proto::mgmt::{PoolCreateReq, PoolProperty, pool_property::Value};
use daos_proto::properties::LABEL;
use daos_report::{Envelope, bytes, print_json};
use serde::Serialize;
use uuid::Uuid;

/// Shares of SCM and block device in a pool whose whole size is given.
const RATIO: [f64; 2] = [0.06, 0.94];

/// The pool that was made.
#[derive(Serialize)]
struct Created {
    uuid: Uuid,
    label: String,
    ranks: Vec<u32>,
    /// On each rank.
    scm_bytes: u64,
    bdev_bytes: u64,
}

pub(crate) async fn run(cli: &Cli, args: &CreateArgs, hosts: &[String]) -> anyhow::Result<bool> {
    let uuid = args.uuid.unwrap_or_else(Uuid::new_v4);
    let label = match &args.label {
        Some(label) => label.clone(),
        None => format!("pool-{}", &uuid.simple().to_string()[..8]),
    };
    let mut request = PoolCreateReq {
        uuid: uuid.to_string(),
        sys: system(&args.sys),
        user: args.user.clone(),
        user_group: args.group.clone(),
        properties: vec![PoolProperty {
            number: LABEL,
            value: Some(Value::Strval(label.clone())),
        }],
        num_svc_reps: args.nsvc,
        num_ranks: args.nranks.unwrap_or(0),
        ranks: args.ranks.clone(),
        ..PoolCreateReq::default()
    };
    let (host, mut client) = access_point(cli, hosts).await?;
    match (args.size, args.scm_size) {
        (Some(Total::Percent(percent)), _) => {
            let space = space(cli, &host).await?;
            request.tier_bytes = share(percent, &space, args)?.to_vec();
        }
        (Some(Total::Bytes(total)), _) => {
            request.total_bytes = total;
            request.tier_ratio = RATIO.to_vec();
        }
        (None, scm) => {
            request.tier_bytes = vec![scm.unwrap_or(0), args.nvme_size.unwrap_or(0)];
        }
    }
    let answer = client.pool_create(request).await.map_err(|s| failed(&s))?;
    let answer = answer.into_inner();
    let tier = |n: usize| answer.tier_bytes.get(n).copied().unwrap_or(0);
    let created = Created {
        uuid,
        label,
        scm_bytes: tier(0),
        bdev_bytes: tier(1),
        ranks: answer.tgt_ranks,
    };
    if cli.json {
        print_json(&Envelope::ok(created))?;
        return Ok(true);
    }
    let ranks: Vec<String> = created.ranks.iter().map(u32::to_string).collect();
    daos_report::print_line!(
        "pool {} created: {} on rank(s) {}, {} SCM and {} block device on each\nnext: daos container create --pool {0} LABEL",
        created.label,
        created.uuid,
        ranks.join(","),
        bytes(created.scm_bytes),
        bytes(created.bdev_bytes)
    );
    Ok(true)
}

async fn space(cli: &Cli, host: &str) -> anyhow::Result<Vec<EngineSpace>> {
    let mut client = crate::connect::connect(host, &cli.reach).await?;
    let answer = client.pool_space(PoolSpaceRequest {}).await;
    Ok(answer.map_err(|s| failed(&s))?.into_inner().engines)
}

/// A share of what the poorest of the chosen ranks has left, so that all can give it.
fn share(percent: f64, space: &[EngineSpace], args: &CreateArgs) -> anyhow::Result<[u64; 2]> {
    let chosen = || {
        space
            .iter()
            .filter(|engine| args.ranks.is_empty() || args.ranks.contains(&engine.rank))
            .take(args.nranks.map_or(usize::MAX, |n| n as usize))
    };
    let least = |of: fn(&EngineSpace) -> u64| chosen().map(of).min().unwrap_or(0);
    let of = |free: u64| match percent {
        100.0 => free,
        percent => (free as f64 * percent / 100.0) as u64,
    };
    let [scm, bdev] = [least(|e| e.scm_free), least(|e| e.bdev_free)];
    if scm == 0 {
        bail!(
            "all SCM belongs to pools already; `daos_shell pool list` shows them, destroy one to make room"
        );
    }
    Ok([of(scm), of(bdev)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Command, PoolCommand};
    use clap::Parser;

    fn args(line: &str) -> CreateArgs {
        let words = "daos_shell pool create x -z 50%".split(' ');
        let cli = Cli::parse_from(words.chain(line.split_whitespace()));
        match cli.command {
            Command::Pool(PoolCommand::Create(args)) => args,
            _ => unreachable!("the line says so"),
        }
    }

    #[test]
    fn a_share_is_what_every_rank_can_give() {
        let engine = |rank, scm_free, bdev_free| EngineSpace {
            rank,
            scm_free,
            bdev_free,
            ..EngineSpace::default()
        };
        let space = [engine(0, 1000, 80), engine(1, 600, 90)];
        assert_eq!(share(50.0, &space, &args("")).unwrap(), [300, 40]);
        assert_eq!(share(100.0, &space, &args("-r 1")).unwrap(), [600, 90]);
        assert_eq!(share(10.0, &space, &args("-k 1")).unwrap(), [100, 8]);
        assert!(share(50.0, &[engine(0, 0, 5)], &args("")).is_err());
    }
}
