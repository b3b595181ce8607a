//! Firmware of devices: what there is, what an update would do and did.

use crate::{FaultRow, bytes, status_text, table};
use daos_proto::host;
use serde::Serialize;
use std::collections::BTreeMap;

/// Answer of `firmware query`.
#[derive(Clone, Debug, Serialize)]
pub struct FirmwareReport {
    /// By class and address.
    pub devices: Vec<FirmwareRow>,
    /// Plugins that could not be asked, with the reason.
    pub faults: BTreeMap<String, FaultRow>,
}

/// Firmware of one device.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)] // the message's own documentation stands in firmware.proto
pub struct FirmwareRow {
    pub class: String,
    pub plugin: String,
    pub address: String,
    pub model: String,
    pub serial: String,
    pub revision: String,
    pub updatable: bool,
    pub slots: Vec<FirmwareSlotRow>,
    pub held: String,
    pub fault: Option<FaultRow>,
}

/// A slot of a device.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct FirmwareSlotRow {
    pub number: u32,
    pub revision: String,
    pub read_only: bool,
    pub active: bool,
    pub next: bool,
}

/// What an update would do on a host.
#[derive(Clone, Debug, Serialize)]
pub struct FirmwarePlanReport {
    /// Bytes of the image.
    pub image_bytes: u64,
    /// SHA-256 of the image.
    pub image_sha256: String,
    /// The devices, in order.
    pub devices: Vec<PlannedFirmwareRow>,
}

/// What an update would do to a device.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedFirmwareRow {
    /// The device.
    pub device: FirmwareRow,
    /// What stands in the way; the device is left alone then.
    pub refusal: Option<FaultRow>,
}

/// What became of a device.
#[derive(Clone, Debug, Serialize)]
pub struct FirmwareResultRow {
    /// The device as it is now.
    pub device: FirmwareRow,
    /// Status name: `CTRL_SUCCESS`, `CTRL_ERR_NVME` ...
    pub status: String,
    /// What failed.
    pub fault: Option<FaultRow>,
    /// Revision before.
    pub from: String,
    /// The new firmware is there, but does not run yet.
    pub pending: bool,
    /// What makes it run.
    pub remedy: String,
    /// Remarks.
    pub notes: Vec<String>,
    /// Milliseconds it took.
    pub elapsed_ms: u64,
}

impl From<host::FirmwareDevice> for FirmwareRow {
    fn from(device: host::FirmwareDevice) -> Self {
        let slots = device.slots.into_iter().map(|slot| FirmwareSlotRow {
            number: slot.number,
            revision: slot.revision,
            read_only: slot.read_only,
            active: slot.active,
            next: slot.next,
        });
        Self {
            slots: slots.collect(),
            fault: device.fault.as_ref().map(FaultRow::from),
            class: device.class,
            plugin: device.plugin,
            address: device.address,
            model: device.model,
            serial: device.serial,
            revision: device.revision,
            updatable: device.updatable,
            held: device.held,
        }
    }
}

impl From<host::QueryFirmwareResponse> for FirmwareReport {
    fn from(response: host::QueryFirmwareResponse) -> Self {
        let faults = response.faults.into_iter();
        Self {
            devices: response
                .devices
                .into_iter()
                .map(FirmwareRow::from)
                .collect(),
            faults: faults
                .map(|f| (f.plugin, FaultRow::from(&f.fault.unwrap_or_default())))
                .collect(),
        }
    }
}

impl From<host::FirmwarePlan> for FirmwarePlanReport {
    fn from(plan: host::FirmwarePlan) -> Self {
        let devices = plan.devices.into_iter().map(|planned| PlannedFirmwareRow {
            device: planned.device.unwrap_or_default().into(),
            refusal: planned.refusal.as_ref().map(FaultRow::from),
        });
        Self {
            image_bytes: plan.image_bytes,
            image_sha256: plan.image_sha256,
            devices: devices.collect(),
        }
    }
}

impl From<host::FirmwareResult> for FirmwareResultRow {
    fn from(result: host::FirmwareResult) -> Self {
        Self {
            status: status_text(result.status()),
            fault: result.fault.as_ref().map(FaultRow::from),
            device: result.device.unwrap_or_default().into(),
            from: result.from,
            pending: result.pending,
            remedy: result.remedy,
            notes: result.notes,
            elapsed_ms: result.elapsed_ms,
        }
    }
}

impl FirmwareRow {
    /// Slots in one line: `1 1.0 (read-only, active)`.
    fn slots(&self) -> String {
        let slots = self.slots.iter().map(|slot| {
            let words = [
                (slot.read_only, "read-only"),
                (slot.active, "active"),
                (slot.next, "next"),
            ];
            let words: Vec<&str> = words.iter().filter(|w| w.0).map(|w| w.1).collect();
            let revision = match slot.revision.as_str() {
                "" => "empty",
                revision => revision,
            };
            match words.is_empty() {
                true => format!("{} {revision}", slot.number),
                false => format!("{} {revision} ({})", slot.number, words.join(", ")),
            }
        });
        slots.collect::<Vec<_>>().join("; ")
    }

    fn remark(&self) -> String {
        match (&self.fault, self.held.as_str(), self.updatable) {
            (_, held, _) if !held.is_empty() => format!("in use: {held}"),
            (Some(fault), ..) => format!("not known: {}: {}", fault.what, fault.cause),
            (None, _, false) => "cannot be updated".to_owned(),
            (None, _, true) => String::new(),
        }
    }

