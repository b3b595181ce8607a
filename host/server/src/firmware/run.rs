//! Carrying an update out: one device after the other, each with its own result.

use super::devices::Chosen;
use super::image::Image;
use super::plan::Plan;
use super::{Events, Firmware, fault};
use crate::plugins::Trouble;
use crate::plugins::firmware::{document, update};
use daos_helper::{CallOptions, Cancel, HelperPool, Progress};
use daos_plugin_api::control::{FirmwareActivation, FirmwareRequest, FirmwareUpdate};
use daos_proto::ctl::ResponseStatus;
use daos_proto::host::update_firmware_event::Event;
use daos_proto::host::{
    Fault, FirmwareProgress, FirmwareResult, FirmwareSummary, UpdateFirmwareRequest,
};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{error, info, warn};

/// How long a device may work on an image after it was too late to cancel.
const COMMIT_WITHIN: Duration = Duration::from_secs(600);

/// Updates the devices of a plan that nothing stands in the way of.
///
/// # Errors
/// The devices cannot be leased; nothing was touched.
pub(super) async fn run(
    firmware: &Firmware,
    request: &UpdateFirmwareRequest,
    image: &Image,
    plan: Plan,
    events: &Events,
) -> Result<(), Trouble> {
    let refusals = plan.message.devices.into_iter().map(|d| d.refusal);
    let work: Vec<(Chosen, Option<Fault>)> = plan.devices.into_iter().zip(refusals).collect();
    let free = work.iter().filter(|(_, refusal)| refusal.is_none());
    let leases: Vec<String> = free.flat_map(|(d, _)| d.leases.iter().cloned()).collect();
    let state = &firmware.state;
    state
        .leases
        .lease_to_firmware(&leases, std::process::id())
        .map_err(|e| {
            let what = "the firmware update cannot have its devices";
            fault(ResponseStatus::CtlErrApp, what, e.to_string(), "try again")
        })?;
    let helpers = firmware.plugins.separate_helpers();
    let mut summary = FirmwareSummary::default();
    for (device, refusal) in work {
        let begun = Instant::now();
        let mut result = match refusal {
            Some(refusal) => failed(refusal),
            None => one(firmware, &helpers, request, image, &device, events).await,
        };
        result.elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        result.device.get_or_insert_with(|| device.message.clone());
        match (&result.fault, result.pending) {
            (Some(fault), _) => {
                error!("firmware of {}: {fault}", device.name());
                summary.failed += 1;
            }
            (None, true) => summary.pending += 1,
            (None, false) => summary.updated += 1,
        }
        events.send(Event::Result(result));
    }
    // A device is free once the process that had it is gone.
    helpers.end().await;
    if let Err(error) = state.leases.release_firmware(std::process::id()) {
        // The lease of a dead process does not count; until then the devices stay out of reach.
        warn!("{error}");
    }
    events.send(Event::Summary(summary));
    Ok(())
}

fn failed(fault: Fault) -> FirmwareResult {
    FirmwareResult {
        status: fault.status,
        fault: Some(fault),
        ..FirmwareResult::default()
    }
}

/// Updates one device.
async fn one(
    firmware: &Firmware,
    helpers: &HelperPool,
    request: &UpdateFirmwareRequest,
    image: &Image,
    device: &Chosen,
    events: &Events,
) -> FirmwareResult {
    let name = device.name();
    let cancel = Cancel::new();
    {
        let mut ending = firmware.ending();
        if ending.wanted {
            let status = ResponseStatus::CtlErrApp;
            let what = format!("the firmware of {name} was not updated");
            let cause = "the server is being stopped";
            return failed(*fault(status, what, cause, "repeat the command later"));
        }
        ending.cancel = Some(cancel.clone());
    }
    let selection = request.selection.clone().unwrap_or_default();
    let wanted = FirmwareRequest::Update(FirmwareUpdate {
        device: device.message.address.clone(),
        image: image.path.clone(),
        sha256: image.sha256.clone(),
        // A device that tells its slots was asked for this one; no device has more than a few.
        slot: u8::try_from(request.slot).unwrap_or(u8::MAX),
        model: selection.model,
        revision: selection.revision,
        new_revision: request.new_revision.clone(),
    });
    let wanted = document(&wanted);
    let told = {
        let (events, message) = (events.clone(), device.message.clone());
        let (sender, mut receiver) = tokio::sync::watch::channel(false);
        let progress = move |progress: Progress| {
            // From the end of the sending on the device works on the image, and is not disturbed.
            if progress.total == 0 {
                sender.send_replace(true);
            }
            events.send(Event::Progress(FirmwareProgress {
                class: message.class.clone(),
                address: message.address.clone(),
                done: progress.done,
                total: progress.total,
                what: progress.what,
            }));
        };
        let options = CallOptions {
            cancel: Some(cancel),
            // One that has just begun to commit ends by itself; killed there, the device might be left without firmware.
            grace: Some(COMMIT_WITHIN),
            progress: Some(Arc::new(progress)),
            ..CallOptions::default()
        };
        info!("firmware of {name}: update from {} begins", image.path);
        let call = update(helpers, &device.plugin, wanted, options);
        tokio::pin!(call);
        tokio::select! {
            answer = &mut call => answer,
            () = async { drop(receiver.wait_for(|sent| *sent).await) } => {
                firmware.ending().cancel = None;
                call.await
            }
        }
    };
    firmware.ending().cancel = None;
    let report = match told {
        Ok(report) => report,
        Err((_, fault)) => return failed(*fault),
    };
    let Some(done) = report.update.clone() else {
        let status = ResponseStatus::CtlErrApp;
        let what = format!("plugin {} does not say what it did", device.plugin.name());
        let remedy = "see the device's revision with `firmware query`; tell the plugin's vendor";
        return failed(*fault(status, what, "", remedy));
    };
    let mut after = device.clone();
    after.take(report);
    info!(
        "firmware of {name}: was {}, is {}{}",
        done.from.trim(),
        after.message.revision,
        if done.remedy.is_empty() { "" } else { "; " },
    );
    FirmwareResult {
        device: Some(after.message),
        status: ResponseStatus::CtlSuccess.into(),
        fault: None,
        from: done.from.trim().to_owned(),
        pending: done.activation == FirmwareActivation::Pending,
        remedy: done.remedy,
        notes: done.notes,
        elapsed_ms: 0,
    }
}
