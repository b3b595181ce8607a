//! The supervisor of one engine: starts it, waits until it serves, restarts it when it dies, stops
//! it when told to. One task per engine; everything it learns goes into the shared state.

use super::board::SharedBoard;
use super::command::{Start, add_plugin_levels, arguments, environment, program, shown};
use super::end::{describe_exit, end_with_words, terminate};
use super::introduce::{Introduced, first};
use super::rest::bring_to_rest;
use super::restart::has_recovered;
use super::spawn::spawn;
use super::tail::{Tail, plugin_of};
use crate::plugins::Plugins;
use crate::state::State;
use daos_loader::{Incident, LeaseError};
use daos_proto::host::{EngineState, Fault};
use daos_proto::srv::NotifyReadyReq;
use nix::libc;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

/// How long an engine may take to say that it serves.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// Exit code of an engine whose storage is not what its superblock records.
const EXIT_STORAGE_MISMATCH: i32 = 3;
/// Exit code of an engine whose configuration cannot work.
const EXIT_CONFIG: i32 = 2;

pub(super) enum Command {
    Start {
        start: Start,
        started: oneshot::Sender<Result<u32, String>>,
    },
    Stop {
        grace: Duration,
        force: bool,
        stopped: oneshot::Sender<bool>,
    },
    Ready {
        pid: i32,
        ready: NotifyReadyReq,
        accepted: oneshot::Sender<Result<(), String>>,
    },
}

/// Handle of an engine's supervisor.
#[derive(Clone)]
pub(crate) struct Supervisor {
    commands: mpsc::Sender<Command>,
}

/// Starts the supervisor of engine `index`; it waits for its first command.
pub(crate) fn supervise(state: Arc<State>, plugins: Arc<Plugins>, index: usize) -> Supervisor {
    let (commands, inbox) = mpsc::channel(16);
    tokio::spawn(
        Task {
            state,
            plugins,
            index,
            inbox,
            deaths: 0,
            ready_at: None,
        }
        .run(),
    );
    Supervisor { commands }
}

impl Supervisor {
    /// Starts the engine; returns its process id once the process runs, or why it does not.
    pub(crate) async fn start(&self, start: Start) -> Result<u32, String> {
        let (started, answer) = oneshot::channel();
        self.send(Command::Start { start, started }).await?;
        answer.await.map_err(|_| GONE.to_owned())?
    }

    /// Stops the engine; returns whether it had to be killed. Stopping a stopped one is fine.
    pub(crate) async fn stop(&self, grace: Duration, force: bool) -> Result<bool, String> {
        let (stopped, answer) = oneshot::channel();
        self.send(Command::Stop {
            grace,
            force,
            stopped,
        })
        .await?;
        answer.await.map_err(|_| GONE.to_owned())
    }

    /// Takes note that the engine of process `pid` listens.
    pub(super) async fn ready(&self, pid: i32, ready: NotifyReadyReq) -> Result<(), String> {
        let (accepted, answer) = oneshot::channel();
        self.send(Command::Ready {
            pid,
            ready,
            accepted,
        })
        .await?;
        answer.await.map_err(|_| GONE.to_owned())?
    }

    async fn send(&self, command: Command) -> Result<(), String> {
        self.commands
            .send(command)
            .await
            .map_err(|_| GONE.to_owned())
    }
}

const GONE: &str = "the engine's supervisor has ended";

pub(super) struct Task {
    pub(super) state: Arc<State>,
    pub(super) plugins: Arc<Plugins>,
    pub(super) index: usize,
    pub(super) inbox: mpsc::Receiver<Command>,
    /// Deaths in a row.
    pub(super) deaths: u32,
    /// Since when its process serves.
    ready_at: Option<Instant>,
}

/// How a life of an engine ended.
enum End {
    /// Somebody wanted it.
    Stopped,
    /// It exited by itself.
    Died(ExitStatus),
    /// It did not become ready.
    Stuck(String),
    /// It was ready, and the system does not take it.
    Refused(Box<Fault>),
}

impl Task {
    async fn run(mut self) {
        while let Some(command) = self.inbox.recv().await {
            match command {
                Command::Start { start, started } => self.serve(start, started).await,
                Command::Stop { stopped, .. } => {
                    let _ = stopped.send(false);
                }
                Command::Ready { accepted, .. } => {
                    drop(
                        accepted.send(Err("this engine was not started by the server".to_owned())),
                    );
                }
            }
        }
    }

