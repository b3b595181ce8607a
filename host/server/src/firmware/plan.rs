//! What an update would do to each device, and what stands in its way. Touches nothing.

use super::devices::Chosen;
use super::fault;
use super::image::Image;
use crate::plugins::Trouble;
use daos_proto::ctl::ResponseStatus;
use daos_proto::host::{
    Fault, FirmwareDevice, FirmwarePlan, FirmwareSelection, PlannedFirmware, UpdateFirmwareRequest,
};
use sha2::{Digest, Sha256};

/// A plan: what clients see, and the devices in the same order.
pub(super) struct Plan {
    pub(super) message: FirmwarePlan,
    pub(super) devices: Vec<Chosen>,
}

/// Plans.
///
/// # Errors
/// No device is left, or plugins that were to be asked for theirs could not be.
pub(super) fn plan(
    request: &UpdateFirmwareRequest,
    selection: &FirmwareSelection,
    image: &Image,
    (devices, faults): (Vec<Chosen>, Vec<daos_proto::host::PluginFault>),
) -> Result<Plan, Trouble> {
    if let Some(failed) = faults.into_iter().find_map(|failed| failed.fault) {
        return Err(Box::new(failed));
    }
    if devices.is_empty() {
        return Err(nothing(selection));
    }
    let planned: Vec<PlannedFirmware> = devices
        .iter()
        .map(|device| PlannedFirmware {
            refusal: refusal(&device.name(), &device.message, request, selection),
            device: Some(device.message.clone()),
        })
        .collect();
    let mut message = FirmwarePlan {
        plan_id: String::new(),
        image_bytes: image.bytes,
        image_sha256: image.sha256.clone(),
        devices: planned,
    };
    let digest = Sha256::digest(format!("{message:?}{}", request.slot));
    message.plan_id = digest.iter().take(16).map(|b| format!("{b:02x}")).collect();
    Ok(Plan { message, devices })
}

fn nothing(selection: &FirmwareSelection) -> Trouble {
    let (cause, remedy) =
        if selection.filter && !(selection.model.is_empty() && selection.revision.is_empty()) {
            (
                "none is of the model and revision that were asked for",
                "`firmware query` shows models and revisions",
            )
        } else if selection.configured {
            (
                "the configuration names no device whose plugin can do it",
                "name devices, or add them to bdev_list",
            )
        } else {
            (
                "no plugin that can do it finds one",
                "see `storage scan` and `plugin list`",
            )
        };
    let what = "there is no device whose firmware could be updated";
    fault(ResponseStatus::CtlErrNvme, what, cause, remedy)
}

/// What stands in the way of a device. The plugin looks again at all that can change until then.
fn refusal(
    name: &str,
    device: &FirmwareDevice,
    request: &UpdateFirmwareRequest,
    selection: &FirmwareSelection,
) -> Option<Fault> {
    let refused = |what: String, cause: String, remedy: &str| {
        Some(*fault(ResponseStatus::CtlErrNvme, what, cause, remedy))
    };
    let left = format!("{name} is left alone");
    if !device.held.is_empty() {
        let remedy = match &device.fault {
            Some(fault) if !fault.remedy.is_empty() => fault.remedy.as_str(),
            _ if device.held.starts_with("engine ") => "stop it first: daos_shell system stop",
            _ => "free the device, then try again",
        };
        return refused(left, format!("it is in use: {}", device.held), remedy);
    }
    if device.fault.is_some() {
        return device.fault.clone();
    }
    if !device.updatable {
        let cause = "it has no commands to change its firmware".to_owned();
        return refused(left, cause, "take it out of the devices of this update");
    }
    let differs = |wanted: &str, own: &str| !wanted.trim().is_empty() && wanted.trim() != own;
    if differs(&selection.model, &device.model) {
        return refused(
            format!("{name}: controller model unexpected"),
            format!(
                "it is {:?}, the image is for {:?}",
                device.model,
                selection.model.trim()
            ),
            "give devices of other models the image that is made for them",
        );
    }
    if differs(&selection.revision, &device.revision) {
        return refused(
            format!("{name}: controller firmware revision unexpected before the update"),
            format!(
                "it runs {:?}, expected was {:?}",
                device.revision,
                selection.revision.trim()
            ),
            "if the image may replace that revision, name it as the one to start from",
        );
    }
    if request.slot == 0 || device.slots.is_empty() {
        return None;
    }
    let numbers: Vec<String> = device
        .slots
        .iter()
        .filter(|slot| !slot.read_only)
        .map(|slot| slot.number.to_string())
        .collect();
    let remedy = match numbers.is_empty() {
        true => "use slot 0, with which the device chooses".to_owned(),
        false => format!(
            "use one of {}, or 0, with which the device chooses",
            numbers.join(", ")
        ),
    };
    match device.slots.iter().find(|s| s.number == request.slot) {
        None => refused(
            left,
            format!("it has no firmware slot {}", request.slot),
            &remedy,
        ),
        Some(slot) if slot.read_only => refused(
            left,
            format!("its firmware slot {} is read-only", request.slot),
            &remedy,
        ),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daos_proto::host::FirmwareSlot;

    fn device() -> FirmwareDevice {
        let slot = |number, read_only| FirmwareSlot {
            number,
            read_only,
            ..FirmwareSlot::default()
        };
        FirmwareDevice {
            model: "M".to_owned(),
            revision: "1.0".to_owned(),
            updatable: true,
            slots: vec![slot(1, true), slot(2, false)],
            ..FirmwareDevice::default()
        }
    }

    #[track_caller]
    fn refused(device: &FirmwareDevice, slot: u32, model: &str, revision: &str) -> Option<String> {
        let request = UpdateFirmwareRequest {
            slot,
            ..UpdateFirmwareRequest::default()
        };
        let selection = FirmwareSelection {
            model: model.to_owned(),
            revision: revision.to_owned(),
            ..FirmwareSelection::default()
        };
        let fault = refusal("nvme:a", device, &request, &selection)?;
        assert!(!fault.remedy.is_empty(), "{fault}");
        assert!(fault.what.contains("nvme:a"), "{fault}");
        Some(fault.to_string())
    }

    #[test]
    fn what_stands_in_the_way_is_told_with_a_remedy() {
        assert_eq!(refused(&device(), 0, "", ""), None);
        assert_eq!(refused(&device(), 2, " M", "1.0 "), None);
        for (slot, model, revision, word) in [
            (1, "", "", "read-only"),
            (3, "", "", "no firmware slot 3"),
            (0, "N", "", "model unexpected"),
            (0, "M", "2.0", "revision unexpected"),
        ] {
            let told = refused(&device(), slot, model, revision).expect(word);
            assert!(told.contains(word), "{told}");
        }
        let mut held = device();
        held.held = "engine 0 (process 7)".to_owned();
        let told = refused(&held, 0, "", "").expect("it is in use");
        assert!(told.contains("system stop"), "{told}");
        let mut fixed = device();
        fixed.updatable = false;
        assert!(refused(&fixed, 0, "", "").is_some());
    }
}
