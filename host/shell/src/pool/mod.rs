//! `pool`: the pools of a system, over its management service.

pub(crate) mod create;
pub(crate) mod destroy;
pub(crate) mod show;
pub(crate) mod size;

use crate::cli::Cli;
use crate::connect::{MgmtClient, connect_mgmt};
use crate::fanout::explain;
use anyhow::{anyhow, bail};

/// The host of the list that is asked: the first, since any host of a system knows its pools.
fn host(hosts: &[String]) -> anyhow::Result<&str> {
    match hosts.first() {
        Some(host) => Ok(host),
        None => bail!("the host list is empty"),
    }
}

pub(crate) async fn connect(cli: &Cli, hosts: &[String]) -> anyhow::Result<MgmtClient> {
    connect_mgmt(host(hosts)?, &cli.reach).await
}

pub(crate) fn failed(status: &tonic::Status) -> anyhow::Error {
    anyhow!(explain(status))
}

/// The system as requests name it: with the caller's version.
fn system(name: &str) -> String {
    match name {
        "" => String::new(),
        name => format!("{name}-{}", daos_proto::PROTOCOL_VERSION),
    }
}
