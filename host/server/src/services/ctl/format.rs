//! A format in the terms of the DAOS 2.8 control plane, which knows neither plans nor progress.

use crate::services::host::Inner;
use crate::storage::Events;
use daos_proto::ctl::{
    NvmeControllerResult, ResponseState, ScmMountResult, StorageFormatReq, StorageFormatResp,
};
use daos_proto::host::format_storage_event::Event;
use daos_proto::host::{FormatResult, FormatStorageRequest, Kind};
use std::sync::Arc;
use tokio::sync::mpsc;
use tonic::Status;

/// Formats every engine that has none yet, and starts them. Runs to its end also when the client goes away. What
/// our own service guards is guarded here as well: content that is not ours is refused.
pub(super) async fn run(
    host: Arc<Inner>,
    request: StorageFormatReq,
) -> Result<StorageFormatResp, Status> {
    if request.nvme.is_none() && request.scm.is_none() {
        return Err(Status::unknown(
            "nothing to format: neither nvme nor scm is in the request",
        ));
    }
    if request.replace {
        return Err(Status::unknown(
            "this server gives no rank to another engine: format without --replace",
        ));
    }
    let wanted = FormatStorageRequest {
        reformat: request.reformat,
        ..FormatStorageRequest::default()
    };
    let (sender, mut events) = mpsc::unbounded_channel();
    let task = tokio::spawn(async move { host.format(wanted, Events::new(sender)).await });
    let mut answer = StorageFormatResp::default();
    let mut failed = None;
    while let Some(event) = events.recv().await {
        match event?.event {
            Some(Event::Result(result)) => add(&mut answer, result),
            Some(Event::Summary(summary)) => failed = summary.fault,
            _ => {}
        }
    }
    match task.await {
        Ok(Ok(())) => {}
        Ok(Err(fault)) => return Err(fault.to_status()),
        Err(error) => return Err(Status::internal(format!("a defect of the server: {error}"))),
    }
    match failed {
        // A device that failed is told with its result.
        Some(fault) if answer.crets.is_empty() && answer.mrets.is_empty() => Err(fault.to_status()),
        _ => Ok(answer),
    }
}

fn add(answer: &mut StorageFormatResp, result: FormatResult) {
    let target = result.target.clone().unwrap_or_default();
    let state = Some(ResponseState {
        status: result.status,
        error: result
            .fault
            .map(|fault| fault.to_string())
            .unwrap_or_default(),
        info: result.info,
    });
    match target.kind() {
        Kind::Scm => answer.mrets.push(ScmMountResult {
            mntpoint: target.address,
            state,
            instanceidx: target.engine,
        }),
        _ => answer.crets.push(NvmeControllerResult {
            pci_addr: target.address,
            state,
            ..NvmeControllerResult::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daos_proto::ctl::ResponseStatus;
    use daos_proto::host::{Fault, FormatTarget};

    #[test]
    fn results_are_sorted_by_what_they_are_of() {
        let mut answer = StorageFormatResp::default();
        for (kind, status) in [
            (Kind::Scm, ResponseStatus::CtlSuccess),
            (Kind::Bdev, ResponseStatus::CtlErrNvme),
        ] {
            let target = FormatTarget {
                engine: 1,
                kind: kind.into(),
                address: "x".to_owned(),
                ..FormatTarget::default()
            };
            let fault = (kind == Kind::Bdev).then(|| {
                Fault::new(
                    status,
                    "bdev",
                    302,
                    "format of x",
                    "it is broken",
                    "replace it",
                )
            });
            let result = FormatResult {
                target: Some(target),
                status: status.into(),
                fault,
                ..FormatResult::default()
            };
            add(&mut answer, result);
        }
        assert_eq!(answer.mrets[0].instanceidx, 1);
        let bdev = answer.crets[0].state.as_ref().unwrap();
        assert_eq!(bdev.status(), ResponseStatus::CtlErrNvme);
        assert!(bdev.error.contains("broken") && bdev.error.contains("replace"));
    }
}
