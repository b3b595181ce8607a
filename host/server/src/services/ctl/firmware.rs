//! Firmware in the terms of the DAOS 2.8 control plane, which knows neither slots nor progress.

use crate::firmware::{Events, Firmware};
use daos_proto::ctl::firmware_update_req::DeviceType;
use daos_proto::ctl::{
    FirmwareQueryReq, FirmwareQueryResp, FirmwareUpdateReq, FirmwareUpdateResp, NvmeController,
    NvmeFirmwareQueryResp, NvmeFirmwareUpdateResp,
};
use daos_proto::fault::{NOT_SUPPORTED, daos_status};
use daos_proto::host::update_firmware_event::Event;
use daos_proto::host::{FirmwareSelection, UpdateFirmwareRequest};
use std::sync::Arc;
use tokio::sync::mpsc;
use tonic::Status;

/// That protocol's devices, model and revision only choose.
fn selection(devices: &[String], model: &str, revision: &str) -> FirmwareSelection {
    FirmwareSelection {
        devices: devices.to_vec(),
        configured: false,
        model: model.to_owned(),
        revision: revision.to_owned(),
        filter: true,
        r#type: "nvme".to_owned(),
    }
}

/// Memory modules are told of in the project's own protocol alone: their half is empty.
pub(super) async fn query(
    firmware: &Firmware,
    request: &FirmwareQueryReq,
) -> Result<FirmwareQueryResp, Status> {
    let mut answer = FirmwareQueryResp::default();
    if request.query_nvme {
        let wanted = selection(
            &request.device_i_ds,
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
    if request.r#type() == DeviceType::Scm {
        return Err(daos_status(
            NOT_SUPPORTED,
            "firmware of memory modules is updated by `daos_shell firmware update --type scm`",
        ));
    }
    let wanted = UpdateFirmwareRequest {
        selection: Some(selection(
            &request.device_i_ds,
            &request.model_id,
            &request.firmware_rev,
        )),
        image: request.firmware_path,
        ..UpdateFirmwareRequest::default()
    };
    let (sender, mut events) = mpsc::unbounded_channel();
    let task = tokio::spawn(async move { firmware.update(&wanted, &Events::new(sender)).await });
    let mut answer = FirmwareUpdateResp::default();
    while let Some(event) = events.recv().await {
        if let Some(Event::Result(result)) = event?.event {
            answer.nvme_results.push(NvmeFirmwareUpdateResp {
                pci_addr: result.device.unwrap_or_default().address,
                error: match result.fault {
                    Some(fault) => fault.to_string(),
                    None => result.remedy,
                },
            });
        }
    }
    match task.await {
        Ok(Ok(())) => Ok(answer),
        Ok(Err(fault)) => Err(fault.to_status()),
        Err(error) => Err(Status::internal(format!("a defect of the server: {error}"))),
    }
}
