//! Engines by rank, over the management service of their system.

use crate::cli::Cli;
use crate::pool::{connect, failed};
use daos_proto::mgmt::{LeaderQueryReq, SystemStartReq, SystemStopReq};
use daos_proto::shared::RankResult;
use daos_report::{Envelope, print_json, table};
use serde::Serialize;

/// A set of ranks that makes sense, as it was written.
pub(crate) fn parse(text: &str) -> Result<String, String> {
    match daos_hostlist::numbers(text)?.is_empty() {
        true => Err("no rank is named".to_owned()),
        false => Ok(text.to_owned()),
    }
}

/// What became of one engine.
#[derive(Serialize)]
struct Row {
    rank: u32,
    state: String,
    message: String,
    failed: bool,
    address: String,
}

impl From<RankResult> for Row {
    fn from(result: RankResult) -> Self {
        Self {
            rank: result.rank,
            state: result.state,
            message: result.msg,
            failed: result.errored,
            address: result.addr,
        }
    }
}

#[derive(Serialize)]
struct Rows {
    ranks: Vec<Row>,
    /// Ranks that were named and that the system does not have, as a set.
    absent: String,
}

pub(crate) async fn stop(
    cli: &Cli,
    ranks: &str,
    force: bool,
    hosts: &[String],
) -> anyhow::Result<bool> {
    let request = SystemStopReq {
        ranks: ranks.to_owned(),
        force,
        ..SystemStopReq::default()
    };
    let answer = connect(cli, hosts).await?.system_stop(request).await;
    let answer = answer.map_err(|status| failed(&status))?.into_inner();
    print(cli, answer.results, answer.absentranks)
}

pub(crate) async fn start(cli: &Cli, ranks: &str, hosts: &[String]) -> anyhow::Result<bool> {
    let request = SystemStartReq {
        ranks: ranks.to_owned(),
        ..SystemStartReq::default()
    };
    let answer = connect(cli, hosts).await?.system_start(request).await;
    let answer = answer.map_err(|status| failed(&status))?.into_inner();
    print(cli, answer.results, answer.absentranks)
}

/// Prints results; `Ok(false)` when an engine did not do it, or is not there.
fn print(cli: &Cli, results: Vec<RankResult>, absent: String) -> anyhow::Result<bool> {
    let rows = Rows {
        ranks: results.into_iter().map(Row::from).collect(),
        absent,
    };
    let failed = rows.ranks.iter().filter(|row| row.failed).count();
    let error = match (failed, rows.absent.is_empty()) {
        (0, true) => None,
        (0, false) => Some(format!("the system has no rank {}", rows.absent)),
        (n, _) => Some(format!("{n} rank(s) failed")),
    };
    let complete = error.is_none();
    if cli.json {
        print_json(&match error {
            None => Envelope::ok(rows),
            Some(error) => Envelope::failed(Some(rows), error),
        })?;
        return Ok(complete);
    }
    let words = rows.ranks.iter().map(|row| {
        let rank = row.rank.to_string();
        vec![
            rank,
            row.state.clone(),
            row.address.clone(),
            row.message.clone(),
        ]
    });
    println!("{}", table(&["RANK", "STATE", "HOST", "RESULT"], words));
    if let Some(error) = error {
        eprintln!("ERROR: {error}");
    }
    Ok(complete)
}

#[derive(Serialize)]
struct Leader {
    /// None before the first format.
    leader: Option<String>,
    replicas: Vec<String>,
}

/// `system leader-query`.
pub(crate) async fn leader(cli: &Cli, hosts: &[String]) -> anyhow::Result<bool> {
    let answer = connect(cli, hosts)
        .await?
        .leader_query(LeaderQueryReq::default())
        .await;
    let answer = answer.map_err(|status| failed(&status))?.into_inner();
    let leader = Some(answer.current_leader).filter(|leader| !leader.is_empty());
    let leader = Leader {
        leader,
        replicas: answer.replicas,
    };
    if cli.json {
        print_json(&Envelope::ok(leader))?;
        return Ok(true);
    }
    println!(
        "leader: {}",
        leader
            .leader
            .as_deref()
            .unwrap_or("none, the system is not formatted")
    );
    println!("replicas: {}", leader.replicas.join(","));
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn ranks_are_a_set() {
        assert_eq!(parse("0-3,7").as_deref(), Ok("0-3,7"));
        for wrong in ["", "x", "3-1", "0,,1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
