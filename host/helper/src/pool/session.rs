//! A helper process with its connection, and one operation after the other on it.

use super::cancel::Cancel;
use super::growth::Watch;
use super::log::{self, Ring};
use super::process::{self, Process, Started};
use super::{PoolOptions, Progress};
use crate::error::{Cause, Death};
use crate::frame;
use crate::operation::Operation;
use crate::protocol::{Event, Request, Start};
use daos_loader::PluginInfo;
use daos_plugin_api::abi::Status;
use daos_telemetry::{Mask, Part};
use serde_json::Value;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, pipe};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

/// Time for the end of the process, or of its output, to follow the end of its connection.
const SETTLE: Duration = Duration::from_secs(2);
/// Time for what a process has sent before its end.
const DRAIN: Duration = Duration::from_millis(500);
/// Events that may wait to be looked at; then the helper waits too.
const BACKLOG: usize = 256;

/// Who listens while an operation works.
#[derive(Clone, Copy)]
pub(super) struct Listener<'a> {
    pub(super) progress: Option<&'a (dyn Fn(Progress) + Send + Sync)>,
    pub(super) report: Option<&'a (dyn Fn(Value) + Send + Sync)>,
}

/// A failed operation.
pub(super) struct Ended {
    pub(super) cause: Cause,
    pub(super) log: Vec<String>,
    /// Whether the helper can take another operation.
    pub(super) usable: bool,
}

impl Ended {
    pub(super) fn unusable(cause: Cause) -> Self {
        Self {
            cause,
            log: Vec::new(),
            usable: false,
        }
    }
}

/// A helper that runs.
pub(super) struct Session {
    process: Process,
    writer: OwnedWriteHalf,
    events: Receiver<io::Result<Event>>,
    ring: Ring,
    reader: JoinHandle<()>,
    output: JoinHandle<()>,
    next_id: u64,
    /// What it serves, as its file was when it was started; the file may have been replaced since somebody listed it.
    pub(super) plugin: PluginInfo,
    /// Processes that the kernel had killed for want of memory before the step that it is in.
    pub(super) oom_kills: Option<u64>,
    mask: watch::Receiver<Mask>,
    /// Level of log lines that the helper knows of.
    level: &'static str,
    /// The helper has begun to load the plugin.
    pub(super) loading: bool,
    /// How it grows.
    pub(super) growth: Watch,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.reader.abort();
        self.output.abort();
    }
}

