//! Engines by rank: stopped, started, taken out of the system, erased with it.

use super::set;
use crate::ask::confirmed;
use crate::cli::{Cli, EraseArgs, ExcludeArgs, RankArgs};
use crate::manage::{connect, failed};
use anyhow::bail;
use daos_proto::mgmt::{
    LeaderQueryReq, SystemEraseReq, SystemExcludeReq, SystemQueryReq, SystemStartReq, SystemStopReq,
};
use daos_proto::shared::RankResult;
use daos_report::{Envelope, print_json, table};
use serde::Serialize;
use std::collections::BTreeMap;

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
    /// Hosts, likewise.
    absent_hosts: String,
}

pub(crate) async fn stop(
    cli: &Cli,
    args: &RankArgs,
    force: bool,
    hosts: &[String],
) -> anyhow::Result<bool> {
    let request = SystemStopReq {
        ranks: args.ranks.clone().unwrap_or_default(),
        hosts: args.rank_hosts.clone().unwrap_or_default(),
        force,
        ..SystemStopReq::default()
    };
    let answer = connect(cli, hosts).await?.system_stop(request).await;
    let answer = answer.map_err(|status| failed(&status))?.into_inner();
    print(cli, answer.results, answer.absentranks, answer.absenthosts)
}

pub(crate) async fn start(cli: &Cli, args: &RankArgs, hosts: &[String]) -> anyhow::Result<bool> {
    let request = SystemStartReq {
        ranks: args.ranks.clone().unwrap_or_default(),
        hosts: args.rank_hosts.clone().unwrap_or_default(),
        ..SystemStartReq::default()
    };
    let answer = connect(cli, hosts).await?.system_start(request).await;
    let answer = answer.map_err(|status| failed(&status))?.into_inner();
    print(cli, answer.results, answer.absentranks, answer.absenthosts)
}

/// `system exclude`.
pub(crate) async fn exclude(
    cli: &Cli,
    args: &ExcludeArgs,
    hosts: &[String],
) -> anyhow::Result<bool> {
    if !args.force && !args.which.is_empty() {
        if cli.json {
            bail!("with --json nothing is asked: add -f to exclude");
        }
        daos_report::print_line!(
            "The engines are stopped, and not let in again until `system clear-exclude`."
        );
        if !confirmed("exclude them")? {
            eprintln!("Nothing was excluded.");
            return Ok(false);
        }
    }
    change(cli, &args.which, false, hosts).await
}

/// `system clear-exclude`.
pub(crate) async fn clear_exclude(
    cli: &Cli,
    args: &RankArgs,
    hosts: &[String],
) -> anyhow::Result<bool> {
    change(cli, args, true, hosts).await
}

async fn change(
    cli: &Cli,
    which: &RankArgs,
    clear: bool,
    hosts: &[String],
) -> anyhow::Result<bool> {
    if which.is_empty() {
        bail!("name the engines, with --ranks or --rank-hosts");
    }
    let request = SystemExcludeReq {
        ranks: which.ranks.clone().unwrap_or_default(),
        hosts: which.rank_hosts.clone().unwrap_or_default(),
        clear,
        ..SystemExcludeReq::default()
    };
    let answer = connect(cli, hosts).await?.system_exclude(request).await;
    let answer = answer.map_err(|status| failed(&status))?.into_inner();
    print(cli, answer.results, String::new(), String::new())
}

/// `system erase`.
pub(crate) async fn erase(cli: &Cli, args: &EraseArgs, hosts: &[String]) -> anyhow::Result<bool> {
    let mut client = connect(cli, hosts).await?;
    if !args.force {
        if cli.json {
            bail!("with --json nothing is asked: add -f to erase the system");
        }
        // Whoever meant another system is told before the question.
        let members = client.system_query(SystemQueryReq::default()).await;
        let members = members
            .map_err(|status| failed(&status))?
            .into_inner()
            .members;
        let ranks: Vec<u32> = members.iter().map(|m| m.rank).collect();
        daos_report::print_line!(
            "The system ends, with all data of its {} engine(s), ranks {}.",
            ranks.len(),
            set(&ranks)
        );
        if !confirmed("erase the system")? {
            eprintln!("Nothing was erased.");
            return Ok(false);
        }
    }
    let answer = client.system_erase(SystemEraseReq::default()).await;
    let answer = answer.map_err(|status| failed(&status))?.into_inner();
    let complete = print(cli, answer.results, String::new(), String::new())?;
    if complete && !cli.json {
        daos_report::print_line!("next: daos_shell storage format --reformat");
    }
    Ok(complete)
}

/// Prints results; `Ok(false)` when an engine did not do it, or is not there.
fn print(
    cli: &Cli,
    results: Vec<RankResult>,
    absent: String,
    absent_hosts: String,
) -> anyhow::Result<bool> {
    let rows = Rows {
        ranks: results.into_iter().map(Row::from).collect(),
        absent,
        absent_hosts,
    };
    let mut errors = failures(&rows.ranks);
    for (what, absent) in [("rank", &rows.absent), ("host", &rows.absent_hosts)] {
        if !absent.is_empty() {
            errors.push(format!("the system has no {what} {absent}"));
        }
    }
    let complete = errors.is_empty();
    if cli.json {
        print_json(&match complete {
            true => Envelope::ok(rows),
            false => Envelope::failed(Some(rows), errors.join("; ")),
        })?;
        return Ok(complete);
    }
    let words = rows.ranks.iter().map(|row| {
        let rank = row.rank.to_string();
        let told = match row.failed {
            true => "failed, see below".to_owned(),
            false => row.message.clone(),
        };
        vec![rank, row.state.clone(), row.address.clone(), told]
    });
    daos_report::print_line!("{}", table(&["RANK", "STATE", "HOST", "RESULT"], words));
    for error in errors {
        eprintln!("ERROR: {error}");
    }
    Ok(complete)
}

/// What failed, told once for all ranks that failed alike.
fn failures(rows: &[Row]) -> Vec<String> {
    let mut by_text: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.failed) {
        // The rank's own name in its error must not tell equal errors apart.
        let text = row
            .message
            .replace(&format!("rank {} ", row.rank), "the rank ");
        by_text.entry(text).or_default().push(row.rank);
    }
    let line = |(text, ranks): (String, Vec<u32>)| format!("rank {}: {text}", set(&ranks));
    by_text.into_iter().map(line).collect()
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
    daos_report::print_line!(
        "leader: {}",
        leader
            .leader
            .as_deref()
            .unwrap_or("none, the system is not formatted")
    );
    daos_report::print_line!("replicas: {}", leader.replicas.join(","));
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_a_set() {
        assert_eq!(parse("0-3,7").as_deref(), Ok("0-3,7"));
        for wrong in ["", "x", "3-1", "0,,1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn equal_failures_are_told_once() {
        let row = |rank: u32, failed, message: &str| Row {
            rank,
            state: String::new(),
            message: message.to_owned(),
            failed,
            address: String::new(),
        };
        let rows = [
            row(0, true, "rank 0 has to be stopped first"),
            row(1, true, "rank 1 has to be stopped first"),
            row(2, false, "fine"),
            row(4, true, "no answer"),
        ];
        assert_eq!(
            failures(&rows),
            [
                "rank 4: no answer",
                "rank 0-1: the rank has to be stopped first"
            ]
        );
    }
}
