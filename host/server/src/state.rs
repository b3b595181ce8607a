//! What the server knows about itself and its engines, shared by services and supervisors.

use crate::engine::OpenFiles;
use crate::generate::{Engines, Proposal};
use crate::log_masks::LogMasks;
use crate::membership::{Elsewhere, Peers, Place};
use crate::owner::Owner;
use daos_config::Config;
use daos_loader::StateDir;
use daos_proto::host::{self, EngineState, FailedTarget, Fault, ServerPhase};
use daos_telemetry::{Mask, Masks};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tracing::level_filters::LevelFilter;

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// State of one engine. Changed only by its supervisor and by a running format.
#[derive(Clone, Debug)]
pub(crate) struct EngineStatus {
    pub(crate) state: EngineState,
    /// Why, in a sentence.
    pub(crate) reason: String,
    /// The next command to type.
    pub(crate) hint: String,
    pub(crate) since_ms: u64,
    pub(crate) fault: Option<Fault>,
    /// UUID of the superblock, empty before the first format.
    pub(crate) uuid: String,
    pub(crate) rank: Option<u32>,
    /// 0 when no process runs.
    pub(crate) pid: u32,
    pub(crate) uri: String,
    pub(crate) targets: u32,
    pub(crate) drpc_socket: String,
    /// It is ready, and waits for the access point to take it.
    pub(crate) waits_to_join: bool,
    /// Stamp of its start, by its own clock.
    pub(crate) incarnation: u64,
    pub(crate) restarts: u32,
    pub(crate) restart_at_ms: u64,
    /// Layers over its block devices, the top one first.
    pub(crate) layers: Vec<String>,
    /// Targets that serve nothing any more, by number.
    pub(crate) failed_targets: Vec<FailedTarget>,
    /// Open files of its process, as they were counted last.
    pub(crate) open_files: Option<OpenFiles>,
    /// They grow without end, or run short.
    pub(crate) leaks: bool,
}

impl EngineStatus {
    fn new() -> Self {
        Self {
            state: EngineState::Starting,
            reason: "its storage is being checked".to_owned(),
            hint: String::new(),
            since_ms: now_ms(),
            fault: None,
            uuid: String::new(),
            rank: None,
            pid: 0,
            uri: String::new(),
            targets: 0,
            drpc_socket: String::new(),
            waits_to_join: false,
            incarnation: 0,
            restarts: 0,
            restart_at_ms: 0,
            layers: Vec::new(),
            failed_targets: Vec::new(),
            open_files: None,
            leaks: false,
        }
    }

    /// Changes the state; what only made sense in the old one is cleared.
    pub(crate) fn enter(&mut self, state: EngineState, reason: impl Into<String>) {
        self.state = state;
        self.reason = reason.into();
        self.hint.clear();
        self.fault = None;
        self.waits_to_join = false;
        self.restart_at_ms = 0;
        self.failed_targets.clear();
        self.open_files = None;
        self.leaks = false;
        self.since_ms = now_ms();
        if !matches!(
            state,
            EngineState::Starting | EngineState::Ready | EngineState::Stopping
        ) {
            self.pid = 0;
            self.uri.clear();
            self.drpc_socket.clear();
            self.layers.clear();
        }
    }
}

/// The server's state.
pub(crate) struct State {
    /// The configuration in use.
    pub(crate) config: Config,
    /// Its file, as absolute as it was given.
    pub(crate) config_path: PathBuf,
    /// Where the control plane listens.
    pub(crate) control_addr: String,
    /// Whom engines run as, if not as this user.
    pub(crate) owner: Option<Owner>,
    /// Where this host stands: a path from the widest domain to it.
    pub(crate) fault_domain: String,
    /// Where the leases of devices are kept, and what plugins did to engines.
    pub(crate) leases: StateDir,
    /// What is logged.
    pub(crate) log_masks: LogMasks,
    /// Where it is kept who belongs to the system.
    pub(crate) membership: Place,
    /// How other servers of the system are reached.
    pub(crate) peers: Peers,
    /// Where the engines come from.
    origin: Engines,
    started_ms: u64,
    engines: Mutex<Vec<EngineStatus>>,
    changed: watch::Sender<u64>,
    stopping: watch::Sender<bool>,
}

impl State {
    #[allow(clippy::too_many_arguments)] // each is of another type or has a field of its name
    pub(crate) fn new(
        config: Config,
        config_path: PathBuf,
        control_addr: String,
        fault_domain: String,
        owner: Option<Owner>,
        leases: StateDir,
        log_masks: LogMasks,
        membership: Place,
        peers: Peers,
    ) -> Self {
        let engines = config.servers.iter().map(|_| EngineStatus::new()).collect();
        Self {
            config,
            config_path,
            control_addr,
            fault_domain,
            owner,
            leases,
            log_masks,
            membership,
            peers,
            origin: Engines::Configured,
            started_ms: now_ms(),
            engines: Mutex::new(engines),
            changed: watch::Sender::new(0),
            stopping: watch::Sender::new(false),
        }
    }

