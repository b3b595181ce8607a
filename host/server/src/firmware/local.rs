//! `daos_server firmware query|update`: the same without a server.

use super::{Events, Firmware};
use crate::cli::{Cli, StartArgs};
use crate::plugins::Plugins;
use crate::scan::config_or_default;
use crate::state::State;
use clap::{Args, Subcommand};
use daos_proto::host::update_firmware_event::Event;
use daos_proto::host::{FirmwareProgress, FirmwareSelection, UpdateFirmwareRequest};
use daos_report::{
    Envelope, FaultRow, FirmwarePlanReport, FirmwareReport, FirmwareResultRow, print_json,
};
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

#[derive(Subcommand)]
pub(crate) enum FirmwareCommand {
    /// List devices with the firmware that runs and what is in their slots.
    #[command(
        after_help = "Exit status: 0 on success, 1 if a device or plugin could not be asked, 2 for a wrong command \
                            line. A device in use is listed with who has it."
    )]
    Query(Which),
    /// Put an image into devices, activate it, and verify that it runs. Shows what it would do and does it only with
    /// --force.
    #[command(
        after_help = "Examples:\n  daos_server firmware update -p /root/fw.bin -m 'MODEL'\n  sudo daos_server firmware \
                            update -p /root/fw.bin -d 0000:81:00.0 --fwrev 1.0 --slot 2 --force\n\nExit status: 0 if every \
                            device has the new firmware (one that runs it only after a power cycle says so), 1 if one was refused or failed, 2 for a wrong command line."
    )]
    Update(UpdateArgs),
}

/// Which devices are meant.
#[derive(Args)]
pub(crate) struct Which {
    /// Devices, as ADDRESS or CLASS:ADDRESS [default: all that the plugins find]
    #[arg(short, long, value_delimiter = ',', value_name = "DEVICE")]
    devices: Vec<String>,
    /// Only devices of this model.
    #[arg(short, long, default_value = "", hide_default_value = true)]
    model: String,
    /// Only devices that run this firmware revision.
    #[arg(short, long, default_value = "", hide_default_value = true)]
    fwrev: String,
    /// nvme (SSDs), scm (modules of persistent memory) or all [default: all for a query, nvme for an update]
    #[arg(
        short = 't',
        long = "type",
        default_value = "",
        hide_default_value = true,
        value_name = "TYPE"
    )]
    kind: String,
}

#[derive(Args)]
pub(crate) struct UpdateArgs {
    /// The image, with its whole path.
    #[arg(short, long, value_name = "FILE")]
    path: String,
    #[command(flatten)]
    which: Which,
    /// Slot of the devices that it goes to; 0 = each device chooses.
    #[arg(short, long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=7))]
    slot: u32,
    /// Do it; otherwise it is only shown. Lifts no guard.
    #[arg(long)]
    force: bool,
}

impl Which {
    fn selection(&self) -> FirmwareSelection {
        FirmwareSelection {
            devices: self.devices.clone(),
            configured: false,
            model: self.model.clone(),
            revision: self.fwrev.clone(),
            filter: true,
            r#type: self.kind.clone(),
        }
    }
}

/// Runs the command; `Ok(false)` when a device failed and was reported.
pub(crate) fn run(cli: &Cli, command: &FirmwareCommand) -> anyhow::Result<bool> {
    let exe = std::env::current_exe()?;
    let overrides = cli.start.overrides(&StartArgs::default(), &cli.globals);
    let config = config_or_default(cli, &overrides, &exe);
    let plugins = Arc::new(Plugins::open(&config, &exe)?);
    let state = Arc::new(State::offline(config, plugins.state_dir().clone()));
    let firmware = Firmware::new(plugins, state, None);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match command {
            FirmwareCommand::Query(which) => query(cli, &firmware, which).await,
            FirmwareCommand::Update(args) => update(cli, &firmware, args).await,
        }
    })
}