    fn known(text: &str) -> String {
        if text.is_empty() { "?" } else { text }.to_owned()
    }
}

impl FirmwareReport {
    /// Whether everything that was asked could be told; a device in use is told as such.
    pub fn is_complete(&self) -> bool {
        let asked = |d: &FirmwareRow| d.fault.is_none() || !d.held.is_empty();
        self.faults.is_empty() && self.devices.iter().all(asked)
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        if self.devices.is_empty() {
            lines.push("no device with firmware that a plugin could tell".to_owned());
        } else {
            lines.push(table(
                &[
                    "ADDRESS", "CLASS", "MODEL", "SERIAL", "FIRMWARE", "SLOTS", "REMARK",
                ],
                self.devices.iter().map(|d| {
                    vec![
                        d.address.clone(),
                        d.class.clone(),
                        FirmwareRow::known(&d.model),
                        FirmwareRow::known(&d.serial),
                        FirmwareRow::known(&d.revision),
                        d.slots(),
                        d.remark(),
                    ]
                }),
            ));
        }
        for (plugin, fault) in &self.faults {
            lines.push(format!("plugin {plugin} could not be asked: {fault}"));
        }
        lines.join("\n")
    }
}

impl FirmwarePlanReport {
    /// Devices that nothing stands in the way of.
    pub fn free(&self) -> usize {
        self.devices.iter().filter(|d| d.refusal.is_none()).count()
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = format!(
            "image of {}, SHA-256 {}\n{} of {} device(s) to update",
            bytes(self.image_bytes),
            self.image_sha256,
            self.free(),
            self.devices.len()
        );
        for planned in &self.devices {
            let d = &planned.device;
            text += &format!(
                "\n\t{} ({}): model {}, firmware {}",
                d.address,
                d.class,
                FirmwareRow::known(&d.model),
                FirmwareRow::known(&d.revision)
            );
            if let Some(refusal) = &planned.refusal {
                text += &format!("\n\t    refused: {refusal}").replace("\n    ", "\n\t    ");
            }
        }
        text
    }
}

impl FirmwareResultRow {
    /// A line as the results of a format have it.
    pub fn text(&self) -> String {
        let d = &self.device;
        let label = match d.class.as_str() {
            "nvme" => "pci-address",
            _ => "device",
        };
        let mut text = format!("\t{label} {}: status {}", d.address, self.status);
        match (&self.fault, self.pending) {
            (Some(fault), _) => text += &format!("\n\t    {fault}").replace("\n    ", "\n\t    "),
            (None, true) => {
                text += &format!(
                    " (runs {} still; the new firmware is in its slot: {})",
                    d.revision, self.remedy
                );
            }
            (None, false) => text += &format!(" (firmware {} -> {})", self.from, d.revision),
        }
        for note in &self.notes {
            text += &format!("\n\t    {note}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> host::FirmwareDevice {
        let slot = |number, revision: &str, read_only, active| host::FirmwareSlot {
            number,
            revision: revision.to_owned(),
            read_only,
            active,
            next: false,
        };
        host::FirmwareDevice {
            class: "nvme".to_owned(),
            address: "0000:41:00.0".to_owned(),
            model: "M".to_owned(),
            serial: "S".to_owned(),
            revision: "1.0".to_owned(),
            updatable: true,
            slots: vec![slot(1, "1.0", true, true), slot(2, "", false, false)],
            ..host::FirmwareDevice::default()
        }
    }

    #[test]
    fn slots_and_remarks_are_shown() {
        let mut held = device();
        held.held = "engine 0 (process 7)".to_owned();
        held.fault = Some(host::Fault::default());
        held.slots.clear();
        let report = FirmwareReport::from(host::QueryFirmwareResponse {
            devices: vec![device(), held],
            faults: Vec::new(),
        });
        assert!(report.is_complete(), "a device in use is told as such");
        let text = report.text();
        for words in [
            "1 1.0 (read-only, active); 2 empty",
            "in use: engine 0 (process 7)",
        ] {
            assert!(text.contains(words), "{text}");
        }
        let mut broken = device();
        broken.fault = Some(host::Fault::default());
        let report = FirmwareReport::from(host::QueryFirmwareResponse {
            devices: vec![broken],
            faults: Vec::new(),
        });
        assert!(!report.is_complete());
    }

    #[test]
    fn results_tell_both_revisions_or_what_is_missing() {
        let mut after = device();
        after.revision = "2.0".to_owned();
        let done = FirmwareResultRow::from(host::FirmwareResult {
            device: Some(after),
            from: "1.0".to_owned(),
            ..host::FirmwareResult::default()
        });
        assert_eq!(
            done.text(),
            "\tpci-address 0000:41:00.0: status CTRL_SUCCESS (firmware 1.0 -> 2.0)"
        );
        let pending = FirmwareResultRow::from(host::FirmwareResult {
            device: Some(device()),
            pending: true,
            remedy: "switch the machine off and on".to_owned(),
            ..host::FirmwareResult::default()
        });
        let text = pending.text();
        assert!(text.contains("runs 1.0 still") && text.contains("off and on"));
    }
}
