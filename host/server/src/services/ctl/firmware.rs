//! Firmware in the terms of the DAOS 2.8 control plane, which knows neither slots nor progress.

use crate::firmware::{Events, Firmware, matches};
use daos_proto::ctl::firmware_update_req::DeviceType;
use daos_proto::ctl::{
    FirmwareQueryReq, FirmwareQueryResp, FirmwareUpdateReq, FirmwareUpdateResp, NvmeController,
    NvmeFirmwareQueryResp, NvmeFirmwareUpdateResp, ScmFirmwareQueryResp, ScmFirmwareUpdateResp,
    ScmModule,
};
use daos_proto::host::update_firmware_event::Event;
use daos_proto::host::{
    FirmwareDevice, FirmwareSelection, QueryFirmwareResponse, UpdateFirmwareRequest,
};
use std::sync::Arc;
use tokio::sync::mpsc;
use tonic::Status;

/// That protocol's devices, model and revision only choose.
fn selection(kind: &str, devices: Vec<String>, model: &str, revision: &str) -> FirmwareSelection {
    FirmwareSelection {
        devices,
        configured: false,
        model: model.to_owned(),
        revision: revision.to_owned(),
        filter: true,
        r#type: kind.to_owned(),
    }
}

/// The memory modules that a request means. That protocol names them by their identifiers, which do not say where they are.
async fn modules(
    firmware: &Firmware,
    ids: &[String],
    model: &str,
    revision: &str,
) -> Result<Vec<FirmwareDevice>, Status> {
    let all = selection("scm", Vec::new(), "", "");
    let found = firmware.query(&all).await.map_err(|f| f.to_status())?;
    chosen(found, ids, model, revision)
}

/// Those that are named, all without names, of this model and revision: a name that is not there is wrong, one of another
/// model is only left out. A plugin that did not answer may have what is missing.
fn chosen(
    found: QueryFirmwareResponse,
    ids: &[String],
    model: &str,
    revision: &str,
) -> Result<Vec<FirmwareDevice>, Status> {
    let silent = found.faults.into_iter().next();
    let silent = silent.map(|silent| silent.fault.unwrap_or_default().to_status());
    let mut chosen = match named(found.devices, ids) {
        Ok(chosen) => chosen,
        Err(missing) => return Err(silent.unwrap_or(missing)),
    };
    chosen.retain(|device| matches(device, model, revision));
    match silent {
        Some(silent) if chosen.is_empty() => Err(silent),
        _ => Ok(chosen),
    }
}

/// Those that are named; all without names.
fn named(devices: Vec<FirmwareDevice>, ids: &[String]) -> Result<Vec<FirmwareDevice>, Status> {
    let is = |device: &FirmwareDevice, id: &String| *id == device.serial || *id == device.address;
    if let Some(id) = ids.iter().find(|id| !devices.iter().any(|d| is(d, id))) {
        return Err(Status::unknown(format!(
            "no memory module of this host is {id}; `daos_shell storage scan --verbose` shows them"
        )));
    }
    let chosen = devices.into_iter();
    Ok(chosen
        .filter(|device| ids.is_empty() || ids.iter().any(|id| is(device, id)))
        .collect())
}

fn module(device: &FirmwareDevice) -> ScmModule {
    ScmModule {
        uid: device.serial.clone(),
        part_number: device.model.clone(),
        firmware_revision: device.revision.clone(),
        ..ScmModule::default()
    }
}

fn told(device: &FirmwareDevice) -> ScmFirmwareQueryResp {
    /// The next start takes other firmware.
    const STAGED: u32 = 1;
    let staged = device.slots.iter().find(|slot| slot.next && !slot.active);
    ScmFirmwareQueryResp {
        module: Some(module(device)),
        active_version: device.revision.clone(),
        staged_version: staged.map_or_else(String::new, |slot| slot.revision.clone()),
        update_status: if staged.is_some() { STAGED } else { 0 },
        error: match &device.fault {
            Some(fault) => fault.to_string(),
            None if device.held.is_empty() => String::new(),
            None => format!("it is not asked while {} has it", device.held),
        },
        ..ScmFirmwareQueryResp::default()
    }
}

pub(super) async fn query(
    firmware: &Firmware,
    request: &FirmwareQueryReq,
) -> Result<FirmwareQueryResp, Status> {
    let mut answer = FirmwareQueryResp::default();
    if request.query_scm {
        let found = modules(
            firmware,
            &request.device_i_ds,
            &request.model_id,
            &request.firmware_rev,
        );
        answer.scm_results = found.await?.iter().map(told).collect();
    }
    if request.query_nvme {
        let wanted = selection(
            "nvme",
            request.device_i_ds.clone(),
            &request.model_id,
            &request.firmware_rev,
        );
        let found = firmware.query(&wanted).await.map_err(|f| f.to_status())?;
        let devices = found.devices.into_iter().map(|device| {
            let device = NvmeController {
                model: device.model,
                serial: device.serial,
                pci_addr: device.address,
                fw_rev: device.revision,
                ..NvmeController::default()
            };
            NvmeFirmwareQueryResp {
                device: Some(device),
            }
        });
        answer.nvme_results = devices.collect();
    }
    Ok(answer)
}