    /// Tells where the engines come from.
    pub(crate) fn with_origin(mut self, origin: Engines) -> Self {
        self.origin = origin;
        self
    }

    /// The plan of the engines, where the configuration names none.
    pub(crate) fn proposal(&self) -> Option<&Proposal> {
        match &self.origin {
            Engines::Planned(proposal) => Some(proposal),
            Engines::Configured | Engines::None(_) => None,
        }
    }

    /// The state of a program that serves nobody: none of its engines runs. Engines of a server that runs hold leases.
    pub(crate) fn offline(config: Config, leases: StateDir) -> Self {
        let nowhere = (PathBuf::new(), String::new(), String::new());
        // It logs nothing, and passes no mask on.
        let masks = LogMasks::new(Masks::new(Mask::new(LevelFilter::OFF)));
        let peers = Peers::new(&config);
        let place = Place::Elsewhere(Elsewhere::new(&config, Vec::new(), peers.clone()));
        let (path, address, domain) = nowhere;
        let state = Self::new(
            config, path, address, domain, None, leases, masks, place, peers,
        );
        for engine in state.lock().iter_mut() {
            engine.enter(EngineState::Stopped, "this program starts no engines");
        }
        state
    }

    fn lock(&self) -> MutexGuard<'_, Vec<EngineStatus>> {
        self.engines
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A copy of an engine's state.
    pub(crate) fn engine(&self, index: usize) -> EngineStatus {
        self.lock()[index].clone()
    }

    /// A copy of all engines' states.
    pub(crate) fn engines(&self) -> Vec<EngineStatus> {
        self.lock().clone()
    }

    /// Changes an engine's state and tells everybody who waits for changes.
    pub(crate) fn update<T>(&self, index: usize, change: impl FnOnce(&mut EngineStatus) -> T) -> T {
        let result = change(&mut self.lock()[index]);
        self.changed.send_modify(|n| *n += 1);
        result
    }

    /// Keeps a count of the open files of an engine's process, if it still is that one's; whether anything has changed that is
    /// worth telling.
    pub(crate) fn note_files(&self, index: usize, pid: u32, now: OpenFiles, leaks: bool) -> bool {
        let engine = &mut self.lock()[index];
        if engine.pid != pid || engine.state != EngineState::Ready {
            return false;
        }
        engine.open_files = Some(now);
        std::mem::replace(&mut engine.leaks, leaks) != leaks
    }

    /// Signals each change of an engine's state.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Starts the end of the server.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Turns true when the server is to end.
    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// The command with which an administrator does `what` on this host.
    pub(crate) fn shell_command(&self, what: &str) -> String {
        let insecure = match self.config.transport_config.allow_insecure {
            true => "-i ",
            false => "",
        };
        format!("daos_shell {insecure}-l {} {what}", self.control_addr)
    }

    /// Phase of the server, with a sentence and the next command.
    pub(crate) fn phase(&self) -> (ServerPhase, String, String) {
        if *self.stopping.borrow() {
            return (
                ServerPhase::Stopping,
                "the server was asked to stop".to_owned(),
                String::new(),
            );
        }
        let (phase, mut reason, hint) = phase_of(&self.lock());
        match &self.origin {
            Engines::Planned(proposal)
                if phase == ServerPhase::Maintenance && !proposal.is_accepted() =>
            {
                reason = format!(
                    "the configuration names no servers, engines are planned (plan {}, shown by storage format --dry-run); \
                     {reason}",
                    proposal.hash()
                );
            }
            Engines::None(why) => reason += &format!(", and none can be planned: {why}"),
            _ => {}
        }
        (phase, reason, hint)
    }

    /// The state as the control plane tells it.
    pub(crate) fn to_message(&self) -> host::ServerStateResponse {
        let (phase, reason, hint) = self.phase();
        let engines = self.engines();
        let since = engines
            .iter()
            .map(|e| e.since_ms)
            .max()
            .unwrap_or(self.started_ms);
        host::ServerStateResponse {
            phase: phase.into(),
            reason,
            hint,
            since_ms: since,
            system: self.config.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: hostname(),
            pid: std::process::id(),
            control_addr: self.control_addr.clone(),
            config_path: self.config_path.display().to_string(),
            insecure: self.config.transport_config.allow_insecure,
            proposed: self.proposal().map(Proposal::to_message),
            engines: engines
                .into_iter()
                .zip(&self.config.servers)
                .enumerate()
                .map(|(index, (engine, server))| host::Engine {
                    index: index as u32,
                    state: engine.state.into(),
                    reason: engine.reason,
                    hint: engine.hint,
                    since_ms: engine.since_ms,
                    fault: engine.fault,
                    uuid: engine.uuid,
                    rank: engine.rank,
                    pid: engine.pid,
                    uri: engine.uri,
                    targets: engine.targets,
                    drpc_socket: engine.drpc_socket,
                    restarts: engine.restarts,
                    restart_at_ms: engine.restart_at_ms,
                    program: crate::engine::program(&self.config)
                        .map_or_else(|_| String::new(), |p| p.display().to_string()),
                    layers: engine.layers,
                    failed_targets: engine.failed_targets,
                    storage: Vec::new(),
                    log_file: server
                        .log_file
                        .as_ref()
                        .map_or_else(String::new, |f| f.display().to_string()),
                })
                .collect(),
        }
    }
}

