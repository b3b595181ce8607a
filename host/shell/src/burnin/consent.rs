//! Consent to the destruction of data: what is lost is shown, and the name of the device is typed.

use super::args::StartArgs;
use crate::cli::Cli;
use crate::connect::{burn_in_client, channel};
use crate::fanout::explain;
use anyhow::{anyhow, bail};
use daos_proto::host::{BurnInDestroy, BurnInStartRequest};
use std::io::{BufRead, Write};

/// Asks the host what is on the devices of --destroy-data, and whoever runs this command whether that may go. `None` if
/// it may not.
///
/// # Errors
/// The command line is wrong, or the host cannot tell.
pub(super) async fn obtain(
    cli: &Cli,
    args: &StartArgs,
    hosts: &[String],
    request: &BurnInStartRequest,
) -> anyhow::Result<Option<Vec<BurnInDestroy>>> {
    let [host] = hosts else {
        bail!(
            "--destroy-data is for one host at a time: the same name is another device on each; name one with -l"
        );
    };
    if let Some(name) = args
        .consent
        .iter()
        .find(|name| !args.destroy_data.contains(name))
    {
        bail!("--consent {name} names no device of --destroy-data; repeat the name exactly");
    }
    let mut client = burn_in_client(channel(host, &cli.reach).await?);
    let mut plan = request.clone();
    plan.plan_only = true;
    let refused = |status: tonic::Status| anyhow!("{host}: {}", explain(&status));
    let found = client.start(plan).await.map_err(refused)?.into_inner();
    let mut destroy = Vec::new();
    for name in &args.destroy_data {
        let Some(device) = found.devices.iter().find(|device| device.device == *name) else {
            let names: Vec<&str> = found.devices.iter().map(|d| d.device.as_str()).collect();
            bail!(
                "--destroy-data {name} is not among the devices of this burn-in, which are {}; write the name exactly so",
                names.join(", ")
            );
        };
        if device.holds.is_empty() {
            // Nothing to lose, or nothing is known about it: whatever stands in the way is told by the start.
            continue;
        }
        // Standard output is for results.
        eprintln!(
            "{host}: {name} holds {}, which will be DESTROYED.",
            device.holds
        );
        if !args.consent.contains(name) && !typed(name)? {
            return Ok(None);
        }
        destroy.push(BurnInDestroy {
            device: name.clone(),
            holds: device.holds.clone(),
        });
    }
    Ok(Some(destroy))
}

/// Whether the name is typed on standard input.
fn typed(name: &str) -> anyhow::Result<bool> {
    eprint!("Type the name of the device to destroy its data: ");
    std::io::stderr().flush()?;
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line)?;
    if line.trim() == name {
        return Ok(true);
    }
    match read {
        0 => eprintln!("\nNothing was typed; scripts say --consent {name}"),
        _ => eprintln!("That is not {name}."),
    }
    Ok(false)
}
