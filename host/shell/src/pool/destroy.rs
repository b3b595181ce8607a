//! `pool destroy`.

use super::{connect, failed};
use crate::ask::confirmed;
use crate::cli::{Cli, DestroyArgs};
use anyhow::bail;
use daos_proto::mgmt::{PoolDestroyReq, PoolQueryReq};
use daos_report::{Envelope, print_json};

pub(crate) async fn run(cli: &Cli, args: &DestroyArgs, hosts: &[String]) -> anyhow::Result<bool> {
    let id = match (&args.pool, &args.uuid) {
        (Some(id), _) | (None, Some(id)) => id.clone(),
        (None, None) => bail!("no pool is named"),
    };
    let mut client = connect(cli, hosts).await?;
    if !args.force {
        if cli.json {
            bail!("with --json nothing is asked: add -f to destroy pool {id}");
        }
        // Whoever mistyped it is told before the question.
        let query = PoolQueryReq {
            id: id.clone(),
            ..PoolQueryReq::default()
        };
        let pool = client.pool_query(query).await.map_err(|s| failed(&s))?;
        let pool = pool.into_inner();
        daos_report::print_line!(
            "All data in pool {} ({}) will be destroyed.",
            pool.label,
            pool.uuid
        );
        if !confirmed("destroy the pool")? {
            eprintln!("Nothing was destroyed.");
            return Ok(false);
        }
    }
    let request = PoolDestroyReq {
        id: id.clone(),
        force: args.force,
        recursive: args.recursive,
        ..PoolDestroyReq::default()
    };
    client.pool_destroy(request).await.map_err(|s| failed(&s))?;
    if cli.json {
        print_json(&Envelope::ok(serde_json::Map::new()))?;
    } else {
        daos_report::print_line!("pool {id} destroyed");
    }
    Ok(true)
}
