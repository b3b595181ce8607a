//! `daos container` and `daos pool`, and which container other commands mean.

use crate::cli::{Cli, ContainerCommand, PoolCommand};
use crate::{Verdict, output};
use daos_client::{Client, Container, Entry, EntryState, Pool, PoolSpace, Uuid};
use daos_report::{bytes, table};
use serde::Serialize;

/// The pool that is named, or the only one.
pub(crate) async fn pool(client: &Client, name: Option<&str>) -> anyhow::Result<Pool> {
    Ok(match name {
        Some(name) => client.pool(name).await?,
        None => client.only_pool().await?,
    })
}

/// A container that exists.
pub(crate) async fn open(
    client: &Client,
    of: Option<&str>,
    name: &str,
) -> anyhow::Result<Container> {
    Ok(pool(client, of).await?.container(name).await?)
}

#[derive(Serialize)]
struct ContainerRow {
    uuid: Uuid,
    label: String,
    state: &'static str,
    created_ms: u64,
    pool: Uuid,
}

impl ContainerRow {
    fn new(pool: &Pool, entry: Entry) -> Self {
        Self {
            uuid: entry.id,
            label: entry.label,
            state: state(entry.state),
            created_ms: entry.created_ms,
            pool: pool.id(),
        }
    }

    fn words(&self) -> Vec<String> {
        vec![
            self.uuid.to_string(),
            self.label.clone(),
            self.state.to_owned(),
        ]
    }
}

#[derive(Serialize)]
struct Containers {
    pool: Uuid,
    pool_label: String,
    containers: Vec<ContainerRow>,
}

fn state(state: EntryState) -> &'static str {
    match state {
        EntryState::Live => "live",
        EntryState::Destroying => "destroying",
    }
}

pub(crate) async fn run(
    cli: &Cli,
    command: &ContainerCommand,
    client: &Client,
) -> anyhow::Result<Verdict> {
    match command {
        ContainerCommand::Create {
            label,
            uuid,
            pool: of,
        } => {
            let pool = pool(client, of.as_deref()).await?;
            let id = uuid.unwrap_or_else(Uuid::new_v4);
            pool.create_container(id, label.as_deref().unwrap_or_default())
                .await?;
            let row = ContainerRow::new(&pool, pool.find_container(id).await?);
            output::answer(cli.json, row, |row| {
                let name = label.clone().unwrap_or_else(|| row.uuid.to_string());
                format!(
                    "container {} created in pool {}\nnext: daos object put --pool {1} --cont {name} 0.1 DKEY AKEY VALUE",
                    row.uuid,
                    pool.label()
                )
            })?;
        }
        ContainerCommand::List { pool: of } => {
            let pool = pool(client, of.as_deref()).await?;
            let rows = pool.containers().await?.into_iter();
            let document = Containers {
                pool: pool.id(),
                pool_label: pool.label().to_owned(),
                containers: rows.map(|entry| ContainerRow::new(&pool, entry)).collect(),
            };
            output::answer(cli.json, document, |document| {
                if document.containers.is_empty() {
                    return format!("no containers in pool {}", document.pool_label);
                }
                let rows = document.containers.iter().map(ContainerRow::words);
                table(&["UUID", "LABEL", "STATE"], rows)
            })?;
        }
        ContainerCommand::Query {
            container,
            pool: of,
        } => {
            let pool = pool(client, of.as_deref()).await?;
            let entry = pool.find_container(container.as_str()).await?;
            let row = ContainerRow::new(&pool, entry);
            output::answer(cli.json, row, |row| {
                table(&["UUID", "LABEL", "STATE"], [row.words()])
            })?;
        }
        ContainerCommand::Destroy {
            container,
            pool: of,
        } => {
            let pool = pool(client, of.as_deref()).await?;
            pool.destroy_container(container.as_str()).await?;
            output::answer(cli.json, serde_json::Map::new(), |_| {
                format!("container {container} of pool {} destroyed", pool.label())
            })?;
        }
    }
    Ok(Verdict::Good)
}

#[derive(Serialize)]
struct PoolRow {
    uuid: Uuid,
    label: String,
    state: &'static str,
    created_ms: u64,
    /// On this engine.
    scm_bytes: u64,
    bdev_bytes: u64,
}

impl From<&Entry> for PoolRow {
    fn from(entry: &Entry) -> Self {
        Self {
            uuid: entry.id,
            label: entry.label.clone(),
            state: state(entry.state),
            created_ms: entry.created_ms,
            scm_bytes: entry.scm_bytes,
            bdev_bytes: entry.bdev_bytes,
        }
    }
}

#[derive(Serialize)]
struct Pools {
    pools: Vec<PoolRow>,
}

/// Space of a pool on an engine.
#[derive(Serialize)]
struct SpaceRow {
    #[serde(flatten)]
    pool: PoolRow,
    containers: usize,
    scm_total: u64,
    scm_free: u64,
    bdev_total: u64,
    bdev_free: u64,
}

pub(crate) async fn run_pool(
    cli: &Cli,
    command: &PoolCommand,
    client: &Client,
) -> anyhow::Result<Verdict> {
    match command {
        PoolCommand::List => {
            let pools = client.pools().await?;
            let document = Pools {
                pools: pools.iter().map(PoolRow::from).collect(),
            };
            output::answer(cli.json, document, |document| {
                if document.pools.is_empty() {
                    return "no pools; `daos_shell pool create LABEL --size 50%` creates one"
                        .to_owned();
                }
                let rows = document.pools.iter().map(|row| {
                    let sizes = [row.scm_bytes, row.bdev_bytes].map(bytes);
                    let [scm, bdev] = sizes;
                    vec![
                        row.label.clone(),
                        row.uuid.to_string(),
                        row.state.to_owned(),
                        scm,
                        bdev,
                    ]
                });
                table(&["LABEL", "UUID", "STATE", "SCM", "BDEV"], rows)
            })?;
        }
        PoolCommand::Query { pool: name } => {
            let pool = pool(client, name.as_deref()).await?;
            let spaces = pool.space().await?;
            let sum = |of: fn(&PoolSpace) -> u64| spaces.iter().map(of).sum::<u64>();
            let row = SpaceRow {
                pool: PoolRow::from(pool.entry()),
                containers: pool.containers().await?.len(),
                scm_total: sum(|s| s.scm_total),
                scm_free: sum(|s| s.scm_free),
                bdev_total: sum(|s| s.bdev_total),
                bdev_free: sum(|s| s.bdev_free),
            };
            output::answer(cli.json, row, |row| {
                let tiers = [
                    ("SCM", row.scm_total, row.scm_free),
                    ("block device", row.bdev_total, row.bdev_free),
                ];
                let rows = tiers
                    .map(|(tier, total, free)| vec![tier.to_owned(), bytes(total), bytes(free)]);
                format!(
                    "pool {} ({}), {} container(s), on this engine:\n{}",
                    row.pool.label,
                    row.pool.uuid,
                    row.containers,
                    table(&["TIER", "TOTAL", "FREE"], rows)
                )
            })?;
        }
    }
    Ok(Verdict::Good)
}