/// Runs to its end also when the client goes away.
pub(super) async fn update(
    firmware: Arc<Firmware>,
    request: FirmwareUpdateReq,
) -> Result<FirmwareUpdateResp, Status> {
    let of_modules = request.r#type() == DeviceType::Scm;
    let (model, revision) = (&request.model_id, &request.firmware_rev);
    let chosen = match of_modules {
        true => {
            let found = modules(&firmware, &request.device_i_ds, model, revision).await?;
            let name = |d: &FirmwareDevice| format!("{}:{}", d.class, d.address);
            let names: Vec<String> = found.iter().map(name).collect();
            if names.is_empty() {
                return Err(Status::unknown(
                    "this host has no memory module of that kind",
                ));
            }
            selection("scm", names, "", "")
        }
        false => selection("nvme", request.device_i_ds.clone(), model, revision),
    };
    let wanted = UpdateFirmwareRequest {
        selection: Some(chosen),
        image: request.firmware_path,
        ..UpdateFirmwareRequest::default()
    };
    let (sender, mut events) = mpsc::unbounded_channel();
    let task = tokio::spawn(async move { firmware.update(&wanted, &Events::new(sender)).await });
    let mut answer = FirmwareUpdateResp::default();
    while let Some(event) = events.recv().await {
        if let Some(Event::Result(result)) = event?.event {
            let device = result.device.unwrap_or_default();
            let error = match result.fault {
                Some(fault) => fault.to_string(),
                None => result.remedy,
            };
            match of_modules {
                true => answer.scm_results.push(ScmFirmwareUpdateResp {
                    module: Some(module(&device)),
                    error,
                }),
                false => answer.nvme_results.push(NvmeFirmwareUpdateResp {
                    pci_addr: device.address,
                    error,
                }),
            }
        }
    }
    match task.await {
        Ok(Ok(())) => Ok(answer),
        Ok(Err(fault)) => Err(fault.to_status()),
        Err(error) => Err(Status::internal(format!("a defect of the server: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daos_proto::host::{Fault, FirmwareSlot, PluginFault};

    #[test]
    fn names_are_looked_up_before_models_and_revisions_choose() {
        let module = |address: &str, uid: &str, model: &str| FirmwareDevice {
            address: address.to_owned(),
            serial: uid.to_owned(),
            model: model.to_owned(),
            revision: "1.2".to_owned(),
            ..FirmwareDevice::default()
        };
        let answer = |faults| QueryFirmwareResponse {
            devices: vec![module("nmem0", "u0", "A"), module("nmem1", "u1", "B")],
            faults,
        };
        let told = |ids: &[&str], model, revision, faults| -> Result<Vec<String>, Status> {
            let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
            let chosen = chosen(answer(faults), &ids, model, revision)?;
            Ok(chosen.into_iter().map(|d| d.address).collect())
        };
        assert_eq!(told(&[], "B", "", vec![]).unwrap(), ["nmem1"]);
        assert_eq!(told(&["u0", "u1"], "A", "1.2", vec![]).unwrap(), ["nmem0"]);
        // It is there, and not meant.
        assert!(told(&["u0"], "B", "", vec![]).unwrap().is_empty());
        assert!(told(&["u0"], "", "1.3", vec![]).unwrap().is_empty());
        let missing = told(&["u2"], "B", "", vec![]).unwrap_err();
        assert!(missing.message().contains("is u2"), "{missing}");
        // Who did not answer may have it.
        let ill = || {
            let what = "it is ill".to_owned();
            let fault = Some(Fault {
                what,
                ..Fault::default()
            });
            vec![PluginFault {
                plugin: "p".to_owned(),
                fault,
            }]
        };
        assert_eq!(told(&["u1"], "", "", ill()).unwrap(), ["nmem1"]);
        for (ids, model) in [(&["u2"][..], ""), (&[][..], "C")] {
            let silent = told(ids, model, "", ill()).unwrap_err();
            assert!(silent.message().contains("it is ill"), "{silent}");
        }
    }

    #[test]
    fn modules_are_told_by_their_identifiers() {
        let slot = |number, revision: &str, active, next| FirmwareSlot {
            number,
            revision: revision.to_owned(),
            active,
            next,
            ..FirmwareSlot::default()
        };
        let device = |address: &str, uid: &str| FirmwareDevice {
            class: "dcpm".to_owned(),
            address: address.to_owned(),
            serial: uid.to_owned(),
            model: "PART".to_owned(),
            revision: "1.2".to_owned(),
            slots: vec![slot(1, "1.2", true, false)],
            ..FirmwareDevice::default()
        };
        let all = || vec![device("nmem0", "8089-a2"), device("nmem1", "8089-b7")];
        let addresses = |ids: &[&str]| -> Result<Vec<String>, Status> {
            let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
            let chosen = named(all(), &ids)?;
            Ok(chosen.into_iter().map(|d| d.address).collect())
        };
        assert_eq!(addresses(&[]).unwrap(), ["nmem0", "nmem1"]);
        assert_eq!(addresses(&["8089-b7"]).unwrap(), ["nmem1"]);
        assert_eq!(addresses(&["nmem0"]).unwrap(), ["nmem0"]);
        let unknown = addresses(&["8089-b7", "8089-c1"]).unwrap_err();
        assert!(unknown.message().contains("is 8089-c1"), "{unknown}");

        let row = told(&device("nmem0", "8089-a2"));
        let named = row.module.unwrap();
        assert_eq!((&*named.uid, &*named.part_number), ("8089-a2", "PART"));
        let versions = (
            &*row.active_version,
            &*row.staged_version,
            row.update_status,
        );
        assert_eq!(versions, ("1.2", "", 0));
        assert_eq!(row.error, "");
        let mut staged = device("nmem0", "8089-a2");
        staged.slots.push(slot(2, "1.3", false, true));
        staged.held = "engine 0".to_owned();
        let row = told(&staged);
        assert_eq!((&*row.staged_version, row.update_status), ("1.3", 1));
        assert!(row.error.contains("engine 0 has it"), "{}", row.error);
        staged.fault = Some(Fault {
            what: "it is ill".to_owned(),
            ..Fault::default()
        });
        assert!(told(&staged).error.contains("it is ill"));
    }
}