fn phase_of(engines: &[EngineStatus]) -> (ServerPhase, String, String) {
    let needs_admin = |e: &EngineStatus| {
        matches!(
            e.state,
            EngineState::AwaitFormat
                | EngineState::StorageMismatch
                | EngineState::Formatting
                | EngineState::Errored
        )
    };
    if let Some((index, engine)) = engines.iter().enumerate().find(|(_, e)| needs_admin(e)) {
        return (
            ServerPhase::Maintenance,
            format!("engine {index}: {}", engine.reason),
            engine.hint.clone(),
        );
    }
    let ready = engines
        .iter()
        .filter(|e| e.state == EngineState::Ready)
        .count();
    if engines.is_empty() {
        let reason = "the configuration names no servers";
        let hint = "add servers: entries to the configuration (daos_server config generate prints some) and start again";
        return (ServerPhase::Maintenance, reason.to_owned(), hint.to_owned());
    }
    let hurt = |(_, e): &(usize, &EngineStatus)| !e.failed_targets.is_empty() || e.leaks;
    if ready == engines.len()
        && let Some((index, engine)) = engines.iter().enumerate().find(hurt)
    {
        return (
            ServerPhase::Degraded,
            format!("engine {index}: {}", engine.reason),
            engine.hint.clone(),
        );
    }
    if ready == engines.len() {
        return (
            ServerPhase::Ready,
            format!("{ready} engine(s) serve"),
            String::new(),
        );
    }
    let starting = engines
        .iter()
        .all(|e| matches!(e.state, EngineState::Starting | EngineState::Ready));
    if starting {
        return (
            ServerPhase::Starting,
            format!("{ready} of {} engines are ready", engines.len()),
            String::new(),
        );
    }
    let first = engines
        .iter()
        .enumerate()
        .find(|(_, e)| e.state != EngineState::Ready);
    let (reason, hint) = first.map_or_else(Default::default, |(index, e)| {
        (format!("engine {index}: {}", e.reason), e.hint.clone())
    });
    (ServerPhase::Degraded, reason, hint)
}

/// Name of this host, "localhost" when the system does not say.
pub(crate) fn hostname() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "localhost".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(state: EngineState) -> EngineStatus {
        let mut engine = EngineStatus::new();
        engine.enter(state, "because");
        engine
    }

    #[test]
    fn one_unformatted_engine_means_maintenance() {
        let engines = [engine(EngineState::Ready), engine(EngineState::AwaitFormat)];
        assert_eq!(phase_of(&engines).0, ServerPhase::Maintenance);
    }

    #[test]
    fn an_engine_that_is_given_up_means_maintenance() {
        let engines = [engine(EngineState::Errored), engine(EngineState::Ready)];
        assert_eq!(phase_of(&engines).0, ServerPhase::Maintenance);
    }

    #[test]
    fn ready_means_every_engine() {
        assert_eq!(
            phase_of(&[engine(EngineState::Ready)]).0,
            ServerPhase::Ready
        );
        let engines = [engine(EngineState::Ready), engine(EngineState::Restarting)];
        assert_eq!(phase_of(&engines).0, ServerPhase::Degraded);
        let engines = [engine(EngineState::Ready), engine(EngineState::Starting)];
        assert_eq!(phase_of(&engines).0, ServerPhase::Starting);
        assert_eq!(phase_of(&[]).0, ServerPhase::Maintenance);
    }

    #[test]
    fn a_failed_target_is_no_readiness_until_the_engine_is_started_again() {
        let mut status = engine(EngineState::Ready);
        status.failed_targets.push(FailedTarget::default());
        let engines = [engine(EngineState::Ready), status.clone()];
        let (phase, reason, _) = phase_of(&engines);
        assert_eq!(phase, ServerPhase::Degraded);
        assert!(reason.starts_with("engine 1: "), "{reason}");
        status.enter(EngineState::Ready, "it serves");
        assert_eq!(phase_of(&[status]).0, ServerPhase::Ready);
    }

    #[test]
    fn an_engine_that_leaks_is_told_until_another_process_serves() {
        let mut status = engine(EngineState::Ready);
        status.leaks = true;
        assert_eq!(phase_of(&[status.clone()]).0, ServerPhase::Degraded);
        status.enter(EngineState::Ready, "it serves");
        assert_eq!(phase_of(&[status]).0, ServerPhase::Ready);
    }

    #[test]
    fn leaving_a_process_behind_forgets_it() {
        let mut status = engine(EngineState::Ready);
        status.pid = 7;
        status.uri = "x".to_owned();
        status.enter(EngineState::Restarting, "died");
        assert_eq!((status.pid, status.uri.as_str()), (0, ""));
    }
}