    /// Keeps the engine running until it is stopped or given up.
    async fn serve(&mut self, mut start: Start, started: oneshot::Sender<Result<u32, String>>) {
        self.deaths = 0;
        let mut started = Some(started);
        let mut tail = Tail::default();
        // What it died of, as long as its devices are not at rest.
        let mut restless: Option<String> = None;
        loop {
            if let Some(died) = &restless {
                if let Err(still) = bring_to_rest(&self.plugins, &start).await {
                    if !self.again(&format!("{died}; {still}"), &tail).await {
                        return;
                    }
                    continue;
                }
                restless = None;
            }
            self.ready_at = None;
            tail = Tail::default();
            let mut child = match self.spawn(&start, &tail) {
                Ok(child) => child,
                Err(why) => {
                    self.fail(
                        "the engine cannot be started",
                        &why,
                        "check engine_path and its mode",
                        &tail,
                    );
                    if let Some(started) = started {
                        drop(started.send(Err(why)));
                    }
                    return;
                }
            };
            let pid = child.id().unwrap_or(0);
            let leased = self
                .state
                .leases
                .lease(&start.devices, self.index as u32, pid);
            // A process that is dead already has no use for devices; below, its death is one like any other. Its
            // record may say so before its parent can wait for it: its threads end one after the other.
            if let Err(error) = leased
                && !matches!(error, LeaseError::NoProcess { .. })
                && !matches!(child.try_wait(), Ok(Some(_)))
            {
                // It has not been told to serve yet, so nothing is lost.
                terminate(&mut child, pid, Duration::ZERO).await;
                let why = error.to_string();
                let remedy = "`daos_server storage scan` shows who has which device";
                self.fail("the engine cannot have its devices", &why, remedy, &tail);
                if let Some(started) = started {
                    drop(started.send(Err(why)));
                }
                return;
            }
            self.state.update(self.index, |e| {
                e.enter(EngineState::Starting, "the process was started");
                e.pid = pid;
            });
            info!(engine = self.index, pid, "engine process started");
            if let Some(started) = started.take() {
                drop(started.send(Ok(pid)));
            }
            let end = self.watch(&mut child, pid, &start).await;
            // At once, whatever comes next: another start, a format, or nothing.
            let at_rest = match &end {
                End::Stopped | End::Refused(_) => Ok(()),
                End::Died(_) | End::Stuck(_) => bring_to_rest(&self.plugins, &start).await,
            };
            if let Err(error) = self.state.leases.release(pid) {
                // The lease of a dead process does not count.
                warn!(engine = self.index, pid, "{error}");
            }
            tail.drained().await;
            self.forget_socket();
            // Only the start right after a format may label devices that have lost their contents.
            start.first = false;
            if has_recovered(self.ready_at, Instant::now()) {
                self.deaths = 0;
            }
            let killed =
                matches!(&end, End::Died(status) if status.signal() == Some(libc::SIGKILL));
            let mut why = match end {
                End::Stopped => return,
                End::Refused(refusal) => return self.not_taken(&refusal),
                End::Died(status) => match status.code() {
                    Some(EXIT_STORAGE_MISMATCH) => return self.mismatch(&tail),
                    Some(EXIT_CONFIG) => {
                        let what = "the engine refuses its configuration";
                        return self.fail(
                            what,
                            &tail.last(),
                            "mend the configuration and restart daos_server",
                            &tail,
                        );
                    }
                    _ => describe_exit(status),
                },
                End::Stuck(why) => why,
            };
            self.tell_died(&why);
            let words = tail.last_words().or_else(|| match killed {
                // By whoever may: that tells nothing of what the process was doing.
                true => None,
                false => tail.unspoken(),
            });
            if let Some(words) = &words {
                why = format!("{why}: {words}");
            }
            if tail.memory_failed() {
                return self.fail(
                    "the engine died of memory that cannot be accessed, and is not started again",
                    &why,
                    "see the kernel's log (dmesg) and `daos_server storage scan --health`; what the region held is lost: \
                     format the storage anew, on another device if this one is failing",
                    &tail,
                );
            }
            if let Some(plugin) = words.as_deref().and_then(plugin_of) {
                self.remember(&plugin, &why, &tail);
            }
            if let Err(still) = at_rest {
                restless = Some(why.clone());
                why = format!("{why}; {still}");
            }
            if !self.again(&why, &tail).await {
                return;
            }
        }
    }

    /// Notes the end of an engine in a call of a plugin, for whoever asks later.
    fn remember(&self, plugin: &str, why: &str, tail: &Tail) {
        let process = format!("engine {}", self.index);
        let what = format!("the engine died: {why}");
        let incident = Incident::now(plugin, &process, what, tail.lines());
        if let Err(error) = self.state.leases.incident_add(incident) {
            error!(
                engine = self.index,
                "an incident of plugin {plugin} is not kept: {error}"
            );
        }
    }