impl Session {
    /// Starts a process; its plugin is not loaded yet.
    pub(super) fn start(
        options: &PoolOptions,
        plugin: PluginInfo,
        part: Part,
    ) -> Result<Self, Ended> {
        let program = options.program_of(&plugin);
        let name = plugin.name().to_owned();
        let failed = |e: io::Error| {
            let program = program.display();
            Ended::unusable(Cause::Start(format!(
                "cannot start {program}: {e}; install it beside daos_server"
            )))
        };
        let Started {
            process,
            connection,
            output,
        } = process::start(program, &name, &options.environment).map_err(failed)?;
        connection.set_nonblocking(true).map_err(failed)?;
        let stream = tokio::net::UnixStream::from_std(connection).map_err(failed)?;
        let (read_half, writer) = stream.into_split();
        let ring = Ring::new(options.log_lines);
        let (sender, events) = channel(BACKLOG);
        let reader = tokio::spawn(read(read_half, sender, ring.clone(), name.clone(), part));
        let output = pipe::Receiver::from_owned_fd(output).map_err(failed)?;
        let output = tokio::spawn(collect(output, ring.clone(), name));
        Ok(Self {
            process,
            writer,
            events,
            ring,
            reader,
            output,
            next_id: 1,
            plugin,
            oom_kills: None,
            mask: options.log_mask.subscribe(),
            level: "",
            loading: false,
            growth: Watch::default(),
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(super) fn is_alive(&self) -> bool {
        self.process.is_running()
    }

    async fn send(&mut self, request: &Request) -> io::Result<()> {
        let frame = frame::encode(request)?;
        self.writer.write_all(&frame).await
    }

    /// The level of log lines that is wanted of the helper.
    fn wanted_level(&mut self) -> &'static str {
        log::level(&self.mask.borrow_and_update(), self.plugin.name())
    }

    /// Tells the helper of another level. One that cannot take it is noticed by the reader or by the clock.
    async fn tell_level(&mut self, within: Duration) {
        let level = self.wanted_level();
        if level != self.level {
            self.level = level;
            let request = Request::LogLevel {
                level: level.to_owned(),
            };
            let _ = timeout(within, self.send(&request)).await;
        }
    }

    /// Has the plugin loaded.
    pub(super) async fn load(&mut self, mut start: Start, deadline: Duration) -> Result<(), Ended> {
        self.level = self.wanted_level();
        self.level.clone_into(&mut start.log_level);
        match self.send(&Request::Start(Box::new(start))).await {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::FileTooLarge => {
                return Err(Ended::unusable(Cause::Start(e.to_string())));
            }
            Err(_) => return Err(self.died().await),
        }
        let until = Instant::now() + deadline;
        loop {
            let event = tokio::select! {
                event = next(&mut self.events, &self.process) => event,
                () = sleep_until(until) => return Err(self.late(deadline).await),
            };
            let what = match event {
                Some(Ok(Event::Ready)) => return Ok(()),
                Some(Ok(Event::Refused { message })) => {
                    return Err(Ended::unusable(Cause::Refused(message)));
                }
                Some(Ok(Event::Failed { error })) => {
                    return Err(Ended::unusable(Cause::Plugin(Box::new(error))));
                }
                Some(Ok(Event::Loading)) => {
                    self.loading = true;
                    continue;
                }
                Some(Ok(other)) => format!("unexpected message {}", variant(&other)),
                Some(Err(e)) => e.to_string(),
                None => return Err(self.died().await),
            };
            return Err(self.kill(nonsense(what)).await);
        }
    }

    /// Executes one operation.
    pub(super) async fn call(
        &mut self,
        operation: Operation,
        deadline: Duration,
        grace: Duration,
        listener: Listener<'_>,
        cancel: &Cancel,
    ) -> Result<Value, Ended> {
        self.ring.clear();
        self.tell_level(grace).await;
        let id = self.next_id;
        self.next_id += 1;
        let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        let request = Request::Call {
            id,
            deadline_ms,
            operation,
        };
        let until = Instant::now() + deadline;
        match timeout(deadline, self.send(&request)).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) if e.kind() == io::ErrorKind::FileTooLarge => {
                let mut ended = Ended::unusable(Cause::Start(e.to_string()));
                ended.usable = true;
                return Err(ended);
            }
            Ok(Err(_)) => return Err(self.died().await),
            Err(_) => return Err(self.late(deadline).await),
        }
        // Once cancelled: when to stop waiting for the plugin to notice.
        let mut patience: Option<Instant> = None;
        loop {
            let event = tokio::select! {
                // The clock first: a plugin that never stops talking must not keep it from ringing.
                biased;
                () = sleep_until(patience.unwrap_or(until).min(until)) => {
                    return Err(match patience {
                        Some(_) => self.kill(Cause::Cancelled { forced: true }).await,
                        None => self.late(deadline).await,
                    });
                }
                () = cancel.cancelled(), if patience.is_none() => {
                    patience = Some(Instant::now() + grace);
                    // A helper that cannot take this is noticed by the reader or by the clock.
                    let _ = timeout(grace, self.send(&Request::Cancel { id })).await;
                    continue;
                }
                Ok(()) = self.mask.changed() => {
                    self.tell_level(grace).await;
                    continue;
                }
                event = next(&mut self.events, &self.process) => event,
            };
            match event {
                Some(Ok(Event::Progress {
                    id: of,
                    done,
                    total,
                    what,
                })) => {
                    if let Some(progress) = listener.progress.filter(|_| of == id) {
                        progress(Progress { done, total, what });
                    }
                }
                Some(Ok(Event::Report { id: of, document })) => {
                    if let Some(report) = listener.report.filter(|_| of == id) {
                        report(document);
                    }
                }
                Some(Ok(Event::Done { id: of, answer })) if of == id => return Ok(answer),
                Some(Ok(Event::Error { id: of, error })) if of == id => {
                    let status = error.status();
                    let cancelled = status == Status::CANCELLED && patience.is_some();
                    // A panic poisons the instance: the next operation gets a new process.
                    let usable = status != Status::PANIC && status != Status::POISONED;
                    return Err(Ended {
                        cause: if cancelled {
                            Cause::Cancelled { forced: false }
                        } else {
                            Cause::Plugin(Box::new(error))
                        },
                        log: Vec::new(),
                        usable,
                    });
                }
                Some(Ok(other)) => {
                    let what = format!("unexpected message {}", variant(&other));
                    return Err(self.kill(nonsense(what)).await);
                }
                Some(Err(e)) => return Err(self.kill(nonsense(e.to_string())).await),
                None => return Err(self.died().await),
            }
        }
    }

