//! Burn-ins of this host: which there are, starting and stopping them, making way for engines.
//!
//! Each run has helper processes of its own, one per plugin, so that scans and all else go on meanwhile. The daemon
//! keeps what they report, in memory and in the state directory.

mod devices;
pub(crate) mod local;
mod run;
mod store;

use crate::plugins::{Plugins, Trouble};
use crate::state::{State, hostname, now_ms};
use crate::storage::Content;
use daos_burnin::{DeviceRecord, Load, Mode, Record, RunState};
use daos_helper::Cancel;
use daos_proto::host::{BurnInDevice, BurnInStartRequest};
use devices::{Candidate, fault};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use store::Store;
use tokio::sync::{OwnedMutexGuard, watch};
use tracing::info;

/// Runs at the same time.
const MOST: usize = 16;

/// The burn-ins of this host.
pub(crate) struct Burnins {
    plugins: Arc<Plugins>,
    state: Arc<State>,
    store: Store,
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
    /// Held by whoever takes devices, a burn-in or an engine, from the look at them until they are taken.
    gate: Arc<tokio::sync::Mutex<()>>,
}

struct Inner {
    /// All runs that are known, oldest first.
    records: Vec<Record>,
    /// Those that run.
    live: BTreeMap<String, Live>,
}

/// A run that runs.
struct Live {
    cancel: Cancel,
    /// Its devices, and what it leaves on them.
    contents: Vec<(String, Content)>,
    /// Why it was cancelled.
    why: Option<(RunState, String)>,
}

/// Held while an engine takes its devices: no burn-in starts meanwhile.
pub(crate) struct Way {
    _gate: OwnedMutexGuard<()>,
    stopped: bool,
}

impl Way {
    /// Whether a burn-in was in the way.
    pub(crate) fn stopped(&self) -> bool {
        self.stopped
    }
}

