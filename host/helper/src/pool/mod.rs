//! The daemon's side: one helper process per plugin, on demand.

mod begin;
mod cancel;
mod growth;
mod killed;
mod log;
mod process;
mod session;
mod typed;

pub use cancel::Cancel;
pub use growth::{Growth, HelperCounts};
pub use killed::Kills;

use crate::error::{Cause, HelperError};
use crate::operation::Operation;
use daos_loader::{AllowList, Incident, PluginInfo, StateDir};
use daos_plugin_api::abi::Status;
use daos_telemetry::{Book, Mask, Sample};
use serde_json::{Map, Value};
use session::{Ended, Listener, Session};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};
use tracing::level_filters::LevelFilter;

/// How helpers are run.
#[derive(Clone, Debug)]
pub struct PoolOptions {
    /// The helper program.
    pub program: PathBuf,
    /// The one that has rights, for plugins from files that declare some; `None` = helpers have this process's rights.
    pub privileged: Option<PathBuf>,
    /// Where quarantine and incidents are kept; `None` = nowhere, nothing is quarantined or remembered.
    pub state: Option<StateDir>,
    /// Allow list of the config.
    pub allow: Option<AllowList>,
    /// Settings of plugins, by name.
    pub settings: BTreeMap<String, Map<String, Value>>,
    /// Environment of the helpers besides a fixed `PATH` and locale; they inherit nothing else, so
    /// that no variable of the daemon's changes which libraries are loaded.
    pub environment: Vec<(OsString, OsString)>,
    /// Time for a plugin to be loaded and to make its instance.
    pub load_deadline: Duration,
    /// Time between cancelling an operation and killing the process that ignores it.
    pub grace: Duration,
    /// Most log lines of an error.
    pub log_lines: usize,
    /// When a helper is replaced since it has grown.
    pub growth: Growth,
    /// Which kills of helpers count against their plugin.
    pub kills: Kills,
    /// Which log lines are wanted of which plugin. Helpers learn of changes, also while they work.
    pub log_mask: Arc<watch::Sender<Mask>>,
}

impl PoolOptions {
    /// Defaults, with the helper program of that path.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            privileged: None,
            state: None,
            allow: None,
            settings: BTreeMap::new(),
            environment: Vec::new(),
            load_deadline: Duration::from_secs(30),
            grace: Duration::from_secs(5),
            log_lines: 10,
            growth: Growth::default(),
            kills: Kills::default(),
            log_mask: Arc::new(watch::Sender::new(Mask::new(LevelFilter::current()))),
        }
    }

    /// The program that serves a plugin.
    fn program_of(&self, plugin: &PluginInfo) -> &Path {
        let needs_rights = !plugin.is_built_in() && !plugin.manifest.privileges.is_empty();
        match &self.privileged {
            Some(program) if needs_rights => program,
            _ => &self.program,
        }
    }

    /// `daos_server_helper` in the directory of the running program.
    ///
    /// # Errors
    /// The running program has no path.
    pub fn beside_current_exe() -> std::io::Result<Self> {
        Ok(Self::new(
            std::env::current_exe()?.with_file_name("daos_server_helper"),
        ))
    }
}

/// How far an operation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Done, in any unit.
    pub done: u64,
    /// Of how much; 0 = unknown.
    pub total: u64,
    /// Which step.
    pub what: String,
}

/// Receives progress, on a runtime thread; must not block.
pub type ProgressFn = Arc<dyn Fn(Progress) + Send + Sync>;

/// Receives documents, on a runtime thread; must not block.
pub type ReportFn = Arc<dyn Fn(Value) + Send + Sync>;

/// How one operation is made: all optional.
#[derive(Clone, Default)]
pub struct CallOptions {
    /// Time that the operation may take once it has its turn; `None` = the operation's default.
    pub deadline: Option<Duration>,
    /// Receives progress.
    pub progress: Option<ProgressFn>,
    /// Receives what the operation reports besides.
    pub report: Option<ReportFn>,
    /// Cancels the operation. So does dropping its future.
    pub cancel: Option<Cancel>,
    /// Time between cancelling the operation and killing the process that ignores it; `None` = the pool's.
    pub grace: Option<Duration>,
}

/// Helper processes of a daemon. Clones share them; with the last clone every process is killed and
/// reaped. Used from a tokio runtime.
#[derive(Clone)]
pub struct HelperPool {
    inner: Arc<Inner>,
}