    async fn late(&mut self, deadline: Duration) -> Ended {
        let after_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        let cause = Cause::Deadline {
            after_ms,
            quarantined: false,
        };
        self.kill(cause).await
    }

    /// Kills the process for a reason of ours.
    async fn kill(&mut self, cause: Cause) -> Ended {
        self.process.kill();
        self.settle().await;
        Ended {
            cause,
            log: self.ring.lines(),
            usable: false,
        }
    }

    /// The connection ended by itself.
    async fn died(&mut self) -> Ended {
        let how = if let Ok(how) = timeout(SETTLE, self.process.ended()).await {
            how
        } else {
            // It closed its connection and lives on.
            self.process.kill();
            Death::Unknown
        };
        self.settle().await;
        Ended {
            cause: Cause::Died {
                how,
                quarantined: false,
            },
            log: self.ring.lines(),
            usable: false,
        }
    }

    /// Waits for the end of the process, and for its last words.
    async fn settle(&mut self) {
        let _ = timeout(SETTLE, self.process.ended()).await;
        let _ = timeout(SETTLE, &mut self.output).await;
    }

    /// Ends the process, at once.
    pub(super) async fn end(self) {
        self.process.kill();
        let _ = timeout(SETTLE, self.process.ended()).await;
    }

    /// Asks the process to end, and waits.
    pub(super) async fn stop(mut self, grace: Duration) {
        if self.send(&Request::Stop).await.is_ok() {
            let _ = timeout(grace, self.process.ended()).await;
        }
    }
}

/// What comes next. Not only the end of the connection tells the end of the process: something that the plugin started
/// may hold that open.
async fn next(
    events: &mut Receiver<io::Result<Event>>,
    process: &Process,
) -> Option<io::Result<Event>> {
    tokio::select! {
        biased;
        event = events.recv() => event,
        _ = process.ended() => timeout(DRAIN, events.recv()).await.ok().flatten(),
    }
}

fn nonsense(what: String) -> Cause {
    Cause::Nonsense {
        what,
        quarantined: false,
    }
}

fn variant(event: &Event) -> &'static str {
    match event {
        Event::Loading => "loading",
        Event::Ready => "ready",
        Event::Refused { .. } => "refused",
        Event::Failed { .. } => "failed",
        Event::Progress { .. } => "progress",
        Event::Report { .. } => "report",
        Event::Log { .. } => "log",
        Event::Metrics { .. } => "metrics",
        Event::Done { .. } => "done",
        Event::Error { .. } => "error",
    }
}

/// Reads the connection until it ends: log lines and metrics here, all else to the operation.
async fn read(
    mut from: OwnedReadHalf,
    to: Sender<io::Result<Event>>,
    ring: Ring,
    plugin: String,
    part: Part,
) {
    loop {
        let event = match frame::read_async::<Event>(&mut from).await {
            Ok(Some(Event::Log {
                level,
                target,
                message,
            })) => {
                ring.push(&format!("{level}: {message}"));
                log::pass_on(&plugin, &level, &target, &message);
                continue;
            }
            Ok(Some(Event::Metrics { metrics })) => {
                part.set(metrics);
                continue;
            }
            Ok(Some(event)) => Ok(event),
            Ok(None) => return,
            // A frame cut off by the end of the process is that end, not nonsense.
            Err(e) if e.kind() != io::ErrorKind::InvalidData => return,
            Err(e) => Err(e),
        };
        let broken = event.is_err();
        if to.send(event).await.is_err() || broken {
            return;
        }
    }
}

/// Collects what the process prints.
async fn collect(output: pipe::Receiver, ring: Ring, plugin: String) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        // A line without an end must not fill the memory.
        let mut limited = tokio::io::AsyncReadExt::take(&mut output, 64 << 10);
        match limited.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                ring.push(text.trim_end());
                log::pass_on(&plugin, "info", "output", text.trim_end());
            }
        }
    }
}
