//! `firmware query|update` and `storage fwupdate`.

mod args;
mod update;

pub(crate) use args::{FWUPDATE_HELP, FirmwareCommand, FwUpdateArgs};

use crate::cli::Cli;
use crate::connect::firmware_client;
use crate::fanout;
use daos_proto::host::{FirmwareSelection, QueryFirmwareRequest, UpdateFirmwareRequest};
use daos_report::FirmwareReport;

/// Runs the command; `Ok(false)` when something failed and was reported.
pub(crate) async fn run(
    cli: &Cli,
    command: &FirmwareCommand,
    hosts: &[String],
) -> anyhow::Result<bool> {
    match command {
        FirmwareCommand::Query(args) => query(cli, args.which.selection(args.kind), hosts).await,
        FirmwareCommand::Update(args) => {
            let request = UpdateFirmwareRequest {
                selection: Some(args.which.selection(args.kind)),
                image: args.path.clone(),
                slot: args.slot,
                new_revision: args.new_fwrev.clone(),
                ..UpdateFirmwareRequest::default()
            };
            update::run(cli, request, args.how.dry_run, args.how.force, hosts).await
        }
    }
}

/// `storage fwupdate`: every device must be what the command line says.
pub(crate) async fn fwupdate(
    cli: &Cli,
    args: &FwUpdateArgs,
    hosts: &[String],
) -> anyhow::Result<bool> {
    for (name, value) in [("-m", &args.model), ("-r", &args.revision)] {
        anyhow::ensure!(
            !value.trim().is_empty(),
            "{name} is empty; `daos_shell firmware query` shows models and revisions"
        );
    }
    let request = UpdateFirmwareRequest {
        selection: Some(FirmwareSelection {
            devices: args.devices.clone(),
            configured: true,
            model: args.model.clone(),
            revision: args.revision.clone(),
            filter: false,
            ..FirmwareSelection::default()
        }),
        image: args.path.clone(),
        slot: args.slot,
        ..UpdateFirmwareRequest::default()
    };
    update::run(cli, request, args.dry_run, args.force, hosts).await
}

async fn query(cli: &Cli, selection: FirmwareSelection, hosts: &[String]) -> anyhow::Result<bool> {
    let answers = fanout::ask_on(cli, hosts, move |channel| {
        let request = QueryFirmwareRequest {
            selection: Some(selection.clone()),
        };
        async move {
            let answer = firmware_client(channel).query(request).await?;
            Ok(FirmwareReport::from(answer.into_inner()))
        }
    })
    .await;
    let complete = answers.values().flatten().all(FirmwareReport::is_complete);
    Ok(fanout::print(cli, answers, FirmwareReport::text)? && complete)
}