struct Inner {
    options: PoolOptions,
    slots: Mutex<HashMap<String, Slot>>,
    counts: Mutex<BTreeMap<String, HelperCounts>>,
    metrics: Book,
    /// Cancels every call, now and later.
    ending: Cancel,
}

/// The process of a plugin, if it has one. Who holds the lock has the turn.
type Slot = Arc<tokio::sync::Mutex<Option<Session>>>;

impl HelperPool {
    /// A pool without processes.
    pub fn new(options: PoolOptions) -> Self {
        Self::with(options, Book::default())
    }

    fn with(options: PoolOptions, metrics: Book) -> Self {
        Self {
            inner: Arc::new(Inner {
                options,
                slots: Mutex::new(HashMap::new()),
                counts: Mutex::default(),
                metrics,
                ending: Cancel::new(),
            }),
        }
    }

    /// Executes an operation in the helper of a plugin, which is started if it does not run.
    /// Operations of one plugin take turns; those of different plugins run side by side. See
    /// [`HelperPool::scan`] and its siblings for answers with types.
    ///
    /// # Errors
    /// See [`Cause`].
    pub async fn call(
        &self,
        plugin: &PluginInfo,
        operation: Operation,
        options: CallOptions,
    ) -> Result<Value, HelperError> {
        let cancel = options.cancel.clone().unwrap_or_default();
        // The caller may lose interest at any moment; turn and deadline are kept all the same.
        let dropped = cancel.dropped();
        let (sender, answer) = oneshot::channel();
        let (inner, plugin) = (Arc::clone(&self.inner), plugin.clone());
        let name = operation.name();
        let about = (plugin.name().to_owned(), plugin.manifest.version.clone());
        tokio::spawn(async move {
            let ended = async {
                inner.ending.cancelled().await;
                cancel.cancel();
                std::future::pending::<()>().await;
            };
            let turn = inner.take_turn(&plugin, operation, &options, &cancel);
            tokio::select! {
                result = turn => drop(sender.send(result)),
                () = ended => {}
            }
        });
        let result = answer.await;
        dropped.disarm();
        result.unwrap_or_else(|_| {
            Err(HelperError {
                plugin: about.0,
                version: about.1.into(),
                operation: name.to_owned(),
                cause: Cause::Start("the daemon is shutting down".to_owned()),
                log: Vec::new(),
            })
        })
    }

    /// A pool with the same options and processes of its own, for an operation that takes long and must not keep others
    /// waiting. What plugins tell and do there is remembered here, too.
    pub fn separate(&self) -> Self {
        Self::with(self.inner.options.clone(), self.inner.metrics.clone())
    }

    /// The metrics that plugins have told of in their helpers, by plugin; what processes counted that are gone is
    /// in it.
    pub fn metrics(&self) -> BTreeMap<String, Vec<Sample>> {
        self.inner.metrics.samples()
    }

    /// Changes which log lines are wanted of which plugin.
    pub fn set_log_mask(&self, mask: Mask) {
        self.inner.options.log_mask.send_replace(mask);
    }

    /// What has become of the helpers, by plugin.
    pub fn counts(&self) -> BTreeMap<String, HelperCounts> {
        let counts = &self.inner.counts;
        counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Process id of a plugin's helper, if one runs and is idle.
    pub fn idle_process(&self, plugin: &str) -> Option<u32> {
        let slots = self
            .inner
            .slots
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let session = slots.get(plugin)?.try_lock().ok()?;
        session.as_ref().map(Session::pid)
    }

    /// Ends the pool for good: operations under way are cancelled, new ones refused as cancelled, processes
    /// stopped as by [`HelperPool::stop`].
    pub async fn end(&self) {
        self.inner.ending.cancel();
        self.stop().await;
    }

    /// Lets plugins destroy their instances and waits for their processes to exit; those that take
    /// longer than the grace time are killed. The pool can be used again.
    pub async fn stop(&self) {
        let slots: Vec<Slot> = {
            let mut slots = self
                .inner
                .slots
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            slots.drain().map(|(_, slot)| slot).collect()
        };
        for slot in slots {
            if let Some(session) = slot.lock().await.take() {
                session.stop(self.inner.options.grace).await;
            }
        }
    }
}

impl Inner {
    fn count(&self, plugin: &str, change: impl FnOnce(&mut HelperCounts)) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        change(counts.entry(plugin.to_owned()).or_default());
    }

