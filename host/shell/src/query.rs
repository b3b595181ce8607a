//! Commands that only look.

use crate::cli::Cli;
use crate::fanout;
use daos_proto::host::{
    NetworkScanRequest, PluginListRequest, ServerStateRequest, StorageScanDetailRequest,
};
use daos_report::{
    NetworkReport, NetworkScanArgs, PluginReport, ScanReport, ServerRow, StorageScanArgs,
};

/// `storage scan`.
pub(crate) async fn storage_scan(
    cli: &Cli,
    args: &StorageScanArgs,
    hosts: &[String],
) -> anyhow::Result<bool> {
    let (health, verbose) = (args.health, args.verbose);
    let answers = fanout::ask(cli, hosts, move |mut client| async move {
        let request = StorageScanDetailRequest {
            health,
            ..StorageScanDetailRequest::default()
        };
        let answer = client.storage_scan_detail(request).await?;
        Ok(ScanReport::from(answer.into_inner()))
    })
    .await;
    let failed_plugin = answers
        .values()
        .flatten()
        .any(|report| !report.faults.is_empty());
    // Of many hosts nobody reads every device; what differs by nature, as serial numbers, must not tell them apart.
    let briefly = hosts.len() > 1 && !verbose && !health;
    Ok(
        fanout::print(cli, answers, |report: &ScanReport| match briefly {
            true => report.totals(),
            false => report.text_with(verbose),
        })? && !failed_plugin,
    )
}

/// `network scan`.
pub(crate) async fn network_scan(
    cli: &Cli,
    args: &NetworkScanArgs,
    hosts: &[String],
) -> anyhow::Result<bool> {
    let request = NetworkScanRequest {
        provider: args.provider.clone().unwrap_or_default(),
    };
    let answers = fanout::ask(cli, hosts, move |mut client| {
        let request = request.clone();
        async move {
            let answer = client.network_scan(request).await?;
            Ok(NetworkReport::from(answer.into_inner()))
        }
    })
    .await;
    let reports = || answers.values().flatten();
    if args.providers {
        let complete = reports().all(|report| report.faults.is_empty());
        return Ok(fanout::print(cli, answers, NetworkReport::providers_text)? && complete);
    }
    let complete = reports().all(NetworkReport::is_complete);
    Ok(fanout::print(cli, answers, NetworkReport::text)? && complete)
}

/// `plugin list`.
pub(crate) async fn plugin_list(cli: &Cli, hosts: &[String]) -> anyhow::Result<bool> {
    let answers = fanout::ask(cli, hosts, |mut client| async move {
        let answer = client.plugin_list(PluginListRequest {}).await?;
        Ok(PluginReport::from(answer.into_inner()))
    })
    .await;
    fanout::print(cli, answers, PluginReport::text)
}

/// `system query`.
pub(crate) async fn system_query(cli: &Cli, hosts: &[String]) -> anyhow::Result<bool> {
    let answers = fanout::ask(cli, hosts, |mut client| async move {
        let answer = client.server_state(ServerStateRequest {}).await?;
        Ok(ServerRow::from(answer.into_inner()))
    })
    .await;
    fanout::print(cli, answers, ServerRow::text)
}