async fn query(cli: &Cli, firmware: &Firmware, which: &Which) -> anyhow::Result<bool> {
    let found = firmware.query(&which.selection()).await;
    let report = FirmwareReport::from(found.map_err(|fault| anyhow::anyhow!("{fault}"))?);
    let complete = report.is_complete();
    if !cli.globals.json {
        daos_report::print_line!("{}", report.text());
        return Ok(complete);
    }
    print_json(&match complete {
        true => Envelope::ok(report),
        false => Envelope::failed(Some(report), "not every device could be asked".to_owned()),
    })?;
    Ok(complete)
}

/// What an update did, or would do.
#[derive(Default, Serialize)]
struct Outcome {
    plan: Option<FirmwarePlanReport>,
    results: Vec<FirmwareResultRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<FaultRow>,
}

async fn update(cli: &Cli, firmware: &Firmware, args: &UpdateArgs) -> anyhow::Result<bool> {
    let request = UpdateFirmwareRequest {
        selection: Some(args.which.selection()),
        image: args.path.clone(),
        slot: args.slot,
        plan_only: !args.force,
        ..UpdateFirmwareRequest::default()
    };
    let (sender, mut stream) = mpsc::unbounded_channel();
    let mut outcome = Outcome::default();
    let mut said = HashMap::new();
    let work = async {
        // The stream ends with its sender.
        let events = Events::new(sender);
        firmware.update(&request, &events).await
    };
    let told = async {
        while let Some(event) = stream.recv().await {
            match event.ok().and_then(|event| event.event) {
                Some(Event::Plan(plan)) => {
                    let plan = FirmwarePlanReport::from(plan);
                    if !cli.globals.json {
                        daos_report::print_line!("{}", plan.text());
                    }
                    outcome.plan = Some(plan);
                }
                Some(Event::Progress(progress)) if !cli.globals.json => show(&mut said, &progress),
                Some(Event::Result(result)) => {
                    let row = FirmwareResultRow::from(result);
                    if !cli.globals.json {
                        daos_report::print_line!("{}", row.text());
                    }
                    outcome.results.push(row);
                }
                _ => {}
            }
        }
    };
    let both = async { tokio::join!(work, told).0 };
    let done = tokio::select! {
        done = both => done,
        // A helper that died with this process would leave a device in the middle of its firmware.
        never = ended(firmware) => match never {},
    };
    if let Err(fault) = done {
        outcome.fault = Some(FaultRow::from(&*fault));
    }
    let refused = |plan: &FirmwarePlanReport| plan.free() < plan.devices.len();
    let failed = outcome.results.iter().any(|row| row.fault.is_some())
        || (!args.force && outcome.plan.as_ref().is_some_and(refused));
    let well = outcome.fault.is_none() && !failed;
    if cli.globals.json {
        print_json(&match &outcome.fault {
            None if well => Envelope::ok(outcome),
            None => Envelope::failed(Some(outcome), "not every device was updated".to_owned()),
            Some(fault) => {
                let error = format!("{}: {}", fault.what, fault.cause);
                Envelope::failed(Some(outcome), error)
            }
        })?;
        return Ok(well);
    }
    match &outcome.fault {
        Some(fault) => eprintln!("ERROR: {fault}"),
        None if !args.force => {
            daos_report::print_line!("Nothing was written; repeat with --force to do it.")
        }
        None => {}
    }
    Ok(well)
}

/// Ends an update when this program is told to end, which then follows.
async fn ended(firmware: &Firmware) -> std::convert::Infallible {
    let mut terminate = signal(SignalKind::terminate()).ok();
    let terminated = async {
        match &mut terminate {
            Some(terminate) => drop(terminate.recv().await),
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        // Without the signal nobody asks for an end.
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
    eprintln!("ending as soon as the device at hand allows it");
    firmware.end().await;
    std::future::pending().await
}

/// A line for each step, and for each tenth of an image.
fn show(said: &mut HashMap<String, String>, progress: &FirmwareProgress) {
    let mut step = progress.what.clone();
    if let Some(tenths) = progress.done.saturating_mul(10).checked_div(progress.total) {
        step += &format!(" {} %", tenths * 10);
    }
    if said.get(&progress.address) != Some(&step) {
        eprintln!("{}: {step}", progress.address);
        said.insert(progress.address.clone(), step);
    }
}