impl Burnins {
    /// Reads what earlier runs have left.
    pub(crate) fn new(plugins: Arc<Plugins>, state: Arc<State>) -> Self {
        let store = Store::new(plugins.state_dir().path());
        let records = store.load();
        Self {
            plugins,
            state,
            store,
            inner: Mutex::new(Inner {
                records,
                live: BTreeMap::new(),
            }),
            changed: watch::Sender::new(0),
            gate: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Signals each change of a run.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn tell(&self) {
        self.changed.send_modify(|n| *n += 1);
    }

    /// Checks the devices of a request and, unless only that is wanted, starts a run on all of them.
    ///
    /// # Errors
    /// The request makes no sense, or (of a start) something stands in the way on a device: nothing is started then.
    pub(crate) async fn start(
        self: &Arc<Self>,
        request: &BurnInStartRequest,
    ) -> Result<(String, Vec<BurnInDevice>), Trouble> {
        let load = match request.load.as_str() {
            "" => Load::default(),
            text => serde_json::from_str(text).map_err(|e| {
                let remedy = "use daos_shell of the server's version";
                fault(
                    "the load of the burn-in is malformed",
                    e.to_string(),
                    remedy,
                )
            })?,
        };
        load.check().map_err(|e| {
            fault(
                "the load of the burn-in cannot be run",
                e.to_string(),
                "change it",
            )
        })?;
        let _gate = self.gate.lock().await;
        let candidates = devices::candidates(&self.plugins, &self.state, request).await;
        self.plugins.rest().await;
        let candidates = candidates?;
        let shown: Vec<BurnInDevice> = candidates.iter().map(|c| c.message.clone()).collect();
        if request.plan_only {
            return Ok((String::new(), shown));
        }
        if let Some(refusal) = shown.iter().find_map(|device| device.refusal.clone()) {
            return Err(Box::new(refusal));
        }
        let run = self.begin(load, candidates)?;
        Ok((run, shown))
    }

    fn begin(self: &Arc<Self>, load: Load, candidates: Vec<Candidate>) -> Result<String, Trouble> {
        let cancel = Cancel::new();
        let record = {
            let mut inner = self.lock();
            if inner.live.len() >= MOST {
                let what = format!("{MOST} burn-ins run on this host");
                return Err(fault(
                    what,
                    "that is the most",
                    "wait for the end of one of them",
                ));
            }
            let number = |r: &Record| r.run.strip_prefix('b')?.parse::<u64>().ok();
            let last = inner.records.iter().filter_map(number).max().unwrap_or(0);
            let run = format!("b{}", last + 1);
            let names: Vec<String> = candidates
                .iter()
                .map(|c| c.message.device.clone())
                .collect();
            self.state
                .leases
                .lease_to_burn_in(&names, &run, std::process::id())
                .map_err(|e| fault("the burn-in cannot have its devices", e.to_string(), ""))?;
            let devices = candidates.iter().map(|c| {
                let mut device =
                    DeviceRecord::new(c.message.device.clone(), c.message.plugin.clone());
                device.size_bytes = c.message.size_bytes;
                device.held.clone_from(&c.message.holds);
                if c.message.writes {
                    device.mode = Mode::ReadWrite;
                }
                device
            });
            let record = Record::new(run.clone(), hostname(), now_ms(), load, devices.collect());
            self.store.make_room(&mut inner.records);
            // A run whose results could not be kept is not worth starting.
            if let Err(why) = self.store.save(&record) {
                // What was leased a moment ago is given back, or ends with this process.
                let _ = self.state.leases.release_burn_in(&run);
                return Err(fault(
                    "the burn-in is not started",
                    why,
                    "make room in state_dir",
                ));
            }
            inner.records.push(record.clone());
            inner.live.insert(
                run,
                Live {
                    cancel: cancel.clone(),
                    contents: candidates.iter().map(Candidate::left).collect(),
                    why: None,
                },
            );
            record
        };
        info!("burn-in {} started on {}", record.run, names(&record));
        self.tell();
        let run = record.run.clone();
        tokio::spawn(run::drive(Arc::clone(self), record, candidates, cancel));
        Ok(run)
    }

    /// Asks a run to end; nothing happens to one that has ended.
    fn cancel(&self, run: &str, state: RunState, reason: &str) {
        if let Some(live) = self.lock().live.get_mut(run) {
            live.why.get_or_insert_with(|| (state, reason.to_owned()));
            live.cancel.cancel();
        }
    }

    /// Waits until none of the runs runs any more.
    async fn ended(&self, runs: &[String]) {
        let mut changes = self.changes();
        while runs.iter().any(|run| self.lock().live.contains_key(run)) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Stops runs, all that run if none is named, and waits for their end.
    ///
    /// # Errors
    /// There is no such run.
    pub(crate) async fn stop(&self, named: &[String]) -> Result<Vec<Record>, Trouble> {
        self.known(named)?;
        let runs: Vec<String> = {
            let inner = self.lock();
            let wanted = |run: &&String| named.is_empty() || named.contains(*run);
            inner.live.keys().filter(wanted).cloned().collect()
        };
        for run in &runs {
            self.cancel(run, RunState::Stopped, "it was stopped by an administrator");
        }
        self.ended(&runs).await;
        let named = if named.is_empty() { &runs } else { named };
        Ok(self.records(named))
    }

    /// Stops what runs on devices of these engines, whose turn it is now. As long as the answer is kept, no burn-in
    /// starts.
    pub(crate) async fn make_way(&self, engines: &[usize]) -> Way {
        let gate = Arc::clone(&self.gate).lock_owned().await;
        let mut stopped = false;
        for index in engines {
            if self.lock().live.is_empty() {
                break;
            }
            let wanted = devices::of_engine(&self.plugins, &self.state, *index).await;
            let holds = |record: &Record| {
                let mut devices = record.devices.iter();
                devices.any(|d| wanted.iter().any(|name| devices::same(name, &d.device)))
            };
            let runs: Vec<String> = {
                let inner = self.lock();
                let live = inner
                    .records
                    .iter()
                    .filter(|r| r.state == RunState::Running);
                live.filter(|r| holds(r)).map(|r| r.run.clone()).collect()
            };
            for run in &runs {
                let reason = format!("engine {index} takes its devices");
                info!("burn-in {run} is stopped: {reason}");
                self.cancel(run, RunState::Stopped, &reason);
                stopped = true;
            }
            self.ended(&runs).await;
        }
        Way {
            _gate: gate,
            stopped,
        }
    }

    /// What is on a device that a burn-in has, or will have left there when it is stopped.
    pub(crate) fn content(&self, device: &str) -> Option<Content> {
        let inner = self.lock();
        let mut contents = inner.live.values().flat_map(|live| &live.contents);
        let found = contents.find(|(name, _)| devices::same(name, device))?;
        Some(found.1.clone())
    }

    /// Ends everything with the server.
    pub(crate) async fn end(&self) {
        let runs: Vec<String> = self.lock().live.keys().cloned().collect();
        for run in &runs {
            self.cancel(run, RunState::Interrupted, "the server was stopped");
        }
        self.ended(&runs).await;
    }

    /// Requires that runs exist.
    pub(crate) fn known(&self, named: &[String]) -> Result<(), Trouble> {
        let inner = self.lock();
        match named
            .iter()
            .find(|run| !inner.records.iter().any(|r| r.run == **run))
        {
            None => Ok(()),
            Some(run) => Err(fault(
                format!("there is no burn-in {run}"),
                "",
                "`daos_shell storage burn-in status` shows those that are known",
            )),
        }
    }

    /// Records of runs, all if none is named, without what grows.
    pub(crate) fn records(&self, named: &[String]) -> Vec<Record> {
        let inner = self.lock();
        let wanted = |r: &&Record| named.is_empty() || named.contains(&r.run);
        inner
            .records
            .iter()
            .filter(wanted)
            .map(Record::summary)
            .collect()
    }

    /// Names of the runs that run.
    pub(crate) fn running(&self) -> Vec<String> {
        self.lock().live.keys().cloned().collect()
    }

    /// Everything about a run, the newest if none is named.
    pub(crate) fn report(&self, run: &str) -> Option<Record> {
        let inner = self.lock();
        match run {
            "" => inner.records.last().cloned(),
            run => inner.records.iter().find(|r| r.run == run).cloned(),
        }
    }
}

fn names(record: &Record) -> String {
    let names: Vec<&str> = record.devices.iter().map(|d| d.device.as_str()).collect();
    names.join(", ")
}