    /// Whether a helper that has done a call may do another: one that has grown is replaced by the next call.
    async fn keep(&self, plugin: &PluginInfo, mut session: Session) -> Option<Session> {
        let Some(what) = session
            .growth
            .after_call(session.pid(), &self.options.growth)
        else {
            return Some(session);
        };
        tracing::warn!(
            plugin = plugin.name(),
            version = plugin.manifest.version,
            "plugin leaks: {what}; the helper is replaced, report it to the plugin's vendor"
        );
        self.count(plugin.name(), |c| c.recycled += 1);
        let what = format!("it leaks: {what}; the helper was replaced");
        self.remember(plugin, what, &[]);
        session.stop(self.options.grace).await;
        None
    }

    /// Notes what a plugin did to its helper, for whoever asks later.
    fn remember(&self, plugin: &PluginInfo, what: String, log: &[String]) {
        let Some(state) = &self.options.state else {
            return;
        };
        let incident = Incident::now(plugin.name(), "helper", what, log.to_vec());
        if let Err(error) = state.incident_add(incident) {
            tracing::error!(
                "an incident of plugin {} is not kept: {error}",
                plugin.name()
            );
        }
    }

    fn slot(&self, plugin: &str) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(plugin.to_owned()).or_default())
    }

    async fn take_turn(
        &self,
        plugin: &PluginInfo,
        operation: Operation,
        options: &CallOptions,
        cancel: &Cancel,
    ) -> Result<Value, HelperError> {
        let error = |name: &str, cause, log| HelperError {
            plugin: plugin.name().to_owned(),
            version: plugin.manifest.version.as_str().into(),
            operation: name.to_owned(),
            cause,
            log,
        };
        let name = operation.name();
        let slot = self.slot(plugin.name());
        let mut turn = tokio::select! {
            biased;
            () = cancel.cancelled() => {
                return Err(error(name, Cause::Cancelled { forced: false }, Vec::new()));
            }
            turn = slot.lock() => turn,
        };
        // One that died while idle is replaced without a word: nothing was lost.
        if turn.as_mut().is_some_and(|session| !session.is_alive()) {
            *turn = None;
        }
        // Out of its slot while it works: if this future is dropped, the process goes with it.
        let began = Instant::now();
        let mut session = match turn.take() {
            Some(session) => session,
            None => {
                self.count(plugin.name(), |c| c.starts += 1);
                match self.start(plugin).await {
                    Ok(session) => session,
                    Err(ended) => {
                        let died = is_death(&ended.cause);
                        self.count(plugin.name(), |c| {
                            c.ended(name, began.elapsed(), true, died);
                        });
                        let error = error("load", ended.cause, ended.log);
                        if died {
                            self.remember(plugin, error.to_string(), &error.log);
                        }
                        return Err(error);
                    }
                }
            }
        };
        let scans = matches!(operation, Operation::Scan);
        let deadline = options
            .deadline
            .unwrap_or_else(|| operation.default_deadline());
        let listener = Listener {
            progress: options.progress.as_deref(),
            report: options.report.as_deref(),
        };
        if scans {
            self.begin_step(&mut session);
        }
        let mut result = session
            .call(
                operation,
                deadline,
                options.grace.unwrap_or(self.options.grace),
                listener,
                cancel,
            )
            .await;
        let died = result.as_ref().is_err_and(|ended| is_death(&ended.cause));
        let failed = result
            .as_ref()
            .is_err_and(|ended| !is_answer(name, &ended.cause));
        self.count(plugin.name(), |c| {
            c.ended(name, began.elapsed(), failed, died);
        });
        if scans {
            self.judge_scan(&session, &mut result);
        }
        match result {
            Err(ended) if !ended.usable => {
                session.end().await;
                let error = error(name, ended.cause, ended.log);
                self.remember(plugin, error.to_string(), &error.log);
                Err(error)
            }
            Err(Ended { cause, log, .. }) => {
                *turn = self.keep(plugin, session).await;
                Err(error(name, cause, log))
            }
            Ok(value) => {
                *turn = self.keep(plugin, session).await;
                Ok(value)
            }
        }
    }
}

/// Whether an error is an answer as good as any other: the plugin has no such function, as it may, or there is nothing to mount.
fn is_answer(operation: &str, cause: &Cause) -> bool {
    let Cause::Plugin(error) = cause else {
        return false;
    };
    let status = error.status();
    status == Status::NOT_SUPPORTED || (operation == "mount" && status == Status::NOT_FOUND)
}

/// Whether a process ended that nobody had asked to.
fn is_death(cause: &Cause) -> bool {
    matches!(
        cause,
        Cause::Died { .. } | Cause::Deadline { .. } | Cause::Nonsense { .. }
    )
}
