//! `system query` of members.

use crate::cli::{Cli, QueryArgs};
use crate::manage::{connect, failed};
use daos_proto::mgmt::{SystemMember, SystemQueryReq};
use daos_report::{Envelope, print_json, table};
use serde::Serialize;

/// States and their bits in the protocol.
const STATES: [(&str, u32); 11] = [
    ("awaitformat", 0x1),
    ("starting", 0x2),
    ("ready", 0x4),
    ("joined", 0x8),
    ("stopping", 0x10),
    ("stopped", 0x20),
    ("excluded", 0x40),
    ("errored", 0x80),
    ("unresponsive", 0x100),
    ("adminexcluded", 0x200),
    ("checkerstarted", 0x400),
];

/// A member.
#[derive(Serialize)]
struct Row {
    rank: u32,
    state: String,
    reason: String,
    address: String,
    uuid: String,
    fabric_uri: String,
    fault_domain: String,
    incarnation: u64,
    since: String,
}

impl From<SystemMember> for Row {
    fn from(member: SystemMember) -> Self {
        Self {
            rank: member.rank,
            state: member.state,
            reason: member.info,
            address: member.addr,
            uuid: member.uuid,
            fabric_uri: member.fabric_uri,
            fault_domain: member.fault_domain,
            incarnation: member.incarnation,
            since: member.last_update,
        }
    }
}

#[derive(Serialize)]
struct Members {
    members: Vec<Row>,
    /// Ranks and hosts that were named and that the system does not have.
    absent_ranks: String,
    absent_hosts: String,
}

/// The states of a list, as a mask.
///
/// # Errors
/// A word that is none.
pub(crate) fn mask(words: &[String]) -> Result<u32, String> {
    words.iter().try_fold(0, |mask, word| {
        let word = word.trim().to_lowercase();
        let known = STATES.iter().find(|(name, _)| *name == word);
        let names: Vec<&str> = STATES.iter().map(|(name, _)| *name).collect();
        known
            .map(|(_, bit)| mask | bit)
            .ok_or_else(|| format!("{word:?} is no state; there are {}", names.join(", ")))
    })
}

/// Shows members; `Ok(false)` when one that was named is not there.
pub(crate) async fn query(cli: &Cli, args: &QueryArgs, hosts: &[String]) -> anyhow::Result<bool> {
    let serves = mask(&["joined".to_owned(), "ready".to_owned()]).map_err(anyhow::Error::msg)?;
    let state_mask = match args.not_ok {
        true => 0xffff & !serves,
        false => mask(&args.with_states).map_err(anyhow::Error::msg)?,
    };
    let request = SystemQueryReq {
        ranks: args.which.ranks.clone().unwrap_or_default(),
        hosts: args.which.rank_hosts.clone().unwrap_or_default(),
        state_mask,
        ..SystemQueryReq::default()
    };
    let answer = connect(cli, hosts).await?.system_query(request).await;
    let answer = answer.map_err(|status| failed(&status))?.into_inner();
    let told = Members {
        members: answer.members.into_iter().map(Row::from).collect(),
        absent_ranks: answer.absentranks,
        absent_hosts: answer.absenthosts,
    };
    let mut absent = Vec::new();
    for (what, names) in [("rank", &told.absent_ranks), ("host", &told.absent_hosts)] {
        if !names.is_empty() {
            absent.push(format!("the system has no {what} {names}"));
        }
    }
    let complete = absent.is_empty();
    if cli.json {
        print_json(&match complete {
            true => Envelope::ok(told),
            false => Envelope::failed(Some(told), absent.join("; ")),
        })?;
        return Ok(complete);
    }
    if told.members.is_empty() {
        daos_report::print_line!("no members");
    } else {
        daos_report::print_line!("{}", text(&told.members, args.verbose));
    }
    for error in absent {
        eprintln!("ERROR: {error}");
    }
    Ok(complete)
}

fn text(members: &[Row], verbose: bool) -> String {
    let row = |m: &Row| {
        let mut words = vec![m.rank.to_string(), m.state.clone(), m.address.clone()];
        if verbose {
            words.extend([m.uuid.clone(), m.fault_domain.clone(), m.since.clone()]);
        }
        words.push(m.reason.clone());
        words
    };
    let headings: &[&str] = match verbose {
        false => &["RANK", "STATE", "HOST", "REASON"],
        true => &[
            "RANK",
            "STATE",
            "HOST",
            "UUID",
            "FAULT DOMAIN",
            "SINCE",
            "REASON",
        ],
    };
    table(headings, members.iter().map(row))
}

#[cfg(test)]
mod tests {
    use super::mask;

    #[test]
    fn states_are_bits() {
        let of = |words: &[&str]| mask(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&[]), Ok(0));
        assert_eq!(of(&["Joined", "stopped"]), Ok(0x28));
        assert!(of(&["happy"]).unwrap_err().contains("adminexcluded"));
    }
}