    fn spawn(&self, start: &Start, tail: &Tail) -> Result<Child, String> {
        let config = &self.state.config;
        let program = program(config).map_err(|e| e.to_string())?;
        let mut arguments = arguments(config, self.index, start);
        let board = match config.engine_path {
            // It would not know what that is.
            Some(_) => None,
            None => {
                let board = SharedBoard::new()
                    .map_err(|e| format!("no memory to share with the engine: {e}"))?;
                Some(tail.share(board).descriptor())
            }
        };
        if let Some(descriptor) = board {
            arguments.push("--board".into());
            arguments.push(descriptor.as_raw_fd().to_string().into());
        }
        let mut environment = environment(&config.servers[self.index], &start.fabric);
        add_plugin_levels(config, &mut environment);
        info!(
            engine = self.index,
            provider = start.fabric.provider,
            interface = start.fabric.interface.as_deref().unwrap_or("-"),
            "fabric of the engine: {}",
            start.fabric.reason
        );
        let owner = self.state.owner.as_ref();
        if let Some(owner) = owner {
            let mount = &config.servers[self.index].scm_mount;
            owner
                .take_storage(mount, &start.devices)
                .map_err(|e| format!("{e:#}"))?;
        }
        let mut child = spawn(
            &program,
            &arguments,
            &environment,
            owner,
            Stdio::null(),
            board,
        )
        .map_err(|e| format!("cannot run {}: {e}", shown(&program)))?;
        if let Some(stdout) = child.stdout.take() {
            tail.follow(stdout, self.index);
        }
        if let Some(stderr) = child.stderr.take() {
            tail.follow(stderr, self.index);
        }
        Ok(child)
    }

    /// Watches one process until it ends, however that comes.
    async fn watch(&mut self, child: &mut Child, pid: u32, start: &Start) -> End {
        let give_up = Instant::now() + READY_WITHIN;
        let mut ready = false;
        let mut introduced: Option<Introduced> = None;
        loop {
            tokio::select! {
                status = child.wait() => {
                    return match status {
                        Ok(status) => End::Died(status),
                        Err(error) => End::Stuck(format!("cannot wait for the process: {error}")),
                    };
                }
                // Who waits to join has done what it can.
                () = sleep_until(give_up), if !ready && introduced.is_none() => {
                    end_with_words(child, pid).await;
                    return End::Stuck(format!("not ready within {} s", READY_WITHIN.as_secs()));
                }
                (message, joined) = first(&mut introduced) => {
                    introduced = None;
                    let set_up = match joined {
                        Ok(place) => self.set_up(&message, place).await.map_err(End::Stuck),
                        Err(refusal) => Err(End::Refused(refusal)),
                    };
                    match set_up {
                        Ok(()) => {
                            ready = true;
                            self.ready_at = Some(Instant::now());
                        }
                        Err(end) => {
                            terminate(child, pid, Duration::ZERO).await;
                            return end;
                        }
                    }
                }
                command = self.inbox.recv() => match command {
                    Some(Command::Start { started, .. }) => {
                        drop(started.send(Err("the engine runs already".to_owned())));
                    }
                    Some(Command::Stop { grace, force, stopped }) => {
                        self.state.update(self.index, |e| e.enter(EngineState::Stopping, "it was asked to stop"));
                        let grace = if force { Duration::ZERO } else { grace };
                        let killed = terminate(child, pid, grace).await;
                        // Before the answer: who asked may format the storage next.
                        if killed {
                            // Why not is in the log; the next start tries again.
                            let _ = bring_to_rest(&self.plugins, start).await;
                        }
                        self.stopped(pid);
                        self.tell_stopped().await;
                        // Nobody waits for the answer any more if this fails.
                        let _ = stopped.send(killed);
                        return End::Stopped;
                    }
                    Some(Command::Ready { pid: caller, ready: message, accepted }) => {
                        let answer = self.accept(pid, caller, &message);
                        let taken = answer.is_ok();
                        // The engine serves dRPC only after this call has been answered.
                        drop(accepted.send(answer));
                        if taken {
                            introduced = Some(Introduced::new(&self.state, self.index, message));
                        }
                    }
                    None => {
                        terminate(child, pid, Duration::from_secs(5)).await;
                        self.stopped(pid);
                        return End::Stopped;
                    }
                },
            }
        }
    }

    /// How a stopped engine comes back.
    pub(super) fn start_hint(&self) -> String {
        self.state.shell_command("system start")
    }

    fn stopped(&self, pid: u32) {
        self.forget_socket();
        self.state.update(self.index, |e| {
            e.enter(EngineState::Stopped, "it was stopped");
            e.hint = self.start_hint();
        });
        info!(engine = self.index, pid, "engine stopped");
    }

    /// Removes the socket of a process that has ended.
    fn forget_socket(&self) {
        let socket = self.state.engine(self.index).drpc_socket;
        if !socket.is_empty() {
            // One that ended properly has removed it itself.
            let _ = std::fs::remove_file(socket);
        }
    }
}
