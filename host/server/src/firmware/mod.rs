//! Firmware of this host's block devices and memory modules: which there is, and replacing it.
//!
//! A device is opened only while nobody has it, and updated by a helper of its own, so that scans go on meanwhile. As
//! long as an update runs, its devices are leased to it and whoever else wants devices waits: a format, a burn-in, the
//! start of an engine.

mod devices;
mod image;
pub(crate) mod local;
mod plan;
mod run;

use crate::burnin::{Burnins, Way};
use crate::plugins::{Plugins, Trouble};
use crate::state::{State, now_ms};
use daos_helper::Cancel;
use daos_proto::ctl::ResponseStatus;
use daos_proto::host::update_firmware_event::Event;
use daos_proto::host::{
    Fault, FirmwareSelection, QueryFirmwareResponse, UpdateFirmwareEvent, UpdateFirmwareRequest,
};
pub(crate) use devices::matches;
use image::Image;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use tonic::Status;

/// A fault about firmware.
fn fault(
    status: ResponseStatus,
    what: impl Into<String>,
    cause: impl Into<String>,
    remedy: &str,
) -> Trouble {
    Box::new(Fault::new(status, "storage", 0, what, cause, remedy))
}

/// Where events of an update go; a client that went away does not stop it.
#[derive(Clone)]
pub(crate) struct Events {
    sender: mpsc::UnboundedSender<Result<UpdateFirmwareEvent, Status>>,
}

impl Events {
    /// Sends events into a stream.
    pub(crate) fn new(sender: mpsc::UnboundedSender<Result<UpdateFirmwareEvent, Status>>) -> Self {
        Self { sender }
    }

    fn send(&self, event: Event) {
        // Nobody listens any more: the log has it.
        let _ = self.sender.send(Ok(UpdateFirmwareEvent {
            time_ms: now_ms(),
            event: Some(event),
        }));
    }
}

/// Firmware of this host's devices.
pub(crate) struct Firmware {
    plugins: Arc<Plugins>,
    state: Arc<State>,
    /// Whose gate keeps others from the devices; a program that serves nobody has no others.
    burnins: Option<Arc<Burnins>>,
    /// Held by the update that runs.
    running: tokio::sync::Mutex<()>,
    ending: Mutex<Ending>,
}

/// How the update that runs is ended with the server.
#[derive(Default)]
struct Ending {
    wanted: bool,
    /// Of the device at hand, while its old firmware is untouched.
    cancel: Option<Cancel>,
}

impl Firmware {
    pub(crate) fn new(
        plugins: Arc<Plugins>,
        state: Arc<State>,
        burnins: Option<Arc<Burnins>>,
    ) -> Self {
        Self {
            plugins,
            state,
            burnins,
            running: tokio::sync::Mutex::default(),
            ending: Mutex::default(),
        }
    }

    /// Keeps burn-ins, formats and starts of engines from taking devices as long as the answer lives.
    async fn alone(&self) -> Option<Way> {
        match &self.burnins {
            Some(burnins) => Some(burnins.make_way(&[]).await),
            None => None,
        }
    }

    /// Tells the firmware of devices.
    ///
    /// # Errors
    /// A name is wrong, or the configured devices cannot be listed.
    pub(crate) async fn query(
        &self,
        selection: &FirmwareSelection,
    ) -> Result<QueryFirmwareResponse, Trouble> {
        let _way = self.alone().await;
        let chosen = devices::choose(&self.plugins, &self.state, selection).await;
        self.plugins.rest().await;
        let (devices, faults) = chosen?;
        Ok(QueryFirmwareResponse {
            devices: devices.into_iter().map(|device| device.message).collect(),
            faults,
        })
    }

    /// Looks at the devices of a request and, unless only that is wanted, updates those that nothing stands in the way
    /// of. Every device has its own result; none fails the call.
    ///
    /// # Errors
    /// Nothing was touched: an update runs already, the image cannot be used, no device is meant, or devices or image
    /// are not what they were when the user agreed.
    pub(crate) async fn update(
        &self,
        request: &UpdateFirmwareRequest,
        events: &Events,
    ) -> Result<(), Trouble> {
        let _running = self.running.try_lock().map_err(|_| {
            let what = "a firmware update is running already";
            fault(ResponseStatus::CtlErrApp, what, "", "wait for its end")
        })?;
        let _way = self.alone().await;
        let path = request.image.clone();
        let image = tokio::task::spawn_blocking(move || Image::read(&path)).await;
        let image = image.map_err(|error| {
            let status = ResponseStatus::CtlErrApp;
            fault(status, "the image cannot be read", error.to_string(), "")
        })??;
        let mut selection = request.selection.clone().unwrap_or_default();
        if selection.r#type.is_empty() {
            // An image fits one kind of device, and older shells know of one only.
            selection.r#type = "nvme".to_owned();
        }
        let chosen = devices::choose(&self.plugins, &self.state, &selection).await;
        self.plugins.rest().await;
        let planned = plan::plan(request, &selection, &image, chosen?)?;
        events.send(Event::Plan(planned.message.clone()));
        if request.plan_only {
            return Ok(());
        }
        if !request.plan_id.is_empty() && request.plan_id != planned.message.plan_id {
            return Err(fault(
                ResponseStatus::CtlErrApp,
                "devices or image are not what they were when the update was planned",
                "something changed between the plan and the update",
                "look at the new plan and decide again",
            ));
        }
        run::run(self, request, &image, planned, events).await
    }

    fn ending(&self) -> std::sync::MutexGuard<'_, Ending> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends with the server: what is only being sent to a device is cancelled, what a device works on is waited for.
    pub(crate) async fn end(&self) {
        {
            let mut ending = self.ending();
            ending.wanted = true;
            if let Some(cancel) = ending.cancel.take() {
                cancel.cancel();
            }
        }
        drop(self.running.lock().await);
    }
}
