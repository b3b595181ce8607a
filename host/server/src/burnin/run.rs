//! The life of one run: helpers of its own, what they report, its end.

use super::devices::Candidate;
use super::{Burnins, names};
use crate::state::now_ms;
use daos_burnin::{Phase, Record, RunState, Update};
use daos_helper::{BurnInDevice, BurnInRequest, CallOptions, Cancel, Cause, HelperError};
use daos_loader::PluginInfo;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tracing::{info, warn};
use uuid::Uuid;

/// Time between two savings of a record.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// Devices of a run that one plugin drives.
struct Group {
    plugin: PluginInfo,
    devices: Vec<BurnInDevice>,
    /// Positions in the record.
    positions: Vec<usize>,
}

fn groups(candidates: Vec<Candidate>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (position, candidate) in candidates.into_iter().enumerate() {
        let device = BurnInDevice {
            device: candidate.spec,
            access: candidate.access,
        };
        match groups
            .iter_mut()
            .find(|g| g.plugin.name() == candidate.plugin.name())
        {
            Some(group) => {
                group.devices.push(device);
                group.positions.push(position);
            }
            None => groups.push(Group {
                plugin: candidate.plugin,
                devices: vec![device],
                positions: vec![position],
            }),
        }
    }
    groups
}

/// Carries a run out, to its end whatever happens.
pub(super) async fn drive(
    burnins: Arc<Burnins>,
    record: Record,
    candidates: Vec<Candidate>,
    cancel: Cancel,
) {
    let run = record.run;
    let id = Uuid::new_v4();
    let saver = tokio::spawn(keep_saving(Arc::clone(&burnins), run.clone()));
    let helpers = burnins.plugins.separate_helpers();
    let mut calls = JoinSet::new();
    for group in groups(candidates) {
        let (reports, positions) = (Arc::clone(&burnins), group.positions.clone());
        let (about, helpers) = (run.clone(), helpers.clone());
        let options = CallOptions {
            cancel: Some(cancel.clone()),
            report: Some(Arc::new(move |document| {
                match serde_json::from_value::<Update>(document) {
                    Ok(update) => reports.take(&about, &positions, update),
                    Err(error) => warn!("burn-in {about}: a report makes no sense: {error}"),
                }
            })),
            ..CallOptions::default()
        };
        let request = BurnInRequest {
            run: id,
            load: record.load.clone(),
            devices: group.devices,
        };
        calls.spawn(async move {
            let result = helpers.burn_in(&group.plugin, request, options).await;
            (group.positions, result)
        });
    }
    let mut broken = None;
    while let Some(joined) = calls.join_next().await {
        match joined {
            Ok((positions, result)) => {
                let died = burnins.call_ended(&run, &positions, result.err());
                broken = broken.or(died);
            }
            Err(error) => broken = broken.or(Some(format!("a defect of the server: {error}"))),
        }
    }
    // Devices are free once their processes are gone.
    helpers.end().await;
    saver.abort();
    // What it was doing is done, or will have been: the file is written by one at a time.
    let _ = saver.await;
    burnins.finish(&run, broken).await;
}

/// Saves a record from time to time while it changes.
async fn keep_saving(burnins: Arc<Burnins>, run: String) {
    let mut changes = burnins.changes();
    while changes.changed().await.is_ok() {
        burnins.save(&run).await;
        tokio::time::sleep(SAVE_EVERY).await;
    }
}

impl Burnins {
    fn change(&self, run: &str, change: impl FnOnce(&mut Record)) {
        if let Some(record) = self.lock().records.iter_mut().find(|r| r.run == run) {
            change(record);
        }
        self.tell();
    }

    /// Takes a report of a helper.
    fn take(&self, run: &str, positions: &[usize], update: Update) {
        // A helper that reports about devices it does not have is not believed.
        let Some(position) = positions.get(update.index) else {
            return;
        };
        self.change(run, |record| record.devices[*position].take(update.device));
    }

    /// Notes how the helper of some devices ended; says so if it ended in the middle.
    fn call_ended(
        &self,
        run: &str,
        positions: &[usize],
        error: Option<HelperError>,
    ) -> Option<String> {
        let text = error.as_ref().map(ToString::to_string);
        let forced = matches!(&error, Some(e) if matches!(e.cause, Cause::Cancelled { .. }));
        let broken = match &error {
            Some(e) => match e.cause {
                Cause::Died { .. } | Cause::Deadline { .. } | Cause::Nonsense { .. } => {
                    text.clone()
                }
                _ => None,
            },
            None => None,
        };
        self.change(run, |record| {
            for position in positions {
                let device = &mut record.devices[*position];
                if device.phase == Phase::Done {
                    continue;
                }
                device.cut_short = true;
                match (&text, forced) {
                    (Some(text), false) => {
                        device.fault = device.fault.take().or(Some(text.clone()))
                    }
                    (Some(_), true) => device.notes.push(
                        "its helper did not end when it was told to, and was killed".to_owned(),
                    ),
                    (None, _) => {
                        let nothing = "its helper ended without a word about it".to_owned();
                        device.fault.get_or_insert(nothing);
                    }
                }
            }
        });
        broken
    }

    async fn save(&self, run: &str) {
        let Some(record) = self.report(run) else {
            return;
        };
        let store = self.store.clone();
        // Off the thread that serves: disks may be slow.
        match tokio::task::spawn_blocking(move || store.save(&record)).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => warn!("{why}"),
            Err(error) => warn!("a defect of the server: {error}"),
        }
    }

    /// The end of a run: its devices are free, its record is complete and kept, whoever waits is told.
    async fn finish(&self, run: &str, broken: Option<String>) {
        let why = self.lock().live.get(run).and_then(|live| live.why.clone());
        let (state, reason) = match (why, broken) {
            (Some(why), _) => why,
            (None, Some(broken)) => (RunState::Interrupted, broken),
            (None, None) => (RunState::Passed, String::new()),
        };
        if let Some(record) = self.lock().records.iter_mut().find(|r| r.run == run) {
            record.end(now_ms(), state, &reason);
            info!(
                "burn-in {run} on {} {}{}{}",
                names(record),
                record.state.name(),
                if record.reason.is_empty() { "" } else { ": " },
                record.reason
            );
        }
        self.save(run).await;
        if let Err(error) = self.state.leases.release_burn_in(run) {
            // The lease of a dead process does not count; until then the devices stay out of reach.
            warn!("{error}");
        }
        self.lock().live.remove(run);
        self.tell();
    }
}
