//! The management service of the system that the hosts belong to: whichever host of the list is asked knows who keeps it.

use crate::cli::Cli;
use crate::connect::{MgmtClient, connect_mgmt};
use crate::fanout::{error_text, explain};
use anyhow::{anyhow, bail};
use daos_proto::fault;
use daos_proto::mgmt::LeaderQueryReq;
use std::collections::{BTreeMap, VecDeque};

/// Connects to the first host of the list that answers, or to the access point that it names.
///
/// # Errors
/// Nobody answers.
pub(crate) async fn connect(cli: &Cli, hosts: &[String]) -> anyhow::Result<MgmtClient> {
    access_point(cli, hosts).await.map(|(_, client)| client)
}

/// As [`connect`], with the host that answered.
///
/// # Errors
/// Nobody answers.
pub(crate) async fn access_point(
    cli: &Cli,
    hosts: &[String],
) -> anyhow::Result<(String, MgmtClient)> {
    if hosts.is_empty() {
        bail!("the host list is empty");
    }
    let mut left: VecDeque<String> = hosts.iter().cloned().collect();
    let mut asked: Vec<String> = Vec::new();
    let mut errors = BTreeMap::new();
    while let Some(host) = left.pop_front() {
        if asked.contains(&host) {
            continue;
        }
        asked.push(host.clone());
        let mut client = match connect_mgmt(&host, &cli.reach).await {
            Ok(client) => client,
            Err(error) => {
                errors.insert(host, format!("{error:#}"));
                continue;
            }
        };
        match client.leader_query(LeaderQueryReq::default()).await {
            Err(status) if fault::is_not_replica(&status) => {
                // Those that it names come first: they are of the same system.
                let named = fault::replicas(&status);
                named.into_iter().rev().for_each(|r| left.push_front(r));
                errors.insert(host, status.message().to_owned());
            }
            Err(status) if status.code() == tonic::Code::Unavailable => {
                errors.insert(host, explain(&status));
            }
            // What else it says, it says to the call proper as well.
            _ => return Ok((host, client)),
        }
    }
    Err(anyhow!(error_text(&errors)))
}

pub(crate) fn failed(status: &tonic::Status) -> anyhow::Error {
    anyhow!(explain(status))
}
