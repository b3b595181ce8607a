//! `daos query`.

use crate::cli::Cli;
use crate::{Verdict, output};
use daos_client::Client;
use daos_report::{bytes, table};
use serde::Serialize;

#[derive(Serialize)]
struct Targets {
    targets: Vec<TargetRow>,
}

#[derive(Serialize)]
struct TargetRow {
    target: u32,
    total_bytes: u64,
    free_bytes: u64,
}

pub(crate) async fn run(cli: &Cli, client: &Client) -> anyhow::Result<Verdict> {
    let targets = client.query().await?;
    let rows = targets.into_iter().map(|target| TargetRow {
        target: target.target,
        total_bytes: target.total,
        free_bytes: target.free,
    });
    let document = Targets {
        targets: rows.collect(),
    };
    output::answer(cli.json, document, |document| {
        let rows = document.targets.iter().map(|row| {
            let total = row.total_bytes.max(1) as f64;
            let used = 100.0 - 100.0 * row.free_bytes as f64 / total;
            vec![
                row.target.to_string(),
                bytes(row.total_bytes),
                bytes(row.free_bytes),
                format!("{used:.1} %"),
            ]
        });
        table(&["TARGET", "TOTAL", "FREE", "USED"], rows)
    })?;
    Ok(Verdict::Good)
}
